//! Configurations through the real binary: other programs' files, versions, and every way to other devices.

use cairn_tests::relay::Relay;
use cairn_tests::{Device, pair, shared};
use serde_json::{Value, json};
use std::path::Path;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn category(device: &Device, id: &str) -> Option<Value> {
    let shown = device.ok(&["config", "show"]);
    shown["categories"].as_array().unwrap().iter().find(|c| c["id"] == id).cloned()
}

#[test]
fn versions_travel_every_way_and_observations_keep_theirs() {
    let root = folder();
    let (a, b) = pair(root.path());
    let c = Device::new(root.path(), "c");
    c.ok(&["join", &a.ticket(), "--name", "Cy"]);
    let share = root.path().join("share");
    std::fs::create_dir(&share).unwrap();
    let share = share.to_str().unwrap();
    let trip = root.path().join("trip.cairn");
    let trip = trip.to_str().unwrap();
    let first = a.ok(&["config", "show"])["version_id"].clone();
    let old = a.ok(&["add", "--category", "fire", "--note", "before"])["observation"].clone();
    assert_eq!(old["configuration_version"], first);

    // To B by the network, to C by a folder; then to B by a file.
    a.ok(&["config", "edit", "category", "snare", "--name", "Snare", "--fields", "species,severity"]);
    a.ok(&["config", "edit", "category", "fire", "--remove"]);
    let second = a.ok(&["config", "show"])["version_id"].clone();
    assert_ne!(first, second);
    {
        let service = a.serve();
        b.ok(&["sync", &service.address]);
    }
    a.ok(&["sync", share]);
    c.ok(&["sync", share]);
    for device in [&a, &b, &c] {
        assert_eq!(category(device, "snare").unwrap()["name"], "Snare");
        assert_eq!(category(device, "fire"), None);
        let id = old["id"].as_str().unwrap();
        let shown = device.ok(&["show", id])["observations"][0].clone();
        assert_eq!((&shown["configuration_version"], &shown["category_name"]), (&first, &json!("Fire or burned land")), "{shown}");
        assert_eq!(device.ok(&["config", "show", "--at", first.as_str().unwrap()])["categories"].as_array().unwrap().len(), 19);
    }
    let new = b.ok(&["add", "--category", "snare"])["observation"].clone();
    assert_eq!(new["configuration_version"], second);
    a.ok(&["config", "edit", "text", "es", "category", "snare", "name", "Trampa"]);
    a.ok(&["bundle", "create", trip]);
    b.ok(&["sync", trip]);
    assert_eq!(b.ok(&["config", "show"])["messages"]["es"]["c.snare.name"], "Trampa");
    let history = b.ok(&["config", "history"])["entries"].clone();
    assert_eq!(history[0]["differences"], json!(["1 texts in `es` change"]), "{history}");
    let diff = b.ok(&["config", "diff", second.as_str().unwrap()])["differences"].clone();
    assert_eq!(diff, json!(["1 texts in `es` change"]));
    // And by a relay.
    let relay = Relay::start(&root.path().join("relay"), 0, &[]);
    a.ok(&["config", "edit", "category", "snare", "--name", "Trap"]);
    a.ok(&["sync", &relay.url]);
    for device in [&b, &c] {
        device.ok(&["sync", &relay.url]);
        assert_eq!(category(device, "snare").unwrap()["name"], "Trap");
        let id = old["id"].as_str().unwrap();
        assert_eq!(device.ok(&["show", id])["observations"][0]["configuration_version"], first);
    }
}

#[test]
fn two_coordinators_edit_apart_and_it_merges() {
    let root = folder();
    let (a, b) = pair(root.path());
    let service = a.serve();
    b.ok(&["sync", &service.address]);
    a.ok(&["devices", "role", "Bo", "coordinator"]);
    b.ok(&["sync", &service.address]);
    a.ok(&["config", "edit", "category", "fire", "--name", "Blaze"]);
    b.ok(&["config", "edit", "field", "severity", "--option", "extreme=Extreme"]);
    b.ok(&["sync", &service.address]);
    for device in [&a, &b] {
        assert_eq!(category(device, "fire").unwrap()["name"], "Blaze");
        let shown = device.ok(&["config", "show"]);
        let severity = shown["fields"].as_array().unwrap().iter().find(|f| f["id"] == "severity").unwrap();
        assert_eq!(severity["options"].as_array().unwrap().len(), 4, "{severity}");
    }
    assert_eq!(a.digest(), b.digest());
}

