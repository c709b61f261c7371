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
    /// Said by the device itself, which may always.
    own: bool,
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
    /// Requests by invitations that need approval: join and invitation.
    requests: Vec<(Index, Index)>,
    used: BTreeMap<Index, u32>,
    /// What coordinators said that counts, without joins and leaves: who a coordinator has built on is settled by these.
    said: BTreeSet<(Rank, Index)>,
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
        issued.values_mut().for_each(|list| list.sort_by_key(|n| log.rank(*n)));
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
            said: BTreeSet::new(),
        }
    }

    /// Everything one coordinator said by virtue of one grant.
    fn tenure(&mut self, rank: Rank, device: DeviceId, grant: Option<Index>) {
        let mut kills: Vec<Index> = grant.map(|g| self.ending(&device, g).iter().map(|e| e.op).collect()).unwrap_or_default();
        let under = |n: &Index| !self.live.contains_key(n) && grant.is_none_or(|g| self.log.is_ancestor(g, *n));
        let mine: Vec<Index> = self.issued.get(&device).into_iter().flatten().copied().filter(under).collect();
        let seen = |pass: &Self, kills: &[Index], n: Index| kills.iter().all(|k| *k == n || pass.log.is_ancestor(n, *k));
        for n in &mine {
            if self.steps_down(*n, &device) && seen(self, &kills, *n) {
                self.end(*n, device, true);
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

    /// Anyone may leave, whatever else is said of it.
    fn leaves(&mut self) {
        for (n, op) in self.log.ops().enumerate() {
            if matches!(&op.body, OpBody::Remove(r) if r.device == op.issuer) {
                self.end(n, op.issuer, true);
            }
        }
    }

    /// A coordinator gives up its role itself.
    fn steps_down(&self, n: Index, device: &DeviceId) -> bool {
        matches!(&self.log.op(n).body, OpBody::SetRole(s) if s.device == *device && s.role != Role::Coordinator)
    }

    /// What ends a grant of `device`, as far as it is known by now: everything that counts and that the grant has not seen. Only
    /// who is in can let itself in again: for a join the invitation must have seen it, not the join, which its owner writes.
    fn ending(&self, device: &DeviceId, grant: Index) -> Vec<&Ender> {
        let log = self.log;
        let basis = match &log.op(grant).body {
            OpBody::Join(join) => log.at(&join.invite).unwrap_or(grant),
            _ => grant,
        };
        let unseen = |e: &&Ender| e.op != grant && !log.is_ancestor(e.op, if e.own { grant } else { basis });
        let mut all: Vec<&Ender> = self.enders.get(device).into_iter().flatten().filter(unseen).collect();
        // Whoever was removed has no say any more, not even to leave with effect on what it did before.
        let removals: Vec<Index> = all.iter().filter(|e| e.removes && !e.own).map(|e| e.op).collect();
        all.retain(|e| !e.own || removals.is_empty() || removals.iter().any(|r| log.is_ancestor(e.op, *r)));
        all
    }

    /// `true` if the device is coordinator by a grant that is senior to `rank` and that had not ended as far as `n` knew.
    fn outranks(&self, device: &DeviceId, rank: Rank, n: Index) -> bool {
        self.grants.get(device).into_iter().flatten().any(|g| {
            let senior = g.role == Role::Coordinator && self.log.rank(g.op) < rank;
            senior && !self.ending(device, g.op).iter().any(|e| self.log.is_ancestor(e.op, n))
        })
    }

    fn end(&mut self, n: Index, device: DeviceId, own: bool) {
        let (removes, role) = match &self.log.op(n).body {
            OpBody::SetRole(s) => (false, Some(s.role)),
            _ => (true, None),
        };
        self.enders.entry(device).or_default().push(Ender { op: n, own, removes, role });
    }

    fn grant(&mut self, n: Index, device: DeviceId, role: Role, enters: bool) {
        self.grants.entry(device).or_default().push(Grant { op: n, role, enters });
        if role == Role::Coordinator {
            self.tenures.insert((self.log.rank(n), device, Some(n)));
        }
    }

    /// One operation of a coordinator that counts. An operation is looked at once, under its issuer's most senior grant.
    fn act(&mut self, n: Index, rank: Rank, kills: &[Index]) {
        let op = self.log.op(n);
        let itself = |device: &DeviceId| *device == op.issuer;
        match &op.body {
            OpBody::Remove(r) if itself(&r.device) => return,
            OpBody::Remove(r) if !self.outranks(&r.device, rank, n) => self.end(n, r.device, false),
            OpBody::SetRole(s) if itself(&s.device) && s.role != Role::Coordinator => self.grant(n, s.device, s.role, false),
            OpBody::SetRole(s) if itself(&s.device) => {}
            // A coordinator that changes a role vouches for the device by name.
            OpBody::SetRole(s) if !self.outranks(&s.device, rank, n) => {
                self.grant(n, s.device, s.role, true);
                if s.role != Role::Coordinator {
                    self.end(n, s.device, false);
                }
            }
            OpBody::Add(a) if !self.outranks(&a.device, rank, n) => self.grant(n, a.device, a.role, true),
            OpBody::Remove(_) | OpBody::SetRole(_) | OpBody::Add(_) => return,
            OpBody::Invite(_) => {
                self.invites.insert(n, Held { kills: kills.to_vec() });
            }
            OpBody::Revoke(invite) => {
                let Some(at) = self.log.at(invite) else { return };
                // Who comes by a coordinator's ticket may be senior to this one: only the ticket's seniors and equals end it.
                let coordinator = matches!(&self.log.op(at).body, OpBody::Invite(i) if i.role == Role::Coordinator);
                if coordinator && self.live.get(&at).is_none_or(|by| *by < rank) {
                    return;
                }
                self.revokes.entry(at).or_default().push(n);
            }
            _ => {}
        }
        self.live.insert(n, rank);
        self.said.insert((self.log.rank(n), n));
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
    /// that a coordinator built on first, then the first by rank.
    fn admit(&mut self, n: Index) {
        let log = self.log;
        let (OpBody::Invite(invite), Some(held)) = (&log.op(n).body, self.invites.get(&n)) else { return };
        let mut ends = held.kills.clone();
        ends.extend(self.revokes.get(&n).into_iter().flatten());
        let fits = |j: &Index| ends.iter().all(|e| log.is_ancestor(*j, *e));
        let joins: Vec<Index> = self.joins.get(&n).into_iter().flatten().copied().filter(fits).collect();
        let built_on = |j: Index| self.said.iter().find(|(_, s)| log.is_ancestor(j, *s)).map(|(rank, _)| *rank);
        let mut ranked: Vec<(bool, Option<Rank>, Rank, Index)> = joins
            .into_iter()
            .map(|j| {
                let first = built_on(j);
                (first.is_none(), first, log.rank(j), j)
            })
            .collect();
        ranked.sort_unstable();
        let mut entered = BTreeSet::new();
        for (.., j) in ranked {
            let device = log.op(j).issuer;
            if entered.contains(&device) {
                continue;
            }
            if invite.mode == InviteMode::Approve {
                entered.insert(device);
                self.requests.push((j, n));
            } else if entered.len() < invite.uses as usize {
                entered.insert(device);
                self.grant(j, device, invite.role, true);
                self.live.insert(j, log.rank(j));
            }
        }
        let used = if invite.mode == InviteMode::Approve { 0 } else { entered.len() as u32 };
        self.used.insert(n, used);
    }

    fn membership(mut self) -> Membership {
        // The order of arrival ends here.
        for list in self.grants.values_mut() {
            list.sort_by_key(|g| self.log.rank(g.op));
        }
        for list in self.enders.values_mut() {
            list.sort_by_key(|e| self.log.rank(e.op));
        }
        let log = self.log;
        self.requests.sort_by_key(|(j, n)| (log.rank(*j), log.rank(*n)));

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
        for chain in out.chains.values_mut() {
            chain.sort_unstable();
            chain.dedup();
        }
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
        let mut standing: Vec<&Grant> = Vec::new();
        let mut lowered: Vec<Role> = Vec::new();
        let mut entered: Option<&Grant> = None;
        let mut ends: Vec<&Ender> = Vec::new();
        for g in grants {
            let ending = self.ending(device, g.op);
            let (removals, demotions): (Vec<&Ender>, Vec<&Ender>) = ending.into_iter().partition(|e| e.removes);
            let demotions: Vec<&Ender> = demotions.into_iter().filter(|e| e.role.is_some_and(|r| lowers(r, g.role))).collect();
            if removals.is_empty() {
                if g.enters && entered.is_none_or(|e| log.rank(e.op) < log.rank(g.op)) {
                    entered = Some(g);
                }
                lowered.extend(demotions.iter().filter_map(|e| e.role));
                if demotions.is_empty() {
                    standing.push(g);
                }
            }
            ends.extend(&removals);
            out.rights.entry(*device).or_default().push(Right {
                grant: log.op(g.op).hash,
                role: g.role,
                removals: removals.into_iter().map(|e| self.ended(e)).collect(),
                demotions: demotions.into_iter().map(|e| self.ended(e)).collect(),
            });
        }
        let Some(entered) = entered else { return self.settle_former(out, device, grants, &ends) };
        // A coordinator stays one until that is ended; else the last thing a coordinator said of it by name counts.
        let by_name = |g: &Grant| !matches!(log.op(g.op).body, OpBody::Join(_));
        let last = standing.iter().max_by_key(|g| (g.role == Role::Coordinator, by_name(g), log.rank(g.op))).map(|g| g.role);
        let role = last.or(lowered.into_iter().max_by_key(|r| (!r.writes_observations(), *r))).unwrap_or(Role::Observer);
        let (name, agreement_key) = self.identity(device, entered.op);
        let member = Member { device: *device, name, role, grant: log.op(entered.op).hash, agreement_key, by: self.vouched_by(entered.op) };
        out.members.insert(*device, member);
    }

    fn settle_former(&self, out: &mut Membership, device: &DeviceId, grants: &[Grant], ends: &[&Ender]) {
        let (Some(grant), Some(end)) = (grants.iter().find(|g| g.enters), ends.iter().max_by_key(|e| self.log.rank(e.op))) else { return };
        let Ended { op, mode, .. } = self.ended(end);
        let (name, _) = self.identity(device, grant.op);
        let (mode, by) = (mode.unwrap_or(RemoveMode::Left), self.log.op(end.op).issuer);
        out.former.insert(*device, Former { device: *device, name, removal: op, mode, by });
    }

    fn ended(&self, e: &Ender) -> Ended {
        let op = self.log.op(e.op);
        let (cuts, mode) = match &op.body {
            OpBody::Remove(r) => (r.cuts.clone(), Some(r.mode)),
            OpBody::SetRole(s) => (s.cuts.clone(), None),
            _ => (Vec::new(), None),
        };
        Ended { op: op.hash, cuts, mode, role: e.role, own: e.own }
    }

    /// Name and key of a device, as of the grant `n`: a change of role repeats neither.
    fn identity(&self, device: &DeviceId, n: Index) -> (String, [u8; 32]) {
        let log = self.log;
        let told = |n: Index| {
            let op = log.op(n);
            match &op.body {
                OpBody::Genesis(g) if op.issuer == *device => Some((g.founder_name.clone(), g.agreement_key)),
                OpBody::Join(j) if op.issuer == *device => Some((j.name.clone(), j.agreement_key)),
                OpBody::Add(a) if a.device == *device => Some((a.name.clone(), a.agreement_key)),
                _ => None,
            }
        };
        let before = (0..n).filter(|o| log.is_ancestor(*o, n)).filter_map(|o| Some((log.rank(o), told(o)?))).max_by_key(|(rank, _)| *rank);
        told(n).or(before.map(|(_, told)| told)).unwrap_or_default()
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
        // Whoever left or was removed keeps what it had adopted: what it wrote then is judged by it for ever.
        let mut entered: BTreeMap<DeviceId, Index> = BTreeMap::new();
        for (device, grants) in &self.grants {
            let member = out.members.get(device).and_then(|m| log.at(&m.grant));
            let first = grants.iter().filter(|g| g.enters).map(|g| g.op).min_by_key(|g| log.rank(*g));
            entered.extend(member.or(first).map(|grant| (*device, grant)));
        }
        let mut said: BTreeMap<DeviceId, (Option<Rank>, usize)> = BTreeMap::new();
        for (device, grant) in &entered {
            let at = out.lineages.iter().rposition(|(op, _)| rank(op) <= Some(log.rank(*grant))).unwrap_or(0);
            said.insert(*device, (None, at));
        }
        for (n, op) in log.ops().enumerate() {
            let (OpBody::Adopt(doc) | OpBody::Lineage(doc)) = &op.body else { continue };
            if entered.get(&op.issuer).is_none_or(|g| !log.is_ancestor(*g, n)) {
                continue;
            }
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
            let approved =
                || self.requests.iter().filter(|(j, i)| i == n && out.members.contains_key(&self.log.op(*j).issuer)).count() as u32;
            let used = if invite.mode == InviteMode::Approve { approved() } else { self.used.get(n).copied().unwrap_or(0) };
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
            // A removal said after the invitation answers every request by it; a later invitation lets it ask again.
            let after = |e: &Ender| e.removes && self.log.rank(e.op) > self.log.rank(*n);
            let refused = self.enders.get(&op.issuer).into_iter().flatten().any(after);
            if let (OpBody::Join(join), false) = (&op.body, out.members.contains_key(&op.issuer)) {
                let (name, agreement_key) = (join.name.clone(), join.agreement_key);
                out.pending.push(Pending { device: op.issuer, name, agreement_key, role: invite.role, join: op.hash, refused });
            }
        }
    }

    fn epochs(&self, out: &mut Membership) {
        let log = self.log;
        let barriers = self.barriers();
        out.first_epoch_holds = barriers.is_empty();
        let readers: BTreeMap<[u8; 8], DeviceId> = out.members.keys().map(|d| (d.short(), *d)).collect();
        for (n, op) in log.ops().enumerate() {
            match &op.body {
                OpBody::Epoch(epoch) if self.counted(n) => {
                    out.handing_on.insert(op.hash);
                    let only_readers = epoch.readers.iter().all(|r| readers.contains_key(r));
                    let minter = out.role(&op.issuer).is_some_and(Role::writes_observations);
                    let covers = barriers.iter().all(|any| any.iter().any(|b| log.is_ancestor(*b, n)));
                    let state = EpochState { op: op.hash, id: epoch.id, holds: minter && only_readers && covers, rank: log.rank(n).0 };
                    out.epochs.push(state);
                    let boxed = epoch.readers.iter().filter_map(|r| readers.get(r).copied());
                    out.holders.entry(epoch.id).or_default().extend(boxed.chain([op.issuer]));
                    out.chains.entry(epoch.id).or_default().extend(&epoch.chain_ids);
                }
                OpBody::Convey(convey) if self.counted(n) => {
                    out.handing_on.insert(op.hash);
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

    /// `true` if the issuer belonged when it said `n`, as far as those know that removed it.
    fn counted(&self, n: Index) -> bool {
        let (log, issuer) = (self.log, self.log.op(n).issuer);
        self.grants.get(&issuer).into_iter().flatten().any(|g| {
            let seen = |e: &&Ender| !e.removes || log.is_ancestor(n, e.op);
            (g.op == n || log.is_ancestor(g.op, n)) && self.ending(&issuer, g.op).iter().all(seen)
        })
    }

    /// What a read key must know of, so that nobody who should not read has it: of each set one at least. Whoever knows one
    /// removal of a device boxes nothing to it.
    fn barriers(&self) -> BTreeSet<Vec<Index>> {
        let mut out = BTreeSet::new();
        for (device, grants) in &self.grants {
            for g in grants {
                let removals: Vec<Index> = self.ending(device, g.op).iter().filter(|e| e.removes).map(|e| e.op).collect();
                if !removals.is_empty() {
                    out.insert(removals);
                }
            }
        }
        let bearer = |invite: &ControlHash| matches!(self.log.find(invite).map(|op| &op.body), Some(OpBody::Invite(i)) if i.mode == InviteMode::Bearer);
        for n in self.live.keys() {
            if matches!(&self.log.op(*n).body, OpBody::Revoke(invite) if bearer(invite)) {
                out.insert(vec![*n]);
            }
        }
        // Who lost the race for a ticket has its read key all the same.
        for op in self.log.ops() {
            let OpBody::Join(join) = &op.body else { continue };
            if bearer(&join.invite) && !self.grants.contains_key(&op.issuer) {
                let removals: Vec<Index> =
                    self.enders.get(&op.issuer).into_iter().flatten().filter(|e| e.removes && !e.own).map(|e| e.op).collect();
                if !removals.is_empty() {
                    out.insert(removals);
                }
            }
        }
        out
    }

    /// Operations that draw on a right and do not count.
    fn void(&self) -> Vec<ControlHash> {
        let asks: BTreeSet<Index> = self.requests.iter().map(|(j, _)| *j).collect();
        let counts = |n: &Index| {
            let op = self.log.op(*n);
            let leave = matches!(&op.body, OpBody::Remove(r) if r.device == op.issuer);
            let free = matches!(op.body, OpBody::Epoch(_) | OpBody::Convey(_) | OpBody::Adopt(_) | OpBody::Other(_));
            self.live.contains_key(n) || leave || free || asks.contains(n)
        };
        (0..self.log.len()).filter(|n| !counts(n)).map(|n| self.log.op(n).hash).collect()
    }
}

/// `true` if `role` may write less than `before`.
fn lowers(role: Role, before: Role) -> bool {
    let less = |may: fn(Role) -> bool| may(before) && !may(role);
    less(Role::writes_observations) || less(Role::writes_configuration)
}
