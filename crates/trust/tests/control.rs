//! Histories of the control log: a corpus in readable text with expected outcomes, and random ones with issuers that
//! equivocate and backdate.

mod teller;

use cairn_model::DocKind;
use cairn_trust::{ControlHash, ControlOp, Log, OpBody, Refusal, Role, evaluate};
use proptest::prelude::*;
use std::collections::BTreeSet;
use teller::{Teller, device};

/// Every history of `histories.txt` ends as it says.
#[test]
fn the_corpus_ends_as_it_says() {
    let text = include_str!("histories/corpus.txt");
    let mut count = 0;
    for history in text.split("\n## ").skip(1) {
        let (title, lines) = history.split_once('\n').expect("a title");
        let mut teller = Teller::default();
        for line in lines.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
            match line.strip_prefix("=> ") {
                Some(expected) => assert_eq!(teller.outcome(expected), expected, "{title}"),
                None => teller.tell(line),
            }
        }
        count += 1;
    }
    println!("{count} histories");
    assert!(count >= 20);
}

/// The operations of a random history: each line is (who, what, on whom, which earlier operations it pretends to know).
fn random_history(steps: &[(u8, u8, u8, u64)]) -> Vec<ControlOp> {
    let mut teller = Teller::default();
    teller.tell("a0: A founds");
    let letter = |n: u8| char::from(b'A' + n % 6);
    for (n, (who, what, whom, knows)) in steps.iter().enumerate() {
        let (who, whom) = (letter(*who), letter(*whom));
        // Up to two earlier operations, chosen freely: two heads at once is equivocation, old ones are backdating.
        let labels = teller.labels();
        let pick = |shift: u32| labels[(knows.rotate_left(shift) % labels.len() as u64) as usize].clone();
        let after = if knows % 3 == 0 { String::new() } else { format!(" after {} {}", pick(7), pick(31)) };
        let invite = labels.iter().rfind(|l| l.starts_with('i')).cloned();
        let line = match what % 12 {
            0 | 1 => format!("o{n}: {who} adds {whom} coordinator{after}"),
            2 => format!("o{n}: {who} adds {whom} member{after}"),
            3 | 4 => format!("o{n}: {who} removes {whom} lost{after}"),
            5 => format!("o{n}: {who} makes {whom} member{after}"),
            6 => format!("o{n}: {who} makes {whom} coordinator{after}"),
            7 => format!("i{n}: {who} invites member 1{after}"),
            8 => format!("i{n}: {who} invites coordinator 1{after}"),
            9 | 10 => match invite {
                Some(invite) => format!("o{n}: {who} joins {invite}{after}"),
                None => continue,
            },
            _ => format!("o{n}: {who} leaves{after}"),
        };
        teller.tell(&line);
    }
    teller.ops()
}

/// Who governs is listed, and what a role says is what its batches may do.
fn roles_are_rights(log: &Log) -> Result<(), String> {
    let m = evaluate(log);
    let void: BTreeSet<ControlHash> = m.void.iter().copied().collect();
    let heads = log.heads();
    for (device, member) in &m.members {
        let may = m.allows(log, device, DocKind::Observation, &heads, &|_| false);
        if may != member.role.writes_observations() {
            return Err(format!("{} is {} and may write: {may}", member.name, member.role.word()));
        }
    }
    for device in m.former.keys() {
        if m.allows(log, device, DocKind::Observation, &heads, &|_| false) {
            return Err("a removed device may write".into());
        }
    }
    let governs = |op: &&ControlOp| matches!(&op.body, OpBody::Add(_) | OpBody::SetRole(_) | OpBody::Invite(_)) && !void.contains(&op.hash);
    for op in log.ops().filter(governs) {
        if !m.rights.contains_key(&op.issuer) {
            return Err(format!("{op:?} counts and its issuer never had a right"));
        }
    }
    Ok(())
}

/// Admits in an order that keeps parents first and is otherwise shuffled.
fn shuffled(ops: &[ControlOp], seed: u64) -> Log {
    use rand::seq::SliceRandom;
    use rand_chacha::rand_core::SeedableRng;
    let mut order = ops.to_vec();
    order.shuffle(&mut rand_chacha::ChaCha8Rng::seed_from_u64(seed));
    let mut log = Log::new(ops[0].hash.project());
    while !order.is_empty() {
        let before = order.len();
        order.retain(|op| log.admit(op.clone()) == Err(Refusal::Parents));
        if order.len() == before {
            break;
        }
    }
    log
}

