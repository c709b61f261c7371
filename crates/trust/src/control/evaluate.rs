//! Who belongs: a pure function of the set of operations. No clock, no order of arrival.
//!
//! Coordinators act in order of seniority: the recovery words first, then the founder, then by (Lamport number, hash) of
//! the operation that made each a coordinator. An operation counts if no senior has removed or demoted its issuer without
//! having seen it. Who is senior is settled before anyone junior is looked at, so one pass is enough, and of two
//! coordinators that remove each other the senior stays. What an operation that does not count gave is not given; nothing else falls.

use super::log::{Index, Log, Rank};
use super::membership::{Accepted, Ended, EpochState, Former, Invitation, Member, Membership, Pending, Right};
use super::{ControlHash, InviteMode, OpBody, RemoveMode, Role};
use cairn_model::DeviceId;
use std::collections::{BTreeMap, BTreeSet};

/// Something that lets a device in or changes its role, and counts.
#[derive(Clone, Copy)]
struct Grant {
    op: Index,
    role: Role,
    /// Lets in; a change of role alone does not.
    enters: bool,
}

/// Something that takes a right away, and counts.
#[derive(Clone, Copy)]
struct Ender {
    op: Index,
    /// Of the coordinator that issued it; `None` for the device itself, which may always.
    by: Option<Rank>,
    removes: bool,
    role: Option<Role>,
}

struct Pass<'a> {
    log: &'a Log,
    /// Coordinators still to be looked at: rank, device, the operation that made it one (`None`: the recovery words).
    tenures: BTreeSet<(Rank, DeviceId, Option<Index>)>,
    live: BTreeMap<Index, Rank>,
    grants: BTreeMap<DeviceId, Vec<Grant>>,
    enders: BTreeMap<DeviceId, Vec<Ender>>,
    invites: BTreeMap<Index, Held>,
    revokes: BTreeMap<Index, Vec<Index>>,
    issued: BTreeMap<DeviceId, Vec<Index>>,
    joins: BTreeMap<Index, Vec<Index>>,
    requests: Vec<(Index, Index)>,
    used: BTreeMap<Index, u32>,
}

/// An invitation that counts.
struct Held {
    /// Removals of its issuer, which end it for joins they have not seen.
    kills: Vec<Index>,
}

/// Evaluates a log.
pub fn evaluate(log: &Log) -> Membership {
    let Some(genesis) = log.genesis() else { return Membership::default() };
    let mut pass = Pass::new(log);
    pass.tenures.insert(((0, ControlHash([0; 32])), DeviceId(genesis.recovery_key), None));
    let founder = log.op(0).issuer;
    pass.grants.entry(founder).or_default().push(Grant { op: 0, role: Role::Coordinator, enters: true });
    pass.tenures.insert((log.rank(0), founder, Some(0)));
    pass.live.insert(0, log.rank(0));
    pass.leaves();
    while let Some((rank, device, grant)) = pass.tenures.pop_first() {
        pass.tenure(rank, device, grant);
    }
    pass.admit_others();
    pass.membership()
}

impl<'a> Pass<'a> {
    fn new(log: &'a Log) -> Self {
        let mut issued: BTreeMap<DeviceId, Vec<Index>> = BTreeMap::new();
        let mut joins: BTreeMap<Index, Vec<Index>> = BTreeMap::new();
        for (n, op) in log.ops().enumerate().skip(1) {
            match &op.body {
                OpBody::Join(join) => joins.entry(log.at(&join.invite).unwrap_or(0)).or_default().push(n),
                _ => issued.entry(op.issuer).or_default().push(n),
            }
        }
        Self {
            log,
            tenures: BTreeSet::new(),
            live: BTreeMap::new(),
            grants: BTreeMap::new(),
            enders: BTreeMap::new(),
            invites: BTreeMap::new(),
            revokes: BTreeMap::new(),
            issued,
            joins,
            requests: Vec::new(),
            used: BTreeMap::new(),
        }
    }

