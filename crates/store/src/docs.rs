//! Document rows: the merged state, where each change is stored, and the indexes made from it.

use crate::feeds::batch_key;
use crate::local::OpenChange;
use crate::mem::Mem;
use crate::tables::{Tables, View, from_bytes, to_bytes};
use crate::{Store, StoreError};
use cairn_model::{ApplyError, Change, ChangeHash, DeviceId, DocId, DocKey, DocKind, DocState, Observation, OpId, StateBuilder, Value};
use cairn_trust::{Batch, EpochKey, chunk_kind, open};
use redb::ReadableTable;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Where one change of a document is stored: in the chunk of a batch, or in the open batch (the next of our own feed).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ChangeRef {
    pub hash: ChangeHash,
    pub feed: u32,
    pub seq: u64,
    pub index: u16,
    /// Highest operation counter of the change.
    pub max_op: u32,
}

impl ChangeRef {
    pub fn new(change: &Change, feed: u32, seq: u64, index: usize) -> Self {
        let max_op = u32::try_from(change.max_op()).unwrap_or(u32::MAX);
        Self { hash: change.hash, feed, seq, index: index as u16, max_op }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct DocRow {
    pub kind: DocKind,
    pub id: DocId,
    pub applied: Vec<ChangeRef>,
    /// Changes that are here and not applied: their dependencies are missing, or they break a rule. They hold back only
    /// this document.
    pub waiting: Vec<ChangeRef>,
    /// The creating change with the lowest hash, and its author's feed: alike on all devices.
    pub creator: Option<(ChangeHash, u32)>,
    pub state: DocState,
}

impl DocRow {
    pub fn new(kind: DocKind, id: DocId) -> Self {
        Self { kind, id, applied: Vec::new(), waiting: Vec::new(), creator: None, state: DocState::default() }
    }

    pub(crate) fn knows(&self, hash: &ChangeHash) -> bool {
        self.applied.iter().chain(&self.waiting).any(|r| r.hash == *hash)
    }

    /// Applies a change all of whose dependencies are applied. `false` if it has to wait.
    pub(crate) fn apply(&mut self, change: &Change, at: ChangeRef) -> bool {
        let mut top = 0;
        for dep in &change.deps {
            let Some(known) = self.applied.iter().find(|r| r.hash == *dep) else { return false };
            top = top.max(known.max_op);
        }
        // An honest author counts on from all it has seen; a leap to the end would leave nobody a number for the next edit.
        if change.start_op != u64::from(top) + 1 || self.state.apply(change).is_err() {
            return false;
        }
        if change.deps.is_empty() && self.creator.is_none_or(|(hash, _)| change.hash < hash) {
            self.creator = Some((change.hash, at.feed));
        }
        self.applied.push(at);
        true
    }
}

/// What a change did to an observation, for the report of a sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SyncEffect {
    /// Not there before.
    New = 1,
    /// Other values than before.
    Changed = 2,
    /// Shown before, deleted now.
    Deleted = 3,
}

impl SyncEffect {
    pub(crate) fn from_number(n: u8) -> Self {
        match n {
            1 => SyncEffect::New,
            3 => SyncEffect::Deleted,
            _ => SyncEffect::Changed,
        }
    }
}

#[derive(Clone, PartialEq)]
struct IndexKeys {
    time: [u8; 20],
    category: String,
    place: Option<u64>,
    deleted: bool,
    conflict: bool,
    /// As the document writes it.
    dataset: Option<String>,
}

fn index_keys(row: &DocRow, number: u32) -> Option<IndexKeys> {
    if row.kind != DocKind::Observation || row.state.is_empty() {
        return None;
    }
    let seen = Observation::read(&row.state);
    let mut time = [0; 20];
    time[..8].copy_from_slice(&time_key(seen.unix_ms()));
    time[8..16].copy_from_slice(&row.id.0[..8]);
    time[16..].copy_from_slice(&number.to_be_bytes());
    // A deletion with another head beside it may have been made without seeing an edit: the reader looks closer.
    let unseen_edit = seen.deleted && row.state.heads().len() > 1;
    Some(IndexKeys {
        time,
        category: seen.category,
        place: seen.place.map(|p| p.morton()),
        deleted: seen.deleted,
        conflict: !seen.purged && (row.state.has_conflicts() || unseen_edit),
        dataset: seen.dataset.map(|d| d.encode()),
    })
}

/// Sorts newest first; observations without a time come last.
pub(crate) fn time_key(unix_ms: Option<i64>) -> [u8; 8] {
    let ordered = (unix_ms.unwrap_or(i64::MIN) as u64) ^ (1 << 63);
    (!ordered).to_be_bytes()
}

pub(crate) fn doc_key(kind: DocKind, id: &DocId) -> [u8; 17] {
    let mut key = [0; 17];
    key[0] = kind as u8;
    key[1..].copy_from_slice(&id.0);
    key
}

/// A row as it was taken out to be changed.
pub(crate) struct Taken {
    pub number: u32,
    pub row: DocRow,
    before: Option<IndexKeys>,
    is_new: bool,
}

pub(crate) fn take(t: &Tables<'_>, mem: &mut Mem, kind: DocKind, id: &DocId) -> Result<Taken, StoreError> {
    let key = doc_key(kind, id);
    if let Some(number) = t.doc_ids.get(&key)?.map(|n| n.value()) {
        let bytes = t.docs.get(number)?.ok_or(StoreError::Damaged("document"))?;
        let row: DocRow = from_bytes(bytes.value(), "document")?;
        let before = index_keys(&row, number);
        return Ok(Taken { number, row, before, is_new: false });
    }
    let number = mem.next_doc;
    mem.next_doc += 1;
    Ok(Taken { number, row: DocRow::new(kind, *id), before: None, is_new: true })
}

impl Taken {
    /// Whether people saw it, or saw it deleted, before: `None` if there was nothing.
    pub fn was_shown(&self) -> Option<bool> {
        self.before.as_ref().map(|keys| !keys.deleted)
    }
}

/// Writes a row back and moves its index entries. Tells what people would see happen.
pub(crate) fn put_back(t: &mut Tables<'_>, mem: &mut Mem, taken: &Taken) -> Result<Option<SyncEffect>, StoreError> {
    let Taken { number, row, before, is_new } = taken;
    if *is_new {
        t.doc_ids.insert(&doc_key(row.kind, &row.id), *number)?;
    }
    t.docs.insert(*number, &to_bytes(row)[..])?;
    let after = index_keys(row, *number);
    if *before != after {
        if let Some(old) = before {
            unindex(t, mem, *number, old)?;
        }
        if let Some(new) = &after {
            index(t, mem, *number, new)?;
        }
    }
    Ok(match (before, after) {
        (None, Some(new)) if !new.deleted => Some(SyncEffect::New),
        (Some(old), Some(new)) if !old.deleted && new.deleted => Some(SyncEffect::Deleted),
        (Some(old), Some(new)) if old.deleted && !new.deleted => Some(SyncEffect::New),
        (Some(_), Some(new)) if !new.deleted => Some(SyncEffect::Changed),
        _ => None,
    })
}

fn category_key(number: u32, time: &[u8; 20]) -> [u8; 24] {
    let mut key = [0; 24];
    key[..4].copy_from_slice(&number.to_be_bytes());
    key[4..].copy_from_slice(time);
    key
}

fn place_key(morton: u64, number: u32) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&morton.to_be_bytes());
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

