//! Files of this device: keys, files on their way, and what a terminal is shown.

use cairn_tests::{Device, pair};
use serde_json::Value;
use std::os::unix::fs::symlink;

/// A key that is missing or cut short beside a project is told, with the file and the way back. It is never replaced by another one.
#[test]
fn a_lost_key_makes_no_other_device() {
    let dir = tempfile::tempdir().unwrap();
    let a = Device::new(dir.path(), "a");
    let device = a.ok(&["new", "River"])["device"].clone();
    a.ok(&["add", "--at", "1,1"]);
    let key = a.home().join("device.key");
    let whole = std::fs::read(&key).unwrap();
    for left in [None, Some(&whole[..20]), Some(&[][..])] {
        match left {
            None => std::fs::remove_file(&key).unwrap(),
            Some(bytes) => std::fs::write(&key, bytes).unwrap(),
        }
        for verb in [&["status"][..], &["add", "--at", "1,1"], &["whoami"], &["new", "Second"]] {
            let (code, reply) = a.json(verb);
            assert_eq!((code, &reply["ok"]), (1, &Value::Bool(false)), "{verb:?}: {reply}");
            assert!(reply["error"]["message"].as_str().unwrap().contains("device.key"), "{reply}");
            assert!(reply["error"]["hint"].as_str().unwrap().contains("backup restore"), "{reply}");
        }
        assert_eq!(std::fs::read(&key).ok().as_deref(), left, "what is there is left as it is");
    }
    std::fs::write(&key, &whole).unwrap();
    assert_eq!(a.ok(&["status"])["device"], device);
    assert_eq!(a.ok(&["status"])["observations"], 1);
}

/// A folder that others may write: links under the names that 0.1 used, and under the final name, lead nowhere. What a killed run left
/// is cleared by the next one.
#[test]
fn exports_and_backups_follow_no_planted_link() {
    let dir = tempfile::tempdir().unwrap();
    let a = Device::new(dir.path(), "a");
    a.ok(&["new", "River"]);
    a.ok(&["add", "--at", "1,1"]);
    let share = dir.path().join("share");
    std::fs::create_dir(&share).unwrap();
    let precious = dir.path().join("precious");
    std::fs::write(&precious, "years").unwrap();
    let path = |name: &str| share.join(name).to_string_lossy().into_owned();
    symlink(&precious, share.join("rows.csv")).unwrap();
    symlink(&precious, share.join("team.cairn-part")).unwrap();
    let dead = share.join(".cairn-making-dead");
    std::fs::create_dir(&dead).unwrap();
    std::fs::write(dead.join("lock"), "").unwrap();
    std::fs::write(dead.join("half.csv"), "half").unwrap();
    a.ok(&["export", &path("rows.csv")]);
    assert!(!dead.exists(), "what a killed run left is cleared");
    a.ok(&["config", "export", &path("team.json")]);
    a.ok(&["backup", "create", &path("safe.cairn-backup")]);
    assert_eq!(std::fs::read_to_string(&precious).unwrap(), "years");
    assert!(std::fs::read_to_string(share.join("rows.csv")).unwrap().contains("uncategorised"));
    let left: Vec<String> = std::fs::read_dir(&share).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert!(left.iter().all(|name| !name.starts_with(".cairn")), "{left:?}");
    assert_eq!(a.ok(&["backup", "list", &share.to_string_lossy()])["backups"].as_array().unwrap().len(), 1, "half a backup is none");
}

/// What a colleague wrote does not steer this terminal: escape sequences and controls of direction are shown as what they are, in
/// tables, notes and errors, and JSON keeps its value.
#[test]
fn nothing_that_others_wrote_steers_a_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let (a, _) = pair(dir.path());
    let evil = "x\u{1b}]0;owned\u{7}\u{202e}gpj\u{9b}31m";
    let id = a.ok(&["add", "--at", "1,1", "--note", evil, &format!("field={evil}")])["observation"]["id"].as_str().unwrap().to_owned();
    let raw = |args: &[&str]| {
        let out = a.command(args).output().unwrap();
        String::from_utf8([out.stdout, out.stderr].concat()).unwrap()
    };
    for args in [
        &["list"][..],
        &["show", &id],
        &["log", &id],
        &["show", evil],
        &["list", "--json"],
        &["remote", "add", evil, "/nowhere"],
        &["remote"],
    ] {
        let shown = raw(args);
        let hidden = |c: char| (c.is_control() && c != '\n' && c != '\t') || ('\u{202a}'..='\u{202e}').contains(&c);
        assert!(!shown.contains(hidden), "{args:?}: {shown:?}");
    }
    let note = &a.ok(&["show", &id])["observations"][0]["note"];
    assert_eq!(note, evil, "what was written is kept");
    assert_eq!(a.json(&["new", "bad\u{202e}name"]).0, 1);
    let newcomer = Device::new(dir.path(), "c");
    assert_eq!(newcomer.json(&["join", &a.ticket(), "--name", "two\nlines"]).0, 1);
}

/// Single pages of the store are lost. No command fails inside: each answers, or says that the store is damaged and what to do; and a
/// backup brings everything back, whatever page it was.
#[test]
fn a_store_with_lost_pages_is_told_and_restored() {
    let dir = tempfile::tempdir().unwrap();
    let a = Device::new(dir.path(), "a");
    let project = a.ok(&["new", "River"])["project"].as_str().unwrap().to_owned();
    let rows = dir.path().join("rows.csv");
    cairn_tests::write_rows(&rows, 0, 300);
    a.ok(&["import", &rows.to_string_lossy()]);
    let backup = dir.path().join("safe.cairn-backup").to_string_lossy().into_owned();
    a.ok(&["backup", "create", &backup]);
    let store = a.home().join("projects").join(&project[..16]).join("store.redb");
    let whole = std::fs::read(&store).unwrap();
    let (mut told, mut restored) = (0, 0);
    let pages: Vec<usize> = (4096..whole.len()).step_by(4096).filter(|at| whole[*at..*at + 4096].iter().any(|b| *b != 0)).collect();
    let step = (pages.len() / 12).max(1);
    for at in pages.into_iter().step_by(step) {
        let mut lost = whole.clone();
        lost[at..at + 4096].fill(0);
        std::fs::write(&store, &lost).unwrap();
        for verb in [&["status"][..], &["list", "--limit", "0"], &["add", "--at", "1,1"], &["check"], &["check", "--repair"]] {
            let (code, reply) = a.json(verb);
            assert!(matches!(code, 0 | 1 | 7), "page at {at}, {verb:?}: exit {code}, {reply}");
            if code == 1 {
                assert!(reply["error"]["hint"].as_str().is_some_and(|h| h.contains("backup restore")), "{reply}");
                told += 1;
            }
        }
        a.ok(&["backup", "restore", &backup]);
        assert_eq!(a.ok(&["status"])["observations"], 300);
        restored += 1;
        // Each round begins with the same store; what was put aside is not looked at.
        std::fs::write(&store, &whole).unwrap();
    }
    assert!(told > 0 && restored > 5, "{told} told, {restored} restored: the pages that were lost held nothing");
}
