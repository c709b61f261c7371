//! A running node: storage opened, certificate found, listener bound, and told to people.

use crate::{AccountsArg, RegistrationArg, ServeArgs, acme};
use cairn_relay_server::tls::{CertFiles, TlsError};
use cairn_relay_server::{
    Embedded, Heard, Parts, Postgres, Service, Settings, Storage, Transport, operator_hash, operator_secret, serve, storage::StorageError,
    tls,
};
use cairn_relay_wire::{Accounts, Registration};
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// How often changed certificates are looked for.
const LOOK: Duration = Duration::from_secs(60);
/// How often what may be erased is erased.
const SWEEP: Duration = Duration::from_secs(3600);

/// Why a relay does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A file or folder.
    #[error("{path}: {message}")]
    File {
        /// Which.
        path: String,
        /// What is wrong.
        message: String,
    },
    /// The address.
    #[error("cannot listen on {address}: {message}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        message: String,
    },
    /// Another relay has the folder.
    #[error("{0} is in use by another relay")]
    InUse(String),
    /// Certificates.
    #[error("{0}")]
    Tls(String),
    /// The storage.
    #[error(transparent)]
    Storage(StorageError),
    /// Options that do not go together.
    #[error("{0}")]
    Usage(String),
}

impl ServeError {
    pub(crate) fn file(path: &Path, e: impl std::fmt::Display) -> Self {
        ServeError::File { path: path.display().to_string(), message: e.to_string() }
    }
}

impl From<TlsError> for ServeError {
    fn from(e: TlsError) -> Self {
        ServeError::File { path: e.path, message: e.message }
    }
}

/// A relay that answers.
pub struct Running {
    /// For people and programs: `url`, `listen`, `pin`, `data`.
    pub ready: Value,
    stop: watch::Sender<bool>,
    done: tokio::task::JoinHandle<()>,
}

impl Running {
    /// Finishes what is under way and ends.
    pub async fn stop(self) {
        self.stop.send(true).ok();
        // What ended badly has ended too.
        self.done.await.ok();
    }
}

fn folder(path: &Path) -> Result<(), ServeError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| ServeError::file(path, e))
}

/// The operator's token: what lies in the folder, else one that all nodes of this relay have in common, put there.
async fn operator_token(data: &Path, storage: &dyn Storage) -> Result<String, ServeError> {
    let path = data.join("operator-token");
    match fs::read_to_string(&path) {
        Ok(text) => return Ok(text.trim().to_owned()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(ServeError::file(&path, e)),
    }
    let token = BASE64URL_NOPAD.encode(&operator_secret(storage).await.map_err(ServeError::Storage)?);
    private(&path, token.as_bytes())?;
    Ok(token)
}

fn private(path: &Path, bytes: &[u8]) -> Result<(), ServeError> {
    let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut f| f.write_all(bytes)).map_err(|e| ServeError::file(path, e))
}

/// Addresses under which others reach a listener.
fn reached_at(address: SocketAddr) -> Vec<SocketAddr> {
    if !address.ip().is_unspecified() {
        return vec![address];
    }
    let all = if_addrs::get_if_addrs().unwrap_or_default();
    let mut out: Vec<SocketAddr> = all.iter().map(|i| SocketAddr::new(i.ip(), address.port())).filter(|a| a.is_ipv4()).collect();
    // Others first: whoever starts a relay hands its address to others.
    out.sort_by_key(|a| a.ip().is_loopback());
    out
}

/// Names sessions may be signed for.
fn audiences(args: &ServeArgs, address: SocketAddr, certs: Option<&CertFiles>) -> Result<Vec<String>, ServeError> {
    let mut hosts: BTreeSet<String> = args.acme.iter().cloned().collect();
    let mut out: BTreeSet<String> = args.name.iter().cloned().collect();
    if let Some(certs) = certs {
        out.insert(certs.pin()?);
        hosts.extend(certs.names());
    }
    hosts.extend(args.name.iter().filter(|n| !n.contains(':')).cloned());
    for host in hosts {
        out.insert(format!("{host}:{}", address.port()));
        out.insert(host);
    }
    out.extend(reached_at(address).iter().map(SocketAddr::to_string));
    if address.ip().is_loopback() || address.ip().is_unspecified() {
        out.insert(format!("localhost:{}", address.port()));
    }
    Ok(out.into_iter().collect())
}

/// The addresses to hand out, the best first.
fn urls(args: &ServeArgs, address: SocketAddr, pin: Option<&str>) -> Vec<String> {
    let scheme = if args.plain && !args.behind_proxy { "http" } else { "https" };
    let pin = pin.map(|p| format!("#{p}")).unwrap_or_default();
    let port = |name: &str| match address.port() {
        _ if name.contains(':') || args.behind_proxy => String::new(),
        443 => String::new(),
        port => format!(":{port}"),
    };
    let named = args.name.iter().chain(&args.acme).map(|name| format!("{scheme}://{name}{}{pin}", port(name)));
    named.chain(reached_at(address).into_iter().map(|a| format!("{scheme}://{a}{pin}"))).collect()
}

