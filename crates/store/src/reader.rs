//! Changes read one after the other: of one batch for many documents, unsealed once.

use crate::StoreError;
use crate::docs::{ChangeRef, Stored, read_batch, read_change};
use crate::feeds::batch_key;
use crate::mem::Mem;
use cairn_model::{Change, DocId, DocKind};
use std::collections::VecDeque;

/// Batches kept: rows made together lie in one, and edits of them in a few others.
const KEPT: usize = 8;

/// A change with its document, if it is of a kind that is known.
pub(crate) type OfDocument = (Option<(DocKind, DocId)>, Change);

/// The changes of a batch with their documents; those of a batch that does not read are none.
pub(crate) fn changes_in(t: &impl Stored, mem: &Mem, chain: u32, seq: u64) -> Result<Vec<OfDocument>, StoreError> {
    let batch = read_batch(t, mem, chain, seq)?;
    let read = batch.changes(&batch.actors(&mem.project, &mem.feeds[chain as usize].device)).unwrap_or_default();
    Ok(read.into_iter().map(|(item, change)| (item.doc_kind().map(|kind| (kind, item.doc)), change)).collect())
}

#[derive(Default)]
pub(crate) struct ChangeReader {
    batches: VecDeque<(u64, Vec<Change>)>,
}

impl ChangeReader {
    pub fn read(&mut self, t: &impl Stored, mem: &Mem, at: &ChangeRef) -> Result<Change, StoreError> {
        if at.feed == mem.own_feed && at.seq > mem.feeds[at.feed as usize].seq {
            return read_change(t, mem, at);
        }
        let key = batch_key(at.feed, at.seq);
        if !self.batches.iter().any(|(known, _)| *known == key) {
            let changes = changes_in(t, mem, at.feed, at.seq)?.into_iter().map(|(_, change)| change).collect();
            self.batches.truncate(KEPT - 1);
            self.batches.push_front((key, changes));
        }
        let found = self.batches.iter().find(|(known, _)| *known == key).and_then(|(_, all)| all.get(usize::from(at.index)).cloned());
        // A batch that does not read as a whole may read in part.
        found.map_or_else(|| read_change(t, mem, at), Ok)
    }
}
