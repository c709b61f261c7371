//! Going back for everybody: changes that undo what an import or a batch did, or bring an observation to an earlier version. They
//! are edits like any other: they sync, they merge, and the history keeps what was there.

use crate::docs::{DocRow, read_batch, rebuild, take};
use crate::feeds::{BatchRow, batch_key};
use crate::local::{cut, cut_unit, may_edit, write_taken};
use crate::mem::Mem;
use crate::reader::ChangeReader;
use crate::tables::{Tables, from_bytes};
use crate::{Store, StoreError};
use cairn_model::{Change, ChangeHash, DocId, DocKey, DocKind, DocState, FeedId, UnitId, Value};
use cairn_trust::UnitKind;
use redb::ReadableTable;
use std::collections::BTreeSet;

/// What is taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RevertWhat {
    /// An act of a person: an import, a reversal, edits that were cut together.
    Unit(UnitId),
    /// One batch of a feed.
    Batch(FeedId, u64),
    /// An observation becomes what it was when a change of it was made.
    Version(DocId, ChangeHash),
}

/// How.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RevertPlan {
    /// Observations that were made and edited by others since are deleted too.
    pub all: bool,
    /// Count only.
    pub dry_run: bool,
}

/// What a reversal did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reverted {
    /// The new act; `None` if nothing was written.
    pub unit: Option<UnitId>,
    /// Observations that had been made: deleted.
    pub deleted: u64,
    /// Observations that had been deleted: back.
    pub restored: u64,
    /// Observations that had been changed: as before.
    pub changed: u64,
    /// Nothing of it stood any more.
    pub unchanged: u64,
    /// Kept as they are, because somebody edited what had been made.
    pub kept: Vec<DocId>,
    /// Single values that were kept, because somebody wrote another one since.
    pub kept_values: u64,
    /// Kept, because this device may not edit them.
    pub refused: u64,
    /// Their content was taken away for good.
    pub purged: u64,
}

type Wanted = Vec<(String, Option<Value>)>;

/// What becomes of one observation.
enum Outcome {
    Write(Wanted, &'static str, u64),
    Nothing,
    Kept,
    Purged,
}

impl Store {
    /// Takes something back by edits that go to everybody, as one act in one transaction.
    ///
    /// # Errors
    /// Nothing of that name is here; the role.
    pub fn revert(&mut self, what: &RevertWhat, plan: RevertPlan, now_ms: i64) -> Result<Reverted, StoreError> {
        self.may_write(DocKind::Observation)?;
        let (targets, documents) = self.targets(what)?;
        let mut only_counted = None;
        let done = self.write(|t, mem, ctx| {
            cut(t, mem, ctx, now_ms)?;
            let unit = UnitId(ctx.entropy.bytes());
            mem.open.act = Some((UnitKind::Revert, unit, 0));
            let mut out = Reverted { unit: Some(unit), ..Reverted::default() };
            let mut reader = ChangeReader::default();
            for doc in &documents {
                let taken = take(t, mem, DocKind::Observation, doc)?;
                match outcome(t, mem, &taken.row, (what, &targets), plan, &mut reader)? {
                    Outcome::Nothing => out.unchanged += 1,
                    Outcome::Kept => out.kept.push(*doc),
                    Outcome::Purged => out.purged += 1,
                    Outcome::Write(..) if may_edit(t, mem, doc).is_err() => out.refused += 1,
                    Outcome::Write(wanted, act, kept) => {
                        out.kept_values += kept;
                        let wrote = write_taken(t, mem, ctx, taken, wanted, now_ms)?.is_some();
                        match (wrote, act) {
                            (false, _) => out.unchanged += 1,
                            (true, "deleted") => out.deleted += 1,
                            (true, "restored") => out.restored += 1,
                            (true, _) => out.changed += 1,
                        }
                    }
                }
            }
            cut_unit(t, mem, ctx, now_ms, true)?;
            mem.open.act = None;
            if plan.dry_run || out.deleted + out.restored + out.changed == 0 {
                out.unit = None;
                only_counted = Some(out);
                return Err(StoreError::Source("counted only".into()));
            }
            Ok(out)
        });
        only_counted.map_or(done, Ok)
    }

    /// The batches that are taken back, and the observations they touch, in their order: what lies together is read once, now and when it
    /// is looked at again.
    fn targets(&self, what: &RevertWhat) -> Result<(BTreeSet<u64>, Vec<DocId>), StoreError> {
        if let RevertWhat::Version(doc, _) = what {
            return Ok((BTreeSet::new(), vec![*doc]));
        }
        let v = self.view()?;
        let (mut batches, mut known, mut documents) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        let feed = |key: u64| &self.mem.feeds[(key >> 40) as usize];
        for row in v.batches.iter()? {
            let (key, bytes) = row?;
            let key = key.value();
            let meant = match what {
                RevertWhat::Unit(unit) => from_bytes::<BatchRow>(bytes.value(), "batch")?.unit == *unit,
                RevertWhat::Batch(of, seq) => feed(key).id == *of && key & 0xff_ffff_ffff == *seq,
                RevertWhat::Version(..) => false,
            };
            if meant {
                batches.insert(key);
                let batch = read_batch(&v, &self.mem, (key >> 40) as u32, key & 0xff_ffff_ffff)?;
                let observations = batch.header.items.iter().filter(|i| i.doc_kind() == Some(DocKind::Observation));
                documents.extend(observations.map(|i| i.doc).filter(|doc| known.insert(*doc)));
            }
        }
        if batches.is_empty() { Err(StoreError::NoAct) } else { Ok((batches, documents)) }
    }

