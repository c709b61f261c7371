//! Undo of a sync (for this device) and reversals (for everybody).

mod common;

use cairn_model::{ChangeHash, DocId, Edit, Value};
use cairn_store::{ImportPlan, ImportRow, LogEntry, RevertPlan, RevertWhat, RowAct, Store, StoreError};
use cairn_trust::Role;
use common::*;
use std::collections::{BTreeMap, BTreeSet};

fn text(store: &Store, id: &DocId, field: &str) -> Option<String> {
    Some(store.observation(id).unwrap()?.seen.fields.get(field)?.display())
}

#[test]
fn an_undone_sync_is_hidden_but_for_what_later_work_needs() {
    let mut a = founder();
    let mut b = joiner(&mut a, 2, Role::Member);
    let old = seen(&mut b, "tapir", 1.0);
    meet(&mut a, &mut b);
    let ids: Vec<DocId> = (0..400).map(|n| seen(&mut a, "peccary", f64::from(n) / 10.0)).collect();
    set(&mut a, old, "species", "jaguar");
    carry_as(&mut a, &mut b, 7);
    let twin = all(&b);
    set(&mut b, ids[3], "behaviour", "feeding");
    let edited = all(&b);
    let digest = b.digest().unwrap();
    let done = b.undo_sync(7).unwrap();
    assert_eq!((done.changes, done.kept, done.hidden, done.changed), (400, 1, 399, 1), "{done:?}");
    assert_eq!(b.count().unwrap(), 2);
    assert_eq!(text(&b, &old, "species").as_deref(), Some("tapir"));
    assert_eq!(text(&b, &ids[3], "species").as_deref(), Some("peccary"), "what the edit needs stays");
    assert_eq!(text(&b, &ids[3], "behaviour").as_deref(), Some("feeding"));
    assert_eq!(b.digest().unwrap(), digest, "what is held is the same");
    assert_eq!(b.set_aside_changes(), 400);
    assert_eq!(b.check(&mut |_, _| {}).unwrap(), vec![]);
    // Undone again: nothing more to do. Another number: said so.
    assert_eq!(b.undo_sync(7).unwrap().changes, 0);
    assert!(matches!(b.undo_sync(99), Err(StoreError::NoSync(99))));
    // It is forwarded all the same.
    let mut c = joiner(&mut a, 3, Role::Member);
    carry(&mut b, &mut c);
    assert_eq!(c.count().unwrap(), 401);
    let done = b.redo_sync(7).unwrap();
    assert_eq!((done.changes, done.shown, b.set_aside_changes()), (400, 399, 0));
    assert_eq!(all(&b), edited);
    assert_ne!(all(&b), twin);
    meet(&mut a, &mut b);
}

#[test]
fn work_that_builds_on_what_is_hidden_is_hidden_with_it() {
    let mut a = founder();
    let mut b = joiner(&mut a, 2, Role::Member);
    let x = seen(&mut a, "tapir", 1.0);
    carry_as(&mut a, &mut b, 4);
    b.undo_sync(4).unwrap();
    assert_eq!(b.count().unwrap(), 0);
    set(&mut a, x, "behaviour", "swimming");
    carry_as(&mut a, &mut b, 5);
    assert_eq!((b.count().unwrap(), b.observation(&x).unwrap()), (0, None));
    let history: Vec<LogEntry> = b.history(&x).unwrap();
    assert_eq!(history.iter().map(|e| (e.sync, e.set_aside)).collect::<Vec<_>>(), [(Some(4), true)], "what waits for it is not told of");
    b.redo_sync(4).unwrap();
    assert_eq!(text(&b, &x, "behaviour").as_deref(), Some("swimming"));
    meet(&mut a, &mut b);
    let syncs = b.syncs(0).unwrap();
    assert_eq!(syncs.iter().map(|s| (s.number, s.batches)).filter(|(n, _)| *n >= 4).collect::<Vec<_>>(), [(5, 1), (4, 2)]);
}

