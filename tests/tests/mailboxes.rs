//! Carried by hand and by folder, end to end: real processes, real files.

use cairn_tests::{Device, pair, write_rows};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

fn file(dir: &Path, name: &str) -> String {
    dir.join(name).to_string_lossy().into_owned()
}

fn id(v: &Value) -> String {
    v["observation"]["id"].as_str().unwrap_or_else(|| panic!("no id in {v}")).to_owned()
}

fn joined(root: &Path, name: &str, from: &Device, via: &str) -> Device {
    let device = Device::new(root, name);
    device.ok(&["join", &from.ticket(), "--name", name, "--via", via]);
    device
}

/// Visits in turn until nobody has anything to write; then all hold the same.
fn until_nobody_writes(devices: &[&Device], place: &str) {
    for _ in 0..6 {
        let wrote = devices.iter().filter(|d| d.ok(&["sync", place])["targets"][0]["wrote"] == true).count();
        if wrote == 0 {
            let digests: BTreeSet<String> = devices.iter().map(|d| d.digest()).collect();
            assert_eq!(digests.len(), 1);
            return;
        }
    }
    panic!("they write for ever");
}

/// A, B and C never meet: the file goes from hand to hand and comes back. Concurrent edits and deletions were made before.
#[test]
fn three_devices_that_only_ever_see_the_file_hold_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let trip = file(dir.path(), "trip.cairn");
    let a = Device::new(dir.path(), "a");
    a.ok(&["new", "River", "--name", "Ana"]);
    let (x, y) = (id(&a.ok(&["add", "--at", "1,1", "n=1"])), id(&a.ok(&["add", "--at", "2,2", "n=2"])));
    let made = a.ok(&["bundle", "create", &trip]);
    assert_eq!(made["to"][0]["name"], "Ana");
    let (b, c) = (joined(dir.path(), "Bo", &a, &trip), joined(dir.path(), "Cy", &a, &trip));
    a.ok(&["edit", &x, "n=from a"]);
    b.ok(&["edit", &x, "n=from b"]);
    c.ok(&["rm", &y]);
    b.ok(&["edit", &y, "seen=yes"]);
    c.ok(&["add", "--at", "3,3", "who=c"]);
    for device in [&a, &b, &c, &a, &b, &c] {
        device.ok(&["sync", &trip]);
    }
    assert_eq!(a.digest(), b.digest());
    assert_eq!(a.digest(), c.digest());
    assert_eq!(a.everything(), b.everything());
    assert_eq!(a.everything(), c.everything());
    assert_eq!(a.ok(&["conflicts"])["conflicts"].as_array().unwrap().len(), 2, "both values of n, and the edit of what was deleted");
    until_nobody_writes(&[&a, &b, &c], &trip);
    let rest = std::fs::read(&trip).unwrap();
    for device in [&a, &b, &c] {
        let row = device.ok(&["sync", &trip])["targets"][0].clone();
        assert_eq!((&row["wrote"], &row["state"]), (&Value::Bool(false), &Value::from("synced")));
        assert_eq!(device.ok(&["status"])["unsynced"], 0, "receipts came back by the file");
    }
    assert!(std::fs::read(&trip).unwrap() == rest, "an equal file is not written");
}

