//! What comes and goes through mailboxes beside batches: read keys, control operations, manifests, receipts, requests to enter.

use crate::control::save_ring;
use crate::docs::read_batch;
use crate::mem::{Ctx, Mem};
use crate::tables::{Tables, from_bytes, to_bytes};
use crate::{Store, StoreError};
use cairn_model::{ChunkHash, DeviceId};
use cairn_trust::{
    ChunkKind, ControlHash, ControlOp, EpochId, EpochKey, InviteMode, Keyring, Log, MailKeys, Manifest, Membership, OpBody, Receipt, Shelf,
    Tip, ask_key, box_for_readers, chunk_kind, evaluate, limits, open, open_ask, open_control, open_readers, read_keys_chunk, seal,
    seal_control,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Control operations taken from one mailbox at once: as many as a link takes.
const CONTROL_OPS: usize = 65_536;
/// Room that one more shelf takes in a manifest, in pieces.
const SHELF_ROOM: usize = 8;
/// Bytes of control operations put into one chunk.
const CONTROL_CHUNK_BYTES: usize = 256 << 10;

/// Control operations and the read key they travel under.
type UnderKey = (EpochKey, Vec<Vec<u8>>);

/// What came of chunks about the project itself. Numbers name the chunks in the order in which they were given.
#[derive(Clone, Debug, Default)]
pub struct Mail {
    /// Manifests of members whose word counts.
    pub manifests: Vec<(usize, Manifest)>,
    /// First 16 bytes of the hashes of admitted control operations in a chunk.
    pub ops: Vec<(usize, Vec<[u8; 16]>)>,
    /// For whom a chunk holds keys of which epoch: each box was made again and compared.
    pub boxed: Vec<(usize, EpochId, Vec<[u8; 8]>)>,
    /// Manifests of others: a help to read in order, not believed.
    pub unproved: Vec<(usize, Manifest)>,
    /// Chunks whose read key is not here.
    pub sealed: Vec<usize>,
    /// Chunks that wait for control operations that are not here.
    pub waiting: Vec<usize>,
    /// This device belongs, as far as the operations tell.
    pub belongs: bool,
    /// Operations that were new here.
    pub new_ops: u64,
    /// Who belongs, by these operations.
    pub membership: Arc<Membership>,
}

/// A member whose manifest named a chunk that does not hold what it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Distrusted {
    /// The member.
    pub device: DeviceId,
    /// The chunk.
    pub chunk: [u8; 32],
    /// When that was found, by this device's clock, milliseconds.
    pub at_ms: i64,
}

/// A chunk and its place among those given.
type Numbered<'a> = (usize, &'a Vec<u8>);

/// Chunks about a project, opened as far as keys go.
pub(crate) struct Reader {
    pub project: cairn_model::ProjectId,
    pub log: Log,
    pub keys: BTreeMap<EpochId, EpochKey>,
    pub discovery: [u8; 32],
    ops: BTreeMap<ControlHash, ControlOp>,
    /// Operations by the chunk they came in.
    ops_in: Vec<(usize, Vec<ControlHash>)>,
    manifests: Vec<(usize, Manifest)>,
    receipts: Vec<(Receipt, Vec<u8>)>,
    boxes: Vec<(usize, MailKeys)>,
    asks: Vec<Vec<u8>>,
    /// Discovery key by the epoch it came with.
    found: Vec<(EpochId, [u8; 32])>,
    sealed: Vec<usize>,
    waiting: BTreeSet<ControlHash>,
}

/// Boxes tried in one reading, however many lie there.
const BOXES_TRIED: usize = 8 * limits::READERS;

fn short(hash: &ControlHash) -> [u8; 16] {
    let mut out = [0; 16];
    out.copy_from_slice(&hash.0[..16]);
    out
}

impl Reader {
    pub fn new(log: Log, ring: &Keyring) -> Self {
        let keys = ring.keys.iter().map(|k| (k.id(), k.clone())).collect();
        let (ops, ops_in, manifests, receipts, boxes, asks) = Default::default();
        let (project, discovery, found) = (log.project(), ring.discovery, Vec::new());
        let (sealed, waiting) = Default::default();
        Self { project, log, keys, discovery, ops, ops_in, manifests, receipts, boxes, asks, found, sealed, waiting }
    }

