//! One link: bytes in, effects out, store requests in order. Persist before send is visible here: a chunk reaches
//! the writer only as the answer to a read from the store.

use crate::desk::{Tally, answer};
use crate::heard::Heard;
use crate::home::{Node, locked, now_ms};
use cairn_contract::{Link, LinkError, ReceiveHalf, SendHalf};
use cairn_model::DeviceId;
use cairn_store::{Entropy, IngestStats, OsEntropy, Store};
use cairn_sync::{
    Answer, CloseReason, Effect, Event, FrameReader, Hello, Host, HostSetup, Message, Request, Session, Setup, frame, limits,
};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, broadcast, mpsc};

pub use cairn_sync::Progress;

/// Bytes handed to the transport and not yet taken, above which nothing more is read from the store.
const BACKLOG: usize = 2 << 20;
/// Frames read ahead of the session.
const FRAMES: usize = 4;
/// How long the other end may take to say who it is.
const GREETING: Duration = Duration::from_secs(15);

static LINKS: AtomicU64 = AtomicU64::new(1);

/// How one link ended.
#[derive(Clone, Debug, Default)]
pub struct LinkReport {
    /// The device, once it proved the project.
    pub device: Option<DeviceId>,
    /// Its hello.
    pub hello: Option<Hello>,
    /// Both sides said that they are synced.
    pub synced: bool,
    /// A name for what this device had said of who belongs when they last were.
    pub told: Option<[u8; 32]>,
    /// They work with different configurations, so observations waited.
    pub gated: bool,
    /// A device was let in over this link; six digits that it shows too.
    pub let_in: Option<String>,
    /// Numbers.
    pub progress: Progress,
    /// What arrived.
    pub stats: IngestStats,
    /// Why it ended, where a reason was given.
    pub reason: Option<CloseReason>,
    /// The other end gave it.
    pub by_peer: bool,
    /// What broke, where it broke.
    pub lost: Option<String>,
    /// It was ended before that, from here: no more may pass.
    pub stopped: bool,
    /// Wall time, milliseconds.
    pub ms: u64,
}

/// How long a link is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stay {
    /// Until both sides are synced; then this side ends it.
    UntilSynced,
    /// Until the other side ends it; new chunks flow as they are made.
    Live,
}

/// Runs a link to its end with progress told to `seen`. `sync` is the number under which changes are noted.
pub async fn run_link<L: Link>(
    node: &Arc<Node>,
    link: L,
    live: bool,
    probe: bool,
    sync: Option<u32>,
    seen: &(dyn Fn(&Progress) + Sync),
) -> LinkReport {
    run_link_until(node, link, (live, probe), sync, seen, std::future::pending()).await
}

/// The same, ended when `stop` does: what has arrived by then is kept.
pub(crate) async fn run_link_until<L: Link>(
    node: &Arc<Node>,
    link: L,
    (live, probe): (bool, bool),
    sync: Option<u32>,
    seen: &(dyn Fn(&Progress) + Sync),
    stop: impl Future<Output = ()>,
) -> LinkReport {
    let stay = if live { Stay::Live } else { Stay::UntilSynced };
    let began = Instant::now();
    let info = link.info().clone();
    let setup = {
        let store = node.store();
        let name = store.device_name(&store.device());
        Setup { peer: info.peer, exporter: info.exporter, discovery: store.discovery_key(), name, port: node.port(), probe }
    };
    let (tx, rx) = link.split();
    let mut line = Line::start(node, tx, rx, info.dialled, sync);
    line.check = cairn_trust::check_digits(&info.exporter);
    let mut report = LinkReport::default();
    line.converse(node, setup, (info.dialled, stay), &mut report, seen, stop).await;
    let tally = line.end(&report).await;
    report.stats = tally.stats;
    report.ms = began.elapsed().as_millis() as u64;
    note_met(node, &report, &info.remote, info.dialled);
    if let Some(told) = report.told.filter(|_| !probe) {
        // Only a device that may be wiped asks for it; it is said again at the next link.
        node.store().note_told(&told).ok();
    }
    crate::network::note_turned_away(node, &report);
    node.doors.refresh(&node.store());
    report
}

