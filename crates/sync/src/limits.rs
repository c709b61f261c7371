//! Limits of a link: value and reason.

/// Bytes of one frame: the largest chunk with room for its message.
pub const FRAME_BYTES: usize = 4 << 20;
/// Bytes of the first frame of a stranger: a proof and nothing else.
pub const FIRST_FRAME_BYTES: usize = 256;
/// Bytes of chunks received and not yet handed to the store: three transactions' worth, so that the disk never waits.
pub const WAITING_BYTES: usize = 3 << 19;
/// Bytes of chunks in one transaction: some 7,000 observations, whose decoded form is ten times as large. Measured: twice
/// this gains nothing, eight times this takes the receiver past 100 MB.
pub const PERSIST_BYTES: usize = 1 << 19;
/// Bytes of chunks read at once from a mailbox on a bad line: at 20 kB/s some seconds, and at a tenth of a second a request still
/// more than a megabyte a second.
pub const SMALL_STEP_BYTES: usize = 1 << 17;
/// Bytes of chunks read from the store at once.
pub const LOAD_BYTES: usize = 1 << 20;
/// Feeds whose branches are looked into in one session.
pub const LADDERS: usize = 64;
/// Rungs of one ladder.
pub const RUNGS: usize = 4096;
/// Control operations in one list: 200 devices over years have some thousands.
pub const CONTROL_OPS: usize = 65_536;
/// Messages kept while control logs are still being made equal: a frontier, a plan and the first chunks.
pub const EARLY_MESSAGES: usize = 8;
/// Requests the store has not answered before no more is read: a peer cannot queue work faster than the disk does it.
pub const UNANSWERED: usize = 16;
/// Bytes of operations in one control message: far below a frame.
pub const CONTROL_PART_BYTES: usize = 1 << 20;
/// Receipts of third devices in one list.
pub const WITNESSES: usize = 512;
/// Bytes of receipts handed on over one link; the next one goes on.
pub const WITNESS_BYTES: usize = 1 << 20;
/// Times a receipt may show that something sent did not arrive, before the link is left as it is: the next one goes on.
pub const LOOKBACKS: u8 = 3;
/// Bytes of one operation that lets a device in.
pub const ENTER_BYTES: usize = 4 << 10;
/// Bytes of the control log a guest takes: 200 devices over years are some megabytes.
pub const WELCOME_BYTES: usize = 64 << 20;
/// Bytes of keys, control operations, manifests and receipts read from one mailbox: as much as a control log may have.
pub const ABOUT_BYTES: usize = 64 << 20;
/// Claims of members on a mailbox that are remembered until their chunks were read: a year of a team of ten. Beyond that chunks are read.
pub const CLAIMS: usize = 16_384;
/// Names of chunks of each kind that could not be used and are remembered: 37 bytes each.
pub const UNUSABLE: usize = 16_384;
/// Bytes of claimed chunks looked into at each visit, at least.
pub const CHECK_BYTES: u64 = 256 << 10;
/// And one part in so many of what the visit took.
pub const CHECK_SHARE: u64 = 20;
