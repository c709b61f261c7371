//! Chunks: a batch (or receipt) sealed once by its author; the same bytes on every carrier.
//!
//! `"cairn" version kind epoch[16] nonce[24] ciphertext tag[16]`, XChaCha20-Poly1305, AAD = context, project and
//! plain header. Plaintext: body length (u32 LE), flag, body (zstd if the flag is 1), zeros up to the Padmé length.

use crate::derive::{derive, first16};
use crate::limits;
use cairn_model::ProjectId;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use std::io::Read;

/// What a chunk holds. The numbers are part of format 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ChunkKind {
    /// One batch with its payload.
    Batch = 1,
    /// A signed frontier.
    Receipt = 2,
    /// Control operations on their way through a mailbox.
    Control = 3,
    /// A read key boxed to readers who are not named. Its plain header is followed by the boxes.
    Keys = 4,
    /// What other chunks of a mailbox hold.
    Manifest = 5,
    /// Many batches in one.
    Pack = 6,
    /// A request to enter.
    Ask = 7,
}

/// Names an epoch and commits to its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EpochId(pub [u8; 16]);

/// The read key of a period.
#[derive(Clone, PartialEq, Eq)]
pub struct EpochKey(pub [u8; 32]);

impl EpochKey {
    /// The epoch's name.
    pub fn id(&self) -> EpochId {
        EpochId(first16(derive("cairn epoch v1", &[&self.0])))
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&derive("cairn chunk v1", &[&self.0]).into())
    }
}

impl std::fmt::Debug for EpochKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EpochKey(of {:?})", self.id())
    }
}

/// Why bytes are no chunk of this project. Such bytes are dropped and counted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// Larger than any chunk.
    #[error("{0} bytes are more than a chunk may have")]
    TooLarge(usize),
    /// No chunk header.
    #[error("not a cairn chunk")]
    NotAChunk,
    /// Made by a newer version.
    #[error("chunk version {0} is not known to this version")]
    Version(u8),
    /// The key of its epoch is not here.
    #[error("sealed under an epoch whose key is not here")]
    UnknownEpoch(EpochId),
    /// Changed on the way, of another project, or forged.
    #[error("the seal does not hold")]
    Seal,
    /// The plaintext breaks the rules an author must keep.
    #[error("malformed content: {0}")]
    Content(&'static str),
}

const MAGIC: &[u8; 5] = b"cairn";
const VERSION: u8 = 1;
pub(crate) const PLAIN_BYTES: usize = 5 + 1 + 1 + 16 + 24;
const BODY_AT: usize = 5;

/// Kind and epoch from the plain header, without opening.
pub fn chunk_kind(chunk: &[u8]) -> Result<(u8, EpochId), ChunkError> {
    if chunk.len() > limits::CHUNK_BYTES {
        return Err(ChunkError::TooLarge(chunk.len()));
    }
    if chunk.len() < PLAIN_BYTES + 16 + limits::PAD_FLOOR || &chunk[..5] != MAGIC {
        return Err(ChunkError::NotAChunk);
    }
    if chunk[5] != VERSION {
        return Err(ChunkError::Version(chunk[5]));
    }
    let mut epoch = [0; 16];
    epoch.copy_from_slice(&chunk[7..23]);
    Ok((chunk[6], EpochId(epoch)))
}

/// Seals `body` under an epoch; `nonce` must be random and used once.
pub fn seal(project: &ProjectId, kind: ChunkKind, key: &EpochKey, nonce: &[u8; 24], body: &[u8]) -> Result<Vec<u8>, ChunkError> {
    seal_behind(project, kind, key, nonce, &[], body)
}

/// The same with bytes between header and ciphertext that anyone can read and nobody can change.
pub(crate) fn seal_behind(
    project: &ProjectId,
    kind: ChunkKind,
    key: &EpochKey,
    nonce: &[u8; 24],
    open_part: &[u8],
    body: &[u8],
) -> Result<Vec<u8>, ChunkError> {
    encrypt(project, kind, key, nonce, open_part, &pack(body)?)
}

