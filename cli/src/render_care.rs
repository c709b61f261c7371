//! Looking back, going back, and how things stand, for people.

use crate::args::Verb;
use crate::args_care::{BackupVerb, LogArgs, UndoArgs};
use crate::render::{columns, rows, table, text};
use serde_json::Value;

fn short(v: &Value, letters: usize) -> String {
    text(v).chars().take(letters).collect()
}

fn entry(e: &Value) -> String {
    let set: Vec<String> = rows(e, "set")
        .iter()
        .map(|s| if s["value"].is_null() { format!("-{}", text(&s["key"])) } else { format!("{}={}", text(&s["key"]), text(&s["value"])) })
        .collect();
    let act = e["kind"].as_str().filter(|k| *k != "edits").map(|k| format!(" {k} {}", short(&e["act"], 8))).unwrap_or_default();
    let by = e["sync"].as_str().map(|n| format!(" sync {n}")).unwrap_or_default();
    let purged = if e["purged"] == true { " (its content was purged)" } else { "" };
    let came = act + &by + purged;
    let aside = if e["set_aside"] == true { "  (set aside)" } else { "" };
    let doubt = e["doubt"].as_str().map(|d| format!("\n    ? {d}")).unwrap_or_default();
    format!(
        "{}  {}@{}  {}{came}{aside}\n    {}{doubt}",
        text(&e["time"]),
        short(&e["id"], 8),
        short(&e["version"], 8),
        text(&e["name"]),
        set.join(" ")
    )
}

/// Replies to the verbs of this file.
pub fn reply(verb: &Verb, d: &Value) -> String {
    match verb {
        Verb::Log(args) => log(args, d),
        Verb::Undo(args) => undo(args, d),
        Verb::Redo { .. } => redo(d),
        Verb::Revert(_) => revert(d),
        Verb::Backup { what } => backup(what, d),
        _ => diff(d),
    }
}

fn log(args: &LogArgs, d: &Value) -> String {
    if args.verify {
        let count = |what: &str| d[what].as_u64().unwrap_or(0);
        let walked = format!(
            "{} operations, {} batches, {} changes of {} devices looked at",
            count("operations"),
            count("batches"),
            count("changes"),
            count("devices")
        );
        return match rows(d, "findings").is_empty() {
            true => format!("{walked}: each is signed and follows the one before"),
            false => format!("{walked}\n{}", columns(d, "findings", &["place", "what"])),
        };
    }
    rows(d, "entries").iter().map(entry).collect::<Vec<_>>().join("\n")
}

fn diff(d: &Value) -> String {
    let changes = rows(d, "changes");
    if changes.is_empty() {
        return "they say the same".into();
    }
    columns(d, "changes", &["key", "from", "to"])
}

fn undo(args: &UndoArgs, d: &Value) -> String {
    if args.sync.is_none() {
        let syncs = rows(d, "syncs");
        if syncs.is_empty() {
            return "no sync took place here yet".into();
        }
        let names = ["sync", "time", "with", "new", "changed", "deleted", "set_aside"];
        let cells: Vec<Vec<String>> = syncs.iter().map(|s| names.iter().map(|n| text(&s[*n])).collect()).collect();
        return table(&names, &cells);
    }
    undone(d)
}

/// What an undo did.
pub fn undone(d: &Value) -> String {
    let kept = d["kept"].as_u64().filter(|n| *n > 0).map(|n| format!("; {n} changes stay, because later work here builds on them"));
    let kept = kept.unwrap_or_default();
    if d["changes"] == 0 {
        return format!("nothing more of sync {} can be set aside{kept}; in all, {} changes are", text(&d["sync"]), d["set_aside"]);
    }
    let later = if rows(d, "also").is_empty() { "" } else { " --and-later" };
    format!(
        "{} changes are set aside: {} observations hidden, {} as before, {} back{kept}\nothers see them as ever; `cairn redo {}{later}` shows them again",
        d["changes"],
        d["hidden"],
        d["changed"],
        d["shown"],
        text(&d["sync"])
    )
}

fn redo(d: &Value) -> String {
    format!("{} changes are shown again: {} observations back, {} changed, {} gone", d["changes"], d["shown"], d["changed"], d["hidden"])
}

fn revert(d: &Value) -> String {
    let said =
        format!("{} deleted, {} restored, {} as before, {} were so already", d["deleted"], d["restored"], d["changed"], d["unchanged"]);
    match d["act"].as_str() {
        Some(act) => format!("{said}\nit goes to everybody with the next sync; `cairn revert {}` takes it back", &act[..8.min(act.len())]),
        None if d["dry_run"] == true => format!("would be: {said}"),
        None => said,
    }
}

