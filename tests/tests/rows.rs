//! Tables that come and go, through the real binary.

use cairn_tests::{Device, pair, shared};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::{Path, PathBuf};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

const KEY: &str = "Unique Squirrel ID";

fn import(device: &Device, file: &Path, mode: &str) -> (i32, Value) {
    let file = file.to_str().unwrap();
    let head = std::fs::read_to_string(file).unwrap().lines().next().unwrap_or_default().to_owned();
    let mut args = vec!["import", file, "--dataset", "squirrels", "--key", KEY, "--mode", mode];
    for (column, map) in [("Date", "Date=field:Date"), ("X", "X=field:X"), ("Y", "Y=field:Y")] {
        if head.split(',').any(|c| c == column) {
            args.extend(["--map", map]);
        }
    }
    device.json(&args)
}

/// The data set as a table of texts, by identifier.
fn table(device: &Device) -> BTreeMap<String, BTreeMap<String, String>> {
    let rows = device.ok(&["list", "--in", "squirrels", "--limit", "0"])["observations"].clone();
    let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    let row =
        |o: &Value| -> BTreeMap<String, String> { o["fields"].as_object().unwrap().iter().map(|(k, v)| (k.clone(), text(v))).collect() };
    rows.as_array().unwrap().iter().map(row).map(|r| (r[KEY].clone(), r)).collect()
}

/// The same as a program that is not ours computed it; an empty cell is none.
fn expected(folder: &Path, name: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let file = std::fs::File::open(folder.join(format!("expected-{name}.jsonl.gz"))).unwrap();
    let lines = std::io::BufReader::new(flate2::read::GzDecoder::new(file)).lines();
    let row = |line: String| -> BTreeMap<String, String> {
        let row: BTreeMap<String, String> = serde_json::from_str(&line).unwrap();
        row.into_iter().filter(|(_, v)| !v.trim().is_empty()).collect()
    };
    lines.map(|l| row(l.unwrap())).map(|r| (r[KEY].clone(), r)).collect()
}

fn same(device: &Device, folder: &Path, name: &str) {
    let (found, wanted) = (table(device), expected(folder, name));
    assert_eq!(found.len(), wanted.len(), "{name}");
    for (id, row) in &wanted {
        assert_eq!(found.get(id), Some(row), "{name}, {id}");
    }
}

#[test]
fn each_mode_gives_what_another_program_computed() {
    let Some(data) = shared("data/import-modes/squirrel") else { return };
    let root = folder();
    let device = Device::new(root.path(), "a");
    device.ok(&["new", "Park"]);
    let by_hand = device.ok(&["add", "--note", "made by hand"])["observation"]["id"].as_str().unwrap().to_owned();
    let run = |name: &str, mode: &str| import(&device, &data.join(format!("{name}.csv")), mode);
    let back = || {
        let (_, reply) = run("base", "replace");
        assert_eq!(reply["ok"], true, "{reply}");
        same(&device, &data, "base");
    };
    for (name, mode, result) in [
        ("append", "append", "append"),
        ("upsert", "upsert", "upsert"),
        ("upsert-columns-reordered", "upsert", "upsert"),
        ("upsert-duplicate-ids", "upsert", "upsert-duplicate-ids"),
        ("upsert-partial", "upsert", "upsert-partial"),
        ("delete", "delete", "delete"),
        ("replace", "replace", "replace"),
    ] {
        back();
        assert_eq!(run(name, mode).0, 0, "{name}");
        same(&device, &data, result);
        let before = device.digest();
        let (_, again) = run(name, mode);
        let d = &again["data"];
        assert_eq!((&d["created"], &d["updated"], &d["deleted"]), (&json!(0), &json!(0), &json!(0)), "{name} twice: {d}");
        assert_eq!(device.digest(), before, "{name} twice changes nothing");
    }
    back();
    for (name, mode) in [("append", "append"), ("upsert", "upsert"), ("delete", "delete")] {
        assert_eq!(run(name, mode).0, 0);
    }
    same(&device, &data, "sequence");
    assert_eq!(run("append-collisions", "append").0, 3, "rows that are there with other values are refused");
    let (code, blank) = run("upsert-blank-id", "upsert");
    assert_eq!((code, &blank["data"]["rejects"][0]["line"], &blank["data"]["rejects"][0]["column"]), (3, &json!(2), &json!(KEY)));
    assert_eq!(device.ok(&["show", &by_hand])["observations"][0]["deleted"], false, "a table never touches what was made by hand");
    assert_eq!(device.ok(&["check"])["findings"], json!([]));
}

