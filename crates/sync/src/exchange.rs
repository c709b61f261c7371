//! One exchange with a mailbox, from its listing to what is left there. See the crate's documentation for the calling contract.

mod about;
mod calls;
mod checking;
mod giving;
mod known;
mod taking;

pub use calls::{ExchangeSetup, Lacking, Listed, Made, MailAnswer, MailEffect, MailEvent, MailRequest, Shown, Taken};
pub use known::{Known, Lot, Memory, Tried};

use crate::{Progress, limits};
use cairn_model::{ChunkHash, DeviceId};
use cairn_trust::{ChunkKind, Lack, Proof, Shelf, Short, Tip};
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
    /// Batches made on this device that it holds.
    pub own: u64,
    /// How many of those are not proved to lie there after this visit.
    pub own_lacking: u64,
    /// Members whose manifest named a chunk that does not hold what it says.
    pub liars: Vec<DeviceId>,
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
    /// Asking what claims are worth.
    Weighing,
    /// Looking into claimed chunks.
    Checking,
    /// Noting whose manifests are not believed any more.
    Distrusting,
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
    tried: Tried,
    next_cursor: Vec<u8>,
    mend: bool,
    /// Not all that is about the project was read: too little is known to add what others made.
    starved: bool,
    entries: BTreeMap<Short, Listed>,
    order: Vec<Short>,
    /// Chunks that could not be used before and for which nothing has changed since.
    unusable: BTreeSet<Short>,
    /// What is about the project, as it was read.
    about: Vec<(ChunkHash, Vec<u8>)>,
    /// Names of what the store is looking at.
    about_names: Vec<ChunkHash>,
    queue: VecDeque<ChunkHash>,
    asked: Vec<ChunkHash>,
    /// Chunks no believed manifest tells about, and those of them that found no place yet.
    unlisted: Vec<ChunkHash>,
    again: Vec<ChunkHash>,
    /// Chunks of which members tell, or that were proved before.
    told: BTreeSet<Short>,
    proved: BTreeSet<Short>,
    /// What untold chunks turned out to hold: listed in the own manifest.
    relisted: Vec<(u32, Shelf)>,
    /// Names and bytes of what the store is taking.
    persisting: Vec<(ChunkHash, u64)>,
    /// Chunks that found no place, and chunks whose key is not here, as far as the last look at each tells.
    unplaced: BTreeSet<Short>,
    closed: BTreeSet<Short>,
    missed: BTreeSet<Short>,
    pass: u8,
    held_in_pass: u64,
    gaps_in_pass: u64,
    trouble_in_pass: bool,
    /// Members caught, to be noted.
    liars: VecDeque<(DeviceId, ChunkHash)>,
    weighed: bool,
    lacks: VecDeque<Lack>,
    /// Next batch of the first of `lacks`.
    next: u64,
    added: Vec<(u32, Shelf)>,
    /// What will be proved once it is committed, and how many of it are own batches.
    adding: (Vec<Proof>, u64),
    device: Option<DeviceId>,
    outcome: Outcome,
}

/// Passes over what found no place: each brings what the one before needed.
const PASSES: u8 = 64;
/// Passes that are made although the one before brought nothing: for branches, and for copies of what was damaged.
const STUBBORN_PASSES: u8 = 3;

fn is_batches(kind: u8) -> bool {
    kind == ChunkKind::Batch as u8 || kind == ChunkKind::Pack as u8
}

