//! One connection with one bidirectional stream.

use crate::tls::device_of;
use cairn_contract::{Link, LinkError, LinkInfo, ReceiveHalf, SendHalf};
use cairn_model::DeviceId;
use rustls::pki_types::CertificateDer;
use std::time::Duration;

/// How long closing waits for the last bytes to be acknowledged.
const LAST_BYTES: Duration = Duration::from_secs(3);
/// Bytes taken from the stream at once.
const PIECE: usize = 256 << 10;

/// First byte of the stream.
const STREAM_VERSION: u8 = 1;

/// A link over QUIC.
pub struct QuicLink {
    info: LinkInfo,
    tx: QuicTx,
    rx: QuicRx,
}

/// Sending half.
pub struct QuicTx {
    connection: quinn::Connection,
    stream: quinn::SendStream,
}

/// Receiving half.
pub struct QuicRx {
    connection: quinn::Connection,
    stream: quinn::RecvStream,
}

pub(crate) fn lost(error: &quinn::ConnectionError) -> LinkError {
    match error {
        quinn::ConnectionError::ApplicationClosed(close) => LinkError::Closed(close.error_code.into_inner()),
        other => LinkError::Lost(other.to_string()),
    }
}

impl QuicLink {
    pub(crate) async fn dialled(connection: quinn::Connection) -> Result<Self, LinkError> {
        let (mut stream, receive) = connection.open_bi().await.map_err(|e| lost(&e))?;
        // A stream exists for the other end only once something is sent on it.
        stream.write_all(&[STREAM_VERSION]).await.map_err(|e| LinkError::Lost(e.to_string()))?;
        Self::new(connection, stream, receive, true)
    }

    pub(crate) async fn accepted(connection: quinn::Connection) -> Result<Self, LinkError> {
        let (stream, mut receive) = connection.accept_bi().await.map_err(|e| lost(&e))?;
        let mut version = [0];
        receive.read_exact(&mut version).await.map_err(|e| LinkError::Lost(e.to_string()))?;
        if version != [STREAM_VERSION] {
            return Err(LinkError::Lost("a stream of another version".into()));
        }
        Self::new(connection, stream, receive, false)
    }

    fn new(connection: quinn::Connection, send: quinn::SendStream, receive: quinn::RecvStream, dialled: bool) -> Result<Self, LinkError> {
        let mut exporter = [0; 32];
        let no_key = || LinkError::Lost("no keying material".into());
        connection.export_keying_material(&mut exporter, b"EXPORTER-cairn-link-v1", b"").map_err(|_| no_key())?;
        let peer = peer(&connection).ok_or_else(no_key)?;
        let info = LinkInfo { peer, exporter, remote: connection.remote_address().to_string(), dialled };
        let tx = QuicTx { connection: connection.clone(), stream: send };
        Ok(Self { info, tx, rx: QuicRx { connection, stream: receive } })
    }

    /// UDP payload bytes sent and received so far, handshake included.
    pub fn wire_bytes(&self) -> (u64, u64) {
        let stats = self.tx.connection.stats();
        (stats.udp_tx.bytes, stats.udp_rx.bytes)
    }
}

fn peer(connection: &quinn::Connection) -> Option<DeviceId> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    device_of(chain.first()?).ok()
}

impl Link for QuicLink {
    type Tx = QuicTx;
    type Rx = QuicRx;

    fn info(&self) -> &LinkInfo {
        &self.info
    }

    fn split(self) -> (QuicTx, QuicRx) {
        (self.tx, self.rx)
    }
}

impl SendHalf for QuicTx {
    async fn send(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        let connection = &self.connection;
        let sent = self.stream.write_all(bytes).await;
        sent.map_err(|e| connection.close_reason().map_or_else(|| LinkError::Lost(e.to_string()), |reason| lost(&reason)))
    }

    async fn close(mut self, reason: u64) {
        // Already ended or stopped by the other end: nothing left to deliver.
        if self.stream.finish().is_ok() {
            tokio::time::timeout(LAST_BYTES, self.stream.stopped()).await.ok();
        }
        let code = quinn::VarInt::from_u64(reason).unwrap_or(quinn::VarInt::MAX);
        self.connection.close(code, b"");
    }
}

impl ReceiveHalf for QuicRx {
    async fn receive(&mut self) -> Result<Vec<u8>, LinkError> {
        match self.stream.read_chunk(PIECE, true).await {
            Ok(Some(chunk)) => Ok(chunk.bytes.to_vec()),
            // The stream is through; the reason comes with the connection's end.
            Ok(None) => Err(lost(&self.connection.closed().await)),
            Err(e) => Err(self.connection.close_reason().map_or_else(|| LinkError::Lost(e.to_string()), |reason| lost(&reason))),
        }
    }
}
