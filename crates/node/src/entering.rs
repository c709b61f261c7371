//! Entering a project: by ticket, by code, or by a configuration file of an open project.
//!
//! A bearer ticket works with nobody reachable. Any other way needs a member: the guest dials, proves its invitation, shows
//! its join, and is given the control log with its read keys. A request that must be approved waits in the project's folder
//! as `pending`; every `sync` asks again.

use crate::carry::{Carrier, Open, from_mailbox};
use crate::door::{closed, is_announced, knock_with};
use crate::home::{Home, Node, device_named};
use crate::request::{JoinRequest, Reply};
use crate::{NodeError, devices};
use cairn_contract::{Link, Listing, Mailbox, MailboxError, ReceiveHalf, SendHalf};
use cairn_model::{DeviceId, hex, unhex};
use cairn_quic::{Discovery, Endpoint, QuicLink};
use cairn_relay::wire::LogId;
use cairn_relay::{Entered, KeyRing, Network, Patience, Relay, RelayError, RelayMailbox, RelayUrl, Remembered};
use cairn_store::{Entropy, OsEntropy, Store};
use cairn_sync::{CloseReason, FrameReader, Guest, Step, Way, frame, limits};
use cairn_trust::{
    ChunkKind, Code, ControlOp, DeviceKeys, InviteMode, Keyring, Ticket, TicketError, check_digits, code_knock_key, invitation_knock_key,
    mailbox_handle, open_ask, relay_access, relay_knock, relay_log, seal_ask,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// How long the host may take over one answer.
const ANSWER: Duration = Duration::from_secs(15);
/// Seconds to look for the device that invited.
const LOOK_S: u64 = 5;

/// A request that waits for approval.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Waiting {
    ticket: String,
    /// Made once: asking again must be the same request.
    join: String,
    addresses: Vec<String>,
    /// Files and folders that somebody named; a ticket cannot.
    #[serde(default)]
    places: Vec<String>,
}

impl Waiting {
    fn path(folder: &Path) -> PathBuf {
        folder.join("pending")
    }

    /// The request that waits in a project's folder.
    pub fn read(folder: &Path) -> Option<Self> {
        serde_json::from_str(&std::fs::read_to_string(Self::path(folder)).ok()?).ok()
    }
}

/// What entering came to.
enum Came {
    In { ops: Vec<Vec<u8>>, ring: Keyring, host: Option<DeviceId>, at: String, check: String },
    Waits,
}

/// `join`, however it was invited.
pub(crate) async fn join(home: &Home, request: &JoinRequest) -> Result<Reply, NodeError> {
    let typed = request.ticket.trim();
    if let Ok(code) = Code::parse(typed) {
        return by_code(home, request, code).await;
    }
    let file = Path::new(typed);
    let text = if typed.len() < 4096 && file.is_file() {
        let none = || {
            NodeError::input(format!(
                "{typed}: there is no invitation in this file; a coordinator of an open project writes one with `cairn config export FILE --with-invite`"
            ))
        };
        crate::configuration::invitation_in(file)?.ok_or_else(none)?
    } else {
        typed.to_owned()
    };
    let ticket = Ticket::decode(&text).map_err(|e| match e {
        TicketError::NotATicket => NodeError::input(format!(
            "`{}` is neither a ticket (it starts with `cairn1`), nor a code (seven digits), nor a file that is here",
            typed.chars().take(40).collect::<String>()
        )),
        damaged => NodeError::input(damaged.to_string()),
    })?;
    let again = if home.has_project(&ticket.project) { home.refused_project(&ticket.project) } else { None };
    if home.has_project(&ticket.project) && again.is_none() {
        return Err(NodeError::Exists { what: "this project".into() });
    }
    let tells = tells(&ticket);
    if let Some(place) = request.via.as_ref().and_then(|via| Carrier::of(via, None))
        && let Some(path) = place.path().filter(|p| !p.exists())
    {
        return Err(NodeError::file(path, "it is not there"));
    }
    if request.dry_run {
        return Ok(Reply::new(tells));
    }
    if let Some(node) = again {
        let mut reply = rejoin(&node, &ticket, request, tells)?;
        drop(node);
        visit_at_once(home, request, &ticket, &mut reply).await?;
        return Ok(reply);
    }
    if ticket.mode == InviteMode::Bearer {
        let mut reply = home.join_by_bearer(&ticket, request.device_name.as_deref())?;
        merge(&mut reply.data, &tells);
        visit_at_once(home, request, &ticket, &mut reply).await?;
        return Ok(reply);
    }
    by_ticket(home, request, &ticket, &text).await
}

