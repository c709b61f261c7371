//! What people may settle, and who has what, for people.

use crate::args_care::{ConflictArgs, ConflictVerb};
use crate::render::{columns, observation, rows, table, text};
use serde_json::Value;

fn conflict(c: &Value) -> String {
    let mut lines = vec![format!("{}  {}", text(&c["id"]), text(&c["key"]))];
    for v in rows(c, "values") {
        let value = if v["value"].is_null() { "(edited without seeing the deletion)".to_owned() } else { text(&v["value"]) };
        lines.push(format!(
            "  {value}   by {} at {}",
            text(if v["name"].is_string() { &v["name"] } else { &v["device"] }),
            text(&v["time"])
        ));
    }
    lines.join("\n")
}

fn pair(p: &Value) -> Vec<String> {
    let two = |key: &str, n: usize| text(&p[key][n]);
    let short = |n: usize| two("ids", n).chars().take(8).collect::<String>();
    let apart = match p["seconds"].as_u64().unwrap_or(0) {
        s @ 0..120 => format!("{s} s"),
        s @ 120..7_200 => format!("{} min", s / 60),
        s => format!("{} h", s / 3_600),
    };
    vec![
        text(&p["category"]),
        format!("{} ({})", short(0), two("devices", 0)),
        format!("{} ({})", short(1), two("devices", 1)),
        format!("{} m", p["metres"]),
        apart,
    ]
}

pub fn conflicts(args: &ConflictArgs, d: &Value) -> String {
    match args.what {
        Some(ConflictVerb::Resolve { .. }) => return observation(&d["observation"]),
        Some(ConflictVerb::BothMeant { .. }) => {
            let now = if d["meant"] == true { "are both meant" } else { "count as one again, if they look like it" };
            return format!("{} and {} {now}", text(&d["ids"][0]), text(&d["ids"][1]));
        }
        None => {}
    }
    let mut lines: Vec<String> = rows(d, "conflicts").iter().map(conflict).collect();
    if !lines.is_empty() {
        lines.push("one value stays with `cairn conflicts resolve ID KEY VALUE`".into());
        if rows(d, "conflicts").iter().any(|c| c["key"] == "deleted") {
            lines.push("deleted here and edited there: `resolve ID deleted true` keeps it deleted, `false` brings it back".into());
        }
    }
    let pairs = rows(d, "duplicates");
    if !pairs.is_empty() {
        let cells: Vec<Vec<String>> = pairs.iter().map(pair).collect();
        lines.push(match d["duplicate_count"].as_u64().unwrap_or(0) {
            1 => "a pair looks like one:".to_owned(),
            all if all as usize > pairs.len() => format!("{} of {all} pairs that look like one (--limit 0 shows all):", pairs.len()),
            all => format!("{all} pairs look like one:"),
        });
        lines.push(table(&["category", "one", "other", "apart", "later"], &cells));
        lines.push("one of them too many: `cairn rm ID`; both meant: `cairn conflicts both-meant ID ID`".into());
    }
    if lines.is_empty() { "nothing to settle".into() } else { lines.join("\n") }
}

pub fn purge(d: &Value) -> String {
    let did = if d["dry_run"] == true { "would be purged".to_owned() } else { format!("{} purged", d["changed"]) };
    format!("{}\n{did}", columns(d, "observations", &["id", "category", "time", "note", "values", "purged_before"]))
}

/// "3 min", "2 h", "5 d".
fn age(seconds: Option<u64>) -> String {
    match seconds {
        None => "-".into(),
        Some(s @ 0..120) => format!("{s} s ago"),
        Some(s @ 120..7_200) => format!("{} min ago", s / 60),
        Some(s @ 7_200..172_800) => format!("{} h ago", s / 3_600),
        Some(s) => format!("{} d ago", s / 86_400),
    }
}

/// A row for each device, a column for each whose work there is: `all`, what is lacking, or `?` of one that never said.
pub fn peers(d: &Value) -> String {
    let (peers, authors) = (rows(d, "peers"), rows(d, "authors"));
    if peers.is_empty() {
        return "nobody else is in this project yet: `cairn invite`".into();
    }
    let names: Vec<String> = authors.iter().map(|a| format!("of {}", text(&a["name"]))).collect();
    let mut heads = vec!["device", "role", "heard", "by"];
    heads.extend(names.iter().map(String::as_str));
    let row = |p: &Value| {
        let mut cells = vec![text(&p["name"]), text(&p["role"]), age(p["heard_s_ago"].as_u64()), text(&p["transport"])];
        for author in &authors {
            let lacks = rows(p, "lacks").iter().find(|l| l["device"] == author["device"]).map(|l| l["batches"].clone());
            cells.push(match lacks {
                _ if p["lacks"].is_null() => "?".into(),
                Some(batches) => format!("lacks {batches}"),
                None => "all".into(),
            });
        }
        cells
    };
    let cells: Vec<Vec<String>> = peers.iter().map(row).collect();
    table(&heads, &cells)
}
