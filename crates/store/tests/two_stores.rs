//! Two stores that hand each other chunks directly: what a transport will carry, without one.

mod common;

use cairn_model::{DocId, Edit, Place};
use cairn_store::{Filter, ImportPlan, ImportRow, RowAct, Store, StoreError};
use cairn_trust::{DeviceKeys, InviteMode, Role};
use common::*;

#[test]
fn edits_deletions_and_conflicts_converge() {
    let mut a = founder();
    let mut b = joiner(&mut a, 2, Role::Member);
    let x = seen(&mut a, "tapir", 1.0);
    let y = seen(&mut b, "jaguar", 2.0);
    meet(&mut a, &mut b);
    assert_eq!(a.count().unwrap(), 2);
    set(&mut a, x, "species", "deer");
    set(&mut b, x, "species", "peccary");
    delete(&mut b, y, true);
    set(&mut a, y, "behaviour", "resting");
    meet(&mut a, &mut b);
    assert_eq!(a.count().unwrap(), 1);
    let conflicts = a.conflicts().unwrap();
    let keys: Vec<(DocId, &str, usize)> = conflicts.iter().map(|c| (c.id, c.key.as_str(), c.values.len())).collect();
    let mut expected = vec![(x, "species", 2), (y, "deleted", 2)];
    expected.sort();
    assert_eq!(keys, expected);
    assert_eq!(conflicts, b.conflicts().unwrap());
    delete(&mut b, y, false);
    set(&mut a, x, "species", "deer");
    meet(&mut a, &mut b);
    assert_eq!((a.count().unwrap(), a.conflicts().unwrap().len()), (2, 0));
}

#[test]
fn an_observers_batch_is_held_forwarded_and_not_applied() {
    let mut a = founder();
    let mut c = joiner(&mut a, 3, Role::Observer);
    let refused = c.edit_observations(vec![(DocId([1; 16]), Edit::new())], 1);
    assert!(matches!(refused, Err(StoreError::Role { role: "observer", .. })), "{refused:?}");
    meet(&mut a, &mut c);
}

#[test]
fn batches_before_their_control_operation_wait_and_are_applied_after_it() {
    let mut a = founder();
    let mut b = joiner(&mut a, 2, Role::Member);
    let mut c = joiner(&mut a, 3, Role::Member);
    seen(&mut b, "otter", 1.0);
    b.cut(1).unwrap();
    let (missing, _) = b.missing_for(&[]).unwrap();
    let chunks = b.chunks_from(missing[0].0, 1, usize::MAX).unwrap();
    assert_eq!(c.ingest(chunks, None).unwrap().stats.set_apart, 1);
    assert_eq!((c.count().unwrap(), c.set_apart().unwrap().len()), (0, 1));
    c.add_control(&ops(&b)).unwrap();
    assert_eq!((c.count().unwrap(), c.set_apart().unwrap().len()), (1, 0));
}

#[test]
fn an_import_is_one_unit_and_all_or_nothing() {
    let mut a = founder();
    let mut b = joiner(&mut a, 2, Role::Member);
    let row = |n: u64| {
        let mut edit = Edit::new();
        edit.field("n", &n.to_string(), None, &[]).unwrap().place(Place::new(0.5, n as f64 / 100.0).unwrap());
        Ok(ImportRow {
            line: n,
            act: Ok(RowAct::Put(
                cairn_model::import_identity(&cairn_model::ProjectId([0; 32]), "d", &[&n.to_string()]),
                edit.into_wanted().unwrap(),
                Vec::new(),
            )),
        })
    };
    let cut_short = a.import(&ImportPlan::default(), &mut (0..700).map(row).chain([Err("line 701 is torn".into())]), 1);
    assert!(matches!(cut_short, Err(StoreError::Source(_))));
    assert_eq!(a.count().unwrap(), 0);
    let stats = a.import(&ImportPlan::default(), &mut (0..700).map(row), 1).unwrap();
    assert_eq!((stats.created, stats.unchanged), (700, 0));
    let again = b.import(&ImportPlan::default(), &mut (0..700).map(row), 2).unwrap();
    assert_eq!(again.created, 700);
    meet(&mut a, &mut b);
    assert_eq!((a.count().unwrap(), a.conflict_count().unwrap()), (700, 0), "the same rows imported on two devices are one");
    let third = a.import(&ImportPlan::default(), &mut (0..700).map(row), 3).unwrap();
    assert_eq!(third.unchanged + third.updated, 700);
    let bbox = cairn_store::Bbox { west: 1.0, south: 0.0, east: 2.0, north: 1.0 };
    let listing = a.list(&Filter { bbox: Some(bbox), limit: 5, ..Filter::default() }).unwrap();
    assert_eq!((listing.observations.len(), listing.count), (5, 101));
}

