//! Who belongs, seen from stores: roles, removal with cuts, quarantine, epochs, rules. Names with `row_` are rows of the
//! attack table the design was checked against.

mod common;

use cairn_model::{DeviceId, DocId, DocKind, DocState, UnitId, Value, default_configuration};
use cairn_store::{Entrance, Removal, Store, StoreError, Verdict};
use cairn_trust::{
    Batch, ChunkKind, ControlOp, DeviceKeys, Header, InviteMode, Item, OpBody, Policy, RemoveMode, Role, Tip, Unit, UnitKind, actor_id,
    feed_id, seal,
};
use common::*;

fn lost() -> Removal {
    Removal::Everything(RemoveMode::Lost)
}

fn team() -> (Store, Store, Store) {
    let mut a = founder();
    let mut b = joiner(&mut a, 2, Role::Member);
    let mut c = joiner(&mut a, 3, Role::Member);
    meet(&mut a, &mut b);
    meet(&mut a, &mut c);
    (a, b, c)
}

/// Chunks of `from` that `to` lacks, without control operations.
fn carry_chunks(from: &Store, to: &mut Store) -> cairn_store::IngestStats {
    let mut stats = cairn_store::IngestStats::default();
    let (missing, _) = from.missing_for(&to.frontier().unwrap()).unwrap();
    for (chain, first, _) in missing {
        stats.add(&to.ingest(from.chunks_from(chain, first, usize::MAX).unwrap(), None).unwrap().stats);
    }
    stats
}

/// A batch as a modified program of `keys` would make it: right in form, without asking its own rules.
fn rogue_batch(store: &Store, ticket: &cairn_trust::Ticket, keys: &DeviceKeys, kind: DocKind, doc: DocId) -> Vec<u8> {
    rogue(store, ticket, keys, kind, doc, (1, 0))
}

fn rogue(store: &Store, ticket: &cairn_trust::Ticket, keys: &DeviceKeys, kind: DocKind, doc: DocId, format: (u16, u16)) -> Vec<u8> {
    let incarnation = [7; 16];
    let feed = feed_id(&store.project(), &keys.device(), &incarnation);
    let change = DocState::default().edit(actor_id(&feed, &[8; 16]), 1, vec![("note".into(), Some(Value::from("rogue")))]).unwrap();
    let header = Header {
        feed,
        seq: 1,
        prev: None,
        origin: Some((keys.device(), incarnation)),
        control: store.membership().heads.clone(),
        seen: vec![],
        nonces: vec![(incarnation, [8; 16])],
        wall_ms: 1,
        format,
        configuration: store.lineage().unwrap(),
        unit: Unit { id: UnitId([0; 16]), kind: UnitKind::Edits, index: 0, last: true },
        items: vec![Item { kind: kind as u8, doc, changes: 1 }],
    };
    let batch = Batch::sign(&store.project(), keys, header, &[&change]).unwrap();
    seal(&store.project(), ChunkKind::Batch, &ticket.epochs[0], &[3; 24], &batch.encode()).unwrap()
}

fn verdicts(store: &Store) -> Vec<Verdict> {
    store.set_apart().unwrap().iter().map(|s| s.verdict).collect()
}

#[test]
fn row_27_an_observer_writes_all_the_same_and_is_quarantined_everywhere() {
    let mut a = founder();
    let mut b = joiner(&mut a, 2, Role::Member);
    let ticket = a.invite(Role::Observer, 1, InviteMode::Bearer, vec![]).unwrap();
    let keys = DeviceKeys::from_seed([3; 32]);
    let mut c = Store::join_project(database(), keys.clone(), Box::new(Counter(3 << 40)), &ticket, "Cy").unwrap();
    meet(&mut a, &mut c);
    let rogue = rogue_batch(&c, &ticket, &keys, DocKind::Observation, DocId([1; 16]));
    assert_eq!(a.ingest(vec![rogue], None).unwrap().stats.set_apart, 1);
    meet(&mut a, &mut b);
    for store in [&a, &b] {
        assert_eq!((store.count().unwrap(), verdicts(store)), (0, vec![Verdict::Quarantined]));
    }
    // Made a member later, it may write; what it wrote before stays apart until somebody takes it in.
    a.set_role(&keys.device(), Role::Member).unwrap();
    meet(&mut a, &mut b);
    assert_eq!(verdicts(&b), vec![Verdict::Quarantined]);
    let apart = &a.set_apart().unwrap()[0];
    let tip = Tip { feed: apart.feed.id, seq: apart.seq, hash: apart.hash };
    a.accept(tip).unwrap();
    meet(&mut a, &mut b);
    assert_eq!((b.count().unwrap(), verdicts(&b)), (1, vec![]));
}

