//! What an exchange and its caller say to each other.

use super::known::{Known, Memory};
use cairn_model::{ChunkHash, DeviceId, FeedId};
use cairn_trust::{EpochId, Lack, Manifest, PlacedBatch, Shelf, Tip};
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
    /// Cut the open batch.
    Prepare,
    /// Open what is about the project itself: keys, control operations, manifests, receipts, requests to enter. Kept if `true`.
    Take(Vec<Vec<u8>>, bool),
    /// Of each run (feed, first, last): the first batch that is not here.
    Wanted(Vec<(FeedId, u64, Tip)>),
    /// Hold chunks, durably.
    Persist(Vec<Vec<u8>>),
    /// What is here and not known to be in the mailbox; with what is not in a batch yet if `true`. The caller may say how many bytes of
    /// it may go: then whole batches from the first on that fit, and at least one if any may.
    Lacking(Known, bool, Option<u64>),
    /// Batches of a chain from one to another, up to so many bytes.
    Load(u32, u64, u64, usize),
    /// Read keys and control operations that the mailbox lacks, as chunks.
    ComposeFirst(Known),
    /// Manifests of what was added on top of a base, and a receipt, as chunks.
    ComposeLast(Vec<(u32, Shelf)>, Vec<Tip>),
    /// Remember this of the mailbox, durably.
    Note(Memory),
}

/// What came of chunks about the project itself.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    /// Manifests of members.
    pub manifests: Vec<Manifest>,
    /// Manifests of others: a help to read in order, not believed.
    pub unproved: Vec<Manifest>,
    /// First 16 bytes of the hashes of control operations that lie there.
    pub ops: Vec<[u8; 16]>,
    /// For whom keys of which epoch lie there.
    pub boxed: Vec<(EpochId, Vec<[u8; 8]>)>,
    /// Chunks that could not be opened.
    pub sealed: u64,
    /// This device belongs, as far as it knows now.
    pub belongs: bool,
    /// Control operations that were new here.
    pub new_ops: u64,
}

/// What the store answers.
#[derive(Clone, Debug)]
pub enum MailAnswer {
    /// To `Prepare` and `Note`.
    Done,
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
    },
    /// To `Lacking`: runs to add, what is known with what belongs together put together, how many control operations and boxes of
    /// read keys are lacking, whether there is a key to seal anything under, and whether something was left out because of its bytes.
    Lacking(Vec<Lack>, Known, usize, bool, bool),
    /// To `Load`.
    Loaded(Vec<Made>),
    /// To `ComposeFirst` and `ComposeLast`.
    Composed(Vec<Vec<u8>>),
}
