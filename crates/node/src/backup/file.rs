//! A backup's bytes: what it is of and a copy of the store, compressed, in sealed segments, written and read a segment at a time.

use cairn_trust::{BACKUP_HEADER, BACKUP_SEGMENT, BackupError, BackupSeal, BackupSecret, backup_header_len};
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};

/// Bytes that a seal adds to a segment.
const TAG: usize = 16;
/// Bytes of what a backup is of.
const ABOUT_BYTES: usize = 64 << 10;
/// As for chunks: higher levels take several times as long for a tenth of the bytes.
const LEVEL: i32 = 3;

/// What a backup is of. Sealed with the rest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct About {
    pub project: String,
    pub name: String,
    pub device: String,
    pub device_name: String,
    /// The device's secret seed: what makes an empty machine this device again.
    pub seed: String,
    /// By the device's clock, milliseconds.
    pub made_ms: i64,
    pub digest: String,
    pub observations: u64,
    /// Bytes of the store.
    pub bytes: u64,
}

/// Seals what is written to it.
pub(crate) struct Sealing<W> {
    out: W,
    seal: BackupSeal,
    waiting: Vec<u8>,
}

impl<W: Write> Sealing<W> {
    pub fn new(mut out: W, seal: BackupSeal, header: &[u8]) -> io::Result<Self> {
        out.write_all(header)?;
        Ok(Self { out, seal, waiting: Vec::with_capacity(BACKUP_SEGMENT) })
    }

    fn segment(&mut self, last: bool) -> io::Result<()> {
        let sealed = self.seal.seal(&self.waiting, last).ok_or_else(|| io::Error::other("a segment could not be sealed"))?;
        self.waiting.clear();
        self.out.write_all(&sealed)
    }

    pub fn finish(mut self) -> io::Result<W> {
        self.segment(true)?;
        Ok(self.out)
    }
}

impl<W: Write> Write for Sealing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A full segment waits for the next byte: only then it is known not to be the last.
        if self.waiting.len() == BACKUP_SEGMENT {
            self.segment(false)?;
        }
        let taken = bytes.len().min(BACKUP_SEGMENT - self.waiting.len());
        self.waiting.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Opens what it reads. Damage and a missing end are errors before a byte of the segment is given.
pub(crate) struct Opening<R> {
    input: R,
    seal: BackupSeal,
    ahead: Vec<u8>,
    plain: Vec<u8>,
    used: usize,
    ended: bool,
}

impl<R: Read> Opening<R> {
    /// Reads the header. The outer error is the disk's.
    pub fn new(mut input: R, secret: &BackupSecret<'_>) -> io::Result<Result<Self, BackupError>> {
        let mut header = read_up_to(&mut input, 12)?;
        let len = match backup_header_len(&header) {
            Ok(len) => len.min(BACKUP_HEADER + 12),
            Err(e) => return Ok(Err(e)),
        };
        header.extend(read_up_to(&mut input, len - 12)?);
        let seal = match BackupSeal::open(&header, secret) {
            Ok((seal, _)) => seal,
            Err(e) => return Ok(Err(e)),
        };
        let ahead = read_up_to(&mut input, BACKUP_SEGMENT + TAG)?;
        Ok(Ok(Self { input, seal, ahead, plain: Vec::new(), used: 0, ended: false }))
    }

    fn next(&mut self) -> io::Result<()> {
        let sealed = std::mem::replace(&mut self.ahead, read_up_to(&mut self.input, BACKUP_SEGMENT + TAG)?);
        self.ended = self.ahead.is_empty();
        self.plain = self.seal.open_next(&sealed, self.ended).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        self.used = 0;
        Ok(())
    }
}

impl<R: Read> Read for Opening<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.used == self.plain.len() && !self.ended {
            self.next()?;
        }
        let given = buf.len().min(self.plain.len() - self.used);
        buf[..given].copy_from_slice(&self.plain[self.used..self.used + given]);
        self.used += given;
        Ok(given)
    }
}

fn read_up_to(input: &mut impl Read, most: usize) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    input.take(most as u64).read_to_end(&mut out)?;
    Ok(out)
}

/// Writes a whole backup; gives the hash of the store's bytes.
pub(crate) fn write<W: Write>(
    out: Sealing<W>,
    about: &About,
    mut store: impl Read,
    told: &mut dyn FnMut(u64),
) -> io::Result<(W, blake3::Hash)> {
    let mut out = out;
    let words = serde_json::to_vec(about).map_err(io::Error::other)?;
    out.write_all(&(words.len() as u32).to_le_bytes())?;
    out.write_all(&words)?;
    let mut packer = zstd::Encoder::new(out, LEVEL)?;
    let hash = copy(&mut store, &mut packer, told)?;
    Ok((packer.finish()?.finish()?, hash))
}

/// What a backup is of, and the rest of it: the store's bytes.
pub(crate) fn read<R: Read>(mut input: Opening<R>) -> io::Result<(About, impl Read)> {
    let bad = |e: &dyn std::fmt::Display| io::Error::new(io::ErrorKind::InvalidData, e.to_string());
    let mut len = [0; 4];
    input.read_exact(&mut len)?;
    let len = u32::from_le_bytes(len) as usize;
    if len > ABOUT_BYTES {
        return Err(bad(&"the backup does not say what it is of"));
    }
    let words = read_up_to(&mut input, len)?;
    let about: About = serde_json::from_slice(&words).map_err(|e| bad(&e))?;
    let most = about.bytes.saturating_add(1);
    // It unpacks to what it says and not to more.
    Ok((about, zstd::Decoder::new(input)?.take(most)))
}

/// Copies and hashes.
pub(crate) fn copy(from: &mut impl Read, to: &mut impl Write, told: &mut dyn FnMut(u64)) -> io::Result<blake3::Hash> {
    let (mut hash, mut buf, mut done) = (blake3::Hasher::new(), vec![0; 256 << 10], 0);
    loop {
        let got = from.read(&mut buf)?;
        if got == 0 {
            return Ok(hash.finalize());
        }
        hash.update(&buf[..got]);
        to.write_all(&buf[..got])?;
        done += got as u64;
        told(done);
    }
}