#[test]
fn row_28_a_member_that_edits_the_configuration_is_quarantined() {
    let mut a = founder();
    let ticket = a.invite(Role::Member, 1, InviteMode::Bearer, vec![]).unwrap();
    let keys = DeviceKeys::from_seed([2; 32]);
    let mut b = Store::join_project(database(), keys.clone(), Box::new(Counter(2 << 40)), &ticket, "Bo").unwrap();
    meet(&mut a, &mut b);
    let refused = b.edit_document(DocKind::Configuration, a.lineage().unwrap(), vec![("name".into(), Some("x".into()))], 1);
    assert!(matches!(refused, Err(StoreError::Role { role: "member", .. })));
    let rogue = rogue_batch(&b, &ticket, &keys, DocKind::Configuration, a.lineage().unwrap());
    a.ingest(vec![rogue], None).unwrap();
    assert_eq!(verdicts(&a), vec![Verdict::Quarantined]);
    assert_eq!(a.configuration().as_ref().as_ref().unwrap().name, default_configuration().name);
}

/// The story of the issue: A removes B while B is offline and writes on; C had not heard and merges B's work first.
#[test]
fn row_15_and_18_what_a_removed_device_wrote_on_is_set_apart_and_can_be_taken_in() {
    let (mut a, mut b, mut c) = team();
    seen(&mut b, "before", 1.0);
    meet(&mut a, &mut b);
    a.remove(&b.device(), lost()).unwrap();
    seen(&mut b, "after", 2.0);
    meet(&mut b, &mut c);
    assert_eq!(c.count().unwrap(), 2, "who has not heard accepts");
    meet(&mut a, &mut c);
    for store in [&a, &c] {
        assert_eq!((store.count().unwrap(), verdicts(store)), (1, vec![Verdict::Quarantined]));
    }
    // C tells B: it is out, and says by whom.
    let notice = c.removal_of(&b.device()).unwrap();
    assert!(b.take_notice(&notice.bytes).unwrap());
    let refused = b.edit_observations(vec![], 1);
    assert!(matches!(&refused, Err(StoreError::Removed { by, mode: "lost" }) if by == "Ana"), "{refused:?}");
    let apart = a.set_apart().unwrap().remove(0);
    a.accept(Tip { feed: apart.feed.id, seq: apart.seq, hash: apart.hash }).unwrap();
    meet(&mut a, &mut c);
    assert_eq!((c.count().unwrap(), verdicts(&c)), (2, vec![]));
    // Let in again, B hears of both, and what it writes from then on counts.
    a.approve(&b.device(), None).unwrap();
    meet(&mut a, &mut b);
    seen(&mut b, "again", 3.0);
    meet(&mut a, &mut b);
    assert_eq!((a.count().unwrap(), verdicts(&a)), (3, vec![]));
}

/// C merged and edited what B wrote after its removal, before either had heard: C's work counts, and so what it builds on.
#[test]
fn row_15_later_work_vouches_for_what_it_builds_on() {
    let (mut a, mut b, mut c) = team();
    a.remove(&b.device(), lost()).unwrap();
    let x = seen(&mut b, "wolf", 1.0);
    seen(&mut b, "other", 2.0);
    meet(&mut b, &mut c);
    set(&mut c, x, "species", "jackal");
    meet(&mut a, &mut c);
    let shown: Vec<_> = all(&a).into_iter().map(|(id, _)| id).collect();
    assert_eq!(shown, vec![x], "C's edit brings in what it edited and nothing else");
    assert_eq!(a.set_apart().unwrap()[0].vouched, 1);
    // Chunks before control, control before chunks: the same.
    let mut d = joiner(&mut a, 4, Role::Observer);
    carry_chunks(&c, &mut d);
    d.add_control(&ops(&a)).unwrap();
    carry_chunks(&c, &mut d);
    meet(&mut a, &mut d);
}

