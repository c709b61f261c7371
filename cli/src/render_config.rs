//! The configuration, for people.

use crate::render::{columns, rows, text};
use serde_json::Value;

fn list(data: &Value, key: &str) -> Vec<String> {
    rows(data, key).iter().map(|d| format!("  {}", text(d))).collect()
}

/// Who must follow, before anything is done.
pub fn before_switching(data: &Value) -> String {
    let followers: Vec<String> = rows(data, "must_adopt").iter().map(text).collect();
    let who = if followers.is_empty() { "no other device".to_owned() } else { followers.join(", ") };
    format!("From {} to {}.\nMust follow with `cairn config adopt`: {who}", text(&data["from"]), text(&data["to"]))
}

fn history(data: &Value) -> String {
    let entry = |e: &Value| {
        let differences: Vec<String> = list(e, "differences");
        let shown: Vec<String> = differences.iter().take(12).cloned().collect();
        let more =
            if differences.len() > shown.len() { format!("\n  and {} more", differences.len() - shown.len()) } else { String::new() };
        format!("{}  {}  {}\n{}{more}", text(&e["version_id"]), text(&e["time"]), text(&e["name"]), shown.join("\n"))
    };
    rows(data, "entries").iter().map(entry).collect::<Vec<_>>().join("\n")
}

fn findings(data: &Value) -> String {
    if rows(data, "findings").is_empty() {
        return format!("{}: {} categories, {} fields, nothing wrong", text(&data["name"]), data["categories"], data["fields"]);
    }
    let line = |f: &Value| {
        let word = if f["wrong"] == true { "wrong" } else { "look" };
        format!("{word:<5}  {}: {}", text(&f["place"]), text(&f["what"]))
    };
    rows(data, "findings").iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A reply to any of `config`.
pub fn config(data: &Value) -> String {
    if let Some(adopted) = data.get("adopted") {
        let said = if adopted == true { "this device works with" } else { "this device worked already with" };
        return format!("{said} {}", text(&data["name"]));
    }
    if data.get("entries").is_some() {
        return history(data);
    }
    if data.get("findings").is_some() {
        return findings(data);
    }
    if data.get("must_adopt").is_some() {
        let said = if data["dry_run"] == true { "would switch" } else { "switched" };
        let mut lines = vec![format!("{said} from {} to {}", text(&data["from"]), text(&data["to"]))];
        lines.extend(list(data, "differences").into_iter().take(40));
        return lines.join("\n");
    }
    if data.get("differences").is_some() {
        let differences = list(data, "differences");
        if differences.is_empty() {
            return "no difference".into();
        }
        let said = match (data["dry_run"].as_bool(), data.get("changes")) {
            (Some(true), _) => "would change:",
            (_, Some(_)) => "changed:",
            _ => "differences:",
        };
        return format!("{said}\n{}", differences.join("\n"));
    }
    if data.get("categories").is_none() {
        return text(&data["file"]);
    }
    format!(
        "{} (version {})\n{}\n\n{}",
        text(&data["name"]),
        text(&data["version"]),
        columns(data, "categories", &["id", "name", "fields"]),
        columns(data, "fields", &["id", "type", "label"])
    )
}
