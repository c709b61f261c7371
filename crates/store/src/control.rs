//! The control log in the store: taking operations in, the read keys they bring, and which of them new batches use.

use crate::judge::judge_again;
use crate::mem::{Ctx, Mem};
use crate::tables::{Tables, View};
use crate::{Entropy, Store, StoreError};
use cairn_model::{DeviceId, DocId, ProjectId};
use cairn_trust::{
    ControlHash, ControlOp, DeviceKeys, EpochId, EpochKey, InviteMode, Issuer, Keyring, Log, Member, Membership, OpBody, Role, evaluate,
    invitation_knock_key, is_usable_key, limits, mint, open_conveyed, open_epoch, seal_conveyed,
};
use redb::ReadableTable;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Control heads a header names without need: more would cost every batch their bytes.
const NAMED_HEADS: usize = 16;
/// Invitations whose holders may knock; the newest, so that old ones cost nothing.
const KNOCKS: usize = 256;
/// Requests kept for each use of an invitation that needs approval: a leaked one must not fill the log.
const REQUESTS: usize = 8;

/// What became of control operations from elsewhere.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AddedControl {
    /// Newly admitted.
    pub new: usize,
    /// Not admitted: their issuers never had the right, or what they build on is not here.
    pub refused: usize,
}

/// What a device that shows an invitation gets.
#[derive(Clone, Debug, PartialEq)]
pub enum Entrance {
    /// The control log, with its read keys in it.
    Welcome(Vec<Vec<u8>>),
    /// Its request is noted; a coordinator must approve.
    Pending,
    /// The invitation is used up, revoked, or the request was refused.
    Ended,
}

pub(crate) fn save_ring(t: &mut Tables<'_>, keys: &DeviceKeys, entropy: &mut dyn Entropy, ring: &Keyring) -> Result<(), StoreError> {
    let plain: Vec<u8> = [ring.discovery].iter().chain(ring.keys.iter().map(|k| &k.0)).flatten().copied().collect();
    t.meta.insert("ring", &keys.seal_private(&entropy.bytes(), &plain)[..])?;
    Ok(())
}

pub(crate) fn load_ring(v: &View, keys: &DeviceKeys) -> Result<Keyring, StoreError> {
    let sealed = v.meta.get("ring")?.ok_or(StoreError::Damaged("read keys"))?.value().to_vec();
    let plain = keys.open_private(&sealed).ok_or(StoreError::Damaged("read keys are not this device's"))?;
    let (all, _) = plain.as_chunks::<32>();
    let (discovery, keys) = all.split_first().ok_or(StoreError::Damaged("read keys"))?;
    Ok(Keyring { discovery: *discovery, keys: keys.iter().map(|k| EpochKey(*k)).collect() })
}

/// The log, and the key of its next row. Operations were checked when they were taken in.
pub(crate) fn load(v: &View, project: ProjectId) -> Result<(Log, u32), StoreError> {
    let mut ops = Vec::new();
    let mut next = 0;
    for row in v.control.iter()? {
        let (n, bytes) = row?;
        next = n.value() + 1;
        ops.push(ControlOp::decode_trusted(&project, bytes.value()).map_err(|_| StoreError::Damaged("control log"))?);
    }
    Ok((Log::restore(project, ops).map_err(|_| StoreError::Damaged("control log"))?, next))
}

pub(crate) fn load_notice(v: &View, log: &Log) -> Result<Option<Arc<ControlOp>>, StoreError> {
    let Some(bytes) = v.meta.get("notice")? else { return Ok(None) };
    let op = ControlOp::decode(&log.project(), bytes.value()).map_err(|_| StoreError::Damaged("notice"))?;
    Ok((!log.contains(&op.hash)).then(|| Arc::new(op)))
}

