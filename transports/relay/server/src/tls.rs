//! Certificates: from files that are read again when they change, self-made and known by their key, or by ACME.

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::fmt;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

/// Why a certificate is not to be had.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {message}")]
pub struct TlsError {
    /// Which file.
    pub path: String,
    /// What is wrong with it.
    pub message: String,
}

fn fault(path: &Path, e: impl fmt::Display) -> TlsError {
    TlsError { path: path.display().to_string(), message: e.to_string() }
}

/// A certificate and its key in two PEM files.
pub struct CertFiles {
    cert: PathBuf,
    key: PathBuf,
    loaded: RwLock<(Arc<CertifiedKey>, Option<SystemTime>)>,
}

impl fmt::Debug for CertFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CertFiles({})", self.cert.display())
    }
}

fn changed(cert: &Path) -> Option<SystemTime> {
    fs::metadata(cert).and_then(|m| m.modified()).ok()
}

fn load(cert: &Path, key: &Path) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain: Result<Vec<CertificateDer<'static>>, _> = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect);
    let chain = chain.map_err(|e| fault(cert, e))?;
    if chain.is_empty() {
        return Err(fault(cert, "there is no certificate in it"));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| fault(key, e))?;
    CertifiedKey::from_der(chain, private, &ring::default_provider()).map(Arc::new).map_err(|e| fault(cert, e))
}

impl CertFiles {
    /// Reads both.
    pub fn load(cert: &Path, key: &Path) -> Result<Arc<Self>, TlsError> {
        let loaded = RwLock::new((load(cert, key)?, changed(cert)));
        Ok(Arc::new(Self { cert: cert.to_owned(), key: key.to_owned(), loaded }))
    }

    /// Reads them again if they changed; what does not read leaves the ones before. `true` if there are new ones.
    pub fn refresh(&self) -> Result<bool, TlsError> {
        let now = changed(&self.cert);
        if self.loaded.read().unwrap_or_else(PoisonError::into_inner).1 == now {
            return Ok(false);
        }
        let fresh = load(&self.cert, &self.key)?;
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = (fresh, now);
        Ok(true)
    }

    /// Names the certificate is for.
    pub fn names(&self) -> Vec<String> {
        let key = self.loaded.read().unwrap_or_else(PoisonError::into_inner).0.clone();
        let Some(parsed) = key.cert.first().and_then(|cert| webpki::EndEntityCert::try_from(cert).ok()) else { return Vec::new() };
        parsed.valid_dns_names().map(str::to_owned).filter(|n| !n.contains('*')).collect()
    }

    /// The pin of the key, as URLs carry it.
    pub fn pin(&self) -> Result<String, TlsError> {
        let key = self.loaded.read().unwrap_or_else(PoisonError::into_inner).0.clone();
        let cert = key.cert.first().ok_or_else(|| fault(&self.cert, "there is no certificate in it"))?;
        pin_of(cert).ok_or_else(|| fault(&self.cert, "its key cannot be read"))
    }
}

impl ResolvesServerCert for CertFiles {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.loaded.read().unwrap_or_else(PoisonError::into_inner).0.clone())
    }
}

/// Pin of the key in a certificate.
pub fn pin_of(cert: &CertificateDer<'_>) -> Option<String> {
    let parsed = webpki::EndEntityCert::try_from(cert).ok()?;
    Some(cairn_relay_wire::pin(parsed.subject_public_key_info().as_ref()))
}

/// Makes a key and a certificate for `names` in `folder`, or finds those that are there: the pin stays.
pub fn self_made(folder: &Path, names: &[String]) -> Result<Arc<CertFiles>, TlsError> {
    let (cert, key) = (folder.join("relay-cert.pem"), folder.join("relay-key.pem"));
    if !key.exists() || !cert.exists() {
        let pair = rcgen::KeyPair::generate().map_err(|e| fault(&key, e))?;
        let names = if names.is_empty() { vec!["cairn-relay".to_owned()] } else { names.to_vec() };
        let params = rcgen::CertificateParams::new(names).map_err(|e| fault(&cert, e))?;
        let made = params.self_signed(&pair).map_err(|e| fault(&cert, e))?;
        fs::write(&cert, made.pem()).map_err(|e| fault(&cert, e))?;
        fs::remove_file(&key).ok();
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&key);
        file.and_then(|mut f| f.write_all(pair.serialize_pem().as_bytes()).and_then(|()| f.sync_all())).map_err(|e| fault(&key, e))?;
    }
    CertFiles::load(&cert, &key)
}

/// How connections are encrypted: TLS 1.3, HTTP/2 before HTTP/1.1.
pub fn server_config(certs: Arc<dyn ResolvesServerCert>) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let versions = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13]);
    let builder = versions.map_err(|e| fault(Path::new("TLS"), e))?;
    let mut config = builder.with_no_client_auth().with_cert_resolver(certs);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
