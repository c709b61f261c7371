//! Over a relay, end to end: real processes, and what lies on the relay's disk.

use cairn_tests::cable::Cable;
use cairn_tests::relay::Relay;
use cairn_tests::{Device, write_rows};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

fn id(v: &Value) -> String {
    v["observation"]["id"].as_str().unwrap_or_else(|| panic!("no id in {v}")).to_owned()
}

fn target(device: &Device, relay: &str) -> Value {
    device.json(&["sync", relay]).1["data"]["targets"][0].clone()
}

fn synced(device: &Device, relay: &str) -> Value {
    let row = target(device, relay);
    assert_eq!(row["state"], "synced", "{row}");
    row
}

/// Syncs in turn until nobody has anything to give or take; then all hold the same.
fn until_quiet(devices: &[&Device], relay: &str) {
    let moved = |d: &&&Device| {
        let row = synced(d, relay);
        row["wrote"] == true || row["received"]["batches"] != 0
    };
    for _ in 0..6 {
        if devices.iter().filter(moved).count() == 0 {
            let digests: BTreeSet<String> = devices.iter().map(|d| d.digest()).collect();
            assert_eq!(digests.len(), 1);
            return;
        }
    }
    panic!("they write for ever");
}

fn all_bytes(folder: &Path) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        out.extend(if path.is_dir() { all_bytes(&path) } else { std::fs::read(&path).unwrap() });
    }
    out
}

/// Neither as text nor as the bytes that a number or an id stands for.
fn nowhere(disk: &[u8], what: &str) {
    let wide: Vec<u8> = what.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let raw = cairn_model::unhex(what).ok().filter(|b| b.len() >= 16);
    for form in [Some(what.as_bytes().to_vec()), Some(wide), raw].into_iter().flatten() {
        assert!(memchr::memmem::find(disk, &form).is_none(), "`{what}` lies on the relay's disk");
    }
}

fn file(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_string_lossy().into_owned()
}

/// Edits, deletions and a removal, between devices that never meet; and the relay has seen nothing.
#[test]
fn three_devices_that_never_meet_hold_the_same_and_the_relay_knows_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("relay");
    let relay = Relay::start(&data, 0, &[]);
    let url = relay.url.clone();
    let [a, b, c] = ["a", "b", "c"].map(|n| Device::new(dir.path(), n));
    let project = a.ok(&["new", "Riverwatch Tapajos", "--name", "Ana Laptop"])["project"].clone();
    let x = id(&a.ok(&["add", "--at=-3.46,-62.21", "--note", "fresh tapir tracks", "species=tapir-seen"]));
    let y = id(&a.ok(&["add", "--at=1,1", "--note", "to be deleted soon"]));
    a.ok(&["remote", "add", "relay", &url]);
    synced(&a, "relay");
    b.ok(&["join", &a.ticket(), "--name", "Bo Phone"]);
    c.ok(&["join", &a.ticket(), "--name", "Cy Phone"]);
    until_quiet(&[&a, &b, &c], &url);
    a.ok(&["edit", &x, "species=jaguar-seen"]);
    b.ok(&["edit", &x, "species=ocelot-seen"]);
    c.ok(&["rm", &y]);
    c.ok(&["add", "--at", "3,3", "--note", "seen by the third"]);
    until_quiet(&[&a, &b, &c], &url);
    assert_eq!(a.everything(), b.everything());
    assert_eq!(a.everything(), c.everything());
    assert_eq!(a.ok(&["conflicts"])["conflicts"].as_array().unwrap().len(), 1);
    for device in [&a, &b, &c] {
        assert_eq!(device.ok(&["status"])["unsynced"], 0, "receipts came back over the relay");
    }

    a.ok(&["devices", "remove", "Cy Phone", "--lost"]);
    synced(&a, &url);
    c.ok(&["add", "--at", "4,4", "--note", "written after the removal"]);
    let (code, reply) = c.json(&["sync", &url]);
    assert_eq!((code, &reply["data"]["targets"][0]["state"]), (5, &Value::from("removed")), "{reply}");
    b.ok(&["add", "--at", "5,5", "--note", "only for those who belong"]);
    until_quiet(&[&a, &b], &url);
    assert_eq!(a.everything(), b.everything());
    assert!(!c.everything().to_string().contains("only for those"), "a removed device reads nothing new");
    assert!(!a.everything().to_string().contains("after the removal"));

    let devices = a.ok(&["devices"])["devices"].clone();
    drop(relay);
    let disk = all_bytes(&data);
    assert!(disk.len() > 10_000);
    let ids: Vec<&str> = devices.as_array().unwrap().iter().map(|d| d["device"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 3);
    for word in
        ["fresh tapir", "jaguar-seen", "species", "Riverwatch", "Ana Laptop", "Bo Phone", "Community monitoring", "uncategorised", &x]
    {
        nowhere(&disk, word);
    }
    ids.iter().for_each(|id| nowhere(&disk, id));
    nowhere(&disk, project.as_str().unwrap());
}

