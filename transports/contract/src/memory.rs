//! Links between two tasks of one process.

use crate::{Link, LinkError, LinkInfo, ReceiveHalf, SendHalf};
use cairn_model::DeviceId;
use tokio::sync::mpsc;

enum Piece {
    Bytes(Vec<u8>),
    Close(u64),
}

/// One end of a pair made by [`pair`].
pub struct MemoryLink {
    info: LinkInfo,
    tx: MemoryTx,
    rx: MemoryRx,
}

/// Sends to the other end.
pub struct MemoryTx(mpsc::Sender<Piece>);

/// Receives from the other end.
pub struct MemoryRx {
    pieces: mpsc::Receiver<Piece>,
    ended: Option<LinkError>,
}

/// Pieces on the way before the sender waits.
const WINDOW: usize = 16;

/// Two ends of one link; the first is the one that dialled.
pub fn pair(a: DeviceId, b: DeviceId, exporter: [u8; 32]) -> (MemoryLink, MemoryLink) {
    let (to_b, from_a) = mpsc::channel(WINDOW);
    let (to_a, from_b) = mpsc::channel(WINDOW);
    let end = |peer, dialled, tx, pieces| MemoryLink {
        info: LinkInfo { peer, exporter, remote: String::new(), dialled },
        tx: MemoryTx(tx),
        rx: MemoryRx { pieces, ended: None },
    };
    (end(b, true, to_b, from_b), end(a, false, to_a, from_a))
}

impl Link for MemoryLink {
    type Tx = MemoryTx;
    type Rx = MemoryRx;

    fn info(&self) -> &LinkInfo {
        &self.info
    }

    fn split(self) -> (MemoryTx, MemoryRx) {
        (self.tx, self.rx)
    }
}

impl SendHalf for MemoryTx {
    async fn send(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        self.0.send(Piece::Bytes(bytes.to_vec())).await.map_err(|_| LinkError::Lost("the other end is gone".into()))
    }

    async fn close(self, reason: u64) {
        // The other end may be gone already: then there is nobody to tell.
        self.0.send(Piece::Close(reason)).await.ok();
    }
}

impl ReceiveHalf for MemoryRx {
    async fn receive(&mut self) -> Result<Vec<u8>, LinkError> {
        if let Some(ended) = &self.ended {
            return Err(ended.clone());
        }
        let ended = match self.pieces.recv().await {
            Some(Piece::Bytes(bytes)) => return Ok(bytes),
            Some(Piece::Close(reason)) => LinkError::Closed(reason),
            None => LinkError::Lost("the other end is gone".into()),
        };
        self.ended = Some(ended.clone());
        Err(ended)
    }
}
