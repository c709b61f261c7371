//! The integrity walk: every invariant of FORMAT.md, read-only.

use crate::docs::{DocRow, read_batch};
use crate::feeds::{BatchHashes, BatchRow, FeedRow, Verdict, batch_key};
use crate::reader::ChangeReader;
use crate::tables::{View, from_bytes};
use crate::{Store, StoreError};
use cairn_model::{DocId, DocKind};
use cairn_trust::ControlOp;
use redb::ReadableTable;
use std::collections::BTreeMap;

/// Something `check` found wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Where.
    pub place: String,
    /// What.
    pub what: String,
}

/// What a walk over signatures and chains looked at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verified {
    /// Control operations.
    pub operations: u64,
    /// Batches.
    pub batches: u64,
    /// Changes in them.
    pub changes: u64,
    /// Devices that signed.
    pub devices: u64,
    /// What is not as it was signed.
    pub findings: Vec<Finding>,
}

impl Store {
    /// Checks every control operation's signature and ancestry from the first one on, and every batch's signature and chain.
    /// Whoever changes, drops or reorders one stored byte of the past is found. `seen` is told (done, planned) batches.
    pub fn verify(&self, seen: &mut dyn FnMut(u64, u64)) -> Result<Verified, StoreError> {
        let v = self.view()?;
        let mut out = Verified::default();
        let mut log = cairn_trust::Log::new(self.mem.project);
        let mut devices = std::collections::BTreeSet::new();
        for row in v.control.iter()? {
            let (number, bytes) = row?;
            out.operations += 1;
            let read = ControlOp::decode(&self.mem.project, bytes.value());
            let admitted = read.as_ref().is_ok_and(|op| log.admit(op.clone()).is_ok());
            if !admitted {
                out.findings.push(Finding {
                    place: format!("control operation {}", number.value()),
                    what: "is not signed, or its parents are not here".into(),
                });
            }
            devices.extend(read.ok().map(|op| op.issuer));
        }
        let planned: u64 = self.mem.feeds.iter().map(|f| f.seq + 1 - f.base).sum();
        for (n, feed) in self.mem.feeds.iter().enumerate() {
            devices.insert(feed.device);
            let mut prev = feed.parent.map(|(parent, at)| v.hash_at(parent, at)).transpose()?.flatten();
            for seq in feed.base..=feed.seq {
                out.batches += 1;
                seen(out.batches, planned);
                let wrong = self.verify_one(&v, feed, (n as u32, seq), &mut prev, &mut out.changes)?;
                out.findings.extend(wrong.map(|what| Finding { place: format!("feed {} batch {seq}", feed.id), what: what.into() }));
            }
            if prev.is_some_and(|last| last != feed.tip) {
                out.findings.push(Finding { place: format!("feed {}", feed.id), what: "does not end where it is said to".into() });
            }
        }
        out.devices = devices.len() as u64;
        Ok(out)
    }

