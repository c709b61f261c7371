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
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    if let Err(failure) = run(seed, config) {
                        panic!("CAIRN_SEED={}: {}", failure.seed, failure.what);
                    }
                }
            });
        }
    });
    println!("{count} histories from seed {first} hold");
}

#[test]
fn a_thousand_histories_with_faults_converge() {
    let count = std::env::var("CAIRN_HISTORIES").ok().and_then(|n| n.parse().ok()).unwrap_or(1000);
    histories(1, count, &Config::default());
}

#[test]
fn twenty_devices_converge() {
    histories(50_001, 5, &Config { devices: 20..=20, steps: 200..=300, clones: false, ..Config::default() });
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
