//! Feeds and where a batch belongs in them. A batch is placed by the hash of its predecessor, never by a label, so
//! copies of one device that both wrote on become branches, held and forwarded like any other feed.

use crate::mem::Mem;
use crate::tables::{Tables, View, from_bytes, to_bytes};
use crate::{Store, StoreError};
use cairn_model::{DeviceId, FeedId, UnitId};
use cairn_trust::{BatchHash, Digest, Frontier, Header, Tip, branch_id, digest};
use redb::ReadableTable;
use serde::{Deserialize, Serialize};

/// One chain of batches. A branch starts after batch `base - 1` of its parent chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeedRow {
    /// Id of the feed the chain belongs to, as its headers say.
    pub id: FeedId,
    /// Its author.
    pub device: DeviceId,
    /// Number of its first batch.
    pub base: u64,
    /// Last batch held; `base - 1` before the first.
    pub seq: u64,
    /// Hash of the last batch.
    pub tip: [u8; 32],
    /// Chain (number of its row) this one leaves, and after which batch.
    pub parent: Option<(u32, u64)>,
}

/// Consecutive batches of one chain: its number, the first batch, how many.
pub type Run = (u32, u64, u64);

/// What a held batch counts for. Apart from holding it, and never moving the frontier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// Applied.
    Accepted,
    /// For something that is not here yet: a control operation, a configuration, a newer version.
    Waiting,
    /// Its author lacked the right.
    Quarantined,
    /// Its content breaks the rules an author must keep.
    Void,
}

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct BatchRow {
    pub hash: [u8; 32],
    pub verdict: Verdict,
    pub changes: u32,
    pub unit: UnitId,
}

/// Where a batch goes.
pub(crate) enum Slot {
    /// Held already, on this chain.
    Held(u32),
    /// Next on this chain.
    Append(u32),
    /// First of a new chain.
    NewChain { parent: Option<(u32, u64)>, base: u64 },
    /// Its predecessor is not here.
    Gap,
}

pub(crate) fn batch_key(feed: u32, seq: u64) -> u64 {
    (u64::from(feed) << 40) | (seq & 0xff_ffff_ffff)
}

/// Reads the hash of one batch from a write or a read transaction alike.
pub(crate) trait BatchHashes {
    fn hash_at(&self, feed: u32, seq: u64) -> Result<Option<[u8; 32]>, StoreError>;
}

impl BatchHashes for Tables<'_> {
    fn hash_at(&self, feed: u32, seq: u64) -> Result<Option<[u8; 32]>, StoreError> {
        let row = self.batches.get(batch_key(feed, seq))?;
        row.map(|r| Ok(from_bytes::<BatchRow>(r.value(), "batch")?.hash)).transpose()
    }
}

impl BatchHashes for View {
    fn hash_at(&self, feed: u32, seq: u64) -> Result<Option<[u8; 32]>, StoreError> {
        let row = self.batches.get(batch_key(feed, seq))?;
        row.map(|r| Ok(from_bytes::<BatchRow>(r.value(), "batch")?.hash)).transpose()
    }
}

/// Decides where a batch of `header` named `hash` belongs.
pub(crate) fn place(t: &impl BatchHashes, mem: &Mem, header: &Header, hash: &BatchHash) -> Result<Slot, StoreError> {
    let chains = || mem.feeds.iter().enumerate().filter(|(_, f)| f.id == header.feed).map(|(n, f)| (n as u32, f));
    for (n, f) in chains() {
        if (f.base..=f.seq).contains(&header.seq) && t.hash_at(n, header.seq)? == Some(hash.0) {
            return Ok(Slot::Held(n));
        }
    }
    let Some(prev) = header.prev else {
        let empty = chains().find(|(_, f)| f.base == 1 && f.seq == 0);
        return Ok(empty.map_or(Slot::NewChain { parent: None, base: 1 }, |(n, _)| Slot::Append(n)));
    };
    let before = header.seq - 1;
    for (n, f) in chains() {
        let forked_here = mem.feeds.iter().any(|c| c.parent == Some((n, before)));
        if f.seq == before && f.tip == prev.0 && f.seq >= f.base && !forked_here {
            return Ok(Slot::Append(n));
        }
    }
    for (n, f) in chains() {
        if (f.base..=f.seq).contains(&before) && t.hash_at(n, before)? == Some(prev.0) {
            return Ok(Slot::NewChain { parent: Some((n, before)), base: header.seq });
        }
    }
    Ok(Slot::Gap)
}

