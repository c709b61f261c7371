//! What an exchange and its caller say to each other.

use super::known::{Known, Memory, Tried};
use cairn_model::{ChunkHash, DeviceId, FeedId};
use cairn_trust::{EpochId, Inside, Lack, Manifest, PlacedBatch, Shelf, Tip, Worth};
use std::collections::BTreeSet;

/// What is wanted of an exchange.
#[derive(Clone, Debug, Default)]
pub struct ExchangeSetup {
    /// Take what is new here.
    pub pull: bool,
    /// Add what the mailbox lacks.
    pub push: bool,
    /// Tell only; neither the mailbox nor the store changes.
    pub dry_run: bool,
    /// Only the work of these devices.
    pub only: Option<BTreeSet<DeviceId>>,
    /// Add nothing that a holder of these tips has.
    pub base: Vec<Tip>,
    /// What lies there may have been made for readers who hold something already: a bundle file, not a place many write to.
    pub for_readers: bool,
    /// Every claim is checked by reading its chunk, whatever that costs: what the mailbox holds is to be relied on.
    pub prove: bool,
    /// The line is slow or breaks: what is read at once, and lost if it breaks, is little.
    pub in_small_steps: bool,
    /// At most so many bytes are read at once, where it is less than that: the line is metered.
    pub step_bytes: Option<u64>,
    /// A receipt alone is no reason to write: it goes with whatever is written next. For visits that many devices make at once.
    pub receipt_later: bool,
    /// What is remembered of the mailbox.
    pub memory: Memory,
}

/// One chunk that lies in the mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: ChunkHash,
    /// Its kind.
    pub kind: u8,
    /// Its bytes.
    pub bytes: u32,
}

/// What a listing gave.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// What was not there at the cursor, or all, in an order in which it is well read.
    pub entries: Vec<Listed>,
    /// Where the next listing begins; empty for a place that is always listed whole.
    pub cursor: Vec<u8>,
    /// It is all there is now.
    pub start_over: bool,
    /// The place is damaged and becomes whole by writing.
    pub mend: bool,
}

/// What an effect came to.
#[derive(Clone, Debug)]
pub enum MailEvent {
    /// To `List`.
    Listed(Shown),
    /// To `Read`.
    Read(Vec<Vec<u8>>),
    /// To `Add`.
    Added,
    /// To `Commit`.
    Committed,
    /// To `Store`.
    Answer(MailAnswer),
}

/// What the caller must do next, and answer with the event of the same name.
#[derive(Clone, Debug)]
pub enum MailEffect {
    /// List the mailbox from a cursor on.
    List(Vec<u8>),
    /// Read chunks.
    Read(Vec<ChunkHash>),
    /// Add chunks.
    Add(Vec<Vec<u8>>),
    /// Make visible what was added.
    Commit,
    /// Ask the store.
    Store(MailRequest),
    /// Nothing more: see [`super::Exchange::outcome`].
    Done,
}

/// A chunk made for a mailbox.
#[derive(Clone, Debug, PartialEq)]
pub struct Made {
    /// A batch as its author sealed it, or a pack.
    pub chunk: Vec<u8>,
    /// Batches in it.
    pub batches: u32,
    /// Changes in them.
    pub changes: u32,
}

