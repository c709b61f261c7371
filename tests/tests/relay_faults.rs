//! A relay that is killed, a balancer's nodes that are killed, a line that breaks: what was acknowledged is there.

use cairn_contract::{Kept, Mailbox, MailboxError};
use cairn_model::ChunkHash;
use cairn_relay::wire::LogId;
use cairn_relay::{Entered, KeyRing, Network, Patience, Relay as Client, RelayMailbox, RelayUrl, Remembered};
use cairn_tests::postgres::Postgres;
use cairn_tests::relay::Relay;
use std::collections::BTreeSet;
use std::path::Path;
use tokio::runtime::Runtime;

fn open(runtime: &Runtime, url: &str) -> RelayMailbox {
    let url = RelayUrl::parse(url).unwrap();
    let patience = Patience { tries: 1, ..Patience::default() };
    let client = Client::new(&url, &Network::default(), patience, runtime.handle().clone()).unwrap();
    let keys = KeyRing { log: LogId([7; 16]), knock: [1; 32], access: vec![[2; 32]] };
    let mut mailbox = client.mailbox(keys, Remembered::default());
    if mailbox.enter().unwrap() == Entered::NoLog {
        mailbox.create(&[3; 32], vec![], None).unwrap();
    }
    mailbox
}

/// Chunks of a small commit: every tenth has a part that lies outside the database.
fn some(n: u32) -> Vec<Vec<u8>> {
    let len = |k: u32| if (n + k).is_multiple_of(10) { 300_000 } else { 200 + (n * 37 + k * 11) as usize % 3_000 };
    let chunk = |k: u32| {
        let bytes: Vec<u8> = (0..len(k)).map(|i| ((i as u32).wrapping_mul(2_654_435_761) >> 13) as u8 ^ n as u8).collect();
        [&b"cairn\x01\x01"[..], &[0; 44], &n.to_le_bytes(), &k.to_le_bytes(), &bytes].concat()
    };
    (0..1 + n % 4).map(chunk).collect()
}

/// Adds until it fails; gives the names of what was acknowledged.
fn add_until_killed(mut mailbox: RelayMailbox, from: u32, told: &std::sync::mpsc::Sender<u32>) -> (u32, Vec<ChunkHash>) {
    let (mut n, mut acknowledged) = (from, Vec::new());
    loop {
        let chunks = some(n);
        let names: Vec<ChunkHash> = chunks.iter().map(|c| ChunkHash::of(c)).collect();
        n += 1;
        match mailbox.add(&chunks).and_then(|()| mailbox.commit()) {
            Ok(kept) => {
                assert_eq!(kept, Kept::Acknowledged);
                acknowledged.extend(names);
                // Whoever counts may have heard enough.
                told.send(n).ok();
            }
            Err(_) => return (n, acknowledged),
        }
    }
}

/// A hundred times at a random moment of a load; after each the relay starts by itself and goes on.
#[test]
fn kill_9_a_hundred_times_under_load_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = Runtime::new().unwrap();
    let (data, mut port, mut n) = (dir.path().join("relay"), 0, 0);
    let mut acknowledged: Vec<ChunkHash> = Vec::new();
    let mut random = 0x9e37_79b9_u64;
    for _ in 0..100 {
        let relay = Relay::start(&data, port, &["--rate", "100000"]);
        let mailbox = open(&runtime, &relay.url);
        let (tell, told) = std::sync::mpsc::channel();
        let load = std::thread::spawn(move || add_until_killed(mailbox, n, &tell));
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        for _ in 0..random >> 61 {
            told.recv().unwrap();
        }
        // Somewhere inside the next commit.
        for _ in 0..(random >> 44) & 0x3fff {
            std::hint::spin_loop();
        }
        (_, port) = relay.kill();
        let (next, names) = load.join().unwrap();
        acknowledged.extend(names);
        n = next;
    }
    let relay = Relay::start(&data, port, &[]);
    all_there(&runtime, &relay.url, &acknowledged);
    println!("{} commits were tried, {} chunks acknowledged", n, acknowledged.len());
    assert!(acknowledged.len() > 150, "the load never got going");
}

