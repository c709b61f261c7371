//! One bundle file as a mailbox.

use crate::format::{Contents, Header, Place, Writer, header_of, read_frame};
use crate::io::{fault, random, sync_folder};
use cairn_contract::{Kept, Listing, Mailbox, MailboxError};
use cairn_model::ChunkHash;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// From this size on additions go to the end of the file instead of into a copy of it.
const APPEND_FROM: u64 = 256 << 20;

/// One bundle file, or the parts of a split one that lie together.
#[derive(Debug)]
pub struct BundleFile {
    path: PathBuf,
    handle: [u8; 16],
    split: Option<u64>,
    append_from: u64,
    opened: Vec<Contents>,
    places: BTreeMap<ChunkHash, (usize, Place)>,
    writing: Option<Writing>,
    parts_written: usize,
}

#[derive(Debug)]
struct Writing {
    /// Finished parts and the one that is open: temporary names.
    parts: Vec<PathBuf>,
    writer: Writer,
    header: Header,
    /// Goes to the end of the file itself, which had this many bytes.
    onto: Option<u64>,
    finished: Vec<Writer>,
    /// Held while the temporary file is ours.
    _lock: Option<File>,
}

impl BundleFile {
    /// At this path; it need not be there yet. `handle` is the project's.
    pub fn new(path: &Path, handle: [u8; 16]) -> Self {
        let (opened, places, writing) = Default::default();
        Self { path: path.to_owned(), handle, split: None, append_from: APPEND_FROM, opened, places, writing, parts_written: 0 }
    }

    /// To be written in parts of at most so many bytes.
    pub fn split(mut self, bytes: Option<u64>) -> Self {
        self.split = bytes;
        self
    }

    /// Additions go to the end from this size on.
    pub fn append_from(mut self, bytes: u64) -> Self {
        self.append_from = bytes;
        self
    }

    /// Opens the file and, of a split bundle, the other parts beside it.
    fn open(&mut self) -> Result<Vec<String>, MailboxError> {
        self.opened.clear();
        self.places.clear();
        let first = match Contents::open(&self.path) {
            Err(MailboxError::Missing(_)) if self.folder().is_dir() => return Ok(Vec::new()),
            other => other?,
        };
        let mut faults = Vec::new();
        let header = first.header;
        if header.is_some_and(|h| h.handle != self.handle) {
            return Err(MailboxError::Foreign(format!("{} is of another project", self.path.display())));
        }
        if header.is_none() {
            faults.push(format!("{}: its beginning is damaged", self.path.display()));
        }
        self.opened.push(first);
        if let Some(header) = header.filter(|h| h.parts > 1) {
            faults.extend(self.open_siblings(&header)?);
        }
        for contents in &self.opened {
            if !contents.whole {
                let count = contents.places.len();
                faults.push(format!("{}: damaged or cut short; {count} chunks are whole and used", contents.path.display()));
            }
        }
        for (n, contents) in self.opened.iter().enumerate() {
            self.places.extend(contents.places.iter().map(|p| (p.entry.name, (n, *p))));
        }
        Ok(faults)
    }

