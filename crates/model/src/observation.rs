//! An observation as people see it, read from a document's state.

use crate::{ConfigurationVersion, Dataset, DocKey, DocState, Instant, Place, Shape, UNCATEGORISED, Value, ValueRef};
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
}

impl Observation {
    /// Reads the shown values. A value of the wrong type reads as absent here and stays in the document.
    pub fn read(state: &DocState) -> Self {
        Self::of_shown(state.shown().map(|(key, value)| (key, value.borrowed())))
    }

    /// The same of keys in byte order with their shown values.
    pub fn of_shown<'a>(keys: impl Iterator<Item = (&'a str, ValueRef<'a>)>) -> Self {
        let mut seen = Self { category: UNCATEGORISED.to_owned(), ..Self::default() };
        for (raw, value) in keys {
            seen.read_key(DocKey::decode(raw), value);
        }
        seen
    }

    fn read_key(&mut self, key: DocKey, value: ValueRef<'_>) {
        let text = match value {
            ValueRef::Text(text) => Some(text),
            _ => None,
        };
        match key {
            DocKey::Category => {
                if let Some(id) = text {
                    id.clone_into(&mut self.category);
                }
            }
            DocKey::At => self.at = text.map(str::to_owned),
            DocKey::Where => self.read_where(value),
            DocKey::Note => self.note = text.map(str::to_owned),
            DocKey::Deleted => self.deleted = value == ValueRef::Bool(true),
            DocKey::Field(id) => {
                self.fields.entry(id).or_insert_with(|| FieldValue::One(value.owned()));
            }
            DocKey::Choice(id, option) => self.read_choice(id, option),
            DocKey::Dataset => self.dataset = text.and_then(Dataset::parse),
            DocKey::MadeWith => {
                if let ValueRef::Bytes(heads) = value {
                    self.made_with = Some(ConfigurationVersion(heads.to_vec()));
                }
            }
            DocKey::Other(_) => {}
        }
    }

    fn read_where(&mut self, value: ValueRef<'_>) {
        match value {
            ValueRef::Text(geo) => self.place = Place::from_geo(geo).ok(),
            ValueRef::Bytes(wkb) => {
                self.shape = Shape::from_wkb(wkb).ok();
                self.place = self.shape.as_ref().and_then(Shape::first).map(|c| c.place());
            }
            _ => {}
        }
    }

    // `o.` sorts after `f.`; where both exist the single value is shown and the options are listed as a conflict.
    fn read_choice(&mut self, id: String, option: String) {
        match self.fields.entry(id).or_insert_with(|| FieldValue::Several(Vec::new())) {
            FieldValue::Several(options) => options.push(option),
            FieldValue::One(_) => {}
        }
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
