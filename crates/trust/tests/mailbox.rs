//! Packs and manifests: what comes back is what went in, whatever it was; what was bent does not come back at all.

use cairn_model::{ActorId, ChunkHash, DeviceId, DocId, DocState, FeedId, ProjectId, UnitId, Value};
use cairn_trust::*;
use proptest::prelude::*;

const PROJECT: ProjectId = ProjectId([0x11; 32]);
const KEY: EpochKey = EpochKey([0xaa; 32]);

fn keys() -> DeviceKeys {
    DeviceKeys::from_seed([0x22; 32])
}

/// Batches of one feed; each entry names the documents it touches, with several changes each.
fn batches(plan: &[Vec<(u8, u8)>]) -> Vec<Batch> {
    let feed = feed_id(&PROJECT, &keys().device(), &[0x33; 16]);
    let actor: ActorId = actor_id(&feed, &[0x55; 16]);
    let mut states: std::collections::BTreeMap<u8, DocState> = Default::default();
    let (mut out, mut prev, mut serial) = (Vec::<Batch>::new(), None, 0);
    for (n, items) in plan.iter().enumerate() {
        let (mut changes, mut header_items) = (Vec::new(), Vec::new());
        for (doc, count) in items {
            let state = states.entry(*doc).or_default();
            for _ in 0..*count {
                serial += 1;
                let note = format!("{serial} {}", "words ".repeat(usize::from(*doc)));
                let change = state.edit(actor, 5, vec![("note".into(), Some(Value::from(note.as_str())))]).unwrap();
                state.apply(&cairn_model::Change::parse(&change).unwrap()).unwrap();
                changes.push(change);
            }
            header_items.push(Item { kind: 1, doc: DocId([*doc; 16]), changes: u32::from(*count) });
        }
        let header = Header {
            feed,
            seq: n as u64 + 1,
            prev,
            origin: (n == 0).then(|| (keys().device(), [0x33; 16])),
            control: vec![ControlHash([0x44; 32])],
            seen: vec![],
            nonces: vec![([0x33; 16], [0x55; 16])],
            wall_ms: 5,
            format: (1, 0),
            configuration: DocId([0x66; 16]),
            unit: Unit { id: UnitId([n as u8; 16]), kind: UnitKind::Edits, index: 0, last: true },
            items: header_items,
        };
        let slices: Vec<&[u8]> = changes.iter().map(Vec::as_slice).collect();
        let batch = Batch::sign(&PROJECT, &keys(), header, &slices).unwrap();
        prev = Some(batch.hash);
        out.push(batch);
    }
    out
}

fn packed(all: &[Batch]) -> Vec<u8> {
    let mut pack = Pack::default();
    assert!(all.iter().all(|b| pack.add(b)));
    pack.seal(&PROJECT, &KEY).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// The same document may come in many batches, and several times in one: each batch gets its own changes back, in order.
    #[test]
    fn a_pack_gives_back_the_batches_as_they_were_signed(plan in prop::collection::vec(prop::collection::vec((0u8..4, 1u8..4), 1..5), 1..12)) {
        let all = batches(&plan);
        let back = open_pack(&PROJECT, &KEY, &packed(&all)).unwrap();
        prop_assert_eq!(&back, &all);
        prop_assert!(back.iter().all(|b| b.signed_by(&keys().device())));
    }

    #[test]
    fn bytes_sealed_by_a_rogue_member_never_panic(body in prop::collection::vec(any::<u8>(), 0..400), at in any::<prop::sample::Index>()) {
        for kind in [ChunkKind::Pack, ChunkKind::Manifest, ChunkKind::Control, ChunkKind::Keys, ChunkKind::Ask] {
            let chunk = seal(&PROJECT, kind, &KEY, &[1; 24], &body).unwrap();
            open_pack(&PROJECT, &KEY, &chunk).ok();
            Manifest::open(&PROJECT, &body).ok();
            open_control(&PROJECT, &KEY, &chunk).ok();
            read_keys_chunk(&chunk).ok().and_then(|c| open_readers(&PROJECT, &c, Some(&keys()), Some(&KEY)));
            open_ask(&PROJECT, &[3; 32], &chunk).ok();
        }
        // A pack with one byte changed before it was sealed.
        let chunk = packed(&batches(&[vec![(1, 2)], vec![(2, 1), (1, 1)]]));
        let mut inside = open(&PROJECT, &KEY, &chunk).unwrap();
        let at = at.index(inside.len());
        inside[at] ^= 1;
        let bent = seal(&PROJECT, ChunkKind::Pack, &KEY, &[1; 24], &inside).unwrap();
        if let Ok(back) = open_pack(&PROJECT, &KEY, &bent) {
            prop_assert!(back.iter().any(|b| !b.signed_by(&keys().device())), "byte {}", at);
        }
    }
}