    /// Acts whose id begins with `prefix` (hex digits), of all that are held.
    pub fn units_with_prefix(&self, prefix: &str, most: usize) -> Result<Vec<UnitId>, StoreError> {
        let v = self.view()?;
        let mut found = BTreeSet::new();
        for row in v.batches.iter()? {
            let unit = from_bytes::<BatchRow>(row?.1.value(), "batch")?.unit;
            if unit.to_string().starts_with(&prefix.to_lowercase()) {
                found.insert(unit);
            }
        }
        Ok(found.into_iter().take(most).collect())
    }
}

fn outcome(
    t: &Tables<'_>,
    mem: &Mem,
    row: &DocRow,
    (what, targets): (&RevertWhat, &BTreeSet<u64>),
    plan: RevertPlan,
    reader: &mut ChangeReader,
) -> Result<Outcome, StoreError> {
    if row.state.get("purged") == Some(&Value::Bool(true)) {
        return Ok(Outcome::Purged);
    }
    let all: Vec<Change> = row.applied.iter().map(|at| reader.read(t, mem, at)).collect::<Result<_, _>>()?;
    if let RevertWhat::Version(_, head) = what {
        if !all.iter().any(|change| change.hash == *head) {
            return Err(StoreError::NoAct);
        }
        return Ok(write(row, &state_of(row, ancestors(&all, head), &all), None));
    }
    let taken_back: BTreeSet<ChangeHash> =
        row.applied.iter().filter(|at| targets.contains(&batch_key(at.feed, at.seq))).map(|at| at.hash).collect();
    if taken_back.is_empty() {
        return Ok(Outcome::Nothing);
    }
    let gone = with_descendants(&all, &taken_back);
    let stays: BTreeSet<ChangeHash> = all.iter().map(|c| c.hash).filter(|hash| !gone.contains(hash)).collect();
    let before = state_of(row, stays, &all);
    if before.is_empty() {
        let edited_since = gone.len() > taken_back.len();
        if row.state.get("deleted") == Some(&Value::Bool(true)) {
            return Ok(Outcome::Nothing);
        }
        if edited_since && !plan.all {
            return Ok(Outcome::Kept);
        }
        return Ok(Outcome::Write(vec![(DocKey::Deleted.encode(), Some(Value::Bool(true)))], "deleted", 0));
    }
    Ok(write(row, &before, Some((&all, &taken_back))))
}

/// What makes the state `before` of what stands now; `by` limits it to values that these changes wrote last.
fn write(row: &DocRow, before: &DocState, by: Option<(&[Change], &BTreeSet<ChangeHash>)>) -> Outcome {
    let mut keys: BTreeSet<&str> = row.state.keys().map(|(key, _)| key).collect();
    keys.extend(before.keys().map(|(key, _)| key));
    let made_with = DocKey::MadeWith.encode();
    let (mut wanted, mut kept) = (Wanted::new(), 0);
    // What was said about a pair is not part of what it was.
    for key in keys.into_iter().filter(|key| **key != *made_with && (by.is_some() || !key.starts_with("b."))) {
        let (now, then) = (row.state.get(key), before.get(key));
        if now == then {
            continue;
        }
        match by {
            Some((all, taken_back)) if !wrote_last(row, all, taken_back, key) => kept += 1,
            _ => wanted.push((key.to_owned(), then.cloned())),
        }
    }
    if wanted.is_empty() {
        return Outcome::Nothing;
    }
    let deleted = |state: &DocState| state.get("deleted") == Some(&Value::Bool(true));
    let act = match (deleted(&row.state), deleted(before)) {
        (true, false) if wanted.iter().any(|(key, _)| key == "deleted") => "restored",
        (false, true) if wanted.iter().any(|(key, _)| key == "deleted") => "deleted",
        _ => "changed",
    };
    Outcome::Write(wanted, act, kept)
}

/// `true` if what is shown under a key, or its absence, is by one of these changes.
fn wrote_last(row: &DocRow, all: &[Change], by: &BTreeSet<ChangeHash>, key: &str) -> bool {
    match row.state.values(key).into_iter().next() {
        Some((op, _)) => {
            let author = all.iter().find(|c| c.actor == op.actor && (c.start_op..=c.max_op()).contains(&op.counter));
            author.is_some_and(|change| by.contains(&change.hash))
        }
        // Applied parents first: the last change that names the key took the value away.
        None => all.iter().rev().find(|c| c.ops.iter().any(|op| op.key.as_deref() == Some(key))).is_some_and(|c| by.contains(&c.hash)),
    }
}

/// The changes a change has seen, with itself.
pub(crate) fn ancestors(all: &[Change], head: &ChangeHash) -> BTreeSet<ChangeHash> {
    let mut out = BTreeSet::from([*head]);
    // Applied parents first: from the end, every child comes before its parents.
    for change in all.iter().rev() {
        if out.contains(&change.hash) {
            out.extend(change.deps.iter().copied());
        }
    }
    out
}

fn with_descendants(all: &[Change], of: &BTreeSet<ChangeHash>) -> BTreeSet<ChangeHash> {
    let mut out = of.clone();
    for change in all {
        if change.deps.iter().any(|dep| out.contains(dep)) {
            out.insert(change.hash);
        }
    }
    out
}

/// The state that some of a row's changes make.
pub(crate) fn state_of(row: &DocRow, which: BTreeSet<ChangeHash>, all: &[Change]) -> DocState {
    let mut past = DocRow::new(row.kind, row.id);
    let kept = row.applied.iter().zip(all).filter(|(at, _)| which.contains(&at.hash)).map(|(at, change)| (*at, change.clone()));
    rebuild(&mut past, kept.collect(), &BTreeSet::new());
    past.state
}
