//! Names for targets, which way and when each is visited, and visits at their times.

use crate::carry::{Carrier, from_mailbox};
use crate::heard::Heard;
use crate::home::now_ms;
use crate::jobs::schedule::{Schedule, due};
use crate::request::{RemoteRequest, Reply, SyncRequest};
use crate::{Node, NodeError};
use cairn_bundle::Folder;
use cairn_relay::RelayUrl;
use cairn_store::{RemoteRule, Store};
use cairn_trust::mailbox_handle;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// A wall clock may be set, and a machine may sleep: times are compared again at least this often.
const LOOK: Duration = Duration::from_secs(60);
/// The first pause before a visit that reached nobody is tried again; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
/// And the longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(1800);

fn target_of(store: &Store, name: &str) -> Result<String, NodeError> {
    let found = store.remotes()?.into_iter().find(|(n, _)| n == name);
    found.map(|(_, target)| target).ok_or_else(|| NodeError::NotFound { what: format!("remote `{name}`") })
}

/// Names for targets.
pub(crate) fn remote(node: &Node, request: &RemoteRequest) -> Result<Reply, NodeError> {
    let mut store = node.store();
    let changes = !matches!(request, RemoteRequest::List);
    match request {
        RemoteRequest::List => {}
        RemoteRequest::Add { .. } => add(&mut store, request)?,
        RemoteRequest::Remove { name } => {
            target_of(&store, name)?;
            store.set_remote(name, None)?;
        }
        RemoteRequest::Seen { name } => {
            let target = target_of(&store, name)?;
            let url = RelayUrl::parse(&target).map_err(|_| NodeError::input(format!("`{name}` is no relay: only relays raise alarms")))?;
            crate::relay::forget_alarms(&mut store, &url)?;
        }
    }
    if changes {
        node.remotes_changed.send_modify(|n| *n += 1);
    }
    let rules = store.remote_rules()?;
    let row = |(name, target): (String, String)| {
        let rule = rules.get(&name).cloned().unwrap_or_default();
        let way = match (rule.pull, rule.push) {
            (true, false) => "pull",
            (false, true) => "push",
            _ => "both",
        };
        let zone = node.surroundings.zone.as_deref();
        let next = rule.schedule.as_deref().and_then(|text| due(text, zone, rule.since_ms, rule.began_ms, now_ms()).ok());
        let time = |ms: i64| cairn_model::Instant::from_unix_ms(ms).map(|i| i.to_rfc3339());
        json!({
            "name": name, "target": target, "way": way, "when": rule.schedule.as_deref().unwrap_or("always"),
            "next": next.and_then(time), "last": rule.began_ms.and_then(time),
        })
    };
    let rows: Vec<Value> = store.remotes()?.into_iter().map(row).collect();
    let mut reply = Reply::new(json!({"remotes": rows}));
    if let RemoteRequest::Add { target, folder, .. } = request {
        let is_place = Carrier::of(target, folder.as_deref()).is_some() || target.rsplit_once(':').is_some();
        if !is_place && crate::door::device_of(&store, target).is_err() {
            // It may be one that has not been met yet.
            reply.warnings.push(format!("no device `{target}` is known here yet: `cairn devices` shows those that are"));
        }
    }
    Ok(reply)
}

