//! Targets: from what a person typed to links, and what came of them.

use crate::NodeError;
use crate::budget::Budget;
use crate::carry::{Carrier, Errand, refused_by, setup_of, sync_place};
use crate::door::{closed, is_announced, knock_with};
use crate::driver::{LinkReport, Progress, run_link_until};
use crate::heard::Heard;
use crate::home::{Node, TurnedAway, now_ms};
use crate::request::{Reply, SyncRequest};
use cairn_contract::MailboxError;
use cairn_model::DeviceId;
use cairn_quic::{Discovery, Endpoint, Found};
use cairn_store::RemoteRule;
use cairn_sync::CloseReason;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

/// Devices remembered that were turned away.
const TURNED_AWAY: usize = 64;
/// Seconds to look for devices when nothing is said.
const LOOK_S: u64 = 5;

/// `IP:PORT` of this machine's interfaces but loopback, for tickets.
pub(crate) fn own_addresses(port: u16) -> Vec<String> {
    let all = if_addrs::get_if_addrs().unwrap_or_default();
    all.iter().map(|i| i.ip()).filter(|ip| !ip.is_loopback() && ip.is_ipv4()).map(|ip| SocketAddr::new(ip, port).to_string()).collect()
}

fn endpoint(node: &Node, v6: bool) -> Result<Endpoint, NodeError> {
    let any: IpAddr = if v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let secret = node.store().keys().signing_secret();
    Endpoint::bind(SocketAddr::new(any, 0), &secret, closed()).map_err(|e| NodeError::Store { message: e.to_string() })
}

/// `true` if an announcement carries this project's tag.
pub(crate) fn is_ours(node: &Node, found: &Found) -> bool {
    is_announced(&node.store().discovery_key(), &found.nonce, &found.tags)
}

/// One thing to sync with.
pub(crate) struct Target {
    typed: String,
    pub addresses: Vec<SocketAddr>,
    pub only: Option<DeviceId>,
}

/// What a sync was asked for, looked at before anything is dialled.
struct Plan {
    remotes: Vec<(String, String)>,
    rules: BTreeMap<String, RemoteRule>,
    /// What was typed, or the names of all remotes.
    named: Vec<String>,
    lan: bool,
    /// Only mailboxes can go one way.
    one_way: bool,
    budget: Option<Arc<Budget>>,
    number: u32,
    look: Duration,
}

fn plan(node: &Node, request: &SyncRequest) -> Result<Plan, NodeError> {
    let store = node.store();
    let (number, remotes, rules) = (store.next_sync()?, store.remotes()?, store.remote_rules()?);
    drop(store);
    let one_way = request.pull || request.push || !request.only.is_empty();
    if request.all && !request.targets.is_empty() {
        return Err(NodeError::input("--all means every remote: name targets or say --all"));
    }
    let lan = (request.targets.is_empty() && !one_way && !request.all) || request.targets.iter().any(|t| t == "lan");
    if lan && one_way {
        return Err(NodeError::input("`lan`: --pull, --push and --only are for files and folders; a link always goes both ways"));
    }
    let all = remotes.iter().map(|(name, _)| name.clone()).collect();
    let named = if request.targets.is_empty() { all } else { request.targets.clone() };
    let budget = match request.max_bytes {
        None if request.metered => node.rest_of_day()?,
        most => most.map(Budget::new).map(Arc::new),
    };
    let look = Duration::from_secs(request.timeout_s.unwrap_or(LOOK_S));
    Ok(Plan { remotes, rules, named, lan, one_way, budget, number, look })
}

