//! A manifest: what the other chunks of a mailbox hold, so that a reader fetches only what it lacks and a writer adds only what
//! is missing. Signed by its writer: members believe members. A hint all the same: what it names is checked when it is read.

use crate::derive::derive;
use crate::frontier::Tip;
use crate::{ChunkError, DeviceKeys, cbor, limits, verify};
use cairn_model::{DeviceId, DocId, FeedId, ProjectId};
use minicbor::bytes::{ByteArray, ByteVec};
use minicbor::{Decode, Encode};

/// One chunk's share of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// [`cairn_model::ChunkHash::short`] of the chunk.
    pub chunk: [u8; 16],
    /// Consecutive batches in it: one, or those of a pack.
    pub batches: u32,
    /// Changes in them.
    pub changes: u32,
}

/// Consecutive batches of one feed, and the chunks they are in.
#[derive(Clone, Debug, PartialEq)]
pub struct Shelf {
    /// Author.
    pub device: DeviceId,
    /// First batch.
    pub from: u64,
    /// The last one, with the feed as the headers say it.
    pub tip: Tip,
    /// In order.
    pub pieces: Vec<Piece>,
    /// Author's clock at the first and the last batch, milliseconds: advisory.
    pub wall_ms: (i64, i64),
}

/// What one writer says about a mailbox.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// Who says so.
    pub device: DeviceId,
    /// Configuration lineage that device works with.
    pub configuration: DocId,
    /// Batches that were added.
    pub shelves: Vec<Shelf>,
    /// What the reader is taken to hold: nothing but what lies beyond was added.
    pub base: Vec<Tip>,
    /// Its clock, milliseconds: advisory.
    pub made_ms: i64,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct ShelfCbor {
    #[n(1)]
    device: ByteArray<32>,
    #[n(2)]
    from: u64,
    #[n(3)]
    tip: Tip,
    /// 16 bytes and the numbers of batches and changes as four little-endian bytes each.
    #[n(4)]
    pieces: ByteVec,
    #[n(5)]
    wall_ms: (i64, i64),
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Inner {
    #[n(1)]
    device: ByteArray<32>,
    #[n(2)]
    configuration: ByteArray<16>,
    #[n(3)]
    shelves: Vec<ShelfCbor>,
    #[n(4)]
    base: Vec<Tip>,
    #[n(5)]
    made_ms: i64,
}

const PIECE_BYTES: usize = 24;

impl Shelf {
    /// The feed.
    pub fn feed(&self) -> FeedId {
        self.tip.feed
    }

    /// Number of batches.
    pub fn batches(&self) -> u64 {
        (self.tip.seq + 1).saturating_sub(self.from)
    }

    /// Number of changes.
    pub fn changes(&self) -> u64 {
        self.pieces.iter().map(|p| u64::from(p.changes)).sum()
    }

    fn is_sound(&self) -> bool {
        let inside: u64 = self.pieces.iter().map(|p| u64::from(p.batches)).sum();
        let none = self.pieces.iter().any(|p| p.batches == 0);
        self.from > 0 && self.from <= self.tip.seq && self.tip.seq < limits::BATCHES && !none && inside == self.batches()
    }
}

impl Manifest {
    /// Signed bytes.
    pub fn sign(&self, project: &ProjectId, keys: &DeviceKeys) -> Vec<u8> {
        let inner = cbor::encode(&Inner {
            device: self.device.0.into(),
            configuration: self.configuration.0.into(),
            shelves: self.shelves.iter().map(ShelfCbor::from).collect(),
            base: self.base.clone(),
            made_ms: self.made_ms,
        });
        let signature = keys.sign(&hash(project, &inner)).into();
        cbor::encode(&cbor::Signed { inner: inner.into(), signature })
    }

    /// Reads and checks signed bytes.
    pub fn open(project: &ProjectId, bytes: &[u8]) -> Result<Self, ChunkError> {
        let malformed = |_| ChunkError::Content("manifest");
        let outer: cbor::Signed = minicbor::decode(bytes).map_err(malformed)?;
        let inner: Inner = minicbor::decode(&outer.inner).map_err(malformed)?;
        if !verify(&inner.device, &hash(project, &outer.inner), &outer.signature) {
            return Err(ChunkError::Content("signature of a manifest"));
        }
        let shelves: Vec<Shelf> = inner.shelves.into_iter().map(Shelf::from).collect();
        let sound = shelves.iter().all(Shelf::is_sound) && inner.base.len() <= limits::FRONTIER_TIPS;
        if !sound {
            return Err(ChunkError::Content("manifest"));
        }
        Ok(Self {
            device: DeviceId(*inner.device),
            configuration: DocId(*inner.configuration),
            shelves,
            base: inner.base,
            made_ms: inner.made_ms,
        })
    }
}

impl From<&Shelf> for ShelfCbor {
    fn from(s: &Shelf) -> Self {
        let mut pieces = Vec::with_capacity(s.pieces.len() * PIECE_BYTES);
        for piece in &s.pieces {
            pieces.extend(piece.chunk);
            pieces.extend(piece.batches.to_le_bytes());
            pieces.extend(piece.changes.to_le_bytes());
        }
        Self { device: s.device.0.into(), from: s.from, tip: s.tip, pieces: pieces.into(), wall_ms: s.wall_ms }
    }
}

impl From<ShelfCbor> for Shelf {
    fn from(s: ShelfCbor) -> Self {
        let piece = |row: &[u8; PIECE_BYTES]| {
            let mut chunk = [0; 16];
            chunk.copy_from_slice(&row[..16]);
            let number = |at: usize| u32::from_le_bytes([row[at], row[at + 1], row[at + 2], row[at + 3]]);
            Piece { chunk, batches: number(16), changes: number(20) }
        };
        let (rows, _) = s.pieces.as_chunks::<PIECE_BYTES>();
        let pieces = rows.iter().map(piece).collect();
        Self { device: DeviceId(*s.device), from: s.from, tip: s.tip, pieces, wall_ms: s.wall_ms }
    }
}

fn hash(project: &ProjectId, inner: &[u8]) -> [u8; 32] {
    derive("cairn manifest v1", &[&project.0, inner])
}
