//! What the store and the exchange tell each other of batches on their way.

use crate::Tip;
use cairn_model::{ChunkHash, DeviceId};

/// Batches of one chain that a mailbox is not known to hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Lack {
    /// The store's number of the chain.
    pub chain: u32,
    /// Author.
    pub device: DeviceId,
    /// First batch.
    pub from: u64,
    /// Last batch, with the feed as the headers say it.
    pub tip: Tip,
    /// Changes in them.
    pub changes: u64,
    /// Bytes of their chunks here.
    pub bytes: u64,
    /// Author's clock at the first and the last, milliseconds.
    pub wall_ms: (i64, i64),
}

/// A batch that came in a chunk and is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlacedBatch {
    /// Which of the chunks given.
    pub input: usize,
    /// The store's number of its chain.
    pub chain: u32,
    /// Author.
    pub device: DeviceId,
    /// Feed (as its header says it), number and hash.
    pub tip: Tip,
    /// Changes in it.
    pub changes: u32,
    /// Author's clock, milliseconds.
    pub wall_ms: i64,
}

/// What a chunk of a mailbox turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inside {
    /// Its read key is not here.
    Sealed,
    /// Nothing that this project can use: not a chunk of batches, changed, forged, or past a limit.
    Nothing,
    /// Batches whose author is not known here yet, so that their signatures cannot be checked.
    Unknown,
    /// Batches whose signatures hold, in order: feed (as the header says it), number and hash of each.
    Batches(Vec<Tip>),
}

/// First half of a chunk's name.
pub type Short = [u8; 16];

/// Consecutive batches of one feed that are proved to lie in chunks of a mailbox.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Proof {
    /// First batch.
    pub from: u64,
    /// The last one, with the feed as its header says it.
    pub tip: Tip,
    /// The chunks in order, each with the number of its batches.
    pub chunks: Vec<(Short, u32)>,
}

/// What a member's manifest says of one chunk. It saves reading; it never proves that a batch of this device lies there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Who says so.
    pub writer: DeviceId,
    /// Author of the batches.
    pub author: DeviceId,
    /// The chunk.
    pub chunk: ChunkHash,
    /// Its bytes.
    pub bytes: u32,
    /// First batch in it.
    pub from: u64,
    /// Last batch in it.
    pub to: u64,
    /// End of the run that the chunk is part of, with the feed as headers say it.
    pub tip: Tip,
    /// Changes in the chunk.
    pub changes: u32,
    /// Author's clock at the run's first and last batch, milliseconds: advisory.
    pub wall_ms: (i64, i64),
}

impl Claim {
    /// Number of batches it speaks of.
    pub fn batches(&self) -> u64 {
        self.to + 1 - self.from
    }

    /// `true` if these batches, found in the chunk in this order, are what the claim says.
    pub fn fits(&self, found: &[Tip]) -> bool {
        let in_order = found.iter().zip(self.from..).all(|(tip, seq)| tip.feed == self.tip.feed && tip.seq == seq);
        let end = found.last().is_some_and(|last| last.seq != self.tip.seq || last.hash == self.tip.hash);
        found.len() as u64 == self.batches() && in_order && end
    }
}

/// What a claim is worth to this device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    /// This device says so itself and holds the batches: the last one of the chunk.
    Proved(Tip),
    /// Its writer was caught, or does not belong any more: the chunk is read as if nobody had told of it.
    Unbelieved,
    /// It speaks of batches that are not here: they will be read.
    ToRead,
    /// It speaks of batches that are here, and the chunk was not looked into: others' batches are not added while it stands. The chunk
    /// is looked into in time, also where the batches are proved to lie in another one: it may hold something else.
    ToCheck,
    /// It speaks of this device's own batches: it is looked into, or they are added.
    OfOwn,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BatchHash;
    use cairn_model::FeedId;

    fn tip(seq: u64) -> Tip {
        Tip { feed: FeedId([1; 16]), seq, hash: BatchHash([seq as u8; 32]) }
    }

    #[test]
    fn a_claim_fits_only_what_it_names() {
        let claim = Claim {
            writer: DeviceId([2; 32]),
            author: DeviceId([3; 32]),
            chunk: ChunkHash([5; 32]),
            bytes: 9,
            from: 3,
            to: 4,
            tip: tip(4),
            changes: 4,
            wall_ms: (0, 0),
        };
        assert!(claim.fits(&[tip(3), tip(4)]));
        assert!(!claim.fits(&[tip(4)]) && !claim.fits(&[]) && !claim.fits(&[tip(4), tip(3)]) && !claim.fits(&[tip(3), tip(4), tip(5)]));
        assert!(!claim.fits(&[tip(3), Tip { hash: BatchHash([9; 32]), ..tip(4) }]));
        assert!(!claim.fits(&[tip(3), Tip { feed: FeedId([2; 16]), ..tip(4) }]));
    }
}