#[test]
fn the_order_of_devices_and_syncs_does_not_matter() {
    let Some(data) = shared("data/import-modes/squirrel") else { return };
    let root = folder();
    let (a, b) = pair(root.path());
    let run = |device: &Device, name: &str, mode: &str| assert_eq!(import(device, &data.join(format!("{name}.csv")), mode).0, 0);
    run(&b, "base", "replace");
    let service = a.serve();
    b.ok(&["sync", &service.address]);
    run(&a, "append", "append");
    b.ok(&["sync", &service.address]);
    run(&b, "upsert", "upsert");
    b.ok(&["sync", &service.address]);
    run(&a, "delete", "delete");
    b.ok(&["sync", &service.address]);
    for device in [&a, &b] {
        same(device, &data, "sequence");
    }
    // The same rows imported apart are the same observations.
    run(&a, "replace", "replace");
    run(&b, "replace", "replace");
    b.ok(&["sync", &service.address]);
    assert_eq!(a.digest(), b.digest());
    for device in [&a, &b] {
        same(device, &data, "replace");
    }
}

#[test]
fn overlapping_sheets_edited_apart_merge_by_field() {
    let root = folder();
    let (a, b) = pair(root.path());
    let sheet = |name: &str, text: &str| write(root.path(), name, text);
    let args = |file: &str| {
        vec![
            "import".to_owned(),
            file.to_owned(),
            "--dataset".into(),
            "boxes".into(),
            "--key".into(),
            "No".into(),
            "--mode".into(),
            "upsert".into(),
        ]
    };
    let run = |device: &Device, file: String| {
        let args = args(&file);
        device.ok(&args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let base = sheet("base.csv", "No,eggs,owner\n001,3,tit\n002,,\n");
    run(&a, base.clone());
    run(&b, base);
    run(&a, sheet("a.csv", "No,eggs,owner\n001,4,tit\n002,,sparrow\n003,1,\n"));
    run(&b, sheet("b.csv", "No,eggs,owner\n001,5,tit\n002,2,\n003,1,\n"));
    let service = a.serve();
    b.ok(&["sync", &service.address]);
    for device in [&a, &b] {
        let rows = device.ok(&["list", "--limit", "0"])["observations"].clone();
        assert_eq!(rows.as_array().unwrap().len(), 3, "the same row is one observation: {rows}");
        let of = |no: &str| rows.as_array().unwrap().iter().find(|o| o["fields"]["No"] == no).unwrap()["fields"].clone();
        assert_eq!(of("002"), json!({"No": "002", "eggs": "2", "owner": "sparrow"}), "cells that only one changed are both there");
        let conflicts = device.ok(&["conflicts"])["conflicts"].clone();
        assert_eq!((conflicts.as_array().unwrap().len(), &conflicts[0]["key"]), (1, &json!("eggs")), "{conflicts}");
    }
    assert_eq!(a.digest(), b.digest());
}

#[test]
fn what_would_do_harm_is_refused_and_leaves_all_as_it_was() {
    let root = folder();
    let a = Device::new(root.path(), "a");
    a.ok(&["new", "Boxes"]);
    let sheet = write(root.path(), "boxes.csv", "No,kind,eggs\n001,big,3\n002,small,4\n003,big,5\n");
    let short = write(root.path(), "short.csv", "No,kind,eggs\n001,big,3\n");
    let empty = write(root.path(), "empty.csv", "No,kind,eggs\n");
    let bad = write(root.path(), "bad.csv", "No,lat,lon\n001,1,2\n002,x,2\n003,91,0\n");
    let set = |mode: &'static str| ["--dataset", "boxes", "--key", "No", "--mode", mode];
    let run = |file: &str, more: &[&str]| a.json(&[&["import", file], more].concat());
    assert_eq!(run(&sheet, &["--mode", "upsert", "--dataset", "boxes"]).0, 1, "upsert without a key");
    assert_eq!(run(&sheet, &["--mode", "replace"]).0, 1, "replace without a data set");
    assert_eq!(run(&sheet, &set("upsert")).0, 0);
    let before = a.digest();
    let (code, said) = run(&sheet, &["--dataset", "boxes", "--key", "kind", "--mode", "upsert"]);
    assert!(code == 1 && said["error"]["message"].as_str().unwrap().contains("identified by No"), "{said}");
    assert!(said["error"]["hint"].as_str().unwrap().contains("--change-key"), "{said}");
    assert_eq!(run(&short, &[&set("replace")[..], &["--max-delete", "1"]].concat()).0, 25);
    assert_eq!(run(&empty, &set("replace")).0, 1);
    assert_eq!(run(&bad, &[&set("upsert")[..], &["--strict"]].concat()).0, 1);
    let (_, dry) = run(&short, &[&set("replace")[..], &["--dry-run"]].concat());
    assert_eq!((&dry["data"]["deleted"], dry["data"]["rows"].as_array().unwrap().len()), (&json!(2), 2), "{dry}");
    assert_eq!(a.digest(), before);

    let rejects = root.path().join("rejects.csv");
    let (code, said) = run(&bad, &[&set("upsert")[..], &["--rejects", rejects.to_str().unwrap()]].concat());
    assert_eq!((code, &said["data"]["rejected"], &said["data"]["rejects"][0]["column"]), (3, &json!(2), &json!("lat")));
    let text = std::fs::read_to_string(&rejects).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some(":line,:column,:reason,No,lat,lon"));
    assert!(lines.next().unwrap().ends_with(",002,x,2"), "{text}");
    // Repaired, the same file goes in.
    std::fs::write(&rejects, text.replace(",x,2", ",1,2").replace(",91,0", ",9,0")).unwrap();
    assert_eq!(run(rejects.to_str().unwrap(), &set("upsert")).0, 0);

    assert_eq!(run(&short, &[&set("replace")[..], &["--max-delete", "2"]].concat()).1["data"]["deleted"], 2);
    let (_, restored) = run(&sheet, &set("upsert"));
    assert_eq!(
        (&restored["data"]["created"], &restored["data"]["restored"]),
        (&json!(2), &json!(2)),
        "a deleted row that comes again is there again"
    );
    assert_eq!(run(&sheet, &["--dataset", "boxes", "--key", "kind", "--key", "eggs", "--mode", "replace", "--change-key"]).0, 0);
    assert_eq!(a.ok(&["list"])["count"], 3);
    assert_eq!(run(&sheet, &["--dataset", "boxes", "--key", "kind", "--key", "eggs", "--mode", "upsert"]).1["data"]["unchanged"], 3);
    assert_eq!(
        run(&empty, &["--dataset", "boxes", "--key", "kind", "--key", "eggs", "--mode", "replace", "--allow-empty"]).1["data"]["deleted"],
        3
    );
}

/// Each of these deleted, doubled or bent something before a reading found it.
#[test]
fn rows_that_are_not_what_they_seem() {
    let root = folder();
    let a = Device::new(root.path(), "a");
    a.ok(&["new", "Odd"]);
    let run = |text: &str, more: &[&str]| a.json(&[&["import", &write(root.path(), "odd.csv", text)], more].concat());
    let set = |mode: &'static str| ["--dataset", "d", "--key", "id", "--mode", mode, "--missing", "NA"];
    run("name,id,n\nann,1,1\nbob,2,2\n", &set("upsert"));
    // A comma too many moves the cells: the identifier of that row is not what stands in its column.
    let (code, said) = run("name,id,n\nann,1,1\nSmith, bob,2,2\n", &set("replace"));
    assert_eq!((code, &said["data"]["deleted"], a.ok(&["list"])["count"].as_u64()), (3, &json!(0), Some(2)), "{said}");
    // So is a text that means nothing.
    let (_, said) = run("name,id,lat\nann,1,\nx,NA,x\n", &set("replace"));
    assert_eq!(said["data"]["deleted"], 0, "{said}");
    // A refused last row does not take the good one before it along.
    let (_, said) = run("id,lat,lon\n7,1,1\n7,100,1\n", &set("upsert"));
    assert_eq!((&said["data"]["created"], &said["data"]["rejected"]), (&json!(1), &json!(1)), "{said}");
    // Two columns for one field are one change, and none the second time.
    let twice = ["--map", "a=sp", "--map", "b=sp"];
    run("id,a,b\n8,x,y\n", &[&set("upsert")[..], &twice].concat());
    let (_, said) = run("id,a,b\n8,x,y\n", &[&set("upsert")[..], &twice].concat());
    assert_eq!((&said["data"]["unchanged"], &a.ok(&["conflicts"])["conflicts"]), (&json!(1), &json!([])), "{said}");
    // A point where the comma is the decimal sign is a thousand, or a mistake.
    let (_, said) = run("lat,lon\n1.5,2\n\"1,5\",2\n", &["--decimal", ","]);
    assert_eq!((&said["data"]["created"], &said["data"]["rejected"]), (&json!(1), &json!(1)), "{said}");
    let (_, said) = run("date,datetime\n2020-01-01,\n", &["--dry-run"]);
    assert_eq!(said["data"]["rows"][0]["changes"][0]["key"], "at", "an empty column says nothing against the other: {said}");
    // One row that no change can hold is left out; the others go in.
    let wide: String = (0..5000).map(|n| format!(",c{n}")).collect();
    let (code, said) = run(&format!("id{wide}\n9{}\n10,x{}\n", ",x".repeat(5000), ",".repeat(4999)), &set("upsert"));
    assert_eq!((code, &said["data"]["created"], &said["data"]["rejected"]), (3, &json!(1), &json!(1)));
    let (_, said) = run("My title\nlat;lon;sp\n1;2;x\n", &["--skip", "1", "--dry-run"]);
    assert!(said["data"]["rows"].to_string().contains("geo:1,2"), "{said}");
    assert_eq!(run("a,b\n1,2\n", &["--skip", "18446744073709551615"]).0, 1);
    assert_eq!(a.ok(&["check"])["findings"], json!([]));
}

#[test]
fn rows_without_an_identifier_can_be_replaced() {
    let root = folder();
    let a = Device::new(root.path(), "a");
    a.ok(&["new", "Strikes"]);
    let run = |text: &str| a.ok(&["import", &write(root.path(), "s.csv", text), "--dataset", "strikes", "--mode", "replace"]);
    assert_eq!(run("bird,cost\ngull,1\ngull,1\nswan,2\n")["created"], 3);
    let again = run("bird,cost\nswan,2\ngull,1\ngull,3\n");
    assert_eq!((&again["unchanged"], &again["created"], &again["deleted"]), (&json!(2), &json!(1), &json!(1)), "{again}");
}

/// The shown side of observations, without what a copy has of its own.
fn content(device: &Device, drop: &[&str]) -> Vec<Value> {
    let mut rows: Vec<Value> = device.ok(&["list", "--limit", "0"])["observations"].as_array().unwrap().clone();
    for row in &mut rows {
        let row = row.as_object_mut().unwrap();
        for key in ["id", "version", "created_by", "configuration_version", "dataset", "conflicts"].iter().chain(drop) {
            row.remove(*key);
        }
        if let Some(at) = row["time"].as_str() {
            let seconds = at.trim_end_matches('Z').trim_end_matches("+00:00").to_owned();
            row.insert("time".into(), json!(seconds.split('.').next().unwrap()));
        }
        // What a format has only as text is compared as such.
        let fields = row["fields"].as_object_mut().unwrap();
        fields.remove("id");
        // Terms that an archive of occurrences says of every row.
        for term in ["basisOfRecord", "geodeticDatum", "occurrenceID"] {
            fields.remove(term);
        }
        for value in fields.values_mut() {
            let text = match &*value {
                Value::String(t) => t.clone(),
                Value::Array(items) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(";"),
                Value::Number(n) => n.as_f64().unwrap().to_string(),
                other => other.to_string(),
            };
            *value = json!(text);
        }
    }
    // Removing a key leaves the others in an order of their own.
    let sorted = |row: &Value| -> String {
        serde_json::from_value::<BTreeMap<String, BTreeMap<String, String>>>(json!({"fields": row["fields"]}))
            .map(|m| format!("{m:?}"))
            .unwrap_or_default()
    };
    rows.sort_by_key(|row| (sorted(row), row["time"].to_string(), row["lat"].to_string()));
    rows
}

fn judge(kind: &str, file: &Path) {
    let Some(script) = shared("judges/judge.sh") else { return };
    let home = std::env::home_dir().unwrap_or_default().join(".cache/cairn-judges");
    if !home.join("node_modules").exists() {
        println!("skipped: the outside judges are not installed ({})", home.display());
        return;
    }
    let done = std::process::Command::new("bash").arg(script).arg(kind).arg(file).output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{kind} of {}: {said}", file.display());
}

const FORMATS: [(&str, &str); 9] = [
    ("csv", "csv"),
    ("geojson", "geojson"),
    ("geojsonl", ""),
    ("gpx", "gpx"),
    ("kml", "kml"),
    ("kmz", ""),
    ("gpkg", "gpkg"),
    ("dwca.zip", "dwca"),
    ("xlsx", ""),
];

fn every_format(device: &Device, root: &Path, drop: &[&str], placed: bool) {
    let before = content(device, drop);
    for (ending, kind) in FORMATS {
        let file = root.join(format!("out.{ending}"));
        let (code, written) = device.json(&["export", file.to_str().unwrap()]);
        let left = written["data"]["left_out"].as_u64().unwrap();
        assert!(code == 0 || (code == 3 && ending == "gpx" && !placed), "{ending}: {written}");
        if !kind.is_empty() {
            judge(kind, &file);
        }
        let copy = Device::new(root, &format!("copy-{ending}"));
        copy.ok(&["new", "Copy"]);
        copy.ok(&["import", file.to_str().unwrap()]);
        let after = content(&copy, drop);
        assert_eq!(after.len() as u64 + left, before.len() as u64, "{ending}");
        if left == 0 {
            for (found, wanted) in after.iter().zip(&before) {
                assert_eq!(found, wanted, "{ending}");
            }
        }
    }
    shapefiles(device, root, &before, drop);
}

/// A shapefile has short names and one kind of number: what stands in the rows is compared, not what it is called.
fn shapefiles(device: &Device, root: &Path, before: &[Value], drop: &[&str]) {
    let file = root.join("out.shp.zip");
    let (_, written) = device.json(&["export", file.to_str().unwrap()]);
    let (exported, left) = (written["data"]["exported"].as_u64().unwrap(), written["data"]["left_out"].as_u64().unwrap());
    assert_eq!(exported + left, before.len() as u64);
    read_by_gdal(&file, exported);
    if left > 0 {
        return;
    }
    let copy = Device::new(root, "copy-shapefile");
    copy.ok(&["new", "Copy"]);
    copy.ok(&["import", file.to_str().unwrap()]);
    let texts = |rows: &[Value]| {
        let mut out: Vec<_> = rows.iter().map(shapefile_texts).collect();
        out.sort();
        out
    };
    assert_eq!(texts(&content(&copy, drop)), texts(before));
}

fn shapefile_texts(row: &Value) -> (String, Vec<String>) {
    let plain = ["category", "time", "note", "lat", "lon", "uncertainty"].map(|key| match &row[key] {
        Value::Null => String::new(),
        other => other.to_string(),
    });
    let cut = |text: &str| text[..text.floor_char_boundary(254)].trim_end().to_owned();
    let mut fields: Vec<String> = row["fields"].as_object().unwrap().values().map(|v| cut(v.as_str().unwrap())).collect();
    fields.retain(|text| !text.is_empty());
    fields.sort();
    (plain.join("|"), fields)
}

fn read_by_gdal(file: &Path, rows: u64) {
    let mut gdal = std::process::Command::new("ogrinfo");
    let Ok(done) = gdal.args(["-ro", "-so", "-al"]).arg(format!("/vsizip/{}", file.display())).output() else {
        println!("skipped: ogrinfo is not installed");
        return;
    };
    let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && !said.contains("ERROR") && !said.contains("Warning"), "{said}");
    let counts = said.lines().filter_map(|l| l.strip_prefix("Feature Count: ")).map(|n| n.parse::<u64>().unwrap());
    assert_eq!(counts.sum::<u64>(), rows, "{said}");
    assert!(said.contains("WGS"), "{said}");
}

