//! Whoever asks: a running service answers, or the store is opened and it is answered in process.

use crate::NodeError;
use crate::bundles::bundle_without_keys;
use crate::carry::Carrier;
use crate::driver::Progress;
use crate::entering::{Waiting, ask_again};
use crate::guard::guarded;
use crate::home::{Home, Node, blocking};
use crate::network::{self, peers_near};
use crate::request::{BundleRequest, Reply, Request};
use crate::socket::{self, Line};
use cairn_store::StoreFiles;
use serde_json::json;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What somebody else must do.
pub(crate) const APPROVE: &str = "ask a coordinator to run `cairn devices approve`, then `cairn sync` here";

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
            Place::There(stream) => ask_service(stream, &request, seen, (&folder, self.wait)),
            Place::Here(node) => in_process(*node, request, seen),
        }
    }

    /// Calls `each` with what happens at the running service, until it ends. The first event says who is there.
    ///
    /// # Errors
    /// No service runs; it ended without saying so, as one that was killed does.
    pub fn events(&self, each: &mut dyn FnMut(&serde_json::Value)) -> Result<(), NodeError> {
        use std::io::{BufRead, Write};
        let folder = self.home.project(self.project.as_deref())?;
        let none = |_| NodeError::refused("no service runs for this project, so nothing is told", "start one: `cairn serve`");
        let stream = socket::connect(&folder).map_err(none)?;
        let gone = |e: &dyn std::fmt::Display| NodeError::Store { message: format!("the running service did not answer: {e}") };
        let text = socket::line(&Request::Events).map_err(|e| gone(&e))?;
        (&stream).write_all(&text).map_err(|e| gone(&e))?;
        for line in std::io::BufReader::new(stream).lines() {
            match serde_json::from_str(&line.map_err(|e| gone(&e))?).map_err(|e| gone(&e))? {
                Line::Event(event) => each(&event),
                Line::Done(done) => return done.map(drop),
                Line::Progress { .. } => {}
            }
        }
        Err(gone(&"it ended without a word"))
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
                let state = json!({"state": "waiting-for-approval", "count": 1, "since": null, "next": APPROVE});
                let data = json!({"device": device.to_string(), "digits": device.digits(), "state": "pending", "name": name, "projects": [project], "states": [state]});
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
        Ok(socket::connect(&self.home.project(self.project.as_deref())?).is_ok())
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
            if let Ok(stream) = socket::connect(folder) {
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
    There(UnixStream),
}

/// What the engine fails at inside is told as damage.
fn in_process(node: Node, request: Request, seen: Seen<'_>) -> Result<Reply, NodeError> {
    guarded(|| unguarded(node, request, seen))
}

fn unguarded(node: Node, request: Request, seen: Seen<'_>) -> Result<Reply, NodeError> {
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
        Request::Doctor(request) => {
            let node = Arc::new(node);
            runtime()?.block_on(crate::doctor::doctor(&node, &request, seen))
        }
        Request::Job(request) => {
            let node = Arc::new(node);
            runtime()?.block_on(crate::jobs::job(&node, &request, seen))
        }
        other => node.handle_telling(other, seen),
    }
}

/// The service says at once that it has heard; how long the work takes then is its own affair.
fn ask_service(stream: UnixStream, request: &Request, seen: Seen<'_>, (folder, wait): (&Path, Duration)) -> Result<Reply, NodeError> {
    use std::io::{BufRead, Write};
    let gone = |e: &dyn std::fmt::Display| NodeError::Store { message: format!("the running service did not answer: {e}") };
    let text = socket::line(request).map_err(|e| gone(&e))?;
    (&stream).write_all(&text).map_err(|e| gone(&e))?;
    stream.set_read_timeout(Some(wait.max(Duration::from_millis(100)))).map_err(|e| gone(&e))?;
    for line in std::io::BufReader::new(&stream).lines() {
        let line = line.map_err(|e| match e.kind() {
            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => in_use(folder),
            _ => gone(&e),
        })?;
        stream.set_read_timeout(None).map_err(|e| gone(&e))?;
        match serde_json::from_str(&line).map_err(|e| gone(&e))? {
            // The word that it has heard.
            Line::Progress { done: 0, planned: 0, bytes: 0 } => {}
            Line::Progress { done, planned, bytes } => seen(done, planned, bytes),
            Line::Done(done) => return done,
            Line::Event(_) => {}
        }
    }
    Err(gone(&"it ended"))
}

/// A service that is there and does not answer: stopped, or busy with something that keeps all others out.
fn in_use(folder: &Path) -> NodeError {
    let holder = std::fs::read_to_string(StoreFiles::new(folder).holder()).unwrap_or_else(|_| "a service".into());
    NodeError::InUse { holder: format!("{holder}, which does not answer") }
}
