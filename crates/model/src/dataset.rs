//! What programs note beside an observation: the table its row came from, and the configuration it was made with.

use crate::{ChangeHash, escape, unescape};
use unicode_normalization::UnicodeNormalization;

/// A table of rows that people import again and again, with the columns that identify a row in it.
///
/// In a document: the escaped name and columns with blanks between, one scalar, so that both change together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dataset {
    /// Its name.
    pub name: String,
    /// The identifying columns, in their order.
    pub key: Vec<String>,
}

impl Dataset {
    /// NFC without outer white space, as identities are made (see [`crate::import_identity`]).
    pub fn new(name: &str, key: &[String]) -> Self {
        let normal = |t: &str| t.trim().nfc().collect::<String>();
        Self { name: normal(name), key: key.iter().map(|k| normal(k)).collect() }
    }

    /// As it stands in a document.
    pub fn encode(&self) -> String {
        let parts = std::iter::once(&self.name).chain(&self.key);
        parts.map(|p| escape(p)).collect::<Vec<_>>().join(" ")
    }

    /// Reads it; `None` for what follows another rule.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(' ').map(unescape);
        let name = parts.next()??;
        Some(Self { name, key: parts.collect::<Option<_>>()? })
    }
}

/// Which version of a configuration document: the beginnings (8 bytes) of its heads, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ConfigurationVersion(pub Vec<u8>);

/// Heads named at most: more are named by the first ones.
const HEADS: usize = 4;

impl ConfigurationVersion {
    /// Of a document with these heads, sorted.
    pub fn of(heads: &[ChangeHash]) -> Self {
        Self(heads.iter().take(HEADS).flat_map(|h| h.0[..8].to_vec()).collect())
    }
}

impl std::fmt::Display for ConfigurationVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&crate::hex(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dataset_survives_its_text() {
        let set = Dataset::new(" Nest boxes ", &["Box No.".into(), "čas".into()]);
        assert_eq!(set.encode(), "Nest%20boxes Box%20No%2E %C4%8Das");
        assert_eq!(Dataset::parse(&set.encode()), Some(set));
        assert_eq!(Dataset::parse("a b/c"), None);
    }
}
