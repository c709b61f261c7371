//! The bytes of a bundle file.

use crate::io::reading;
use cairn_contract::{Entry, MailboxError, kind_of};
use cairn_model::ChunkHash;
use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 10] = b"\x89cairn\r\n\x1a\n";
const MAJOR: u16 = 1;
const FRAME: &[u8; 4] = b"frm1";
const FOOTER: &[u8; 8] = b"cairnEND";
pub(crate) const HEADER_BYTES: u64 = 64;
const FRAME_BYTES: u64 = 40;
const ENTRY_BYTES: u64 = 48;
const FOOTER_BYTES: u64 = 96;
/// Bytes of the footer that its hash covers.
const FOOTER_SAID: usize = 64;
/// Bytes of one chunk: more than any may have.
pub(crate) const CHUNK_BYTES: u32 = 4 << 20;
/// Entries of one index: 50 MB of it. Small batches travel in packs, so that is some 16 GB of work.
const ENTRIES: u64 = 1 << 20;
/// Footers tried, from the end of a damaged file.
const FOOTERS_TRIED: u32 = 64;
/// Bytes looked through at once for the next frame.
const WINDOW: usize = 1 << 16;

/// What a bundle says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Finds the project's mailboxes.
    pub handle: [u8; 16],
    /// Names the bundle: parts of one have it in common.
    pub bundle: [u8; 16],
    /// Which part, from 1.
    pub part: u16,
    /// How many parts.
    pub parts: u16,
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES as usize] {
        let mut out = [0; HEADER_BYTES as usize];
        out[..10].copy_from_slice(MAGIC);
        out[10..12].copy_from_slice(&MAJOR.to_le_bytes());
        out[14..30].copy_from_slice(&self.handle);
        out[30..46].copy_from_slice(&self.bundle);
        out[46..48].copy_from_slice(&self.part.to_le_bytes());
        out[48..50].copy_from_slice(&self.parts.to_le_bytes());
        let sum = *blake3::hash(&out[..56]).as_bytes();
        out[56..].copy_from_slice(&sum[..8]);
        out
    }

    fn decode(bytes: &[u8]) -> Read1 {
        if bytes.len() < HEADER_BYTES as usize || &bytes[..10] != MAGIC {
            return Read1::NoBundle;
        }
        let sound = blake3::hash(&bytes[..56]).as_bytes()[..8] == bytes[56..64];
        let number = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        if !sound {
            return Read1::Damaged;
        }
        if number(10) > MAJOR {
            return Read1::Newer;
        }
        let (mut handle, mut bundle) = ([0; 16], [0; 16]);
        handle.copy_from_slice(&bytes[14..30]);
        bundle.copy_from_slice(&bytes[30..46]);
        Read1::Sound(Header { handle, bundle, part: number(46), parts: number(48) })
    }
}

enum Read1 {
    Sound(Header),
    Damaged,
    Newer,
    NoBundle,
}

/// One chunk and where its frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub entry: Entry,
    pub offset: u64,
}

/// What is in a bundle file. The file itself is opened when it is read, so that a folder may hold any number.
#[derive(Debug)]
pub(crate) struct Contents {
    pub path: PathBuf,
    /// Device and inode: another file under the same name is another file.
    pub identity: (u64, u64),
    /// From its header, or from its footer if that is damaged; `None` if both are.
    pub header: Option<Header>,
    pub places: Vec<Place>,
    /// With a sound header and footer, and nothing dropped.
    pub whole: bool,
    /// The header itself, not only what the footer says.
    pub header_sound: bool,
    pub length: u64,
}

