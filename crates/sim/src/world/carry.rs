//! Mailboxes in the world: places that list late, twice and in any order, lose and bring back what they hold, give damaged bytes, and
//! are pulled out in the middle of a visit.

use super::{Check, World};
use cairn_contract::{Entry, Kept, Listing, Mailbox, MailboxError, kind_of};
use cairn_model::{ChunkHash, DeviceId};
use cairn_node::{Tally, VisitError, answer_mail, visit};
use cairn_store::StoreError;
use cairn_sync::{ExchangeSetup, Memory};
use cairn_trust::ChunkKind;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeSet;

/// What lies in a mailbox.
#[derive(Clone, Default)]
pub(super) struct Place {
    chunks: Vec<(u64, Vec<u8>)>,
    next: u64,
    /// Changes when something is gone: cursors given out before mean nothing.
    generation: u64,
    earlier: Option<Vec<(u64, Vec<u8>)>>,
}

impl Place {
    /// Puts a chunk there as somebody would who has the medium in hand.
    pub(super) fn put(&mut self, chunk: Vec<u8>) {
        self.chunks.push((self.next, chunk));
        self.next += 1;
    }
}

/// One device's visit, with what goes wrong in it.
struct Visitor<'a> {
    place: &'a mut Place,
    staged: Vec<Vec<u8>>,
    rng: ChaCha8Rng,
    faults: bool,
    /// Calls until it is pulled out.
    left: Option<u32>,
}

