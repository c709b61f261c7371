//! Keys of a document. Flat, because two devices may create the same document independently and objects
//! created under one key would hide each other.

use crate::DocId;
use std::borrow::Cow;

/// The category every project knows.
pub const UNCATEGORISED: &str = "uncategorised";

/// A parsed key of an observation document.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DocKey {
    /// `category`
    Category,
    /// `at`: RFC 3339 text
    At,
    /// `where`: `geo:` URI text
    Where,
    /// `note`
    Note,
    /// `deleted`
    Deleted,
    /// `dataset`: the table of rows it came from, with the columns that identify a row there (see [`crate::Dataset`])
    Dataset,
    /// `made-with`: the version of the configuration it was made with (see [`crate::ConfigurationVersion`])
    MadeWith,
    /// `f.<field>`
    Field(String),
    /// `o.<field>.<option>` = true
    Choice(String, String),
    /// `b.<observation id>` = true: that one and this one look alike and are both meant
    Both(DocId),
    /// `purged` = true: its content was taken away; what the history keeps of it is not shown
    Purged,
    /// A key of a newer version, kept untouched.
    Other(String),
}

impl DocKey {
    /// The key as it stands in the document.
    pub fn encode(&self) -> String {
        match self {
            DocKey::Category => "category".into(),
            DocKey::At => "at".into(),
            DocKey::Where => "where".into(),
            DocKey::Note => "note".into(),
            DocKey::Deleted => "deleted".into(),
            DocKey::Dataset => "dataset".into(),
            DocKey::MadeWith => "made-with".into(),
            DocKey::Field(f) => format!("f.{}", escape(f)),
            DocKey::Choice(f, o) => format!("o.{}.{}", escape(f), escape(o)),
            DocKey::Both(id) => format!("b.{id}"),
            DocKey::Purged => "purged".into(),
            DocKey::Other(raw) => raw.clone(),
        }
    }

    /// Reads a key; one that does not follow the grammar is [`DocKey::Other`].
    pub fn decode(raw: &str) -> Self {
        match KeyRef::of(raw) {
            KeyRef::Category => DocKey::Category,
            KeyRef::At => DocKey::At,
            KeyRef::Where => DocKey::Where,
            KeyRef::Note => DocKey::Note,
            KeyRef::Deleted => DocKey::Deleted,
            KeyRef::Dataset => DocKey::Dataset,
            KeyRef::MadeWith => DocKey::MadeWith,
            KeyRef::Field(f) => DocKey::Field(f.into_owned()),
            KeyRef::Choice(f, o) => DocKey::Choice(f.into_owned(), o.into_owned()),
            KeyRef::Both(id) => DocKey::Both(id),
            KeyRef::Purged => DocKey::Purged,
            KeyRef::Other => DocKey::Other(raw.to_owned()),
        }
    }

    /// `true` for what programs note beside what people observed: two devices that noted it differently have nothing to settle.
    pub fn is_provenance(raw: &str) -> bool {
        matches!(raw, "dataset" | "made-with")
    }

    /// How people name it on the command line and in `conflicts`: the field's own id where it is one, with `field:` before it where
    /// that is the name of something every observation has.
    pub fn label(&self) -> String {
        match self {
            DocKey::Field(f) if is_taken(f) => format!("{FIELD}{f}"),
            DocKey::Field(f) => f.clone(),
            DocKey::Choice(f, o) => format!("{f}={o}"),
            DocKey::Both(id) => format!("both meant with {id}"),
            other => other.encode(),
        }
    }
}

/// Before the name of a field that would be taken for something else.
const FIELD: &str = "field:";

fn is_taken(field: &str) -> bool {
    field.starts_with(FIELD) || field.is_empty() || !matches!(KeyRef::of(field), KeyRef::Other)
}

/// The id of a field as people type it: `field:note` is the field `note`.
pub fn typed_field(name: &str) -> &str {
    name.strip_prefix(FIELD).unwrap_or(name)
}

