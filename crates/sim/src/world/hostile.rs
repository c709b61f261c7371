//! What a member who cheats does to the mailbox of a simulated team. Nothing of it may stop the others.

use super::{Check, World};
use crate::Eve;
use cairn_model::{DeviceId, DocId};
use cairn_trust::{BatchHash, InviteMode, Role, Tip};
use rand::Rng;

/// The cheat, and whether what it writes counts.
pub(super) struct Cheat {
    eve: Eve,
    member: bool,
}

impl World {
    /// The founder lets the cheat in. Its join lies in the mailbox from then on.
    pub(super) fn let_eve_in(&mut self) {
        let (member, seed) = (self.rng.random(), self.rng.random());
        let founder = self.devices[0].store.as_mut().expect("founder");
        let role = if member { Role::Member } else { Role::Observer };
        let ticket = founder.invite(role, 1, InviteMode::Bearer, vec![]).expect("the founder invites");
        let lineage = founder.genesis().expect("genesis").configuration;
        let mut eve = Eve::new(&ticket, lineage, seed);
        self.place.put(eve.join());
        self.cheat = Some(Cheat { eve, member });
    }

    /// One act of the cheat.
    pub(super) fn mischief(&mut self) -> Check {
        let Some(Cheat { mut eve, member }) = self.cheat.take() else { return Ok(()) };
        self.outcome.mischief += 1;
        let doc = self.docs.first().copied().filter(|_| !member).unwrap_or(DocId(eve.bytes()));
        let d = self.rng.random_range(0..self.devices.len());
        let chunks = match self.rng.random_range(0..9) {
            0..3 => eve.false_manifest(&self.tips_of(d)?),
            3 => {
                let readers: Vec<_> = self.devices.iter().map(|d| d.keys.device()).collect();
                eve.false_boxes(&readers).into_iter().collect()
            }
            4 => (0..self.rng.random_range(1..20)).map(|_| eve.junk()).collect(),
            5 => vec![eve.operations(self.rng.random_range(1..40))],
            6 => {
                let count = self.rng.random_range(1..60);
                vec![eve.heads(doc, count)]
            }
            7 => {
                let count = self.rng.random_range(1..60);
                eve.waiting(doc, count)
            }
            _ => {
                let mut out = eve.forks();
                let feeds = self.rng.random_range(1..40);
                out.extend((0..feeds).map(|_| DocId(eve.bytes())).collect::<Vec<_>>().into_iter().map(|doc| eve.own_batch(doc, 4).chunk));
                out
            }
        };
        for chunk in chunks {
            self.place.put(chunk);
        }
        self.cheat = Some(Cheat { eve, member });
        Ok(())
    }

    /// Ends of the feeds that a device holds, by their own names.
    fn tips_of(&self, d: usize) -> Result<Vec<(DeviceId, Tip)>, String> {
        let Some(store) = &self.devices[d].store else { return Ok(Vec::new()) };
        let rows = store.feeds().iter().filter(|f| f.seq > 0 && f.seq >= f.base && f.base == 1);
        Ok(rows.map(|f| (f.device, Tip { feed: f.id, seq: f.seq, hash: BatchHash(f.tip) })).collect())
    }
}
