//! What is about the project itself: which chunks of it are read, and what they say.

use super::calls::{MailEffect, MailRequest, Shown, Taken};
use super::{Exchange, Listed, Lot, Stage, is_batches};
use crate::limits;
use cairn_model::ChunkHash;
use cairn_trust::limits::LEAST_BATCH_BYTES;
use cairn_trust::{ChunkKind, Claim, Manifest, Piece, Shelf, Short, Tip};
use std::collections::{BTreeMap, BTreeSet};

/// Place in the order in which what is about the project is read; `None` for batches and what is newer than this version.
fn about(kind: u8) -> Option<usize> {
    use ChunkKind::{Ask, Control, Keys, Manifest, Receipt};
    [Keys, Control, Manifest, Ask, Receipt].iter().position(|k| *k as u8 == kind)
}

impl Exchange {
    pub(super) fn on_listed(&mut self, shown: Shown) -> MailEffect {
        (self.next_cursor, self.mend) = (shown.cursor, shown.mend);
        self.memory.begun |= !shown.entries.is_empty();
        for entry in shown.entries {
            self.list(entry);
        }
        if shown.start_over {
            let entries = &self.entries;
            self.memory.known.keep_only(&|chunk| entries.contains_key(chunk));
        }
        for tip in std::mem::take(&mut self.setup.base) {
            if !self.memory.known.base.contains(&tip) {
                self.memory.known.base.push(tip);
            }
        }
        self.try_again();
        self.proved = self.memory.known.proved();
        let known = &self.memory.known;
        let dealt_with = |n: &Short| known.read.contains(n) || known.ops.contains_key(n) || known.boxed.contains_key(n);
        let unread = self.order.iter().filter(|n| !dealt_with(n) && !self.unusable.contains(*n)).filter_map(|n| self.entries.get(n));
        let mut about: Vec<(usize, ChunkHash)> = unread.filter_map(|e| Some((about(e.kind)?, e.name))).collect();
        // The newest first: junk of years must not come before what was written today.
        about.reverse();
        about.sort_by_key(|(place, _)| *place);
        self.queue = about.into_iter().map(|(_, name)| name).collect();
        self.stage = Stage::About;
        self.read_about()
    }

    fn list(&mut self, entry: Listed) {
        if self.entries.insert(entry.name.short(), entry).is_none() {
            self.order.push(entry.name.short());
        }
    }

    /// Chunks that could not be used before are listed again if something has changed that may help. A new chunk of keys or operations
    /// may be what others of these wait for: a key counts once an operation names it, and that operation may be sealed under the key.
    fn try_again(&mut self) {
        let keys = self.tried.keys != self.memory.tried.keys;
        let held = keys || self.tried.held != self.memory.tried.held;
        let (lost, early, sealed) = {
            let known = &self.memory.known;
            (known.lost.clone(), known.early.clone(), known.sealed.clone())
        };
        for entry in lost {
            self.list(entry);
        }
        let waiting: BTreeSet<Short> = early.iter().chain(&sealed).map(|e| e.name.short()).collect();
        let known = &self.memory.known;
        let dealt_with = |n: &Short| known.ops.contains_key(n) || known.boxed.contains_key(n) || waiting.contains(n);
        let opens = |kind: u8| kind == ChunkKind::Keys as u8 || kind == ChunkKind::Control as u8;
        let fresh = self.order.iter().any(|n| !dealt_with(n) && self.entries.get(n).is_some_and(|e| opens(e.kind)));
        for (list, changed) in [(early, held), (sealed, keys)] {
            for entry in list {
                if changed || (fresh && about(entry.kind).is_some()) {
                    self.list(entry);
                } else {
                    self.unusable.insert(entry.name.short());
                }
            }
        }
    }

    pub(super) fn read_about(&mut self) -> MailEffect {
        let read: usize = self.about.iter().map(|(_, chunk)| chunk.len()).sum();
        if read > limits::ABOUT_BYTES {
            let receipt = |name: &ChunkHash| self.entries.get(&name.short()).is_some_and(|e| e.kind == ChunkKind::Receipt as u8);
            self.starved = self.queue.iter().any(|name| !receipt(name));
            self.queue.clear();
        }
        if let Some(names) = self.portion() {
            return MailEffect::Read(names);
        }
        self.stage = Stage::Taking;
        let (names, chunks) = std::mem::take(&mut self.about).into_iter().unzip();
        self.about_names = names;
        MailEffect::Store(MailRequest::Take(chunks, !self.setup.dry_run))
    }

    pub(super) fn on_taken(&mut self, taken: Taken) -> MailEffect {
        self.outcome.new_ops = taken.new_ops;
        self.device = taken.device;
        if !taken.belongs {
            self.outcome.sealed += (taken.sealed.len() + taken.waiting.len()) as u64;
            self.outcome.shut_out = true;
            return self.done();
        }
        self.note_read(&taken);
        self.outcome.writers = self.memory.known.writers.iter().map(|(device, at)| (*device, *at)).collect();
        for (_, manifest) in taken.manifests {
            self.hear(manifest);
        }
        let claimed = self.memory.known.claims.iter().map(|c| c.chunk.short());
        self.told = self.proved.iter().copied().chain(claimed).collect();
        self.find_unlisted(taken.unproved.into_iter().map(|(_, m)| m).collect());
        if self.setup.pull { self.sort() } else { self.check() }
    }