    /// Opens what can be opened. A keys chunk may hold what the next one needs, so it goes round until nothing more opens.
    pub fn read(&mut self, chunks: &[Vec<u8>], device: &cairn_trust::DeviceKeys) {
        let is_keys = |c: &[u8]| chunk_kind(c).is_ok_and(|(kind, _)| kind == ChunkKind::Keys as u8);
        let numbered = chunks.iter().enumerate().filter(|(_, c)| chunk_kind(c).is_ok());
        let (mut boxes, mut left): (Vec<Numbered<'_>>, Vec<Numbered<'_>>) = numbered.partition(|(_, c)| is_keys(c));
        // Those for few first: they are for whoever was just let in.
        boxes.sort_by_key(|(_, c)| c.len());
        let mut tries = BOXES_TRIED;
        // The box for this device needs no other key, so each is tried once.
        boxes.retain(|(n, chunk)| !self.read_keys(*n, chunk, Some(device), &mut tries));
        loop {
            let before = left.len() + boxes.len();
            boxes.retain(|(n, chunk)| !self.read_keys(*n, chunk, None, &mut tries));
            left.retain(|(n, chunk)| !self.read_one(*n, chunk));
            if left.len() + boxes.len() == before {
                break;
            }
        }
        self.sealed = left.iter().chain(&boxes).map(|(n, _)| *n).collect();
        let all = self.ops.values().take(CONTROL_OPS).cloned().collect::<Vec<_>>();
        self.waiting = self.log.admit_all(all).waiting.iter().map(|op| op.hash).collect();
        self.waiting.extend(self.ops.keys().skip(CONTROL_OPS));
        let named = epochs_of(&self.log);
        if self.discovery == [0; 32] {
            // A stranger's keys chunk may open as well as any; only epochs of the log count.
            self.discovery = self.found.iter().find(|(epoch, _)| named.contains(epoch)).map_or([0; 32], |(_, key)| *key);
        }
    }

    /// `true` if nothing more can come of this chunk.
    fn read_one(&mut self, n: usize, chunk: &[u8]) -> bool {
        let Ok((kind, epoch)) = chunk_kind(chunk) else { return true };
        if kind == ChunkKind::Ask as u8 {
            self.asks.push(chunk.to_vec());
            return true;
        }
        let Some(key) = self.keys.get(&epoch).cloned() else { return false };
        if kind == ChunkKind::Control as u8 {
            let ops = open_control(&self.project, &key, chunk).unwrap_or_default();
            self.ops_in.push((n, ops.iter().map(|op| op.hash).collect()));
            self.ops.extend(ops.into_iter().map(|op| (op.hash, op)));
        } else if let Ok(body) = open(&self.project, &key, chunk) {
            if kind == ChunkKind::Manifest as u8 {
                self.manifests.extend(Manifest::open(&self.project, &body).map(|m| (n, m)));
            } else if kind == ChunkKind::Receipt as u8
                && let Ok(receipt) = Receipt::open(&self.project, &body)
            {
                self.receipts.push((receipt, body));
            }
        }
        true
    }

    /// With the key of its epoch, else by the box for `device`, as long as there are `tries`.
    fn read_keys(&mut self, n: usize, chunk: &[u8], device: Option<&cairn_trust::DeviceKeys>, tries: &mut usize) -> bool {
        let Ok(shape) = read_keys_chunk(chunk) else { return true };
        let known = self.keys.get(&shape.epoch).cloned();
        let got = match (known, device) {
            (Some(key), _) => open_readers(&self.project, &shape, None, Some(&key)),
            (None, Some(device)) if *tries >= shape.boxes() => {
                *tries -= shape.boxes();
                open_readers(&self.project, &shape, Some(device), None)
            }
            _ => None,
        };
        let Some(got) = got else { return false };
        self.found.push((shape.epoch, got.ring.discovery));
        self.keys.extend(got.ring.keys.iter().map(|k| (k.id(), k.clone())));
        self.boxes.push((n, got));
        true
    }