/// Adds a chain and gives its number.
pub(crate) fn new_chain(t: &mut Tables<'_>, mem: &mut Mem, row: FeedRow) -> Result<u32, StoreError> {
    let n = mem.feeds.len() as u32;
    t.feeds.insert(n, &to_bytes(&row)[..])?;
    mem.feeds.push(row);
    Ok(n)
}

/// The digest of what memory knows and a frontier.
pub(crate) fn digest_of(mem: &Mem, frontier: &Frontier) -> Digest {
    let mut heads = mem.membership.heads.clone();
    let (own, latest) = (mem.configuration_lineage(), mem.membership.lineage());
    if own != latest {
        // Who has not followed a switch of configuration holds the same and counts less of it.
        let behind = blake3::derive_key("cairn behind v1", &own.unwrap_or(cairn_model::DocId([0; 16])).0);
        heads.push(cairn_trust::ControlHash(behind));
    }
    digest(&heads, frontier, &mem.open.hashes())
}

/// The frontier: the tip of every chain, under the id all devices give it.
pub(crate) fn frontier(t: &impl BatchHashes, mem: &Mem) -> Result<Frontier, StoreError> {
    let mut tips = Vec::with_capacity(mem.feeds.len());
    for (n, f) in mem.feeds.iter().enumerate() {
        // A chain that ends exactly at a fork is implied by its branches.
        if f.seq >= f.base && last_fork(mem, n as u32) != Some(f.seq) {
            tips.push(Tip { feed: chain_name(t, mem, n as u32)?, seq: f.seq, hash: BatchHash(f.tip) });
        }
    }
    tips.sort_unstable();
    Ok(tips)
}

/// The last batch of chain `n` after which another chain leaves it.
fn last_fork(mem: &Mem, n: u32) -> Option<u64> {
    mem.feeds.iter().filter_map(|c| c.parent.filter(|(p, _)| *p == n).map(|(_, at)| at)).max()
}

/// The id of a chain's end: of the feed, or past a fork of the branch. Past a fork both sides are branches, so that the
/// name does not depend on which side came first.
pub(crate) fn chain_name(t: &impl BatchHashes, mem: &Mem, n: u32) -> Result<FeedId, StoreError> {
    let f = &mem.feeds[n as usize];
    let start = last_fork(mem, n).map(|at| at + 1).or((f.base > 1 || sibling_root(mem, n)).then_some(f.base));
    match start.filter(|s| *s <= f.seq) {
        Some(start) => Ok(branch_id(&f.id, &t.hash_at(n, start)?.ok_or(StoreError::Damaged("batch hash"))?)),
        None => Ok(f.id),
    }
}

/// Two chains that both start at batch 1 under one id.
fn sibling_root(mem: &Mem, n: u32) -> bool {
    let me = &mem.feeds[n as usize];
    mem.feeds.iter().enumerate().any(|(o, f)| o as u32 != n && f.id == me.id && f.base == 1 && me.base == 1 && f.seq >= f.base)
}

impl Store {
    /// What this device holds.
    pub fn frontier(&self) -> Result<Frontier, StoreError> {
        frontier(&self.view()?, &self.mem)
    }

    /// Equal on two devices if and only if they hold the same.
    pub fn digest(&self) -> Result<Digest, StoreError> {
        Ok(digest_of(&self.mem, &self.frontier()?))
    }

    /// Feeds held, with their authors.
    pub fn feeds(&self) -> &[FeedRow] {
        &self.mem.feeds
    }

    /// What `theirs` lacks of what is here: (chain, first missing batch, number of batches). Chains of which a tip was
    /// made here but is not known here are listed in the second value: their common part must be found by a ladder.
    pub fn missing_for(&self, theirs: &[Tip]) -> Result<(Vec<Run>, Vec<FeedId>), StoreError> {
        let v = self.view()?;
        let mut missing = Vec::new();
        let mut diverged = Vec::new();
        for n in 0..self.mem.feeds.len() as u32 {
            let f = &self.mem.feeds[n as usize];
            if f.seq < f.base {
                continue;
            }
            // Who is further along this chain has what is here; if it is another branch, they see that and send a ladder.
            let name = chain_name(&v, &self.mem, n)?;
            let ahead = theirs.iter().any(|t| t.feed == name && t.seq > f.seq);
            let has = if ahead { f.seq } else { self.held_by(&v, n, theirs)? };
            if has < f.seq {
                missing.push((n, has + 1, f.seq - has));
            }
            let unknown_tip = theirs.iter().find(|t| t.feed == f.id && t.seq <= f.seq);
            if let Some(tip) = unknown_tip
                && !self.chains_hold(&v, tip)?
                && !diverged.contains(&f.id)
            {
                diverged.push(f.id);
            }
        }
        // What a ladder will find is not sent blindly.
        missing.retain(|(n, _, _)| !diverged.contains(&self.mem.feeds[*n as usize].id));
        Ok((missing, diverged))
    }