/// Syncs with every target; gives the reply and the exit code in it.
pub(crate) async fn sync(node: &Arc<Node>, request: &SyncRequest, seen: &(dyn Fn(&Progress) + Sync)) -> Result<Reply, NodeError> {
    let of = node.clone();
    let copying = (!request.dry_run).then(|| tokio::task::spawn_blocking(move || crate::backup::before_changes(&of)));
    let mut copy_fault = Vec::new();
    if let Some(copying) = copying {
        copy_fault.extend(copying.await.map_err(|e| NodeError::Store { message: e.to_string() })?);
    }
    let (plan, began) = (plan(node, request)?, crate::now_ms());
    let mut rows = Vec::new();
    for typed in plan.named.iter().filter(|t| *t != "lan") {
        let row = visit(node, request, &plan, typed, seen).await;
        if let Some(budget) = &plan.budget {
            node.note_spent(budget, true)?;
        }
        let row = row?;
        if !request.dry_run && row["state"] == "synced" && plan.rules.get(typed).is_some_and(|rule| rule.schedule.is_some()) {
            node.store().note_remote_began(typed, began)?;
        }
        rows.push(row);
    }
    if plan.lan {
        for addresses in find_all(node, plan.look, true).await {
            let typed = addresses.first().map(SocketAddr::to_string).unwrap_or_default();
            rows.push(reach(node, &Target { typed, addresses, only: None }, request.dry_run, plan.number, seen, None).await);
        }
    }
    if !request.dry_run {
        let took = |row: &Value| row["received"]["batches"].as_u64().unwrap_or(0) > 0;
        // One by the clock that brought nothing leaves no trace: there would be a million of them in a year.
        if !request.metered || rows.iter().any(took) {
            let with = met(node, &rows);
            node.store().note_sync(plan.number, &with, crate::now_ms())?;
        }
        for row in rows.iter().filter(|row| took(row)) {
            node.tell_synced(row["name"].as_str().or(row["target"].as_str()).unwrap_or_default(), plan.number, row);
        }
        node.heard.send(Heard::Confirmed).ok();
        let arrived = rows.iter().filter_map(|r| r["observations"]["new"].as_u64()).sum();
        copy_fault.extend(node.after_large_unit(arrived));
    }
    let mut reply = summary(plan.number, rows);
    reply.warnings.extend(copy_fault);
    if request.dry_run {
        reply.data["sync"] = Value::Null;
    }
    Ok(reply)
}

/// One target, as a row of `targets`.
async fn visit(
    node: &Arc<Node>,
    request: &SyncRequest,
    plan: &Plan,
    typed: &String,
    seen: &(dyn Fn(&Progress) + Sync),
) -> Result<Value, NodeError> {
    let remote = plan.remotes.iter().find(|(name, _)| name == typed).map(|(_, target)| target);
    let meant = remote.unwrap_or(typed);
    let is_device = !meant.contains('/') && node.store().membership().members.values().any(|m| m.name == *meant);
    let place = if remote.is_some() { Carrier::of_remote(meant) } else { Carrier::of(meant, request.folder.as_deref()) };
    let budget = plan.budget.as_deref();
    if let Some(place) = place.filter(|_| !is_device) {
        let rule = plan.rules.get(typed).filter(|_| remote.is_some()).cloned().unwrap_or_default();
        let setup = setup_of(node, request, &rule)?;
        if place.path().is_none() && budget.is_some_and(Budget::is_over) {
            // Not even the question whether there is something new.
            return Ok(refused_by(typed, place.transport(), &MailboxError::Spent(place.name())));
        }
        let errand = Errand { typed, place: &place, setup: &setup, number: plan.number, unasked: remote.is_some(), quick: false, budget };
        return tokio::task::block_in_place(|| sync_place(node, &errand, seen));
    }
    if plan.one_way {
        let message = format!("`{typed}`: --pull, --push and --only are for files and folders; a link always goes both ways");
        return Err(NodeError::input(message));
    }
    let mut target = match resolve(node, meant).await {
        Ok(target) => target,
        // One that cannot be found does not keep the others from being visited.
        Err(e) if request.targets.len() != 1 => return Ok(json!({"target": typed, "state": "failed", "message": e.to_string()})),
        Err(e) => return Err(e),
    };
    target.typed = typed.clone();
    if target.only.is_some() {
        target.addresses.extend(find_all(node, plan.look, target.addresses.is_empty()).await.into_iter().flatten());
    }
    Ok(reach(node, &target, request.dry_run, plan.number, seen, budget).await)
}

/// What a sync was with: names of devices, else what was typed.
fn met(node: &Node, rows: &[Value]) -> Vec<String> {
    let store = node.store();
    let name = |row: &Value| {
        let device: Option<DeviceId> = row["device"].as_str().and_then(|d| d.parse().ok());
        let typed = row["target"].as_str().unwrap_or_default().to_owned();
        device.map(|d| store.device_name(&d)).filter(|name| !name.is_empty()).unwrap_or(typed)
    };
    rows.iter().filter(|row| row["state"] != "unreached" && row["state"] != "failed").map(name).collect()
}

