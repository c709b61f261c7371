//! A shared folder as a mailbox: every device writes into a sub-folder of its own, and no file is ever changed. Nothing is locked, and
//! there is no index to share, so any service that carries files will do, however late, twice, or half.

use crate::format::{Contents, Header, Place, Writer, read_frame};
use crate::io::{fault, random, reading, sync_folder};
use cairn_contract::{Kept, Listing, Mailbox, MailboxError};
use cairn_model::{ChunkHash, hex};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Own files below this are worth putting together.
const SMALL: u64 = 1 << 20;
/// That many of them.
const MANY_SMALL: usize = 16;
/// How long files stay that another one replaces: services carry deletions faster than files.
const GRACE: Duration = Duration::from_secs(24 * 3600);
/// Files read once more whenever something is new: disks rot without telling.
const READ_AGAIN: usize = 4;
/// Bytes of one file: far below what FAT32 and cloud drives take.
const FILE_BYTES: u64 = 1 << 30;
/// Files looked at in one writer's sub-folder.
const FILES: usize = 100_000;

/// A shared folder.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    handle: [u8; 16],
    tag: [u8; 8],
    grace: Duration,
    /// Small files that are read over while own ones are about to be replaced.
    passed_over: BTreeSet<PathBuf>,
    /// Own files that are damaged: nobody else can make them good.
    broken: Vec<PathBuf>,
    /// Up to which of its own files the next one replaces.
    replaced: Option<u64>,
    open: BTreeMap<ChunkHash, (usize, Place)>,
    /// Files that the cursor covered: looked into when somebody asks for a chunk that was not listed.
    unlisted: Vec<PathBuf>,
    files: Vec<Contents>,
    writing: Option<(Writer, Vec<PathBuf>)>,
    /// Device and inode of the root when it was opened: a stick may be pulled between two calls, and what lies under its mount point
    /// then is another place.
    place: (u64, u64),
    /// The project had a sub-folder then.
    begun: bool,
}

/// What a folder is, whatever it is called.
fn identity(root: &Path) -> Result<(u64, u64), MailboxError> {
    let meta = std::fs::metadata(root).map_err(|e| reading(root, &e))?;
    Ok((meta.dev(), meta.ino()))
}

/// A file of one writer.
struct Found {
    path: PathBuf,
    /// Changes if the file does.
    mark: [u8; 8],
    bytes: u64,
}

fn project_folder(handle: &[u8; 16]) -> String {
    format!("cairn-{}", hex(handle))
}

fn is_project_folder(name: &str) -> bool {
    name.strip_prefix("cairn-").is_some_and(|h| is_hex(h, 32))
}

fn another(path: &Path) -> MailboxError {
    MailboxError::Foreign(format!("{} holds another project's data", path.display()))
}