/// A device with a removal that counts is out, unless it was let in again by who knew of that.
fn removed_stay_out(log: &Log) -> Result<(), String> {
    let m = evaluate(log);
    let void: BTreeSet<ControlHash> = m.void.iter().copied().collect();
    for op in log.ops().filter(|op| !void.contains(&op.hash)) {
        let OpBody::Remove(remove) = &op.body else { continue };
        if let Some(member) = m.members.get(&remove.device) {
            let knew = log.sees(&[member.grant], &op.hash);
            if !knew {
                return Err(format!("{:?} is in by {:?} and out by {:?}", member.name, member.grant, op.hash));
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_arrival_gives_the_same(steps in proptest::collection::vec(any::<(u8, u8, u8, u64)>(), 1..40), seeds in any::<[u64; 3]>()) {
        let ops = random_history(&steps);
        let first = shuffled(&ops, seeds[0]);
        let expected = evaluate(&first);
        for seed in &seeds[1..] {
            let again = shuffled(&ops, *seed);
            prop_assert_eq!(again.len(), first.len());
            prop_assert_eq!(evaluate(&again), expected.clone());
        }
        prop_assert!(removed_stay_out(&first).is_ok(), "{:?}", removed_stay_out(&first));
        prop_assert!(roles_are_rights(&first).is_ok(), "{:?}", roles_are_rights(&first));
        // Nobody but the founder itself (or the recovery words, not used here) ends the founder.
        let left = ops.iter().any(|op| op.issuer == device('A') && matches!(&op.body, OpBody::Remove(r) if r.device == device('A')));
        let stepped = ops.iter().any(|op| op.issuer == device('A') && matches!(&op.body, OpBody::SetRole(s) if s.device == device('A')));
        prop_assert!(left || stepped || expected.role(&device('A')) == Some(Role::Coordinator));
    }

    /// Whatever a removed device says that its remover had not seen changes nothing for anybody.
    #[test]
    fn the_removed_have_no_say(steps in proptest::collection::vec(any::<(u8, u8, u8, u64)>(), 1..25), more in proptest::collection::vec(any::<(u8, u8, u64)>(), 1..10)) {
        let mut teller = Teller::default();
        for op in random_history(&steps) {
            teller.take(op);
        }
        let known = teller.labels();
        teller.tell("aX: A adds Z coordinator");
        teller.tell("zA: Z adds Y member");
        teller.tell("zB: Z removes B compromised");
        teller.tell("aR: A removes Z lost");
        teller.tell("aE: A rotates");
        let m = evaluate(&teller.log);
        prop_assume!(m.role(&device('A')) == Some(Role::Coordinator) && m.role(&device('Z')).is_none());
        let told = |m: &cairn_trust::Membership| {
            let epochs: Vec<_> = m.epochs.iter().filter(|e| e.holds).map(|e| e.id).collect();
            format!("{:?} {:?} {:?} {:?} {:?} {epochs:?}", m.members, m.former, m.rights, m.invitations, m.policies)
        };
        let before = told(&m);
        for (n, (what, whom, knows)) in more.iter().enumerate() {
            let whom = char::from(b'A' + whom % 6);
            let old = known[(*knows % known.len() as u64) as usize].clone();
            teller.tell(&match what % 7 {
                4 => format!("z{n}: Z leaves after aX {old}"),
                5 => format!("z{n}: Z rotates after aX {old}"),
                6 => format!("z{n}: Z leaves after zB {old}"),
                0 => format!("z{n}: Z removes {whom} lost after aX {old}"),
                1 => format!("z{n}: Z adds {whom} coordinator after aX {old}"),
                2 => format!("z{n}: Z makes {whom} observer after aX {old}"),
                _ => format!("z{n}: Z adds Z coordinator after aX {old}"),
            });
        }
        prop_assert_eq!(before, told(&evaluate(&teller.log)));
    }
}

/// 200 devices and many changes: everybody who should be in is. (How long it takes is a figure of `benches/`.)
#[test]
fn a_large_team_that_changes_often() {
    let mut teller = Teller::default();
    teller.tell("a0: A founds");
    for n in 0..200 {
        teller.tell(&format!("d{n}: A adds @{n} {}", if n % 20 == 0 { "coordinator" } else { "member" }));
    }
    for n in 0..400 {
        let (by, whom) = ((n % 10) * 20, n % 200);
        teller.tell(&match n % 3 {
            0 => format!("x{n}: @{by} makes @{whom} observer"),
            1 => format!("x{n}: @{by} makes @{whom} member"),
            _ => format!("x{n}: @{by} invites member 1"),
        });
    }
    let m = evaluate(&teller.log);
    assert_eq!((teller.log.len(), m.members.len()), (601, 201));
}