/// `ring` with every key the log holds for this device: its boxes, and the older keys sealed under those.
pub(crate) fn keys_for(log: &Log, m: &Membership, keys: &DeviceKeys, mut ring: Keyring) -> Keyring {
    loop {
        let before = ring.keys.len();
        for op in log.ops().filter(|op| m.handing_on.contains(&op.hash)) {
            let got = match &op.body {
                OpBody::Epoch(epoch) => {
                    let known = ring.keys.iter().find(|k| k.id() == epoch.id);
                    let all = known.is_some() && epoch.chain_ids.iter().all(|id| ring.keys.iter().any(|k| k.id() == *id));
                    if all { None } else { open_epoch(&log.project(), epoch, keys, known) }
                }
                OpBody::Convey(convey) if convey.epochs.iter().any(|id| !ring.keys.iter().any(|k| k.id() == *id)) => {
                    open_conveyed(&log.project(), convey, keys)
                }
                _ => None,
            };
            let Some(got) = got else { continue };
            if ring.discovery == [0; 32] {
                ring.discovery = got.discovery;
            }
            for key in got.keys {
                if !ring.keys.contains(&key) {
                    ring.keys.push(key);
                }
            }
        }
        if ring.keys.len() == before {
            return ring;
        }
    }
}

/// Heads for a batch header: all, or if they are many those that rights and rules hang on.
pub(crate) fn heads_to_name(mem: &Mem) -> Vec<ControlHash> {
    let m = &mem.membership;
    if m.heads.len() <= NAMED_HEADS {
        return m.heads.clone();
    }
    let rights = m.rights.get(&mem.device).into_iter().flatten().map(|r| r.grant);
    let rules = m.policies.last().map(|(op, _)| *op).into_iter().chain(m.lineages.last().map(|(op, _)| *op));
    let mut named: Vec<ControlHash> = rights.chain(rules).collect();
    let newest = mem.control.ops().rev().map(|op| op.hash).filter(|h| m.heads.binary_search(h).is_ok());
    named.extend(newest.take(NAMED_HEADS));
    named.sort_unstable();
    named.dedup();
    named.truncate(limits::CONTROL_HEADS);
    named
}

impl Mem {
    /// The key to seal new batches under; `None` if none may be used any more.
    pub fn epoch_key(&self) -> Option<&EpochKey> {
        let first = self.membership.genesis.as_ref().and_then(|g| g.epoch).or(self.ring.keys.first().map(EpochKey::id));
        let id = self.membership.epoch_to_use(first, &|id| self.epochs.contains_key(id))?;
        self.epochs.get(&id)
    }

    fn readers(&self) -> Vec<(DeviceId, [u8; 32])> {
        self.membership.members.values().map(|m| (m.device, m.agreement_key)).collect()
    }
}

/// An operation of `issuer` on top of everything that is known. Where there are more heads than one operation may name (many
/// devices joined and nobody said anything since), some that say nothing new are written first and gather them.
pub(crate) fn say_as(
    t: &mut Tables<'_>,
    mem: &mut Mem,
    ctx: &mut Ctx<'_>,
    issuer: Issuer<'_>,
    body: OpBody,
) -> Result<ControlOp, StoreError> {
    while mem.membership.heads.len() > limits::CONTROL_HEADS {
        let own = mem.membership.members.get(&mem.device).map(|m| m.grant);
        let few = mem.membership.heads.iter().copied().filter(|h| Some(*h) != own).take(limits::CONTROL_HEADS - 1);
        let parents: Vec<ControlHash> = own.into_iter().chain(few).collect();
        let nothing = match (issuer, mem.configuration_lineage()) {
            (Issuer::Device(_), Some(lineage)) => OpBody::Adopt(lineage),
            _ => OpBody::Policy(cairn_trust::Policy::default()),
        };
        let op = ControlOp::issue(issuer, &mem.project, parents, mem.control.next_number(), nothing);
        put_own(t, mem, ctx, op)?;
    }
    let op = ControlOp::issue(issuer, &mem.project, mem.membership.heads.clone(), mem.control.next_number(), body);
    put_own(t, mem, ctx, op.clone())?;
    Ok(op)
}

/// The same, of this device.
pub(crate) fn say(t: &mut Tables<'_>, mem: &mut Mem, ctx: &mut Ctx<'_>, body: OpBody) -> Result<ControlOp, StoreError> {
    let keys = ctx.keys;
    say_as(t, mem, ctx, Issuer::Device(keys), body)
}

