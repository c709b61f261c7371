//! Devices that a service keeps linked: those that announce themselves on this network, and remotes that are devices or addresses.

use crate::budget::Budget;
use crate::door::knock_with;
use crate::driver::{Progress, run_link_until};
use crate::events::progress_of;
use crate::heard::Heard;
use crate::home::Node;
use crate::network::{is_ours, resolve};
use crate::remotes::{always_kept, jitter};
use crate::running::Running;
use crate::serve::note_link;
use cairn_model::DeviceId;
use cairn_quic::{Discovery, Endpoint, Found};
use cairn_store::{Entropy, OsEntropy};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// The first pause before a device is dialled again; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// The longest for devices that announce themselves, which are heard when they come back.
const LONGEST_NEAR: Duration = Duration::from_secs(60);
/// The longest for addresses, which nobody announces.
const LONGEST_FAR: Duration = Duration::from_secs(300);
/// Before discovery is begun again where it could not begin: there may be no network yet.
const NO_NETWORK: Duration = Duration::from_secs(15);
/// Why nothing was dialled.
const LINKED: &str = "it is linked already";
/// Why a link with a remote ended.
const USED_UP: &str = "the bytes for today are used up";
/// How soon an announcement follows a new invitation.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// A device that announces itself, as it was heard last. While it stands in the list a keeper is at work for it.
struct Near {
    /// `None` once it does not announce itself any more: the keeper ends after its link does.
    addresses: Option<Vec<SocketAddr>>,
    /// It was heard again: it is worth dialling now.
    heard: Arc<Notify>,
}

type Known = Arc<Mutex<BTreeMap<String, Near>>>;

/// Addresses that are linked now: a device that is found twice (it was started again, it is a remote as well) is dialled once.
#[derive(Clone, Default)]
pub(crate) struct Linked(Arc<Mutex<BTreeSet<SocketAddr>>>);

/// One of them, until it is dropped.
struct Taken<'a>(&'a Linked, SocketAddr);