/// One single-use ticket was copied and used by two devices offline. Whoever is met first is let in first; once both joins
/// are known, everyone must come to the same answer, also those who had already applied the loser's observations.
#[test]
fn a_join_that_loses_its_place_takes_its_observations_with_it() {
    let mut a = founder();
    let ticket = a.invite(Role::Member, 1, InviteMode::Bearer, vec![]).unwrap();
    let join = |n: u8| {
        let entropy = Box::new(Counter(u64::from(n) << 40));
        Store::join_project(database(), DeviceKeys::from_seed([n; 32]), entropy, &ticket, "x").unwrap()
    };
    let (mut d1, mut d2) = (join(7), join(8));
    let mut b = joiner(&mut a, 2, Role::Member);
    let x = seen(&mut a, "heron", 1.0);
    carry(&mut a, &mut d1);
    carry(&mut a, &mut d2);
    for d in [&mut d1, &mut d2] {
        seen(d, "own", 2.0);
        set(d, x, "species", "egret");
    }
    carry(&mut d1, &mut a);
    assert_eq!(a.count().unwrap(), 2);
    carry(&mut d2, &mut a);
    carry(&mut d2, &mut b);
    carry(&mut d1, &mut b);
    meet(&mut a, &mut b);
    meet(&mut d1, &mut d2);
    meet(&mut a, &mut d1);
    meet(&mut b, &mut d2);
    assert_eq!(all(&d1), all(&d2));
    assert_eq!(a.count().unwrap(), 2, "one of the two is in");
    assert!(!a.set_apart().unwrap().is_empty(), "the other's work is held");
}

/// Anyone with the read key can seal a batch 1 that names another's feed. Before it was refused, it was taken for a gap
/// and then for the feed's own beginning, and the real one could never follow.
#[test]
fn a_forged_beginning_of_anothers_feed_is_dropped() {
    use cairn_trust::{Batch, ChunkKind, Header, Item, Unit, UnitKind, seal};
    let mut a = founder();
    let mut b = joiner(&mut a, 2, Role::Member);
    let ticket = a.invite(Role::Observer, 1, InviteMode::Bearer, vec![]).unwrap();
    seen(&mut b, "ibis", 1.0);
    b.cut(1).unwrap();
    let victim = b.feeds().iter().find(|f| f.device == b.device()).unwrap().id;
    let mallory = DeviceKeys::from_seed([66; 32]);
    let change = cairn_model::DocState::default().edit(cairn_model::ActorId([1; 16]), 1, vec![("note".into(), Some("x".into()))]).unwrap();
    for origin in [mallory.device(), b.device()] {
        let header = Header {
            feed: victim,
            seq: 1,
            prev: None,
            origin: Some((origin, [9; 16])),
            control: vec![],
            seen: vec![],
            nonces: vec![],
            wall_ms: 1,
            format: (1, 0),
            configuration: a.genesis().unwrap().configuration,
            unit: Unit { id: cairn_model::UnitId([0; 16]), kind: UnitKind::Edits, index: 0, last: true },
            items: vec![Item { kind: 1, doc: DocId([1; 16]), changes: 1 }],
        };
        let forged = Batch::sign(&a.project(), &mallory, header, &[&change]).unwrap();
        let chunk = seal(&a.project(), ChunkKind::Batch, &ticket.epochs[0], &[3; 24], &forged.encode()).unwrap();
        assert_eq!(a.ingest(vec![chunk], None).unwrap().stats.dropped, 1);
    }
    meet(&mut a, &mut b);
    assert_eq!(a.count().unwrap(), 1);
}