    /// For whom the chunks hold which keys. A list of readers is a claim, so each box is made again from its seed and compared. A
    /// chunk with another discovery key than `discovery` counts for nobody: its readers would look for other devices in vain.
    fn proved_boxes(&self, chunks: &[Vec<u8>], m: &Membership, discovery: &[u8; 32]) -> Vec<(usize, EpochId, Vec<[u8; 8]>)> {
        let agreement: BTreeMap<[u8; 8], [u8; 32]> = m.members.values().map(|m| (m.device.short(), m.agreement_key)).collect();
        let mut out = Vec::new();
        for (n, keys) in self.boxes.iter().filter(|(_, keys)| keys.ring.discovery == *discovery) {
            let Some(shape) = chunks.get(*n).and_then(|c| read_keys_chunk(c).ok()) else { continue };
            let readers = keys.proved_readers(&self.project, &shape, &|short| agreement.get(short).copied());
            // Whoever made it may have lacked keys that others have: what counts is what is in it.
            out.extend(keys.ring.keys.iter().map(|k| (*n, k.id(), readers.clone())));
        }
        out
    }

    /// Of the keys found, those that the control log names: others are nobody's.
    pub fn named_keys(&self) -> Vec<EpochKey> {
        epochs_of(&self.log).iter().filter_map(|id| self.keys.get(id).cloned()).collect()
    }

    pub fn ops(&self) -> impl Iterator<Item = &ControlOp> {
        self.ops.values()
    }
}

/// The epochs a control log names.
fn epochs_of(log: &Log) -> Vec<EpochId> {
    let first = log.genesis().and_then(|g| g.epoch);
    let minted = log.ops().filter_map(|op| match &op.body {
        OpBody::Epoch(e) => Some(e.id),
        _ => None,
    });
    first.into_iter().chain(minted).collect()
}

/// Read keys that came another way than by an operation for this device.
pub(crate) fn learn(t: &mut Tables<'_>, mem: &mut Mem, ctx: &mut Ctx<'_>, keys: Vec<EpochKey>) -> Result<(), StoreError> {
    let mut ring = (*mem.ring).clone();
    ring.keys.extend(keys.into_iter().filter(|k| !mem.epochs.contains_key(&k.id())));
    save_ring(t, ctx.keys, ctx.entropy, &ring)?;
    mem.epochs = Arc::new(ring.keys.iter().map(|k| (k.id(), k.clone())).collect());
    mem.ring = Arc::new(ring);
    Ok(())
}

impl Store {
    /// Opens chunks about the project and, if `keep`, takes in what they bring. Manifests count only from members.
    pub fn take_mail(&mut self, chunks: &[Vec<u8>], keep: bool, now_ms: i64) -> Result<Mail, StoreError> {
        let mut reader = Reader::new((*self.mem.control).clone(), &self.mem.ring);
        reader.read(chunks, &self.keys);
        let before = self.mem.control.len();
        if keep {
            self.keep_mail(&reader, now_ms)?;
        }
        let membership = if keep { self.membership() } else { Arc::new(evaluate(&reader.log)) };
        let belongs = membership.members.contains_key(&self.mem.device) && (!keep || self.still_in().is_ok());
        let boxed = reader.proved_boxes(chunks, &membership, &self.mem.discovery);
        let distrusted = self.distrusted()?;
        let believed = |d: &DeviceId| membership.members.contains_key(d) && !distrusted.iter().any(|other| other.device == *d);
        let (manifests, unproved): (Vec<_>, Vec<_>) = reader.manifests.into_iter().partition(|(_, m)| believed(&m.device));
        // What its writer may say is told by operations that are still on their way.
        let early = unproved.iter().filter(|(_, m)| !reader.log.has_grant(&m.device)).map(|(n, _)| *n);
        let blocked = reader.ops_in.iter().filter(|(_, ops)| ops.iter().any(|op| reader.waiting.contains(op))).map(|(n, _)| *n);
        // A key counts once the log names its epoch: until then the chunk is read again.
        let named: BTreeSet<EpochId> = epochs_of(&reader.log).into_iter().collect();
        let unnamed = reader.boxes.iter().filter(|(_, keys)| keys.ring.keys.iter().any(|k| !named.contains(&k.id()))).map(|(n, _)| *n);
        let waiting = early.chain(blocked).chain(unnamed).collect();
        let admitted = |ops: &[ControlHash]| ops.iter().filter(|op| reader.log.contains(op)).map(short).collect();
        Ok(Mail {
            ops: reader.ops_in.iter().map(|(n, ops)| (*n, admitted(ops))).collect(),
            manifests,
            unproved,
            boxed,
            sealed: reader.sealed,
            waiting,
            belongs,
            new_ops: (self.mem.control.len() - before) as u64,
            membership,
        })
    }

