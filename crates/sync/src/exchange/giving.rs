//! What is here and not in the mailbox, and how a visit ends.

use super::calls::{Lacking, Made, MailEffect, MailRequest};
use super::{Exchange, Listed, Lot, Memory, Stage};
use crate::limits;
use cairn_model::ChunkHash;
use cairn_trust::{Piece, Proof, Shelf, Short};
use std::collections::BTreeSet;

impl Exchange {
    /// Also where nothing is given: what is told of own work needs it.
    pub(super) fn look(&mut self) -> MailEffect {
        self.stage = Stage::Looking;
        let tells_only = self.setup.dry_run || !self.setup.push;
        MailEffect::Store(MailRequest::Lacking(Box::new(self.memory.known.clone()), tells_only, None))
    }

    pub(super) fn on_lacking(&mut self, lacking: Lacking) -> MailEffect {
        self.outcome.cut_short = lacking.cut_short && self.setup.push;
        (self.outcome.own, self.outcome.own_lacking) = (lacking.own, lacking.own_lacking);
        self.memory.known = lacking.known;
        self.outcome.holds = self.holds();
        if !self.setup.push {
            return self.finish();
        }
        for lack in lacking.lacks {
            // What others made may lie there already where not all manifests were read.
            let known = !self.starved || lack.device == lacking.device;
            let wanted = known && self.setup.only.as_ref().is_none_or(|only| only.contains(&lack.device));
            let lots = if wanted { &mut self.outcome.to } else { &mut self.outcome.left_here };
            Lot::gather(lots, Lot::from(&lack));
            if wanted {
                self.outcome.progress.to_send += Lot::from(&lack).batches;
                self.lacks.push_back(lack);
            }
        }
        let owes = self.memory.owes_receipt && !self.setup.receipt_later;
        let nothing = self.lacks.is_empty() && self.relisted.is_empty() && lacking.others == 0 && !owes && !self.mend;
        if self.setup.dry_run || nothing || !lacking.may_write {
            return self.finish();
        }
        self.next = self.lacks.front().map_or(0, |l| l.from);
        self.stage = Stage::First;
        MailEffect::Store(MailRequest::ComposeFirst(Box::new(self.memory.known.clone())))
    }

    pub(super) fn load(&mut self) -> MailEffect {
        if let Some(lack) = self.lacks.front() {
            self.stage = Stage::Loading;
            return MailEffect::Store(MailRequest::Load(lack.chain, self.next, lack.tip.seq, limits::LOAD_BYTES));
        }
        self.stage = Stage::Last;
        let base = self.memory.known.base.clone();
        let mut shelves = std::mem::take(&mut self.added);
        let own = shelves.iter().filter(|(_, s)| Some(s.device) == self.device).map(|(_, s)| s.batches()).sum();
        self.adding = (shelves.iter().map(|(_, shelf)| proof_of(shelf)).collect(), own);
        shelves.append(&mut self.relisted);
        MailEffect::Store(MailRequest::ComposeLast(shelves, base))
    }

    pub(super) fn on_loaded(&mut self, made: Vec<Made>) -> MailEffect {
        let Some(lack) = self.lacks.front() else { return self.load() };
        if self.next == lack.from {
            let shelf = Shelf { device: lack.device, from: lack.from, tip: lack.tip, pieces: Vec::new(), wall_ms: lack.wall_ms };
            self.added.push((lack.chain, shelf));
        }
        let mut chunks = Vec::with_capacity(made.len());
        let progress = &mut self.outcome.progress;
        for m in made {
            self.next += u64::from(m.batches);
            progress.sent += u64::from(m.batches);
            progress.sent_bytes += m.chunk.len() as u64;
            let piece = Piece { chunk: ChunkHash::of(&m.chunk).short(), batches: m.batches, changes: m.changes };
            if let Some((_, shelf)) = self.added.last_mut() {
                shelf.pieces.push(piece);
            }
            chunks.push(m.chunk);
        }
        if self.next > lack.tip.seq || chunks.is_empty() {
            self.lacks.pop_front();
            self.next = self.lacks.front().map_or(0, |l| l.from);
        }
        MailEffect::Add(chunks)
    }

