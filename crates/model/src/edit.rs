//! What a person changes about an observation, checked against the configuration before it becomes a change.

use crate::{Configuration, DocKey, FieldType, Instant, Place, Shape, TypedFault, UNCATEGORISED, Value, limits};

/// Wanted values by document key; later calls on the same key win.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Edit {
    wanted: Vec<(String, Option<Value>)>,
}

/// Why an edit was refused. Nothing of it is kept.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EditError {
    /// The configuration has no such category.
    #[error("there is no category `{id}`; the configuration has: {known}")]
    Category {
        /// What was asked for.
        id: String,
        /// Ids there are, comma-separated.
        known: String,
    },
    /// The value does not fit the field's type.
    #[error("field `{field}`: {fault}")]
    Field {
        /// The field's id.
        field: String,
        /// What is wrong with the value.
        fault: TypedFault,
    },
    /// Past a limit of [`crate::limits`].
    #[error("`{key}` has {bytes} bytes; at most {most} are allowed")]
    Size {
        /// The key.
        key: String,
        /// Bytes given.
        bytes: usize,
        /// Bytes allowed.
        most: usize,
    },
}

impl Edit {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets or (with `None`) removes one key.
    pub fn set(&mut self, key: &DocKey, value: Option<Value>) -> &mut Self {
        let key = key.encode();
        match self.wanted.iter_mut().find(|(k, _)| *k == key) {
            Some(slot) => slot.1 = value,
            None => self.wanted.push((key, value)),
        }
        self
    }

    /// The category; it must exist unless no configuration has arrived yet.
    pub fn category(&mut self, id: &str, configuration: Option<&Configuration>) -> Result<&mut Self, EditError> {
        if let Some(known) = configuration
            && id != UNCATEGORISED
            && known.category(id).is_none()
        {
            let ids: Vec<&str> = known.categories.iter().map(|c| c.id.as_str()).collect();
            return Err(EditError::Category { id: id.to_owned(), known: ids.join(", ") });
        }
        Ok(self.set(&DocKey::Category, Some(Value::from(id))))
    }

    /// Where it was.
    pub fn place(&mut self, place: Place) -> &mut Self {
        self.set(&DocKey::Where, Some(Value::Text(place.to_geo())))
    }

    /// The track or area it was; a single point is kept as a position.
    pub fn shape(&mut self, shape: &Shape) -> &mut Self {
        match shape {
            Shape::Point(c) => self.place(c.place()),
            other => self.set(&DocKey::Where, Some(Value::Bytes(other.to_wkb()))),
        }
    }

    /// When it was.
    pub fn at(&mut self, instant: Instant) -> &mut Self {
        self.set(&DocKey::At, Some(Value::Text(instant.to_rfc3339())))
    }

    /// A note; an empty one removes it.
    pub fn note(&mut self, text: &str) -> &mut Self {
        self.set(&DocKey::Note, (!text.is_empty()).then(|| Value::from(text)))
    }

    /// Deletes, or with `false` takes the deletion back.
    pub fn deleted(&mut self, deleted: bool) -> &mut Self {
        self.set(&DocKey::Deleted, deleted.then_some(Value::Bool(true)))
    }

    /// One field from its text. A field the configuration does not have is kept as text. For a field of which several
    /// may be chosen, `text` is a `;`-separated list that replaces what was chosen in `chosen_before`.
    pub fn field(
        &mut self,
        id: &str,
        text: &str,
        configuration: Option<&Configuration>,
        chosen_before: &[String],
    ) -> Result<&mut Self, EditError> {
        let kind = configuration.and_then(|c| c.field(id)).map(|f| &f.kind);
        let refused = |fault| EditError::Field { field: id.to_owned(), fault };
        match kind {
            Some(FieldType::SeveralOf(choices)) => {
                let picked = FieldType::pick_several(choices, text).map_err(refused)?;
                for gone in chosen_before.iter().filter(|o| !picked.contains(o)) {
                    self.set(&DocKey::Choice(id.to_owned(), gone.clone()), None);
                }
                for option in picked {
                    self.set(&DocKey::Choice(id.to_owned(), option), Some(Value::Bool(true)));
                }
                Ok(self)
            }
            Some(kind) => {
                let value = kind.parse(text).map_err(refused)?;
                Ok(self.set(&DocKey::Field(id.to_owned()), Some(value)))
            }
            None => Ok(self.set(&DocKey::Field(id.to_owned()), Some(Value::from(text)))),
        }
    }

    /// Removes a field and everything chosen in it.
    pub fn unset(&mut self, id: &str, chosen_before: &[String]) -> &mut Self {
        self.set(&DocKey::Field(id.to_owned()), None);
        for option in chosen_before {
            self.set(&DocKey::Choice(id.to_owned(), option.clone()), None);
        }
        self
    }

    /// `true` if nothing was set.
    pub fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }

    /// The wanted keys, once every size is checked.
    pub fn into_wanted(self) -> Result<Vec<(String, Option<Value>)>, EditError> {
        check_sizes(&self.wanted)?;
        Ok(self.wanted)
    }
}

/// Checks the sizes of wanted keys and values against [`crate::limits`].
pub fn check_sizes(wanted: &[(String, Option<Value>)]) -> Result<(), EditError> {
    for (key, value) in wanted {
        let bytes = match value {
            Some(Value::Text(t)) => t.len(),
            Some(Value::Bytes(b)) => b.len(),
            _ => 0,
        };
        for (size, most) in [(bytes, limits::FIELD_VALUE_BYTES), (key.len(), limits::KEY_BYTES)] {
            if size > most {
                return Err(EditError::Size { key: key.chars().take(60).collect(), bytes: size, most });
            }
        }
    }
    Ok(())
}
