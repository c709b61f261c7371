//! One exchange with a mailbox, from its listing to what is left there. See the crate's documentation for the calling contract.

mod calls;
mod giving;
mod known;
mod taking;

pub use calls::{ExchangeSetup, Listed, Made, MailAnswer, MailEffect, MailEvent, MailRequest, Shown, Taken};
pub use known::{Known, Lot, Memory, Run};

use crate::{Progress, limits};
use cairn_model::{ChunkHash, DeviceId};
use cairn_trust::limits::LEAST_BATCH_BYTES;
use cairn_trust::{ChunkKind, Lack, Manifest, Piece, Shelf, Tip};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What an exchange did, or would do.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// By author: all that lies there, as its manifests tell.
    pub all: Vec<Lot>,
    /// Tips of what a reader of it holds, with what it is taken to hold anyway.
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
    /// This device does not belong (any more): nothing was exchanged.
    pub shut_out: bool,
    /// Something was added.
    pub wrote: bool,
    /// Everything was taken that there was: the step before writing is complete.
    pub pulled: bool,
    /// The mailbox holds only what lies beyond what its reader was taken to hold.
    pub partial: bool,
    /// Not all that it lacks was added: so many bytes could not go.
    pub cut_short: bool,
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
    /// What the store remembers now.
    stored: Memory,
    memory: Memory,
    next_cursor: Vec<u8>,
    mend: bool,
    /// Not all that is about the project was read: too little is known to add anything.
    starved: bool,
    entries: BTreeMap<[u8; 16], Listed>,
    order: Vec<[u8; 16]>,
    about: Vec<Vec<u8>>,
    shelves: Vec<Shelf>,
    queue: VecDeque<ChunkHash>,
    asked: Vec<ChunkHash>,
    /// Chunks no member's manifest tells about, and those of them that found no place yet.
    unlisted: Vec<ChunkHash>,
    again: Vec<ChunkHash>,
    /// Chunks of which members tell.
    told: BTreeSet<[u8; 16]>,
    /// What they turned out to hold: listed anew.
    relisted: Vec<(u32, Shelf)>,
    /// Names and bytes of what the store is taking.
    persisting: Vec<(ChunkHash, u64)>,
    pass: u8,
    held_in_pass: u64,
    gaps_in_pass: u64,
    trouble_in_pass: bool,
    lacks: VecDeque<Lack>,
    /// Next batch of the first of `lacks`.
    next: u64,
    added: Vec<(u32, Shelf)>,
    outcome: Outcome,
}

/// Passes over what found no place: each brings what the one before needed.
const PASSES: u8 = 64;
/// Passes that are made although the one before brought nothing: for branches, and for copies of what was damaged.
const STUBBORN_PASSES: u8 = 3;

/// Place in the order in which what is about the project is read; `None` for batches and what is newer than this version.
fn about(kind: u8) -> Option<usize> {
    use ChunkKind::{Ask, Control, Keys, Manifest, Receipt};
    [Keys, Control, Manifest, Ask, Receipt].iter().position(|k| *k as u8 == kind)
}

fn is_batches(kind: u8) -> bool {
    kind == ChunkKind::Batch as u8 || kind == ChunkKind::Pack as u8
}

