//! Chunks from elsewhere: checked in the order of FORMAT.md, held, judged, applied, in one durable transaction.

use crate::docs::{ChangeRef, SyncEffect, apply_change, put_back, read_batch, read_change, rebuild, take};
use crate::feeds::{BatchRow, FeedRow, Slot, Verdict, batch_key, chain_name, new_chain, place};
use crate::mem::{DATA_FORMAT, Mem};
use crate::tables::{Tables, from_bytes, to_bytes};
use crate::{Store, StoreError};
use cairn_model::{Change, DeviceId, DocId, DocKind, ProjectId};
use cairn_trust::{Batch, Item, Role, Tip, chunk_kind, open};
use redb::ReadableTable;
use std::collections::{BTreeMap, BTreeSet};

/// What became of a set of chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IngestStats {
    /// Batches newly held.
    pub held: u64,
    /// Their changes.
    pub changes: u64,
    /// Bytes of their chunks.
    pub bytes: u64,
    /// Chunks that were here already.
    pub known: u64,
    /// Bytes that are no chunk of this project, forged, or past a limit: dropped.
    pub dropped: u64,
    /// Chunks whose predecessor is not here: dropped, to be sent again in order.
    pub gaps: u64,
    /// Of the held: waiting, quarantined or void.
    pub set_apart: u64,
    /// Observations new here.
    pub new: i64,
    /// Observations changed.
    pub changed: i64,
    /// Observations deleted.
    pub deleted: i64,
}

/// The result of [`Store::ingest`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ingested {
    /// Numbers.
    pub stats: IngestStats,
    /// Last batch of each feed among the chunks that are held now, by the names of the frontier.
    pub tips: Vec<Tip>,
}

impl IngestStats {
    /// Adds another set's numbers.
    pub fn add(&mut self, other: &IngestStats) {
        let pairs = [
            (&mut self.held, other.held),
            (&mut self.changes, other.changes),
            (&mut self.bytes, other.bytes),
            (&mut self.known, other.known),
            (&mut self.dropped, other.dropped),
            (&mut self.gaps, other.gaps),
            (&mut self.set_apart, other.set_apart),
        ];
        for (mine, more) in pairs {
            *mine += more;
        }
        self.new += other.new;
        self.changed += other.changed;
        self.deleted += other.deleted;
    }
}

/// A chunk whose seal held.
struct Opened {
    chunk: Vec<u8>,
    batch: Batch,
}

/// A batch whose author is known and whose signature held.
struct Verified {
    opened: Opened,
    /// `None` where the feed's first batch is not here: a gap.
    device: Option<DeviceId>,
    /// `None` if the content is void.
    changes: Option<Vec<(Item, Change)>>,
}

impl Store {
    /// Takes chunks in the order of their feeds, as one durable transaction. What fails before it can be held is
    /// dropped and counted; what is held is judged and, if accepted, applied. `sync` records which observations changed.
    pub fn ingest(&mut self, chunks: Vec<Vec<u8>>, sync: Option<u32>) -> Result<Ingested, StoreError> {
        let mut stats = IngestStats::default();
        let total = chunks.len() as u64;
        let mem = &self.mem;
        let opened: Vec<Opened> = parallel(chunks, |chunk| open_one(mem, chunk)).into_iter().flatten().collect();
        stats.dropped += total - opened.len() as u64;
        let authors = self.authors(&opened);
        let jobs: Vec<(Opened, Option<DeviceId>)> = opened.into_iter().zip(authors).collect();
        let project = &self.mem.project;
        let verified = parallel(jobs, |(opened, device)| verify_one(project, opened, device));
        let lineage = self.mem.configuration_lineage();
        let touched_configuration = verified.iter().flatten().any(|v| v.opened.batch.header.items.iter().any(|i| Some(i.doc) == lineage));
        stats.dropped += verified.iter().filter(|v| v.is_none()).count() as u64;
        let own = self.mem.feeds[self.mem.own_feed as usize].id;
        let (tips, own_grew) = self.write(|t, mem, ctx| {
            let mut last = BTreeMap::new();
            let mut own_grew = false;
            for v in verified.into_iter().flatten() {
                let header = &v.opened.batch.header;
                if header.feed == own && !matches!(place(t, mem, header, &v.opened.batch.hash)?, Slot::Held(_)) {
                    // The own feed goes on elsewhere: this store is older than it, or was copied. Open changes are cut
                    // before they lose their place.
                    crate::local::cut(t, mem, ctx, 0)?;
                    own_grew = true;
                }
                let (seq, hash) = (v.opened.batch.header.seq, v.opened.batch.hash);
                if let Some(chain) = hold(t, mem, v, sync, &mut stats)? {
                    last.insert(chain, (seq, hash));
                }
            }
            let tip = |(chain, (seq, hash))| Ok(Tip { feed: chain_name(t, mem, chain)?, seq, hash });
            let tips: Result<Vec<Tip>, StoreError> = last.into_iter().map(tip).collect();
            Ok((tips?, own_grew))
        })?;
        if own_grew {
            self.start_incarnation()?;
        }
        if touched_configuration {
            self.reload_configuration()?;
        }
        Ok(Ingested { stats, tips })
    }

