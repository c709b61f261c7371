//! What a mailbox lacks and what this device lacks of it, by runs of batches; and the chunks that go there.

use crate::docs::read_batch;
use crate::feeds::{BatchHashes, BatchRow, batch_key};
use crate::tables::{View, from_bytes};
use crate::{Store, StoreError};
use cairn_model::FeedId;
use cairn_trust::{BatchHash, Lack, Pack, Tip, limits};
use std::collections::BTreeSet;

/// First and last batch.
type Span = (u64, u64);

/// First batch and tip of a run.
pub type MailRun = (u64, Tip);

/// A chunk made for a mailbox: its bytes, how many batches and changes are in it.
pub type MailChunk = (Vec<u8>, u32, u32);

impl Store {
    pub(crate) fn hash_of(&self, chain: u32, seq: u64) -> Result<BatchHash, StoreError> {
        Ok(BatchHash(self.view()?.hash_at(chain, seq)?.ok_or(StoreError::Damaged("batch hash"))?))
    }

    /// The first batch of each run that is not here; `None` where all are.
    pub fn first_missing(&self, runs: &[(FeedId, u64, Tip)]) -> Result<Vec<Option<u64>>, StoreError> {
        let v = self.view()?;
        let mut out = Vec::with_capacity(runs.len());
        for (feed, from, tip) in runs {
            let chains = || self.mem.feeds.iter().enumerate().filter(|(_, f)| f.id == *feed);
            let mut here = false;
            for (n, f) in chains() {
                here |= (f.base..=f.seq).contains(&tip.seq) && v.hash_at(n as u32, tip.seq)? == Some(tip.hash.0);
            }
            // One that is longer than the run branched off, or the run did: all of it is wanted.
            let end = chains().map(|(_, f)| f.seq).filter(|seq| *seq < tip.seq).max().unwrap_or(0);
            out.push((!here).then_some((end + 1).max(*from)));
        }
        Ok(out)
    }

    /// What is here and in none of `runs`, for readers who hold `base`; and the runs with what follows each other put together.
    pub fn uncovered(&self, runs: &[MailRun], base: &[Tip]) -> Result<(Vec<Lack>, Vec<MailRun>), StoreError> {
        let v = self.view()?;
        let (mut out, mut joined, mut used) = (Vec::new(), Vec::new(), BTreeSet::new());
        for n in 0..self.mem.feeds.len() as u32 {
            let f = &self.mem.feeds[n as usize];
            if f.seq < f.base {
                continue;
            }
            let (mut covered, mut sure) = (Vec::<Span>::new(), Vec::<Span>::new());
            for (at, (from, tip)) in runs.iter().enumerate().filter(|(_, (_, tip))| tip.feed == f.id) {
                let Some((end, proved)) = self.end_on(&v, n, *tip)?.filter(|(end, _)| from <= end) else { continue };
                let span = ((*from).max(f.base), end);
                covered.push(span);
                if proved {
                    sure.push(span);
                }
                if proved && end == tip.seq && *from >= f.base {
                    used.insert(at);
                }
            }
            covered.sort_unstable();
            sure.sort_unstable();
            let covered = merge(&covered);
            for (from, end) in &merge(&sure) {
                joined.push((
                    *from,
                    Tip { feed: f.id, seq: *end, hash: BatchHash(v.hash_at(n, *end)?.ok_or(StoreError::Damaged("batch hash"))?) },
                ));
            }
            let held = self.held_by(&v, n, base)?;
            let mut next = held.max(f.base - 1) + 1;
            for (from, end) in covered.into_iter().chain([(f.seq + 1, f.seq + 1)]) {
                if from > next {
                    out.push(self.uncovered_run(&v, n, next, from - 1)?);
                }
                next = next.max(end + 1);
            }
        }
        joined.extend(runs.iter().enumerate().filter(|(at, _)| !used.contains(at)).map(|(_, run)| *run));
        joined.sort_unstable();
        joined.dedup();
        Ok((out, joined))
    }

    /// Of runs as much as fits into so many bytes: whole batches, each run from its first on. At least one batch, if any byte may go: else
    /// one that is larger than what is left would never go. Says whether something was left out.
    pub fn within(&self, runs: Vec<Lack>, most: u64) -> Result<(Vec<Lack>, bool), StoreError> {
        let v = self.view()?;
        let (mut out, mut left, mut cut) = (Vec::new(), most, false);
        for run in runs {
            if run.bytes <= left {
                left -= run.bytes;
                out.push(run);
                continue;
            }
            cut = true;
            let mut end = run.from - 1;
            for row in v.chunks.range(batch_key(run.chain, run.from)..=batch_key(run.chain, run.tip.seq))? {
                let bytes = row?.1.value().len() as u64;
                let first_of_all = out.is_empty() && end < run.from && left > 0;
                if bytes > left && !first_of_all {
                    break;
                }
                (left, end) = (left.saturating_sub(bytes), end + 1);
            }
            if end >= run.from {
                let part = self.uncovered_run(&v, run.chain, run.from, end)?;
                // On a branch the feed is called as the run says.
                out.push(Lack { tip: Tip { feed: run.tip.feed, ..part.tip }, ..part });
            }
            left = 0;
        }
        Ok((out, cut))
    }

