//! Staying on: times of remotes, one way, bytes that may pass, the doctor, and services of other versions.

use cairn_tests::relay::Relay;
use cairn_tests::{Device, pair};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn path(of: &Path, name: &str) -> String {
    of.join(name).to_str().unwrap().to_owned()
}

/// Waits for what another process does, and says what it waited for in vain.
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < end, "in vain: {what}");
        std::thread::yield_now();
    }
}

fn remote(device: &Device, name: &str) -> Value {
    let told = device.ok(&["remote"]);
    told["remotes"].as_array().unwrap().iter().find(|r| r["name"] == name).unwrap().clone()
}

#[test]
fn a_remote_is_visited_one_way_and_at_its_times_and_caught_up_once() {
    let root = folder();
    let (a, b) = pair(root.path());
    std::fs::create_dir(root.path().join("share")).unwrap();
    let share = path(root.path(), "share");
    assert_eq!(a.json(&["remote", "add", "x", &share, "--every", "soon"]).0, 1);
    assert_eq!(a.json(&["remote", "add", "x", "127.0.0.1:1", "--push"]).0, 1, "a link goes both ways");
    assert_eq!(a.json(&["remote", "add", "x", &share, "--at", "07:00", "--every", "1h"]).0, 2);
    a.ok(&["remote", "add", "share", &share, "--push", "--at", "07:00"]);
    let row = remote(&a, "share");
    assert_eq!((&row["way"], &row["when"], &row["last"]), (&json!("push"), &json!("daily 07:00"), &Value::Null), "{row}");
    assert!(row["next"].as_str().unwrap().contains("T07:00:00"), "{row}");
    b.ok(&["add", "--at", "1,1"]);
    b.ok(&["sync", &share]);
    a.ok(&["add", "--at", "2,2"]);
    let done = a.ok(&["sync", "--all"]);
    assert_eq!((done["targets"].as_array().unwrap().len(), &done["targets"][0]["received"]["batches"]), (1, &json!(0)), "{done}");
    assert_eq!((a.ok(&["list"])["count"].clone(), b.ok(&["list"])["count"].clone()), (json!(1), json!(1)));
    b.ok(&["sync", &share]);
    assert_eq!(b.ok(&["list"])["count"], 2, "what Ana pushed");
    assert_eq!(a.json(&["sync", "share", "--pull"]).0, 0, "what is typed counts more");
    assert_eq!(a.ok(&["list"])["count"], 2);

    // A service visits by the clock, and only then.
    a.ok(&["remote", "add", "share", &share, "--every", "2s"]);
    b.ok(&["add", "--at", "3,3"]);
    b.ok(&["sync", &share]);
    let service = a.serve();
    until("the visit by its time", || a.ok(&["list"])["count"] == 3);
    assert!(remote(&a, "share")["last"].is_string());
    drop(service);
    a.ok(&["remote", "add", "share", &share]);
    assert_eq!(remote(&a, "share")["when"], "always", "another rule takes its place");
}