/// Against the plainest model there is: a document is a set of changes with their dependencies. Random edits on three devices, random
/// syncs, undo and redo on one; after each step every document shows exactly the changes the model says.
#[test]
fn undo_and_redo_follow_the_model_whatever_came_when() {
    for seed in 1..25u64 {
        println!("seed {seed}");
        let mut rng = Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut a = founder();
        let mut b = joiner(&mut a, 2, Role::Member);
        let mut c = joiner(&mut a, 3, Role::Member);
        meet(&mut a, &mut b);
        meet(&mut a, &mut c);
        let mut model = Model::default();
        let (mut ids, mut sync) = (Vec::new(), 10);
        for step in 0..40 {
            match rng.below(10) {
                0 => ids.push(seen(&mut a, "new", 1.0 + step as f64 / 10.0)),
                1..=3 if !ids.is_empty() => {
                    let id = ids[rng.below(ids.len())];
                    let who = [&mut a, &mut b, &mut c];
                    let who = who.into_iter().nth(rng.below(3)).unwrap();
                    if who.observation(&id).unwrap().is_some() {
                        set(who, id, &format!("f{}", rng.below(3)), &format!("step {step}"));
                    }
                }
                4 | 5 => {
                    sync += 1;
                    let from = if rng.below(2) == 0 { &mut a } else { &mut c };
                    carry_as(from, &mut b, sync);
                    model.brought(&b, &ids, sync);
                }
                6 => carry(&mut b, if rng.below(2) == 0 { &mut a } else { &mut c }),
                7 | 8 if sync > 10 => {
                    let number = 11 + rng.below(sync as usize - 10) as u32;
                    if b.undo_sync(number).is_ok() {
                        model.undo(&b, &ids, number);
                    }
                }
                9 if sync > 10 => {
                    let number = 11 + rng.below(sync as usize - 10) as u32;
                    if b.redo_sync(number).is_ok() {
                        model.aside.retain(|_, of| *of != number);
                    }
                }
                _ => {}
            }
            model.compare(&b, &ids, seed, step);
        }
        for number in 11..=sync {
            b.redo_sync(number).ok();
        }
        assert_eq!(b.set_aside_changes(), 0);
        carry(&mut b, &mut c);
        meet(&mut a, &mut b);
        meet(&mut a, &mut c);
        meet(&mut a, &mut b);
    }
}

/// xorshift64*
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n
    }
}

type Named = (DocId, ChangeHash);

#[derive(Default)]
struct Model {
    /// Change to the sync that brought it first.
    from: BTreeMap<Named, u32>,
    aside: BTreeMap<Named, u32>,
}

impl Model {
    /// Everything of these documents that is held, with what each change depends on.
    fn held(store: &Store, ids: &[DocId]) -> BTreeMap<Named, Vec<ChangeHash>> {
        ids.iter().flat_map(|id| store.held_changes(id).unwrap().into_iter().map(|(hash, deps)| ((*id, hash), deps))).collect()
    }

    fn brought(&mut self, store: &Store, ids: &[DocId], sync: u32) {
        for (id, entry) in ids.iter().flat_map(|id| store.history(id).unwrap().into_iter().map(|e| (*id, e))) {
            if entry.sync == Some(sync) {
                self.from.entry((id, entry.hash)).or_insert(sync);
            }
        }
        // What waits for something hidden is in no history: it came with the sync all the same.
        for named in Self::held(store, ids).into_keys() {
            if store.sync_of(&named.0, &named.1).unwrap() == Some(sync) {
                self.from.entry(named).or_insert(sync);
            }
        }
    }

    fn shown(&self, held: &BTreeMap<Named, Vec<ChangeHash>>) -> BTreeSet<Named> {
        let mut out: BTreeSet<Named> = held.keys().filter(|n| !self.aside.contains_key(n)).copied().collect();
        loop {
            let before = out.len();
            let there = out.clone();
            out.retain(|(id, hash)| held[&(*id, *hash)].iter().all(|dep| there.contains(&(*id, *dep))));
            if out.len() == before {
                return out;
            }
        }
    }

    fn undo(&mut self, store: &Store, ids: &[DocId], sync: u32) {
        let held = Self::held(store, ids);
        let shown = self.shown(&held);
        let brought = |n: &Named| self.from.get(n) == Some(&sync) && !self.aside.contains_key(n);
        let mut needed: BTreeSet<Named> = BTreeSet::new();
        let mut todo: Vec<Named> = shown.iter().filter(|n| !brought(n)).copied().collect();
        while let Some(named) = todo.pop() {
            todo.extend(held[&named].iter().map(|dep| (named.0, *dep)).filter(|dep| needed.insert(*dep)));
        }
        let hidden: Vec<Named> = held.keys().filter(|n| brought(n) && !needed.contains(n)).copied().collect();
        self.aside.extend(hidden.into_iter().map(|n| (n, sync)));
    }

    fn compare(&self, store: &Store, ids: &[DocId], seed: u64, step: usize) {
        let held = Self::held(store, ids);
        let wanted = self.shown(&held);
        let found: BTreeSet<Named> =
            ids.iter().flat_map(|id| store.history(id).unwrap().into_iter().filter(|e| !e.set_aside).map(|e| (*id, e.hash))).collect();
        assert_eq!(found, wanted, "seed {seed}, step {step}");
        assert_eq!(store.set_aside_changes() as usize, self.aside.len(), "seed {seed}, step {step}");
        assert_eq!(store.check(&mut |_, _| {}).unwrap(), vec![], "seed {seed}, step {step}");
    }
}

