//! One exchange with a mailbox, from its listing to what is left there. See the crate's documentation for the calling contract.

mod calls;
mod known;

pub use calls::{ExchangeSetup, Lack, Listed, Made, MailAnswer, MailEffect, MailEvent, MailRequest, Taken};
pub use known::{Known, Lot, Memory, Run};

use crate::{Progress, limits};
use cairn_model::{ChunkHash, DeviceId};
use cairn_trust::{ChunkKind, Piece, Shelf, Tip};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What an exchange did, or would do.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// By author: all that lies there, as its manifests tell.
    pub all: Vec<Lot>,
    /// Its tips, and those of what its readers are taken to hold.
    pub holds: Vec<Tip>,
    /// Writers of those manifests, and when by their clocks.
    pub writers: Vec<(DeviceId, i64)>,
    /// By author: what came from the mailbox (of a dry run: would come).
    pub from: Vec<Lot>,
    /// By author: what was added.
    pub to: Vec<Lot>,
    /// What was left there because only some devices' work was wanted.
    pub left_there: Vec<Lot>,
    /// What was not added for the same reason.
    pub left_here: Vec<Lot>,
    /// Chunks that no manifest tells about, so nobody knows whose they are before they are read.
    pub unlisted: u64,
    /// Numbers.
    pub progress: Progress,
    /// Batches that lack a predecessor or a read key: they are taken once that is here.
    pub gaps: u64,
    /// Chunks that were listed and are gone or damaged.
    pub lost: u64,
    /// Chunks that are not of this project.
    pub foreign: u64,
    /// Chunks about the project whose read key is not here.
    pub sealed: u64,
    /// Control operations that were new here.
    pub new_ops: u64,
    /// This device does not belong any more: nothing was exchanged.
    pub removed: bool,
    /// Something was added.
    pub wrote: bool,
    /// Everything was taken that there was: the step before writing is complete.
    pub pulled: bool,
    /// The mailbox holds only what lies beyond what its reader was taken to hold.
    pub partial: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Preparing,
    Listing,
    /// Reading what is about the project.
    About,
    Taking,
    /// Asking which batches are not here.
    Sorting,
    Fetching,
    Owing,
    Looking,
    First,
    Loading,
    Last,
    Committing,
    Noting,
    Done,
}

/// The state machine of one exchange. One effect is out at a time.
#[derive(Debug)]
pub struct Exchange {
    setup: ExchangeSetup,
    stage: Stage,
    before: Memory,
    memory: Memory,
    next_cursor: Vec<u8>,
    entries: BTreeMap<[u8; 16], Listed>,
    about: Vec<Vec<u8>>,
    shelves: Vec<Shelf>,
    queue: VecDeque<ChunkHash>,
    asked: Vec<ChunkHash>,
    /// Chunks no manifest tells about, and those of them that found no place yet.
    unlisted: Vec<ChunkHash>,
    again: Vec<ChunkHash>,
    pass: u8,
    held_in_pass: u64,
    gaps_in_pass: u64,
    lacks: VecDeque<Lack>,
    /// Next batch of the first of `lacks`.
    next: u64,
    added: Vec<(u32, Shelf)>,
    outcome: Outcome,
}

/// Passes over what found no place: each brings what the one before needed.
const PASSES: u8 = 8;

fn is_about(kind: u8) -> bool {
    use ChunkKind::{Ask, Control, Keys, Manifest, Receipt};
    [Receipt, Control, Keys, Manifest, Ask].iter().any(|k| *k as u8 == kind)
}

fn is_batches(kind: u8) -> bool {
    kind == ChunkKind::Batch as u8 || kind == ChunkKind::Pack as u8
}

impl Exchange {
    /// Begins one.
    pub fn start(setup: ExchangeSetup) -> (Self, MailEffect) {
        let memory = setup.memory.clone();
        let exchange = Self {
            setup,
            stage: Stage::Preparing,
            before: memory.clone(),
            memory,
            next_cursor: Vec::new(),
            entries: BTreeMap::new(),
            about: Vec::new(),
            shelves: Vec::new(),
            queue: VecDeque::new(),
            asked: Vec::new(),
            unlisted: Vec::new(),
            again: Vec::new(),
            pass: 0,
            held_in_pass: 0,
            gaps_in_pass: 0,
            lacks: VecDeque::new(),
            next: 0,
            added: Vec::new(),
            outcome: Outcome::default(),
        };
        (exchange, MailEffect::Store(MailRequest::Prepare))
    }