/// While services run, what one records is at the other within a second or so of being pushed.
#[test]
fn services_hear_of_each_other_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let relay = Relay::start(&dir.path().join("relay"), 0, &[]);
    let [a, b] = ["a", "b"].map(|n| Device::new(dir.path(), n));
    a.ok(&["new", "River", "--name", "Ana"]);
    b.ok(&["join", &a.ticket(), "--name", "Bo"]);
    for device in [&a, &b, &a] {
        synced(device, &relay.url);
    }
    for device in [&a, &b] {
        device.ok(&["remote", "add", "relay", &relay.url]);
    }
    let (_one, _other) = (a.serve(), b.serve());
    let mut took = Vec::new();
    for round in 0..5 {
        let word = format!("round={round}");
        a.ok(&["add", "--at", "1,1", &word]);
        let began = Instant::now();
        while b.ok(&["list", "--where", &word])["count"] != 1 {
            assert!(began.elapsed() < Duration::from_secs(20), "{word} never came");
        }
        took.push(began.elapsed());
    }
    took.sort();
    println!("seen after {took:?}");
    assert!(took[2] < Duration::from_secs(2), "{took:?}");
}

/// What Scribe's users do: register, push, come back on another laptop; and what they must not be able to do.
#[test]
fn an_account_brings_a_project_back() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("relay");
    let relay = Relay::start(&data, 0, &["--logins", "1000"]);
    let [a, b, c] = ["a", "b", "c"].map(|n| Device::new(dir.path(), n));
    let first = file(dir.path(), "first", "seven wet stones\n");
    let second = file(dir.path(), "second", "eight dry stones\n");
    let third = file(dir.path(), "third", "nine round stones\n");
    let wrong = file(dir.path(), "wrong", "no stones at all\n");
    let words = a.ok(&["relay", "register", &relay.url, "--user", "ana", "--password-file", &first])["recovery"].clone();
    let words = file(dir.path(), "words", words.as_str().unwrap());
    a.ok(&["new", "Garden of Mary", "--name", "Old laptop"]);
    a.ok(&["add", "--at", "1,1", "--note", "verse one"]);
    a.ok(&["remote", "add", "relay", &relay.url]);
    assert_eq!(a.ok(&["relay", "projects"])["projects"].as_array().unwrap().len(), 0, "nothing was pushed yet");
    synced(&a, "relay");
    let shown = a.ok(&["relay", "projects"])["projects"][0].clone();
    assert_eq!((&shown["name"], &shown["here"], &shown["observations"]), (&"Garden of Mary".into(), &true.into(), &1.into()));
    assert!(shown["bytes"].as_u64() > Some(0) && shown["last_push"].is_string());

    let (code, refused) = b.json(&["relay", "login", &relay.url, "--user", "ana", "--password-file", &wrong]);
    assert_eq!(code, 5, "{refused}");
    let (code, unknown) = b.json(&["relay", "login", &relay.url, "--user", "nobody", "--password-file", &wrong]);
    assert_eq!((code, &unknown["error"]["message"]), (5, &refused["error"]["message"]), "nobody learns which names exist");
    assert_eq!(b.json(&["clone", "Garden of Mary"]).0, 5, "not logged in");
    b.ok(&["relay", "login", &relay.url, "--user", "Ana", "--password-file", &first]);
    assert_eq!(b.ok(&["relay", "projects"])["projects"][0]["here"], false);
    let cloned = b.ok(&["clone", "Garden of Mary"]);
    assert_eq!((&cloned["observations"], &cloned["was_here"]), (&1.into(), &false.into()));
    b.ok(&["add", "--at", "2,2", "--note", "verse two"]);
    let (code, again) = b.json(&["clone", "Garden of Mary"]);
    assert_eq!((code, &again["data"]["was_here"]), (0, &true.into()));
    assert!(again["warnings"][0].as_str().unwrap().contains("already"), "{again}");
    until_quiet(&[&a, &b], &relay.url);

    let changed = b.ok(&["relay", "password", "--password-file", &first, "--new-password-file", &second]);
    assert_eq!(
        c.json(&["relay", "recover", &relay.url, "--user", "ana", "--words-file", &words, "--password-file", &third]).0,
        5,
        "old words"
    );
    let words = file(dir.path(), "words", changed["recovery"].as_str().unwrap());
    assert_eq!(a.json(&["relay", "projects"]).0, 5, "other devices were logged out");
    assert_eq!(a.json(&["relay", "login", &relay.url, "--user", "ana", "--password-file", &first]).0, 5);
    a.ok(&["relay", "login", &relay.url, "--user", "ana", "--password-file", &second]);
    a.ok(&["relay", "logout"]);
    assert_eq!(a.json(&["relay", "projects"]).0, 5);
    c.ok(&["relay", "recover", &relay.url, "--user", "ana", "--words-file", &words, "--password-file", &third]);
    assert_eq!(c.ok(&["clone", "Garden of Mary"])["observations"], 2);
    until_quiet(&[&a, &b, &c], &relay.url);
    drop(relay);
    let disk = all_bytes(&data);
    for word in ["Garden of Mary", "verse one", "seven wet stones", "eight dry", "nine round"] {
        nowhere(&disk, word);
    }
}