#[test]
fn row_13_a_lower_cut_takes_back_what_a_thief_wrote_before_the_removal_was_known() {
    let (mut a, mut b, mut c) = team();
    for (n, species) in ["own 1", "own 2", "thief 1", "thief 2"].iter().enumerate() {
        seen(&mut b, species, n as f64);
        b.cut(1).unwrap();
    }
    meet(&mut a, &mut b);
    meet(&mut a, &mut c);
    a.remove(&b.device(), Removal::CompromisedSince(3)).unwrap();
    c.remove(&b.device(), lost()).unwrap_err();
    meet(&mut a, &mut c);
    assert_eq!((c.count().unwrap(), verdicts(&c).len()), (2, 2));
}

#[test]
fn two_removals_the_lowest_of_a_compromise_and_the_highest_of_a_loss_hold() {
    let (mut a, mut b, mut c) = team();
    a.set_role(&c.device(), Role::Coordinator).unwrap();
    meet(&mut a, &mut c);
    seen(&mut b, "one", 1.0);
    meet(&mut a, &mut b);
    seen(&mut b, "two", 2.0);
    meet(&mut b, &mut c);
    a.remove(&b.device(), lost()).unwrap();
    c.remove(&b.device(), lost()).unwrap();
    meet(&mut a, &mut c);
    assert_eq!((a.count().unwrap(), verdicts(&a)), (2, vec![]), "C had more of it");
}

/// Row 14: nothing can be put under a cut: the chain is by hashes, and a second branch is not what the cut named.
#[test]
fn row_14_a_branch_backdated_under_the_cut_does_not_count() {
    let keys = DeviceKeys::from_seed([2; 32]);
    let mut a = founder();
    let mut b = joiner(&mut a, 2, Role::Member);
    let mut c = joiner(&mut a, 3, Role::Member);
    seen(&mut b, "first", 1.0);
    meet(&mut a, &mut b);
    let copy = clone_of(&mut b).unwrap();
    seen(&mut b, "second", 2.0);
    b.cut(1).unwrap();
    seen(&mut b, "third", 3.0);
    meet(&mut a, &mut b);
    a.remove(&b.device(), lost()).unwrap();
    let mut thief = Store::open(copy, keys, Box::new(Counter(5 << 50)), false).unwrap();
    seen(&mut thief, "backdated", 4.0);
    meet(&mut thief, &mut c);
    assert_eq!(c.count().unwrap(), 2);
    meet(&mut a, &mut c);
    assert_eq!((a.count().unwrap(), verdicts(&a)), (3, vec![Verdict::Quarantined]));
    // A device that hears of the removal first, and of the branch before the chain it forks from.
    let mut d = joiner(&mut a, 4, Role::Observer);
    carry_chunks(&thief, &mut d);
    meet(&mut a, &mut d);
}

#[test]
fn row_12_and_16_a_removed_device_reads_nothing_newer() {
    let (mut a, mut b, mut c) = team();
    a.remove(&b.device(), lost()).unwrap();
    seen(&mut a, "secret", 1.0);
    a.cut(1).unwrap();
    let stats = carry_chunks(&a, &mut b);
    assert_eq!((stats.held, b.count().unwrap()), (0, 0), "the chunk is sealed under a key B has no box for");
    assert!(stats.gaps > 0 && stats.dropped == 0);
    // Not even with the control log in hand.
    b.add_control(&ops(&a)).unwrap();
    assert_eq!(carry_chunks(&a, &mut b).held, 0);
    meet(&mut a, &mut c);
    assert_eq!(c.count().unwrap(), 1);
}

#[test]
fn row_25_and_26_concurrent_rotations_heal_and_a_device_away_for_months_walks_the_chain() {
    let (mut a, mut b, mut c) = team();
    let mut away = joiner(&mut a, 9, Role::Member);
    meet(&mut a, &mut away);
    let (mut d, mut e) = (joiner(&mut a, 5, Role::Member), joiner(&mut a, 6, Role::Member));
    for other in [&mut b, &mut c, &mut d, &mut e] {
        meet(&mut a, other);
    }
    a.set_role(&b.device(), Role::Coordinator).unwrap();
    for other in [&mut b, &mut c] {
        meet(&mut a, other);
    }
    a.remove(&d.device(), lost()).unwrap();
    seen(&mut a, "under the first", 1.0);
    b.remove(&e.device(), lost()).unwrap();
    seen(&mut b, "under the second", 2.0);
    meet(&mut a, &mut b);
    assert!(a.membership().epochs.iter().all(|e| !e.holds), "each was boxed to somebody the other removed");
    seen(&mut b, "under a third", 3.0);
    meet(&mut a, &mut b);
    assert_eq!(a.membership().epochs.iter().filter(|e| e.holds).count(), 1);
    for n in 0..3 {
        let mut gone = joiner(&mut a, 20 + n, Role::Member);
        meet(&mut a, &mut gone);
        a.remove(&gone.device(), lost()).unwrap();
        seen(&mut a, "later", f64::from(n));
        a.cut(1).unwrap();
    }
    meet(&mut a, &mut away);
    assert_eq!(away.count().unwrap(), 6, "every key is found by the box in the log and the chain behind it");
    for gone in [&mut d, &mut e] {
        assert_eq!(carry_chunks(&a, gone).held, 0);
    }
}

