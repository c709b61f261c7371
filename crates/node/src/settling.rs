//! What people may settle, and nothing waits for: concurrent values, observations that look like one, content that must go.

use crate::home::now_ms;
use crate::jobs::schedule::duration;
use crate::reading::resolve_id;
use crate::request::{ConflictsRequest, Reply};
use crate::writing::shown;
use crate::{Node, NodeError, show};
use cairn_model::{DocId, DocKey, Edit, Place, Value};
use cairn_store::{DocView, Likeness, Pair, Store};
use serde_json::json;

type Answered = Result<Reply, NodeError>;

/// Metres within which two observations may be one, if nobody says otherwise: what phones under trees are off by.
const METRES: f64 = 50.0;
/// And milliseconds.
const WITHIN_MS: i64 = 10 * 60_000;

fn likeness(request: &ConflictsRequest) -> Result<Likeness, NodeError> {
    let metres = request.metres.unwrap_or(METRES);
    if !(0.1..=100_000.0).contains(&metres) {
        return Err(NodeError::input(format!("--radius {metres}: between 0.1 and 100000 metres")));
    }
    let span = request.within.as_deref().map(duration).transpose().map_err(NodeError::input)?;
    let within_ms = span.map_or(WITHIN_MS, |s| i64::try_from(s.as_millis()).unwrap_or(i64::MAX / 2));
    Ok(Likeness { metres, within_ms, same_device: request.same_device, limit: request.limit })
}

fn pair(store: &Store, p: &Pair) -> serde_json::Value {
    let name = |d: Option<cairn_model::DeviceId>| d.map(|d| store.device_name(&d));
    json!({
        "ids": [p.ids.0.to_string(), p.ids.1.to_string()], "devices": [name(p.devices.0), name(p.devices.1)], "category": p.category,
        "metres": (p.metres * 10.0).round() / 10.0, "seconds": p.apart_ms / 1000,
    })
}

pub(crate) fn conflicts(node: &Node, request: &ConflictsRequest) -> Answered {
    let store = node.store();
    let mut rows: Vec<_> = store.conflicts()?.iter().map(show::conflict).collect();
    for value in rows.iter_mut().flat_map(|row| row["values"].as_array_mut().into_iter().flatten()) {
        let device = value["device"].as_str().and_then(|d| d.parse().ok());
        value["name"] = json!(device.map(|d| store.device_name(&d)));
    }
    let mut reply = Reply::new(json!({"conflicts": rows}));
    if !request.no_duplicates {
        let found = store.duplicates(&likeness(request)?)?;
        reply.data["duplicates"] = json!(found.pairs.iter().map(|p| pair(&store, p)).collect::<Vec<_>>());
        reply.data["duplicate_count"] = json!(found.count);
        if !found.complete {
            let many =
                "many observations share one place and time, and not each was compared with each: narrow it by --radius and --within";
            reply.warnings.push(many.into());
        }
    }
    Ok(reply)
}

fn view(store: &Store, id: &str) -> Result<DocView, NodeError> {
    let id = resolve_id(store, id)?;
    store.observation(&id)?.ok_or_else(|| NodeError::NotFound { what: format!("observation {id}") })
}

/// Says of two observations that both are meant, or takes it back. It stands in one of them: in one this device made where there is one,
/// because a project may let people edit their own only.
pub(crate) fn both_meant(node: &Node, first: &str, second: &str, meant: bool) -> Answered {
    let mut store = node.store();
    let (a, b) = (view(&store, first)?, view(&store, second)?);
    if a.seen.purged || b.seen.purged {
        return Err(NodeError::refused(
            "the content of one of them was purged: there is nothing to compare",
            "`cairn show ID` tells which",
        ));
    }
    if a.id == b.id {
        return Err(NodeError::input("a pair is two observations: give two ids"));
    }
    let own = Some(store.device());
    let (at, other) = if b.created_by == own && a.created_by != own { (&b, &a) } else { (&a, &b) };
    let stands = |at: &DocView, other: &DocId| at.seen.both.contains(other);
    let edit = |to: DocId, value: Option<Value>| {
        let mut edit = Edit::new();
        edit.set(&DocKey::Both(to), value);
        edit
    };
    let mut edits = Vec::new();
    match meant {
        true if !stands(at, &other.id) && !stands(other, &at.id) => edits.push((at.id, edit(other.id, Some(Value::Bool(true))))),
        true => {}
        false => {
            edits.extend(stands(at, &other.id).then(|| (at.id, edit(other.id, None))));
            edits.extend(stands(other, &at.id).then(|| (other.id, edit(at.id, None))));
        }
    }
    let changed = store.edit_observations(edits, now_ms())?;
    Ok(Reply::new(json!({"ids": [a.id.to_string(), b.id.to_string()], "meant": meant, "changed": changed > 0})))
}