impl Exchange {
    /// Begins one.
    pub fn start(setup: ExchangeSetup) -> (Self, MailEffect) {
        let memory = setup.memory.clone();
        let dry_run = setup.dry_run;
        let cursor = memory.cursor.clone();
        let exchange = Self {
            setup,
            stage: if dry_run { Stage::Listing } else { Stage::Preparing },
            before: memory.clone(),
            stored: memory.clone(),
            memory,
            next_cursor: Vec::new(),
            mend: false,
            starved: false,
            entries: BTreeMap::new(),
            order: Vec::new(),
            about: Vec::new(),
            shelves: Vec::new(),
            queue: VecDeque::new(),
            asked: Vec::new(),
            unlisted: Vec::new(),
            again: Vec::new(),
            told: BTreeSet::new(),
            relisted: Vec::new(),
            persisting: Vec::new(),
            pass: 0,
            held_in_pass: 0,
            gaps_in_pass: 0,
            trouble_in_pass: false,
            lacks: VecDeque::new(),
            next: 0,
            added: Vec::new(),
            outcome: Outcome::default(),
        };
        let first = if dry_run { MailEffect::List(cursor) } else { MailEffect::Store(MailRequest::Prepare) };
        (exchange, first)
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
            (Stage::Listing, MailEvent::Listed(shown)) => self.on_listed(shown),
            (Stage::About, MailEvent::Read(chunks)) => {
                let sound = self.sound(chunks);
                self.about.extend(sound);
                self.read_about()
            }
            (Stage::Taking, MailEvent::Answer(MailAnswer::Taken(taken))) => self.on_taken(*taken),
            (Stage::Sorting, MailEvent::Answer(MailAnswer::Wanted(firsts))) => self.on_wanted(&firsts),
            (Stage::Fetching, MailEvent::Read(chunks)) => {
                let lost = self.outcome.lost;
                let sound = self.sound(chunks);
                self.trouble_in_pass |= self.outcome.lost > lost;
                self.persisting = sound.iter().map(|c| (ChunkHash::of(c), c.len() as u64)).collect();
                if sound.is_empty() { self.fetch() } else { MailEffect::Store(MailRequest::Persist(sound)) }
            }
            (Stage::Fetching, MailEvent::Answer(MailAnswer::Persisted { held, gaps, dropped, placed })) => {
                self.on_persisted(held, gaps, dropped, &placed)
            }
            (Stage::Owing, MailEvent::Answer(MailAnswer::Done)) => {
                self.stage = Stage::Fetching;
                self.fetch()
            }
            (Stage::Looking, MailEvent::Answer(MailAnswer::Lacking(lacks, known, others, may_write, cut_short))) => {
                self.outcome.cut_short = cut_short;
                self.on_lacking(lacks, known, others, may_write)
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
                (self.outcome.wrote, self.memory.begun) = (true, true);
                self.memory.owes_receipt = false;
                self.finish()
            }
            _ => {
                self.stage = Stage::Done;
                MailEffect::Done
            }
        }
    }

    fn on_listed(&mut self, shown: Shown) -> MailEffect {
        if shown.start_over {
            self.memory.known = Known::default();
        }
        self.memory.known.base.extend(self.setup.base.iter().copied());
        (self.next_cursor, self.mend) = (shown.cursor, shown.mend);
        self.memory.begun |= !shown.entries.is_empty();
        for entry in shown.entries {
            if self.entries.insert(entry.name.short(), entry).is_none() {
                self.order.push(entry.name.short());
            }
        }
        let mut about: Vec<(usize, ChunkHash)> =
            self.order.iter().filter_map(|n| self.entries.get(n)).filter_map(|e| Some((about(e.kind)?, e.name))).collect();
        about.sort_by_key(|(place, _)| *place);
        self.queue = about.into_iter().map(|(_, name)| name).collect();
        self.stage = Stage::About;
        self.read_about()
    }

    fn read_about(&mut self) -> MailEffect {
        let read: usize = self.about.iter().map(Vec::len).sum();
        if read > limits::ABOUT_BYTES {
            let receipt = |name: &ChunkHash| self.entries.get(&name.short()).is_some_and(|e| e.kind == ChunkKind::Receipt as u8);
            let others = self.queue.iter().filter(|name| !receipt(name)).count() as u64;
            self.outcome.sealed += others;
            self.starved = others > 0;
            self.queue.clear();
        }
        if let Some(names) = self.portion() {
            return MailEffect::Read(names);
        }
        self.stage = Stage::Taking;
        MailEffect::Store(MailRequest::Take(std::mem::take(&mut self.about), !self.setup.dry_run))
    }

    /// The next names of the queue that fit one read.
    pub(super) fn portion(&mut self) -> Option<Vec<ChunkHash>> {
        let most = if self.setup.in_small_steps { limits::SMALL_STEP_BYTES } else { limits::PERSIST_BYTES };
        let most = self.setup.step_bytes.map_or(most, |step| most.min(usize::try_from(step).unwrap_or(usize::MAX)));
        let mut bytes = 0;
        self.asked.clear();
        while let Some(name) = self.queue.front().copied() {
            let size = self.entries.get(&name.short()).map_or(0, |e| e.bytes as usize);
            if !self.asked.is_empty() && bytes + size > most {
                break;
            }
            bytes += size;
            self.asked.push(name);
            self.queue.pop_front();
        }
        (!self.asked.is_empty()).then(|| self.asked.clone())
    }

    /// What was asked for, in the order in which it was; the rest is counted.
    pub(super) fn sound(&mut self, chunks: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        let mut by_name: BTreeMap<ChunkHash, Vec<u8>> = chunks.into_iter().map(|c| (ChunkHash::of(&c), c)).collect();
        let sound: Vec<Vec<u8>> = self.asked.iter().filter_map(|name| by_name.remove(name)).collect();
        self.outcome.lost += (self.asked.len() - sound.len()) as u64;
        sound
    }

    fn on_taken(&mut self, taken: Taken) -> MailEffect {
        self.outcome.sealed += taken.sealed;
        self.outcome.new_ops = taken.new_ops;
        if !taken.belongs {
            self.outcome.shut_out = true;
            self.stage = Stage::Done;
            return MailEffect::Done;
        }
        self.memory.known.ops.extend(taken.ops);
        for (epoch, readers) in taken.boxed {
            self.memory.known.boxed.entry(epoch).or_default().extend(readers);
        }
        for manifest in taken.manifests {
            if self.setup.for_readers {
                let new: Vec<Tip> = manifest.base.iter().filter(|t| !self.memory.known.base.contains(t)).copied().collect();
                self.memory.known.base.extend(new);
            }
            self.outcome.writers.push((manifest.device, manifest.made_ms));
            for shelf in manifest.shelves {
                let Some(shelf) = self.present(shelf) else { continue };
                self.told.extend(shelf.pieces.iter().map(|p| p.chunk));
                self.memory.known.add(shelf.from, shelf.tip);
                let (_, lot) = self.pieces_from(&shelf, shelf.from);
                Lot::gather(&mut self.outcome.all, lot);
                self.shelves.push(shelf);
            }
        }
        self.shelves.sort_by_key(|s| (s.feed(), s.from, s.tip));
        self.shelves.dedup();
        self.outcome.holds = self.holds();
        self.outcome.partial = !self.memory.known.base.is_empty();
        self.find_unlisted(taken.unproved);
        if self.setup.pull { self.sort() } else { self.look() }
    }

    /// Chunks of which no member tells, in an order that others tell, or in which they lie.
    fn find_unlisted(&mut self, unproved: Vec<Manifest>) {
        let mut shelves: Vec<Shelf> = unproved.into_iter().flat_map(|m| m.shelves).collect();
        shelves.sort_by_key(|s| (s.feed(), s.from));
        let first = shelves.iter().flat_map(|s| &s.pieces).map(|p| p.chunk);
        let mut seen = BTreeSet::new();
        let all = first.chain(self.order.iter().copied()).filter(|n| !self.told.contains(n) && seen.insert(*n));
        let batches = all.filter_map(|n| self.entries.get(&n)).filter(|e| is_batches(e.kind));
        self.unlisted = batches.map(|e| e.name).collect();
        self.outcome.unlisted = self.unlisted.len() as u64;
    }

    /// The end of a shelf whose chunks are all there; what comes before a missing one is read as if nothing told of it.
    fn present(&self, mut shelf: Shelf) -> Option<Shelf> {
        let room = |p: &Piece, e: &Listed| u64::from(p.batches) * LEAST_BATCH_BYTES <= u64::from(e.bytes);
        let there = |p: &Piece| self.entries.get(&p.chunk).is_some_and(|e| is_batches(e.kind) && room(p, e));
        if let Some(missing) = shelf.pieces.iter().rposition(|p| !there(p)) {
            let gone: Vec<Piece> = shelf.pieces.drain(..=missing).collect();
            shelf.from += gone.iter().map(|p| u64::from(p.batches)).sum::<u64>();
        }
        (!shelf.pieces.is_empty()).then_some(shelf)
    }

    /// Ends of what is there from each feed's beginning, or goes on from what readers are taken to hold.
    fn holds(&self) -> Vec<Tip> {
        let known = &self.memory.known;
        let mut held: Vec<Tip> = known.base.clone();
        let mut runs = known.runs.clone();
        runs.sort_by_key(|r| r.from);
        for run in runs {
            let goes_on = |t: &Tip| t.feed == run.tip.feed && t.seq + 1 >= run.from;
            if run.from == 1 || held.iter().any(goes_on) {
                held.push(run.tip);
            }
        }
        held
    }
}
