//! What this device writes: edits into the open batch, imports as one unit, and the cut that signs and seals.

use crate::docs::{ChangeRef, put_back, take};
use crate::feeds::{BatchRow, FeedRow, Verdict, batch_key, hash_key, new_chain};
use crate::mem::{Ctx, DATA_FORMAT, Mem};
use crate::tables::{Tables, View, from_bytes, to_bytes};
use crate::{Store, StoreError};
use cairn_model::{Change, ChangeHash, DocId, DocKind, Edit, UnitId, Value, limits as model_limits};
use cairn_trust::{Batch, BatchHash, ChunkKind, Header, Item, Role, Unit, UnitKind, feed_id, limits, open as open_chunk, seal};
use redb::ReadableTable;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// A change that is durable and not yet in a batch.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct OpenChange {
    pub kind: DocKind,
    pub id: DocId,
    pub hash: ChangeHash,
    pub incarnation: [u8; 16],
    pub nonce: [u8; 16],
    pub bytes: Vec<u8>,
}

/// The open batch: at most one batch's worth of changes.
#[derive(Clone, Default)]
pub(crate) struct OpenBatch {
    pub changes: Vec<OpenChange>,
    pub bytes: usize,
    /// How many of `changes` the table holds; `None` if it must be written anew.
    saved: Option<usize>,
    /// An act of several batches on its way, and its next batch.
    pub(crate) act: Option<(UnitKind, UnitId, u32)>,
}

impl OpenBatch {
    pub fn load(v: &View) -> Result<Self, StoreError> {
        let mut out = Self::default();
        for row in v.open.iter()? {
            let change: OpenChange = from_bytes(row?.1.value(), "open change")?;
            out.bytes += change.bytes.len();
            out.changes.push(change);
        }
        out.saved = Some(out.changes.len());
        Ok(out)
    }

    pub fn save(&mut self, t: &mut Tables<'_>) -> Result<(), StoreError> {
        let from = match self.saved {
            Some(n) => n,
            None => {
                t.open.retain(|_, _| false)?;
                0
            }
        };
        for (n, change) in self.changes.iter().enumerate().skip(from) {
            t.open.insert(n as u32, &to_bytes(change)[..])?;
        }
        self.saved = Some(self.changes.len());
        Ok(())
    }

    pub fn hashes(&self) -> Vec<(DocId, ChangeHash)> {
        self.changes.iter().map(|c| (c.id, c.hash)).collect()
    }

    /// `true` if a change of `next` bytes must go into a new batch. A long text alone may pass the limit of a batch.
    fn full(&self, next: usize) -> bool {
        let room = limits::BATCH_BYTES - HEADER_ROOM;
        let nonces = self.changes.len() >= limits::NONCES && self.nonces().len() >= limits::NONCES;
        let long = !self.changes.is_empty() && self.bytes + next > room;
        self.changes.len() >= limits::BATCH_CHANGES || self.bytes >= limits::CUT_BYTES || long || nonces
    }

    fn nonces(&self) -> Vec<([u8; 16], [u8; 16])> {
        let mut out: Vec<([u8; 16], [u8; 16])> = Vec::new();
        for c in &self.changes {
            if !out.contains(&(c.incarnation, c.nonce)) {
                out.push((c.incarnation, c.nonce));
            }
        }
        out
    }

    /// Time of the last change, for a cut that no person asked for.
    pub fn last_ms(&self) -> i64 {
        self.changes.last().and_then(|c| Change::parse(&c.bytes).ok()).map_or(0, |c| c.time_ms)
    }

    fn clear(&mut self) {
        self.changes.clear();
        self.bytes = 0;
        self.saved = None;
    }
}

/// Bytes kept free in a batch for its header: 256 items and nonces, tips, heads.
const HEADER_ROOM: usize = 32 << 10;

impl Store {
    /// After opening: this incarnation's feed exists, and open changes of an earlier one belong to it.
    pub(crate) fn settle_after_open(&mut self) -> Result<(), StoreError> {
        let id = feed_id(&self.mem.project, &self.mem.device, &self.mem.incarnation);
        if let Some(n) = self.mem.feeds.of_feed(&id).next().map(|(n, _)| n) {
            self.mem.own_feed = n;
            return Ok(());
        }
        let device = self.mem.device;
        self.write(|t, mem, _| {
            mem.own_feed = new_chain(t, mem, FeedRow { id, device, base: 1, seq: 0, tip: [0; 32], parent: None })?;
            // Refs to open changes pointed at the next batch of the old feed.
            for index in 0..mem.open.changes.len() {
                let (kind, doc, hash) = (mem.open.changes[index].kind, mem.open.changes[index].id, mem.open.changes[index].hash);
                let mut taken = take(t, mem, kind, &doc)?;
                let own = mem.own_feed;
                let row = &mut taken.row;
                for at in row.applied.iter_mut().chain(&mut row.waiting).filter(|r| r.hash == hash) {
                    *at = ChangeRef { feed: own, seq: 1, index: index as u16, ..*at };
                }
                put_back(t, mem, &taken)?;
            }
            Ok(())
        })
    }

