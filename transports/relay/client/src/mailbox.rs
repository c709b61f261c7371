//! A relay's log as a mailbox. Everything it says is checked against what it said before: the index is chained, and what it
//! acknowledges must appear in the chain.

use crate::chain::{Alarm, ROWS, Remembered, head_of};
use crate::error::RelayError;
use crate::http::{Payload, header};
use crate::session::{Door, Entered};
use crate::upload::{IN_PIECES, Upload};
use bytes::Bytes;
use cairn_contract::{Entry, Kept, Listing, Mailbox, MailboxError};
use cairn_model::ChunkHash;
use cairn_relay_wire::{
    Code, Committed, FRAMES_TYPE, Head, INDEX_ROW_BYTES, IndexRow, NAMES_TYPE, NEXT_HEADER, Problem, frames, limits, read_index,
};
use reqwest::Method;
use std::collections::{BTreeSet, HashSet};
use tokio::runtime::Handle;

/// Bytes that are sent in one request: what a broken line costs.
const TOGETHER_BYTES: usize = 512 << 10;
/// Kind of a request to enter.
const ASK_KIND: u8 = 7;

/// One project's log at one relay.
pub struct RelayMailbox {
    pub(crate) door: Door,
    runtime: Handle,
    pub(crate) remembered: Remembered,
    /// The chain as far as it was walked in this visit.
    pub(crate) walked: Head,
    /// Names in the log, where this visit saw all of them.
    pub(crate) all: Option<HashSet<ChunkHash>>,
    /// Witnesses that were compared in this visit.
    pub(crate) compared: BTreeSet<usize>,
    /// What was pushed is said to lie before the cursor, where it is not known here: the next visit lists everything.
    list_again: bool,
    pub(crate) alarms: Vec<Alarm>,
    buffer: Vec<Vec<u8>>,
    buffered: usize,
    /// Names of what was uploaded and is not committed, in order.
    uploaded: Vec<ChunkHash>,
    /// An upload on its way beside the work of the device.
    sending: Option<tokio::task::JoinHandle<Result<u32, RelayError>>>,
    /// Something of this push was there already: an earlier one was interrupted.
    resumed: bool,
    /// What broke the last read off, after some of it had come: told at the next.
    broken: Option<RelayError>,
}

impl RelayMailbox {
    pub(crate) fn new(mut door: Door, remembered: Remembered, runtime: Handle) -> Self {
        if let Some((token, place)) = remembered.token.clone() {
            door.with_token(token, place);
        }
        let walked = Head::empty(&door.keys.log);
        Self {
            door,
            runtime,
            remembered,
            walked,
            all: None,
            compared: BTreeSet::new(),
            list_again: false,
            alarms: Vec::new(),
            buffer: Vec::new(),
            buffered: 0,
            uploaded: Vec::new(),
            sending: None,
            resumed: true,
            broken: None,
        }
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.runtime
    }

    /// What the relay did that an honest one does not.
    pub fn alarms(&self) -> &[Alarm] {
        &self.alarms
    }

    /// Witnesses that were compared in this visit. The others lie before what was read, and are compared when everything is listed.
    pub fn compared(&self) -> &BTreeSet<usize> {
        &self.compared
    }

    /// Heads checked in this visit and before, the newest last.
    pub fn checked(&self) -> &[Head] {
        &self.remembered.checked
    }

    /// What is remembered of the log does not fit what it says: the next visit must list everything.
    pub fn must_list_again(&self) -> bool {
        self.list_again
    }

    /// The last head that was seen and checked.
    pub fn head(&self) -> Option<Head> {
        self.remembered.head
    }

    /// The session, for another visit.
    pub fn token(&self) -> Option<(String, usize)> {
        match (self.door.token(), self.door.entered) {
            (Some(token), Some(Entered::In(place))) => Some((token.to_owned(), place)),
            _ => None,
        }
    }

    /// Opens whatever our keys open.
    pub fn enter(&mut self) -> Result<Entered, RelayError> {
        let runtime = self.runtime.clone();
        runtime.block_on(self.door.enter())
    }

    /// The doorstep's index has gaps, so nothing of it can be checked.
    async fn doorstep(&mut self) -> Result<Listing, RelayError> {
        let (mut after, mut entries) = (0, Vec::new());
        loop {
            let response = self.door.ask(Method::GET, &format!("/index?after={after}"), Payload::None).await?;
            let next = header(&response, NEXT_HEADER).and_then(|text| text.parse::<u64>().ok()).filter(|n| *n > after);
            let body = self.door.http.body(response, limits::INDEX_ROWS * INDEX_ROW_BYTES).await?;
            entries.extend(read_index(&body).iter().map(entry));
            if entries.len() > ROWS {
                return Err(self.door.http.contradiction("its index has no end"));
            }
            match next {
                Some(next) => after = next,
                None => return Ok(Listing { entries, start_over: true, ..Listing::default() }),
            }
        }
    }