    fn verify_one(
        &self,
        v: &View,
        feed: &FeedRow,
        (chain, seq): (u32, u64),
        prev: &mut Option<[u8; 32]>,
        changes: &mut u64,
    ) -> Result<Option<&'static str>, StoreError> {
        let before = prev.take();
        let Ok(batch) = read_batch(v, &self.mem, chain, seq) else { return Ok(Some("cannot be read")) };
        *prev = Some(batch.hash.0);
        *changes += batch.hashes.len() as u64;
        let names_its_device = match batch.origin(&self.mem.project) {
            Ok(Some(device)) => device == feed.device,
            Ok(None) => seq > 1,
            Err(_) => false,
        };
        Ok(match () {
            () if batch.header.feed != feed.id || batch.header.seq != seq || !names_its_device => Some("is not of this feed"),
            () if !batch.signed_by(&feed.device) => Some("is not signed by its device"),
            () if batch.header.prev.map(|p| p.0) != before => Some("does not follow the one before"),
            () if v.hash_at(chain, seq)? != Some(batch.hash.0) => Some("is listed under another name"),
            () => None,
        })
    }

    /// Walks every chunk and document. `seen` is told (done, planned) batches. Nothing is changed.
    pub fn check(&self, seen: &mut dyn FnMut(u64, u64)) -> Result<Vec<Finding>, StoreError> {
        let v = self.view()?;
        let mut findings = Vec::new();
        let planned: u64 = self.mem.feeds.iter().map(|f| f.seq + 1 - f.base).sum();
        let mut done = 0;
        let (mut accepted, mut apart): (BTreeMap<DocId, u64>, BTreeMap<DocId, u64>) = Default::default();
        for (n, feed) in self.mem.feeds.iter().enumerate() {
            let mut prev = None;
            for seq in feed.base..=feed.seq {
                done += 1;
                seen(done, planned);
                let mut add = |what: &str| findings.push(Finding { place: format!("feed {} batch {seq}", feed.id), what: what.into() });
                let Some(bytes) = v.batches.get(batch_key(n as u32, seq))? else {
                    add("is not listed");
                    continue;
                };
                let Ok(row) = from_bytes::<BatchRow>(bytes.value(), "batch") else {
                    add("its verdict cannot be read; sync with another device to fetch it again");
                    continue;
                };
                match read_batch(&v, &self.mem, n as u32, seq) {
                    Err(_) => add("cannot be read; sync with another device to fetch it again"),
                    Ok(batch) => {
                        if batch.hash.0 != row.hash || !batch.signed_by(&feed.device) {
                            add("is not what was signed");
                        }
                        if seq > feed.base && batch.header.prev != prev {
                            add("does not follow the one before");
                        }
                        prev = Some(batch.hash);
                        let count = match row.verdict {
                            Verdict::Accepted => Some(&mut accepted),
                            // Accepted work brings in quarantined changes that it builds on.
                            Verdict::Quarantined => Some(&mut apart),
                            _ => None,
                        };
                        if let Some(count) = count {
                            for item in &batch.header.items {
                                *count.entry(item.doc).or_default() += u64::from(item.changes);
                            }
                        }
                    }
                }
            }
        }
        for open in &self.mem.open.changes {
            *accepted.entry(open.id).or_default() += 1;
        }
        self.check_documents(&accepted, &apart, &mut findings)?;
        Ok(findings)
    }

    fn check_documents(
        &self,
        accepted: &BTreeMap<DocId, u64>,
        apart: &BTreeMap<DocId, u64>,
        findings: &mut Vec<Finding>,
    ) -> Result<(), StoreError> {
        let v = self.view()?;
        let mut reader = ChangeReader::default();
        let mut listed = 0u64;
        let mut shown = 0u64;
        let (mut of_sets, mut in_sets, mut unread) = (0u64, 0u64, 0u64);
        for row in v.docs.iter()? {
            let (number, bytes) = row?;
            listed += 1;
            let Ok(row) = from_bytes::<DocRow>(bytes.value(), "document") else {
                let place = id_of(&v, number.value())?.map_or_else(|| "a document".to_owned(), |id| format!("document {id}"));
                unread += 1;
                findings.push(Finding { place, what: "cannot be read; `cairn check --repair` makes it anew".into() });
                continue;
            };
            let mut add = |what: String| findings.push(Finding { place: format!("document {}", row.id), what });
            let here = (row.applied.len() + row.waiting.len()) as u64;
            let named: u64 = [accepted, apart].iter().filter_map(|m| m.get(&row.id)).sum();
            if named < here {
                add(format!("has {here} changes, its batches name {named}"));
            }
            let id_row = v.doc_ids.get(&crate::docs::doc_key(row.kind, &row.id))?.map(|n| n.value());
            if id_row != Some(number.value()) {
                add("is not found by its id".into());
            }
            // What lies in a batch that cannot be read is told above, and cannot be made again.
            let rebuilt = match self.rebuild(&v, &row, &mut reader) {
                Err(StoreError::Damaged(_)) => Vec::new(),
                other => other?,
            };
            if rebuilt != row.state.heads() {
                add("is not what its changes make".into());
            }
            let seen = cairn_model::Observation::read(&row.state);
            let observation = row.kind == DocKind::Observation && !row.state.is_empty();
            shown += u64::from(observation && !seen.deleted);
            if let Some(dataset) = seen.dataset.filter(|_| observation) {
                of_sets += 1;
                let set = self.mem.datasets.get(&dataset.encode());
                let key = set.map(|set| crate::docs::dataset_key(*set, number.value()));
                in_sets += u64::from(key.is_some_and(|k| v.by_dataset.get(k).is_ok_and(|found| found.is_some())));
            }
        }
        // Of what cannot be read nobody knows whether it is shown.
        let counted = self.count()?;
        if counted != shown && unread == 0 {
            findings.push(Finding { place: "index by time".into(), what: format!("lists {counted} of {shown} observations") });
        }
        let index = redb::ReadableTableMetadata::len(&v.by_dataset)?;
        if (of_sets != in_sets || index != in_sets) && unread == 0 {
            findings
                .push(Finding { place: "index by data set".into(), what: format!("lists {index}, {in_sets} of them right, of {of_sets}") });
        }
        if listed < accepted.len() as u64 {
            findings.push(Finding { place: "documents".into(), what: format!("{listed} of {} are here", accepted.len()) });
        }
        Ok(())
    }

    fn rebuild(&self, v: &View, row: &DocRow, reader: &mut ChangeReader) -> Result<Vec<cairn_model::ChangeHash>, StoreError> {
        let mut state = cairn_model::DocState::default();
        for at in &row.applied {
            let change = reader.read(v, &self.mem, at)?;
            if change.hash != at.hash || state.apply(&change).is_err() {
                return Ok(Vec::new());
            }
        }
        Ok(if state == row.state { state.heads().to_vec() } else { Vec::new() })
    }
}

/// The document that has a number here.
fn id_of(v: &View, number: u32) -> Result<Option<DocId>, StoreError> {
    for row in v.doc_ids.iter()? {
        let (key, found) = row?;
        if found.value() == number {
            return Ok(DocId::from_slice(&key.value()[1..]).ok());
        }
    }
    Ok(None)
}
