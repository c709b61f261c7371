//! Verbs that change nothing.

use crate::request::{ListRequest, Reply};
use crate::{Node, NodeError, show};
use cairn_model::{DocId, Instant};
use cairn_store::{Bbox, Filter, Store};
use serde_json::json;

type Answered = Result<Reply, NodeError>;

/// The one observation whose id begins with `text`.
pub(crate) fn resolve_id(store: &Store, text: &str) -> Result<DocId, NodeError> {
    let missing = || NodeError::NotFound { what: format!("observation `{text}`") };
    let hex = !text.is_empty() && text.len() <= 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
    if !hex {
        return Err(missing());
    }
    match store.ids_with_prefix(text, 2)?.as_slice() {
        [] => Err(missing()),
        [one] => Ok(*one),
        _ => Err(NodeError::Ambiguous { prefix: text.to_owned() }),
    }
}

pub(crate) fn filter(store: &Store, list: &ListRequest) -> Result<Filter, NodeError> {
    let time = |text: &Option<String>| -> Result<Option<i64>, NodeError> {
        text.as_deref().map(|t| Instant::parse(t).map(|i| i.unix_ms()).map_err(|e| NodeError::input(e.to_string()))).transpose()
    };
    // A day alone as an upper bound means all of that day.
    let whole_day = list.until.as_ref().is_some_and(|t| t.trim().len() == 10);
    let until = time(&list.until)?.map(|ms| if whole_day { ms + 86_399_999 } else { ms });
    let only = match &list.sync {
        Some(sync) => {
            let number = sync.parse().map_err(|_| NodeError::NotFound { what: format!("sync `{sync}`") })?;
            Some(store.sync_effects(number)?.into_iter().map(|(id, _)| id).collect())
        }
        None => None,
    };
    Ok(Filter {
        category: list.category.clone(),
        since: time(&list.since)?,
        until,
        bbox: list.bbox.as_deref().map(bbox).transpose()?,
        fields: list.fields.clone(),
        deleted: list.deleted || list.sync.is_some(),
        only,
        dataset: list.dataset.as_ref().map(|d| cairn_model::Dataset::new(d, &[]).name),
        limit: list.limit,
    })
}

fn bbox(text: &str) -> Result<Bbox, NodeError> {
    let numbers: Vec<f64> = text.split(',').filter_map(|n| n.trim().parse().ok()).collect();
    let wrong = || NodeError::input(format!("`{text}` is not a box: write W,S,E,N in degrees, such as -63,-4,-62,-3"));
    let [west, south, east, north] = numbers[..] else { return Err(wrong()) };
    let lat = -90.0..=90.0;
    let lon = -180.0..=180.0;
    if !lat.contains(&south) || !lat.contains(&north) || south > north || !lon.contains(&west) || !lon.contains(&east) {
        return Err(wrong());
    }
    Ok(Bbox { west, south, east, north })
}

/// What this device is, in a word, as far as it knows.
fn standing(store: &Store) -> Result<&'static str, NodeError> {
    Ok(match store.still_in() {
        Err(_) => "removed",
        Ok(()) if store.is_refused()? => "not-counted",
        Ok(()) => "active",
    })
}

pub(crate) fn whoami(node: &Node) -> Answered {
    let store = node.store();
    let genesis = store.genesis()?;
    let role = store.membership().role(&store.device()).map(|r| r.word());
    let state = standing(&store)?;
    let project = json!({"project": store.project().to_string(), "name": genesis.name, "role": role, "state": state});
    let digits = store.device().digits();
    Ok(Reply::new(
        json!({"device": store.device().to_string(), "digits": digits, "name": store.device_name(&store.device()), "projects": [project]}),
    ))
}

pub(crate) fn show(node: &Node, id: &str) -> Answered {
    let store = node.store();
    let id = resolve_id(&store, id)?;
    let view = store.observation(&id)?.ok_or_else(|| NodeError::NotFound { what: format!("observation {id}") })?;
    let mut shown = show::observation(&view);
    // A category that is gone is called as it was when the observation was made.
    let now = store.configuration().as_ref().as_ref().and_then(|c| c.category(&view.seen.category)).map(|c| c.name.clone());
    let then = || -> Result<Option<String>, NodeError> {
        let Some(made) = &view.seen.made_with else { return Ok(None) };
        let old = store.configuration_at(&made.to_string())?;
        Ok(old.and_then(|c| c.category(&view.seen.category).map(|c| c.name.clone())))
    };
    shown["category_name"] = json!(now.map_or_else(then, |n| Ok(Some(n)))?);
    Ok(Reply::new(json!({"observations": [shown], "count": 1})))
}

pub(crate) fn list(node: &Node, list: &ListRequest) -> Answered {
    let store = node.store();
    let listing = store.list(&filter(&store, list)?)?;
    let rows: Vec<_> = listing.observations.iter().map(show::observation).collect();
    Ok(Reply::new(json!({"observations": rows, "count": listing.count})))
}