/// The battery, the cable, the hand that pulls the stick: whatever moment it is, there is the old file or the new one.
#[test]
fn kill_9_in_a_two_way_sync_leaves_the_old_file_or_the_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = pair(dir.path());
    for (device, from) in [(&a, 0), (&b, 2000)] {
        let rows = dir.path().join("rows.csv");
        write_rows(&rows, from, 2000);
        device.ok(&["import", &rows.to_string_lossy()]);
    }
    let (old, trip) = (dir.path().join("old"), file(dir.path(), "trip.cairn"));
    a.ok(&["bundle", "create", &trip]);
    std::fs::rename(&trip, &old).unwrap();
    let before = std::fs::read(&old).unwrap();
    let began = Instant::now();
    std::fs::copy(&old, &trip).unwrap();
    b.ok(&["sync", &trip]);
    let whole = began.elapsed();
    let chunks = |path: &str| cairn_bundle::summary(Path::new(path), &mut |_, _| {}).unwrap();
    let few = chunks(&old.to_string_lossy()).chunks;
    let mut random = 0x9e37_79b9_u64;
    let (mut olds, mut news) = (0, 0);
    for round in 0..200 {
        // Something new here each time, so that both the store and the file are written.
        b.ok(&["add", "--at", "1,1", &format!("round={round}")]);
        std::fs::copy(&old, &trip).unwrap();
        let mut sync = b.command(&["sync", &trip]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let until = Instant::now() + whole.mul_f64((random >> 40) as f64 / f64::from(1 << 24));
        while Instant::now() < until && sync.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        sync.kill().ok();
        sync.wait().unwrap();
        let found = chunks(&trip);
        assert!(found.sound, "round {round}: {found:?}");
        if std::fs::read(&trip).unwrap() == before {
            olds += 1;
        } else {
            assert!(found.chunks > few, "round {round}: neither the old file nor a new one: {found:?}");
            news += 1;
        }
    }
    println!("{olds} times the old file, {news} times the new one");
    assert!(olds > 10 && news > 0, "{olds} old, {news} new: the kills came at one side only");
    b.ok(&["sync", &trip]);
    a.ok(&["sync", &trip]);
    assert_eq!(a.everything(), b.everything());
    assert_eq!(b.ok(&["check"])["findings"], Value::Array(vec![]));
    let left: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).filter(|n| n.to_string_lossy().ends_with(".part")).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Whoever carries a bundle learns its size, how many chunks it has and whether it is whole, and nothing else.
#[test]
fn without_keys_a_bundle_tells_size_count_and_integrity_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let trip = file(dir.path(), "trip.cairn");
    let a = Device::new(dir.path(), "a");
    let shown = a.ok(&["new", "Secret river", "--name", "Ana Lopes"]);
    a.ok(&["add", "--category", "animal", "--at", "-3.4567,-62.1234", "--note", "a tapir at the salt lick"]);
    a.ok(&["bundle", "create", &trip]);
    let courier = Device::new(dir.path(), "courier");
    let stranger = Device::new(dir.path(), "stranger");
    stranger.ok(&["new", "Another"]);
    for device in [&courier, &stranger] {
        for verb in ["verify", "inspect"] {
            let told = device.ok(&["bundle", verb, &trip]);
            let keys: BTreeSet<&str> = told.as_object().unwrap().keys().map(String::as_str).collect();
            let wanted = ["bytes", "chunks", "damaged", "file", "part", "parts", "readable", "sound"];
            assert!(keys.iter().all(|k| wanted.contains(k)), "{told}");
            assert_eq!((&told["sound"], told["bytes"].as_u64()), (&Value::Bool(true), Some(std::fs::metadata(&trip).unwrap().len())));
        }
    }
    let bytes = std::fs::read(&trip).unwrap();
    let device = shown["device"].as_str().unwrap();
    let project = shown["project"].as_str().unwrap();
    let raw = |hex: &str| cairn_model::unhex(hex).unwrap();
    for word in [b"Secret".to_vec(), b"Ana".to_vec(), b"tapir".to_vec(), b"animal".to_vec(), b"3.4567".to_vec(), raw(device), raw(project)]
    {
        assert!(!bytes.windows(word.len()).any(|w| w == word), "{} in the clear", String::from_utf8_lossy(&word));
    }
    let mut bent = bytes.clone();
    bent[700] ^= 1;
    std::fs::write(&trip, &bent).unwrap();
    let (code, told) = courier.json(&["bundle", "verify", &trip]);
    assert_eq!((code, &told["data"]["sound"], &told["data"]["damaged"]), (7, &Value::Bool(false), &Value::from(1)));
}

