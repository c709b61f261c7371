//! The device's key in the platform's key store, over a session bus made for the test. The store behind it is a small one of
//! `tests/keystore/service.py`; what the program says to it is the real protocol.

use cairn_tests::Device;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

struct Bus {
    daemon: Child,
    service: Child,
    address: String,
}

impl Drop for Bus {
    fn drop(&mut self) {
        for child in [&mut self.service, &mut self.daemon] {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    line.trim().to_owned()
}

/// `None`, with a printed reason, where the pieces are missing.
fn bus(root: &Path, locked: bool) -> Option<Bus> {
    const PYTHON: &str = "/usr/bin/python3";
    let has = |program: &str, args: &[&str]| {
        Command::new(program).args(args).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
    };
    if !has("dbus-daemon", &["--version"]) || !has(PYTHON, &["-c", "import dbus, gi, dbus.mainloop.glib"]) {
        println!("skipped: dbus-daemon, python3-dbus and python3-gi are needed");
        return None;
    }
    let address = format!("unix:path={}", root.join("bus").display());
    let mut daemon = Command::new("dbus-daemon")
        .args(["--session", "--nofork", "--print-address", "--address", &address])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let address = first_line(&mut daemon);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("keystore/service.py");
    let mut service = Command::new(PYTHON)
        .arg(script)
        .args(locked.then_some("locked"))
        .env("DBUS_SESSION_BUS_ADDRESS", &address)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    assert_eq!(first_line(&mut service), "ready");
    Some(Bus { daemon, service, address })
}

fn device(root: &Path, name: &str, address: &str) -> Device {
    Device::new(root, name).env("CAIRN_KEY_STORE", "auto").env("DBUS_SESSION_BUS_ADDRESS", address)
}

#[test]
fn the_key_is_in_the_open_key_store_and_nowhere_else() {
    let root = tempfile::tempdir().unwrap();
    let Some(bus) = bus(root.path(), false) else { return };
    let a = device(root.path(), "Ana", &bus.address);
    let (_, made) = a.json(&["new", "River", "--name", "Ana"]);
    assert_eq!(made["warnings"].as_array().unwrap().len(), 0, "{made}");
    let file = std::fs::read_to_string(a.home().join("device.key")).unwrap();
    assert!(file.starts_with("cairn-key-store-1 ") && file.trim().len() == 18 + 32, "{file}");
    a.ok(&["add", "note=one"]);
    let digits = a.ok(&["whoami"])["digits"].clone();
    // Copied to a machine without that store, the home opens nothing and loses nothing.
    let elsewhere = device(root.path(), "Ana", "unix:path=/nonexistent");
    let (code, refused) = elsewhere.json(&["status"]);
    assert_eq!((code, &refused["error"]["kind"]), (5, &serde_json::Value::from("key-store")), "{refused}");
    // Under a passphrase the key leaves the store.
    let passphrase = root.path().join("passphrase");
    std::fs::write(&passphrase, "correct horse").unwrap();
    a.ok(&["passphrase", "set", "--new", passphrase.to_str().unwrap()]);
    let moved = device(root.path(), "Ana", "unix:path=/nonexistent").env("CAIRN_PASSPHRASE_FILE", passphrase.to_str().unwrap());
    assert_eq!(moved.ok(&["whoami"])["digits"], digits);
    std::fs::write(a.home().join("device.key"), file).unwrap();
    let (_, gone) = a.json(&["status"]);
    assert!(gone["error"]["message"].as_str().unwrap().contains("does not have"), "{gone}");
}

/// No service, or one that would have to ask its owner: the file, said once, and never a prompt.
#[test]
fn a_locked_or_missing_key_store_means_the_file_said_once() {
    let root = tempfile::tempdir().unwrap();
    let Some(bus) = bus(root.path(), true) else { return };
    for (name, address) in [("locked", bus.address.as_str()), ("missing", "unix:path=/nonexistent")] {
        let a = device(root.path(), name, address);
        let (code, made) = a.json(&["new", "River", "--name", "Ana"]);
        assert_eq!(code, 0);
        assert!(made["warnings"][0].as_str().unwrap().contains("no key store is open"), "{name}: {made}");
        assert_eq!(std::fs::read_to_string(a.home().join("device.key")).unwrap().len(), 64, "{name}");
        let (_, second) = a.json(&["new", "Second"]);
        assert_eq!(second["warnings"].as_array().unwrap().len(), 0, "{name}: said once");
    }
}
