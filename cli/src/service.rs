//! `serve --install`: a unit of systemd for this user.

use crate::args::{Args, ServeArgs};
use crate::run::{absolute, home};
use cairn_node::{NodeError, Reply};
use serde_json::json;
use std::path::{Path, PathBuf};

/// As systemd reads a word of a command: its own signs and quotes mean themselves.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:+@,".contains(c);
    if word.chars().all(plain) && !word.is_empty() {
        return word.to_owned();
    }
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    format!("\"{escaped}\"")
}

fn units() -> Result<PathBuf, NodeError> {
    let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|p| p.is_absolute());
    let config = config.or_else(|| std::env::home_dir().map(|h| h.join(".config")));
    let missing = || NodeError::Input { message: "no home directory to put the unit into".into() };
    Ok(config.ok_or_else(missing)?.join("systemd/user"))
}

/// How another program calls this one for this project: nothing is left to where it is started, or as whom.
pub fn words(args: &Args, home: &Path, project: &str) -> Result<Vec<String>, NodeError> {
    let program = std::env::current_exe().map_err(|e| NodeError::File { path: "cairn".into(), message: e.to_string() })?;
    let mut words = vec![absolute(&program)?, "--home".into(), absolute(home)?, "--project".into(), project.to_owned()];
    if let Some(file) = &args.passphrase_file {
        words.extend(["--passphrase-file".into(), absolute(file)?]);
    }
    Ok(words)
}

fn command(args: &Args, serve: &ServeArgs, home: &Path, project: &str) -> Result<String, NodeError> {
    let mut words = words(args, home, project)?;
    words.extend(["serve".into(), "--listen".into(), serve.listen.to_string()]);
    if serve.no_discovery {
        words.push("--no-discovery".into());
    }
    if let Some(most) = serve.max_bytes {
        words.extend(["--max-bytes".into(), most.to_string()]);
    }
    Ok(words.iter().map(|w| quoted(w)).collect::<Vec<_>>().join(" "))
}

/// Writes the unit, or shows it. Turning it on is left to the person: it changes what this machine does at every login.
pub fn install(args: &Args, serve: &ServeArgs) -> Result<Reply, NodeError> {
    let home = home(args)?;
    let folder = home.project(args.project.as_deref())?;
    let id = folder.file_name().map(|f| f.to_string_lossy().into_owned()).unwrap_or_default();
    let name = std::fs::read_to_string(folder.join("name")).unwrap_or_default();
    if home.key_place() == Some(cairn_node::KeyPlace::Passphrase) && args.passphrase_file.is_none() {
        return Err(NodeError::Refused {
            message: "this device's key is under a passphrase, and the service could not ask for it".into(),
            remedy: "give `--passphrase-file FILE` too: a file that only you can read".into(),
        });
    }
    let command = command(args, serve, home.path(), &id)?;
    // Writing is stopped by the signal in an orderly way; what comes back later is found by the service itself.
    let text = format!(
        "[Unit]\nDescription=Cairn: {}\n\n[Service]\nExecStart={command}\nRestart=on-failure\nRestartSec=5\nTimeoutStopSec=60\n\
         NoNewPrivileges=yes\n\n[Install]\nWantedBy=default.target\n",
        name.trim().replace(['\n', '%'], " ")
    );
    let unit = format!("cairn-{id}.service");
    let path = units()?.join(&unit);
    if !serve.dry_run {
        let fault = |e: std::io::Error| NodeError::File { path: path.display().to_string(), message: e.to_string() };
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).map_err(fault)?;
        std::fs::write(&path, &text).map_err(fault)?;
    }
    let then = format!("systemctl --user daemon-reload && systemctl --user enable --now {unit}");
    let mut reply = Reply {
        data: json!({"unit": path.display().to_string(), "text": text, "then": then, "written": !serve.dry_run}),
        ..Reply::default()
    };
    reply.warnings.push("without a login it starts only after `loginctl enable-linger`".into());
    if serve.listen.port() == 0 {
        reply.warnings.push("it takes another port at every start: for others to dial it, give one (`--listen 0.0.0.0:4711`)".into());
    }
    Ok(reply)
}

/// What was written, for people.
pub fn installed(d: &serde_json::Value) -> String {
    let did = if d["written"] == true { "wrote" } else { "would write" };
    let text = |key: &str| d[key].as_str().unwrap_or_default().trim_end().to_owned();
    format!("{did} {}\n\n{}\n\nthen: {}", text("unit"), text("text"), text("then"))
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn words_reach_the_service_as_they_are() {
        assert_eq!(quoted("/home/ana/.cairn"), "/home/ana/.cairn");
        assert_eq!(quoted("/home/ana/my $home 100%"), "\"/home/ana/my $$home 100%%\"");
        assert_eq!(quoted("a\"b\\c"), "\"a\\\"b\\\\c\"");
    }
}