/// The DataTracker picture: both lists first, then one direction, then only some people's work.
#[test]
fn a_folder_shows_both_lists_and_goes_one_way_if_asked() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = pair(dir.path());
    let lab = file(dir.path(), "lab");
    std::fs::create_dir(&lab).unwrap();
    std::fs::write(Path::new(&lab).join("notes.txt"), "somebody else's").unwrap();
    a.ok(&["remote", "add", "lab", &lab]);
    b.ok(&["remote", "add", "lab", &lab]);
    a.ok(&["add", "--at", "1,1", "who=a"]);
    let row = |v: &Value| v["targets"][0].clone();
    let told = row(&a.ok(&["sync", "lab", "--dry-run"]));
    assert_eq!(
        (&told["from"], &told["to"][0]["name"], &told["state"]),
        (&Value::Array(vec![]), &Value::from("Ana"), &Value::from("would-sync"))
    );
    assert!(told["to"][0]["bytes"].as_u64().unwrap() > 0 && told["to"][0]["until"].is_string(), "{told}");
    assert_eq!(std::fs::read_dir(&lab).unwrap().count(), 1, "a dry run writes nothing");
    a.ok(&["sync", "lab"]);
    assert_eq!(std::fs::read_dir(&lab).unwrap().count(), 2, "the project's own sub-folder beside the foreign file");
    b.ok(&["add", "--at", "2,2", "who=b"]);
    let told = row(&b.ok(&["sync", "lab", "--dry-run"]));
    assert_eq!((&told["from"][0]["name"], &told["to"][0]["name"]), (&Value::from("Ana"), &Value::from("Bo")));
    assert_eq!(b.ok(&["status"])["observations"], 1, "a dry run takes nothing");
    let none = row(&b.ok(&["sync", "lab", "--pull", "--only", "Bo"]));
    assert_eq!((&none["received"]["batches"], &none["stays_there"][0]["name"]), (&Value::from(0), &Value::from("Ana")));
    b.ok(&["sync", "lab", "--pull"]);
    assert_eq!(b.ok(&["status"])["observations"], 2);
    assert_eq!(row(&a.ok(&["sync", "lab", "--dry-run"]))["from"], Value::Array(vec![]), "nothing was given");
    b.ok(&["sync", "lab", "--push", "--only", "Bo"]);
    a.ok(&["sync", "lab"]);
    b.ok(&["sync", "lab"]);
    assert_eq!(a.digest(), b.digest());
    for device in [&a, &b] {
        device.ok(&["sync", "lab"]);
        let before: Vec<_> = walk(Path::new(&lab));
        let again = row(&device.ok(&["sync", "lab"]));
        assert_eq!((&again["wrote"], walk(Path::new(&lab))), (&Value::Bool(false), before));
    }
    assert_eq!(b.ok(&["remote", "rm", "lab"])["remotes"], Value::Array(vec![]));
}

fn walk(dir: &Path) -> Vec<String> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => out.extend(walk(&entry.path())),
            false => out.push(entry.path().to_string_lossy().into_owned()),
        }
    }
    out.sort();
    out
}