/// A newcomer by an old bearer ticket holds old keys; whoever meets it first hands on what it lacks.
#[test]
fn newcomers_read_history_and_are_handed_the_keys_they_lack() {
    let (mut a, b, mut c) = team();
    let ticket = a.invite(Role::Member, 1, InviteMode::Bearer, vec![]).unwrap();
    a.remove(&b.device(), lost()).unwrap();
    seen(&mut a, "after the ticket", 1.0);
    meet(&mut a, &mut c);
    let mut late = Store::join_project(database(), DeviceKeys::from_seed([8; 32]), Box::new(Counter(8 << 40)), &ticket, "Late").unwrap();
    carry(&mut late, &mut c);
    carry(&mut c, &mut late);
    assert_eq!(late.count().unwrap(), 1);
    seen(&mut late, "its own", 2.0);
    meet(&mut late, &mut a);
    assert_eq!(a.count().unwrap(), 2);
}

#[test]
fn a_ticket_that_needs_approval_gives_no_key_until_a_coordinator_says_so() {
    let mut a = founder();
    seen(&mut a, "history", 1.0);
    let ticket = a.invite(Role::Member, 1, InviteMode::Approve, vec![]).unwrap();
    assert!(ticket.epochs.is_empty() && ticket.ops.is_empty() && ticket.discovery == [0; 32]);
    let join = |n: u8| {
        let keys = DeviceKeys::from_seed([n; 32]);
        (keys.clone(), ControlOp::join(&keys, &ticket.project, ticket.invite, "New", &ticket.invitation_keys(), None))
    };
    let (keys, op) = join(30);
    assert_eq!(a.enter(&keys.device(), &op.bytes, 1).unwrap(), Entrance::Pending);
    assert_eq!(a.enter(&DeviceId([1; 32]), &op.bytes, 1).unwrap(), Entrance::Ended, "another device with its request");
    a.approve(&keys.device(), None).unwrap();
    let Entrance::Welcome(given) = a.enter(&keys.device(), &op.bytes, 1).unwrap() else { panic!("approved") };
    let given = given.iter().map(|b| ControlOp::decode(&ticket.project, b).unwrap()).collect();
    let mut new = Store::enter_project(database(), keys, Box::new(Counter(30 << 40)), ticket.project, given, Default::default()).unwrap();
    meet(&mut a, &mut new);
    assert_eq!(new.count().unwrap(), 1);
    // Row 8: somebody else found the ticket; a coordinator sees the request and refuses it.
    let (stranger, op) = join(31);
    assert_eq!(a.enter(&stranger.device(), &op.bytes, 1).unwrap(), Entrance::Pending);
    a.refuse(&stranger.device()).unwrap();
    assert_eq!(a.enter(&stranger.device(), &op.bytes, 1).unwrap(), Entrance::Ended);
    // Row 53: requests by a leaked ticket are few.
    let taken = (40..80).filter(|n| a.enter(&join(*n).0.device(), &join(*n).1.bytes, 1).unwrap() == Entrance::Pending).count();
    assert!(taken < 10, "{taken} requests by one ticket");
}

