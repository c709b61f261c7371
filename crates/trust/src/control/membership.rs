//! What an evaluation gives: members, rights with their ends, invitations, rules, epochs.

use super::{ControlHash, Genesis, Invite, Log, Policy, RemoveMode, Role};
use crate::{EpochId, Tip};
use cairn_model::{DeviceId, DocId, DocKind};
use std::collections::{BTreeMap, BTreeSet};

/// One device that belongs.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// The device.
    pub device: DeviceId,
    /// Display name.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// The operation that let it in.
    pub grant: ControlHash,
    /// Its key for epoch boxes.
    pub agreement_key: [u8; 32],
    /// The coordinator that let it in by name; `None` for who came by an invitation.
    pub by: Option<DeviceId>,
}

/// One device that belonged.
#[derive(Clone, Debug, PartialEq)]
pub struct Former {
    /// The device.
    pub device: DeviceId,
    /// Display name.
    pub name: String,
    /// The operation that removed it.
    pub removal: ControlHash,
    /// Why.
    pub mode: RemoveMode,
    /// Who issued the removal.
    pub by: DeviceId,
}

/// A device that asks to enter.
#[derive(Clone, Debug, PartialEq)]
pub struct Pending {
    /// The device.
    pub device: DeviceId,
    /// Display name.
    pub name: String,
    /// Its key for epoch boxes.
    pub agreement_key: [u8; 32],
    /// Role the invitation offers.
    pub role: Role,
    /// Its request.
    pub join: ControlHash,
    /// A coordinator has refused it.
    pub refused: bool,
}

/// An invitation.
#[derive(Clone, Debug, PartialEq)]
pub struct Invitation {
    /// Its operation.
    pub op: ControlHash,
    /// Who invited.
    pub issuer: DeviceId,
    /// What it offers.
    pub invite: Invite,
    /// Devices that entered by it.
    pub used: u32,
    /// It lets nobody in any more, whatever is left of its uses.
    pub revoked: bool,
}

impl Invitation {
    /// `true` if one more device may enter by it.
    pub fn is_open(&self) -> bool {
        !self.revoked && self.used < self.invite.uses
    }
}

/// What ended a grant: batches past its cuts do not count.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// The operation.
    pub op: ControlHash,
    /// Last batch of each feed that counts; a feed not named counts for nothing.
    pub cuts: Vec<Tip>,
    /// Of a removal.
    pub mode: Option<RemoveMode>,
    /// Of a change of role: the new one.
    pub role: Option<Role>,
    /// The device said so itself.
    pub own: bool,
}

/// What one grant allowed, until when.
#[derive(Clone, Debug, PartialEq)]
pub struct Right {
    /// The operation that gave it.
    pub grant: ControlHash,
    /// Role it gave.
    pub role: Role,
    /// Removals that have not been seen by the grant.
    pub removals: Vec<Ended>,
    /// Changes of role to one that is not coordinator, likewise.
    pub demotions: Vec<Ended>,
}

/// Set-apart batches that a coordinator took in after all.
#[derive(Clone, Debug, PartialEq)]
pub struct Accepted {
    /// The operation.
    pub op: ControlHash,
    /// The last batch accepted; all before it in its chain are too.
    pub tip: Tip,
    /// Who accepted.
    pub by: DeviceId,
}

/// One read key, as the log tells.
#[derive(Clone, Debug, PartialEq)]
pub struct EpochState {
    /// The operation that minted it.
    pub op: ControlHash,
    /// Its id.
    pub id: EpochId,
    /// New batches may be sealed under it: nobody who should not read knows it.
    pub holds: bool,
    /// Lamport number: the highest that holds is used.
    pub rank: u64,
}

/// Who belongs, evaluated from a set of operations.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Membership {
    /// Genesis, once it is there.
    pub genesis: Option<Genesis>,
    /// Devices that belong.
    pub members: BTreeMap<DeviceId, Member>,
    /// Devices that belonged.
    pub former: BTreeMap<DeviceId, Former>,
    /// Devices that ask to.
    pub pending: Vec<Pending>,
    /// Invitations that count or counted.
    pub invitations: Vec<Invitation>,
    /// Every grant that counts, with its ends, by device.
    pub rights: BTreeMap<DeviceId, Vec<Right>>,
    /// Batches accepted from quarantine.
    pub accepted: Vec<Accepted>,
    /// Rules in the order in which they replace each other.
    pub policies: Vec<(ControlHash, Policy)>,
    /// Configuration lineages, the project's first one first; the last is the one to work with.
    pub lineages: Vec<(ControlHash, DocId)>,
    /// Place in `lineages` of the configuration each member works with.
    pub adopted: BTreeMap<DeviceId, usize>,
    /// Read keys minted, lowest rank first.
    pub epochs: Vec<EpochState>,
    /// The project's first read key may still be used.
    pub first_epoch_holds: bool,
    /// Operations that hand on read keys and whose issuers belonged when they said so.
    pub handing_on: BTreeSet<ControlHash>,
    /// Who was given the key of an epoch, directly.
    pub holders: BTreeMap<EpochId, BTreeSet<DeviceId>>,
    /// Epochs whose keys come with one.
    pub chains: BTreeMap<EpochId, Vec<EpochId>>,
    /// Operations by the recovery words: to be shown loudly.
    pub recoveries: Vec<ControlHash>,
    /// Operations that draw on a right that does not count.
    pub void: Vec<ControlHash>,
    /// Operations nothing else builds on, sorted.
    pub heads: Vec<ControlHash>,
}

