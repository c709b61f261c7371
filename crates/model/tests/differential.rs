//! Our reading of changes and documents against Automerge's own, over random histories of several devices.

use automerge::{Automerge, ReadDoc, ScalarValue, transaction::Transactable};
use cairn_model::{ActorId, Change, DocState, Value};
use proptest::prelude::*;

const KEYS: [&str; 5] = ["category", "f.a", "f.b", "o.x.y", "deleted"];

#[derive(Clone, Debug)]
enum Step {
    Ours { device: usize, key: usize, value: Option<Value> },
    Theirs { device: usize, key: usize, value: i64 },
    Merge { from: usize, to: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let value = prop_oneof![
        Just(None),
        any::<i64>().prop_map(|i| Some(Value::Integer(i))),
        "[a-zé]{0,40}".prop_map(|t| Some(Value::Text(t))),
        any::<bool>().prop_map(|b| Some(Value::Bool(b))),
        (-1e9..1e9f64).prop_map(|d| Some(Value::Decimal(d))),
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(|b| Some(Value::Bytes(b))),
    ];
    prop_oneof![
        4 => (0..3usize, 0..5usize, value).prop_map(|(device, key, value)| Step::Ours { device, key, value }),
        2 => (0..3usize, 0..5usize, any::<i64>()).prop_map(|(device, key, value)| Step::Theirs { device, key, value }),
        3 => (0..3usize, 0..3usize).prop_map(|(from, to)| Step::Merge { from, to }),
    ]
}

struct Device {
    doc: Automerge,
    ours: DocState,
}

fn actor(device: usize) -> ActorId {
    ActorId([device as u8 + 1; 16])
}

fn scalar(value: &ScalarValue) -> Value {
    match value {
        ScalarValue::Str(s) => Value::Text(s.to_string()),
        ScalarValue::Int(i) => Value::Integer(*i),
        ScalarValue::F64(d) => Value::Decimal(*d),
        ScalarValue::Boolean(b) => Value::Bool(*b),
        ScalarValue::Bytes(b) => Value::Bytes(b.clone()),
        other => Value::Unknown(format!("{other:?}")),
    }
}

fn take(device: &mut Device, changes: Vec<automerge::Change>) {
    for change in changes {
        if device.doc.get_change_by_hash(&change.hash()).is_some() {
            continue;
        }
        let parsed = Change::parse(change.raw_bytes()).expect("automerge's own change reads");
        assert_eq!(parsed.hash.0, change.hash().0);
        device.ours.apply(&parsed).expect("it applies");
        device.doc.apply_changes([change]).expect("automerge takes it");
    }
}

fn check(device: &Device) {
    let heads: Vec<[u8; 32]> = device.ours.heads().iter().map(|h| h.0).collect();
    let mut theirs: Vec<[u8; 32]> = device.doc.get_heads().iter().map(|h| h.0).collect();
    theirs.sort_unstable();
    assert_eq!(heads, theirs);
    for key in KEYS {
        let mut expected: Vec<Value> =
            device.doc.get_all(automerge::ROOT, key).unwrap().into_iter().map(|(v, _)| scalar(v.as_scalar().unwrap())).collect();
        let shown = device.doc.get(automerge::ROOT, key).unwrap().map(|(v, _)| scalar(v.as_scalar().unwrap()));
        let ours: Vec<Value> = device.ours.values(key).into_iter().map(|(_, v)| v.clone()).collect();
        assert_eq!(ours.first().cloned(), shown, "shown value of {key}");
        assert_eq!(device.ours.get(key).cloned(), shown);
        expected.reverse();
        assert_eq!(ours, expected, "concurrent values of {key}, highest first");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn state_equals_automerge(steps in proptest::collection::vec(step(), 1..40)) {
        let mut devices: Vec<Device> = (0..3)
            .map(|d| Device { doc: Automerge::new().with_actor(automerge::ActorId::from(&actor(d).0[..])), ours: DocState::default() })
            .collect();
        for step in steps {
            match step {
                Step::Ours { device, key, value } => {
                    let d = &mut devices[device];
                    let Some(bytes) = d.ours.edit(actor(device), 7, vec![(KEYS[key].into(), value)]) else { continue };
                    let parsed = Change::parse(&bytes).unwrap();
                    d.ours.apply(&parsed).unwrap();
                    let change = automerge::Change::try_from(&bytes[..]).unwrap();
                    prop_assert_eq!(change.raw_bytes(), &bytes[..]);
                    d.doc.apply_changes([change]).unwrap();
                }
                Step::Theirs { device, key, value } => {
                    let d = &mut devices[device];
                    d.doc.transact::<_, _, automerge::AutomergeError>(|tx| tx.put(automerge::ROOT, KEYS[key], value)).unwrap();
                    let heads: Vec<automerge::ChangeHash> = d.ours.heads().iter().map(|h| automerge::ChangeHash(h.0)).collect();
                    let new = d.doc.get_changes(&heads);
                    for change in new {
                        d.ours.apply(&Change::parse(change.raw_bytes()).unwrap()).unwrap();
                    }
                }
                Step::Merge { from, to } if from != to => {
                    let heads = devices[to].doc.get_heads();
                    let missing = devices[from].doc.get_changes(&heads);
                    take(&mut devices[to], missing);
                }
                Step::Merge { .. } => {}
            }
            devices.iter().for_each(check);
        }
        for device in &devices {
            let saved = device.doc.save();
            prop_assert!(Automerge::load(&saved).is_ok());
        }
    }

    #[test]
    fn reading_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0..300usize, flip in any::<u8>()) {
        let _ = Change::parse(&bytes);
        let mut good = DocState::default().edit(actor(0), 1, vec![("f.a".into(), Some(Value::from("abc"))), ("f.b".into(), Some(Value::Integer(3)))]).unwrap();
        let at = at % good.len();
        good[at] ^= flip;
        prop_assert_eq!(Change::parse(&good).is_ok(), flip == 0);
    }
}

#[test]
fn bytes_of_a_change_are_bounded_by_what_they_carry() {
    let wanted = (0..10).map(|i| (format!("f.field{i}"), Some(Value::from("a few words")))).collect();
    let bytes = DocState::default().edit(actor(0), 1, wanted).unwrap();
    assert!(bytes.len() < 330, "{} bytes", bytes.len());
}