impl Exchange {
    /// Begins one.
    pub fn start(setup: ExchangeSetup) -> (Self, MailEffect) {
        let memory = setup.memory.clone();
        let cut = !setup.dry_run;
        let exchange = Self {
            setup,
            stage: Stage::Preparing,
            before: memory.clone(),
            stored: memory.clone(),
            memory,
            tried: Tried::default(),
            next_cursor: Vec::new(),
            mend: false,
            starved: false,
            entries: BTreeMap::new(),
            order: Vec::new(),
            unusable: BTreeSet::new(),
            about: Vec::new(),
            about_names: Vec::new(),
            queue: VecDeque::new(),
            asked: Vec::new(),
            unlisted: Vec::new(),
            again: Vec::new(),
            told: BTreeSet::new(),
            proved: BTreeSet::new(),
            relisted: Vec::new(),
            persisting: Vec::new(),
            unplaced: BTreeSet::new(),
            closed: BTreeSet::new(),
            missed: BTreeSet::new(),
            pass: 0,
            held_in_pass: 0,
            gaps_in_pass: 0,
            trouble_in_pass: false,
            liars: VecDeque::new(),
            weighed: false,
            lacks: VecDeque::new(),
            next: 0,
            added: Vec::new(),
            adding: (Vec::new(), 0),
            device: None,
            outcome: Outcome::default(),
        };
        (exchange, MailEffect::Store(MailRequest::Prepare(cut)))
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
            (Stage::Preparing, MailEvent::Answer(MailAnswer::Ready(tried))) => {
                (self.stage, self.tried) = (Stage::Listing, tried);
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
                let sound = self.take_names(chunks);
                self.trouble_in_pass |= self.outcome.lost > lost;
                if sound.is_empty() { self.fetch() } else { MailEffect::Store(MailRequest::Persist(sound)) }
            }
            (Stage::Fetching, MailEvent::Answer(MailAnswer::Persisted { held, gaps, dropped, placed, inside })) => {
                self.on_persisted((held, gaps, dropped), &placed, &inside)
            }
            (Stage::Owing, MailEvent::Answer(MailAnswer::Done)) => {
                self.stage = Stage::Fetching;
                self.fetch()
            }
            (Stage::Weighing, MailEvent::Answer(MailAnswer::Weighed(worth, own_bytes))) => self.on_weighed(&worth, own_bytes),
            (Stage::Checking, MailEvent::Read(chunks)) => {
                let sound = self.take_names(chunks);
                if sound.is_empty() { self.check_next() } else { MailEffect::Store(MailRequest::Inspect(sound)) }
            }
            (Stage::Checking, MailEvent::Answer(MailAnswer::Inspected(inside))) => self.on_inspected(&inside),
            (Stage::Distrusting, MailEvent::Answer(MailAnswer::Done)) => self.check(),
            (Stage::Looking, MailEvent::Answer(MailAnswer::Lacking(lacking))) => self.on_lacking(*lacking),
            (Stage::First, MailEvent::Answer(MailAnswer::Composed(chunks))) => MailEffect::Add(chunks),
            (Stage::First | Stage::Loading, MailEvent::Added) => self.load(),
            (Stage::Loading, MailEvent::Answer(MailAnswer::Loaded(made))) => self.on_loaded(made),
            (Stage::Last, MailEvent::Answer(MailAnswer::Composed(chunks))) => MailEffect::Add(chunks),
            (Stage::Last, MailEvent::Added) => {
                self.stage = Stage::Committing;
                MailEffect::Commit
            }
            (Stage::Committing, MailEvent::Committed) => self.on_committed(),
            (Stage::Noting, MailEvent::Answer(MailAnswer::Done)) => self.done(),
            _ => self.done(),
        }
    }

    fn done(&mut self) -> MailEffect {
        self.stage = Stage::Done;
        MailEffect::Done
    }

    /// The next names of the queue that fit one read.
    fn portion(&mut self) -> Option<Vec<ChunkHash>> {
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

    /// What was asked for, in the order in which it was; the rest is counted and tried again at the next visit.
    fn sound(&mut self, chunks: Vec<Vec<u8>>) -> Vec<(ChunkHash, Vec<u8>)> {
        let mut by_name: BTreeMap<ChunkHash, Vec<u8>> = chunks.into_iter().map(|c| (ChunkHash::of(&c), c)).collect();
        let mut sound = Vec::with_capacity(self.asked.len());
        for name in &self.asked {
            match by_name.remove(name) {
                Some(chunk) => {
                    self.missed.remove(&name.short());
                    sound.push((*name, chunk));
                }
                None => {
                    self.outcome.lost += 1;
                    self.missed.insert(name.short());
                    // Only the last look at a chunk counts: in two lists it would be kept in neither.
                    self.unplaced.remove(&name.short());
                    self.closed.remove(&name.short());
                }
            }
        }
        sound
    }

    /// The same, with the names noted for the answer that will come.
    fn take_names(&mut self, chunks: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        let sound = self.sound(chunks);
        self.persisting = sound.iter().map(|(name, chunk)| (*name, chunk.len() as u64)).collect();
        sound.into_iter().map(|(_, chunk)| chunk).collect()
    }

    /// Remembers that a chunk holds these batches.
    fn prove(&mut self, chunk: Short, from: u64, tip: Tip) {
        if self.proved.insert(chunk) {
            self.memory.known.prove(chunk, from, tip);
        }
        for list in [&mut self.unplaced, &mut self.closed, &mut self.missed] {
            list.remove(&chunk);
        }
    }
}