#[test]
fn what_is_exported_comes_back_equal() {
    let root = folder();
    let a = Device::new(root.path(), "a");
    a.ok(&["new", "Formats"]);
    a.ok(&[
        "add",
        "--category",
        "animal",
        "--at",
        "-3.4653,-62.2159,12.5",
        "--uncertainty",
        "8",
        "--time",
        "2026-03-01T10:20:30Z",
        "--note",
        "zwei & <drei> \"vier\"",
        "species=Großer Brachvogel",
        "count=2",
        "behaviour=feeding;moving",
    ]);
    a.ok(&[
        "add",
        "--category",
        "fire",
        "--at",
        "1,2",
        "--time",
        "2026-03-02T00:00:00Z",
        "still-there=yes",
        "note2=0012",
        "lat=not a latitude",
    ]);
    let track = write(
        root.path(),
        "t.geojson",
        r#"{"type":"Feature","properties":{"name":"patrol","time":"2026-03-03T06:00:00Z"},"geometry":{"type":"LineString","coordinates":[[1,2],[1.5,2.5]]}}"#,
    );
    a.ok(&["import", &track, "--category", "path"]);
    every_format(&a, root.path(), &[], true);
}

#[test]
fn earthquakes_pass_every_judge_and_come_back_equal() {
    let Some(data) = shared("data/geo/earthquakes.geojson") else { return };
    let root = folder();
    let a = Device::new(root.path(), "a");
    a.ok(&["new", "Earth"]);
    assert_eq!(a.ok(&["import", data.to_str().unwrap()])["created"], 1707);
    every_format(&a, root.path(), &[], true);
}