#[test]
fn row_9_a_revoked_bearer_ticket_reads_nothing_written_later() {
    let (mut a, mut b, _) = team();
    let ticket = a.invite(Role::Member, 1, InviteMode::Bearer, vec![]).unwrap();
    a.revoke(ticket.invite).unwrap();
    seen(&mut a, "after", 1.0);
    a.cut(1).unwrap();
    let mut thief = Store::join_project(database(), DeviceKeys::from_seed([66; 32]), Box::new(Counter(66 << 40)), &ticket, "T").unwrap();
    assert_eq!(carry_chunks(&a, &mut thief).held, 1, "only the configuration, written before");
    a.add_control(&ops(&thief)).unwrap();
    assert!(!a.is_member(&thief.device()));
    meet(&mut a, &mut b);
    assert_eq!(b.count().unwrap(), 1);
}

#[test]
fn members_edit_only_their_own_where_the_policy_says_so() {
    let (mut a, mut b, mut c) = team();
    let x = seen(&mut b, "by B", 1.0);
    meet(&mut a, &mut b);
    meet(&mut a, &mut c);
    a.set_policy(Policy { members_edit_others: Some(false), open: None }).unwrap();
    meet(&mut a, &mut b);
    let mut edit = cairn_model::Edit::new();
    edit.note("by C");
    // C has not heard and edits; it was allowed as far as it knew.
    set(&mut c, x, "species", "by C, before");
    meet(&mut a, &mut c);
    meet(&mut a, &mut b);
    assert_eq!(verdicts(&b), vec![]);
    let refused = c.edit_observations(vec![(x, edit.clone())], 1);
    assert!(matches!(refused, Err(StoreError::Role { role: "member", .. })), "{refused:?}");
    b.edit_observations(vec![(x, edit)], 1).unwrap();
    set(&mut a, x, "species", "by a coordinator");
    meet(&mut a, &mut b);
    meet(&mut a, &mut c);
    assert_eq!(verdicts(&c), vec![]);
}

#[test]
fn a_switch_of_configuration_gates_until_it_is_followed() {
    let (mut a, mut b, mut c) = team();
    let mut other = default_configuration();
    other.name = "Other".into();
    a.switch_configuration(&other, 1).unwrap();
    seen(&mut a, "under the new", 1.0);
    meet_gated(&mut a, &mut b);
    assert_eq!(b.count().unwrap(), 0, "held, not applied");
    assert_eq!(verdicts(&b), vec![Verdict::Waiting]);
    seen(&mut b, "under the old, knowing", 2.0);
    seen(&mut c, "under the old, not knowing", 3.0);
    meet_gated(&mut a, &mut b);
    meet_gated(&mut a, &mut c);
    assert_eq!((a.count().unwrap(), verdicts(&a)), (2, vec![Verdict::Waiting]), "C's earlier work is nobody's fault");
    assert_ne!(a.digest().unwrap(), b.digest().unwrap(), "they do not show the same");
    assert!(b.adopt_configuration().unwrap() && c.adopt_configuration().unwrap());
    assert_eq!(b.configuration().as_ref().as_ref().unwrap().name, "Other");
    meet_gated(&mut a, &mut b);
    meet_gated(&mut a, &mut c);
    meet(&mut a, &mut b);
    meet(&mut a, &mut c);
    assert_eq!((b.count().unwrap(), verdicts(&b)), (3, vec![]));
    assert!(!b.adopt_configuration().unwrap());
}

fn meet_gated(a: &mut Store, b: &mut Store) {
    for _ in 0..2 {
        carry(a, b);
        carry(b, a);
    }
}

#[test]
fn the_recovery_words_and_only_they_bring_back_a_project_without_coordinators() {
    let (mut a, words) = founded();
    let mut b = joiner(&mut a, 2, Role::Member);
    seen(&mut a, "the founder's", 1.0);
    meet(&mut a, &mut b);
    let other = cairn_trust::RecoveryWords::new([1; 32]);
    assert!(matches!(b.use_recovery_words(&other, "Bo", &[]), Err(StoreError::Control(_))));
    assert_eq!(b.membership().role(&b.device()), Some(Role::Member));
    b.use_recovery_words(&words, "Bo", &[a.device()]).unwrap();
    assert_eq!(b.membership().role(&b.device()), Some(Role::Coordinator));
    assert_eq!(b.membership().recoveries.len(), 2, "shown loudly");
    seen(&mut b, "after the founder", 2.0);
    b.cut(1).unwrap();
    let mut c = joiner(&mut b, 3, Role::Member);
    meet(&mut b, &mut c);
    assert_eq!(c.count().unwrap(), 2);
    // Row 22: the old founder learns it is out.
    assert!(a.take_notice(&b.removal_of(&a.device()).unwrap().bytes).unwrap());
    assert!(matches!(a.still_in(), Err(StoreError::Removed { by, .. }) if by == "the recovery words"));
    assert_eq!(carry_chunks(&b, &mut a).held, 0);
}

