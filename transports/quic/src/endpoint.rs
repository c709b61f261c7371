//! One UDP socket that dials and is dialled.

use crate::link::{QuicLink, lost};
use crate::tls::{ALPN, DeviceVerifier, Door, Doorkeeper, Identity, Knock};
use cairn_contract::LinkError;
use cairn_model::DeviceId;
use rustls::crypto::CryptoProvider;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Idle time after which a dead link is noticed; keep-alives go three times as often.
const IDLE: Duration = Duration::from_secs(15);
const KEEP_ALIVE: Duration = Duration::from_secs(4);
/// Time a handshake may take over a bad radio.
const HANDSHAKE: Duration = Duration::from_secs(8);
/// Handshakes under way at once; more are told to come back with a proof of their address, and then refused.
const INCOMING: usize = 64;
/// How long an acknowledgement may wait for company: a short sync ends with one, and QUIC's 25 ms would be most of it.
const ACK_DELAY: Duration = Duration::from_millis(2);
/// Time given to the last packet.
const GOODBYE: Duration = Duration::from_millis(10);
/// Bytes on the way in one link: enough for a gigabit at 10 ms.
const WINDOW: u32 = 4 << 20;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The address is taken or not of this machine.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// Wanted.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The key does not make a certificate.
    #[error("the device key is not usable for TLS")]
    Key,
}

/// A QUIC endpoint with a device's identity.
pub struct Endpoint {
    endpoint: quinn::Endpoint,
    identity: Arc<Identity>,
    provider: Arc<CryptoProvider>,
}

impl Endpoint {
    /// Binds to `address` (port 0 takes any) with the 32-byte Ed25519 private key of the device. `door` says who may see the
    /// key that goes with it.
    pub fn bind(address: SocketAddr, secret: &[u8; 32], door: Door) -> Result<Self, EndpointError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let identity = Arc::new(Identity::new(secret).map_err(|_| EndpointError::Key)?);
        let server = server(&identity, &provider, door).ok_or(EndpointError::Key)?;
        let endpoint = quinn::Endpoint::server(server, address).map_err(|source| EndpointError::Bind { address, source })?;
        Ok(Self { endpoint, identity, provider })
    }

    /// Where it listens, with the real port.
    pub fn address(&self) -> Result<SocketAddr, std::io::Error> {
        self.endpoint.local_addr()
    }

    /// Opens a link. Whoever is at that address and does not answer the knock (or, with `only`, is another device) is refused
    /// before it sees this device's key.
    pub async fn dial(&self, address: SocketAddr, only: Option<DeviceId>, knock: &Knock) -> Result<QuicLink, LinkError> {
        let broken = || LinkError::Lost("the device key is not usable for TLS".into());
        let config = client(&self.identity, &self.provider, only, knock).ok_or_else(broken)?;
        let name = knock.server_name();
        let connecting = self.endpoint.connect_with(config, address, &name).map_err(|e| LinkError::Lost(e.to_string()))?;
        let connection = tokio::time::timeout(HANDSHAKE, connecting).await.map_err(|_| LinkError::Lost("nobody answered".into()))?;
        QuicLink::dialled(connection.map_err(|e| lost(&e))?).await
    }

    /// The next device that dials and shows a key; `None` once closed. Failed handshakes are passed over.
    pub async fn accept(&self) -> Option<quinn::Incoming> {
        loop {
            let incoming = self.endpoint.accept().await?;
            if self.endpoint.open_connections() > INCOMING && !incoming.remote_address_validated() {
                // Under load an address must first show that it can receive; a spoofed one cannot. If even that
                // cannot be sent, the dialler will try again.
                incoming.retry().ok();
                continue;
            }
            return Some(incoming);
        }
    }

    /// Finishes the handshake of an incoming connection.
    pub async fn finish(incoming: quinn::Incoming) -> Result<QuicLink, LinkError> {
        let connecting = incoming.accept().map_err(|e| lost(&e))?;
        let connection = tokio::time::timeout(HANDSHAKE, connecting).await.map_err(|_| LinkError::Lost("no handshake".into()))?;
        let link = QuicLink::accepted(connection.map_err(|e| lost(&e))?);
        tokio::time::timeout(HANDSHAKE, link).await.map_err(|_| LinkError::Lost("opened no stream".into()))?
    }

    /// Lets the goodbye go out. One that is lost is replaced by the other end's idle time.
    pub async fn close(&self) {
        tokio::time::timeout(GOODBYE, self.endpoint.wait_idle()).await.ok();
    }
}

fn transport() -> Arc<quinn::TransportConfig> {
    let mut acks = quinn::AckFrequencyConfig::default();
    acks.max_ack_delay(Some(ACK_DELAY));
    let mut t = quinn::TransportConfig::default();
    t.max_idle_timeout(IDLE.try_into().ok())
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_concurrent_uni_streams(0u8.into())
        .max_concurrent_bidi_streams(1u8.into())
        .datagram_receive_buffer_size(None)
        .stream_receive_window(WINDOW.into())
        .receive_window(WINDOW.into())
        .ack_frequency_config(Some(acks))
        .send_window(u64::from(WINDOW));
    Arc::new(t)
}

fn server(identity: &Arc<Identity>, provider: &Arc<CryptoProvider>, door: Door) -> Option<quinn::ServerConfig> {
    let verifier = Arc::new(DeviceVerifier { only: None, knock: None, provider: provider.clone() });
    let keeper = Doorkeeper { identity: identity.clone(), provider: provider.clone(), door, seen: Mutex::default() };
    let mut tls = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .ok()?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(keeper));
    tls.alpn_protocols = vec![ALPN.to_vec()];
    (tls.send_tls13_tickets, tls.max_early_data_size) = (0, 0);
    let quic = quinn::crypto::rustls::QuicServerConfig::try_from(tls).ok()?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(quic));
    config.transport_config(transport()).max_incoming(INCOMING);
    Some(config)
}

fn client(identity: &Identity, provider: &Arc<CryptoProvider>, only: Option<DeviceId>, knock: &Knock) -> Option<quinn::ClientConfig> {
    let verifier = Arc::new(DeviceVerifier { only, knock: Some(knock.clone()), provider: provider.clone() });
    let mut tls = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .ok()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(vec![identity.cert(&[0; 16]).ok()?], identity.key.clone_key())
        .ok()?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    (tls.resumption, tls.enable_early_data) = (rustls::client::Resumption::disabled(), false);
    let quic = quinn::crypto::rustls::QuicClientConfig::try_from(tls).ok()?;
    let mut config = quinn::ClientConfig::new(Arc::new(quic));
    config.transport_config(transport());
    Some(config)
}