/// An own operation must be admitted, here and everywhere: everything it needs was checked before.
pub(crate) fn put_own(t: &mut Tables<'_>, mem: &mut Mem, ctx: &mut Ctx<'_>, op: ControlOp) -> Result<(), StoreError> {
    if op.bytes.len() > limits::CONTROL_OP_BYTES {
        return Err(StoreError::OwnBatch("control operation too large".into()));
    }
    let added = put_ops(t, mem, ctx, vec![op])?;
    if added.new == 1 { Ok(()) } else { Err(StoreError::OwnBatch("control operation".into())) }
}

/// Takes operations in, parents first or not, and follows with everything that hangs on them. Gives how many were new.
pub(crate) fn put_ops(t: &mut Tables<'_>, mem: &mut Mem, ctx: &mut Ctx<'_>, ops: Vec<ControlOp>) -> Result<AddedControl, StoreError> {
    let mut log = (*mem.control).clone();
    let admitted = log.admit_all(ops);
    let added = AddedControl { new: admitted.new.len(), refused: admitted.refused + admitted.waiting.len() };
    for op in admitted.new.iter().filter_map(|hash| log.find(hash)) {
        t.control.insert(mem.next_control, &op.bytes[..])?;
        mem.next_control += 1;
    }
    if added.new > 0 {
        follow(t, mem, ctx, log)?;
    }
    Ok(added)
}

fn follow(t: &mut Tables<'_>, mem: &mut Mem, ctx: &mut Ctx<'_>, log: Log) -> Result<(), StoreError> {
    let before = mem.membership.clone();
    let membership = evaluate(&log);
    let ring = keys_for(&log, &membership, ctx.keys, (*mem.ring).clone());
    if ring != *mem.ring {
        save_ring(t, ctx.keys, ctx.entropy, &ring)?;
        mem.epochs = Arc::new(ring.keys.iter().map(|k| (k.id(), k.clone())).collect());
        mem.discovery = ring.discovery;
        mem.ring = Arc::new(ring);
    }
    if mem.notice.as_ref().is_some_and(|op| log.contains(&op.hash)) {
        mem.notice = None;
        t.meta.remove("notice")?;
    }
    let touched = touched(mem, &before, &membership);
    mem.membership = Arc::new(membership);
    mem.control = Arc::new(log);
    judge_again(t, mem, &touched)
}

/// Authors whose held batches may count for something else now.
fn touched(mem: &Mem, before: &Membership, after: &Membership) -> Vec<DeviceId> {
    let authors: BTreeSet<DeviceId> = mem.feeds.devices().copied().collect();
    let own = before.adopted_by(&mem.device) == after.adopted_by(&mem.device);
    // A rule may also come to life or fall by what is said of who said it.
    if before.policies != after.policies || !own || !after.lineages.starts_with(&before.lineages) {
        return authors.into_iter().collect();
    }
    let gone = before.accepted.iter().filter(|a| !after.accepted.contains(a)).map(|a| a.tip.feed);
    let gone: BTreeSet<_> = gone.collect();
    let accepted = |d: &DeviceId| mem.feeds.of_device(d).any(|(_, f)| gone.contains(&f.id));
    let adopted = |d: &DeviceId| before.adopted_by(d) != after.adopted_by(d);
    authors.into_iter().filter(|d| before.rights.get(d) != after.rights.get(d) || adopted(d) || accepted(d)).collect()
}

/// Before a batch is sealed: a read key that nobody who should not read knows.
pub(crate) fn ensure_epoch(t: &mut Tables<'_>, mem: &mut Mem, ctx: &mut Ctx<'_>) -> Result<(), StoreError> {
    let writes = mem.membership.role(&mem.device).is_some_and(Role::writes_observations);
    if mem.epoch_key().is_some() || !writes {
        return Ok(());
    }
    rotate(t, mem, ctx)
}

/// Mints a read key for everyone who belongs.
pub(crate) fn rotate(t: &mut Tables<'_>, mem: &mut Mem, ctx: &mut Ctx<'_>) -> Result<(), StoreError> {
    let seed = ctx.entropy.bytes();
    let minted = mint(&mem.project, &mem.ring, &mem.readers(), seed);
    let (_, epoch) = minted.ok_or_else(|| StoreError::OwnBatch("read key".into()))?;
    say(t, mem, ctx, OpBody::Epoch(epoch))?;
    Ok(())
}

