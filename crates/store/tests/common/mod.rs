//! Stores that hand each other chunks directly: what a transport will carry, without one.
#![allow(dead_code, reason = "each test program uses some of it")]

use cairn_model::{DocId, Edit, Instant, Place, default_configuration};
use cairn_store::{Entropy, Filter, NewProject, Store};
use cairn_trust::{ControlOp, DeviceKeys, InviteMode, RecoveryWords, Role};
use redb::{Database, backends::InMemoryBackend};

pub struct Counter(pub u64);

impl Entropy for Counter {
    fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            self.0 += 1;
            chunk.copy_from_slice(&blake3::hash(&self.0.to_le_bytes()).as_bytes()[..chunk.len()]);
        }
    }
}

pub fn database() -> Database {
    Database::builder().create_with_backend(InMemoryBackend::new()).unwrap()
}

pub fn founder() -> Store {
    founded().0
}

pub fn founded() -> (Store, RecoveryWords) {
    let configuration = default_configuration();
    let new = NewProject { name: "River", device_name: "Ana", configuration: &configuration, now_ms: 1 };
    let (store, words) = Store::new_project(database(), DeviceKeys::from_seed([1; 32]), Box::new(Counter(1 << 20)), &new).unwrap();
    assert_eq!(words.phrase().split(' ').count(), 24);
    (store, words)
}

pub fn joiner(from: &mut Store, n: u8, role: Role) -> Store {
    let ticket = from.invite(role, 1, InviteMode::Bearer, vec![]).unwrap();
    let ticket = cairn_trust::Ticket::decode(&ticket.encode()).unwrap();
    Store::join_project(database(), DeviceKeys::from_seed([n; 32]), Box::new(Counter(u64::from(n) << 40)), &ticket, "Bo").unwrap()
}

pub fn ops(store: &Store) -> Vec<ControlOp> {
    store.control().ops().cloned().collect()
}

pub fn carry(from: &mut Store, to: &mut Store) {
    carry_as(from, to, 1);
}

/// As the sync of that number.
pub fn carry_as(from: &mut Store, to: &mut Store, sync: u32) {
    from.prepare(5).unwrap();
    to.cut(5).unwrap();
    to.add_control(&ops(from)).unwrap();
    let (mut missing, diverged) = from.missing_for(&to.frontier().unwrap()).unwrap();
    for feed in diverged {
        missing.extend(from.missing_after_ladder(&feed, &to.ladder(&feed).unwrap()).unwrap());
    }
    for (chain, first, _) in missing {
        let chunks = from.chunks_from(chain, first, usize::MAX).unwrap();
        let stats = to.ingest(chunks, Some(sync)).unwrap().stats;
        assert_eq!((stats.dropped, stats.gaps), (0, 0), "{stats:?}");
    }
}

pub fn meet(a: &mut Store, b: &mut Store) {
    for _ in 0..3 {
        carry(a, b);
        carry(b, a);
    }
    assert_eq!(a.digest().unwrap(), b.digest().unwrap());
    assert_eq!(all(a), all(b));
    for store in [a, b] {
        assert_eq!(store.check(&mut |_, _| {}).unwrap(), vec![]);
    }
}

pub fn all(store: &Store) -> Vec<(DocId, String)> {
    let listing = store.list(&Filter { deleted: true, ..Filter::default() }).unwrap();
    assert_eq!(listing.count as usize, listing.observations.len());
    listing.observations.into_iter().map(|o| (o.id, format!("{:?} {:?} {} {:?}", o.seen, o.conflicts, o.version, o.created_by))).collect()
}

pub fn seen(store: &mut Store, species: &str, lat: f64) -> DocId {
    let id = store.new_id();
    let configuration = store.configuration();
    let mut edit = Edit::new();
    edit.category("animal", configuration.as_ref().as_ref()).unwrap().place(Place::new(lat, 10.0).unwrap());
    edit.at(Instant::parse("2025-06-30T10:00:00Z").unwrap());
    edit.field("species", species, configuration.as_ref().as_ref(), &[]).unwrap();
    assert_eq!(store.edit_observations(vec![(id, edit)], 10).unwrap(), 1);
    id
}

pub fn set(store: &mut Store, id: DocId, field: &str, value: &str) {
    let mut edit = Edit::new();
    edit.field(field, value, None, &[]).unwrap();
    store.edit_observations(vec![(id, edit)], 11).unwrap();
}

pub fn delete(store: &mut Store, id: DocId, deleted: bool) {
    let mut edit = Edit::new();
    edit.deleted(deleted);
    store.edit_observations(vec![(id, edit)], 12).unwrap();
}

pub fn clone_of(store: &mut Store) -> Option<Database> {
    store.copy_into(database()).ok()
}