    /// What is not in a batch yet, as it would go into a mailbox.
    pub fn open_lot(&self) -> Option<Lack> {
        let (changes, bytes) = (self.mem.open.changes.len() as u64, self.mem.open.bytes as u64);
        let own = &self.mem.feeds[self.mem.own_feed as usize];
        let at = self.mem.open.last_ms();
        let tip = Tip { feed: own.id, seq: own.seq + 1, hash: BatchHash([0; 32]) };
        (changes > 0).then_some(Lack {
            chain: self.mem.own_feed,
            device: own.device,
            from: tip.seq,
            tip,
            changes,
            bytes,
            wall_ms: (at, at),
        })
    }

    /// How far a run that ends with `tip` reaches along chain `n`, and whether its end is here; `None` if it is of another branch.
    fn end_on(&self, v: &View, n: u32, tip: Tip) -> Result<Option<(u64, bool)>, StoreError> {
        let f = &self.mem.feeds[n as usize];
        if (f.base..=f.seq).contains(&tip.seq) {
            return Ok((v.hash_at(n, tip.seq)? == Some(tip.hash.0)).then_some((tip.seq, true)));
        }
        // Ahead of what is here: of a feed without branches it is most likely this one. Of the own feed it is a copy of this device.
        let alone = self.mem.feeds.iter().filter(|o| o.id == f.id).count() == 1;
        if tip.seq > f.seq && alone && f.device != self.mem.device {
            return Ok(Some((f.seq, false)));
        }
        // On a branch that leaves this chain: the part before is here.
        for (c, child) in self.mem.feeds.iter().enumerate() {
            if let Some((parent, at)) = child.parent
                && parent == n
                && let Some((_, proved)) = self.end_on(v, c as u32, tip)?
            {
                return Ok(Some((at, proved)));
            }
        }
        Ok(None)
    }

    fn uncovered_run(&self, v: &View, chain: u32, from: u64, to: u64) -> Result<Lack, StoreError> {
        let f = &self.mem.feeds[chain as usize];
        let (mut changes, mut bytes) = (0, 0);
        for row in v.batches.range(batch_key(chain, from)..=batch_key(chain, to))? {
            changes += u64::from(from_bytes::<BatchRow>(row?.1.value(), "batch")?.changes);
        }
        for row in v.chunks.range(batch_key(chain, from)..=batch_key(chain, to))? {
            bytes += row?.1.value().len() as u64;
        }
        let hash = BatchHash(v.hash_at(chain, to)?.ok_or(StoreError::Damaged("batch hash"))?);
        let wall = |seq| Ok::<i64, StoreError>(read_batch(v, &self.mem, chain, seq)?.header.wall_ms);
        let tip = Tip { feed: f.id, seq: to, hash };
        Ok(Lack { chain, device: f.device, from, tip, changes, bytes, wall_ms: (wall(from)?, wall(to)?) })
    }

    /// Batches `from` to `to` of a chain as chunks for a mailbox, at least one, about `most` bytes: as their author sealed them, or
    /// many small ones in a pack.
    pub fn chunks_for_mailbox(&mut self, chain: u32, from: u64, to: u64, most: usize) -> Result<Vec<MailChunk>, StoreError> {
        let v = self.view()?;
        let (mut out, mut bytes) = (Vec::<MailChunk>::new(), 0);
        let mut small: Vec<MailChunk> = Vec::new();
        let mut pack = Pack::default();
        for row in v.chunks.range(batch_key(chain, from)..=batch_key(chain, to))? {
            let (key, chunk) = row?;
            let (seq, chunk) = (key.value() & 0xff_ffff_ffff, chunk.value().to_vec());
            if bytes + chunk.len() > most && !(out.is_empty() && small.is_empty()) {
                break;
            }
            bytes += chunk.len();
            let row: BatchRow = from_bytes(v.batches.get(batch_key(chain, seq))?.ok_or(StoreError::Damaged("batch"))?.value(), "batch")?;
            let made = (chunk, 1, row.changes);
            let fits = made.0.len() < limits::PACKED_BELOW && pack.add(&read_batch(&v, &self.mem, chain, seq)?);
            if fits {
                small.push(made);
                continue;
            }
            out.extend(self.packed(std::mem::take(&mut pack), std::mem::take(&mut small))?);
            if made.0.len() < limits::PACKED_BELOW && pack.add(&read_batch(&v, &self.mem, chain, seq)?) {
                small.push(made);
            } else {
                out.push(made);
            }
        }
        out.extend(self.packed(pack, small)?);
        Ok(out)
    }

    /// A pack, where it is smaller than its batches.
    fn packed(&mut self, pack: Pack, small: Vec<MailChunk>) -> Result<Vec<MailChunk>, StoreError> {
        if small.len() < 2 {
            return Ok(small);
        }
        let key = self.mail_key()?;
        let chunk = pack.seal(&self.mem.project, &key).map_err(|e| StoreError::OwnBatch(e.to_string()))?;
        if chunk.len() > small.iter().map(|m| m.0.len()).sum() {
            return Ok(small);
        }
        Ok(vec![(chunk, small.len() as u32, small.iter().map(|m| m.2).sum())])
    }
}

/// Spans that touch or overlap, as one.
fn merge(sorted: &[Span]) -> Vec<Span> {
    let mut out: Vec<Span> = Vec::new();
    for (from, end) in sorted {
        match out.last_mut() {
            Some(last) if *from <= last.1 + 1 => last.1 = last.1.max(*end),
            _ => out.push((*from, *end)),
        }
    }
    out
}
