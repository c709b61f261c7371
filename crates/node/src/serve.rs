//! The service: listens, finds devices, keeps links live, and answers every verb over a local socket.

use crate::NodeError;
use crate::driver::{LinkReport, Progress, run_link};
use crate::heard::{Heard, LetIn};
use crate::home::{Node, now_ms};
use crate::jobs::watch_jobs;
use crate::neighbours::{find_devices, watch_far};
use crate::network::{peers_near, sync};
use crate::relay::watch_relays;
use crate::remotes::watch_timetable;
use crate::request::{Reply, Request};
use crate::running::Running;
use crate::socket::{self, Line, write_line};
use crate::watch::watch_remotes;
use cairn_quic::Endpoint;
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

/// Links a service keeps at once; each may hold some megabytes.
const LINKS: usize = 64;
/// Bytes of one request over the local socket.
const REQUEST_BYTES: u64 = 4 << 20;

/// What telling listeners of the end may take.
const LAST_WORD: Duration = Duration::from_secs(1);

/// What a guest that has used the code may take for its last step.
const LAST_STEP: Duration = Duration::from_secs(10);

/// How to serve.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Where to listen; port 0 takes any.
    pub listen: SocketAddr,
    /// Announce and browse on the interfaces listened on.
    pub discovery: bool,
    /// Bytes that may pass in a day with relays and with remotes that are addresses; devices on this network cost nothing.
    pub max_bytes: Option<u64>,
}

/// Serves until `stop` ends. `ready` is told the address with its real port, `tell` what people should hear of.
///
/// Links and requests under way end after it, on the same runtime, and hold the store until then: whoever opens the project again in the
/// same process shuts the runtime down first.
pub async fn serve(
    node: Node,
    options: ServeOptions,
    ready: impl FnOnce(serde_json::Value),
    tell: impl Fn(&Heard),
    stop: impl Future<Output = ()>,
) -> Result<(), NodeError> {
    let node = Arc::new(node);
    let mut heard = node.heard.subscribe();
    let telling = async {
        loop {
            match heard.recv().await {
                Ok(heard) => tell(&heard),
                Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                Err(tokio::sync::broadcast::error::RecvError::Closed) => std::future::pending().await,
            }
        }
    };
    let stop = async {
        tokio::select! {
            () = telling => {}
            () = stop => {}
        }
    };
    serve_until(&node, options, ready, stop).await
}