    /// Numbers so far.
    pub fn progress(&self) -> Progress {
        self.outcome.progress
    }

    /// What was done so far.
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// The next step. An event that does not fit the effect that is out ends the exchange.
    pub fn step(&mut self, event: MailEvent) -> MailEffect {
        match (self.stage, event) {
            (Stage::Preparing, MailEvent::Answer(MailAnswer::Done)) => {
                self.stage = Stage::Listing;
                MailEffect::List(self.memory.cursor.clone())
            }
            (Stage::Listing, MailEvent::Listed(entries, cursor, start_over)) => self.on_listed(entries, cursor, start_over),
            (Stage::About, MailEvent::Read(chunks)) => {
                let sound = self.sound(chunks);
                self.about.extend(sound);
                self.read_about()
            }
            (Stage::Taking, MailEvent::Answer(MailAnswer::Taken(taken))) => self.on_taken(*taken),
            (Stage::Sorting, MailEvent::Answer(MailAnswer::Wanted(firsts))) => self.on_wanted(&firsts),
            (Stage::Fetching, MailEvent::Read(chunks)) => {
                let sound = self.sound(chunks);
                self.outcome.progress.received_bytes += sound.iter().map(|c| c.len() as u64).sum::<u64>();
                if sound.is_empty() { self.fetch() } else { MailEffect::Store(MailRequest::Persist(sound)) }
            }
            (Stage::Fetching, MailEvent::Answer(MailAnswer::Persisted { held, gaps, dropped })) => self.on_persisted(held, gaps, dropped),
            (Stage::Owing, MailEvent::Answer(MailAnswer::Done)) => self.look(),
            (Stage::Looking, MailEvent::Answer(MailAnswer::Lacking(lacks, known, ops, boxes))) => {
                self.on_lacking(lacks, known, ops + boxes)
            }
            (Stage::First, MailEvent::Answer(MailAnswer::Composed(chunks))) => MailEffect::Add(chunks),
            (Stage::First | Stage::Loading, MailEvent::Added) => self.load(),
            (Stage::Loading, MailEvent::Answer(MailAnswer::Loaded(made))) => self.on_loaded(made),
            (Stage::Last, MailEvent::Answer(MailAnswer::Composed(chunks))) => MailEffect::Add(chunks),
            (Stage::Last, MailEvent::Added) => {
                self.stage = Stage::Committing;
                MailEffect::Commit
            }
            (Stage::Committing, MailEvent::Committed) => {
                self.outcome.wrote = true;
                self.memory.owes_receipt = false;
                self.finish()
            }
            _ => {
                self.stage = Stage::Done;
                MailEffect::Done
            }
        }
    }

    fn on_listed(&mut self, entries: Vec<Listed>, cursor: Vec<u8>, start_over: bool) -> MailEffect {
        if start_over {
            self.memory.known = Known::default();
        }
        self.memory.known.base.extend(self.setup.base.iter().copied());
        self.next_cursor = cursor;
        self.entries = entries.into_iter().map(|e| (e.name.short(), e)).collect();
        let about = self.entries.values().filter(|e| is_about(e.kind));
        self.queue = about.map(|e| e.name).collect();
        self.stage = Stage::About;
        self.read_about()
    }

    fn read_about(&mut self) -> MailEffect {
        let read: usize = self.about.iter().map(Vec::len).sum();
        if read > limits::ABOUT_BYTES {
            self.outcome.sealed += self.queue.len() as u64;
            self.queue.clear();
        }
        match self.portion() {
            Some(names) => MailEffect::Read(names),
            None if self.about.is_empty() => self.on_taken(Taken { belongs: true, ..Taken::default() }),
            None => {
                self.stage = Stage::Taking;
                MailEffect::Store(MailRequest::Take(std::mem::take(&mut self.about), !self.setup.dry_run))
            }
        }
    }

