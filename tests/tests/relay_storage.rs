//! Both engines of the relay keep the same rules: the suite, and the same random history on both.

use cairn_model::ChunkHash;
use cairn_relay_server::conformance::{PLENTY, incoming, new_log, storage_suite};
use cairn_relay_server::storage::{Allowance, Storage};
use cairn_relay_server::{Embedded, Postgres};
use cairn_relay_wire::{IndexRow, LogId};
use cairn_tests::postgres::Postgres as Server;
use rand::{Rng, SeedableRng};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_engine_keeps_the_rules() {
    let folder = tempfile::tempdir().unwrap();
    storage_suite(Arc::new(Embedded::open(&folder.path().join("relay.redb")).unwrap())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_keeps_the_rules() {
    let Some(server) = Server::start() else { return };
    storage_suite(Arc::new(Postgres::open(&server.database("suite"), None).await.unwrap())).await;
}

/// What a reader sees of a log.
async fn seen(s: &dyn Storage, log: LogId) -> (Option<cairn_relay_server::storage::LogRow>, Vec<IndexRow>, Vec<bool>) {
    let rows = s.index(log, 0, 10_000, false).await.unwrap();
    let mut given = Vec::new();
    for row in &rows {
        given.push(s.find(log, row.name).await.unwrap().is_some());
    }
    (s.log(log).await.unwrap(), rows, given)
}

/// The two were written apart; any history must come to the same on both.
#[tokio::test(flavor = "multi_thread")]
async fn a_random_history_comes_to_the_same_on_both() {
    let Some(server) = Server::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let here = Embedded::open(&folder.path().join("relay.redb")).unwrap();
    let there = Postgres::open(&server.database("twin"), None).await.unwrap();
    let seed = std::env::var("CAIRN_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(20_261_127u64);
    println!("seed {seed}");
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let logs = [LogId([1; 16]), LogId([2; 16])];
    for (n, log) in logs.iter().enumerate() {
        for s in [&here as &dyn Storage, &there] {
            s.create_log(*log, new_log(n as u8), None, 1).await.unwrap();
        }
    }
    let tight = Allowance { quota: 6_000, reserve: 2_000, staged: 3_000, asks: 500 };
    for step in 0..600u64 {
        let log = logs[random.random_range(0..2)];
        let allowed = if random.random_bool(0.2) { tight } else { PLENTY };
        let some: Vec<u32> = (0..random.random_range(1..5)).map(|_| random.random_range(0..40)).collect();
        let kind = |n: u32| [1, 1, 1, 3, 4, 7][n as usize % 6];
        let chunks: Vec<_> = some.iter().map(|n| incoming(*n, kind(*n), 40 + *n as usize * 7)).collect();
        let names: Vec<ChunkHash> = chunks.iter().map(|c| c.name).collect();
        let what = random.random_range(0..7);
        let undo = random.random_bool(0.5);
        let back = random.random_range(0..60);
        let mut told = Vec::new();
        for s in [&here as &dyn Storage, &there] {
            told.push(match what {
                0 | 1 => format!("{:?}", s.append(log, chunks.clone(), allowed, step).await),
                2 => format!("{:?}", s.upload(log, chunks.clone(), allowed, step).await),
                3 => format!("{:?}", s.commit(log, names.clone(), allowed, step).await),
                4 => format!("{:?}", s.trim(log, names.clone(), undo, step).await),
                5 => format!("{:?}", s.sweep(step.saturating_sub(back), step.saturating_sub(back)).await.map(|w| (w.chunks, w.more))),
                _ => format!("{:?}", s.has(log, names.iter().map(ChunkHash::short).collect()).await),
            });
        }
        assert_eq!(told[0], told[1], "step {step}, {what}");
        assert_eq!(seen(&here, log).await, seen(&there, log).await, "step {step}, {what}");
    }
}

/// What one node appends, the other hears of; after the server was gone, too.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_hear_of_each_other_and_outlive_a_crash_of_the_server() {
    let Some(server) = Server::start() else { return };
    let database = server.database("nodes");
    let (a, b) = (Postgres::open(&database, None).await.unwrap(), Postgres::open(&database, None).await.unwrap());
    let heard = Arc::new(Mutex::new(Vec::new()));
    let of = heard.clone();
    b.listen(Box::new(move |log, seq| of.lock().unwrap().push((log, seq))));
    a.listen(Box::new(|_, _| {}));
    let log = LogId([1; 16]);
    a.create_log(log, new_log(1), None, 1).await.unwrap();
    let wait_for = async |seq: u64| {
        let until = tokio::time::Instant::now() + Duration::from_secs(20);
        while !heard.lock().unwrap().contains(&(log, seq)) {
            assert!(tokio::time::Instant::now() < until, "nobody told of {seq}");
            // A listener may still be connecting: what is told before that is lost, as words may be.
            a.tell(log, seq);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let done = a.append(log, vec![incoming(1, 1, 50)], PLENTY, 2).await.unwrap();
    wait_for(done.head.seq).await;
    server.crash_and_restart();
    let done = a.append(log, vec![incoming(2, 1, 50)], PLENTY, 3).await.expect("it goes on by itself");
    assert_eq!(done.head.seq, 2, "and nothing was lost");
    wait_for(2).await;
    assert_eq!(b.index(log, 0, 10, false).await.unwrap().len(), 2);
}