/// Refusals: the cause, the exit code, and nothing changed there.
#[test]
fn what_does_not_fit_is_refused_with_its_code() {
    let dir = tempfile::tempdir().unwrap();
    let (a, _) = pair(dir.path());
    let other = Device::new(dir.path(), "other");
    other.ok(&["new", "Another"]);
    let (theirs, share) = (file(dir.path(), "theirs.cairn"), file(dir.path(), "share"));
    std::fs::create_dir(&share).unwrap();
    other.ok(&["bundle", "create", &theirs]);
    other.ok(&["sync", &share]);
    let before = (std::fs::read(&theirs).unwrap(), walk(Path::new(&share)));
    let text = file(dir.path(), "text.cairn");
    std::fs::write(&text, "no bundle").unwrap();
    let missing = file(dir.path(), "nowhere/trip.cairn");
    let pipe = file(dir.path(), "pipe.cairn");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for (target, wanted) in [(&theirs, 6), (&share, 6), (&text, 1), (&missing, 4), (&pipe, 1)] {
        let (code, reply) = a.json(&["sync", target]);
        assert_eq!((code, &reply["ok"]), (wanted, &Value::Bool(false)), "{target}: {reply}");
        assert!(!reply["error"]["message"].as_str().unwrap().is_empty() && !reply["error"]["hint"].as_str().unwrap().is_empty(), "{reply}");
    }
    assert_eq!(a.json(&["bundle", "create", &theirs]).0, 1, "a bundle that is there is not written over");
    assert_eq!((std::fs::read(&theirs).unwrap(), walk(Path::new(&share))), before);
    assert!(!Path::new(&missing).exists());
    assert_eq!(a.json(&["sync", "127.0.0.1:9", "--pull"]).0, 1, "a link always goes both ways");
}

/// A full medium and one that cannot be written still give what they hold, and a reply goes another way.
#[test]
fn a_read_only_or_full_medium_gives_its_data_and_takes_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = pair(dir.path());
    let rows = dir.path().join("rows.csv");
    write_rows(&rows, 0, 500);
    a.ok(&["import", &rows.to_string_lossy()]);
    let trip = file(dir.path(), "trip.cairn");
    a.ok(&["bundle", "create", &trip]);
    write_rows(&rows, 9000, 3000);
    b.ok(&["import", &rows.to_string_lossy()]);
    let stick = file(dir.path(), "stick");
    std::fs::create_dir(&stick).unwrap();
    // Mounts in a namespace of its own: gone with the shell.
    let script = |mount: &str, sync: &str| {
        format!(
            "set -e; mount -t tmpfs -o size=120k tmpfs {stick}; cp {trip} {stick}/trip.cairn; {mount} set +e; {sync} sync {stick}/trip.cairn --json; echo $? >&2; cmp {trip} {stick}/trip.cairn && ls {stick} >&2"
        )
    };
    let binary = cairn_tests::cairn().to_string_lossy().into_owned();
    for (n, (mount, wanted)) in [(format!("mount -o remount,ro {stick};"), "3"), (String::new(), "8")].into_iter().enumerate() {
        let run = |script: &str| {
            let mut unshare = std::process::Command::new("unshare");
            unshare.args(["-rm", "sh", "-c", script]).env("CAIRN_HOME", b.home()).env("CAIRN_KEY_STORE", "file").output().unwrap()
        };
        if !run("mount -t tmpfs tmpfs /mnt").status.success() {
            println!("skipped: no mount namespaces here");
            return;
        }
        let out = run(&script(&mount, &binary));
        let (told, said) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert_eq!(said.trim().lines().collect::<Vec<_>>(), [wanted, "trip.cairn"], "{told}{said}");
        let told: Value = serde_json::from_str(&told).unwrap();
        let row = &told["data"]["targets"][0];
        assert!(row["remedy"].as_str().unwrap().contains("bundle create reply.cairn --for \"Ana\""), "{row}");
        assert_eq!(row["sent"]["batches"], 0);
        assert_eq!((b.ok(&["status"])["observations"].as_u64(), n), (Some(3500), n), "what was there is here");
    }
    let reply = file(dir.path(), "reply.cairn");
    let made = b.ok(&["bundle", "create", &reply, "--for", "Ana"]);
    assert_eq!(made["to"].as_array().unwrap().len(), 1, "only what Ana lacks: {made}");
    a.ok(&["sync", &reply]);
    assert_eq!(a.everything(), b.everything());
}