/// Read keys here that the log does not show a member to have; none for one nothing can be boxed to.
fn lacking(mem: &Mem, member: &Member) -> Vec<EpochKey> {
    let lacks: Vec<EpochKey> = mem.ring.keys.iter().filter(|k| !mem.membership.knows(&member.device, &k.id())).cloned().collect();
    if lacks.is_empty() || !is_usable_key(&member.agreement_key) { Vec::new() } else { lacks }
}

/// Gives every member the read keys that the log does not show it to have.
pub(crate) fn convey_missing(t: &mut Tables<'_>, mem: &mut Mem, ctx: &mut Ctx<'_>) -> Result<usize, StoreError> {
    if mem.membership.role(&mem.device).is_none() {
        return Ok(0);
    }
    let others: Vec<Member> = mem.membership.members.values().filter(|m| m.device != mem.device).cloned().collect();
    let mut count = 0;
    for member in others {
        count += convey(t, mem, ctx, &member, &lacking(mem, &member))?;
    }
    Ok(count)
}

fn convey(t: &mut Tables<'_>, mem: &mut Mem, ctx: &mut Ctx<'_>, member: &Member, keys: &[EpochKey]) -> Result<usize, StoreError> {
    let mut count = 0;
    for keys in keys.chunks(limits::CHAIN_KEYS) {
        let ring = Keyring { discovery: mem.discovery, keys: keys.to_vec() };
        let seed = ctx.entropy.bytes();
        if let Some(convey) = seal_conveyed(&mem.project, &ring, &member.device, &member.agreement_key, seed) {
            say(t, mem, ctx, OpBody::Convey(convey))?;
            count += 1;
        }
    }
    Ok(count)
}

impl Store {
    /// Adds control operations (already decoded, so signed and of this project) and judges again what hangs on them. The
    /// open batch is cut first: it was written under the old rights.
    pub fn add_control(&mut self, ops: &[ControlOp]) -> Result<AddedControl, StoreError> {
        let log = &self.mem.control;
        let fresh: Vec<ControlOp> = ops.iter().filter(|op| !log.contains(&op.hash)).cloned().collect();
        if fresh.is_empty() {
            return Ok(AddedControl::default());
        }
        let added = self.write(|t, mem, ctx| {
            crate::local::cut(t, mem, ctx, 0)?;
            put_ops(t, mem, ctx, fresh)
        })?;
        self.reload_configuration()?;
        Ok(added)
    }

    /// Before a sync: cuts the open batch, and gives members the read keys they lack. Tells whether anything changed.
    pub fn prepare(&mut self, now_ms: i64) -> Result<bool, StoreError> {
        let m = &self.mem.membership;
        let belongs = m.role(&self.mem.device).is_some();
        let convey = belongs && m.members.values().any(|d| d.device != self.mem.device && !lacking(&self.mem, d).is_empty());
        let open = self.open_changes() > 0;
        if !open && !convey {
            return Ok(false);
        }
        let conveyed = self.write(|t, mem, ctx| {
            crate::local::cut(t, mem, ctx, now_ms)?;
            convey_missing(t, mem, ctx)
        })?;
        Ok(open || conveyed > 0)
    }

    /// Keys of read periods that this device should know by the log and does not: somebody boxed it rubbish.
    pub fn keys_missing(&self) -> Vec<EpochId> {
        self.mem.membership.epochs.iter().filter(|e| e.holds && !self.mem.epochs.contains_key(&e.id)).map(|e| e.id).collect()
    }

    /// A member asks for read keys by their ids: it is given those that are here.
    pub fn hand_keys(&mut self, peer: &DeviceId, wanted: &[EpochId]) -> Result<bool, StoreError> {
        let Some(member) = self.mem.membership.members.get(peer).cloned() else { return Ok(false) };
        let keys: Vec<EpochKey> = wanted.iter().take(limits::CHAIN_KEYS).filter_map(|id| self.mem.epochs.get(id).cloned()).collect();
        if keys.is_empty() || self.mem.membership.role(&self.mem.device).is_none() {
            return Ok(false);
        }
        self.write(|t, mem, ctx| Ok(convey(t, mem, ctx, &member, &keys)? > 0))
    }

