//! Undo of a sync: a local view. What the sync brought and nothing kept builds on is held, forwarded and counted as before, and
//! not shown; redo shows it again. Control operations and configurations are never set aside.

use crate::docs::{ChangeRef, DocRow, Stored, purges, put_back, read_change, rebuild, take};
use crate::feeds::batch_key;
use crate::mem::Mem;
use crate::reader::{ChangeReader, changes_in};
use crate::tables::{Tables, from_bytes};
use crate::{Store, StoreError, SyncEffect};
use cairn_model::{Change, ChangeHash, DocId, DocKind, Observation};
use redb::ReadableTable;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What is remembered of a sync.
#[derive(Serialize, Deserialize)]
pub(crate) struct SyncNote {
    pub at_ms: i64,
    pub with: Vec<String>,
}

/// One sync that took place here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PastSync {
    /// Its number.
    pub number: u32,
    /// When it ended, by this device's clock, milliseconds; `None` where it was cut off.
    pub at_ms: Option<i64>,
    /// What it was with: devices, files, relays.
    pub with: Vec<String>,
    /// Batches it brought.
    pub batches: u64,
    /// Observations it brought, changed and deleted.
    pub new: u64,
    /// See `new`.
    pub changed: u64,
    /// See `new`.
    pub deleted: u64,
    /// Changes of it that are set aside now.
    pub set_aside: u64,
}

/// What an undo or redo did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Aside {
    /// Changes set aside, or brought back.
    pub changes: u64,
    /// Changes of the sync that stay, because kept work builds on them.
    pub kept: u64,
    /// Observations shown before and not now.
    pub hidden: u64,
    /// Observations shown now and not before.
    pub shown: u64,
    /// Observations shown before and now, with other content.
    pub changed: u64,
}

pub(crate) fn hashes(table: &impl ReadableTable<&'static [u8; 48], u32>, doc: &DocId) -> Result<BTreeSet<ChangeHash>, StoreError> {
    let mut out = BTreeSet::new();
    for row in table.range::<&[u8; 48]>(&key(doc, &ChangeHash([0; 32]))..=&key(doc, &ChangeHash([0xff; 32])))? {
        let mut hash = [0; 32];
        hash.copy_from_slice(&row?.0.value()[16..]);
        out.insert(ChangeHash(hash));
    }
    Ok(out)
}

/// Changes of a document that are set aside. Costs nothing where nothing is.
pub(crate) fn of(t: &impl Stored, mem: &Mem, doc: &DocId) -> Result<BTreeSet<ChangeHash>, StoreError> {
    if mem.aside == 0 { Ok(BTreeSet::new()) } else { t.aside(doc) }
}

fn key(doc: &DocId, hash: &ChangeHash) -> [u8; 48] {
    let mut key = [0; 48];
    key[..16].copy_from_slice(&doc.0);
    key[16..].copy_from_slice(&hash.0);
    key
}

/// What is done with an observation that a sync touched.
type Act<'a> = fn(&mut Run<'a>, &mut Tables<'_>, &mut Mem, &mut DocRow) -> Result<(), StoreError>;

/// One undo or redo on its way.
struct Run<'a> {
    sync: u32,
    /// Batches the sync brought.
    batches: &'a BTreeSet<u64>,
    reader: ChangeReader,
    done: Aside,
}

impl<'a> Run<'a> {
    /// Every observation the sync touched, once, with the first of its batches that does.
    fn each(&mut self, t: &mut Tables<'_>, mem: &mut Mem, act: Act<'a>) -> Result<(), StoreError> {
        for key in self.batches {
            let (chain, seq) = ((*key >> 40) as u32, *key & 0xff_ffff_ffff);
            let mut docs: Vec<DocId> = Vec::new();
            // What cannot be read any more cannot be shown either: the rest of the sync goes on without it.
            let Some(changes) = readable(changes_in(t, mem, chain, seq))? else { continue };
            let apart = t.pending.get(*key)?.is_some();
            for (of, change) in changes {
                let Some((DocKind::Observation, doc)) = of else { continue };
                let known = t.doc_ids.get(&crate::docs::doc_key(DocKind::Observation, &doc))?.is_some();
                // A batch that does not count yet may count later.
                if !known || (apart && !take(t, mem, DocKind::Observation, &doc)?.row.knows(&change.hash)) {
                    self.note(t, mem, &doc, &change.hash)?;
                }
                if known && docs.last() != Some(&doc) {
                    docs.push(doc);
                }
            }
            docs.sort_unstable();
            docs.dedup();
            for doc in docs {
                self.document(t, mem, &doc, *key, act)?;
            }
        }
        Ok(())
    }