#[test]
fn camera_traps_pass_every_judge_and_come_back_equal() {
    let Some(data) = shared("data/camtrapdp/example") else { return };
    let root = folder();
    let a = Device::new(root.path(), "a");
    a.ok(&["new", "Traps"]);
    let places = data.join("deployments.csv");
    a.ok(&["import", places.to_str().unwrap(), "--dataset", "deployments", "--key", "deploymentID", "--mode", "upsert"]);
    let seen = data.join("observations.csv");
    let seen = [
        "import",
        seen.to_str().unwrap(),
        "--dataset",
        "observations",
        "--key",
        "observationID",
        "--mode",
        "upsert",
        "--map",
        "eventStart=time",
    ];
    assert_eq!(a.ok(&seen)["created"], 549);
    every_format(&a, root.path(), &[], false);
}

#[test]
fn positions_can_be_made_coarse_before_they_leave() {
    let root = folder();
    let a = Device::new(root.path(), "a");
    a.ok(&["new", "Secret places"]);
    a.ok(&["add", "--at", "-3.4653,-62.2159"]);
    let file = root.path().join("share.geojson");
    a.ok(&["export", file.to_str().unwrap(), "--round", "0.1deg"]);
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("[-62.25,-3.45]") && !text.contains("2159") && !text.contains("4653"), "{text}");
}