/// `--for` sends just what a device lacks as far as is known; lost, late or twice it does no harm. `--since` an earlier bundle likewise.
#[test]
fn a_bundle_for_one_device_holds_what_it_lacks() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = pair(dir.path());
    let rows = dir.path().join("rows.csv");
    write_rows(&rows, 0, 2000);
    a.ok(&["import", &rows.to_string_lossy()]);
    let first = file(dir.path(), "first.cairn");
    a.ok(&["bundle", "create", &first]);
    b.ok(&["sync", &first]);
    a.ok(&["sync", &first]);
    let size = |name: &str| std::fs::metadata(name).unwrap().len();
    let mut bundles = Vec::new();
    for n in 0..3 {
        a.ok(&["add", "--at", "1,1", &format!("n={n}")]);
        let (path, since) = (file(dir.path(), &format!("for{n}.cairn")), file(dir.path(), &format!("since{n}.cairn")));
        a.ok(&["bundle", "create", &path, "--for", "Bo"]);
        a.ok(&["bundle", "create", &since, "--since", &first]);
        assert!(size(&path) < size(&first) / 10 && size(&since) < size(&first) / 10);
        bundles.push(path);
    }
    // The first is lost, the last comes first, one comes twice.
    for path in [&bundles[2], &bundles[1], &bundles[1]] {
        b.ok(&["sync", path, "--pull"]);
    }
    assert_eq!(b.ok(&["status"])["observations"], 2003);
    let c = Device::new(dir.path(), "c");
    c.ok(&["join", &a.ticket(), "--name", "Cy"]);
    let (code, reply) = c.json(&["sync", &bundles[2], "--pull"]);
    assert_eq!(
        (code, &reply["data"]["targets"][0]["state"]),
        (3, &Value::from("partly")),
        "it was made for somebody who has more: {reply}"
    );
    assert_eq!(c.ok(&["status"])["observations"], 0);
    c.ok(&["sync", &first, "--pull"]);
    c.ok(&["sync", &bundles[2], "--pull"]);
    assert_eq!(c.ok(&["status"])["observations"], 2003);
}

/// A ticket that only asks goes by the folder too: the request there, the approval back, without anybody meeting.
#[test]
fn who_asks_to_enter_is_let_in_by_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = pair(dir.path());
    let share = file(dir.path(), "share");
    std::fs::create_dir(&share).unwrap();
    a.ok(&["add", "--at", "1,1", "who=a"]);
    a.ok(&["sync", &share]);
    let ticket = a.ok(&["invite", "--approve"])["ticket"].as_str().unwrap().to_owned();
    let c = Device::new(dir.path(), "c");
    let asked = c.ok(&["join", &ticket, "--name", "Cy", "--via", &share]);
    assert_eq!(asked["state"], "pending");
    assert_eq!(c.json(&["sync", &share]).0, 5, "not yet");
    a.ok(&["sync", &share]);
    assert_eq!(a.ok(&["status"])["asking_to_enter"], 1);
    a.ok(&["devices", "approve", "Cy"]);
    a.ok(&["sync", &share]);
    let entered = c.ok(&["sync", &share]);
    assert_eq!(entered["targets"][0]["state"], "synced");
    c.ok(&["add", "--at", "2,2", "who=c"]);
    until_nobody_writes(&[&c, &a, &b], &share);
    assert_eq!(a.ok(&["status"])["observations"], 2);
}

/// A removed device hears of it at the folder, reads nothing that came after, and what it goes on writing stays with it.
#[test]
fn a_removed_device_finds_its_removal_in_the_folder_and_nothing_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = pair(dir.path());
    let share = file(dir.path(), "share");
    std::fs::create_dir(&share).unwrap();
    a.ok(&["sync", &share]);
    b.ok(&["sync", &share]);
    a.ok(&["sync", &share]);
    a.ok(&["devices", "remove", "Bo"]);
    a.ok(&["add", "--at", "1,1", "after=the removal"]);
    a.ok(&["sync", &share]);
    let before = walk(Path::new(&share));
    b.ok(&["add", "--at", "9,9", "by=the removed"]);
    let (code, reply) = b.json(&["sync", &share]);
    assert_eq!((code, &reply["data"]["targets"][0]["state"]), (5, &Value::from("removed")), "{reply}");
    let shown = b.everything().to_string();
    assert!(!shown.contains("the removal"), "{shown}");
    assert_eq!(walk(Path::new(&share)), before);
}