pub(crate) fn dataset_key(set: u32, number: u32) -> u64 {
    u64::from(set) << 32 | u64::from(number)
}

fn index(t: &mut Tables<'_>, mem: &mut Mem, number: u32, keys: &IndexKeys) -> Result<(), StoreError> {
    if keys.conflict {
        t.conflicts.insert(number, ())?;
    }
    if let Some(dataset) = &keys.dataset {
        let set = mem.dataset_number(t, dataset)?;
        t.by_dataset.insert(dataset_key(set, number), ())?;
    }
    if keys.deleted {
        t.deleted.insert(&keys.time, ())?;
        return Ok(());
    }
    t.by_time.insert(&keys.time, ())?;
    let category = mem.category_number(t, &keys.category)?;
    t.by_category.insert(&category_key(category, &keys.time), ())?;
    if let Some(morton) = keys.place {
        t.by_place.insert(&place_key(morton, number), ())?;
    }
    Ok(())
}

fn unindex(t: &mut Tables<'_>, mem: &mut Mem, number: u32, keys: &IndexKeys) -> Result<(), StoreError> {
    if keys.conflict {
        t.conflicts.remove(number)?;
    }
    if let Some(dataset) = &keys.dataset {
        let set = mem.dataset_number(t, dataset)?;
        t.by_dataset.remove(dataset_key(set, number))?;
    }
    if keys.deleted {
        t.deleted.remove(&keys.time)?;
        return Ok(());
    }
    t.by_time.remove(&keys.time)?;
    let category = mem.category_number(t, &keys.category)?;
    t.by_category.remove(&category_key(category, &keys.time))?;
    if let Some(morton) = keys.place {
        t.by_place.remove(&place_key(morton, number))?;
    }
    Ok(())
}

