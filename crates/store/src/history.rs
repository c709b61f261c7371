//! What happened to observations, and what they were.

use crate::docs::{DocRow, DocView, read_batch, read_change, version_name};
use crate::feeds::batch_key;
use crate::moments::{AsOf, state_at};
use crate::revert::{ancestors, state_of};
use crate::tables::{View, from_bytes};
use crate::{Store, StoreError};
use cairn_model::{Change, ChangeHash, DeviceId, DocId, DocKey, DocKind, DocState, UnitId, Value};
use std::collections::BTreeMap;

/// One change of an observation's history.
#[derive(Clone, Debug, PartialEq)]
pub struct LogEntry {
    /// The observation.
    pub id: DocId,
    /// The change.
    pub hash: ChangeHash,
    /// Who made it.
    pub device: Option<DeviceId>,
    /// By that device's clock, milliseconds.
    pub time_ms: i64,
    /// Keys set (with value) or removed (`None`).
    pub set: Vec<(String, Option<Value>)>,
    /// Feed batch it is in; `None` while in the open batch.
    pub batch: Option<(cairn_model::FeedId, u64)>,
    /// What it builds on.
    pub deps: Vec<ChangeHash>,
    /// The act it is part of; `None` while in the open batch.
    pub unit: Option<UnitId>,
    /// What that act is: `edits`, `import`, `revert`.
    pub kind: &'static str,
    /// The sync that brought it; `None` for what was made here, or came before this was noted.
    pub sync: Option<u32>,
    /// Held, and not shown here: its sync was undone.
    pub set_aside: bool,
}

fn unit_word(kind: cairn_trust::UnitKind) -> &'static str {
    match kind {
        cairn_trust::UnitKind::Edits => "edits",
        cairn_trust::UnitKind::Import => "import",
        cairn_trust::UnitKind::Revert => "revert",
        cairn_trust::UnitKind::Other(_) => "other",
    }
}

impl Store {
    /// The history of one observation, oldest first; empty if it is not here.
    pub fn history(&self, id: &DocId) -> Result<Vec<LogEntry>, StoreError> {
        let v = self.view()?;
        let Some(row) = self.doc_row(DocKind::Observation, id)? else { return Ok(Vec::new()) };
        let aside = crate::aside::of(&v, &self.mem, id)?;
        let mut out = Vec::new();
        for at in row.applied.iter().chain(row.waiting.iter().filter(|at| aside.contains(&at.hash))) {
            let change = read_change(&v, &self.mem, at)?;
            let kind = match v.batches.get(batch_key(at.feed, at.seq))? {
                Some(_) => unit_word(read_batch(&v, &self.mem, at.feed, at.seq)?.header.unit.kind),
                None => "edits",
            };
            out.push(self.log_entry(&v, (row.id, aside.contains(&at.hash)), &change, (at.feed, at.seq, kind))?);
        }
        Ok(out)
    }

    /// The newest changes of all observations by their authors' clocks, newest first; 0 is no limit.
    pub fn recent(&self, limit: usize) -> Result<Vec<LogEntry>, StoreError> {
        let v = self.view()?;
        let most = if limit == 0 { usize::MAX } else { limit };
        let mut out = Vec::new();
        for open in &self.mem.open.changes {
            let change = Change::parse(&open.bytes).map_err(|_| StoreError::Damaged("open change"))?;
            let own = self.mem.own_feed;
            out.push((open.kind, self.log_entry(&v, (open.id, false), &change, (own, self.mem.feeds[own as usize].seq + 1, "edits"))?));
        }
        for (n, feed) in self.mem.feeds.iter().enumerate() {
            let enough = out.len().saturating_add(most);
            for seq in (feed.base..=feed.seq).rev() {
                if out.len() >= enough {
                    break;
                }
                // What the disk no longer gives is told by `check`.
                let Ok(batch) = read_batch(&v, &self.mem, n as u32, seq) else { continue };
                let of_unit = unit_word(batch.header.unit.kind);
                // What does not read is void; `check` tells of it.
                for (item, change) in batch.changes(&batch.actors(&self.mem.project, &feed.device)).unwrap_or_default() {
                    let Some(kind) = item.doc_kind() else { continue };
                    let aside = crate::aside::of(&v, &self.mem, &item.doc)?.contains(&change.hash);
                    out.push((kind, self.log_entry(&v, (item.doc, aside), &change, (n as u32, seq, of_unit))?));
                }
            }
        }
        let mut out: Vec<LogEntry> = out.into_iter().filter(|(kind, _)| *kind == DocKind::Observation).map(|(_, e)| e).collect();
        out.sort_by(|a, b| b.time_ms.cmp(&a.time_ms).then(a.hash.cmp(&b.hash)));
        out.truncate(most);
        Ok(out)
    }

