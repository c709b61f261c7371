//! An observation where it lies: what [`Observation`] shows, borrowed, for walks through a whole project.

use crate::key::KeyRef;
use crate::{ConfigurationVersion, Dataset, DocId, FieldValue, Observation, Place, Shape, UNCATEGORISED, ValueRef};
use std::borrow::Cow;

/// What stands in a field, borrowed.
#[derive(Clone, Debug, PartialEq)]
pub enum FieldRef<'a> {
    /// One value.
    One(ValueRef<'a>),
    /// The options chosen, in byte order.
    Several(Vec<Cow<'a, str>>),
}

impl FieldRef<'_> {
    /// As [`FieldValue::display`].
    pub fn display(&self) -> String {
        match self {
            FieldRef::One(value) => value.display(),
            FieldRef::Several(options) => options.join(";"),
        }
    }

    /// The same, owned.
    pub fn owned(&self) -> FieldValue {
        match self {
            FieldRef::One(value) => FieldValue::One(value.owned()),
            FieldRef::Several(options) => FieldValue::Several(options.iter().map(|o| o.to_string()).collect()),
        }
    }
}

/// The shown side of an observation, borrowed from its row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObservationRef<'a> {
    /// Category id; `uncategorised` where none is set.
    pub category: &'a str,
    /// As written, RFC 3339.
    pub at: Option<&'a str>,
    /// Position; of a track or an area its first.
    pub place: Option<Place>,
    /// A track or an area.
    pub shape: Option<Cow<'a, Shape>>,
    /// Note.
    pub note: Option<&'a str>,
    /// Fields by id, in its order.
    pub fields: Vec<(Cow<'a, str>, FieldRef<'a>)>,
    /// Deleted: neither listed nor counted.
    pub deleted: bool,
    dataset: Option<Cow<'a, str>>,
    made_with: Option<&'a [u8]>,
    /// Others that look like it and are meant as well.
    pub both: Vec<DocId>,
    /// Its content was taken away.
    pub purged: bool,
}

impl<'a> ObservationRef<'a> {
    /// Of keys in byte order with their shown values. A value of the wrong type reads as absent.
    pub fn of_shown(keys: impl Iterator<Item = (&'a str, ValueRef<'a>)>) -> Self {
        let mut seen = Self { category: UNCATEGORISED, fields: Vec::with_capacity(keys.size_hint().0), ..Self::default() };
        for (raw, value) in keys {
            seen.read_key(KeyRef::of(raw), value);
        }
        if seen.purged {
            // Whatever was written without having seen it: what was taken away stays away.
            return Self { category: seen.category, deleted: true, purged: true, ..Self::default() };
        }
        // Escaped keys and options (`o.` after `f.`) come in another order than their fields.
        if !seen.fields.is_sorted_by(|(a, _), (b, _)| a < b) {
            seen.join_fields();
        }
        seen
    }

    fn read_key(&mut self, key: KeyRef<'a>, value: ValueRef<'a>) {
        let text = match value {
            ValueRef::Text(text) => Some(text),
            _ => None,
        };
        match key {
            KeyRef::Category => self.category = text.unwrap_or(self.category),
            KeyRef::At => self.at = text,
            KeyRef::Where => self.read_where(value),
            KeyRef::Note => self.note = text,
            KeyRef::Deleted => self.deleted = value == ValueRef::Bool(true),
            KeyRef::Field(id) => self.fields.push((id, FieldRef::One(value))),
            KeyRef::Choice(id, option) => self.fields.push((id, FieldRef::Several(vec![option]))),
            KeyRef::Dataset => self.dataset = text.map(Cow::Borrowed),
            KeyRef::MadeWith => {
                if let ValueRef::Bytes(heads) = value {
                    self.made_with = Some(heads);
                }
            }
            KeyRef::Both(id) if value == ValueRef::Bool(true) => self.both.push(id),
            KeyRef::Purged => self.purged = value == ValueRef::Bool(true),
            KeyRef::Both(_) | KeyRef::Other => {}
        }
    }

    fn read_where(&mut self, value: ValueRef<'_>) {
        match value {
            ValueRef::Text(geo) => self.place = Place::from_geo(geo).ok(),
            ValueRef::Bytes(wkb) => {
                self.shape = Shape::from_wkb(wkb).ok().map(Cow::Owned);
                self.place = self.shape.as_ref().and_then(|s| s.first()).map(|c| c.place());
            }
            _ => {}
        }
    }

