//! Bytes from strangers: every parser and the session, over random and damaged input. Nothing may panic, and nothing
//! damaged may be taken. (Longer runs: `PROPTEST_CASES=100000 cargo test --release -p cairn-tests --test hostile`.)

use cairn_formats::{ROW_FORMATS, ReadOptions, open_rows, read_configuration, sanitise_svg};
use cairn_model::{DeviceId, DocId, FeedId, ProjectId};
use cairn_sync::{Answer, Effect, Event, FrameReader, Message, Request, Session, Setup, Snapshot, Standing, frame};
use cairn_trust::{Batch, BatchHash, ControlHash, ControlOp, EpochKey, Receipt, Ticket, Tip, chunk_kind, link_proof, open};
use proptest::prelude::*;

const BEGINNINGS: [&[u8]; 9] = [
    b"",
    b"PK\x03\x04",
    b"SQLite format 3\0",
    b"<gpx version=\"1.1\"><wpt lat=\"1\" lon=\"2\">",
    b"<kml><Placemark><ExtendedData><Data name=\"a\">",
    b"{\"type\":\"FeatureCollection\",\"features\":[",
    b"a,b\n\"",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
    b"\"survey\",,\n,\"type\",\"name\"\n",
];

fn setup() -> Setup {
    Setup { peer: DeviceId([2; 32]), exporter: [3; 32], discovery: [4; 32], name: "me".into(), port: 0, probe: false }
}

fn snapshot(member: bool) -> Answer {
    Answer::Snapshot(Box::new(Snapshot {
        digest: [1; 32],
        control: vec![ControlHash([1; 32])],
        control_all: vec![ControlHash([1; 32])],
        frontier: vec![Tip { feed: FeedId([1; 16]), seq: 3, hash: BatchHash([5; 32]) }],
        configuration: DocId([7; 16]),
        configuration_version: String::new(),
        format_major: 1,
        peer: if member { Standing::Member } else { Standing::Unknown },
        peer_configuration: DocId([7; 16]),
        keys_missing: vec![],
        has_receipt: false,
        observations: 0,
        witnesses: [3; 8],
    }))
}

/// Answers as an honest store would, so that the session gets as far as it can.
fn reply(request: &Request, member: bool) -> Answer {
    match request {
        Request::Snapshot(_) => snapshot(member),
        Request::ControlMissing(_) => Answer::ControlOps(vec![]),
        Request::AddControl(_) => Answer::ControlAdded(vec![]),
        Request::MissingFor(..) | Request::AfterLadder(..) => Answer::Missing(vec![], vec![FeedId([1; 16])]),
        Request::Ladder(feed) => Answer::Rungs(*feed, vec![(3, BatchHash([5; 32]))]),
        Request::Load(..) => Answer::Chunks(vec![]),
        Request::Persist(_) => Answer::Persisted { tips: vec![], held: 0, dropped: 0 },
        Request::Introduce => Answer::Introduction(vec![vec![1]]),
        Request::TakeNotice(_) => Answer::Noticed,
        Request::Introduced(..) => Answer::PeerIntroduced,
        Request::HandKeys(..) => Answer::KeysHanded,
        Request::Enter(..) => Answer::Welcome(vec![vec![1]]),
        Request::MakeReceipt => Answer::Receipt(vec![1]),
        Request::KeepReceipt(..) => Answer::ReceiptKept(Some(vec![])),
        Request::WitnessHave(_) => Answer::WitnessHave(vec![]),
        Request::WitnessesBeyond(..) => Answer::Witnesses(vec![vec![1]]),
        Request::KeepWitnesses(_) => Answer::WitnessesKept,
    }
}

fn hello(digest: u8, control: u8) -> Message {
    Message::Hello(cairn_sync::Hello {
        version: (1, 0),
        proof: link_proof(&[4; 32], &[3; 32], true),
        name: "them".into(),
        digest: [digest; 32],
        control: vec![ControlHash([control; 32])],
        configuration: DocId([7; 16]),
        configuration_version: String::new(),
        format_major: 1,
        port: 1,
        wants_receipt: true,
        probe: false,
        observations: u64::MAX,
        witnesses: Some([digest; 8]),
    })
}

fn message() -> impl Strategy<Value = Message> {
    let tip = (0..3u8, any::<u64>()).prop_map(|(f, seq)| Tip { feed: FeedId([f; 16]), seq, hash: BatchHash([f; 32]) });
    prop_oneof![
        (0..3u8, 0..3u8).prop_map(|(d, c)| hello(d, c)),
        proptest::collection::vec((0..3u8).prop_map(|n| ControlHash([n; 32])), 0..4).prop_map(Message::ControlHave),
        (proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..3), any::<bool>())
            .prop_map(|(ops, last)| Message::Control(ops, last)),
        proptest::collection::vec(tip, 0..4).prop_map(Message::Frontier),
        prop_oneof![Just(u64::MAX), 0..9u64].prop_map(Message::Plan),
        proptest::collection::vec(any::<u8>(), 0..60).prop_map(Message::Chunk),
        (0..3u8, any::<u64>()).prop_map(|(f, seq)| Message::Ladder(FeedId([f; 16]), vec![(seq, BatchHash([f; 32]))])),
        any::<u64>().prop_map(Message::Sent),
        (any::<u64>(), proptest::collection::vec(any::<u8>(), 0..40)).prop_map(|(n, b)| Message::Receipt(n, b)),
        (0..3u8, any::<u64>()).prop_map(|(d, n)| Message::WitnessHave(vec![(DeviceId([d; 32]), [d; 16], n)])),
        proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..3).prop_map(Message::Witnesses),
        Just(Message::Proof((1, 0), [0; 32])),
        Just(Message::Introduce),
        Just(Message::NeedKeys(vec![])),
        proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..3).prop_map(Message::Introduction),
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(Message::Removed),
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(Message::Enter),
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(Message::Pair),
        any::<[u8; 32]>().prop_map(Message::Paired),
        Just(Message::Pending),
        ".{0,20}".prop_map(Message::Invitation),
        (any::<[u8; 32]>(), ".{0,20}").prop_map(|(proof, name)| Message::Host(proof, name)),
        Just(Message::Unknown(200)),
    ]
}

