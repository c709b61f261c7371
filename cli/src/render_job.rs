//! Jobs, for people.

use crate::render::{columns, rows, text};
use crate::render_rows;
use serde_json::Value;

/// What columns are taken for, with the first value of each.
pub fn preview(data: &Value) -> String {
    let first = &data["rows"][0];
    let line = |c: &Value| {
        let name = text(&c["column"]);
        let value: String = text(&first[&name]).chars().take(40).collect();
        format!("  {name:<30} {:<34} {value}", text(&c["taken_for"]))
    };
    rows(data, "columns").iter().map(line).collect::<Vec<_>>().join("\n")
}

fn step(s: &Value) -> String {
    let what = text(&s["step"]);
    if let Some(problem) = s["problem"]["message"].as_str() {
        return format!("{what}: {problem}");
    }
    let d = &s["data"];
    match what.as_str() {
        "export" => render_rows::export(d),
        "sync" => crate::render_sync::sync(d),
        "backup" => {
            let size = crate::render::bytes(d["bytes"].as_u64().unwrap_or(0));
            format!("backup: {} observations, {size}, read back and equal: {}", d["observations"], text(&d["file"]))
        }
        _ => {
            let mut out =
                format!("{what}: {} created, {} updated, {} deleted, {} refused", d["created"], d["updated"], d["deleted"], d["rejected"]);
            for r in rows(d, "rejects").iter().take(20) {
                out.push_str(&format!("\n  row {}: {}", r["row"], text(&r["reason"])));
            }
            out
        }
    }
}

fn ran(d: &Value) -> String {
    let mut lines = Vec::new();
    if d.get("import").is_some() {
        lines.push(render_rows::import(&d["import"]));
    }
    lines.extend(rows(d, "steps").iter().map(step));
    lines.join("\n")
}

/// A text of this program's own, with its lines.
fn lines(v: &Value) -> String {
    v.as_str().into_iter().flat_map(str::lines).map(|line| text(&line.into()) + "\n").collect()
}

/// A reply to any of `job`.
pub fn job(d: &Value) -> String {
    if let Some(line) = d["cron"].as_str() {
        return line.to_owned();
    }
    if d.get("files").is_some() {
        let files = rows(d, "files").iter().map(|f| format!("# {}\n{}", text(&f["path"]), lines(&f["text"]))).collect::<Vec<_>>();
        return format!("{}\n# then: {}", files.join("\n"), text(&d["then"]));
    }
    if d.get("jobs").is_some() {
        if rows(d, "jobs").is_empty() {
            return "no job is installed; `cairn job install FILE.toml` gives one to `serve`".into();
        }
        return columns(d, "jobs", &["name", "schedule", "next", "last", "state", "problem", "file"]);
    }
    if d.get("runs").is_some() {
        let line = |r: &Value| {
            let import = r.get("import").map(|i| render_rows::import(i).lines().next().unwrap_or_default().to_owned()).unwrap_or_default();
            let steps = rows(r, "steps");
            let failed = steps.iter().filter_map(|s| Some(format!("{}: {}", text(&s["step"]), s["problem"]["message"].as_str()?)));
            let said = r["problem"]["message"].as_str().map(str::to_owned).into_iter().chain(failed);
            let all: Vec<String> = Some(import).filter(|i| !i.is_empty()).into_iter().chain(said).collect();
            format!("{}  {}  {}  {}", text(&r["began"]), text(&r["job"]), text(&r["state"]), text(&Value::from(all.join("; "))))
        };
        return rows(d, "runs").iter().map(line).collect::<Vec<_>>().join("\n");
    }
    if d.get("findings").is_some() {
        let mut lines: Vec<String> = d.get("import").map(render_rows::import).into_iter().collect();
        lines.extend(rows(d, "findings").iter().map(|f| format!("{}: {}", text(&f["place"]), text(&f["what"]))));
        lines.extend(d.get("next").map(|n| format!("next: {}", text(n))));
        return lines.join("\n");
    }
    if d.get("steps").is_some() {
        return ran(d);
    }
    if let Some(next) = d.get("next") {
        return format!("{} runs {}; next: {}", text(&d["job"]), text(&d["schedule"]), text(next));
    }
    if let Some(file) = d.get("file") {
        return format!("{} is written; `cairn job check` looks at it", text(file));
    }
    "done".into()
}
