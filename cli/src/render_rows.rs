//! What came of rows, for people.

use crate::render::{rows, text};
use serde_json::Value;

/// An import, or what one would do.
pub fn import(data: &Value) -> String {
    let would = if data["dry_run"] == true { "would be " } else { "" };
    let mut parts = vec![format!("{} {would}created", data["created"])];
    for (key, word) in
        [("updated", "updated"), ("unchanged", "unchanged"), ("deleted", "deleted"), ("unknown", "not there"), ("repeated", "repeated")]
    {
        if data[key].as_u64().unwrap_or(0) > 0 {
            parts.push(format!("{} {word}", data[key]));
        }
    }
    parts.push(format!("{} left out", data["rejected"]));
    let mut lines = vec![parts.join(", ")];
    if let Some(act) = data["import"].as_str() {
        lines.push(format!("`cairn revert {}` takes it back, for everybody", &act[..8.min(act.len())]));
    }
    lines.extend(rows(data, "rows").iter().map(change));
    for r in rows(data, "rejects").iter().take(20) {
        lines.push(format!("  line {}: {}", r["line"], text(&r["reason"])));
    }
    for r in rows(data, "repeats").iter().take(20) {
        lines.push(format!("  line {}: `{}` stands again further down", r["line"], text(&r["key"])));
    }
    if let Some(stop) = data["would_stop"].as_str() {
        lines.push(format!("it would stop: {stop}"));
    }
    lines.join("\n")
}

fn change(c: &Value) -> String {
    let line = c["line"].as_u64().map_or_else(|| "not in the file".to_owned(), |n| format!("line {n}"));
    let keys: Vec<String> = rows(c, "changes")
        .iter()
        .map(|k| match (k["from"].is_null(), k["to"].is_null()) {
            (true, _) => format!("{}={}", text(&k["key"]), text(&k["to"])),
            (_, true) => format!("{} removed (was {})", text(&k["key"]), text(&k["from"])),
            _ => format!("{}: {} -> {}", text(&k["key"]), text(&k["from"]), text(&k["to"])),
        })
        .collect();
    format!("  {line}: {} {}", text(&c["action"]), keys.join(", ")).trim_end().to_owned()
}

/// What was written.
pub fn export(data: &Value) -> String {
    let left = data["left_out"].as_u64().filter(|n| *n > 0).map(|n| format!(", {n} left out")).unwrap_or_default();
    let what = if data["pairs"] == true { "pairs" } else { "observations" };
    format!("{} {what} written to {}{left}", data["exported"], text(&data["file"]))
}