/// What a purge can and cannot do, for every answer of it.
const PURGE: &str = "no device of the project shows it any more once it has synced, not even in its history. It cannot reach what was copied out: \
                     the sealed history on members' devices and on carriers, backups, exports, screens. To be rid of those too, make a backup, \
                     `cairn backup restore FILE --as NEW-NAME` without the history, let everybody join that project, and wipe the old homes";

/// Takes all content of observations away, for everybody: every value goes, they are deleted, and what the history keeps is not shown.
pub(crate) fn purge(node: &Node, ids: &[String], dry_run: bool) -> Answered {
    let mut store = node.store();
    let mut edits = Vec::new();
    let mut rows = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for id in ids {
        if id.len() < 4 {
            return Err(NodeError::input(format!("`{id}`: for a purge type at least four letters of the id")));
        }
        let view = view(&store, id)?;
        if !seen.insert(view.id) {
            continue;
        }
        let mut edit = Edit::new();
        let mut values = 0;
        for (raw, _) in store.values_of(&view.id)? {
            let key = DocKey::decode(&raw);
            if !matches!(key, DocKey::Deleted | DocKey::Purged) {
                edit.set(&key, None);
                values += 1;
            }
        }
        edit.deleted(true).set(&DocKey::Purged, Some(Value::Bool(true)));
        rows.push(json!({"id": view.id.to_string(), "values": values, "purged_before": view.seen.purged, "category": view.seen.category, "time": view.seen.at, "note": view.seen.note}));
        edits.push((view.id, edit));
    }
    let changed = if dry_run { 0 } else { store.edit_observations(edits, now_ms())? };
    if changed > 0 {
        // The last time it is named: the answer of a purge is no place to keep it.
        for row in &mut rows {
            (row["time"], row["note"]) = (serde_json::Value::Null, serde_json::Value::Null);
        }
    }
    let mut reply = Reply::new(json!({"observations": rows, "changed": changed, "dry_run": dry_run}));
    reply.warnings.push(PURGE.into());
    Ok(reply)
}

/// The value that was meant: as `conflicts` prints it, or a position as people type it.
fn offered_value(offered: &[Value], typed: &str) -> Result<Value, NodeError> {
    let geo = Place::parse_typed(typed).ok().map(|p| p.to_geo());
    let meant = |v: &&Value| v.display() == typed || Some(v.display()) == geo;
    offered.iter().find(meant).cloned().ok_or_else(|| {
        let list: Vec<String> = offered.iter().map(Value::display).collect();
        NodeError::input(format!("`{typed}` is none of the values to choose from: {}", list.join(" | ")))
    })
}

/// Writes the chosen value on top of all concurrent ones; "deleted" takes `true` or `false`.
pub(crate) fn resolve(node: &Node, id: &str, key: &str, value: &str) -> Answered {
    let mut store = node.store();
    let id = resolve_id(&store, id)?;
    let view = store.observation(&id)?.ok_or_else(|| NodeError::NotFound { what: format!("observation {id}") })?;
    let called = |name: &str| view.conflicts.iter().find(|c| c.key == name);
    // What `--time` sets.
    let entry = called(key).or_else(|| called("at").filter(|_| key == "time"));
    let entry = entry.ok_or_else(|| NodeError::NotFound { what: format!("open conflict on `{key}` of {id}") })?;
    let offered: Vec<Value> = entry.values.iter().filter_map(|v| v.value.clone()).collect();
    let doc_key = entry.doc_key.clone();
    let typed = match doc_key {
        DocKey::Deleted => match value {
            "true" => Some(Value::Bool(true)),
            // As `conflicts` lists the other side: an edit, which has no value of this key.
            "false" | "null" => None,
            _ => return Err(NodeError::input("`deleted` is settled with true (it stays deleted) or false (it comes back)")),
        },
        _ => Some(offered_value(&offered, value)?),
    };
    let settled = match typed {
        // The same deletion again would be no change: settling writes it anew, on top of the unseen edit.
        Some(Value::Bool(true)) if doc_key == DocKey::Deleted => store.settle_deletion(&id, now_ms())?,
        typed => {
            let mut edit = Edit::new();
            edit.set(&doc_key, typed);
            store.edit_observations(vec![(id, edit)], now_ms())? > 0
        }
    };
    let mut reply = shown(&store, &id)?;
    reply.data["settled"] = json!(settled);
    if view.seen.deleted && doc_key != DocKey::Deleted {
        reply.warnings.push(format!("it is deleted and stays so: `cairn restore {id}` shows it again"));
    }
    Ok(reply)
}
