//! Receipts of other devices: the only evidence of what they hold. And hints of where they were met.

use crate::feeds::{BatchHashes, BatchRow, FeedRow, batch_key, held_by};
use crate::tables::{View, from_bytes, to_bytes};
use crate::{Store, StoreError};
use cairn_model::{DeviceId, FeedId};
use cairn_trust::{Receipt, RelayHead, Tip, feed_id};
use redb::ReadableTable;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Where and when a device was last met; hints only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KnownDevice {
    /// `IP:PORT` where it listened, latest first.
    pub addresses: Vec<String>,
    /// When, by this device's clock, milliseconds.
    pub met_ms: i64,
    /// Over which transport.
    pub transport: String,
}

/// What others are known to hold of what is here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Changes made on this device that no other device has confirmed.
    pub unsynced: u64,
    /// Changes of any author held here that no other device has confirmed.
    pub only_here: u64,
}

/// A member, and what its receipt says that it lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The device.
    pub device: DeviceId,
    /// Changes made on this device (in any of its feeds) that it has not confirmed.
    pub lacks_own: u64,
    /// Changes of anybody held here that it has not confirmed.
    pub lacks_all: u64,
}

/// A receipt of a third device, to be handed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// Device, incarnation, number.
    pub name: (DeviceId, [u8; 16], u64),
    /// As received.
    pub bytes: Vec<u8>,
}

const ADDRESSES_KEPT: usize = 8;

/// A relay, a place, and the hash of its chain up to there.
type HeadRow = ([u8; 16], u64, [u8; 32]);

impl Store {
    /// This device's receipt for what is durable now, signed.
    pub fn make_receipt(&mut self) -> Result<Vec<u8>, StoreError> {
        let frontier = self.frontier()?;
        let counter = self.mem.receipt_counter + 1;
        self.write(|t, mem, _| {
            t.meta.insert("receipt counter", &counter.to_le_bytes()[..])?;
            mem.receipt_counter = counter;
            Ok(())
        })?;
        let receipt = Receipt { device: self.mem.device, counter, incarnation: self.mem.incarnation, frontier, heads: self.relay_heads()? };
        Ok(receipt.sign(&self.mem.project, &self.keys))
    }

    /// The ends of relays' logs as this device was shown them.
    pub fn relay_heads(&self) -> Result<Vec<RelayHead>, StoreError> {
        let kept = self.view()?.meta.get("relay heads")?.map(|b| from_bytes::<Vec<HeadRow>>(b.value(), "relay heads")).transpose()?;
        Ok(kept.unwrap_or_default().into_iter().map(|(relay, seq, hash)| RelayHead { relay, seq, hash }).collect())
    }

    /// Remembers one, for the next receipt: the latest of each relay, and of the relays seen last.
    pub fn note_relay_head(&mut self, head: RelayHead) -> Result<(), StoreError> {
        let mut heads = self.relay_heads()?;
        if heads.first() == Some(&head) {
            return Ok(());
        }
        heads.retain(|h| h.relay != head.relay);
        heads.insert(0, head);
        heads.truncate(cairn_trust::limits::RELAY_HEADS);
        let rows: Vec<HeadRow> = heads.iter().map(|h| (h.relay, h.seq, h.hash)).collect();
        let bytes = to_bytes(&rows);
        self.write(|t, _, _| {
            t.meta.insert("relay heads", &bytes[..])?;
            Ok(())
        })
    }

    /// What members say relays showed them.
    pub fn heads_of_others(&self) -> Result<Vec<(DeviceId, RelayHead)>, StoreError> {
        let receipts = self.receipts()?.into_iter().filter(|r| self.is_member(&r.device));
        Ok(receipts.flat_map(|r| r.heads.into_iter().map(move |h| (r.device, h))).collect())
    }

    /// Keeps a receipt that its device gave over a link, if it is newer than what is here.
    pub fn keep_receipt(&mut self, receipt: &Receipt, bytes: &[u8]) -> Result<(), StoreError> {
        self.keep_receipts(vec![(receipt.clone(), bytes.to_vec())], true)
    }