    /// One change with where it came from: its batch, the act it is part of, the sync that brought it.
    fn log_entry(
        &self,
        v: &View,
        (id, set_aside): (DocId, bool),
        change: &Change,
        (chain, seq, kind): (u32, u64, &'static str),
    ) -> Result<LogEntry, StoreError> {
        let set = change.ops.iter().filter_map(|op| {
            let key = DocKey::decode(op.key.as_deref()?).label();
            Some((key, if let cairn_model::OpAction::Put(value) = &op.action { Some(value.clone()) } else { None }))
        });
        let feed = &self.mem.feeds[chain as usize];
        let key = batch_key(chain, seq);
        let stored = v.batches.get(key)?.map(|b| from_bytes::<crate::feeds::BatchRow>(b.value(), "batch")).transpose()?;
        Ok(LogEntry {
            id,
            hash: change.hash,
            device: Some(feed.device),
            time_ms: change.time_ms,
            set: set.collect(),
            batch: stored.as_ref().map(|_| (feed.id, seq)),
            deps: change.deps.clone(),
            kind,
            unit: stored.map(|b| b.unit),
            sync: v.arrived.get(key)?.map(|n| n.value()),
            set_aside,
        })
    }

    /// What a state made by one change and all it has seen is called.
    pub fn version_of(&self, hash: &ChangeHash) -> String {
        version_name(&[*hash])
    }

    /// An observation as it was at a change; `None` if that change is not shown here.
    pub fn observation_at(&self, id: &DocId, hash: &ChangeHash) -> Result<Option<DocView>, StoreError> {
        let v = self.view()?;
        let Some(row) = self.doc_row(DocKind::Observation, id)? else { return Ok(None) };
        let state = self.state_of_version(&v, &row, hash)?;
        state.map(|state| self.view_of(&v, row, state)).transpose()
    }

    /// An observation as it was at a time (milliseconds) by the authors' clocks; `None` if it was not there.
    pub fn observation_then(&self, id: &DocId, until: i64) -> Result<Option<DocView>, StoreError> {
        let v = self.view()?;
        let Some(row) = self.doc_row(DocKind::Observation, id)? else { return Ok(None) };
        let state = state_at(&v, &self.mem, &row, &AsOf::Time(until))?;
        if state.is_empty() { Ok(None) } else { self.view_of(&v, row, state).map(Some) }
    }

    /// What is shown under each key (as people name it) at a change, or now.
    pub fn values_at(&self, id: &DocId, hash: Option<&ChangeHash>) -> Result<BTreeMap<String, Value>, StoreError> {
        let v = self.view()?;
        let Some(row) = self.doc_row(DocKind::Observation, id)? else { return Ok(BTreeMap::new()) };
        let state = match hash {
            Some(hash) => self.state_of_version(&v, &row, hash)?.unwrap_or_default(),
            None => row.state,
        };
        let shown = state.shown().filter(|(key, _)| !DocKey::is_provenance(key));
        Ok(shown.map(|(key, value)| (DocKey::decode(key).label(), value.clone())).collect())
    }

    fn state_of_version(&self, v: &View, row: &DocRow, hash: &ChangeHash) -> Result<Option<DocState>, StoreError> {
        let all: Vec<Change> = self.changes_of(v, row)?.into_iter().map(|(change, _)| change).collect();
        let there = all.iter().any(|change| change.hash == *hash);
        Ok(there.then(|| state_of(row, ancestors(&all, hash), &all)))
    }

    fn view_of(&self, v: &View, row: DocRow, state: DocState) -> Result<DocView, StoreError> {
        self.doc_view(v, &DocRow { state, ..row })
    }
}
