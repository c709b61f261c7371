//! A member of the team cheats: real processes meet what it left in files and folders. It is written against the formats by the
//! simulator's `Eve`. Each test names the attack of ATTACKS.md that it holds.

use cairn_bundle::{BundleFile, Folder};
use cairn_contract::Mailbox;
use cairn_model::DocId;
use cairn_sim::Eve;
use cairn_tests::{Device, pair};
use cairn_trust::{BatchHash, OpBody, Ticket, Tip, mailbox_handle};
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};

/// A cheat with a ticket of `from`, and the handle of the project's mailboxes.
fn cheat(from: &Device, role: &str) -> (Eve, [u8; 16]) {
    let typed = from.ok(&["invite", "--role", role])["ticket"].as_str().unwrap().to_owned();
    let ticket = Ticket::decode(&typed).unwrap();
    let genesis = ticket.ops.iter().find_map(|op| match &op.body {
        OpBody::Genesis(genesis) => Some(genesis.configuration),
        _ => None,
    });
    (Eve::new(&ticket, genesis.expect("a ticket begins with genesis"), 7), mailbox_handle(&ticket.project))
}

fn write_file(path: &Path, handle: [u8; 16], chunks: &[Vec<u8>]) -> String {
    let mut file = BundleFile::new(path, handle);
    file.add(chunks).unwrap();
    file.commit().unwrap();
    path.to_string_lossy().into_owned()
}

fn tips(of: &Device) -> Vec<(cairn_model::DeviceId, Tip)> {
    let status = of.ok(&["status"]);
    let bytes = |text: &Value| cairn_model::unhex(text.as_str().unwrap()).unwrap();
    let author = cairn_model::DeviceId(bytes(&status["device"]).try_into().unwrap());
    let row = |row: &Value| Tip {
        feed: cairn_model::FeedId(bytes(&row["feed"]).try_into().unwrap()),
        seq: row["seq"].as_u64().unwrap(),
        hash: BatchHash(bytes(&row["tip"]).try_into().unwrap()),
    };
    status["frontier"].as_array().unwrap().iter().map(|r| (author, row(r))).collect()
}

fn target(v: &Value) -> &Value {
    &v["targets"][0]
}

/// An observer's manifest says that a chunk of its own holds all that Ana made. Version 0.1 then gave nothing to that place, and said
/// `synced`. Now the chunk is looked into, what Ana made goes there, and whoever lied is not believed again.
#[test]
fn a_false_list_keeps_no_work_back() {
    for in_folder in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = pair(dir.path());
        let meeting = dir.path().join("meeting");
        std::fs::create_dir(&meeting).unwrap();
        for n in 0..3 {
            a.ok(&["add", "--at", "1,1", &format!("n={n}")]);
        }
        // The cheat met Ana somewhere, so it knows the ends of her feeds.
        a.ok(&["sync", &meeting.to_string_lossy()]);
        let (mut eve, handle) = cheat(&a, "observer");
        let mut chunks = vec![eve.join()];
        chunks.extend(eve.false_manifest(&tips(&a)));
        let place = if in_folder {
            let root = dir.path().join("share");
            std::fs::create_dir(&root).unwrap();
            let mut folder = Folder::open(&root, handle, [9; 8]).unwrap();
            folder.add(&chunks).unwrap();
            folder.commit().unwrap();
            root.to_string_lossy().into_owned()
        } else {
            write_file(&dir.path().join("trip.cairn"), handle, &chunks)
        };
        let first = a.ok(&["sync", &place]);
        assert!(target(&first)["sent"]["batches"].as_u64().unwrap() > 0, "{first}");
        assert!(target(&first)["faults"][0].as_str().unwrap().contains("does not hold what the list says"), "{first}");
        b.ok(&["sync", &place]);
        assert_eq!(b.ok(&["status"])["observations"], 3, "in a folder: {in_folder}");
        let devices = a.ok(&["devices"]);
        let eves = devices["devices"].as_array().unwrap().iter().find(|d| d["name"] == "Eve").unwrap();
        assert_eq!(eves["lists_wrongly"], true);
        // The same lie once more, under another name: nothing is kept back, and nobody looks for it.
        a.ok(&["add", "--at", "1,1", "n=4"]);
        a.ok(&["sync", &place]);
        b.ok(&["sync", &place]);
        assert_eq!(b.ok(&["status"])["observations"], 4);
        assert_eq!(a.ok(&["devices", "believe", "Eve"])["devices"][0]["lists_wrongly"], false);
    }
}

/// A member's manifest in a bundle says that its readers hold everything already. What this device made goes there all the same.
#[test]
fn what_readers_are_said_to_hold_keeps_no_work_back() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = pair(dir.path());
    a.ok(&["add", "--at", "1,1"]);
    let meeting = dir.path().join("m");
    std::fs::create_dir(&meeting).unwrap();
    a.ok(&["sync", &meeting.to_string_lossy()]);
    let (mut eve, handle) = cheat(&a, "observer");
    // Without the chunk that the manifest names only its base is left.
    let chunks = vec![eve.join(), eve.false_manifest(&tips(&a)).remove(0)];
    let trip = write_file(&dir.path().join("trip.cairn"), handle, &chunks);
    assert!(target(&a.ok(&["sync", &trip]))["sent"]["batches"].as_u64().unwrap() > 0);
    b.ok(&["sync", &trip]);
    assert_eq!(b.ok(&["status"])["observations"], 1);
}