    /// Members whose manifests are not believed on this device.
    pub fn distrusted(&self) -> Result<Vec<Distrusted>, StoreError> {
        let kept = self.view()?.meta.get("distrusted")?.map(|b| from_bytes::<Vec<Distrusted>>(b.value(), "distrusted")).transpose()?;
        Ok(kept.unwrap_or_default())
    }

    /// Believes no manifest of a member from now on, in any mailbox: one named `chunk`, which does not hold what it says.
    pub fn distrust(&mut self, device: DeviceId, chunk: &ChunkHash, now_ms: i64) -> Result<(), StoreError> {
        let mut all = self.distrusted()?;
        if all.iter().any(|d| d.device == device) {
            return Ok(());
        }
        all.push(Distrusted { device, chunk: chunk.0, at_ms: now_ms });
        self.note_distrusted(&all)
    }

    /// A person says that a member's manifests are to be believed again. `false` if they were.
    pub fn believe_again(&mut self, device: &DeviceId) -> Result<bool, StoreError> {
        let mut all = self.distrusted()?;
        let before = all.len();
        all.retain(|d| d.device != *device);
        if all.len() == before {
            return Ok(false);
        }
        self.note_distrusted(&all)?;
        Ok(true)
    }

    fn note_distrusted(&mut self, all: &[Distrusted]) -> Result<(), StoreError> {
        let bytes = to_bytes(&all);
        self.write(|t, _, _| {
            t.meta.insert("distrusted", &bytes[..])?;
            Ok(())
        })
    }

    /// Two numbers that change when chunks of a mailbox that could not be used may have become usable: the first with read keys and
    /// control operations, the second with the batches that are held.
    pub fn usable_with(&self) -> (u64, u64) {
        let keys = (self.mem.control.len() as u64) << 20 | self.mem.epochs.len() as u64;
        (keys, self.mem.feeds.iter().map(|f| f.seq + 1 - f.base).sum())
    }

    fn keep_mail(&mut self, reader: &Reader, now_ms: i64) -> Result<(), StoreError> {
        let keys: Vec<EpochKey> = reader.named_keys().into_iter().filter(|k| !self.mem.epochs.contains_key(&k.id())).collect();
        let ops: Vec<ControlOp> = reader.ops().filter(|op| !self.mem.control.contains(&op.hash)).cloned().collect();
        if !keys.is_empty() {
            // The batches that waited for them are sent again: they were never held.
            self.write(|t, mem, ctx| learn(t, mem, ctx, keys))?;
        }
        self.add_control(&ops)?;
        let log = &self.mem.control;
        if ops.iter().any(|op| matches!(op.body, OpBody::Join(_)) && log.contains(&op.hash)) {
            self.build_on_joins()?;
        }
        let of_members = reader.receipts.iter().filter(|(r, _)| self.is_member(&r.device)).cloned().collect();
        self.keep_receipts(of_members, false)?;
        for ask in &reader.asks {
            self.take_ask(ask, now_ms)?;
        }
        Ok(())
    }