/// Seals `body` under a nonce derived from `context`, the key and the padded plaintext, so that the same plaintext gives the
/// same chunk. The nonce covers the bytes that are encrypted: another compressor makes another plaintext, hence another nonce.
pub(crate) fn seal_by_content(
    project: &ProjectId,
    kind: ChunkKind,
    key: &EpochKey,
    context: &'static str,
    body: &[u8],
) -> Result<Vec<u8>, ChunkError> {
    let plain = pack(body)?;
    encrypt(project, kind, key, &content_nonce(context, key, &plain), &[], &plain)
}

fn content_nonce(context: &'static str, key: &EpochKey, plain: &[u8]) -> [u8; 24] {
    let mut nonce = [0; 24];
    nonce.copy_from_slice(&derive(context, &[&key.0, plain])[..24]);
    nonce
}

fn encrypt(
    project: &ProjectId,
    kind: ChunkKind,
    key: &EpochKey,
    nonce: &[u8; 24],
    open_part: &[u8],
    plain: &[u8],
) -> Result<Vec<u8>, ChunkError> {
    let mut chunk = Vec::with_capacity(PLAIN_BYTES + open_part.len() + plain.len() + 16);
    chunk.extend(MAGIC);
    chunk.extend([VERSION, kind as u8]);
    chunk.extend(key.id().0);
    chunk.extend(nonce);
    chunk.extend(open_part);
    let aad = aad(project, &chunk);
    let sealed = key.cipher().encrypt(XNonce::from_slice(nonce), Payload { msg: plain, aad: &aad }).map_err(|_| ChunkError::Seal)?;
    chunk.extend(sealed);
    if chunk.len() > limits::CHUNK_BYTES {
        return Err(ChunkError::TooLarge(chunk.len()));
    }
    Ok(chunk)
}

/// Opens a chunk with the key of its epoch and gives its body. Checks size, seal, padding and decompression cap, in this order.
pub fn open(project: &ProjectId, key: &EpochKey, chunk: &[u8]) -> Result<Vec<u8>, ChunkError> {
    let (_, epoch) = chunk_kind(chunk)?;
    if epoch != key.id() {
        return Err(ChunkError::UnknownEpoch(epoch));
    }
    open_behind(project, key, chunk, 0)
}

/// Opens what follows `open_part` bytes after the plain header.
pub(crate) fn open_behind(project: &ProjectId, key: &EpochKey, chunk: &[u8], open_part: usize) -> Result<Vec<u8>, ChunkError> {
    let (header, sealed) = chunk.split_at_checked(PLAIN_BYTES + open_part).ok_or(ChunkError::NotAChunk)?;
    let nonce = XNonce::from_slice(&header[23..PLAIN_BYTES]);
    let plain = key.cipher().decrypt(nonce, Payload { msg: sealed, aad: &aad(project, header) }).map_err(|_| ChunkError::Seal)?;
    unpack(&plain)
}

fn aad(project: &ProjectId, header: &[u8]) -> Vec<u8> {
    [b"cairn chunk v1", &project.0[..], header].concat()
}

fn pack(body: &[u8]) -> Result<Vec<u8>, ChunkError> {
    let packed = zstd::bulk::compress(body, 3).map_err(|_| ChunkError::Content("does not compress"))?;
    let fits = packed.len() < body.len() && body.len() <= packed.len() * limits::RATIO;
    let (flag, stored) = if fits { (1, &packed[..]) } else { (0, body) };
    let mut plain = Vec::with_capacity(padme(BODY_AT + stored.len()));
    plain.extend((stored.len() as u32).to_le_bytes());
    plain.push(flag);
    plain.extend(stored);
    plain.resize(padme(plain.len()), 0);
    Ok(plain)
}

fn unpack(plain: &[u8]) -> Result<Vec<u8>, ChunkError> {
    let (head, rest) = plain.split_at_checked(BODY_AT).ok_or(ChunkError::Content("too short"))?;
    let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
    let (stored, padding) = rest.split_at_checked(len).ok_or(ChunkError::Content("length"))?;
    if plain.len() != padme(BODY_AT + len) || padding.iter().any(|b| *b != 0) {
        return Err(ChunkError::Content("padding"));
    }
    match head[4] {
        0 => Ok(stored.to_vec()),
        1 => inflate(stored),
        _ => Err(ChunkError::Content("flag")),
    }
}