/// Tables that rows were imported from.
pub(crate) fn datasets(node: &Node) -> Answered {
    let sets = node.store().datasets()?;
    let rows: Vec<_> = sets.iter().map(|(d, rows)| json!({"name": d.name, "key": d.key, "observations": rows})).collect();
    Ok(Reply::new(json!({"datasets": rows})))
}

pub(crate) fn status(node: &Node) -> Answered {
    let store = node.store();
    let genesis = store.genesis()?;
    let configuration = store.configuration();
    let shown = configuration.as_ref().as_ref();
    let coverage = store.coverage()?;
    let (quarantined, waiting) = store.set_apart_counts()?;
    let asking = store.membership().pending.iter().filter(|p| !p.refused).count();
    let mut reply = Reply::new(json!({
        "project": store.project().to_string(),
        "name": genesis.name,
        "device": store.device().to_string(),
        "device_name": store.device_name(&store.device()),
        "configuration": {"id": store.lineage()?.to_string(), "name": shown.map(|c| &c.name), "version": shown.map(|c| &c.version)},
        "digest": cairn_model::hex(&store.digest()?),
        "observations": store.count()?,
        "unsynced": coverage.unsynced,
        "only_here": coverage.only_here,
        "held_by": crate::standing::holders(&store)?,
        "set_aside": store.set_aside_changes(),
        "states": crate::standing::states(&store, crate::now_ms())?,
        "conflicts": store.conflict_count()?,
        "quarantined": quarantined,
        "waiting": waiting,
        "asking_to_enter": asking,
        "state": standing(&store)?,
        "frontier": show::frontier(&store)?,
    }));
    let relays = crate::relay::standing(node, &store)?;
    for relay in &relays {
        for alarm in relay["alarms"].as_array().into_iter().flatten() {
            let said = alarm["message"].as_str().unwrap_or_default();
            reply.warnings.push(format!(
                "ALARM at `{}` since {}: {said}",
                relay["name"].as_str().unwrap_or_default(),
                alarm["at"].as_str().unwrap_or_default()
            ));
        }
    }
    reply.data["relays"] = json!(relays);
    if shown.is_none() {
        reply.warnings.push("the configuration has not arrived yet: sync once with a member".into());
    }
    match store.still_in() {
        Err(e) => reply.warnings.push(e.to_string()),
        Ok(()) if store.is_refused()? => reply.warnings.push(
            "the devices of this project do not count this one: ask for a new ticket and `cairn join` again; nothing recorded here is lost"
                .into(),
        ),
        Ok(()) => {}
    }
    if store.set_aside_changes() > 0 {
        let syncs: Vec<String> = store.syncs(0)?.iter().filter(|s| s.set_aside > 0).map(|s| s.number.to_string()).collect();
        reply.warnings.push(format!(
            "{} changes are set aside here by undoing sync {}: others see them; `cairn redo SYNC` shows them again",
            store.set_aside_changes(),
            syncs.join(", ")
        ));
    }
    if quarantined > 0 {
        reply
            .warnings
            .push(format!("{quarantined} batches are in quarantine: `cairn devices quarantine` shows them, a coordinator can accept them"));
    }
    reply.warnings.extend(crate::devices::alerts(&store));
    Ok(reply)
}

/// `check --repair`: a copy beside the store first, then everything that can be made of the chunks.
pub(crate) fn repair(node: &Node, told: &dyn Fn(u64, u64, u64)) -> Answered {
    let copy = crate::backup::copy_first(node)?;
    let before = node.store().check(&mut |_, _| {})?;
    let done = node.store().repair(&mut |done, planned| told(done, planned, done))?;
    let after = node.store().check(&mut |_, _| {})?;
    let rows = |all: &[cairn_store::Finding]| all.iter().map(|f| json!({"place": f.place, "what": f.what})).collect::<Vec<_>>();
    let mut reply = Reply::new(json!({
        "found": rows(&before), "documents": done.documents, "changes": done.changes, "lost": rows(&done.lost), "findings": rows(&after),
        "copy": copy.display().to_string(),
    }));
    if !done.lost.is_empty() {
        reply.warnings.push(format!(
            "{} batches cannot be read, and what they say is not shown here: restore a copy (`cairn backup list`), or `cairn join` in a new home and sync",
            done.lost.len()
        ));
    }
    reply.code = if after.is_empty() { 0 } else { 7 };
    Ok(reply)
}

pub(crate) fn check(node: &Node, told: &dyn Fn(u64, u64, u64)) -> Answered {
    let findings = node.store().check(&mut |done, planned| told(done, planned, done))?;
    let rows: Vec<_> = findings.iter().map(|f| json!({"place": f.place, "what": f.what})).collect();
    let code = if rows.is_empty() { 0 } else { 7 };
    Ok(Reply { data: json!({"findings": rows}), code, ..Reply::default() })
}
