//! One bundle file as a mailbox.

use crate::format::{Contents, Header, Place, Writer, header_of, number_part, read_frame};
use crate::io::{fault, random, reading, sync_folder};
use cairn_contract::{Kept, Listing, Mailbox, MailboxError};
use cairn_model::{ChunkHash, hex};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// From this size on additions go to the end of the file instead of into a copy of it, and its chunks are compared with their names only
/// when they are read.
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
    mend: bool,
    writing: Option<Writing>,
    written: Vec<PathBuf>,
}

#[derive(Debug)]
struct Writing {
    /// Parts under their temporary names, the open one last.
    parts: Vec<Temporary>,
    writer: Writer,
    header: Header,
    /// Goes to the end of the file itself: a handle to it.
    onto: Option<File>,
    /// The file that was there, locked: nobody else of this program writes it meanwhile.
    _lock: Option<File>,
}

/// A temporary file that goes if it is not renamed.
#[derive(Debug)]
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // Renamed: then it is not there, as it should be.
        std::fs::remove_file(&self.0).ok();
    }
}

impl BundleFile {
    /// At this path; it need not be there yet. `handle` is the project's.
    pub fn new(path: &Path, handle: [u8; 16]) -> Self {
        // A link is followed: what it names is what is meant.
        let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let (opened, places, writing, written) = Default::default();
        Self { path, handle, split: None, append_from: APPEND_FROM, opened, places, mend: false, writing, written }
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

    /// Files that the last commit wrote.
    pub fn written(&self) -> &[PathBuf] {
        &self.written
    }

    /// What a bundle says of itself, if there is one at this path.
    pub fn header_at(path: &Path) -> Option<Header> {
        header_of(path)
    }

    /// Opens the file and, of a split bundle, the other parts beside it.
    fn open(&mut self) -> Result<Vec<String>, MailboxError> {
        self.opened.clear();
        self.places.clear();
        self.mend = false;
        let is_link = std::fs::symlink_metadata(&self.path).is_ok();
        let mut first = match Contents::open(&self.path) {
            Err(MailboxError::Missing(_)) if self.folder().is_dir() && !is_link => return Ok(Vec::new()),
            other => other?,
        };
        let header = first.header;
        if header.is_some_and(|h| h.handle != self.handle) {
            return Err(MailboxError::Foreign(format!("{} is of another project", self.path.display())));
        }
        let mut faults = Vec::new();
        if first.length < self.append_from {
            first.verify().map_err(|e| reading(&self.path, &e))?;
        }
        self.mend = !first.whole && !first.is_nameless();
        self.opened.push(first);
        if let Some(header) = header.filter(|h| h.parts > 1) {
            self.mend = false;
            faults.extend(self.open_siblings(&header)?);
        }
        for contents in self.opened.iter().filter(|c| !c.whole) {
            let count = contents.places.len();
            faults.push(format!("{}: damaged or cut short; {count} chunks are whole and used", contents.path.display()));
        }
        for (n, contents) in self.opened.iter().enumerate() {
            self.places.extend(contents.places.iter().map(|p| (p.entry.name, (n, *p))));
        }
        Ok(faults)
    }

    fn open_siblings(&mut self, header: &Header) -> Result<Option<String>, MailboxError> {
        let mut there = vec![header.part];
        let entries = std::fs::read_dir(self.folder()).map_err(|e| reading(&self.folder(), &e))?;
        let mut paths: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| *p != self.path).collect();
        paths.sort();
        for path in paths.into_iter().filter(|p| p.extension().is_some_and(|e| e.eq_ignore_ascii_case("cairn"))) {
            let Some(found) = header_of(&path).filter(|h| h.bundle == header.bundle && !there.contains(&h.part)) else { continue };
            if let Ok(mut contents) = Contents::open(&path) {
                if contents.length < self.append_from {
                    contents.verify().map_err(|e| reading(&path, &e))?;
                }
                there.push(found.part);
                self.opened.push(contents);
            }
        }
        // In order, so that what follows is read after what comes before.
        self.opened.sort_by_key(|c| c.header.map_or(0, |h| h.part));
        let of = self.opened.iter().filter_map(|c| c.header).map(|h| h.parts).max().unwrap_or(header.parts);
        let missing: Vec<String> = (1..=of).filter(|n| !there.contains(n)).map(|n| n.to_string()).collect();
        let some = missing.iter().take(8).cloned().collect::<Vec<_>>().join(", ");
        let more = if missing.len() > 8 { ", ..." } else { "" };
        let said = format!("part {some}{more} of {of} of this bundle is not here: put all parts into one folder");
        Ok((!missing.is_empty()).then_some(said))
    }