    fn document(&mut self, t: &mut Tables<'_>, mem: &mut Mem, doc: &DocId, batch: u64, act: Act<'a>) -> Result<(), StoreError> {
        let mut taken = take(t, mem, DocKind::Observation, doc)?;
        let first = refs(&taken.row).map(|at| batch_key(at.feed, at.seq)).filter(|key| self.batches.contains(key)).min();
        if first != Some(batch) {
            return Ok(());
        }
        let before = (taken.was_shown() == Some(true), taken.row.state.heads().to_vec());
        if readable(act(self, t, mem, &mut taken.row))?.is_none() {
            return Ok(());
        }
        let after = !taken.row.state.is_empty() && !Observation::read(&taken.row.state).deleted;
        match (before.0, after) {
            (true, false) => self.done.hidden += 1,
            (false, true) => self.done.shown += 1,
            (true, true) if before.1 != taken.row.state.heads() => self.done.changed += 1,
            _ => {}
        }
        if before.1 != taken.row.state.heads() {
            put_back(t, mem, &taken)?;
        }
        Ok(())
    }

    fn note(&mut self, t: &mut Tables<'_>, mem: &mut Mem, doc: &DocId, hash: &ChangeHash) -> Result<(), StoreError> {
        if t.aside.get(&key(doc, hash))?.is_none() {
            t.aside.insert(&key(doc, hash), self.sync)?;
            mem.aside += 1;
            self.done.changes += 1;
        }
        Ok(())
    }

    fn all(&mut self, t: &Tables<'_>, mem: &Mem, row: &DocRow) -> Result<Vec<(ChangeRef, Change)>, StoreError> {
        refs(row).map(|at| Ok((*at, self.reader.read(t, mem, at)?))).collect()
    }

    fn hide(&mut self, t: &mut Tables<'_>, mem: &mut Mem, row: &mut DocRow) -> Result<(), StoreError> {
        let aside = t.aside(&row.id)?;
        let brought = |at: &&ChangeRef| self.batches.contains(&batch_key(at.feed, at.seq)) && !aside.contains(&at.hash);
        let mut hidden: BTreeSet<ChangeHash> = refs(row).filter(brought).map(|at| at.hash).collect();
        let nothing_else = row.applied.iter().all(|at| hidden.contains(&at.hash));
        if nothing_else && !Observation::read(&row.state).purged {
            let mut waiting = Vec::new();
            for at in refs(row) {
                waiting.extend(counts(t, mem, at)?.then_some(*at));
            }
            waiting.sort_by_key(|at| at.hash);
            *row = DocRow { waiting, ..DocRow::new(row.kind, row.id) };
        } else {
            let all = self.all(t, mem, row)?;
            let applied: BTreeSet<ChangeHash> = row.applied.iter().map(|at| at.hash).collect();
            let total = hidden.len();
            // What takes content away is never set aside: it would be shown again.
            hidden.retain(|hash| !all.iter().any(|(_, change)| change.hash == *hash && purges(change)));
            keep_needed(&all, &applied, &mut hidden);
            self.done.kept += (total - hidden.len()) as u64;
            let gone: BTreeSet<ChangeHash> = aside.union(&hidden).copied().collect();
            let mut counting = Vec::with_capacity(all.len());
            for (at, change) in all {
                if counts(t, mem, &at)? {
                    counting.push((at, change));
                }
            }
            rebuild(row, counting, &gone);
            // Quarantined work stays only as far as what is still shown builds on it.
            crate::judge::vouch_but(t, mem, row, &gone)?;
        }
        hidden.iter().try_for_each(|hash| self.note(t, mem, &row.id, hash))
    }

    fn bring_back(&mut self, t: &mut Tables<'_>, mem: &mut Mem, row: &mut DocRow) -> Result<(), StoreError> {
        let mut aside = BTreeSet::new();
        for hash in t.aside(&row.id)? {
            let of = t.aside.get(&key(&row.id, &hash))?.map(|n| n.value());
            if of != Some(self.sync) {
                aside.insert(hash);
            }
        }
        let all = self.all(t, mem, row)?;
        rebuild(row, all, &aside);
        // Quarantined work that comes back into use.
        crate::judge::vouch_but(t, mem, row, &aside)?;
        Ok(())
    }
}

/// `None` for what the disk no longer gives.
fn readable<T>(read: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match read {
        Err(StoreError::Damaged(_)) => Ok(None),
        other => other.map(Some),
    }
}

/// `true` if a change counts by itself: its batch is accepted, or it is open.
fn counts(t: &Tables<'_>, mem: &Mem, at: &ChangeRef) -> Result<bool, StoreError> {
    let open = at.feed == mem.own_feed && at.seq > mem.feeds[at.feed as usize].seq;
    Ok(open || t.pending.get(batch_key(at.feed, at.seq))?.is_none())
}

fn refs(row: &DocRow) -> impl Iterator<Item = &ChangeRef> {
    row.applied.iter().chain(&row.waiting)
}

/// Takes out of `hidden` what applied changes that stay depend on, near or far.
fn keep_needed(all: &[(ChangeRef, Change)], applied: &BTreeSet<ChangeHash>, hidden: &mut BTreeSet<ChangeHash>) {
    let by_hash: BTreeMap<ChangeHash, &Change> = all.iter().map(|(at, change)| (at.hash, change)).collect();
    let mut todo: Vec<ChangeHash> = applied.iter().filter(|hash| !hidden.contains(hash)).copied().collect();
    while let Some(hash) = todo.pop() {
        for dep in by_hash.get(&hash).iter().flat_map(|change| &change.deps) {
            if hidden.remove(dep) {
                todo.push(*dep);
            }
        }
    }
}

