//! Remotes that are folders or files, kept up to date while the service runs: when something changes there, when something
//! changes here, and every minute, because neither events nor network shares can be relied on.

use crate::carry::{Carrier, Errand, sync_place};
use crate::heard::Heard;
use crate::home::Node;
use crate::remotes::{always_kept, ways};
use cairn_contract::MailboxError;
use cairn_sync::ExchangeSetup;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;

/// How often places are looked at without being told to.
const POLL: Duration = Duration::from_secs(60);
/// Changes that follow each other this closely go together.
const QUIET: Duration = Duration::from_secs(2);

/// Never ends.
pub(crate) async fn watch_remotes(node: &Arc<Node>) {
    let news = Arc::new(Notify::new());
    let mut watched: BTreeMap<PathBuf, RecommendedWatcher> = BTreeMap::new();
    let mut states: BTreeMap<String, String> = BTreeMap::new();
    let (mut changes, mut remotes_changed) = (node.changes(), node.remotes_changed.subscribe());
    loop {
        let remotes = always_kept(node).await;
        let places: Vec<(String, Carrier)> =
            remotes.iter().filter_map(|(name, target)| Some((name.clone(), Carrier::of_remote(target)?))).collect();
        // Relays are looked after beside this: they tell what is new themselves.
        let places: Vec<(String, PathBuf, Carrier)> =
            places.into_iter().filter_map(|(name, place)| Some((name, place.path()?.to_owned(), place))).collect();
        watched.retain(|path, _| places.iter().any(|(_, at, _)| at == path));
        let idle = places.is_empty();
        for (name, path, place) in places {
            if !watched.contains_key(&path)
                && let Some(watcher) = watcher(&place, &news)
            {
                watched.insert(path, watcher);
            }
            visit_one(node, &name, place, false, &mut states).await;
        }
        tokio::select! {
            () = tokio::time::sleep(POLL), if !idle => continue,
            () = news.notified() => {}
            changed = changes.recv(), if !idle => if matches!(changed, Err(RecvError::Closed)) { return std::future::pending().await },
            changed = remotes_changed.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return std::future::pending().await,
            },
        }
        tokio::time::sleep(QUIET).await;
    }
}

/// Tells of changes under a place; `None` where the system cannot, then polling must do.
fn watcher(place: &Carrier, news: &Arc<Notify>) -> Option<RecommendedWatcher> {
    let news = news.clone();
    let told = move |event: notify::Result<notify::Event>| {
        // Reading is no news, nor is what is still being written: this program's own visits would never end.
        let temporary = |p: &PathBuf| p.extension().is_some_and(|e| e == "part");
        if event.is_ok_and(|e| !matches!(e.kind, notify::EventKind::Access(_)) && !e.paths.iter().all(temporary)) {
            news.notify_one();
        }
    };
    let mut watcher = notify::recommended_watcher(told).ok()?;
    let (path, how) = match place {
        Carrier::Folder(path) => (path.clone(), RecursiveMode::Recursive),
        Carrier::File(path) => (path.parent()?.to_owned(), RecursiveMode::NonRecursive),
        Carrier::Relay(_) => return None,
    };
    watcher.watch(&path, how).ok()?;
    Some(watcher)
}

/// One visit; people hear when a place is in another state than before.
pub(crate) async fn visit_one(node: &Arc<Node>, name: &str, place: Carrier, receipt_later: bool, states: &mut BTreeMap<String, String>) {
    let (of, typed) = (node.clone(), name.to_owned());
    let done = tokio::task::spawn_blocking(move || {
        let number = of.store().next_sync()?;
        let (pull, push) = ways(&of.store().remote_rule(&typed)?);
        let setup = ExchangeSetup { pull, push, receipt_later, ..ExchangeSetup::default() };
        let budget = if place.path().is_none() { of.rest_of_day()? } else { None };
        let errand = Errand { typed: &typed, place: &place, setup: &setup, number, unasked: true, quick: true, budget: budget.as_deref() };
        if budget.as_ref().is_some_and(|b| b.is_over()) {
            return Ok(crate::carry::refused_by(&typed, place.transport(), &MailboxError::Spent(place.name())));
        }
        let row = sync_place(&of, &errand, &crate::events::progress_of(&of, typed.clone()));
        if let Some(budget) = &budget {
            of.note_spent(budget, true)?;
        }
        let row = row?;
        if row["received"]["batches"].as_u64().unwrap_or(0) > 0 {
            of.store().note_sync(number, std::slice::from_ref(&typed), crate::now_ms())?;
            of.tell_synced(&typed, number, &row);
        }
        of.heard.send(Heard::Confirmed).ok();
        Ok::<_, crate::NodeError>(row)
    });
    let (state, message, remedy) = match done.await {
        Ok(Ok(row)) => {
            let alarms = row["faults"].as_array().into_iter().flatten().filter_map(|f| f.as_str()).filter(|f| f.starts_with("ALARM"));
            for message in alarms.map(str::to_owned) {
                let remedy = "`cairn status` keeps the evidence until `cairn remote seen NAME`".to_owned();
                node.heard.send(Heard::Carried { target: name.to_owned(), state: "alarm".into(), message, remedy }).ok();
            }
            let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
            (text("state"), text("message"), text("remedy"))
        }
        Ok(Err(e)) => ("failed".into(), e.to_string(), String::new()),
        Err(e) => ("failed".into(), e.to_string(), String::new()),
    };
    let before = states.insert(name.to_owned(), state.clone());
    if before.as_ref() != Some(&state) && (state != "synced" || before.is_some()) {
        node.heard.send(Heard::Carried { target: name.to_owned(), state, message, remedy }).ok();
    }
}