/// Adds one change to a row. A change that is here is a no-op. One that cannot be applied at once waits, and the document is settled
/// at the end of the transaction: whatever came together is looked at once.
pub(crate) fn apply_change(t: &Tables<'_>, mem: &mut Mem, row: &mut DocRow, change: &Change, at: ChangeRef) -> Result<(), StoreError> {
    if row.knows(&change.hash) {
        return Ok(());
    }
    let simple = row.waiting.is_empty() && !row.state.is_full() && !crate::aside::of(t, mem, &row.id)?.contains(&change.hash);
    if !(simple && row.apply(change, at)) {
        row.waiting.push(at);
        mem.unsettled.insert(doc_key(row.kind, &row.id));
    }
    Ok(())
}

/// Documents whose changes came in another way than one after the other: what is applied of each is found from all its changes, and
/// what it vouches for is brought in. `found` hears what people would see happen.
pub(crate) fn settle(
    t: &mut Tables<'_>,
    mem: &mut Mem,
    found: &mut dyn FnMut(&mut Tables<'_>, &Taken, SyncEffect) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    while let Some(key) = mem.unsettled.pop_first() {
        let Some((kind, id)) = doc_of(&key) else { continue };
        let mut taken = take(t, mem, kind, &id)?;
        if taken.row.waiting.is_empty() {
            continue;
        }
        match crate::judge::settle_row(t, mem, &mut taken.row) {
            // What the disk no longer gives holds back this document alone; `check` names it.
            Err(StoreError::Damaged(_)) => {}
            done => done?,
        }
        if let Some(effect) = put_back(t, mem, &taken)? {
            found(t, &taken, effect)?;
        }
    }
    Ok(())
}

fn doc_of(key: &[u8; 17]) -> Option<(DocKind, DocId)> {
    let mut id = [0; 16];
    id.copy_from_slice(&key[1..]);
    [DocKind::Observation, DocKind::Configuration].into_iter().find(|kind| *kind as u8 == key[0]).map(|kind| (kind, DocId(id)))
}

/// Makes a row anew from a set of changes. What is applied is a function of the set alone: of several changes under one
/// number of one actor (a machine was copied while it ran, or its owner cheats) the one with the lowest hash counts. What is set
/// `aside` waits, and so does what builds on it; but never what takes content away, nor what that has seen: it would be shown again.
/// Changes are applied in the order (first counter, hash), which decides whose actors have room in a document that has too many.
pub(crate) fn rebuild(row: &mut DocRow, mut all: Vec<(ChangeRef, Change)>, aside: &BTreeSet<ChangeHash>) {
    *row = DocRow::new(row.kind, row.id);
    let purged = if aside.is_empty() { BTreeSet::new() } else { seen_by_purges(&all) };
    all.sort_by_key(|(at, change)| (change.actor, change.seq, at.hash));
    let mut last = None;
    let mut making = Making::default();
    for (at, change) in all {
        let taken = last.replace((change.actor, change.seq)) == Some((change.actor, change.seq));
        if taken || (aside.contains(&at.hash) && !purged.contains(&at.hash)) {
            row.waiting.push(at);
        } else {
            making.ready.insert((change.start_op, at.hash), (at, change));
        }
    }
    making.run(row);
    row.waiting.sort_by_key(|at| at.hash);
}

/// A document being made from many changes. Each is looked at again only when what it waited for was applied.
#[derive(Default)]
struct Making {
    state: StateBuilder,
    ready: BTreeMap<(u64, ChangeHash), (ChangeRef, Change)>,
    /// Highest operation counter of each applied change.
    applied: HashMap<ChangeHash, u32>,
    blocked: HashMap<Missing, Vec<(ChangeRef, Change)>>,
}