/// Anyone who proves the project may hand over operations; only those with a right in their own ancestry are kept.
#[test]
fn row_53_operations_of_strangers_are_not_kept() {
    let mut a = founder();
    let before = a.control().len();
    let stranger = DeviceKeys::from_seed([99; 32]);
    let head = a.membership().heads.clone();
    let junk: Vec<ControlOp> = (0..50u8)
        .map(|n| {
            let body = OpBody::Revoke(cairn_trust::ControlHash([n; 32]));
            ControlOp::issue(cairn_trust::Issuer::Device(&stranger), &a.project(), head.clone(), 0, body)
        })
        .collect();
    let added = a.add_control(&junk).unwrap();
    assert_eq!((added.new, added.refused), (0, 50));
    assert_eq!(a.control().len(), before);
}

/// A member writes without end; removed as of an earlier batch, what it flooded is out of sight and still held.
#[test]
fn row_31_a_flood_is_cut_off() {
    let (mut a, mut b, mut c) = team();
    seen(&mut b, "honest", 1.0);
    b.cut(1).unwrap();
    for n in 0..600 {
        seen(&mut b, "flood", f64::from(n) / 10.0);
    }
    meet(&mut a, &mut b);
    a.remove(&b.device(), Removal::CompromisedSince(2)).unwrap();
    meet(&mut a, &mut c);
    for store in [&a, &c] {
        assert_eq!(store.count().unwrap(), 1);
        assert!(store.set_apart_counts().unwrap().0 >= 3);
    }
}

/// A batch of a newer data format, or with a part that must be understood and is not: held and handed on, not shown.
#[test]
fn row_49_a_newer_format_is_held_and_forwarded() {
    let mut a = founder();
    let ticket = a.invite(Role::Member, 1, InviteMode::Bearer, vec![]).unwrap();
    let keys = DeviceKeys::from_seed([2; 32]);
    let mut b = Store::join_project(database(), keys.clone(), Box::new(Counter(2 << 40)), &ticket, "Bo").unwrap();
    let mut c = joiner(&mut a, 3, Role::Member);
    meet(&mut a, &mut b);
    let newer = rogue(&b, &ticket, &keys, DocKind::Observation, DocId([1; 16]), (2, 0));
    assert_eq!(a.ingest(vec![newer], None).unwrap().stats.set_apart, 1);
    meet(&mut a, &mut c);
    for store in [&a, &c] {
        assert_eq!((store.count().unwrap(), verdicts(store)), (0, vec![Verdict::Waiting]));
    }
}

fn op_by(keys: &DeviceKeys, store: &Store, parents: Vec<cairn_trust::ControlHash>, body: OpBody) -> ControlOp {
    ControlOp::issue(cairn_trust::Issuer::Device(keys), &store.project(), parents, 0, body)
}

/// A hundred devices joined and nobody said anything since: a hundred heads. Who revokes their ticket must not void their joins
/// by knowing only some of them.
#[test]
fn a_hundred_joins_survive_the_revocation_of_their_ticket() {
    let mut a = founder();
    let ticket = a.invite(Role::Member, 200, InviteMode::Bearer, vec![]).unwrap();
    let secret = ticket.invitation_keys();
    let joins: Vec<ControlOp> = (0..100u8)
        .map(|n| ControlOp::join(&DeviceKeys::from_seed([n + 100; 32]), &a.project(), ticket.invite, "x", &secret, None))
        .collect();
    assert_eq!(a.add_control(&joins).unwrap().new, 100);
    assert_eq!(a.membership().heads.len(), 100);
    a.revoke(ticket.invite).unwrap();
    assert_eq!(a.membership().members.len(), 101);
    let mut late = joiner(&mut a, 9, Role::Member);
    seen(&mut late, "owl", 1.0);
    meet(&mut a, &mut late);
    assert_eq!(a.count().unwrap(), 1);
}

