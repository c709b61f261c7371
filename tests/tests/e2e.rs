//! The real binary: several homes on one machine, over loopback.

use cairn_tests::{Device, pair, write_rows};
use serde_json::{Value, json};
use std::process::Stdio;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

#[test]
fn two_devices_edit_apart_and_converge() {
    let root = folder();
    let (a, b) = pair(root.path());
    let file = root.path().join("rows.csv");
    write_rows(&file, 0, 300);
    assert_eq!(a.ok(&["import", file.to_str().unwrap(), "--category", "animal"])["created"], 300);
    write_rows(&file, 300, 200);
    assert_eq!(b.ok(&["import", file.to_str().unwrap()])["created"], 200);
    let x =
        a.ok(&["add", "--category", "animal", "--at", "-3.46,-62.21", "species=tapir"])["observation"]["id"].as_str().unwrap().to_owned();
    let service = a.serve();
    let first = b.ok(&["sync", &service.address]);
    assert_eq!(first["targets"][0]["observations"], json!({"new": 301, "changed": 0, "deleted": 0}));
    assert_eq!(b.ok(&["list", "--sync", first["sync"].as_str().unwrap()])["count"], 301);

    // Every verb works while `serve` runs: Ana edits through it, Bo in his own process.
    a.ok(&["edit", &x, "species=deer"]);
    b.ok(&["edit", &x, "species=peccary", "count=2"]);
    let y = b.ok(&["list", "--limit", "1", "--category", "uncategorised"])["observations"][0]["id"].as_str().unwrap().to_owned();
    b.ok(&["rm", &y]);
    a.ok(&["edit", &y, "--note", "still there"]);
    let second = b.ok(&["sync", &service.address]);
    assert_eq!(second["targets"][0]["state"], "synced");
    assert_eq!(a.digest(), b.digest());
    assert_eq!(a.everything(), b.everything());
    for device in [&a, &b] {
        let conflicts = device.ok(&["conflicts"])["conflicts"].clone();
        let keys: Vec<&str> = conflicts.as_array().unwrap().iter().map(|c| c["key"].as_str().unwrap()).collect();
        assert_eq!(keys.len(), 2, "{conflicts}");
        assert!(keys.contains(&"species") && keys.contains(&"deleted"), "{conflicts}");
        assert_eq!(device.ok(&["status"])["unsynced"], 0);
        assert_eq!(device.ok(&["check"])["findings"], json!([]));
    }
    b.ok(&["conflicts", "resolve", &x, "species", "peccary"]);
    b.ok(&["conflicts", "resolve", &y, "deleted", "true"]);
    // By name, at the address where she was met.
    assert_eq!(b.ok(&["sync", "Ana"])["targets"][0]["state"], "synced");
    assert_eq!(a.ok(&["conflicts"])["conflicts"], json!([]));
    assert_eq!(a.ok(&["show", &x])["observations"][0]["fields"]["species"], "peccary");
    let nothing = b.ok(&["sync", &service.address])["targets"][0].clone();
    assert_eq!((&nothing["round_trips"], nothing["wire_bytes"].as_u64().unwrap() < 500), (&json!(1), true), "{nothing}");
}

#[test]
fn five_devices_meet_in_a_ring() {
    let root = folder();
    let mut devices = vec![Device::new(root.path(), "d0")];
    devices[0].ok(&["new", "Ring"]);
    for n in 1..5 {
        let d = Device::new(root.path(), &format!("d{n}"));
        d.ok(&["join", &devices[0].ticket(), "--name", &format!("device {n}")]);
        devices.push(d);
    }
    for (n, d) in devices.iter().enumerate() {
        d.ok(&["add", "--at", &format!("{n},{n}"), "--note", &format!("by {n}")]);
    }
    for _ in 0..2 {
        for n in 0..5 {
            let service = devices[n].serve();
            devices[(n + 1) % 5].ok(&["sync", &service.address]);
        }
    }
    let digests: Vec<String> = devices.iter().map(Device::digest).collect();
    assert!(digests.iter().all(|d| *d == digests[0]), "{digests:?}");
    assert_eq!(devices[3].ok(&["list"])["count"], 5);
}