fn add(store: &mut Store, request: &RemoteRequest) -> Result<(), NodeError> {
    let RemoteRequest::Add { name, target, folder, pull, push, at, every } = request else { return Ok(()) };
    let taken = name == "lan" || name.is_empty() || name.contains(['/', ':']) || name.ends_with(".cairn");
    if taken {
        return Err(NodeError::input(format!("`{name}` cannot be a remote's name: it would be taken for something else")));
    }
    if target.contains("://") {
        RelayUrl::parse(target).map_err(|e| NodeError::input(e.to_string()))?;
    }
    let schedule = match (at, every) {
        (Some(_), Some(_)) => return Err(NodeError::input("--at and --every: one of them")),
        (Some(at), None) if at.contains(' ') => Some(format!("weekly {at}")),
        (Some(at), None) => Some(format!("daily {at}")),
        (None, Some(every)) => Some(format!("every {every}")),
        (None, None) => None,
    };
    if let Some(text) = &schedule {
        Schedule::parse(text).map_err(|_| {
            let typed = at.as_ref().or(every.as_ref()).map_or("", String::as_str);
            NodeError::input(format!("`{typed}` is no time: --at 07:00, --at \"mon 07:00\", --every 30m, --every 1h"))
        })?;
    }
    let full = Carrier::of(target, folder.as_deref()).map(|p| p.name());
    let port = target.rsplit_once(':').map(|(_, port)| port).filter(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()));
    if full.is_none() && port.is_some_and(|p| !p.parse::<u16>().is_ok_and(|p| p > 0)) {
        return Err(NodeError::input(format!("`{target}` is no address: a port is a number from 1 to 65535")));
    }
    if full.is_none() && pull != push {
        return Err(NodeError::input(format!(
            "`{target}`: --pull and --push are for files, folders and relays; a link to a device always goes both ways"
        )));
    }
    if let Some(path) = &full
        && Carrier::of(path, None) == Some(Carrier::Folder(path.into()))
    {
        Folder::open(Path::new(path), mailbox_handle(&store.project()), store.writer_tag()).map_err(|e| from_mailbox(&e))?;
    }
    let plain = schedule.is_none() && pull == push;
    let rule =
        if plain { RemoteRule::default() } else { RemoteRule { pull: *pull, push: *push, schedule, since_ms: now_ms(), began_ms: None } };
    store.set_remote_with(name, Some(&full.unwrap_or_else(|| target.clone())), &rule)?;
    Ok(())
}

/// What a rule says of the ways of an exchange: (take, give).
pub(crate) fn ways(rule: &RemoteRule) -> (bool, bool) {
    (!rule.push || rule.pull, !rule.pull || rule.push)
}