/// A newcomer with a bundle or a folder takes what is there at once.
async fn visit_at_once(home: &Home, request: &JoinRequest, ticket: &Ticket, reply: &mut Reply) -> Result<(), NodeError> {
    let Some(via) = request.via.clone().filter(|via| Carrier::of(via, None).is_some()) else { return Ok(()) };
    let node = Arc::new(Node::open(home, Some(&ticket.project.to_string()[..16]))?);
    let sync = crate::SyncRequest { targets: vec![via], ..Default::default() };
    let synced = crate::network::sync(&node, &sync, &|_| {}).await?;
    (reply.data["targets"], reply.data["sync"]) = (synced.data["targets"].clone(), synced.data["sync"].clone());
    reply.code = synced.code;
    reply.warnings.extend(synced.warnings);
    Ok(())
}

/// The ticket before did not count: what was recorded under it stays, and counts by the new one from the next batch on.
fn rejoin(node: &Node, ticket: &Ticket, request: &JoinRequest, tells: serde_json::Value) -> Result<Reply, NodeError> {
    if ticket.mode != InviteMode::Bearer {
        return Err(NodeError::input("to enter again a ticket that works at once is needed: `cairn invite` without options"));
    }
    let mut store = node.store();
    let name = request.device_name.clone().unwrap_or_else(|| store.device_name(&store.device()));
    store.rejoin(ticket, &name)?;
    let mut reply = Reply::new(json!({"device": store.device().to_string(), "state": "active", "again": true}));
    merge(&mut reply.data, &tells);
    Ok(reply)
}

/// What the newcomer should know before it acts.
fn tells(ticket: &Ticket) -> serde_json::Value {
    let t = &ticket.tells;
    json!({
        "project": ticket.project.to_string(), "name": t.project, "role": t.role.map(|r| r.word()),
        "receives": devices::receives(t.observations), "observations": t.observations, "may": t.role.map(|r| r.rights().says),
    })
}

fn merge(into: &mut serde_json::Value, from: &serde_json::Value) {
    for (key, value) in from.as_object().into_iter().flatten() {
        if into.get(key).is_none_or(serde_json::Value::is_null) {
            into[key] = value.clone();
        }
    }
}

async fn by_ticket(home: &Home, request: &JoinRequest, ticket: &Ticket, text: &str) -> Result<Reply, NodeError> {
    let keys = home.keys()?;
    let name = device_named(request.device_name.as_deref())?;
    let join = ControlOp::join(&keys, &ticket.project, ticket.invite, &name, &ticket.invitation_keys(), None);
    let asked = home.waiting_for(&ticket.project).filter(|w| w.ticket == text).map(|w| w.join);
    let given = request.via.iter().chain(&ticket.addresses).cloned();
    let (places, addresses): (Vec<String>, Vec<String>) = given.partition(|at| Carrier::of(at, None).is_some());
    let waiting = Waiting { ticket: text.to_owned(), join: asked.unwrap_or_else(|| hex(&join.bytes)), addresses, places };
    let look = Duration::from_secs(request.timeout_s.unwrap_or(LOOK_S));
    let came = ask(home.network(), &keys, ticket, &waiting, look).await;
    let mut reply = match came {
        Err(NodeError::Unreached { .. }) if ticket.mode == InviteMode::Approve => {
            home.keep_waiting(&ticket.project, &ticket.tells.project, &waiting)?;
            let mut reply = Reply::new(json!({"device": keys.device().to_string(), "state": "pending"}));
            reply
                .warnings
                .push("nobody was reached: the request is kept, `cairn sync HOST:PORT` (or a file, or a folder) asks again".into());
            reply
        }
        Err(e) => return Err(e),
        Ok(Came::Waits) => {
            home.keep_waiting(&ticket.project, &ticket.tells.project, &waiting)?;
            let mut reply = Reply::new(json!({"device": keys.device().to_string(), "state": "pending"}));
            reply.warnings.push("a coordinator must approve this device; then `cairn sync` enters".into());
            reply
        }
        Ok(came) => entered(home, &keys, ticket, came)?,
    };
    merge(&mut reply.data, &tells(ticket));
    Ok(reply)
}