pub(crate) async fn resolve(node: &Node, typed: &str) -> Result<Target, NodeError> {
    if typed.contains("://") {
        let why = cairn_relay::RelayUrl::parse(typed).err().map(|e| e.to_string()).unwrap_or_default();
        return Err(NodeError::input(why));
    }
    if let Some((_, port)) = typed.rsplit_once(':')
        && port.parse::<u16>().is_ok()
    {
        let addresses = tokio::net::lookup_host(typed).await.map(Iterator::collect).unwrap_or_default();
        return Ok(Target { typed: typed.to_owned(), addresses, only: None });
    }
    let store = node.store();
    let members = store.membership();
    let by_name: Vec<DeviceId> = members
        .members
        .values()
        .filter(|m| m.device != store.device() && (m.name == typed || (typed.len() >= 4 && m.device.to_string().starts_with(typed))))
        .map(|m| m.device)
        .collect();
    match by_name.as_slice() {
        [] => Err(NodeError::NotFound { what: format!("device, remote, file or folder `{typed}`") }),
        [device] => {
            let known = store.met()?.into_iter().find(|(d, _)| d == device).map(|(_, k)| k.addresses).unwrap_or_default();
            let addresses = known.iter().filter_map(|a| a.parse().ok()).collect();
            Ok(Target { typed: typed.to_owned(), addresses, only: Some(*device) })
        }
        _ => Err(NodeError::Ambiguous { prefix: typed.to_owned() }),
    }
}

/// Addresses of devices of this project that announce themselves now, one list each.
async fn find_all(node: &Node, look: Duration, wanted: bool) -> Vec<Vec<SocketAddr>> {
    let mut out: Vec<(String, Vec<SocketAddr>)> = Vec::new();
    let Some(mut discovery) = wanted.then(|| Discovery::start(Ipv4Addr::UNSPECIFIED.into()).ok()).flatten() else { return Vec::new() };
    let until = Instant::now() + look;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        let Ok((_, found)) = discovery.next(left.min(Duration::from_millis(500))).await else { break };
        for found in found {
            if is_ours(node, &found) {
                out.retain(|(name, _)| *name != found.name);
                out.push((found.name, found.addresses));
            }
        }
    }
    out.into_iter().map(|(_, addresses)| addresses).collect()
}

/// Addresses of devices of this project that announce themselves within `look`, one list each.
pub(crate) async fn addresses_near(node: &Node, look: Duration) -> Vec<Vec<SocketAddr>> {
    find_all(node, look, true).await
}

/// `true` if a device of this project answers at an address.
pub(crate) async fn answers(node: &Node, address: SocketAddr) -> bool {
    let Ok(endpoint) = endpoint(node, address.is_ipv6()) else { return false };
    let knock = knock_with(node.store().discovery_key());
    let answered = endpoint.dial(address, None, &knock).await.is_ok();
    endpoint.close().await;
    answered
}

/// Tries the addresses of a target until one answers as it should.
async fn reach(
    node: &Arc<Node>,
    target: &Target,
    probe: bool,
    number: u32,
    seen: &(dyn Fn(&Progress) + Sync),
    budget: Option<&Budget>,
) -> Value {
    let began = Instant::now();
    let (mut last, counted) = (LinkReport::default(), AtomicU64::new(0));
    let seen = |p: &Progress| {
        seen(p);
        if let Some(budget) = budget {
            budget.spend_up_to(p.wire_bytes, &counted);
        }
    };
    let used_up = || async {
        match budget {
            Some(budget) => budget.used_up().await,
            None => std::future::pending().await,
        }
    };
    for address in &target.addresses {
        let Ok(endpoint) = endpoint(node, address.is_ipv6()) else { continue };
        let knock = knock_with(node.store().discovery_key());
        match endpoint.dial(*address, target.only, &knock).await {
            Ok(link) => {
                last = run_link_until(node, link, (false, probe), Some(number), &seen, used_up()).await;
                endpoint.close().await;
                if last.device.is_some() {
                    break;
                }
            }
            Err(e) => last.lost = Some(e.to_string()),
        }
    }
    if last.ms == 0 {
        last.ms = began.elapsed().as_millis() as u64;
    }
    row(node, &target.typed, &last, probe)
}

fn state(report: &LinkReport, probe: bool) -> &'static str {
    match (report.synced, report.reason, report.device) {
        _ if report.stopped => "budget",
        (true, ..) if report.gated => "gated",
        (true, ..) if probe => "would-sync",
        (true, ..) => "synced",
        // A probe does not carry the join that makes this device known there; the first real sync does.
        (_, Some(CloseReason::NotMember), _) if probe => "would-join",
        (_, Some(CloseReason::Removed), _) => "removed",
        (_, Some(CloseReason::NotMember), _) => "not-a-member",
        (_, Some(CloseReason::Configuration | CloseReason::Protocol), _) => "mismatch",
        (_, Some(CloseReason::Store), _) => "store-refused",
        (_, Some(CloseReason::NotProved), _) | (_, _, None) => "unreached",
        _ => "interrupted",
    }
}

