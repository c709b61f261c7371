//! Going back: for this device alone (undo of a sync), or for everybody (reversals).

use crate::history::change_at;
use crate::home::now_ms;
use crate::reading::resolve_id;
use crate::request::{Reply, RevertRequest};
use crate::{Node, NodeError};
use cairn_store::{Aside, RevertPlan, RevertWhat, Store, StoreError, SyncEffect};
use serde_json::json;

type Answered = Result<Reply, NodeError>;

fn sync_number(text: &str) -> Result<u32, NodeError> {
    text.parse().map_err(|_| NodeError::NotFound { what: format!("sync `{text}` (`cairn undo` lists them)") })
}

type Act = fn(&mut Store, u32) -> Result<Aside, StoreError>;

fn aside(node: &Node, sync: &str, act: Act) -> Answered {
    let number = sync_number(sync)?;
    let mut store = node.store();
    let done = match act(&mut store, number) {
        // It is listed, and brought no observations.
        Err(StoreError::NoSync(_)) if store.has_sync(number)? => Aside::default(),
        Err(StoreError::NoSync(_)) => return Err(NodeError::NotFound { what: format!("sync `{sync}` (`cairn undo` lists them)") }),
        done => done?,
    };
    Ok(Reply::new(json!({
        "sync": sync, "changes": done.changes, "kept": done.kept, "hidden": done.hidden, "shown": done.shown, "changed": done.changed,
        "set_aside": store.set_aside_changes(), "observations": store.count()?,
    })))
}

/// `undo SYNC`, and with `later` all syncs after it: the latest first, because what a later one builds on would stay.
pub(crate) fn undo(node: &Node, sync: &str, later: bool) -> Answered {
    several(node, sync, later, Store::undo_sync, |syncs| syncs.reverse())
}

/// `redo SYNC`, and with `later` all syncs after it.
pub(crate) fn redo(node: &Node, sync: &str, later: bool) -> Answered {
    several(node, sync, later, Store::redo_sync, |_| {})
}

fn several(node: &Node, sync: &str, later: bool, act: Act, order: fn(&mut Vec<u32>)) -> Answered {
    let first = sync_number(sync)?;
    // A number that is none is refused before anything is set aside.
    if !later || !node.store().has_sync(first)? {
        return aside(node, sync, act);
    }
    let all = node.store().syncs(0)?;
    let mut all: Vec<u32> = all.iter().filter(|s| s.batches > 0 && s.number > first).map(|s| s.number).chain([first]).collect();
    all.sort_unstable();
    order(&mut all);
    let (mut counts, mut last) = ([0; 5], Reply::default());
    for number in &all {
        last = aside(node, &number.to_string(), act)?;
        for (count, key) in counts.iter_mut().zip(COUNTS) {
            *count += last.data[key].as_u64().unwrap_or(0);
        }
    }
    for (count, key) in counts.iter().zip(COUNTS) {
        last.data[key] = json!(count);
    }
    last.data["sync"] = json!(sync);
    last.data["also"] = json!(all.iter().filter(|n| **n != first).map(ToString::to_string).collect::<Vec<_>>());
    Ok(last)
}

/// What an undo counts.
const COUNTS: [&str; 5] = ["changes", "kept", "hidden", "shown", "changed"];

/// `ID@VERSION`, `FEED:NUMBER` (a batch), or the id of an act as `import` and `log` give it.
fn what(store: &Store, text: &str) -> Result<RevertWhat, NodeError> {
    let missing = || NodeError::NotFound { what: format!("import, batch or version `{text}`") };
    if let Some((id, version)) = text.split_once('@') {
        let id = resolve_id(store, id)?;
        return Ok(RevertWhat::Version(id, change_at(store, &id, version)?));
    }
    if let Some((feed, seq)) = text.split_once(':') {
        let seq = seq.parse().map_err(|_| missing())?;
        let mut feeds: Vec<_> = store.feeds().iter().map(|f| f.id).filter(|f| f.to_string().starts_with(&feed.to_lowercase())).collect();
        feeds.dedup();
        return match feeds[..] {
            [] => Err(missing()),
            [one] => Ok(RevertWhat::Batch(one, seq)),
            _ => Err(NodeError::Ambiguous { prefix: feed.to_owned() }),
        };
    }
    if text.len() < 4 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(missing());
    }
    match store.units_with_prefix(text, 2)?[..] {
        [] => Err(missing()),
        [one] => Ok(RevertWhat::Unit(one)),
        _ => Err(NodeError::Ambiguous { prefix: text.to_owned() }),
    }
}

/// `revert WHAT`
pub(crate) fn revert(node: &Node, request: &RevertRequest) -> Answered {
    let mut store = node.store();
    let what = what(&store, &request.what)?;
    let plan = RevertPlan { all: request.all, dry_run: request.dry_run };
    let done = store.revert(&what, plan, now_ms()).map_err(|e| match e {
        StoreError::NoAct => NodeError::NotFound { what: format!("import, batch or version `{}`", request.what) },
        other => other.into(),
    })?;
    let kept: Vec<String> = done.kept.iter().take(1000).map(ToString::to_string).collect();
    let mut reply = Reply::new(json!({
        "act": done.unit.map(|u| u.to_string()), "deleted": done.deleted, "restored": done.restored, "changed": done.changed,
        "unchanged": done.unchanged, "kept": kept, "kept_values": done.kept_values, "refused": done.refused, "purged": done.purged, "dry_run": request.dry_run,
    }));
    if !done.kept.is_empty() {
        reply.warnings.push(format!(
            "{} observations were edited by somebody since and are kept as they are; `--all` deletes them too (`restore` brings them back)",
            done.kept.len()
        ));
    }
    if done.purged > 0 {
        reply.warnings.push(format!("the content of {} observations was purged: nothing of it comes back", done.purged));
    }
    if done.kept_values > 0 {
        reply.warnings.push(format!("{} values were kept: somebody wrote another one since", done.kept_values));
    }
    if done.refused > 0 {
        reply
            .warnings
            .push(format!("{} observations were made by others, and this project lets only their makers edit them", done.refused));
        reply.code = 3;
    }
    Ok(reply)
}

/// `restore --from SYNC`: brings back, for everybody, what was deleted by what a sync brought.
pub(crate) fn restore_from(node: &Node, sync: &str) -> Answered {
    let number = sync_number(sync)?;
    let mut ids = Vec::new();
    {
        let store = node.store();
        if !store.has_sync(number)? {
            return Err(NodeError::NotFound { what: format!("sync `{sync}` (`cairn undo` lists them)") });
        }
        for (id, effect) in store.sync_effects(number)? {
            let gone = effect == SyncEffect::Deleted && store.observation(&id)?.is_some_and(|o| o.seen.deleted && !o.seen.purged);
            ids.extend(gone.then(|| id.to_string()));
        }
    }
    crate::writing::remove(node, &ids, false)
}