    fn open_siblings(&mut self, header: &Header) -> Result<Vec<String>, MailboxError> {
        let mut there = vec![header.part];
        let entries = std::fs::read_dir(self.folder()).map_err(|e| fault(&self.folder(), &e))?;
        let mut paths: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| *p != self.path).collect();
        paths.sort();
        for path in paths.into_iter().filter(|p| p.extension().is_some_and(|e| e == "cairn")) {
            let Some(found) = header_of(&path).filter(|h| h.bundle == header.bundle && !there.contains(&h.part)) else { continue };
            if let Ok(contents) = Contents::open(&path) {
                there.push(found.part);
                self.opened.push(contents);
            }
        }
        let missing: Vec<String> = (1..=header.parts).filter(|n| !there.contains(n)).map(|n| n.to_string()).collect();
        let of = header.parts;
        Ok(missing.iter().map(|n| format!("part {n} of {of} of this bundle is not here: put it beside the others")).collect())
    }

    fn folder(&self) -> PathBuf {
        match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        }
    }

    fn begin(&mut self) -> Result<Writing, MailboxError> {
        let old = self.opened.first();
        let split = old.and_then(|c| c.header).is_some_and(|h| h.parts > 1);
        if split {
            let why = "it is one part of several".to_owned();
            return Err(MailboxError::ReadOnly(self.path.display().to_string(), why));
        }
        let fresh = Header { handle: self.handle, bundle: random(), part: 1, parts: 1 };
        let header = old.and_then(|c| c.header).unwrap_or(fresh);
        if let Some(contents) = old.filter(|c| c.whole && c.bytes >= self.append_from) {
            let path = &contents.path;
            let file = OpenOptions::new().write(true).open(path).map_err(|e| fault(path, &e))?;
            let writer = Writer::append(file, contents, header).map_err(|e| fault(path, &e))?;
            let onto = Some(contents.bytes);
            return Ok(Writing { parts: Vec::new(), writer, header, onto, finished: Vec::new(), _lock: None });
        }
        let part = part_name(&self.path);
        let (file, lock) = temporary(&part)?;
        let io = |e: std::io::Error| fault(&self.path, &e);
        let mut writer = Writer::new(file, header).map_err(io)?;
        for contents in &self.opened {
            let old = contents.reader().map_err(io)?;
            for place in &contents.places {
                // A frame that is damaged is left behind: what was in it is added anew by who has it.
                if let Some(chunk) = read_frame(&old, place).map_err(io)? {
                    writer.add(&chunk).map_err(io)?;
                }
            }
        }
        Ok(Writing { parts: vec![part], writer, header, onto: None, finished: Vec::new(), _lock: lock })
    }

    fn add_one(&self, writing: &mut Writing, chunk: &[u8]) -> Result<(), MailboxError> {
        let io = |e: std::io::Error| fault(&self.path, &e);
        if let Some(limit) = self.split
            && writing.writer.bytes() + chunk.len() as u64 + 128 > limit
            && writing.writer.bytes() > 256
        {
            let n = writing.parts.len() + 1;
            let name = part_name(&self.numbered(n));
            let header = Header { part: n as u16, ..writing.header };
            let next = Writer::new(File::create(&name).map_err(io)?, header).map_err(io)?;
            writing.finished.push(std::mem::replace(&mut writing.writer, next));
            writing.parts.push(name);
        }
        writing.writer.add(chunk).map_err(io)
    }

    /// `trip.cairn` in parts is `trip.part1.cairn` and so on.
    fn numbered(&self, n: usize) -> PathBuf {
        let stem = self.path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        self.path.with_file_name(format!("{stem}.part{n}.cairn"))
    }

    /// The file is still the one that was listed.
    fn unchanged(&self) -> bool {
        match (self.opened.first(), std::fs::metadata(&self.path)) {
            (Some(before), Ok(now)) => (before.identity, before.bytes) == ((now.dev(), now.ino()), now.len()),
            (None, Err(e)) => e.kind() == std::io::ErrorKind::NotFound,
            _ => false,
        }
    }

    fn finish(&self, writing: Writing) -> Result<(), MailboxError> {
        let io = |e: std::io::Error| fault(&self.path, &e);
        let parts = writing.parts.len().max(1) as u16;
        for writer in writing.finished {
            writer.finish(parts).map_err(io)?;
        }
        writing.writer.finish(parts).map_err(io)?;
        if writing.onto.is_some() {
            return Ok(());
        }
        if !self.unchanged() {
            return Err(MailboxError::Busy(self.path.display().to_string()));
        }
        for (n, part) in writing.parts.iter().enumerate() {
            let to = if parts == 1 { self.path.clone() } else { self.numbered(n + 1) };
            std::fs::rename(part, &to).map_err(io)?;
        }
        sync_folder(&self.folder()).map_err(io)
    }

    /// Files that the last commit wrote.
    pub fn written(&self) -> Vec<PathBuf> {
        if self.parts_written <= 1 { vec![self.path.clone()] } else { (1..=self.parts_written).map(|n| self.numbered(n)).collect() }
    }

    /// What names the bundle at this path, if there is one.
    pub fn bundle_of(path: &Path) -> Option<[u8; 16]> {
        header_of(path).map(|h| h.bundle)
    }

    /// What was begun and not committed leaves no trace.
    fn give_up(&mut self) {
        let Some(writing) = self.writing.take() else { return };
        if let Some(bytes) = writing.onto {
            drop(writing.writer);
            // A tail that stays is passed over by whoever reads the file.
            OpenOptions::new().write(true).open(&self.path).and_then(|f| f.set_len(bytes)).ok();
        }
        for part in writing.parts {
            // What cannot be removed is written over the next time.
            std::fs::remove_file(part).ok();
        }
    }
}