    /// Everything one coordinator said by virtue of one grant.
    fn tenure(&mut self, rank: Rank, device: DeviceId, grant: Option<Index>) {
        let mut kills: Vec<Index> = self.ending(&device, rank, grant).map(|e| e.op).collect();
        let mut mine: Vec<Index> = self.issued.get(&device).into_iter().flatten().copied().filter(|n| self.under(grant, *n)).collect();
        mine.sort_by_key(|n| self.log.rank(*n));
        let seen = |pass: &Self, kills: &[Index], n: Index| kills.iter().all(|k| *k == n || pass.log.is_ancestor(n, *k));
        for n in &mine {
            if self.steps_down(*n, &device) && seen(self, &kills, *n) {
                self.end(*n, device, None);
                kills.push(*n);
            }
        }
        let counting: Vec<Index> = mine.into_iter().filter(|n| seen(self, &kills, *n)).collect();
        for n in &counting {
            self.act(*n, rank, &kills);
        }
        for n in counting {
            let senior = matches!(&self.log.op(n).body, OpBody::Invite(i) if i.role == Role::Coordinator);
            if senior {
                self.admit(n);
            }
        }
    }

    fn under(&self, grant: Option<Index>, n: Index) -> bool {
        grant.is_none_or(|g| self.log.is_ancestor(g, n))
    }

    /// Anyone may leave, whatever else is said of it.
    fn leaves(&mut self) {
        for (n, op) in self.log.ops().enumerate() {
            if matches!(&op.body, OpBody::Remove(r) if r.device == op.issuer) {
                self.end(n, op.issuer, None);
                self.live.insert(n, self.log.rank(n));
            }
        }
    }

    /// A coordinator gives up its role itself.
    fn steps_down(&self, n: Index, device: &DeviceId) -> bool {
        matches!(&self.log.op(n).body, OpBody::SetRole(s) if s.device == *device && s.role != Role::Coordinator)
    }

    /// What ends a grant of `device` with this rank, as far as it is known by now: said by someone senior or by itself, and
    /// not seen by the grant.
    fn ending(&self, device: &DeviceId, rank: Rank, grant: Option<Index>) -> impl Iterator<Item = &Ender> {
        self.enders.get(device).into_iter().flatten().filter(move |e| {
            let may = e.by.is_none_or(|by| by < rank);
            may && grant.is_none_or(|g| g != e.op && !self.log.is_ancestor(e.op, g))
        })
    }

    /// `true` if the device is coordinator by a grant that is senior to `rank` and still holds.
    fn outranks(&self, device: &DeviceId, rank: Rank) -> bool {
        self.grants.get(device).into_iter().flatten().any(|g| {
            let own = self.log.rank(g.op);
            g.role == Role::Coordinator && own < rank && self.ending(device, own, Some(g.op)).next().is_none()
        })
    }

    fn end(&mut self, n: Index, device: DeviceId, by: Option<Rank>) {
        let (removes, role) = match &self.log.op(n).body {
            OpBody::SetRole(s) => (false, Some(s.role)),
            _ => (true, None),
        };
        let list = self.enders.entry(device).or_default();
        if !list.iter().any(|e| e.op == n) {
            list.push(Ender { op: n, by, removes, role });
        }
    }

    fn grant(&mut self, n: Index, device: DeviceId, role: Role, enters: bool) {
        let list = self.grants.entry(device).or_default();
        if list.iter().any(|g| g.op == n) {
            return;
        }
        list.push(Grant { op: n, role, enters });
        if role == Role::Coordinator {
            self.tenures.insert((self.log.rank(n), device, Some(n)));
        }
    }

    /// One operation of a coordinator that counts.
    fn act(&mut self, n: Index, rank: Rank, kills: &[Index]) {
        let op = self.log.op(n);
        let itself = |device: &DeviceId| *device == op.issuer;
        match &op.body {
            OpBody::Remove(r) if itself(&r.device) => {}
            OpBody::Remove(r) if !self.outranks(&r.device, rank) => self.end(n, r.device, Some(rank)),
            OpBody::SetRole(s) if itself(&s.device) => self.grant(n, s.device, s.role, false),
            OpBody::SetRole(s) if !self.outranks(&s.device, rank) => {
                self.grant(n, s.device, s.role, false);
                if s.role != Role::Coordinator {
                    self.end(n, s.device, Some(rank));
                }
            }
            OpBody::Add(a) if !self.outranks(&a.device, rank) => self.grant(n, a.device, a.role, true),
            OpBody::Remove(_) | OpBody::SetRole(_) | OpBody::Add(_) => return,
            OpBody::Invite(_) => {
                self.invites.entry(n).or_insert_with(|| Held { kills: kills.to_vec() });
            }
            OpBody::Revoke(invite) => {
                if let Some(at) = self.log.at(invite) {
                    self.revokes.entry(at).or_default().push(n);
                }
            }
            _ => {}
        }
        self.live.entry(n).or_insert(rank);
    }

