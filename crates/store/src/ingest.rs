//! Chunks from elsewhere: checked in the order of FORMAT.md, held, judged, applied, in one durable transaction.

use crate::docs::{ChangeRef, SyncEffect, apply_change, put_back, settle, take};
use crate::feeds::{BatchHashes, BatchRow, FeedRow, Slot, Verdict, batch_key, chain_name, hash_key, new_chain, place};
use crate::judge::{Judged, judge, judge_again, judge_its_pending, set_apart};
use crate::mem::Mem;
use crate::tables::{Tables, from_bytes, to_bytes};
use crate::{Store, StoreError};
use cairn_model::{Change, DeviceId, DocKind, ProjectId};
use cairn_trust::{Batch, ChunkKind, Inside, Item, PlacedBatch, Tip, chunk_kind, open, open_pack, seal};
use redb::{ReadableTable, ReadableTableMetadata};
use std::collections::BTreeMap;

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
    /// Every batch of the chunks that is held now, in order.
    pub placed: Vec<PlacedBatch>,
    /// What each chunk turned out to be, in order.
    pub inside: Vec<Inside>,
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

/// What came of unsealing one chunk.
enum Unsealed {
    /// The seal held.
    Open(Box<Opened>),
    /// Its read key is not here (yet): to be sent again.
    NoKey,
    /// No chunk of this project.
    Foreign,
}