#[test]
fn an_export_can_be_of_an_earlier_moment() {
    let root = folder();
    let (a, b) = pair(root.path());
    let id = a.ok(&["add", "--note", "first"])["observation"]["id"].as_str().unwrap().to_owned();
    let service = a.serve();
    let first = b.ok(&["sync", &service.address])["sync"].as_str().unwrap().to_owned();
    let digest = b.digest();
    a.ok(&["edit", &id, "--note", "second"]);
    a.ok(&["add", "--note", "another"]);
    b.ok(&["sync", &service.address]);
    let file = root.path().join("then.geojson");
    for moment in [first.as_str(), &digest[..12]] {
        b.ok(&["export", file.to_str().unwrap(), "--as-of", moment]);
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains("first") && !text.contains("second") && !text.contains("another"), "{moment}: {text}");
    }
    b.ok(&["export", file.to_str().unwrap(), "--as-of", "2001-01-01"]);
    assert!(!std::fs::read_to_string(&file).unwrap().contains("first"));
    assert_eq!(b.json(&["export", file.to_str().unwrap(), "--as-of", "yesterday"]).0, 1);
}

fn files(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, out) } else { out.push(path) }
    }
}

#[test]
fn every_file_of_strangers_is_taken_or_refused_and_the_store_stays_whole() {
    let root = folder();
    let a = Device::new(root.path(), "a");
    a.ok(&["new", "Torture"]);
    let mut all = Vec::new();
    for part in ["csv", "config/torture", "gpx", "kml", "gpkg", "dwca"] {
        let Some(folder) = shared(&format!("data/{part}")) else { return };
        files(&folder, &mut all);
    }
    for file in all {
        let before = a.digest();
        let (code, said) = a.json(&["import", file.to_str().unwrap()]);
        assert!(matches!(code, 0 | 1 | 3), "{}: {said}", file.display());
        if code == 1 {
            let message = said["error"]["message"].as_str().unwrap();
            assert!(message.contains(file.file_name().unwrap().to_str().unwrap()) && message.len() > 30, "{message}");
            assert_eq!(a.digest(), before, "{}", file.display());
        }
    }
    assert_eq!(a.ok(&["check"])["findings"], json!([]));
}
