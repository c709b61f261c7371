//! What a relay keeps, as a trait: any engine that keeps it passes [`crate::conformance::storage_suite`]. Every call is one durable
//! transaction or none; times are seconds since 1970, handed in.

use async_trait::async_trait;
use bytes::Bytes;
use cairn_model::ChunkHash;
use cairn_relay_wire::{Head, IndexRow, Keys, LogId, NewLog, Trimmed, Uploaded, Usage};
use std::collections::HashSet;

/// Names an account inside the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(pub [u8; 16]);

/// One log.
#[derive(Clone, Debug, PartialEq)]
pub struct LogRow {
    /// Its end.
    pub head: Head,
    /// Opens sessions that read and append.
    pub access: [u8; 32],
    /// Opens sessions of coordinators.
    pub admin: [u8; 32],
    /// Opens the doorstep.
    pub knock: [u8; 32],
    /// How often the keys were changed.
    pub version: u32,
    /// Who pays.
    pub account: Option<AccountId>,
    /// Chunks that are there.
    pub chunks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Of those, bytes of requests to enter.
    pub asks: u64,
    /// Bytes uploaded and not committed.
    pub staged: u64,
    /// Last append; 0 for none.
    pub last_append: u64,
    /// Nothing is given out or taken.
    pub blocked: bool,
}

/// One account.
#[derive(Clone, Debug, PartialEq)]
pub struct AccountRow {
    /// Its name inside.
    pub id: AccountId,
    /// User name.
    pub user: String,
    /// Hash of the proof of the password.
    pub auth: [u8; 32],
    /// The account's key under the password.
    pub wrapped: Vec<u8>,
    /// Hash of the proof of the recovery words.
    pub recovery_auth: [u8; 32],
    /// The account's key under those.
    pub recovery_wrapped: Vec<u8>,
    /// Bytes of its logs.
    pub bytes: u64,
    /// Logs it pays for.
    pub logs: u64,
    /// Bytes they may have; 0 is the default.
    pub quota: u64,
    /// Neither log-in nor append.
    pub blocked: bool,
    /// When it was made.
    pub created: u64,
}

/// A chunk on its way in. A large one lies among the parts already, durable.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// Hash of its bytes.
    pub name: ChunkHash,
    /// From its plain header.
    pub kind: u8,
    /// Bytes.
    pub bytes: u32,
    /// The bytes, unless they are a part.
    pub inline: Option<Bytes>,
}

/// A chunk that is there.
#[derive(Clone, Debug)]
pub struct Found {
    /// Bytes.
    pub bytes: u32,
    /// The bytes, unless they are a part.
    pub inline: Option<Bytes>,
}

/// How much a log may have when something is added to it.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    /// Bytes of a log nobody pays for, or of all logs of an account without a quota of its own.
    pub quota: u64,
    /// Bytes past the quota for what must never wait.
    pub reserve: u64,
    /// Bytes that may be uploaded and not committed.
    pub staged: u64,
    /// Bytes of requests to enter.
    pub asks: u64,
}

/// What a commit came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Commit {
    /// The head after it.
    pub head: Head,
    /// How many were appended.
    pub appended: u32,
    /// Places of all, in the order they were given.
    pub places: Vec<u64>,
}

/// A chunk that is kept outside the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartKey {
    /// Whose.
    pub log: LogId,
    /// Its name.
    pub name: ChunkHash,
}

/// What one sweep erased.
#[derive(Clone, Debug, Default)]
pub struct Swept {
    /// Chunks.
    pub chunks: u64,
    /// Parts to be erased now that nothing names them.
    pub parts: Vec<PartKey>,
    /// There is more.
    pub more: bool,
}

/// Where a chunk is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Not here.
    Absent,
    /// Uploaded, not committed.
    Staged,
    /// In the log.
    There,
}

/// Why something was not done. Nothing was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// No such log.
    #[error("there is no such log")]
    NoLog,
    /// No such account.
    #[error("there is no such account")]
    NoAccount,
    /// The log is there with other keys.
    #[error("the log is there already, with other keys")]
    Exists,
    /// The keys are of another version by now.
    #[error("the keys were changed meanwhile")]
    Changed,
    /// The user name is taken.
    #[error("the user name is taken")]
    NameTaken,
    /// The code was used, or never was one.
    #[error("this is no code for a new account")]
    NoCode,
    /// No room within the quota.
    #[error("the quota of {quota} bytes is used up")]
    Quota {
        /// Bytes there may be.
        quota: u64,
    },
    /// More requests to enter, projects or tokens than one may have.
    #[error("too many {0}")]
    Many(&'static str),
    /// A commit names a chunk that was not uploaded.
    #[error("{0} was not uploaded")]
    NotUploaded(ChunkHash),
    /// The operator has blocked it.
    #[error("blocked by the operator of this relay")]
    Blocked,
    /// The disk is full.
    #[error("the relay's disk is full")]
    Full,
    /// What is kept of this does not read.
    #[error("damaged at the relay: {0}")]
    Damaged(String),
    /// Larger than a chunk may be.
    #[error("larger than a chunk may be")]
    TooLarge,
    /// The engine failed or is not there; what was asked may be asked again.
    #[error("the relay's storage does not answer: {0}")]
    Engine(String),
}