    /// A request to enter that somebody left in a mailbox.
    fn take_ask(&mut self, chunk: &[u8], now_ms: i64) -> Result<(), StoreError> {
        let Ok((_, epoch)) = chunk_kind(chunk) else { return Ok(()) };
        // Of a ticket that works at once too: who holds one with an old read key can leave a request where nothing else is taken.
        let wanted = |i: &&cairn_trust::Invitation| matches!(i.invite.mode, InviteMode::Approve | InviteMode::Bearer);
        let open_to: Vec<[u8; 32]> = self.mem.membership.invitations.iter().filter(wanted).map(|i| i.invite.key).collect();
        for invitation in open_to.into_iter().filter(|key| ask_key(key).id() == epoch) {
            let Ok(join) = open_ask(&self.mem.project, &invitation, chunk) else { continue };
            let Ok(op) = ControlOp::decode(&self.mem.project, &join) else { continue };
            if !self.mem.control.contains(&op.hash) {
                self.enter(&op.issuer, &join, now_ms)?;
            }
        }
        Ok(())
    }

    /// The key to seal what goes into a mailbox under: that of new batches.
    pub(crate) fn mail_key(&self) -> Result<EpochKey, StoreError> {
        self.mem.epoch_key().cloned().ok_or(StoreError::NoKeys)
    }

    /// Before something is written into a mailbox: there is a read key that nobody knows who should not. `false` if there is none and
    /// this device may not make one.
    pub fn may_mail(&mut self) -> Result<bool, StoreError> {
        if self.mem.epoch_key().is_none() {
            self.write(crate::control::ensure_epoch)?;
        }
        Ok(self.mem.epoch_key().is_some())
    }

    fn seal_mail(&mut self, kind: ChunkKind, body: &[u8]) -> Result<Vec<u8>, StoreError> {
        let nonce = self.entropy.bytes();
        let key = self.mail_key()?;
        seal(&self.mem.project, kind, &key, &nonce, body).map_err(|e| StoreError::OwnBatch(e.to_string()))
    }

    /// Members for whom the mailbox lacks a read key that is here. All keys, not the newest alone: control operations and batches lie
    /// there under each, and whoever boxed the newest may not have had the others (the simulator found that).
    fn unboxed(&self, boxed: &BTreeMap<EpochId, BTreeSet<[u8; 8]>>) -> Vec<(DeviceId, [u8; 32])> {
        let named = epochs_of(&self.mem.control);
        let here: Vec<&EpochId> = named.iter().filter(|id| self.mem.epochs.contains_key(id)).collect();
        let lacks = |d: &DeviceId| here.iter().any(|id| boxed.get(id).is_none_or(|h| !h.contains(&d.short())));
        self.mem.membership.members.values().filter(|m| lacks(&m.device)).map(|m| (m.device, m.agreement_key)).collect()
    }

    fn ops_lacking(&self, have: &BTreeSet<[u8; 16]>) -> Vec<&ControlOp> {
        self.mem.control.ops().filter(|op| !have.contains(&short(&op.hash))).collect()
    }

    /// How many control operations a mailbox lacks, and for how many members the read key.
    pub fn mail_lacking(
        &self,
        have: &BTreeSet<[u8; 16]>,
        boxed: &BTreeMap<EpochId, BTreeSet<[u8; 8]>>,
    ) -> Result<(usize, usize), StoreError> {
        Ok((self.ops_lacking(have).len(), self.unboxed(boxed).len()))
    }