#[test]
fn a_service_keeps_a_link_with_an_address_and_takes_it_up_again() {
    let root = folder();
    let (a, b) = pair(root.path());
    let service = b.serve();
    a.ok(&["remote", "add", "bo", &service.address]);
    let port = service.address.clone();
    let own = a.serve();
    a.ok(&["add", "--at", "1,1"]);
    until("the link", || b.ok(&["list"])["count"] == 1);
    service.kill();
    a.ok(&["add", "--at", "2,2"]);
    let mut again = b.command(&["serve", "--listen", &port, "--json"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(again.stdout.take().unwrap()).read_line(&mut line).unwrap();
    until("the link again", || b.ok(&["list"])["count"] == 2);
    again.kill().unwrap();
    again.wait().unwrap();
    drop(own);
}

/// A relay that takes connections and never says a word: a visit by the clock hangs there, and nothing else does.
#[test]
fn a_visit_that_hangs_holds_up_nobody_and_the_service_ends_when_told() {
    let root = folder();
    let (a, _) = pair(root.path());
    let relay = Relay::start(&root.path().join("relay"), 0, &[]);
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port().to_string();
    let url = relay.url.replace(&relay.port().to_string(), &port);
    a.ok(&["remote", "add", "silent", &url, "--every", "1s"]);
    let service = a.serve();
    let (mut line, _) = silent.accept().unwrap();
    let mut first = [0; 1];
    line.read_exact(&mut first).unwrap();
    // The visit is under way, and waits for an answer.
    let began = Instant::now();
    a.ok(&["add", "--at", "1,1"]);
    assert_eq!(a.ok(&["list"])["count"], 1);
    service.stop();
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}

#[test]
fn a_service_that_is_stopped_is_not_waited_for_for_ever() {
    let root = folder();
    let (a, _) = pair(root.path());
    let service = a.serve();
    let signal =
        |name: &str| assert!(std::process::Command::new("kill").args([name, &service.pid().to_string()]).status().unwrap().success());
    signal("-STOP");
    let (code, told) = a.json(&["list", "--wait", "1"]);
    assert_eq!((code, &told["error"]["kind"]), (11, &json!("in-use")), "{told}");
    assert!(told["error"]["message"].as_str().unwrap().contains(&service.pid().to_string()), "{told}");
    signal("-CONT");
    assert_eq!(a.ok(&["list"])["count"], 0);
}

#[test]
fn who_listens_to_a_service_that_is_killed_is_told() {
    let root = folder();
    let (a, _) = pair(root.path());
    let service = a.serve();
    let mut listening = a.command(&["events", "--json"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(listening.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.next().unwrap().contains("\"ready\""));
    service.kill();
    let last: Value = serde_json::from_str(&lines.last().unwrap()).unwrap();
    assert_eq!((listening.wait().unwrap().code(), &last["ok"]), (Some(1), &json!(false)), "{last}");
    assert_eq!(a.json(&["events"]).1["error"]["kind"], "refused", "nobody is there any more");
}

#[test]
fn a_metered_line_stops_where_its_bytes_end_and_goes_on_later() {
    let root = folder();
    let (a, b) = pair(root.path());
    let relay = Relay::start(&root.path().join("relay"), 0, &[]);
    let rows = path(root.path(), "rows.csv");
    cairn_tests::write_rows(Path::new(&rows), 0, 3_000);
    a.ok(&["import", &rows]);
    for device in [&a, &b] {
        device.ok(&["remote", "add", "relay", &relay.url]);
    }
    let (code, told) = a.json(&["sync", "relay", "--max-bytes", "20K"]);
    assert_eq!((code, &told["data"]["targets"][0]["state"]), (8, &json!("budget")), "{told}");
    // What was given stands: each visit goes on where the one before stopped.
    let mut visits = 1;
    loop {
        visits += 1;
        let (code, told) = a.json(&["sync", "relay", "--max-bytes", "20K"]);
        if code == 0 {
            break;
        }
        let sent = told["data"]["targets"][0]["sent"]["bytes"].as_u64().unwrap();
        assert!(code == 8 && visits < 40 && sent > 0 && sent < 150_000, "{told}");
    }
    assert!(visits > 2, "it fitted at once");
    let mut visits = 0;
    loop {
        visits += 1;
        let (code, told) = b.json(&["sync", "relay", "--max-bytes", "60K"]);
        if code == 0 {
            break;
        }
        assert!(code == 8 && visits < 60, "{told}");
    }
    assert!(visits > 1, "it fitted at once");
    // Ana hears that Bo is in, and Bo of what she says to that.
    a.ok(&["sync", "relay"]);
    b.ok(&["sync", "relay"]);
    assert_eq!((b.ok(&["list"])["count"].clone(), a.digest()), (json!(3_000), b.digest()));

    // A service that has used up its day says so once and waits.
    a.ok(&["add", "--at", "1,1"]);
    let mut service = a
        .command(&["serve", "--listen", "127.0.0.1:0", "--max-bytes", "100", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(service.stdout.take().unwrap()).lines();
    let told = lines.by_ref().map_while(Result::ok).find(|l| l.contains("\"carried\"")).expect("a word about the relay");
    assert!(told.contains("\"budget\""), "{told}");
    service.kill().unwrap();
    service.wait().unwrap();
}

/// A link has no pieces that could be asked for one by one: it is ended when the bytes are used up, and what came by then is kept.
#[test]
fn a_metered_link_keeps_what_came_and_goes_on_later() {
    let root = folder();
    let (a, b) = pair(root.path());
    let rows = path(root.path(), "rows.csv");
    cairn_tests::write_rows(Path::new(&rows), 0, 20_000);
    a.ok(&["import", &rows]);
    let service = a.serve();
    let (mut visits, mut had) = (0, 0);
    loop {
        visits += 1;
        let (code, told) = b.json(&["sync", &service.address, "--max-bytes", "150K"]);
        let now = b.ok(&["list"])["count"].as_u64().unwrap();
        if code == 0 {
            break;
        }
        let row = &told["data"]["targets"][0];
        assert_eq!((code, &row["state"], &told["error"]["kind"]), (8, &json!("budget"), &json!("budget")), "{told}");
        assert!(now > had && visits < 40, "{now} after {had}: {row}");
        assert_eq!(row["observations"]["new"].as_u64(), Some(now - had), "{row}");
        had = now;
    }
    assert!(visits > 1, "it fitted at once");
    assert_eq!(b.ok(&["list"])["count"], 20_000);
}

#[test]
fn what_a_service_cannot_have_is_told_with_a_next_step() {
    let root = folder();
    let (a, b) = pair(root.path());
    let service = a.serve();
    let (code, told) = b.json(&["serve", "--listen", &service.address]);
    assert_eq!((code, &told["error"]["kind"]), (1, &json!("refused")), "{told}");
    assert!(told["error"]["hint"].as_str().unwrap().contains("another port"), "{told}");
    let gone = path(root.path(), "nas/cairn");
    assert!(b.json(&["backup", "create", &gone, "--keep", "14"]).1["error"]["hint"].as_str().unwrap().contains("make it first"));
    assert!(!Path::new(&gone).exists());
    assert_eq!(b.json(&["remote", "add", "x", "127.0.0.1:99999"]).0, 1);
    let (code, told) = b.json(&["remote", "add", "friend", "nobody"]);
    assert!(code == 0 && told["warnings"].to_string().contains("no device `nobody`"), "{told}");
    assert!(b.json(&["remote", "rm", "x"]).1["error"]["hint"].as_str().unwrap().contains("cairn remote"));
}

#[test]
fn a_unit_for_systemd_is_written_and_not_turned_on() {
    let root = folder();
    let a = Device::new(&root.path().join("a home"), "a").env("XDG_CONFIG_HOME", &path(root.path(), "config"));
    a.ok(&["new", "River 100%", "--name", "Ana"]);
    let shown = a.ok(&["serve", "--install", "--dry-run", "--listen", "0.0.0.0:4711"]);
    let unit = PathBuf::from(shown["unit"].as_str().unwrap());
    assert!(!unit.exists() && shown["then"].as_str().unwrap().contains("enable --now"), "{shown}");
    a.ok(&["serve", "--install", "--listen", "0.0.0.0:4711", "--max-bytes", "20M"]);
    let text = std::fs::read_to_string(&unit).unwrap();
    assert!(text.contains("serve --listen 0.0.0.0:4711 --max-bytes 20000000"), "{text}");
    assert!(text.contains(&format!("--home \"{}\"", a.home().display())), "a folder with a blank: {text}");
    let mut verify = std::process::Command::new("systemd-analyze");
    verify.args(["verify", "--user"]).arg(&unit).env("XDG_RUNTIME_DIR", root.path());
    if let Ok(verified) = verify.output() {
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    } else {
        println!("skipped: systemd-analyze is not here");
    }
}

#[test]
fn a_service_of_another_version_is_told_from_a_broken_one_and_a_socket_left_behind_does_no_harm() {
    let root = folder();
    let (a, _) = pair(root.path());
    let service = a.serve();
    let project = std::fs::read_dir(a.home().join("projects")).unwrap().next().unwrap().unwrap().path();
    let socket = project.join("serve.sock");
    let ask = |line: &str| {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.write_all(line.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(ask("{\"verb\":\"status\",\"vocabulary\":99}\n").contains("older than this command"));
    assert!(ask("{\"verb\":\"status\",\"vocabulary\":1}\n").contains("digest"));
    assert!(ask("nonsense\n").contains("not a request"));
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let (code, told) = a.json(&["serve", "--listen", "127.0.0.1:0", "--wait", "0"]);
    assert_eq!((code, &told["error"]["kind"]), (11, &json!("in-use")), "two services on one home: {told}");
    service.kill();
    assert!(socket.exists(), "left behind by the kill");
    assert_eq!(a.ok(&["list"])["count"], 0);
    drop(a.serve());
    // A home deep down: a socket's path holds some hundred bytes.
    let deep = Device::new(&root.path().join("a-folder-with-a-long-name-".repeat(6)), "deep");
    deep.ok(&["new", "Deep"]);
    let service = deep.serve();
    assert_eq!(deep.ok(&["list"])["count"], 0);
    drop(service);
}

#[test]
fn the_doctor_finds_what_is_wrong_and_its_report_has_no_secrets() {
    let root = folder();
    let (a, b) = pair(root.path());
    a.ok(&["add", "--at", "1.25,2.5", "--note", "a secret place"]);
    let looks = |told: &Value| told["looks"].as_array().unwrap().clone();
    let (code, told) = a.json(&["doctor", "--offline"]);
    assert_eq!((code, &told["data"]["findings"]), (0, &json!(0)), "{told}");
    for topic in ["disk", "clock", "keys", "store", "backups"] {
        assert!(looks(&told["data"]).iter().any(|l| l["topic"] == topic), "{topic}: {told}");
    }
    // A key that others can read, a device whose clock is ahead, and a store that is not whole.
    use std::os::unix::fs::PermissionsExt;
    let key = a.home().join("device.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    if std::process::Command::new("faketime").arg("--version").output().is_ok() {
        let mut ahead = std::process::Command::new("faketime");
        ahead.args(["2036-01-01 00:00:00"]).arg(cairn_tests::cairn()).args(["add", "--at", "3,3"]);
        ahead.env("CAIRN_HOME", b.home()).env("CAIRN_KEY_STORE", "file");
        assert!(ahead.output().unwrap().status.success());
        let bundle = path(root.path(), "b.cairn");
        b.ok(&["bundle", "create", &bundle]);
        a.ok(&["sync", &bundle, "--pull"]);
    } else {
        println!("skipped: faketime is not here");
    }
    let report = path(root.path(), "report.zip");
    let (code, told) = a.json(&["doctor", "--offline", "--report", &report]);
    let findings: Vec<Value> = looks(&told["data"]).into_iter().filter(|l| l["state"] == "finding").collect();
    assert_eq!(code, 7, "{told}");
    assert!(findings.iter().any(|l| l["topic"] == "keys" && l["remedy"].as_str().unwrap().starts_with("chmod 600")), "{findings:?}");
    if findings.len() > 1 {
        assert!(findings.iter().any(|l| l["topic"] == "clock" && l["what"].as_str().unwrap().contains("Bo wrote at 2036")), "{findings:?}");
    }
    let mut zip = zip::ZipArchive::new(std::fs::File::open(&report).unwrap()).unwrap();
    let seed = std::fs::read_to_string(&key).unwrap();
    for n in 0..zip.len() {
        let mut part = String::new();
        zip.by_index(n).unwrap().read_to_string(&mut part).unwrap();
        serde_json::from_str::<Value>(&part).expect("JSON");
        for secret in ["Ana", "Bo", "River", "secret place", seed.trim(), a.home().to_str().unwrap()] {
            assert!(!part.contains(secret), "{secret} in {part}");
        }
    }
    assert_eq!(a.json(&["doctor", "--offline", "--report", &report]).0, 1, "nothing is written over");
    // A running service answers it as well.
    let service = a.serve();
    let (code, told) = a.json(&["doctor", "--offline", "--quick"]);
    assert!(code == 7 && !looks(&told["data"]).iter().any(|l| l["topic"] == "store"), "{told}");
    drop(service);
}
