//! What the store and the exchange tell each other of batches on their way.

use crate::Tip;
use cairn_model::DeviceId;

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