    /// The author of each batch: named in batch 1, known for feeds that are here or begin in this set.
    fn authors(&self, opened: &[Opened]) -> Vec<Option<DeviceId>> {
        let mut by_feed: BTreeMap<_, DeviceId> = self.mem.feeds.iter().map(|f| (f.id, f.device)).collect();
        let mut out = Vec::with_capacity(opened.len());
        for o in opened {
            if let Ok(Some(device)) = o.batch.origin(&self.mem.project) {
                by_feed.insert(o.batch.header.feed, device);
            }
            let bad_origin = o.batch.origin(&self.mem.project).is_err();
            out.push(by_feed.get(&o.batch.header.feed).copied().filter(|_| !bad_origin));
        }
        out
    }

    /// Batches held but set apart, with why: (feed, sequence, verdict).
    pub fn set_apart(&self) -> Result<Vec<(FeedRow, u64, Verdict)>, StoreError> {
        let v = self.view()?;
        let mut out = Vec::new();
        for row in v.pending.iter()? {
            let key = row?.0.value();
            let bytes = v.batches.get(key)?.ok_or(StoreError::Damaged("batch"))?;
            let batch: BatchRow = from_bytes(bytes.value(), "batch")?;
            out.push((self.mem.feeds[(key >> 40) as usize].clone(), key & 0xff_ffff_ffff, batch.verdict));
        }
        Ok(out)
    }

    /// Observations a sync changed here.
    pub fn sync_effects(&self, sync: u32) -> Result<Vec<(cairn_model::DocId, SyncEffect)>, StoreError> {
        let v = self.view()?;
        let mut out = Vec::new();
        for row in v.sync_docs.range(u64::from(sync) << 32..u64::from(sync + 1) << 32)? {
            let (key, effect) = row?;
            let bytes = v.docs.get(key.value() as u32)?.ok_or(StoreError::Damaged("document"))?;
            let doc: crate::docs::DocRow = from_bytes(bytes.value(), "document")?;
            out.push((doc.id, SyncEffect::from_number(effect.value())));
        }
        Ok(out)
    }

    /// A number for a sync about to begin, higher than all before.
    pub fn next_sync(&self) -> Result<u32, StoreError> {
        let v = self.view()?;
        let last = v.sync_docs.last()?.map_or(0, |(k, _)| (k.value() >> 32) as u32);
        let noted = v.meta.get("syncs")?.map_or(0, |b| b.value().try_into().map_or(0, u32::from_le_bytes));
        Ok(last.max(noted) + 1)
    }

    /// Remembers that a sync took place, even one that changed nothing.
    pub fn note_sync(&mut self, sync: u32) -> Result<(), StoreError> {
        self.write(|t, _, _| {
            t.meta.insert("syncs", &sync.to_le_bytes()[..])?;
            Ok(())
        })
    }
}

fn open_one(mem: &Mem, chunk: Vec<u8>) -> Option<Opened> {
    let (kind, epoch) = chunk_kind(&chunk).ok()?;
    if kind != cairn_trust::ChunkKind::Batch as u8 {
        return None;
    }
    let body = open(&mem.project, mem.epochs.get(&epoch)?, &chunk).ok()?;
    let batch = Batch::decode(&mem.project, &body).ok()?;
    batch.payload.is_some().then_some(Opened { chunk, batch })
}

fn verify_one(project: &ProjectId, opened: Opened, device: Option<DeviceId>) -> Option<Verified> {
    let Some(device) = device else {
        // A first batch that does not prove its author is a forgery, any other one is a gap.
        return opened.batch.header.prev.is_some().then_some(Verified { opened, device: None, changes: None });
    };
    if !opened.batch.signed_by(&device) {
        return None;
    }
    let changes = opened.batch.changes(&opened.batch.actors(project, &device)).ok();
    Some(Verified { opened, device: Some(device), changes })
}

