//! What is shown and every index, made anew from the chunks. Chunks, control operations and what is set aside are the truth and stay.

use crate::docs::{ChangeRef, DocRow, apply_change, put_back, read_batch, take};
use crate::feeds::{BatchRow, Verdict, batch_key};
use crate::ingest::{IngestStats, apply_batch};
use crate::judge::set_apart;
use crate::mem::Mem;
use crate::tables::{Tables, from_bytes, to_bytes};
use crate::{Finding, Store, StoreError};
use cairn_model::{Change, DocId, DocKind};
use redb::ReadableTable;

/// What a repair did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Repaired {
    /// Documents made anew.
    pub documents: u64,
    /// Changes they were made of.
    pub changes: u64,
    /// Batches that cannot be read: what they said is lost here.
    pub lost: Vec<Finding>,
}

impl Store {
    /// Makes documents and indexes anew, in one transaction: all of it or, if the disk refuses, nothing. `seen` is told (done, planned)
    /// batches.
    ///
    /// # Errors
    /// The disk.
    pub fn repair(&mut self, seen: &mut dyn FnMut(u64, u64)) -> Result<Repaired, StoreError> {
        let out = self.write(|t, mem, _| {
            let mut out = Repaired { documents: empty(t)?, ..Repaired::default() };
            let planned: u64 = mem.feeds.iter().map(|f| f.seq + 1 - f.base).sum();
            let mut done = 0;
            for chain in 0..mem.feeds.len() as u32 {
                let (id, base, last) = (mem.feeds[chain as usize].id, mem.feeds[chain as usize].base, mem.feeds[chain as usize].seq);
                for seq in base..=last {
                    done += 1;
                    seen(done, planned);
                    if !batch(t, mem, chain, seq, &mut out.changes)? {
                        out.lost.push(Finding { place: format!("feed {id} batch {seq}"), what: "cannot be read".into() });
                    }
                }
            }
            open_changes(t, mem, &mut out.changes)?;
            Ok(out)
        })?;
        if !out.lost.is_empty() {
            // What was lost may have been this device's own, and sent: its numbers must not be used again.
            self.mem.nonce = self.entropy.bytes();
        }
        self.reload_configuration()?;
        Ok(out)
    }
}

/// Every document without its changes under the number it has, and no index. Gives how many.
fn empty(t: &mut Tables<'_>) -> Result<u64, StoreError> {
    t.by_time.retain(|_, ()| false)?;
    t.deleted.retain(|_, ()| false)?;
    t.by_category.retain(|_, ()| false)?;
    t.by_place.retain(|_, ()| false)?;
    t.conflicts.retain(|_, ()| false)?;
    t.by_dataset.retain(|_, ()| false)?;
    t.apart.retain(|_, _| false)?;
    t.docs.retain(|_, _| false)?;
    let mut documents = 0;
    for row in t.doc_ids.iter()? {
        let (key, number) = row?;
        let kind = match key.value()[0] {
            n if n == DocKind::Observation as u8 => DocKind::Observation,
            n if n == DocKind::Configuration as u8 => DocKind::Configuration,
            _ => return Err(StoreError::Damaged("id")),
        };
        let id = DocId::from_slice(&key.value()[1..]).map_err(|_| StoreError::Damaged("id"))?;
        t.docs.insert(number.value(), &to_bytes(&DocRow::new(kind, id))[..])?;
        documents += 1;
    }
    Ok(documents)
}

/// `false` if the batch cannot be read.
fn batch(t: &mut Tables<'_>, mem: &mut Mem, chain: u32, seq: u64, count: &mut u64) -> Result<bool, StoreError> {
    let stored = t.batches.get(batch_key(chain, seq))?.and_then(|b| from_bytes::<BatchRow>(b.value(), "batch").ok());
    let (Some(stored), Ok(batch)) = (stored, read_batch(t, mem, chain, seq)) else { return Ok(false) };
    let device = mem.feeds[chain as usize].device;
    let changes = batch.changes(&batch.actors(&mem.project, &device)).unwrap_or_default();
    match stored.verdict {
        Verdict::Accepted => {
            *count += changes.len() as u64;
            apply_batch(t, mem, chain, seq, changes, None, &mut IngestStats::default())?;
        }
        Verdict::Quarantined => set_apart(t, mem, chain, seq, &changes)?,
        Verdict::Waiting | Verdict::Void => {}
    }
    Ok(true)
}