    /// `true` once this incarnation's own feed has branched: a copy of this store has written too.
    pub fn own_feed_forked(&self) -> bool {
        let own = &self.mem.feeds[self.mem.own_feed as usize];
        self.mem.feeds.of_feed(&own.id).count() > 1
    }

    /// Starts a new incarnation while open, as after a copy: the own feed is left as it is.
    pub fn start_incarnation(&mut self) -> Result<(), StoreError> {
        let incarnation: [u8; 16] = self.entropy.bytes();
        self.write(|t, mem, ctx| {
            cut(t, mem, ctx, 0)?;
            t.meta.insert("incarnation", &incarnation[..])?;
            mem.incarnation = incarnation;
            Ok(())
        })?;
        self.mem.nonce = self.entropy.bytes();
        self.settle_after_open()
    }

    /// A fresh observation id.
    pub fn new_id(&mut self) -> DocId {
        DocId(self.entropy.bytes())
    }

    pub(crate) fn may_write(&self, kind: DocKind) -> Result<(), StoreError> {
        self.still_in()?;
        let role = self.mem.membership.role(&self.mem.device);
        let allowed = match kind {
            DocKind::Observation => role.is_some_and(Role::writes_observations),
            DocKind::Configuration => role.is_some_and(Role::writes_configuration),
        };
        let act = if kind == DocKind::Observation { "write observations" } else { "change the configuration" };
        if allowed { Ok(()) } else { Err(StoreError::Role { role: role.map_or("no member", Role::word), act }) }
    }

    /// One durable edit. `true` if it changed anything. "Saved" may be said when this returns.
    pub fn edit_document(
        &mut self,
        kind: DocKind,
        id: DocId,
        wanted: Vec<(String, Option<Value>)>,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        self.may_write(kind)?;
        let changed = self.write(|t, mem, ctx| Ok(write_change(t, mem, ctx, kind, id, wanted, now_ms)?.is_some()))?;
        if kind == DocKind::Configuration {
            self.reload_configuration()?;
        }
        Ok(changed)
    }

    /// Several durable edits of observations in one transaction. Gives how many changed anything.
    pub fn edit_observations(&mut self, edits: Vec<(DocId, Edit)>, now_ms: i64) -> Result<usize, StoreError> {
        self.may_write(DocKind::Observation)?;
        self.write(|t, mem, ctx| {
            let mut changed = 0;
            for (id, edit) in edits {
                may_edit(t, mem, &id)?;
                changed += usize::from(write_change(t, mem, ctx, DocKind::Observation, id, edit.into_wanted()?, now_ms)?.is_some());
            }
            Ok(changed)
        })
    }

    /// Deletes anew on top of an edit that had not seen the deletion. `false` if nothing is deleted.
    pub fn settle_deletion(&mut self, id: &DocId, now_ms: i64) -> Result<bool, StoreError> {
        let key = cairn_model::DocKey::Deleted.encode();
        self.may_write(DocKind::Observation)?;
        self.write(|t, mem, ctx| {
            may_edit(t, mem, id)?;
            // Setting a value that stands is no change; taking it away first makes one that has seen every head.
            let lifted = write_change(t, mem, ctx, DocKind::Observation, *id, vec![(key.clone(), None)], now_ms)?;
            let again = vec![(key, Some(Value::Bool(true)))];
            Ok(lifted.is_some() && write_change(t, mem, ctx, DocKind::Observation, *id, again, now_ms)?.is_some())
        })
    }

    /// Signs and seals what is open, if anything is. Gives the number of changes cut.
    pub fn cut(&mut self, now_ms: i64) -> Result<usize, StoreError> {
        if self.mem.open.changes.is_empty() {
            return Ok(0);
        }
        let count = self.mem.open.changes.len();
        self.write(|t, mem, ctx| cut(t, mem, ctx, now_ms))?;
        Ok(count)
    }

    /// Changes that are in no batch yet.
    pub fn open_changes(&self) -> usize {
        self.mem.open.changes.len()
    }
}

