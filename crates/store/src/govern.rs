//! What coordinators do: invite, let in, change roles, remove, accept, set rules. Each is one durable transaction.

use crate::control::{put_own, rotate, say, say_as};
use crate::feeds::BatchHashes;
use crate::{Store, StoreError};
use cairn_model::{Configuration, DeviceId, DocId, DocKind};
use cairn_trust::{
    Add, BatchHash, ControlHash, ControlOp, DeviceKeys, Invite, InviteMode, Issuer, OpBody, Policy, RecoveryWords, Remove, RemoveMode,
    Role, SetRole, Tells, Ticket, Tip, limits,
};

/// Longest ticket that is still handled as text; the control log it brings grows with the chain of coordinators.
const TICKET_OPS: usize = 8 << 10;
/// Bytes of an invitation at most, signature and all.
const INVITE_BYTES: usize = 512;

fn fits_a_ticket(bytes: usize) -> Result<(), StoreError> {
    match bytes > TICKET_OPS {
        true => Err(StoreError::Control("this ticket would be too long: use a ticket with --approve, a QR or a code".into())),
        false => Ok(()),
    }
}

/// How a device is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It left or was lost: everything here counts.
    Everything(RemoveMode),
    /// From this batch of its latest feed on, somebody else may have written with it.
    CompromisedSince(u64),
}

impl Store {
    fn governs(&self, act: &'static str) -> Result<(), StoreError> {
        self.still_in()?;
        match self.mem.membership.role(&self.mem.device) {
            Some(Role::Coordinator) => Ok(()),
            other => Err(StoreError::Role { role: other.map_or("no member", Role::word), act }),
        }
    }

    /// Writes one operation of this device, with the open batch cut before it.
    fn say(&mut self, body: OpBody) -> Result<ControlOp, StoreError> {
        let op = self.write(|t, mem, ctx| {
            crate::local::cut(t, mem, ctx, 0)?;
            say(t, mem, ctx, body)
        })?;
        self.reload_configuration()?;
        Ok(op)
    }

    /// An error if this device may not invite.
    pub fn may_invite(&self) -> Result<(), StoreError> {
        self.governs("invite devices")
    }

    /// An invitation and its ticket. The invitation is durable before the ticket exists.
    pub fn invite(&mut self, role: Role, uses: u32, mode: InviteMode, addresses: Vec<String>) -> Result<Ticket, StoreError> {
        self.governs("invite devices")?;
        let secret: [u8; 32] = self.entropy.bytes();
        let invite = Invite { key: DeviceKeys::from_seed(secret).device().0, role, uses, mode };
        let authority = self.authority().ok_or(StoreError::Damaged("grant"))?;
        if mode == InviteMode::Bearer {
            // Before it exists: an invitation whose ticket cannot be made would stay open for nobody.
            let all: usize = self.mem.control.ancestry(&authority).iter().map(|op| op.bytes.len()).sum();
            fits_a_ticket(all + INVITE_BYTES)?;
        }
        let op = self.write(|t, mem, ctx| {
            crate::local::cut(t, mem, ctx, 0)?;
            // Its only parent is what gives the right to say it, so that a ticket can carry all it builds on.
            let number = mem.control.next_number();
            let op = ControlOp::issue(Issuer::Device(ctx.keys), &mem.project, vec![authority], number, OpBody::Invite(invite));
            put_own(t, mem, ctx, op.clone())?;
            Ok(op)
        })?;
        self.ticket(&op, secret, addresses)
    }

    /// The ticket of an invitation once more, with the read keys of now; `secret` is the seed of its key. `None` if there is no such
    /// invitation.
    pub fn ticket_again(&self, invite: &ControlHash, secret: [u8; 32], addresses: Vec<String>) -> Result<Option<Ticket>, StoreError> {
        let op = self.mem.control.find(invite).filter(|op| matches!(op.body, OpBody::Invite(_))).cloned();
        op.map(|op| self.ticket(&op, secret, addresses)).transpose()
    }

    fn ticket(&self, op: &ControlOp, secret: [u8; 32], addresses: Vec<String>) -> Result<Ticket, StoreError> {
        let OpBody::Invite(Invite { mode, role, .. }) = op.body else { return Err(StoreError::Damaged("invitation")) };
        let bearer = mode == InviteMode::Bearer;
        let ops: Vec<ControlOp> = if bearer { self.mem.control.ancestry(&op.hash).into_iter().cloned().collect() } else { Vec::new() };
        fits_a_ticket(ops.iter().map(|op| op.bytes.len()).sum())?;
        let tells = Tells { project: self.genesis()?.name.clone(), role: Some(role), observations: self.count()? };
        let host = (mode == InviteMode::Meet).then_some(self.mem.device);
        let epochs = if bearer { self.mem.ring.keys.clone() } else { Vec::new() };
        let discovery = if bearer { self.mem.discovery } else { [0; 32] };
        Ok(Ticket { project: self.mem.project, invite: op.hash, mode, secret, ops, epochs, discovery, addresses, host, tells })
    }