/// A stolen laptop that was logged in: after its removal the account's list lets it in nowhere, and the relay is shut to it.
#[test]
fn a_removed_device_does_not_come_back_by_the_account() {
    let dir = tempfile::tempdir().unwrap();
    let relay = Relay::start(&dir.path().join("relay"), 0, &["--logins", "1000"]);
    let [a, thief] = ["a", "thief"].map(|n| Device::new(dir.path(), n));
    let first = file(dir.path(), "first", "seven wet stones");
    let second = file(dir.path(), "second", "eight dry stones");
    a.ok(&["relay", "register", &relay.url, "--user", "ana", "--password-file", &first]);
    a.ok(&["new", "River", "--name", "Desk"]);
    a.ok(&["remote", "add", "relay", &relay.url]);
    synced(&a, "relay");
    thief.ok(&["relay", "login", &relay.url, "--user", "ana", "--password-file", &first]);
    thief.ok(&["clone", "River", "--name", "Laptop"]);
    until_quiet(&[&a, &thief], &relay.url);
    let way_in = |d: &Device| d.ok(&["relay", "projects"])["projects"][0]["way_in"].clone();
    assert_eq!(way_in(&a), true);
    let ticket_before = thief.home().join("projects");
    a.ok(&["devices", "remove", "Laptop", "--lost"]);
    for _ in 0..2 {
        synced(&a, "relay");
    }
    a.ok(&["add", "--at", "1,1", "--note", "after the theft"]);
    synced(&a, "relay");
    assert_eq!(way_in(&thief), false, "what the list showed would be a key to all that is written from now on");
    // Its own copy out of the way, as a program would that is not ours.
    std::fs::rename(&ticket_before, dir.path().join("aside")).unwrap();
    let (code, refused) = thief.json(&["clone", "River"]);
    assert_eq!(code, 5, "{refused}");
    let open = |d: &Device| d.ok(&["invite", "--list"])["invitations"].clone();
    assert!(!open(&a).to_string().contains("\"state\":\"open\""), "{}", open(&a));

    a.ok(&["relay", "password", "--password-file", &first, "--new-password-file", &second]);
    assert_eq!(thief.json(&["relay", "projects"]).0, 5);
    synced(&a, "relay");
    assert_eq!(way_in(&a), true, "another key of the account: a way in again");
    let new = Device::new(dir.path(), "new");
    new.ok(&["relay", "login", &relay.url, "--user", "ana", "--password-file", &second]);
    assert_eq!(new.ok(&["clone", "River"])["observations"], 1);
}

