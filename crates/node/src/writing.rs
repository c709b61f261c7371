//! Verbs that change observations or membership.

use crate::home::now_ms;
use crate::reading::resolve_id;
use crate::request::{AddRequest, EditRequest, Reply};
use crate::{Node, NodeError, show};
use cairn_model::{Configuration, DocId, DocKey, Edit, Instant, Observation, Place, Value, typed_field};
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
    let typed = set.at.as_ref().map(|at| Place::parse_typed(at).map_err(bad)).transpose()?;
    if let Some(metres) = set.uncertainty {
        let place = typed.or(before.place).ok_or_else(|| NodeError::input("--uncertainty is of a position: give it with --at LAT,LON"))?;
        edit.place(place.with_uncertainty(metres).map_err(bad)?);
    } else if let Some(place) = typed {
        edit.place(place);
    }
    if let Some(time) = &set.time {
        edit.at(Instant::parse(time).map_err(bad)?);
    }
    if let Some(note) = &set.note {
        edit.note(note);
    }
    for (field, text) in &set.fields {
        let field = typed_field(field);
        edit.field(field, text, configuration, before.chosen(field)).map_err(bad)?;
    }
    Ok(edit)
}

/// A field that is called as what every observation has is easily typed for that.
fn mistakable(set: &AddRequest) -> impl Iterator<Item = String> + '_ {
    const OWN: [(&str, &str); 5] = [("note", "--note"), ("time", "--time"), ("at", "--at"), ("where", "--at"), ("category", "--category")];
    let named = |field: &str| OWN.iter().find(|(name, _)| *name == field);
    set.fields.iter().filter_map(move |(field, _)| named(field)).map(|(name, option)| {
        format!("`{name}` was written to a field of that name (`field:{name}` says that it is meant); the observation's own is `{option}`")
    })
}

fn purged(id: &DocId) -> NodeError {
    NodeError::refused(
        format!("the content of {id} was purged: there is nothing to change or to bring back"),
        "record it anew: `cairn add`",
    )
}

pub(crate) fn shown(store: &Store, id: &DocId) -> Answered {
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
    reply.warnings.extend(mistakable(add));
    if configuration.is_none() {
        reply.warnings.push("the configuration has not arrived yet: category and fields were not checked".into());
    }
    Ok(reply)
}

pub(crate) fn edit(node: &Node, request: &EditRequest) -> Answered {
    let mut store = node.store();
    let id = resolve_id(&store, &request.id)?;
    let before = store.observation(&id)?.ok_or_else(|| NodeError::NotFound { what: format!("observation {id}") })?.seen;
    if before.purged {
        return Err(purged(&id));
    }
    let configuration = store.configuration();
    let mut edit = edit_of(&request.set, configuration.as_ref().as_ref(), &before)?;
    for field in &request.unset {
        match field.as_str() {
            "note" => edit.note(""),
            "at" => edit.set(&DocKey::Where, None),
            "time" => edit.set(&DocKey::At, None),
            _ => edit.unset(typed_field(field), before.chosen(typed_field(field))),
        };
    }
    if edit.is_empty() {
        return Err(NodeError::input("nothing to change: give KEY=VALUE, --unset, --at, --uncertainty, --time, --category or --note"));
    }
    store.edit_observations(vec![(id, edit)], now_ms())?;
    let mut reply = shown(&store, &id)?;
    reply.warnings.extend(mistakable(&request.set));
    if before.deleted {
        reply.warnings.push(format!("it is deleted and stays so: `cairn restore {id}` shows it again"));
    }
    Ok(reply)
}

pub(crate) fn remove(node: &Node, ids: &[String], deleted: bool) -> Answered {
    let mut store = node.store();
    let ids = ids.iter().map(|id| resolve_id(&store, id)).collect::<Result<Vec<_>, _>>()?;
    for id in ids.iter().filter(|_| !deleted) {
        if store.observation(id)?.is_some_and(|o| o.seen.purged) {
            return Err(purged(id));
        }
    }
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