/// Why observations wait between this device and another, and what to do.
fn gate(node: &Node, other: Option<DeviceId>) -> (String, &'static str) {
    let store = node.store();
    let m = store.membership();
    let name = other.map_or_else(|| "the other device".to_owned(), |d| store.device_name(&d));
    gate_words(&name, store.lineage().ok() != m.lineage())
}

/// The same in words; `behind` if it is this device that has not followed.
pub(crate) fn gate_words(name: &str, behind: bool) -> (String, &'static str) {
    if behind {
        let message = format!("this device has not followed the project's switch of configuration, {name} has: observations wait");
        (message, "run `cairn config adopt` here, then sync again")
    } else {
        let message = format!("{name} has not followed the project's switch of configuration: observations wait");
        (message, "run `cairn config adopt` on that device, then sync again")
    }
}

/// Remembers a device that proved the project and may not exchange observations now, and forgets one that may again. People
/// at a serving device hear of it.
pub(crate) fn note_turned_away(node: &Node, report: &LinkReport) {
    let hear = |heard: Heard| drop(node.heard.send(heard));
    match report.reason {
        Some(CloseReason::Pending) if !report.by_peer => return hear(Heard::Asks),
        Some(CloseReason::WrongCode) if !report.by_peer => return hear(Heard::WrongCode),
        _ => {}
    }
    let Some(device) = report.device.filter(|_| report.let_in.is_none()) else { return };
    let state = state(report, false);
    // Only a hint: what others think of this device is asked of them again at the next sync.
    node.store().note_refused(state == "not-a-member" && report.by_peer).ok();
    // Before the list is locked: whoever shows it holds the store already.
    let gated = (state == "gated").then(|| gate(node, Some(device)).0);
    let mut all = node.turned_away.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let reason = match (state, report.reason) {
        ("gated", _) => gated.unwrap_or_default(),
        ("not-a-member", _) if report.by_peer => {
            "the devices of the project do not count this one: its ticket was used up or revoked".into()
        }
        ("not-a-member", _) => "it is not a member: its ticket was used up or revoked, or it was never let in".into(),
        ("removed", _) if !report.by_peer => "it was removed from the project".into(),
        ("removed" | "mismatch", Some(reason)) => reason.to_string(),
        _ => {
            all.remove(&device);
            return;
        }
    };
    let news = all.get(&device).is_none_or(|t| t.state != state);
    if all.len() < TURNED_AWAY || all.contains_key(&device) {
        all.insert(device, TurnedAway { state, reason: reason.clone(), at_ms: now_ms() });
    }
    drop(all);
    if news {
        let name = node.store().device_name(&device);
        hear(Heard::TurnedAway { name, state: state.into(), reason, remedy: remedy(state).into() });
    }
}

fn remedy(state: &str) -> &'static str {
    match state {
        "gated" => "both devices must work with the project's latest configuration: `cairn config adopt`",
        "removed" => "a coordinator can let it in again: `cairn devices approve`",
        "not-a-member" => "give it a new ticket: `cairn invite` here, `cairn join` there",
        _ => "install the newest cairn on both devices",
    }
}

/// Devices that proved the project and may not exchange observations now, with the reason and what to do.
pub(crate) fn turned_away(node: &Node, store: &cairn_store::Store) -> Vec<Value> {
    let all = node.turned_away.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let row = |(device, t): (&DeviceId, &TurnedAway)| {
        let remedy = remedy(t.state);
        let at = cairn_model::Instant::from_unix_ms(t.at_ms).map(|i| i.to_rfc3339());
        json!({"device": device.to_string(), "name": store.device_name(device), "state": t.state, "reason": t.reason, "remedy": remedy, "met": at})
    };
    all.iter().map(row).collect()
}

