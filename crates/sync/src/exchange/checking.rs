//! What members claim of chunks whose batches are here: some are looked into at each visit, and who was wrong is not believed again.

use super::calls::{MailEffect, MailRequest};
use super::{Exchange, Listed, Stage};
use crate::limits;
use cairn_model::{ChunkHash, DeviceId};
use cairn_trust::{ChunkKind, Claim, Inside, Short, Worth};
use std::collections::{BTreeMap, BTreeSet};

impl Exchange {
    /// Between taking and giving.
    pub(super) fn check(&mut self) -> MailEffect {
        if let Some((writer, chunk)) = self.liars.pop_front() {
            self.stage = Stage::Distrusting;
            return MailEffect::Store(MailRequest::Distrust(writer, chunk));
        }
        let proved = &self.proved;
        self.memory.known.claims.retain(|c| !proved.contains(&c.chunk.short()));
        if self.weighed || self.memory.known.claims.is_empty() {
            return self.look();
        }
        (self.weighed, self.stage) = (true, Stage::Weighing);
        MailEffect::Store(MailRequest::Weigh(Box::new(self.memory.known.clone())))
    }

    /// Chooses what is looked into: claims on own batches up to what adding those would cost, of the others the newest up to a
    /// share of what the visit reads.
    pub(super) fn on_weighed(&mut self, worth: &[Worth], own_bytes: u64) -> MailEffect {
        let claims = std::mem::take(&mut self.memory.known.claims);
        let (mut own, mut others): (Vec<Claim>, Vec<Claim>) = Default::default();
        for (claim, worth) in claims.into_iter().zip(worth) {
            match worth {
                Worth::Proved(tip) => {
                    self.prove(claim.chunk.short(), claim.from, *tip);
                    continue;
                }
                Worth::Unbelieved => {
                    self.unread(&claim);
                    continue;
                }
                Worth::OfOwn => own.push(claim.clone()),
                Worth::ToCheck => others.push(claim.clone()),
                Worth::ToRead => {}
            }
            self.memory.known.claims.push(claim);
        }
        if self.setup.dry_run && !self.setup.prove {
            return self.look();
        }
        own.sort_by_key(|c| (c.bytes, c.chunk));
        others.reverse();
        let all = if self.setup.prove { u64::MAX } else { 0 };
        let share = (self.outcome.progress.received_bytes / limits::CHECK_SHARE).max(limits::CHECK_BYTES);
        // A metered line is not spent on looking: one step of it is enough.
        let share = self.setup.step_bytes.map_or(share, |step| share.min(step)).max(all);
        let mut chosen = first_of(own, own_bytes.saturating_add(limits::CHECK_BYTES).max(all));
        chosen.extend(first_of(others, share));
        if self.setup.prove {
            chosen.extend(self.memory.known.claims.clone());
        }
        let mut once = BTreeSet::new();
        for claim in chosen {
            let name = claim.chunk;
            self.entries.entry(name.short()).or_insert(Listed { name, kind: ChunkKind::Batch as u8, bytes: claim.bytes });
            if once.insert(name) {
                self.queue.push_back(name);
            }
        }
        self.stage = Stage::Checking;
        self.check_next()
    }

    pub(super) fn check_next(&mut self) -> MailEffect {
        match self.portion() {
            Some(names) => MailEffect::Read(names),
            None => self.check(),
        }
    }

    pub(super) fn on_inspected(&mut self, inside: &[(Inside, bool)]) -> MailEffect {
        let persisting = std::mem::take(&mut self.persisting);
        let claims = self.claims_by_chunk();
        for ((name, _), (inside, held)) in persisting.iter().zip(inside) {
            let about = claims.get(&name.short()).map_or(&[][..], Vec::as_slice);
            self.judge_claims(*name, about, inside);
            match inside {
                // What is not here yet is still to be read: the claim stands.
                Inside::Batches(found) if *held && about.iter().any(|c| c.fits(found)) => {
                    if let (Some(first), Some(last)) = (found.first(), found.last()) {
                        self.prove(name.short(), first.seq, *last);
                    }
                }
                Inside::Sealed => self.drop_claims_on(*name, true),
                Inside::Unknown => self.drop_claims_on(*name, false),
                Inside::Nothing | Inside::Batches(_) => {}
            }
        }
        self.check_next()
    }

    pub(super) fn claims_by_chunk(&self) -> BTreeMap<Short, Vec<Claim>> {
        let mut out: BTreeMap<Short, Vec<Claim>> = BTreeMap::new();
        for claim in &self.memory.known.claims {
            out.entry(claim.chunk.short()).or_default().push(claim.clone());
        }
        out
    }

    /// Whoever said of a chunk that was opened what is not so is not believed any more.
    pub(super) fn judge_claims(&mut self, name: ChunkHash, about: &[Claim], inside: &Inside) {
        for claim in about {
            let wrong = match inside {
                Inside::Sealed | Inside::Unknown => false,
                Inside::Nothing => true,
                Inside::Batches(found) => !claim.fits(found),
            };
            if wrong {
                self.caught(claim.writer, name);
            }
        }
    }

    fn caught(&mut self, writer: DeviceId, chunk: ChunkHash) {
        if self.outcome.liars.contains(&writer) {
            return;
        }
        self.outcome.liars.push(writer);
        if !self.setup.dry_run {
            self.liars.push_back((writer, chunk));
        }
        let (theirs, kept): (Vec<Claim>, Vec<Claim>) =
            std::mem::take(&mut self.memory.known.claims).into_iter().partition(|c| c.writer == writer);
        self.memory.known.claims = kept;
        for claim in theirs {
            self.unread(&claim);
        }
        self.trouble_in_pass = true;
    }

    /// What only a claim told of that does not count any more is read like a chunk nobody told of: in the next pass, or visit.
    fn unread(&mut self, claim: &Claim) {
        let (name, short) = (claim.chunk, claim.chunk.short());
        let told = self.memory.known.claims.iter().any(|c| c.chunk == name);
        if self.proved.contains(&short) || told {
            return;
        }
        self.told.remove(&short);
        self.entries.entry(short).or_insert(Listed { name, kind: ChunkKind::Batch as u8, bytes: claim.bytes });
        self.again.push(name);
        self.missed.insert(short);
    }

    fn drop_claims_on(&mut self, name: ChunkHash, sealed: bool) {
        self.memory.known.claims.retain(|c| c.chunk != name);
        if sealed {
            self.closed.insert(name.short());
        } else {
            self.unplaced.insert(name.short());
        }
    }
}

/// As many as fit so many bytes, one at least.
fn first_of(claims: Vec<Claim>, most: u64) -> Vec<Claim> {
    let (mut out, mut bytes) = (Vec::new(), 0u64);
    for claim in claims {
        if !out.is_empty() && bytes + u64::from(claim.bytes) > most {
            break;
        }
        bytes += u64::from(claim.bytes);
        out.push(claim);
    }
    out
}