/// A chunk whose seal held.
struct Opened {
    /// Which of the chunks given it came in.
    input: usize,
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
        self.take_in(chunks, sync, false)
    }

    /// The same for chunks from a mailbox, where nobody vouches for who put them there: batches of an author whom no operation let in
    /// count as gaps. On a link the control log comes first.
    pub fn ingest_mail(&mut self, chunks: Vec<Vec<u8>>, sync: Option<u32>) -> Result<Ingested, StoreError> {
        self.take_in(chunks, sync, true)
    }

    /// Opens chunks and checks the signatures of what is in them, and tells whether all of it is held here. Nothing is taken in.
    pub fn inspect(&mut self, chunks: Vec<Vec<u8>>) -> Result<Vec<(Inside, bool)>, StoreError> {
        let (_, inside) = self.open_and_verify(chunks, &mut IngestStats::default());
        let v = self.view()?;
        let mut out = Vec::with_capacity(inside.len());
        for inside in inside {
            let mut held = matches!(inside, Inside::Batches(_));
            if let Inside::Batches(found) = &inside {
                for tip in found {
                    held &= v.find(&tip.hash.0)?.is_some();
                }
            }
            out.push((inside, held));
        }
        Ok(out)
    }

    /// What the chunks hold: each batch whose signature holds (none for others), and what each chunk turned out to be.
    fn open_and_verify(&mut self, chunks: Vec<Vec<u8>>, stats: &mut IngestStats) -> (Vec<Option<Verified>>, Vec<Inside>) {
        let mem = &self.mem;
        let mut opened = Vec::with_capacity(chunks.len());
        let mut inside = vec![Inside::Batches(Vec::new()); chunks.len()];
        let seed: [u8; 32] = self.entropy.bytes();
        let unsealed = parallel(chunks, |chunk| open_all(mem, chunk, &seed));
        for (input, unsealed) in unsealed.into_iter().enumerate().flat_map(|(n, all)| all.into_iter().map(move |u| (n, u))) {
            match unsealed {
                Unsealed::Open(chunk) => opened.push(Opened { input, ..*chunk }),
                Unsealed::NoKey => {
                    stats.gaps += 1;
                    inside[input] = Inside::Sealed;
                }
                Unsealed::Foreign => {
                    stats.dropped += 1;
                    inside[input] = Inside::Nothing;
                }
            }
        }
        let authors = self.authors(&opened);
        let jobs: Vec<(Opened, Option<DeviceId>)> = opened.into_iter().zip(authors).collect();
        let project = &self.mem.project;
        let verified = parallel(jobs, |(opened, device)| {
            let input = opened.input;
            (input, verify_one(project, opened, device))
        });
        for (input, verified) in &verified {
            let tip = verified.as_ref().map(|v| Tip {
                feed: v.opened.batch.header.feed,
                seq: v.opened.batch.header.seq,
                hash: v.opened.batch.hash,
            });
            let known = verified.as_ref().is_none_or(|v| v.device.is_some());
            match (&mut inside[*input], tip) {
                (Inside::Batches(found), Some(tip)) if known => found.push(tip),
                (here @ Inside::Batches(_), Some(_)) => *here = Inside::Unknown,
                (here @ (Inside::Batches(_) | Inside::Unknown), None) => *here = Inside::Nothing,
                _ => {}
            }
        }
        (verified.into_iter().map(|(_, v)| v).collect(), inside)
    }

    fn take_in(&mut self, chunks: Vec<Vec<u8>>, sync: Option<u32>, known_authors: bool) -> Result<Ingested, StoreError> {
        let mut stats = IngestStats::default();
        let (verified, inside) = self.open_and_verify(chunks, &mut stats);
        let configuration = |i: &Item| i.doc_kind() == Some(DocKind::Configuration);
        let touched_configuration = verified.iter().flatten().any(|v| v.opened.batch.header.items.iter().any(configuration));
        stats.dropped += verified.iter().filter(|v| v.is_none()).count() as u64;
        let own = self.mem.feeds[self.mem.own_feed as usize].id;
        let (tips, own_grew, placed) = self.write(|t, mem, ctx| {
            let mut last = BTreeMap::new();
            let mut placed = Vec::new();
            let mut own_grew = false;
            for v in verified.into_iter().flatten() {
                let header = &v.opened.batch.header;
                if header.feed == own && !matches!(place(t, mem, header, &v.opened.batch.hash)?, Slot::Held(_)) {
                    // The own feed goes on elsewhere: this store is older than it, or was copied. Open changes are cut
                    // before they lose their place.
                    crate::local::cut(t, mem, ctx, 0)?;
                    own_grew = true;
                }
                if known_authors && v.device.is_some_and(|d| !mem.control.has_grant(&d)) {
                    stats.gaps += 1;
                    continue;
                }
                let (seq, hash) = (header.seq, v.opened.batch.hash);
                let (input, tip) = (v.opened.input, Tip { feed: header.feed, seq, hash });
                let (changes, wall_ms) = (v.opened.batch.hashes.len() as u32, header.wall_ms);
                if let Some(chain) = hold(t, mem, v, sync, &mut stats)? {
                    last.insert(chain, (seq, hash));
                    let device = mem.feeds[chain as usize].device;
                    placed.push(PlacedBatch { input, chain, device, tip, changes, wall_ms });
                }
            }
            settle(t, mem, &mut |t, taken, effect| match taken.row.kind {
                DocKind::Observation => count_effect(t, sync, taken.number, effect, &mut stats),
                DocKind::Configuration => Ok(()),
            })?;
            if let (Some(sync), false) = (sync, placed.is_empty()) {
                crate::moments::remember(t, mem, sync)?;
            }
            let tip = |(chain, (seq, hash))| Ok(Tip { feed: chain_name(t, mem, chain)?, seq, hash });
            let tips: Result<Vec<Tip>, StoreError> = last.into_iter().map(tip).collect();
            Ok((tips?, own_grew, placed))
        })?;
        if own_grew {
            self.start_incarnation()?;
        }
        if touched_configuration {
            self.reload_configuration()?;
        }
        Ok(Ingested { stats, tips, placed, inside })
    }

    /// `true` if the key that a chunk is sealed under is here.
    pub fn reads(&self, chunk: &[u8]) -> bool {
        !matches!(open_one(&self.mem, chunk.to_vec()), Unsealed::NoKey)
    }

    /// The author of each batch: named in batch 1, known for feeds that are here or begin in this set.
    fn authors(&self, opened: &[Opened]) -> Vec<Option<DeviceId>> {
        let mut begun: BTreeMap<_, DeviceId> = BTreeMap::new();
        let mut out = Vec::with_capacity(opened.len());
        for o in opened {
            if let Ok(Some(device)) = o.batch.origin(&self.mem.project) {
                begun.insert(o.batch.header.feed, device);
            }
            let bad_origin = o.batch.origin(&self.mem.project).is_err();
            let feed = &o.batch.header.feed;
            let known = || self.mem.feeds.of_feed(feed).next().map(|(_, f)| f.device);
            out.push(begun.get(feed).copied().or_else(known).filter(|_| !bad_origin));
        }
        out
    }

    /// Observations a sync changed here.
    pub fn sync_effects(&self, sync: u32) -> Result<Vec<(cairn_model::DocId, SyncEffect)>, StoreError> {
        let v = self.view()?;
        let mut out = Vec::new();
        for row in v.sync_docs.range(u64::from(sync) << 32..(u64::from(sync) + 1) << 32)? {
            let (key, effect) = row?;
            let bytes = v.docs.get(key.value() as u32)?.ok_or(StoreError::Damaged("document"))?;
            let doc: crate::docs::DocRow = from_bytes(bytes.value(), "document")?;
            out.push((doc.id, SyncEffect::from_number(effect.value())));
        }
        Ok(out)
    }

    /// A number for a sync about to begin, higher than all before: two that go on at once have two.
    pub fn next_sync(&self) -> Result<u32, StoreError> {
        use std::sync::atomic::Ordering;
        let v = self.view()?;
        let last = v.sync_docs.last()?.map_or(0, |(k, _)| (k.value() >> 32) as u32);
        let noted = v.meta.get("syncs")?.map_or(0, |b| b.value().try_into().map_or(0, u32::from_le_bytes));
        // Written with the batches: also of a sync that was cut off before anything was noted.
        let held = v.moments.last()?.map_or(0, |(n, _)| n.value());
        let known = last.max(noted).max(held);
        let given = |n: u32| Some(n.max(known) + 1);
        let before = self.last_sync.fetch_update(Ordering::Relaxed, Ordering::Relaxed, given).unwrap_or(known);
        Ok(before.max(known) + 1)
    }

    /// Remembers that a sync took place, even one that changed nothing.
    pub fn note_sync(&mut self, sync: u32, with: &[String], now_ms: i64) -> Result<(), StoreError> {
        let note = to_bytes(&crate::aside::SyncNote { at_ms: now_ms, with: with.to_vec() });
        self.write(|t, mem, _| {
            let noted = t.meta.get("syncs")?.map_or(0, |b| b.value().try_into().map_or(0, u32::from_le_bytes));
            t.meta.insert("syncs", &noted.max(sync).to_le_bytes()[..])?;
            t.syncs.insert(sync, &note[..])?;
            crate::moments::remember(t, mem, sync)
        })
    }
}

