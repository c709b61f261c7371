//! What is known of a mailbox: a cache, never evidence.

use cairn_model::{DeviceId, FeedId};
use cairn_trust::{EpochId, Lack, Tip};
use minicbor::bytes::{ByteArray, ByteVec};
use minicbor::{Decode, Encode};
use std::collections::{BTreeMap, BTreeSet};

/// Consecutive batches of one feed that lie in a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Run {
    /// First batch.
    pub from: u64,
    /// The last one, with the feed as the headers say it.
    pub tip: Tip,
}

/// What a mailbox holds, as far as its manifests tell.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Known {
    /// Batches.
    pub runs: Vec<Run>,
    /// What its readers are taken to hold without it.
    pub base: Vec<Tip>,
    /// Control operations, by the first 16 bytes of their hashes.
    pub ops: BTreeSet<[u8; 16]>,
    /// For whom keys of which epoch lie there.
    pub boxed: BTreeMap<EpochId, BTreeSet<[u8; 8]>>,
}

/// What a device remembers of a mailbox between exchanges.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// Where the next listing begins.
    pub cursor: Vec<u8>,
    /// What it holds.
    pub known: Known,
    /// Batches were taken from it, and no receipt was left yet.
    pub owes_receipt: bool,
    /// Something lay there once.
    pub begun: bool,
}

/// Batches of one author on their way.
#[derive(Clone, Debug, PartialEq)]
pub struct Lot {
    /// Author.
    pub device: DeviceId,
    /// Batches.
    pub batches: u64,
    /// Changes in them.
    pub changes: u64,
    /// Bytes of their chunks.
    pub bytes: u64,
    /// Author's clock at the first and the last, milliseconds: advisory.
    pub wall_ms: (i64, i64),
}

impl From<&Lack> for Lot {
    fn from(l: &Lack) -> Self {
        Self { device: l.device, batches: l.tip.seq + 1 - l.from, changes: l.changes, bytes: l.bytes, wall_ms: l.wall_ms }
    }
}

impl Lot {
    /// Adds `other` to the lot of its author.
    pub(super) fn gather(lots: &mut Vec<Lot>, other: Lot) {
        match lots.iter_mut().find(|l| l.device == other.device) {
            Some(lot) => {
                lot.batches += other.batches;
                lot.changes += other.changes;
                lot.bytes += other.bytes;
                lot.wall_ms = (lot.wall_ms.0.min(other.wall_ms.0), lot.wall_ms.1.max(other.wall_ms.1));
            }
            None => lots.push(other),
        }
    }
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct MemoryCbor {
    #[n(1)]
    cursor: ByteVec,
    #[n(2)]
    runs: Vec<(u64, Tip)>,
    #[n(3)]
    base: Vec<Tip>,
    #[n(4)]
    ops: ByteVec,
    #[n(5)]
    boxed: Vec<(ByteArray<16>, ByteVec)>,
    #[n(6)]
    owes_receipt: bool,
    #[n(7)]
    begun: Option<bool>,
}

impl Memory {
    /// Bytes to keep.
    pub fn encode(&self) -> Vec<u8> {
        let known = &self.known;
        let row = MemoryCbor {
            cursor: self.cursor.clone().into(),
            runs: known.runs.iter().map(|r| (r.from, r.tip)).collect(),
            base: known.base.clone(),
            ops: known.ops.iter().copied().collect::<Vec<_>>().concat().into(),
            boxed: known.boxed.iter().map(|(e, who)| (e.0.into(), who.iter().copied().collect::<Vec<_>>().concat().into())).collect(),
            owes_receipt: self.owes_receipt,
            begun: Some(self.begun),
        };
        minicbor::to_vec(&row).expect("encoding to memory")
    }

    /// From kept bytes. What does not read is forgotten: the mailbox is listed from its beginning.
    pub fn decode(bytes: &[u8]) -> Self {
        let Ok(row) = minicbor::decode::<MemoryCbor>(bytes) else { return Self::default() };
        let (ops, _) = row.ops.as_chunks::<16>();
        let boxed = row.boxed.iter().map(|(e, who)| (EpochId(**e), who.as_chunks::<8>().0.iter().copied().collect()));
        let known = Known {
            runs: row.runs.into_iter().map(|(from, tip)| Run { from, tip }).collect(),
            base: row.base,
            ops: ops.iter().copied().collect(),
            boxed: boxed.collect(),
        };
        Self { cursor: row.cursor.into(), known, owes_receipt: row.owes_receipt, begun: row.begun.unwrap_or(false) }
    }
}

impl Known {
    /// One more run, if it is not there.
    pub(super) fn add(&mut self, from: u64, tip: Tip) {
        if !self.runs.iter().any(|r| r.tip == tip && r.from <= from) {
            self.runs.push(Run { from, tip });
        }
    }

    /// Tips of one feed.
    pub fn of(&self, feed: FeedId) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(move |r| r.tip.feed == feed)
    }
}