/// Either side is killed in the middle of a large sync, again and again; the next sync completes what was begun.
#[test]
fn kill_9_in_the_middle_of_a_large_sync() {
    let root = folder();
    let (a, b) = pair(root.path());
    let file = root.path().join("rows.csv");
    let count = 50_000;
    write_rows(&file, 0, count);
    assert_eq!(a.ok(&["import", file.to_str().unwrap()])["created"], count);
    let mut before = 0;
    for round in 0..4 {
        let service = a.serve();
        let mut sync = b
            .command(&["sync", &service.address, "--json", "--progress", "json"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Its own progress says when it is in the middle: 5 batches further than the last time.
        let progress = std::io::BufReader::new(sync.stderr.take().unwrap());
        use std::io::BufRead;
        for line in progress.lines() {
            let told: Value = serde_json::from_str(&line.unwrap()).unwrap();
            if told["done"].as_u64().unwrap() >= 5 {
                break;
            }
        }
        if round % 2 == 0 {
            sync.kill().unwrap();
            sync.wait().unwrap();
        } else {
            service.kill();
            sync.wait().unwrap();
        }
        let here = b.ok(&["status"])["observations"].as_u64().unwrap();
        assert!(here >= before, "what was durable is still there: {before} then {here}");
        before = here;
    }
    assert!(before > 0, "the kills came after something was durable");
    let service = a.serve();
    b.ok(&["sync", &service.address]);
    assert_eq!(a.digest(), b.digest());
    assert_eq!(b.ok(&["status"])["observations"], count);
    assert_eq!(b.ok(&["check"])["findings"], json!([]));
}

#[test]
fn a_stranger_another_project_and_nobody() {
    let root = folder();
    let (a, _) = pair(root.path());
    let other = Device::new(root.path(), "other");
    other.ok(&["new", "Forest"]);
    let service = a.serve();
    let (code, reply) = other.json(&["sync", &service.address]);
    assert_eq!(
        (code, reply["data"]["targets"][0]["state"].as_str()),
        (4, Some("unreached")),
        "a stranger is as if nobody answered: {reply}"
    );
    let address = service.address.clone();
    service.kill();
    let (code, _) = other.json(&["sync", &address]);
    assert_eq!(code, 4);
}

#[test]
fn a_second_process_waits_and_is_told_who_holds_the_store() {
    let root = folder();
    let (a, _) = pair(root.path());
    let service = a.serve();
    a.ok(&["add", "--at", "1,1"]);
    let socket = walk(a.home()).into_iter().find(|p| p.ends_with("serve.sock")).expect("the service has a socket");
    std::fs::remove_file(socket).unwrap();
    let (code, reply) = a.json(&["status", "--wait", "0"]);
    assert_eq!(code, 11);
    assert!(reply["error"]["message"].as_str().unwrap().contains("cairn serve"), "{reply}");
    drop(service);
    a.ok(&["status"]);
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { out.extend(walk(&path)) } else { out.push(path) }
    }
    out
}

/// A home was copied to another place, as a backup tool or a new laptop does: both go on writing, nothing is lost.
#[test]
fn a_copied_home_starts_a_new_feed() {
    let root = folder();
    let (a, b) = pair(root.path());
    a.ok(&["add", "--at", "1,1", "--note", "before"]);
    let copied = std::process::Command::new("cp").arg("-a").arg(a.home()).arg(root.path().join("copy")).status().unwrap();
    assert!(copied.success());
    let copy = Device::new(root.path(), "copy");
    a.ok(&["add", "--at", "2,2", "--note", "on the original"]);
    copy.ok(&["add", "--at", "3,3", "--note", "on the copy"]);
    for device in [&a, &copy] {
        let service = device.serve();
        b.ok(&["sync", &service.address]);
    }
    let service = a.serve();
    b.ok(&["sync", &service.address]);
    assert_eq!(b.ok(&["list"])["count"], 3);
    assert_eq!(a.digest(), b.digest());
    let feeds = b.ok(&["status"])["frontier"].as_array().unwrap().len();
    assert_eq!(feeds, 2, "the original's feed and the copy's own");
}

#[test]
fn bad_input_is_told_with_its_place_and_changes_nothing() {
    let root = folder();
    let (a, _) = pair(root.path());
    let path = |name: &str| root.path().join(name).to_str().unwrap().to_owned();
    let before = a.digest();
    let refused: [(&[&str], &str); 6] = [
        (&["add", "--at", "91,0"], "latitude 91"),
        (&["add", "--at", "north"], "LAT,LON"),
        (&["add", "--category", "unicorn"], "no category `unicorn`"),
        (&["add", "--time", "2025-02-30"], "2025-02-30"),
        (&["add", "--category", "animal", "count=many"], "`many` is not a whole number"),
        (&["show", "zz"], "no observation"),
    ];
    for (args, message) in refused {
        let (code, reply) = a.json(args);
        assert_eq!(code, 1, "{reply}");
        assert!(reply["error"]["message"].as_str().unwrap().contains(message), "{reply}");
    }
    std::fs::write(path("latin1.csv"), b"lat,lon,name\n1,2,ok\n1,2,caf\xe9\n").unwrap();
    std::fs::write(path("torn.geojson"), "{\"type\":\"FeatureCollection\",\n\"features\":[").unwrap();
    // Without a word on its encoding the first is read as what spreadsheets write.
    for (file, message) in [("latin1.csv", "line 3, column 3"), ("torn.geojson", "line 2"), ("gone.csv", "No such file")] {
        let (code, reply) = a.json(&["import", &path(file), "--encoding", "utf-8"]);
        assert_eq!(code, 1, "{reply}");
        assert!(reply["error"]["message"].as_str().unwrap().contains(message), "{reply}");
    }
    assert_eq!(a.digest(), before);
    std::fs::write(path("ragged.csv"), "lat,lon,n\n1,2,a\n1,2\n91,2,b\n3,4,c\n").unwrap();
    let (code, reply) = a.json(&["import", &path("ragged.csv")]);
    assert_eq!((code, &reply["data"]["created"], &reply["data"]["rejected"]), (3, &json!(2), &json!(2)), "{reply}");
    assert_eq!(reply["data"]["rejects"][0]["line"], 3);
}

#[test]
fn rows_go_out_and_come_back_in() {
    let root = folder();
    let (a, _) = pair(root.path());
    a.ok(&[
        "add",
        "--category",
        "fishing",
        "--at",
        "-1.5,2.25",
        "--time",
        "2025-06-30T10:00:00-05:00",
        "--note",
        "two, \"boats\"",
        "gear=net;line",
        "count=3",
    ]);
    for name in ["out.csv", "out.geojson"] {
        let file = root.path().join(name);
        let file = file.to_str().unwrap();
        assert_eq!(a.ok(&["export", file])["exported"], 1);
        let fresh = Device::new(root.path(), &format!("from-{name}"));
        fresh.ok(&["new", "Copy"]);
        assert_eq!(fresh.ok(&["import", file])["created"], 1);
        let (was, is) = (a.everything()[0].clone(), fresh.everything()[0].clone());
        for key in ["category", "lat", "lon", "time", "note"] {
            assert_eq!(was[key], is[key], "{key}");
        }
        assert_eq!(is["fields"]["count"], 3);
    }
}

#[test]
fn configurations_travel_and_bite() {
    let root = folder();
    let (a, b) = pair(root.path());
    let file = root.path().join("config.json");
    let file = file.to_str().unwrap();
    a.ok(&["config", "export", file]);
    let mut config: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    config["categories"].as_array_mut().unwrap().push(json!({"id": "glacier", "name": "Glacier", "fields": ["condition"]}));
    config["version"] = json!("2");
    std::fs::write(file, config.to_string()).unwrap();
    assert!(a.ok(&["config", "import", file])["changes"].as_u64().unwrap() >= 4);
    let (code, reply) = b.json(&["config", "import", file]);
    assert_eq!((code, reply["error"]["kind"].as_str()), (5, Some("not-allowed")), "{reply}");
    let service = a.serve();
    b.ok(&["sync", &service.address]);
    assert_eq!(b.ok(&["config", "show"])["version"], "2");
    b.ok(&["add", "--category", "glacier", "condition=good"]);
}

/// A clock 50 years off changes nothing but shown times. Needs Debian's `faketime`.
#[test]
fn a_clock_fifty_years_off() {
    let library = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";
    if !std::path::Path::new(library).exists() {
        println!("skipped: {library} is not installed (Debian package faketime)");
        return;
    }
    let root = folder();
    let (a, b) = pair(root.path());
    let late = Device::new(root.path(), "b").env("LD_PRELOAD", library).env("FAKETIME", "+18250d");
    late.ok(&["add", "--at", "1,1"]);
    a.ok(&["add", "--at", "2,2"]);
    let service = a.serve();
    late.ok(&["sync", &service.address]);
    assert_eq!(a.digest(), b.digest());
    assert!(a.ok(&["list"])["observations"][0]["time"].as_str().unwrap() > "2070", "shown, never trusted");
}

#[test]
fn the_demo_shows_four_equal_devices() {
    let root = folder();
    let home = Device::new(root.path(), "unused");
    assert_eq!(home.ok(&["demo"])["equal"], true);
    let out = home.command(&["demo", "--quiet"]).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(text.lines().count() > 10 && text.contains("All four devices hold the same."), "{text}");
}

/// A script on a full disk took an empty file for a success.
#[test]
fn an_answer_that_cannot_be_written_is_no_success() {
    let root = folder();
    let (a, _) = pair(root.path());
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    for args in [&["list"][..], &["list", "--json"], &["log", "--verify", "--json"]] {
        let out = a.command(args).stdout(full()).output().unwrap();
        assert_eq!(out.status.code(), Some(1), "{args:?}");
        assert!(String::from_utf8_lossy(&out.stderr).contains("could not be written"));
    }
}

/// Other programs call this: exactly one object on standard output, with an `error` whenever `ok` is false.
#[test]
fn programs_get_one_object_whatever_happens() {
    let root = folder();
    let (a, b) = pair(root.path());
    for (args, code, kind) in [
        (&["bogus"][..], 2, "usage"),
        (&["add", "foo"], 2, "usage"),
        (&["sync", "127.0.0.1:1", "--timeout", "1"], 4, "unreached"),
        (&["show", "ffff"], 1, "not-found"),
    ] {
        let (got, reply) = a.json(args);
        assert_eq!((got, reply["error"]["kind"].as_str(), &reply["ok"]), (code, Some(kind), &json!(false)), "{reply}");
    }
    // A newcomer that looks before it syncs is not told that it does not belong.
    let service = a.serve();
    let (code, reply) = b.json(&["sync", &service.address, "--dry-run"]);
    assert_eq!(
        (code, reply["data"]["targets"][0]["state"].as_str(), &reply["data"]["sync"]),
        (0, Some("would-join"), &Value::Null),
        "{reply}"
    );
}

/// An old sighting that was edited today is news; and rows that cannot be listed as refused are not taken at all.
#[test]
fn the_log_is_newest_first_and_a_refused_import_takes_nothing() {
    let root = folder();
    let (a, _) = pair(root.path());
    let old = a.ok(&["add", "--at", "1,1", "--time", "1999-01-01"])["observation"]["id"].clone();
    a.ok(&["add", "--at", "2,2", "--time", "2099-01-01"]);
    a.ok(&["edit", old.as_str().unwrap(), "species=ibis"]);
    let entry = a.ok(&["log", "--limit", "1"])["entries"][0].clone();
    assert_eq!((&entry["id"], &entry["set"][0]["value"]), (&old, &json!("ibis")));
    let file = root.path().join("rows.csv");
    write_rows(&file, 0, 3);
    let (code, _) = a.json(&["import", file.to_str().unwrap(), "--rejects", "/nowhere/rejects.csv"]);
    assert_eq!((code, &a.ok(&["list"])["count"]), (1, &json!(2)));
}

/// What a sync tells is what it did here: made, deleted and restored elsewhere is one new observation.
#[test]
fn a_sync_counts_observations_not_changes() {
    let root = folder();
    let (a, b) = pair(root.path());
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(a.ok(&["add", "--at", &format!("1,{n}")])["observation"]["id"].as_str().unwrap().to_owned());
    }
    let service = a.serve();
    // A link that is live cuts at every commit, so that each step is a batch of its own.
    let d = Device::new(root.path(), "d");
    d.ok(&["join", &a.ticket()]);
    d.ok(&["sync", &service.address]);
    a.ok(&["rm", &ids[0], &ids[1]]);
    d.ok(&["sync", &service.address]);
    a.ok(&["restore", &ids[0]]);
    let done = b.ok(&["sync", &service.address]);
    assert_eq!(done["targets"][0]["observations"], json!({"new": 2, "changed": 0, "deleted": 0}));
    assert_eq!(b.ok(&["list", "--sync", done["sync"].as_str().unwrap()])["count"], 2);
}