/// Remembers where a device that proved the project can be dialled.
fn note_met(node: &Node, report: &LinkReport, remote: &str, dialled: bool) {
    let (Some(device), Some(hello)) = (report.device, &report.hello) else { return };
    let address = match remote.parse::<std::net::SocketAddr>() {
        Ok(mut address) if hello.port != 0 => {
            address.set_port(hello.port);
            Some(address.to_string())
        }
        Ok(_) if dialled => Some(remote.to_owned()),
        _ => None,
    };
    // Only a hint: a sync that went well is not undone because the hint could not be kept.
    node.store().note_met(&device, address, "quic", now_ms()).ok();
}

/// The tasks around one session.
struct Line {
    /// A link that is dropped in the middle must not go on behind its back: the other end would keep it, and its line be paid for.
    ends: Ends,
    id: u64,
    /// Six digits both ends of this channel can show.
    check: String,
    frames: mpsc::Receiver<Result<Vec<u8>, LinkError>>,
    out: mpsc::UnboundedSender<Outgoing>,
    backlog: Arc<Backlog>,
    requests: mpsc::UnboundedSender<(u64, Request)>,
    answers: mpsc::UnboundedReceiver<(u64, Answer)>,
    loads: mpsc::UnboundedSender<(u64, Answer)>,
    writer: tokio::task::JoinHandle<()>,
    desk: tokio::task::JoinHandle<Tally>,
    store: Arc<Mutex<Store>>,
}

/// Tasks that end with what holds this.
struct Ends(Vec<tokio::task::AbortHandle>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.iter().for_each(tokio::task::AbortHandle::abort);
    }
}

enum Outgoing {
    Bytes(Vec<u8>),
    Close(u64),
}

#[derive(Default)]
struct Backlog {
    bytes: AtomicUsize,
    less: Notify,
}

impl Line {
    fn start<T: SendHalf, R: ReceiveHalf>(node: &Arc<Node>, tx: T, rx: R, dialled: bool, sync: Option<u32>) -> Self {
        let id = LINKS.fetch_add(1, Ordering::Relaxed);
        let (frames_tx, frames) = mpsc::channel(FRAMES);
        let (out, out_rx) = mpsc::unbounded_channel();
        let (requests, requests_rx) = mpsc::unbounded_channel();
        let (answers_tx, answers) = mpsc::unbounded_channel();
        let backlog = Arc::new(Backlog::default());
        let (store, changed, heard) = (node.store.clone(), node.changed.clone(), node.heard.clone());
        let desk_answers = answers_tx.clone();
        let desk_store = store.clone();
        let reader = tokio::spawn(read(rx, frames_tx, dialled));
        let writer = tokio::spawn(write(tx, out_rx, backlog.clone()));
        Self {
            ends: Ends(vec![reader.abort_handle(), writer.abort_handle()]),
            id,
            check: String::new(),
            frames,
            out,
            requests,
            answers,
            loads: answers_tx,
            writer,
            desk: tokio::task::spawn_blocking(move || serve_desk(&desk_store, requests_rx, &desk_answers, (&changed, &heard), id, sync)),
            backlog,
            store,
        }
    }

