//! Who belongs, at the size of a large team: what every control sync and every removal cost.

use cairn_model::{DeviceId, DocId};
use cairn_trust::{
    Add, ControlOp, DeviceKeys, EpochKey, Genesis, Invite, InviteMode, Issuer, Keyring, Log, OpBody, RecoveryWords, Role, SetRole,
    evaluate, mint,
};
use serde_json::{Value, json};
use std::time::Instant;

fn keys(n: u32) -> DeviceKeys {
    let mut seed = [7; 32];
    seed[..4].copy_from_slice(&n.to_le_bytes());
    DeviceKeys::from_seed(seed)
}

fn genesis() -> ControlOp {
    let founder = keys(0);
    let genesis = Genesis {
        name: "Large".into(),
        founder_name: "0".into(),
        agreement_key: founder.agreement_key(),
        recovery_key: RecoveryWords::new([1; 32]).public_key(),
        configuration: DocId([1; 16]),
        format_major: 1,
        members_edit_others: true,
        open: false,
        random: [1; 32],
        epoch: Some(EpochKey([1; 32]).id()),
    };
    ControlOp::genesis(&founder, &genesis)
}

/// 200 devices, of which ten are coordinators, and 2,000 operations by them.
fn team() -> Log {
    let first = genesis();
    let mut log = Log::new(first.hash.project());
    log.admit(first).expect("genesis");
    let say = |log: &mut Log, by: u32, body: OpBody| {
        let op = ControlOp::issue(Issuer::Device(&keys(by)), &log.project(), log.heads(), log.next_number(), body);
        log.admit(op).expect("a coordinator says so");
    };
    for n in 1..200 {
        let role = if n % 20 == 0 { Role::Coordinator } else { Role::Member };
        let add = Add { device: keys(n).device(), name: n.to_string(), agreement_key: keys(n).agreement_key(), role };
        say(&mut log, 0, OpBody::Add(add));
    }
    for n in 0..1800 {
        let (by, device) = (n % 10 * 20, keys(n % 199 + 1).device());
        let invite = Invite { key: [n as u8; 32], role: Role::Member, uses: 1, mode: InviteMode::Bearer };
        let role = if n % 2 == 0 { Role::Observer } else { Role::Member };
        let body = if n % 3 == 0 { OpBody::Invite(invite) } else { OpBody::SetRole(SetRole { device, role, cuts: vec![] }) };
        say(&mut log, by, body);
    }
    log
}

fn best<T>(mut work: impl FnMut() -> T) -> f64 {
    let once = |work: &mut dyn FnMut() -> T| {
        let began = Instant::now();
        std::hint::black_box(work());
        began.elapsed().as_secs_f64() * 1e3
    };
    (0..10).map(|_| once(&mut work)).fold(f64::INFINITY, f64::min)
}

/// Best of ten each.
pub fn figures() -> Value {
    let log = team();
    let ops: Vec<ControlOp> = log.ops().cloned().collect();
    let readers: Vec<(DeviceId, [u8; 32])> = (0..200).map(|n| (keys(n).device(), keys(n).agreement_key())).collect();
    let ring = Keyring { discovery: [9; 32], keys: (0..20).map(|n| EpochKey([n; 32])).collect() };
    let (_, epoch) = mint(&log.project(), &ring, &readers, [3; 32]).expect("few readers");
    let rotation = ControlOp::issue(Issuer::Device(&keys(0)), &log.project(), log.heads(), 0, OpBody::Epoch(epoch));
    json!({
        "operations": ops.len(), "devices": 200,
        "evaluate_ms": {"value": best(|| evaluate(&log)), "target": 20.0},
        "open_log_ms": best(|| Log::restore(log.project(), ops.iter().cloned())),
        "log_bytes": ops.iter().map(|op| op.bytes.len()).sum::<usize>(),
        "rotate_ms": {"value": best(|| mint(&log.project(), &ring, &readers, [3; 32])), "target": 200.0},
        "rotation_bytes": {"value": rotation.bytes.len(), "target": 25_000},
    })
}
