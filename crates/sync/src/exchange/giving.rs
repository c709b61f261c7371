//! What is here and not in the mailbox, and how a visit ends.

use super::calls::{Made, MailEffect, MailRequest};
use super::{Exchange, Known, Lot, Memory, Stage};
use crate::limits;
use cairn_model::ChunkHash;
use cairn_trust::{Lack, Piece, Shelf};

impl Exchange {
    pub(super) fn look(&mut self) -> MailEffect {
        if !self.setup.push || self.starved {
            return self.finish();
        }
        self.stage = Stage::Looking;
        MailEffect::Store(MailRequest::Lacking(self.memory.known.clone(), self.setup.dry_run, None))
    }

    pub(super) fn on_lacking(&mut self, lacks: Vec<Lack>, known: Known, others: usize, may_write: bool) -> MailEffect {
        self.memory.known = known;
        for lack in lacks {
            let wanted = self.setup.only.as_ref().is_none_or(|only| only.contains(&lack.device));
            let lots = if wanted { &mut self.outcome.to } else { &mut self.outcome.left_here };
            Lot::gather(lots, Lot::from(&lack));
            if wanted {
                self.outcome.progress.to_send += Lot::from(&lack).batches;
                self.lacks.push_back(lack);
            }
        }
        let owes = self.memory.owes_receipt && !self.setup.receipt_later;
        let nothing = self.lacks.is_empty() && self.relisted.is_empty() && others == 0 && !owes && !self.mend;
        if self.setup.dry_run || nothing || !may_write {
            return self.finish();
        }
        self.next = self.lacks.front().map_or(0, |l| l.from);
        self.stage = Stage::First;
        MailEffect::Store(MailRequest::ComposeFirst(self.memory.known.clone()))
    }

    pub(super) fn load(&mut self) -> MailEffect {
        if let Some(lack) = self.lacks.front() {
            self.stage = Stage::Loading;
            return MailEffect::Store(MailRequest::Load(lack.chain, self.next, lack.tip.seq, limits::LOAD_BYTES));
        }
        self.stage = Stage::Last;
        let base = self.memory.known.base.clone();
        let mut shelves = std::mem::take(&mut self.added);
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

    /// The cursor moves only past what is here: what found no place is listed again.
    pub(super) fn finish(&mut self) -> MailEffect {
        let o = &self.outcome;
        let (owes_receipt, begun) = (self.memory.owes_receipt, self.memory.begun);
        if !self.setup.pull || self.setup.only.is_some() {
            self.memory = Memory { owes_receipt, begun, ..self.before.clone() };
        } else if o.gaps + o.lost + o.sealed > 0 || self.next_cursor.is_empty() {
            self.memory = Memory { owes_receipt, begun, ..Memory::default() };
        } else {
            self.memory.cursor = std::mem::take(&mut self.next_cursor);
        }
        if self.setup.dry_run || self.stage == Stage::Noting || self.memory == self.stored {
            self.stage = Stage::Done;
            return MailEffect::Done;
        }
        self.stage = Stage::Noting;
        MailEffect::Store(MailRequest::Note(self.memory.clone()))
    }
}
