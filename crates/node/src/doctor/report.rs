//! A file for whoever helps from afar: what was found, versions and counts. No key, ticket, token or content; names and paths are taken out.

use crate::{Node, NodeError, now_ms};
use cairn_model::Instant;
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use zip::write::SimpleFileOptions;

/// What is taken out of every text, with what stands in its place: names of people's devices, of the project, of places.
fn hidden(node: &Node) -> Result<Vec<(String, String)>, NodeError> {
    let store = node.store();
    let mut out = vec![(node.home_folder.display().to_string(), "HOME".to_owned()), (store.genesis()?.name.clone(), "PROJECT".to_owned())];
    let project = store.project().to_string();
    out.extend([(project[..16].to_owned(), "PROJECT-ID".to_owned()), (project, "PROJECT-ID".to_owned())]);
    let m = store.membership();
    let names = m.members.values().map(|d| &d.name).chain(m.former.values().map(|d| &d.name)).chain(m.pending.iter().map(|d| &d.name));
    out.extend(names.enumerate().map(|(n, name)| (name.clone(), format!("device-{}", n + 1))));
    for (n, (name, target)) in store.remotes()?.into_iter().enumerate() {
        let place = format!("TARGET-{}", n + 1);
        let host = cairn_relay::RelayUrl::parse(&target).ok().and_then(|url| {
            let text = url.to_string();
            let after = text.split("://").nth(1)?.split(['/', '#']).next()?.to_owned();
            Some(after)
        });
        let folder = Path::new(&target).parent().filter(|p| p.is_absolute() && p.parent().is_some()).map(|p| p.display().to_string());
        out.extend(host.into_iter().chain(folder).map(|part| (part, place.clone())));
        out.push((target, place));
        out.push((name, format!("remote-{}", n + 1)));
    }
    out.retain(|(secret, _)| !secret.is_empty());
    // A long one may hold a short one.
    out.sort_by_key(|(secret, _)| std::cmp::Reverse(secret.len()));
    Ok(out)
}

/// Replaces `secret` where it stands as a word of its own: a device called `a` must not take the letter out of every text.
fn replace_word(text: &str, secret: &str, shown: &str) -> String {
    let is_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let (mut out, mut rest, mut before) = (String::new(), text, None);
    while let Some(at) = rest.find(secret) {
        let end = at + secret.len();
        before = rest[..at].chars().next_back().or(before);
        let inside = |edge: Option<char>, other: Option<char>| is_word(edge) && is_word(other);
        let within = inside(secret.chars().next(), before) || inside(secret.chars().next_back(), rest[end..].chars().next());
        out.push_str(&rest[..at]);
        out.push_str(if within { secret } else { shown });
        before = secret.chars().next_back();
        rest = &rest[end..];
    }
    out + rest
}

fn redact(value: &mut Value, hidden: &[(String, String)]) {
    match value {
        Value::String(text) => {
            for (secret, shown) in hidden {
                *text = replace_word(text, secret, shown);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| redact(item, hidden)),
        Value::Object(fields) => fields.values_mut().for_each(|field| redact(field, hidden)),
        _ => {}
    }
}

fn machine() -> Value {
    let line = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let system = line("/etc/os-release");
    let name = system.lines().find_map(|l| l.strip_prefix("PRETTY_NAME=")).unwrap_or_default().trim_matches('"').to_owned();
    json!({
        "cairn": env!("CARGO_PKG_VERSION"), "vocabulary": crate::socket::VOCABULARY, "system": name, "kernel": line("/proc/sys/kernel/osrelease"),
        "processors": std::thread::available_parallelism().map_or(0, usize::from),
    })
}

fn counts(node: &Node) -> Result<Value, NodeError> {
    let store = node.store();
    let coverage = store.coverage()?;
    let (quarantined, waiting) = store.set_apart_counts()?;
    Ok(json!({
        "observations": store.count()?, "members": store.membership().members.len(), "feeds": store.feeds().len(),
        "unsynced": coverage.unsynced, "only_here": coverage.only_here, "conflicts": store.conflict_count()?, "quarantined": quarantined,
        "waiting": waiting, "set_aside": store.set_aside_changes(), "remotes": store.remotes()?.len(),
        "states": crate::standing::states(&store, now_ms())?,
    }))
}

/// Syncs of late: when, how much; not with whom.
fn syncs(node: &Node) -> Result<Value, NodeError> {
    let rows = node.store().syncs(50)?;
    let time = |ms: i64| Instant::from_unix_ms(ms).map(|i| i.to_rfc3339());
    Ok(json!(
        rows.iter()
            .map(
                |s| json!({"time": s.at_ms.and_then(time), "batches": s.batches, "new": s.new, "changed": s.changed, "deleted": s.deleted})
            )
            .collect::<Vec<_>>()
    ))
}

pub(super) fn write(node: &Node, found: &Value, path: &Path) -> Result<(), NodeError> {
    if path.exists() {
        return Err(NodeError::refused(format!("{} is there already", path.display()), "choose another name: nothing is written over"));
    }
    let hidden = hidden(node)?;
    let written = Instant::from_unix_ms(now_ms()).map(|i| i.to_rfc3339());
    let parts = [
        ("doctor.json", found.clone()),
        ("machine.json", machine()),
        ("counts.json", counts(node)?),
        ("syncs.json", syncs(node)?),
        (
            "about.json",
            json!({"written": written, "what": "made by `cairn doctor --report`: no keys, tickets, tokens or observations; names and paths are taken out"}),
        ),
    ];
    let fault = |e: &dyn std::fmt::Display| NodeError::file(path, e);
    let file = std::fs::File::create_new(path).map_err(|e| fault(&e))?;
    let mut zip = zip::ZipWriter::new(file);
    for (name, mut part) in parts {
        redact(&mut part, &hidden);
        zip.start_file(name, SimpleFileOptions::default()).map_err(|e| fault(&e))?;
        let text = serde_json::to_vec_pretty(&part).map_err(|e| fault(&e))?;
        zip.write_all(&text).map_err(|e| fault(&e))?;
    }
    zip.finish().and_then(|file| Ok(file.sync_all()?)).map_err(|e| fault(&e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_out_wherever_they_stand() {
        let hidden =
            ["/home/ana/.cairn", "Ana", "a"].map(str::to_owned).into_iter().zip(["HOME", "device-1", "device-2"].map(str::to_owned));
        let mut value = json!({"a": ["Ana wrote a word in /home/ana/.cairn/x", 3], "b": {"c": "Ana"}, "d": "Anabel and aAna, a"});
        redact(&mut value, &hidden.collect::<Vec<_>>());
        let shown = json!({"a": ["device-1 wrote device-2 word in HOME/x", 3], "b": {"c": "device-1"}, "d": "Anabel and aAna, device-2"});
        assert_eq!(value, shown);
    }
}