fn settle(session: &mut Session, effects: Vec<Effect>, member: bool) -> bool {
    let mut effects: std::collections::VecDeque<Effect> = effects.into();
    let mut steps = 0;
    while let Some(effect) = effects.pop_front() {
        steps += 1;
        assert!(steps < 10_000, "the session talks to itself for ever");
        match effect {
            Effect::Store(n, request) => effects.extend(session.handle(Event::Answer(n, reply(&request, member)))),
            Effect::Close(_) => return false,
            _ => {}
        }
    }
    true
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 400 } else { 4000 }))]

    #[test]
    fn parsers_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), text in ".{0,200}") {
        let p = ProjectId([1; 32]);
        let _ = (Batch::decode(&p, &bytes), ControlOp::decode(&p, &bytes), Receipt::open(&p, &bytes), Message::decode(&bytes), chunk_kind(&bytes));
        let _ = (open(&p, &EpochKey([1; 32]), &bytes), Ticket::decode(&text), sanitise_svg(&text));
        let mut reader = FrameReader::default();
        reader.push(&bytes);
        while let Ok(Some(_)) = reader.next_frame() {}
    }

    /// Beginnings of every kind of file, then anything: each reader refuses or reads, in bounded memory.
    #[test]
    fn readers_of_files_never_panic(kind in 0..BEGINNINGS.len(), bytes in proptest::collection::vec(any::<u8>(), 0..400), text in "[ -~\\n<>/\"{}\\[\\],:;=]{0,200}") {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for rest in [&bytes[..], text.as_bytes()] {
            std::fs::write(&path, [BEGINNINGS[kind], rest].concat()).unwrap();
            for format in ROW_FORMATS {
                let options = ReadOptions { format: Some(format.into()), ..ReadOptions::default() };
                if let Ok(rows) = open_rows(&path, &options, &Default::default()) {
                    rows.take(10_000).for_each(drop);
                }
            }
            drop(read_configuration(&path));
        }
    }

    #[test]
    fn messages_read_back(m in message()) {
        prop_assert_eq!(Message::decode(&m.encode()).unwrap(), m);
    }

    /// Any messages in any order, from a proved peer, member or not: no panic, no endless work, and a stranger gets nothing
    /// but its own refusal.
    #[test]
    fn a_session_survives_any_order(messages in proptest::collection::vec(message(), 0..30), member in any::<bool>(), changed in 0..30usize) {
        let first = Message::Proof((1, 0), link_proof(&[4; 32], &[3; 32], true)).encode();
        let (mut session, effects) = Session::accept(setup(), &first);
        prop_assert!(settle(&mut session, effects, member));
        for (n, m) in messages.iter().enumerate() {
            let event = if n == changed { Event::Changed } else { Event::Frame(m.encode()) };
            let effects = session.handle(event);
            if !member {
                let told = effects.iter().any(|e| matches!(e, Effect::Send(b) if matches!(Message::decode(b), Ok(Message::Frontier(_) | Message::Chunk(_)))));
                prop_assert!(!told, "a stranger was told what is here");
            }
            if !settle(&mut session, effects, member) {
                break;
            }
        }
    }

    #[test]
    fn who_does_not_prove_the_project_hears_nothing(proof in any::<[u8; 32]>()) {
        let (_, effects) = Session::accept(setup(), &Message::Proof((1, 0), proof).encode());
        prop_assert_eq!(effects, vec![Effect::Close(cairn_sync::CloseReason::NotProved)]);
    }

    /// The proof of one side is not the proof of the other: a reflected one is refused.
    #[test]
    fn a_reflected_proof_is_refused(_n in 0..1) {
        let (mut session, effects) = Session::dial(setup());
        settle(&mut session, effects, true);
        let effects = session.handle(Event::Frame(hello(1, 1).encode()));
        prop_assert_eq!(effects, vec![Effect::Close(cairn_sync::CloseReason::NotProved)]);
    }
}

#[test]
fn a_frame_is_read_back() {
    let mut reader = FrameReader::default();
    reader.push(&frame(&Message::Sent(1).encode()));
    assert_eq!(reader.next_frame().unwrap().map(|f| Message::decode(&f).unwrap()), Some(Message::Sent(1)));
}
