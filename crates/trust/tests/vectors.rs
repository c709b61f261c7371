//! Test vectors of format 1. A change here is a change of the format: it is not made, a new format is.

use cairn_model::{ActorId, DocId, DocState, FeedId, ProjectId, UnitId, Value, hex, unhex};
use cairn_trust::*;

const PROJECT: ProjectId = ProjectId([0x11; 32]);
const EPOCH: EpochKey = EpochKey([0xaa; 32]);

fn keys() -> DeviceKeys {
    DeviceKeys::from_seed([0x22; 32])
}

fn header(feed: FeedId) -> Header {
    Header {
        feed,
        seq: 1,
        prev: None,
        origin: Some((keys().device(), [0x33; 16])),
        control: vec![ControlHash([0x44; 32])],
        seen: vec![],
        nonces: vec![([0x33; 16], [0x55; 16])],
        wall_ms: 1_750_000_000_000,
        format: (1, 0),
        configuration: DocId([0x66; 16]),
        unit: Unit { id: UnitId([0x77; 16]), kind: UnitKind::Edits, index: 0, last: true },
        items: vec![Item { kind: 1, doc: DocId([0x88; 16]), changes: 1 }],
    }
}

fn change(actor: ActorId) -> Vec<u8> {
    DocState::default().edit(actor, 1_750_000_000_000, vec![("category".into(), Some(Value::from("animal")))]).unwrap()
}

fn batch() -> Batch {
    let feed = feed_id(&PROJECT, &keys().device(), &[0x33; 16]);
    Batch::sign(&PROJECT, &keys(), header(feed), &[&change(actor_id(&feed, &[0x55; 16]))]).unwrap()
}

fn lines(named: &[(&str, String)]) -> String {
    named.iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>().join("\n")
}

fn genesis() -> Genesis {
    Genesis {
        name: "River".into(),
        founder_name: "Ana".into(),
        agreement_key: keys().agreement_key(),
        recovery_key: [0xbb; 32],
        configuration: DocId([0x66; 16]),
        format_major: 1,
        members_edit_others: true,
        open: false,
        random: [0xdd; 32],
    }
}

#[test]
fn derived_ids() {
    let feed = feed_id(&PROJECT, &keys().device(), &[0x33; 16]);
    insta::assert_snapshot!(lines(&[
        ("device", hex(&keys().device().0)),
        ("agreement", hex(&keys().agreement_key())),
        ("feed", feed.to_string()),
        ("actor", hex(&actor_id(&feed, &[0x55; 16]).0)),
        ("branch", branch_id(&feed, &[0x99; 32]).to_string()),
        ("epoch", hex(&EPOCH.id().0)),
        ("link proof", hex(&link_proof(&[1; 32], &[2; 32], true))),
        ("discovery tag", hex(&discovery_tag(&[1; 32], &[2; 8]))),
        ("recovery", hex(&RecoveryWords::new([0xbb; 32]).public_key())),
        ("words", RecoveryWords::new([0xbb; 32]).phrase()),
    ]));
}

#[test]
fn a_batch_and_its_hash() {
    let batch = batch();
    insta::assert_snapshot!(lines(&[
        ("hash", hex(&batch.hash.0)),
        ("header", hex(&batch.header_bytes)),
        ("batch", hex(&batch.encode())),
        ("detached", hex(&batch.detached().encode())),
    ]));
    assert_eq!(Batch::decode(&PROJECT, &batch.encode()).unwrap(), batch);
    let detached = Batch::decode(&PROJECT, &batch.detached().encode()).unwrap();
    assert_eq!((detached.hash, detached.payload), (batch.hash, None), "both encodings have one hash");
}

/// A chunk made once by this format and kept: it must open for ever, also when zstd compresses differently one day.
#[test]
fn a_kept_chunk_opens() {
    let kept = unhex(include_str!("chunk-format-1.hex").trim()).unwrap();
    let body = open(&PROJECT, &EPOCH, &kept).unwrap();
    assert_eq!(Batch::decode(&PROJECT, &body).unwrap(), batch());
}

