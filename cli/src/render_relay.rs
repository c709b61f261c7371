//! Relays, accounts and coming back, as text for people. No decisions.

use crate::args::{AdminVerb, RelayVerb};
use crate::render::{bytes, columns, rows, table, text};
use serde_json::Value;

fn size(v: &Value) -> String {
    v.as_u64().map(bytes).unwrap_or_default()
}

fn when(v: &Value) -> String {
    v.as_str().map_or_else(|| "never".to_owned(), |t| t.chars().take(16).collect::<String>().replace('T', " "))
}

fn projects(d: &Value) -> String {
    let mut lines = Vec::new();
    let all = rows(d, "projects");
    if all.is_empty() {
        lines.push("no projects yet: `cairn remote add relay URL` in a project, then `cairn sync`, puts it there".to_owned());
    } else {
        let row = |p: &Value| {
            let here = if p["here"] == true {
                "here"
            } else if p["way_in"] == true {
                "`cairn clone`"
            } else {
                "needs a ticket"
            };
            vec![text(&p["name"]), text(&p["observations"]), size(&p["bytes"]), when(&p["last_push"]), here.to_owned(), text(&p["relay"])]
        };
        let cells: Vec<Vec<String>> = all.iter().map(row).collect();
        lines.push(table(&["name", "observations", "size", "last push", "on this device", "relay"], &cells));
    }
    for a in rows(d, "accounts") {
        lines.push(format!(
            "{} at {}: {} of {} used, {} devices logged in",
            text(&a["user"]),
            text(&a["relay"]),
            size(&a["bytes"]),
            size(&a["quota"]),
            a["devices"]
        ));
    }
    lines.join("\n")
}

fn registered(d: &Value) -> String {
    format!(
        "{} is registered at {} and logged in on this device\n\nRecovery words (write them down on paper; they are shown once and kept nowhere):\n\n  {}\n",
        text(&d["user"]),
        text(&d["relay"]),
        text(&d["recovery"])
    )
}

fn admin(what: &AdminVerb, d: &Value) -> String {
    match what {
        AdminVerb::Usage => {
            format!("{} accounts, {} logs, {} chunks, {}", d["accounts"], d["logs"], d["chunks"], size(&d["bytes"]))
        }
        AdminVerb::Accounts if rows(d, "accounts").is_empty() => "no accounts".into(),
        AdminVerb::Accounts => {
            let row = |a: &Value| vec![text(&a["user"]), text(&a["logs"]), size(&a["bytes"]), size(&a["quota_bytes"]), text(&a["blocked"])];
            table(&["user", "logs", "size", "quota", "blocked"], &rows(d, "accounts").iter().map(row).collect::<Vec<_>>())
        }
        AdminVerb::Logs if rows(d, "logs").is_empty() => "no logs".into(),
        AdminVerb::Logs => {
            let row = |l: &Value| vec![text(&l["log"]), text(&l["user"]), text(&l["chunks"]), size(&l["bytes"]), text(&l["blocked"])];
            table(&["log", "who pays", "chunks", "size", "blocked"], &rows(d, "logs").iter().map(row).collect::<Vec<_>>())
        }
        AdminVerb::Code => {
            format!("{}\n`cairn relay register URL --user NAME --code {}` makes one account", text(&d["code"]), text(&d["code"]))
        }
        AdminVerb::Quota { .. } => format!("{} may hold {}", text(&d["user"]), size(&d["quota_bytes"])),
        AdminVerb::Block { .. } if d["blocked"] == true => format!("{} is blocked; --undo lets it go on", text(&d["what"])),
        AdminVerb::Block { .. } => format!("{} may go on", text(&d["what"])),
        AdminVerb::Delete { .. } => format!("{} is erased", text(&d["what"])),
    }
}

/// `relay ...`.
pub fn relay(what: &RelayVerb, d: &Value) -> String {
    let who = || format!("{} at {}", text(&d["user"]), text(&d["relay"]));
    match what {
        RelayVerb::Serve(_) => "stopped".into(),
        RelayVerb::Admin(args) => admin(&args.what, d),
        RelayVerb::Register { .. } => registered(d),
        RelayVerb::Login { .. } => format!("logged in as {}; `cairn relay projects` shows what is there", who()),
        RelayVerb::Recover { .. } => format!("{} has a new password; all other devices were logged out", who()),
        RelayVerb::Password { .. } => format!(
            "{} has a new password; all other devices were logged out\n\nNew recovery words (the ones before do not count any more):\n\n  {}\n",
            who(),
            text(&d["recovery"])
        ),
        RelayVerb::Logout { .. } => format!("logged out: {}", who()),
        RelayVerb::Projects { .. } => projects(d),
        RelayVerb::Accounts if rows(d, "accounts").is_empty() => "logged in nowhere; `cairn relay login URL --user NAME`".into(),
        RelayVerb::Accounts => columns(d, "accounts", &["user", "relay"]),
        RelayVerb::Forget { .. } => "it is off the list; its data stays at the relay and on the devices".into(),
    }
}

/// `clone`.
pub fn cloned(d: &Value) -> String {
    let synced = crate::render_sync::sync(d);
    format!("{}: {} observations on this device\n{synced}", text(&d["name"]), d["observations"])
}