/// Two devices met over the network and hold the same. Each fills a folder for a third all the same: a receipt says what a device
/// holds, never what a place does.
#[test]
fn devices_that_met_fill_a_folder_and_a_file_for_a_third() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = pair(dir.path());
    a.ok(&["add", "--at", "1,1", "who=a"]);
    b.ok(&["add", "--at", "2,2", "who=b"]);
    let service = a.serve();
    b.ok(&["sync", &service.address]);
    service.stop();
    assert_eq!(a.digest(), b.digest());
    let share = dir.path().join("share");
    std::fs::create_dir(&share).unwrap();
    let trip = dir.path().join("trip.cairn").to_string_lossy().into_owned();
    for place in [share.to_string_lossy().into_owned(), trip] {
        b.ok(&["sync", &place]);
        let c = Device::new(dir.path(), if place.ends_with("share") { "c" } else { "d" });
        c.ok(&["join", &a.ticket(), "--name", "Cy", "--via", &place]);
        c.ok(&["sync", &place]);
        assert_eq!(c.ok(&["status"])["observations"], 2, "{place}");
    }
}

/// 64 MiB of bytes that look like keys, operations and manifests, by somebody without any key. What this device made goes there, and
/// the junk is read once.
#[test]
fn junk_does_not_stop_a_push() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = pair(dir.path());
    a.ok(&["add", "--at", "1,1"]);
    let (mut eve, handle) = cheat(&a, "observer");
    let junk: Vec<Vec<u8>> = (0..66u8).map(|n| eve.junk_of(3 + n % 3, 1 << 20)).collect();
    let share = dir.path().join("share");
    std::fs::create_dir(&share).unwrap();
    let mut folder = Folder::open(&share, handle, [9; 8]).unwrap();
    folder.add(&junk).unwrap();
    folder.commit().unwrap();
    let share = share.to_string_lossy().into_owned();
    let (_, first) = a.json(&["sync", &share]);
    assert!(target(&first["data"])["sent"]["batches"].as_u64().unwrap() > 0, "{first}");
    b.json(&["sync", &share]);
    b.json(&["sync", &share]);
    assert_eq!(b.ok(&["status"])["observations"], 1);
}

/// 1,100 concurrent heads of one observation, and 2,000 changes that wait for one there never was: the observation is edited, deleted
/// and purged as any other, and taking it costs no more than its bytes.
#[test]
fn an_observation_with_too_many_heads_is_still_everybodys() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = pair(dir.path());
    let id = a.ok(&["add", "--note", "precious"])["observation"]["id"].as_str().unwrap().to_owned();
    let (mut eve, handle) = cheat(&a, "member");
    let doc = DocId(cairn_model::unhex(&id).unwrap().try_into().unwrap());
    let mut chunks = vec![eve.join()];
    chunks.extend(eve.many_heads(doc, 1100));
    chunks.extend(eve.waiting(doc, 2000));
    let evil = write_file(&dir.path().join("evil.cairn"), handle, &chunks);
    let began = Instant::now();
    a.ok(&["sync", &evil]);
    assert!(began.elapsed() < Duration::from_secs(20), "it took {:?}", began.elapsed());
    b.ok(&["sync", &evil]);
    a.ok(&["edit", &id, "--note", "fixed"]);
    assert_eq!(a.ok(&["show", &id])["observations"][0]["note"], "fixed");
    a.ok(&["rm", &id]);
    a.ok(&["restore", &id]);
    a.ok(&["sync", &evil]);
    b.ok(&["sync", &evil]);
    assert_eq!((a.digest(), a.everything()), (b.digest(), b.everything()));
    b.ok(&["purge", &id, "--yes"]);
    b.ok(&["sync", &evil]);
    a.ok(&["sync", &evil]);
    for device in [&a, &b] {
        assert_eq!(device.ok(&["check"])["findings"], Value::Array(vec![]));
        assert_eq!(device.ok(&["show", &id])["observations"][0]["note"], Value::Null);
    }
}

/// No cheat: an observation of 7,500 fields is purged, and an import that set them is taken back.
#[test]
fn a_wide_observation_is_purged_and_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let a = Device::new(dir.path(), "a");
    a.ok(&["new", "Wide"]);
    let mut imports = Vec::new();
    for part in ["a", "b", "c"] {
        let names: Vec<String> = (0..2500).map(|n| format!("{part}{n}")).collect();
        let path = dir.path().join(format!("{part}.csv"));
        std::fs::write(&path, format!("key,lat,lon,{}\nk1,1,2,{}\n", names.join(","), vec!["v"; 2500].join(","))).unwrap();
        let done = a.ok(&["import", &path.to_string_lossy(), "--dataset", "d", "--key", "key", "--mode", "upsert"]);
        imports.push(done["import"].as_str().unwrap().to_owned());
    }
    let id = a.ok(&["list"])["observations"][0]["id"].as_str().unwrap().to_owned();
    let fields = || a.ok(&["show", &id])["observations"][0]["fields"].as_object().map_or(0, serde_json::Map::len);
    assert_eq!(fields(), 7501);
    a.ok(&["revert", &imports[2]]);
    assert_eq!(fields(), 5001);
    a.ok(&["purge", &id, "--yes"]);
    assert_eq!(fields(), 0);
    assert_eq!(a.ok(&["check"])["findings"], Value::Array(vec![]));
}
