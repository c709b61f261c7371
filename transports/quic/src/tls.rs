//! Certificates that carry a device key and nothing else.

use cairn_model::{DeviceId, hex, unhex};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

/// Protocol name in the TLS handshake.
pub(crate) const ALPN: &[u8] = b"cairn/1";

/// SubjectPublicKeyInfo of an Ed25519 key without the key (RFC 8410).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// PKCS#8 of an Ed25519 private key without the key (RFC 8410).
const PKCS8_PREFIX: [u8; 16] = [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// The device a certificate belongs to.
pub(crate) fn device_of(cert: &CertificateDer<'_>) -> Result<DeviceId, Error> {
    let refused = Error::InvalidCertificate(CertificateError::BadEncoding);
    let entity = webpki::EndEntityCert::try_from(cert).map_err(|_| refused.clone())?;
    let info = entity.subject_public_key_info();
    let key = info.as_ref().strip_prefix(&SPKI_PREFIX).ok_or(refused.clone())?;
    DeviceId::from_slice(key).map_err(|_| refused)
}

fn serial_of(cert: &CertificateDer<'_>) -> Result<Vec<u8>, Error> {
    let refused = Error::InvalidCertificate(CertificateError::BadEncoding);
    let entity = webpki::EndEntityCert::try_from(cert).map_err(|_| refused)?;
    Ok(entity.serial().to_vec())
}

pub(crate) struct Identity {
    pair: rcgen::KeyPair,
    pub key: PrivateKeyDer<'static>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity(..)")
    }
}

impl Identity {
    /// From the 32-byte Ed25519 private key of a device.
    pub fn new(secret: &[u8; 32]) -> Result<Self, rcgen::Error> {
        let pkcs8 = PrivatePkcs8KeyDer::from([&PKCS8_PREFIX[..], secret].concat());
        let pair = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &rcgen::PKCS_ED25519)?;
        Ok(Self { pair, key: PrivateKeyDer::Pkcs8(pkcs8) })
    }

    /// A certificate that carries the key, and the answer to a knock as its serial number.
    pub fn cert(&self, answer: &[u8; 16]) -> Result<CertificateDer<'static>, rcgen::Error> {
        let mut params = rcgen::CertificateParams::new(Vec::new())?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.not_before = rcgen::date_time_ymd(1975, 1, 1);
        params.not_after = rcgen::date_time_ymd(4096, 1, 1);
        params.serial_number = Some(rcgen::SerialNumber::from([&[1], &answer[..]].concat()));
        Ok(params.self_signed(&self.pair)?.der().clone())
    }
}

/// Looks at a knock (nonce, tag); gives the answer if whoever sent it may see the device's key.
pub type Door = Arc<dyn Fn(&[u8; 8], &[u8; 16]) -> Option<[u8; 16]> + Send + Sync>;

/// What a device would answer to a knock.
pub type Answer = Arc<dyn Fn(&DeviceId) -> [u8; 16] + Send + Sync>;

/// A dialler's knock, and the answer it expects of a device.
#[derive(Clone)]
pub struct Knock {
    /// Fresh for every dial.
    pub nonce: [u8; 8],
    /// Shows that the dialler knows the key behind the door.
    pub tag: [u8; 16],
    /// What only a device that knows it too can show.
    pub answer: Answer,
}

impl std::fmt::Debug for Knock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Knock(..)")
    }
}

impl Knock {
    /// As the server name of the handshake: random to everybody else.
    pub(crate) fn server_name(&self) -> String {
        format!("{}.{}.invalid", hex(&self.nonce), hex(&self.tag))
    }

    fn parse(name: &str) -> Option<([u8; 8], [u8; 16])> {
        let mut labels = name.split('.');
        let nonce = unhex(labels.next()?).ok()?.try_into().ok()?;
        let tag = unhex(labels.next()?).ok()?.try_into().ok()?;
        (labels.next() == Some("invalid") && labels.next().is_none()).then_some((nonce, tag))
    }
}

/// Knocks remembered, so that none is answered twice.
const NONCES: usize = 1 << 16;

/// Shows the device's key to nobody who has not knocked rightly.
pub(crate) struct Doorkeeper {
    pub identity: Arc<Identity>,
    pub provider: Arc<CryptoProvider>,
    pub door: Door,
    pub seen: Mutex<Seen>,
}

/// Nonces of knocks that were answered, and their order.
#[derive(Default)]
pub(crate) struct Seen {
    set: BTreeSet<[u8; 8]>,
    order: VecDeque<[u8; 8]>,
}

impl std::fmt::Debug for Doorkeeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Doorkeeper(..)")
    }
}

impl Doorkeeper {
    fn is_fresh(&self, nonce: [u8; 8]) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !seen.set.insert(nonce) {
            return false;
        }
        seen.order.push_back(nonce);
        if seen.order.len() > NONCES
            && let Some(old) = seen.order.pop_front()
        {
            seen.set.remove(&old);
        }
        true
    }
}

impl ResolvesServerCert for Doorkeeper {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let (nonce, tag) = Knock::parse(hello.server_name()?)?;
        let answer = (self.door)(&nonce, &tag).filter(|_| self.is_fresh(nonce))?;
        let cert = self.identity.cert(&answer).ok()?;
        CertifiedKey::from_der(vec![cert], self.identity.key.clone_key(), &self.provider).ok().map(Arc::new)
    }
}

/// Takes any Ed25519 key, or only one, or only one that answers the knock: rights come from the project's control log, not
/// from here.
#[derive(Debug)]
pub(crate) struct DeviceVerifier {
    pub only: Option<DeviceId>,
    pub knock: Option<Knock>,
    pub provider: Arc<CryptoProvider>,
}

impl DeviceVerifier {
    fn check(&self, cert: &CertificateDer<'_>, chain: &[CertificateDer<'_>]) -> Result<(), Error> {
        let device = device_of(cert)?;
        let answered = match &self.knock {
            Some(knock) => serial_of(cert)?.get(1..) == Some(&(knock.answer)(&device)[..]),
            None => true,
        };
        if chain.is_empty() && answered && self.only.is_none_or(|only| only == device) {
            Ok(())
        } else {
            Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    /// The proof that the other end holds the key it shows.
    fn signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }
}

fn tls12() -> Result<HandshakeSignatureValid, Error> {
    Err(Error::General("TLS 1.2 is not spoken here".into()))
}

impl ServerCertVerifier for DeviceVerifier {
    fn verify_server_cert(
        &self,
        cert: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(cert, chain)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        tls12()
    }

    fn verify_tls13_signature(
        &self,
        m: &[u8],
        c: &CertificateDer<'_>,
        s: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(m, c, s)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

impl ClientCertVerifier for DeviceVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        cert: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(cert, chain)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        tls12()
    }

    fn verify_tls13_signature(
        &self,
        m: &[u8],
        c: &CertificateDer<'_>,
        s: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(m, c, s)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}