fn row(node: &Node, typed: &str, report: &LinkReport, probe: bool) -> Value {
    let p = report.progress;
    let name = report.device.map(|d| node.store().device_name(&d));
    let mut out = json!({
        "target": typed,
        "device": report.device.map(|d| d.to_string()),
        "name": name,
        "state": state(report, probe),
        "sent": {"batches": p.sent, "bytes": p.sent_bytes},
        "received": {"batches": p.received, "bytes": p.received_bytes},
        "observations": {"new": report.stats.new, "changed": report.stats.changed, "deleted": report.stats.deleted},
        "set_apart": report.stats.set_apart,
        "wire_bytes": p.wire_bytes,
        "round_trips": p.round_trips,
        "ms": report.ms,
    });
    if probe {
        out["would_send"] = json!({"batches": p.to_send});
        out["would_receive"] = json!({"batches": p.to_receive});
    }
    if let Some(hello) = &report.hello {
        out["configuration_version"] = json!(hello.configuration_version);
        out["their_observations"] = json!(hello.observations);
    }
    if out["state"] == "gated" {
        let (message, remedy) = gate(node, report.device);
        (out["message"], out["remedy"]) = (json!(message), json!(remedy));
    } else if out["state"] == "removed" {
        let store = node.store();
        let own = store.still_in().err().map(|e| e.to_string());
        let there = report.device.map(|d| format!("{} was removed from the project", store.device_name(&d)));
        out["message"] = json!(own.or(there).unwrap_or_else(|| CloseReason::Removed.to_string()));
        out["remedy"] = json!("a coordinator can let a removed device in again: `cairn devices approve DEVICE`");
    } else if out["state"] == "not-a-member" {
        let (message, remedy) = if report.by_peer {
            (
                "the devices of this project do not count this one: its ticket was used up or revoked",
                "ask for a new ticket and `cairn join` again: nothing recorded here is lost",
            )
        } else {
            ("the device there is no member of this project", "give it a ticket: `cairn invite`")
        };
        (out["message"], out["remedy"]) = (json!(message), json!(remedy));
    } else if out["state"] == "unreached" {
        out["message"] = json!(format!("nobody of this project answered at {typed}"));
    } else if out["state"] == "budget" {
        out["message"] = json!("the bytes that may pass have passed: not all went both ways");
        out["remedy"] = json!("what came is kept: sync again, with more `--max-bytes`, or tomorrow");
    } else if out["state"] == "would-join" {
        out["message"] = json!("the other device does not know this one yet; the first sync tells it");
    } else if let Some(reason) = report.reason.filter(|r| *r != CloseReason::Done) {
        out["message"] = json!(reason.to_string());
    } else if let Some(lost) = &report.lost {
        out["message"] = json!(lost);
    }
    out
}

fn summary(number: u32, rows: Vec<Value>) -> Reply {
    let count = |wanted: &[&str]| rows.iter().filter(|r| wanted.iter().any(|w| r["state"] == *w)).count();
    let good = count(&["synced", "carried", "would-sync", "would-join"]);
    let code = match (good, rows.len()) {
        (g, n) if g == n && n > 0 => 0,
        (g, _) if g > 0 => 3,
        _ if count(&["not-a-member", "removed", "locked"]) > 0 => 5,
        _ if count(&["mismatch", "gated"]) > 0 => 6,
        _ if count(&["store-refused", "full", "budget"]) > 0 => 8,
        _ if count(&["partly", "read-only"]) > 0 => 3,
        _ if count(&["interrupted", "failed"]) > 0 => 1,
        _ => 4,
    };
    let mut reply = Reply { data: json!({"sync": number.to_string(), "targets": rows}), code, warnings: Vec::new() };
    let faults = reply.data["targets"].as_array().into_iter().flatten().flat_map(|t| t["faults"].as_array().into_iter().flatten());
    reply.warnings = faults.filter_map(|f| f.as_str().map(str::to_owned)).collect();
    if reply.data["targets"].as_array().is_some_and(Vec::is_empty) {
        reply.warnings.push("no device of this project was found on this network".into());
    }
    reply
}

/// Devices of this project found now, each probed: what it has, and what each side would send.
pub async fn peers_near(node: &Arc<Node>, look_s: Option<u64>) -> Result<Value, NodeError> {
    let mut rows = Vec::new();
    for addresses in find_all(node, Duration::from_secs(look_s.unwrap_or(LOOK_S)), true).await {
        let typed = addresses.first().map(SocketAddr::to_string).unwrap_or_default();
        let near = reach(node, &Target { typed, addresses, only: None }, true, 0, &|_| {}, None).await;
        if near["state"] != "unreached" {
            rows.push(near);
        }
    }
    Ok(json!({"peers": rows}))
}