/// Where the project says so, a member edits only what it made.
pub(crate) fn may_edit(t: &Tables<'_>, mem: &Mem, id: &DocId) -> Result<(), StoreError> {
    let m = &mem.membership;
    let role = m.role(&mem.device);
    if role == Some(Role::Coordinator) || m.members_edit_others(&mem.control, &m.heads) {
        return Ok(());
    }
    let there = t.doc_ids.get(&crate::docs::doc_key(DocKind::Observation, id))?.is_some();
    if !there || crate::judge::has_made(t, mem, id, &mem.device)? {
        return Ok(());
    }
    Err(StoreError::Role { role: role.map_or("no member", Role::word), act: "edit observations of others in this project" })
}

/// Adds a change to the open batch and its document. `Some(true)` if the document is new, `None` if nothing changed.
pub(crate) fn write_change(
    t: &mut Tables<'_>,
    mem: &mut Mem,
    ctx: &mut Ctx<'_>,
    kind: DocKind,
    id: DocId,
    wanted: Vec<(String, Option<Value>)>,
    now_ms: i64,
) -> Result<Option<bool>, StoreError> {
    let taken = take(t, mem, kind, &id)?;
    write_taken(t, mem, ctx, taken, wanted, now_ms)
}

/// The same for a row that was taken out already.
pub(crate) fn write_taken(
    t: &mut Tables<'_>,
    mem: &mut Mem,
    ctx: &mut Ctx<'_>,
    mut taken: crate::docs::Taken,
    mut wanted: Vec<(String, Option<Value>)>,
    now_ms: i64,
) -> Result<Option<bool>, StoreError> {
    let kind = taken.row.kind;
    let is_new = taken.row.state.is_empty();
    if is_new
        && kind == DocKind::Observation
        && let Some(version) = &mem.configuration_version
    {
        wanted.push((cairn_model::DocKey::MadeWith.encode(), Some(Value::Bytes(version.0.clone()))));
    }
    let max_ops: HashMap<ChangeHash, u64> = taken.row.applied.iter().map(|at| (at.hash, u64::from(at.max_op))).collect();
    let max_op_of = |hash: &ChangeHash| max_ops.get(hash).copied().unwrap_or(0);
    let mut changes = taken.row.state.edits(mem.actor(), now_ms, wanted, &max_op_of);
    let Some(last) = changes.pop() else { return Ok(None) };
    // Several changes are one act, also where they need several batches.
    let own_act = !changes.is_empty() && mem.open.act.is_none();
    if own_act {
        cut(t, mem, ctx, now_ms)?;
        mem.open.act = Some((UnitKind::Edits, UnitId(ctx.entropy.bytes()), 0));
    }
    for bytes in changes {
        write_one(t, mem, ctx, &mut taken, bytes, now_ms)?;
    }
    write_one(t, mem, ctx, &mut taken, last, now_ms)?;
    put_back(t, mem, &taken)?;
    if own_act {
        cut_unit(t, mem, ctx, now_ms, true)?;
        mem.open.act = None;
    }
    Ok(Some(is_new))
}

/// One change of a document on its way into the open batch. The row is written back by the caller, but before a batch is cut.
fn write_one(
    t: &mut Tables<'_>,
    mem: &mut Mem,
    ctx: &mut Ctx<'_>,
    taken: &mut crate::docs::Taken,
    bytes: Vec<u8>,
    now_ms: i64,
) -> Result<(), StoreError> {
    let change = Change::parse(&bytes).map_err(|e| StoreError::OwnBatch(e.to_string()))?;
    if mem.open.full(bytes.len()) {
        cut_unit(t, mem, ctx, now_ms, mem.open.act.is_none())?;
    }
    let own = mem.own_feed;
    let at = ChangeRef::new(&change, own, mem.feeds[own as usize].seq + 1, mem.open.changes.len());
    // It builds on all that is applied, and nothing can build on it yet.
    if taken.row.state.is_full() || !taken.row.apply(&change, at) {
        return Err(StoreError::DocumentFull { document: taken.row.id });
    }
    let size = to_bytes(&taken.row.state).len();
    if size > model_limits::DOCUMENT_BYTES {
        return Err(StoreError::DocumentSize { bytes: size, most: model_limits::DOCUMENT_BYTES });
    }
    mem.open.bytes += bytes.len();
    let (kind, id) = (taken.row.kind, taken.row.id);
    mem.open.changes.push(OpenChange { kind, id, hash: change.hash, incarnation: mem.incarnation, nonce: mem.nonce, bytes });
    Ok(())
}

/// Cuts ordinary edits; does nothing when nothing is open.
pub(crate) fn cut(t: &mut Tables<'_>, mem: &mut Mem, ctx: &mut Ctx<'_>, now_ms: i64) -> Result<(), StoreError> {
    cut_unit(t, mem, ctx, now_ms, true)
}