/// The stolen laptop takes the project off the account's list. A device that never wrote there cannot tell that this is no new account:
/// the ticket it would put on the list would let the thief in.
#[test]
fn a_list_that_was_emptied_by_a_thief_gets_no_way_in() {
    let dir = tempfile::tempdir().unwrap();
    let relay = Relay::start(&dir.path().join("relay"), 0, &["--logins", "1000"]);
    let [a, b, thief] = ["a", "b", "thief"].map(|n| Device::new(dir.path(), n));
    let first = file(dir.path(), "first", "seven wet stones");
    let second = file(dir.path(), "second", "eight dry stones");
    a.ok(&["relay", "register", &relay.url, "--user", "ana", "--password-file", &first]);
    a.ok(&["new", "River", "--name", "Desk"]);
    a.ok(&["remote", "add", "relay", &relay.url]);
    synced(&a, "relay");
    let invited = a.ok(&["invite", "--role", "coordinator"])["ticket"].clone();
    b.ok(&["join", invited.as_str().unwrap(), "--name", "Second desk"]);
    thief.ok(&["relay", "login", &relay.url, "--user", "ana", "--password-file", &first]);
    thief.ok(&["clone", "River", "--name", "Laptop"]);
    until_quiet(&[&a, &thief, &b], &relay.url);
    a.ok(&["devices", "remove", "Laptop", "--lost"]);
    for _ in 0..2 {
        synced(&a, "relay");
    }
    synced(&b, &relay.url);
    thief.ok(&["relay", "forget", "River"]);
    b.ok(&["relay", "login", &relay.url, "--user", "ana", "--password-file", &first]);
    for _ in 0..2 {
        synced(&b, &relay.url);
    }
    let way_in = |d: &Device| d.ok(&["relay", "projects"])["projects"][0]["way_in"].clone();
    assert_ne!(way_in(&thief), true, "a key to all that is written from now on");
    b.ok(&["relay", "password", "--password-file", &first, "--new-password-file", &second]);
    synced(&b, &relay.url);
    assert_eq!(way_in(&b), true, "who made another key knows that the thief does not have it");
}

/// Who removes somebody is told when the relay goes on letting them in.
#[test]
fn a_removal_that_does_not_reach_the_relay_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let relay = Relay::start(&dir.path().join("relay"), 0, &[]);
    let [a, b, c] = ["a", "b", "c"].map(|n| Device::new(dir.path(), n));
    a.ok(&["new", "River", "--name", "Ana"]);
    synced(&a, &relay.url);
    let invited = a.ok(&["invite", "--role", "coordinator"])["ticket"].clone();
    b.ok(&["join", invited.as_str().unwrap(), "--name", "Bo"]);
    c.ok(&["join", &a.ticket(), "--name", "Cy"]);
    for device in [&b, &c, &b] {
        synced(device, &relay.url);
    }
    // Ana, who alone has the log's admin key, was not there since.
    b.ok(&["devices", "remove", "Cy", "--lost"]);
    let row = target(&b, &relay.url);
    assert_eq!(row["state"], "partly", "{row}");
    assert!(row["message"].as_str().unwrap().contains("removed device"), "{row}");
    synced(&a, &relay.url);
    for _ in 0..2 {
        synced(&b, &relay.url);
    }
    assert_eq!(target(&c, &relay.url)["state"], "removed");
}