/// The chain that holds the batch now, whether it did before or not; `None` for a gap.
fn hold(t: &mut Tables<'_>, mem: &mut Mem, v: Verified, sync: Option<u32>, stats: &mut IngestStats) -> Result<Option<u32>, StoreError> {
    let batch = &v.opened.batch;
    let Some(device) = v.device else {
        stats.gaps += 1;
        return Ok(None);
    };
    let chain = match place(t, mem, &batch.header, &batch.hash)? {
        Slot::Held(chain) => {
            stats.known += 1;
            return Ok(Some(chain));
        }
        Slot::Gap => {
            stats.gaps += 1;
            return Ok(None);
        }
        Slot::Append(chain) => chain,
        Slot::NewChain { parent, base } => {
            let row = FeedRow { id: batch.header.feed, device, base, seq: base - 1, tip: [0; 32], parent };
            new_chain(t, mem, row)?
        }
    };
    let seq = batch.header.seq;
    let verdict = judge(mem, batch, &device, v.changes.is_some());
    let row = BatchRow { hash: batch.hash.0, verdict, changes: batch.hashes.len() as u32, unit: batch.header.unit.id };
    let key = batch_key(chain, seq);
    t.chunks.insert(key, &v.opened.chunk[..])?;
    t.batches.insert(key, &to_bytes(&row)[..])?;
    let feed = &mut mem.feeds[chain as usize];
    (feed.seq, feed.tip) = (seq, batch.hash.0);
    t.feeds.insert(chain, &to_bytes(&*feed)[..])?;
    stats.held += 1;
    stats.changes += u64::from(row.changes);
    stats.bytes += v.opened.chunk.len() as u64;
    match (verdict, v.changes) {
        (Verdict::Accepted, Some(changes)) => apply_batch(t, mem, chain, seq, changes, sync, stats)?,
        _ => {
            t.pending.insert(key, ())?;
            stats.set_apart += 1;
        }
    }
    Ok(Some(chain))
}

fn apply_batch(
    t: &mut Tables<'_>,
    mem: &mut Mem,
    chain: u32,
    seq: u64,
    changes: Vec<(Item, Change)>,
    sync: Option<u32>,
    stats: &mut IngestStats,
) -> Result<(), StoreError> {
    let mut changes = changes.into_iter().enumerate().peekable();
    while let Some((index, (item, change))) = changes.next() {
        let Some(kind) = item.doc_kind() else { continue };
        let mut taken = take(t, mem, kind, &item.doc)?;
        let at = |index: usize, change: &Change| ChangeRef::new(change, chain, seq, index);
        apply_change(t, mem, &mut taken.row, &change, at(index, &change))?;
        // Changes of one item belong to one document: one row write for all of them.
        while let Some((index, (_, change))) = changes.next_if(|(_, (next, _))| *next == item) {
            apply_change(t, mem, &mut taken.row, &change, at(index, &change))?;
        }
        let effect = put_back(t, mem, &taken)?;
        if let (Some(effect), DocKind::Observation) = (effect, kind) {
            count_effect(t, sync, taken.number, effect, stats)?;
        }
    }
    Ok(())
}

/// Counts what a sync did to an observation as a whole: made and deleted elsewhere before it came here is nothing.
fn count_effect(t: &mut Tables<'_>, sync: Option<u32>, number: u32, effect: SyncEffect, stats: &mut IngestStats) -> Result<(), StoreError> {
    use SyncEffect::{Changed, Deleted, New};
    let key = sync.map(|sync| (u64::from(sync) << 32) | u64::from(number));
    let before = match key {
        Some(key) => t.sync_docs.get(key)?.map(|e| SyncEffect::from_number(e.value())),
        None => None,
    };
    let after = match (before, effect) {
        (None, effect) => Some(effect),
        (Some(New), Deleted) => None,
        (Some(New), _) => Some(New),
        (Some(_), Deleted) => Some(Deleted),
        (Some(_), _) => Some(Changed),
    };
    for (effect, by) in [(before, -1), (after, 1)] {
        match effect {
            Some(New) => stats.new += by,
            Some(Changed) => stats.changed += by,
            Some(Deleted) => stats.deleted += by,
            None => {}
        }
    }
    match (key, after) {
        (Some(key), Some(after)) => drop(t.sync_docs.insert(key, after as u8)?),
        (Some(key), None) => drop(t.sync_docs.remove(key)?),
        (None, _) => {}
    }
    Ok(())
}