    /// The operation that makes this device a coordinator.
    fn authority(&self) -> Option<ControlHash> {
        let rights = self.mem.membership.rights.get(&self.mem.device)?;
        let holds = |r: &&cairn_trust::Right| r.role == Role::Coordinator && r.removals.is_empty() && r.demotions.is_empty();
        rights.iter().find(holds).map(|r| r.grant)
    }

    /// Ends an invitation. Where its ticket carried read keys, a new one is minted.
    pub fn revoke(&mut self, invite: ControlHash) -> Result<(), StoreError> {
        self.governs("revoke invitations")?;
        let bearer = matches!(self.mem.control.find(&invite).map(|op| &op.body), Some(OpBody::Invite(i)) if i.mode == InviteMode::Bearer);
        self.write(|t, mem, ctx| {
            crate::local::cut(t, mem, ctx, 0)?;
            say(t, mem, ctx, OpBody::Revoke(invite))?;
            if bearer { rotate(t, mem, ctx) } else { Ok(()) }
        })
    }

    /// Lets a device in that asked to, or one that belonged once.
    pub fn approve(&mut self, device: &DeviceId, role: Option<Role>) -> Result<Role, StoreError> {
        self.governs("approve devices")?;
        let m = &self.mem.membership;
        let asked = m.pending.iter().rev().find(|p| p.device == *device).map(|p| (p.name.clone(), p.agreement_key, p.role));
        let (name, agreement_key, offered) = match asked.or_else(|| self.known_before(device)) {
            Some(known) => known,
            None => return Err(StoreError::Control(format!("{} has not asked to enter", self.device_name(device)))),
        };
        let role = role.unwrap_or(offered);
        let add = Add { device: *device, name, agreement_key, role };
        let parents = self.about(device)?;
        self.write(|t, mem, ctx| {
            crate::local::cut(t, mem, ctx, 0)?;
            let number = mem.control.next_number();
            let op = ControlOp::issue(Issuer::Device(ctx.keys), &mem.project, parents, number, OpBody::Add(add));
            put_own(t, mem, ctx, op)?;
            crate::control::convey_missing(t, mem, ctx)
        })?;
        Ok(role)
    }

    /// Name, key and last role of a device that belonged.
    fn known_before(&self, device: &DeviceId) -> Option<(String, [u8; 32], Role)> {
        self.mem.membership.former.get(device)?;
        let role = self.mem.membership.rights.get(device)?.last()?.role;
        self.mem.control.ops().rev().find_map(|op| match &op.body {
            OpBody::Join(j) if op.issuer == *device => Some((j.name.clone(), j.agreement_key, role)),
            OpBody::Add(a) if a.device == *device => Some((a.name.clone(), a.agreement_key, role)),
            OpBody::Genesis(g) if op.issuer == *device => Some((g.founder_name.clone(), g.agreement_key, role)),
            _ => None,
        })
    }

    /// This device's authority and all that was said of `device`: what a grant must know, and no more, so that tickets of
    /// the coordinators it makes stay short.
    fn about(&self, device: &DeviceId) -> Result<Vec<ControlHash>, StoreError> {
        let mut parents = vec![self.authority().ok_or(StoreError::Damaged("grant"))?];
        for op in self.mem.control.ops() {
            let about = match &op.body {
                OpBody::Remove(r) => r.device == *device,
                OpBody::SetRole(s) => s.device == *device,
                OpBody::Add(a) => a.device == *device,
                OpBody::Join(_) => op.issuer == *device,
                _ => false,
            };
            if about && !parents.contains(&op.hash) {
                parents.push(op.hash);
            }
        }
        let newest = parents.len().saturating_sub(limits::CONTROL_HEADS);
        parents.drain(1..=newest).for_each(drop);
        Ok(parents)
    }

    /// Refuses a device that asked to enter.
    pub fn refuse(&mut self, device: &DeviceId) -> Result<(), StoreError> {
        self.governs("refuse devices")?;
        if !self.mem.membership.pending.iter().any(|p| p.device == *device && !p.refused) {
            return Err(StoreError::Control(format!("{} has not asked to enter", self.device_name(device))));
        }
        self.say(OpBody::Remove(Remove { device: *device, mode: RemoveMode::Refused, cuts: Vec::new() }))?;
        Ok(())
    }