fn settings(args: &ServeArgs, audiences: Vec<String>, operator: &str) -> Settings {
    Settings {
        accounts: match args.accounts {
            AccountsArg::Optional => Accounts::Optional,
            AccountsArg::Required => Accounts::Required,
        },
        registration: match args.registration {
            RegistrationArg::Open => Registration::Open,
            RegistrationArg::Code => Registration::Code,
            RegistrationArg::Closed => Registration::Closed,
        },
        quota_bytes: args.quota,
        retention_days: args.retention,
        audiences,
        rate: args.rate,
        logins: args.logins,
        connections: args.connections,
        connections_per_address: args.connections_per_address,
        behind_proxy: args.behind_proxy,
        operator: Some(operator_hash(operator)),
        open_metrics: args.open_metrics,
        ..Settings::default()
    }
}

async fn storage(args: &ServeArgs) -> Result<Arc<dyn Storage>, ServeError> {
    if let Some(database) = &args.database {
        let opened = Postgres::open(database, args.database_root.as_deref()).await;
        return Ok(Arc::new(opened.map_err(ServeError::Storage)?));
    }
    match Embedded::open(&args.data.join("relay.redb")) {
        Ok(storage) => Ok(Arc::new(storage)),
        Err(StorageError::Engine(why)) if why.contains("already open") => Err(ServeError::InUse(args.data.display().to_string())),
        Err(e) => Err(ServeError::Storage(e)),
    }
}

fn parts(args: &ServeArgs) -> Result<Parts, ServeError> {
    let opened = match &args.parts {
        Some(bucket) => Parts::in_bucket(bucket, std::env::vars().filter(|(key, _)| key.starts_with("AWS_"))),
        None => Parts::in_folder(&args.data.join("parts")),
    };
    opened.map_err(ServeError::Storage)
}

/// A line of JSON for every request: route, status, milliseconds. No address, no name of a log, no account.
fn logger(args: &ServeArgs, told: impl Fn(String) + Send + Sync + 'static) -> Option<Heard> {
    let all = args.log;
    Some(Box::new(move |a| {
        // What failed inside is always told.
        if all || a.failed.is_some() {
            let ms = a.took.as_micros() as f64 / 1000.0;
            told(json!({"route": a.route, "status": a.status, "ms": ms, "failed": a.failed}).to_string());
        }
    }))
}

/// Starts a node. `told` is given lines for people: requests where a log is wanted, certificates, what went wrong in the background.
pub async fn run(args: &ServeArgs, told: impl Fn(String) + Clone + Send + Sync + 'static) -> Result<Running, ServeError> {
    if args.plain && !args.behind_proxy && !args.listen.ip().is_loopback() {
        return Err(ServeError::Usage("--plain is for this machine only, or together with --behind-proxy".into()));
    }
    folder(&args.data)?;
    let storage = storage(args).await?;
    let operator = operator_token(&args.data, &*storage).await?;
    let listener = TcpListener::bind(args.listen).await.map_err(|e| ServeError::Listen { address: args.listen, message: e.to_string() })?;
    let address = listener.local_addr().map_err(|e| ServeError::Listen { address: args.listen, message: e.to_string() })?;
    let mut certs = None;
    let transport = if args.plain {
        Transport::Plain
    } else if args.acme.is_empty() {
        let files = match (&args.cert, &args.key) {
            (Some(cert), Some(key)) => CertFiles::load(cert, key)?,
            _ => tls::self_made(&args.data, &[])?,
        };
        certs = Some(files.clone());
        Transport::Tls(tls::server_config(files)?)
    } else {
        acme::transport(args, told.clone())?
    };
    let pin = certs.as_ref().map(|c| c.pin()).transpose()?.filter(|_| args.cert.is_none());
    let settings = settings(args, audiences(args, address, certs.as_deref())?, &operator);
    let service = Service::new(settings, storage, parts(args)?, logger(args, told.clone())).await.map_err(ServeError::Storage)?;
    let urls = urls(args, address, pin.as_deref());
    let local = urls.last().cloned().unwrap_or_default();
    private(&args.data.join("address"), local.as_bytes())?;
    let ready = json!({"url": urls.first(), "urls": urls, "listen": [address.to_string()], "pin": pin, "data": args.data});
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(look_after(service.clone(), certs, told));
    let done = tokio::spawn(serve(service, listener, transport, stopped));
    Ok(Running { ready, stop, done })
}

/// Erases what may be erased, and reads certificates that changed. Never ends.
async fn look_after(service: Arc<Service>, certs: Option<Arc<CertFiles>>, told: impl Fn(String)) {
    let (mut look, mut sweep) = (tokio::time::interval(LOOK), tokio::time::interval(SWEEP));
    loop {
        tokio::select! {
            _ = look.tick() => {
                match certs.as_ref().map(|c| c.refresh()) {
                    Some(Ok(true)) => told("certificate: read again".into()),
                    Some(Err(e)) => told(format!("certificate: {e}; the one before is used on")),
                    _ => {}
                }
            }
            _ = sweep.tick() => {
                if let Err(e) = service.sweep().await {
                    told(format!("erasing what was trimmed: {e}"));
                }
            }
        }
    }
}