/// The verdict: a pure function of the batch and the set of control operations. `reads`: its content keeps the rules.
fn judge(mem: &Mem, batch: &Batch, device: &DeviceId, reads: bool) -> Verdict {
    let h = &batch.header;
    let knows_all = h.control.iter().all(|c| mem.control.iter().any(|op| op.hash == *c));
    let lineage = mem.configuration_lineage() == Some(h.configuration);
    let unknown_kind = h.items.iter().any(|i| i.doc_kind().is_none());
    if batch.critical || h.format.0 > DATA_FORMAT.0 || unknown_kind || !knows_all || !lineage {
        return Verdict::Waiting;
    }
    if !reads {
        return Verdict::Void;
    }
    let Some(role) = mem.membership.role(device) else { return Verdict::Quarantined };
    let allowed = h.items.iter().all(|i| match i.doc_kind() {
        Some(DocKind::Observation) => role.writes_observations(),
        Some(DocKind::Configuration) => Role::writes_configuration(role) && Some(i.doc) == mem.configuration_lineage(),
        None => false,
    });
    if allowed { Verdict::Accepted } else { Verdict::Quarantined }
}

/// After new control operations: what was set apart, and all of `devices` (whose role changed), is judged again.
/// Documents that lose a batch are made anew from what is left.
pub(crate) fn judge_again(t: &mut Tables<'_>, mem: &mut Mem, devices: &[DeviceId]) -> Result<(), StoreError> {
    let mut keys: Vec<u64> = t.pending.iter()?.map(|r| Ok(r?.0.value())).collect::<Result<_, StoreError>>()?;
    for (n, feed) in mem.feeds.iter().enumerate().filter(|(_, f)| devices.contains(&f.device)) {
        keys.extend((feed.base..=feed.seq).map(|seq| batch_key(n as u32, seq)));
    }
    keys.sort_unstable();
    keys.dedup();
    let mut lost = BTreeSet::new();
    for key in keys {
        judge_one(t, mem, key, &mut lost)?;
    }
    for (kind, doc) in lost {
        remake(t, mem, kind, &doc)?;
    }
    Ok(())
}

fn judge_one(t: &mut Tables<'_>, mem: &mut Mem, key: u64, lost: &mut BTreeSet<(DocKind, DocId)>) -> Result<(), StoreError> {
    let (chain, seq) = ((key >> 40) as u32, key & 0xff_ffff_ffff);
    let mut row: BatchRow = from_bytes(t.batches.get(key)?.ok_or(StoreError::Damaged("batch"))?.value(), "batch")?;
    let batch = read_batch(t, mem, chain, seq)?;
    let device = mem.feeds[chain as usize].device;
    let changes = batch.changes(&batch.actors(&mem.project, &device)).ok();
    let before = std::mem::replace(&mut row.verdict, judge(mem, &batch, &device, changes.is_some()));
    if before == row.verdict {
        return Ok(());
    }
    t.batches.insert(key, &to_bytes(&row)[..])?;
    match (row.verdict, changes) {
        (Verdict::Accepted, Some(changes)) => {
            t.pending.remove(key)?;
            apply_batch(t, mem, chain, seq, changes, None, &mut IngestStats::default())?;
        }
        _ => {
            t.pending.insert(key, ())?;
            if before == Verdict::Accepted {
                lost.extend(batch.header.items.iter().filter_map(|i| Some((i.doc_kind()?, i.doc))));
            }
        }
    }
    Ok(())
}

/// Makes a document from those of its changes whose batches are accepted now.
fn remake(t: &mut Tables<'_>, mem: &mut Mem, kind: DocKind, doc: &DocId) -> Result<(), StoreError> {
    let mut taken = take(t, mem, kind, doc)?;
    let mut kept = Vec::new();
    for at in taken.row.applied.iter().chain(&taken.row.waiting) {
        let open = at.feed == mem.own_feed && at.seq == mem.feeds[at.feed as usize].seq + 1;
        let stored = t.batches.get(batch_key(at.feed, at.seq))?.map(|b| from_bytes::<BatchRow>(b.value(), "batch")).transpose()?;
        if open || stored.is_some_and(|b| b.verdict == Verdict::Accepted) {
            kept.push((*at, read_change(t, mem, at)?));
        }
    }
    rebuild(&mut taken.row, kept);
    put_back(t, mem, &taken)?;
    Ok(())
}

/// Maps on every core, in order. Small sets stay on this thread.
fn parallel<T: Send, U: Send>(input: Vec<T>, work: impl Fn(T) -> U + Sync) -> Vec<U> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(4);
    if input.len() < 4 || threads == 1 {
        return input.into_iter().map(work).collect();
    }
    let share = input.len().div_ceil(threads);
    let mut parts: Vec<Vec<T>> = Vec::with_capacity(threads);
    let mut input = input.into_iter();
    for _ in 0..threads {
        parts.push(input.by_ref().take(share).collect());
    }
    let work = &work;
    std::thread::scope(|scope| {
        let handles: Vec<_> = parts.into_iter().map(|p| scope.spawn(move || p.into_iter().map(work).collect::<Vec<U>>())).collect();
        handles.into_iter().flat_map(|h| h.join().expect("a worker does not panic")).collect()
    })
}
