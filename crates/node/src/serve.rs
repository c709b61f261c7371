//! The service: listens, finds devices, keeps links live, and answers every verb over a local socket.

use crate::bundles::bundle_without_keys;
use crate::carry::Carrier;
use crate::door::knock_with;
use crate::driver::{LinkReport, Progress, run_link};
use crate::entering::{Waiting, ask_again};
use crate::heard::{Heard, LetIn};
use crate::home::{Home, Node, blocking, now_ms};
use crate::jobs::watch_jobs;
use crate::network::{is_ours, peers_near, sync};
use crate::relay::watch_relays;
use crate::request::{BundleRequest, Reply, Request};
use crate::watch::watch_remotes;
use crate::{NodeError, network};
use cairn_quic::{Discovery, Endpoint};
use cairn_store::{Entropy, OsEntropy};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

/// Links a service keeps at once; each may hold some megabytes.
const LINKS: usize = 64;
/// Bytes of one request over the local socket.
const REQUEST_BYTES: u64 = 4 << 20;
/// Before a device that was found and lost is dialled again.
const REDIAL: Duration = Duration::from_secs(10);

/// What somebody else must do.
pub(crate) const APPROVE: &str = "ask a coordinator to run `cairn devices approve`, then `cairn sync` here";
/// How soon an announcement follows a new invitation.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// What a guest that has used the code may take for its last step.
const LAST_STEP: Duration = Duration::from_secs(10);

/// How to serve.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Where to listen; port 0 takes any.
    pub listen: SocketAddr,
    /// Announce and browse on the interfaces listened on.
    pub discovery: bool,
}

/// One line of an answer over the socket.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Line {
    Event(serde_json::Value),
    Progress { done: u64, planned: u64, bytes: u64 },
    Done(Result<Reply, NodeError>),
}

fn socket_path(folder: &Path) -> PathBuf {
    folder.join("serve.sock")
}

/// Serves until `stop` ends. `ready` is told the address with its real port, `tell` what people should hear of.
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
    let endpoint = Arc::new(Endpoint::bind(options.listen, &secret, node.doors.door(device)).map_err(|e| fault(&e))?);
    let address = endpoint.address().map_err(|e| fault(&e))?;
    node.listens_at(address);
    let socket = socket_path(node.folder());
    // A stale socket of a killed service: the store's lock says that none is running.
    std::fs::remove_file(&socket).ok();
    let listener = UnixListener::bind(&socket).map_err(|e| NodeError::file(&socket, e))?;
    ready(json!({"listen": [address.to_string()], "device": device.to_string()}));
    let discover = options.discovery && !options.listen.ip().is_loopback();
    tokio::select! {
        () = accept_links(node, &endpoint) => {}
        () = answer_requests(node, &listener) => {}
        () = find_devices(node, &endpoint, address, discover) => {}
        () = watch_doors(node) => {}
        () = watch_remotes(node) => {}
        () = watch_relays(node) => {}
        () = watch_jobs(node) => {}
        () = stop => {}
    }
    std::fs::remove_file(&socket).map_err(|e| NodeError::file(&socket, e))
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
                let report = run_link(&node, link, true, false, number, &|_| {}).await;
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
fn note_link(node: &Node, number: Option<u32>, report: &LinkReport) {
    let (Some(number), Some(device)) = (number, report.device) else { return };
    let mut store = node.store();
    if report.synced {
        // Only a device that may be wiped asks for it; it is said again at the next link.
        store.note_told().ok();
    }
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

async fn find_devices(node: &Arc<Node>, endpoint: &Arc<Endpoint>, address: SocketAddr, wanted: bool) {
    let Some(mut discovery) = wanted.then(|| Discovery::start(address.ip()).ok()).flatten() else {
        return std::future::pending().await;
    };
    let busy: Arc<std::sync::Mutex<BTreeSet<String>>> = Arc::default();
    let name: [u8; 8] = (&mut OsEntropy as &mut dyn Entropy).bytes();
    let own = cairn_model::hex(&name);
    let mut announced = None;
    loop {
        if announced != Some(node.doors.version()) {
            announced = Some(node.doors.version());
            // The name stays, so that who is linked already is not linked again; the tags follow the invitations.
            let nonce: [u8; 8] = (&mut OsEntropy as &mut dyn Entropy).bytes();
            if discovery.announce(address.port(), &name, &nonce, &node.doors.tags(&nonce)).is_err() {
                return std::future::pending().await;
            }
        }
        for found in discovery.next(LOOK_AGAIN).await {
            // Both find each other; the lower name dials, so that there is one link.
            let mine = is_ours(node, &found) && own < found.name;
            if !mine || !busy.lock().expect("no panic holds it").insert(found.name.clone()) {
                continue;
            }
            let (node, endpoint, busy) = (node.clone(), endpoint.clone(), busy.clone());
            tokio::spawn(async move {
                for address in &found.addresses {
                    let knock = knock_with(node.store().discovery_key());
                    if let Ok(link) = endpoint.dial(*address, None, &knock).await {
                        let number = node.store().next_sync().ok();
                        let report = run_link(&node, link, true, false, number, &|_| {}).await;
                        note_link(&node, number, &report);
                        break;
                    }
                }
                tokio::time::sleep(REDIAL).await;
                busy.lock().expect("no panic holds it").remove(&found.name);
            });
        }
    }
}

async fn answer_requests(node: &Arc<Node>, listener: &UnixListener) {
    loop {
        // One client that cannot be accepted is told by its own end; the others go on.
        let Ok((stream, _)) = listener.accept().await else { continue };
        let node = node.clone();
        tokio::spawn(async move {
            answer_one(&node, stream).await.ok();
        });
    }
}

async fn answer_one(node: &Arc<Node>, stream: UnixStream) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut text = String::new();
    let mut read = BufReader::new(read.take(REQUEST_BYTES));
    read.read_line(&mut text).await?;
    let request: Request = match serde_json::from_str(&text) {
        Ok(request) => request,
        Err(e) => return write_line(&mut write, &Line::Done(Err(NodeError::input(format!("not a request: {e}"))))).await,
    };
    if request == Request::Events {
        return crate::events::stream(node, read.into_inner().into_inner(), write).await;
    }
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

pub(crate) async fn write_line(write: &mut (impl AsyncWriteExt + Unpin), line: &Line) -> std::io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    write.write_all(&text).await
}