    fn folder(&self) -> PathBuf {
        match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        }
    }

    /// The file that was listed, locked; `None` if there was none.
    fn lock(&self) -> Result<Option<File>, MailboxError> {
        let Some(contents) = self.opened.first() else { return Ok(None) };
        let place = contents.path.display().to_string();
        let file = OpenOptions::new().read(true).write(true).open(&contents.path).map_err(|e| fault(&contents.path, &e))?;
        let mode = file.metadata().map_err(|e| fault(&contents.path, &e))?.mode();
        if mode & 0o222 == 0 {
            return Err(MailboxError::ReadOnly(place, "nobody may write it".into()));
        }
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => Err(MailboxError::Busy(place)),
            // A file system that cannot lock: the look before the rename must do.
            Ok(()) | Err(TryLockError::Error(_)) => self.unchanged().then_some(Some(file)).ok_or(MailboxError::Busy(place)),
        }
    }

    fn begin(&mut self) -> Result<Writing, MailboxError> {
        let old = self.opened.first();
        let place = self.path.display().to_string();
        if old.and_then(|c| c.header).is_some_and(|h| h.parts > 1) {
            return Err(MailboxError::ReadOnly(place, "it is one part of several".into()));
        }
        if old.is_some_and(Contents::is_nameless) {
            return Err(MailboxError::ReadOnly(place, "it is so damaged that nobody can tell whose it is".into()));
        }
        let lock = self.lock()?;
        let header = old.and_then(|c| c.header).unwrap_or(Header {
            handle: self.handle,
            bundle: random(),
            part: 1,
            parts: u16::from(self.split.is_none()),
        });
        let append = old.filter(|c| c.length >= self.append_from && c.length > 0);
        let copied = match append {
            Some(contents) => self.go_on(contents, header, lock.as_ref()),
            None => self.copy(header, lock.as_ref()),
        };
        // No room for a copy: what is new may still fit behind what is there.
        let (parts, writer, onto) = match (copied, old) {
            (Err(MailboxError::Full(_)), Some(contents)) if append.is_none() && contents.whole => {
                self.go_on(contents, header, lock.as_ref())?
            }
            (other, _) => other?,
        };
        Ok(Writing { parts, writer, header, onto, _lock: lock })
    }

    /// Through the locked handle: some network shares let no other one at the file.
    fn go_on(
        &self,
        contents: &Contents,
        header: Header,
        locked: Option<&File>,
    ) -> Result<(Vec<Temporary>, Writer, Option<File>), MailboxError> {
        let io = |e: std::io::Error| fault(&self.path, &e);
        let file = match locked {
            Some(file) => file.try_clone().map_err(io)?,
            None => OpenOptions::new().read(true).write(true).open(&self.path).map_err(io)?,
        };
        let held = file.try_clone().map_err(io)?;
        Ok((Vec::new(), Writer::append(file, contents, header).map_err(io)?, Some(held)))
    }

    fn copy(&self, header: Header, locked: Option<&File>) -> Result<(Vec<Temporary>, Writer, Option<File>), MailboxError> {
        let io = |e: std::io::Error| fault(&self.path, &e);
        let (mut writer, temporary) = self.new_part(&self.path, header)?;
        for contents in &self.opened {
            let old = locked.map_or_else(|| contents.reader(), File::try_clone).map_err(io)?;
            for place in &contents.places {
                // A frame that is damaged is left behind: what was in it is added anew by who has it.
                if let Some(chunk) = read_frame(&old, place).map_err(io)? {
                    writer.add(&chunk).map_err(io)?;
                }
            }
        }
        Ok((vec![temporary], writer, None))
    }

    /// An empty bundle under a temporary name that nobody else has. What killed runs left is cleared away first.
    fn new_part(&self, path: &Path, header: Header) -> Result<(Writer, Temporary), MailboxError> {
        let io = |e: std::io::Error| fault(path, &e);
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let prefix = format!(".{name}.");
        for entry in std::fs::read_dir(self.folder()).map_err(io)?.filter_map(Result::ok) {
            let found = entry.file_name().to_string_lossy().into_owned();
            let ours = found.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix(".part")).is_some_and(|r| r.len() == 16);
            let alone = || File::open(entry.path()).is_ok_and(|f| f.try_lock().is_ok());
            if ours && entry.file_type().is_ok_and(|t| t.is_file()) && alone() {
                std::fs::remove_file(entry.path()).ok();
            }
        }
        let temporary = path.with_file_name(format!("{prefix}{}.part", hex(&random::<8>())));
        let file = File::create_new(&temporary).map_err(io)?;
        let guard = Temporary(temporary);
        // Held open and locked while it is written, so that nobody clears it away.
        file.try_lock().ok();
        if let Some(old) = self.opened.first().and_then(|c| std::fs::metadata(&c.path).ok()) {
            file.set_permissions(old.permissions()).ok();
        }
        Ok((Writer::new(file, header).map_err(io)?, guard))
    }

    fn add_one(&self, writing: &mut Writing, chunk: &[u8]) -> Result<(), MailboxError> {
        let io = |e: std::io::Error| fault(&self.path, &e);
        let needs = |w: &Writer| w.bytes() + chunk.len() as u64 + 128;
        if let Some(limit) = self.split
            && needs(&writing.writer) > limit
            && !writing.writer.is_empty()
        {
            let n = writing.parts.len() + 1;
            let header = Header { part: u16::try_from(n).map_err(|_| self.too_small(0))?, ..writing.header };
            let (next, temporary) = self.new_part(&self.numbered(n), header)?;
            std::mem::replace(&mut writing.writer, next).finish().map_err(io)?;
            writing.parts.push(temporary);
        }
        if self.split.is_some_and(|limit| needs(&writing.writer) > limit) {
            return Err(self.too_small(chunk.len()));
        }
        writing.writer.add(chunk).map_err(io)
    }

    fn too_small(&self, needed: usize) -> MailboxError {
        let why = match needed {
            0 => "there would be too many parts: choose larger ones".to_owned(),
            n => format!("parts must be larger: one chunk alone has {n} bytes"),
        };
        MailboxError::Io(self.path.display().to_string(), why)
    }

    /// `trip.cairn` in parts is `trip.part1.cairn` and so on.
    fn numbered(&self, n: usize) -> PathBuf {
        let stem = self.path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        self.path.with_file_name(format!("{stem}.part{n}.cairn"))
    }

    /// The file is still the one that was listed.
    fn unchanged(&self) -> bool {
        match (self.opened.iter().find(|c| c.path == self.path), std::fs::metadata(&self.path)) {
            (Some(before), Ok(now)) => (before.identity, before.length) == ((now.dev(), now.ino()), now.len()),
            (None, Err(e)) => e.kind() == std::io::ErrorKind::NotFound,
            _ => false,
        }
    }

    fn finish(&self, writing: Writing) -> Result<Vec<PathBuf>, MailboxError> {
        let io = |e: std::io::Error| fault(&self.path, &e);
        let Writing { parts, writer, header, onto, _lock } = writing;
        if let Some(file) = onto {
            let before = self.opened.first().map_or(0, |c| c.length);
            return match writer.finish() {
                Ok(()) => Ok(vec![self.path.clone()]),
                Err(e) => {
                    // A tail that stays is passed over by whoever reads the file.
                    file.set_len(before).ok();
                    Err(io(e))
                }
            };
        }
        writer.finish().map_err(io)?;
        let count = parts.len();
        let names: Vec<PathBuf> = if count == 1 { vec![self.path.clone()] } else { (1..=count).map(|n| self.numbered(n)).collect() };
        for (n, part) in parts.iter().enumerate().filter(|_| self.split.is_some()) {
            number_part(&part.0, Header { part: n as u16 + 1, parts: count as u16, ..header }).map_err(io)?;
        }
        if !self.unchanged() || (count > 1 && names.iter().any(|n| n.exists())) {
            return Err(MailboxError::Busy(self.path.display().to_string()));
        }
        for (part, to) in parts.iter().zip(&names) {
            std::fs::rename(&part.0, to).map_err(io)?;
        }
        sync_folder(&self.folder()).map_err(io)?;
        Ok(names)
    }

    /// What was begun and not committed leaves no trace.
    fn give_up(&mut self) {
        let Some(Writing { writer, onto: Some(file), .. }) = self.writing.take() else { return };
        drop(writer);
        file.set_len(self.opened.first().map_or(0, |c| c.length)).ok();
    }
}