    /// Gives a device another role. What it wrote so far and is here counts.
    pub fn set_role(&mut self, device: &DeviceId, role: Role) -> Result<(), StoreError> {
        self.governs("change roles")?;
        let before = self.mem.membership.role(device).ok_or_else(|| self.no_member(device))?;
        let own = *device == self.mem.device;
        if !own && !self.is_senior(&self.mem.device, device) {
            return Err(self.senior(device));
        }
        if before == role {
            return Ok(());
        }
        if before == Role::Coordinator {
            self.not_the_last(device)?;
        }
        self.cut(0)?;
        let cuts = self.cuts(device, None)?;
        let raises = role == Role::Coordinator && before != Role::Coordinator;
        let parents = if raises { self.about(device)? } else { Vec::new() };
        let set = SetRole { device: *device, role, cuts: if raises { Vec::new() } else { cuts } };
        if raises {
            self.write(|t, mem, ctx| {
                crate::local::cut(t, mem, ctx, 0)?;
                let number = mem.control.next_number();
                let op = ControlOp::issue(Issuer::Device(ctx.keys), &mem.project, parents, number, OpBody::SetRole(set));
                put_own(t, mem, ctx, op)
            })?;
        } else {
            self.say(OpBody::SetRole(set))?;
        }
        if self.mem.membership.role(device) == Some(role) { Ok(()) } else { Err(self.senior(device)) }
    }

    /// A project must not be left without a coordinator: only the recovery words would help.
    fn not_the_last(&self, device: &DeviceId) -> Result<(), StoreError> {
        let others = self.mem.membership.members.values().any(|m| m.device != *device && m.role == Role::Coordinator);
        let last = || StoreError::Control("this is the only coordinator: make another device one first (`cairn devices role`)".into());
        if others { Ok(()) } else { Err(last()) }
    }

    fn no_member(&self, device: &DeviceId) -> StoreError {
        StoreError::Control(format!("{} does not belong to the project", self.device_name(device)))
    }

    fn senior(&self, device: &DeviceId) -> StoreError {
        StoreError::Senior { name: self.device_name(device) }
    }

    /// `true` if an operation of `device` about `other` would count.
    pub(crate) fn is_senior(&self, device: &DeviceId, other: &DeviceId) -> bool {
        let m = &self.mem.membership;
        let tenure = |d: &DeviceId| {
            let rights = m.rights.get(d).into_iter().flatten();
            let holding = rights.filter(|r| r.role == Role::Coordinator && r.removals.is_empty() && r.demotions.is_empty());
            holding.filter_map(|r| self.mem.control.seniority(&r.grant)).min()
        };
        match (tenure(device), tenure(other)) {
            (Some(mine), Some(theirs)) => mine < theirs,
            (mine, None) => mine.is_some(),
            (None, _) => false,
        }
    }

    /// Removes a device: what it wrote past what is here (or past the named batch) is set apart, and a new read key shuts it out.
    pub fn remove(&mut self, device: &DeviceId, how: Removal) -> Result<(), StoreError> {
        let own = *device == self.mem.device;
        if own {
            self.still_in()?;
        } else {
            self.governs("remove devices")?;
        }
        let former = self.mem.membership.former.contains_key(device) && matches!(how, Removal::CompromisedSince(_));
        if self.mem.membership.role(device).is_none() && !former {
            return Err(self.no_member(device));
        }
        if own && self.mem.membership.role(device) == Some(Role::Coordinator) {
            self.not_the_last(device)?;
        }
        if !own && !self.is_senior(&self.mem.device, device) {
            return Err(self.senior(device));
        }
        self.prepare(0)?;
        let unsynced = self.coverage()?.unsynced;
        if own && unsynced > 0 {
            return Err(StoreError::Control(format!(
                "{unsynced} changes made here are on no other device yet: sync once more, then leave"
            )));
        }
        let (mode, cuts) = match how {
            Removal::Everything(mode) => (mode, self.cuts(device, None)?),
            Removal::CompromisedSince(seq) => (RemoveMode::Compromised, self.cuts(device, Some(seq))?),
        };
        self.write(|t, mem, ctx| {
            crate::local::cut(t, mem, ctx, 0)?;
            say(t, mem, ctx, OpBody::Remove(Remove { device: *device, mode, cuts }))?;
            if own { Ok(()) } else { rotate(t, mem, ctx) }
        })?;
        self.reload_configuration()
    }

