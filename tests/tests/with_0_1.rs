//! Version 0.1 beside this one: its homes, folders, files and links. The binary of 0.1 is built from its commit by `.ci/full`, or named
//! by `CAIRN_0_1`; without it these tests say that they are skipped.

use cairn_tests::{Device, version_0_1, write_rows};
use serde_json::Value;
use std::path::Path;

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn notes(of: &Device) -> Vec<String> {
    let all = of.everything();
    let mut notes: Vec<String> = all.as_array().unwrap().iter().filter_map(|o| o["note"].as_str().map(str::to_owned)).collect();
    notes.sort();
    notes
}

/// A home that 0.1 made, with a folder it remembers, is opened and goes on: nothing is lost, and the store is checked.
#[test]
fn a_home_of_0_1_is_taken_over() {
    let Some(old) = version_0_1() else { return };
    let dir = tempfile::tempdir().unwrap();
    let share = dir.path().join("share");
    std::fs::create_dir(&share).unwrap();
    let (a, b) = (Device::new(dir.path(), "a").by(&old), Device::new(dir.path(), "b").by(&old));
    a.ok(&["new", "River", "--name", "Ana"]);
    b.ok(&["join", &a.ticket(), "--name", "Bo"]);
    let rows = dir.path().join("rows.csv");
    write_rows(&rows, 0, 500);
    a.ok(&["import", &text(&rows)]);
    let id = a.ok(&["add", "--note", "first"])["observation"]["id"].as_str().unwrap().to_owned();
    for device in [&a, &b, &a, &b] {
        device.ok(&["sync", &text(&share)]);
    }
    b.ok(&["edit", &id, "--note", "second"]);
    b.ok(&["sync", &text(&share)]);
    a.ok(&["add", "--note", "not in a batch yet"]);
    let (before, digest) = (a.everything(), a.digest());
    let a = Device::new(dir.path(), "a");
    assert_eq!((a.everything(), a.digest()), (before, digest));
    assert_eq!(a.ok(&["check"])["findings"], Value::Array(vec![]));
    a.ok(&["sync", &text(&share)]);
    assert!(notes(&a).contains(&"second".to_owned()));
    let b = Device::new(dir.path(), "b");
    b.ok(&["sync", &text(&share)]);
    a.ok(&["sync", &text(&share)]);
    assert_eq!(a.digest(), b.digest());
    assert_eq!(a.everything(), b.everything());
}

/// Both versions in one project, by folder, by file and by link, each in both directions, with a newcomer of each that enters through what
/// the other wrote. At the end nobody writes any more.
#[test]
fn devices_of_both_versions_hold_the_same() {
    let Some(old) = version_0_1() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (share, trip) = (dir.path().join("share"), dir.path().join("trip.cairn"));
    std::fs::create_dir(&share).unwrap();
    let (a, b) = (Device::new(dir.path(), "a"), Device::new(dir.path(), "b").by(&old));
    a.ok(&["new", "River", "--name", "Ana"]);
    b.ok(&["join", &a.ticket(), "--name", "Bo"]);
    // Enough small batches that packs are made of them.
    for n in 0..6 {
        a.ok(&["add", "--note", &format!("a{n}")]);
        a.ok(&["sync", &text(&share)]);
        b.ok(&["add", "--note", &format!("b{n}")]);
        b.ok(&["sync", &text(&share)]);
    }
    a.ok(&["sync", &text(&share)]);
    for device in [&a, &b, &a] {
        device.ok(&["sync", &text(&trip)]);
    }
    let (c, d) = (Device::new(dir.path(), "c").by(&old), Device::new(dir.path(), "d"));
    c.ok(&["join", &a.ticket(), "--name", "Cy", "--via", &text(&share)]);
    d.ok(&["join", &a.ticket(), "--name", "Di", "--via", &text(&trip)]);
    c.ok(&["add", "--note", "c"]);
    d.ok(&["add", "--note", "d"]);
    let service = b.serve();
    d.ok(&["sync", &service.address]);
    service.stop();
    let all = [&a, &b, &c, &d];
    for round in 0.. {
        let wrote = all.iter().filter(|device| device.ok(&["sync", &text(&share)])["targets"][0]["wrote"] == true).count();
        if wrote == 0 {
            break;
        }
        assert!(round < 6, "they write for ever");
    }
    for device in all {
        assert_eq!(device.digest(), a.digest());
        assert_eq!(device.everything(), a.everything());
        assert_eq!(device.ok(&["status"])["unsynced"], 0);
    }
    // A removal: 0.1 reads the keys chunk of this version, and this version that of 0.1.
    a.ok(&["devices", "remove", "Di", "--lost"]);
    a.ok(&["add", "--note", "after the removal"]);
    for device in [&a, &b, &c, &a] {
        device.ok(&["sync", &text(&share)]);
    }
    b.ok(&["add", "--note", "b after it"]);
    for device in [&b, &a, &c, &b] {
        device.ok(&["sync", &text(&share)]);
    }
    for device in [&b, &c] {
        assert_eq!(device.everything(), a.everything());
    }
}

/// A backup of 0.1 is restored, with the recovery words alone.
#[test]
fn a_backup_of_0_1_is_restored() {
    let Some(old) = version_0_1() else { return };
    let dir = tempfile::tempdir().unwrap();
    let a = Device::new(dir.path(), "a").by(&old);
    let words = dir.path().join("words.txt");
    std::fs::write(&words, a.ok(&["new", "River"])["recovery"].as_str().unwrap()).unwrap();
    a.ok(&["add", "--note", "kept"]);
    let backup = dir.path().join("safe.cairn-backup");
    a.ok(&["backup", "create", &text(&backup)]);
    let again = Device::new(dir.path(), "again");
    again.ok(&["backup", "restore", &text(&backup), "--recovery-file", &text(&words)]);
    assert_eq!(again.everything(), a.everything());
}