/// What a change waits for.
#[derive(PartialEq, Eq, Hash)]
enum Missing {
    Change(ChangeHash),
    /// The change of an actor with this number.
    Number(cairn_model::ActorId, u64),
}

impl Making {
    fn run(mut self, row: &mut DocRow) {
        while let Some((_, (at, change))) = self.ready.pop_first() {
            if let Some(missing) = change.deps.iter().find(|dep| !self.applied.contains_key(dep)) {
                self.blocked.entry(Missing::Change(*missing)).or_default().push((at, change));
                continue;
            }
            let top = change.deps.iter().filter_map(|dep| self.applied.get(dep)).max().copied().unwrap_or(0);
            // An honest author counts on from all it has seen; a leap to the end would leave nobody a number for the next edit.
            if change.start_op != u64::from(top) + 1 {
                row.waiting.push(at);
                continue;
            }
            match self.state.apply(&change) {
                Ok(()) => self.applied(row, at, &change),
                Err(ApplyError::Sequence { seq, last }) if seq > last => {
                    self.blocked.entry(Missing::Number(change.actor, seq - 1)).or_default().push((at, change));
                }
                Err(_) => row.waiting.push(at),
            }
        }
        row.waiting.extend(self.blocked.into_values().flatten().map(|(at, _)| at));
        row.state = self.state.finish();
    }

    fn applied(&mut self, row: &mut DocRow, at: ChangeRef, change: &Change) {
        if change.deps.is_empty() && row.creator.is_none_or(|(hash, _)| change.hash < hash) {
            row.creator = Some((change.hash, at.feed));
        }
        row.applied.push(at);
        self.applied.insert(change.hash, at.max_op);
        for key in [Missing::Change(change.hash), Missing::Number(change.actor, change.seq)] {
            let freed = self.blocked.remove(&key).into_iter().flatten();
            self.ready.extend(freed.map(|(at, change)| ((change.start_op, at.hash), (at, change))));
        }
    }
}

/// Takes all content away.
pub(crate) fn purges(change: &Change) -> bool {
    let key = DocKey::Purged.encode();
    change.ops.iter().any(|op| op.key.as_deref() == Some(&*key))
}

/// Changes that purge, with all that they have seen.
fn seen_by_purges(all: &[(ChangeRef, Change)]) -> BTreeSet<ChangeHash> {
    let mut left: Vec<ChangeHash> = all.iter().filter(|(_, change)| purges(change)).map(|(at, _)| at.hash).collect();
    if left.is_empty() {
        return BTreeSet::new();
    }
    let by_hash: HashMap<ChangeHash, &Change> = all.iter().map(|(at, change)| (at.hash, change)).collect();
    let mut out = BTreeSet::new();
    while let Some(hash) = left.pop() {
        if out.insert(hash) {
            left.extend(by_hash.get(&hash).iter().flat_map(|change| change.deps.iter().copied()));
        }
    }
    out
}

/// Gives the stored bytes of one chunk or open change, and what is set aside, from a write or a read transaction alike.
pub(crate) trait Stored {
    fn chunk(&self, key: u64) -> Result<Option<Vec<u8>>, StoreError>;
    /// Changes of a document that are set aside.
    fn aside(&self, doc: &DocId) -> Result<BTreeSet<ChangeHash>, StoreError>;
}

impl Stored for Tables<'_> {
    fn chunk(&self, key: u64) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.chunks.get(key)?.map(|c| c.value().to_vec()))
    }

    fn aside(&self, doc: &DocId) -> Result<BTreeSet<ChangeHash>, StoreError> {
        crate::aside::hashes(&self.aside, doc)
    }
}

impl Stored for View {
    fn chunk(&self, key: u64) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.chunks.get(key)?.map(|c| c.value().to_vec()))
    }

    fn aside(&self, doc: &DocId) -> Result<BTreeSet<ChangeHash>, StoreError> {
        crate::aside::hashes(&self.aside, doc)
    }
}