    /// The same for receipts that were found: of each device the newest counts. Mailboxes hold receipts of a device as it was before
    /// it was restored, which vouch for a disk that may be gone: one of another incarnation counts unless it is the older one.
    pub(crate) fn keep_receipts(&mut self, found: Vec<(Receipt, Vec<u8>)>, live: bool) -> Result<(), StoreError> {
        let mut kept: BTreeMap<DeviceId, Receipt> = self.receipts()?.into_iter().map(|r| (r.device, r)).collect();
        let mut news: BTreeMap<DeviceId, Vec<u8>> = BTreeMap::new();
        for (receipt, bytes) in found.into_iter().filter(|(r, _)| r.device != self.mem.device) {
            let newer = match kept.get(&receipt.device) {
                Some(known) if known.incarnation == receipt.incarnation => known.counter < receipt.counter,
                Some(known) => live || self.replaces(&receipt, known),
                None => true,
            };
            if newer {
                news.insert(receipt.device, bytes);
                kept.insert(receipt.device, receipt);
            }
        }
        if news.is_empty() {
            return Ok(());
        }
        self.write(|t, _, _| {
            for (device, bytes) in &news {
                t.receipts.insert(&device.0, &bytes[..])?;
            }
            Ok(())
        })
    }

    /// Of two incarnations the later one counts: it knows the other's feed, and not the other way round. A device that never wrote has
    /// no feed to tell by: then the one that claims less counts, first of what this device made, whoever hands it on.
    fn replaces(&self, receipt: &Receipt, known: &Receipt) -> bool {
        let own: BTreeSet<FeedId> = self.mem.feeds.of_device(&self.mem.device).map(|(_, f)| f.id).collect();
        let sum = |tips: &mut dyn Iterator<Item = &cairn_trust::Tip>| tips.map(|tip| u128::from(tip.seq)).sum::<u128>();
        let of_ours = |r: &Receipt| sum(&mut r.frontier.iter().filter(|tip| own.contains(&tip.feed)));
        let claims = |r: &Receipt| (of_ours(r), sum(&mut r.frontier.iter()));
        match (self.is_before(known, receipt), self.is_before(receipt, known)) {
            (true, _) => true,
            (false, true) => false,
            (false, false) => claims(receipt) < claims(known),
        }
    }

    /// `true` if a receipt is of an incarnation before that of `known`: that one knows its feed, and not the other way round.
    fn is_before(&self, receipt: &Receipt, known: &Receipt) -> bool {
        let holds = |r: &Receipt, of: &Receipt| {
            let feed = feed_id(&self.mem.project, &of.device, &of.incarnation);
            r.frontier.iter().any(|tip| tip.feed == feed)
        };
        holds(known, receipt) && !holds(receipt, known)
    }

    /// The latest receipt of every other device.
    pub fn receipts(&self) -> Result<Vec<Receipt>, StoreError> {
        let v = self.view()?;
        let mut out = Vec::new();
        for row in v.receipts.iter()? {
            out.push(Receipt::open(&self.mem.project, row?.1.value()).map_err(|_| StoreError::Damaged("receipt"))?);
        }
        Ok(out)
    }

    /// Receipts of members other than this device and `peer`, by device.
    pub fn witnesses(&self, peer: &DeviceId) -> Result<Vec<Witness>, StoreError> {
        let v = self.view()?;
        let mut out = Vec::new();
        for row in v.receipts.iter()? {
            let bytes = row?.1.value().to_vec();
            let receipt = Receipt::open(&self.mem.project, &bytes).map_err(|_| StoreError::Damaged("receipt"))?;
            if receipt.device != *peer && self.is_member(&receipt.device) {
                out.push(Witness { name: (receipt.device, receipt.incarnation, receipt.counter), bytes });
            }
        }
        Ok(out)
    }

    /// Keeps receipts that somebody handed on: each is signed by its device, so it does not matter by whom. Of each device the newest
    /// counts; what is no receipt of a member is dropped.
    pub fn keep_witnesses(&mut self, receipts: Vec<Vec<u8>>) -> Result<(), StoreError> {
        let opened = receipts.into_iter().filter_map(|bytes| Some((Receipt::open(&self.mem.project, &bytes).ok()?, bytes)));
        let found: Vec<(Receipt, Vec<u8>)> = opened.filter(|(r, _)| self.is_member(&r.device)).collect();
        self.keep_receipts(found, false)
    }