    /// A device that is not known here shows by what it belongs. Kept only if it then does, and only what that takes.
    pub fn introduced(&mut self, peer: &DeviceId, ops: &[ControlOp]) -> Result<usize, StoreError> {
        let mut log = (*self.mem.control).clone();
        log.admit_all(ops.iter().cloned());
        let m = evaluate(&log);
        if !m.members.contains_key(peer) {
            return Ok(0);
        }
        let grants: Vec<ControlHash> = m.rights.get(peer).into_iter().flatten().map(|r| r.grant).collect();
        let needed: Vec<ControlOp> = log.ops().filter(|op| log.sees(&grants, &op.hash)).cloned().collect();
        let new = self.add_control(&needed)?.new;
        if new > 0 {
            self.build_on_joins()?;
        }
        Ok(new)
    }

    /// A coordinator that met a newcomer says something that builds on its join: whoever else used the same ticket comes too
    /// late, whatever its hash.
    pub(crate) fn build_on_joins(&mut self) -> Result<(), StoreError> {
        let lineage = self.lineage()?;
        if self.mem.membership.role(&self.mem.device) == Some(Role::Coordinator) {
            self.write(|t, mem, ctx| say(t, mem, ctx, OpBody::Adopt(lineage)))?;
        }
        Ok(())
    }

    /// Enters once more, by another bearer ticket: the one before did not count. Gives what was written here a right.
    pub fn rejoin(&mut self, ticket: &cairn_trust::Ticket, name: &str) -> Result<(), StoreError> {
        let join = ControlOp::join(
            &self.keys,
            &self.mem.project,
            ticket.invite,
            name,
            &ticket.invitation_keys(),
            ticket.epochs.last().map(EpochKey::id),
        );
        let (mut ops, keys) = (ticket.ops.clone(), ticket.epochs.clone());
        ops.push(join);
        self.write(|t, mem, ctx| {
            crate::local::cut(t, mem, ctx, 0)?;
            crate::mail::learn(t, mem, ctx, keys)?;
            put_ops(t, mem, ctx, ops)
        })?;
        self.note_refused(false)
    }

    /// `true` if the control log as it is here lets the device in.
    pub fn is_member(&self, device: &DeviceId) -> bool {
        self.mem.membership.role(device).is_some()
    }

    /// The signed operation that removed a device, if one did and it has not been let in again.
    pub fn removal_of(&self, device: &DeviceId) -> Option<ControlOp> {
        let former = self.mem.membership.former.get(device)?;
        self.mem.control.find(&former.removal).cloned()
    }

    /// Operations by which another device can see that this one belongs: its grants and all they build on.
    pub fn introduction(&self) -> Vec<ControlOp> {
        let log = &self.mem.control;
        let grants: Vec<ControlHash> = self.mem.membership.rights.get(&self.mem.device).into_iter().flatten().map(|r| r.grant).collect();
        log.ops().filter(|op| log.sees(&grants, &op.hash)).cloned().collect()
    }

    /// Keeps a removal that another device told of, if it names this device and somebody who could have issued it signed it.
    pub fn take_notice(&mut self, bytes: &[u8]) -> Result<bool, StoreError> {
        let Ok(op) = ControlOp::decode(&self.mem.project, bytes) else { return Ok(false) };
        let names = matches!(&op.body, OpBody::Remove(r) if r.device == self.mem.device);
        let m = &self.mem.membership;
        let governed = self.is_senior(&op.issuer, &self.mem.device);
        let recovery = m.genesis.as_ref().is_some_and(|g| g.recovery_key == op.issuer.0);
        if !names || !(governed || recovery) || self.mem.control.contains(&op.hash) {
            return Ok(names && (governed || recovery));
        }
        self.write(|t, mem, _| {
            t.meta.insert("notice", &op.bytes[..])?;
            mem.notice = Some(Arc::new(op));
            Ok(())
        })?;
        Ok(true)
    }