impl Visitor<'_> {
    fn call(&mut self) -> Result<(), MailboxError> {
        match &mut self.left {
            Some(0) => Err(MailboxError::Io("the stick".into(), "was pulled out".into())),
            Some(n) => {
                *n -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl Mailbox for Visitor<'_> {
    fn list(&mut self, cursor: &[u8]) -> Result<Listing, MailboxError> {
        self.call()?;
        let at = <[u8; 16]>::try_from(cursor).ok().map(u128::from_le_bytes);
        let from = at.filter(|c| (c >> 64) as u64 == self.place.generation).map(|c| c as u64);
        let mut listing = Listing { start_over: from.is_none(), ..Listing::default() };
        let mut end = self.place.next;
        for (id, chunk) in self.place.chunks.iter().filter(|(id, _)| from.is_none_or(|from| *id >= from)) {
            if self.faults && self.rng.random_ratio(1, 12) {
                // Not arrived yet: it is listed the next time.
                end = end.min(*id);
                continue;
            }
            let entry = Entry { name: ChunkHash::of(chunk), kind: kind_of(chunk).unwrap_or(0), bytes: chunk.len() as u32 };
            listing.entries.extend(std::iter::repeat_n(entry, if self.faults && self.rng.random_ratio(1, 10) { 2 } else { 1 }));
        }
        listing.entries.shuffle(&mut self.rng);
        listing.cursor = ((u128::from(self.place.generation) << 64) | u128::from(end)).to_le_bytes().to_vec();
        Ok(listing)
    }

    fn read(&mut self, names: &[ChunkHash]) -> Result<Vec<Vec<u8>>, MailboxError> {
        self.call()?;
        let mut out = Vec::new();
        for name in names {
            let Some((_, chunk)) = self.place.chunks.iter().find(|(_, c)| ChunkHash::of(c) == *name) else { continue };
            let mut chunk = chunk.clone();
            match if self.faults { self.rng.random_range(0..40) } else { 40 } {
                0 => continue,
                1 => chunk.truncate(self.rng.random_range(0..chunk.len())),
                2 => {
                    let at = self.rng.random_range(0..chunk.len());
                    chunk[at] ^= 1 << self.rng.random_range(0..8);
                }
                _ => {}
            }
            out.push(chunk);
        }
        out.shuffle(&mut self.rng);
        Ok(out)
    }

    fn add(&mut self, chunks: &[Vec<u8>]) -> Result<(), MailboxError> {
        self.call()?;
        self.staged.extend_from_slice(chunks);
        Ok(())
    }

    fn commit(&mut self) -> Result<Kept, MailboxError> {
        self.call()?;
        for chunk in std::mem::take(&mut self.staged) {
            self.place.chunks.push((self.place.next, chunk));
            self.place.next += 1;
        }
        Ok(Kept::Durable)
    }
}

/// The one mailbox all devices remember.
const PLACE: [u8; 16] = [1; 16];

impl World {
    /// The place itself suffers: chunks are lost, or all of it goes back to an earlier state.
    pub(super) fn disturb_place(&mut self) {
        let place = &mut self.place;
        match self.rng.random_range(0..6) {
            0 => place.earlier = Some(place.chunks.clone()),
            1 => {
                if let Some(earlier) = place.earlier.take() {
                    place.chunks = earlier;
                    place.generation += 1;
                }
            }
            2 => {
                let rng = &mut self.rng;
                place.chunks.retain(|_| rng.random_ratio(9, 10));
                place.generation += 1;
            }
            3 => {
                let twice: Vec<Vec<u8>> = place.chunks.iter().filter(|_| self.rng.random_ratio(1, 8)).map(|(_, c)| c.clone()).collect();
                for chunk in twice {
                    place.chunks.push((place.next, chunk));
                    place.next += 1;
                }
            }
            _ => {}
        }
    }

    /// Device `d` visits the mailbox. Tells whether it wrote there.
    pub(super) fn visit_place(&mut self, d: usize, faults: bool) -> Result<bool, String> {
        let seed: u64 = self.rng.random();
        let left = (faults && self.rng.random_ratio(1, 3)).then(|| self.rng.random_range(0..12));
        let way = if faults { self.rng.random_range(0..10) } else { 9 };
        let only: BTreeSet<DeviceId> = (0..self.devices.len()).filter(|n| n % 2 == 0).map(|n| self.devices[n].keys.device()).collect();
        let Some(mut store) = self.devices[d].store.take() else { return Ok(false) };
        let before = self.place.chunks.len();
        let memory = store.mailbox(&PLACE).map_err(|e| e.to_string())?.map(|b| Memory::decode(&b)).unwrap_or_default();
        let setup = ExchangeSetup {
            pull: way != 0,
            push: way != 1,
            dry_run: way == 2,
            only: (way == 3).then_some(only),
            memory,
            ..ExchangeSetup::default()
        };
        let digest = store.digest().map_err(|e| e.to_string())?;
        let mut tally = Tally { sync: store.next_sync().ok(), ..Tally::default() };
        let now = self.devices[d].clock_ms;
        let rng = ChaCha8Rng::seed_from_u64(seed);
        let mut visitor = Visitor { place: &mut self.place, staged: Vec::new(), rng, faults, left };
        let mut ask = |request| answer_mail(&mut store, Some(&PLACE), request, now, &mut tally);
        let done = visit(&mut visitor, setup, &mut ask, &mut |_| {});
        let changed = store.digest().map_err(|e| e.to_string()).is_ok_and(|after| after != digest);
        self.devices[d].store = Some(store);
        self.outcome.visits += 1;
        self.look_at_added(d, before)?;
        if way == 2 && self.place.chunks.len() != before {
            return Err("a dry run wrote into a mailbox".into());
        }
        match done.ended {
            Some(VisitError::Store(_)) if self.devices[d].disk_full => self.crash(d)?,
            Some(VisitError::Store(StoreError::Removed { .. })) if self.config.governs => {}
            Some(VisitError::Store(e)) => return Err(format!("the store failed in a visit: {e}")),
            Some(VisitError::Mailbox(_)) | None => {}
        }
        if changed {
            self.changed(d, None)?;
        }
        Ok(self.place.chunks.len() != before)
    }

    fn look_at_added(&mut self, d: usize, before: usize) -> Check {
        for (_, chunk) in &self.place.chunks[before.min(self.place.chunks.len())..] {
            self.trace.update(chunk);
            if kind_of(chunk) == Some(ChunkKind::Batch as u8) && !self.devices[d].disk.holds(chunk) {
                return Err("invariant 2: a chunk is in a mailbox before it is durable".into());
            }
        }
        Ok(())
    }

    /// Nobody meets anybody: all go by the mailbox in turn until all hold the same, and then nobody has anything to write.
    pub(super) fn heal_by_mailbox(&mut self) -> Check {
        let most = if self.config.governs || self.config.hostile { 14 } else { 8 };
        for round in 1..=most {
            self.outcome.rounds = round;
            let mut wrote = false;
            for d in 0..self.devices.len() {
                wrote |= self.visit_place(d, false)?;
            }
            if !wrote && self.all_equal()? {
                return Ok(());
            }
        }
        let equal = self.all_equal()?;
        Err(format!(
            "invariant 4: after {most} rounds by a mailbox {} devices {}",
            self.devices.len(),
            if equal { "still write" } else { "differ" }
        ))
    }
}
