//! Identifiers: fixed-size bytes, printed as lower-case hex in full, typed as any unambiguous beginning.

use std::fmt;
use unicode_normalization::UnicodeNormalization;

/// Why a typed identifier was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// A character that is not a hexadecimal digit, or an odd number of them.
    #[error("`{0}` is not an id: ids are written with the digits 0-9 and a-f")]
    NotHex(String),
    /// The wrong number of bytes.
    #[error("an id of {expected} bytes was expected, {got} were given")]
    Length {
        /// How many bytes the id has.
        expected: usize,
        /// How many were given.
        got: usize,
    },
}

/// Lower-case hex of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

/// The bytes behind a string of hex digits, in either case.
pub fn unhex(text: &str) -> Result<Vec<u8>, IdError> {
    data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).map_err(|_| IdError::NotHex(text.to_owned()))
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Number of bytes.
            pub const LEN: usize = $len;

            /// From a slice of exactly the right length.
            pub fn from_slice(bytes: &[u8]) -> Result<Self, IdError> {
                let array = bytes.try_into().map_err(|_| IdError::Length { expected: $len, got: bytes.len() })?;
                Ok(Self(array))
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex(&self.0))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), &hex(&self.0)[..8])
            }
        }
        impl std::str::FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::from_slice(&unhex(text)?)
            }
        }
    };
}

id!(
    /// One installation: its Ed25519 public key.
    DeviceId, 32
);
id!(
    /// The group of devices that share data: hash of its genesis entry.
    ProjectId, 32
);
id!(
    /// One device's hash-chained sequence of batches.
    FeedId, 16
);
id!(
    /// One document (observation or configuration).
    DocId, 16
);
id!(
    /// One act of a person.
    UnitId, 16
);
id!(
    /// A carrier's name for a chunk: BLAKE3 of its bytes.
    ChunkHash, 32
);

impl ChunkHash {
    /// Hash of the bytes as carried.
    pub fn of(chunk: &[u8]) -> Self {
        Self(*blake3::hash(chunk).as_bytes())
    }

    /// The first 16 bytes: enough to tell the chunks of one mailbox apart.
    pub fn short(&self) -> [u8; 16] {
        let mut short = [0; 16];
        short.copy_from_slice(&self.0[..16]);
        short
    }
}

impl DeviceId {
    /// The first 8 bytes: names a device among those of one project.
    pub fn short(&self) -> [u8; 8] {
        let mut short = [0; 8];
        short.copy_from_slice(&self.0[..8]);
        short
    }

    /// Six groups of five digits for people to compare, in any script and by voice: some 99 bits.
    pub fn digits(&self) -> String {
        let mut hasher = blake3::Hasher::new_derive_key("cairn device digits v1");
        hasher.update(&self.0);
        let mut bytes = [0; 48];
        hasher.finalize_xof().fill(&mut bytes);
        let (groups, _) = bytes.as_chunks::<8>();
        groups.iter().map(|g| format!("{:05}", u64::from_le_bytes(*g) % 100_000)).collect::<Vec<_>>().join("-")
    }
}

/// What a document holds. The numbers are part of format 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
#[repr(u8)]
pub enum DocKind {
    /// A geo-located, categorised record.
    Observation = 1,
    /// Categories, fields and their names.
    Configuration = 2,
}

impl DocKind {
    /// The kind behind a format number; `None` for one this version does not know.
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Observation),
            2 => Some(Self::Configuration),
            _ => None,
        }
    }
}

/// The id of a row that has an identifier: the same row imported on two offline devices is one observation.
///
/// `keys` are the texts of the identifying columns, in the order of the job. They are NFC-normalised and
/// outer white space is removed; nothing else is changed, so `00M` and `0M` stay different.
pub fn import_identity(project: &ProjectId, dataset: &str, keys: &[&str]) -> DocId {
    let mut hasher = blake3::Hasher::new_derive_key("cairn observation id v1");
    hasher.update(&project.0);
    for text in std::iter::once(&dataset).chain(keys) {
        let normal: String = text.trim().nfc().collect();
        hasher.update(&(normal.len() as u64).to_le_bytes());
        hasher.update(normal.as_bytes());
    }
    let mut id = [0; 16];
    id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    DocId(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_print_in_full_and_parse_back() {
        let id = DocId([0xab; 16]);
        assert_eq!(id.to_string().parse::<DocId>(), Ok(id));
        assert!(matches!("xyz".parse::<DocId>(), Err(IdError::NotHex(_))));
        assert!(matches!("abcd".parse::<DocId>(), Err(IdError::Length { got: 2, .. })));
    }

    #[test]
    fn import_identity_ignores_only_outer_space_and_normal_form() {
        let p = ProjectId([7; 32]);
        let id = |k: &str| import_identity(&p, "d", &[k]);
        assert_eq!(id(" e\u{301}1 "), id("\u{e9}1"));
        assert_ne!(id("00M"), id("0M"));
        assert_ne!(import_identity(&p, "d", &["ab", "c"]), import_identity(&p, "d", &["a", "bc"]));
    }
}
