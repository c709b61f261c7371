//! What happened: changes with who made them, when they say so, and how they came here; earlier versions; whether it is all signed.

use crate::reading::resolve_id;
use crate::request::Reply;
use crate::{Node, NodeError, show};
use cairn_model::{ChangeHash, DocId, Instant, hex};
use cairn_store::{LogEntry, PastSync, Store};
use serde_json::{Value, json};
use std::collections::BTreeMap;

type Answered = Result<Reply, NodeError>;

/// A clock may be this far from ours before a claimed time is doubted.
const CLOCK_MS: i64 = 5 * 60_000;

fn time(ms: i64) -> Option<String> {
    Instant::from_unix_ms(ms).map(|i| i.to_rfc3339())
}

/// Why a claimed time cannot be right, as far as this device can tell: the change was here before, or builds on a later one.
fn doubt(e: &LogEntry, received: Option<i64>, parents: &BTreeMap<ChangeHash, i64>) -> Option<&'static str> {
    let built_on_later = e.deps.iter().filter_map(|d| parents.get(d)).any(|parent| *parent > e.time_ms + CLOCK_MS);
    match received {
        Some(at) if e.time_ms > at + CLOCK_MS => Some("it was here before that: the clock of its device was ahead"),
        _ if built_on_later => Some("it builds on a change that says a later time: one of the two clocks was wrong"),
        _ => None,
    }
}

pub(crate) fn log(node: &Node, id: Option<&str>, limit: usize) -> Answered {
    let store = node.store();
    let entries = match id {
        Some(id) => {
            let mut one = store.history(&resolve_id(&store, id)?)?;
            one.sort_by(|a, b| b.time_ms.cmp(&a.time_ms).then(a.hash.cmp(&b.hash)));
            one.truncate(if limit == 0 { usize::MAX } else { limit });
            one
        }
        None => store.recent(limit)?,
    };
    let syncs = store.sync_notes()?;
    let times: BTreeMap<ChangeHash, i64> = entries.iter().map(|e| (e.hash, e.time_ms)).collect();
    let mut rows: Vec<_> = entries.iter().map(|e| entry(&store, e, &syncs, &times)).collect();
    let mut purged: BTreeMap<DocId, bool> = BTreeMap::new();
    for (row, e) in rows.iter_mut().zip(&entries) {
        let gone = match purged.get(&e.id) {
            Some(gone) => *gone,
            None => *purged.entry(e.id).or_insert(is_purged(&store, &e.id)?),
        };
        if gone {
            // Not even the keys: an option that was chosen is part of one.
            (row["purged"], row["set"]) = (json!(true), json!([]));
        }
    }
    Ok(Reply::new(json!({"entries": rows})))
}

fn is_purged(store: &Store, id: &DocId) -> Result<bool, NodeError> {
    Ok(store.observation(id)?.is_some_and(|o| o.seen.purged))
}

/// What was taken away is not shown as it was.
fn not_purged(store: &Store, id: &DocId) -> Result<(), NodeError> {
    match is_purged(store, id)? {
        true => Err(NodeError::refused(
            format!("the content of {id} was purged: earlier versions are not shown"),
            "`cairn log` shows who did it, and when",
        )),
        false => Ok(()),
    }
}

fn entry(store: &Store, e: &LogEntry, syncs: &BTreeMap<u32, (i64, Vec<String>)>, times: &BTreeMap<ChangeHash, i64>) -> Value {
    let set: Vec<_> = e.set.iter().map(|(k, v)| json!({"key": k, "value": v.as_ref().map(show::value)})).collect();
    let by = e.sync.and_then(|n| syncs.get(&n));
    let received = by.map(|(at_ms, _)| *at_ms);
    let mut out = json!({
        "id": e.id.to_string(), "change": hex(&e.hash.0), "version": store.version_of(&e.hash),
        "device": e.device.map(|d| d.to_string()), "name": e.device.map(|d| store.device_name(&d)), "time": time(e.time_ms),
        "set": set, "batch": e.batch.map(|(feed, seq)| json!({"feed": feed.to_string(), "seq": seq})),
        "act": e.unit.map(|u| u.to_string()), "kind": e.kind,
        "sync": e.sync.map(|n| n.to_string()), "received": received.and_then(time), "with": by.map(|(_, with)| with),
        "set_aside": e.set_aside,
    });
    if let Some(doubt) = doubt(e, received, times) {
        out["doubt"] = json!(doubt);
    }
    out
}

/// Every signature and every chain, from the first operation on.
pub(crate) fn verify(node: &Node, told: &dyn Fn(u64, u64, u64)) -> Answered {
    let store = node.store();
    let found = store.verify(&mut |done, planned| told(done, planned, done))?;
    let rows: Vec<_> = found.findings.iter().map(|f| json!({"place": f.place, "what": f.what})).collect();
    let code = if rows.is_empty() { 0 } else { 7 };
    let data = json!({
        "project": store.project().to_string(), "operations": found.operations, "batches": found.batches, "changes": found.changes,
        "devices": found.devices, "findings": rows,
    });
    Ok(Reply { data, code, ..Reply::default() })
}

