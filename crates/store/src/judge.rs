//! Verdicts: what a held batch counts for. A pure function of the set of control operations and the set of held batches,
//! remade whenever either changes what it says. Documents follow.

use crate::docs::{ChangeRef, put_back, read_batch, read_change, rebuild, take};
use crate::feeds::{BatchHashes, BatchRow, FeedRow, Verdict, batch_key};
use crate::ingest::{IngestStats, apply_batch};
use crate::mem::{DATA_FORMAT, Mem};
use crate::reader::ChangeReader;
use crate::tables::{Tables, from_bytes, to_bytes};
use crate::{Store, StoreError};
use cairn_model::{Change, ChangeHash, DeviceId, DocId, DocKind};
use cairn_trust::{Batch, BatchHash, Item, Role, Tip};
use redb::ReadableTable;
use std::collections::{BTreeSet, HashSet};

/// A batch and where it is.
pub(crate) struct Judged {
    pub chain: u32,
    pub device: DeviceId,
    /// Its changes read and are by listed actors.
    pub reads: bool,
}

/// The verdict of one batch.
pub(crate) fn judge(t: &Tables<'_>, mem: &Mem, batch: &Batch, at: &Judged) -> Result<Verdict, StoreError> {
    let h = &batch.header;
    let unknown_kind = h.items.iter().any(|i| i.doc_kind().is_none());
    let knows_all = h.control.iter().all(|c| mem.control.contains(c));
    if batch.critical || h.format.0 > DATA_FORMAT.0 || unknown_kind || !knows_all {
        return Ok(Verdict::Waiting);
    }
    if !at.reads {
        return Ok(Verdict::Void);
    }
    // Looked up once for every cut and acceptance that names this feed.
    let mut named: Vec<(Tip, bool)> = Vec::new();
    if mem.membership.is_cut(&at.device) {
        let rights = mem.membership.rights.get(&at.device).into_iter().flatten();
        let cuts = rights.flat_map(|r| r.removals.iter().chain(&r.demotions)).flat_map(|e| e.cuts.iter().copied());
        let tips: Vec<Tip> = cuts.chain(mem.membership.accepted.iter().map(|a| a.tip)).filter(|tip| tip.feed == h.feed).collect();
        for tip in tips {
            named.push((tip, reaches(t, mem, at, h.seq, &tip)?));
        }
    }
    let within = |tip: &Tip| named.iter().any(|(known, inside)| known == tip && *inside);
    if mem.membership.accepts(&within) {
        return Ok(Verdict::Accepted);
    }
    if is_gated(mem, batch, &at.device) {
        return Ok(Verdict::Waiting);
    }
    for item in &h.items {
        let Some(kind) = item.doc_kind() else { continue };
        let lineage = kind != DocKind::Configuration || mem.membership.lineage_number(&item.doc).is_some();
        if !lineage || !mem.membership.allows(&mem.control, &at.device, kind, &h.control, &within) {
            return Ok(Verdict::Quarantined);
        }
    }
    if may_touch_all(t, mem, batch, at)? { Ok(Verdict::Accepted) } else { Ok(Verdict::Quarantined) }
}

/// The configuration gate: written under a configuration this device has not taken over, or by somebody who knew that the
/// project had moved on to the one used here and had not followed.
fn is_gated(mem: &Mem, batch: &Batch, author: &DeviceId) -> bool {
    let m = &mem.membership;
    let Some(number) = m.lineage_number(&batch.header.configuration) else { return true };
    let own = m.adopted_by(&mem.device);
    // The configuration itself always comes through: it is what the switch needs.
    let observes = batch.header.items.iter().any(|i| i.doc_kind() != Some(DocKind::Configuration));
    let behind = number < own
        && m.adopted_by(author) < own
        && m.lineages.get(own).is_some_and(|(op, _)| mem.control.sees(&batch.header.control, op));
    observes && (number > own || behind)
}

