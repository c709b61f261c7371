//! Simulated histories with faults. A failing seed is printed; `CAIRN_SEED=n cargo test -p cairn-tests --test sim` replays it.

use cairn_sim::{Config, run};
use std::sync::atomic::{AtomicU64, Ordering};

fn histories(first: u64, count: u64, config: &Config) {
    if let Ok(seed) = std::env::var("CAIRN_SEED") {
        let seed = seed.parse().expect("CAIRN_SEED is a number");
        println!("seed {seed}: {:?}", run(seed, config));
        run(seed, config).expect("the history holds");
        return;
    }
    let next = AtomicU64::new(first);
    let (acts, apart, undone) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    match run(seed, config) {
                        Ok(outcome) => {
                            acts.fetch_add(outcome.acts as u64, Ordering::Relaxed);
                            apart.fetch_add(outcome.set_apart as u64, Ordering::Relaxed);
                            undone.fetch_add(outcome.undone as u64, Ordering::Relaxed);
                        }
                        Err(failure) => panic!("CAIRN_SEED={}: {}", failure.seed, failure.what),
                    }
                }
            });
        }
    });
    println!(
        "{count} histories from seed {first} hold: {acts:?} acts of coordinators, {apart:?} batches set apart, {undone:?} changes undone or redone"
    );
    assert!(!config.undoes || undone.into_inner() > count, "hardly anything was undone: these histories tell nothing");
}

#[test]
fn histories_with_faults_converge() {
    let count = std::env::var("CAIRN_HISTORIES").ok().and_then(|n| n.parse().ok()).unwrap_or(450);
    histories(1, count, &Config::default());
}

/// Syncs are undone and redone while everything goes on: nothing but what is shown changes, and in the end all show the same.
#[test]
fn what_is_set_aside_comes_back_as_if_it_had_never_gone() {
    let count = std::env::var("CAIRN_HISTORIES").ok().and_then(|n| n.parse().ok()).unwrap_or(60);
    histories(500_001, count, &Config { undoes: true, ..Config::default() });
    let teams = Config { undoes: true, governs: true, devices: 3..=5, steps: 40..=120, ..Config::default() };
    histories(510_001, count / 2, &teams);
}

#[test]
fn twenty_devices_converge() {
    histories(50_001, 5, &Config { devices: 20..=20, steps: 200..=300, clones: false, ..Config::default() });
}

/// Coordinators let in and out, promote and demote, each as far as it has heard, while everyone writes on; with crashes, cut
/// links, full disks and copies. At the end who belongs shows the same.
#[test]
fn teams_that_change_converge() {
    let count = std::env::var("CAIRN_HISTORIES").ok().and_then(|n| n.parse().ok()).unwrap_or(180);
    histories(200_001, count, &Config { governs: true, devices: 3..=6, steps: 40..=160, ..Config::default() });
}

/// A mailbox that lists late, loses, brings back and damages what it holds, and is pulled out at any moment; in the end nobody meets
/// anybody but by it, and once all hold the same nobody writes there any more.
#[test]
fn devices_that_only_share_a_mailbox_converge() {
    let count = std::env::var("CAIRN_HISTORIES").ok().and_then(|n| n.parse().ok()).unwrap_or(180);
    histories(300_001, count, &Config { carried: true, ..Config::default() });
}

#[test]
fn teams_that_only_share_a_mailbox_converge() {
    let count = std::env::var("CAIRN_HISTORIES").ok().and_then(|n| n.parse().ok()).unwrap_or(90);
    histories(400_001, count, &Config { carried: true, governs: true, devices: 3..=6, steps: 40..=160, ..Config::default() });
}

/// A member of the lowest role, or one that may write, cheats in the mailbox: lists that are not true, boxes that do not open, junk,
/// floods of feeds, operations and heads. The others hold the same in the end, and nobody writes any more.
#[test]
fn a_member_who_cheats_stops_nobody() {
    let count = std::env::var("CAIRN_HISTORIES").ok().and_then(|n| n.parse().ok()).unwrap_or(120);
    histories(600_001, count, &Config { carried: true, hostile: true, clones: false, ..Config::default() });
    let teams = Config { carried: true, hostile: true, governs: true, devices: 3..=5, steps: 40..=120, ..Config::default() };
    histories(610_001, count / 2, &teams);
}

#[test]
fn one_seed_gives_one_history() {
    for seed in 7..12 {
        let once = run(seed, &Config::default()).expect("the history holds");
        assert_eq!(Ok(once), run(seed, &Config::default()));
    }
}

/// A test that cannot fail proves nothing: with disks that only pretend to sync, some history must break.
#[test]
fn a_lying_disk_is_noticed() {
    let config = Config { lying_disks: true, clones: false, ..Config::default() };
    assert!(
        (1..200).any(|seed| std::panic::catch_unwind(|| run(seed, &config)).is_ok_and(|r| r.is_err())),
        "200 histories with lying disks held"
    );
}

/// A service on a phone whose disk filled up: nothing is saved meanwhile and it is said so; with space again, the next edit
/// is saved without a restart. (redb answers every call with the old error until it is opened again.)
#[test]
fn a_full_disk_needs_no_restart() {
    use cairn_model::{Edit, default_configuration};
    use cairn_store::{NewProject, OsEntropy, Store};
    let disk = cairn_sim::DiskHandle::default();
    let open = |disk: &cairn_sim::DiskHandle| redb::Database::builder().create_with_backend(disk.storage());
    let configuration = default_configuration();
    let new = NewProject { name: "full", device_name: "a", configuration: &configuration, now_ms: 1 };
    let keys = cairn_trust::DeviceKeys::from_seed([1; 32]);
    let (mut store, _) = Store::new_project(open(&disk).unwrap(), keys, Box::new(OsEntropy), &new).unwrap();
    let again = disk.clone();
    store.set_reopen(Box::new(move || Ok(redb::Database::builder().create_with_backend(again.storage())?)));
    let add = |store: &mut Store, note: &str| {
        let mut edit = Edit::new();
        edit.note(note);
        let id = store.new_id();
        store.edit_observations(vec![(id, edit)], 1)
    };
    add(&mut store, "before").unwrap();
    disk.refuse(true);
    for _ in 0..3 {
        let refused = add(&mut store, "while full").unwrap_err();
        assert!(refused.is_out_of_space(), "{refused}");
    }
    disk.refuse(false);
    add(&mut store, "after").unwrap();
    assert_eq!(store.count().unwrap(), 2);
    assert_eq!(store.check(&mut |_, _| {}).unwrap(), vec![]);
}
