//! Remotes that are relays, kept up to date while the service runs: one stream of events each, and a visit when something is new there
//! or here.

use super::visit::ring;
use crate::carry::Carrier;
use crate::home::Node;
use crate::remotes::always_kept;
use crate::running::Running;
use crate::watch::visit_one;
use cairn_relay::wire::Head;
use cairn_relay::{News, RelayUrl};
use cairn_store::{Entropy, OsEntropy};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;

/// Visited at least this often, whatever is heard.
const POLL: Duration = Duration::from_secs(60);
/// Changes that follow each other this closely go together.
const QUIET: Duration = Duration::from_millis(100);
/// The first pause before a broken stream of events is opened again; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// And the longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Never ends.
pub(crate) async fn watch_relays(node: &Arc<Node>) {
    let mut running: BTreeMap<String, (RelayUrl, Running)> = BTreeMap::new();
    let mut changed = node.remotes_changed.subscribe();
    loop {
        let remotes = always_kept(node).await;
        let relays: BTreeMap<String, RelayUrl> =
            remotes.into_iter().filter_map(|(name, target)| Some((name, RelayUrl::parse(&target).ok()?))).collect();
        running.retain(|name, (url, _)| relays.get(name) == Some(url));
        for (name, url) in relays {
            let begin = || Running::start(keep_up(node.clone(), name.clone(), url.clone()));
            running.entry(name.clone()).or_insert_with(|| (url.clone(), begin()));
        }
        if changed.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// Until the next look that nothing called for: not all devices at the same moment.
fn some_time() -> Duration {
    let random: &mut dyn Entropy = &mut OsEntropy;
    let [byte]: [u8; 1] = random.bytes();
    POLL + POLL.mul_f64(f64::from(byte) / 255.0)
}

async fn keep_up(node: Arc<Node>, name: String, url: RelayUrl) {
    let mut states = BTreeMap::new();
    let mut changes = node.changes();
    let heard = Arc::new(Notify::new());
    let _news = Running::start(hear(node.clone(), url.clone(), heard.clone()));
    // A receipt alone waits for the next look: else every observation would bring one from every device, and each of those a visit of
    // all others.
    let mut receipt_later = false;
    let mut look = tokio::time::Instant::now() + some_time();
    loop {
        visit_one(&node, &name, Carrier::Relay(url.clone()), receipt_later, &mut states).await;
        tokio::select! {
            () = tokio::time::sleep_until(look) => {
                receipt_later = false;
                look = tokio::time::Instant::now() + some_time();
                continue;
            }
            () = heard.notified() => receipt_later = true,
            changed = changes.recv() => match changed {
                Err(RecvError::Closed) => return,
                _ => receipt_later = true,
            },
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