/// Kinds of chunks that must never wait for room: receipts, control operations, keys, manifests. They are small, and a full quota
/// must not keep a removal from anybody.
pub fn is_vital(kind: u8) -> bool {
    (2..=5).contains(&kind)
}

/// Kinds that are read at the doorstep: control operations and keys.
pub fn is_about(kind: u8) -> bool {
    kind == 3 || kind == 4
}

/// Kinds that wake nobody: receipts and manifests alone are read at the next visit.
pub fn is_quiet(kind: u8) -> bool {
    kind == 2 || kind == 5
}

/// A request to enter.
pub const ASK_KIND: u8 = 7;

impl Allowance {
    /// Whether `more` bytes of `kind` fit beside `used` of a log or an account with this quota of its own (0: the default).
    pub fn fits(&self, used: u64, more: u64, kind: u8, own_quota: u64) -> Result<(), StorageError> {
        let quota = if own_quota == 0 { self.quota } else { own_quota };
        let most = if is_vital(kind) || kind == ASK_KIND { quota.saturating_add(self.reserve) } else { quota };
        if used.saturating_add(more) > most { Err(StorageError::Quota { quota }) } else { Ok(()) }
    }
}

/// What counts against a quota, and the quota of its own that who pays has (0: the default).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Payer {
    pub used: u64,
    pub own_quota: u64,
}

/// Those of `chunks` that are not in the log, each once, if they may be: the rule that all engines share.
pub(crate) fn lacking<'a>(
    row: &LogRow,
    payer: Payer,
    chunks: &'a [Incoming],
    allowed: &Allowance,
    mut here: impl FnMut(&ChunkHash) -> Result<Presence, StorageError>,
) -> Result<Vec<&'a Incoming>, StorageError> {
    let mut total = payer.used + row.staged;
    let (mut staged, mut asks) = (row.staged, row.asks);
    let (mut new, mut seen) = (Vec::new(), HashSet::new());
    for chunk in chunks {
        if here(&chunk.name)? != Presence::Absent || !seen.insert(chunk.name) {
            continue;
        }
        let bytes = u64::from(chunk.bytes);
        allowed.fits(total, bytes, chunk.kind, payer.own_quota)?;
        (total, staged) = (total + bytes, staged + bytes);
        if chunk.kind == ASK_KIND {
            asks += bytes;
        }
        if staged > allowed.staged && !is_vital(chunk.kind) {
            return Err(StorageError::Many("uploads that were not committed"));
        }
        if asks > allowed.asks && chunk.kind == ASK_KIND {
            return Err(StorageError::Many("requests to enter"));
        }
        new.push(chunk);
    }
    Ok(new)
}