/// Remotes without times of their own: they are kept up to date all the time. Waits until the store can be read.
pub(crate) async fn always_kept(node: &Node) -> Vec<(String, String)> {
    loop {
        let read = {
            let store = node.store();
            store.remote_rules().and_then(|rules| Ok((rules, store.remotes()?)))
        };
        if let Ok((rules, remotes)) = read {
            return remotes.into_iter().filter(|(name, _)| rules.get(name).is_none_or(|rule| rule.schedule.is_none())).collect();
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// How visits by the clock stand, of one remote.
#[derive(Default)]
struct Standing {
    /// When the remote got its times.
    since_ms: Option<i64>,
    /// One is at work.
    visiting: bool,
    /// The last one did not come to its end: when it is tried again, and the pause after that.
    again: Option<(Instant, Duration)>,
    state: Option<String>,
}

type Visits = Arc<Mutex<BTreeMap<String, Standing>>>;

fn lock(visits: &Visits) -> std::sync::MutexGuard<'_, BTreeMap<String, Standing>> {
    visits.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Visits remotes at their times, each by itself: one that hangs holds up nobody. What was missed while nothing ran is due at once, and once.
/// Never ends.
pub(crate) async fn watch_timetable(node: &Arc<Node>) {
    let visits = Visits::default();
    let mut changed = node.remotes_changed.subscribe();
    let ended = Arc::new(Notify::new());
    loop {
        // What cannot be read now is looked at again.
        let rules = node.store().remote_rules();
        let mut wait = if rules.is_err() { Some(LOOK) } else { None };
        for (name, rule) in rules.unwrap_or_default().into_iter().filter(|(_, rule)| rule.schedule.is_some()) {
            let left = begin_if_due(node, &name, &rule, &visits, &ended);
            wait = Some(wait.unwrap_or(LOOK).min(left));
        }
        let sleeping = async {
            match wait {
                Some(wait) => tokio::time::sleep(wait.max(Duration::from_millis(100))).await,
                // Nothing has a time: nothing wakes this device.
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = sleeping => {}
            () = ended.notified() => {}
            Ok(()) = changed.changed() => {}
        }
    }
}

/// Time until the next visit; at most until the next look.
fn begin_if_due(node: &Arc<Node>, name: &str, rule: &RemoteRule, visits: &Visits, ended: &Arc<Notify>) -> Duration {
    let zone = node.surroundings.zone.as_deref();
    let text = rule.schedule.as_deref().unwrap_or_default();
    let Ok(next) = due(text, zone, rule.since_ms, rule.began_ms, now_ms()) else { return LOOK };
    let by_clock = Duration::from_millis((next - now_ms()).max(0) as u64);
    {
        let mut all = lock(visits);
        let standing = all.entry(name.to_owned()).or_default();
        // A name that was given anew is another remote: what the old one waited for says nothing of it.
        if standing.since_ms != Some(rule.since_ms) {
            *standing = Standing { since_ms: Some(rule.since_ms), ..Standing::default() };
        }
        if standing.visiting {
            return LOOK;
        }
        // One that reached nobody is due by the clock still: its pause counts.
        let left = standing.again.map_or(by_clock, |(at, _)| at.saturating_duration_since(Instant::now()));
        if !left.is_zero() {
            return left.min(LOOK);
        }
        standing.visiting = true;
    }
    let (node, name, visits, ended) = (node.clone(), name.to_owned(), visits.clone(), ended.clone());
    tokio::spawn(async move {
        let (of, at, standing) = (node, name.clone(), visits.clone());
        let done = tokio::spawn(async move { visit(&of, &at, &standing).await }).await;
        if done.is_err() {
            // It failed inside, and the runtime has said so: the next time counts.
            let mut all = lock(&visits);
            let standing = all.entry(name).or_default();
            (standing.visiting, standing.again) = (false, Some((Instant::now() + LONGEST_PAUSE, LONGEST_PAUSE)));
        }
        ended.notify_one();
    });
    LOOK
}

/// States in which a visit has done what it can for this time; any other is tried again before the next.
const CAME_TO_AN_END: [&str; 8] = ["synced", "carried", "partly", "gated", "removed", "not-a-member", "mismatch", "read-only"];

async fn visit(node: &Arc<Node>, name: &str, visits: &Visits) {
    let began = now_ms();
    let request = SyncRequest { targets: vec![name.to_owned()], metered: true, ..SyncRequest::default() };
    let done = crate::network::sync(node, &request, &|_| {}).await;
    let (state, message, remedy) = match &done {
        Ok(reply) => {
            let row = &reply.data["targets"][0];
            let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
            (text("state"), text("message"), text("remedy"))
        }
        Err(e) => ("failed".to_owned(), e.to_string(), String::new()),
    };
    // What cannot be written down is due again, after a pause: a visit too many does no harm.
    let ended = CAME_TO_AN_END.contains(&state.as_str()) && node.store().note_remote_began(name, began).is_ok();
    let before = {
        let mut all = lock(visits);
        let standing = all.entry(name.to_owned()).or_default();
        let pause = standing.again.map_or(FIRST_PAUSE, |(_, pause)| (pause * 2).min(LONGEST_PAUSE));
        standing.again = (!ended).then(|| (Instant::now() + jitter(pause), pause));
        standing.visiting = false;
        standing.state.replace(state.clone())
    };
    if before.as_ref() != Some(&state) && (state != "synced" || before.is_some()) {
        node.heard.send(Heard::Carried { target: name.to_owned(), state, message, remedy }).ok();
    }
}

/// Between half of a pause and all of it: not all devices at the same moment.
pub(crate) fn jitter(pause: Duration) -> Duration {
    let random: &mut dyn cairn_store::Entropy = &mut cairn_store::OsEntropy;
    let [byte]: [u8; 1] = random.bytes();
    pause / 2 + (pause / 2).mul_f64(f64::from(byte) / 255.0)
}
