//! Remotes that are relays, kept up to date while the service runs: one stream of events each, and a visit when something is new there
//! or here.

use super::visit::ring;
use crate::carry::Carrier;
use crate::home::Node;
use crate::watch::visit_one;
use cairn_relay::wire::Head;
use cairn_relay::{News, RelayUrl};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;

/// Visited at least this often, whatever is heard.
const POLL: Duration = Duration::from_secs(60);
/// Changes that follow each other this closely go together.
const QUIET: Duration = Duration::from_millis(100);
/// The first pause before a broken stream of events is opened again; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// And the longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Ends a task when it is dropped.
struct Running(JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Never ends.
pub(crate) async fn watch_relays(node: &Arc<Node>) {
    let mut running: BTreeMap<String, (RelayUrl, Running)> = BTreeMap::new();
    loop {
        let remotes = node.store().remotes().unwrap_or_default();
        let relays: BTreeMap<String, RelayUrl> =
            remotes.into_iter().filter_map(|(name, target)| Some((name, RelayUrl::parse(&target).ok()?))).collect();
        running.retain(|name, (url, _)| relays.get(name) == Some(url));
        for (name, url) in relays {
            if !running.contains_key(&name) {
                let task = tokio::spawn(keep_up(node.clone(), name.clone(), url.clone()));
                running.insert(name, (url, Running(task)));
            }
        }
        node.relays_changed.notified().await;
    }
}

async fn keep_up(node: Arc<Node>, name: String, url: RelayUrl) {
    let mut states = BTreeMap::new();
    let mut changes = node.changes();
    let heard = Arc::new(Notify::new());
    let _news = Running(tokio::spawn(hear(node.clone(), url.clone(), heard.clone())));
    loop {
        visit_one(&node, &name, Carrier::Relay(url.clone()), &mut states).await;
        tokio::select! {
            () = tokio::time::sleep(POLL) => continue,
            () = heard.notified() => {}
            changed = changes.recv() => if matches!(changed, Err(RecvError::Closed)) { return },
        }
        tokio::time::sleep(QUIET).await;
        // What came meanwhile is in this visit.
        while changes.try_recv().is_ok() {}
    }
}

/// Says whenever the log has grown.
async fn hear(node: Arc<Node>, url: RelayUrl, heard: Arc<Notify>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let (keys, after) = {
            let store = node.store();
            let head = super::RelayState::read(&store, &url).ok().and_then(|s| s.head()).map_or(0, |h: Head| h.seq);
            (ring(&store), head)
        };
        if let Ok(mut news) = News::new(&url, &node.network, keys, after) {
            while news.next().await.is_ok() {
                pause = FIRST_PAUSE;
                heard.notify_one();
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        // It may have grown while nobody listened.
        heard.notify_one();
    }
}