impl Linked {
    fn take(&self, address: SocketAddr) -> Option<Taken<'_>> {
        let fresh = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(address);
        fresh.then_some(Taken(self, address))
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

fn lock(known: &Known) -> std::sync::MutexGuard<'_, BTreeMap<String, Near>> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Announces this device and keeps a link with each other one that is near, where there is an address to announce. Begins anew when the network does.
pub(crate) async fn find_devices(node: &Arc<Node>, endpoint: &Arc<Endpoint>, address: Option<SocketAddr>) {
    let Some(address) = address else { return };
    // The name stays while the service runs, so that who is linked already is not linked again.
    let name: [u8; 8] = (&mut OsEntropy as &mut dyn Entropy).bytes();
    let known = Known::default();
    loop {
        if let Ok(mut discovery) = Discovery::start(address.ip()) {
            browse(node, endpoint, address.port(), &name, &mut discovery, &known).await;
        }
        tokio::time::sleep(NO_NETWORK).await;
    }
}

/// Until discovery fails.
async fn browse(node: &Arc<Node>, endpoint: &Arc<Endpoint>, port: u16, name: &[u8; 8], discovery: &mut Discovery, known: &Known) {
    let own = cairn_model::hex(name);
    let mut announced = None;
    loop {
        if announced != Some(node.doors.version()) {
            announced = Some(node.doors.version());
            let nonce: [u8; 8] = (&mut OsEntropy as &mut dyn Entropy).bytes();
            if discovery.announce(port, name, &nonce, &node.doors.tags(&nonce)).is_err() {
                return;
            }
        }
        let Ok((news, found)) = discovery.next(LOOK_AGAIN).await else { return };
        if !news {
            continue;
        }
        // Both find each other; the lower name dials, so that there is one link.
        let ours: Vec<Found> = found.into_iter().filter(|f| own < f.name && is_ours(node, f)).collect();
        for (_, near) in lock(known).iter_mut().filter(|(name, _)| !ours.iter().any(|f| f.name == **name)) {
            near.addresses = None;
            near.heard.notify_one();
        }
        for found in ours {
            let fresh = {
                let mut all = lock(known);
                let fresh = !all.contains_key(&found.name);
                let near = all.entry(found.name.clone()).or_insert_with(|| Near { addresses: None, heard: Arc::default() });
                near.addresses = Some(found.addresses);
                near.heard.notify_one();
                fresh
            };
            if fresh {
                tokio::spawn(keep_near(node.clone(), endpoint.clone(), known.clone(), found.name));
            }
        }
    }
}

/// Keeps a link with one that announces itself, until it does not any more.
async fn keep_near(node: Arc<Node>, endpoint: Arc<Endpoint>, known: Known, name: String) {
    let mut pause = FIRST_PAUSE;
    loop {
        let (addresses, heard) = {
            let mut all = lock(&known);
            let Some(near) = all.get(&name) else { return };
            let Some(addresses) = near.addresses.clone() else {
                all.remove(&name);
                return;
            };
            (addresses, near.heard.clone())
        };
        // What was heard before is in the addresses.
        tokio::time::timeout(Duration::ZERO, heard.notified()).await.ok();
        if link_with(&node, &endpoint, &addresses, None, None).await.is_ok() {
            pause = FIRST_PAUSE;
        }
        tokio::select! {
            () = tokio::time::sleep(jitter(pause)) => {}
            () = heard.notified() => {}
        }
        pause = (pause * 2).min(LONGEST_NEAR);
    }
}

/// One live link, to its end or that of the bytes it may use; an error says why there was none.
async fn link_with(
    node: &Arc<Node>,
    endpoint: &Endpoint,
    addresses: &[SocketAddr],
    only: Option<DeviceId>,
    budget: Option<&Budget>,
) -> Result<(), String> {
    let mut why = "it has no address".to_owned();
    for address in addresses {
        let knock = knock_with(node.store().discovery_key());
        let Some(_taken) = node.linked.take(*address) else {
            // Another keeper has it: as good as linked here.
            return Err(LINKED.into());
        };
        let link = match endpoint.dial(*address, only, &knock).await {
            Ok(link) => link,
            Err(e) => {
                why = e.to_string();
                continue;
            }
        };
        let number = node.store().next_sync().ok();
        let (tell, counted) = (progress_of(node, address.to_string()), AtomicU64::new(0));
        let seen = |p: &Progress| {
            tell(p);
            if let Some(budget) = budget {
                budget.spend_up_to(p.wire_bytes, &counted);
                // What cannot be written down now is with the next piece.
                node.note_spent(budget, false).ok();
            }
        };
        let used_up = async {
            match budget {
                Some(budget) => budget.used_up().await,
                None => std::future::pending().await,
            }
        };
        let report = run_link_until(node, link, (true, false), number, &seen, used_up).await;
        note_link(node, number, &report);
        match (report.stopped, report.synced, report.reason, report.lost) {
            (true, ..) => return Err(USED_UP.into()),
            (false, true, ..) => return Ok(()),
            (false, false, Some(reason), _) => why = reason.to_string(),
            (false, false, None, lost) => why = lost.unwrap_or_else(|| "nobody of this project answered".into()),
        }
    }
    Err(why)
}

/// Keeps a link with each remote that is a device or an address and has no times of its own. Never ends.
pub(crate) async fn watch_far(node: &Arc<Node>, endpoint: &Arc<Endpoint>) {
    let mut running: BTreeMap<String, (String, Running)> = BTreeMap::new();
    let mut changed = node.remotes_changed.subscribe();
    loop {
        let far: BTreeMap<String, String> =
            always_kept(node).await.into_iter().filter(|(_, target)| crate::carry::Carrier::of_remote(target).is_none()).collect();
        running.retain(|name, (target, _)| far.get(name) == Some(target));
        for (name, target) in far {
            let begin = || Running::start(keep_far(node.clone(), endpoint.clone(), name.clone(), target.clone()));
            running.entry(name.clone()).or_insert_with(|| (target.clone(), begin()));
        }
        if changed.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

async fn keep_far(node: Arc<Node>, endpoint: Arc<Endpoint>, name: String, target: String) {
    let (mut pause, mut before) = (FIRST_PAUSE, None);
    loop {
        let done = far_once(&node, &endpoint, &target).await;
        let state = match &done {
            Ok(()) => "synced",
            Err(_) => "unreached",
        };
        if done.is_ok() {
            pause = FIRST_PAUSE;
        }
        let elsewhere = done.as_ref().err().is_some_and(|why| why == LINKED);
        if !elsewhere && before != Some(state) && (before.is_some() || state != "synced") {
            let message = done.err().unwrap_or_default();
            let remedy = if state == "synced" { "" } else { "it is tried again by itself" };
            node.heard.send(Heard::Carried { target: name.clone(), state: state.into(), message, remedy: remedy.into() }).ok();
        }
        if !elsewhere {
            before = Some(state);
        }
        tokio::time::sleep(jitter(pause)).await;
        pause = (pause * 2).min(LONGEST_FAR);
    }
}

/// One link with a remote, as long as the day's bytes last.
async fn far_once(node: &Arc<Node>, endpoint: &Endpoint, target: &str) -> Result<(), String> {
    let budget = node.rest_of_day().map_err(|e| e.to_string())?;
    if budget.as_ref().is_some_and(|b| b.is_over()) {
        return Err(USED_UP.into());
    }
    let target = resolve(node, target).await.map_err(|e| e.to_string())?;
    let done = link_with(node, endpoint, &target.addresses, target.only, budget.as_deref()).await;
    if let Some(budget) = &budget {
        node.note_spent(budget, true).map_err(|e| e.to_string())?;
    }
    done
}
