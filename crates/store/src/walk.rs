//! Walks through many observations, in parts that several threads may take: nothing of a walk is held but the numbers of its rows.

use crate::docs::DocRow;
use crate::glimpse::Glimpse;
use crate::mem::Mem;
use crate::moments::{AsOf, state_at};
use crate::query::{Filter, TimeKey, matches_seen, within};
use crate::tables::{View, from_bytes};
use crate::{Store, StoreError};
use cairn_model::{DocId, DocKind, Observation, ObservationRef, ValueRef};
use redb::{ReadableTable, ReadableTableMetadata};
use std::ops::Range;

/// What a walk calls with each observation.
pub type Visit<'v> = dyn FnMut(DocId, &ObservationRef<'_>) -> Result<(), StoreError> + 'v;

/// The observations that match a filter, in the order of [`Store::list`], as they were when the walk began.
pub struct Walk<'s> {
    view: View,
    mem: &'s Mem,
    numbers: Vec<u32>,
    filter: Filter,
    as_of: Option<AsOf>,
}

impl Walk<'_> {
    /// Rows to look at; fewer may match.
    pub fn rows(&self) -> usize {
        self.numbers.len()
    }

    /// Calls `visit` with those that match among some of the rows.
    ///
    /// # Errors
    /// The disk, or what `visit` says.
    pub fn part(&self, rows: Range<usize>, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        for number in &self.numbers[rows] {
            let bytes = self.view.docs.get(number)?.ok_or(StoreError::Damaged("document"))?;
            match &self.as_of {
                None => self.now(&Glimpse::of(bytes.value())?, visit)?,
                Some(moment) => self.then(&from_bytes(bytes.value(), "document")?, moment, visit)?,
            }
        }
        Ok(())
    }

    fn now(&self, glimpse: &Glimpse<'_>, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        let seen = glimpse.observation();
        match takes_all(&self.filter) || matches_seen(&self.filter, &seen.owned()) {
            true => visit(glimpse.id(), &seen),
            false => Ok(()),
        }
    }

    fn then(&self, row: &DocRow, moment: &AsOf, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        // What was purged is not taken out of the history by the back door.
        if Observation::read(&row.state).purged {
            return Ok(());
        }
        let state = state_at(&self.view, self.mem, row, moment)?;
        let seen = Observation::read(&state);
        let brought = self.filter.only.as_ref().is_none_or(|ids| ids.contains(&row.id));
        let fits = brought && within(&self.filter, &seen) && (self.filter.deleted || !seen.deleted);
        match !state.is_empty() && fits && matches_seen(&self.filter, &seen) {
            true => visit(row.id, &ObservationRef::from(&seen)),
            false => Ok(()),
        }
    }
}

/// The keys of every observation that is not deleted, in the order in which they lie on the disk.
pub struct KeyWalk {
    view: View,
    documents: u32,
}

impl KeyWalk {
    /// Documents to look at, of all kinds.
    pub fn documents(&self) -> u32 {
        self.documents
    }

    /// Calls `see` with each key and its shown value, and `row` before each observation.
    ///
    /// # Errors
    /// The disk.
    pub fn part(&self, documents: Range<u32>, row: &mut dyn FnMut(), see: &mut dyn FnMut(&str, ValueRef<'_>)) -> Result<(), StoreError> {
        for entry in self.view.docs.range(documents)? {
            let (_, bytes) = entry?;
            let glimpse = Glimpse::of(bytes.value())?;
            if glimpse.kind() == DocKind::Observation && !glimpse.is_empty() && !glimpse.is_deleted() {
                row();
                glimpse.each(see);
            }
        }
        Ok(())
    }
}

impl Store {
    /// Observations that match, of now or (with a moment) as they were then.
    ///
    /// # Errors
    /// The disk.
    pub fn walk(&self, filter: &Filter, as_of: Option<AsOf>) -> Result<Walk<'_>, StoreError> {
        let view = self.view()?;
        // What matched then may not match now: all are looked at.
        let everything = Filter { deleted: true, ..Filter::default() };
        let numbers = match as_of.is_some() {
            true => self.numbers(&view, &everything)?,
            false => self.numbers(&view, filter)?,
        };
        Ok(Walk { view, mem: &self.mem, numbers, filter: filter.clone(), as_of })
    }

    /// Every observation that is not deleted, by its keys alone.
    ///
    /// # Errors
    /// The disk.
    pub fn key_walk(&self) -> Result<KeyWalk, StoreError> {
        let view = self.view()?;
        let documents = view.docs.last()?.map_or(0, |(number, _)| number.value().saturating_add(1));
        Ok(KeyWalk { view, documents })
    }

    /// Calls `visit` with every observation that matches, one after the other.
    ///
    /// # Errors
    /// The disk, or what `visit` says.
    pub fn each_observation(&self, filter: &Filter, visit: &mut Visit<'_>) -> Result<(), StoreError> {
        let walk = self.walk(filter, None)?;
        walk.part(0..walk.rows(), visit)
    }

    /// `true` if a filter takes every observation that is not deleted.
    pub fn takes_all(filter: &Filter) -> bool {
        takes_all(filter)
    }

    /// Document numbers in listing order. Of a whole project without its time keys, which take five times as much memory.
    fn numbers(&self, v: &View, filter: &Filter) -> Result<Vec<u32>, StoreError> {
        let number = |key: &TimeKey| u32::from_be_bytes([key[16], key[17], key[18], key[19]]);
        if !takes_all(filter) {
            return Ok(self.candidates(v, filter)?.iter().map(number).collect());
        }
        let mut numbers = Vec::with_capacity(usize::try_from(v.by_time.len()?).unwrap_or(0));
        for row in v.by_time.iter()? {
            numbers.push(number(row?.0.value()));
        }
        Ok(numbers)
    }
}

fn takes_all(filter: &Filter) -> bool {
    *filter == Filter { limit: filter.limit, ..Filter::default() }
}