#[test]
fn a_category_archive_goes_in_and_comes_out_as_the_neighbour_wants_it() {
    let Some(data) = shared("data/config/archives/coastal-watch.comapeocat") else { return };
    let root = folder();
    let a = Device::new(root.path(), "a");
    a.ok(&["new", "Coast"]);
    let file = data.to_str().unwrap();
    let dry = a.ok(&["config", "import", file, "--dry-run"]);
    assert!(dry["differences"].to_string().contains("category `seabird`"), "{dry}");
    assert_eq!(category(&a, "seabird"), None);
    assert_eq!(a.ok(&["config", "lint", file])["findings"].as_array().unwrap().iter().filter(|f| f["wrong"] == true).count(), 0);
    a.ok(&["config", "import", file]);
    assert_eq!(a.ok(&["config", "import", file])["changes"], 0, "the same again changes nothing");
    a.ok(&["add", "--category", "seabird", "--at", "1,2", "behaviour=feeding"]);
    let out = root.path().join("out.comapeocat");
    a.ok(&["config", "export", out.to_str().unwrap()]);
    judge(&out);
    // What a new project starts with goes out as well.
    let b = Device::new(root.path(), "b");
    b.ok(&["new", "Plain"]);
    b.ok(&["config", "export", out.to_str().unwrap()]);
    judge(&out);
    let c = Device::new(root.path(), "c");
    c.ok(&["new", "Coast too", "--config", file]);
    assert_eq!(category(&c, "litter").unwrap()["name"], "Beach litter");
}

fn judge(file: &Path) {
    let Some(script) = shared("judges/judge.sh") else { return };
    if !std::env::home_dir().unwrap_or_default().join(".cache/cairn-judges/node_modules").exists() {
        println!("skipped: the outside judges are not installed");
        return;
    }
    let done = std::process::Command::new("bash").arg(script).arg("comapeocat").arg(file).output().unwrap();
    assert!(done.status.success(), "{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
}

#[test]
fn another_lineage_is_asked_for_and_names_who_must_follow() {
    let root = folder();
    let (a, b) = pair(root.path());
    {
        let service = a.serve();
        b.ok(&["sync", &service.address]);
    }
    let file = root.path().join("other.json");
    std::fs::write(&file, r#"{"name":"Other","version":"1","categories":[{"id":"x","name":"X"}],"fields":[]}"#).unwrap();
    let file = file.to_str().unwrap();
    let (code, said) = a.json(&["config", "import", file, "--new-lineage"]);
    assert!(code == 1 && said["error"]["hint"].as_str().unwrap().contains("--yes"), "{said}");
    let done = a.ok(&["config", "import", file, "--new-lineage", "--yes"]);
    assert_eq!((&done["to"], &done["must_adopt"]), (&json!("Other"), &json!(["Bo"])));
}

#[test]
fn a_secret_in_an_old_configuration_is_neither_kept_nor_shown() {
    let root = folder();
    let a = Device::new(root.path(), "a");
    a.ok(&["new", "Old"]);
    let key = "0123456789abcdef".repeat(4);
    let path = root.path().join("old.mapeosettings");
    let mut zip = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
    let options = zip::write::SimpleFileOptions::default();
    for (name, text) in [
        ("presets.json", r#"{"presets":{"tree":{"name":"Tree","geometry":["point"],"tags":{"natural":"tree"},"fields":["size"]}},"fields":{"size":{"key":"size","type":"select_one","options":["big","small"]}},"defaults":{"point":["tree"]}}"#.to_owned()),
        ("metadata.json", format!(r#"{{"name":"Old one","projectKey":"{key}"}}"#)),
    ] {
        use std::io::Write;
        zip.start_file(name, options).unwrap();
        zip.write_all(text.as_bytes()).unwrap();
    }
    zip.finish().unwrap();
    let (code, reply) = a.json(&["config", "import", path.to_str().unwrap()]);
    assert!(code == 0 && reply["warnings"].to_string().contains("secret") && !reply.to_string().contains(&key), "{reply}");
    assert_eq!(category(&a, "tree").unwrap()["tags"], json!({"natural": "tree"}));
    for entry in std::fs::read_dir(a.home()).unwrap().flatten() {
        let mut files = vec![entry.path()];
        while let Some(path) = files.pop() {
            if path.is_dir() {
                files.extend(std::fs::read_dir(&path).unwrap().flatten().map(|e| e.path()));
            } else if let Ok(bytes) = std::fs::read(&path) {
                assert!(memchr::memmem::find(&bytes, key.as_bytes()).is_none(), "{}", path.display());
            }
        }
    }
}
