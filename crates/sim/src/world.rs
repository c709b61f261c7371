//! The world: seeded steps, faults, and the invariants checked on the way and at the end.

mod back;
mod carry;
mod faults;
mod govern;
mod hostile;
mod rest;

use self::back::known_changes;
use crate::{DiskHandle, Expected};
use cairn_model::{ChangeHash, DeviceId, DocId, Edit, Place, default_configuration};
use cairn_node::{Tally, answer};
use cairn_store::{Entropy, NewProject, Store, StoreError};
use cairn_sync::{Answer, CloseReason, Effect, Event, FrameReader, Message, Request, Session, Setup, frame};
use cairn_trust::{DeviceKeys, InviteMode, Role};
use rand::seq::IndexedRandom;
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use redb::Database;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What a history is made of.
#[derive(Clone, Debug)]
pub struct Config {
    /// Devices at the start.
    pub devices: std::ops::RangeInclusive<usize>,
    /// Random steps before healing.
    pub steps: std::ops::RangeInclusive<usize>,
    /// Crashes, cuts, full disks.
    pub faults: bool,
    /// Copies of a device that both write on.
    pub clones: bool,
    /// Coordinators let devices in and out, change roles and accept from quarantine. What is shown is then compared between
    /// devices, not with the model.
    pub governs: bool,
    /// Devices meet by a mailbox too, and only there when all is healed.
    pub carried: bool,
    /// A member cheats: it writes false lists, junk and floods into the mailbox.
    pub hostile: bool,
    /// Devices set aside what syncs brought, and show it again; at the end all is shown.
    pub undoes: bool,
    /// Negative control: disks acknowledge syncs they do not do.
    pub lying_disks: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            devices: 2..=5,
            steps: 30..=120,
            faults: true,
            clones: true,
            governs: false,
            carried: false,
            hostile: false,
            undoes: false,
            lying_disks: false,
        }
    }
}

/// A broken invariant; the seed replays it.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// Replays the history.
    pub seed: u64,
    /// Which invariant, and where.
    pub what: String,
}

/// Numbers of a history that held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Acknowledged edits.
    pub edits: usize,
    /// Links made.
    pub links: usize,
    /// Visits to a mailbox.
    pub visits: usize,
    /// Acts of coordinators.
    pub acts: usize,
    /// Acts of the member who cheats.
    pub mischief: usize,
    /// Batches that do not count at the end, on one device.
    pub set_apart: usize,
    /// Changes that were set aside, or shown again.
    pub undone: usize,
    /// Crashes.
    pub crashes: usize,
    /// Rounds of meetings needed at the end.
    pub rounds: usize,
    /// Chunks sent.
    pub chunks: u64,
    /// Over everything sent and stored, so that two runs of one seed can be compared.
    pub trace: u64,
}

struct Seeded(ChaCha8Rng);

impl Entropy for Seeded {
    fn fill(&mut self, out: &mut [u8]) {
        self.0.fill_bytes(out);
    }
}

struct Device {
    keys: DeviceKeys,
    disk: DiskHandle,
    /// `None` while the disk refuses to open.
    store: Option<Store>,
    clock_ms: i64,
    disk_full: bool,
    /// Requests in the order they were made: (link, side, number, request).
    desk: VecDeque<(u64, usize, u64, Request)>,
}

struct Side {
    device: usize,
    session: Option<Session>,
    setup: Setup,
    incoming: VecDeque<u8>,
    reader: FrameReader,
    tally: Tally,
    sent: BTreeSet<[u8; 32]>,
    synced: bool,
}

struct Link {
    id: u64,
    sides: [Side; 2],
}

struct World {
    rng: ChaCha8Rng,
    seed: u64,
    config: Config,
    devices: Vec<Device>,
    links: Vec<Link>,
    next_link: u64,
    place: carry::Place,
    cheat: Option<hostile::Cheat>,
    expected: Expected,
    /// Change of each event, by document.
    changes: BTreeMap<DocId, Vec<(ChangeHash, usize)>>,
    docs: Vec<DocId>,
    outcome: Outcome,
    trace: blake3::Hasher,
    healing: bool,
    cloned: bool,
}

type Check = Result<(), String>;

