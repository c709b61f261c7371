//! What people wait for, measured on the real binary: two devices on this machine, over loopback.
//!
//! `cargo build --release && cargo run --release -p cairn-benches -- [OBSERVATIONS]` prints one JSON object: each figure
//! with its target, and the ratio to CoMapeo core 7.1 measured on the same work (725 obs/s first sync and 350 MB at
//! 10,000; 598 bytes an observation on the wire). The question of each figure stands beside it in `benches/README.md`.

mod carried;
mod membership;
mod relay;
mod sizes;
mod tables;

use cairn_node::{AddRequest, Home, Node, Request};
use cairn_tests::{Device, pair, write_rows};
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// CoMapeo core 7.1, first sync of 10,000, observations a second.
const PEER_FIRST_SYNC: f64 = 725.0;
/// The same, bytes an observation on the wire.
const PEER_WIRE: f64 = 598.0;

fn main() {
    if std::env::args().nth(1).as_deref() == Some("sizes") {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        return println!("{:#}", runtime.block_on(sizes::figures()));
    }
    if std::env::args().nth(1).as_deref() == Some("load") {
        let folder = tempfile::tempdir().expect("a folder");
        return println!("{:#}", relay::load(folder.path()));
    }
    if std::env::args().nth(1).as_deref() == Some("tables") {
        let count = std::env::args().nth(2).map_or(100_000, |a| a.parse().expect("a number of rows"));
        let folder = tempfile::tempdir().expect("a folder");
        return println!("{:#}", tables::figures(folder.path(), count));
    }
    let count: usize = std::env::args().nth(1).map_or(100_000, |a| a.parse().expect("a number of observations"));
    let root = tempfile::tempdir().expect("a folder");
    let (a, b) = pair(root.path());
    let file = root.path().join("rows.csv");
    write_rows(&file, 0, count);
    let mut out = json!({"observations": count, "fsync_ms": fsync_ms(root.path())});
    let (import_s, import_mb) = timed(&a, &["import", file.to_str().expect("UTF-8")]);
    out["import"] = figure(count as f64 / import_s, "rows/s", 20_000.0);
    out["import_peak_mb"] = json!(import_mb);
    out["disk_a"] = figure(disk(a.home()) as f64 / count as f64, "bytes/obs", 900.0);
    let lan_s = first_sync(&a, &b, count, &mut out);
    out["disk_b"] = figure(disk(b.home()) as f64 / count as f64, "bytes/obs", 900.0);
    after(&a, &b, &mut out);
    lists(&a, &mut out);
    adds(&a, &mut out);
    out["carried"] = carried::figures(root.path(), &a, count);
    out["relay"] = relay::figures(root.path(), &a, count, lan_s);
    out["membership"] = membership::figures();
    println!("{out:#}");
}

fn figure(value: f64, unit: &str, target: f64) -> Value {
    json!({"value": (value * 100.0).round() / 100.0, "unit": unit, "target": target})
}