    async fn converse(
        &mut self,
        node: &Arc<Node>,
        setup: Setup,
        (dialled, stay): (bool, Stay),
        report: &mut LinkReport,
        seen: &(dyn Fn(&Progress) + Sync),
        stop: impl Future<Output = ()>,
    ) {
        tokio::pin!(stop);
        let mut changes = node.changed.subscribe();
        let mut talk = None;
        if dialled {
            let (dialling, effects) = Session::dial(setup.clone());
            talk = Some(Talk::Session(Box::new(dialling)));
            self.carry_out(effects, report);
        }
        let greeting = tokio::time::sleep(GREETING);
        tokio::pin!(greeting);
        loop {
            if report.stopped && !talk.as_ref().is_some_and(Talk::is_taking) {
                break;
            }
            let wants = !report.stopped && talk.as_ref().is_none_or(Talk::wants_frames);
            let effects = tokio::select! {
                biased;
                Some((number, done)) = self.answers.recv() => step(&mut talk, Event::Answer(number, done)),
                got = self.frames.recv(), if wants => match got {
                    Some(Ok(got)) => match &mut talk {
                        Some(talk) => talk.handle(Event::Frame(got)),
                        None => {
                            let (begun, effects) = Talk::accept(node, &setup, &got);
                            talk = Some(begun);
                            effects
                        }
                    },
                    Some(Err(LinkError::Closed(n))) => {
                        (report.reason, report.by_peer) = (Some(CloseReason::from_number(n)), true);
                        break;
                    }
                    Some(Err(e)) => {
                        report.lost = Some(e.to_string());
                        break;
                    }
                    None => break,
                },
                change = changes.recv() => match change {
                    Ok(by) if by == self.id => Vec::new(),
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => step(&mut talk, Event::Changed),
                    Err(broadcast::error::RecvError::Closed) => break,
                },
                () = &mut stop, if !report.stopped => {
                    report.stopped = true;
                    Vec::new()
                }
                () = &mut greeting, if report.device.is_none() => {
                    report.lost = Some("the other device did not say who it is".into());
                    break;
                }
            };
            let done = self.carry_out(effects, report);
            match &talk {
                Some(Talk::Session(session)) => {
                    report.progress = session.progress();
                    report.gated = session.is_gated();
                    seen(&report.progress);
                    let proved = session.hello().is_some() || report.reason == Some(CloseReason::Removed);
                    report.device = proved.then(|| session.peer());
                }
                // A guest has as long as a greeting may take.
                Some(Talk::Host(_)) => report.device = report.let_in.as_ref().map(|_| setup.peer),
                None => {}
            }
            if done || (report.synced && stay == Stay::UntilSynced) {
                break;
            }
        }
    }

    /// `true` when the link is over.
    fn carry_out(&mut self, effects: Vec<Effect>, report: &mut LinkReport) -> bool {
        for effect in effects {
            match effect {
                Effect::Send(message) => {
                    let bytes = frame(&message);
                    self.backlog.bytes.fetch_add(bytes.len(), Ordering::Relaxed);
                    // The writer is gone only when the link is: the reader tells.
                    self.out.send(Outgoing::Bytes(bytes)).ok();
                }
                Effect::Store(number, Request::Load(chain, from, most)) => self.load(number, chain, from, most),
                Effect::Store(number, request) => {
                    self.requests.send((number, request)).ok();
                }
                Effect::Met(hello) => report.hello = Some(*hello),
                // What is said of who belongs after this is not told by it, even if the link lasts.
                Effect::Synced => (report.synced, report.told) = (true, Some(locked(&self.store).own_operations())),
                Effect::CodeTried(_) => {}
                Effect::LetIn => report.let_in = Some(self.check.clone()),
                Effect::Close(reason) => {
                    report.reason = Some(reason);
                    return true;
                }
            }
        }
        false
    }

    /// Reads chunks once the transport has taken most of what it was given.
    fn load(&self, number: u64, chain: u32, from: u64, most: usize) {
        let (backlog, store, answers) = (self.backlog.clone(), self.store.clone(), self.loads.clone());
        tokio::spawn(async move {
            let room = async {
                while backlog.bytes.load(Ordering::Relaxed) > BACKLOG {
                    backlog.less.notified().await;
                }
            };
            tokio::select! {
                () = room => {}
                // The link is over, and its writer makes no more room.
                () = answers.closed() => return,
            }
            let read = tokio::task::spawn_blocking(move || {
                let store = locked(&store);
                store.chunks_from(chain, from, most).map_or(Answer::Failed, Answer::Chunks)
            });
            answers.send((number, read.await.unwrap_or(Answer::Failed))).ok();
        });
    }

    /// Says goodbye, lets the store finish what it was given, and gives the tally.
    async fn end(self, report: &LinkReport) -> Tally {
        let reason = report.reason.unwrap_or(CloseReason::Done);
        if report.lost.is_none() {
            self.out.send(Outgoing::Close(reason as u64)).ok();
        }
        drop((self.out, self.requests));
        // A panic in these tasks has been reported by the runtime; what is durable is durable.
        self.writer.await.ok();
        drop(self.ends);
        self.desk.await.unwrap_or_default()
    }
}

