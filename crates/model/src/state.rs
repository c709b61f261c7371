//! A document as its live operations: enough to show every value, list every concurrent one and make the next
//! edit, without an op set.
//!
//! In a flat map of scalars Automerge's rule is short: an operation removes the operations it names as its
//! predecessors from its key, and a put adds itself. What is left on a key is shown by the highest (counter,
//! actor); more than one are concurrent values. Applied in any order that respects dependencies, the result
//! is the same.

use crate::{ActorId, Change, ChangeHash, ChangeIntent, NewChange, OpAction, OpId, Value, limits};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

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

/// Makes a state from many changes: an author is found by a look-up instead of a walk.
#[derive(Clone, Debug, Default)]
pub struct StateBuilder {
    state: DocState,
    places: BTreeMap<ActorId, u16>,
}

impl StateBuilder {
    /// As [`DocState::apply`].
    ///
    /// # Errors
    /// The change does not fit; the state is as it was.
    pub fn apply(&mut self, change: &Change) -> Result<(), ApplyError> {
        let place = self.state.apply_by(change, self.places.get(&change.actor).copied())?;
        self.places.insert(change.actor, place);
        Ok(())
    }

    /// The state.
    pub fn finish(self) -> DocState {
        self.state
    }
}

impl DocState {
    /// Adds a change whose dependencies are all applied. The order of changes does not matter beyond that.
    ///
    /// On an error the state is as it was.
    pub fn apply(&mut self, change: &Change) -> Result<(), ApplyError> {
        let known = self.actors.iter().position(|a| a.id == change.actor).map(|n| n as u16);
        self.apply_by(change, known).map(drop)
    }