#[test]
fn a_conflict_is_settled_only_with_one_of_its_values() {
    let root = folder();
    let (a, b) = pair(root.path());
    let id = a.ok(&["add", "--at", "1,1", "--time", "2025-01-01"])["observation"]["id"].as_str().unwrap().to_owned();
    let service = a.serve();
    b.ok(&["sync", &service.address]);
    a.ok(&["edit", &id, "--at", "2,2", "--time", "2025-02-02"]);
    b.ok(&["edit", &id, "--at", "-3,3", "--time", "2025-03-03"]);
    b.ok(&["sync", &service.address]);
    for (key, value) in [("at", "-1,-1"), ("where", "north"), ("where", "9,9")] {
        let (code, reply) = b.json(&["conflicts", "resolve", &id, key, value]);
        assert_eq!(code, 1, "{reply}");
        assert!(reply["error"]["message"].as_str().unwrap().contains("none of the values"), "{reply}");
    }
    b.ok(&["conflicts", "resolve", &id, "where", "-3,3"]);
    b.ok(&["conflicts", "resolve", &id, "at", "2025-02-02T00:00:00Z"]);
    b.ok(&["sync", &service.address]);
    let shown = a.ok(&["show", &id])["observations"][0].clone();
    assert_eq!((&shown["lat"], &shown["time"], &shown["conflicts"]), (&json!(-3.0), &json!("2025-02-02T00:00:00Z"), &json!([])));
}