pub(crate) fn cut_unit(t: &mut Tables<'_>, mem: &mut Mem, ctx: &mut Ctx<'_>, now_ms: i64, last: bool) -> Result<(), StoreError> {
    if mem.open.changes.is_empty() {
        return Ok(());
    }
    let now_ms = if now_ms == 0 { mem.open.last_ms() } else { now_ms };
    let unit = match &mut mem.open.act {
        Some((kind, id, index)) => {
            *index += 1;
            Unit { id: *id, kind: *kind, index: *index - 1, last }
        }
        None => Unit { id: UnitId(ctx.entropy.bytes()), kind: UnitKind::Edits, index: 0, last: true },
    };
    crate::control::ensure_epoch(t, mem, ctx)?;
    let feed = mem.feeds[mem.own_feed as usize].clone();
    let header = Header {
        feed: feed.id,
        seq: feed.seq + 1,
        prev: (feed.seq > 0).then_some(BatchHash(feed.tip)),
        origin: (feed.seq == 0).then_some((mem.device, mem.incarnation)),
        control: crate::control::heads_to_name(mem),
        seen: seen_tips(t, mem)?,
        nonces: mem.open.nonces(),
        wall_ms: now_ms,
        format: DATA_FORMAT,
        configuration: mem.configuration_lineage().ok_or(StoreError::Damaged("genesis"))?,
        unit,
        items: items(&mem.open.changes),
    };
    store_own(t, mem, ctx, header)
}

/// Signs, checks as a receiver would, seals and stores, all in the caller's transaction.
fn store_own(t: &mut Tables<'_>, mem: &mut Mem, ctx: &mut Ctx<'_>, header: Header) -> Result<(), StoreError> {
    let own = |e: &dyn std::fmt::Display| StoreError::OwnBatch(e.to_string());
    let unit = header.unit.id;
    let seq = header.seq;
    let changes: Vec<&[u8]> = mem.open.changes.iter().map(|c| &c.bytes[..]).collect();
    let batch = Batch::sign(&mem.project, ctx.keys, header, &changes).map_err(|e| own(&e))?;
    let key = mem.epoch_key().ok_or(StoreError::Damaged("epoch"))?;
    let chunk = seal(&mem.project, ChunkKind::Batch, key, &ctx.entropy.bytes(), &batch.encode()).map_err(|e| own(&e))?;
    let reopened = open_chunk(&mem.project, key, &chunk).map_err(|e| own(&e))?;
    let again = Batch::decode(&mem.project, &reopened).map_err(|e| own(&e))?;
    let device = mem.device;
    let actors = again.actors(&mem.project, &device);
    if again.hash != batch.hash || !again.signed_by(&device) || again.changes(&actors).is_err() {
        return Err(own(&"does not verify"));
    }
    let row = BatchRow { hash: batch.hash.0, verdict: Verdict::Accepted, changes: batch.hashes.len() as u32, unit };
    let n = mem.own_feed;
    t.chunks.insert(batch_key(n, seq), &chunk[..])?;
    t.batches.insert(batch_key(n, seq), &to_bytes(&row)[..])?;
    t.by_hash.insert(&hash_key(&row.hash), batch_key(n, seq))?;
    let feed = &mut mem.feeds[n as usize];
    (feed.seq, feed.tip) = (seq, batch.hash.0);
    t.feeds.insert(n, &to_bytes(&*feed)[..])?;
    mem.open.clear();
    Ok(())
}

/// Tips of others' feeds that moved since the last cut: what the author had seen, as evidence against carriers that hold back.
fn seen_tips(t: &mut Tables<'_>, mem: &Mem) -> Result<Vec<cairn_trust::Tip>, StoreError> {
    let own = mem.feeds[mem.own_feed as usize].id;
    let last = t.meta.get("seen tips")?.map(|b| b.value().to_vec()).unwrap_or_default();
    let others: Vec<_> = crate::feeds::frontier(t, mem)?.into_iter().filter(|tip| tip.feed != own).collect();
    let fresh: Vec<_> =
        others.iter().filter(|tip| !last.as_chunks::<32>().0.contains(&tip.hash.0)).take(limits::SEEN_TIPS).copied().collect();
    if !fresh.is_empty() {
        let all: Vec<u8> = others.iter().flat_map(|tip| tip.hash.0).collect();
        t.meta.insert("seen tips", &all[..])?;
    }
    Ok(fresh)
}

fn items(changes: &[OpenChange]) -> Vec<Item> {
    let mut out: Vec<Item> = Vec::new();
    for c in changes {
        match out.last_mut() {
            Some(last) if last.kind == c.kind as u8 && last.doc == c.id => last.changes += 1,
            _ => out.push(Item { kind: c.kind as u8, doc: c.id, changes: 1 }),
        }
    }
    out
}