pub(crate) fn read_change(t: &impl Stored, mem: &Mem, at: &ChangeRef) -> Result<Change, StoreError> {
    if at.feed == mem.own_feed && at.seq == mem.feeds[at.feed as usize].seq + 1 {
        let open: &OpenChange = mem.open.changes.get(usize::from(at.index)).ok_or(StoreError::Damaged("open change"))?;
        return Change::parse(&open.bytes).map_err(|_| StoreError::Damaged("open change"));
    }
    let batch = read_batch(t, mem, at.feed, at.seq)?;
    let mut rest = batch.payload.as_deref().unwrap_or_default();
    for _ in 0..at.index {
        let (len, _) = Change::frame_len(rest).map_err(|_| StoreError::Damaged("payload"))?;
        rest = &rest[len..];
    }
    Ok(Change::parse_first(rest).map_err(|_| StoreError::Damaged("payload"))?.0)
}

pub(crate) fn read_batch(t: &impl Stored, mem: &Mem, feed: u32, seq: u64) -> Result<Batch, StoreError> {
    let chunk = t.chunk(batch_key(feed, seq))?.ok_or(StoreError::Damaged("chunk"))?;
    let (_, epoch) = chunk_kind(&chunk).map_err(|_| StoreError::Damaged("chunk"))?;
    let key: &EpochKey = mem.epochs.get(&epoch).ok_or(StoreError::Damaged("epoch"))?;
    let body = open(&mem.project, key, &chunk).map_err(|_| StoreError::Damaged("chunk"))?;
    Batch::decode(&mem.project, &body).map_err(|_| StoreError::Damaged("batch"))
}

/// An observation with what is known about it.
#[derive(Clone, Debug, PartialEq)]
pub struct DocView {
    /// Its id.
    pub id: DocId,
    /// What is shown.
    pub seen: Observation,
    /// Concurrent values people may settle.
    pub conflicts: Vec<ConflictEntry>,
    /// Who created it.
    pub created_by: Option<DeviceId>,
    /// Names the state: equal versions, equal content.
    pub version: String,
}

/// Names a state by its heads: alike on all devices.
pub(crate) fn version_name(heads: &[ChangeHash]) -> String {
    let mut version = blake3::Hasher::new();
    for head in heads {
        version.update(&head.0);
    }
    cairn_model::hex(&version.finalize().as_bytes()[..16])
}

/// One key with several values.
#[derive(Clone, Debug, PartialEq)]
pub struct ConflictEntry {
    /// The observation.
    pub id: DocId,
    /// The key as people name it.
    pub key: String,
    /// And as it is.
    pub doc_key: DocKey,
    /// Shown value first.
    pub values: Vec<ConflictValue>,
}

/// One of several concurrent values.
#[derive(Clone, Debug, PartialEq)]
pub struct ConflictValue {
    /// `None` for "edited elsewhere" beside a deletion.
    pub value: Option<Value>,
    /// Who set it.
    pub device: Option<DeviceId>,
    /// By that device's clock, milliseconds.
    pub time_ms: i64,
}

impl Store {
    pub(crate) fn doc_row(&self, kind: DocKind, id: &DocId) -> Result<Option<DocRow>, StoreError> {
        let v = self.view()?;
        let Some(number) = v.doc_ids.get(&doc_key(kind, id))?.map(|n| n.value()) else { return Ok(None) };
        let bytes = v.docs.get(number)?.ok_or(StoreError::Damaged("document"))?;
        Ok(Some(from_bytes(bytes.value(), "document")?))
    }

    /// One observation, deleted or not; `None` if it is not here.
    pub fn observation(&self, id: &DocId) -> Result<Option<DocView>, StoreError> {
        let v = self.view()?;
        let row = self.doc_row(DocKind::Observation, id)?;
        row.filter(|r| !r.state.is_empty()).map(|r| self.doc_view(&v, &r)).transpose()
    }

    pub(crate) fn doc_view(&self, v: &View, row: &DocRow) -> Result<DocView, StoreError> {
        let seen = Observation::read(&row.state);
        let contested = !seen.purged && (row.state.has_conflicts() || (seen.deleted && row.state.heads().len() > 1));
        let conflicts = if contested { self.conflict_entries(v, row, &seen)? } else { Vec::new() };
        Ok(DocView {
            id: row.id,
            conflicts,
            created_by: row.creator.map(|(_, feed)| self.mem.feeds[feed as usize].device),
            version: version_name(row.state.heads()),
            seen,
        })
    }