fn inflate(stored: &[u8]) -> Result<Vec<u8>, ChunkError> {
    let cap = (stored.len() * limits::RATIO).min(limits::SINGLE_CHANGE_BATCH_BYTES);
    let decoder = zstd::stream::read::Decoder::with_buffer(stored).map_err(|_| ChunkError::Content("zstd"))?;
    let mut body = Vec::new();
    decoder.take(cap as u64 + 1).read_to_end(&mut body).map_err(|_| ChunkError::Content("zstd"))?;
    if body.len() > cap {
        return Err(ChunkError::Content("grows past the limit"));
    }
    Ok(body)
}

/// Padmé (Nikitin et al., PURBs, 2019): lengths leak O(log log n) bits for at most 12 % more bytes.
fn padme(len: usize) -> usize {
    if len <= limits::PAD_FLOOR {
        return limits::PAD_FLOOR;
    }
    let exponent = len.ilog2();
    let keep = exponent.ilog2() + 1;
    let mask = (1usize << (exponent - keep)) - 1;
    (len + mask) & !mask
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: ProjectId = ProjectId([9; 32]);
    const K: EpochKey = EpochKey([5; 32]);

    #[test]
    fn sealed_bytes_open_only_unchanged_and_only_here() {
        let body: Vec<u8> = (0..2000u32).flat_map(|i| (i % 97).to_le_bytes()).collect();
        let chunk = seal(&P, ChunkKind::Batch, &K, &[1; 24], &body).unwrap();
        assert_eq!(open(&P, &K, &chunk).unwrap(), body);
        assert_eq!(open(&ProjectId([8; 32]), &K, &chunk), Err(ChunkError::Seal));
        assert!(matches!(open(&P, &EpochKey([6; 32]), &chunk), Err(ChunkError::UnknownEpoch(_))));
        for at in (5..chunk.len()).step_by(7) {
            let mut bad = chunk.clone();
            bad[at] ^= 1;
            assert!(open(&P, &K, &bad).is_err(), "byte {at}");
        }
        for cut in 0..chunk.len() {
            assert!(open(&P, &K, &chunk[..cut]).is_err(), "cut at {cut}");
        }
    }

    /// One body compressed in two ways is two plaintexts. One nonce for both would give away their difference.
    #[test]
    fn a_nonce_derived_from_content_covers_the_bytes_that_are_sealed() {
        let body: Vec<u8> = (0..4000u32).flat_map(|i| (i % 97 * (i % 13)).to_le_bytes()).collect();
        let chunk = seal_by_content(&P, ChunkKind::Pack, &K, "test", &body).unwrap();
        assert_eq!(chunk, seal_by_content(&P, ChunkKind::Pack, &K, "test", &body).unwrap());
        assert_eq!(open(&P, &K, &chunk).unwrap(), body);
        assert_eq!(chunk[23..PLAIN_BYTES], content_nonce("test", &K, &pack(&body).unwrap()));
        let stored = zstd::bulk::compress(&body, 19).unwrap();
        let mut other = (stored.len() as u32).to_le_bytes().to_vec();
        other.push(1);
        other.extend(&stored);
        other.resize(padme(other.len()), 0);
        assert_eq!(unpack(&other).unwrap(), body);
        assert_ne!(chunk[23..PLAIN_BYTES], content_nonce("test", &K, &other));
    }

    #[test]
    fn a_bomb_is_stored_plain_and_a_forged_one_refused() {
        let zeros = vec![0u8; 1 << 20];
        let chunk = seal(&P, ChunkKind::Batch, &K, &[1; 24], &zeros).unwrap();
        assert!(chunk.len() > zeros.len(), "the ratio of 64 would trip, so it is not compressed");
        assert_eq!(open(&P, &K, &chunk).unwrap(), zeros);
        let bomb = zstd::bulk::compress(&zeros, 3).unwrap();
        let mut plain = (bomb.len() as u32).to_le_bytes().to_vec();
        plain.push(1);
        plain.extend(&bomb);
        plain.resize(padme(plain.len()), 0);
        assert_eq!(unpack(&plain), Err(ChunkError::Content("grows past the limit")));
    }

    #[test]
    fn padding_other_than_zero_is_refused() {
        let mut plain = pack(b"abc").unwrap();
        *plain.last_mut().unwrap() = 1;
        assert_eq!(unpack(&plain), Err(ChunkError::Content("padding")));
        assert_eq!(padme(9), 256);
        assert_eq!(padme(20_480 + 1), 21_504);
    }
}
