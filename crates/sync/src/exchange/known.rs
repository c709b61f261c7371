//! What is known of a mailbox between visits. A cache: without it everything is listed and read again.
//!
//! Only three things prove that a mailbox holds a batch: this device put the chunk there, it opened the chunk and found the
//! batch, or the chunk's author is this device and says so. What other members claim is kept apart until the chunk was read.

use super::Listed;
use cairn_model::{ChunkHash, DeviceId};
use cairn_trust::{Claim, EpochId, Lack, Proof, Short, Tip};
use minicbor::bytes::{ByteArray, ByteVec};
use minicbor::{Decode, Encode};
use std::collections::{BTreeMap, BTreeSet};

/// What a mailbox holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Known {
    /// Batches that are proved to lie there.
    pub proofs: Vec<Proof>,
    /// Batches that members say lie there and that were not looked for yet.
    pub claims: Vec<Claim>,
    /// What its readers are taken to hold without it, as this device was told by its user.
    pub base: Vec<Tip>,
    /// Control operations (first 16 bytes of their hashes), by the chunk they were found in.
    pub ops: BTreeMap<Short, Vec<[u8; 16]>>,
    /// For whom keys of which epoch lie there, by the chunk in which that was checked.
    pub boxed: BTreeMap<Short, BTreeMap<EpochId, BTreeSet<[u8; 8]>>>,
    /// Who wrote manifests there, and when last by their clocks: for people, never evidence.
    pub writers: BTreeMap<DeviceId, i64>,
    /// Other chunks about the project that were opened and dealt with.
    pub read: BTreeSet<Short>,
    /// Chunks that do not open with the read keys that were here.
    pub sealed: Vec<Listed>,
    /// Chunks of batches whose place was not here when they were read.
    pub early: Vec<Listed>,
    /// Chunks that were listed and could not be read whole: tried again at each visit.
    pub lost: Vec<Listed>,
}

/// What a device remembers of a mailbox between exchanges.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// Where the next listing begins.
    pub cursor: Vec<u8>,
    /// What it holds.
    pub known: Known,
    /// What was here when `sealed` and `early` were tried, in two numbers that change when trying again may help.
    pub tried: Tried,
    /// Batches were taken from it, and no receipt was left yet.
    pub owes_receipt: bool,
    /// Something lay there once.
    pub begun: bool,
}

/// Changes when chunks that could not be used may have become usable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tried {
    /// Changes with the read keys and the control log.
    pub keys: u64,
    /// Changes with the batches that are held.
    pub held: u64,
}

/// Batches of one author on their way.
#[derive(Clone, Debug, PartialEq)]
pub struct Lot {
    /// Author.
    pub device: DeviceId,
    /// Batches.
    pub batches: u64,
    /// Changes in them.
    pub changes: u64,
    /// Bytes of their chunks.
    pub bytes: u64,
    /// Author's clock at the first and the last, milliseconds: advisory.
    pub wall_ms: (i64, i64),
}

impl From<&Lack> for Lot {
    fn from(l: &Lack) -> Self {
        Self { device: l.device, batches: l.tip.seq + 1 - l.from, changes: l.changes, bytes: l.bytes, wall_ms: l.wall_ms }
    }
}

impl Lot {
    /// Adds `other` to the lot of its author.
    pub(super) fn gather(lots: &mut Vec<Lot>, other: Lot) {
        match lots.iter_mut().find(|l| l.device == other.device) {
            Some(lot) => {
                lot.batches += other.batches;
                lot.changes += other.changes;
                lot.bytes += other.bytes;
                lot.wall_ms = (lot.wall_ms.0.min(other.wall_ms.0), lot.wall_ms.1.max(other.wall_ms.1));
            }
            None => lots.push(other),
        }
    }
}

impl Known {
    /// Remembers that a chunk was opened, here or by its maker, and holds these batches of one feed.
    pub(super) fn prove(&mut self, chunk: Short, from: u64, tip: Tip) {
        let batches = u32::try_from(tip.seq + 1 - from).unwrap_or(u32::MAX);
        self.proofs.push(Proof { from, tip, chunks: vec![(chunk, batches)] });
    }