/// A removed device, under a fresh key, introduced operations full of invented read keys and masses of joins: the store took
/// them, handed the keys on in one operation too large for anybody to read, and never opened again.
#[test]
fn what_strangers_introduce_leaves_nothing_behind() {
    let mut a = founder();
    let keys = DeviceKeys::from_seed([2; 32]);
    let ticket = a.invite(Role::Member, 1, InviteMode::Bearer, vec![]).unwrap();
    let mut b = Store::join_project(database(), keys.clone(), Box::new(Counter(2 << 40)), &ticket, "Bo").unwrap();
    meet(&mut a, &mut b);
    let grant = b.membership().members[&b.device()].grant;
    let readers = [(a.device(), a.keys().agreement_key())];
    let invented = |n: u8| {
        let chain = (0..250u8).map(|k| cairn_trust::EpochKey([k; 32].map(|b: u8| b ^ n))).collect();
        let ring = cairn_trust::Keyring { discovery: [1; 32], keys: chain };
        op_by(&keys, &a, vec![grant], OpBody::Epoch(cairn_trust::mint(&a.project(), &ring, &readers, [n; 32]).unwrap().1))
    };
    let junk: Vec<ControlOp> = (1..5).map(invented).collect();
    a.remove(&b.device(), lost()).unwrap();
    let before = a.control().len();
    let stranger = DeviceKeys::from_seed([77; 32]).device();
    assert_eq!(a.introduced(&stranger, &junk).unwrap(), 0);
    let joins: Vec<ControlOp> = (0..50u8)
        .map(|n| ControlOp::join(&DeviceKeys::from_seed([n + 100; 32]), &a.project(), ticket.invite, "x", &ticket.invitation_keys(), None))
        .collect();
    assert_eq!(a.introduced(&DeviceKeys::from_seed([100; 32]).device(), &joins).unwrap(), 0, "the ticket is used up");
    assert_eq!(a.control().len(), before);
    // Who does belong brings what that takes, and nothing it carries along.
    let open = a.invite(Role::Member, 9, InviteMode::Bearer, vec![]).unwrap();
    let entering = |n: u8| ControlOp::join(&DeviceKeys::from_seed([n; 32]), &a.project(), open.invite, "x", &open.invitation_keys(), None);
    let many: Vec<ControlOp> = (100..108u8).map(entering).collect();
    let first = DeviceKeys::from_seed([100; 32]).device();
    assert_eq!(a.introduced(&first, &many).unwrap(), 1);
    // Even taken in by another way, keys of who does not belong are nobody's.
    a.add_control(&junk).unwrap();
    a.prepare(1).unwrap();
    let copy = clone_of(&mut a).unwrap();
    drop(a);
    let mut a = Store::open(copy, DeviceKeys::from_seed([1; 32]), Box::new(Counter(9 << 50)), false).unwrap();
    seen(&mut a, "fine", 1.0);
    assert!(a.cut(1).is_ok());
}

/// Only who may remove this device can tell it that it was removed.
#[test]
fn a_forged_notice_silences_nobody() {
    let (mut a, mut b, mut c) = team();
    a.set_role(&b.device(), Role::Coordinator).unwrap();
    meet(&mut a, &mut b);
    let remove = |device| OpBody::Remove(cairn_trust::Remove { device, mode: RemoveMode::Lost, cuts: vec![] });
    let grant = vec![b.membership().members[&b.device()].grant];
    let of_senior = op_by(b.keys(), &a, grant.clone(), remove(a.device()));
    assert!(!a.take_notice(&of_senior.bytes).unwrap() && a.still_in().is_ok());
    let by_member = op_by(c.keys(), &b, grant, remove(b.device()));
    assert!(!b.take_notice(&by_member.bytes).unwrap() && b.still_in().is_ok());
    a.remove(&b.device(), lost()).unwrap();
    let of_member = op_by(b.keys(), &c, vec![b.membership().members[&b.device()].grant], remove(c.device()));
    meet(&mut a, &mut c);
    assert!(!c.take_notice(&of_member.bytes).unwrap() && c.still_in().is_ok(), "who is out says nothing");
}