fn part_name(path: &Path) -> PathBuf {
    let mut name = path.file_name().map(|n| n.to_os_string()).unwrap_or_default();
    name.push(".part");
    path.with_file_name(name)
}

/// An empty temporary file, ours alone as far as the file system can tell. What a killed run left is written over.
fn temporary(path: &Path) -> Result<(File, Option<File>), MailboxError> {
    let io = |e: std::io::Error| fault(path, &e);
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
    let lock = match file.try_lock() {
        Ok(()) => Some(file.try_clone().map_err(io)?),
        Err(TryLockError::WouldBlock) => return Err(MailboxError::Busy(path.display().to_string())),
        Err(TryLockError::Error(_)) => None,
    };
    file.set_len(0).map_err(io)?;
    Ok((file, lock))
}

impl Mailbox for BundleFile {
    fn list(&mut self, _cursor: &[u8]) -> Result<Listing, MailboxError> {
        self.give_up();
        let faults = self.open()?;
        let entries = self.places.values().map(|(_, p)| p.entry).collect();
        Ok(Listing { entries, cursor: Vec::new(), start_over: true, faults })
    }

    fn read(&mut self, names: &[ChunkHash]) -> Result<Vec<Vec<u8>>, MailboxError> {
        let mut out = Vec::with_capacity(names.len());
        let mut open: Option<(usize, File)> = None;
        for name in names {
            let Some((n, place)) = self.places.get(name) else { continue };
            let contents = &self.opened[*n];
            let io = |e: std::io::Error| fault(&contents.path, &e);
            if open.as_ref().is_none_or(|(at, _)| at != n) {
                open = Some((*n, contents.reader().map_err(io)?));
            }
            if let Some((_, file)) = &open {
                out.extend(read_frame(file, place).map_err(io)?);
            }
        }
        Ok(out)
    }

    fn add(&mut self, chunks: &[Vec<u8>]) -> Result<(), MailboxError> {
        let mut writing = match self.writing.take() {
            Some(writing) => writing,
            None => self.begin()?,
        };
        for chunk in chunks {
            if let Err(e) = self.add_one(&mut writing, chunk) {
                self.writing = Some(writing);
                self.give_up();
                return Err(e);
            }
        }
        self.writing = Some(writing);
        Ok(())
    }

    fn commit(&mut self) -> Result<Kept, MailboxError> {
        let Some(writing) = self.writing.take() else { return Ok(Kept::Nothing) };
        let (parts, onto) = (writing.parts.clone(), writing.onto);
        if let Err(e) = self.finish(writing) {
            if let Some(bytes) = onto {
                OpenOptions::new().write(true).open(&self.path).and_then(|f| f.set_len(bytes)).ok();
            }
            for part in parts {
                std::fs::remove_file(part).ok();
            }
            return Err(e);
        }
        self.parts_written = parts.len();
        Ok(Kept::Durable)
    }
}

impl Drop for BundleFile {
    fn drop(&mut self) {
        self.give_up();
    }
}
