//! What a mailbox lacks and what this device lacks of it, by runs of batches; and the chunks that go there.

use crate::docs::read_batch;
use crate::feeds::{BatchHashes, BatchRow, batch_key, held_by};
use crate::tables::{View, from_bytes};
use crate::{Store, StoreError};
use cairn_model::FeedId;
use cairn_trust::{BatchHash, Claim, Lack, Pack, Proof, Tip, Worth, limits};
use std::collections::BTreeMap;

/// First and last batch.
type Span = (u64, u64);

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
            let here = v.find(&tip.hash.0)?.is_some_and(|(n, seq)| seq == tip.seq && self.mem.feeds[n as usize].id == *feed);
            // One that is longer than the run branched off, or the run did: all of it is wanted.
            let end = self.mem.feeds.of_feed(feed).map(|(_, f)| f.seq).filter(|seq| *seq < tip.seq).max().unwrap_or(0);
            out.push((!here).then_some((end + 1).max(*from)));
        }
        Ok(out)
    }

    /// What is here and neither proved nor claimed to be in a mailbox, for readers who hold `base`; and the proofs with what
    /// follows each other put together. No claim covers a batch of this device.
    pub fn uncovered(&self, proofs: &[Proof], claims: &[Claim], base: &[Tip]) -> Result<(Vec<Lack>, Vec<Proof>), StoreError> {
        let v = self.view()?;
        let mut shelves = OnChains::default();
        for proof in proofs {
            shelves.prove(self, &v, proof)?;
        }
        for claim in claims.iter().filter(|c| c.author != self.mem.device) {
            for (n, (from, end)) in self.spans(&v, claim)? {
                if self.mem.feeds[n as usize].device != self.mem.device {
                    shelves.covered.entry(n).or_default().push((from, end));
                }
            }
        }
        let held = held_by(&v, &self.mem, base)?;
        let mut out = Vec::new();
        for (n, f) in self.mem.feeds.numbered().filter(|(_, f)| f.seq >= f.base) {
            let mut covered = shelves.covered.remove(&n).unwrap_or_default();
            covered.sort_unstable();
            let mut next = held[n as usize] + 1;
            for (from, end) in merge(&covered).into_iter().chain([(f.seq + 1, f.seq + 1)]) {
                if from > next {
                    out.push(self.uncovered_run(&v, n, next, from - 1)?);
                }
                next = next.max(end + 1);
            }
        }
        Ok((out, shelves.joined()))
    }

    /// What each claim is worth beside what is proved, and how many bytes of own batches are not proved to lie there.
    pub fn weigh(&self, proofs: &[Proof], claims: &[Claim], base: &[Tip]) -> Result<(Vec<Worth>, u64), StoreError> {
        let v = self.view()?;
        let (lacks, _) = self.uncovered(proofs, &[], base)?;
        let own: u64 = lacks.iter().filter(|l| l.device == self.mem.device).map(|l| l.bytes).sum();
        let mut open: BTreeMap<u32, Vec<Span>> = BTreeMap::new();
        for lack in &lacks {
            open.entry(lack.chain).or_default().push((lack.from, lack.tip.seq));
        }
        let distrusted = self.distrusted()?;
        let mut out = Vec::with_capacity(claims.len());
        for claim in claims {
            let believed = self.is_member(&claim.writer) && !distrusted.iter().any(|d| d.device == claim.writer);
            let spans = self.spans(&v, claim)?;
            let meets = |n: &u32, span: &Span| open.get(n).is_some_and(|o| o.iter().any(|(from, end)| span.0 <= *end && span.1 >= *from));
            let of_own = |n: &u32| self.mem.feeds[*n as usize].device == self.mem.device;
            let unproved: Vec<u32> = spans.iter().filter(|(n, span)| meets(n, span)).map(|(n, _)| *n).collect();
            // A run whose end is not here may be another branch than the one that is.
            let here =
                v.find(&claim.tip.hash.0)?.is_some() && spans.iter().map(|(_, (from, end))| end + 1 - from).sum::<u64>() >= claim.batches();
            if claim.writer == self.mem.device
                && here
                && let Some((n, _)) = spans.iter().find(|(_, (_, end))| *end == claim.to)
            {
                let hash = BatchHash(v.hash_at(*n, claim.to)?.ok_or(StoreError::Damaged("batch hash"))?);
                out.push(Worth::Proved(Tip { feed: claim.tip.feed, seq: claim.to, hash }));
                continue;
            }
            out.push(match (believed, unproved.is_empty()) {
                (false, _) => Worth::Unbelieved,
                (true, true) if here => Worth::ToCheck,
                (true, true) => Worth::ToRead,
                (true, false) if unproved.iter().any(of_own) => Worth::OfOwn,
                (true, false) => Worth::ToCheck,
            });
        }
        Ok((out, own))
    }

    /// Where the batches of a claim lie on chains that are here.
    fn spans(&self, v: &View, claim: &Claim) -> Result<Vec<(u32, Span)>, StoreError> {
        let mut out = Vec::new();
        for (n, end) in self.way_to(v, claim.tip)? {
            let f = &self.mem.feeds[n as usize];
            let (from, end) = (claim.from.max(f.base), claim.to.min(end));
            if from <= end {
                out.push((n, (from, end)));
            }
        }
        Ok(out)
    }

    /// The chains that lead to a batch, each with the last batch on the way. Of a batch that is ahead of a feed without branches, all
    /// that is here of the feed.
    fn way_to(&self, v: &View, tip: Tip) -> Result<Vec<(u32, u64)>, StoreError> {
        let mut out = Vec::new();
        let mut at = v.find(&tip.hash.0)?.filter(|(n, seq)| *seq == tip.seq && self.mem.feeds[*n as usize].id == tip.feed);
        if at.is_none() {
            let mut chains = self.mem.feeds.of_feed(&tip.feed);
            // Of the own feed it is a copy of this device.
            if let (Some((n, f)), None) = (chains.next(), chains.next())
                && tip.seq > f.seq
                && f.device != self.mem.device
            {
                out.push((n, f.seq));
            }
        }
        while let Some((n, seq)) = at {
            out.push((n, seq));
            at = self.mem.feeds[n as usize].parent;
        }
        Ok(out)
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

    /// Batches made on this device that it holds.
    pub fn own_batches(&self) -> u64 {
        self.mem.feeds.of_device(&self.mem.device).map(|(_, f)| f.seq + 1 - f.base).sum()
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

/// What lies in a mailbox, by chain.
#[derive(Default)]
struct OnChains {
    covered: BTreeMap<u32, Vec<Span>>,
    /// By the chain that a proof ends on.
    proofs: BTreeMap<u32, Vec<Proof>>,
    /// Proofs of batches that are not here.
    elsewhere: Vec<Proof>,
}

impl OnChains {
    fn prove(&mut self, store: &Store, v: &View, proof: &Proof) -> Result<(), StoreError> {
        let end = v.find(&proof.tip.hash.0)?.filter(|(n, seq)| *seq == proof.tip.seq && store.mem.feeds[*n as usize].id == proof.tip.feed);
        let Some((chain, _)) = end else {
            self.elsewhere.push(proof.clone());
            return Ok(());
        };
        let mut at = end;
        while let Some((n, seq)) = at {
            let f = &store.mem.feeds[n as usize];
            if proof.from.max(f.base) <= seq {
                self.covered.entry(n).or_default().push((proof.from.max(f.base), seq));
            }
            at = f.parent.filter(|(_, before)| *before >= proof.from);
        }
        self.proofs.entry(chain).or_default().push(proof.clone());
        Ok(())
    }

    /// Proofs of one chain that follow each other, as one.
    fn joined(self) -> Vec<Proof> {
        let mut out = self.elsewhere;
        for (_, mut proofs) in self.proofs {
            proofs.sort_unstable();
            let mut run: Option<Proof> = None;
            for proof in proofs {
                match &mut run {
                    Some(last) if last.tip.seq + 1 == proof.from => {
                        last.tip = proof.tip;
                        last.chunks.extend(proof.chunks);
                    }
                    _ => out.extend(run.replace(proof)),
                }
            }
            out.extend(run);
        }
        out.sort_unstable();
        out.dedup();
        out
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