/// What counted under the old configuration counts for ever, also when its author leaves; what the gate holds can be accepted.
#[test]
fn the_gate_takes_nothing_back_and_can_be_opened_by_hand() {
    let (mut a, mut b, mut c) = team();
    let mut other = default_configuration();
    other.name = "Other".into();
    a.switch_configuration(&other, 1).unwrap();
    meet_gated(&mut a, &mut b);
    meet_gated(&mut a, &mut c);
    seen(&mut b, "before following", 1.0);
    meet_gated(&mut a, &mut b);
    assert_eq!((a.count().unwrap(), verdicts(&a)), (0, vec![Verdict::Waiting]));
    b.adopt_configuration().unwrap();
    meet_gated(&mut a, &mut b);
    assert_eq!(a.count().unwrap(), 1);
    a.remove(&b.device(), lost()).unwrap();
    assert_eq!((a.count().unwrap(), verdicts(&a)), (1, vec![]), "it stays");
    seen(&mut c, "never followed", 2.0);
    meet_gated(&mut a, &mut c);
    a.remove(&c.device(), lost()).unwrap();
    assert_eq!(verdicts(&a), vec![Verdict::Waiting]);
    let apart = a.set_apart().unwrap().remove(0);
    a.accept(Tip { feed: apart.feed.id, seq: apart.seq, hash: apart.hash }).unwrap();
    assert_eq!((a.count().unwrap(), verdicts(&a)), (2, vec![]));
}

/// A member boxed rubbish to one reader: the log says it has the key. It asks by id, and any member hands it over.
#[test]
fn a_reader_that_was_cheated_asks_for_its_key() {
    let (mut a, mut b, mut c) = team();
    meet(&mut a, &mut b);
    let readers = [(a.device(), a.keys().agreement_key()), (b.device(), [9; 32]), (c.device(), c.keys().agreement_key())];
    let ring = cairn_trust::Keyring { discovery: c.discovery_key(), keys: vec![] };
    let epoch = OpBody::Epoch(cairn_trust::mint(&c.project(), &ring, &readers, [5; 32]).unwrap().1);
    let rubbish = op_by(c.keys(), &c, c.membership().heads.clone(), epoch);
    for store in [&mut a, &mut b, &mut c] {
        store.add_control(std::slice::from_ref(&rubbish)).unwrap();
    }
    seen(&mut a, "under it", 1.0);
    a.cut(1).unwrap();
    assert_eq!(carry_chunks(&a, &mut b).held, 0);
    let missing = b.keys_missing();
    assert_eq!(missing.len(), 1);
    assert!(a.hand_keys(&b.device(), &missing).unwrap());
    meet(&mut a, &mut b);
    assert_eq!((b.count().unwrap(), b.keys_missing()), (1, vec![]));
}

#[test]
fn nobody_leaves_with_work_that_is_nowhere_else() {
    let (mut a, mut b, _) = team();
    seen(&mut b, "only here", 1.0);
    let refused = b.remove(&b.device(), Removal::Everything(RemoveMode::Left));
    assert!(matches!(&refused, Err(StoreError::Control(m)) if m.contains("on no other device")), "{refused:?}");
    meet(&mut a, &mut b);
    let bytes = a.make_receipt().unwrap();
    b.keep_receipt(&cairn_trust::Receipt::open(&b.project(), &bytes).unwrap(), &bytes).unwrap();
    b.remove(&b.device(), Removal::Everything(RemoveMode::Left)).unwrap();
    a.add_control(&ops(&b)).unwrap();
    assert!(!a.is_member(&b.device()));
    assert_eq!(a.count().unwrap(), 1);
}

/// A phone was restored from a copy that had an edit not yet in a batch: the edit went into a batch of two feeds. A removal that
/// lets only one of them count must leave it standing everywhere, also where the other one came first.
#[test]
fn a_change_in_two_feeds_counts_if_one_of_them_does() {
    let (mut a, mut b, mut c) = team();
    seen(&mut b, "in two feeds", 1.0);
    let copy = clone_of(&mut b).unwrap();
    let mut restored = Store::open(copy, DeviceKeys::from_seed([2; 32]), Box::new(Counter(6 << 50)), true).unwrap();
    restored.cut(1).unwrap();
    carry_chunks(&restored, &mut c);
    carry_chunks(&b, &mut c);
    b.cut(1).unwrap();
    carry_chunks(&b, &mut c);
    carry_chunks(&b, &mut a);
    assert_eq!((a.count().unwrap(), c.count().unwrap()), (1, 1));
    // A knows the first feed alone: the other one does not count.
    a.remove(&b.device(), lost()).unwrap();
    meet(&mut a, &mut c);
    assert_eq!((a.count().unwrap(), c.count().unwrap(), verdicts(&c)), (1, 1, vec![Verdict::Quarantined]));
}
