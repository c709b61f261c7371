//! Test vectors of format 1. A change here is a change of the format: it is not made, a new format is.

use cairn_model::{ActorId, DeviceId, DocId, DocState, FeedId, ProjectId, UnitId, Value, hex, unhex};
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
        epoch: None,
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
    let invite = invite(&project, &keys(), first.hash, &invitation, Role::Member, 1);
    let join = ControlOp::join(&DeviceKeys::from_seed([0x23; 32]), &project, invite.hash, "Bo", &invitation, None);
    let ticket = Ticket {
        project,
        invite: invite.hash,
        mode: InviteMode::Bearer,
        host: None,
        tells: Tells::default(),
        ops: vec![first.clone(), invite.clone()],
        secret: [0xee; 32],
        epochs: vec![EPOCH],
        discovery: [1; 32],
        addresses: vec!["192.168.1.20:4711".into()],
    };
    let tip = Tip { feed: FeedId([1; 16]), seq: 7, hash: BatchHash([2; 32]) };
    let receipt = Receipt { device: keys().device(), counter: 3, incarnation: [0x33; 16], frontier: vec![tip], heads: Vec::new() };
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
    let mut log = Log::new(project);
    for op in [first, invite, join] {
        assert_eq!(log.admit(op), Ok(true));
    }
    assert_eq!(evaluate(&log).members.len(), 2);
}

fn invite(project: &ProjectId, by: &DeviceKeys, grant: ControlHash, invitation: &DeviceKeys, role: Role, uses: u32) -> ControlOp {
    let invite = Invite { key: invitation.device().0, role, uses, mode: InviteMode::Bearer };
    ControlOp::issue(Issuer::Device(by), project, vec![grant], 0, OpBody::Invite(invite))
}

/// Format 1 grew: operations that its first version did not write.
#[test]
fn control_operations_of_membership() {
    let project = ProjectId([0x11; 32]);
    let tip = Tip { feed: FeedId([1; 16]), seq: 7, hash: BatchHash([2; 32]) };
    let (device, agreement_key) = (DeviceId([0x71; 32]), [0x72; 32]);
    let op = |body| {
        let op = ControlOp::issue(Issuer::Device(&keys()), &project, vec![ControlHash([3; 32])], 9, body);
        assert_eq!(ControlOp::decode(&project, &op.bytes), Ok(op.clone()));
        hex(&op.bytes)
    };
    let invite = |mode| OpBody::Invite(Invite { key: [1; 32], role: Role::Observer, uses: 3, mode });
    insta::assert_snapshot!(lines(&[
        ("approve", op(invite(InviteMode::Approve))),
        ("meet", op(invite(InviteMode::Meet))),
        ("revoke", op(OpBody::Revoke(ControlHash([4; 32])))),
        ("add", op(OpBody::Add(Add { device, name: "Bo".into(), agreement_key, role: Role::Archive }))),
        ("role", op(OpBody::SetRole(SetRole { device, role: Role::Member, cuts: vec![tip] }))),
        ("remove", op(OpBody::Remove(Remove { device, mode: RemoveMode::Compromised, cuts: vec![tip] }))),
        ("accept", op(OpBody::Accept(tip))),
        ("policy", op(OpBody::Policy(Policy { members_edit_others: Some(false), open: None }))),
        ("lineage", op(OpBody::Lineage(DocId([6; 16])))),
        ("adopt", op(OpBody::Adopt(DocId([6; 16])))),
        (
            "epoch",
            op(OpBody::Epoch(EpochOp {
                id: EPOCH.id(),
                readers: vec![[7; 8]],
                boxes: vec![8; BOX_BYTES],
                chain_ids: vec![EpochKey([1; 32]).id()],
                chain: vec![9; 40],
            }))
        ),
        ("convey", op(OpBody::Convey(Convey { device, epochs: vec![EPOCH.id()], sealed: vec![9; 96] }))),
        ("knock", hex(&knock(&[1; 32], &[2; 8]))),
        ("invitation knock", hex(&invitation_knock_key(&[1; 32]))),
        ("code knock", hex(&code_knock_key(7))),
        ("check digits", check_digits(&[1; 32])),
        ("device digits", device.digits()),
    ]));
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
