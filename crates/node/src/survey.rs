//! What the rows of an export have, looked at before the first is written: formats with columns must know them all.

use crate::NodeError;
use crate::export::{Rounding, threads};
use cairn_formats::{Kinds, Survey};
use cairn_model::{DocKey, ValueRef};
use cairn_store::{KeyWalk, Store, StoreError, Walk};
use std::collections::HashMap;
use std::ops::Range;

/// Of the rows of a walk; `all` if these are all there are, which takes a look at their keys only.
pub(crate) fn survey(store: &Store, walk: &Walk<'_>, all: bool, coarse: Option<Rounding>) -> Result<Survey, NodeError> {
    let mut out = match all {
        true => of_keys(&store.key_walk()?)?,
        false => of_rows(walk)?,
    };
    if coarse.is_some() {
        (out.altitude, out.uncertainty, out.shapes) = (false, true, false);
    }
    Ok(out)
}

fn of_rows(walk: &Walk<'_>) -> Result<Survey, StoreError> {
    let mut out = Survey::default();
    walk.part(0..walk.rows(), &mut |_, seen| {
        out.rows += 1;
        for (name, value) in &seen.fields {
            match out.fields.get_mut(&**name) {
                Some(kinds) => kinds.add(value),
                None => out.fields.entry(name.to_string()).or_default().add(value),
            }
        }
        out.altitude |= seen.place.is_some_and(|p| p.altitude.is_some());
        out.uncertainty |= seen.place.is_some_and(|p| p.uncertainty.is_some());
        out.shapes |= seen.shape.is_some();
        Ok(())
    })?;
    Ok(out)
}

fn of_keys(walk: &KeyWalk) -> Result<Survey, NodeError> {
    let (threads, total) = (threads() as u32, walk.documents());
    let each = total.div_ceil(threads).max(1);
    let tallies = std::thread::scope(|scope| {
        let part = |n: u32| (n * each).min(total)..(n + 1).saturating_mul(each).min(total);
        let work: Vec<_> = (0..threads).map(|n| scope.spawn(move || Tally::of(walk, part(n)))).collect();
        work.into_iter().map(|w| w.join()).collect::<Vec<_>>()
    });
    let mut out = Survey::default();
    for tally in tallies {
        let ended = |_| NodeError::Store { message: "a reader of the project ended".into() };
        tally.map_err(ended)??.add_to(&mut out);
    }
    Ok(out)
}

/// Keys and what stands under them. Rows of one table have the same keys in the same order: each is first looked for where it
/// would come next.
#[derive(Default)]
struct Tally {
    rows: u64,
    keys: Vec<(String, Kinds)>,
    places: HashMap<String, usize>,
    next: usize,
    altitude: bool,
    uncertainty: bool,
    shapes: bool,
}

impl Tally {
    fn of(walk: &KeyWalk, documents: Range<u32>) -> Result<Self, StoreError> {
        let tally = std::cell::RefCell::new(Self::default());
        walk.part(documents, &mut || tally.borrow_mut().row(), &mut |key, value| tally.borrow_mut().see(key, value))?;
        Ok(tally.into_inner())
    }

    fn row(&mut self) {
        self.rows += 1;
        self.next = 0;
    }

    fn see(&mut self, key: &str, value: ValueRef<'_>) {
        if key == "where" {
            return self.see_where(value);
        }
        let place = match self.keys.get(self.next).is_some_and(|(known, _)| known == key) {
            true => self.next,
            false => self.place(key),
        };
        self.keys[place].1.see(value);
        self.next = place + 1;
    }

    fn place(&mut self, key: &str) -> usize {
        if let Some(place) = self.places.get(key) {
            return *place;
        }
        self.places.insert(key.to_owned(), self.keys.len());
        self.keys.push((key.to_owned(), Kinds::default()));
        self.keys.len() - 1
    }

    fn see_where(&mut self, value: ValueRef<'_>) {
        self.shapes |= matches!(value, ValueRef::Bytes(_));
        if let ValueRef::Text(geo) = value {
            self.uncertainty |= geo.contains(";u=");
            self.altitude |= geo.bytes().take_while(|b| *b != b';').filter(|b| *b == b',').count() > 1;
        }
    }

    fn add_to(self, out: &mut Survey) {
        out.rows += self.rows;
        out.altitude |= self.altitude;
        out.uncertainty |= self.uncertainty;
        out.shapes |= self.shapes;
        for (key, kinds) in self.keys {
            match DocKey::decode(&key) {
                DocKey::Field(field) => out.fields.entry(field).or_default().join(kinds),
                // An option chosen is a text of its field, whatever stands there.
                DocKey::Choice(field, _) => out.fields.entry(field).or_default().join(Kinds { text: true, ..Kinds::default() }),
                _ => {}
            }
        }
    }
}