/// Asks again for a request that waits. `true` once the project is here.
pub(crate) async fn ask_again(home: &Home, folder: &Path, targets: &[String], look_s: Option<u64>) -> Result<Reply, NodeError> {
    let damaged = || NodeError::file(&Waiting::path(folder), "this is no request to enter");
    let mut waiting = Waiting::read(folder).ok_or_else(damaged)?;
    let ticket = Ticket::decode(&waiting.ticket).map_err(|_| damaged())?;
    let (places, others): (Vec<String>, Vec<String>) = targets.iter().cloned().partition(|t| Carrier::of(t, None).is_some());
    waiting.places = with_first(places, waiting.places);
    waiting.addresses = with_first(others.into_iter().filter(|t| t.contains(':')).collect(), waiting.addresses);
    let keys = home.keys()?;
    let mut reply = match ask(home.network(), &keys, &ticket, &waiting, Duration::from_secs(look_s.unwrap_or(LOOK_S))).await? {
        Came::Waits => {
            home.keep_waiting(&ticket.project, &ticket.tells.project, &waiting)?;
            return Err(NodeError::not_allowed("a coordinator must approve this device first", crate::client::APPROVE));
        }
        came => entered(home, &keys, &ticket, came)?,
    };
    merge(&mut reply.data, &tells(&ticket));
    Ok(reply)
}

/// What was just named first, and each once.
fn with_first(named: Vec<String>, before: Vec<String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    named.into_iter().chain(before).filter(|t| seen.insert(t.clone())).collect()
}

fn entered(home: &Home, keys: &DeviceKeys, ticket: &Ticket, came: Came) -> Result<Reply, NodeError> {
    let Came::In { ops, ring, host, at, check } = came else {
        return Err(NodeError::not_allowed("a coordinator must approve this device first", crate::client::APPROVE));
    };
    let ops: Vec<ControlOp> = ops.iter().filter_map(|bytes| ControlOp::decode(&ticket.project, bytes).ok()).collect();
    let name = ticket.tells.project.clone();
    let name = if name.is_empty() { ticket.project.to_string()[..8].to_owned() } else { name };
    let project = home.build(&name, |db| {
        let mut store = Store::enter_project(db, keys.clone(), Box::new(OsEntropy), ticket.project, ops, ring)?;
        if let Some(host) = host {
            store.note_met(&host, Some(at.clone()), "quic", 0)?;
        }
        Ok(store.project())
    })?;
    Ok(Reply::new(json!({
        "project": project.to_string(), "device": keys.device().to_string(), "name": name, "state": "active",
        "check": check, "entered_through": at,
    })))
}

