//! A mailbox: a place that holds chunks for others. It may be slow, full, read-only, or lie; a chunk is named by the hash of its
//! bytes, so what it alters is noticed. Calls block; the caller runs them where that does no harm.

use cairn_model::ChunkHash;

/// One chunk that lies there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its name.
    pub name: ChunkHash,
    /// Kind, from its plain header.
    pub kind: u8,
    /// Bytes.
    pub bytes: u32,
}

/// What is there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listing {
    /// Chunks that were not there at the cursor, or all. May repeat, be in any order, and name what is gone when it is read.
    pub entries: Vec<Entry>,
    /// To be given at the next listing. Opaque.
    pub cursor: Vec<u8>,
    /// The cursor given was not understood or something it covered is gone: `entries` are all there is now.
    pub start_over: bool,
    /// The place is damaged and becomes whole by a commit, even of nothing new.
    pub mend: bool,
    /// Not all that should be there could be read: damaged, cut short, still arriving.
    pub incomplete: bool,
    /// What is wrong with the place, for people: damaged or missing parts.
    pub faults: Vec<String>,
}

/// What became of chunks that were added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Nothing was added.
    Nothing,
    /// Handed over; it may still be lost.
    Local,
    /// On the medium, as far as it can be told.
    Durable,
    /// Somebody else has said that it is durable there.
    Acknowledged,
}

/// Why a mailbox did not do something. It holds what it held before.
#[derive(Debug, thiserror::Error)]
pub enum MailboxError {
    /// It is not there: a stick that is not plugged in, a share that is not mounted.
    #[error("{0} is not there")]
    Missing(String),
    /// It is not a mailbox of this project.
    #[error("{0}")]
    Foreign(String),
    /// It is no mailbox at all.
    #[error("{0} is not a cairn bundle")]
    NoMailbox(String),
    /// Made by a newer version.
    #[error("{0} was made by a newer version of cairn")]
    Newer(String),
    /// It can be read and not written.
    #[error("{0} cannot be written: {1}")]
    ReadOnly(String, String),
    /// No room.
    #[error("there is no space left on {0}")]
    Full(String),
    /// Somebody else wrote there at the same moment: to be tried again.
    #[error("{0} was changed by somebody else at the same moment")]
    Busy(String),
    /// It is elsewhere and did not answer: what, and why.
    #[error("{1}")]
    Unreached(String, String),
    /// Somebody or something else answers in its place: what, and what gave it away.
    #[error("{1}")]
    Elsewhere(String, String),
    /// The read keys that are here do not open it (any more).
    #[error("{0} is locked to this device: the keys of the project were changed")]
    Locked(String),
    /// Whoever keeps it does not want to, and says why.
    #[error("{0}: {1}")]
    Refused(String, String),
    /// The line to it is metered, and what may pass has passed.
    #[error("{0}: the bytes that may be used are used up")]
    Spent(String),
    /// Anything else.
    #[error("{0}: {1}")]
    Io(String, String),
}

impl MailboxError {
    /// Other keys count there than a moment ago, or nothing is there any more: worth another look.
    pub fn is_locked_or_missing(&self) -> bool {
        matches!(self, MailboxError::Locked(_) | MailboxError::Missing(_))
    }
}

/// A place that holds chunks.
pub trait Mailbox {
    /// What is there that was not when `cursor` was given out; empty is from the beginning.
    fn list(&mut self, cursor: &[u8]) -> Result<Listing, MailboxError>;
    /// The chunks of these names, in any order. Those that are gone or damaged are left out. The caller asks for no more at once
    /// than it has room for.
    fn read(&mut self, names: &[ChunkHash]) -> Result<Vec<Vec<u8>>, MailboxError>;
    /// Adds chunks; nobody sees them before [`Mailbox::commit`]. What is there already may be given again.
    fn add(&mut self, chunks: &[Vec<u8>]) -> Result<(), MailboxError>;
    /// Makes everything added since the last commit visible, at once or not at all.
    fn commit(&mut self) -> Result<Kept, MailboxError>;
}

/// The kind in a chunk's plain header; `None` for what is no chunk.
pub fn kind_of(chunk: &[u8]) -> Option<u8> {
    chunk.strip_prefix(b"cairn").and_then(|rest| rest.get(1)).copied()
}