impl Contents {
    pub fn open(path: &Path) -> Result<Self, MailboxError> {
        let io = |e: std::io::Error| reading(path, &e);
        // Looked at before it is opened: a pipe would wait for ever.
        if !std::fs::metadata(path).map_err(io)?.is_file() {
            return Err(MailboxError::NoMailbox(path.display().to_string()));
        }
        let file = File::open(path).map_err(io)?;
        let meta = file.metadata().map_err(io)?;
        let (length, identity, path) = (meta.len(), (meta.dev(), meta.ino()), path.to_owned());
        let mut head = [0; HEADER_BYTES as usize];
        let read = read_up_to(&file, 0, &mut head).map_err(|e| reading(&path, &e))?;
        let header = match Header::decode(&head[..read]) {
            Read1::Sound(header) => Some(header),
            Read1::Newer => return Err(MailboxError::Newer(path.display().to_string())),
            Read1::Damaged | Read1::NoBundle => None,
        };
        let io = |e: std::io::Error| reading(&path, &e);
        if let Some((footer, places)) = footer_before(&file, length).map_err(io)? {
            let end = footer.end;
            let mut all = places;
            if end < length {
                all.extend(walk(&file, end, length).map_err(io)?);
            }
            let header_sound = header.is_some();
            let (whole, header) = (header_sound && end == length, header.or(Some(footer.header)));
            return Ok(Self { path, identity, header, places: all, whole, header_sound, length });
        }
        let places = walk(&file, 0, length).map_err(io)?;
        let begun = MAGIC.starts_with(&head[..read.min(MAGIC.len())]);
        if header.is_none() && places.is_empty() && !begun {
            return Err(MailboxError::NoMailbox(path.display().to_string()));
        }
        Ok(Self { path, identity, header, places, whole: false, header_sound: header.is_some(), length })
    }

    pub fn reader(&self) -> std::io::Result<File> {
        File::open(&self.path)
    }

    /// Reads every chunk and leaves out those whose bytes are not what their names say. Gives how many.
    pub fn verify(&mut self) -> std::io::Result<usize> {
        let file = self.reader()?;
        let before = self.places.len();
        let mut sound = Vec::with_capacity(before);
        for place in &self.places {
            if read_frame(&file, place)?.is_some() {
                sound.push(*place);
            }
        }
        self.places = sound;
        self.whole &= self.places.len() == before;
        Ok(before - self.places.len())
    }

    /// Cut so short, or so damaged, that nobody can tell whose it is.
    pub fn is_nameless(&self) -> bool {
        self.header.is_none() && !self.places.is_empty()
    }
}

/// The chunk of a frame, if its bytes are what its name says.
pub(crate) fn read_frame(file: &File, place: &Place) -> std::io::Result<Option<Vec<u8>>> {
    let mut chunk = vec![0; place.entry.bytes as usize];
    let got = read_up_to(file, place.offset + FRAME_BYTES, &mut chunk)?;
    Ok((got == chunk.len() && ChunkHash::of(&chunk) == place.entry.name).then_some(chunk))
}

fn read_up_to(file: &File, at: u64, out: &mut [u8]) -> std::io::Result<usize> {
    let mut done = 0;
    while done < out.len() {
        match file.read_at(&mut out[done..], at + done as u64)? {
            0 => break,
            n => done += n,
        }
    }
    Ok(done)
}

fn le64(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b))
}

/// A sound footer: where it ends, and whose bundle it says this is.
struct Footer {
    end: u64,
    header: Header,
}

/// The last sound footer at or before `length`: additions to the end of a large file leave earlier ones in it.
fn footer_before(file: &File, length: u64) -> std::io::Result<Option<(Footer, Vec<Place>)>> {
    if let Some(found) = index(file, length)? {
        return Ok(Some(found));
    }
    let mut tries = FOOTERS_TRIED;
    let mut window = vec![0; WINDOW];
    let mut end = length;
    while end > HEADER_BYTES && tries > 0 {
        let at = end.saturating_sub(WINDOW as u64);
        let got = read_up_to(file, at, &mut window[..(end - at) as usize])?;
        for found in memchr::memmem::rfind_iter(&window[..got], FOOTER) {
            tries = tries.saturating_sub(1);
            if let Some(found) = index(file, at + found as u64 + FOOTER_BYTES)? {
                return Ok(Some(found));
            }
        }
        if at == 0 {
            break;
        }
        // A magic may lie across two windows.
        end = at + FOOTER.len() as u64 - 1;
    }
    Ok(None)
}

