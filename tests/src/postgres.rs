//! A PostgreSQL server of a test's own: Debian's programs, in a temporary folder, reached by a socket there and by nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A running server; ended when dropped.
pub struct Postgres {
    programs: PathBuf,
    folder: tempfile::TempDir,
}

/// The newest of Debian's servers, or what `CAIRN_POSTGRES_BIN` names.
fn programs() -> Option<PathBuf> {
    if let Ok(named) = std::env::var("CAIRN_POSTGRES_BIN") {
        return Some(named.into());
    }
    let all = fs::read_dir("/usr/lib/postgresql").ok()?.flatten().map(|e| e.path().join("bin"));
    all.filter(|bin| bin.join("initdb").exists()).max()
}

/// The server does not run as root: its own user does.
fn as_user(program: &Path) -> Command {
    let root = fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0);
    if !root {
        return Command::new(program);
    }
    let mut command = Command::new("runuser");
    command.args(["-u", "postgres", "--"]).arg(program);
    command
}

fn done(command: &mut Command) {
    let output = command.current_dir("/").stdin(Stdio::null()).output().expect("it runs");
    assert!(output.status.success(), "{command:?}: {}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
}

impl Postgres {
    /// Starts one, or tells why not.
    pub fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            println!("skipped: no PostgreSQL here (`bash tests/postgres/install.sh` installs Debian's)");
            return None;
        };
        let folder = tempfile::Builder::new().prefix("cairn-pg").tempdir().expect("a folder");
        let mode = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o777);
        fs::set_permissions(folder.path(), mode).expect("it is ours");
        let new = Self { programs, folder };
        done(as_user(&new.programs.join("initdb")).args(["-A", "trust", "-U", "cairn", "-N", "-D"]).arg(new.data()));
        new.run();
        Some(new)
    }

    fn run(&self) {
        let socket = self.folder.path().display();
        let options = format!("-c listen_addresses='' -c unix_socket_directories='{socket}'");
        let mut start = as_user(&self.programs.join("pg_ctl"));
        start.args(["-w", "-o", &options, "-l"]).arg(self.folder.path().join("log")).arg("-D").arg(self.data()).arg("start");
        // It would keep a pipe open for as long as it runs.
        let status = start.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().expect("it runs");
        assert!(status.success(), "{}", fs::read_to_string(self.folder.path().join("log")).unwrap_or_default());
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A new database; its connection string.
    pub fn database(&self, name: &str) -> String {
        done(as_user(&self.programs.join("createdb")).args(["-U", "cairn", "-h"]).arg(self.folder.path()).arg(name));
        format!("host={} user=cairn dbname={name} sslmode=disable", self.folder.path().display())
    }

    /// Ends it as a power cut would, and starts it again.
    pub fn crash_and_restart(&self) {
        done(as_user(&self.programs.join("pg_ctl")).args(["-m", "immediate", "-w", "-D"]).arg(self.data()).arg("stop"));
        self.run();
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // The folder goes with it; a server that does not stop any more has nothing left to hold.
        as_user(&self.programs.join("pg_ctl")).args(["-m", "immediate", "-D"]).arg(self.data()).arg("stop").output().ok();
    }
}