fn is_hex(text: &str, len: usize) -> bool {
    text.len() == len && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Number of a file, and up to which one it replaces.
fn numbers(path: &Path) -> Option<(u64, Option<u64>)> {
    let stem = path.file_name()?.to_str()?.strip_suffix(".cairn")?;
    let mut parts = stem.split('-');
    let number = parts.next()?.parse().ok()?;
    let random = parts.next().filter(|r| is_hex(r, 8))?;
    let to = match parts.next() {
        Some(to) => Some(to.strip_prefix("to")?.parse().ok()?),
        None => None,
    };
    (parts.next().is_none() && !random.is_empty()).then_some((number, to))
}

/// Up to which number a file replaces its writer's others: never itself or later ones.
fn replaces(path: &Path) -> Option<u64> {
    numbers(path).and_then(|(n, to)| to.filter(|to| *to < n))
}

impl Folder {
    /// The folder at `root` with the project's handle and this device's tag. The project's sub-folder is made at the first write.
    pub fn open(root: &Path, handle: [u8; 16], tag: [u8; 8]) -> Result<Self, MailboxError> {
        let own = project_folder(&handle);
        let real = std::fs::canonicalize(root).map_err(|e| reading(root, &e))?;
        // Somebody may have pointed at the project's own sub-folder, or into another's.
        let inside = real.ancestors().find(|a| a.file_name().is_some_and(|n| is_project_folder(&n.to_string_lossy())));
        let root = match inside {
            Some(found) if found.file_name().is_some_and(|n| n.to_string_lossy() == own) => found.parent().unwrap_or(&real).to_owned(),
            Some(found) => return Err(another(found)),
            None => real,
        };
        let entries = std::fs::read_dir(&root).map_err(|e| reading(&root, &e))?;
        let (mut others, mut ours) = (false, false);
        for entry in entries {
            let entry = entry.map_err(|e| reading(&root, &e))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_dir = entry.file_type().is_ok_and(|t| t.is_dir());
            ours |= is_dir && name == own;
            others |= is_dir && is_project_folder(&name) && name != own;
            if name == own && !is_dir {
                return Err(MailboxError::Foreign(format!("{} is no folder", entry.path().display())));
            }
        }
        if others && !ours {
            return Err(another(&root));
        }
        let (passed_over, broken, replaced, open, files) = Default::default();
        let place = identity(&root)?;
        Ok(Self {
            root,
            handle,
            tag,
            grace: GRACE,
            passed_over,
            broken,
            replaced,
            open,
            files,
            unlisted: Vec::new(),
            writing: None,
            place,
            begun: ours,
        })
    }

    /// How long replaced files stay.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// `true` if the project has a sub-folder there.
    pub fn is_begun(&self) -> bool {
        self.path().is_dir()
    }

    /// The folder the project's data is in.
    pub fn path(&self) -> PathBuf {
        self.root.join(project_folder(&self.handle))
    }

    fn own(&self) -> PathBuf {
        self.path().join(hex(&self.tag))
    }

    fn writers(&self) -> Result<Vec<PathBuf>, MailboxError> {
        let path = self.path();
        let entries = match std::fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && self.root.is_dir() => return Ok(Vec::new()),
            Err(e) => return Err(reading(&path, &e)),
        };
        // Links and odd names lead elsewhere: passed by.
        let real = entries.filter_map(Result::ok).filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
        let mut out: Vec<PathBuf> = real.filter(|e| is_hex(&e.file_name().to_string_lossy(), 16)).map(|e| e.path()).collect();
        out.sort();
        Ok(out)
    }

    fn files_of(&self, writer: &Path) -> Result<Vec<Found>, MailboxError> {
        let entries = match std::fs::read_dir(writer) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(reading(writer, &e)),
        };
        let mut out = Vec::new();
        for entry in entries.filter_map(Result::ok).take(FILES) {
            let path = entry.path();
            let Ok(meta) = std::fs::symlink_metadata(&path) else { continue };
            if !meta.is_file() || path.extension().is_none_or(|e| e != "cairn") || self.passed_over.contains(&path) {
                continue;
            }
            let mut hasher = blake3::Hasher::new();
            hasher.update(path.strip_prefix(&self.root).unwrap_or(&path).as_os_str().as_encoded_bytes()).update(&meta.len().to_le_bytes());
            hasher.update(&meta.mtime().to_le_bytes()).update(&meta.mtime_nsec().to_le_bytes());
            let mut mark = [0; 8];
            mark.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
            out.push(Found { path, mark, bytes: meta.len() });
        }
        out.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(out)
    }

    /// Reads again the files that were read longest ago, by the order of the cursor.
    fn has_rotten(&self, cursor: &[u8], found: &[Found]) -> bool {
        let oldest = cursor.as_chunks::<8>().0.iter().filter_map(|mark| found.iter().find(|f| f.mark == *mark)).take(READ_AGAIN);
        oldest.into_iter().any(|f| Contents::open(&f.path).is_ok_and(|mut c| c.whole && c.verify().is_ok_and(|dropped| dropped > 0)))
    }

    fn begin(&self) -> Result<(Writer, Vec<PathBuf>), MailboxError> {
        let own = self.own();
        if identity(&self.root)? != self.place || (self.begun && !self.is_begun()) {
            return Err(MailboxError::Missing(self.root.display().to_string()));
        }
        // One level each: a root that is gone is not made anew.
        for folder in [self.path(), own.clone()] {
            match std::fs::create_dir(&folder) {
                Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(fault(&folder, &e)),
                _ => {}
            }
        }
        // A link here would lead what is written, and what is cleared away, elsewhere.
        if !std::fs::symlink_metadata(&own).is_ok_and(|m| m.is_dir()) {
            return Err(MailboxError::Foreign(format!("{} is a link", own.display())));
        }
        // Nobody else writes here: what is left under a temporary name is of a run that was killed.
        for entry in std::fs::read_dir(&own).map_err(|e| fault(&own, &e))?.filter_map(Result::ok) {
            if entry.path().extension().is_some_and(|e| e == "part") {
                std::fs::remove_file(entry.path()).ok();
            }
        }
        let begun = self.new_file();
        if begun.is_err() {
            self.clear_away();
        }
        let (writer, path) = begun?;
        Ok((writer, vec![path]))
    }

    /// Only empty folders go: a place where nothing could be written is left as it was.
    fn clear_away(&self) {
        std::fs::remove_dir(self.own()).and_then(|()| std::fs::remove_dir(self.path())).ok();
    }

    fn new_file(&self) -> Result<(Writer, PathBuf), MailboxError> {
        let path = self.own().join(format!("{}.part", hex(&random::<8>())));
        let header = Header { handle: self.handle, bundle: random(), part: 1, parts: 1 };
        let writer = File::create_new(&path).and_then(|file| Writer::new(file, header));
        if writer.is_err() {
            std::fs::remove_file(&path).ok();
        }
        Ok((writer.map_err(|e| fault(&path, &e))?, path))
    }

    /// The number of the next own file. Names only grow, whatever a service brings back.
    fn next_number(&self) -> Result<u64, MailboxError> {
        let entries = std::fs::read_dir(self.own()).map_err(|e| fault(&self.own(), &e))?;
        let used = entries.filter_map(Result::ok).filter_map(|e| numbers(&e.path())).map(|(n, to)| n.max(to.unwrap_or(0))).max();
        Ok(used.unwrap_or(0).saturating_add(1))
    }

    fn finish(&mut self, writer: Writer, parts: &[PathBuf]) -> Result<(), MailboxError> {
        let own = self.own();
        writer.finish().map_err(|e| fault(&own, &e))?;
        let replaces = self.replaced.filter(|_| parts.len() == 1);
        // The last has the manifest of all: it comes first, so that what it names is missing rather than unknown.
        for path in parts.iter().rev() {
            let suffix = replaces.map(|to| format!("-to{to:06}")).unwrap_or_default();
            let name = format!("{:06}-{}{suffix}.cairn", self.next_number()?, hex(&random::<4>()));
            std::fs::rename(path, own.join(name)).map_err(|e| fault(&own, &e))?;
        }
        sync_folder(&own).map_err(|e| fault(&own, &e))
    }

    /// Own small files that together make a better one, passed over from now on: a push writes anew what was only in them. Those of
    /// others are passed over too, lest two writers leave it to each other. Damaged own files are replaced whatever their size. `false` if
    /// there is nothing worth it.
    pub fn put_together(&mut self) -> Result<bool, MailboxError> {
        let own = self.own();
        let files = self.files_of(&own)?;
        let replaced = files.iter().filter_map(|f| replaces(&f.path)).max().unwrap_or(0);
        let small = files.iter().filter(|f| f.bytes < SMALL).filter_map(|f| numbers(&f.path)).map(|(n, _)| n).filter(|n| *n > replaced);
        let (count, most) = small.fold((0, 0), |(count, most), n| (count + 1, n.max(most)));
        if count < MANY_SMALL {
            self.passed_over = self.broken.iter().cloned().collect();
            return Ok(!self.broken.is_empty());
        }
        let mut over = BTreeSet::new();
        for writer in self.writers()? {
            let goes = |f: &Found| f.bytes < SMALL && (writer != own || numbers(&f.path).is_some_and(|(n, _)| n <= most));
            over.extend(self.files_of(&writer)?.into_iter().filter(goes).map(|f| f.path));
        }
        over.extend(self.broken.iter().cloned());
        (self.passed_over, self.replaced) = (over, Some(most));
        Ok(true)
    }

    /// Removes own small files that another own file, whole to its last byte, has replaced for long enough; and those that were damaged and
    /// passed over when the last commit was made.
    pub fn tidy(&mut self, now: SystemTime) -> Result<usize, MailboxError> {
        for path in self.broken.drain(..).filter(|p| self.passed_over.contains(p)) {
            if Contents::open(&path).is_ok_and(|mut c| c.verify().is_ok() && !c.whole) {
                std::fs::remove_file(path).ok();
            }
        }
        self.passed_over.clear();
        self.replaced = None;
        let files = self.files_of(&self.own())?;
        let old = |f: &&Found| {
            let written = std::fs::metadata(&f.path).and_then(|m| m.modified()).ok();
            written.and_then(|at| now.duration_since(at).ok()).is_some_and(|age| age >= self.grace)
        };
        let whole = |f: &&Found| Contents::open(&f.path).is_ok_and(|mut c| c.verify().is_ok_and(|dropped| dropped == 0) && c.whole);
        let replacing = files.iter().filter(|f| replaces(&f.path).is_some()).filter(old).filter(whole);
        let replaced = replacing.filter_map(|f| replaces(&f.path)).max().unwrap_or(0);
        let mut gone = 0;
        for f in files.iter().filter(|f| f.bytes < SMALL && numbers(&f.path).is_some_and(|(n, _)| n <= replaced)) {
            gone += usize::from(std::fs::remove_file(&f.path).is_ok());
        }
        Ok(gone)
    }

    fn give_up(&mut self) {
        let Some((_, parts)) = self.writing.take() else { return };
        for path in parts {
            std::fs::remove_file(path).ok();
        }
        self.clear_away();
    }
}