fn backup(what: &BackupVerb, d: &Value) -> String {
    match what {
        BackupVerb::Create { .. } if d["sealed"] == true => {
            let with = if d["passphrase"] == true {
                "this device, the recovery words or the passphrase"
            } else {
                "this device or the recovery words"
            };
            let removed = d["removed"].as_u64().filter(|n| *n > 0).map(|n| format!("; {n} older removed")).unwrap_or_default();
            let size = crate::render::bytes(d["bytes"].as_u64().unwrap_or(0));
            format!("{} observations, {size}, read back and equal: {}\nit opens with {with}{removed}", d["observations"], text(&d["file"]))
        }
        BackupVerb::Create { .. } => format!("copied beside the store: {}", text(&d["file"])),
        BackupVerb::List { .. } if rows(d, "backups").is_empty() => "no backups yet".into(),
        BackupVerb::List { .. } => columns(d, "backups", &["time", "name", "device", "observations", "bytes", "sealed", "file", "fault"]),
        BackupVerb::Restore(restore) if restore.as_new.is_some() => {
            if restore.dry_run {
                return format!("project {} would begin with {} observations", text(&d["name"]), d["observations"]);
            }
            format!("{}\n{} observations are in it; let the others join: `cairn invite`", crate::render::new_project(d), d["observations"])
        }
        BackupVerb::Restore(restore) => {
            let done = if restore.dry_run { "would be restored" } else { "restored" };
            let aside = d["put_aside"].as_str().map(|p| format!("\nwhat was here lies in {p}")).unwrap_or_default();
            let next = if restore.dry_run { "" } else { "\nsync with the others: they bring what is newer" };
            format!("{} with {} observations {done}{aside}{next}", text(&d["name"]), d["observations"])
        }
    }
}

/// "safe on 2 devices (Bo, Lab)", "12 changes only on this device".
pub fn holding(d: &Value) -> String {
    let named = |h: &Value| {
        let heard = h["last_heard"].as_str().map(|t| format!(" {}", t.get(..16).unwrap_or(t).replace('T', " "))).unwrap_or_default();
        format!("{}{heard}", text(&h["name"]))
    };
    let all: Vec<String> = rows(d, "held_by").iter().filter(|h| h["holds_all"] == true).map(named).collect();
    let only = d["only_here"].as_u64().unwrap_or(0);
    let first = match only {
        0 => String::new(),
        1 => "1 change is only on this device".to_owned(),
        n => format!("{n} changes are only on this device"),
    };
    let second = match all.len() {
        0 => "no other device has confirmed that it holds everything".to_owned(),
        1 => format!("safe on 1 other device ({})", all[0]),
        n => format!("safe on {n} other devices ({})", all.join(", ")),
    };
    let words = if first.is_empty() { second } else { format!("{first}; {second}") };
    let state = |s: &Value| {
        let count = s["count"].as_u64().filter(|n| *n > 0).map(|n| format!(" {n}")).unwrap_or_default();
        let since = s["since"].as_str().map(|t| format!(" since {t}")).unwrap_or_default();
        format!("{:<15} {}{count}{since}: {}", "state", text(&s["state"]), text(&s["next"]))
    };
    let states: Vec<String> = rows(d, "states").iter().map(state).collect();
    format!("{:<15} {words}\n{}", "safety", states.join("\n"))
}

pub fn safe_to_wipe(d: &Value) -> String {
    let held = columns(d, "held_by", &["name", "holds_own", "lacks_own", "lacks_all", "last_heard"]);
    if d["safe"] == true {
        return format!("safe to wipe: {} other devices have signed that they hold everything made here\n{held}", d["holding"]);
    }
    let reasons: Vec<String> = rows(d, "reasons").iter().map(|r| format!("  {}", text(r))).collect();
    format!("NOT safe to wipe:\n{}\n{held}", reasons.join("\n"))
}

pub fn doctor(d: &Value) -> String {
    let look = |l: &Value| {
        let sign = match l["state"].as_str() {
            Some("fine") => "ok  ",
            Some("note") => "note",
            _ => "!!  ",
        };
        let remedy = l["remedy"].as_str().filter(|r| !r.is_empty());
        let remedy = remedy.map(|_| format!("\n{:24}-> {}", "", text(&l["remedy"]))).unwrap_or_default();
        format!("{sign}  {:<16}  {}{remedy}", text(&l["topic"]), text(&l["what"]))
    };
    let mut lines: Vec<String> = rows(d, "looks").iter().map(look).collect();
    lines.push(match d["findings"].as_u64() {
        Some(0) => "nothing is wrong".into(),
        Some(1) => "1 finding".into(),
        n => format!("{} findings", n.unwrap_or(0)),
    });
    lines.extend(d["report"].as_str().map(|f| format!("report: {f}")));
    lines.join("\n")
}

pub fn check(d: &Value) -> String {
    let made = d["documents"]
        .as_u64()
        .map(|n| format!("{n} documents made anew from {} changes; before that, {} findings\n", d["changes"], rows(d, "found").len()));
    let now = match rows(d, "findings").is_empty() {
        true => "everything is as it should be".to_owned(),
        false => columns(d, "findings", &["place", "what"]) + "\n`cairn check --repair` makes anew what is shown (a copy is made first)",
    };
    made.unwrap_or_default() + &now
}
