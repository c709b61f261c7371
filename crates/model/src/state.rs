//! A document as its live operations: enough to show every value, list every concurrent one and make the next
//! edit, without an op set.
//!
//! In a flat map of scalars Automerge's rule is short: an operation removes the operations it names as its
//! predecessors from its key, and a put adds itself. What is left on a key is shown by the highest (counter,
//! actor); more than one are concurrent values. Applied in any order that respects dependencies, the result
//! is the same.

use crate::{ActorId, Change, ChangeHash, ChangeIntent, NewChange, OpAction, OpId, Value};
use serde::{Deserialize, Serialize};

/// One live operation on a key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LiveOp {
    counter: u32,
    actor: u16,
    /// What it set.
    pub value: Value,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct ActorState {
    id: ActorId,
    seq: u32,
}

/// The merged state of one document.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DocState {
    actors: Vec<ActorState>,
    max_op: u32,
    heads: Vec<ChangeHash>,
    keys: Vec<(String, Vec<LiveOp>)>,
}

/// Why a change does not fit the document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The actor's numbers have a gap or repeat: two histories share one actor.
    #[error("change {seq} of an actor follows its change {last}")]
    Sequence {
        /// Number of the change.
        seq: u64,
        /// Number of the actor's last change here.
        last: u64,
    },
    /// More actors or operations than a document can number.
    #[error("the document has too many authors or operations")]
    Full,
}

impl DocState {
    /// Adds a change whose dependencies are all applied. The order of changes does not matter beyond that.
    ///
    /// On an error the state is as it was.
    pub fn apply(&mut self, change: &Change) -> Result<(), ApplyError> {
        let last = self.seq_of(&change.actor);
        if change.seq != last + 1 {
            return Err(ApplyError::Sequence { seq: change.seq, last });
        }
        if u32::try_from(change.max_op()).is_err() || self.actors.len() >= usize::from(u16::MAX) {
            return Err(ApplyError::Full);
        }
        let actor = self.actor_index(&change.actor);
        self.actors[usize::from(actor)].seq = change.seq as u32;
        for (index, op) in change.ops.iter().enumerate() {
            let counter = (change.start_op + index as u64) as u32;
            self.apply_op(op.key.as_deref(), &op.action, &op.pred, counter, actor);
        }
        self.max_op = self.max_op.max(change.max_op() as u32);
        self.heads.retain(|h| !change.deps.contains(h));
        let at = self.heads.partition_point(|h| h < &change.hash);
        self.heads.insert(at, change.hash);
        Ok(())
    }

    fn apply_op(&mut self, key: Option<&str>, action: &OpAction, pred: &[OpId], counter: u32, actor: u16) {
        let Some(key) = key else { return };
        let slot = self.keys.binary_search_by(|(k, _)| k.as_str().cmp(key));
        if let (Ok(slot), false) = (slot, matches!(action, OpAction::Opaque)) {
            let actors = &self.actors;
            self.keys[slot].1.retain(|live| {
                let id = OpId { counter: u64::from(live.counter), actor: actors[usize::from(live.actor)].id };
                !pred.contains(&id)
            });
        }
        match (action, slot) {
            (OpAction::Put(value), Ok(slot)) => self.keys[slot].1.push(LiveOp { counter, actor, value: value.clone() }),
            (OpAction::Put(value), Err(slot)) => {
                self.keys.insert(slot, (key.to_owned(), vec![LiveOp { counter, actor, value: value.clone() }]));
            }
            (_, Ok(slot)) if self.keys[slot].1.is_empty() => {
                self.keys.remove(slot);
            }
            _ => {}
        }
    }

    fn actor_index(&mut self, id: &ActorId) -> u16 {
        let found = self.actors.iter().position(|a| &a.id == id);
        let index = found.unwrap_or_else(|| {
            self.actors.push(ActorState { id: *id, seq: 0 });
            self.actors.len() - 1
        });
        index as u16
    }

    fn seq_of(&self, id: &ActorId) -> u64 {
        self.actors.iter().find(|a| &a.id == id).map_or(0, |a| u64::from(a.seq))
    }

    /// Heads, sorted. They name the state: equal heads, equal content.
    pub fn heads(&self) -> &[ChangeHash] {
        &self.heads
    }

    /// `true` before any change.
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// Live keys in byte order, each with its concurrent values, the shown one first.
    pub fn keys(&self) -> impl Iterator<Item = (&str, Vec<(OpId, &Value)>)> {
        self.keys.iter().map(|(key, live)| (key.as_str(), self.ranked(live)))
    }

    /// Live keys in byte order, each with its shown value alone.
    pub fn shown(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.keys.iter().filter_map(|(key, live)| Some((key.as_str(), self.winner(live)?)))
    }

    fn winner<'a>(&self, live: &'a [LiveOp]) -> Option<&'a Value> {
        match live {
            [only] => Some(&only.value),
            several => several.iter().max_by_key(|op| self.op_id(op)).map(|op| &op.value),
        }
    }

    /// The values of one key, the shown one first; empty where it is not set.
    pub fn values(&self, key: &str) -> Vec<(OpId, &Value)> {
        match self.keys.binary_search_by(|(k, _)| k.as_str().cmp(key)) {
            Ok(slot) => self.ranked(&self.keys[slot].1),
            Err(_) => Vec::new(),
        }
    }

    /// The shown value of one key, without looking at the others.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let slot = self.keys.binary_search_by(|(k, _)| k.as_str().cmp(key)).ok()?;
        self.winner(&self.keys[slot].1)
    }

    /// `true` where some key has concurrent values that differ. Concurrent equal values are no conflict.
    pub fn has_conflicts(&self) -> bool {
        let differ = |live: &[LiveOp]| live.iter().any(|op| op.value != live[0].value);
        self.keys.iter().any(|(key, live)| live.len() > 1 && differ(live) && !crate::DocKey::is_provenance(key))
    }

    fn op_id(&self, op: &LiveOp) -> OpId {
        OpId { counter: u64::from(op.counter), actor: self.actors[usize::from(op.actor)].id }
    }

    fn ranked<'a>(&self, live: &'a [LiveOp]) -> Vec<(OpId, &'a Value)> {
        let mut ranked: Vec<_> = live.iter().map(|op| (self.op_id(op), &op.value)).collect();
        ranked.sort_by_key(|(id, _)| std::cmp::Reverse(*id));
        ranked
    }

    /// The bytes of a change that sets (or, for `None`, removes) these keys. A key that already has exactly this
    /// one value is left out, as is the removal of a key that is not set; `None` when nothing is left to do.
    pub fn edit(&self, actor: ActorId, time_ms: i64, wanted: Vec<(String, Option<Value>)>) -> Option<Vec<u8>> {
        let mut intents = Vec::with_capacity(wanted.len());
        for (key, value) in wanted {
            let live = self.values(&key);
            let same = match &value {
                None => live.is_empty(),
                Some(v) => matches!(live.as_slice(), [(_, only)] if *only == v),
            };
            if !same {
                intents.push(ChangeIntent { key, value, pred: live.iter().map(|(id, _)| *id).collect() });
            }
        }
        if intents.is_empty() {
            return None;
        }
        let change = NewChange {
            actor,
            seq: self.seq_of(&actor) + 1,
            start_op: u64::from(self.max_op) + 1,
            time_ms,
            deps: self.heads.clone(),
            intents,
        };
        Some(change.encode())
    }
}