    /// `known` is the place of the change's actor, if it has one. Gives its place.
    fn apply_by(&mut self, change: &Change, known: Option<u16>) -> Result<u16, ApplyError> {
        let last = known.map_or(0, |n| u64::from(self.actors[usize::from(n)].seq));
        if change.seq != last + 1 {
            return Err(ApplyError::Sequence { seq: change.seq, last });
        }
        if u32::try_from(change.max_op()).is_err() || (known.is_none() && self.actors.len() >= usize::from(u16::MAX)) {
            return Err(ApplyError::Full);
        }
        let actor = known.unwrap_or(self.actors.len() as u16);
        if known.is_none() {
            self.actors.push(ActorState { id: change.actor, seq: 0 });
        }
        self.actors[usize::from(actor)].seq = change.seq as u32;
        for (index, op) in change.ops.iter().enumerate() {
            let counter = (change.start_op + index as u64) as u32;
            self.apply_op(op.key.as_deref(), &op.action, &op.pred, counter, actor);
        }
        self.max_op = self.max_op.max(change.max_op() as u32);
        self.heads.retain(|h| !change.deps.contains(h));
        let at = self.heads.partition_point(|h| h < &change.hash);
        self.heads.insert(at, change.hash);
        Ok(actor)
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

    /// `true` if no further actor has room: which ones have it is then decided over all changes together.
    pub fn is_full(&self) -> bool {
        self.actors.len() >= usize::from(u16::MAX)
    }

    /// The bytes of a change that sets (or, for `None`, removes) these keys. A key that already has exactly this
    /// one value is left out, as is the removal of a key that is not set; `None` when nothing is left to do.
    /// The change may be more than one may be: see [`DocState::edits`].
    pub fn edit(&self, actor: ActorId, time_ms: i64, wanted: Vec<(String, Option<Value>)>) -> Option<Vec<u8>> {
        let intents = self.intents(wanted);
        if intents.is_empty() {
            return None;
        }
        let (seq, start_op) = (self.seq_of(&actor) + 1, u64::from(self.max_op) + 1);
        Some(NewChange { actor, seq, start_op, time_ms, deps: self.heads.clone(), intents }.encode())
    }

    /// The same edit as changes that follow each other, each within the limits of one change: heads are gathered by changes without
    /// operations, and what is too much for one change is divided. Mostly that is one change; none if nothing is left to do.
    /// `max_op_of` gives the highest operation counter of a head.
    pub fn edits(
        &self,
        actor: ActorId,
        time_ms: i64,
        wanted: Vec<(String, Option<Value>)>,
        max_op_of: &dyn Fn(&ChangeHash) -> u64,
    ) -> Vec<Vec<u8>> {
        let intents = self.intents(wanted);
        if intents.is_empty() {
            return Vec::new();
        }
        let mut out = Vec::new();
        let mut seq = self.seq_of(&actor) + 1;
        let mut heads: Vec<(ChangeHash, u64)> = self.heads.iter().map(|h| (*h, max_op_of(h))).collect();
        while heads.len() > limits::CHANGE_DEPS {
            let rest = heads.split_off(limits::CHANGE_DEPS);
            heads = chain(&mut out, NewChange { actor, seq, start_op: 0, time_ms, deps: Vec::new(), intents: Vec::new() }, &heads);
            heads.extend(rest);
            seq += 1;
        }
        for intents in divide(intents) {
            heads = chain(&mut out, NewChange { actor, seq, start_op: 0, time_ms, deps: Vec::new(), intents }, &heads);
            seq += 1;
        }
        out
    }

    /// Operations that make these keys what they are wanted to be.
    fn intents(&self, wanted: Vec<(String, Option<Value>)>) -> Vec<ChangeIntent> {
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
        intents
    }
}

/// Adds a change on top of `heads`, each with its highest counter. Gives the one head there is then.
fn chain(out: &mut Vec<Vec<u8>>, change: NewChange, heads: &[(ChangeHash, u64)]) -> Vec<(ChangeHash, u64)> {
    let top = heads.iter().map(|(_, max_op)| *max_op).max().unwrap_or(0);
    let deps = heads.iter().map(|(hash, _)| *hash).collect();
    let last = top + change.intents.len() as u64;
    let bytes = NewChange { start_op: top + 1, deps, ..change }.encode();
    // What was just encoded reads; if not, the store refuses it as its own.
    let hash = Change::frame_len(&bytes).map_or(ChangeHash([0; 32]), |(_, hash)| hash);
    out.push(bytes);
    vec![(hash, last)]
}

/// Operations in portions that one change each may hold.
fn divide(intents: Vec<ChangeIntent>) -> Vec<Vec<ChangeIntent>> {
    let mut out: Vec<Vec<ChangeIntent>> = Vec::new();
    let (mut part, mut load) = (Vec::new(), Load::default());
    for intent in intents.into_iter().flat_map(in_portions) {
        if !part.is_empty() && !load.takes(&intent) {
            out.push(std::mem::take(&mut part));
            load = Load::default();
        }
        load.add(&intent);
        part.push(intent);
    }
    out.push(part);
    out
}

/// An operation on a key that removes more values than one change may: some are removed before.
fn in_portions(intent: ChangeIntent) -> Vec<ChangeIntent> {
    let mut out = Vec::new();
    let mut left = intent.pred;
    while let Some(at) = portion(&left) {
        let rest = left.split_off(at);
        out.push(ChangeIntent { key: intent.key.clone(), value: None, pred: left });
        left = rest;
    }
    out.push(ChangeIntent { pred: left, ..intent });
    out
}

/// Where a list of predecessors is to be divided; `None` if one change takes it.
fn portion(pred: &[OpId]) -> Option<usize> {
    let mut actors = BTreeSet::new();
    pred.iter()
        .position(|op| {
            actors.insert(op.actor);
            actors.len() > limits::OTHER_ACTORS / 2
        })
        .into_iter()
        .chain((pred.len() > limits::PREDS_PER_CHANGE / 2).then_some(limits::PREDS_PER_CHANGE / 2))
        .min()
}

/// What one change holds so far.
#[derive(Default)]
struct Load {
    operations: usize,
    predecessors: usize,
    actors: BTreeSet<ActorId>,
    bytes: usize,
}

impl Load {
    fn takes(&self, intent: &ChangeIntent) -> bool {
        let new_actors = intent.pred.iter().filter(|op| !self.actors.contains(&op.actor)).count();
        self.operations < limits::OPS_PER_CHANGE
            && self.predecessors + intent.pred.len() <= limits::PREDS_PER_CHANGE
            && self.actors.len() + new_actors < limits::OTHER_ACTORS
            && self.bytes + size(intent) <= limits::CHANGE_BYTES / 2
    }

    fn add(&mut self, intent: &ChangeIntent) {
        self.operations += 1;
        self.predecessors += intent.pred.len();
        self.actors.extend(intent.pred.iter().map(|op| op.actor));
        self.bytes += size(intent);
    }
}

/// About as many bytes as an operation takes in a change.
fn size(intent: &ChangeIntent) -> usize {
    let value = match &intent.value {
        Some(Value::Text(text)) => text.len(),
        Some(Value::Bytes(bytes)) => bytes.len(),
        _ => 8,
    };
    intent.key.len() + value + 16
}
