//! ZIP and TAR archives from strangers: names are checked, sizes are counted as they come, nothing is written to the disk.

use crate::FormatError;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// Entries of one archive, as the reader of category archives has it.
pub(crate) const ENTRIES: usize = 10_000;
/// Bytes of a TAR with everything in it: it has no table of contents, and is read whole.
const TAR_BYTES: u64 = 64 << 20;

/// An archive whose entries are read by name. Of two with one name the last counts.
pub(crate) struct Archive {
    inner: Inner,
}

enum Inner {
    Zip(Box<zip::ZipArchive<BufReader<File>>>),
    Loaded(BTreeMap<String, Vec<u8>>),
}

fn broken(e: impl ToString) -> FormatError {
    FormatError::part("the archive", e)
}

/// The names in a ZIP, for telling what it is.
pub(crate) fn names(path: &Path) -> Result<Vec<String>, FormatError> {
    Ok(Archive::open(path)?.names())
}

fn last_of(zip: &zip::ZipArchive<BufReader<File>>, name: &str) -> Option<usize> {
    let called = |n: usize| zip.name_for_index(n).and_then(Result::ok).and_then(|raw| inside(&raw).ok());
    (0..zip.len()).rev().find(|n| called(*n).is_some_and(|found| found == name))
}

/// A name that stays inside: relative, without `..`, with `/` between.
fn inside(name: &str) -> Result<String, FormatError> {
    let name = name.replace('\\', "/");
    let drive = name.as_bytes().get(1) == Some(&b':');
    if name.starts_with('/') || drive || name.split('/').any(|part| part == "..") {
        return Err(broken(format!("the entry `{}` points outside", crate::row::short(&name))));
    }
    Ok(name.strip_prefix("./").unwrap_or(&name).to_owned())
}

impl Archive {
    /// A ZIP, a TAR or a compressed TAR, by what it holds.
    pub fn open(path: &Path) -> Result<Self, FormatError> {
        let mut head = Vec::new();
        File::open(path)?.take(512).read_to_end(&mut head)?;
        let file = BufReader::new(File::open(path)?);
        if head.starts_with(b"PK") {
            let zip = zip::ZipArchive::new(file).map_err(broken)?;
            if zip.len() > ENTRIES {
                return Err(broken(format!("more than {ENTRIES} entries")));
            }
            let archive = Self { inner: Inner::Zip(Box::new(zip)) };
            for name in archive.raw_names()? {
                inside(&name)?;
            }
            return Ok(archive);
        }
        if head.starts_with(&[0x1f, 0x8b]) {
            return Self::tar(flate2::read::GzDecoder::new(file));
        }
        if head.get(257..262) == Some(b"ustar") {
            return Self::tar(file);
        }
        Err(broken("it is neither ZIP nor TAR"))
    }

    fn tar(input: impl Read) -> Result<Self, FormatError> {
        let mut entries = BTreeMap::new();
        let mut tar = tar::Archive::new(input.take(TAR_BYTES));
        for (n, entry) in tar.entries().map_err(broken)?.enumerate() {
            if n >= ENTRIES {
                return Err(broken(format!("more than {ENTRIES} entries")));
            }
            let entry = entry.map_err(broken)?;
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let name = inside(&String::from_utf8_lossy(&entry.path_bytes()))?;
            let size = entry.size();
            let mut bytes = Vec::new();
            // What it says of its size is not believed: the limit is on what comes.
            entry.take(TAR_BYTES).read_to_end(&mut bytes).map_err(broken)?;
            if bytes.len() as u64 != size {
                return Err(FormatError::part(name, "it ends too early, or the archive has more than 64 MiB"));
            }
            entries.insert(name, bytes);
        }
        Ok(Self { inner: Inner::Loaded(entries) })
    }

    fn raw_names(&self) -> Result<Vec<String>, FormatError> {
        match &self.inner {
            Inner::Zip(zip) => zip.file_names().map(|n| n.map(|n| n.into_owned()).map_err(broken)).collect(),
            Inner::Loaded(entries) => Ok(entries.keys().cloned().collect()),
        }
    }

    /// Names of all files, in the order of the archive; folders are left out.
    pub fn names(&self) -> Vec<String> {
        self.raw_names().unwrap_or_default().into_iter().filter_map(|n| inside(&n).ok()).filter(|n| !n.ends_with('/')).collect()
    }

    pub fn has(&self, name: &str) -> bool {
        self.names().iter().any(|n| n == name)
    }

    /// Bytes of an entry, at most `most` of them.
    ///
    /// # Errors
    /// It is not there, is larger (whatever it says), or does not unpack.
    pub fn read(&mut self, name: &str, most: u64) -> Result<Vec<u8>, FormatError> {
        let too_large = |got: u64| FormatError::part(name, format!("it has more than {most} bytes ({got})"));
        let fault = |e: &dyn std::fmt::Display| FormatError::part(name, e);
        match &mut self.inner {
            Inner::Loaded(entries) => {
                let bytes = entries.get(name).ok_or_else(|| fault(&"it is not there"))?;
                if bytes.len() as u64 > most { Err(too_large(bytes.len() as u64)) } else { Ok(bytes.clone()) }
            }
            Inner::Zip(zip) => {
                let index = last_of(zip, name).ok_or_else(|| fault(&"it is not there"))?;
                let entry = zip.by_index(index).map_err(|e| fault(&e))?;
                if entry.size() > most {
                    return Err(too_large(entry.size()));
                }
                let mut bytes = Vec::new();
                entry.take(most + 1).read_to_end(&mut bytes).map_err(|e| fault(&e))?;
                if bytes.len() as u64 > most { Err(too_large(bytes.len() as u64)) } else { Ok(bytes) }
            }
        }
    }

    /// Unpacks one entry into a file, a little at a time.
    pub fn unpack(&mut self, name: &str, most: u64, to: &mut dyn std::io::Write) -> Result<(), FormatError> {
        let Inner::Zip(zip) = &mut self.inner else {
            let bytes = self.read(name, most)?;
            return Ok(to.write_all(&bytes)?);
        };
        let fault = |e: &dyn std::fmt::Display| FormatError::part(name, e);
        let index = last_of(zip, name).ok_or_else(|| fault(&"it is not there"))?;
        let entry = zip.by_index(index).map_err(|e| fault(&e))?;
        let copied = std::io::copy(&mut entry.take(most + 1), to).map_err(|e| fault(&e))?;
        if copied > most { Err(fault(&format!("it has more than {most} bytes"))) } else { Ok(()) }
    }
}
