//! Certificates by ACME: ordered, kept, and ordered again in time, beside the listener.

use crate::ServeArgs;
use crate::serve::ServeError;
use cairn_relay_server::{Transport, tls};
use futures_util::StreamExt;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls_acme::AcmeConfig;
use rustls_acme::caches::DirCache;
use std::sync::Arc;

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// How the authority itself is reached, where no public one vouches for it.
fn client(args: &ServeArgs) -> Result<Option<Arc<rustls::ClientConfig>>, ServeError> {
    let Some(path) = &args.acme_root else { return Ok(None) };
    let fault = |e: String| ServeError::file(path, e);
    let mut roots = rustls::RootCertStore::empty();
    for cert in CertificateDer::pem_file_iter(path).map_err(|e| fault(e.to_string()))? {
        roots.add(cert.map_err(|e| fault(e.to_string()))?).map_err(|e| fault(e.to_string()))?;
    }
    let builder = rustls::ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let config = builder.map_err(|e| fault(e.to_string()))?.with_root_certificates(roots).with_no_client_auth();
    Ok(Some(Arc::new(config)))
}

/// The listener's part, and the task that orders certificates. `told` hears what comes of the orders.
pub(crate) fn transport(args: &ServeArgs, told: impl Fn(String) + Send + 'static) -> Result<Transport, ServeError> {
    let cache = args.data.join("acme");
    std::fs::create_dir_all(&cache).map_err(|e| ServeError::file(&cache, e))?;
    let config = match client(args)? {
        Some(client) => AcmeConfig::new_with_client_config(&args.acme, client),
        None => AcmeConfig::new_with_provider(&args.acme, provider()),
    };
    let config = config.contact(args.acme_email.iter().map(|mail| format!("mailto:{mail}"))).cache(DirCache::new(cache));
    let config = match &args.acme_directory {
        Some(url) => config.directory(url),
        None => config.directory_lets_encrypt(true),
    };
    let mut state = config.state();
    let challenges = state.challenge_rustls_config_with_provider(provider());
    let serving = tls::server_config(state.resolver()).map_err(|e| ServeError::Tls(e.to_string()))?;
    tokio::spawn(async move {
        while let Some(event) = state.next().await {
            told(match event {
                Ok(done) => format!("certificate: {done:?}"),
                Err(e) => format!("certificate: {e}"),
            });
        }
    });
    Ok(Transport::Acme(serving, challenges))
}