async fn ask(network: &Network, keys: &DeviceKeys, ticket: &Ticket, waiting: &Waiting, look: Duration) -> Result<Came, NodeError> {
    let key = invitation_knock_key(&ticket.invitation_keys().device().0);
    let join = unhex(&waiting.join).map_err(|e| NodeError::input(e.to_string()))?;
    let mut last = NodeError::Unreached { target: "a device that knows this invitation".into() };
    let mut waits = false;
    for place in waiting.places.iter().filter_map(|text| Carrier::of(text, None)) {
        match tokio::task::block_in_place(|| ask_mailbox(network, keys, ticket, &join, &place)) {
            Ok(Some((ops, ring))) => {
                let ops = ops.into_iter().map(|op| op.bytes).collect();
                let at = place.name();
                return Ok(Came::In { ops, ring, host: None, at, check: String::new() });
            }
            Ok(None) => waits = true,
            // A mailbox that is not there now may be later: the request is kept.
            Err(MailboxError::Missing(_) | MailboxError::Unreached(..)) => {}
            Err(e) => last = from_mailbox(&e),
        }
    }
    // Where a file or a folder was named, nobody is looked for; addresses are tried all the same.
    if !waiting.places.is_empty() && waiting.addresses.is_empty() {
        return if waits { Ok(Came::Waits) } else { Err(last) };
    }
    for address in reachable(&waiting.addresses, key, look).await {
        // Only a ticket that is shown face to face names the device; any member may answer others.
        let only = ticket.host;
        match dial(keys, address, only, key).await {
            Some(link) => {
                let host = Some(link.0.info().peer);
                match converse(link, Way::Ticket(key, join.clone()), |_| None).await {
                    Ok(End::Welcome(ops, check)) => {
                        return Ok(Came::In { ops, ring: Keyring::default(), host, at: address.to_string(), check });
                    }
                    Ok(End::Pending) => return Ok(Came::Waits),
                    Err(e) => last = e,
                }
            }
            None => continue,
        }
    }
    if waits { Ok(Came::Waits) } else { Err(last) }
}

/// Looks in a mailbox for the answer to a request to enter, and leaves the request there if it is not. What comes back are the
/// control operations and read keys of the project.
fn ask_mailbox(
    network: &Network,
    keys: &DeviceKeys,
    ticket: &Ticket,
    join: &[u8],
    place: &Carrier,
) -> Result<Option<(Vec<ControlOp>, Keyring)>, MailboxError> {
    let handle = mailbox_handle(&ticket.project);
    let random: &mut dyn Entropy = &mut OsEntropy;
    let mut relayed;
    let mut open;
    let mailbox: &mut dyn Mailbox = match place {
        Carrier::Relay(url) => {
            relayed = relay_of(network, ticket, url)?;
            &mut relayed
        }
        place => {
            open = Open::new(place, handle, random.bytes())?;
            open.mailbox()
        }
    };
    let listing = mailbox.list(&[])?;
    let chunks = read_some(mailbox, &listing, &[ChunkKind::Keys, ChunkKind::Control])?;
    if let Some(entered) = Store::entered_by_mail(ticket.project, keys, &chunks) {
        return Ok(Some(entered));
    }
    let invitation = ticket.invitation_keys().device().0;
    let asks = read_some(mailbox, &listing, &[ChunkKind::Ask])?;
    let asked = asks.iter().any(|chunk| open_ask(&ticket.project, &invitation, chunk).is_ok_and(|found| found == join));
    if !asked && let Ok(chunk) = seal_ask(&ticket.project, &invitation, join) {
        mailbox.add(&[chunk])?;
        mailbox.commit()?;
    }
    Ok(None)
}

/// The log of a ticket's project. Whoever only asks has no read key and stays at its doorstep.
fn relay_of(network: &Network, ticket: &Ticket, url: &RelayUrl) -> Result<RelayMailbox, MailboxError> {
    let access = ticket.epochs.iter().rev().map(|key| relay_access(&ticket.project, key)).collect();
    let keys = KeyRing { log: LogId(relay_log(&ticket.project)), knock: relay_knock(&ticket.project), access };
    let relay = Relay::new(url, network, Patience::default(), Handle::current()).map_err(RelayError::into_mailbox)?;
    let mut mailbox = relay.mailbox(keys, Remembered::default());
    match mailbox.enter().map_err(RelayError::into_mailbox)? {
        Entered::NoLog => Err(MailboxError::Missing(url.to_string())),
        Entered::Doorstep | Entered::In(_) => Ok(mailbox),
    }
}