/// What an exchange asks of the store.
#[derive(Clone, Debug)]
pub enum MailRequest {
    /// Tell what chunks that could not be used may be tried again for; before that, cut the open batch if `true`.
    Prepare(bool),
    /// Open what is about the project itself: keys, control operations, manifests, receipts, requests to enter. Kept if `true`.
    Take(Vec<Vec<u8>>, bool),
    /// Of each run (feed, first, last): the first batch that is not here.
    Wanted(Vec<(FeedId, u64, Tip)>),
    /// Hold chunks, durably.
    Persist(Vec<Vec<u8>>),
    /// What each claim is worth.
    Weigh(Box<Known>),
    /// Open chunks and tell what is in them. Nothing is held.
    Inspect(Vec<Vec<u8>>),
    /// A member's manifest named a chunk that does not hold what it says: believe no manifest of that member from now on.
    Distrust(DeviceId, ChunkHash),
    /// What is here and not known to be in the mailbox; with what is not in a batch yet if `true`. The caller may say how many bytes of
    /// it may go: then whole batches from the first on that fit, and at least one if any may.
    Lacking(Box<Known>, bool, Option<u64>),
    /// Batches of a chain from one to another, up to so many bytes.
    Load(u32, u64, u64, usize),
    /// Read keys and control operations that the mailbox lacks, as chunks.
    ComposeFirst(Box<Known>),
    /// Manifests of what was added on top of a base, and a receipt, as chunks.
    ComposeLast(Vec<(u32, Shelf)>, Vec<Tip>),
    /// Remember this of the mailbox, durably.
    Note(Box<Memory>),
}

/// What came of chunks about the project itself. Numbers name the chunks in the order in which they were given.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    /// Manifests of members whose word counts.
    pub manifests: Vec<(usize, Manifest)>,
    /// Manifests of others: a help to read in order, not believed.
    pub unproved: Vec<(usize, Manifest)>,
    /// First 16 bytes of the hashes of control operations in a chunk, all of which are admitted.
    pub ops: Vec<(usize, Vec<[u8; 16]>)>,
    /// For whom a chunk holds keys of which epoch, where that was checked.
    pub boxed: Vec<(usize, EpochId, Vec<[u8; 8]>)>,
    /// Chunks whose read key is not here.
    pub sealed: Vec<usize>,
    /// Chunks that wait for control operations that are not here.
    pub waiting: Vec<usize>,
    /// This device belongs, as far as it knows now.
    pub belongs: bool,
    /// This device.
    pub device: Option<DeviceId>,
    /// Control operations that were new here.
    pub new_ops: u64,
}

/// What the store answers.
#[derive(Clone, Debug)]
pub enum MailAnswer {
    /// To `Note` and `Distrust`.
    Done,
    /// To `Prepare`.
    Ready(Tried),
    /// To `Take`.
    Taken(Box<Taken>),
    /// To `Wanted`, in the same order; `None` where all is here.
    Wanted(Vec<Option<u64>>),
    /// To `Persist`: newly held, and how many had no place yet.
    Persisted {
        /// Newly held.
        held: u64,
        /// Their predecessor or their read key is not here.
        gaps: u64,
        /// No batches of this project.
        dropped: u64,
        /// Every batch that is held now, in order.
        placed: Vec<PlacedBatch>,
        /// What each chunk turned out to be, in order.
        inside: Vec<Inside>,
    },
    /// To `Weigh`: of each claim, and how many bytes of own batches are not proved to lie there.
    Weighed(Vec<Worth>, u64),
    /// To `Inspect`, in order: what is in each, and whether all of it is held here.
    Inspected(Vec<(Inside, bool)>),
    /// To `Lacking`.
    Lacking(Box<Lacking>),
    /// To `Load`.
    Loaded(Vec<Made>),
    /// To `ComposeFirst` and `ComposeLast`.
    Composed(Vec<Vec<u8>>),
}

/// What a mailbox lacks of what is here.
#[derive(Clone, Debug)]
pub struct Lacking {
    /// Runs to add.
    pub lacks: Vec<Lack>,
    /// What is known, with what belongs together put together.
    pub known: Known,
    /// Control operations and boxes of read keys that are lacking.
    pub others: usize,
    /// There is a key to seal anything under.
    pub may_write: bool,
    /// Something was left out because of its bytes.
    pub cut_short: bool,
    /// Batches made on this device that it holds.
    pub own: u64,
    /// How many of those are not proved to lie there.
    pub own_lacking: u64,
    /// This device.
    pub device: DeviceId,
}