/// A proxy that passes TLS on, for whoever asks it to (`CONNECT`); gives its address and how many did.
fn proxy() -> (String, Arc<AtomicUsize>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, asked) = (listener.local_addr().unwrap().to_string(), Arc::new(AtomicUsize::new(0)));
    let count = asked.clone();
    std::thread::spawn(move || {
        for mut near in listener.incoming().flatten() {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                near.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).unwrap();
            let target = head.strip_prefix("CONNECT ").and_then(|h| h.split(' ').next()).expect("CONNECT").to_owned();
            count.fetch_add(1, Ordering::SeqCst);
            let mut far = std::net::TcpStream::connect(target).unwrap();
            near.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
            let (mut near2, mut far2) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            // Either end may go first.
            std::thread::spawn(move || std::io::copy(&mut near2, &mut far2).ok());
            std::thread::spawn(move || std::io::copy(&mut far, &mut near).ok());
        }
    });
    (address, asked)
}

/// Where the internet is behind a proxy, the environment says so; and says for what it is not used.
#[test]
fn a_proxy_is_used_where_the_environment_names_one() {
    let dir = tempfile::tempdir().unwrap();
    let relay = Relay::start(&dir.path().join("relay"), 0, &[]);
    let (address, asked) = proxy();
    let by = format!("http://{address}");
    let a = Device::new(dir.path(), "a").env("HTTPS_PROXY", &by);
    a.ok(&["new", "River", "--name", "Ana"]);
    synced(&a, &relay.url);
    assert!(asked.load(Ordering::SeqCst) > 0, "it went through the proxy");
    let before = asked.load(Ordering::SeqCst);
    let without = Device::new(dir.path(), "a").env("HTTPS_PROXY", &by).env("NO_PROXY", "127.0.0.1");
    synced(&without, &relay.url);
    assert_eq!(asked.load(Ordering::SeqCst), before);
    let nowhere = Device::new(dir.path(), "a").env("HTTPS_PROXY", "http://127.0.0.1:9");
    let (code, reply) = nowhere.json(&["sync", &relay.url, "--timeout", "5"]);
    assert_eq!((code, &reply["data"]["targets"][0]["state"]), (4, &Value::from("unreached")), "{reply}");
}

/// What was sent before a line broke is not sent again, whatever it is packed in.
#[test]
fn an_interrupted_push_goes_on_where_it_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let relay = Relay::start(&dir.path().join("relay"), 0, &[]);
    let a = Device::new(dir.path(), "a");
    a.ok(&["new", "River", "--name", "Ana"]);
    let rows = dir.path().join("rows.csv");
    write_rows(&rows, 0, 30_000);
    a.ok(&["import", &rows.to_string_lossy()]);
    let whole = std::fs::metadata({
        let bundle = dir.path().join("all.cairn");
        a.ok(&["bundle", "create", &bundle.to_string_lossy()]);
        bundle
    });
    let size = whole.unwrap().len();
    let cable = Cable::to(&relay.address);
    let url = relay.url.replace(&relay.address, &cable.address);
    let mut push = a.command(&["sync", &url]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    cable.wait_until(size * 3 / 4, || push.try_wait().unwrap().is_some());
    push.kill().unwrap();
    push.wait().unwrap();
    let before = cable.up();
    synced(&a, &url);
    println!("{size} bytes in all, {before} before the cut, {} after", cable.up() - before);
    assert!(cable.up() < size * 3 / 2, "it began anew: {} for {size}", cable.up());
}