    /// The next names of the queue that fit one read.
    fn portion(&mut self) -> Option<Vec<ChunkHash>> {
        let mut bytes = 0;
        self.asked.clear();
        while let Some(name) = self.queue.front().copied() {
            let size = self.entries.get(&name.short()).map_or(0, |e| e.bytes as usize);
            if !self.asked.is_empty() && bytes + size > limits::PERSIST_BYTES {
                break;
            }
            bytes += size;
            self.asked.push(name);
            self.queue.pop_front();
        }
        (!self.asked.is_empty()).then(|| self.asked.clone())
    }

    /// What was asked for, in the order in which it was; the rest is counted.
    fn sound(&mut self, chunks: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        let mut by_name: BTreeMap<ChunkHash, Vec<u8>> = chunks.into_iter().map(|c| (ChunkHash::of(&c), c)).collect();
        let sound: Vec<Vec<u8>> = self.asked.iter().filter_map(|name| by_name.remove(name)).collect();
        self.outcome.lost += (self.asked.len() - sound.len()) as u64;
        sound
    }

    fn on_taken(&mut self, taken: Taken) -> MailEffect {
        self.outcome.sealed += taken.sealed;
        self.outcome.new_ops = taken.new_ops;
        if !taken.belongs {
            self.outcome.removed = true;
            self.stage = Stage::Done;
            return MailEffect::Done;
        }
        self.memory.known.ops.extend(taken.ops);
        for (epoch, readers) in taken.boxed {
            self.memory.known.boxed.entry(epoch).or_default().extend(readers);
        }
        let mut told = BTreeSet::new();
        for manifest in taken.manifests {
            let new = manifest.base.iter().filter(|t| !self.memory.known.base.contains(t)).copied().collect::<Vec<_>>();
            self.memory.known.base.extend(new);
            self.outcome.writers.push((manifest.device, manifest.made_ms));
            for shelf in manifest.shelves {
                if let Some(shelf) = self.present(shelf) {
                    told.extend(shelf.pieces.iter().map(|p| p.chunk));
                    self.memory.known.add(shelf.from, shelf.tip);
                    let (_, lot) = self.pieces_from(&shelf, shelf.from);
                    Lot::gather(&mut self.outcome.all, lot);
                    self.shelves.push(shelf);
                }
            }
        }
        self.shelves.sort_by_key(|s| (s.feed(), s.from, s.tip));
        self.shelves.dedup();
        self.outcome.holds = self.memory.known.runs.iter().map(|r| r.tip).chain(self.memory.known.base.iter().copied()).collect();
        self.outcome.partial = !self.memory.known.base.is_empty();
        let batches = self.entries.values().filter(|e| is_batches(e.kind));
        self.unlisted = batches.filter(|e| !told.contains(&e.name.short())).map(|e| e.name).collect();
        self.outcome.unlisted = self.unlisted.len() as u64;
        if self.setup.pull { self.sort() } else { self.look() }
    }

    /// The end of a shelf whose chunks are all there; what comes before a missing one is read as if nothing told of it.
    fn present(&self, mut shelf: Shelf) -> Option<Shelf> {
        let there = |p: &Piece| self.entries.contains_key(&p.chunk);
        if let Some(missing) = shelf.pieces.iter().rposition(|p| !there(p)) {
            let gone: Vec<Piece> = shelf.pieces.drain(..=missing).collect();
            shelf.from += gone.iter().map(|p| u64::from(p.batches)).sum::<u64>();
        }
        (!shelf.pieces.is_empty()).then_some(shelf)
    }

    fn sort(&mut self) -> MailEffect {
        self.stage = Stage::Sorting;
        let runs = self.shelves.iter().map(|s| (s.feed(), s.from, s.tip)).collect();
        MailEffect::Store(MailRequest::Wanted(runs))
    }

    fn on_wanted(&mut self, firsts: &[Option<u64>]) -> MailEffect {
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
            planned.insert(shelf.feed(), shelf.tip.seq);
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
        (self.held_in_pass, self.gaps_in_pass) = (0, 0);
        self.queue = wanted.into();
        self.stage = Stage::Fetching;
        self.fetch()
    }

