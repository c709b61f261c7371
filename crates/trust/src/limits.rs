//! Limits on what is received: value and reason. They depend only on the bytes and their feed's past, never on what else is here.

/// Bytes of one batch as its author sends it: small enough for a relay's frame, large enough to compress well.
pub const BATCH_BYTES: usize = 256 << 10;
/// Bytes of a batch that holds one change alone (a long interview).
pub const SINGLE_CHANGE_BATCH_BYTES: usize = (2 << 20) + (64 << 10);
/// Changes in one batch.
pub const BATCH_CHANGES: usize = 256;
/// Payload bytes at which the open batch is cut: about 230 ordinary observations, where compression has stopped gaining.
pub const CUT_BYTES: usize = 64 << 10;
/// Largest ratio of uncompressed to compressed bytes taken; an author whose data compresses better stores it plain.
pub const RATIO: usize = 64;
/// Bytes of one chunk on any carrier: the largest batch, header, padding.
pub const CHUNK_BYTES: usize = 3 << 20;
/// Smallest padded plaintext.
pub const PAD_FLOOR: usize = 256;
/// Tips a batch header may name.
pub const SEEN_TIPS: usize = 16;
/// Actor nonces a batch header may list: writable opens between two cuts, with room.
pub const NONCES: usize = 256;
/// Control heads a batch header may name.
pub const CONTROL_HEADS: usize = 64;
/// Bytes of one control operation: a read key boxed to 512 readers is the largest.
pub const CONTROL_OP_BYTES: usize = 64 << 10;
/// Feeds a removal may name cuts for: the feeds of one device.
pub const CUT_TIPS: usize = 256;
/// Read keys one operation hands on: older ones come with the chains of these.
pub const CHAIN_KEYS: usize = 256;
/// Readers of one epoch; others are handed the key by an operation each.
pub const READERS: usize = 512;
/// Bytes of control log taken from a device that has not yet shown it belongs.
pub const CONTROL_LOG_BYTES: usize = 1 << 20;
/// Feeds in one frontier: 200 devices with room for incarnations.
pub const FRONTIER_TIPS: usize = 16_384;
/// Relays whose heads one receipt tells.
pub const RELAY_HEADS: usize = 16;
/// Bytes of the batches in one pack: compression has stopped gaining, and a reader that lacks one of them loses little.
pub const PACK_BYTES: usize = 1 << 20;
/// Chunks of batches below this are worth regrouping into packs.
pub const PACKED_BELOW: usize = 16 << 10;
/// Pieces one manifest names: far below a chunk.
pub const MANIFEST_PIECES: usize = 32_768;
/// Batches of one feed: what a store's keys have room for.
pub const BATCHES: u64 = 1 << 40;
/// Fewest bytes a batch takes in any chunk: its signature does not compress. Who claims more batches than a chunk can hold is not believed.
pub const LEAST_BATCH_BYTES: u64 = 64;