    /// What is here of a device's feeds; of its latest, only what lies before `since`.
    fn cuts(&self, device: &DeviceId, since: Option<u64>) -> Result<Vec<Tip>, StoreError> {
        let last = self.mem.feeds.of_device(device).rev().find(|(_, f)| f.seq > 0).map_or(0, |(_, f)| f.seq);
        if since.is_some_and(|s| s < 1 || s > last) {
            let name = self.device_name(device);
            return Err(StoreError::Control(format!("the batches of {name} here are numbered 1 to {last}: name one of these")));
        }
        let v = self.view()?;
        let mut cuts = Vec::new();
        let feeds = self.mem.feeds.of_device(device).filter(|(_, f)| f.seq >= f.base && f.seq > 0);
        let latest = feeds.clone().map(|(n, _)| n).max();
        for (n, f) in feeds {
            let last = match since {
                Some(since) if Some(n) == latest => f.seq.min(since.saturating_sub(1)),
                _ => f.seq,
            };
            if last >= f.base && last > 0 {
                let hash = v.hash_at(n, last)?.ok_or(StoreError::Damaged("batch hash"))?;
                cuts.push(Tip { feed: f.id, seq: last, hash: BatchHash(hash) });
            }
        }
        cuts.truncate(limits::CUT_TIPS);
        Ok(cuts)
    }

    /// Takes set-apart batches in: this one and all before it in its chain.
    pub fn accept(&mut self, tip: Tip) -> Result<(), StoreError> {
        self.governs("accept batches")?;
        self.say(OpBody::Accept(tip))?;
        Ok(())
    }

    /// Sets rules of the project. Closing an open project revokes the invitations that anyone may use.
    pub fn set_policy(&mut self, policy: Policy) -> Result<(), StoreError> {
        self.governs("set the project's policy")?;
        let public = |i: &&cairn_trust::Invitation| !i.revoked && i.invite.uses == u32::MAX;
        let ends: Vec<ControlHash> = match policy.open {
            Some(false) => self.mem.membership.invitations.iter().filter(public).map(|i| i.op).collect(),
            _ => Vec::new(),
        };
        self.write(|t, mem, ctx| {
            crate::local::cut(t, mem, ctx, 0)?;
            say(t, mem, ctx, OpBody::Policy(policy))?;
            for invite in &ends {
                say(t, mem, ctx, OpBody::Revoke(*invite))?;
            }
            if ends.is_empty() { Ok(()) } else { rotate(t, mem, ctx) }
        })
    }

    /// The recovery words make this device a coordinator, and remove others.
    pub fn use_recovery_words(&mut self, words: &RecoveryWords, device_name: &str, remove: &[DeviceId]) -> Result<(), StoreError> {
        if self.genesis()?.recovery_key != words.public_key() {
            return Err(StoreError::Control("these are the words of another project, or a word is wrong".into()));
        }
        self.prepare(0)?;
        let cuts = remove.iter().map(|d| Ok((*d, self.cuts(d, None)?))).collect::<Result<Vec<_>, StoreError>>()?;
        let m = &self.mem.membership;
        let known = m.members.get(&self.mem.device).map(|m| &m.name).or(m.former.get(&self.mem.device).map(|f| &f.name));
        let name = known.cloned().unwrap_or_else(|| device_name.to_owned());
        let add = Add { device: self.mem.device, name, agreement_key: self.keys.agreement_key(), role: Role::Coordinator };
        self.write(|t, mem, ctx| {
            say_as(t, mem, ctx, Issuer::Recovery(words), OpBody::Add(add))?;
            for (device, cuts) in cuts {
                let remove = Remove { device, mode: RemoveMode::Compromised, cuts };
                say_as(t, mem, ctx, Issuer::Recovery(words), OpBody::Remove(remove))?;
            }
            mem.notice = None;
            t.meta.remove("notice")?;
            if remove.is_empty() { Ok(()) } else { rotate(t, mem, ctx) }
        })
    }

    /// Switches the project to another configuration lineage; this device works with it at once, others when they adopt it.
    pub fn switch_configuration(&mut self, configuration: &Configuration, now_ms: i64) -> Result<DocId, StoreError> {
        self.governs("switch the configuration")?;
        let lineage = DocId(self.entropy.bytes());
        self.say(OpBody::Lineage(lineage))?;
        self.write_configuration(lineage, configuration, now_ms)?;
        // Alone in its batch: it must reach those who have not switched.
        self.cut(now_ms)?;
        Ok(lineage)
    }

    /// Works with the project's latest configuration from here on. `false` if it does already.
    pub fn adopt_configuration(&mut self) -> Result<bool, StoreError> {
        self.still_in()?;
        let latest = self.mem.membership.lineage().ok_or(StoreError::Damaged("genesis"))?;
        if self.lineage()? == latest {
            return Ok(false);
        }
        if self.doc_row(DocKind::Configuration, &latest)?.is_none_or(|r| r.state.is_empty()) {
            return Err(StoreError::Control("the new configuration has not arrived yet: sync once more".into()));
        }
        self.say(OpBody::Adopt(latest))?;
        Ok(true)
    }
}