    /// An error if this device knows that it was removed.
    pub fn still_in(&self) -> Result<(), StoreError> {
        let m = &self.mem.membership;
        let notice = self.mem.notice.as_ref().map(|op| (**op).clone());
        let Some(op) = notice.or_else(|| self.removal_of(&self.mem.device)) else { return Ok(()) };
        let mode = match &op.body {
            OpBody::Remove(r) => r.mode.word(),
            _ => "removed",
        };
        let recovery = m.genesis.as_ref().is_some_and(|g| g.recovery_key == op.issuer.0);
        let by = if recovery { "the recovery words".to_owned() } else { self.device_name(&op.issuer) };
        Err(StoreError::Removed { by, mode })
    }

    /// Display name of a device; the beginning of its id for strangers.
    pub fn device_name(&self, device: &DeviceId) -> String {
        let m = &self.mem.membership;
        let member = m.members.get(device).map(|m| &m.name);
        let former = m.former.get(device).map(|f| &f.name);
        let pending = m.pending.iter().find(|p| p.device == *device).map(|p| &p.name);
        member.or(former).or(pending).cloned().unwrap_or_else(|| device.to_string()[..8].to_owned())
    }

    /// The configuration this device works with.
    pub fn lineage(&self) -> Result<DocId, StoreError> {
        self.mem.configuration_lineage().ok_or(StoreError::Damaged("genesis"))
    }

    /// The configuration another device works with, by the control log.
    pub fn lineage_of(&self, device: &DeviceId) -> Result<DocId, StoreError> {
        let m = &self.mem.membership;
        m.lineages.get(m.adopted_by(device)).map(|(_, doc)| *doc).ok_or(StoreError::Damaged("genesis"))
    }

    /// Keys of dials that may see this device's key: the project's, and those of invitations that are open or were used.
    pub fn knock_keys(&self) -> Vec<[u8; 32]> {
        // Revoked ones too: who was let in before is answered, others are told that it has ended.
        let open = self.mem.membership.invitations.iter().rev().filter(|i| i.invite.mode != InviteMode::Bearer);
        let invited = open.take(KNOCKS).map(|i| invitation_knock_key(&i.invite.key));
        std::iter::once(self.mem.discovery).chain(invited).collect()
    }

    /// A device shows the join by which it enters, or asks to. `peer` is the device at the other end of the channel.
    pub fn enter(&mut self, peer: &DeviceId, bytes: &[u8], now_ms: i64) -> Result<Entrance, StoreError> {
        let Ok(op) = ControlOp::decode(&self.mem.project, bytes) else { return Ok(Entrance::Ended) };
        let OpBody::Join(join) = &op.body else { return Ok(Entrance::Ended) };
        let invitation = self.mem.membership.invitations.iter().find(|i| i.op == join.invite).cloned();
        let Some(invitation) = invitation.filter(|_| op.issuer == *peer) else { return Ok(Entrance::Ended) };
        if self.is_member(peer) {
            return self.welcome(now_ms);
        }
        let here = self.mem.control.contains(&op.hash);
        let asked = self.mem.control.ops().filter(|o| matches!(&o.body, OpBody::Join(j) if j.invite == invitation.op)).count();
        let room = match invitation.invite.mode {
            InviteMode::Approve => asked < (invitation.invite.uses as usize).saturating_mul(REQUESTS),
            _ => invitation.is_open(),
        };
        if invitation.revoked || (!here && !room) {
            return Ok(Entrance::Ended);
        }
        self.add_control(std::slice::from_ref(&op))?;
        if self.is_member(peer) {
            self.build_on_joins()?;
            return self.welcome(now_ms);
        }
        let m = &self.mem.membership;
        let waits = m.pending.iter().any(|p| p.device == *peer && !p.refused) && !m.former.contains_key(peer);
        Ok(if waits { Entrance::Pending } else { Entrance::Ended })
    }

    fn welcome(&mut self, now_ms: i64) -> Result<Entrance, StoreError> {
        self.prepare(now_ms)?;
        Ok(Entrance::Welcome(self.mem.control.ops().map(|op| op.bytes.clone()).collect()))
    }
}