fn open_changes(t: &mut Tables<'_>, mem: &mut Mem, count: &mut u64) -> Result<(), StoreError> {
    let own = mem.own_feed;
    let seq = mem.feeds[own as usize].seq + 1;
    for (index, open) in mem.open.changes.clone().into_iter().enumerate() {
        let change = Change::parse(&open.bytes).map_err(|_| StoreError::Damaged("open change"))?;
        let mut taken = take(t, mem, open.kind, &open.id)?;
        apply_change(t, mem, &mut taken.row, &change, ChangeRef::new(&change, own, seq, index))?;
        put_back(t, mem, &taken)?;
        *count += 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Entropy, Filter, NewProject};
    use cairn_model::{Edit, Place, default_configuration};
    use cairn_trust::DeviceKeys;
    use redb::backends::InMemoryBackend;

    struct Counter(u64);

    impl Entropy for Counter {
        fn fill(&mut self, out: &mut [u8]) {
            for chunk in out.chunks_mut(8) {
                self.0 += 1;
                chunk.copy_from_slice(&blake3::hash(&self.0.to_le_bytes()).as_bytes()[..chunk.len()]);
            }
        }
    }

    fn store() -> Store {
        let configuration = default_configuration();
        let new = NewProject { name: "River", device_name: "Ana", configuration: &configuration, now_ms: 1 };
        let db = redb::Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
        let mut store = Store::new_project(db, DeviceKeys::from_seed([1; 32]), Box::new(Counter(9)), &new).unwrap().0;
        let ids: Vec<DocId> = (0..700).map(|_| store.new_id()).collect();
        for (n, id) in ids.iter().enumerate() {
            let mut edit = Edit::new();
            edit.field("n", &n.to_string(), None, &[]).unwrap().place(Place::new(1.0, n as f64 / 10.0).unwrap());
            store.edit_observations(vec![(*id, edit)], 2).unwrap();
        }
        let mut edit = Edit::new();
        edit.deleted(true);
        store.edit_observations(vec![(ids[3], edit)], 3).unwrap();
        assert!(store.open_changes() > 0 && store.feeds()[0].seq > 1);
        store
    }

    fn shown(store: &Store) -> String {
        format!("{:?}", store.list(&Filter { deleted: true, ..Filter::default() }).unwrap())
    }

    /// A row says something else than its changes, another is gone from an index, a third is in one that it does not belong in.
    #[test]
    fn views_and_indexes_are_made_anew_from_the_chunks() {
        let mut store = store();
        let (before, digest) = (shown(&store), store.digest().unwrap());
        store
            .write(|t, _, _| {
                let mut row: DocRow = from_bytes(t.docs.get(5)?.ok_or(StoreError::Damaged("document"))?.value(), "document")?;
                row.applied.clear();
                t.docs.insert(5, &to_bytes(&row)[..])?;
                let first = t.by_time.first()?.map(|(key, _)| *key.value()).ok_or(StoreError::Damaged("index"))?;
                t.by_time.remove(&first)?;
                t.by_dataset.insert(7, ())?;
                Ok(())
            })
            .unwrap_or_else(|e| panic!("{e}"));
        assert!(store.check(&mut |_, _| {}).unwrap().len() >= 3);
        let done = store.repair(&mut |_, _| {}).unwrap();
        assert_eq!((done.documents, done.changes, &done.lost[..]), (701, 702, &[][..]));
        assert_eq!(store.check(&mut |_, _| {}).unwrap(), vec![]);
        assert_eq!((shown(&store), store.digest().unwrap()), (before, digest));
    }

    #[test]
    fn what_cannot_be_read_is_told_and_the_rest_is_made() {
        let mut store = store();
        store
            .write(|t, _, _| {
                let key = batch_key(0, 2);
                let mut chunk = t.chunks.get(key)?.ok_or(StoreError::Damaged("chunk"))?.value().to_vec();
                chunk[60] ^= 1;
                t.chunks.insert(key, &chunk[..])?;
                Ok(())
            })
            .unwrap();
        let findings = store.check(&mut |_, _| {}).unwrap();
        assert!(findings.iter().any(|f| f.what.contains("cannot be read")), "a walk goes on past damage: {findings:?}");
        let done = store.repair(&mut |_, _| {}).unwrap();
        assert_eq!(done.lost.len(), 1, "{:?}", done.lost);
        assert!(done.lost[0].place.ends_with("batch 2") && store.count().unwrap() < 699);
        assert!(store.count().unwrap() > 400);
    }
}
