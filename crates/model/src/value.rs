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

impl Value {
    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(t) => Some(t),
            _ => None,
        }
    }

    /// For people and CSV cells: `true`/`false`, shortest decimal that reads back equal, hex for bytes.
    pub fn display(&self) -> String {
        match self {
            Value::Text(t) => t.clone(),
            Value::Integer(i) => i.to_string(),
            Value::Decimal(d) => d.to_string(),
            Value::Bool(b) => b.to_string(),
            Value::Bytes(b) => crate::hex(b),
            Value::Unknown(name) => format!("({name})"),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Text(text.to_owned())
    }
}