/// Chunks of these kinds, as many as a visit reads of what is about a project.
fn read_some(mailbox: &mut dyn Mailbox, listing: &Listing, kinds: &[ChunkKind]) -> Result<Vec<Vec<u8>>, MailboxError> {
    let (mut out, mut bytes) = (Vec::new(), 0);
    for kind in kinds {
        for entry in listing.entries.iter().filter(|e| e.kind == *kind as u8) {
            bytes += entry.bytes as usize;
            if bytes > limits::ABOUT_BYTES {
                return Ok(out);
            }
            out.extend(mailbox.read(&[entry.name])?);
        }
    }
    Ok(out)
}

async fn by_code(home: &Home, request: &JoinRequest, code: Code) -> Result<Reply, NodeError> {
    if request.dry_run {
        return Err(NodeError::input("a code tells nothing before it is used: ask for a ticket to see what it gives"));
    }
    let keys = home.keys()?;
    let key = code_knock_key(code.nameplate);
    let name = device_named(request.device_name.as_deref())?;
    let via: Vec<String> = request.via.iter().cloned().collect();
    let look = Duration::from_secs(request.timeout_s.unwrap_or(LOOK_S));
    let mut last = NodeError::Unreached { target: "the device that shows this code".into() };
    for address in reachable(&via, key, look).await {
        let Some(link) = dial(&keys, address, None, key).await else { continue };
        let host = Some(link.0.info().peer);
        let mut invited = None;
        let end = converse(link, Way::Code(code.clone()), |text| {
            let ticket = Ticket::decode(text).ok().filter(|t| !home.has_project(&t.project))?;
            let join = ControlOp::join(&keys, &ticket.project, ticket.invite, &name, &ticket.invitation_keys(), None);
            invited = Some(ticket);
            Some(join.bytes)
        });
        match (end.await, invited) {
            (Ok(End::Welcome(ops, check)), Some(ticket)) => {
                let came = Came::In { ops, ring: Keyring::default(), host, at: address.to_string(), check };
                let mut reply = entered(home, &keys, &ticket, came)?;
                merge(&mut reply.data, &tells(&ticket));
                return Ok(reply);
            }
            (Ok(_), _) => last = NodeError::Exists { what: "this project".into() },
            (Err(e), _) => last = e,
        }
    }
    Err(last)
}

/// Typed addresses first; who announces itself with the key's tag after, if none is typed.
async fn reachable(typed: &[String], key: [u8; 32], look: Duration) -> Vec<SocketAddr> {
    let mut out = Vec::new();
    for text in typed {
        out.extend(tokio::net::lookup_host(text).await.into_iter().flatten());
    }
    if !out.is_empty() {
        return out;
    }
    let Ok(mut discovery) = Discovery::start(Ipv4Addr::UNSPECIFIED.into()) else { return out };
    let until = Instant::now() + look;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        let Ok((_, found)) = discovery.next(left.min(Duration::from_millis(500))).await else { break };
        for found in found {
            if is_announced(&key, &found.nonce, &found.tags) {
                out.extend(found.addresses.iter().filter(|a| !out.contains(a)).copied().collect::<Vec<_>>());
            }
        }
        if !out.is_empty() {
            break;
        }
    }
    out
}

async fn dial(keys: &DeviceKeys, address: SocketAddr, only: Option<DeviceId>, key: [u8; 32]) -> Option<(QuicLink, Endpoint)> {
    let any: IpAddr = if address.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let endpoint = Endpoint::bind(SocketAddr::new(any, 0), &keys.signing_secret(), closed()).ok()?;
    let link = endpoint.dial(address, only, &knock_with(key)).await.ok()?;
    Some((link, endpoint))
}