/// A key where it lies, for looking at many documents.
pub(crate) enum KeyRef<'a> {
    Category,
    At,
    Where,
    Note,
    Deleted,
    Dataset,
    MadeWith,
    Field(Cow<'a, str>),
    Choice(Cow<'a, str>, Cow<'a, str>),
    Both(DocId),
    Purged,
    Other,
}

impl<'a> KeyRef<'a> {
    pub(crate) fn of(raw: &'a str) -> Self {
        if let Some(rest) = raw.strip_prefix("f.") {
            return unescaped(rest).map_or(KeyRef::Other, KeyRef::Field);
        }
        if let Some((field, option)) = raw.strip_prefix("o.").and_then(|r| r.split_once('.')) {
            return match (unescaped(field), unescaped(option)) {
                (Some(f), Some(o)) => KeyRef::Choice(f, o),
                _ => KeyRef::Other,
            };
        }
        if let Some(id) = raw.strip_prefix("b.") {
            // Written in one way only: two keys for one pair would never be taken away together.
            let plain = id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
            return id.parse().ok().filter(|_| plain).map_or(KeyRef::Other, KeyRef::Both);
        }
        match raw {
            "purged" => KeyRef::Purged,
            "category" => KeyRef::Category,
            "at" => KeyRef::At,
            "where" => KeyRef::Where,
            "note" => KeyRef::Note,
            "deleted" => KeyRef::Deleted,
            "dataset" => KeyRef::Dataset,
            "made-with" => KeyRef::MadeWith,
            _ => KeyRef::Other,
        }
    }
}

/// Escapes every byte outside `[A-Za-z0-9_-]` as `%XX`.
pub fn escape(id: &str) -> String {
    let mut out = String::with_capacity(id.len());
    for byte in id.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-' {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Undoes [`escape`]; `None` where the text is not an escaped id.
pub fn unescape(text: &str) -> Option<String> {
    unescaped(text).map(Cow::into_owned)
}

fn unescaped(text: &str) -> Option<Cow<'_, str>> {
    let bytes = text.as_bytes();
    let plain = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_' || *b == b'-';
    if bytes.iter().all(plain) {
        return Some(Cow::Borrowed(text));
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        match bytes[i] {
            b'%' => {
                let pair = bytes.get(i + 1..i + 3)?;
                out.push(*crate::unhex(std::str::from_utf8(pair).ok()?).ok()?.first()?);
                i += 3;
            }
            b if b.is_ascii_alphanumeric() || b == b'_' || b == b'-' => {
                out.push(b);
                i += 1;
            }
            _ => return None,
        }
    }
    String::from_utf8(out).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_keys_have_one_name() {
        let fields = ["note", "at", "f.x", "field:note", "deleted", "species", "time"].map(|f| DocKey::Field(f.into()));
        let own = [DocKey::Note, DocKey::At, DocKey::Deleted, DocKey::Where, DocKey::Category, DocKey::Purged];
        let names: std::collections::BTreeSet<String> = fields.iter().chain(&own).map(DocKey::label).collect();
        assert_eq!(names.len(), fields.len() + own.len(), "{names:?}");
        assert!(names.contains("species") && names.contains("time") && names.contains("field:note"));
    }

    #[test]
    fn keys_survive_odd_ids() {
        for id in ["species", "a.b/c", "čas 1", "%", ""] {
            for key in [DocKey::Field(id.into()), DocKey::Choice(id.into(), id.into())] {
                assert_eq!(DocKey::decode(&key.encode()), key);
            }
        }
        assert_eq!(DocKey::decode("f.a b"), DocKey::Other("f.a b".into()));
        for key in [DocKey::Both(DocId([0xab; 16])), DocKey::Purged] {
            assert_eq!(DocKey::decode(&key.encode()), key);
        }
        let loud = format!("b.{}", DocId([0xab; 16])).to_uppercase();
        assert_eq!(DocKey::decode(&loud.replacen('B', "b", 1)), DocKey::Other(loud.replacen('B', "b", 1)));
        assert_eq!(DocKey::decode("x.new"), DocKey::Other("x.new".into()));
    }
}