    /// What a mailbox lacks of read keys and control operations, as chunks.
    pub fn mail_first(
        &mut self,
        have: &BTreeSet<[u8; 16]>,
        boxed: &BTreeMap<EpochId, BTreeSet<[u8; 8]>>,
    ) -> Result<Vec<Vec<u8>>, StoreError> {
        let (newest, ring) = (self.mail_key()?, self.mem.ring.clone());
        let mut chunks = Vec::new();
        for readers in self.unboxed(boxed).chunks(limits::READERS) {
            chunks.extend(box_for_readers(&self.mem.project, &ring, &newest, readers, self.entropy.bytes()));
        }
        let groups = self.by_epoch_before(have)?;
        for (key, ops) in groups {
            let (mut from, mut bytes) = (0, 0);
            for n in 0..=ops.len() {
                let full = ops.get(n).is_none_or(|op| bytes + op.len() > CONTROL_CHUNK_BYTES);
                if full && n > from {
                    let part: Vec<&[u8]> = ops[from..n].iter().map(Vec::as_slice).collect();
                    let sealed = seal_control(&self.mem.project, &key, &self.entropy.bytes(), &part);
                    chunks.push(sealed.map_err(|e| StoreError::OwnBatch(e.to_string()))?);
                    (from, bytes) = (n, 0);
                }
                bytes += ops.get(n).map_or(0, Vec::len);
            }
        }
        Ok(chunks)
    }

    /// A removal or the end of an invitation, and what it builds on, goes under the read key before it: the device it concerns can
    /// read it. All else goes under the newest key, which those who left do not have.
    fn by_epoch_before(&self, have: &BTreeSet<[u8; 16]>) -> Result<Vec<UnderKey>, StoreError> {
        let log = &self.mem.control;
        let newest = self.mail_key()?;
        let first = log.genesis().and_then(|g| self.mem.epochs.get(&g.epoch?)).or(self.mem.ring.keys.first()).unwrap_or(&newest);
        let mut before: BTreeMap<ControlHash, &EpochKey> = BTreeMap::new();
        for removal in log.ops().filter(|op| matches!(op.body, OpBody::Remove(_) | OpBody::Revoke(_))) {
            let ancestry = log.ancestry(&removal.hash);
            let minted = ancestry.iter().rev().find_map(|op| match &op.body {
                OpBody::Epoch(e) => self.mem.epochs.get(&e.id),
                _ => None,
            });
            for op in ancestry {
                before.entry(op.hash).or_insert(minted.unwrap_or(first));
            }
        }
        let mut groups: Vec<UnderKey> = Vec::new();
        for op in self.ops_lacking(have) {
            let under = before.get(&op.hash).copied().unwrap_or(&newest);
            match groups.iter_mut().find(|(key, _)| key == under) {
                Some((_, ops)) => ops.push(op.bytes.clone()),
                None => groups.push((under.clone(), vec![op.bytes.clone()])),
            }
        }
        Ok(groups)
    }

