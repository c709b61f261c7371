//! A document's row looked at where it lies: what is shown, without building the row. Rows with concurrent values are read in full.

use crate::StoreError;
use crate::docs::{ChangeRef, DocRow};
use crate::tables::from_bytes;
use cairn_model::{ActorId, ChangeHash, DocId, DocKind, ObservationRef, Value, ValueRef};
use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use std::marker::PhantomData;

/// The same shape as [`DocRow`], so that it reads the same bytes.
#[derive(Deserialize)]
struct RowRef<'a> {
    kind: DocKind,
    id: DocId,
    #[serde(rename = "applied")]
    _applied: Passed<ChangeRef>,
    #[serde(rename = "waiting")]
    _waiting: Passed<ChangeRef>,
    creator: Option<(ChangeHash, u32)>,
    #[serde(borrow)]
    state: StateRef<'a>,
}

#[derive(Deserialize)]
struct StateRef<'a> {
    #[serde(rename = "actors")]
    _actors: Passed<(ActorId, u32)>,
    #[serde(rename = "max_op")]
    _max_op: u32,
    #[serde(rename = "heads")]
    _heads: Passed<ChangeHash>,
    #[serde(borrow)]
    keys: Keys<'a>,
}

#[derive(Deserialize)]
struct OpRef<'a> {
    #[serde(rename = "counter")]
    _counter: u32,
    #[serde(rename = "actor")]
    _actor: u16,
    #[serde(borrow)]
    value: ValueRef<'a>,
}

/// A list that is read over.
struct Passed<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Passed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Over<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Over<T> {
            type Value = Passed<T>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Passed<T>, A::Error> {
                while seq.next_element::<T>()?.is_some() {}
                Ok(Passed(PhantomData))
            }
        }
        deserializer.deserialize_seq(Over(PhantomData))
    }
}

/// The keys with what is shown of them, and whether one has several live operations.
struct Keys<'a> {
    shown: Vec<(&'a str, ValueRef<'a>)>,
    contested: bool,
}

impl<'de: 'a, 'a> Deserialize<'de> for Keys<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Keys<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("keys")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Keys<'de>, A::Error> {
                // A length that lies must not ask for memory.
                let mut keys = Keys { shown: Vec::with_capacity(seq.size_hint().unwrap_or(0).min(64)), contested: false };
                while let Some((key, live)) = seq.next_element::<(&str, Live<'de>)>()? {
                    keys.contested |= live.several;
                    keys.shown.extend(live.first.map(|value| (key, value)));
                }
                Ok(keys)
            }
        }
        deserializer.deserialize_seq(Pairs)
    }
}

/// The live operations of one key: the first, and whether there are others.
struct Live<'a> {
    first: Option<ValueRef<'a>>,
    several: bool,
}

impl<'de: 'a, 'a> Deserialize<'de> for Live<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Ops;
        impl<'de> Visitor<'de> for Ops {
            type Value = Live<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("operations")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Live<'de>, A::Error> {
                let first = seq.next_element::<OpRef<'de>>()?.map(|op| op.value);
                let mut several = false;
                while seq.next_element::<OpRef<'de>>()?.is_some() {
                    several = true;
                }
                Ok(Live { first, several })
            }
        }
        deserializer.deserialize_seq(Ops)
    }
}

/// What is shown of a row.
pub(crate) enum Glimpse<'a> {
    /// Every key has one value: kind, id, chain of its creator, keys.
    Plain(DocKind, DocId, Option<u32>, Vec<(&'a str, ValueRef<'a>)>),
    /// Some have several.
    Contested(Box<DocRow>),
}

impl<'a> Glimpse<'a> {
    pub fn of(bytes: &'a [u8]) -> Result<Self, StoreError> {
        let row: RowRef<'a> = from_bytes(bytes, "document")?;
        if row.state.keys.contested {
            return Ok(Self::Contested(Box::new(from_bytes(bytes, "document")?)));
        }
        Ok(Self::Plain(row.kind, row.id, row.creator.map(|(_, chain)| chain), row.state.keys.shown))
    }

    pub fn kind(&self) -> DocKind {
        match self {
            Self::Plain(kind, ..) => *kind,
            Self::Contested(row) => row.kind,
        }
    }

    pub fn id(&self) -> DocId {
        match self {
            Self::Plain(_, id, ..) => *id,
            Self::Contested(row) => row.id,
        }
    }

    /// The chain of whoever created it.
    pub fn creator(&self) -> Option<u32> {
        match self {
            Self::Plain(_, _, creator, _) => *creator,
            Self::Contested(row) => row.creator.map(|(_, chain)| chain),
        }
    }

    /// The shown value of one key.
    pub fn get(&self, key: &str) -> Option<ValueRef<'_>> {
        match self {
            Self::Plain(.., keys) => keys.binary_search_by(|(k, _)| (*k).cmp(key)).ok().map(|n| keys[n].1),
            Self::Contested(row) => row.state.get(key).map(Value::borrowed),
        }
    }

    pub fn is_deleted(&self) -> bool {
        self.get("deleted") == Some(ValueRef::Bool(true))
    }

    pub fn is_empty(&self) -> bool {
        match self {
            Self::Plain(.., keys) => keys.is_empty(),
            Self::Contested(row) => row.state.is_empty(),
        }
    }

    pub fn observation(&self) -> ObservationRef<'_> {
        match self {
            Self::Plain(.., keys) => ObservationRef::of_shown(keys.iter().copied()),
            Self::Contested(row) => ObservationRef::of_shown(row.state.shown().map(|(key, value)| (key, value.borrowed()))),
        }
    }

    /// Every key with its shown value.
    pub fn each(&self, see: &mut dyn FnMut(&str, ValueRef<'_>)) {
        match self {
            Self::Plain(.., keys) => keys.iter().for_each(|(key, value)| see(key, *value)),
            Self::Contested(row) => row.state.shown().for_each(|(key, value)| see(key, value.borrowed())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::to_bytes;
    use cairn_model::{Change, DocState, Observation};

    #[test]
    fn a_glimpse_shows_what_the_row_shows() {
        let values = [
            ("at", Value::from("2026-01-01T00:00:00Z")),
            ("f.a", Value::Integer(-3)),
            ("f.b", Value::Decimal(1.5)),
            ("f.c", Value::Bool(true)),
            ("made-with", Value::Bytes(vec![1, 2, 3])),
        ];
        let mut row = DocRow::new(DocKind::Observation, DocId([7; 16]));
        let wanted = values.iter().map(|(k, v)| ((*k).to_owned(), Some(v.clone()))).collect();
        let change = Change::parse(&DocState::default().edit(ActorId([1; 16]), 0, wanted).unwrap()).unwrap();
        let other =
            Change::parse(&DocState::default().edit(ActorId([2; 16]), 0, vec![("f.a".into(), Some(Value::Integer(4)))]).unwrap()).unwrap();
        row.state.apply(&change).unwrap();
        row.applied.push(ChangeRef::new(&change, 0, 1, 0));
        for contested in [false, true] {
            if contested {
                row.state.apply(&other).unwrap();
            }
            let bytes = to_bytes(&row);
            let glimpse = Glimpse::of(&bytes).unwrap();
            assert_eq!(matches!(glimpse, Glimpse::Contested(_)), contested);
            assert_eq!((glimpse.id(), glimpse.observation().owned()), (row.id, Observation::read(&row.state)));
            for (key, _) in &values {
                assert_eq!(glimpse.get(key).map(ValueRef::owned).as_ref(), row.state.get(key));
            }
        }
    }
}