#[test]
fn control_operations_receipts_and_tickets() {
    let first = ControlOp::genesis(&keys(), &genesis());
    let project = first.hash.project();
    let invitation = DeviceKeys::from_seed([0xee; 32]);
    let invite =
        ControlOp::invite(&keys(), &project, vec![first.hash], &Invite { key: invitation.device().0, role: Role::Member, uses: 1 });
    let join = ControlOp::join(&DeviceKeys::from_seed([0x23; 32]), &project, invite.hash, "Bo", &invitation);
    let ticket = Ticket {
        project,
        ops: vec![first.clone(), invite.clone()],
        secret: [0xee; 32],
        epochs: vec![EPOCH],
        discovery: [1; 32],
        addresses: vec!["192.168.1.20:4711".into()],
    };
    let tip = Tip { feed: FeedId([1; 16]), seq: 7, hash: BatchHash([2; 32]) };
    let receipt = Receipt { device: keys().device(), counter: 3, incarnation: [0x33; 16], frontier: vec![tip] };
    let signed = receipt.sign(&project, &keys());
    insta::assert_snapshot!(lines(&[
        ("genesis", hex(&first.bytes)),
        ("invite", hex(&invite.bytes)),
        ("join", hex(&join.bytes)),
        ("ticket", ticket.encode()),
        ("receipt", hex(&signed)),
        ("digest", hex(&digest(&[first.hash], &[tip], &[(DocId([1; 16]), cairn_model::ChangeHash([9; 32]))]))),
    ]));
    assert_eq!(Ticket::decode(&ticket.encode()).unwrap(), ticket);
    assert_eq!(Receipt::open(&project, &signed).unwrap(), receipt);
    let ops = [first, invite, join];
    let membership = evaluate(&project, &ops);
    assert_eq!(membership.members.len(), 2);
    assert_eq!(evaluate(&project, ops.iter().rev()), membership, "the order does not matter");
}

/// Two devices used one single-use ticket offline. Everyone must agree on who is in, whatever came first. A forged join
/// (the invitation's key never signed for that device) and an invitation by a stranger count for nothing.
#[test]
fn one_ticket_lets_one_device_in() {
    let first = ControlOp::genesis(&keys(), &genesis());
    let project = first.hash.project();
    let invitation = DeviceKeys::from_seed([5; 32]);
    let invite =
        ControlOp::invite(&keys(), &project, vec![first.hash], &Invite { key: invitation.device().0, role: Role::Member, uses: 1 });
    let join = |n: u8| ControlOp::join(&DeviceKeys::from_seed([n; 32]), &project, invite.hash, "x", &invitation);
    let ops = [first, invite.clone(), join(7), join(8)];
    let one = evaluate(&project, &ops);
    assert_eq!(one.members.len(), 2);
    assert_eq!(evaluate(&project, [&ops[3], &ops[1], &ops[0], &ops[2]]), one);
    let stranger = DeviceKeys::from_seed([9; 32]);
    let forged = ControlOp::join(&stranger, &project, invite.hash, "x", &stranger);
    let own = Invite { key: stranger.device().0, role: Role::Coordinator, uses: 9 };
    let own_invite = ControlOp::invite(&stranger, &project, vec![ops[0].hash], &own);
    let own_join = ControlOp::join(&stranger, &project, own_invite.hash, "x", &stranger);
    let all = evaluate(&project, ops.iter().chain([&forged, &own_invite, &own_join]));
    assert_eq!(all.members, one.members);
}

#[test]
fn changed_bytes_are_refused_everywhere() {
    let batch = batch();
    let bytes = batch.encode();
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 1;
        let taken = Batch::decode(&PROJECT, &bad).is_ok_and(|b| b.signed_by(&keys().device()) && b != batch);
        assert!(!taken, "byte {at}");
    }
}
