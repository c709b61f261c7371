//! Limits of the interface: value and reason. Both sides hold to them; a server may set lower ones for quota and rates only.

/// Bytes of one chunk: as on every carrier.
pub const CHUNK_BYTES: usize = 3 << 20;
/// Bytes of one body of frames: two of the largest chunks, so that a client may always fill a request.
pub const BODY_BYTES: usize = 8 << 20;
/// Bytes of a JSON body: the largest is a log's keys with boxes for 512 coordinators, in hexadecimal digits.
pub const JSON_BYTES: usize = 160 << 10;
/// Chunks in one body, and names in one question: 4,096 full names are 128 KiB.
pub const NAMES: usize = 4_096;
/// Names in one commit: two megabytes, one transaction of well under a second.
pub const COMMIT_NAMES: usize = 65_536;
/// Rows of the index in one answer: 786 kB.
pub const INDEX_ROWS: usize = 16_384;
/// Bytes of an answer of chunks that a client asks for at once.
pub const FETCH_BYTES: usize = 16 << 20;
/// Seconds a long poll may wait: below what proxies cut.
pub const WAIT_S: u64 = 55;
/// Seconds between signs of life on a stream of events.
pub const ALIVE_S: u64 = 20;
/// Seconds a session's token counts.
pub const SESSION_S: u64 = 3_600;
/// Seconds between a challenge and its answer.
pub const NONCE_S: u64 = 60;
/// Bytes of one request to enter.
pub const ASK_BYTES: usize = 64 << 10;
/// Bytes of requests to enter that one log keeps.
pub const ASKS_BYTES: u64 = 1 << 20;
/// Bytes past its quota that a log takes of what must never wait: keys, control operations, receipts.
pub const RESERVE_BYTES: u64 = 64 << 20;
/// Bytes of what is uploaded and not committed, beside the quota.
pub const STAGED_BYTES: u64 = 4 << 30;
/// Seconds that stays: a week of bad evenings.
pub const STAGED_S: u64 = 7 * 86_400;
/// Bytes of a log's sealed record of admin keys: boxes for 512 coordinators.
pub const RECORD_BYTES: usize = 64 << 10;
/// Bytes of a sealed label of a project: its name and a ticket.
pub const LABEL_BYTES: usize = 32 << 10;
/// Bytes of all labels of an account: what its list of projects costs to answer.
pub const LABELS_BYTES: usize = 4 << 20;
/// Bytes of pieces of uploads that one log keeps.
pub const PIECES_BYTES: u64 = 64 << 20;
/// Bytes of the sealed key of an account, each of its two copies.
pub const WRAPPED_BYTES: usize = 256;
/// Bytes of a chunk that the database keeps itself; a larger one is a file (or an object): batches are below, packs may be above.
pub const INLINE_BYTES: usize = 256 << 10;
/// Characters of a user name.
pub const USER_CHARS: usize = 64;
/// Projects of one account.
pub const PROJECTS: usize = 4_096;
/// Tokens of one account: devices that are logged in.
pub const TOKENS: usize = 256;
