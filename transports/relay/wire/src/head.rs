//! The chain over a log: whoever remembers one head notices any later change of what came before it.

use crate::{LogId, fixed};
use cairn_model::{ChunkHash, hex};
use std::fmt;
use std::str::FromStr;

/// The end of a log: how many chunks it has had, and the hash that commits to all their names in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Head {
    /// Chunks appended, ever.
    pub seq: u64,
    /// The chain's end.
    pub hash: [u8; 32],
}

/// A text is no head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is not the head of a log")]
pub struct HeadError;

const CONTEXT: &str = "cairn relay head v1";

impl Head {
    /// Of a log in which nothing lies.
    pub fn empty(log: &LogId) -> Self {
        Self { seq: 0, hash: blake3::derive_key(CONTEXT, &log.0) }
    }

    /// With one more chunk.
    pub fn next(&self, name: &ChunkHash) -> Self {
        let seq = self.seq + 1;
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
        hasher.update(&self.hash).update(&seq.to_le_bytes()).update(&name.0);
        Self { seq, hash: *hasher.finalize().as_bytes() }
    }
}

/// `SEQ-HASH`.
impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.seq, hex(&self.hash))
    }
}

impl FromStr for Head {
    type Err = HeadError;
    fn from_str(text: &str) -> Result<Self, HeadError> {
        let (seq, hash) = text.split_once('-').ok_or(HeadError)?;
        Ok(Self { seq: seq.parse().map_err(|_| HeadError)?, hash: fixed(hash).map_err(|()| HeadError)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_commits_to_the_log_the_names_and_their_order() {
        let (a, b) = (ChunkHash([1; 32]), ChunkHash([2; 32]));
        let empty = Head::empty(&LogId([1; 16]));
        let ab = empty.next(&a).next(&b);
        assert_eq!(ab.seq, 2);
        assert_ne!(ab, empty.next(&b).next(&a));
        assert_ne!(ab, Head::empty(&LogId([2; 16])).next(&a).next(&b));
        assert_eq!(ab.to_string().parse(), Ok(ab));
        assert_eq!("7-zz".parse::<Head>(), Err(HeadError));
    }
}