/// What is spoken over one link.
enum Talk {
    Session(Box<Session>),
    /// Somebody enters.
    Host(Box<Host>),
}

fn is_pairing(first: &[u8]) -> bool {
    matches!(Message::decode(first), Ok(Message::Pair(_)))
}

impl Talk {
    /// By a dialler's first frame: an invitation, a code, or the project itself.
    fn accept(node: &Node, setup: &Setup, first: &[u8]) -> (Self, Vec<Effect>) {
        let host = HostSetup {
            peer: setup.peer,
            exporter: setup.exporter,
            name: setup.name.clone(),
            invitations: node.doors.invitations(),
            code: if is_pairing(first) { node.doors.take_code() } else { None },
            seed: (&mut OsEntropy as &mut dyn Entropy).bytes(),
        };
        if let Some((host, effects)) = Host::accept(host, first) {
            return (Talk::Host(Box::new(host)), effects);
        }
        let (session, effects) = Session::accept(setup.clone(), first);
        (Talk::Session(Box::new(session)), effects)
    }

    fn handle(&mut self, event: Event) -> Vec<Effect> {
        match self {
            Talk::Session(session) => session.handle(event),
            Talk::Host(host) => host.handle(event),
        }
    }

    fn is_taking(&self) -> bool {
        matches!(self, Talk::Session(session) if session.is_taking())
    }

    fn wants_frames(&self) -> bool {
        match self {
            Talk::Session(session) => session.wants_frames(),
            Talk::Host(_) => true,
        }
    }
}

fn step(talk: &mut Option<Talk>, event: Event) -> Vec<Effect> {
    talk.as_mut().map(|t| t.handle(event)).unwrap_or_default()
}

async fn read(mut rx: impl ReceiveHalf, frames: mpsc::Sender<Result<Vec<u8>, LinkError>>, dialled: bool) {
    let mut reader = FrameReader::default();
    if dialled {
        reader.expect_hello();
    }
    loop {
        match rx.receive().await {
            Ok(bytes) => reader.push(&bytes),
            Err(e) => {
                frames.send(Err(e)).await.ok();
                return;
            }
        }
        loop {
            let next = match reader.next_frame() {
                Ok(None) => break,
                Ok(Some(got)) => frames.send(Ok(got)).await,
                Err(_) => {
                    frames.send(Err(LinkError::Closed(CloseReason::Malformed as u64))).await.ok();
                    return;
                }
            };
            if next.is_err() {
                return;
            }
        }
    }
}

async fn write(mut tx: impl SendHalf, mut out: mpsc::UnboundedReceiver<Outgoing>, backlog: Arc<Backlog>) {
    while let Some(next) = out.recv().await {
        match next {
            Outgoing::Bytes(bytes) => {
                let sent = tx.send(&bytes).await;
                backlog.bytes.fetch_sub(bytes.len(), Ordering::Relaxed);
                backlog.less.notify_waiters();
                backlog.less.notify_one();
                if sent.is_err() {
                    return;
                }
            }
            Outgoing::Close(reason) => {
                tx.close(reason).await;
                return;
            }
        }
    }
}

/// Answers requests one after another until no more come.
fn serve_desk(
    store: &Mutex<Store>,
    mut requests: mpsc::UnboundedReceiver<(u64, Request)>,
    answers: &mpsc::UnboundedSender<(u64, Answer)>,
    (changed, heard): (&broadcast::Sender<u64>, &broadcast::Sender<Heard>),
    link: u64,
    sync: Option<u32>,
) -> Tally {
    let mut tally = Tally { sync, ..Tally::default() };
    while let Some((number, request)) = requests.blocking_recv() {
        let done = answer(&mut locked(store), request, now_ms(), &mut tally);
        if std::mem::take(&mut tally.changed) {
            changed.send(link).ok();
        }
        if std::mem::take(&mut tally.confirmed) {
            heard.send(Heard::Confirmed).ok();
        }
        // The session may have ended meanwhile; the work is durable all the same.
        answers.send((number, done.unwrap_or(Answer::Failed))).ok();
    }
    tally
}

const _: () = assert!(BACKLOG >= limits::LOAD_BYTES, "one load must fit the backlog");