/// The change at which an observation had a version, by its beginning.
pub(crate) fn change_at(store: &Store, id: &DocId, version: &str) -> Result<ChangeHash, NodeError> {
    let wanted = version.to_lowercase();
    let history = store.history(id)?;
    let named = |e: &&LogEntry| store.version_of(&e.hash).starts_with(&wanted) || hex(&e.hash.0).starts_with(&wanted);
    let found: Vec<ChangeHash> = history.iter().filter(|e| !e.set_aside).filter(named).map(|e| e.hash).collect();
    match found[..] {
        [one] if wanted.len() >= 4 => Ok(one),
        [] => Err(NodeError::NotFound { what: format!("version `{version}` of {id} (`cairn log {id}` shows them)") }),
        _ => Err(NodeError::Ambiguous { prefix: version.to_owned() }),
    }
}

/// `show ID --version V` and `--at TIME`.
pub(crate) fn show_then(node: &Node, id: &str, version: Option<&str>, at: Option<&str>) -> Answered {
    let store = node.store();
    let id = resolve_id(&store, id)?;
    not_purged(&store, &id)?;
    let seen = match (version, at) {
        (Some(version), _) => store.observation_at(&id, &change_at(&store, &id, version)?)?,
        (None, at) => store.observation_then(&id, crate::export::until(at.unwrap_or_default())?)?,
    };
    let view = seen.ok_or_else(|| NodeError::NotFound { what: format!("{id} at that time") })?;
    let mut reply = Reply::new(json!({"observations": [show::observation(&view)], "count": 1, "as_of": version.or(at)}));
    if at.is_some() {
        reply.warnings.push("the moment is by the clocks of those who wrote: it is as they say, and not checked".into());
    }
    Ok(reply)
}

/// `diff ID FROM [TO]`: what a version says otherwise than another, or than now.
pub(crate) fn diff(node: &Node, id: &str, from: &str, to: Option<&str>) -> Answered {
    let store = node.store();
    let id = resolve_id(&store, id)?;
    not_purged(&store, &id)?;
    let values = |version: Option<&str>| -> Result<BTreeMap<String, cairn_model::Value>, NodeError> {
        let hash = version.map(|v| change_at(&store, &id, v)).transpose()?;
        Ok(store.values_at(&id, hash.as_ref())?)
    };
    let (before, after) = (values(Some(from))?, values(to)?);
    let keys: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let differs = keys.into_iter().filter(|key| before.get(*key) != after.get(*key));
    let shown = |v: Option<&cairn_model::Value>| v.map(show::value);
    let rows: Vec<_> = differs.map(|key| json!({"key": key, "from": shown(before.get(key)), "to": shown(after.get(key))})).collect();
    Ok(Reply::new(json!({"id": id.to_string(), "changes": rows})))
}

/// Syncs that took place here, newest first.
pub(crate) fn syncs(node: &Node, limit: usize) -> Answered {
    let rows: Vec<_> = node.store().syncs(limit)?.iter().map(sync_row).collect();
    Ok(Reply::new(json!({"syncs": rows})))
}

pub(crate) fn sync_row(s: &PastSync) -> Value {
    json!({
        "sync": s.number.to_string(), "time": s.at_ms.and_then(time), "with": s.with, "batches": s.batches,
        "new": s.new, "changed": s.changed, "deleted": s.deleted, "set_aside": s.set_aside,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(n: u8, deps: &[u8], minutes: i64) -> LogEntry {
        LogEntry {
            id: DocId([1; 16]),
            hash: ChangeHash([n; 32]),
            device: None,
            time_ms: minutes * 60_000,
            set: Vec::new(),
            batch: None,
            deps: deps.iter().map(|d| ChangeHash([*d; 32])).collect(),
            unit: None,
            kind: "edits",
            sync: Some(1),
            set_aside: false,
        }
    }

    #[test]
    fn times_that_cannot_be_are_doubted_and_small_differences_are_not() {
        let parents = BTreeMap::from([(ChangeHash([1; 32]), 100 * 60_000)]);
        let said = |e: &LogEntry, received: Option<i64>| doubt(e, received.map(|m| m * 60_000), &parents).unwrap_or_default();
        assert_eq!(said(&change(2, &[1], 101), Some(200)), "");
        assert_eq!(said(&change(2, &[1], 96), Some(200)), "", "clocks differ by minutes");
        assert!(said(&change(2, &[1], 94), Some(200)).contains("builds on"));
        assert!(said(&change(2, &[], 206), Some(200)).contains("here before"));
        assert_eq!(said(&change(2, &[], 204), Some(200)), "");
        assert_eq!(said(&change(2, &[7], 1), None), "", "what is not known is not doubted");
    }
}