    /// What was added is there now: it is proved.
    pub(super) fn on_committed(&mut self) -> MailEffect {
        (self.outcome.wrote, self.memory.begun) = (true, true);
        self.memory.owes_receipt = false;
        let (proofs, own) = std::mem::take(&mut self.adding);
        self.proved.extend(proofs.iter().flat_map(|p| &p.chunks).map(|(chunk, _)| *chunk));
        self.memory.known.proofs.extend(proofs);
        self.outcome.own_lacking = self.outcome.own_lacking.saturating_sub(own);
        self.finish()
    }

    /// Ends of what is proved to be there from each feed's beginning, or goes on from what readers are taken to hold.
    fn holds(&self) -> Vec<cairn_trust::Tip> {
        let known = &self.memory.known;
        let mut held = known.base.clone();
        let mut proofs: Vec<&Proof> = known.proofs.iter().collect();
        proofs.sort_by_key(|p| p.from);
        for proof in proofs {
            if proof.from == 1 || held.iter().any(|t| t.feed == proof.tip.feed && t.seq + 1 >= proof.from) {
                held.push(proof.tip);
            }
        }
        held
    }

    pub(super) fn finish(&mut self) -> MailEffect {
        if self.stage == Stage::Noting {
            return self.done();
        }
        let fits = self.remember_unusable();
        let one_way = !self.setup.pull || self.setup.only.is_some();
        self.memory.cursor = match (one_way, fits && !self.starved) {
            (true, _) => self.before.cursor.clone(),
            (false, true) => std::mem::take(&mut self.next_cursor),
            // Chunks that were not dealt with and are not remembered by name must be listed again.
            (false, false) => Vec::new(),
        };
        if !one_way {
            self.memory.tried = self.tried;
        }
        if self.setup.dry_run || self.memory == self.stored {
            return self.done();
        }
        self.stage = Stage::Noting;
        MailEffect::Store(MailRequest::Note(Box::new(Memory::clone(&self.memory))))
    }

    /// What is to be remembered of a visit that the mailbox ended early: what was read and proved. The listing begins where it began this
    /// time, so that nothing is passed over. Without it a visit that is cut at the same place each time would read the same for ever.
    pub fn interrupted(&mut self) -> Option<Memory> {
        let nothing_yet = matches!(self.stage, Stage::Preparing | Stage::Listing | Stage::About | Stage::Taking | Stage::Done);
        if self.setup.dry_run || nothing_yet {
            return None;
        }
        self.remember_unusable();
        self.memory.cursor = self.before.cursor.clone();
        self.memory.tried = self.before.tried;
        (self.memory != self.stored).then(|| self.memory.clone())
    }

    /// Keeps the names of chunks that were listed and could not be used. `false` if there are too many of them.
    fn remember_unusable(&mut self) -> bool {
        let known = &self.memory.known;
        let settled =
            |n: &Short| self.proved.contains(n) || known.read.contains(n) || known.ops.contains_key(n) || known.boxed.contains_key(n);
        let list = |old: &[Listed], new: &BTreeSet<Short>, others: [&BTreeSet<Short>; 2]| -> Vec<Listed> {
            let kept = old.iter().filter(|e| !new.contains(&e.name.short())).copied();
            let fresh = new.iter().filter_map(|n| self.entries.get(n)).copied();
            kept.chain(fresh).filter(|e| !settled(&e.name.short()) && !others.iter().any(|o| o.contains(&e.name.short()))).collect()
        };
        let sealed = list(&known.sealed, &self.closed, [&self.unplaced, &self.missed]);
        let early = list(&known.early, &self.unplaced, [&self.closed, &self.missed]);
        let lost = list(&known.lost, &self.missed, [&self.closed, &self.unplaced]);
        let fits = [&sealed, &early, &lost].iter().all(|l| l.len() <= limits::UNUSABLE);
        let known = &mut self.memory.known;
        (known.sealed, known.early, known.lost) = (sealed, early, lost);
        for list in [&mut known.sealed, &mut known.early, &mut known.lost] {
            list.truncate(limits::UNUSABLE);
        }
        fits
    }
}

fn proof_of(shelf: &Shelf) -> Proof {
    Proof { from: shelf.from, tip: shelf.tip, chunks: shelf.pieces.iter().map(|p| (p.chunk, p.batches)).collect() }
}