    /// Remembers by name which chunks about the project were dealt with, so that each is read once.
    fn note_read(&mut self, taken: &Taken) {
        let names = std::mem::take(&mut self.about_names);
        let (sealed, waiting): (BTreeSet<usize>, BTreeSet<usize>) =
            (taken.sealed.iter().copied().collect(), taken.waiting.iter().copied().collect());
        let mut ops: BTreeMap<usize, Vec<[u8; 16]>> = BTreeMap::new();
        for (n, found) in &taken.ops {
            ops.entry(*n).or_default().extend(found);
        }
        for (n, name) in names.iter().enumerate() {
            let (short, known) = (name.short(), &mut self.memory.known);
            let kind = self.entries.get(&short).map_or(0, |e| e.kind);
            if sealed.contains(&n) {
                self.closed.insert(short);
            } else if waiting.contains(&n) {
                self.unplaced.insert(short);
            } else if kind == ChunkKind::Control as u8 {
                known.ops.insert(short, ops.remove(&n).unwrap_or_default());
            } else if kind == ChunkKind::Keys as u8 {
                let boxed = taken.boxed.iter().filter(|(at, ..)| *at == n);
                known.boxed.entry(short).or_default();
                for (_, epoch, readers) in boxed {
                    known.boxed.entry(short).or_default().entry(*epoch).or_default().extend(readers);
                }
            } else {
                known.read.insert(short);
            }
        }
        let listed = |n: &Short| self.entries.get(n).is_some_and(|e| about(e.kind).is_some());
        let remembered = self.memory.known.sealed.iter().chain(&self.memory.known.early);
        let passed_by = remembered.filter(|e| self.unusable.contains(&e.name.short()) && about(e.kind).is_some()).count();
        let now = self.closed.iter().chain(&self.unplaced).filter(|n| listed(n)).count();
        self.outcome.sealed += (passed_by + now) as u64 + u64::from(self.starved);
    }

    /// A manifest of a member: a claim for each chunk that is listed. This device's own proves what is here too; a copy of this
    /// device may have put there what is not.
    fn hear(&mut self, manifest: Manifest) {
        let own = Some(manifest.device) == self.device;
        self.outcome.partial |= !manifest.base.is_empty();
        if own && self.setup.for_readers {
            let base = &mut self.memory.known.base;
            let fresh: Vec<Tip> = manifest.base.iter().filter(|t| !base.contains(t)).copied().collect();
            base.extend(fresh);
        }
        self.outcome.writers.push((manifest.device, manifest.made_ms));
        // Only members get here, so there are no more than that.
        let latest = self.memory.known.writers.entry(manifest.device).or_insert(manifest.made_ms);
        *latest = manifest.made_ms.max(*latest);
        for shelf in manifest.shelves {
            let mut from = shelf.from;
            for piece in &shelf.pieces {
                let to = from + u64::from(piece.batches) - 1;
                if let Some(entry) = self.there(piece) {
                    let wall_ms = shelf.wall_ms;
                    let lot = Lot {
                        device: shelf.device,
                        batches: to + 1 - from,
                        changes: piece.changes.into(),
                        bytes: entry.bytes.into(),
                        wall_ms,
                    };
                    Lot::gather(&mut self.outcome.all, lot);
                    let (chunk, bytes, changes) = (entry.name, entry.bytes, piece.changes);
                    let claim =
                        Claim { writer: manifest.device, author: shelf.device, chunk, bytes, from, to, tip: shelf.tip, changes, wall_ms };
                    self.claim(claim);
                }
                from = to + 1;
            }
        }
    }

    fn claim(&mut self, claim: Claim) {
        let claims = &mut self.memory.known.claims;
        if !self.proved.contains(&claim.chunk.short()) && claims.len() < limits::CLAIMS {
            claims.push(claim);
        }
    }

    /// The chunk of a piece, if it is listed and has room for what is said to be in it.
    fn there(&self, piece: &Piece) -> Option<Listed> {
        let room = |e: &Listed| u64::from(piece.batches) * LEAST_BATCH_BYTES <= u64::from(e.bytes);
        self.entries.get(&piece.chunk).filter(|e| is_batches(e.kind) && room(e)).copied()
    }

    /// Chunks of which no believed manifest tells, in an order that others tell, or in which they lie.
    fn find_unlisted(&mut self, unproved: Vec<Manifest>) {
        let mut shelves: Vec<Shelf> = unproved.into_iter().flat_map(|m| m.shelves).collect();
        shelves.sort_by_key(|s| (s.feed(), s.from));
        let first = shelves.iter().flat_map(|s| &s.pieces).map(|p| p.chunk);
        let mut seen = BTreeSet::new();
        let known = &self.memory.known;
        let dealt_with = |n: &Short| self.told.contains(n) || self.unusable.contains(n) || known.read.contains(n);
        let all = first.chain(self.order.iter().copied()).filter(|n| !dealt_with(n) && seen.insert(*n));
        let batches = all.filter_map(|n| self.entries.get(&n)).filter(|e| is_batches(e.kind));
        self.unlisted = batches.map(|e| e.name).collect();
        self.outcome.unlisted = self.unlisted.len() as u64;
    }
}
