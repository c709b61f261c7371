//! Connections: a pool, transactions that are tried again where that helps, and what an error of the engine means.

use crate::storage::StorageError;
use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Connections of one node.
const CONNECTIONS: usize = 16;
/// To one host, if the connection string does not say.
const CONNECT: Duration = Duration::from_secs(3);
/// For a free connection.
const WAIT: Duration = Duration::from_secs(10);
/// A statement that takes longer is ended by the engine, so that a node never waits for one that hangs.
const STATEMENT_MS: u32 = 60_000;
/// How often a transaction is tried: together some ten seconds, in which a standby takes over.
pub(super) const TRIES: u32 = 8;

/// Why a transaction did not go through.
#[derive(Debug)]
pub(super) enum Failed {
    /// It will not the next time.
    For(StorageError),
    /// It may, on another connection: what it did is undone, or is done and may be done again.
    Now(StorageError),
}

impl From<StorageError> for Failed {
    fn from(e: StorageError) -> Self {
        Failed::For(e)
    }
}

impl From<tokio_postgres::Error> for Failed {
    fn from(e: tokio_postgres::Error) -> Self {
        let text = e.as_db_error().map_or_else(|| e.to_string(), |d| d.message().to_owned());
        let Some(state) = e.code() else { return Failed::Now(StorageError::Engine(text)) };
        let class = &state.code()[..2];
        if *state == SqlState::DISK_FULL {
            return Failed::For(StorageError::Full);
        }
        // 08 connection, 40 rolled back, 57 an operator's doing, 25 among them a primary that is one no more.
        match class {
            "08" | "40" | "57" | "25" | "53" => Failed::Now(StorageError::Engine(text)),
            _ => Failed::For(StorageError::Engine(text)),
        }
    }
}

impl From<deadpool_postgres::PoolError> for Failed {
    fn from(e: deadpool_postgres::PoolError) -> Self {
        Failed::Now(StorageError::Engine(e.to_string()))
    }
}

impl Failed {
    pub fn error(self) -> StorageError {
        match self {
            Failed::For(e) | Failed::Now(e) => e,
        }
    }

    /// How long to wait before another try; `None` if there is no use in one.
    pub fn pause(&self, tried: u32) -> Option<Duration> {
        let again = matches!(self, Failed::Now(_)) && tried < TRIES;
        again.then(|| Duration::from_millis(50 << tried.min(6)))
    }
}

/// Whom a connection over TLS believes: the authorities in `root`, or those this machine believes. `None` where there is no TLS: by a
/// socket of this machine, or because the connection string says so.
pub(super) fn tls(config: &Config, root: Option<&Path>) -> Result<Option<MakeRustlsConnect>, StorageError> {
    let remote = config.get_hosts().iter().any(|host| matches!(host, Host::Tcp(_)));
    if !remote || config.get_ssl_mode() == SslMode::Disable {
        return Ok(None);
    }
    let fault = |e: String| StorageError::Engine(format!("TLS to the database: {e}"));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|e| fault(e.to_string()))?;
    let config = match root {
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for cert in CertificateDer::pem_file_iter(path).map_err(|e| fault(format!("{}: {e}", path.display())))? {
                let cert = cert.map_err(|e| fault(format!("{}: {e}", path.display())))?;
                roots.add(cert).map_err(|e| fault(format!("{}: {e}", path.display())))?;
            }
            builder.with_root_certificates(roots).with_no_client_auth()
        }
        None => {
            let verifier = rustls_platform_verifier::Verifier::new(provider).map_err(|e| fault(e.to_string()))?;
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth()
        }
    };
    Ok(Some(MakeRustlsConnect::new(config)))
}

/// Reads a connection string. Of several hosts the one that takes writes is used.
pub(super) fn config(text: &str) -> Result<Config, StorageError> {
    // What is wrong with it is not repeated: it may hold a password.
    let wrong = |_| StorageError::Engine("the connection string does not read: postgres://USER@HOST1,HOST2/DATABASE is expected".into());
    let mut config: Config = text.parse().map_err(wrong)?;
    config.target_session_attrs(TargetSessionAttrs::ReadWrite).application_name("cairn-relay");
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT);
    }
    // Over TLS or not at all, unless it says otherwise: a server that cannot would be asked for the password in the open.
    if config.get_ssl_mode() == SslMode::Prefer && !text.contains("sslmode") {
        config.ssl_mode(SslMode::Require);
    }
    config.keepalives(true).keepalives_idle(Duration::from_secs(10)).tcp_user_timeout(Duration::from_secs(20));
    if config.get_options().is_none() {
        config.options(format!("-c statement_timeout={STATEMENT_MS} -c synchronous_commit=on"));
    }
    Ok(config)
}

pub(super) fn pool(config: Config, tls: Option<MakeRustlsConnect>) -> Result<Pool, StorageError> {
    let settings = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = match tls {
        Some(tls) => Manager::from_config(config, tls, settings),
        None => Manager::from_config(config, NoTls, settings),
    };
    let builder = Pool::builder(manager).max_size(CONNECTIONS).runtime(Runtime::Tokio1);
    let builder = builder.wait_timeout(Some(WAIT)).create_timeout(Some(WAIT));
    builder.build().map_err(|e| StorageError::Engine(e.to_string()))
}

/// Never used again: its connection is to a host that went, or is one of another role now.
pub(super) fn discard(client: Object) {
    drop(Object::take(client));
}

/// Runs `$work` with a connection, and again while that helps: everything here may be done twice.
macro_rules! attempt {
    ($pool:expr, |$client:ident| $work:expr) => {{
        let mut tried = 0;
        loop {
            tried += 1;
            let done: Result<_, Failed> = async {
                #[allow(unused_mut, reason = "reading needs no exclusive connection")]
                let mut $client = $pool.get().await?;
                let inside: Result<_, Failed> = async { $work }.await;
                if matches!(inside, Err(Failed::Now(_))) {
                    $crate::postgres::session::discard($client);
                }
                inside
            }
            .await;
            match done {
                Ok(out) => break Ok(out),
                Err(e) => match e.pause(tried) {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => break Err(e.error()),
                },
            }
        }
    }};
}

/// The same in one transaction.
macro_rules! transact {
    ($pool:expr, |$t:ident| $work:expr) => {
        $crate::postgres::session::attempt!($pool, |client| {
            let $t = client.transaction().await?;
            let out = $work?;
            $t.commit().await?;
            Ok(out)
        })
    };
}
pub(super) use {attempt, transact};