impl Store {
    /// Sets aside what a sync brought and nothing kept depends on. Once more sets aside what came to it since.
    ///
    /// # Errors
    /// No sync of that number brought anything.
    pub fn undo_sync(&mut self, sync: u32) -> Result<Aside, StoreError> {
        let batches = self.batches_of(sync)?;
        self.write(|t, mem, _| {
            let mut run = Run { sync, batches: &batches, reader: ChangeReader::default(), done: Aside::default() };
            run.each(t, mem, Run::hide)?;
            Ok(run.done)
        })
    }

    /// Shows again what the undo of a sync set aside.
    ///
    /// # Errors
    /// No sync of that number brought anything.
    pub fn redo_sync(&mut self, sync: u32) -> Result<Aside, StoreError> {
        let batches = self.batches_of(sync)?;
        self.write(|t, mem, _| {
            let mut run = Run { sync, batches: &batches, reader: ChangeReader::default(), done: Aside::default() };
            // Documents that are not here yet are noted by this walk: all notes of this sync go.
            run.each(t, mem, Run::bring_back)?;
            run.done.changes = 0;
            let before = redb::ReadableTableMetadata::len(&t.aside)?;
            t.aside.retain(|_, of| of != sync)?;
            mem.aside = redb::ReadableTableMetadata::len(&t.aside)?;
            run.done.changes = (before - mem.aside).min(before);
            Ok(run.done)
        })
    }

    fn batches_of(&self, sync: u32) -> Result<BTreeSet<u64>, StoreError> {
        let v = self.view()?;
        let mut batches = BTreeSet::new();
        for row in v.arrived.iter()? {
            let (key, of) = row?;
            if of.value() == sync {
                batches.insert(key.value());
            }
        }
        if batches.is_empty() { Err(StoreError::NoSync(sync)) } else { Ok(batches) }
    }

    /// Changes that are set aside, in all.
    pub fn set_aside_changes(&self) -> u64 {
        self.mem.aside
    }

    /// When each sync that was noted took place, and with whom; without counting what it brought.
    pub fn sync_notes(&self) -> Result<BTreeMap<u32, (i64, Vec<String>)>, StoreError> {
        let v = self.view()?;
        let mut out = BTreeMap::new();
        for row in v.syncs.iter()? {
            let (number, note) = row?;
            let note: SyncNote = from_bytes(note.value(), "sync")?;
            out.insert(number.value(), (note.at_ms, note.with));
        }
        Ok(out)
    }

    /// `true` if a sync of that number took place here, as far as was noted, or brought a batch.
    pub fn has_sync(&self, number: u32) -> Result<bool, StoreError> {
        let v = self.view()?;
        Ok(v.syncs.get(number)?.is_some() || v.moments.get(number)?.is_some())
    }

    /// Syncs that brought something or were noted, newest first; 0 is no limit.
    pub fn syncs(&self, limit: usize) -> Result<Vec<PastSync>, StoreError> {
        let v = self.view()?;
        let mut out: BTreeMap<u32, PastSync> = BTreeMap::new();
        for (number, (at_ms, with)) in self.sync_notes()? {
            let sync = out.entry(number).or_default();
            (sync.at_ms, sync.with) = (Some(at_ms), with);
        }
        for row in v.arrived.iter()? {
            out.entry(row?.1.value()).or_default().batches += 1;
        }
        for row in v.aside.iter()? {
            out.entry(row?.1.value()).or_default().set_aside += 1;
        }
        let most = if limit == 0 { usize::MAX } else { limit };
        let mut list: Vec<PastSync> = out.into_iter().rev().take(most).map(|(number, sync)| PastSync { number, ..sync }).collect();
        for sync in &mut list {
            let of = u64::from(sync.number);
            for row in v.sync_docs.range(of << 32..(of + 1) << 32)? {
                match SyncEffect::from_number(row?.1.value()) {
                    SyncEffect::New => sync.new += 1,
                    SyncEffect::Changed => sync.changed += 1,
                    SyncEffect::Deleted => sync.deleted += 1,
                }
            }
        }
        Ok(list)
    }

    /// Every change of an observation that is held in an accepted batch or open, with what it depends on.
    pub fn held_changes(&self, id: &DocId) -> Result<Vec<(ChangeHash, Vec<ChangeHash>)>, StoreError> {
        let v = self.view()?;
        let row = self.doc_row(DocKind::Observation, id)?;
        row.iter().flat_map(refs).map(|at| Ok((at.hash, read_change(&v, &self.mem, at)?.deps))).collect()
    }

    /// The sync that brought a change of an observation.
    pub fn sync_of(&self, id: &DocId, hash: &ChangeHash) -> Result<Option<u32>, StoreError> {
        let v = self.view()?;
        let row = self.doc_row(DocKind::Observation, id)?;
        let Some(at) = row.iter().flat_map(refs).find(|at| at.hash == *hash) else { return Ok(None) };
        Ok(v.arrived.get(batch_key(at.feed, at.seq))?.map(|n| n.value()))
    }
}