/// Runs one history.
pub fn run(seed: u64, config: &Config) -> Result<Outcome, Failure> {
    let mut world = World::new(seed, config);
    let steps = world.rng.random_range(config.steps.clone());
    let mut act = || -> Check {
        for _ in 0..steps {
            world.step()?;
        }
        world.heal()?;
        world.at_rest()
    };
    match act() {
        Ok(()) => {
            let mut out = world.outcome;
            out.trace = u64::from_le_bytes(world.trace.finalize().as_bytes()[..8].try_into().expect("eight bytes"));
            Ok(out)
        }
        Err(what) => Err(Failure { seed, what }),
    }
}

fn open(device: &Device, seed: u64, fresh: bool) -> Result<Store, StoreError> {
    let db = Database::builder().create_with_backend(device.disk.storage())?;
    Store::open(db, device.keys.clone(), Box::new(Seeded(ChaCha8Rng::seed_from_u64(seed))), fresh)
}

const FIELDS: [&str; 3] = ["species", "count", "note"];

impl World {
    fn new(seed: u64, config: &Config) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let count = rng.random_range(config.devices.clone());
        let mut world = Self {
            seed,
            config: config.clone(),
            devices: Vec::new(),
            links: Vec::new(),
            next_link: 0,
            place: carry::Place::default(),
            cheat: None,
            expected: Expected::default(),
            changes: BTreeMap::new(),
            docs: Vec::new(),
            outcome: Outcome::default(),
            trace: blake3::Hasher::new(),
            healing: false,
            cloned: false,
            rng,
        };
        world.found();
        for _ in 1..count {
            world.join();
        }
        if config.hostile {
            world.let_eve_in();
        }
        if config.lying_disks {
            world.devices.iter().for_each(|d| d.disk.lie());
        }
        world
    }

    fn blank(&mut self) -> Device {
        let mut key = [0; 32];
        self.rng.fill_bytes(&mut key);
        let fifty_years = 50 * 365 * 86_400_000;
        let clock_ms = 1_750_000_000_000 + self.rng.random_range(-fifty_years..fifty_years);
        Device {
            keys: DeviceKeys::from_seed(key),
            disk: DiskHandle::default(),
            store: None,
            clock_ms,
            disk_full: false,
            desk: VecDeque::new(),
        }
    }

    fn found(&mut self) {
        let mut device = self.blank();
        let db = Database::builder().create_with_backend(device.disk.storage()).expect("a new disk");
        let configuration = default_configuration();
        let new = NewProject { name: "sim", device_name: "0", configuration: &configuration, now_ms: device.clock_ms };
        let entropy = Box::new(Seeded(ChaCha8Rng::seed_from_u64(self.rng.random())));
        device.store = Some(Store::new_project(db, device.keys.clone(), entropy, &new).expect("a new project").0);
        self.devices.push(device);
    }

    fn join(&mut self) {
        let mut device = self.blank();
        let founder = self.devices[0].store.as_mut().expect("founder");
        let ticket = founder.invite(Role::Member, 1, InviteMode::Bearer, vec![]).expect("the founder invites");
        let db = Database::builder().create_with_backend(device.disk.storage()).expect("a new disk");
        let entropy = Box::new(Seeded(ChaCha8Rng::seed_from_u64(self.rng.random())));
        let name = self.devices.len().to_string();
        device.store = Some(Store::join_project(db, device.keys.clone(), entropy, &ticket, &name).expect("joins"));
        self.devices.push(device);
    }

    fn step(&mut self) -> Check {
        let d = self.rng.random_range(0..self.devices.len());
        if self.config.hostile && self.rng.random_ratio(1, 8) {
            return self.mischief();
        }
        if self.config.governs && self.rng.random_ratio(1, 8) {
            let d = if self.rng.random_ratio(1, 3) { 0 } else { d };
            return self.govern(d);
        }
        if self.config.carried && self.rng.random_ratio(1, 4) {
            if self.config.faults && self.rng.random_ratio(1, 8) {
                self.disturb_place();
            }
            let faults = self.config.faults;
            return self.visit_place(d, faults).map(drop);
        }
        if self.config.undoes && self.rng.random_ratio(1, 10) {
            return self.go_back(d);
        }
        if (self.config.governs || self.config.undoes) && self.rng.random_ratio(1, 4) {
            // Teams change over many meetings, and what is undone must have come: some go on for a while.
            let other = self.rng.random_range(0..self.devices.len());
            self.connect(d, other);
            for _ in 0..60 {
                self.deliver_some()?;
                let d = self.rng.random_range(0..self.devices.len());
                self.work(d)?;
            }
            return Ok(());
        }
        match self.rng.random_range(0..100) {
            0..24 => self.edit(d),
            24..34 => {
                let other = self.rng.random_range(0..self.devices.len());
                self.connect(d, other);
                Ok(())
            }
            34..60 => self.deliver_some(),
            60..86 => self.work(d),
            86..90 if self.config.faults => {
                if !self.links.is_empty() {
                    let n = self.rng.random_range(0..self.links.len());
                    self.cut(n)?;
                }
                Ok(())
            }
            90..94 if self.config.faults => self.crash(d),
            94..97 if self.config.faults => {
                self.devices[d].disk_full = !self.devices[d].disk_full;
                let full = self.devices[d].disk_full;
                self.devices[d].disk.refuse(full);
                Ok(())
            }
            97..98 if self.config.clones && self.devices.len() < 8 => self.clone_device(d),
            _ => Ok(()),
        }
    }

    fn edit(&mut self, d: usize) -> Check {
        let new = self.docs.is_empty() || self.rng.random_ratio(1, 3);
        let pick = self.docs.choose(&mut self.rng).copied();
        let Some(store) = self.devices[d].store.as_mut() else { return Ok(()) };
        let doc = if new { store.new_id() } else { pick.expect("some") };
        let before = known_changes(store, &doc)?;
        if !new && before.is_empty() {
            return Ok(());
        }
        let mut edit = Edit::new();
        let (key, value) = match self.rng.random_range(0..10) {
            0 => {
                let delete = self.rng.random();
                edit.deleted(delete);
                ("deleted".to_owned(), delete.then(|| "true".to_owned()))
            }
            1 => {
                let place = Place::new(self.rng.random_range(-80..80).into(), self.rng.random_range(-170..170).into()).expect("in range");
                edit.place(place);
                ("where".to_owned(), Some(place.to_geo()))
            }
            _ => {
                let field = *FIELDS.choose(&mut self.rng).expect("some");
                let value = self.rng.random_range(0..4).to_string();
                edit.field(field, &value, None, &[]).map_err(|e| e.to_string())?;
                (format!("f.{field}"), Some(value))
            }
        };
        let now = self.devices[d].clock_ms;
        let store = self.devices[d].store.as_mut().expect("checked");
        let saved = store.edit_observations(vec![(doc, edit)], now);
        match saved {
            Ok(0) => Ok(()),
            Ok(_) => {
                let after = known_changes(store, &doc)?;
                let made = after.iter().find(|h| !before.contains(h)).copied().ok_or("invariant 1: a saved edit is not in its history")?;
                let seen = self.seen(&doc, &before);
                let event = self.expected.edit(doc, &key, value.as_deref(), &seen);
                self.changes.entry(doc).or_default().push((made, event));
                if new {
                    self.docs.push(doc);
                }
                self.outcome.edits += 1;
                self.changed(d, None)
            }
            Err(e) if self.devices[d].disk_full => {
                self.trace.update(e.to_string().as_bytes());
                self.reopen_after_refusal(d, doc, &before)
            }
            Err(StoreError::Role { .. } | StoreError::Removed { .. }) if self.config.governs => Ok(()),
            Err(e) => Err(format!("an edit was refused: {e}")),
        }
    }

    /// The outcome of a refused commit is unknown until reopened; whatever it is, the model follows what is there.
    fn reopen_after_refusal(&mut self, d: usize, doc: DocId, before: &[ChangeHash]) -> Check {
        self.drop_links_of(d)?;
        self.devices[d].store = None;
        self.devices[d].disk.refuse(false);
        self.devices[d].disk_full = false;
        let seed = self.rng.random();
        let store = open(&self.devices[d], seed, false).map_err(|e| format!("reopening after a full disk: {e}"))?;
        if known_changes(&store, &doc)?.iter().any(|h| !before.contains(h)) {
            return Err("a refused edit is there after reopening: redb reported a commit as failed that was not".into());
        }
        self.devices[d].store = Some(store);
        self.durable(d)
    }

    fn seen(&self, doc: &DocId, hashes: &[ChangeHash]) -> BTreeSet<usize> {
        let events = self.changes.get(doc).map(Vec::as_slice).unwrap_or_default();
        events.iter().filter(|(h, _)| hashes.contains(h)).map(|(_, e)| *e).collect()
    }

    fn connect(&mut self, a: usize, b: usize) {
        let linked = self.links.iter().any(|l| {
            let ends = [l.sides[0].device, l.sides[1].device];
            ends == [a, b] || ends == [b, a]
        });
        if a == b || linked || self.devices[a].store.is_none() || self.devices[b].store.is_none() {
            return;
        }
        self.outcome.links += 1;
        self.next_link += 1;
        let mut exporter = [0; 32];
        self.rng.fill_bytes(&mut exporter);
        let side = |me: usize, peer: usize| {
            let store = self.devices[me].store.as_ref().expect("checked");
            let peer: DeviceId = self.devices[peer].keys.device();
            let setup = Setup { peer, exporter, discovery: store.discovery_key(), name: me.to_string(), port: 0, probe: false };
            let sync = store.next_sync().ok();
            Side {
                device: me,
                session: None,
                setup,
                incoming: VecDeque::new(),
                reader: FrameReader::default(),
                tally: Tally { sync, ..Tally::default() },
                sent: BTreeSet::new(),
                synced: false,
            }
        };
        let mut sides = [side(a, b), side(b, a)];
        sides[0].reader.expect_hello();
        let (session, effects) = Session::dial(sides[0].setup.clone());
        sides[0].session = Some(session);
        let id = self.next_link;
        self.links.push(Link { id, sides });
        self.carry_out(id, 0, effects).expect("dialling breaks nothing");
    }

    fn link(&mut self, id: u64) -> Option<&mut Link> {
        self.links.iter_mut().find(|l| l.id == id)
    }

    fn carry_out(&mut self, id: u64, side: usize, effects: Vec<Effect>) -> Check {
        for effect in effects {
            match effect {
                Effect::Send(message) => self.send(id, side, &message)?,
                Effect::Store(number, request) => {
                    let Some(link) = self.link(id) else { return Ok(()) };
                    let device = link.sides[side].device;
                    self.devices[device].desk.push_back((id, side, number, request));
                }
                Effect::Met(_) | Effect::CodeTried(_) | Effect::LetIn => {}
                Effect::Synced => {
                    self.said_synced(id)?;
                    if let Some(link) = self.link(id) {
                        link.sides[side].synced = true;
                    }
                }
                Effect::Close(CloseReason::Store | CloseReason::Done) => return self.cut_id(id),
                Effect::Close(CloseReason::Removed | CloseReason::NotMember) if self.config.governs => {
                    // What was sent before arrives, then the link is gone.
                    let left = self.link(id).map_or(0, |l| l.sides[1 - side].incoming.len());
                    self.deliver(id, 1 - side, left)?;
                    return self.cut_id(id);
                }
                Effect::Close(reason) => return Err(format!("a link between members closed: {reason}")),
            }
        }
        Ok(())
    }

    /// A device that dialled hangs up when it has said this, so it must be true by then: seen in the field, a side that
    /// had nothing to send said it before the other's first chunk arrived.
    fn said_synced(&mut self, id: u64) -> Check {
        if !self.healing {
            return Ok(());
        }
        let Some(link) = self.link(id) else { return Ok(()) };
        let ends = link.sides.each_ref().map(|s| s.device);
        let digests = ends.map(|d| self.devices[d].store.as_ref().map(|s| s.digest().map_err(|e| e.to_string())));
        if digests[0] == digests[1] { Ok(()) } else { Err("invariant 8: synced was said while the devices hold different things".into()) }
    }

    fn send(&mut self, id: u64, side: usize, message: &[u8]) -> Check {
        self.trace.update(message);
        let Some(link) = self.links.iter_mut().find(|l| l.id == id) else { return Ok(()) };
        let sender = &self.devices[link.sides[side].device];
        if let Ok(Message::Chunk(chunk)) = Message::decode(message) {
            if !sender.disk.holds(&chunk) {
                return Err("invariant 2: a chunk is sent before it is durable".into());
            }
            self.outcome.chunks += 1;
            // With one link at a time and no copies about, nothing may be sent that the other side has.
            let receiver = &self.devices[link.sides[1 - side].device];
            if self.healing && !self.cloned && receiver.disk.holds(&chunk) {
                return Err("invariant 5: a chunk was sent to a device that has it".into());
            }
            if !link.sides[side].sent.insert(*blake3::hash(&chunk).as_bytes()) {
                let to = self.devices[link.sides[1 - side].device].store.as_ref();
                let can = to.map(|s| s.reads(&chunk));
                return Err(format!("invariant 5: a chunk was sent twice in one sync (the other side can read it: {can:?})"));
            }
        }
        link.sides[1 - side].incoming.extend(frame(message));
        Ok(())
    }

    fn deliver_some(&mut self) -> Check {
        if self.links.is_empty() {
            return Ok(());
        }
        let n = self.rng.random_range(0..self.links.len());
        let side = self.rng.random_range(0..2);
        let most = self.links[n].sides[side].incoming.len();
        if most == 0 {
            return Ok(());
        }
        let bytes = if self.rng.random_ratio(1, 2) { most } else { self.rng.random_range(1..=most) };
        let id = self.links[n].id;
        self.deliver(id, side, bytes)
    }

    fn deliver(&mut self, id: u64, side: usize, bytes: usize) -> Check {
        let Some(link) = self.link(id) else { return Ok(()) };
        let me = &mut link.sides[side];
        let piece: Vec<u8> = me.incoming.drain(..bytes).collect();
        me.reader.push(&piece);
        loop {
            let Some(link) = self.link(id) else { return Ok(()) };
            let me = &mut link.sides[side];
            if me.session.as_ref().is_some_and(|s| !s.wants_frames()) {
                return Ok(());
            }
            let Some(got) = me.reader.next_frame().map_err(|e| e.to_string())? else { return Ok(()) };
            let effects = match &mut me.session {
                Some(session) => session.handle(Event::Frame(got)),
                None => {
                    let (session, effects) = Session::accept(me.setup.clone(), &got);
                    me.session = Some(session);
                    effects
                }
            };
            self.carry_out(id, side, effects)?;
        }
    }

    /// The device's disk serves one request.
    fn work(&mut self, d: usize) -> Check {
        let Some((id, side, number, request)) = self.devices[d].desk.pop_front() else { return Ok(()) };
        if self.link(id).is_none() {
            return Ok(());
        }
        let now = self.devices[d].clock_ms;
        let link = self.links.iter_mut().find(|l| l.id == id).expect("checked");
        let tally = &mut link.sides[side].tally;
        let Some(store) = self.devices[d].store.as_mut() else { return Ok(()) };
        match answer(store, request, now, tally) {
            Ok(done) => {
                let changed = std::mem::take(&mut tally.changed);
                self.give(id, side, number, done)?;
                if changed { self.changed(d, Some(id)) } else { Ok(()) }
            }
            Err(_) if self.devices[d].disk_full => {
                self.give(id, side, number, Answer::Failed)?;
                self.crash(d)
            }
            Err(e) => Err(format!("the store failed: {e}")),
        }
    }

    fn give(&mut self, id: u64, side: usize, number: u64, done: Answer) -> Check {
        let Some(link) = self.link(id) else { return Ok(()) };
        let Some(session) = link.sides[side].session.as_mut() else { return Ok(()) };
        let effects = session.handle(Event::Answer(number, done));
        self.carry_out(id, side, effects)?;
        // Frames that were left while the session wanted none.
        self.deliver(id, side, 0)
    }

    fn changed(&mut self, d: usize, except: Option<u64>) -> Check {
        let ends: Vec<(u64, usize)> = self
            .links
            .iter()
            .flat_map(|l| (0..2).filter(|s| l.sides[*s].device == d).map(|s| (l.id, s)))
            .filter(|(id, _)| Some(*id) != except)
            .collect();
        for (id, side) in ends {
            let Some(session) = self.link(id).and_then(|l| l.sides[side].session.as_mut()) else { continue };
            let effects = session.handle(Event::Changed);
            self.carry_out(id, side, effects)?;
        }
        Ok(())
    }
}
