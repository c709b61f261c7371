//! What people may settle, what must go, and who has what, with real processes.

use cairn_tests::{Device, pair, write_rows};
use serde_json::{Value, json};
use std::path::Path;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn id(v: &Value) -> String {
    v["observation"]["id"].as_str().unwrap().to_owned()
}

fn sync(dialler: &Device, host: &Device) {
    let service = host.serve();
    dialler.ok(&["sync", &service.address]);
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn two_people_saw_one_tapir_and_a_second_rater_is_no_duplicate() {
    let root = folder();
    let (a, b) = pair(root.path());
    let see = |device: &Device, lat: &str, time: &str, field: &str| {
        id(&device.ok(&["add", "--category", "animal", "--at", &format!("{lat},-62.0"), "--time", time, field]))
    };
    let first = see(&a, "-3.00000", "2026-03-01T10:00:00Z", "species=tapir");
    let second = see(&b, "-3.00020", "2026-03-01T10:05:00Z", "species=deer");
    let twice = see(&a, "-3.00001", "2026-03-01T10:01:00Z", "species=tapir");
    see(&b, "-3.00001", "2026-03-01T11:00:00Z", "species=tapir");
    see(&b, "-3.10000", "2026-03-01T10:00:00Z", "species=tapir");
    sync(&a, &b);
    let pairs = |device: &Device, more: &[&str]| {
        let told = device.ok(&[&["conflicts"], more].concat());
        let ids = |p: &Value| (p["ids"][0].as_str().unwrap().to_owned(), p["ids"][1].as_str().unwrap().to_owned());
        let mut pairs: Vec<(String, String)> = told["duplicates"].as_array().unwrap().iter().map(ids).collect();
        assert_eq!(told["duplicate_count"], pairs.len());
        pairs.sort();
        pairs
    };
    let found = pairs(&a, &[]);
    assert_eq!(found.len(), 2, "one for each of Ana's two: {found:?}");
    assert_eq!(found, pairs(&b, &[]), "alike on both");
    assert_eq!(pairs(&a, &["--within", "1m"]).len(), 0);
    assert_eq!(pairs(&a, &["--radius", "5"]).len(), 0);
    assert_eq!(pairs(&a, &["--same-device"]).len(), 3);
    assert!(a.ok(&["conflicts", "--no-duplicates"]).get("duplicates").is_none());
    assert_eq!(a.json(&["conflicts", "--within", "soon"]).0, 1);

    // One of Ana's was a slip; the other is a pair with Bo's: the second rater.
    a.ok(&["rm", &twice]);
    assert_eq!(pairs(&a, &[]).len(), 1);
    assert_eq!(b.ok(&["conflicts", "both-meant", &second, &first])["changed"], true);
    assert_eq!(b.ok(&["conflicts", "both-meant", &first, &second])["changed"], false, "said once");
    assert_eq!(b.json(&["conflicts", "both-meant", &first, &first]).0, 1);
    sync(&a, &b);
    assert_eq!((pairs(&a, &[]).len(), pairs(&b, &[]).len()), (0, 0));
    assert_eq!(a.digest(), b.digest());

    let file = root.path().join("pairs.csv");
    assert_eq!(a.ok(&["export", file.to_str().unwrap(), "--pairs"])["exported"], 1);
    let written = text(&file);
    let mut lines = written.lines().map(|l| l.split(',').collect::<Vec<_>>());
    let (heads, cells) = (lines.next().unwrap(), lines.next().unwrap());
    let cell = |name: &str| cells[heads.iter().position(|h| *h == name).unwrap_or_else(|| panic!("{name}: {heads:?}"))];
    let mut said = [(cell("device.1"), cell("species.1")), (cell("device.2"), cell("species.2"))];
    said.sort_unstable();
    assert_eq!(said, [("Ana", "tapir"), ("Bo", "deer")]);
    assert_eq!(heads.iter().position(|h| *h == "species.1").map(|n| n + 1), heads.iter().position(|h| *h == "species.2"), "side by side");

    // An earlier version of what was seen says nothing of the pair.
    for id in [&first, &second] {
        let entries = b.ok(&["log", id])["entries"].clone();
        let oldest = entries.as_array().unwrap().last().unwrap()["version"].as_str().unwrap().to_owned();
        b.json(&["revert", &format!("{id}@{oldest}")]);
    }
    assert_eq!(pairs(&b, &[]).len(), 0);
    b.ok(&["conflicts", "both-meant", &first, &second, "--undo"]);
    assert_eq!(pairs(&b, &[]).len(), 1);
}

#[test]
fn where_people_edit_only_their_own_each_may_still_say_that_a_pair_is_meant() {
    let root = folder();
    let (a, b) = pair(root.path());
    a.ok(&["policy", "members-edit-others", "no"]);
    sync(&b, &a);
    let first = id(&a.ok(&["add", "--category", "animal", "--at", "1,1", "--time", "2026-03-01T10:00:00Z"]));
    let second = id(&b.ok(&["add", "--category", "animal", "--at", "1,1", "--time", "2026-03-01T10:00:00Z"]));
    sync(&b, &a);
    assert_eq!(b.ok(&["conflicts", "both-meant", &first, &second])["changed"], true);
    sync(&b, &a);
    assert_eq!(a.ok(&["conflicts"])["duplicate_count"], 0);
    assert_eq!(b.json(&["purge", &first, "--yes"]).0, 5, "what others made stays");
}

#[test]
fn purged_content_is_shown_by_nobody_and_not_by_the_history() {
    let root = folder();
    let (a, b) = pair(root.path());
    let secret = "the nest under the bridge";
    let nest = id(&a.ok(&["add", "--category", "animal", "--at", "1.234567,2.345678", "--note", secret, "species=eagle"]));
    a.ok(&["add", "--at", "3,3", "--note", "other"]);
    sync(&b, &a);
    let (code, refused) = b.json(&["purge", &nest]);
    assert_eq!((code, &refused["error"]["kind"]), (1, &json!("refused")), "never by a slip");
    assert_eq!(b.ok(&["purge", &nest, "--dry-run"])["changed"], 0);
    assert!(b.ok(&["show", &nest])["observations"][0]["note"] == secret);
    let (code, done) = b.json(&["purge", &nest, "--yes"]);
    assert_eq!((code, &done["data"]["changed"]), (0, &json!(1)));
    assert!(done["warnings"].to_string().contains("cannot reach"), "{done}");
    sync(&b, &a);
    for device in [&a, &b] {
        for command in [
            vec!["show", nest.as_str()],
            vec!["log", nest.as_str()],
            vec!["log"],
            vec!["list", "--deleted", "--limit", "0"],
            vec!["show", nest.as_str(), "--at", "2100-01-01"],
        ] {
            let (_, said) = device.json(&command);
            for part in [secret, "1.234567", "eagle"] {
                assert!(!said.to_string().contains(part), "{command:?}: {said}");
            }
        }
        let version = device.ok(&["log", &nest])["entries"].as_array().unwrap().last().unwrap()["version"].as_str().unwrap().to_owned();
        assert_eq!(device.json(&["show", &nest, "--version", &version]).0, 1);
        assert_eq!(device.json(&["diff", &nest, &version]).0, 1);
        device.json(&["revert", &format!("{nest}@{version}")]);
        assert!(!device.ok(&["show", &nest]).to_string().contains(secret), "nor does a reversal bring it back");
        let file = root.path().join("then.csv");
        device.ok(&["export", file.to_str().unwrap(), "--as-of", "2100-01-01"]);
        assert!(!text(&file).contains(secret) && text(&file).contains("other"));
        assert_eq!(device.ok(&["check"])["findings"], json!([]));
    }
    assert_eq!(a.digest(), b.digest());
}

/// Neither a nightly table, nor an undo, nor somebody who had not heard of it brings back what was purged.
#[test]
fn what_was_purged_does_not_come_back_by_a_table_an_undo_or_an_edit_made_apart() {
    let root = folder();
    let (a, b) = pair(root.path());
    let rows = root.path().join("boxes.csv");
    std::fs::write(&rows, "Box,lat,lon,owner,behaviour\n7,1,1,secret person,feeding\n8,2,2,nobody,\n").unwrap();
    let import = ["import", rows.to_str().unwrap(), "--dataset", "boxes", "--key", "Box", "--mode", "replace"];
    a.ok(&import);
    let listed = a.ok(&["list", "--where", "owner=secret person"]);
    let row = listed["observations"][0]["id"].as_str().unwrap().to_owned();
    a.ok(&["edit", &row, "behaviour=feeding"]);
    sync(&b, &a);
    // Bo adds to it apart, and Ana purges it.
    b.ok(&["edit", &row, "--note", "told to Bo in secret"]);
    a.ok(&["purge", &row, "--yes"]);
    let service = a.serve();
    let number = b.ok(&["sync", &service.address])["sync"].as_str().unwrap().to_owned();
    drop(service);
    let clean = |device: &Device, when: &str| {
        for command in [vec!["show", row.as_str()], vec!["log", row.as_str()], vec!["conflicts"], vec!["list", "--deleted"]] {
            let (_, said) = device.json(&command);
            for part in ["secret", "feeding"] {
                assert!(!said.to_string().contains(part), "{when}: {command:?}: {said}");
            }
        }
        assert_eq!(device.ok(&["list"])["count"], 1, "{when}");
    };
    clean(&a, "edited apart");
    clean(&b, "edited apart");
    b.ok(&["undo", &number]);
    clean(&b, "its sync undone");
    b.ok(&["redo", &number]);
    let (code, told) = a.json(&import);
    assert_eq!((code, &told["data"]["rejected"]), (3, &json!(1)), "{told}");
    clean(&a, "imported again");
    for command in [vec!["restore", row.as_str()], vec!["edit", row.as_str(), "owner=again"]] {
        assert_eq!(a.json(&command).0, 1, "{command:?}");
    }
    sync(&b, &a);
    assert_eq!(a.digest(), b.digest());
    assert_eq!(a.ok(&["check"])["findings"], json!([]));
}

#[test]
fn a_backup_begins_a_new_project_without_members_history_and_what_was_deleted() {
    let root = folder();
    let (a, b) = pair(root.path());
    let kept = id(&b.ok(&["add", "--category", "animal", "--at", "1,1", "--note", "kept", "species=tapir"]));
    let gone = id(&a.ok(&["add", "--at", "2,2", "--note", "gone"]));
    let purged = id(&a.ok(&["add", "--at", "2,2", "--note", "purged"]));
    sync(&a, &b);
    a.ok(&["rm", &gone]);
    a.ok(&["purge", &purged, "--yes"]);
    let rows = root.path().join("rows.csv");
    std::fs::write(&rows, "Box,lat,lon,state\n1,1,1,empty\n2,2,2,full\n").unwrap();
    a.ok(&["import", rows.to_str().unwrap(), "--dataset", "boxes", "--key", "Box"]);
    let file = root.path().join("team.cairn-backup");
    let file = file.to_str().unwrap();
    a.ok(&["backup", "create", file]);
    let told = a.ok(&["backup", "restore", file, "--as", "River two", "--dry-run"]);
    assert_eq!((&told["observations"], &told["project"]), (&json!(3), &Value::Null));
    assert_eq!(a.json(&["backup", "restore", file, "--as", "River"]).0, 1, "a project of that name is here");
    let (code, made) = a.json(&["backup", "restore", file, "--as", "River two"]);
    assert_eq!((code, &made["data"]["observations"]), (0, &json!(3)), "{made}");
    assert!(made["data"]["recovery"].as_str().unwrap().split(' ').count() == 24);
    assert!(made["warnings"].to_string().contains("2 rows of data sets"), "{made}");
    let two = |words: &[&str]| a.ok(&[words, &["--project", "River two"]].concat());
    let shown = two(&["show", &kept])["observations"][0].clone();
    assert_eq!((&shown["note"], &shown["fields"]["species"]), (&json!("kept"), &json!("tapir")));
    assert_eq!(two(&["list", "--deleted"])["count"], 3);
    assert_eq!(two(&["devices"])["devices"].as_array().unwrap().len(), 1);
    assert_eq!(two(&["log", &kept])["entries"].as_array().unwrap().len(), 1);
    assert_eq!(two(&["check"])["findings"], json!([]));
    assert_eq!(a.ok(&["list", "--project", "River"])["count"], 3, "the old one is as it was");
}

#[test]
fn a_job_ends_with_a_sealed_backup_that_is_thinned() {
    let root = folder();
    let (a, _) = pair(root.path());
    let rows = root.path().join("rows.csv");
    write_rows(&rows, 0, 20);
    std::fs::create_dir(root.path().join("disk")).unwrap();
    let job = root.path().join("nightly.toml");
    std::fs::write(&job, "input = \"rows.csv\"\nsettle = \"1ms\"\n[[then]]\nbackup = { to = \"disk\", keep = 2 }\n").unwrap();
    let job = job.to_str().unwrap();
    assert_eq!(a.ok(&["job", "check", job])["findings"], json!([]));
    for _ in 0..3 {
        let done = a.ok(&["job", "run", job]);
        assert_eq!((&done["steps"][0]["step"], &done["steps"][0]["data"]["sealed"]), (&json!("backup"), &json!(true)), "{done}");
    }
    let left = a.ok(&["backup", "list", root.path().join("disk").to_str().unwrap()]);
    let left = left["backups"].as_array().unwrap();
    assert_eq!((left.len(), &left[1]["observations"]), (2, &json!(60)), "{left:?}");
    let secret = root.path().join("secret.toml");
    std::fs::write(&secret, "[[then]]\nbackup = { to = \"disk\", passphrase = \"hunter2\" }\n").unwrap();
    let (code, said) = a.json(&["job", "check", secret.to_str().unwrap()]);
    assert!(code == 1 && !said.to_string().contains("hunter2"), "{said}");
}

#[test]
fn the_matrix_says_whose_work_each_device_lacks() {
    let root = folder();
    let (a, b) = pair(root.path());
    let c = Device::new(root.path(), "c");
    c.ok(&["join", &a.ticket(), "--name", "Cy"]);
    a.ok(&["add", "--at", "1,1"]);
    sync(&b, &a);
    sync(&c, &b);
    b.ok(&["add", "--at", "2,2"]);
    sync(&b, &a);
    a.ok(&["add", "--at", "3,3"]);
    a.ok(&["bundle", "create", root.path().join("x.cairn").to_str().unwrap()]);
    let told = a.ok(&["peers"]);
    let of = |name: &str| told["peers"].as_array().unwrap().iter().find(|p| p["name"] == name).unwrap().clone();
    let cy = of("Cy");
    assert_eq!((&cy["lacks_batches"], &cy["heard_s_ago"]), (&json!(2), &Value::Null), "never met: Bo passed on what it signed: {cy}");
    let bo = of("Bo");
    assert_eq!(bo["lacks"], json!([{"device": a.ok(&["whoami"])["device"], "name": "Ana", "batches": 1}]), "{bo}");
    assert!(bo["heard_s_ago"].as_u64().unwrap() < 600);
    let authors: Vec<&Value> = told["authors"].as_array().unwrap().iter().map(|a| &a["name"]).collect();
    assert_eq!(authors.len(), 2, "{authors:?}");
    let shown = String::from_utf8(a.command(&["peers"]).output().unwrap().stdout).unwrap();
    assert!(shown.contains("of Ana") && shown.contains("lacks 1") && shown.contains("of Bo"), "{shown}");
}

/// `edit ID note=...` makes a field of that name, beside the note that every observation has: settling one wrote into the other.
#[test]
fn a_field_that_is_called_as_the_note_is_settled_as_the_field() {
    let root = folder();
    let (a, b) = pair(root.path());
    let it = id(&a.ok(&["add", "--at", "1,1", "--time", "2026-01-01", "--note", "base"]));
    sync(&b, &a);
    let slip = a.json(&["edit", &it, "note=of Ana", "at=10"]).1;
    assert!(slip["warnings"][0].as_str().unwrap().contains("`--note`"), "{slip}");
    b.ok(&["edit", &it, "field:note=of Bo", "at=20"]);
    sync(&b, &a);
    let keys = |device: &Device| -> Vec<String> {
        let told = device.ok(&["conflicts"]);
        told["conflicts"].as_array().unwrap().iter().map(|c| c["key"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(keys(&a), ["field:at", "field:note"]);
    assert_eq!(a.json(&["conflicts", "resolve", &it, "note", "of Bo"]).0, 1, "the note itself is not in question");
    a.ok(&["conflicts", "resolve", &it, "field:note", "of Bo"]);
    let settled = a.ok(&["conflicts", "resolve", &it, "field:at", "20"])["observation"].clone();
    assert_eq!((&settled["note"], &settled["time"]), (&json!("base"), &json!("2026-01-01T00:00:00Z")));
    assert_eq!((&settled["fields"]["note"], &settled["fields"]["at"]), (&json!("of Bo"), &json!("20")));
    assert!(keys(&a).is_empty());
    let changes = a.ok(&["edit", &it, "--unset", "field:note", "--note", "anew", "--uncertainty", "9"])["observation"].clone();
    assert_eq!((&changes["note"], &changes["fields"]["note"], &changes["uncertainty"]), (&json!("anew"), &Value::Null, &json!(9.0)));
    let differences = a.ok(&["diff", &it, settled["version"].as_str().unwrap()]);
    let named: Vec<&str> = differences["changes"].as_array().unwrap().iter().map(|c| c["key"].as_str().unwrap()).collect();
    assert_eq!(named, ["field:note", "note", "where"], "{differences}");
}

#[test]
fn an_edit_of_what_is_deleted_says_so() {
    let root = folder();
    let (a, _) = pair(root.path());
    let it = id(&a.ok(&["add", "--at", "1,1"]));
    a.ok(&["rm", &it]);
    let told = a.json(&["edit", &it, "k=1"]).1;
    assert!(told["warnings"][0].as_str().unwrap().contains("restore"), "{told}");
    assert_eq!(a.json(&["add", "--uncertainty", "5"]).0, 1, "of no position");
}

/// Whatever order an undo and a purge come in, nobody is shown again what was purged.
#[test]
fn a_purge_holds_whenever_a_sync_is_undone() {
    let root = folder();
    let (a, b) = pair(root.path());
    let known = id(&a.ok(&["add", "--at", "1,1", "--note", "a nest"]));
    sync(&b, &a);
    a.ok(&["edit", &known, "species=eagle"]);
    sync(&b, &a);
    let last = |device: &Device| device.ok(&["undo"])["syncs"][0]["sync"].as_str().unwrap().to_owned();
    // Undone first: the purge builds on what is set aside.
    b.ok(&["undo", &last(&b)]);
    a.ok(&["purge", &known, "--yes"]);
    // Made and purged before anybody saw it: the sync brings both.
    let unseen = id(&a.ok(&["add", "--at", "2,2", "--note", "another nest"]));
    a.ok(&["purge", &unseen, "--yes"]);
    sync(&b, &a);
    let hidden = |device: &Device| {
        let told = format!("{}{}{}", device.ok(&["list", "--deleted"]), device.ok(&["log"]), device.ok(&["log", &unseen]));
        assert!(!told.contains("nest") && !told.contains("eagle"), "{told}");
        assert_eq!(device.ok(&["show", &known])["observations"][0]["purged"], true);
    };
    hidden(&b);
    b.ok(&["undo", &last(&b)]);
    hidden(&b);
    assert_eq!(b.ok(&["check"])["findings"], json!([]));
}

/// Two people tidy up the same slip, each alone: nobody edited it, so there is nothing to settle.
#[test]
fn two_deletions_made_apart_are_no_conflict() {
    let root = folder();
    let (a, b) = pair(root.path());
    let both = id(&a.ok(&["add", "--at", "1,1"]));
    let one = id(&a.ok(&["add", "--at", "2,2"]));
    sync(&b, &a);
    a.ok(&["rm", &both]);
    b.ok(&["rm", &both, &one]);
    a.ok(&["edit", &one, "count=1"]);
    sync(&b, &a);
    for device in [&a, &b] {
        let told = device.ok(&["conflicts"]);
        let ids: Vec<&str> = told["conflicts"].as_array().unwrap().iter().map(|c| c["id"].as_str().unwrap()).collect();
        assert_eq!(ids, [&one], "{told}");
    }
    assert_eq!(a.ok(&["conflicts", "resolve", &one, "deleted", "null"])["observation"]["deleted"], false, "as the list has it");
}
