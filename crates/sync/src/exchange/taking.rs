//! What is in the mailbox and not here.

use super::calls::{MailEffect, MailRequest};
use super::{Exchange, Lot, Memory, PASSES, STUBBORN_PASSES, Stage, is_batches};
use cairn_model::{ChunkHash, FeedId};
use cairn_trust::{Claim, Inside, Piece, PlacedBatch, Shelf, Tip};
use std::collections::{BTreeMap, BTreeSet};

/// Claims of one run, in order.
type RunOf<'a> = ((FeedId, Tip), Vec<&'a Claim>);

impl Exchange {
    /// Claims by the run that they are part of.
    fn runs(&self) -> Vec<RunOf<'_>> {
        let mut runs: BTreeMap<(FeedId, Tip), Vec<&Claim>> = BTreeMap::new();
        for claim in &self.memory.known.claims {
            runs.entry((claim.tip.feed, claim.tip)).or_default().push(claim);
        }
        let mut out: Vec<RunOf<'_>> = runs.into_iter().collect();
        for (_, claims) in &mut out {
            claims.sort_by_key(|c| (c.from, c.to, c.chunk));
        }
        out.sort_by_key(|((feed, tip), claims)| (*feed, claims.first().map_or(0, |c| c.from), *tip));
        out
    }

    pub(super) fn sort(&mut self) -> MailEffect {
        self.stage = Stage::Sorting;
        let runs = self.runs().into_iter().map(|((feed, tip), claims)| (feed, claims.first().map_or(1, |c| c.from), tip)).collect();
        MailEffect::Store(MailRequest::Wanted(runs))
    }

    pub(super) fn on_wanted(&mut self, firsts: &[Option<u64>]) -> MailEffect {
        self.pass += 1;
        let mut planned: BTreeMap<FeedId, u64> = BTreeMap::new();
        let mut wanted: Vec<ChunkHash> = Vec::new();
        let (mut left, mut from) = (Vec::new(), Vec::new());
        for (((feed, tip), claims), first) in self.runs().into_iter().zip(firsts) {
            let start = claims.first().map_or(1, |c| c.from);
            let Some(mut first) = first.map(|f| f.max(start)) else { continue };
            match self.pass {
                // Another run of the same feed brings it already, unless the feed branched: the next pass tells.
                1 => first = first.max(planned.get(&feed).map_or(0, |p| p + 1)),
                2 => {}
                _ => first = start,
            }
            if first > tip.seq {
                continue;
            }
            let (names, lots) = self.chunks_of(&claims, first);
            if claims.first().is_some_and(|c| self.setup.only.as_ref().is_some_and(|only| !only.contains(&c.author))) {
                left.extend(lots);
                continue;
            }
            let most = planned.entry(feed).or_default();
            *most = tip.seq.max(*most);
            from.extend(lots);
            wanted.extend(names);
        }
        if self.pass == 1 {
            for lot in left {
                Lot::gather(&mut self.outcome.left_there, lot);
            }
            for lot in from {
                self.outcome.progress.to_receive += lot.batches;
                Lot::gather(&mut self.outcome.from, lot);
            }
        }
        if self.setup.dry_run {
            return self.check();
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
            return MailEffect::Store(MailRequest::Note(Box::new(self.stored.clone())));
        }
        self.fetch()
    }

    /// Chunks of a run that hold batches from `first` on, once each, with what is in them.
    fn chunks_of(&self, claims: &[&Claim], first: u64) -> (Vec<ChunkHash>, Vec<Lot>) {
        let (mut names, mut lots) = (Vec::new(), Vec::new());
        for claim in claims.iter().filter(|c| c.to >= first && !self.unusable.contains(&c.chunk.short())) {
            if names.contains(&claim.chunk) {
                continue;
            }
            names.push(claim.chunk);
            lots.push(Lot {
                device: claim.author,
                batches: claim.batches().min(claim.to + 1 - first),
                changes: claim.changes.into(),
                bytes: claim.bytes.into(),
                wall_ms: claim.wall_ms,
            });
        }
        (names, lots)
    }

    pub(super) fn fetch(&mut self) -> MailEffect {
        if let Some(names) = self.portion() {
            return MailEffect::Read(names);
        }
        let proved = &self.proved;
        self.memory.known.claims.retain(|c| !proved.contains(&c.chunk.short()));
        // What was read may be what something else waited for; a branch shows only when its trunk is here; and what was damaged may lie
        // there a second time.
        let trouble = self.trouble_in_pass || self.gaps_in_pass > 0;
        let again = self.held_in_pass > 0 || (trouble && self.pass < STUBBORN_PASSES);
        if again && self.pass < PASSES {
            return self.sort();
        }
        let remembered = self.memory.known.sealed.iter().chain(&self.memory.known.early);
        let passed_by = remembered.filter(|e| self.unusable.contains(&e.name.short()) && is_batches(e.kind)).count() as u64;
        self.outcome.gaps = self.gaps_in_pass + passed_by;
        self.outcome.pulled = true;
        if self.outcome.progress.received == 0 {
            self.memory.owes_receipt = self.before.owes_receipt;
        }
        self.check()
    }

    pub(super) fn on_persisted(&mut self, (held, gaps, dropped): (u64, u64, u64), placed: &[PlacedBatch], inside: &[Inside]) -> MailEffect {
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
        let claims = self.claims_by_chunk();
        let mut placed_in: BTreeMap<usize, Vec<&PlacedBatch>> = BTreeMap::new();
        for batch in placed {
            placed_in.entry(batch.input).or_default().push(batch);
        }
        for (input, ((name, _), inside)) in persisting.iter().zip(inside).enumerate() {
            self.judge_claims(*name, claims.get(&name.short()).map_or(&[], Vec::as_slice), inside);
            self.place(*name, inside, placed_in.get(&input).map_or(&[], Vec::as_slice));
        }
        self.fetch()
    }

    /// What became of one chunk that was read.
    fn place(&mut self, name: ChunkHash, inside: &Inside, placed: &[&PlacedBatch]) {
        let short = name.short();
        let told = self.told.contains(&short);
        match inside {
            Inside::Sealed => {
                self.unplaced.remove(&short);
                self.closed.insert(short);
            }
            // Not of this project, or forged: it never becomes anything else.
            Inside::Nothing => {
                self.memory.known.read.insert(short);
                return;
            }
            Inside::Batches(found) if found.len() == placed.len() => {
                self.unplaced.remove(&short);
                if !told {
                    self.relist(name, placed);
                }
                if is_one_run(placed)
                    && let (Some(first), Some(last)) = (placed.first(), placed.last())
                {
                    self.prove(short, first.tip.seq, last.tip);
                } else {
                    self.memory.known.read.insert(short);
                }
                return;
            }
            Inside::Unknown | Inside::Batches(_) => {
                self.closed.remove(&short);
                self.unplaced.insert(short);
            }
        }
        if !told && !self.again.contains(&name) {
            self.again.push(name);
        }
    }

    /// Lists a chunk nobody told of by what it turned out to hold, if that can be told.
    fn relist(&mut self, name: ChunkHash, inside: &[&PlacedBatch]) {
        let (Some(first), Some(last), true) = (inside.first(), inside.last(), is_one_run(inside)) else { return };
        let changes = inside.iter().map(|p| p.changes).sum();
        let piece = Piece { chunk: name.short(), batches: inside.len() as u32, changes };
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
    }
}

/// Consecutive batches of one chain.
fn is_one_run(placed: &[&PlacedBatch]) -> bool {
    placed.windows(2).all(|w| w[0].chain == w[1].chain && w[0].tip.seq + 1 == w[1].tip.seq)
}
