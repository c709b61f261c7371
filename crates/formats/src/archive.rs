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
    /// With the place of each name; of two the last.
    Zip(Box<zip::ZipArchive<BufReader<File>>>, BTreeMap<String, usize>),
    Loaded(BTreeMap<String, Vec<u8>>),
}

fn broken(e: impl ToString) -> FormatError {
    FormatError::part("the archive", e)
}

/// The names in a ZIP, for telling what it is.
pub(crate) fn names(path: &Path) -> Result<Vec<String>, FormatError> {
    Ok(Archive::open(path)?.names())
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
            let mut index = BTreeMap::new();
            for n in 0..zip.len() {
                let raw = zip.name_for_index(n).ok_or_else(|| broken("an entry without a name"))?.map_err(broken)?.into_owned();
                let name = inside(&raw)?;
                // What differs only by how it is written is one entry for us and two for others.
                if name != raw && index.contains_key(&name) || index.get(&name).is_some_and(|(_, other): &(usize, String)| *other != raw) {
                    return Err(broken(format!("two entries are called `{}`", crate::row::short(&name))));
                }
                index.insert(name, (n, raw));
            }
            let index = index.into_iter().map(|(name, (n, _))| (name, n)).collect();
            return Ok(Self { inner: Inner::Zip(Box::new(zip), index) });
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

    /// Names of all files; folders are left out.
    pub fn names(&self) -> Vec<String> {
        match &self.inner {
            Inner::Zip(_, index) => index.keys().filter(|n| !n.ends_with('/')).cloned().collect(),
            Inner::Loaded(entries) => entries.keys().cloned().collect(),
        }
    }

    pub fn has(&self, name: &str) -> bool {
        match &self.inner {
            Inner::Zip(_, index) => index.contains_key(name),
            Inner::Loaded(entries) => entries.contains_key(name),
        }
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
            Inner::Zip(zip, index) => {
                let entry = zip.by_index(*index.get(name).ok_or_else(|| fault(&"it is not there"))?).map_err(|e| fault(&e))?;
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
        let Inner::Zip(zip, index) = &mut self.inner else {
            let bytes = self.read(name, most)?;
            return Ok(to.write_all(&bytes)?);
        };
        let fault = |e: &dyn std::fmt::Display| FormatError::part(name, e);
        let entry = zip.by_index(*index.get(name).ok_or_else(|| fault(&"it is not there"))?).map_err(|e| fault(&e))?;
        let copied = std::io::copy(&mut entry.take(most + 1), to).map_err(|e| fault(&e))?;
        if copied > most { Err(fault(&format!("it has more than {most} bytes"))) } else { Ok(()) }
    }
}