    /// Manifests of what was added to a mailbox (with the chain of each shelf), on top of `base`, and a receipt, as chunks.
    pub fn mail_last(&mut self, shelves: Vec<(u32, Shelf)>, base: &[Tip], now_ms: i64) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut chunks = Vec::new();
        let parts = self.manifest_parts(shelves)?;
        for shelves in parts {
            let manifest =
                Manifest { device: self.mem.device, configuration: self.lineage()?, shelves, base: base.to_vec(), made_ms: now_ms };
            let body = manifest.sign(&self.mem.project, &self.keys);
            chunks.push(self.seal_mail(ChunkKind::Manifest, &body)?);
        }
        let body = self.make_receipt()?;
        chunks.push(self.seal_mail(ChunkKind::Receipt, &body)?);
        Ok(chunks)
    }

    /// Shelves put together as one manifest each holds; a long one is split where a batch's hash is known.
    fn manifest_parts(&self, shelves: Vec<(u32, Shelf)>) -> Result<Vec<Vec<Shelf>>, StoreError> {
        let mut parts: Vec<Vec<Shelf>> = Vec::new();
        let mut room = 0;
        for (chain, shelf) in shelves {
            let mut from = shelf.from;
            for pieces in shelf.pieces.chunks(limits::MANIFEST_PIECES) {
                let seq = from + pieces.iter().map(|p| u64::from(p.batches)).sum::<u64>() - 1;
                let tip = Tip { seq, hash: self.hash_of(chain, seq)?, ..shelf.tip };
                if pieces.len() + SHELF_ROOM > room {
                    parts.push(Vec::new());
                    room = limits::MANIFEST_PIECES;
                }
                room = room.saturating_sub(pieces.len() + SHELF_ROOM);
                if let Some(part) = parts.last_mut() {
                    part.push(Shelf { from, tip, pieces: pieces.to_vec(), ..shelf });
                }
                from = seq + 1;
            }
        }
        Ok(parts)
    }

    /// What is remembered of a mailbox.
    pub fn mailbox(&self, id: &[u8; 16]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.view()?.mailboxes.get(id)?.map(|b| b.value().to_vec()))
    }

    /// Remembers it.
    pub fn note_mailbox(&mut self, id: &[u8; 16], memory: &[u8]) -> Result<(), StoreError> {
        self.write(|t, _, _| {
            t.mailboxes.insert(id, memory)?;
            Ok(())
        })
    }

    /// The latest time each device's clock gave to a batch of its own.
    pub fn newest_wall_ms(&self) -> Result<Vec<(cairn_model::DeviceId, i64)>, StoreError> {
        let v = self.view()?;
        let mut out = std::collections::BTreeMap::new();
        for (n, feed) in self.mem.feeds.iter().enumerate().filter(|(_, f)| f.seq >= f.base) {
            let ms = read_batch(&v, &self.mem, n as u32, feed.seq)?.header.wall_ms;
            let newest = out.entry(feed.device).or_insert(ms);
            *newest = ms.max(*newest);
        }
        Ok(out.into_iter().collect())
    }

    /// Tips before the first batch of each chain that its author's clock puts at or after `since_ms`. Clocks may be wrong: it only
    /// makes a bundle smaller.
    pub fn tips_before(&self, since_ms: i64) -> Result<Vec<Tip>, StoreError> {
        let v = self.view()?;
        let mut tips = Vec::new();
        for (n, f) in self.mem.feeds.iter().enumerate() {
            let mut seq = f.seq;
            while seq >= f.base && read_batch(&v, &self.mem, n as u32, seq)?.header.wall_ms >= since_ms {
                seq -= 1;
            }
            if seq >= f.base {
                tips.push(Tip { feed: f.id, seq, hash: self.hash_of(n as u32, seq)? });
            }
        }
        Ok(tips)
    }

    /// What chunks of a mailbox say to a device that asked to enter: the control operations and read keys, once it belongs.
    pub fn entered_by_mail(
        project: cairn_model::ProjectId,
        keys: &cairn_trust::DeviceKeys,
        chunks: &[Vec<u8>],
    ) -> Option<(Vec<ControlOp>, Keyring)> {
        let nothing = Keyring { discovery: [0; 32], keys: Vec::new() };
        let mut reader = Reader::new(Log::new(project), &nothing);
        reader.read(chunks, keys);
        let belongs = evaluate(&reader.log).members.contains_key(&keys.device());
        let ring = Keyring { discovery: reader.discovery, keys: reader.named_keys() };
        belongs.then(|| (reader.log.ops().cloned().collect(), ring))
    }

    /// Read keys that are here, the one that new batches are sealed with first, then the latest to come.
    pub fn read_keys(&self) -> Vec<EpochKey> {
        let newest = self.mem.epoch_key().cloned();
        let others = self.mem.ring.keys.iter().rev().filter(|k| Some(*k) != newest.as_ref()).cloned();
        newest.iter().cloned().chain(others).collect()
    }

    /// This device's request to be let in by its invitation, as a chunk for those who have not heard of it: always the same bytes.
    pub fn own_ask(&self) -> Option<Vec<u8>> {
        let join = self.mem.control.ops().filter(|op| op.issuer == self.mem.device).find_map(|op| match &op.body {
            OpBody::Join(join) => Some((op, join.invite)),
            _ => None,
        });
        let (op, invite) = join?;
        let Some(OpBody::Invite(invite)) = self.mem.control.find(&invite).map(|op| &op.body) else { return None };
        cairn_trust::seal_ask(&self.mem.project, &invite.key, &op.bytes).ok()
    }

    /// This device's sub-folder of a shared folder.
    pub fn writer_tag(&self) -> [u8; 8] {
        cairn_trust::writer_tag(&self.mem.discovery, &self.mem.device, &self.mem.incarnation)
    }
}
