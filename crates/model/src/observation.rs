//! An observation as people see it, read from a document's state.

use crate::{ConfigurationVersion, Dataset, DocId, DocState, Instant, ObservationRef, Place, Shape, Value, ValueRef};
use std::collections::BTreeMap;

/// What stands in a field.
#[derive(Clone, Debug, PartialEq)]
pub enum FieldValue {
    /// One value.
    One(Value),
    /// The options chosen, in byte order.
    Several(Vec<String>),
}

/// The shown side of an observation; concurrent values are read from [`DocState::values`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observation {
    /// Category id; `uncategorised` where none is set.
    pub category: String,
    /// As written, RFC 3339.
    pub at: Option<String>,
    /// Position; of a track or an area its first.
    pub place: Option<Place>,
    /// A track or an area.
    pub shape: Option<Shape>,
    /// Note.
    pub note: Option<String>,
    /// Fields by id.
    pub fields: BTreeMap<String, FieldValue>,
    /// Deleted: neither listed nor counted.
    pub deleted: bool,
    /// The table of rows it came from.
    pub dataset: Option<Dataset>,
    /// What it was made with.
    pub made_with: Option<ConfigurationVersion>,
    /// Others that look like it and are meant as well.
    pub both: Vec<DocId>,
    /// Its content was taken away.
    pub purged: bool,
}

impl Observation {
    /// Reads the shown values. A value of the wrong type reads as absent here and stays in the document.
    pub fn read(state: &DocState) -> Self {
        Self::of_shown(state.shown().map(|(key, value)| (key, value.borrowed())))
    }

    /// The same of keys in byte order with their shown values.
    pub fn of_shown<'a>(keys: impl Iterator<Item = (&'a str, ValueRef<'a>)>) -> Self {
        ObservationRef::of_shown(keys).owned()
    }

    /// When it was, in milliseconds since 1970; `None` where unknown or not a time.
    pub fn unix_ms(&self) -> Option<i64> {
        Instant::parse(self.at.as_deref()?).ok().map(|i| i.unix_ms())
    }

    /// The options chosen in a field, empty for other fields.
    pub fn chosen(&self, field: &str) -> &[String] {
        match self.fields.get(field) {
            Some(FieldValue::Several(options)) => options,
            _ => &[],
        }
    }
}

impl FieldValue {
    /// `true` if `text` is the value, or one of the options chosen.
    pub fn matches(&self, text: &str) -> bool {
        match self {
            FieldValue::One(value) => value.display() == text,
            FieldValue::Several(options) => options.iter().any(|o| o == text),
        }
    }

    /// For people and CSV cells; options joined by `;`.
    pub fn display(&self) -> String {
        match self {
            FieldValue::One(value) => value.display(),
            FieldValue::Several(options) => options.join(";"),
        }
    }
}