    fn conflict_entries(&self, v: &View, row: &DocRow, seen: &Observation) -> Result<Vec<ConflictEntry>, StoreError> {
        let changes = self.changes_of(v, row)?;
        let author = |op: &OpId| changes.iter().find(|(c, _)| c.actor == op.actor && (c.start_op..=c.max_op()).contains(&op.counter));
        let mut out = Vec::new();
        for (key, values) in row.state.keys() {
            if values.iter().all(|(_, value)| *value == values[0].1) || DocKey::is_provenance(key) {
                continue;
            }
            let values = values.iter().map(|(op, value)| ConflictValue {
                value: Some((*value).clone()),
                device: author(op).map(|(_, device)| *device),
                time_ms: author(op).map_or(0, |(c, _)| c.time_ms),
            });
            let doc_key = DocKey::decode(key);
            out.push(ConflictEntry { id: row.id, key: doc_key.label(), doc_key, values: values.collect() });
        }
        if seen.deleted {
            out.extend(unseen_edits(row, &changes));
        }
        Ok(out)
    }

    /// Every applied change with its author, oldest first as applied here.
    pub(crate) fn changes_of(&self, v: &View, row: &DocRow) -> Result<Vec<(Change, DeviceId)>, StoreError> {
        let feeds = &self.mem.feeds;
        row.applied.iter().map(|at| Ok((read_change(v, &self.mem, at)?, feeds[at.feed as usize].device))).collect()
    }

    /// Every key of an observation with all its concurrent values, the shown one first.
    pub fn values_of(&self, id: &DocId) -> Result<Vec<(String, Vec<Value>)>, StoreError> {
        let row = self.doc_row(DocKind::Observation, id)?;
        let keys = row.iter().flat_map(|r| r.state.keys());
        Ok(keys.map(|(key, values)| (key.to_owned(), values.into_iter().map(|(_, v)| v.clone()).collect())).collect())
    }

    /// Every observation with something to settle, in the order of `list`.
    pub fn conflicts(&self) -> Result<Vec<ConflictEntry>, StoreError> {
        let v = self.view()?;
        let mut out = Vec::new();
        for row in v.conflicts.iter()? {
            let number = row?.0.value();
            let bytes = v.docs.get(number)?.ok_or(StoreError::Damaged("document"))?;
            out.extend(self.doc_view(&v, &from_bytes(bytes.value(), "document")?)?.conflicts);
        }
        out.sort_by(|a, b| (a.id, &a.key).cmp(&(b.id, &b.key)));
        Ok(out)
    }
}

/// "Deleted here, edited there": heads that have not seen the winning deletion.
fn unseen_edits(row: &DocRow, changes: &[(Change, DeviceId)]) -> Option<ConflictEntry> {
    let key = DocKey::Deleted.encode();
    let (op, value) = row.state.values(&key).into_iter().next()?;
    let (deletion, deleter) = changes.iter().find(|(c, _)| c.actor == op.actor && (c.start_op..=c.max_op()).contains(&op.counter))?;
    // Who deleted it too, not knowing of the other, has nothing to settle: nor has what saw either.
    let wrote = |op: &OpId| changes.iter().find(|(c, _)| c.actor == op.actor && (c.start_op..=c.max_op()).contains(&op.counter));
    let mut saw: Vec<ChangeHash> = row.state.values(&key).iter().filter_map(|(op, _)| wrote(op)).map(|(c, _)| c.hash).collect();
    // Changes are applied parents first, so one pass finds every descendant.
    for (change, _) in changes {
        if change.deps.iter().any(|d| saw.contains(d)) {
            saw.push(change.hash);
        }
    }
    let edits: Vec<_> = changes.iter().filter(|(c, _)| row.state.heads().contains(&c.hash) && !saw.contains(&c.hash)).collect();
    if edits.is_empty() {
        return None;
    }
    let mut values = vec![ConflictValue { value: Some(value.clone()), device: Some(*deleter), time_ms: deletion.time_ms }];
    let mut unseen: Vec<_> =
        edits.iter().map(|(c, device)| (c.hash, ConflictValue { value: None, device: Some(*device), time_ms: c.time_ms })).collect();
    unseen.sort_by_key(|(hash, _)| *hash);
    values.extend(unseen.into_iter().map(|(_, v)| v));
    Some(ConflictEntry { id: row.id, key, doc_key: DocKey::Deleted, values })
}
