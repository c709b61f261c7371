//! What a relay and its clients say to each other, and what both compute: names, the chain of heads, session proofs, frames,
//! limits. Version 1. The paths and bodies are described by the server itself at `/openapi.json`, and in words in `PROTOCOL.md`
//! beside this crate.

mod frames;
mod head;
pub mod limits;
mod messages;
mod problem;
mod rights;

pub use frames::{FrameError, INDEX_ROW_BYTES, IndexRow, frames, push_frame, read_index, split_frames};
pub use head::{Head, HeadError};
pub use messages::*;
pub use problem::{Code, Problem};
pub use rights::{Right, SessionClaim, prove, public_key, verify_claim};

use cairn_model::{hex, unhex};
use data_encoding::BASE32_NOPAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// The only version of the interface.
pub const VERSION: u32 = 1;
/// Every answer of a relay carries it: whatever does not is not a relay (a captive portal, a proxy).
pub const MARK_HEADER: &str = "cairn-relay";
/// The head of a log after what was asked, as [`Head`] prints.
pub const HEAD_HEADER: &str = "cairn-head";
/// Where a filtered index goes on.
pub const NEXT_HEADER: &str = "cairn-next";
/// The token of a log's session, where the authorization header carries an account's.
pub const SESSION_HEADER: &str = "cairn-session";
/// Chunks, each behind its length.
pub const FRAMES_TYPE: &str = "application/vnd.cairn.frames";
/// Names of chunks, 32 bytes each; of `has`, their first 16.
pub const NAMES_TYPE: &str = "application/vnd.cairn.names";

/// Names one project's log at a relay. Derived from the project; says nothing to others.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId(pub [u8; 16]);

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogId({self})")
    }
}

impl std::str::FromStr for LogId {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        fixed(text).map(LogId)
    }
}

fn fixed<const N: usize>(text: &str) -> Result<[u8; N], ()> {
    let lower = text.len() == 2 * N && !text.bytes().any(|b| b.is_ascii_uppercase());
    unhex(text).ok().filter(|_| lower).and_then(|b| b.try_into().ok()).ok_or(())
}

impl Serialize for LogId {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LogId {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        text.parse().map_err(|()| serde::de::Error::custom("32 hexadecimal digits expected"))
    }
}

/// Bytes that travel as lower-case hexadecimal digits, exactly `N` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hex<const N: usize>(pub [u8; N]);

impl<const N: usize> Serialize for Hex<N> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&hex(&self.0))
    }
}

impl<'de, const N: usize> Deserialize<'de> for Hex<N> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        fixed(&text).map(Hex).map_err(|()| serde::de::Error::custom(format!("{} hexadecimal digits expected", 2 * N)))
    }
}

/// Sealed bytes of any length, as lower-case hexadecimal digits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sealed(pub Vec<u8>);

impl Serialize for Sealed {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for Sealed {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        unhex(&text).map(Sealed).map_err(|_| serde::de::Error::custom("hexadecimal digits expected"))
    }
}

/// Bytes of a pin: enough that no other key is found for it.
const PIN_BYTES: usize = 20;

/// The pin of a key by which a relay with a self-made certificate is known: 32 letters and digits, made from the DER of its
/// SubjectPublicKeyInfo.
pub fn pin(public_key_info: &[u8]) -> String {
    let full = blake3::derive_key("cairn relay pin v1", public_key_info);
    BASE32_NOPAD.encode(&full[..PIN_BYTES]).to_lowercase()
}