    /// Invitations to be anything but coordinator, once all that coordinators said is known.
    fn admit_others(&mut self) {
        let rest: Vec<Index> = self.invites.keys().copied().collect();
        for n in rest {
            if !matches!(&self.log.op(n).body, OpBody::Invite(i) if i.role == Role::Coordinator) {
                self.admit(n);
            }
        }
    }

    /// Joins by one invitation: those no revocation and no removal of its issuer has missed; of more than it allows, those
    /// that somebody who counts has built on, then the first by rank.
    fn admit(&mut self, n: Index) {
        let log = self.log;
        let (OpBody::Invite(invite), Some(held)) = (&log.op(n).body, self.invites.get(&n)) else { return };
        let mut ends = held.kills.clone();
        ends.extend(self.revokes.get(&n).into_iter().flatten());
        let fits = |j: &Index| ends.iter().all(|e| log.is_ancestor(*j, *e));
        let mut joins: Vec<Index> = self.joins.get(&n).into_iter().flatten().copied().filter(fits).collect();
        joins.sort_by_key(|j| (!self.live.keys().any(|l| log.is_ancestor(*j, *l)), log.rank(*j)));
        let mut entered = BTreeSet::new();
        for j in joins {
            let device = log.op(j).issuer;
            if invite.mode == InviteMode::Approve {
                self.requests.push((j, n));
            } else if entered.contains(&device) || entered.len() < invite.uses as usize {
                entered.insert(device);
                self.grant(j, device, invite.role, true);
                self.live.insert(j, log.rank(j));
            }
        }
        self.used.insert(n, entered.len() as u32);
    }

    fn membership(mut self) -> Membership {
        // The order of arrival ends here.
        for list in self.grants.values_mut() {
            list.sort_by_key(|g| self.log.rank(g.op));
        }
        for list in self.enders.values_mut() {
            list.sort_by_key(|e| self.log.rank(e.op));
        }

        let mut out = Membership { genesis: self.log.genesis().cloned(), heads: self.log.heads(), ..Membership::default() };
        for (device, grants) in &self.grants {
            self.settle(&mut out, device, grants);
        }
        self.rules(&mut out);
        self.invitations(&mut out);
        self.epochs(&mut out);
        let told = |n: &Index| self.log.op(*n).issuer.0 == out.genesis.as_ref().map_or([0; 32], |g| g.recovery_key);
        out.recoveries = self.live.keys().filter(|n| told(n)).map(|n| self.log.op(*n).hash).collect();
        out.void = self.void();
        for list in [&mut out.recoveries, &mut out.void] {
            list.sort_unstable();
        }
        out.invitations.sort_by_key(|i| self.log.at(&i.op).map(|n| self.log.rank(n)));
        out.pending.sort_by_key(|p| self.log.at(&p.join).map(|n| self.log.rank(n)));
        out
    }

    /// One device: its role, if it has one, and every right it had until when.
    fn settle(&self, out: &mut Membership, device: &DeviceId, grants: &[Grant]) {
        let log = self.log;
        let removed = |g: &Grant| self.ending_grant(device, g).find(|e| e.removes);
        let entered: Vec<&Grant> = grants.iter().filter(|g| g.enters && removed(g).is_none()).collect();
        for g in grants {
            let (removals, demotions): (Vec<&Ender>, Vec<&Ender>) = self.ending_grant(device, g).partition(|e| e.removes);
            let ended = |e: &Ender| self.ended(e);
            out.rights.entry(*device).or_default().push(Right {
                grant: log.op(g.op).hash,
                role: g.role,
                removals: removals.into_iter().map(ended).collect(),
                demotions: demotions.into_iter().map(ended).collect(),
            });
        }
        let holds = |g: &&Grant| removed(g).is_none() && (g.role != Role::Coordinator || self.ending_grant(device, g).next().is_none());
        // A coordinator stays one until that is ended; else the last thing a coordinator said of it by name counts.
        let by_name = |g: &Grant| !matches!(log.op(g.op).body, OpBody::Join(_));
        let last = grants.iter().filter(holds).max_by_key(|g| (g.role == Role::Coordinator, by_name(g), log.rank(g.op)));
        let first = grants.iter().filter(|g| g.enters).min_by_key(|g| log.rank(g.op));
        match (entered.iter().max_by_key(|g| log.rank(g.op)), last) {
            (Some(grant), Some(last)) => {
                let (name, agreement_key) = self.identity(grant.op);
                let by = self.vouched_by(grant.op);
                let member = Member { device: *device, name, role: last.role, grant: log.op(grant.op).hash, agreement_key, by };
                out.members.insert(*device, member);
            }
            _ => {
                let end = first.and_then(|g| self.ending_grant(device, g).filter(|e| e.removes).min_by_key(|e| log.rank(e.op)));
                if let (Some(first), Some(end)) = (first, end) {
                    let Ended { op, mode, .. } = self.ended(end);
                    let (name, _) = self.identity(first.op);
                    let by = log.op(end.op).issuer;
                    out.former.insert(*device, Former { device: *device, name, removal: op, mode: mode.unwrap_or(RemoveMode::Left), by });
                }
            }
        }
    }

