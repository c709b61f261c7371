//! Homes and real processes for the end-to-end tests.

pub mod cable;
pub mod postgres;
pub mod relay;

use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// The binary under test, built beside the program that asks (a test lies one folder deeper, in `deps`).
pub fn cairn() -> PathBuf {
    let own = std::env::current_exe().expect("a program has a path");
    let built = own.ancestors().skip(1).take(2).map(|dir| dir.join("cairn")).find(|path| path.exists());
    built.unwrap_or_else(|| panic!("no cairn beside {}: build it first (`cargo build`, or `cargo test --workspace`)", own.display()))
}

/// The binary of version 0.1, as `CAIRN_0_1` names it; `None`, with a word, where it is absent.
pub fn version_0_1() -> Option<PathBuf> {
    let path = std::env::var_os("CAIRN_0_1").map(PathBuf::from).filter(|path| path.exists());
    if path.is_none() {
        println!("skipped: CAIRN_0_1 names no binary of version 0.1; `.ci/full` builds it");
    }
    path
}

/// One device with its own home.
pub struct Device {
    home: PathBuf,
    program: PathBuf,
    envs: Vec<(String, String)>,
}

/// A running `cairn serve`, ended by process id when dropped.
pub struct Service {
    child: Child,
    /// `IP:PORT` as `sync` takes it.
    pub address: String,
}

impl Device {
    /// In a folder of `root`.
    pub fn new(root: &Path, name: &str) -> Self {
        Self { home: root.join(name), program: cairn(), envs: Vec::new() }
    }

    /// With another binary.
    pub fn by(mut self, program: &Path) -> Self {
        self.program = program.to_owned();
        self
    }

    /// With one more environment variable for every command.
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.envs.push((key.into(), value.into()));
        self
    }

    /// The home.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// A command in a hermetic environment.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env_clear()
            .env("CAIRN_KEY_STORE", "file")
            .env("CAIRN_HOME", &self.home)
            .env("TMPDIR", std::env::temp_dir())
            .args(args)
            .stdin(Stdio::null());
        command.envs(self.envs.iter().map(|(k, v)| (k, v)));
        command
    }

    /// Runs with `--json`; gives exit code and the object.
    pub fn json(&self, args: &[&str]) -> (i32, Value) {
        let Output { status, stdout, stderr } = self.command(args).arg("--json").output().expect("it runs");
        let text = String::from_utf8(stdout).expect("UTF-8");
        let parsed = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{args:?}: {e}: {text} {}", String::from_utf8_lossy(&stderr)));
        (status.code().unwrap_or(-1), parsed)
    }

    /// Runs, expects exit code 0, gives `data`.
    pub fn ok(&self, args: &[&str]) -> Value {
        let (code, reply) = self.json(args);
        assert_eq!((code, &reply["ok"]), (0, &Value::Bool(true)), "{args:?}: {reply}");
        reply["data"].clone()
    }

    /// `status.digest`.
    pub fn digest(&self) -> String {
        self.ok(&["status"])["digest"].as_str().expect("a digest").to_owned()
    }

    /// Everything listed, deleted ones too.
    pub fn everything(&self) -> Value {
        self.ok(&["list", "--limit", "0", "--deleted"])["observations"].clone()
    }

    /// Starts a service on loopback and waits for its ready line.
    pub fn serve(&self) -> Service {
        let mut child = self
            .command(&["serve", "--listen", "127.0.0.1:0", "--json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a ready line");
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
        Service { child, address: ready["data"]["listen"][0].as_str().expect("an address").to_owned() }
    }

    /// A ticket for one device.
    pub fn ticket(&self) -> String {
        self.ok(&["invite"])["ticket"].as_str().expect("a ticket").to_owned()
    }
}

impl Service {
    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGTERM, and until it has ended.
    pub fn stop(mut self) {
        let told = Command::new("kill").args(["-TERM", &self.pid().to_string()]).status().expect("kill is there");
        assert!(told.success() && self.child.wait().expect("it ends").success(), "a service that is told to stop ends in order");
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Material beside the checkout; `None`, with a word, where it is absent.
pub fn shared(part: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join(part);
    if !path.exists() {
        println!("skipped: {} is not here", path.display());
    }
    path.exists().then_some(path)
}

/// A CSV of `count` observations, about 400 bytes of JSON each.
pub fn write_rows(path: &Path, from: usize, count: usize) {
    let mut out = std::io::BufWriter::new(std::fs::File::create(path).expect("a file"));
    let fields: Vec<String> = (0..10).map(|n| format!("field{n}")).collect();
    writeln!(out, "lat,lon,time,{}", fields.join(",")).expect("written");
    for n in from..from + count {
        let place = format!("{:.5},{:.5}", -3.0 - (n % 1000) as f64 / 997.0, -62.0 - (n % 777) as f64 / 771.0);
        let cells: Vec<String> = (0..10).map(|f| format!("word{} of {n}", (n * 7 + f * 13) % 97)).collect();
        writeln!(out, "{place},2025-{:02}-{:02}T10:{:02}:00Z,{}", n % 12 + 1, n % 28 + 1, n % 60, cells.join(",")).expect("written");
    }
}

/// Two devices of one project.
pub fn pair(root: &Path) -> (Device, Device) {
    let (a, b) = (Device::new(root, "a"), Device::new(root, "b"));
    a.ok(&["new", "River", "--name", "Ana"]);
    b.ok(&["join", &a.ticket(), "--name", "Bo"]);
    (a, b)
}
