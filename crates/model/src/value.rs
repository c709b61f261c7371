//! The scalar values a document key may hold.

use serde::{Deserialize, Serialize};

/// One scalar. Anything else in a document (objects, counters of newer versions) is kept but not interpreted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Value {
    /// Text, UTF-8.
    Text(String),
    /// Whole number.
    Integer(i64),
    /// Decimal number, as IEEE 754 double.
    Decimal(f64),
    /// Yes or no.
    Bool(bool),
    /// Raw bytes, such as a WKB track.
    Bytes(Vec<u8>),
    /// Something this version does not interpret; shown by its name only.
    Unknown(String),
}

/// A value where it lies, for looking at many documents.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub enum ValueRef<'a> {
    /// Text.
    Text(&'a str),
    /// Whole number.
    Integer(i64),
    /// Decimal number.
    Decimal(f64),
    /// Yes or no.
    Bool(bool),
    /// Raw bytes.
    Bytes(&'a [u8]),
    /// Not interpreted.
    Unknown(&'a str),
}

impl ValueRef<'_> {
    /// As [`Value::display`].
    pub fn display(self) -> String {
        match self {
            ValueRef::Text(t) => t.to_owned(),
            ValueRef::Integer(i) => i.to_string(),
            ValueRef::Decimal(d) => d.to_string(),
            ValueRef::Bool(b) => b.to_string(),
            ValueRef::Bytes(b) => crate::hex(b),
            ValueRef::Unknown(name) => format!("({name})"),
        }
    }

    /// The same, owned.
    pub fn owned(self) -> Value {
        match self {
            ValueRef::Text(t) => Value::Text(t.to_owned()),
            ValueRef::Integer(i) => Value::Integer(i),
            ValueRef::Decimal(d) => Value::Decimal(d),
            ValueRef::Bool(b) => Value::Bool(b),
            ValueRef::Bytes(b) => Value::Bytes(b.to_vec()),
            ValueRef::Unknown(n) => Value::Unknown(n.to_owned()),
        }
    }
}

impl Value {
    /// The value where it lies.
    pub fn borrowed(&self) -> ValueRef<'_> {
        match self {
            Value::Text(t) => ValueRef::Text(t),
            Value::Integer(i) => ValueRef::Integer(*i),
            Value::Decimal(d) => ValueRef::Decimal(*d),
            Value::Bool(b) => ValueRef::Bool(*b),
            Value::Bytes(b) => ValueRef::Bytes(b),
            Value::Unknown(n) => ValueRef::Unknown(n),
        }
    }

    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(t) => Some(t),
            _ => None,
        }
    }

    /// For people and CSV cells: `true`/`false`, shortest decimal that reads back equal, hex for bytes.
    pub fn display(&self) -> String {
        self.borrowed().display()
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Text(text.to_owned())
    }
}