fn rows(from: u64, to: u64, value: &str) -> Vec<Result<ImportRow, String>> {
    let row = |n: u64| {
        let mut edit = Edit::new();
        edit.field("n", value, None, &[]).unwrap();
        let id = cairn_model::import_identity(&cairn_model::ProjectId([0; 32]), "d", &[&n.to_string()]);
        Ok(ImportRow { line: n, act: Ok(RowAct::Put(id, edit.into_wanted().unwrap(), Vec::new())) })
    };
    (from..to).map(row).collect()
}

fn row_id(n: u64) -> DocId {
    cairn_model::import_identity(&cairn_model::ProjectId([0; 32]), "d", &[&n.to_string()])
}

#[test]
fn an_import_is_taken_back_for_everybody_and_the_history_keeps_it() {
    let mut a = founder();
    let mut b = joiner(&mut a, 2, Role::Member);
    let mut c = joiner(&mut a, 3, Role::Member);
    a.import(&ImportPlan::default(), &mut rows(0, 10, "good").into_iter(), 1).unwrap();
    meet(&mut a, &mut b);
    // Five existing rows change, 495 are new.
    let bad = a.import(&ImportPlan::default(), &mut rows(5, 500, "bad").into_iter(), 2).unwrap();
    assert_eq!((bad.created, bad.updated), (490, 5));
    meet(&mut a, &mut b);
    // Since then somebody corrected one old row and one new one.
    set(&mut b, row_id(5), "n", "corrected");
    set(&mut b, row_id(400), "seen by", "Bo");
    meet(&mut a, &mut c);
    let counted = b.revert(&RevertWhat::Unit(bad.unit.unwrap()), RevertPlan { dry_run: true, ..RevertPlan::default() }, 3).unwrap();
    assert_eq!((counted.unit, counted.deleted, counted.changed), (None, 489, 4));
    assert_eq!(b.count().unwrap(), 500);
    let done = b.revert(&RevertWhat::Unit(bad.unit.unwrap()), RevertPlan::default(), 3).unwrap();
    assert_eq!((done.deleted, done.changed, &done.kept, done.unchanged), (489, 4, &vec![row_id(400)], 1), "{done:?}");
    meet(&mut a, &mut b);
    meet(&mut a, &mut c);
    meet(&mut a, &mut b);
    for store in [&a, &b, &c] {
        assert_eq!(store.count().unwrap(), 11);
        assert_eq!(text(store, &row_id(7), "n").as_deref(), Some("good"));
        assert_eq!(text(store, &row_id(5), "n").as_deref(), Some("corrected"));
        let sets: Vec<Option<Value>> =
            store.history(&row_id(7)).unwrap().iter().flat_map(|e| e.set.clone()).filter(|(k, _)| k == "n").map(|(_, v)| v).collect();
        assert_eq!(sets, [Some("good".into()), Some("bad".into()), Some("good".into())]);
    }
    // The reversal is an act like any other: it is taken back too.
    let again = c.revert(&RevertWhat::Unit(done.unit.unwrap()), RevertPlan::default(), 4).unwrap();
    assert_eq!((again.restored, again.changed), (489, 4), "{again:?}");
    assert_eq!((c.count().unwrap(), text(&c, &row_id(7), "n").as_deref()), (500, Some("bad")));
    let all = b.revert(&RevertWhat::Unit(bad.unit.unwrap()), RevertPlan { all: true, ..RevertPlan::default() }, 5).unwrap();
    assert_eq!((all.deleted, b.count().unwrap()), (1, 10));
    assert!(matches!(b.revert(&RevertWhat::Unit(cairn_model::UnitId([9; 16])), RevertPlan::default(), 6), Err(StoreError::NoAct)));
}

#[test]
fn an_observation_becomes_what_it_was_at_a_change() {
    let mut a = founder();
    let x = seen(&mut a, "tapir", 1.0);
    set(&mut a, x, "species", "deer");
    set(&mut a, x, "behaviour", "feeding");
    delete(&mut a, x, true);
    let history = a.history(&x).unwrap();
    let done = a.revert(&RevertWhat::Version(x, history[0].hash), RevertPlan::default(), 9).unwrap();
    assert_eq!((done.restored, done.kept_values), (1, 0));
    assert_eq!((text(&a, &x, "species").as_deref(), text(&a, &x, "behaviour")), (Some("tapir"), None));
    assert!(!a.observation(&x).unwrap().unwrap().seen.deleted);
    let back = a.revert(&RevertWhat::Version(x, history[2].hash), RevertPlan::default(), 10).unwrap();
    assert_eq!((back.changed, text(&a, &x, "behaviour").as_deref()), (1, Some("feeding")));
    assert_eq!(a.revert(&RevertWhat::Version(x, history[2].hash), RevertPlan::default(), 11).unwrap().unchanged, 1);
}
