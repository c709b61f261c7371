//! Feeds and where a batch belongs in them. A batch is placed by the hash of its predecessor, never by a label, so
//! copies of one device that both wrote on become branches, held and forwarded like any other feed.

use crate::mem::Mem;
use crate::tables::{Tables, View, from_bytes, to_bytes};
use crate::{Store, StoreError};
use cairn_model::{DeviceId, FeedId, UnitId};
use cairn_trust::{BatchHash, Digest, Frontier, Header, Tip, branch_id, digest};
use redb::ReadableTable;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

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

pub(crate) fn hash_key(hash: &[u8; 32]) -> [u8; 16] {
    let mut key = [0; 16];
    key.copy_from_slice(&hash[..16]);
    key
}

/// Where a batch is: its chain and its number.
pub(crate) type Place = (u32, u64);

/// Reads hashes of batches from a write or a read transaction alike.
pub(crate) trait BatchHashes {
    fn hash_at(&self, feed: u32, seq: u64) -> Result<Option<[u8; 32]>, StoreError>;

    /// The key that the first half of a hash leads to.
    fn key_of(&self, half: &[u8; 16]) -> Result<Option<u64>, StoreError>;

    /// Where the batch of this hash is held, if it is.
    fn find(&self, hash: &[u8; 32]) -> Result<Option<Place>, StoreError> {
        let Some(key) = self.key_of(&hash_key(hash))? else { return Ok(None) };
        let (chain, seq) = ((key >> 40) as u32, key & 0xff_ffff_ffff);
        Ok((self.hash_at(chain, seq)? == Some(*hash)).then_some((chain, seq)))
    }
}

impl BatchHashes for Tables<'_> {
    fn hash_at(&self, feed: u32, seq: u64) -> Result<Option<[u8; 32]>, StoreError> {
        let row = self.batches.get(batch_key(feed, seq))?;
        row.map(|r| Ok(from_bytes::<BatchRow>(r.value(), "batch")?.hash)).transpose()
    }

    fn key_of(&self, half: &[u8; 16]) -> Result<Option<u64>, StoreError> {
        Ok(self.by_hash.get(half)?.map(|k| k.value()))
    }
}

impl BatchHashes for View {
    fn hash_at(&self, feed: u32, seq: u64) -> Result<Option<[u8; 32]>, StoreError> {
        let row = self.batches.get(batch_key(feed, seq))?;
        row.map(|r| Ok(from_bytes::<BatchRow>(r.value(), "batch")?.hash)).transpose()
    }

    fn key_of(&self, half: &[u8; 16]) -> Result<Option<u64>, StoreError> {
        Ok(self.by_hash.get(half)?.map(|k| k.value()))
    }
}

/// Decides where a batch of `header` named `hash` belongs.
pub(crate) fn place(t: &impl BatchHashes, mem: &Mem, header: &Header, hash: &BatchHash) -> Result<Slot, StoreError> {
    if let Some((n, _)) = t.find(&hash.0)? {
        return Ok(Slot::Held(n));
    }
    let Some(prev) = header.prev else {
        let empty = mem.feeds.of_feed(&header.feed).find(|(_, f)| f.base == 1 && f.seq == 0);
        return Ok(empty.map_or(Slot::NewChain { parent: None, base: 1 }, |(n, _)| Slot::Append(n)));
    };
    let before = header.seq - 1;
    let Some((n, _)) = t.find(&prev.0)?.filter(|(n, seq)| *seq == before && mem.feeds[*n as usize].id == header.feed) else {
        return Ok(Slot::Gap);
    };
    let forked_here = mem.feeds.children(n).iter().any(|(_, at)| *at == before);
    if mem.feeds[n as usize].seq == before && !forked_here {
        return Ok(Slot::Append(n));
    }
    Ok(Slot::NewChain { parent: Some((n, before)), base: header.seq })
}

/// Adds a chain and gives its number.
pub(crate) fn new_chain(t: &mut Tables<'_>, mem: &mut Mem, row: FeedRow) -> Result<u32, StoreError> {
    let bytes = to_bytes(&row);
    let n = mem.feeds.push(row);
    t.feeds.insert(n, &bytes[..])?;
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
    for (n, f) in mem.feeds.numbered() {
        // A chain that ends exactly at a fork is implied by its branches.
        if f.seq >= f.base && mem.feeds.last_fork(n) != Some(f.seq) {
            tips.push(Tip { feed: chain_name(t, mem, n)?, seq: f.seq, hash: BatchHash(f.tip) });
        }
    }
    tips.sort_unstable();
    Ok(tips)
}

