//! Looking after a project, with real processes: going back, history, and who holds what.

use cairn_tests::relay::Relay;
use cairn_tests::{Device, pair, write_rows};
use serde_json::{Value, json};
use std::path::Path;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn id(v: &Value) -> String {
    v["observation"]["id"].as_str().unwrap().to_owned()
}

/// One sync with a device that serves for its time only; gives the sync's number on the side that dialled.
fn sync(dialler: &Device, host: &Device) -> String {
    let service = host.serve();
    dialler.ok(&["sync", &service.address])["sync"].as_str().unwrap().to_owned()
}

/// What people see, whatever the order of fields.
fn shown(device: &Device) -> Vec<String> {
    let mut rows: Vec<String> = device.everything().as_array().unwrap().iter().map(ToString::to_string).collect();
    rows.sort();
    rows
}

#[test]
fn a_sync_of_five_thousand_is_undone_under_three_edits_and_redone() {
    let root = folder();
    let (a, b) = pair(root.path());
    let old = id(&a.ok(&["add", "--at", "1,1", "--note", "older"]));
    sync(&b, &a);
    let rows = root.path().join("rows.csv");
    write_rows(&rows, 0, 5_000);
    a.ok(&["import", rows.to_str().unwrap()]);
    a.ok(&["edit", &old, "--note", "changed by the sync"]);
    let number = sync(&b, &a);
    let listed = b.ok(&["list", "--sync", &number, "--limit", "0"]);
    assert_eq!(listed["count"], 5_001);
    let ids: Vec<String> = listed["observations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|o| o["id"].as_str().unwrap().to_owned())
        .filter(|id| *id != old)
        .take(3)
        .collect();
    for id in &ids {
        b.ok(&["edit", id, "seen=again"]);
    }
    // The twin sees the same edits and undoes nothing.
    sync(&b, &a);
    assert_eq!(shown(&a), shown(&b));

    let before = b.ok(&["undo"]);
    let row = before["syncs"].as_array().unwrap().iter().find(|s| s["sync"] == number.as_str()).unwrap();
    assert_eq!((&row["new"], &row["changed"], &row["with"]), (&json!(5_000), &json!(1), &json!(["Ana"])), "{row}");
    let done = b.ok(&["undo", &number]);
    assert_eq!((&done["hidden"], &done["changed"], &done["observations"]), (&json!(4_997), &json!(1), &json!(4)), "{done}");
    let left = b.ok(&["list", "--limit", "0"]);
    for seen in left["observations"].as_array().unwrap().iter().filter(|o| o["id"] != old.as_str()) {
        assert_eq!(seen["fields"]["seen"], "again");
        assert!(seen["fields"]["field3"].is_string(), "what an edit needs stands: {seen}");
    }
    assert_eq!(b.ok(&["show", &old])["observations"][0]["note"], "older");
    let (_, status) = b.json(&["status"]);
    assert_eq!(status["data"]["set_aside"], done["changes"]);
    assert!(status["warnings"].to_string().contains("cairn redo"), "{status}");
    // What is set aside is passed on, and a sync brings nothing of it back.
    let c = Device::new(root.path(), "c");
    c.ok(&["join", &a.ticket(), "--name", "Cy"]);
    sync(&c, &b);
    assert_eq!(c.ok(&["list"])["count"], 5_001);
    sync(&b, &a);
    assert_eq!(b.ok(&["list"])["count"], 4);
    assert_eq!(b.json(&["undo", &number]).1["data"]["changes"], 0, "undone once");
    assert_eq!(b.json(&["undo", "999"]).0, 1);

    b.ok(&["redo", &number]);
    sync(&a, &b);
    assert_eq!(shown(&b), shown(&a), "the view is the twin's");
    assert_eq!(b.digest(), a.digest());
    assert_eq!(b.ok(&["check"])["findings"], json!([]));
}

#[test]
fn each_sync_is_a_point_to_go_back_to() {
    let root = folder();
    let (a, b) = pair(root.path());
    let mut numbers = Vec::new();
    let mut last = String::new();
    for n in 1..=3 {
        if n > 2 {
            // What a later sync brought builds on what an earlier one did: both go.
            a.ok(&["edit", &last, "--note", "later"]);
        }
        last = id(&a.ok(&["add", "--at", &format!("{n},1")]));
        numbers.push(sync(&b, &a));
    }
    b.ok(&["add", "--at", "9,9"]);
    assert_eq!(b.json(&["undo", "99", "--and-later"]).0, 1);
    let done = b.ok(&["undo", &numbers[1], "--and-later"]);
    assert_eq!((&done["kept"], &done["also"], &done["sync"]), (&json!(0), &json!([numbers[2]]), &json!(numbers[1])), "{done}");
    assert_eq!(b.ok(&["list"])["count"], 2, "what was there before, and what Bo made himself");
    b.ok(&["redo", &numbers[1], "--and-later"]);
    assert_eq!(b.ok(&["list"])["count"], 4);
}

/// A sync that let this device in and brought no observation is listed, so it can be gone back to.
#[test]
fn a_sync_that_brought_nothing_is_a_point_to_go_back_to() {
    let root = folder();
    let (a, b) = pair(root.path());
    let shared = root.path().join("shared");
    std::fs::create_dir(&shared).unwrap();
    let meet = |device: &Device| device.ok(&["sync", shared.to_str().unwrap()]);
    meet(&a);
    meet(&b);
    a.ok(&["add", "--at", "1,1"]);
    meet(&a);
    meet(&b);
    let listed = b.ok(&["undo"])["syncs"].clone();
    assert_eq!((listed.as_array().unwrap().len(), &listed[1]["new"]), (2, &json!(0)), "{listed}");
    let first = listed[1]["sync"].as_str().unwrap();
    assert_eq!(b.ok(&["undo", first])["changes"], 0);
    assert_eq!(b.ok(&["undo", first, "--and-later"])["hidden"], 1);
    assert_eq!(b.ok(&["redo", first, "--and-later"])["shown"], 1);
}

/// A disk with room for one backup and not for the next; root only.
#[test]
fn a_disk_that_is_full_keeps_the_old_backups() {
    let root = folder();
    let (a, _) = pair(root.path());
    let (disk, rows) = (root.path().join("disk"), root.path().join("rows.csv"));
    std::fs::create_dir(&disk).unwrap();
    write_rows(&rows, 0, 6_000);
    let script = "mount -t tmpfs -o size=128k tmpfs \"$DISK\" && \"$CAIRN\" backup create \"$DISK\" --json && \
                  \"$CAIRN\" import \"$ROWS\" --json; \"$CAIRN\" backup create \"$DISK\" --json; \"$CAIRN\" backup list \"$DISK\" --json; ls -A \"$DISK\"";
    let mut command = std::process::Command::new("unshare");
    command.args(["-m", "bash", "-c", script]).env("DISK", &disk).env("ROWS", &rows).env("CAIRN", cairn_tests::cairn());
    let Ok(done) = command.env("CAIRN_HOME", a.home()).env("CAIRN_KEY_STORE", "file").output() else {
        println!("skipped: unshare is not here");
        return;
    };
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    let lines: Vec<Value> = said.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
    let [first, _, second, list] = &lines[..] else {
        println!("skipped: no disk of its own could be mounted ({said})");
        return;
    };
    assert_eq!((&first["code"], &second["code"], &second["error"]["kind"]), (&json!(0), &json!(8), &json!("no-space")), "{second}");
    let left = list["data"]["backups"].as_array().unwrap();
    assert_eq!((left.len(), &left[0]["file"], &left[0]["observations"]), (1, &first["data"]["file"], &json!(0)), "{list}");
    assert_eq!(said.lines().filter(|l| !l.starts_with('{')).count(), 1, "nothing half done lies there: {said}");
}

#[test]
fn the_digest_stays_the_twins_while_a_sync_is_undone() {
    let root = folder();
    let (a, b) = pair(root.path());
    a.ok(&["add", "--at", "1,1"]);
    let number = sync(&b, &a);
    sync(&a, &b);
    assert_eq!(a.digest(), b.digest());
    b.ok(&["undo", &number]);
    assert_eq!((a.digest(), b.ok(&["list"])["count"].clone()), (b.digest(), json!(0)));
    b.ok(&["redo", &number]);
    assert_eq!((a.digest(), b.ok(&["list"])["count"].clone()), (b.digest(), json!(1)));
}

#[test]
fn five_hundred_bad_rows_are_taken_back_by_another_device_for_everybody() {
    let root = folder();
    let (a, b) = pair(root.path());
    let c = Device::new(root.path(), "c");
    c.ok(&["join", &a.ticket(), "--name", "Cy"]);
    a.ok(&["add", "--at", "1,1", "--note", "good"]);
    let rows = root.path().join("rows.csv");
    write_rows(&rows, 0, 500);
    let act = a.ok(&["import", rows.to_str().unwrap()])["import"].as_str().unwrap().to_owned();
    sync(&b, &a);
    sync(&c, &a);
    assert_eq!(c.ok(&["list"])["count"], 501);
    let counted = b.ok(&["revert", &act[..10], "--dry-run"]);
    assert_eq!((&counted["deleted"], &counted["act"]), (&json!(500), &Value::Null));
    assert_eq!(b.ok(&["list"])["count"], 501);
    let done = b.ok(&["revert", &act[..10]]);
    assert_eq!((&done["deleted"], &done["kept"]), (&json!(500), &json!([])));
    sync(&b, &a);
    sync(&c, &a);
    for device in [&a, &b, &c] {
        assert_eq!(device.ok(&["list"])["count"], 1);
        let deleted = device.ok(&["list", "--deleted", "--limit", "0"]);
        let one = deleted["observations"].as_array().unwrap().iter().find(|o| o["deleted"] == true).unwrap()["id"].clone();
        let history = device.ok(&["log", one.as_str().unwrap()]);
        let kinds: Vec<&str> = history["entries"].as_array().unwrap().iter().map(|e| e["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["revert", "import"], "the history keeps it");
        assert_eq!(history["entries"][1]["act"], act.as_str());
    }
    let reversal = done["act"].as_str().unwrap();
    assert_eq!(c.ok(&["revert", reversal])["restored"], 500);
    assert_eq!(b.json(&["revert", "00000000"]).0, 1);
}

#[test]
fn history_tells_who_what_when_and_how_it_came() {
    let root = folder();
    let (a, b) = pair(root.path());
    let x = id(&a.ok(&["add", "--category", "animal", "--at", "1,1", "species=tapir"]));
    a.ok(&["edit", &x, "species=deer"]);
    let number = sync(&b, &a);
    b.ok(&["edit", &x, "species=peccary", "--unset", "at"]);
    let entries = b.ok(&["log", &x])["entries"].as_array().unwrap().clone();
    let names: Vec<&str> = entries.iter().map(|e| e["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["Bo", "Ana", "Ana"]);
    assert_eq!((&entries[0]["sync"], &entries[1]["sync"]), (&Value::Null, &json!(number)));
    assert_eq!(entries[1]["with"], json!(["Ana"]));
    assert!(entries[1]["received"].is_string() && entries[1].get("doubt").is_none(), "{}", entries[1]);
    let version = |n: usize| entries[n]["version"].as_str().unwrap()[..12].to_owned();
    let then = |n: usize| b.ok(&["show", &x, "--version", &version(n)])["observations"][0].clone();
    assert_eq!((then(2)["fields"]["species"].clone(), then(1)["fields"]["species"].clone()), (json!("tapir"), json!("deer")));
    assert_eq!(then(0)["lat"], Value::Null);
    let differs = b.ok(&["diff", &x, &version(2), &version(1)]);
    assert_eq!(differs["changes"], json!([{"key": "species", "from": "tapir", "to": "deer"}]));
    assert_eq!(b.ok(&["diff", &x, &version(1)])["changes"].as_array().unwrap().len(), 2);
    assert_eq!(b.json(&["show", &x, "--at", "2020-01-01"]).0, 1);
    assert_eq!(b.ok(&["show", &x, "--at", "2100-01-01"])["observations"][0]["fields"]["species"], "peccary");
    b.ok(&["revert", &format!("{x}@{}", version(2))]);
    let back = b.ok(&["show", &x])["observations"][0].clone();
    assert_eq!((back["fields"]["species"].clone(), back["lat"].clone()), (json!("tapir"), json!(1.0)));
    let verified = b.ok(&["log", "--verify"]);
    assert_eq!((&verified["findings"], &verified["devices"]), (&json!([]), &json!(2)));
    assert!(verified["batches"].as_u64().unwrap() >= 2, "{verified}");
}

#[test]
fn what_a_sync_deleted_is_brought_back_from_it() {
    let root = folder();
    let (a, b) = pair(root.path());
    let ids: Vec<String> = (0..4).map(|n| id(&a.ok(&["add", "--at", &format!("{n},1")]))).collect();
    sync(&b, &a);
    a.ok(&["rm", &ids[0], &ids[1], &ids[2]]);
    let number = sync(&b, &a);
    b.ok(&["rm", &ids[3]]);
    assert_eq!(b.ok(&["list"])["count"], 0);
    assert_eq!(b.ok(&["restore", "--from", &number])["changed"], 3);
    assert_eq!(b.ok(&["list"])["count"], 3, "what was deleted here stays so");
    sync(&a, &b);
    assert_eq!(a.ok(&["list"])["count"], 3);
}

fn safe(device: &Device, copies: &str) -> (i32, Value) {
    let (code, reply) = device.json(&["status", "--safe-to-wipe", "--copies", copies]);
    (code, reply["data"].clone())
}

#[test]
fn a_device_may_be_wiped_only_when_others_have_signed_for_all_it_made() {
    let root = folder();
    let (a, b) = pair(root.path());
    let c = Device::new(root.path(), "c");
    c.ok(&["join", &a.ticket(), "--name", "Cy"]);
    sync(&c, &a);
    a.ok(&["add", "--at", "1,1"]);
    sync(&b, &a);
    let (code, said) = safe(&a, "1");
    assert_eq!((code, &said["safe"], &said["holding"]), (0, &json!(true), &json!(1)), "{said}");
    let (code, said) = safe(&a, "2");
    assert_eq!((code, &said["safe"]), (7, &json!(false)), "Cy has not confirmed it: {said}");
    // Cy gets it from Bo, and Bo tells Ana: she never meets Cy again.
    sync(&c, &b);
    sync(&a, &b);
    let (code, said) = safe(&a, "2");
    assert_eq!((code, &said["holding"]), (0, &json!(2)), "{said}");
    let words = String::from_utf8(a.command(&["status"]).output().unwrap().stdout).unwrap();
    assert!(words.contains("safe on 2 other devices"), "{words}");
    let states = |d: &Device| -> Vec<String> {
        let all = d.ok(&["status"])["states"].as_array().unwrap().clone();
        all.iter().map(|s| format!("{} {}", s["state"].as_str().unwrap(), s["count"])).collect()
    };
    assert_eq!((states(&a), states(&c)), (vec!["up-to-date 0".to_owned()], vec!["up-to-date 0".to_owned()]));
    a.ok(&["add", "--at", "2,2"]);
    assert_eq!(states(&a), ["to-send 1"]);
    let (code, said) = safe(&a, "2");
    assert_eq!((code, &said["open"]), (7, &json!(1)), "one change was never sent: {said}");
    assert!(said["reasons"].to_string().contains("sync first"));
    assert_eq!(safe(&a, "0").0, 1);
}

#[test]
fn confirmations_travel_by_folder_too() {
    let root = folder();
    let (a, b) = pair(root.path());
    let c = Device::new(root.path(), "c");
    c.ok(&["join", &a.ticket(), "--name", "Cy"]);
    sync(&c, &a);
    let share = root.path().join("share");
    std::fs::create_dir(&share).unwrap();
    let share: &Path = &share;
    let visit = |d: &Device| d.ok(&["sync", share.to_str().unwrap()]);
    a.ok(&["add", "--at", "1,1"]);
    visit(&a);
    assert_eq!(safe(&a, "1").0, 7, "a folder holds nothing for good: only devices sign");
    visit(&b);
    visit(&c);
    visit(&a);
    let (code, said) = safe(&a, "2");
    assert_eq!((code, &said["holding"]), (0, &json!(2)), "{said}");
}

/// The whole machine is gone; what is left is a file on a stick, and the words on paper.
#[test]
fn a_lost_machine_comes_back_from_a_backup_and_the_recovery_words() {
    let root = folder();
    let a = Device::new(root.path(), "a");
    let words = a.ok(&["new", "River", "--name", "Ana"])["recovery"].as_str().unwrap().to_owned();
    let b = Device::new(root.path(), "b");
    b.ok(&["join", &a.ticket(), "--name", "Bo"]);
    let rows = root.path().join("rows.csv");
    write_rows(&rows, 0, 3_000);
    a.ok(&["import", rows.to_str().unwrap()]);
    let stick = root.path().join("stick");
    std::fs::create_dir(&stick).unwrap();
    let made = a.ok(&["backup", "create", stick.to_str().unwrap()]);
    let file = made["file"].as_str().unwrap().to_owned();
    let bytes = std::fs::read(&file).unwrap();
    for secret in ["River", "word1", "field"] {
        assert!(memchr::memmem::find(&bytes, secret.as_bytes()).is_none(), "`{secret}` is in the open");
    }
    a.ok(&["add", "--at", "1,1", "--note", "after the backup"]);
    sync(&a, &b);
    let device = a.ok(&["whoami"])["device"].clone();
    let feeds = |d: &Device| d.ok(&["status"])["frontier"].as_array().unwrap().len();
    let before = feeds(&b);
    std::fs::remove_dir_all(a.home()).unwrap();

    let again = Device::new(root.path(), "again");
    let (code, refused) = again.json(&["backup", "restore", &file]);
    assert_eq!((code, refused["error"]["hint"].to_string().contains("--recovery-file")), (5, true), "{refused}");
    let paper = root.path().join("words.txt");
    // As people write them down.
    std::fs::write(&paper, format!("\u{feff}{}\r\n", words.to_uppercase().replace(' ', "\r\n"))).unwrap();
    let restore = ["backup", "restore", &file, "--recovery-file", paper.to_str().unwrap()];
    let told = again.ok(&[&restore[..], &["--dry-run"]].concat());
    assert_eq!((&told["observations"], &told["replaces"]), (&json!(3_000), &json!(false)));
    assert_eq!(again.json(&["list"]).0, 10, "a dry run leaves nothing");
    assert_eq!(again.ok(&restore)["observations"], 3_000);
    assert_eq!(again.ok(&["whoami"])["device"], device, "it is that device again");
    again.ok(&["add", "--at", "2,2", "--note", "after the restore"]);
    sync(&again, &b);
    assert_eq!(again.ok(&["list"])["count"], 3_002, "what it had sent after the backup comes back");
    assert_eq!(again.digest(), b.digest());
    assert_eq!(feeds(&b), before + 1, "it went on in a new feed");
    let (_, status) = b.json(&["status"]);
    assert!(!status["warnings"].to_string().to_lowercase().contains("cop"), "nobody sees a fork: {status}");
    assert_eq!(again.ok(&["check"])["findings"], json!([]));
}

/// From somebody else's bundle, the relay and the network together, with no backup at all.
#[test]
fn a_wiped_home_comes_back_from_a_bundle_a_relay_and_the_network_under_a_new_feed() {
    let root = folder();
    let (a, b) = pair(root.path());
    let c = Device::new(root.path(), "c");
    c.ok(&["join", &a.ticket(), "--name", "Cy"]);
    let relay = Relay::start(&root.path().join("relay"), 0, &[]);
    sync(&b, &a);
    a.ok(&["devices", "role", "Bo", "coordinator"]);
    let rows = root.path().join("rows.csv");
    write_rows(&rows, 0, 300);
    a.ok(&["import", rows.to_str().unwrap()]);
    let kept = id(&a.ok(&["add", "--at", "1,1", "--note", "by Ana, before"]));
    sync(&c, &a);
    sync(&b, &a);
    let bundle = root.path().join("c.cairn");
    let bundle = bundle.to_str().unwrap();
    c.ok(&["bundle", "create", bundle]);
    b.ok(&["add", "--at", "2,2", "--note", "only at the relay"]);
    b.ok(&["sync", &relay.url]);
    c.ok(&["add", "--at", "3,3", "--note", "only on Cy's device"]);
    let before = a.ok(&["whoami"])["device"].clone();

    std::fs::remove_dir_all(a.home()).unwrap();
    let again = Device::new(root.path(), "a");
    again.ok(&["join", &b.ticket(), "--name", "Ana again", "--via", bundle]);
    assert_ne!(again.ok(&["whoami"])["device"], before, "another key, and so a feed of its own");
    assert_eq!(again.ok(&["list"])["count"], 301, "what the bundle has");
    assert_eq!(again.ok(&["show", &kept])["observations"][0]["note"], "by Ana, before");
    // The relay has what Bo said of the newcomer once he has been there.
    b.ok(&["sync", &relay.url]);
    again.ok(&["sync", &relay.url]);
    assert_eq!(again.ok(&["list"])["count"], 302, "and the relay");
    sync(&again, &c);
    assert_eq!(again.ok(&["list"])["count"], 303, "and the network");
    again.ok(&["edit", &kept, "--note", "by Ana, after"]);
    sync(&again, &c);
    sync(&b, &again);
    sync(&c, &again);
    for device in [&again, &b, &c] {
        assert_eq!(device.digest(), again.digest());
        assert_eq!(device.ok(&["show", &kept])["observations"][0]["note"], "by Ana, after");
        assert_eq!(device.ok(&["check"])["findings"], json!([]));
        let (_, status) = device.json(&["status"]);
        assert!(!status["warnings"].to_string().contains("fork") && !status["warnings"].to_string().contains("copy of"), "{status}");
    }
}

/// A device that never writes has no feed to tell its past from its present by: what it claims least counts.
#[test]
fn a_stale_confirmation_of_a_device_that_was_set_back_does_not_come_back() {
    let root = folder();
    let (a, b) = pair(root.path());
    let c = Device::new(root.path(), "c");
    let ticket = a.ok(&["invite", "--role", "observer"])["ticket"].as_str().unwrap().to_owned();
    c.ok(&["join", &ticket, "--name", "Cy"]);
    sync(&c, &a);
    let copy = |from: &Path, to: &Path| assert!(std::process::Command::new("cp").arg("-r").args([from, to]).status().unwrap().success());
    copy(c.home(), &root.path().join("c-old"));
    let places = ["one", "two"].map(|name| root.path().join(name).to_str().unwrap().to_owned());
    places.iter().for_each(|p| std::fs::create_dir(p).unwrap());
    a.ok(&["add", "--at", "1,1"]);
    a.ok(&["sync", &places[0]]);
    c.ok(&["sync", &places[0]]);
    a.ok(&["sync", &places[0]]);
    assert_eq!(safe(&a, "1").0, 0);
    // Cy's device is set back to before that, and says so by another way.
    std::fs::remove_dir_all(c.home()).unwrap();
    copy(&root.path().join("c-old"), c.home());
    b.ok(&["add", "--at", "2,2"]);
    b.ok(&["sync", &places[1]]);
    c.ok(&["sync", &places[1]]);
    a.ok(&["sync", &places[1]]);
    let (code, said) = safe(&a, "1");
    assert_eq!(code, 7, "{said}");
    a.ok(&["sync", &places[0]]);
    assert_eq!(safe(&a, "1").0, 7, "the old word of it lies there still");
}

#[test]
fn what_was_said_of_who_belongs_is_not_safe_before_anybody_heard_it() {
    let root = folder();
    let (a, b) = pair(root.path());
    a.ok(&["add", "--at", "1,1"]);
    sync(&b, &a);
    assert_eq!(safe(&a, "1").0, 0);
    a.ok(&["devices", "role", "Bo", "observer"]);
    let (code, said) = safe(&a, "1");
    assert!(code == 7 && said["reasons"].to_string().contains("who belongs"), "{said}");
    let place = root.path().join("place");
    std::fs::create_dir(&place).unwrap();
    b.ok(&["sync", place.to_str().unwrap()]);
    a.ok(&["sync", "--pull", place.to_str().unwrap()]);
    assert_eq!(safe(&a, "1").0, 7, "something was taken from there, and nothing given");
    sync(&b, &a);
    assert_eq!(safe(&a, "1").0, 0);
}

#[test]
fn a_restore_puts_aside_what_is_there_and_says_what_is_missing() {
    let root = folder();
    let (a, b) = pair(root.path());
    a.ok(&["add", "--at", "1,1"]);
    let file = root.path().join("one.cairn-backup");
    let secret = root.path().join("secret");
    std::fs::write(&secret, "seven wet stones\n").unwrap();
    a.ok(&["backup", "create", file.to_str().unwrap(), "--backup-passphrase-file", secret.to_str().unwrap()]);
    a.ok(&["add", "--at", "2,2"]);
    sync(&b, &a);
    let (code, told) = a.json(&["backup", "restore", file.to_str().unwrap(), "--dry-run"]);
    assert_eq!((code, &told["data"]["missing_batches"]), (0, &json!(1)), "{told}");
    assert!(told["warnings"].to_string().contains("missing from the backup"), "{told}");
    assert_eq!(a.ok(&["list"])["count"], 2);
    let done = a.ok(&["backup", "restore", file.to_str().unwrap(), "--backup-passphrase-file", secret.to_str().unwrap()]);
    assert!(Path::new(done["put_aside"].as_str().unwrap()).exists(), "nothing is dropped");
    assert_eq!(a.ok(&["list"])["count"], 1);
    sync(&a, &b);
    assert_eq!((a.ok(&["list"])["count"].clone(), a.digest()), (json!(2), b.digest()));
    // Another device's backup, a running service, and damage.
    let other = b.json(&["backup", "restore", file.to_str().unwrap(), "--backup-passphrase-file", secret.to_str().unwrap()]);
    assert_eq!(other.0, 5, "{}", other.1);
    let service = a.serve();
    assert_eq!(a.json(&["--wait", "0", "backup", "restore", file.to_str().unwrap()]).0, 11);
    assert!(a.ok(&["backup", "create", root.path().to_str().unwrap()])["file"].is_string(), "a service makes backups");
    drop(service);
    let whole = std::fs::read(&file).unwrap();
    // Nothing but a backup is replaced, and none lies in the home it is of.
    let table = root.path().join("table.csv");
    std::fs::write(&table, "a,b\n1,2\n").unwrap();
    assert_eq!(a.json(&["backup", "create", table.to_str().unwrap()]).0, 1);
    assert_eq!(std::fs::read_to_string(&table).unwrap(), "a,b\n1,2\n");
    assert_eq!(a.json(&["backup", "create", a.home().join("inside").to_str().unwrap()]).0, 1);
    a.ok(&["backup", "create", file.to_str().unwrap()]);
    std::fs::write(&file, &whole).unwrap();
    for cut in [whole.len() - 1, whole.len() / 2, 20, 3, 0] {
        std::fs::write(&file, &whole[..cut]).unwrap();
        let (code, said) = a.json(&["backup", "restore", file.to_str().unwrap()]);
        assert!(code == 1 || code == 5, "{cut}: {said}");
    }
    let mut flipped = whole;
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    std::fs::write(&file, &flipped).unwrap();
    assert_eq!(a.json(&["backup", "restore", file.to_str().unwrap()]).0, 1);
    assert_eq!(a.ok(&["list"])["count"], 2, "all of it left the project as it was");
}

#[test]
fn copies_are_made_before_imports_and_old_ones_are_thinned() {
    let root = folder();
    let (a, _) = pair(root.path());
    let rows = root.path().join("rows.csv");
    write_rows(&rows, 0, 50);
    let copies = || a.ok(&["backup", "list"])["backups"].as_array().unwrap().len();
    a.ok(&["import", rows.to_str().unwrap()]);
    assert_eq!(copies(), 0, "nothing was there to copy");
    a.ok(&["import", rows.to_str().unwrap()]);
    assert_eq!(copies(), 1, "before the second one");
    let name = a.ok(&["backup", "list"])["backups"][0]["name"].as_str().unwrap().to_owned();
    let bundle = root.path().join("out.cairn");
    for _ in 0..3 {
        a.ok(&["sync", bundle.to_str().unwrap()]);
    }
    assert!(copies() <= 2, "one a day is enough where little is new");
    assert_eq!(a.ok(&["list"])["count"], 100);
    let done = a.ok(&["backup", "restore", &name]);
    assert_eq!((&done["observations"], a.ok(&["list"])["count"].clone()), (&json!(50), json!(50)));
    assert_eq!(a.json(&["backup", "restore", "20200101000000000"]).0, 1);
    // Of one device in a folder so many are kept, and nothing else is touched.
    let share = root.path().join("share");
    std::fs::create_dir(&share).unwrap();
    let made = a.ok(&["backup", "create", share.to_str().unwrap()])["file"].as_str().unwrap().to_owned();
    let series = made[..made.len() - "20260101000000000.cairn-backup".len()].to_owned();
    std::fs::remove_file(&made).unwrap();
    for stamp in ["20200101000000000", "20210101000000000", "29990101000000000"] {
        std::fs::write(format!("{series}{stamp}.cairn-backup"), "old").unwrap();
        std::fs::write(format!("{series}2-{stamp}.cairn-backup"), "another device's").unwrap();
    }
    assert_eq!(a.ok(&["backup", "create", share.to_str().unwrap(), "--keep", "2"])["removed"], 2);
    let left = std::fs::read_dir(&share).unwrap().count();
    assert_eq!(left, 3 + 2, "three of the other device, two of this one, and the new one whatever the clock said before");
    assert_eq!(a.json(&["backup", "create", share.to_str().unwrap(), "--keep", "0"]).0, 1);
}

/// The store itself is torn, and gone: that is when people restore.
#[test]
fn a_store_that_does_not_open_is_put_aside_for_a_copy() {
    let root = folder();
    let a = Device::new(root.path(), "a");
    a.ok(&["new", "River", "--name", "Ana"]);
    a.ok(&["add", "--at", "1,1"]);
    a.ok(&["backup", "create"]);
    let store = std::fs::read_dir(a.home().join("projects")).unwrap().next().unwrap().unwrap().path().join("store.redb");
    let name = a.ok(&["backup", "list"])["backups"][0]["name"].as_str().unwrap().to_owned();
    for torn in [Some(&b"redb?"[..]), Some(b""), None] {
        match torn {
            Some(bytes) => std::fs::write(&store, bytes).unwrap(),
            None => std::fs::remove_file(&store).unwrap(),
        }
        assert_ne!(a.json(&["list"]).0, 0);
        assert_eq!(a.ok(&["backup", "list"])["backups"].as_array().unwrap().len(), 1, "no store is needed to list");
        let (code, done) = a.json(&["backup", "restore", &name]);
        assert_eq!((code, &done["data"]["observations"]), (0, &json!(1)), "{done}");
        assert!(done["warnings"].to_string().contains("does not open"), "{done}");
        assert_eq!(a.ok(&["list"])["count"], 1);
    }
    a.ok(&["add", "--at", "2,2", "--note", "never synced"]);
    let aside = a.ok(&["backup", "restore", &name])["put_aside"].as_str().unwrap().to_owned();
    assert_eq!(a.ok(&["list"])["count"], 1);
    assert_eq!(a.ok(&["backup", "restore", &aside])["observations"], 2, "what was put aside comes back");
    assert_eq!(a.json(&["--project", "Other", "backup", "restore", &aside]).0, 1);
    assert_eq!(a.json(&["restore", "--from", "99"]).0, 1);
}

/// Another program listens to a service: first who is there, then what changes, whoever caused it.
#[test]
fn events_tell_what_happens_at_a_service() {
    use std::io::{BufRead, BufReader};
    let root = folder();
    let (a, b) = pair(root.path());
    sync(&b, &a);
    assert_eq!(a.json(&["events"]).0, 1, "nobody runs");
    let service = a.serve();
    let mut listener = a.command(&["events", "--json"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(listener.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap()["data"].clone() };
    let ready = next();
    assert_eq!((&ready["event"], &ready["vocabulary"]), (&json!("ready"), &json!(1)), "{ready}");
    a.ok(&["add", "--at", "1,1"]);
    let changed = next();
    assert_eq!((&changed["event"], &changed["observations"], &changed["unsynced"]), (&json!("changed"), &json!(1), &json!(1)));
    b.ok(&["add", "--at", "2,2"]);
    b.ok(&["sync", &service.address]);
    let mut seen = Vec::new();
    while !seen.iter().any(|e: &Value| e["event"] == "synced") {
        seen.push(next());
    }
    let synced = seen.last().unwrap();
    assert_eq!((&synced["with"], &synced["new"]), (&json!("Bo"), &json!(1)), "{synced}");
    assert!(seen.iter().any(|e| e["event"] == "changed" && e["observations"] == 2), "{seen:?}");
    let sync = synced["sync"].as_str().unwrap();
    a.ok(&["undo", sync]);
    assert_eq!(next(), json!({"event": "set-aside", "changes": 1}), "what is shown changed, what is held did not");
    a.ok(&["redo", sync]);
    assert_eq!(next(), json!({"event": "set-aside", "changes": 0}));
    service.stop();
    assert_eq!(next()["event"], "ended");
    assert_eq!(listener.wait().unwrap().code(), Some(0));
}

/// One byte of one document's row: `check` and `check --repair` stopped there, though all that was signed was whole.
#[test]
fn a_damaged_document_is_found_and_made_anew() {
    let root = folder();
    let (a, b) = pair(root.path());
    let rows = root.path().join("rows.csv");
    let line = |n: u32| format!("{n},1,1,tapir{n}\n");
    std::fs::write(&rows, format!("key,lat,lon,species\n{}", (0..300).map(line).collect::<String>())).unwrap();
    a.ok(&["import", rows.to_str().unwrap(), "--dataset", "d", "--key", "key"]);
    sync(&b, &a);
    let before = shown(&a);
    let store = std::fs::read_dir(a.home().join("projects")).unwrap().next().unwrap().unwrap().path().join("store.redb");
    let mut bytes = std::fs::read(&store).unwrap();
    let at = bytes.windows(8).position(|w| w == b"tapir150").unwrap();
    bytes[at - 1] ^= 0xff;
    std::fs::write(&store, bytes).unwrap();
    let (code, found) = a.json(&["check"]);
    assert_eq!((code, found["data"]["findings"].as_array().unwrap().len()), (7, 1), "{found}");
    assert!(found["data"]["findings"][0]["place"].as_str().unwrap().len() > 32, "it is named: {found}");
    let done = a.ok(&["check", "--repair"]);
    assert_eq!((&done["findings"], &done["lost"]), (&json!([]), &json!([])), "{done}");
    assert_eq!((shown(&a), a.digest()), (before, b.digest()));
}

#[test]
fn a_repair_makes_everything_anew_and_keeps_a_copy() {
    let root = folder();
    let (a, b) = pair(root.path());
    let rows = root.path().join("rows.csv");
    write_rows(&rows, 0, 300);
    a.ok(&["import", rows.to_str().unwrap()]);
    a.ok(&["add", "--at", "1,1"]);
    sync(&b, &a);
    let (before, digest) = (shown(&b), b.digest());
    let number = b.ok(&["undo"])["syncs"][0]["sync"].as_str().unwrap().to_owned();
    b.ok(&["undo", &number]);
    let done = b.ok(&["check", "--repair"]);
    assert_eq!((&done["findings"], &done["lost"]), (&json!([]), &json!([])), "{done}");
    assert!(Path::new(done["copy"].as_str().unwrap()).exists());
    assert_eq!(b.ok(&["list"])["count"], 0, "what was set aside stays so");
    b.ok(&["redo", &number]);
    assert_eq!((shown(&b), b.digest()), (before, digest));
}