/// What a relay keeps.
#[async_trait]
pub trait Storage: Send + Sync + 'static {
    /// 32 random bytes that all nodes of this relay share, made at first use.
    async fn secret(&self) -> Result<[u8; 32], StorageError>;
    /// Answers if it can read and write.
    async fn healthy(&self) -> Result<(), StorageError>;
    /// `false` if this challenge (its hash) was answered before, at any node. It is remembered until it ends.
    async fn answer_once(&self, challenge: [u8; 32], until: u64, now: u64) -> Result<bool, StorageError>;

    /// Makes a log. `false` if it is there with just these keys.
    async fn create_log(&self, log: LogId, new: NewLog, account: Option<AccountId>, now: u64) -> Result<bool, StorageError>;
    /// One log.
    async fn log(&self, log: LogId) -> Result<Option<LogRow>, StorageError>;
    /// The sealed record of a log's admin keys.
    async fn record(&self, log: LogId) -> Result<Vec<u8>, StorageError>;
    /// Changes the keys, if they are still of `keys.version`; gives the next version.
    async fn set_keys(&self, log: LogId, keys: Keys) -> Result<u32, StorageError>;

    /// Keeps chunks that nobody sees before their commit.
    async fn upload(&self, log: LogId, chunks: Vec<Incoming>, allowed: Allowance, now: u64) -> Result<Uploaded, StorageError>;
    /// Appends uploaded chunks in this order, all or none. What is in the log already keeps its place.
    async fn commit(&self, log: LogId, names: Vec<ChunkHash>, allowed: Allowance, now: u64) -> Result<Commit, StorageError>;
    /// Both at once.
    async fn append(&self, log: LogId, chunks: Vec<Incoming>, allowed: Allowance, now: u64) -> Result<Commit, StorageError>;
    /// Where chunks are, by the first 16 bytes of their names.
    async fn has(&self, log: LogId, names: Vec<[u8; 16]>) -> Result<Vec<Presence>, StorageError>;
    /// Rows after a place, in order, at most `limit`; `about`: only what is read at the doorstep.
    async fn index(&self, log: LogId, after: u64, limit: usize, about: bool) -> Result<Vec<IndexRow>, StorageError>;
    /// A chunk that is in the log and not trimmed.
    async fn find(&self, log: LogId, name: ChunkHash) -> Result<Option<(Found, u8)>, StorageError>;
    /// `true` if something here still needs the bytes of this name, listed, trimmed or uploaded.
    async fn names(&self, log: LogId, name: ChunkHash) -> Result<bool, StorageError>;
    /// Bytes that ordinary chunks may still take in a log.
    async fn room(&self, log: LogId, allowed: Allowance) -> Result<u64, StorageError>;
    /// Hides chunks, or shows them again.
    async fn trim(&self, log: LogId, names: Vec<ChunkHash>, undo: bool, now: u64) -> Result<Trimmed, StorageError>;
    /// Erases some of what was trimmed or uploaded before these times.
    async fn sweep(&self, trimmed_before: u64, staged_before: u64) -> Result<Swept, StorageError>;

    /// Makes an account, using up the code if one is asked for (its hash).
    async fn create_account(&self, account: AccountRow, code: Option<[u8; 32]>) -> Result<(), StorageError>;
    /// By user name.
    async fn account_by_name(&self, user: String) -> Result<Option<AccountRow>, StorageError>;
    /// By a token's hash.
    async fn account_by_token(&self, token: [u8; 32]) -> Result<Option<AccountRow>, StorageError>;
    /// One more token.
    async fn add_token(&self, account: AccountId, token: [u8; 32], now: u64) -> Result<(), StorageError>;
    /// Ends a token.
    async fn drop_token(&self, token: [u8; 32]) -> Result<(), StorageError>;
    /// How many tokens an account has.
    async fn tokens(&self, account: AccountId) -> Result<u32, StorageError>;
    /// Other proofs and wrapped keys; all tokens but `keep` end; labels there are become these, those not named stay.
    async fn set_password(&self, account: AccountRow, keep: [u8; 32], labels: Vec<(LogId, Vec<u8>)>) -> Result<(), StorageError>;
    /// An account's projects: log, label, and the log itself.
    async fn projects(&self, account: AccountId) -> Result<Vec<(LogId, Vec<u8>, LogRow)>, StorageError>;
    /// Labels a project for an account, or forgets it.
    async fn set_label(&self, account: AccountId, log: LogId, label: Option<Vec<u8>>) -> Result<(), StorageError>;

    /// One more code for a new account, by its hash.
    async fn add_code(&self, code: [u8; 32]) -> Result<(), StorageError>;
    /// Sums over everything.
    async fn usage(&self) -> Result<Usage, StorageError>;
    /// All accounts, by user name.
    async fn accounts(&self) -> Result<Vec<AccountRow>, StorageError>;
    /// All logs.
    async fn logs(&self) -> Result<Vec<(LogId, LogRow)>, StorageError>;
    /// Another quota, blocked or not.
    async fn change_account(&self, user: String, quota: Option<u64>, blocked: Option<bool>) -> Result<(), StorageError>;
    /// Blocked or not.
    async fn block_log(&self, log: LogId, blocked: bool) -> Result<(), StorageError>;
    /// Erases an account, its labels and tokens. Its logs are nobody's then.
    async fn delete_account(&self, user: String) -> Result<(), StorageError>;
    /// Erases a log; gives the parts to be erased now that nothing names them.
    async fn delete_log(&self, log: LogId) -> Result<Vec<PartKey>, StorageError>;

    /// Calls `heard` with every log that grew at another node, for as long as the storage lives.
    fn listen(&self, heard: Heard) {
        drop(heard);
    }
    /// Tells the other nodes that a log grew. Only a hint: it may get lost.
    fn tell(&self, log: LogId, seq: u64) {
        let _ = (log, seq);
    }
}

/// Is told of a log that grew.
pub type Heard = Box<dyn Fn(LogId, u64) + Send + Sync>;