/// A backup of the store file was copied over the file in place, which nothing notices: the feed has gone on elsewhere,
/// and an edit is waiting to be cut when the missing batches come back.
#[test]
fn a_store_older_than_its_feed_goes_on_in_a_new_one() {
    let mut a = founder();
    let mut b = joiner(&mut a, 2, Role::Member);
    let x = seen(&mut a, "before", 1.0);
    a.cut(1).unwrap();
    let old = clone_of(&mut a).unwrap();
    set(&mut a, x, "species", "after the backup");
    meet(&mut a, &mut b);
    drop(a);
    let mut a = Store::open(old, DeviceKeys::from_seed([1; 32]), Box::new(Counter(3 << 55)), false).unwrap();
    let y = seen(&mut a, "since", 2.0);
    let (missing, _) = b.missing_for(&a.frontier().unwrap()).unwrap();
    for (chain, first, _) in missing {
        a.ingest(b.chunks_from(chain, first, usize::MAX).unwrap(), None).unwrap();
    }
    set(&mut a, y, "species", "and later");
    meet(&mut a, &mut b);
    assert_eq!(b.count().unwrap(), 2);
    assert_eq!(b.history(&y).unwrap().len(), 2);
}

/// A phone's backup was restored beside the phone, and both went on writing under one feed: the copy kept the
/// incarnation because the file that notices copies was fooled. Nothing may be lost and all must agree.
#[test]
fn a_clone_that_was_not_noticed_becomes_branches() {
    let keys = || DeviceKeys::from_seed([1; 32]);
    let mut a = founder();
    let mut b = joiner(&mut a, 2, Role::Member);
    let mut c = joiner(&mut a, 3, Role::Member);
    seen(&mut a, "before", 1.0);
    meet(&mut a, &mut b);
    // The clone: an own store made of everything A had, opened as the same device and incarnation.
    let (mut clone_db, mut original_db) = (clone_of(&mut a), clone_of(&mut a));
    drop(a);
    let mut a1 = Store::open(original_db.take().unwrap(), keys(), Box::new(Counter(7 << 50)), false).unwrap();
    let mut a2 = Store::open(clone_db.take().unwrap(), keys(), Box::new(Counter(9 << 50)), false).unwrap();
    for n in 0..3 {
        seen(&mut a1, "on the phone", n as f64);
        a1.cut(1).unwrap();
        seen(&mut a2, "on the copy", n as f64);
        a2.cut(1).unwrap();
    }
    meet(&mut a1, &mut b);
    meet(&mut a2, &mut c);
    meet(&mut b, &mut c);
    assert_eq!(b.count().unwrap(), 7);
    meet(&mut a1, &mut c);
    meet(&mut a2, &mut b);
    assert!(!a1.own_feed_forked(), "it opened a new feed when it learned");
    assert_eq!(a1.feeds().iter().filter(|f| f.device == a1.device()).count(), 3, "both branches and the new feed");
    seen(&mut a1, "later", 5.0);
    for _ in 0..2 {
        meet(&mut a1, &mut b);
        meet(&mut b, &mut c);
        meet(&mut a2, &mut c);
    }
    meet(&mut a1, &mut a2);
    assert_eq!(a2.count().unwrap(), 8);
}

#[test]
fn forged_foreign_and_torn_chunks_are_dropped_and_counted() {
    let mut a = founder();
    let mut b = joiner(&mut a, 2, Role::Member);
    seen(&mut a, "owl", 1.0);
    a.cut(1).unwrap();
    let (missing, _) = a.missing_for(&[]).unwrap();
    let good = a.chunks_from(missing[0].0, 1, usize::MAX).unwrap();
    let mut flipped = good[0].clone();
    flipped[100] ^= 1;
    let stats = b.ingest(vec![flipped, good[0][..300].to_vec(), vec![0; 500], vec![]], None).unwrap().stats;
    assert_eq!((stats.dropped, stats.held), (4, 0));
    let stats = b.ingest(vec![good[0].clone(), good[0].clone()], None).unwrap().stats;
    assert_eq!((stats.held, stats.known), (1, 1));
}