    fn chains_hold(&self, v: &View, tip: &Tip) -> Result<bool, StoreError> {
        for (n, f) in self.mem.feeds.iter().enumerate() {
            if f.id == tip.feed && (f.base..=f.seq).contains(&tip.seq) && v.hash_at(n as u32, tip.seq)? == Some(tip.hash.0) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Last batch of chain `n` that a holder of `theirs` has.
    pub(crate) fn held_by(&self, v: &View, n: u32, theirs: &[Tip]) -> Result<u64, StoreError> {
        let f = &self.mem.feeds[n as usize];
        let mut has = f.base - 1;
        for tip in theirs {
            if (f.base..=f.seq).contains(&tip.seq) && tip.seq > has && v.hash_at(n, tip.seq)? == Some(tip.hash.0) {
                has = tip.seq;
            }
        }
        for (c, child) in self.mem.feeds.iter().enumerate() {
            if let Some((parent, at)) = child.parent
                && parent == n
                && at > has
                && self.held_by(v, c as u32, theirs)? >= child.base
            {
                has = at;
            }
        }
        Ok(has)
    }

    /// Chains in which configurations of this project are written: what still flows while observations wait.
    pub fn configuration_chains(&self) -> Result<std::collections::BTreeSet<u32>, StoreError> {
        let mut chains = std::collections::BTreeSet::new();
        for (_, lineage) in &self.mem.membership.lineages {
            let row = self.doc_row(cairn_model::DocKind::Configuration, lineage)?;
            chains.extend(row.into_iter().flat_map(|r| r.applied).map(|at| at.feed));
        }
        let mut all = chains.clone();
        for mut chain in chains {
            while let Some((parent, _)) = self.mem.feeds[chain as usize].parent {
                all.insert(parent);
                chain = parent;
            }
        }
        Ok(all)
    }

    /// The tip of one chain, by the name of the frontier.
    pub fn chain_tip(&self, chain: u32) -> Result<Tip, StoreError> {
        let f = &self.mem.feeds[chain as usize];
        Ok(Tip { feed: chain_name(&self.view()?, &self.mem, chain)?, seq: f.seq, hash: BatchHash(f.tip) })
    }

    /// (sequence, hash) at growing steps back on every chain of `feed`, tips first.
    pub fn ladder(&self, feed: &FeedId) -> Result<Vec<(u64, BatchHash)>, StoreError> {
        let v = self.view()?;
        let mut rungs = Vec::new();
        for (n, f) in self.mem.feeds.iter().enumerate().filter(|(_, f)| f.id == *feed) {
            let (mut seq, mut step) = (f.seq, 1);
            while seq >= f.base && seq > 0 {
                rungs.push((seq, BatchHash(v.hash_at(n as u32, seq)?.ok_or(StoreError::Damaged("batch hash"))?)));
                seq = seq.saturating_sub(step);
                step *= 2;
            }
        }
        Ok(rungs)
    }

    /// Everything of `feed` that lies after the rungs of another device's ladder.
    pub fn missing_after_ladder(&self, feed: &FeedId, rungs: &[(u64, BatchHash)]) -> Result<Vec<Run>, StoreError> {
        let tips: Vec<Tip> = rungs.iter().map(|(seq, hash)| Tip { feed: *feed, seq: *seq, hash: *hash }).collect();
        let v = self.view()?;
        let mut missing = Vec::new();
        for (n, f) in self.mem.feeds.iter().enumerate().filter(|(_, f)| f.id == *feed) {
            let has = self.held_by(&v, n as u32, &tips)?;
            if has < f.seq {
                missing.push((n as u32, has + 1, f.seq - has));
            }
        }
        Ok(missing)
    }

    /// Chunks of one chain from `from` on: at least one, then as many as fit `most` bytes.
    pub fn chunks_from(&self, chain: u32, from: u64, most: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        let v = self.view()?;
        let mut out: Vec<Vec<u8>> = Vec::new();
        let mut bytes = 0;
        for row in v.chunks.range(batch_key(chain, from)..batch_key(chain + 1, 0))? {
            let chunk = row?.1.value().to_vec();
            if !out.is_empty() && bytes + chunk.len() > most {
                break;
            }
            bytes += chunk.len();
            out.push(chunk);
        }
        Ok(out)
    }
}