    /// Frontiers that other members signed.
    fn signed_by_others(&self) -> Result<Vec<(DeviceId, Vec<Tip>)>, StoreError> {
        let others = self.receipts()?.into_iter().filter(|r| self.is_member(&r.device) && r.device != self.mem.device);
        Ok(others.map(|r| (r.device, r.frontier)).collect())
    }

    /// What no active device but this one is known to hold.
    pub fn coverage(&self) -> Result<Coverage, StoreError> {
        let v = self.view()?;
        let open = self.mem.open.changes.len() as u64;
        let mut out = Coverage { unsynced: open, only_here: open };
        let mut all: Vec<Tip> = self.signed_by_others()?.into_iter().flat_map(|(_, tips)| tips).collect();
        all.sort_unstable();
        all.dedup();
        let covered = held_by(&v, &self.mem, &all)?;
        for (n, f) in self.mem.feeds.numbered() {
            for row in v.batches.range(batch_key(n, covered[n as usize] + 1)..batch_key(n + 1, 0))? {
                let changes = u64::from(from_bytes::<BatchRow>(row?.1.value(), "batch")?.changes);
                out.only_here += changes;
                out.unsynced += if f.device == self.mem.device { changes } else { 0 };
            }
        }
        Ok(out)
    }

    /// Members that signed for what they hold, those that hold most first. What is open here nobody can hold.
    pub fn holders(&self) -> Result<Vec<Holder>, StoreError> {
        let v = self.view()?;
        let open = self.mem.open.changes.len() as u64;
        let mut counts = Counts::new(self.mem.feeds.len());
        let mut out = Vec::new();
        for (device, tips) in self.signed_by_others()? {
            let held = held_by(&v, &self.mem, &tips)?;
            let mut holder = Holder { device, lacks_own: open, lacks_all: open };
            for (n, f) in self.mem.feeds.numbered().filter(|(n, f)| held[*n as usize] < f.seq) {
                let changes = counts.after(&v, n, f, held[n as usize])?;
                holder.lacks_all += changes;
                holder.lacks_own += if f.device == self.mem.device { changes } else { 0 };
            }
            out.push(holder);
        }
        out.sort_by_key(|h| (h.lacks_all, h.lacks_own, h.device));
        Ok(out)
    }

    /// Batches that members have signed for and that are not here: to be received from whoever has them.
    pub fn known_elsewhere(&self) -> Result<u64, StoreError> {
        let v = self.view()?;
        let mut all: Vec<Tip> = self.signed_by_others()?.into_iter().flat_map(|(_, tips)| tips).collect();
        all.sort_unstable();
        all.dedup();
        // Of each feed the furthest anybody is; a branch nobody here has begun counts from its first batch.
        let mut furthest: BTreeMap<FeedId, u64> = BTreeMap::new();
        for tip in all {
            // A branch has a name of its own, and its batches are here under the feed's: the hash tells.
            let held = match v.find(&tip.hash.0)? {
                Some((_, seq)) => seq,
                None => self.mem.feeds.of_feed(&tip.feed).map(|(_, f)| f.seq.min(tip.seq)).max().unwrap_or(0),
            };
            let missing = furthest.entry(tip.feed).or_default();
            *missing = (*missing).max(tip.seq.saturating_sub(held));
        }
        Ok(furthest.values().fold(0, |sum, n| sum.saturating_add(*n)))
    }

    /// A name for all that this device said of who belongs, to be taken before anybody is met.
    pub fn own_operations(&self) -> [u8; 32] {
        let mut own: Vec<[u8; 32]> = self.mem.control.ops().filter(|op| op.issuer == self.mem.device).map(|op| op.hash.0).collect();
        own.sort_unstable();
        *blake3::hash(&own.concat()).as_bytes()
    }

