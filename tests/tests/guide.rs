//! The guide does what it says: every block of commands in `docs/guide` is run, page by page, in one shell with a home for each device.
//!
//! In a page, comments that a reader does not see set the stage: `<!-- on NAME -->` says whose device what follows is run on, and
//! `<!-- run: COMMANDS -->` runs something. Words in capitals stand for what was kept under that name (`put NAME VALUE`). What would leave
//! this machine is turned inwards: services listen on loopback, `cairn sync` alone names the service's address, the doctor stays offline.

use cairn_tests::cairn;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Words that stand for something of the reader's.
const WORDS: [&str; 9] = ["TICKET", "ADDRESS", "RELAY", "BACKUP", "WORDS", "IMPORT", "OTHER", "ID", "VERSION"];

/// Kinds of blocks that are not commands.
const TEXTS: [&str; 3] = ["toml", "ini", "text"];

const BEFORE: &str = r#"set -euo pipefail
mkdir -p "$ROOT"/{vars,media/stick,media/disk,media/share,srv,var}
put() { printf '%s' "$2" > "$ROOT/vars/$1"; }
var() { cat "$ROOT/vars/$1"; }
field() { sed -E "s/.*\"$1\":\"?([^\",}]*).*/\1/"; }
on() { export HOME="$ROOT/$1"; mkdir -p "$HOME"; cd "$HOME"; }
pids=()
trap 'for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done; wait' EXIT
background() {
  local told="$ROOT/told-${#pids[@]}" listen=(--listen 127.0.0.1:0)
  case "$*" in *--listen*) listen=() ;; esac
  "$CAIRN" "${@:2}" "${listen[@]}" --json > "$told" &
  pids+=($!)
  until [ -s "$told" ]; do kill -0 $! ; done
  if grep -q '"url"' "$told"; then put RELAY "$(field url < "$told")"; else put ADDRESS "$(sed -E 's/.*"listen":\["([^"]*)".*/\1/' "$told")"; fi
}
relay() { background cairn relay serve --data "$ROOT/relay"; }
cairn() {
  case "$*" in
    sync) "$CAIRN" sync "$(var ADDRESS)" ;;
    doctor*) "$CAIRN" "$@" --offline ;;
    *) "$CAIRN" "$@" ;;
  esac
}
"#;

fn guide() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guide")
}

/// A word that stands for something, as the shell looks it up.
fn looked_up(line: &str) -> String {
    let mut out = String::new();
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-' || c == '.' || c == '"' || c == '$';
    let mut rest = line;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        match WORDS.contains(&word) && !out.ends_with("put ") {
            true => out.push_str(&format!("\"$(var {word})\"")),
            false => out.push_str(word),
        }
        let sign = after.chars().next();
        out.extend(sign);
        rest = &after[sign.map_or(0, char::len_utf8)..];
    }
    out
}

fn command(line: &str) -> String {
    let line = looked_up(line);
    let line = line.replace("0.0.0.0:4711", "127.0.0.1:0").replace("0.0.0.0:8443", "127.0.0.1:0");
    let line =
        line.replace("/media/", "$ROOT/media/").replace("/srv/relay", "$ROOT/srv/relay").replace("/var/lib/cairn-relay", "$ROOT/var/relay");
    let serves = (line.starts_with("cairn serve") || line.starts_with("cairn relay serve")) && !line.contains("--install");
    if serves { format!("background {line}") } else { line }
}

/// The page as one script. Says of each line where it stands.
fn script(page: &str, text: &str) -> String {
    let mut out = BEFORE.to_owned();
    let mut within: Option<String> = None;
    for (n, line) in text.lines().enumerate() {
        let at = format!("echo '+ {page}:{}'\n", n + 1);
        match (&within, line.strip_prefix("```")) {
            (None, Some(kind)) => {
                assert!(kind == "sh" || TEXTS.contains(&kind), "{page}:{}: a block must say what it is: sh, or {TEXTS:?}", n + 1);
                within = Some(kind.to_owned());
            }
            (Some(_), Some(_)) => within = None,
            (Some(kind), None) if kind == "sh" => out.push_str(&format!("{at}{}\n", command(line))),
            (Some(_), None) => {}
            (None, None) => {
                let hidden = line.trim().strip_prefix("<!-- ").and_then(|l| l.strip_suffix(" -->"));
                match hidden.map(|h| (h.strip_prefix("on "), h.strip_prefix("run: "))) {
                    Some((Some(device), _)) => out.push_str(&format!("on {device}\n")),
                    Some((_, Some(run))) => out.push_str(&format!("{at}{}\n", command(run))),
                    _ => {}
                }
            }
        }
    }
    out
}

/// Runs a page; one without commands passes.
fn page(name: &str) {
    let text = std::fs::read_to_string(guide().join(name)).unwrap();
    let root = tempfile::tempdir().unwrap();
    let done = Command::new("bash")
        .arg("-c")
        .arg(script(name, &text))
        .env_clear()
        .env("PATH", std::env::var("PATH").unwrap_or_default())
        .env("TMPDIR", std::env::temp_dir())
        .env("CAIRN", cairn())
        .env("CAIRN_KEY_STORE", "file")
        .env("ROOT", root.path())
        .output()
        .expect("bash");
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{name}: {}\n{said}", done.status);
}

#[test]
fn every_page_is_in_the_summary_and_every_page_of_it_is_there() {
    let summary = std::fs::read_to_string(guide().join("SUMMARY.md")).unwrap();
    let mut listed: Vec<String> = summary.split("](").skip(1).map(|l| l.split(')').next().unwrap().to_owned()).collect();
    let pages = std::fs::read_dir(guide()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut there: Vec<String> = pages.filter(|n| n.ends_with(".md") && n != "SUMMARY.md").collect();
    listed.sort();
    there.sort();
    assert_eq!(listed, there);
    for name in &there {
        let text = std::fs::read_to_string(guide().join(name)).unwrap();
        for link in text.split("](").skip(1).map(|l| l.split(')').next().unwrap()).filter(|l| l.ends_with(".md")) {
            assert!(guide().join(link).exists(), "{name}: {link}");
        }
    }
}

#[test]
fn words_in_capitals_are_looked_up_where_they_stand_alone() {
    assert_eq!(looked_up("cairn join TICKET --via TICKETS"), "cairn join \"$(var TICKET)\" --via TICKETS");
    assert_eq!(looked_up("put ID \"$(x)\""), "put ID \"$(x)\"");
    assert_eq!(command("cairn serve --listen 0.0.0.0:4711"), "background cairn serve --listen 127.0.0.1:0");
}

macro_rules! pages {
    ($($name:ident: $file:literal),* $(,)?) => {
        $(#[test] fn $name() { page($file); })*

        #[test]
        fn no_page_is_left_out() {
            let tested = [$($file),*];
            for entry in std::fs::read_dir(guide()).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                assert!(!name.ends_with(".md") || name == "SUMMARY.md" || tested.contains(&name.as_str()), "{name} is run by no test");
            }
        }
    };
}

pages! {
    index: "index.md",
    first_day: "first-day.md",
    field: "field.md",
    office: "office.md",
    lost_phone: "lost-phone.md",
    broken_laptop: "broken-laptop.md",
    wifi: "wifi.md",
    administrators: "administrators.md",
    security: "security.md",
    agreement: "agreement.md",
    care: "care.md",
    tables: "tables.md",
    jobs: "jobs.md",
    configuration: "configuration.md",
    relay: "relay.md",
}
