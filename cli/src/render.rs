//! Replies as text for people. No decisions.

use crate::args::{DeviceVerb, Verb};
use cairn_node::Reply;
use serde_json::{Value, json};

pub(crate) fn text(v: &Value) -> String {
    match v {
        Value::Null => "-".into(),
        // On one line; what is left of it that a terminal would obey is escaped where it is written.
        Value::String(s) => s.replace(['\n', '\t'], " "),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join("; "),
        other => other.to_string(),
    }
}

/// Bytes as people read them.
pub fn bytes(n: u64) -> String {
    match n {
        0..1_000 => format!("{n} B"),
        1_000..1_000_000 => format!("{:.1} kB", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", n as f64 / 1e6),
        _ => format!("{:.1} GB", n as f64 / 1e9),
    }
}

/// Columns under their heads, as wide as they need.
pub fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let width = |n: usize| rows.iter().map(|r| r[n].chars().count()).chain([heads[n].chars().count()]).max().unwrap_or(0);
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> = cells.iter().zip(&widths).map(|(c, w)| format!("{c:<w$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut out = vec![line(heads.to_vec())];
    out.extend(rows.iter().map(|r| line(r.iter().map(String::as_str).collect())));
    out.join("\n")
}

pub(crate) fn rows(data: &Value, key: &str) -> Vec<Value> {
    data[key].as_array().cloned().unwrap_or_default()
}

pub(crate) fn columns(data: &Value, key: &str, names: &[&str]) -> String {
    let cells: Vec<Vec<String>> = rows(data, key).iter().map(|r| names.iter().map(|n| text(&r[*n])).collect()).collect();
    table(names, &cells)
}

pub(crate) fn observation(o: &Value) -> String {
    let mut lines = vec![format!("{}  {}", text(&o["id"]), text(&o["category"]))];
    let place = if o["lat"].is_null() { "-".to_owned() } else { format!("{}, {}", o["lat"], o["lon"]) };
    lines.push(format!("  at      {place}"));
    lines.push(format!("  time    {}", text(&o["time"])));
    if !o["note"].is_null() {
        lines.push(format!("  note    {}", text(&o["note"])));
    }
    for (name, value) in o["fields"].as_object().into_iter().flatten() {
        lines.push(format!("  {name:<7} {}", text(value)));
    }
    for other in rows(o, "both_meant_with") {
        lines.push(format!("  both meant with {}", text(&other)));
    }
    if o["purged"] == true {
        lines.push("  its content was purged".into());
    }
    if o["deleted"] == true {
        lines.push("  deleted".into());
    }
    for c in rows(o, "conflicts") {
        let values: Vec<String> = rows(&c, "values").iter().map(|v| text(&v["value"])).collect();
        lines.push(format!("  {} has concurrent values: {}", text(&c["key"]), values.join(" | ")));
    }
    lines.join("\n")
}

fn list(data: &Value) -> String {
    let cells: Vec<Vec<String>> = rows(data, "observations")
        .iter()
        .map(|o| {
            let place = if o["lat"].is_null() { "-".to_owned() } else { format!("{},{}", o["lat"], o["lon"]) };
            let fields: Vec<String> = o["fields"].as_object().into_iter().flatten().map(|(k, v)| format!("{k}={}", text(v))).collect();
            let deleted = o["deleted"] == true;
            let mark = if deleted {
                "deleted"
            } else if o["conflicts"].as_array().is_some_and(|c| !c.is_empty()) {
                "!"
            } else {
                ""
            };
            let fields: String = fields.join(" ").chars().take(60).collect();
            vec![text(&o["id"]), mark.to_owned(), text(&o["time"]), text(&o["category"]), place, fields]
        })
        .collect();
    format!("{}\n{} of {}", table(&["id", "", "time", "category", "place", "fields"], &cells), cells.len(), data["count"])
}

fn pairs(data: &Value, names: &[(&str, &str)]) -> String {
    let line = |(label, pointer): &(&str, &str)| format!("{label:<15} {}", text(data.pointer(pointer).unwrap_or(&Value::Null)));
    names.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn status(safe_to_wipe: bool, data: &Value) -> String {
    if safe_to_wipe {
        return crate::render_care::safe_to_wipe(data);
    }
    let stands = crate::render_care::holding(data);
    pairs(
        data,
        &[
            ("project", "/name"),
            ("project id", "/project"),
            ("device", "/device_name"),
            ("device id", "/device"),
            ("configuration", "/configuration/name"),
            ("observations", "/observations"),
            ("unsynced", "/unsynced"),
            ("conflicts", "/conflicts"),
            ("quarantined", "/quarantined"),
            ("waiting", "/waiting"),
            ("digest", "/digest"),
        ],
    ) + &format!("\n{stands}")
}

/// The ticket as a picture, where a camera may look at it. Capitals make the code a third smaller; tickets read in any case.
fn qr(ticket: &str) -> String {
    use std::io::IsTerminal;
    let code = std::io::stdout().is_terminal().then(|| qrcode::QrCode::new(ticket.to_uppercase()).ok()).flatten();
    code.map(|c| c.render::<qrcode::render::unicode::Dense1x2>().build() + "\n").unwrap_or_default()
}

/// A ticket or a code, to be handed over.
pub fn invitation(d: &Value) -> String {
    match d["code"].as_str() {
        Some(code) => {
            let at = rows(d, "addresses").iter().map(text).collect::<Vec<_>>().join(" ");
            format!(
                "{code}\n\nOn the other device: cairn join {code}   (where the network hides this device: --via {at})\nOne guess, {} minutes.",
                d["expires_s"].as_u64().unwrap_or(0) / 60
            )
        }
        None => format!("{}{}\n\nOn the other device: cairn join TICKET", qr(&text(&d["ticket"])), text(&d["ticket"])),
    }
}

/// What a newcomer will receive, said before the invitation exists.
pub fn before_inviting(d: &Value) -> String {
    format!("{} device(s) may enter as {}. Each receives {}; it {}.", d["uses"], text(&d["role"]), text(&d["receives"]), text(&d["may"]))
}

/// The same, on the device that enters.
pub fn before_entering(d: &Value) -> String {
    let may = if d["may"].is_null() { "may do what its role allows".to_owned() } else { text(&d["may"]) };
    format!("Entering {} as {}: this device receives {}; it {}.", text(&d["name"]), text(&d["role"]), text(&d["receives"]), may)
}

/// Lines of devices that may not exchange observations now, greyed where the terminal can.
fn greyed(lines: &[String]) -> String {
    use std::io::IsTerminal;
    let (on, off) = if std::io::stdout().is_terminal() { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
    lines.iter().map(|l| format!("{on}{l}{off}")).collect::<Vec<_>>().join("\n")
}

fn not_allowed(d: &Value) -> String {
    let line = |t: &Value| format!("{}  {}  {}  ({})", text(&t["name"]), text(&t["state"]), text(&t["reason"]), text(&t["remedy"]));
    let lines: Vec<String> = rows(d, "not_allowed").iter().map(line).collect();
    if lines.is_empty() { String::new() } else { format!("\n\nmet, but not allowed:\n{}", greyed(&lines)) }
}

fn devices(what: Option<&DeviceVerb>, d: &Value) -> String {
    match what {
        Some(DeviceVerb::Quarantine { what: None }) if rows(d, "quarantine").is_empty() => "nothing is set apart".into(),
        Some(DeviceVerb::Quarantine { what: None }) => {
            columns(d, "quarantine", &["name", "seq", "state", "changes", "counted_anyway", "time", "batch"])
        }
        Some(DeviceVerb::Quarantine { .. }) => {
            format!("{} batches accepted, {} left in quarantine", rows(d, "accepted").len(), d["quarantined"])
        }
        Some(DeviceVerb::Verify { .. }) => {
            let same = if d["matches"] == true { "the digits are the same: this is that device" } else { "THE DIGITS DIFFER" };
            format!("{}\n{same}", columns(d, "devices", &["name", "role", "state", "digits"]))
        }
        _ => columns(d, "devices", &["name", "role", "state", "verified", "last_seen", "digits"]),
    }
}

pub(crate) fn new_project(d: &Value) -> String {
    format!(
        "project {} is ready\n\nRecovery words (write them down on paper; they are shown once and kept nowhere):\n\n  {}\n",
        text(&d["name"]),
        text(&d["recovery"])
    )
}

/// A reply for people.
pub fn reply(verb: &Verb, reply: &Reply) -> String {
    let d = &reply.data;
    match verb {
        Verb::New { .. } => new_project(d),
        Verb::Join { dry_run: true, .. } => before_entering(d),
        Verb::Join { .. } if d["state"] == "pending" => {
            let check = d["check"].as_str().map(|c| format!("; check digits {c}")).unwrap_or_default();
            format!("asked to enter {}{check}", text(&d["name"]))
        }
        Verb::Join { .. } => {
            let check = d["check"].as_str().map(|c| format!(" (check digits {c}: the other screen shows the same)")).unwrap_or_default();
            let visited = d.get("targets").map(|_| format!("\n{}", crate::render_sync::sync(d)));
            let next = visited.unwrap_or_else(|| "; sync once with a member to receive what is there".into());
            format!("joined {}{check}{next}", text(&d["name"]))
        }
        Verb::Whoami => {
            format!(
                "device {}\ndigits {}\n{}",
                text(&d["device"]),
                text(&d["digits"]),
                columns(d, "projects", &["name", "role", "state", "project"])
            )
        }
        Verb::Invite { dry_run: true, .. } => before_inviting(d),
        Verb::Invite { list: true, .. } => columns(d, "invitations", &["invite", "role", "mode", "used", "uses", "state", "by"]),
        Verb::Invite { revoke: Some(_), .. } => format!("{} invitations revoked", rows(d, "revoked").len()),
        Verb::Invite { .. } if d.get("let_in").is_some() => format!("{} device(s) let in", rows(d, "let_in").len()),
        Verb::Invite { .. } => invitation(d),
        Verb::Passphrase { .. } if d["passphrase"] == true => "this device's key is under the passphrase now".into(),
        Verb::Passphrase { .. } => "this device's key is in its file without a passphrase now".into(),
        Verb::Devices { what } => devices(what.as_ref(), d),
        Verb::Policy { .. } => {
            let edit = if d["members_edit_others"] == true { "yes" } else { "no" };
            format!("members edit others' observations: {edit}\nentered by: {}", text(&d["join"]))
        }
        Verb::Add { .. } | Verb::Edit { .. } => observation(&d["observation"]),
        Verb::Rm { .. } => format!("{} deleted", d["changed"]),
        Verb::Restore(_) => format!("{} restored", d["changed"]),
        Verb::Show(_) => observation(&d["observations"][0]),
        Verb::List { .. } => list(d),
        Verb::Log(_) | Verb::Diff(_) | Verb::Undo(_) | Verb::Redo { .. } | Verb::Revert(_) | Verb::Backup { .. } => {
            crate::render_care::reply(verb, d)
        }
        Verb::Conflicts(args) => crate::render_settling::conflicts(args, d),
        Verb::Purge(_) => crate::render_settling::purge(d),
        Verb::Doctor(_) => crate::render_care::doctor(d),
        Verb::Config { .. } => crate::render_config::config(d),
        Verb::Import(_) => crate::render_rows::import(d),
        Verb::Datasets if rows(d, "datasets").is_empty() => "no rows were imported under a data set yet".into(),
        Verb::Datasets => columns(d, "datasets", &["name", "key", "observations"]),
        Verb::Export(_) => crate::render_rows::export(d),
        Verb::Job { .. } => crate::render_job::job(d),
        Verb::Sync(_) => crate::render_sync::sync(d),
        Verb::Remote { .. } if rows(d, "remotes").is_empty() => "no remotes; `cairn remote add NAME TARGET` names one".into(),
        Verb::Remote { .. } => columns(d, "remotes", &["name", "target", "way", "when", "next", "last"]),
        Verb::Bundle { what } => crate::render_sync::bundle(what, d),
        Verb::Relay { what } => crate::render_relay::relay(what, d),
        Verb::Clone { .. } => crate::render_relay::cloned(d),
        Verb::Status(args) => status(args.safe_to_wipe, d),
        Verb::Peers { near: true } => {
            columns(d, "peers", &["name", "target", "state", "configuration_version", "their_observations", "would_receive", "would_send"])
                + &not_allowed(d)
        }
        Verb::Peers { .. } => crate::render_settling::peers(d) + &not_allowed(d),
        Verb::Check { .. } => crate::render_care::check(d),
        Verb::Serve(args) if args.install => crate::service::installed(d),
        Verb::Serve(_) => "stopped".into(),
        // Lines for programs, to the last.
        Verb::Events => json!({"ok": true, "code": 0, "data": d, "warnings": []}).to_string(),
        Verb::Demo => d["table"].as_str().unwrap_or_default().to_owned(),
    }
}
