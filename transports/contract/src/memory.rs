//! Links between two tasks of one process, and a mailbox that is a list.

use crate::{Entry, Kept, Link, LinkError, LinkInfo, Listing, Mailbox, MailboxError, ReceiveHalf, SendHalf, kind_of};
use cairn_model::{ChunkHash, DeviceId};
use std::sync::{Arc, Mutex, MutexGuard};
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

/// Chunks in the order in which they came: what a [`MemoryMailbox`] holds.
pub type Shelf = Arc<Mutex<Vec<Vec<u8>>>>;

/// A handle to a list of chunks.
pub struct MemoryMailbox {
    shelf: Shelf,
    staged: Vec<Vec<u8>>,
}

impl MemoryMailbox {
    /// To this list.
    pub fn new(shelf: &Shelf) -> Self {
        Self { shelf: shelf.clone(), staged: Vec::new() }
    }

    fn shelf(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.shelf.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Mailbox for MemoryMailbox {
    fn list(&mut self, cursor: &[u8]) -> Result<Listing, MailboxError> {
        let shelf = self.shelf();
        let from = <[u8; 8]>::try_from(cursor).ok().map(u64::from_le_bytes).and_then(|n| usize::try_from(n).ok());
        let from = from.filter(|n| *n <= shelf.len());
        let entry = |chunk: &Vec<u8>| Entry { name: ChunkHash::of(chunk), kind: kind_of(chunk).unwrap_or(0), bytes: chunk.len() as u32 };
        let entries = shelf[from.unwrap_or(0)..].iter().map(entry).collect();
        Ok(Listing { entries, cursor: (shelf.len() as u64).to_le_bytes().to_vec(), start_over: from.is_none(), ..Listing::default() })
    }

    fn read(&mut self, names: &[ChunkHash]) -> Result<Vec<Vec<u8>>, MailboxError> {
        let shelf = self.shelf();
        Ok(names.iter().filter_map(|name| shelf.iter().find(|c| ChunkHash::of(c) == *name).cloned()).collect())
    }

    fn add(&mut self, chunks: &[Vec<u8>]) -> Result<(), MailboxError> {
        self.staged.extend_from_slice(chunks);
        Ok(())
    }

    fn commit(&mut self) -> Result<Kept, MailboxError> {
        if self.staged.is_empty() {
            return Ok(Kept::Nothing);
        }
        let staged = std::mem::take(&mut self.staged);
        self.shelf().extend(staged);
        Ok(Kept::Durable)
    }
}
