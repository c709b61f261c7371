//! Connections: accepted within bounds, encrypted, and given up on when the other end is slow.

use crate::http::{Peer, router};
use crate::service::Service;
use axum::Router;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustls::ServerConfig;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

/// Silence after which an HTTP/2 connection is asked for a sign of life.
const ALIVE: Duration = Duration::from_secs(30);
/// Bytes of all headers of a request.
const HEADER_BYTES: u32 = 16 << 10;
/// Requests at once on one connection.
const STREAMS: u32 = 64;
/// Waited for requests under way when the relay closes.
const LAST: Duration = Duration::from_secs(10);

/// How a listener encrypts.
#[derive(Clone)]
pub enum Transport {
    /// Not: behind a proxy, or on loopback.
    Plain,
    /// With these certificates.
    Tls(Arc<ServerConfig>),
    /// With certificates by ACME: the second answers the authority's challenges.
    Acme(Arc<ServerConfig>, Arc<ServerConfig>),
}

/// Open connections by address.
#[derive(Default)]
struct Open {
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

/// One connection's place; given back when it is dropped.
struct Seat {
    open: Arc<Open>,
    service: Arc<Service>,
    address: IpAddr,
}

impl Seat {
    fn take(open: &Arc<Open>, service: &Arc<Service>, address: IpAddr) -> Option<Self> {
        let mut table = open.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let settings = &service.settings;
        let all: usize = service.metrics.connections.get().max(0) as usize;
        let own = table.entry(address).or_insert(0);
        if *own >= settings.connections_per_address || all >= settings.connections {
            if *own == 0 {
                table.remove(&address);
            }
            return None;
        }
        *own += 1;
        service.metrics.connections.inc();
        Some(Self { open: open.clone(), service: service.clone(), address })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.service.metrics.connections.dec();
        let mut table = self.open.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = table.get_mut(&self.address) {
            *own -= 1;
            if *own == 0 {
                table.remove(&self.address);
            }
        }
    }
}

/// Answers on `listener` until `stop` says so; then requests under way are finished, for a while.
pub async fn serve(service: Arc<Service>, listener: TcpListener, transport: Transport, mut stop: watch::Receiver<bool>) {
    let (router, patience) = (router(service.clone()), service.settings.patience);
    let open = Arc::new(Open::default());
    let (busy, mut idle) = tokio::sync::mpsc::channel::<()>(1);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.changed() => break,
        };
        let Ok((stream, address)) = accepted else {
            // Out of file descriptors: those in use end some time.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let address = address.ip().to_canonical();
        let Some(seat) = Seat::take(&open, &service, address) else { continue };
        let (router, transport, stop, busy) = (router.clone(), transport.clone(), stop.clone(), busy.clone());
        tokio::spawn(async move {
            stream.set_nodelay(true).ok();
            encrypted(stream, transport, router, (Peer(address), patience), stop).await;
            drop((seat, busy));
        });
    }
    drop(busy);
    tokio::time::timeout(LAST, idle.recv()).await.ok();
}

async fn encrypted(stream: TcpStream, transport: Transport, router: Router, who: (Peer, Duration), stop: watch::Receiver<bool>) {
    match transport {
        Transport::Plain => converse(stream, router, who, stop).await,
        Transport::Tls(config) => {
            if let Ok(Ok(tls)) = tokio::time::timeout(who.1, TlsAcceptor::from(config).accept(stream)).await {
                converse(tls, router, who, stop).await;
            }
        }
        Transport::Acme(config, challenges) => {
            let handshake = async {
                let start = tokio_rustls::LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream).await?;
                let challenge = rustls_acme::is_tls_alpn_challenge(&start.client_hello());
                let tls = start.into_stream(if challenge { challenges } else { config }).await?;
                Ok::<_, std::io::Error>((tls, challenge))
            };
            if let Ok(Ok((tls, false))) = tokio::time::timeout(who.1, handshake).await {
                converse(tls, router, who, stop).await;
            }
        }
    }
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    (peer, patience): (Peer, Duration),
    mut stop: watch::Receiver<bool>,
) {
    let asked = Arc::new(AtomicBool::new(false));
    let began = asked.clone();
    let answer = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        began.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(peer);
        router.clone().oneshot(request.map(axum::body::Body::new))
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(patience).max_buf_size(HEADER_BYTES as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(ALIVE)
        .keep_alive_timeout(patience)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADER_BYTES)
        .initial_stream_window_size(256 << 10)
        .initial_connection_window_size(1 << 20)
        .max_send_buf_size(256 << 10);
    let connection = builder.serve_connection(TokioIo::new(stream), answer);
    tokio::pin!(connection);
    tokio::select! {
        // How a connection ends is the other end's business; what was asked and answered is not touched by it.
        _ = connection.as_mut() => {}
        // Whoever connects asks something.
        () = silent(&asked, patience) => {}
        _ = stop.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await.ok();
        }
    }
}

/// Returns when the time is over and nothing was asked; else never.
async fn silent(asked: &AtomicBool, patience: Duration) {
    tokio::time::sleep(patience).await;
    if asked.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
}
