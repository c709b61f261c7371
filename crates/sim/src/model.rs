//! The reference model: what each observation must show, in plain maps, without Automerge, feeds or stores.
//!
//! Every edit is an event that has seen the events before it on its device. A key shows the events that set it and
//! that no later event on that key had seen; more than one with different values is a conflict.

use cairn_model::DocId;
use std::collections::{BTreeMap, BTreeSet};

/// Number of one edit in the history.
pub type EventId = usize;

#[derive(Clone, Debug)]
struct Edited {
    doc: DocId,
    key: String,
    value: Option<String>,
    seen: BTreeSet<EventId>,
}

/// All edits of a history.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    events: Vec<Edited>,
}

impl Expected {
    /// Notes an acknowledged edit made with `seen` known; gives its number.
    pub fn edit(&mut self, doc: DocId, key: &str, value: Option<&str>, seen: &BTreeSet<EventId>) -> EventId {
        self.events.push(Edited { doc, key: key.to_owned(), value: value.map(str::to_owned), seen: seen.clone() });
        self.events.len() - 1
    }

    /// Every key of every document with the set of values it must have, for someone who has seen `seen`.
    pub fn shows(&self, seen: &BTreeSet<EventId>) -> BTreeMap<DocId, BTreeMap<String, BTreeSet<String>>> {
        let mut out: BTreeMap<DocId, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
        for id in seen {
            let event = &self.events[*id];
            let keys = out.entry(event.doc).or_default();
            let overwritten = seen.iter().any(|later| {
                let l = &self.events[*later];
                l.doc == event.doc && l.key == event.key && l.seen.contains(id)
            });
            if let (false, Some(value)) = (overwritten, &event.value) {
                keys.entry(event.key.clone()).or_default().insert(value.clone());
            }
        }
        out
    }

    /// Events so far.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// `true` before the first edit.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}
