//! What is in the mailbox and not here.

use super::calls::{MailEffect, MailRequest};
use super::{Exchange, Lot, Memory, PASSES, STUBBORN_PASSES, Stage};
use cairn_model::ChunkHash;
use cairn_trust::{Piece, PlacedBatch, Shelf};
use std::collections::{BTreeMap, BTreeSet};

impl Exchange {
    pub(super) fn sort(&mut self) -> MailEffect {
        self.stage = Stage::Sorting;
        let runs = self.shelves.iter().map(|s| (s.feed(), s.from, s.tip)).collect();
        MailEffect::Store(MailRequest::Wanted(runs))
    }

    pub(super) fn on_wanted(&mut self, firsts: &[Option<u64>]) -> MailEffect {
        self.pass += 1;
        let mut planned: BTreeMap<_, u64> = BTreeMap::new();
        let mut wanted: Vec<ChunkHash> = Vec::new();
        let mut left = Vec::new();
        for (shelf, first) in self.shelves.iter().zip(firsts) {
            let Some(mut first) = first.map(|f| f.max(shelf.from)) else { continue };
            match self.pass {
                // Another shelf of the same feed brings it already, unless the feed branched: the next pass tells.
                1 => first = first.max(planned.get(&shelf.feed()).map_or(0, |p| p + 1)),
                2 => {}
                _ => first = shelf.from,
            }
            if first > shelf.tip.seq {
                continue;
            }
            let (names, lot) = self.pieces_from(shelf, first);
            if self.setup.only.as_ref().is_some_and(|only| !only.contains(&shelf.device)) {
                left.push(lot);
                continue;
            }
            let most = planned.entry(shelf.feed()).or_default();
            *most = shelf.tip.seq.max(*most);
            if self.pass == 1 {
                self.outcome.progress.to_receive += lot.batches;
                Lot::gather(&mut self.outcome.from, lot);
            }
            wanted.extend(names);
        }
        if self.pass == 1 {
            left.into_iter().for_each(|lot| Lot::gather(&mut self.outcome.left_there, lot));
        }
        if self.setup.dry_run {
            return self.look();
        }
        let unlisted = if self.pass == 1 { std::mem::take(&mut self.unlisted) } else { std::mem::take(&mut self.again) };
        if self.setup.only.is_none() {
            wanted.extend(unlisted);
        }
        (self.held_in_pass, self.gaps_in_pass, self.trouble_in_pass) = (0, 0, false);
        let mut once = BTreeSet::new();
        self.queue = wanted.into_iter().filter(|name| once.insert(*name)).collect();
        self.stage = Stage::Fetching;
        if !self.queue.is_empty() && !self.memory.owes_receipt {
            // Said before anything is taken: a visit that breaks off leaves its receipt the next time.
            self.memory.owes_receipt = true;
            self.stage = Stage::Owing;
            self.stored = Memory { owes_receipt: true, ..self.before.clone() };
            return MailEffect::Store(MailRequest::Note(self.stored.clone()));
        }
        self.fetch()
    }

    pub(super) fn pieces_from(&self, shelf: &Shelf, first: u64) -> (Vec<ChunkHash>, Lot) {
        let (mut names, mut end) = (Vec::new(), shelf.from - 1);
        let mut lot = Lot { device: shelf.device, batches: 0, changes: 0, bytes: 0, wall_ms: shelf.wall_ms };
        for piece in &shelf.pieces {
            end += u64::from(piece.batches);
            let Some(entry) = self.entries.get(&piece.chunk).filter(|_| end >= first) else { continue };
            names.push(entry.name);
            lot.batches += u64::from(piece.batches).min(end + 1 - first);
            lot.changes += u64::from(piece.changes);
            lot.bytes += u64::from(entry.bytes);
        }
        (names, lot)
    }

    pub(super) fn fetch(&mut self) -> MailEffect {
        if let Some(names) = self.portion() {
            return MailEffect::Read(names);
        }
        // What was read may be what something else waited for; a branch shows only when its trunk is here; and what was damaged may lie
        // there a second time.
        let trouble = self.trouble_in_pass || self.gaps_in_pass > 0;
        let again = self.held_in_pass > 0 || (trouble && self.pass < STUBBORN_PASSES);
        if again && self.pass < PASSES {
            return self.sort();
        }
        self.outcome.gaps = self.gaps_in_pass;
        self.outcome.pulled = true;
        if self.outcome.progress.received == 0 {
            self.memory.owes_receipt = self.before.owes_receipt;
        }
        self.look()
    }

    pub(super) fn on_persisted(&mut self, held: u64, gaps: u64, dropped: u64, placed: &[PlacedBatch]) -> MailEffect {
        self.held_in_pass += held;
        self.gaps_in_pass += gaps;
        self.trouble_in_pass |= dropped > 0;
        let persisting = std::mem::take(&mut self.persisting);
        let progress = &mut self.outcome.progress;
        progress.received += held;
        progress.to_receive = progress.to_receive.max(progress.received);
        if held > 0 {
            progress.received_bytes += persisting.iter().map(|(_, bytes)| bytes).sum::<u64>();
        }
        if self.pass == 1 {
            self.outcome.foreign += dropped;
        }
        for (input, (name, _)) in persisting.iter().enumerate() {
            if self.told.contains(&name.short()) {
                continue;
            }
            let inside: Vec<&PlacedBatch> = placed.iter().filter(|p| p.input == input).collect();
            if !self.relist(*name, &inside) {
                self.again.push(*name);
            }
        }
        self.fetch()
    }

    /// Lists a chunk nobody told of by what it turned out to hold. `false` if that is nothing that can be told.
    pub(super) fn relist(&mut self, name: ChunkHash, inside: &[&PlacedBatch]) -> bool {
        let (Some(first), Some(last)) = (inside.first(), inside.last()) else { return false };
        let consecutive = inside.windows(2).all(|w| w[0].chain == w[1].chain && w[0].tip.seq + 1 == w[1].tip.seq);
        if !consecutive {
            return false;
        }
        let changes = inside.iter().map(|p| p.changes).sum();
        let piece = Piece { chunk: name.short(), batches: inside.len() as u32, changes };
        self.memory.known.add(first.tip.seq, last.tip);
        match self.relisted.last_mut() {
            Some((chain, shelf)) if *chain == first.chain && shelf.tip.seq + 1 == first.tip.seq => {
                shelf.pieces.push(piece);
                (shelf.tip, shelf.wall_ms.1) = (last.tip, last.wall_ms);
            }
            _ => {
                let wall_ms = (first.wall_ms, last.wall_ms);
                let shelf = Shelf { device: first.device, from: first.tip.seq, tip: last.tip, pieces: vec![piece], wall_ms };
                self.relisted.push((first.chain, shelf));
            }
        }
        true
    }
}