/// The configuration gate holds for folders: control log and configuration go through, observations wait, both are told.
#[test]
fn the_configuration_gate_holds_for_folders() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = pair(dir.path());
    let share = file(dir.path(), "share");
    std::fs::create_dir(&share).unwrap();
    for device in [&a, &b, &a] {
        device.ok(&["sync", &share]);
    }
    let config = file(dir.path(), "config.json");
    a.ok(&["config", "export", &config]);
    let text = std::fs::read_to_string(&config).unwrap().replacen("\"name\": \"", "\"name\": \"New ", 1);
    std::fs::write(&config, text).unwrap();
    a.ok(&["config", "switch", &config]);
    a.ok(&["add", "--at", "1,1", "under=the new one"]);
    a.ok(&["sync", &share]);
    let (code, reply) = b.json(&["sync", &share]);
    let row = &reply["data"]["targets"][0];
    assert_eq!((code, &row["state"]), (6, &Value::from("gated")), "{reply}");
    assert!(row["remedy"].as_str().unwrap().contains("config adopt"), "{row}");
    assert_eq!(b.ok(&["status"])["observations"], 0, "it is held and waits");
    b.ok(&["add", "--at", "2,2", "under=the old one, knowing"]);
    assert_eq!(b.json(&["sync", &share]).0, 6);
    let (code, reply) = a.json(&["sync", &share]);
    assert_eq!((code, &reply["data"]["targets"][0]["state"]), (6, &Value::from("gated")), "{reply}");
    b.ok(&["config", "adopt"]);
    for device in [&b, &a, &b] {
        device.ok(&["sync", &share]);
    }
    assert_eq!(b.ok(&["status"])["observations"], 2);
    assert_eq!(a.ok(&["status"])["observations"], 2, "what waited came through when Bo followed");
    assert_eq!(a.digest(), b.digest());
}

/// Two laptops in one office that stay on: what one records shows on the other, by the folder alone.
#[test]
fn services_keep_a_shared_folder_up_to_date() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = pair(dir.path());
    let share = file(dir.path(), "share");
    std::fs::create_dir(&share).unwrap();
    for device in [&a, &b] {
        device.ok(&["remote", "add", "lab", &share]);
    }
    let (_at, _bt) = (a.serve(), b.serve());
    let shows = |device: &Device, count: u64| {
        let until = Instant::now() + Duration::from_secs(50);
        while device.ok(&["status"])["observations"] != count {
            assert!(Instant::now() < until, "it never came: {}", device.ok(&["status"]));
            std::thread::yield_now();
        }
    };
    a.ok(&["add", "--at", "1,1", "who=a"]);
    shows(&b, 1);
    b.ok(&["add", "--at", "2,2", "who=b"]);
    shows(&a, 2);
}

/// An unplugged stick leaves its mount point behind: a remote that is suddenly empty is not filled again unasked.
#[test]
fn a_folder_that_was_emptied_is_not_filled_again_unasked() {
    let dir = tempfile::tempdir().unwrap();
    let a = Device::new(dir.path(), "a");
    a.ok(&["new", "River", "--name", "Ana"]);
    let (stick, away) = (file(dir.path(), "stick"), file(dir.path(), "away"));
    std::fs::create_dir(&stick).unwrap();
    a.ok(&["remote", "add", "stick", &stick]);
    a.ok(&["add", "--at", "1,1"]);
    a.ok(&["sync", "stick"]);
    a.ok(&["sync", "stick"]);
    std::fs::rename(&stick, &away).unwrap();
    assert_eq!(a.json(&["sync", "stick"]).0, 4, "not there");
    std::fs::create_dir(&stick).unwrap();
    let (code, reply) = a.json(&["sync", "stick"]);
    assert_eq!((code, std::fs::read_dir(&stick).unwrap().count()), (4, 0), "{reply}");
    assert!(reply["error"]["hint"].as_str().unwrap().contains("fills it again"), "{reply}");
    a.ok(&["sync", &stick]);
    assert_eq!(std::fs::read_dir(&stick).unwrap().count(), 1, "asked for by its path it is");
}