    async fn list_all(&mut self, cursor: &[u8]) -> Result<Listing, RelayError> {
        (self.all, self.list_again) = (None, false);
        if self.door.enter().await? == Entered::Doorstep {
            return self.doorstep().await;
        }
        let empty = Head::empty(&self.door.keys.log);
        let start = head_of(cursor).unwrap_or(empty);
        let before = self.remembered.head.or((start.seq > 0).then_some(start));
        let mut about: BTreeSet<u64> = self.remembered.witnesses.iter().map(|w| w.seq).collect();
        about.extend(before.map(|h| h.seq));
        about.insert(start.seq);
        let walked = self.walk(start, &about).await;
        if self.door.entered == Some(Entered::Doorstep) {
            // The session of the visit before had ended, and the keys here do not open another.
            return self.doorstep().await;
        }
        let mut walk = walked?;
        let mut start_over = start.seq == 0;
        if !walk.adds_up() || walk.said.seq < start.seq {
            // From here on what it shows is compared with what it showed.
            start_over = true;
            if walk.from != empty {
                walk = self.walk(empty, &about).await?;
            }
            if !walk.adds_up() {
                return Err(self.door.http.contradiction("the index it shows does not make the head it shows"));
            }
        }
        let mut alarms = self.compare(&walk, before);
        start_over |= !alarms.is_empty();
        if start_over && walk.from != empty {
            walk = self.walk(empty, &about).await?;
            alarms = self.compare(&walk, before);
        }
        Ok(self.listing(walk, alarms, start_over))
    }

    async fn fetch(&mut self, names: &[ChunkHash]) -> Result<Vec<Vec<u8>>, RelayError> {
        if let Some(e) = self.broken.take() {
            return Err(e);
        }
        let mut out: Vec<Vec<u8>> = Vec::with_capacity(names.len());
        let mut left: Vec<ChunkHash> = names.to_vec();
        let mut wanted: HashSet<ChunkHash> = names.iter().copied().collect();
        let mut tried = 0;
        while !left.is_empty() {
            let asked: Vec<ChunkHash> = left.iter().take(limits::NAMES).copied().collect();
            let body = Bytes::from(asked.iter().flat_map(|n| n.0).collect::<Vec<u8>>());
            let mut response = match self.door.ask(Method::POST, "/fetch", Payload::Bytes(NAMES_TYPE, body)).await {
                Ok(response) => response,
                Err(e) => {
                    self.broken = Some(e);
                    break;
                }
            };
            let mut reader = Frames::default();
            let ended = loop {
                match response.chunk().await {
                    Ok(Some(bytes)) => {
                        let chunks = reader.push(&bytes).map_err(|why| self.door.http.contradiction(why))?;
                        // What nobody asked for is not kept.
                        out.extend(chunks.into_iter().filter(|chunk| wanted.remove(&ChunkHash::of(chunk))));
                    }
                    Ok(None) => break Ok(()),
                    Err(e) => break Err(self.door.http.broke_off(&e)),
                }
            };
            match ended {
                // What was left out is not there.
                Ok(()) => left.drain(..asked.len()).for_each(drop),
                Err(e) => {
                    let before = left.len();
                    left.retain(|name| wanted.contains(name));
                    // As long as something comes through, it goes on.
                    tried = if left.len() < before { 1 } else { tried + 1 };
                    if !self.door.http.once_more(&e, tried).await {
                        // What has come is kept; whoever asks for more hears of it.
                        self.broken = Some(e);
                        break;
                    }
                }
            }
        }
        match self.broken.take_if(|_| out.is_empty()) {
            Some(e) => Err(e),
            None => Ok(out),
        }
    }

    /// Waits for what is on its way.
    async fn sent(&mut self) -> Result<(), RelayError> {
        let Some(sending) = self.sending.take() else { return Ok(()) };
        let done = sending.await.map_err(|e| self.door.http.contradiction(e.to_string()))?;
        self.resumed = done? > 0;
        Ok(())
    }

    /// Sends the buffer, beside whatever the device does meanwhile.
    async fn flush(&mut self) -> Result<(), RelayError> {
        self.sent().await?;
        let chunks = std::mem::take(&mut self.buffer);
        self.buffered = 0;
        if chunks.is_empty() {
            return Ok(());
        }
        self.uploaded.extend(chunks.iter().map(|c| ChunkHash::of(c)));
        self.door.enter().await?;
        let mut upload =
            Upload { path: self.door.path(""), headers: self.headers(), http: self.door.http.clone(), ask_first: self.resumed };
        self.sending = Some(self.runtime.spawn(async move { upload.run(chunks).await }));
        Ok(())
    }

