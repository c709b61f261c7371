//! The end of a history: faults stop, everyone meets everyone, and what all show is compared with the model.

use super::{Check, World};
use cairn_store::{Filter, Store};
use std::collections::{BTreeMap, BTreeSet};

impl World {
    /// Faults end, everyone meets everyone, until all hold the same.
    pub(super) fn heal(&mut self) -> Check {
        self.healing = true;
        for d in 0..self.devices.len() {
            self.drop_links_of(d)?;
            self.devices[d].disk.refuse(false);
            if self.devices[d].disk_full || self.devices[d].store.is_none() {
                self.crash(d)?;
            }
        }
        if self.config.carried {
            return self.heal_by_mailbox();
        }
        // Once a copy learns of its twin it opens a new feed, whose first batch comes with the next edit: two more rounds.
        // Read keys handed on and removals heard of are news in turn.
        let most = if self.config.governs { 10 } else { 4 };
        for round in 1..=most {
            self.outcome.rounds = round;
            for a in 0..self.devices.len() {
                for b in 0..a {
                    self.connect(a, b);
                    self.pump()?;
                    self.links.clear();
                    if self.config.undoes {
                        self.go_back(a)?;
                    }
                }
            }
            if self.all_equal()? {
                return Ok(());
            }
        }
        Err(format!("invariant 4: {} devices differ after {most} rounds", self.devices.len()))
    }

    pub(super) fn pump(&mut self) -> Check {
        for _ in 0..100_000 {
            let mut moved = false;
            for d in 0..self.devices.len() {
                while !self.devices[d].desk.is_empty() {
                    moved = true;
                    self.work(d)?;
                }
            }
            let ends: Vec<(u64, usize, usize)> =
                self.links.iter().flat_map(|l| (0..2).map(|s| (l.id, s, l.sides[s].incoming.len()))).filter(|(_, _, n)| *n > 0).collect();
            for (id, side, bytes) in ends {
                moved = true;
                self.deliver(id, side, bytes)?;
            }
            if !moved {
                let unsaid = self.links.iter().any(|l| l.sides.iter().any(|s| !s.synced));
                return if unsaid {
                    Err("invariant 8: a link went quiet without both sides having said that they are synced".into())
                } else {
                    Ok(())
                };
            }
        }
        Err("invariant 4: two devices never stop talking".into())
    }

    pub(super) fn all_equal(&mut self) -> Result<bool, String> {
        let mut digests = BTreeSet::new();
        for d in self.active() {
            let d = &self.devices[d];
            digests.insert(d.store.as_ref().expect("open").digest().map_err(|e| e.to_string())?);
        }
        Ok(digests.len() == 1)
    }

    /// Devices that belong, as the founder knows: nobody is senior to it.
    fn active(&self) -> Vec<usize> {
        let founder = self.devices[0].store.as_ref().expect("open").membership();
        (0..self.devices.len()).filter(|d| founder.members.contains_key(&self.devices[*d].keys.device())).collect()
    }

    pub(super) fn at_rest(&mut self) -> Check {
        self.show_all()?;
        let mut first: Option<Vec<String>> = None;
        for d in self.active() {
            self.durable(d)?;
            let store = self.devices[d].store.as_ref().expect("open");
            self.outcome.set_apart = store.set_apart().map_err(|e| e.to_string())?.len();
            let filter = Filter { deleted: true, ..Filter::default() };
            let listing = store.list(&filter).map_err(|e| e.to_string())?;
            let shown: Vec<String> = listing.observations.iter().map(|o| format!("{o:?}")).collect();
            if !self.config.governs {
                self.compare_with_model(store, d)?;
            }
            match &first {
                None => first = Some(shown),
                Some(expected) if *expected == shown => {}
                Some(_) => return Err(format!("invariant 3: device {d} shows something else with an equal digest")),
            }
        }
        for line in first.unwrap_or_default() {
            self.trace.update(line.as_bytes());
        }
        Ok(())
    }

    pub(super) fn compare_with_model(&self, store: &Store, d: usize) -> Check {
        let all: BTreeSet<usize> = (0..self.expected.len()).collect();
        let expected = self.expected.shows(&all);
        for doc in &self.docs {
            let mut values = store.values_of(doc).map_err(|e| e.to_string())?;
            // What the store notes itself is not what people wrote.
            values.retain(|(key, _)| !cairn_model::DocKey::is_provenance(key));
            let shown: BTreeMap<String, BTreeSet<String>> =
                values.into_iter().map(|(key, values)| (key, values.iter().map(cairn_model::Value::display).collect())).collect();
            let wanted = expected.get(doc).cloned().unwrap_or_default();
            if shown != wanted {
                return Err(format!("invariants 1 and 3: seed {} device {d} document {doc} shows {shown:?}, not {wanted:?}", self.seed));
            }
        }
        Ok(())
    }

    /// Invariant 1 in the small: every event this device is known to have seen is judged at rest; here the store must be whole.
    pub(super) fn durable(&mut self, d: usize) -> Check {
        let store = self.devices[d].store.as_ref().expect("open");
        let findings = store.check(&mut |_, _| {}).map_err(|e| e.to_string())?;
        if findings.is_empty() { Ok(()) } else { Err(format!("invariant 1: check after reopening: {findings:?}")) }
    }
}