/// `true` if the batch lies at or before `tip` in its chain. A tip that is not here counts by its number alone.
fn reaches(t: &Tables<'_>, mem: &Mem, at: &Judged, seq: u64, tip: &Tip) -> Result<bool, StoreError> {
    if seq > tip.seq {
        return Ok(false);
    }
    let named = t.find(&tip.hash.0)?.filter(|(n, at)| *at == tip.seq && mem.feeds[*n as usize].id == tip.feed);
    Ok(named.is_none_or(|(n, _)| is_on_chain(mem, at.chain, seq, n)))
}

/// `true` if batch `seq` of chain `own` lies on the way to the end of chain `other`.
fn is_on_chain(mem: &Mem, own: u32, seq: u64, other: u32) -> bool {
    let mut chain = other;
    while seq < mem.feeds[chain as usize].base {
        match mem.feeds[chain as usize].parent {
            Some((parent, _)) => chain = parent,
            None => return false,
        }
    }
    chain == own
}

/// Where members may edit only their own: an author has made a document if one of its creating changes is in its feeds.
fn may_touch_all(t: &Tables<'_>, mem: &Mem, batch: &Batch, at: &Judged) -> Result<bool, StoreError> {
    let free = mem.membership.members_edit_others(&mem.control, &batch.header.control);
    let rights = mem.membership.rights.get(&at.device).into_iter().flatten();
    let governs = rights.filter(|r| mem.control.sees(&batch.header.control, &r.grant)).any(|r| r.role == Role::Coordinator);
    if free || governs {
        return Ok(true);
    }
    let mut made: BTreeSet<DocId> = BTreeSet::new();
    for (item, change) in batch.changes(&batch.actors(&mem.project, &at.device)).unwrap_or_default() {
        if change.deps.is_empty() {
            made.insert(item.doc);
        }
    }
    for item in &batch.header.items {
        if !made.contains(&item.doc) && !has_made(t, mem, &item.doc, &at.device)? {
            return Ok(false);
        }
    }
    Ok(true)
}