    /// What ends a grant. Anyone who may govern ends a grant that is not a coordinator's.
    fn ending_grant<'p>(&'p self, device: &DeviceId, g: &Grant) -> impl Iterator<Item = &'p Ender> {
        let rank = self.log.rank(g.op);
        let (op, coordinator) = (g.op, g.role == Role::Coordinator);
        self.enders.get(device).into_iter().flatten().filter(move |e| {
            let may = !coordinator || e.by.is_none_or(|by| by < rank);
            may && op != e.op && !self.log.is_ancestor(e.op, op)
        })
    }

    fn ended(&self, e: &Ender) -> Ended {
        let op = self.log.op(e.op);
        let (cuts, mode) = match &op.body {
            OpBody::Remove(r) => (r.cuts.clone(), Some(r.mode)),
            OpBody::SetRole(s) => (s.cuts.clone(), None),
            _ => (Vec::new(), None),
        };
        Ended { op: op.hash, cuts, mode, role: e.role, own: e.by.is_none() }
    }

    fn identity(&self, n: Index) -> (String, [u8; 32]) {
        match &self.log.op(n).body {
            OpBody::Genesis(g) => (g.founder_name.clone(), g.agreement_key),
            OpBody::Join(j) => (j.name.clone(), j.agreement_key),
            OpBody::Add(a) => (a.name.clone(), a.agreement_key),
            _ => (String::new(), [0; 32]),
        }
    }

    /// The coordinator that let the device in by name; `None` for who came by an invitation.
    fn vouched_by(&self, n: Index) -> Option<DeviceId> {
        matches!(self.log.op(n).body, OpBody::Add(_) | OpBody::Genesis(_)).then(|| self.log.op(n).issuer)
    }

    fn rules(&self, out: &mut Membership) {
        let Some(genesis) = out.genesis.clone() else { return };
        out.lineages = vec![(ControlHash(self.log.project().0), genesis.configuration)];
        let mut live: Vec<Index> = self.live.keys().copied().collect();
        live.sort_by_key(|n| self.log.rank(*n));
        for n in live {
            let op = self.log.op(n);
            match &op.body {
                OpBody::Policy(p) => out.policies.push((op.hash, *p)),
                OpBody::Lineage(doc) => out.lineages.push((op.hash, *doc)),
                OpBody::Accept(tip) => out.accepted.push(Accepted { op: op.hash, tip: *tip, by: op.issuer }),
                _ => {}
            }
        }
        self.adoptions(out);
    }

    /// Who works with which configuration: a newcomer with the one of its invitation, a coordinator with the one it set, others
    /// with what they said last.
    fn adoptions(&self, out: &mut Membership) {
        let log = self.log;
        let rank = |h: &ControlHash| log.at(h).map(|n| log.rank(n));
        let mut said: BTreeMap<DeviceId, (Option<Rank>, usize)> = BTreeMap::new();
        for (device, member) in &out.members {
            let at = out.lineages.iter().rposition(|(op, _)| rank(op) <= rank(&member.grant)).unwrap_or(0);
            said.insert(*device, (None, at));
        }
        for (n, op) in log.ops().enumerate() {
            let (OpBody::Adopt(doc) | OpBody::Lineage(doc)) = &op.body else { continue };
            let Some(number) = out.lineage_number(doc) else { continue };
            if let Some(known) = said.get_mut(&op.issuer).filter(|(before, _)| *before < Some(log.rank(n))) {
                *known = (Some(log.rank(n)), number);
            }
        }
        out.adopted = said.into_iter().map(|(device, (_, number))| (device, number)).collect();
    }

    fn invitations(&self, out: &mut Membership) {
        for n in self.invites.keys() {
            let op = self.log.op(*n);
            let OpBody::Invite(invite) = &op.body else { continue };
            let held = &self.invites[n];
            let ended = !held.kills.is_empty() && !held.kills.iter().all(|k| self.log.is_ancestor(*k, *n));
            let used = self.used.get(n).copied().unwrap_or(0);
            out.invitations.push(Invitation {
                op: op.hash,
                issuer: op.issuer,
                invite: invite.clone(),
                used,
                revoked: self.revokes.contains_key(n) || ended,
            });
        }
        for (j, n) in &self.requests {
            let op = self.log.op(*j);
            let OpBody::Invite(invite) = &self.log.op(*n).body else { continue };
            let refuses = |e: &&Ender| matches!(&self.log.op(e.op).body, OpBody::Remove(r) if r.mode == RemoveMode::Refused);
            let refused = self.enders.get(&op.issuer).into_iter().flatten().filter(refuses).any(|e| !self.log.is_ancestor(e.op, *j));
            if let (OpBody::Join(join), false) = (&op.body, out.members.contains_key(&op.issuer)) {
                let (name, agreement_key) = (join.name.clone(), join.agreement_key);
                out.pending.push(Pending { device: op.issuer, name, agreement_key, role: invite.role, join: op.hash, refused });
            }
        }
    }

    fn epochs(&self, out: &mut Membership) {
        let log = self.log;
        let barriers: Vec<Index> = self.live.keys().copied().filter(|n| self.is_barrier(*n)).collect();
        out.first_epoch_holds = barriers.is_empty();
        let readers: BTreeMap<[u8; 8], DeviceId> = out.members.keys().map(|d| (d.short(), *d)).collect();
        for (n, op) in log.ops().enumerate() {
            match &op.body {
                OpBody::Epoch(epoch) => {
                    let only_readers = epoch.readers.iter().all(|r| readers.contains_key(r));
                    let minter = out.role(&op.issuer).is_some_and(Role::writes_observations);
                    let covers = barriers.iter().all(|b| log.is_ancestor(*b, n));
                    let state = EpochState { op: op.hash, id: epoch.id, holds: minter && only_readers && covers, rank: log.rank(n).0 };
                    out.epochs.push(state);
                    let boxed = epoch.readers.iter().filter_map(|r| readers.get(r).copied());
                    out.holders.entry(epoch.id).or_default().extend(boxed.chain([op.issuer]));
                    out.chains.insert(epoch.id, epoch.chain_ids.clone());
                }
                OpBody::Convey(convey) => {
                    for id in &convey.epochs {
                        out.holders.entry(*id).or_default().insert(convey.device);
                    }
                }
                OpBody::Join(join) => {
                    let by = log.find(&join.invite).map(|op| &op.body);
                    let bearer = matches!(by, Some(OpBody::Invite(i)) if i.mode == InviteMode::Bearer);
                    let first = bearer.then(|| out.genesis.as_ref().and_then(|g| g.epoch)).flatten();
                    if let Some(id) = join.epoch.or(first) {
                        out.holders.entry(id).or_default().insert(op.issuer);
                    }
                }
                OpBody::Genesis(genesis) => {
                    if let Some(id) = genesis.epoch {
                        out.holders.entry(id).or_default().insert(op.issuer);
                    }
                }
                _ => {}
            }
        }
        out.epochs.sort_by_key(|e| (e.rank, e.op));
    }

    /// An operation that someone who had the read key should no longer read past.
    fn is_barrier(&self, n: Index) -> bool {
        match &self.log.op(n).body {
            OpBody::Remove(r) => r.mode != RemoveMode::Refused || self.grants.contains_key(&r.device),
            OpBody::Revoke(invite) => {
                matches!(self.log.find(invite).map(|op| &op.body), Some(OpBody::Invite(i)) if i.mode == InviteMode::Bearer)
            }
            _ => false,
        }
    }

    /// Operations that draw on a right and do not count.
    fn void(&self) -> Vec<ControlHash> {
        let counts = |n: &Index| {
            let op = self.log.op(*n);
            let leave = matches!(&op.body, OpBody::Remove(r) if r.device == op.issuer);
            let free = matches!(op.body, OpBody::Epoch(_) | OpBody::Convey(_) | OpBody::Adopt(_) | OpBody::Other(_));
            let asks = self.requests.iter().any(|(j, _)| j == n);
            self.live.contains_key(n) || leave || free || asks
        };
        (0..self.log.len()).filter(|n| !counts(n)).map(|n| self.log.op(n).hash).collect()
    }
}