    fn headers(&self) -> reqwest::header::HeaderMap {
        self.door.http.session_headers(self.door.token().unwrap_or_default())
    }

    /// Everything added is uploaded. A session that ended meanwhile is opened again, once.
    async fn add_all(&mut self, chunks: Vec<Vec<u8>>) -> Result<(), RelayError> {
        for chunk in chunks {
            if self.buffered + chunk.len() + 4 > TOGETHER_BYTES || self.buffer.len() == limits::NAMES {
                self.flush().await?;
            }
            self.buffered += chunk.len() + 4;
            self.buffer.push(chunk);
        }
        Ok(())
    }

    async fn commit_all(&mut self) -> Result<Kept, RelayError> {
        if self.uploaded.is_empty() && self.buffer.is_empty() {
            return Ok(Kept::Nothing);
        }
        if self.door.enter().await? == Entered::Doorstep {
            return self.leave_at_the_door().await;
        }
        let at_once = self.uploaded.is_empty() && self.buffer.iter().all(|c| c.len() <= IN_PIECES);
        let (names, places) = if at_once {
            let chunks = std::mem::take(&mut self.buffer);
            self.buffered = 0;
            self.append(chunks).await?
        } else {
            self.flush().await?;
            self.sent().await?;
            self.commit_uploaded().await?
        };
        self.confirm(&names, &places).await?;
        Ok(Kept::Acknowledged)
    }

    /// Uploads and commits in one request. Where the quota is used up, what must never wait goes alone.
    async fn append(&mut self, mut chunks: Vec<Vec<u8>>) -> Result<(Vec<ChunkHash>, Vec<u64>), RelayError> {
        let mut full = None;
        loop {
            let names: Vec<ChunkHash> = chunks.iter().map(|c| ChunkHash::of(c)).collect();
            let body = Bytes::from(frames(chunks.iter().map(Vec::as_slice)));
            let done = self.committed("/chunks?commit=true", FRAMES_TYPE, body).await;
            match (done, full.take()) {
                (Ok(done), None) => return Ok((names, done.places)),
                (Err(e), None) if is_full(&e) && chunks.iter().any(|c| is_vital(c)) => {
                    chunks.retain(|c| is_vital(c));
                    full = Some(e);
                }
                (_, Some(e)) | (Err(e), None) => return Err(e),
            }
        }
    }

    async fn commit_uploaded(&mut self) -> Result<(Vec<ChunkHash>, Vec<u64>), RelayError> {
        let names = std::mem::take(&mut self.uploaded);
        let mut places = Vec::with_capacity(names.len());
        for part in names.chunks(limits::COMMIT_NAMES) {
            let body = Bytes::from(part.iter().flat_map(|n| n.0).collect::<Vec<u8>>());
            places.extend(self.committed("/commit", NAMES_TYPE, body).await?.places);
        }
        Ok((names, places))
    }

    async fn committed(&mut self, path: &str, kind: &'static str, body: Bytes) -> Result<Committed, RelayError> {
        let response = self.door.ask(Method::POST, path, Payload::Bytes(kind, body)).await?;
        let body = response.bytes().await.map_err(|e| self.door.http.broke_off(&e))?;
        serde_json::from_slice(&body).map_err(|e| self.door.http.contradiction(format!("its answer does not read: {e}")))
    }

    /// What it says it took must stand in the chain that it shows everybody.
    async fn confirm(&mut self, names: &[ChunkHash], places: &[u64]) -> Result<(), RelayError> {
        let from = self.walked;
        let walk = self.walk(from, &BTreeSet::new()).await?;
        if !walk.adds_up() {
            self.alarms.push(Alarm::Changed { before: from, now: walk.said });
            return Err(self.door.http.contradiction("its log changed while it was written to"));
        }
        let shown: HashSet<ChunkHash> = walk.rows.iter().filter(|r| !r.trimmed).map(|r| r.name).collect();
        let mut missing = 0;
        for (name, place) in names.iter().zip(places.iter().copied().chain(std::iter::repeat(u64::MAX))) {
            match &self.all {
                _ if shown.contains(name) => {}
                Some(all) if all.contains(name) => {}
                // It may lie before the cursor; whether it does is seen when everything is listed.
                None if place <= from.seq => self.list_again = true,
                _ => missing += 1,
            }
        }
        if missing > 0 {
            self.alarms.push(Alarm::Dropped { head: walk.end, chunks: missing });
            return Err(self.door.http.contradiction(format!("it acknowledged {missing} chunks and does not show them")));
        }
        if let Some(all) = &mut self.all {
            all.extend(shown);
        }
        self.check_off([walk.end].into_iter());
        self.walked = walk.end;
        self.remembered.head = Some(walk.end);
        Ok(())
    }

