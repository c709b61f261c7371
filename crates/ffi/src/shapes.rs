//! What goes over the border.

use cairn_node::Reply;
use serde_json::Value;
use std::collections::HashMap;

/// An observation to record. What is absent is unknown; the time is now.
#[derive(Clone, Debug, Default, uniffi::Record)]
pub struct NewObservation {
    /// Category id.
    pub category: Option<String>,
    /// Degrees.
    pub lat: Option<f64>,
    /// Degrees.
    pub lon: Option<f64>,
    /// Radius in metres within which the position is right.
    pub uncertainty: Option<f64>,
    /// RFC 3339.
    pub time: Option<String>,
    /// Note.
    pub note: Option<String>,
    /// Field -> value; several options of one field with `;` between.
    pub fields: HashMap<String, String>,
}

/// An observation as people see it.
#[derive(Clone, Debug, PartialEq, uniffi::Record)]
pub struct Seen {
    /// Its id, 32 hex digits.
    pub id: String,
    /// Category id.
    pub category: String,
    /// Degrees.
    pub lat: Option<f64>,
    /// Degrees.
    pub lon: Option<f64>,
    /// As written, RFC 3339.
    pub time: Option<String>,
    /// Note.
    pub note: Option<String>,
    /// Field -> value, several options with `;` between.
    pub fields: HashMap<String, String>,
    /// Deleted: listed only if asked for.
    pub deleted: bool,
    /// Fields that several people set without seeing each other.
    pub conflicts: u32,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, uniffi::Record)]
pub struct Answer {
    /// What the verb gives, as JSON.
    pub data: String,
    /// What people should know.
    pub warnings: Vec<String>,
    /// 0 done, 3 partly, 4 nobody reached, 7 findings, 9 nothing to do: as `cairn --help` lists them.
    pub code: u8,
}

/// Is told how far long work is.
#[uniffi::export(foreign)]
pub trait Progress: Send + Sync {
    /// `planned` only grows; 0 while nothing is known. What fails in it does not stop the work. It is called on the thread that works: it must
    /// not ask this device anything.
    fn on_progress(&self, done: u64, planned: u64, bytes: u64) -> Result<(), crate::CairnError>;
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        Answer { data: reply.data.to_string(), warnings: reply.warnings, code: reply.code }
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Array(items) => Some(items.iter().filter_map(text).collect::<Vec<_>>().join(";")),
        other => Some(other.to_string()),
    }
}

impl Seen {
    /// Of an observation as `list` gives it.
    pub(crate) fn of(o: &Value) -> Self {
        let fields = o["fields"].as_object().into_iter().flatten().filter_map(|(name, value)| Some((name.clone(), text(value)?)));
        Seen {
            id: text(&o["id"]).unwrap_or_default(),
            category: text(&o["category"]).unwrap_or_default(),
            lat: o["lat"].as_f64(),
            lon: o["lon"].as_f64(),
            time: text(&o["time"]),
            note: text(&o["note"]),
            fields: fields.collect(),
            deleted: o["deleted"] == true,
            conflicts: o["conflicts"].as_array().map_or(0, |c| c.len() as u32),
        }
    }
}

impl NewObservation {
    /// A position is both numbers or none.
    pub(crate) fn position(&self) -> Result<Option<String>, crate::CairnError> {
        match (self.lat, self.lon) {
            (Some(lat), Some(lon)) => Ok(Some(format!("{lat},{lon}"))),
            (None, None) => Ok(None),
            _ => Err(crate::error::input("a position is a latitude and a longitude: one of them is missing")),
        }
    }
}