/// Asks a running service, or opens the store and answers in process.
pub struct Client {
    home: Home,
    project: Option<String>,
    wait: Duration,
}

/// How often a busy store is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(25);

/// (batches done, batches planned, bytes).
pub type Seen<'a> = &'a (dyn Fn(u64, u64, u64) + Sync);

impl Client {
    /// For one project of a home; `wait` is how long a busy store is waited for.
    pub fn new(home: Home, project: Option<String>, wait: Duration) -> Self {
        Self { home, project, wait }
    }

    /// Answers one request, wherever the store is open.
    pub fn ask(&self, request: Request, seen: Seen<'_>) -> Result<Reply, NodeError> {
        let folder = match (self.home.project(self.project.as_deref()), &request) {
            // Anyone may look at a bundle from outside, and check that it is whole.
            (_, Request::Bundle(bundle @ BundleRequest::Verify { .. })) => return bundle_without_keys(bundle),
            (Err(_), Request::Bundle(bundle @ BundleRequest::Inspect { .. })) if self.project.is_none() => {
                return bundle_without_keys(bundle);
            }
            (found, _) => found?,
        };
        if Waiting::read(&folder).is_some()
            && let Some(reply) = self.while_waiting(&folder, &request)?
        {
            return Ok(reply);
        }
        match self.here_or_there(&folder)? {
            Place::There(stream) => ask_service(stream, &request, seen),
            Place::Here(node) => in_process(*node, request, seen),
        }
    }

    /// Calls `each` with what happens at the running service, until it ends. The first event says who is there.
    ///
    /// # Errors
    /// No service runs; it ended.
    pub fn events(&self, each: &mut dyn FnMut(&serde_json::Value)) -> Result<(), NodeError> {
        use std::io::{BufRead, Write};
        let folder = self.home.project(self.project.as_deref())?;
        let none = |_| NodeError::refused("no service runs for this project, so nothing is told", "start one: `cairn serve`");
        let stream = StdUnixStream::connect(socket_path(&folder)).map_err(none)?;
        let gone = |e: &dyn std::fmt::Display| NodeError::Store { message: format!("the running service did not answer: {e}") };
        let mut text = serde_json::to_vec(&Request::Events).map_err(|e| gone(&e))?;
        text.push(b'\n');
        (&stream).write_all(&text).map_err(|e| gone(&e))?;
        for line in std::io::BufReader::new(stream).lines() {
            match serde_json::from_str(&line.map_err(|e| gone(&e))?).map_err(|e| gone(&e))? {
                Line::Event(event) => each(&event),
                Line::Done(Err(e)) => return Err(e),
                Line::Done(Ok(_)) | Line::Progress { .. } => {}
            }
        }
        Ok(())
    }