/// The places by the index, if the footer that ends at `end` and its index are sound.
fn index(file: &File, end: u64) -> std::io::Result<Option<(Footer, Vec<Place>)>> {
    let Some(footer_at) = end.checked_sub(FOOTER_BYTES).filter(|at| *at >= HEADER_BYTES) else { return Ok(None) };
    let mut footer = [0; FOOTER_BYTES as usize];
    if read_up_to(file, footer_at, &mut footer)? < footer.len() || &footer[..8] != FOOTER {
        return Ok(None);
    }
    let (at, count, length) = (le64(&footer[8..16]), le64(&footer[16..20]), le64(&footer[24..32]));
    // Checked before anything is allocated: the index must fill exactly what is between the frames and the footer.
    let fits = count <= ENTRIES && at >= HEADER_BYTES && at.checked_add(count * ENTRY_BYTES) == Some(footer_at) && length == end;
    if !fits {
        return Ok(None);
    }
    let mut table = vec![0; (count * ENTRY_BYTES) as usize];
    if read_up_to(file, at, &mut table)? < table.len() {
        return Ok(None);
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(&table).update(&footer[..FOOTER_SAID]);
    if hasher.finalize().as_bytes()[..] != footer[FOOTER_SAID..] {
        return Ok(None);
    }
    let mut places = Vec::with_capacity(count as usize);
    let mut last = HEADER_BYTES;
    for row in table.chunks_exact(ENTRY_BYTES as usize) {
        let mut name = [0; 32];
        name.copy_from_slice(&row[..32]);
        let bytes = le64(&row[40..44]) as u32;
        let place = Place { entry: Entry { name: ChunkHash(name), kind: row[44], bytes }, offset: le64(&row[32..40]) };
        let after = place.offset.checked_add(FRAME_BYTES + u64::from(bytes));
        // Frames follow each other: an index that names one place often would be read often.
        if bytes > CHUNK_BYTES || place.offset < last || after.is_none_or(|after| after > at) {
            return Ok(None);
        }
        last = after.unwrap_or(at);
        places.push(place);
    }
    let (mut handle, mut bundle) = ([0; 16], [0; 16]);
    handle.copy_from_slice(&footer[32..48]);
    bundle.copy_from_slice(&footer[48..64]);
    let header = match le64(&footer[20..24]) as u16 {
        0 => Header { handle, bundle, part: 1, parts: 1 },
        part => Header { handle, bundle, part, parts: part.max(2) },
    };
    Ok(Some((Footer { end, header }, places)))
}

/// The places by the frames themselves: every one from `at` to `end` that proves itself.
fn walk(file: &File, mut at: u64, end: u64) -> std::io::Result<Vec<Place>> {
    let mut places = Vec::new();
    let mut window = vec![0; WINDOW];
    // What looks like a frame and is none costs as many bytes as it claims: an honest file has few of those.
    let mut wasted = 4 * end + (64 << 20);
    while let Some(found) = next_frame(file, at, &mut window)? {
        let mut head = [0; FRAME_BYTES as usize];
        let whole = read_up_to(file, found, &mut head)? == head.len();
        let len = le64(&head[4..8]);
        let mut name = [0; 32];
        name.copy_from_slice(&head[8..]);
        at = found + 1;
        if !whole || len > u64::from(CHUNK_BYTES) || found + FRAME_BYTES + len > end {
            continue;
        }
        let mut chunk = vec![0; len as usize];
        let got = read_up_to(file, found + FRAME_BYTES, &mut chunk)?;
        if got == chunk.len() && ChunkHash::of(&chunk).0 == name {
            let entry = Entry { name: ChunkHash(name), kind: kind_of(&chunk).unwrap_or(0), bytes: len as u32 };
            places.push(Place { entry, offset: found });
            at = found + FRAME_BYTES + len;
            if places.len() as u64 == ENTRIES {
                break;
            }
        } else {
            match wasted.checked_sub(len) {
                Some(left) => wasted = left,
                None => break,
            }
        }
    }
    Ok(places)
}

/// Where the next frame may begin, from `at` on.
fn next_frame(file: &File, mut at: u64, window: &mut [u8]) -> std::io::Result<Option<u64>> {
    loop {
        let got = read_up_to(file, at, window)?;
        if let Some(found) = memchr::memmem::find(&window[..got], FRAME) {
            return Ok(Some(at + found as u64));
        }
        if got < window.len() {
            return Ok(None);
        }
        // A magic may lie across two windows.
        at += (got - FRAME.len() + 1) as u64;
    }
}

/// A bundle file being written, at the end of what is there.
#[derive(Debug)]
pub(crate) struct Writer {
    out: BufWriter<File>,
    header: Header,
    places: Vec<Place>,
    at: u64,
}

impl Writer {
    /// A new bundle in an empty file.
    pub fn new(file: File, header: Header) -> std::io::Result<Self> {
        let mut out = BufWriter::with_capacity(1 << 18, file);
        out.write_all(&header.encode())?;
        Ok(Self { out, header, places: Vec::new(), at: HEADER_BYTES })
    }

    /// Goes on after all that `contents` has; its old index and footer, and what an interrupted addition left, stay in between.
    pub fn append(mut file: File, contents: &Contents, header: Header) -> std::io::Result<Self> {
        if !contents.header_sound {
            file.write_all_at(&header.encode(), 0)?;
        }
        file.seek(SeekFrom::Start(contents.length))?;
        let places = contents.places.clone();
        Ok(Self { out: BufWriter::with_capacity(1 << 18, file), header, places, at: contents.length })
    }

    pub fn add(&mut self, chunk: &[u8]) -> std::io::Result<()> {
        if self.places.len() as u64 == ENTRIES {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        let name = ChunkHash::of(chunk);
        self.out.write_all(FRAME)?;
        self.out.write_all(&(chunk.len() as u32).to_le_bytes())?;
        self.out.write_all(&name.0)?;
        self.out.write_all(chunk)?;
        let entry = Entry { name, kind: kind_of(chunk).unwrap_or(0), bytes: chunk.len() as u32 };
        self.places.push(Place { entry, offset: self.at });
        self.at += FRAME_BYTES + chunk.len() as u64;
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Bytes so far, with index and footer.
    pub fn bytes(&self) -> u64 {
        self.at + self.places.len() as u64 * ENTRY_BYTES + FOOTER_BYTES
    }

    /// Writes index and footer, and makes all durable: the footer last, so that it never stands for frames that are not there.
    pub fn finish(mut self) -> std::io::Result<()> {
        let mut table = Vec::with_capacity(self.places.len() * ENTRY_BYTES as usize);
        for place in &self.places {
            table.extend(place.entry.name.0);
            table.extend(place.offset.to_le_bytes());
            table.extend(place.entry.bytes.to_le_bytes());
            table.extend([place.entry.kind, 0, 0, 0]);
        }
        let mut footer = FOOTER.to_vec();
        footer.extend(self.at.to_le_bytes());
        footer.extend((self.places.len() as u32).to_le_bytes());
        // Of a part, its number: how many there will be is not known yet.
        footer.extend(u32::from(if self.header.parts == 0 { self.header.part } else { 0 }).to_le_bytes());
        footer.extend((self.at + table.len() as u64 + FOOTER_BYTES).to_le_bytes());
        footer.extend(self.header.handle);
        footer.extend(self.header.bundle);
        let mut hasher = blake3::Hasher::new();
        hasher.update(&table).update(&footer);
        footer.extend(hasher.finalize().as_bytes());
        self.out.write_all(&table)?;
        let mut file = self.out.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        file.sync_data()?;
        file.write_all(&footer)?;
        file.sync_all()
    }
}

/// Says in a finished file's header which part it is of how many.
pub(crate) fn number_part(path: &Path, header: Header) -> std::io::Result<()> {
    let file = std::fs::OpenOptions::new().write(true).open(path)?;
    file.write_all_at(&header.encode(), 0)?;
    file.sync_all()
}

/// What anyone can tell of a bundle file.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Its header; `None` if that is damaged.
    pub header: Option<Header>,
    /// Bytes of the file.
    pub bytes: u64,
    /// Chunks that are whole.
    pub chunks: u64,
    /// Chunks whose bytes are not what their names say.
    pub damaged: u64,
    /// Nothing is missing or damaged.
    pub sound: bool,
}

/// Reads all of a bundle file and compares every chunk with its name. Needs no key.
pub fn summary(path: &Path, seen: &mut dyn FnMut(u64, u64)) -> Result<Summary, MailboxError> {
    let contents = Contents::open(path)?;
    let (mut chunks, mut damaged) = (0, 0);
    let file = contents.reader().map_err(|e| reading(path, &e))?;
    for (n, place) in contents.places.iter().enumerate() {
        match read_frame(&file, place).map_err(|e| reading(path, &e))? {
            Some(_) => chunks += 1,
            None => damaged += 1,
        }
        seen(n as u64 + 1, contents.places.len() as u64);
    }
    let sound = contents.whole && damaged == 0;
    Ok(Summary { header: contents.header, bytes: contents.length, chunks, damaged, sound })
}

/// Reads the header alone: for the parts that lie beside one.
pub(crate) fn header_of(path: &Path) -> Option<Header> {
    if !std::fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let mut head = [0; HEADER_BYTES as usize];
    let mut file = File::open(path).ok()?;
    file.read_exact(&mut head).ok()?;
    match Header::decode(&head) {
        Read1::Sound(header) => Some(header),
        _ => None,
    }
}