/// Every acknowledged chunk is listed, and is what it was.
fn all_there(runtime: &Runtime, url: &str, acknowledged: &[ChunkHash]) {
    let mut mailbox = open(runtime, url);
    let listing = mailbox.list(&[]).unwrap();
    assert_eq!(mailbox.alarms(), &[]);
    let names: BTreeSet<ChunkHash> = listing.entries.iter().map(|e| e.name).collect();
    assert_eq!(names.len(), listing.entries.len(), "each once");
    for part in acknowledged.chunks(64) {
        assert!(part.iter().all(|name| names.contains(name)), "an acknowledged chunk is not listed");
        let read: BTreeSet<ChunkHash> = mailbox.read(part).unwrap().iter().map(|c| ChunkHash::of(c)).collect();
        assert_eq!(read, part.iter().copied().collect());
    }
}

/// No room: said as such, all that was acknowledged stays readable, and the relay goes on.
#[test]
fn a_relay_without_room_says_so_and_keeps_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let Some(relay) = Relay::on_a_small_disk(&dir.path().join("relay"), "12m") else { return };
    let runtime = Runtime::new().unwrap();
    let mut acknowledged = Vec::new();
    let mut refused = None;
    for n in 0..2_000 {
        let mut mailbox = open(&runtime, &relay.url);
        let chunks = some(n);
        match mailbox.add(&chunks).and_then(|()| mailbox.commit()) {
            Ok(_) => acknowledged.extend(chunks.iter().map(|c| ChunkHash::of(c))),
            Err(e) => {
                refused = Some(e);
                break;
            }
        }
    }
    assert!(matches!(refused, Some(MailboxError::Full(_))), "{refused:?}");
    assert!(acknowledged.len() > 20);
    all_there(&runtime, &relay.url, &acknowledged);
}

fn same_key(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in ["relay-cert.pem", "relay-key.pem"] {
        std::fs::copy(from.join(file), to.join(file)).unwrap();
    }
}

/// Two nodes over one database: either takes what the other is asked for, and either may go, and the database too.
#[test]
fn nodes_of_one_relay_stand_in_for_each_other() {
    let Some(server) = Postgres::start() else { return };
    let database = server.database("relay");
    let dir = tempfile::tempdir().unwrap();
    let runtime = Runtime::new().unwrap();
    let parts = dir.path().join("parts");
    std::fs::create_dir_all(&parts).unwrap();
    let node = |name: &str, port: u16| {
        let data = dir.path().join(name);
        if name == "two" {
            same_key(&dir.path().join("one"), &data);
        }
        std::fs::create_dir_all(&data).unwrap();
        // Large parts lie where both nodes see them.
        std::os::unix::fs::symlink(&parts, data.join("parts")).ok();
        Relay::start(&data, port, &["--database", &database, "--rate", "100000"])
    };
    let (mut one, mut two) = (node("one", 0), node("two", 0));
    assert_eq!(
        std::fs::read(dir.path().join("one/operator-token")).unwrap(),
        std::fs::read(dir.path().join("two/operator-token")).unwrap(),
        "one operator for both"
    );
    let (mut n, mut acknowledged) = (0, Vec::new());
    for round in 0..6 {
        let (tell, told) = std::sync::mpsc::channel();
        let mailbox = open(&runtime, if round % 2 == 0 { &one.url } else { &two.url });
        let from = n;
        let load = std::thread::spawn(move || add_until_killed(mailbox, from, &tell));
        for _ in 0..5 {
            told.recv().unwrap();
        }
        if round == 3 {
            server.crash_and_restart();
            for _ in 0..3 {
                told.recv().expect("the node goes on by itself");
            }
        }
        if round % 2 == 0 {
            let (_, port) = one.kill();
            acknowledged.extend(finished(load, &mut n));
            all_there(&runtime, &two.url, &acknowledged);
            one = node("one", port);
        } else {
            let (_, port) = two.kill();
            acknowledged.extend(finished(load, &mut n));
            all_there(&runtime, &one.url, &acknowledged);
            two = node("two", port);
        }
    }
    all_there(&runtime, &one.url, &acknowledged);
    all_there(&runtime, &two.url, &acknowledged);
}

fn finished(load: std::thread::JoinHandle<(u32, Vec<ChunkHash>)>, n: &mut u32) -> Vec<ChunkHash> {
    let (next, names) = load.join().unwrap();
    *n = next;
    names
}
