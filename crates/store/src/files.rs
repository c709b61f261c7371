//! The store on disk: created under a temporary name, and noticed when it was copied or moved.

use crate::StoreError;
use redb::{Builder, Database};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Memory for pages. Small on purpose: a phone, and a flat curve to a million observations.
const CACHE_BYTES: usize = 24 << 20;

/// The files of one store in its folder.
#[derive(Clone, Debug)]
pub struct StoreFiles {
    dir: PathBuf,
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Place {
    machine: String,
    device: u64,
    inode: u64,
    store_device: u64,
    store_inode: u64,
}

impl StoreFiles {
    /// In this folder, which must exist.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The database.
    pub fn store(&self) -> PathBuf {
        self.dir.join("store.redb")
    }

    fn incarnation(&self) -> PathBuf {
        self.dir.join("incarnation")
    }

    /// Who has the store open.
    pub fn holder(&self) -> PathBuf {
        self.dir.join("holder")
    }

    /// `true` if the store is not where this file last saw it: a copy, a restored backup, another disk or machine.
    pub fn was_moved(&self) -> Result<bool, StoreError> {
        let Ok(text) = fs::read(self.incarnation()) else { return Ok(true) };
        let Ok(noted) = postcard::from_bytes::<Place>(&text) else { return Ok(true) };
        Ok(noted != self.place()?)
    }

    /// Notes where the store is now.
    pub fn note_place(&self) -> Result<(), StoreError> {
        let path = self.incarnation();
        let fault = |source| StoreError::File { path: path.clone(), source };
        if !path.exists() {
            fs::File::create(&path).map_err(fault)?;
        }
        let bytes = crate::tables::to_bytes(&self.place()?);
        // Written in place: a rename would change the inode that the file records of itself.
        let mut file = fs::OpenOptions::new().write(true).truncate(true).open(&path).map_err(fault)?;
        file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(fault)
    }

    fn place(&self) -> Result<Place, StoreError> {
        let at = |path: PathBuf| fs::metadata(&path).map_err(|source| StoreError::File { path, source });
        let (own, store) = (at(self.incarnation())?, at(self.store())?);
        Ok(Place {
            machine: fs::read_to_string("/etc/machine-id").unwrap_or_default().trim().to_owned(),
            device: own.dev(),
            inode: own.ino(),
            store_device: store.dev(),
            store_inode: store.ino(),
        })
    }

    fn holder_words(&self) -> String {
        fs::read_to_string(self.holder()).ok().filter(|t| !t.is_empty()).unwrap_or_else(|| "another process".into())
    }
}

fn builder() -> Builder {
    let mut b = Builder::new();
    b.set_cache_size(CACHE_BYTES);
    b
}

/// Makes a database by `fill`, under a temporary name until it is whole: a power cut leaves nothing or all of it.
pub fn create_file<T>(files: &StoreFiles, fill: impl FnOnce(Database) -> Result<T, StoreError>) -> Result<T, StoreError> {
    let temporary = files.store().with_extension("new");
    let fault = |source| StoreError::File { path: temporary.clone(), source };
    if temporary.exists() {
        fs::remove_file(&temporary).map_err(fault)?;
    }
    let out = fill(builder().create(&temporary)?)?;
    fs::File::open(&temporary).and_then(|f| f.sync_all()).map_err(fault)?;
    fs::rename(&temporary, files.store()).map_err(fault)?;
    fs::File::open(&files.dir).and_then(|f| f.sync_all()).map_err(fault)?;
    Ok(out)
}

/// Opens the database of `files`. A damaged file is an error, also where the engine below would panic.
pub fn open_file(files: &StoreFiles) -> Result<Database, StoreError> {
    let path: &Path = &files.store();
    if !path.exists() {
        return Err(StoreError::Missing(files.dir.clone()));
    }
    let opened = std::panic::catch_unwind(|| builder().open(path));
    match opened {
        Ok(Ok(db)) => Ok(db),
        Ok(Err(redb::DatabaseError::DatabaseAlreadyOpen)) => Err(StoreError::InUse { holder: files.holder_words() }),
        Ok(Err(e)) => Err(e.into()),
        Err(_) => Err(StoreError::Damaged("the file does not open")),
    }
}
