//! What a sync did or would do, and bundles, as text for people. No decisions.

use crate::args::BundleVerb;
use crate::render::{bytes, rows, table, text};
use serde_json::Value;

fn number(v: &Value) -> u64 {
    v.as_u64().unwrap_or(0)
}

fn day(v: &Value) -> String {
    text(v).chars().take(10).collect()
}

/// Work by author: who, how much, from when to when.
fn lots(title: &str, data: &Value, key: &str) -> Vec<String> {
    let all = rows(data, key);
    if all.is_empty() {
        return vec![format!("  {title}: nothing")];
    }
    let line = |l: &Value| {
        vec![
            text(&l["name"]),
            l["changes"].to_string(),
            l["batches"].to_string(),
            bytes(number(&l["bytes"])),
            day(&l["since"]),
            day(&l["until"]),
        ]
    };
    let cells: Vec<Vec<String>> = all.iter().map(line).collect();
    let shown = table(&["by", "changes", "batches", "size", "from", "to"], &cells);
    std::iter::once(format!("  {title}:")).chain(shown.lines().map(|l| format!("    {l}"))).collect()
}

fn moved(t: &Value, sync: &Value) -> Vec<String> {
    let size = |side: &str| bytes(number(&t[side]["bytes"]));
    let mut lines = vec![format!(
        "  sent {} batches ({}), received {} ({}), {} ms",
        t["sent"]["batches"],
        size("sent"),
        t["received"]["batches"],
        size("received"),
        t["ms"]
    )];
    if number(&t["set_apart"]) > 0 {
        lines.push(format!("  {} batches are held and do not count: see `cairn devices quarantine`", t["set_apart"]));
    }
    let o = &t["observations"];
    let list = format!(" (see `cairn list --sync {}`)", text(sync));
    let some = ["new", "changed", "deleted"].iter().any(|k| number(&o[*k]) > 0);
    lines.push(format!(
        "  observations here: {} new, {} changed, {} deleted{}",
        o["new"],
        o["changed"],
        o["deleted"],
        if some { list } else { String::new() }
    ));
    lines
}

fn target(t: &Value, sync: &Value) -> Vec<String> {
    let who = if t["name"].is_null() { text(&t["target"]) } else { format!("{} ({})", text(&t["name"]), text(&t["target"])) };
    let mut lines = vec![format!("{who}: {}", text(&t["state"]))];
    let mailbox = t["transport"].as_str().is_some_and(|t| t == "file" || t == "folder" || t == "relay");
    if let Some(planned) = t.get("would_send") {
        if mailbox {
            lines.extend(lots(&format!("FROM the {} (new here)", text(&t["transport"])), t, "from"));
            if number(&t["unlisted"]) > 0 {
                lines.push(format!("    and {} chunks of which nothing is known before they are read", t["unlisted"]));
            }
            lines.extend(lots(&format!("TO the {} (missing there)", text(&t["transport"])), t, "to"));
        } else {
            lines.push(format!("  would send {} batches, would receive {}", planned["batches"], t["would_receive"]["batches"]));
        }
    } else if t["state"] == "synced" || number(&t["received"]["batches"]) + number(&t["sent"]["batches"]) > 0 {
        lines.extend(moved(t, sync));
    }
    if t.get("stays_there").is_some() {
        lines.extend(lots("stays there", t, "stays_there"));
        lines.extend(lots("stays here", t, "stays_here"));
    }
    for key in ["message", "remedy"] {
        let said = t.get(key).map(text).unwrap_or_default();
        if !said.is_empty() {
            lines.push(format!("  {said}"));
        }
    }
    lines
}

/// A sync, target by target.
pub fn sync(data: &Value) -> String {
    rows(data, "targets").iter().flat_map(|t| target(t, &data["sync"])).collect::<Vec<_>>().join("\n")
}

fn outside(d: &Value) -> String {
    let whole = if d["sound"] == true { "whole".to_owned() } else { format!("DAMAGED OR CUT SHORT ({} chunks damaged)", d["damaged"]) };
    let part = if number(&d["parts"]) > 1 { format!(", part {} of {}", d["part"], d["parts"]) } else { String::new() };
    format!("{}: {} in {} chunks{part}, {whole}", text(&d["file"]), bytes(number(&d["bytes"])), d["chunks"])
}

fn inside(d: &Value) -> Vec<String> {
    let mut lines = vec![format!("  project {}", text(&d["project"]))];
    for w in rows(d, "written_by") {
        lines.push(format!("  written by {} at {}", text(&w["name"]), text(&w["at"])));
    }
    for (title, key) in [("it holds", "holds"), ("new here", "new_here"), ("this device has and it lacks", "lacks")] {
        lines.extend(lots(title, d, key));
    }
    lines
}

/// A verb about bundles.
pub fn bundle(what: &BundleVerb, d: &Value) -> String {
    match what {
        BundleVerb::Create { .. } => {
            let mut lines: Vec<String> = rows(d, "files").iter().map(text).collect();
            lines.push(format!("{} batches, {}, {} ms", d["batches"], bytes(number(&d["bytes"])), d["ms"]));
            lines.extend(lots("in it", d, "to"));
            lines.join("\n")
        }
        BundleVerb::Verify { .. } => outside(d),
        BundleVerb::Inspect { .. } if d.get("holds").is_some() => [vec![outside(d)], inside(d)].concat().join("\n"),
        BundleVerb::Inspect { .. } => format!("{}\n  sealed: only members of its project can read it", outside(d)),
    }
}