/// The id of a chain's end: of the feed, or past a fork of the branch. Past a fork both sides are branches, so that the
/// name does not depend on which side came first.
pub(crate) fn chain_name(t: &impl BatchHashes, mem: &Mem, n: u32) -> Result<FeedId, StoreError> {
    let f = &mem.feeds[n as usize];
    let start = mem.feeds.last_fork(n).map(|at| at + 1).or((f.base > 1 || sibling_root(mem, n)).then_some(f.base));
    match start.filter(|s| *s <= f.seq) {
        Some(start) => Ok(branch_id(&f.id, &t.hash_at(n, start)?.ok_or(StoreError::Damaged("batch hash"))?)),
        None => Ok(f.id),
    }
}

/// Two chains that both start at batch 1 under one id.
fn sibling_root(mem: &Mem, n: u32) -> bool {
    let me = &mem.feeds[n as usize];
    me.base == 1 && mem.feeds.of_feed(&me.id).any(|(o, f)| o != n && f.base == 1 && f.seq >= f.base)
}

/// Of each chain the last batch that a holder of `theirs` has; one before its first batch if none.
pub(crate) fn held_by(t: &impl BatchHashes, mem: &Mem, theirs: &[Tip]) -> Result<Vec<u64>, StoreError> {
    let mut has: Vec<u64> = mem.feeds.iter().map(|f| f.base - 1).collect();
    for tip in theirs {
        if let Some((n, seq)) = t.find(&tip.hash.0)? {
            has[n as usize] = has[n as usize].max(seq);
        }
    }
    // Whoever holds a branch holds what it left. A chain has a higher number than its parent.
    for (n, f) in mem.feeds.numbered().rev() {
        if let Some((parent, at)) = f.parent.filter(|_| has[n as usize] >= f.base) {
            has[parent as usize] = has[parent as usize].max(at);
        }
    }
    Ok(has)
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
        let held = held_by(&v, &self.mem, theirs)?;
        let mut by_name: BTreeMap<FeedId, Vec<&Tip>> = BTreeMap::new();
        for tip in theirs {
            by_name.entry(tip.feed).or_default().push(tip);
        }
        let named = |feed: &FeedId| by_name.get(feed).map_or(&[][..], Vec::as_slice);
        let mut missing = Vec::new();
        let mut diverged: BTreeSet<FeedId> = BTreeSet::new();
        for (n, f) in self.mem.feeds.numbered().filter(|(_, f)| f.seq >= f.base) {
            // Who is further along this chain has what is here; if it is another branch, they see that and send a ladder.
            let name = chain_name(&v, &self.mem, n)?;
            let ahead = named(&name).iter().any(|t| t.seq > f.seq);
            let has = if ahead { f.seq } else { held[n as usize] };
            if has < f.seq {
                missing.push((n, has + 1, f.seq - has));
            }
            if let Some(tip) = named(&f.id).iter().find(|t| t.seq <= f.seq)
                && v.find(&tip.hash.0)?.is_none()
            {
                diverged.insert(f.id);
            }
        }
        // What a ladder will find is not sent blindly.
        missing.retain(|(n, _, _)| !diverged.contains(&self.mem.feeds[*n as usize].id));
        Ok((missing, diverged.into_iter().collect()))
    }

    /// Chains in which configurations of this project are written: what still flows while observations wait.
    pub fn configuration_chains(&self) -> Result<BTreeSet<u32>, StoreError> {
        let mut chains = BTreeSet::new();
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
        for (n, f) in self.mem.feeds.of_feed(feed) {
            let (mut seq, mut step) = (f.seq, 1);
            while seq >= f.base && seq > 0 {
                rungs.push((seq, BatchHash(v.hash_at(n, seq)?.ok_or(StoreError::Damaged("batch hash"))?)));
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
        let held = held_by(&v, &self.mem, &tips)?;
        let mut missing = Vec::new();
        for (n, f) in self.mem.feeds.of_feed(feed) {
            let has = held[n as usize];
            if has < f.seq {
                missing.push((n, has + 1, f.seq - has));
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
