//! Undo and redo of syncs: what a device shows goes back and forth, and nothing else knows of it.

use super::{Check, World};
use cairn_model::{ChangeHash, DocId};
use cairn_store::Store;
use rand::Rng;
use rand::seq::IndexedRandom;

/// Changes of a document that are shown: an edit builds on these, not on what is set aside.
pub(super) fn known_changes(store: &Store, doc: &DocId) -> Result<Vec<ChangeHash>, String> {
    let all = store.history(doc).map_err(|e| e.to_string())?;
    Ok(all.into_iter().filter(|e| !e.set_aside).map(|e| e.hash).collect())
}

impl World {
    /// A device undoes or redoes one of its syncs.
    pub(super) fn go_back(&mut self, d: usize) -> Check {
        let undo = self.rng.random_ratio(2, 3);
        let Some(store) = self.devices[d].store.as_mut() else { return Ok(()) };
        let syncs: Vec<u32> = store.syncs(0).map_err(|e| e.to_string())?.iter().map(|s| s.number).collect();
        let Some(sync) = syncs.choose(&mut self.rng).copied() else { return Ok(()) };
        let before = store.digest().map_err(|e| e.to_string())?;
        match if undo { store.undo_sync(sync) } else { store.redo_sync(sync) } {
            Ok(done) => self.outcome.undone += done.changes as usize,
            Err(_) if self.devices[d].disk_full => return self.crash(d),
            Err(e) => return Err(format!("an undo or redo failed: {e}")),
        }
        let store = self.devices[d].store.as_ref().expect("checked");
        match store.digest().map_err(|e| e.to_string())? == before {
            true => Ok(()),
            false => Err("invariant 3: an undo changed what the device holds".into()),
        }
    }

    /// Everything is shown again, by the syncs that are set aside.
    pub(super) fn show_all(&mut self) -> Check {
        for device in &mut self.devices {
            let Some(store) = device.store.as_mut() else { continue };
            let aside = store.syncs(0).map_err(|e| e.to_string())?;
            for sync in aside.iter().filter(|s| s.set_aside > 0) {
                store.redo_sync(sync.number).map_err(|e| e.to_string())?;
            }
            if store.set_aside_changes() > 0 {
                return Err("invariant 3: changes stay set aside with every sync redone".into());
            }
        }
        Ok(())
    }
}