impl Membership {
    /// The role of a device that belongs.
    pub fn role(&self, device: &DeviceId) -> Option<Role> {
        self.members.get(device).map(|m| m.role)
    }

    /// Place in the project's history of the configuration a device works with.
    pub fn adopted_by(&self, device: &DeviceId) -> usize {
        self.adopted.get(device).copied().unwrap_or(0)
    }

    /// The lineage to work with.
    pub fn lineage(&self) -> Option<DocId> {
        self.lineages.last().map(|(_, doc)| *doc)
    }

    /// Place of a lineage in the project's history; `None` if it is not of this project.
    pub fn lineage_number(&self, doc: &DocId) -> Option<usize> {
        self.lineages.iter().rposition(|(_, d)| d == doc)
    }

    /// `true` if members may edit each other's observations, as somebody who knows `seen` understands it.
    pub fn members_edit_others(&self, log: &Log, seen: &[ControlHash]) -> bool {
        let said = self.policies.iter().filter(|(op, _)| log.sees(seen, op)).filter_map(|(_, p)| p.members_edit_others).next_back();
        said.or(self.genesis.as_ref().map(|g| g.members_edit_others)).unwrap_or(true)
    }

    /// Anyone with the configuration file may join.
    pub fn open(&self) -> bool {
        let said = self.policies.iter().filter_map(|(_, p)| p.open).next_back();
        said.or(self.genesis.as_ref().map(|g| g.open)).unwrap_or(false)
    }

    /// `true` if a batch of `device` may write documents of this kind. `seen` are the control heads its author knew, `within`
    /// tells whether the batch lies at or before a tip. A grant counts if its author knew of it: nothing becomes allowed after
    /// the fact except by an acceptance.
    pub fn allows(&self, log: &Log, device: &DeviceId, kind: DocKind, seen: &[ControlHash], within: &dyn Fn(&Tip) -> bool) -> bool {
        let may = |role: Role| match kind {
            DocKind::Observation => role.writes_observations(),
            DocKind::Configuration => role.writes_configuration(),
        };
        let cut = |e: &Ended| e.cuts.iter().any(within);
        // Of several that did not know of each other the highest cut holds; a later one adds nothing to an earlier one.
        let highest = |all: &[&Ended], over: &[&Ended]| {
            let first = |e: &&&Ended| !over.iter().any(|o| o.op != e.op && log.sees(&[e.op], &o.op));
            all.is_empty() || all.iter().filter(first).any(|e| cut(e))
        };
        self.rights.get(device).into_iter().flatten().any(|right| {
            let demotions: Vec<&Ended> = right.demotions.iter().filter(|e| e.role.is_none_or(|r| !may(r))).collect();
            let (own, removals): (Vec<&Ended>, Vec<&Ended>) = right.removals.iter().partition(|e| e.own);
            let (strict, lenient): (Vec<&Ended>, Vec<&Ended>) = removals.iter().partition(|e| e.mode == Some(RemoveMode::Compromised));
            may(right.role)
                && log.sees(seen, &right.grant)
                && highest(&demotions, &demotions)
                && highest(&lenient, &removals)
                && strict.iter().chain(&own).all(|e| cut(e))
        })
    }

    /// `true` if a coordinator took the batch in.
    pub fn accepts(&self, within: &dyn Fn(&Tip) -> bool) -> bool {
        self.accepted.iter().any(|a| within(&a.tip))
    }

    /// `true` if cuts or acceptances may split the device's feeds.
    pub fn is_cut(&self, device: &DeviceId) -> bool {
        let ends = |r: &Right| !r.removals.is_empty() || !r.demotions.is_empty();
        !self.accepted.is_empty() || self.rights.get(device).into_iter().flatten().any(ends)
    }

    /// The epoch to seal under, of those whose keys are here; `first` is the project's first one.
    pub fn epoch_to_use(&self, first: Option<EpochId>, have: &dyn Fn(&EpochId) -> bool) -> Option<EpochId> {
        let minted = self.epochs.iter().rev().find(|e| e.holds && have(&e.id)).map(|e| e.id);
        minted.or(first.filter(|id| self.first_epoch_holds && have(id)))
    }

    /// `true` if the log shows how the device came to know the key of an epoch.
    pub fn knows(&self, device: &DeviceId, epoch: &EpochId) -> bool {
        let given = |id: &EpochId| self.holders.get(id).is_some_and(|h| h.contains(device));
        let (mut seen, mut left) = (BTreeSet::new(), vec![*epoch]);
        while let Some(id) = left.pop() {
            if given(&id) {
                return true;
            }
            if seen.insert(id) {
                left.extend(self.chains.iter().filter(|(_, chain)| chain.binary_search(&id).is_ok()).map(|(with, _)| *with));
            }
        }
        false
    }
}
