//! What a device holds, in one small value, and the digest made of it.

use crate::{BatchHash, ControlHash};
use cairn_model::{ChangeHash, DocId, FeedId};

/// The last batch held of one feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, minicbor::Encode, minicbor::Decode)]
pub struct Tip {
    /// The feed (or branch).
    #[n(0)]
    #[cbor(with = "crate::batch::feed_bytes")]
    pub feed: FeedId,
    /// Its last sequence number.
    #[n(1)]
    pub seq: u64,
    /// Hash of that batch.
    #[n(2)]
    pub hash: BatchHash,
}

/// Tips, sorted by feed; one for every feed held.
pub type Frontier = Vec<Tip>;

/// 32 bytes that are equal on two devices if and only if they hold the same.
pub type Digest = [u8; 32];

/// Digest of control heads, tips and open changes; sorts all three itself.
pub fn digest(control_heads: &[ControlHash], tips: &[Tip], open: &[(DocId, ChangeHash)]) -> Digest {
    let mut heads = control_heads.to_vec();
    let mut tips = tips.to_vec();
    let mut open = open.to_vec();
    heads.sort_unstable();
    tips.sort_unstable();
    open.sort_unstable();
    let mut hasher = blake3::Hasher::new_derive_key("cairn digest v1");
    hasher.update(&(heads.len() as u64).to_le_bytes());
    for head in &heads {
        hasher.update(&head.0);
    }
    hasher.update(&(tips.len() as u64).to_le_bytes());
    for tip in &tips {
        hasher.update(&tip.feed.0).update(&tip.seq.to_le_bytes()).update(&tip.hash.0);
    }
    for (doc, hash) in &open {
        hasher.update(&doc.0).update(&hash.0);
    }
    *hasher.finalize().as_bytes()
}