    fn pieces_from(&self, shelf: &Shelf, first: u64) -> (Vec<ChunkHash>, Lot) {
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

    fn fetch(&mut self) -> MailEffect {
        if let Some(names) = self.portion() {
            return MailEffect::Read(names);
        }
        // What was read may be what something else waited for; and a branch shows only when its trunk is here.
        if self.held_in_pass > 0 && self.pass < PASSES {
            return self.sort();
        }
        self.outcome.gaps = self.gaps_in_pass;
        self.outcome.pulled = true;
        if self.outcome.progress.received > 0 && !self.memory.owes_receipt {
            self.memory.owes_receipt = true;
            self.stage = Stage::Owing;
            return MailEffect::Store(MailRequest::Note(Memory { owes_receipt: true, ..self.before.clone() }));
        }
        self.look()
    }

    fn on_persisted(&mut self, held: u64, gaps: u64, dropped: u64) -> MailEffect {
        self.held_in_pass += held;
        self.gaps_in_pass += gaps;
        self.outcome.progress.received += held;
        let progress = &mut self.outcome.progress;
        progress.to_receive = progress.to_receive.max(progress.received);
        if self.pass == 1 {
            self.outcome.foreign += dropped;
        }
        if gaps > 0 {
            let told: BTreeSet<[u8; 16]> = self.shelves.iter().flat_map(|s| &s.pieces).map(|p| p.chunk).collect();
            self.again.extend(self.asked.iter().filter(|name| !told.contains(&name.short())));
        }
        self.fetch()
    }

    fn look(&mut self) -> MailEffect {
        if !self.setup.push {
            return self.finish();
        }
        self.stage = Stage::Looking;
        MailEffect::Store(MailRequest::Lacking(self.memory.known.clone()))
    }

    fn on_lacking(&mut self, lacks: Vec<Lack>, known: Known, others: usize) -> MailEffect {
        self.memory.known = known;
        for lack in lacks {
            let wanted = self.setup.only.as_ref().is_none_or(|only| only.contains(&lack.device));
            let lots = if wanted { &mut self.outcome.to } else { &mut self.outcome.left_here };
            Lot::gather(lots, lack.lot());
            if wanted {
                self.outcome.progress.to_send += lack.lot().batches;
                self.lacks.push_back(lack);
            }
        }
        if self.setup.dry_run || (self.lacks.is_empty() && others == 0 && !self.memory.owes_receipt) {
            return self.finish();
        }
        self.next = self.lacks.front().map_or(0, |l| l.from);
        self.stage = Stage::First;
        MailEffect::Store(MailRequest::ComposeFirst(self.memory.known.clone()))
    }

    fn load(&mut self) -> MailEffect {
        if let Some(lack) = self.lacks.front() {
            self.stage = Stage::Loading;
            return MailEffect::Store(MailRequest::Load(lack.chain, self.next, lack.tip.seq, limits::LOAD_BYTES));
        }
        self.stage = Stage::Last;
        let base = self.memory.known.base.clone();
        MailEffect::Store(MailRequest::ComposeLast(std::mem::take(&mut self.added), base))
    }

    fn on_loaded(&mut self, made: Vec<Made>) -> MailEffect {
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
    fn finish(&mut self) -> MailEffect {
        let o = &self.outcome;
        let owes_receipt = self.memory.owes_receipt;
        if !self.setup.pull || self.setup.only.is_some() {
            self.memory = Memory { owes_receipt, ..self.before.clone() };
        } else if o.gaps + o.lost + o.sealed > 0 || self.next_cursor.is_empty() {
            self.memory = Memory { owes_receipt, ..Memory::default() };
        } else {
            self.memory.cursor = std::mem::take(&mut self.next_cursor);
        }
        if self.setup.dry_run || self.stage == Stage::Noting || self.memory == self.before {
            self.stage = Stage::Done;
            return MailEffect::Done;
        }
        self.stage = Stage::Noting;
        MailEffect::Store(MailRequest::Note(self.memory.clone()))
    }
}