/// What an invitation that waits for its guest tells.
#[derive(Debug)]
pub enum Live<'a> {
    /// The ticket or code, to be shown.
    Shown(&'a Reply),
    /// What people should hear of.
    Heard(&'a Heard),
}

/// Shows a QR or a code, serves until a device has entered by it, and gives what `invite` gave with that device.
pub async fn invite_live(
    node: Node,
    options: ServeOptions,
    request: crate::InviteRequest,
    tell: impl Fn(Live<'_>),
    stop: impl Future<Output = ()>,
) -> Result<Reply, NodeError> {
    let node = Arc::new(node);
    let mut heard = node.heard.subscribe();
    let (ready_tx, ready_rx) = tokio::sync::oneshot::channel();
    let uses = request.uses.max(1);
    let outcome = std::cell::RefCell::new(None);
    let waiting = async {
        // The sender is gone only if serving failed, which ends everything.
        if ready_rx.await.is_err() {
            return std::future::pending().await;
        }
        let shown = node.handle(Request::Invite(request));
        let Ok(reply) = &shown else {
            *outcome.borrow_mut() = Some(shown);
            return;
        };
        tell(Live::Shown(reply));
        let mut reply = reply.clone();
        let mut entered = Vec::new();
        let until = tokio::time::sleep(crate::door::CODE_LIFE);
        tokio::pin!(until);
        while entered.len() < uses as usize {
            let spent = reply.data.get("code").is_some() && node.doors.code().is_none() && entered.is_empty();
            tokio::select! {
                Ok(news) = heard.recv() => {
                    tell(Live::Heard(&news));
                    match news {
                        Heard::LetIn(device) => entered.push(json!(device)),
                        Heard::WrongCode => break,
                        _ => {}
                    }
                }
                () = &mut until => break,
                () = node.doors.tried(), if !spent => {}
                // Whoever used it up has some seconds to show its join.
                () = tokio::time::sleep(LAST_STEP), if spent => break,
            }
        }
        if entered.is_empty() {
            reply.code = 4;
            reply.warnings.push("nobody entered: the code is used up or its time is over".into());
        }
        reply.data["let_in"] = json!(entered);
        *outcome.borrow_mut() = Some(Ok(reply));
    };
    let ending = async {
        tokio::select! {
            () = waiting => {}
            () = stop => {}
        }
    };
    let ready = move |ready: serde_json::Value| drop(ready_tx.send(ready));
    serve_until(&node, options, ready, ending).await?;
    outcome.into_inner().unwrap_or_else(|| Ok(Reply { data: json!({"let_in": []}), code: 4, ..Reply::default() }))
}

async fn serve_until(
    node: &Arc<Node>,
    options: ServeOptions,
    ready: impl FnOnce(serde_json::Value),
    stop: impl Future<Output = ()>,
) -> Result<(), NodeError> {
    let (secret, device) = {
        let store = node.store();
        (store.keys().signing_secret(), store.device())
    };
    let fault = |e: &dyn std::fmt::Display| NodeError::Store { message: e.to_string() };
    let taken = |e: cairn_quic::EndpointError| {
        let remedy = "another program listens there, or this machine has no such address: give another port, or 0 for any";
        NodeError::refused(format!("{}: {e}", options.listen), remedy)
    };
    let endpoint = Arc::new(Endpoint::bind(options.listen, &secret, node.doors.door(device)).map_err(taken)?);
    let address = endpoint.address().map_err(|e| fault(&e))?;
    node.listens_at(address);
    *node.bytes_a_day.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = options.max_bytes;
    let listener = socket::listen(node.folder())?;
    ready(json!({"listen": [address.to_string()], "device": device.to_string()}));
    let discover = options.discovery && !options.listen.ip().is_loopback();
    let watching = watch(node, &endpoint, discover.then_some(address));
    tokio::select! {
        () = accept_links(node, &endpoint) => {}
        () = answer_requests(node, &listener) => {}
        () = stop => {}
    }
    drop(watching);
    node.ending.send_replace(true);
    // One that does not take it in time hears that the stream broke off.
    tokio::time::timeout(LAST_WORD, node.ending.closed()).await.ok();
    if let Some(budget) = node.rest_of_day()? {
        node.note_spent(&budget, true)?;
    }
    socket::remove(node.folder())
}

/// What a service does unasked, each by itself: one that waits for the store, or for a share that does not answer, keeps neither links nor
/// requests nor the end waiting.
fn watch(node: &Arc<Node>, endpoint: &Arc<Endpoint>, announced: Option<SocketAddr>) -> Vec<Running> {
    let (of, over) = (|| node.clone(), || endpoint.clone());
    let (a, b, c, d, e, f, g) = (of(), of(), of(), of(), of(), of(), of());
    let (near, far) = (over(), over());
    vec![
        Running::start(async move { find_devices(&a, &near, announced).await }),
        Running::start(async move { watch_doors(&b).await }),
        Running::start(async move { watch_remotes(&c).await }),
        Running::start(async move { watch_relays(&d).await }),
        Running::start(async move { watch_far(&e, &far).await }),
        Running::start(async move { watch_timetable(&f).await }),
        Running::start(async move { watch_jobs(&g).await }),
    ]
}

/// Invitations that arrive over a link open a door here too.
async fn watch_doors(node: &Arc<Node>) {
    let mut changes = node.changes();
    while !matches!(changes.recv().await, Err(tokio::sync::broadcast::error::RecvError::Closed)) {
        node.doors.refresh(&node.store());
    }
}

async fn accept_links(node: &Arc<Node>, endpoint: &Arc<Endpoint>) {
    let places = Arc::new(Semaphore::new(LINKS));
    while let Some(incoming) = endpoint.accept().await {
        let Ok(place) = places.clone().try_acquire_owned() else {
            incoming.refuse();
            continue;
        };
        let node = node.clone();
        tokio::spawn(async move {
            if let Ok(link) = Endpoint::finish(incoming).await {
                let number = node.store().next_sync().ok();
                let seen = crate::events::progress_of(&node, cairn_contract::Link::info(&link).remote.clone());
                let report = run_link(&node, link, true, false, number, &seen).await;
                note_link(&node, number, &report);
                if let (Some(check), Some(device)) = (report.let_in, report.device) {
                    let (name, approved) = {
                        let store = node.store();
                        (store.device_name(&device), store.membership().members.get(&device).is_some_and(|m| m.by.is_some()))
                    };
                    // Who was approved entered in two steps, over two channels: there are no common digits.
                    let check = if approved { String::new() } else { check };
                    // Nobody listens unless somebody waits for a guest.
                    node.heard.send(Heard::LetIn(LetIn { device: device.to_string(), name, check })).ok();
                }
            }
            drop(place);
        });
    }
}

/// Remembers a link that brought something as a sync. One that brought nothing leaves no trace.
pub(crate) fn note_link(node: &Node, number: Option<u32>, report: &LinkReport) {
    let (Some(number), Some(device)) = (number, report.device) else { return };
    let mut store = node.store();
    if report.stats.held == 0 {
        return;
    }
    let name = store.device_name(&device);
    let of = &report.stats;
    let synced = Heard::Synced { with: name.clone(), sync: number.to_string(), new: of.new, changed: of.changed, deleted: of.deleted };
    // Nobody may listen.
    node.heard.send(synced).ok();
    // What arrived is durable: without the note it is listed without a name and a time.
    store.note_sync(number, &[name], now_ms()).ok();
}

async fn answer_requests(node: &Arc<Node>, listener: &UnixListener) {
    loop {
        // One client that cannot be accepted is told by its own end; the others go on, after a breath: there may be too many files open.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let node = node.clone();
        tokio::spawn(async move {
            answer_one(&node, stream).await.ok();
        });
    }
}

async fn answer_one(node: &Arc<Node>, stream: UnixStream) -> std::io::Result<()> {
    if !socket::is_own(&stream) {
        return Ok(());
    }
    let (read, mut write) = stream.into_split();
    let mut text = String::new();
    let mut read = BufReader::new(read.take(REQUEST_BYTES));
    read.read_line(&mut text).await?;
    let request = match socket::request(&text) {
        Ok(request) => request,
        Err(e) => return write_line(&mut write, &Line::Done(Err(e))).await,
    };
    if request == Request::Events {
        return crate::events::stream(node, read.into_inner().into_inner(), write).await;
    }
    // Whoever asks knows now that somebody is at work.
    write_line(&mut write, &Line::Progress { done: 0, planned: 0, bytes: 0 }).await?;
    let (progress_tx, mut progress_rx) = tokio::sync::watch::channel(Progress::default());
    let (rows_tx, mut rows_rx) = tokio::sync::watch::channel((0, 0, 0));
    let rows_tx = Arc::new(rows_tx);
    let work = async {
        match request {
            Request::Sync(request) => {
                sync(node, &request, &|p| {
                    progress_tx.send_replace(*p);
                })
                .await
            }
            Request::Peers { near: true } => peers_near(node, None).await.map(Reply::new),
            Request::Doctor(request) => {
                let tell = |done, planned, rows| {
                    rows_tx.send_replace((done, planned, rows));
                };
                crate::doctor::doctor(node, &request, &tell).await
            }
            Request::Job(request) => {
                let tell = |done, planned, rows| {
                    rows_tx.send_replace((done, planned, rows));
                };
                crate::jobs::job(node, &request, &tell).await
            }
            other => {
                let node = node.clone();
                let tell = rows_tx.clone();
                let work = move || {
                    node.handle_telling(other, &|done, planned, rows| {
                        tell.send_replace((done, planned, rows));
                    })
                };
                let done = tokio::task::spawn_blocking(work).await;
                done.unwrap_or_else(|e| Err(NodeError::Store { message: e.to_string() }))
            }
        }
    };
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return write_line(&mut write, &Line::Done(done)).await,
            Ok(()) = progress_rx.changed() => {
                let p = *progress_rx.borrow_and_update();
                write_line(&mut write, &line_of(&p)).await?;
            }
            Ok(()) = rows_rx.changed() => {
                let (done, planned, bytes) = *rows_rx.borrow_and_update();
                write_line(&mut write, &Line::Progress { done, planned, bytes }).await?;
            }
        }
    }
}

fn line_of(p: &Progress) -> Line {
    Line::Progress { done: p.sent + p.received, planned: p.to_send.saturating_add(p.to_receive), bytes: p.sent_bytes + p.received_bytes }
}
