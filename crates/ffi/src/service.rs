//! A service inside an app, on threads of its own.

use crate::CairnError;
use crate::error::input;
use cairn_node::{Node, ServeOptions, serve};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;

/// What work under way may take at the end.
const LAST_WORK: Duration = Duration::from_secs(5);

/// What ends the service, and its thread.
type Running = (oneshot::Sender<()>, JoinHandle<Result<(), CairnError>>);

/// A running service. It ends with [`Service::stop`], and when nobody holds it any more.
#[derive(Debug, uniffi::Object)]
pub struct Service {
    address: String,
    running: Mutex<Option<Running>>,
}

impl Service {
    pub(crate) fn start(node: Node, listen: SocketAddr, discovery: bool) -> Result<Arc<Self>, CairnError> {
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready_tx, ready) = mpsc::channel();
        let work = move || {
            let runtime = tokio::runtime::Runtime::new().map_err(|e| input(e.to_string()))?;
            let options = ServeOptions { listen, discovery, max_bytes: None };
            // Whoever waits for the address is gone only if this failed.
            let tell = move |ready: serde_json::Value| drop(ready_tx.send(ready["listen"][0].as_str().unwrap_or_default().to_owned()));
            let ended = async {
                // A sender that is gone means the same.
                stopped.await.ok();
            };
            let done = runtime.block_on(serve(node, options, tell, |_| {}, ended));
            // A visit to a place that does not answer is not waited for: what it took is durable.
            runtime.shutdown_timeout(LAST_WORK);
            Ok(done?)
        };
        let running = std::thread::Builder::new().name("cairn".into()).spawn(work).map_err(|e| input(e.to_string()))?;
        match ready.recv() {
            Ok(address) => Ok(Arc::new(Self { address, running: Mutex::new(Some((stop, running))) })),
            // It ended before it was ready, and says why.
            Err(_) => Err(joined(running).err().unwrap_or_else(|| input("the service ended at once"))),
        }
    }

    fn end(&self) -> Result<(), CairnError> {
        let taken = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((stop, running)) = taken else { return Ok(()) };
        // It may have ended by itself.
        stop.send(()).ok();
        joined(running)
    }
}

fn joined(running: JoinHandle<Result<(), CairnError>>) -> Result<(), CairnError> {
    running.join().unwrap_or_else(|_| Err(input("the service failed inside")))
}

#[uniffi::export]
impl Service {
    /// `IP:PORT` with the real port, as `sync` takes it.
    pub fn address(&self) -> String {
        self.address.clone()
    }

    /// Ends it in order; an error says what went wrong while it ran.
    pub fn stop(&self) -> Result<(), CairnError> {
        self.end()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Nobody is left to tell.
        self.end().ok();
    }
}