#[test]
fn many_single_saves_are_smaller_in_a_pack() {
    let plan: Vec<Vec<(u8, u8)>> = (0..200).map(|n| vec![(n, 1)]).collect();
    let all = batches(&plan);
    let single: usize = all.iter().map(|b| seal(&PROJECT, ChunkKind::Batch, &KEY, &[1; 24], &b.encode()).unwrap().len()).sum();
    let pack = packed(&all).len();
    assert!(pack * 3 < single * 2, "{pack} bytes against {single}");
}

fn shelf(from: u64, to: u64, pieces: Vec<Piece>) -> Shelf {
    let tip = Tip { feed: FeedId([9; 16]), seq: to, hash: BatchHash([8; 32]) };
    Shelf { device: DeviceId([7; 32]), from, tip, pieces, wall_ms: (1, 2) }
}

#[test]
fn a_manifest_says_what_adds_up_or_nothing() {
    let piece = |batches| Piece { chunk: [1; 16], batches, changes: 3 };
    let manifest = |shelves| Manifest { device: keys().device(), configuration: DocId([6; 16]), shelves, base: vec![], made_ms: 4 };
    let good = manifest(vec![shelf(3, 7, vec![piece(2), piece(3)])]);
    let bytes = good.sign(&PROJECT, &keys());
    assert_eq!(Manifest::open(&PROJECT, &bytes), Ok(good));
    for at in 0..bytes.len() {
        let mut bent = bytes.clone();
        bent[at] ^= 1;
        assert!(Manifest::open(&PROJECT, &bent).is_err(), "byte {at}");
    }
    let lies = [
        shelf(3, 7, vec![piece(2)]),
        shelf(0, 1, vec![piece(2)]),
        shelf(8, 7, vec![]),
        shelf(3, u64::MAX, vec![piece(u32::MAX)]),
        shelf(1, 1, vec![piece(1), piece(0)]),
        shelf(1, limits::BATCHES, vec![piece(1)]),
    ];
    for lie in lies {
        assert!(Manifest::open(&PROJECT, &manifest(vec![lie.clone()]).sign(&PROJECT, &keys())).is_err(), "{lie:?}");
    }
    let other = DeviceKeys::from_seed([1; 32]);
    assert!(Manifest::open(&PROJECT, &manifest(vec![]).sign(&PROJECT, &other)).is_err(), "signed by another");
}

/// Test vectors of format 1: a change here is a change of the format.
#[test]
fn names_and_bytes_on_carriers() {
    let hex = cairn_model::hex;
    let all = batches(&[vec![(1, 2)], vec![(2, 1), (1, 1)]]);
    let body = open(&PROJECT, &KEY, &packed(&all)).unwrap();
    let lines = [
        ("handle", hex(&mailbox_handle(&PROJECT))),
        ("writer", hex(&writer_tag(&[1; 32], &keys().device(), &[2; 16]))),
        ("ask key", hex(&ask_key(&[3; 32]).id().0)),
        ("pack body", ChunkHash::of(&body).to_string()),
        (
            "manifest",
            hex(&Manifest {
                device: keys().device(),
                configuration: DocId([6; 16]),
                shelves: vec![shelf(3, 4, vec![Piece { chunk: [1; 16], batches: 2, changes: 3 }])],
                base: vec![],
                made_ms: 4,
            }
            .sign(&PROJECT, &keys())),
        ),
    ];
    let text: Vec<String> = lines.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    insta::assert_snapshot!(text.join("\n"));
}
