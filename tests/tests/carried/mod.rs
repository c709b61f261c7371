//! Devices of one project in this process, on files and folders of the real format.
#![allow(dead_code, reason = "each test program uses some of it")]

use cairn_contract::Mailbox;
use cairn_model::{DocId, Edit, default_configuration};
use cairn_node::{Tally, Visit, answer_mail, visit};
use cairn_store::{NewProject, OsEntropy, Store};
use cairn_sync::{ExchangeSetup, Memory};
use cairn_trust::{DeviceKeys, InviteMode, Role, mailbox_handle};
use redb::{Database, backends::InMemoryBackend};

pub struct Device {
    pub store: Store,
    pub tally: Tally,
    pub now: i64,
}

fn database() -> Database {
    Database::builder().create_with_backend(InMemoryBackend::new()).unwrap()
}

impl Device {
    pub fn founder() -> Self {
        let configuration = default_configuration();
        let new = NewProject { name: "River", device_name: "Ana", configuration: &configuration, now_ms: 1 };
        let store = Store::new_project(database(), DeviceKeys::from_seed([1; 32]), Box::new(OsEntropy), &new).unwrap().0;
        Self { store, tally: Tally::default(), now: 1_750_000_000_000 }
    }

    pub fn join(from: &mut Self, n: u8) -> Self {
        let ticket = from.store.invite(Role::Member, 1, InviteMode::Bearer, vec![]).unwrap();
        let name = format!("device {n}");
        let store = Store::join_project(database(), DeviceKeys::from_seed([n; 32]), Box::new(OsEntropy), &ticket, &name).unwrap();
        Self { store, tally: Tally::default(), now: 1_750_000_000_000 + i64::from(n) }
    }

    pub fn handle(&self) -> [u8; 16] {
        mailbox_handle(&self.store.project())
    }

    pub fn add(&mut self, note: &str) -> DocId {
        let id = self.store.new_id();
        self.note(id, note);
        id
    }

    pub fn note(&mut self, id: DocId, note: &str) {
        let mut edit = Edit::new();
        edit.note(note);
        self.store.edit_observations(vec![(id, edit)], self.now).unwrap();
        self.now += 1;
    }

    pub fn delete(&mut self, id: DocId) {
        let mut edit = Edit::new();
        edit.deleted(true);
        self.store.edit_observations(vec![(id, edit)], self.now).unwrap();
    }

    pub fn visit_with(&mut self, mailbox: &mut dyn Mailbox, id: Option<&[u8; 16]>, setup: ExchangeSetup) -> Visit {
        let memory = id.and_then(|id| self.store.mailbox(id).unwrap()).map(|b| Memory::decode(&b)).unwrap_or_default();
        let (store, tally, now) = (&mut self.store, &mut self.tally, self.now);
        let mut ask = |request| answer_mail(store, id, request, now, tally);
        visit(mailbox, ExchangeSetup { memory, ..setup }, &mut ask, &mut |_| {})
    }

    pub fn visit(&mut self, mailbox: &mut dyn Mailbox, id: Option<&[u8; 16]>) -> Visit {
        self.visit_with(mailbox, id, ExchangeSetup { pull: true, push: true, ..ExchangeSetup::default() })
    }

    pub fn is_whole(&self) {
        assert_eq!(self.store.check(&mut |_, _| {}).unwrap(), vec![]);
    }
}