/// A chunk, or the batches of a pack, each sealed anew: what is stored and forwarded are batches.
fn open_all(mem: &Mem, chunk: Vec<u8>, seed: &[u8; 32]) -> Vec<Unsealed> {
    let Some((_, epoch)) = chunk_kind(&chunk).ok().filter(|(kind, _)| *kind == ChunkKind::Pack as u8) else {
        return vec![open_one(mem, chunk)];
    };
    let Some(key) = mem.epochs.get(&epoch) else { return vec![Unsealed::NoKey] };
    let Ok(batches) = open_pack(&mem.project, key, &chunk) else { return vec![Unsealed::Foreign] };
    if batches.windows(2).any(|w| w[0].header.feed != w[1].header.feed) {
        return vec![Unsealed::Foreign];
    }
    let again = |batch: Batch| {
        let mut nonce = [0; 24];
        blake3::Hasher::new_keyed(seed).update(&batch.hash.0).finalize_xof().fill(&mut nonce);
        match seal(&mem.project, ChunkKind::Batch, key, &nonce, &batch.encode()) {
            Ok(chunk) => Unsealed::Open(Box::new(Opened { input: 0, chunk, batch })),
            Err(_) => Unsealed::Foreign,
        }
    };
    batches.into_iter().map(again).collect()
}

fn open_one(mem: &Mem, chunk: Vec<u8>) -> Unsealed {
    let key = match chunk_kind(&chunk) {
        Ok((kind, epoch)) if kind == ChunkKind::Batch as u8 => mem.epochs.get(&epoch),
        _ => return Unsealed::Foreign,
    };
    let Some(key) = key else { return Unsealed::NoKey };
    let batch = open(&mem.project, key, &chunk).ok().and_then(|body| Batch::decode(&mem.project, &body).ok());
    match batch.filter(|b| b.payload.is_some()) {
        Some(batch) => Unsealed::Open(Box::new(Opened { input: 0, chunk, batch })),
        None => Unsealed::Foreign,
    }
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
    let place = Judged { chain, device, reads: v.changes.is_some() };
    let verdict = judge(t, mem, batch, &place)?;
    let row = BatchRow { hash: batch.hash.0, verdict, changes: batch.hashes.len() as u32, unit: batch.header.unit.id };
    let key = batch_key(chain, seq);
    t.chunks.insert(key, &v.opened.chunk[..])?;
    t.batches.insert(key, &to_bytes(&row)[..])?;
    t.by_hash.insert(&hash_key(&row.hash), key)?;
    if let Some(sync) = sync {
        t.arrived.insert(key, sync)?;
    }
    let feed = &mut mem.feeds[chain as usize];
    (feed.seq, feed.tip) = (seq, batch.hash.0);
    t.feeds.insert(chain, &to_bytes(&*feed)[..])?;
    stats.held += 1;
    stats.changes += u64::from(row.changes);
    stats.bytes += v.opened.chunk.len() as u64;
    match (verdict, v.changes) {
        (Verdict::Accepted, Some(changes)) => apply_batch(t, mem, chain, seq, changes, sync, stats)?,
        (_, changes) => {
            t.pending.insert(key, ())?;
            stats.set_apart += 1;
            if verdict == Verdict::Quarantined {
                set_apart(t, mem, chain, seq, &changes.unwrap_or_default())?;
            }
        }
    }
    if verdict == Verdict::Accepted && !t.pending.is_empty()? && !mem.membership.members_edit_others(&mem.control, &mem.membership.heads) {
        judge_its_pending(t, mem, &device)?;
    }
    if mem.membership.is_cut(&device) && mem.feeds.of_feed(&mem.feeds[chain as usize].id).count() > 1 {
        // A cut names a batch: now that another branch is here, it may mean the other one.
        judge_again(t, mem, &[device])?;
    }
    Ok(Some(chain))
}

pub(crate) fn apply_batch(
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