/// Seconds and peak memory (MB) of one command. The peak is read while it runs: a process that ended has none.
fn timed(device: &Device, args: &[&str]) -> (f64, f64) {
    let began = Instant::now();
    let mut child = device.command(args).arg("--json").stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().expect("it runs");
    let mut peak = 0.0f64;
    loop {
        peak = peak.max(peak_mb(child.id()));
        if let Some(status) = child.try_wait().expect("it can be waited for") {
            assert!(status.success(), "{args:?}");
            return (began.elapsed().as_secs_f64(), peak);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn peak_mb(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0) / 1000.0
}

fn disk(home: &Path) -> u64 {
    let mut bytes = 0;
    for entry in std::fs::read_dir(home).expect("a folder") {
        let path = entry.expect("an entry").path();
        bytes += if path.is_dir() { disk(&path) } else { path.metadata().map_or(0, |m| m.len()) };
    }
    bytes
}

/// Seconds it took.
fn first_sync(a: &Device, b: &Device, count: usize, out: &mut Value) -> f64 {
    let service = a.serve();
    let began = Instant::now();
    let report = b.ok(&["sync", &service.address]);
    let seconds = began.elapsed().as_secs_f64();
    let target = report["targets"][0].clone();
    let rate = count as f64 / seconds;
    out["first_sync"] = figure(rate, "obs/s, whole command, durable and listable", 20_000.0);
    out["first_sync"]["link_ms"] = target["ms"].clone();
    out["first_sync"]["ratio_to_comapeo"] = json!((rate / PEER_FIRST_SYNC).round());
    let wire = target["wire_bytes"].as_f64().unwrap_or(0.0) / count as f64;
    out["wire"] = figure(wire, "bytes/obs", 200.0);
    out["wire"]["ratio_to_comapeo"] = json!((PEER_WIRE / wire * 10.0).round() / 10.0);
    out["sender_peak_mb"] = figure(peak_mb(service.pid()), "MB", 100.0);
    drop(service);
    // The receiver's peak, on a third device that does the same.
    let c = Device::new(b.home().parent().expect("a root"), "c");
    c.ok(&["join", &a.ticket(), "--name", "C"]);
    let service = a.serve();
    out["receiver_peak_mb"] = figure(timed(&c, &["sync", &service.address]).1, "MB", 100.0);
    seconds
}

fn after(a: &Device, b: &Device, out: &mut Value) {
    let service = a.serve();
    b.ok(&["sync", &service.address]);
    let nothing = b.ok(&["sync", &service.address])["targets"][0].clone();
    out["nothing_to_do"] = json!({"round_trips": nothing["round_trips"], "wire_bytes": nothing["wire_bytes"], "ms": nothing["ms"], "target": "1 round trip, 2000 bytes"});
    let edit = |d: &Device, from: usize| {
        let ids = d.ok(&["list", "--limit", "200"])["observations"].clone();
        let file = d.home().join("edits.csv");
        write_rows(&file, from, 100);
        d.ok(&["import", file.to_str().expect("UTF-8")]);
        ids.as_array().map_or(0, Vec::len)
    };
    edit(a, 1_000_000);
    edit(b, 2_000_000);
    let both = b.ok(&["sync", &service.address])["targets"][0].clone();
    out["hundred_and_hundred"] = json!({"ms": both["ms"], "wire_bytes": both["wire_bytes"], "target_ms": 100});
}

fn lists(a: &Device, out: &mut Value) {
    let median = |args: &[&str]| {
        let mut times: Vec<f64> = (0..9).map(|_| timed(a, args).0 * 1000.0).collect();
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    out["list_20"] = figure(median(&["list", "--limit", "20"]), "ms from process start", 50.0);
    out["list_category"] = figure(median(&["list", "--category", "uncategorised", "--limit", "20"]), "ms", 100.0);
    out["list_box"] = figure(median(&["list", "--bbox", "-62.2,-3.2,-62.1,-3.1", "--limit", "20"]), "ms", 100.0);
    out["list_field"] = figure(median(&["list", "--where", "field3=word5 of 12", "--limit", "20"]), "ms", 100.0);
    out["list_time"] = figure(median(&["list", "--since", "2025-03-01", "--until", "2025-03-02", "--limit", "20"]), "ms", 100.0);
}

/// One `add` inside a running service is one durable commit; the same disk's own fsync beside it.
fn adds(a: &Device, out: &mut Value) {
    let service = a.serve();
    let mut times: Vec<f64> = (0..21).map(|n| timed_request(a, n)).collect();
    times.sort_by(f64::total_cmp);
    drop(service);
    out["add_by_command_ms"] = json!({"median": times[10], "note": "process, socket and commit, beside a running service"});
    let home = Home::at(a.home()).expect("a home");
    let node = Node::open(&home, None).expect("it opens");
    let mut commits: Vec<f64> = (0..101)
        .map(|n| {
            let began = Instant::now();
            node.handle(Request::Add(AddRequest { at: Some(format!("2,{n}")), ..Default::default() })).expect("added");
            began.elapsed().as_secs_f64() * 1000.0
        })
        .collect();
    commits.sort_by(f64::total_cmp);
    let fsync = out["fsync_ms"].as_f64().unwrap_or(f64::NAN);
    out["add_ms"] = json!({"median": commits[50], "fsyncs": (commits[50] / fsync * 10.0).round() / 10.0, "target": "under 3 fsync"});
    drop(node);
    reopen(a, out);
}

/// Opening after kill -9 of a process that holds the store.
fn reopen(a: &Device, out: &mut Value) {
    let service = a.serve();
    a.ok(&["add", "--at", "3,3"]);
    service.kill();
    let began = Instant::now();
    let home = Home::at(a.home()).expect("a home");
    let node = Node::open(&home, None).expect("it opens");
    out["open_after_kill_9_ms"] = figure(began.elapsed().as_secs_f64() * 1000.0, "ms", 100.0);
    drop(node);
}

fn timed_request(a: &Device, n: usize) -> f64 {
    let began = Instant::now();
    a.ok(&["add", "--at", &format!("1,{n}")]);
    began.elapsed().as_secs_f64() * 1000.0
}

fn fsync_ms(dir: &Path) -> f64 {
    let mut file = std::fs::File::create(dir.join("fsync")).expect("a file");
    let mut times: Vec<f64> = (0..21)
        .map(|_| {
            file.write_all(&[7; 4096]).expect("written");
            let began = Instant::now();
            file.sync_data().expect("synced");
            began.elapsed().as_secs_f64() * 1000.0
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[10]
}
