//! Cut links, crashes, and copies of a device.

use super::{Check, Device, World, open};
use rand::Rng;
use std::collections::VecDeque;

impl World {
    pub(super) fn cut(&mut self, n: usize) -> Check {
        self.links.remove(n);
        Ok(())
    }

    pub(super) fn cut_id(&mut self, id: u64) -> Check {
        self.links.retain(|l| l.id != id);
        Ok(())
    }

    pub(super) fn drop_links_of(&mut self, d: usize) -> Check {
        self.links.retain(|l| l.sides.iter().all(|s| s.device != d));
        self.devices[d].desk.clear();
        Ok(())
    }

    pub(super) fn crash(&mut self, d: usize) -> Check {
        self.outcome.crashes += 1;
        self.drop_links_of(d)?;
        self.devices[d].disk.crash();
        self.devices[d].disk_full = false;
        self.devices[d].store = None;
        let seed = self.rng.random();
        let fresh = self.rng.random_ratio(1, 8);
        let store = open(&self.devices[d], seed, fresh).map_err(|e| format!("invariant 1: the store does not reopen: {e}"))?;
        self.devices[d].store = Some(store);
        self.durable(d)
    }

    pub(super) fn clone_device(&mut self, d: usize) -> Check {
        self.cloned = true;
        self.crash(d)?;
        let disk = self.devices[d].disk.copy();
        let mut twin = Device {
            keys: self.devices[d].keys.clone(),
            disk,
            store: None,
            clock_ms: self.devices[d].clock_ms,
            disk_full: false,
            desk: VecDeque::new(),
        };
        // Half of the copies are noticed at their first open, half are not.
        let noticed = self.rng.random();
        let seed = self.rng.random();
        twin.store = Some(open(&twin, seed, noticed).map_err(|e| format!("a copy does not open: {e}"))?);
        self.devices.push(twin);
        Ok(())
    }
}