/// A flipped byte where nobody needs to read: whoever holds the data notices and makes it good for those who come later.
#[test]
fn damage_is_noticed_by_those_who_have_the_data_and_made_good() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = pair(dir.path());
    let rows = dir.path().join("rows.csv");
    write_rows(&rows, 0, 1000);
    a.ok(&["import", &rows.to_string_lossy()]);
    let (trip, share) = (file(dir.path(), "trip.cairn"), file(dir.path(), "share"));
    std::fs::create_dir(&share).unwrap();
    a.ok(&["bundle", "create", &trip]);
    a.ok(&["sync", &share]);
    let inside = walk(Path::new(&share)).remove(0);
    for path in [&trip, &inside] {
        let mut bytes = std::fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }
    for place in [&trip, &share] {
        assert!(!a.json(&["sync", place]).1["warnings"].as_array().unwrap().is_empty(), "said");
        until_settled(&a, place);
        let c = joined(dir.path(), if *place == trip { "c1" } else { "c2" }, &a, place);
        assert_eq!(c.ok(&["status"])["observations"], 1000);
    }
    b.ok(&["sync", &trip]);
    assert_eq!(b.ok(&["status"])["observations"], 1000);
}

fn until_settled(device: &Device, place: &str) {
    for _ in 0..4 {
        if device.ok(&["sync", place])["targets"][0]["wrote"] == false {
            return;
        }
    }
    panic!("it writes for ever");
}

/// A ticket that was revoked meanwhile: the folder says so, and a new one goes on where this one ended.
#[test]
fn a_revoked_ticket_is_told_at_the_folder_and_a_new_one_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let a = Device::new(dir.path(), "a");
    a.ok(&["new", "River", "--name", "Ana"]);
    let (old, share) = (file(dir.path(), "old.cairn"), file(dir.path(), "share"));
    std::fs::create_dir(&share).unwrap();
    let ticket = a.ticket();
    a.ok(&["bundle", "create", &old]);
    a.ok(&["invite", "--revoke", "all"]);
    a.ok(&["add", "--at", "1,1"]);
    a.ok(&["sync", &share]);
    let r = Device::new(dir.path(), "r");
    r.ok(&["join", &ticket, "--name", "Rui", "--via", &old]);
    r.ok(&["add", "--at", "2,2", "before=the news"]);
    for _ in 0..2 {
        let (code, reply) = r.json(&["sync", &share]);
        assert_eq!((code, &reply["data"]["targets"][0]["state"]), (5, &Value::from("not-a-member")), "{reply}");
        a.ok(&["sync", &share]);
    }
    let again = r.ok(&["join", &a.ticket(), "--via", &share]);
    assert_eq!(again["targets"][0]["state"], "synced");
    r.ok(&["add", "--at", "3,3", "after=the news"]);
    until_nobody_writes(&[&r, &a], &share);
    assert_eq!(a.everything(), r.everything());
    assert!(a.everything().to_string().contains("after"));
}

/// A remote that stands for a device is not the folder of that name that happens to lie where the command runs.
#[test]
fn a_remote_for_a_device_is_never_a_folder_of_that_name() {
    let dir = tempfile::tempdir().unwrap();
    let (a, _) = pair(dir.path());
    a.ok(&["remote", "add", "friend", "Bo's old phone"]);
    let lookalike = dir.path().join("Bo's old phone");
    std::fs::create_dir(&lookalike).unwrap();
    let out = a.command(&["sync", "friend", "--json"]).current_dir(dir.path()).output().unwrap();
    assert_ne!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stdout));
    assert_eq!(std::fs::read_dir(&lookalike).unwrap().count(), 0);
}
