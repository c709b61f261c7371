//! Binary bodies: chunks behind their lengths, and rows of the index.

use crate::limits;
use cairn_model::ChunkHash;

/// Why a body does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// It ends inside a frame.
    #[error("the body ends inside a frame")]
    Cut,
    /// A frame is longer than a chunk may be, or empty.
    #[error("a frame of {0} bytes: 1 to {max} are taken", max = limits::CHUNK_BYTES)]
    Size(usize),
    /// More frames than one body may have.
    #[error("more than {max} frames in one body", max = limits::NAMES)]
    Many,
}

/// Appends one chunk: its length as four little-endian bytes, then the chunk.
pub fn push_frame(body: &mut Vec<u8>, chunk: &[u8]) {
    body.extend((chunk.len() as u32).to_le_bytes());
    body.extend(chunk);
}

/// A body of these chunks.
pub fn frames<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut body = Vec::new();
    chunks.into_iter().for_each(|chunk| push_frame(&mut body, chunk));
    body
}

/// The chunks of a whole body.
pub fn split_frames(mut body: &[u8]) -> Result<Vec<&[u8]>, FrameError> {
    let mut out = Vec::new();
    while let Some((head, rest)) = body.split_at_checked(4) {
        let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        if len == 0 || len > limits::CHUNK_BYTES {
            return Err(FrameError::Size(len));
        }
        let (chunk, rest) = rest.split_at_checked(len).ok_or(FrameError::Cut)?;
        if out.len() == limits::NAMES {
            return Err(FrameError::Many);
        }
        out.push(chunk);
        body = rest;
    }
    if body.is_empty() { Ok(out) } else { Err(FrameError::Cut) }
}

/// One chunk of a log as its index tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexRow {
    /// Its place, from 1, without gaps.
    pub seq: u64,
    /// Its name.
    pub name: ChunkHash,
    /// Bytes.
    pub bytes: u32,
    /// Kind, from its plain header; 0 for what is no chunk.
    pub kind: u8,
    /// It was trimmed: its place in the chain stays, it is not given out.
    pub trimmed: bool,
}

/// Bytes of one row: sequence number and length little-endian, name between them, kind, a flag, two zeros.
pub const INDEX_ROW_BYTES: usize = 48;

impl IndexRow {
    /// As it travels.
    pub fn encode(&self) -> [u8; INDEX_ROW_BYTES] {
        let mut row = [0; INDEX_ROW_BYTES];
        row[..8].copy_from_slice(&self.seq.to_le_bytes());
        row[8..40].copy_from_slice(&self.name.0);
        row[40..44].copy_from_slice(&self.bytes.to_le_bytes());
        (row[44], row[45]) = (self.kind, u8::from(self.trimmed));
        row
    }
}

/// The rows of an index body; what is over at its end is left out.
pub fn read_index(body: &[u8]) -> Vec<IndexRow> {
    let (rows, _) = body.as_chunks::<INDEX_ROW_BYTES>();
    let read = |row: &[u8; INDEX_ROW_BYTES]| {
        let mut name = [0; 32];
        name.copy_from_slice(&row[8..40]);
        IndexRow {
            seq: u64::from_le_bytes([row[0], row[1], row[2], row[3], row[4], row[5], row[6], row[7]]),
            name: ChunkHash(name),
            bytes: u32::from_le_bytes([row[40], row[41], row[42], row[43]]),
            kind: row[44],
            trimmed: row[45] & 1 == 1,
        }
    };
    rows.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn frames_come_back_and_any_bytes_are_read_without_panic(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 0..20),
            junk in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..300,
        ) {
            let body = frames(chunks.iter().map(Vec::as_slice));
            prop_assert_eq!(split_frames(&body).unwrap(), chunks.iter().map(Vec::as_slice).collect::<Vec<_>>());
            let cut = cut.min(body.len());
            if let Ok(some) = split_frames(&body[..cut]) {
                prop_assert!(some.iter().zip(&chunks).all(|(a, b)| *a == b.as_slice()));
            }
            split_frames(&junk).ok();
            read_index(&junk);
        }

        #[test]
        fn rows_come_back(seq: u64, name: [u8; 32], bytes: u32, kind: u8, trimmed: bool) {
            let row = IndexRow { seq, name: ChunkHash(name), bytes, kind, trimmed };
            prop_assert_eq!(read_index(&row.encode()), vec![row]);
        }
    }
}