    /// Remembers that somebody was met and given all that `own` names: what was said meanwhile is not part of it.
    pub fn note_told(&mut self, own: &[u8; 32]) -> Result<(), StoreError> {
        if self.view()?.meta.get("control told")?.is_some_and(|told| told.value() == own) {
            return Ok(());
        }
        self.write(|t, _, _| {
            t.meta.insert("control told", &own[..])?;
            Ok(())
        })
    }

    /// `true` if this device said who belongs since it last met anybody: nobody else may know of it.
    pub fn has_untold_operations(&self) -> Result<bool, StoreError> {
        let own = self.mem.control.ops().any(|op| op.issuer == self.mem.device);
        let told = self.view()?.meta.get("control told")?.map(|b| b.value().to_vec());
        Ok(own && self.mem.membership.members.len() > 1 && told.as_deref() != Some(&self.own_operations()[..]))
    }

    /// Remembers where a device was met.
    pub fn note_met(&mut self, device: &DeviceId, address: Option<String>, transport: &str, now_ms: i64) -> Result<(), StoreError> {
        self.write(|t, _, _| {
            let before = t.addresses.get(&device.0)?.map(|b| from_bytes::<KnownDevice>(b.value(), "address")).transpose()?;
            let mut known = before.unwrap_or_default();
            if let Some(address) = address {
                known.addresses.retain(|a| *a != address);
                known.addresses.insert(0, address);
                known.addresses.truncate(ADDRESSES_KEPT);
            }
            (known.met_ms, known.transport) = (now_ms, transport.to_owned());
            t.addresses.insert(&device.0, &to_bytes(&known)[..])?;
            Ok(())
        })
    }

    /// Remembers whether members count this device's ticket: they may know that it was used up or revoked.
    pub fn note_refused(&mut self, refused: bool) -> Result<(), StoreError> {
        if self.is_refused()? == refused {
            return Ok(());
        }
        self.write(|t, _, _| {
            if refused {
                t.meta.insert("refused", &[][..])?;
            } else {
                t.meta.remove("refused")?;
            }
            Ok(())
        })
    }

    /// `true` if the last member met does not count this device as one.
    pub fn is_refused(&self) -> Result<bool, StoreError> {
        Ok(self.view()?.meta.get("refused")?.is_some())
    }

    /// Remembers that people compared a device's digits.
    pub fn note_verified(&mut self, device: &DeviceId) -> Result<(), StoreError> {
        self.write(|t, _, _| {
            t.meta.insert(&verified_key(device)[..], &[][..])?;
            Ok(())
        })
    }

    /// `true` if people compared this device's digits here.
    pub fn is_verified(&self, device: &DeviceId) -> Result<bool, StoreError> {
        Ok(self.view()?.meta.get(&verified_key(device)[..])?.is_some())
    }

    /// Every device met, with the hints.
    pub fn met(&self) -> Result<Vec<(DeviceId, KnownDevice)>, StoreError> {
        let v = self.view()?;
        let mut out = Vec::new();
        for row in v.addresses.iter()? {
            let (device, known) = row?;
            out.push((DeviceId(*device.value()), from_bytes(known.value(), "address")?));
        }
        Ok(out)
    }
}

/// Changes in each chain up to each of its batches, added up where somebody asks.
struct Counts(Vec<Option<Vec<u64>>>);

impl Counts {
    fn new(chains: usize) -> Self {
        Self(vec![None; chains])
    }

    /// Changes of chain `n` after batch `seq`.
    fn after(&mut self, v: &View, n: u32, f: &FeedRow, seq: u64) -> Result<u64, StoreError> {
        let slot = &mut self.0[n as usize];
        if slot.is_none() {
            let mut sums = vec![0];
            for row in v.batches.range(batch_key(n, f.base)..batch_key(n + 1, 0))? {
                let changes = u64::from(from_bytes::<BatchRow>(row?.1.value(), "batch")?.changes);
                sums.push(sums.last().map_or(0, |sum| sum + changes));
            }
            *slot = Some(sums);
        }
        let sums = slot.as_deref().unwrap_or_default();
        let before = sums.get((seq + 1).saturating_sub(f.base) as usize).copied().unwrap_or(0);
        Ok(sums.last().map_or(0, |all| all - before))
    }
}

fn verified_key(device: &DeviceId) -> String {
    format!("verified {device}")
}