/// A new laptop, an old project, a bad line: each try goes on where the one before was cut off.
#[test]
fn a_large_project_comes_back_through_ten_interruptions() {
    let dir = tempfile::tempdir().unwrap();
    let relay = Relay::start(&dir.path().join("relay"), 0, &[]);
    let [a, b, c] = ["a", "b", "c"].map(|n| Device::new(dir.path(), n));
    let password = file(dir.path(), "password", "seven wet stones");
    a.ok(&["relay", "register", &relay.url, "--user", "ana", "--password-file", &password]);
    a.ok(&["new", "Large", "--name", "Ana"]);
    let rows = dir.path().join("rows.csv");
    write_rows(&rows, 0, 50_000);
    a.ok(&["import", &rows.to_string_lossy()]);
    a.ok(&["remote", "add", "relay", &relay.url]);
    synced(&a, "relay");
    // How much it is without interruptions, over another cable.
    let whole = Cable::to(&relay.address);
    let by = |cable: &Cable| relay.url.replace(&relay.address, &cable.address);
    b.ok(&["relay", "login", &relay.url, "--user", "ana", "--password-file", &password]);
    b.ok(&["clone", "Large"]);
    until_quiet(&[&a, &b], &relay.url);
    let probe = Device::new(dir.path(), "probe");
    probe.ok(&["join", &a.ticket(), "--name", "Probe"]);
    synced(&probe, &by(&whole));
    let size = whole.down();
    println!("{size} bytes for 50,000 observations");

    let cable = Cable::to(&relay.address);
    c.ok(&["relay", "login", &by(&cable), "--user", "ana", "--password-file", &password]);
    for cut in 1..=10 {
        let mut sync = c.command(&["clone", "Large"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut over = false;
        cable.wait_until(cable.up() + cable.down() + size / 14, || {
            over = sync.try_wait().unwrap().is_some();
            over
        });
        sync.kill().ok();
        sync.wait().unwrap();
        println!("cut {cut} after {} bytes{}", cable.down(), if over { ", it was done" } else { "" });
    }
    assert_eq!(c.ok(&["clone", "Large"])["observations"], 50_000);
    assert_eq!(c.everything().as_array().unwrap().len(), 50_000);
    println!("{} bytes in eleven tries", cable.down());
    assert!(cable.down() < size * 2, "it began anew: {} for {size}", cable.down());
    until_quiet(&[&a, &c], &relay.url);
}

/// An old backup put back, and a relay whose disk is gone: noticed, told, and made whole by whoever syncs next.
#[test]
fn a_relay_that_was_set_back_is_noticed_and_healed() {
    let dir = tempfile::tempdir().unwrap();
    let (data, backup) = (dir.path().join("relay"), dir.path().join("backup"));
    let relay = Relay::start(&data, 0, &[]);
    let url = relay.url.clone();
    let [a, b, c] = ["a", "b", "c"].map(|n| Device::new(dir.path(), n));
    a.ok(&["new", "River", "--name", "Ana"]);
    a.ok(&["remote", "add", "relay", &url]);
    a.ok(&["add", "--at", "1,1", "n=1"]);
    synced(&a, "relay");
    let (_, port) = relay.kill();
    assert!(std::process::Command::new("cp").arg("-r").arg(&data).arg(&backup).status().unwrap().success());
    let relay = Relay::start(&data, port, &[]);
    b.ok(&["join", &a.ticket(), "--name", "Bo"]);
    b.ok(&["add", "--at", "2,2", "n=2"]);
    until_quiet(&[&a, &b], &url);
    relay.kill();
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::rename(&backup, &data).unwrap();
    let relay = Relay::start(&data, port, &[]);
    let row = synced(&a, "relay");
    assert!(row["faults"].to_string().contains("ALARM") && row["wrote"] == true, "{row}");
    let evidence = a.ok(&["status"])["relays"][0]["alarms"].clone();
    assert_eq!(evidence[0]["what"], "rolled-back", "{evidence}");
    let row = synced(&a, "relay");
    assert!(!row["faults"].to_string().contains("ALARM"), "it is told once: {row}");
    until_quiet(&[&a, &b], &url);
    c.ok(&["join", &a.ticket(), "--name", "Cy"]);
    until_quiet(&[&a, &b, &c], &url);
    assert_eq!(a.everything(), c.everything(), "it is whole again");
    // Now everything is gone.
    relay.kill();
    for file in ["relay.redb", "parts"] {
        let path = data.join(file);
        if path.is_dir() { std::fs::remove_dir_all(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
    }
    let _relay = Relay::start(&data, port, &[]);
    synced(&b, &url);
    let d = Device::new(dir.path(), "d");
    d.ok(&["join", &a.ticket(), "--name", "Di"]);
    until_quiet(&[&a, &b, &c, &d], &url);
    assert_eq!(d.everything(), a.everything());
}