enum End {
    Welcome(Vec<Vec<u8>>, String),
    Pending,
}

/// Drives a guest over one link. `invited` is asked for the join that goes with a ticket that came by code.
async fn converse<L: Link>(link: (L, Endpoint), way: Way, mut invited: impl FnMut(&str) -> Option<Vec<u8>>) -> Result<End, NodeError> {
    let (link, endpoint) = link;
    let info = link.info().clone();
    let check = check_digits(&info.exporter);
    let (mut tx, mut rx) = link.split();
    let (mut guest, mut steps) = Guest::dial(info.exporter, way, (&mut OsEntropy as &mut dyn Entropy).bytes());
    let mut reader = FrameReader::default();
    reader.expect_hello();
    let outcome = loop {
        let mut end = None;
        for step in std::mem::take(&mut steps) {
            match step {
                Step::Send(bytes) => {
                    if let Err(e) = tx.send(&frame(&bytes)).await {
                        end = Some(Err(refusal(&e, &info.remote)));
                    }
                }
                Step::Met(_) => {}
                Step::Invited(text) => match invited(&text) {
                    Some(join) => {
                        for step in guest.enter(join) {
                            if let Step::Send(bytes) = step {
                                tx.send(&frame(&bytes)).await.ok();
                            }
                        }
                    }
                    None => end = Some(Err(NodeError::Exists { what: "this project".into() })),
                },
                Step::Welcome(ops) => end = Some(Ok(End::Welcome(ops, check.clone()))),
                Step::Pending => end = Some(Ok(End::Pending)),
                Step::Close(reason) => end = Some(Err(refused(reason))),
            }
        }
        if let Some(end) = end {
            break end;
        }
        match next_frame(&mut rx, &mut reader).await {
            Ok(bytes) => steps = guest.handle(&bytes),
            Err(e) => break Err(refusal(&e, &info.remote)),
        }
    };
    tx.close(CloseReason::Done as u64).await;
    endpoint.close().await;
    outcome
}

async fn next_frame(rx: &mut impl ReceiveHalf, reader: &mut FrameReader) -> Result<Vec<u8>, cairn_contract::LinkError> {
    loop {
        match reader.next_frame() {
            Ok(Some(bytes)) => return Ok(bytes),
            Ok(None) => {}
            Err(e) => return Err(cairn_contract::LinkError::Lost(e.to_string())),
        }
        let received = tokio::time::timeout(ANSWER, rx.receive()).await;
        reader.push(&received.unwrap_or_else(|_| Err(cairn_contract::LinkError::Lost("no answer".into())))?);
    }
}

fn refused(reason: CloseReason) -> NodeError {
    let remedy = match reason {
        CloseReason::WrongCode => "ask for a new code",
        CloseReason::InvitationEnded => "ask for a new invitation",
        _ => crate::client::APPROVE,
    };
    NodeError::not_allowed(reason.to_string(), remedy)
}

fn refusal(e: &cairn_contract::LinkError, target: &str) -> NodeError {
    match e {
        cairn_contract::LinkError::Closed(n) => match CloseReason::from_number(*n) {
            reason @ (CloseReason::InvitationEnded | CloseReason::WrongCode | CloseReason::Pending | CloseReason::NotMember) => {
                refused(reason)
            }
            reason => NodeError::Mismatch { message: reason.to_string() },
        },
        cairn_contract::LinkError::Lost(_) => NodeError::Unreached { target: target.to_owned() },
    }
}

impl Node {
    /// `IP:PORT` under which others reach this device while it serves.
    pub(crate) fn addresses(&self) -> Vec<String> {
        match self.listening() {
            Some(address) if !address.ip().is_unspecified() => vec![address.to_string()],
            Some(address) => crate::network::own_addresses(address.port()),
            None => Vec::new(),
        }
    }
}