impl Mailbox for BundleFile {
    fn list(&mut self, _cursor: &[u8]) -> Result<Listing, MailboxError> {
        self.give_up();
        let faults = self.open()?;
        let entries = self.opened.iter().flat_map(|c| c.places.iter().map(|p| p.entry)).collect();
        Ok(Listing { entries, cursor: Vec::new(), start_over: true, mend: self.mend, incomplete: !faults.is_empty(), faults })
    }

    fn read(&mut self, names: &[ChunkHash]) -> Result<Vec<Vec<u8>>, MailboxError> {
        let mut out = Vec::with_capacity(names.len());
        let mut open: Option<(usize, File)> = None;
        for name in names {
            let Some((n, place)) = self.places.get(name) else { continue };
            let contents = &self.opened[*n];
            let io = |e: std::io::Error| reading(&contents.path, &e);
            if open.as_ref().is_none_or(|(at, _)| at != n) {
                open = Some((*n, contents.reader().map_err(io)?));
            }
            if let Some((_, file)) = &open {
                out.extend(read_frame(file, place).map_err(io)?);
            }
        }
        if out.len() < names.len() && !self.opened.is_empty() && !self.unchanged() {
            return Err(MailboxError::Busy(self.path.display().to_string()));
        }
        Ok(out)
    }

    fn add(&mut self, chunks: &[Vec<u8>]) -> Result<(), MailboxError> {
        let mut writing = match self.writing.take() {
            Some(writing) => writing,
            None => self.begin()?,
        };
        let done = chunks.iter().try_for_each(|chunk| self.add_one(&mut writing, chunk));
        self.writing = Some(writing);
        if done.is_err() {
            self.give_up();
        }
        done
    }

    fn commit(&mut self) -> Result<Kept, MailboxError> {
        let Some(writing) = self.writing.take() else { return Ok(Kept::Nothing) };
        self.written = self.finish(writing)?;
        Ok(Kept::Durable)
    }
}

impl Drop for BundleFile {
    fn drop(&mut self) {
        self.give_up();
    }
}