    /// What can be answered while a request to enter waits. A sync asks again, and goes on once the project is here.
    fn while_waiting(&self, folder: &Path, request: &Request) -> Result<Option<Reply>, NodeError> {
        let device = self.home.keys()?.device();
        let name = std::fs::read_to_string(folder.join("name")).unwrap_or_default();
        match request {
            Request::Sync(sync) => {
                let full = |typed: &String| match Carrier::of(typed, sync.folder.as_deref()) {
                    Some(place) => place.name(),
                    None => typed.clone(),
                };
                let targets: Vec<String> = sync.targets.iter().map(full).collect();
                blocking(ask_again(&self.home, folder, &targets, sync.timeout_s))?;
                Ok(None)
            }
            Request::Whoami | Request::Status => {
                let project = json!({"name": name, "role": null, "state": "pending"});
                let data = json!({"device": device.to_string(), "digits": device.digits(), "state": "pending", "name": name, "projects": [project]});
                let warnings = vec!["a coordinator must approve this device; `cairn sync` asks again".to_owned()];
                Ok(Some(Reply { data, warnings, ..Reply::default() }))
            }
            _ => {
                Err(NodeError::not_allowed(format!("this device asked to enter `{name}` and waits for a coordinator's approval"), APPROVE))
            }
        }
    }

    /// `true` if a service runs for the project.
    pub fn is_served(&self) -> Result<bool, NodeError> {
        Ok(StdUnixStream::connect(socket_path(&self.home.project(self.project.as_deref())?)).is_ok())
    }

    /// Opens the store for serving, waiting for short commands to end.
    pub fn open(&self) -> Result<Node, NodeError> {
        let until = Instant::now() + self.wait;
        loop {
            match Node::open(&self.home, self.project.as_deref()) {
                Err(NodeError::InUse { .. }) if Instant::now() < until => std::thread::sleep(TRY_AGAIN),
                other => return other,
            }
        }
    }

    fn here_or_there(&self, folder: &Path) -> Result<Place, NodeError> {
        let until = Instant::now() + self.wait;
        loop {
            if let Ok(stream) = StdUnixStream::connect(socket_path(folder)) {
                return Ok(Place::There(stream));
            }
            match Node::open(&self.home, self.project.as_deref()) {
                Ok(node) => return Ok(Place::Here(Box::new(node))),
                Err(NodeError::InUse { .. }) if Instant::now() < until => std::thread::sleep(TRY_AGAIN),
                Err(e) => return Err(e),
            }
        }
    }
}

enum Place {
    Here(Box<Node>),
    There(StdUnixStream),
}

fn in_process(node: Node, request: Request, seen: Seen<'_>) -> Result<Reply, NodeError> {
    let runtime = || tokio::runtime::Runtime::new().map_err(|e| NodeError::Store { message: e.to_string() });
    let told = |p: &Progress| seen(p.sent + p.received, p.to_send.saturating_add(p.to_receive), p.sent_bytes + p.received_bytes);
    match request {
        Request::Sync(request) => {
            let node = Arc::new(node);
            runtime()?.block_on(network::sync(&node, &request, &told))
        }
        Request::Bundle(bundle) => crate::bundles::bundle(&node, &bundle, &told),
        Request::Peers { near: true } => {
            let node = Arc::new(node);
            runtime()?.block_on(peers_near(&node, None)).map(Reply::new)
        }
        Request::Job(request) => {
            let node = Arc::new(node);
            runtime()?.block_on(crate::jobs::job(&node, &request, seen))
        }
        other => node.handle_telling(other, seen),
    }
}

fn ask_service(stream: StdUnixStream, request: &Request, seen: Seen<'_>) -> Result<Reply, NodeError> {
    use std::io::{BufRead, Write};
    let gone = |e: &dyn std::fmt::Display| NodeError::Store { message: format!("the running service did not answer: {e}") };
    let mut text = serde_json::to_vec(request).map_err(|e| gone(&e))?;
    text.push(b'\n');
    (&stream).write_all(&text).map_err(|e| gone(&e))?;
    for line in std::io::BufReader::new(stream).lines() {
        let line = line.map_err(|e| gone(&e))?;
        match serde_json::from_str(&line).map_err(|e| gone(&e))? {
            Line::Progress { done, planned, bytes } => seen(done, planned, bytes),
            Line::Done(done) => return done,
            Line::Event(_) => {}
        }
    }
    Err(gone(&"it ended"))
}