pub(crate) fn has_made(t: &Tables<'_>, mem: &Mem, doc: &DocId, device: &DeviceId) -> Result<bool, StoreError> {
    let Some(number) = t.doc_ids.get(&crate::docs::doc_key(DocKind::Observation, doc))?.map(|n| n.value()) else { return Ok(false) };
    let bytes = t.docs.get(number)?.ok_or(StoreError::Damaged("document"))?;
    let row: crate::docs::DocRow = from_bytes(bytes.value(), "document")?;
    for at in row.applied.iter().chain(&row.waiting).filter(|at| mem.feeds[at.feed as usize].device == *device) {
        // What was only vouched for, or does not count any more, is not told apart by what happens to be applied here.
        if is_accepted(t, mem, at)? && read_change(t, mem, at)?.deps.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// In an accepted batch, or open here.
fn is_accepted(t: &Tables<'_>, mem: &Mem, at: &ChangeRef) -> Result<bool, StoreError> {
    let open = at.feed == mem.own_feed && at.seq == mem.feeds[at.feed as usize].seq + 1;
    let stored = t.batches.get(batch_key(at.feed, at.seq))?.map(|b| from_bytes::<BatchRow>(b.value(), "batch")).transpose()?;
    Ok(open || stored.is_some_and(|b| b.verdict == Verdict::Accepted))
}

/// Judges again what was set apart, and all of `devices` (whose rights changed). Documents that lose a batch are made
/// anew from what is left.
pub(crate) fn judge_again(t: &mut Tables<'_>, mem: &mut Mem, devices: &[DeviceId]) -> Result<(), StoreError> {
    let mut keys: Vec<u64> = t.pending.iter()?.map(|r| Ok(r?.0.value())).collect::<Result<_, StoreError>>()?;
    for (n, feed) in devices.iter().flat_map(|d| mem.feeds.of_device(d)) {
        keys.extend((feed.base..=feed.seq).map(|seq| batch_key(n, seq)));
    }
    keys.sort_unstable();
    keys.dedup();
    judge_until_settled(t, mem, &keys)
}

/// Judges again what was set apart of one device's work, of which more counts now: who made what may be clearer.
pub(crate) fn judge_its_pending(t: &mut Tables<'_>, mem: &mut Mem, device: &DeviceId) -> Result<(), StoreError> {
    let mut keys = Vec::new();
    for row in t.pending.iter()? {
        let key = row?.0.value();
        if mem.feeds[(key >> 40) as usize].device == *device {
            keys.push(key);
        }
    }
    judge_until_settled(t, mem, &keys)
}

/// A verdict may rest on another's (an edit counts if its author's making of the document does), and feeds have another order on each
/// device: judged until none changes. What is rested on was made before, so each round settles one more at least.
fn judge_until_settled(t: &mut Tables<'_>, mem: &mut Mem, keys: &[u64]) -> Result<(), StoreError> {
    for _ in 0..=keys.len() {
        let (mut lost, mut dropped, mut changed) = (BTreeSet::new(), BTreeSet::new(), false);
        for key in keys {
            changed |= judge_one(t, mem, *key, &mut lost)?;
        }
        for (kind, doc) in &lost {
            dropped.extend(remake(t, mem, *kind, doc)?);
        }
        for device in dropped {
            apply_again(t, mem, &device, &lost)?;
        }
        if !changed {
            break;
        }
    }
    Ok(())
}

/// A restored copy can put one change into a batch of two feeds, and a document knows it by the one that came first. Where
/// that one no longer counts, the other brings it back.
fn apply_again(t: &mut Tables<'_>, mem: &mut Mem, device: &DeviceId, lost: &BTreeSet<(DocKind, DocId)>) -> Result<(), StoreError> {
    let chains: Vec<(u32, u64, u64)> = mem.feeds.of_device(device).map(|(n, f)| (n, f.base, f.seq)).collect();
    if chains.len() < 2 {
        return Ok(());
    }
    for (chain, base, last) in chains {
        for seq in base..=last {
            let bytes = t.batches.get(batch_key(chain, seq))?.map(|b| from_bytes::<BatchRow>(b.value(), "batch")).transpose()?;
            if bytes.is_none_or(|b| b.verdict != Verdict::Accepted) {
                continue;
            }
            let batch = read_batch(t, mem, chain, seq)?;
            if documents(&batch).any(|d| lost.contains(&d)) {
                let changes = batch.changes(&batch.actors(&mem.project, device)).unwrap_or_default();
                apply_batch(t, mem, chain, seq, changes, None, &mut IngestStats::default())?;
            }
        }
    }
    Ok(())
}

/// `true` if the verdict is another one than before.
fn judge_one(t: &mut Tables<'_>, mem: &mut Mem, key: u64, lost: &mut BTreeSet<(DocKind, DocId)>) -> Result<bool, StoreError> {
    let (chain, seq) = ((key >> 40) as u32, key & 0xff_ffff_ffff);
    let mut row: BatchRow = from_bytes(t.batches.get(key)?.ok_or(StoreError::Damaged("batch"))?.value(), "batch")?;
    let batch = read_batch(t, mem, chain, seq)?;
    let device = mem.feeds[chain as usize].device;
    let changes = batch.changes(&batch.actors(&mem.project, &device)).ok();
    let at = Judged { chain, device, reads: changes.is_some() };
    let before = std::mem::replace(&mut row.verdict, judge(t, mem, &batch, &at)?);
    if before == row.verdict {
        return Ok(false);
    }
    t.batches.insert(key, &to_bytes(&row)[..])?;
    let changes = changes.unwrap_or_default();
    if before == Verdict::Quarantined {
        for (item, change) in &changes {
            t.apart.remove(&apart_key(&item.doc, &change.hash))?;
        }
        // What an accepted change had vouched for comes back by itself if it still does.
        lost.extend(documents(&batch));
    }
    if row.verdict == Verdict::Accepted {
        t.pending.remove(key)?;
        apply_batch(t, mem, chain, seq, changes, None, &mut IngestStats::default())?;
        return Ok(true);
    }
    t.pending.insert(key, ())?;
    if row.verdict == Verdict::Quarantined {
        set_apart(t, mem, chain, seq, &changes)?;
    }
    if before == Verdict::Accepted {
        lost.extend(documents(&batch));
    }
    Ok(true)
}

fn documents(batch: &Batch) -> impl Iterator<Item = (DocKind, DocId)> {
    batch.header.items.iter().filter_map(|i| Some((i.doc_kind()?, i.doc)))
}

fn apart_key(doc: &DocId, change: &ChangeHash) -> [u8; 48] {
    let mut key = [0; 48];
    key[..16].copy_from_slice(&doc.0);
    key[16..].copy_from_slice(&change.0);
    key
}

/// Lists the changes of a quarantined batch, so that accepted work that builds on one can bring it in.
pub(crate) fn set_apart(t: &mut Tables<'_>, mem: &mut Mem, chain: u32, seq: u64, changes: &[(Item, Change)]) -> Result<(), StoreError> {
    for (index, (item, change)) in changes.iter().enumerate() {
        let at = ChangeRef::new(change, chain, seq, index);
        t.apart.insert(&apart_key(&item.doc, &change.hash), &to_bytes(&at)[..])?;
    }
    for (kind, doc) in changes.iter().filter_map(|(i, _)| Some((i.doc_kind()?, i.doc))) {
        // Accepted work there may build on it.
        if t.doc_ids.get(&crate::docs::doc_key(kind, &doc))?.is_some() {
            mem.unsettled.insert(crate::docs::doc_key(kind, &doc));
        }
    }
    Ok(())
}

/// Finds from all changes of a row what is applied, with what these vouch for.
pub(crate) fn settle_row(t: &Tables<'_>, mem: &Mem, row: &mut crate::docs::DocRow) -> Result<(), StoreError> {
    let aside = crate::aside::of(t, mem, &row.id)?;
    let all = read_all(t, mem, &mut ChangeReader::default(), row.applied.iter().chain(&row.waiting))?;
    rebuild(row, all, &aside);
    vouch_but(t, mem, row, &aside)
}

fn read_all<'a>(
    t: &Tables<'_>,
    mem: &Mem,
    reader: &mut ChangeReader,
    refs: impl Iterator<Item = &'a ChangeRef>,
) -> Result<Vec<(ChangeRef, Change)>, StoreError> {
    refs.map(|at| Ok((*at, reader.read(t, mem, at)?))).collect()
}

/// Brings in what accepted changes of a document depend on and what is in quarantine: their author had merged it before
/// hearing of the removal, and its work must not be lost with it. The least set that closes the gap, so alike everywhere. Changes
/// that are set `aside` vouch for nothing.
pub(crate) fn vouch_but(t: &Tables<'_>, mem: &Mem, row: &mut crate::docs::DocRow, aside: &BTreeSet<ChangeHash>) -> Result<(), StoreError> {
    let mut reader = ChangeReader::default();
    // What was brought in may be what the next one waited for: its own dependencies are looked up at once.
    while !row.waiting.is_empty() {
        let mut known: HashSet<ChangeHash> = row.applied.iter().chain(&row.waiting).map(|at| at.hash).collect();
        let mut asking: Vec<ChangeRef> = row.waiting.iter().filter(|at| !aside.contains(&at.hash)).copied().collect();
        let mut found = Vec::new();
        while let Some(at) = asking.pop() {
            for dep in reader.read(t, mem, &at)?.deps {
                if known.contains(&dep) {
                    continue;
                }
                if let Some(bytes) = t.apart.get(&apart_key(&row.id, &dep))? {
                    let at: ChangeRef = from_bytes(bytes.value(), "set apart")?;
                    known.insert(dep);
                    found.push(at);
                    if !aside.contains(&dep) {
                        asking.push(at);
                    }
                }
            }
        }
        if found.is_empty() {
            break;
        }
        let refs: Vec<ChangeRef> = row.applied.iter().chain(&row.waiting).chain(&found).copied().collect();
        let all = read_all(t, mem, &mut reader, refs.iter())?;
        rebuild(row, all, aside);
    }
    Ok(())
}

/// Makes a document from those of its changes whose batches are accepted now, and what they vouch for. Gives the authors of
/// the others.
fn remake(t: &mut Tables<'_>, mem: &mut Mem, kind: DocKind, doc: &DocId) -> Result<BTreeSet<DeviceId>, StoreError> {
    let mut taken = take(t, mem, kind, doc)?;
    let (mut kept, mut dropped) = (Vec::new(), BTreeSet::new());
    let mut reader = ChangeReader::default();
    for at in taken.row.applied.iter().chain(&taken.row.waiting) {
        if is_accepted(t, mem, at)? {
            kept.push((*at, reader.read(t, mem, at)?));
        } else {
            dropped.insert(mem.feeds[at.feed as usize].device);
        }
    }
    let aside = crate::aside::of(t, mem, doc)?;
    rebuild(&mut taken.row, kept, &aside);
    vouch_but(t, mem, &mut taken.row, &aside)?;
    put_back(t, mem, &taken)?;
    Ok(dropped)
}

/// One batch that is held and does not count.
#[derive(Clone, Debug, PartialEq)]
pub struct SetApart {
    /// Its feed.
    pub feed: FeedRow,
    /// Its number.
    pub seq: u64,
    /// Its name.
    pub hash: BatchHash,
    /// Why it does not count.
    pub verdict: Verdict,
    /// Changes in it.
    pub changes: u32,
    /// Of those, changes that accepted work builds on and that count with it.
    pub vouched: u32,
    /// By its author's clock, milliseconds.
    pub time_ms: i64,
    /// Observations it touches.
    pub observations: Vec<DocId>,
}

impl Store {
    /// Batches held but set apart.
    pub fn set_apart(&self) -> Result<Vec<SetApart>, StoreError> {
        let v = self.view()?;
        let mut out = Vec::new();
        for row in v.pending.iter()? {
            let key = row?.0.value();
            let (chain, seq) = ((key >> 40) as u32, key & 0xff_ffff_ffff);
            let row: BatchRow = from_bytes(v.batches.get(key)?.ok_or(StoreError::Damaged("batch"))?.value(), "batch")?;
            let batch = read_batch(&v, &self.mem, chain, seq)?;
            let mut vouched = 0;
            let mut observations: Vec<DocId> = Vec::new();
            for item in batch.header.items.iter().filter(|i| i.doc_kind() == Some(DocKind::Observation)) {
                observations.push(item.doc);
                let here = self
                    .doc_row(DocKind::Observation, &item.doc)?
                    .map_or(0, |d| d.applied.iter().filter(|r| (r.feed, r.seq) == (chain, seq)).count());
                vouched += here as u32;
            }
            observations.sort_unstable();
            observations.dedup();
            out.push(SetApart {
                feed: self.mem.feeds[chain as usize].clone(),
                seq,
                hash: batch.hash,
                verdict: row.verdict,
                changes: row.changes,
                vouched,
                time_ms: batch.header.wall_ms,
                observations,
            });
        }
        Ok(out)
    }

    /// How many batches are quarantined, and how many wait.
    pub fn set_apart_counts(&self) -> Result<(u64, u64), StoreError> {
        let v = self.view()?;
        let (mut quarantined, mut waiting) = (0, 0);
        for row in v.pending.iter()? {
            let bytes = v.batches.get(row?.0.value())?.ok_or(StoreError::Damaged("batch"))?;
            match from_bytes::<BatchRow>(bytes.value(), "batch")?.verdict {
                Verdict::Waiting => waiting += 1,
                _ => quarantined += 1,
            }
        }
        Ok((quarantined, waiting))
    }

    /// Authors whose batches wait because they work with another configuration, and whether it is this device that is behind.
    pub fn gated(&self) -> Result<Option<(DeviceId, bool)>, StoreError> {
        let v = self.view()?;
        for row in v.pending.iter()? {
            let key = row?.0.value();
            let row: BatchRow = from_bytes(v.batches.get(key)?.ok_or(StoreError::Damaged("batch"))?.value(), "batch")?;
            if row.verdict != Verdict::Waiting {
                continue;
            }
            let batch = read_batch(&v, &self.mem, (key >> 40) as u32, key & 0xff_ffff_ffff)?;
            let author = self.mem.feeds[(key >> 40) as usize].device;
            if batch.header.control.iter().all(|c| self.mem.control.contains(c)) && is_gated(&self.mem, &batch, &author) {
                return Ok(Some((author, self.lineage().ok() != self.mem.membership.lineage())));
            }
        }
        Ok(None)
    }
}