    /// From the doorstep only requests to enter are taken.
    async fn leave_at_the_door(&mut self) -> Result<Kept, RelayError> {
        self.sending = None;
        self.uploaded.clear();
        let chunks = std::mem::take(&mut self.buffer);
        let asks: Vec<Vec<u8>> = chunks.into_iter().filter(|c| cairn_contract::kind_of(c) == Some(ASK_KIND)).collect();
        if asks.is_empty() {
            let problem = Problem::new(Code::Key, "the read keys here do not open it");
            return Err(RelayError::Refused { url: self.door.http.url.base().to_owned(), problem });
        }
        for ask in asks {
            let body = Bytes::from(frames([ask.as_slice()]));
            self.committed("/inbox", FRAMES_TYPE, body).await?;
        }
        Ok(Kept::Acknowledged)
    }

    /// The quota is used up in the middle: what has come so far is made visible, keys and control operations first among it.
    async fn rescue(&mut self, e: RelayError) -> RelayError {
        if !is_full(&e) {
            return e;
        }
        for part in std::mem::take(&mut self.uploaded).chunks(limits::NAMES) {
            let shorts = Bytes::from(part.iter().flat_map(|n| n.short()).collect::<Vec<u8>>());
            let Ok(response) = self.door.ask(Method::POST, "/has", Payload::Bytes(NAMES_TYPE, shorts)).await else { return e };
            let Ok(there) = response.bytes().await else { return e };
            self.uploaded.extend(part.iter().zip(there).filter(|(_, p)| *p > 0).map(|(n, _)| *n));
        }
        // What cannot be made visible now is there for the next visit.
        self.commit_uploaded().await.ok();
        e
    }

    /// Hides chunks there, as a coordinator.
    pub fn trim(&mut self, admin: &[u8; 32], names: &[ChunkHash]) -> Result<(), RelayError> {
        let runtime = self.runtime.clone();
        runtime.block_on(async {
            for part in names.chunks(limits::NAMES) {
                let body = Bytes::from(part.iter().flat_map(|n| n.0).collect::<Vec<u8>>());
                self.door.as_admin(admin, Method::POST, "/trim", Payload::Bytes(NAMES_TYPE, body)).await?;
            }
            Ok(())
        })
    }
}

pub(crate) fn is_full(e: &RelayError) -> bool {
    matches!(e.code(), Some(Code::Quota | Code::Full))
}

/// Keys, control operations, receipts, manifests: a relay takes them past its quota.
pub(crate) fn is_vital(chunk: &[u8]) -> bool {
    cairn_contract::kind_of(chunk).is_some_and(|kind| (2..=5).contains(&kind))
}

pub(crate) fn entry(row: &IndexRow) -> Entry {
    Entry { name: row.name, kind: row.kind, bytes: row.bytes }
}

/// Frames as they come in.
#[derive(Default)]
struct Frames {
    pending: Vec<u8>,
}

impl Frames {
    fn push(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
        self.pending.extend(bytes);
        let (mut out, mut at) = (Vec::new(), 0);
        while let Some(head) = self.pending.get(at..at + 4) {
            let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
            if len == 0 || len > limits::CHUNK_BYTES {
                return Err(format!("it sends a frame of {len} bytes"));
            }
            let Some(chunk) = self.pending.get(at + 4..at + 4 + len) else { break };
            out.push(chunk.to_vec());
            at += 4 + len;
        }
        self.pending.drain(..at);
        Ok(out)
    }
}

impl Mailbox for RelayMailbox {
    fn list(&mut self, cursor: &[u8]) -> Result<Listing, MailboxError> {
        self.buffer.clear();
        self.uploaded.clear();
        self.broken = None;
        let runtime = self.runtime.clone();
        runtime.block_on(self.list_all(cursor)).map_err(RelayError::into_mailbox)
    }

    fn read(&mut self, names: &[ChunkHash]) -> Result<Vec<Vec<u8>>, MailboxError> {
        let runtime = self.runtime.clone();
        runtime.block_on(self.fetch(names)).map_err(RelayError::into_mailbox)
    }

    fn add(&mut self, chunks: &[Vec<u8>]) -> Result<(), MailboxError> {
        let runtime = self.runtime.clone();
        runtime.block_on(async {
            match self.add_all(chunks.to_vec()).await {
                Err(e) => Err(self.rescue(e).await.into_mailbox()),
                Ok(()) => Ok(()),
            }
        })
    }

    fn commit(&mut self) -> Result<Kept, MailboxError> {
        let runtime = self.runtime.clone();
        runtime.block_on(async {
            match self.commit_all().await {
                Err(e) => Err(self.rescue(e).await.into_mailbox()),
                Ok(kept) => Ok(kept),
            }
        })
    }
}