    // Where a field has both a single value and options, the value is shown and the options are listed as a conflict: the sort
    // is stable, and values came first.
    fn join_fields(&mut self) {
        self.fields.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut out: Vec<(Cow<'a, str>, FieldRef<'a>)> = Vec::with_capacity(self.fields.len());
        for (id, value) in self.fields.drain(..) {
            match (out.last_mut().filter(|(last, _)| *last == id), value) {
                (None, value) => out.push((id, value)),
                (Some((_, FieldRef::Several(options))), FieldRef::Several(more)) => options.extend(more),
                (Some(_), _) => {}
            }
        }
        self.fields = out;
    }

    /// The value of a field.
    pub fn field(&self, id: &str) -> Option<&FieldRef<'a>> {
        self.fields.binary_search_by(|(f, _)| (**f).cmp(id)).ok().map(|n| &self.fields[n].1)
    }

    /// The same, owned.
    pub fn owned(&self) -> Observation {
        Observation {
            category: self.category.to_owned(),
            at: self.at.map(str::to_owned),
            place: self.place,
            shape: self.shape.as_deref().cloned(),
            note: self.note.map(str::to_owned),
            fields: self.fields.iter().map(|(id, value)| (id.to_string(), value.owned())).collect(),
            deleted: self.deleted,
            dataset: self.dataset.as_deref().and_then(Dataset::parse),
            made_with: self.made_with.map(|heads| ConfigurationVersion(heads.to_vec())),
            both: self.both.clone(),
            purged: self.purged,
        }
    }
}

impl<'a> From<&'a Observation> for ObservationRef<'a> {
    fn from(seen: &'a Observation) -> Self {
        let field = |value: &'a FieldValue| match value {
            FieldValue::One(value) => FieldRef::One(value.borrowed()),
            FieldValue::Several(options) => FieldRef::Several(options.iter().map(|o| Cow::Borrowed(o.as_str())).collect()),
        };
        Self {
            category: &seen.category,
            at: seen.at.as_deref(),
            place: seen.place,
            shape: seen.shape.as_ref().map(Cow::Borrowed),
            note: seen.note.as_deref(),
            fields: seen.fields.iter().map(|(id, value)| (Cow::Borrowed(id.as_str()), field(value))).collect(),
            deleted: seen.deleted,
            dataset: seen.dataset.as_ref().map(|d| Cow::Owned(d.encode())),
            made_with: seen.made_with.as_ref().map(|v| v.0.as_slice()),
            both: seen.both.clone(),
            purged: seen.purged,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DocKey, Value};

    #[test]
    fn borrowed_and_owned_say_the_same() {
        let field = |f: &str| DocKey::Field(f.into()).encode();
        let option = |f: &str, o: &str| DocKey::Choice(f.into(), o.into()).encode();
        let mut keys = vec![
            ("at".to_owned(), Value::from("2026-01-02T03:04:05Z")),
            ("category".into(), Value::from("nest")),
            ("dataset".into(), Value::from("Boxes No")),
            (field("a b"), Value::Integer(4)),
            (field("a_"), Value::Decimal(0.5)),
            (field("both"), Value::from("single")),
            ("made-with".into(), Value::Bytes(vec![1, 2])),
            ("note".into(), Value::from("n")),
            (option("a c", "z"), Value::Bool(true)),
            (option("a c", "x y"), Value::Bool(true)),
            (option("both", "x"), Value::Bool(true)),
            ("where".into(), Value::from("geo:1,2")),
            ("x.new".into(), Value::Bool(true)),
        ];
        keys.sort_by(|a, b| a.0.cmp(&b.0));
        let lies = ObservationRef::of_shown(keys.iter().map(|(k, v)| (k.as_str(), v.borrowed())));
        let owned = lies.owned();
        assert_eq!(ObservationRef::from(&owned), lies);
        let names: Vec<&str> = lies.fields.iter().map(|(f, _)| &**f).collect();
        assert_eq!(names, ["a b", "a c", "a_", "both"]);
        assert_eq!(lies.field("both").unwrap().display(), "single");
        assert_eq!(owned.chosen("a c"), ["x y".to_owned(), "z".into()]);
        assert_eq!((owned.category.as_str(), owned.dataset.map(|d| d.key)), ("nest", Some(vec!["No".into()])));
    }
}