impl Folder {
    /// A reader remembers names of chunks from earlier listings and may ask for them. Their files are opened once, and chunks are
    /// checked when they are read.
    fn look_into_unlisted(&mut self) {
        for path in std::mem::take(&mut self.unlisted) {
            let Ok(contents) = Contents::open(&path) else { continue };
            let n = self.files.len();
            for place in &contents.places {
                self.open.entry(place.entry.name).or_insert((n, *place));
            }
            self.files.push(contents);
        }
    }
}

impl Mailbox for Folder {
    fn list(&mut self, cursor: &[u8]) -> Result<Listing, MailboxError> {
        self.give_up();
        self.open.clear();
        self.files.clear();
        self.unlisted.clear();
        let own = self.own();
        if self.passed_over.is_empty() {
            self.broken.clear();
        }
        let mut found = Vec::new();
        for writer in self.writers()? {
            found.extend(self.files_of(&writer)?);
        }
        let (seen, _) = cursor.as_chunks::<8>();
        let seen: BTreeSet<[u8; 8]> = seen.iter().copied().collect();
        let there: BTreeSet<[u8; 8]> = found.iter().map(|f| f.mark).collect();
        let news = there.difference(&seen).next().is_some();
        let rotten = news && self.has_rotten(cursor, &found);
        let start_over = seen.is_empty() || rotten || !seen.is_subset(&there);
        let mut listing = Listing { start_over, ..Listing::default() };
        if !start_over {
            // What was read again just now goes to the end of the line.
            let (marks, _) = cursor.as_chunks::<8>();
            let turn = if news { READ_AGAIN.min(marks.len()) } else { 0 };
            let order = marks[turn..].iter().chain(&marks[..turn]);
            listing.cursor.extend(order.flatten());
        }
        for f in found {
            if !start_over && seen.contains(&f.mark) {
                self.unlisted.push(f.path);
                continue;
            }
            match Contents::open(&f.path).and_then(|mut c| c.verify().map(|_| c).map_err(|e| reading(&f.path, &e))) {
                Ok(contents) if contents.header.is_none_or(|h| h.handle == self.handle) => {
                    // One that is still arriving changes, and is looked at again then.
                    listing.cursor.extend(f.mark);
                    if !contents.whole {
                        listing.incomplete = true;
                        if f.path.parent() == Some(&own) {
                            self.broken.push(f.path.clone());
                        }
                        listing.faults.push(format!("{}: not whole yet, or damaged", f.path.display()));
                    }
                    let n = self.files.len();
                    for place in &contents.places {
                        if self.open.insert(place.entry.name, (n, *place)).is_none() {
                            listing.entries.push(place.entry);
                        }
                    }
                    self.files.push(contents);
                }
                Err(MailboxError::Missing(_)) => {}
                // What is no file of ours is looked at again if it changes.
                Ok(_) => {
                    listing.cursor.extend(f.mark);
                    listing.faults.push(format!("{}: of another project; passed by", f.path.display()));
                }
                Err(e) => {
                    listing.cursor.extend(f.mark);
                    listing.faults.push(e.to_string());
                }
            }
        }
        Ok(listing)
    }

