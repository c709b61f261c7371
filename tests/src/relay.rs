//! A relay of a test's own: the real binary, on loopback.

use crate::cairn;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A running `cairn relay serve`, ended by process id when dropped.
pub struct Relay {
    child: Child,
    data: PathBuf,
    /// As `sync` takes it, with the pin.
    pub url: String,
    /// `IP:PORT`.
    pub address: String,
}

impl Relay {
    /// Over this folder, on this port (0 for any), with more options.
    pub fn start(data: &Path, port: u16, more: &[&str]) -> Self {
        Self::try_start(data, port, more).unwrap_or_else(|e| panic!("the relay does not start: {e}"))
    }

    /// The same, where it may not.
    pub fn try_start(data: &Path, port: u16, more: &[&str]) -> Result<Self, String> {
        Self::run(Command::new(cairn()), data, port, more)
    }

    /// With a disk of its own for its folder, of this size; root only, else `None`.
    pub fn on_a_small_disk(data: &Path, size: &str) -> Option<Self> {
        let mut command = Command::new("unshare");
        let script = format!("mount -t tmpfs -o size={size} tmpfs \"$0\" && exec \"$@\"");
        command.args(["-m", "sh", "-c", &script]).arg(data).arg(cairn());
        std::fs::create_dir_all(data).expect("a folder");
        Self::run(command, data, 0, &[]).inspect_err(|e| println!("skipped: no disk of its own could be mounted ({e})")).ok()
    }

    fn run(mut command: Command, data: &Path, port: u16, more: &[&str]) -> Result<Self, String> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.env_clear().env("PATH", path).args(["relay", "serve", "--json", "--data"]);
        command.arg(data).args(["--listen", &format!("127.0.0.1:{port}")]).args(more);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().expect("it starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a ready line");
        let ready: Value = serde_json::from_str(&line).unwrap_or(Value::Null);
        let text = |v: &Value| v.as_str().map(str::to_owned);
        match (text(&ready["data"]["url"]), text(&ready["data"]["listen"][0])) {
            (Some(url), Some(address)) => Ok(Self { child, data: data.to_owned(), url, address }),
            _ => {
                child.wait().ok();
                Err(line)
            }
        }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.rsplit(':').next().and_then(|p| p.parse().ok()).expect("a port")
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// kill -9, and what it takes to start it again: folder and port.
    pub fn kill(mut self) -> (PathBuf, u16) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
        (self.data.clone(), self.port())
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
