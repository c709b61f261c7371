//! What coordinators of a simulated team do.

use super::{Check, World};
use cairn_model::DeviceId;
use cairn_store::{Removal, StoreError};
use cairn_trust::{Policy, RemoveMode, Role, Tip};
use rand::Rng;
use rand::seq::IndexedRandom;

impl World {
    /// One act of a device that thinks it is a coordinator, on any device it knows of. What its own program refuses is refused.
    pub(super) fn govern(&mut self, d: usize) -> Check {
        let Some(store) = self.devices[d].store.as_mut() else { return Ok(()) };
        let m = store.membership();
        let known: Vec<DeviceId> = m.members.keys().chain(m.former.keys()).copied().filter(|k| *k != store.device()).collect();
        let Some(whom) = known.choose(&mut self.rng).copied() else { return Ok(()) };
        let role = *[Role::Coordinator, Role::Coordinator, Role::Member, Role::Observer].choose(&mut self.rng).expect("some");
        let done = match self.rng.random_range(0..10) {
            0..3 => store.set_role(&whom, role),
            3 | 4 => store.remove(&whom, Removal::Everything(RemoveMode::Lost)),
            5 => store.remove(&whom, Removal::CompromisedSince(self.rng.random_range(1..5))),
            6..8 => store.approve(&whom, Some(role)).map(|_| ()),
            8 => store.set_policy(Policy { members_edit_others: Some(self.rng.random()), open: None }),
            _ => match store.set_apart().map_err(|e| e.to_string())?.choose(&mut self.rng) {
                Some(apart) => store.accept(Tip { feed: apart.feed.id, seq: apart.seq, hash: apart.hash }),
                None => Ok(()),
            },
        };
        match done {
            Ok(()) => {
                self.outcome.acts += 1;
                self.changed(d, None)
            }
            Err(StoreError::Role { .. } | StoreError::Removed { .. } | StoreError::Senior { .. } | StoreError::Control(_)) => {
                self.changed(d, None)
            }
            Err(_) if self.devices[d].disk_full => self.crash(d),
            Err(e) => Err(format!("governing failed: {e}")),
        }
    }
}