    /// Chunks whose batches are proved to lie there.
    pub(super) fn proved(&self) -> BTreeSet<Short> {
        self.proofs.iter().flat_map(|p| &p.chunks).map(|(chunk, _)| *chunk).collect()
    }

    /// Forgets whatever lay in chunks that are not there any more.
    pub(super) fn keep_only(&mut self, there: &dyn Fn(&Short) -> bool) {
        let before = std::mem::take(&mut self.proofs);
        self.proofs = before.into_iter().flat_map(|proof| pieces_there(proof, there)).collect();
        self.claims.retain(|c| there(&c.chunk.short()));
        self.ops.retain(|chunk, _| there(chunk));
        self.boxed.retain(|chunk, _| there(chunk));
        self.read.retain(|chunk| there(chunk));
        for list in [&mut self.sealed, &mut self.early, &mut self.lost] {
            list.retain(|entry| there(&entry.name.short()));
        }
        if self.read.is_empty() {
            // Another file lies in its place.
            self.writers.clear();
        }
    }
}

/// The runs of a proof that are left without the chunks that are gone. The hash of a run's end is known for the last run only, so
/// what lies before a chunk that is gone is forgotten, and its chunks are read again.
fn pieces_there(mut proof: Proof, there: &dyn Fn(&Short) -> bool) -> Option<Proof> {
    if let Some(gone) = proof.chunks.iter().rposition(|(chunk, _)| !there(chunk)) {
        let before: u64 = proof.chunks.drain(..=gone).map(|(_, batches)| u64::from(batches)).sum();
        proof.from += before;
    }
    (!proof.chunks.is_empty()).then_some(proof)
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct ProofCbor {
    #[n(1)]
    from: u64,
    #[n(2)]
    tip: Tip,
    /// 16 bytes of the name and the number of batches as four little-endian bytes each.
    #[n(3)]
    chunks: ByteVec,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct ClaimCbor {
    #[n(1)]
    writer: ByteArray<32>,
    #[n(2)]
    author: ByteArray<32>,
    #[n(3)]
    chunk: ByteArray<32>,
    #[n(4)]
    bytes: u32,
    #[n(5)]
    span: (u64, u64),
    #[n(6)]
    tip: Tip,
    #[n(7)]
    changes: u32,
    #[n(8)]
    wall_ms: (i64, i64),
}

/// Keys 2 to 5 are of version 0.1, which did not tell proofs from claims.
#[derive(Encode, Decode)]
#[cbor(map)]
struct MemoryCbor {
    #[n(1)]
    cursor: ByteVec,
    #[n(6)]
    owes_receipt: bool,
    #[n(7)]
    begun: Option<bool>,
    #[n(8)]
    known: Option<KnownCbor>,
    #[n(9)]
    tried: Option<(u64, u64)>,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct KnownCbor {
    #[n(1)]
    proofs: Vec<ProofCbor>,
    #[n(2)]
    claims: Vec<ClaimCbor>,
    #[n(3)]
    base: Vec<Tip>,
    #[n(4)]
    ops: Vec<(ByteArray<16>, ByteVec)>,
    #[n(5)]
    boxed: Vec<(ByteArray<16>, ByteArray<16>, ByteVec)>,
    #[n(6)]
    read: ByteVec,
    /// Names, kind and bytes: 37 bytes each.
    #[n(7)]
    sealed: ByteVec,
    #[n(8)]
    early: ByteVec,
    #[n(9)]
    lost: ByteVec,
    #[n(10)]
    writers: Vec<(ByteArray<32>, i64)>,
}

const LISTED_BYTES: usize = 37;

fn encode_listed(list: &[Listed]) -> ByteVec {
    let mut out = Vec::with_capacity(list.len() * LISTED_BYTES);
    for entry in list {
        out.extend(entry.name.0);
        out.push(entry.kind);
        out.extend(entry.bytes.to_le_bytes());
    }
    out.into()
}

fn decode_listed(bytes: &[u8]) -> Vec<Listed> {
    let (rows, _) = bytes.as_chunks::<LISTED_BYTES>();
    let entry = |row: &[u8; LISTED_BYTES]| {
        let mut name = [0; 32];
        name.copy_from_slice(&row[..32]);
        Listed { name: ChunkHash(name), kind: row[32], bytes: u32::from_le_bytes([row[33], row[34], row[35], row[36]]) }
    };
    rows.iter().map(entry).collect()
}

impl From<&Known> for KnownCbor {
    fn from(k: &Known) -> Self {
        let pieces = |p: &Proof| p.chunks.iter().flat_map(|(c, n)| c.iter().copied().chain(n.to_le_bytes())).collect::<Vec<u8>>().into();
        let claim = |c: &Claim| ClaimCbor {
            writer: c.writer.0.into(),
            author: c.author.0.into(),
            chunk: c.chunk.0.into(),
            bytes: c.bytes,
            span: (c.from, c.to),
            tip: c.tip,
            changes: c.changes,
            wall_ms: c.wall_ms,
        };
        let boxes = k.boxed.iter().flat_map(|(chunk, epochs)| epochs.iter().map(move |(epoch, who)| (chunk, epoch, who)));
        Self {
            proofs: k.proofs.iter().map(|p| ProofCbor { from: p.from, tip: p.tip, chunks: pieces(p) }).collect(),
            claims: k.claims.iter().map(claim).collect(),
            base: k.base.clone(),
            ops: k.ops.iter().map(|(chunk, ops)| ((*chunk).into(), ops.concat().into())).collect(),
            boxed: boxes
                .map(|(chunk, epoch, who)| ((*chunk).into(), epoch.0.into(), who.iter().copied().collect::<Vec<[u8; 8]>>().concat().into()))
                .collect(),
            read: k.read.iter().copied().collect::<Vec<Short>>().concat().into(),
            sealed: encode_listed(&k.sealed),
            early: encode_listed(&k.early),
            lost: encode_listed(&k.lost),
            writers: k.writers.iter().map(|(device, at)| (device.0.into(), *at)).collect(),
        }
    }
}

impl From<KnownCbor> for Known {
    fn from(row: KnownCbor) -> Self {
        let piece = |row: &[u8; 20]| {
            let mut chunk = [0; 16];
            chunk.copy_from_slice(&row[..16]);
            (chunk, u32::from_le_bytes([row[16], row[17], row[18], row[19]]))
        };
        let proof = |p: ProofCbor| Proof { from: p.from, tip: p.tip, chunks: p.chunks.as_chunks::<20>().0.iter().map(piece).collect() };
        let claim = |c: ClaimCbor| Claim {
            writer: DeviceId(*c.writer),
            author: DeviceId(*c.author),
            chunk: ChunkHash(*c.chunk),
            bytes: c.bytes,
            from: c.span.0,
            to: c.span.1,
            tip: c.tip,
            changes: c.changes,
            wall_ms: c.wall_ms,
        };
        let mut boxed: BTreeMap<Short, BTreeMap<EpochId, BTreeSet<[u8; 8]>>> = BTreeMap::new();
        for (chunk, epoch, who) in &row.boxed {
            let readers = who.as_chunks::<8>().0.iter().copied();
            boxed.entry(**chunk).or_default().entry(EpochId(**epoch)).or_default().extend(readers);
        }
        Self {
            proofs: row.proofs.into_iter().map(proof).collect(),
            claims: row.claims.into_iter().map(claim).collect(),
            base: row.base,
            ops: row.ops.iter().map(|(chunk, ops)| (**chunk, ops.as_chunks::<16>().0.to_vec())).collect(),
            boxed,
            read: row.read.as_chunks::<16>().0.iter().copied().collect(),
            sealed: decode_listed(&row.sealed),
            early: decode_listed(&row.early),
            lost: decode_listed(&row.lost),
            writers: row.writers.iter().map(|(device, at)| (DeviceId(**device), *at)).collect(),
        }
    }
}

impl Memory {
    /// Bytes to keep.
    pub fn encode(&self) -> Vec<u8> {
        let row = MemoryCbor {
            cursor: self.cursor.clone().into(),
            owes_receipt: self.owes_receipt,
            begun: Some(self.begun),
            known: Some(KnownCbor::from(&self.known)),
            tried: Some((self.tried.keys, self.tried.held)),
        };
        minicbor::to_vec(&row).expect("encoding to memory")
    }

    /// From kept bytes. Bytes that do not read are forgotten: the mailbox is listed from its beginning. So is what version 0.1
    /// remembered, because it did not tell what it had seen from what it was told.
    pub fn decode(bytes: &[u8]) -> Self {
        let Ok(row) = minicbor::decode::<MemoryCbor>(bytes) else { return Self::default() };
        let (owes_receipt, begun) = (row.owes_receipt, row.begun.unwrap_or(false));
        let Some(known) = row.known else { return Self { owes_receipt, begun, ..Self::default() } };
        let (keys, held) = row.tried.unwrap_or_default();
        Self { cursor: row.cursor.into(), known: known.into(), tried: Tried { keys, held }, owes_receipt, begun }
    }

    /// The same without the place where the listing went on: everything is listed again.
    #[must_use]
    pub fn listed_again(self) -> Self {
        Self { cursor: Vec::new(), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_model::FeedId;
    use cairn_trust::BatchHash;

    fn tip(seq: u64) -> Tip {
        Tip { feed: FeedId([1; 16]), seq, hash: BatchHash([seq as u8; 32]) }
    }

    #[test]
    fn what_is_remembered_reads_back() {
        let listed = Listed { name: ChunkHash([4; 32]), kind: 6, bytes: 70_000 };
        let claim = Claim {
            writer: DeviceId([2; 32]),
            author: DeviceId([3; 32]),
            chunk: ChunkHash([5; 32]),
            bytes: 9,
            from: 3,
            to: 5,
            tip: tip(9),
            changes: 4,
            wall_ms: (-1, 7),
        };
        let mut known = Known { claims: vec![claim], base: vec![tip(2)], sealed: vec![listed], early: vec![listed; 2], ..Known::default() };
        known.prove([7; 16], 1, tip(4));
        known.ops.insert([8; 16], vec![[1; 16], [2; 16]]);
        known.boxed.entry([9; 16]).or_default().entry(EpochId([3; 16])).or_default().insert([6; 8]);
        known.read.insert([1; 16]);
        known.writers.insert(DeviceId([4; 32]), -5);
        let memory = Memory { cursor: vec![1, 2], known, tried: Tried { keys: 3, held: u64::MAX }, owes_receipt: true, begun: true };
        assert_eq!(Memory::decode(&memory.encode()), memory);
        assert_eq!(Memory::decode(b"no memory"), Memory::default());
    }

    /// Version 0.1 wrote runs without chunks: what it owed is kept, what it believed is not.
    #[test]
    fn beliefs_of_version_0_1_are_forgotten() {
        let old = [0xa7, 1, 0x42, 9, 9, 2, 0x80, 3, 0x80, 4, 0x40, 5, 0x80, 6, 0xf5, 7, 0xf5];
        assert_eq!(Memory::decode(&old), Memory { owes_receipt: true, begun: true, ..Memory::default() });
    }

    #[test]
    fn a_chunk_that_is_gone_takes_what_lay_before_it_out_of_the_proof() {
        let chunks = vec![([1; 16], 2), ([2; 16], 3), ([3; 16], 1)];
        let mut known = Known { proofs: vec![Proof { from: 1, tip: tip(6), chunks }], ..Known::default() };
        known.keep_only(&|chunk| *chunk != [2; 16]);
        assert_eq!(known.proofs, [Proof { from: 6, tip: tip(6), chunks: vec![([3; 16], 1)] }]);
    }
}
