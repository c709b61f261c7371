//! What people read: help texts and refusals, as snapshots in a hermetic home.

use std::process::Command;

fn run(args: &[&str]) -> String {
    let home = tempfile::tempdir().expect("a folder");
    let out = Command::new(env!("CARGO_BIN_EXE_cairn"))
        .env_clear()
        .env("CAIRN_HOME", home.path())
        .env("CAIRN_KEY_STORE", "file")
        .env("COLUMNS", "100")
        .args(args)
        .output()
        .expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(&home.path().display().to_string(), "HOME");
    format!("$ cairn {}\n{}{}exit {}", args.join(" "), text(&out.stdout), text(&out.stderr), out.status.code().unwrap_or(-1))
}

#[test]
fn help() {
    insta::assert_snapshot!(run(&["--help"]));
    for verb in ["add", "list", "import", "sync", "serve", "invite", "bundle", "remote", "join", "conflicts", "purge", "doctor", "backup"] {
        insta::assert_snapshot!(format!("help-{verb}"), run(&[verb, "--help"]));
    }
}

#[test]
fn refusals() {
    insta::assert_snapshot!("no-project", run(&["status"]));
    insta::assert_snapshot!("no-project-json", run(&["status", "--json"]));
    insta::assert_snapshot!("bad-ticket", run(&["join", "hello"]));
    insta::assert_snapshot!("damaged-ticket", run(&["join", "cairn1abcdefgh"]));
    insta::assert_snapshot!("usage", run(&["add", "species"]));
}
