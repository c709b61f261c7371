//! Verbs that change observations or membership.

use crate::home::now_ms;
use crate::reading::resolve_id;
use crate::request::{AddRequest, EditRequest, Reply};
use crate::{Node, NodeError, show};
use cairn_model::{Configuration, DocId, DocKey, Edit, Instant, Observation, Place, Value};
use cairn_store::Store;
use serde_json::json;

type Answered = Result<Reply, NodeError>;

fn bad(e: impl std::fmt::Display) -> NodeError {
    NodeError::input(e.to_string())
}

/// What `set` asks for, checked against the configuration; `before` is what stands now.
fn edit_of(set: &AddRequest, configuration: Option<&Configuration>, before: &Observation) -> Result<Edit, NodeError> {
    let mut edit = Edit::new();
    if let Some(category) = &set.category {
        edit.category(category, configuration).map_err(bad)?;
    }
    if let Some(at) = &set.at {
        let place = Place::parse_typed(at).map_err(bad)?;
        edit.place(set.uncertainty.map_or(Ok(place), |u| place.with_uncertainty(u)).map_err(bad)?);
    }
    if let Some(time) = &set.time {
        edit.at(Instant::parse(time).map_err(bad)?);
    }
    if let Some(note) = &set.note {
        edit.note(note);
    }
    for (field, text) in &set.fields {
        edit.field(field, text, configuration, before.chosen(field)).map_err(bad)?;
    }
    Ok(edit)
}

fn shown(store: &Store, id: &DocId) -> Answered {
    let view = store.observation(id)?.ok_or_else(|| NodeError::NotFound { what: format!("observation {id}") })?;
    Ok(Reply::new(json!({"observation": show::observation(&view)})))
}

pub(crate) fn add(node: &Node, add: &AddRequest) -> Answered {
    let mut store = node.store();
    let configuration = store.configuration();
    let mut edit = edit_of(add, configuration.as_ref().as_ref(), &Observation::default())?;
    if add.category.is_none() {
        edit.set(&DocKey::Category, Some(Value::from(cairn_model::UNCATEGORISED)));
    }
    if add.time.is_none()
        && let Some(now) = Instant::from_unix_ms(now_ms())
    {
        edit.at(now);
    }
    let id = store.new_id();
    store.edit_observations(vec![(id, edit)], now_ms())?;
    let mut reply = shown(&store, &id)?;
    if configuration.is_none() {
        reply.warnings.push("the configuration has not arrived yet: category and fields were not checked".into());
    }
    Ok(reply)
}

pub(crate) fn edit(node: &Node, request: &EditRequest) -> Answered {
    let mut store = node.store();
    let id = resolve_id(&store, &request.id)?;
    let before = store.observation(&id)?.ok_or_else(|| NodeError::NotFound { what: format!("observation {id}") })?.seen;
    let configuration = store.configuration();
    let mut edit = edit_of(&request.set, configuration.as_ref().as_ref(), &before)?;
    for field in &request.unset {
        match field.as_str() {
            "note" => edit.note(""),
            "at" => edit.set(&DocKey::Where, None),
            "time" => edit.set(&DocKey::At, None),
            _ => edit.unset(field, before.chosen(field)),
        };
    }
    if edit.is_empty() {
        return Err(NodeError::input("nothing to change: give KEY=VALUE, --unset, --at, --time, --category or --note"));
    }
    store.edit_observations(vec![(id, edit)], now_ms())?;
    shown(&store, &id)
}

pub(crate) fn remove(node: &Node, ids: &[String], deleted: bool) -> Answered {
    let mut store = node.store();
    let ids = ids.iter().map(|id| resolve_id(&store, id)).collect::<Result<Vec<_>, _>>()?;
    let edit = || {
        let mut edit = Edit::new();
        edit.deleted(deleted);
        edit
    };
    let changed = store.edit_observations(ids.iter().map(|id| (*id, edit())).collect(), now_ms())?;
    let mut rows = Vec::new();
    for id in &ids {
        rows.extend(store.observation(id)?.map(|o| show::observation(&o)));
    }
    Ok(Reply::new(json!({"observations": rows, "changed": changed})))
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
    let entry = view.conflicts.iter().find(|c| c.key == key);
    let entry = entry.ok_or_else(|| NodeError::NotFound { what: format!("open conflict on `{key}` of {id}") })?;
    let offered: Vec<Value> = entry.values.iter().filter_map(|v| v.value.clone()).collect();
    let doc_key = match key {
        "category" | "at" | "where" | "note" | "deleted" => DocKey::decode(key),
        other => DocKey::Field(other.to_owned()),
    };
    let typed = match doc_key {
        DocKey::Deleted => match value {
            "true" => Some(Value::Bool(true)),
            "false" => None,
            _ => return Err(NodeError::input("`deleted` is settled with true or false")),
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
    Ok(reply)
}