    fn read(&mut self, names: &[ChunkHash]) -> Result<Vec<Vec<u8>>, MailboxError> {
        if names.iter().any(|name| !self.open.contains_key(name)) {
            self.look_into_unlisted();
        }
        let mut out = Vec::with_capacity(names.len());
        let mut open: Option<(usize, File)> = None;
        for name in names {
            let Some((n, place)) = self.open.get(name) else { continue };
            if open.as_ref().is_none_or(|(at, _)| at != n) {
                // A file that a service took away meanwhile: what was in it is listed as gone the next time.
                open = self.files[*n].reader().ok().map(|file| (*n, file));
            }
            if let Some((_, file)) = &open {
                out.extend(read_frame(file, place).map_err(|e| fault(&self.files[*n].path, &e))?);
            }
        }
        Ok(out)
    }

    fn add(&mut self, chunks: &[Vec<u8>]) -> Result<(), MailboxError> {
        let (mut writer, mut parts) = match self.writing.take() {
            Some(writing) => writing,
            None => self.begin()?,
        };
        let mut done = Ok(());
        for chunk in chunks {
            if writer.bytes() + chunk.len() as u64 > FILE_BYTES {
                let (next, path) = match self.new_file() {
                    Ok(new) => new,
                    Err(e) => {
                        self.writing = Some((writer, parts));
                        self.give_up();
                        return Err(e);
                    }
                };
                let full = std::mem::replace(&mut writer, next);
                done = done.and(full.finish().map_err(|e| fault(&self.root, &e)));
                parts.push(path);
            }
            done = done.and_then(|()| writer.add(chunk).map_err(|e| fault(&self.root, &e)));
        }
        self.writing = Some((writer, parts));
        if done.is_err() {
            self.give_up();
        }
        done
    }

    fn commit(&mut self) -> Result<Kept, MailboxError> {
        let Some((writer, parts)) = self.writing.take() else { return Ok(Kept::Nothing) };
        if let Err(e) = self.finish(writer, &parts) {
            for path in parts {
                std::fs::remove_file(path).ok();
            }
            return Err(e);
        }
        Ok(Kept::Durable)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        self.give_up();
    }
}
