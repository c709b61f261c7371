//! The control log: operations with complete ancestry, each admitted by a rule that looks at its ancestry alone, so that
//! every device admits the same ones whatever came first.

use super::{ControlHash, ControlOp, InviteMode, OpBody, Role};
use cairn_model::{DeviceId, ProjectId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How far past its parents an operation may claim its Lamport number to be: an invitation names only its issuer's grant as
/// parent, so that a ticket stays short, and its rank must not be older than it is.
const CLAIM: u64 = 1 << 20;

/// Why an operation is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Something it builds on is not here.
    #[error("an operation it builds on is not here")]
    Parents,
    /// Its issuer never had the right, as far as its own ancestry tells.
    #[error("its issuer never had the right")]
    NoRight,
    /// The proof of the invitation does not hold.
    #[error("it does not prove its invitation")]
    Proof,
}

/// What became of operations that came together.
#[derive(Clone, Debug, Default)]
pub struct Admitted {
    /// Newly admitted, parents first.
    pub new: Vec<ControlHash>,
    /// Not admitted here nor anywhere: their issuers never had the right, or a proof does not hold.
    pub refused: usize,
    /// What they build on is not here.
    pub waiting: Vec<ControlOp>,
}

/// Place of an operation in the log.
pub(crate) type Index = usize;

#[derive(Clone, Debug)]
struct Entry {
    op: ControlOp,
    lamport: u64,
    /// Bit `n` is set if operation `n` is an ancestor.
    ancestors: Vec<u64>,
}

/// All admitted operations, parents before children.
#[derive(Clone, Debug)]
pub struct Log {
    project: ProjectId,
    entries: Vec<Entry>,
    index: BTreeMap<ControlHash, Index>,
    heads: BTreeSet<ControlHash>,
    /// Operations that let a device in, of any role; and those that made it coordinator.
    grants: BTreeMap<DeviceId, Vec<Index>>,
    governs: BTreeMap<DeviceId, Vec<Index>>,
}

/// (Lamport number, hash): who was first is senior.
pub(crate) type Rank = (u64, ControlHash);

impl Log {
    /// Without operations.
    pub fn new(project: ProjectId) -> Self {
        let (index, heads, grants, governs) = Default::default();
        Self { project, entries: Vec::new(), index, heads, grants, governs }
    }

    /// Of operations that were admitted before: signatures and proofs are not looked at again.
    pub fn restore(project: ProjectId, ops: impl IntoIterator<Item = ControlOp>) -> Result<Self, Refusal> {
        let mut log = Self::new(project);
        for op in ops {
            log.take(op, true)?;
        }
        Ok(log)
    }

    /// The project.
    pub fn project(&self) -> ProjectId {
        self.project
    }

    /// `true` if an operation let the device in once, whether that counts or not.
    pub fn has_grant(&self, device: &DeviceId) -> bool {
        self.grants.contains_key(device)
    }

    /// Adds an operation. `false` if it was here.
    pub fn admit(&mut self, op: ControlOp) -> Result<bool, Refusal> {
        self.take(op, false)
    }

    /// Adds operations that come in any order. Each is looked at again only when a parent that it waited for was added.
    pub fn admit_all(&mut self, ops: impl IntoIterator<Item = ControlOp>) -> Admitted {
        let mut out = Admitted::default();
        let mut blocked: BTreeMap<ControlHash, Vec<ControlOp>> = BTreeMap::new();
        let mut queue: VecDeque<ControlOp> = ops.into_iter().collect();
        while let Some(op) = queue.pop_front() {
            if let Some(missing) = op.parents.iter().find(|p| !self.index.contains_key(p)).copied() {
                blocked.entry(missing).or_default().push(op);
                continue;
            }
            let hash = op.hash;
            match self.take(op, false) {
                Ok(true) => {
                    out.new.push(hash);
                    queue.extend(blocked.remove(&hash).into_iter().flatten());
                }
                Ok(false) => {}
                Err(_) => out.refused += 1,
            }
        }
        out.waiting = blocked.into_values().flatten().collect();
        out
    }

    fn take(&mut self, op: ControlOp, trusted: bool) -> Result<bool, Refusal> {
        if self.index.contains_key(&op.hash) {
            return Ok(false);
        }
        let parents: Option<Vec<Index>> = op.parents.iter().map(|p| self.index.get(p).copied()).collect();
        let parents = parents.ok_or(Refusal::Parents)?;
        let mut ancestors = vec![0; self.entries.len() / 64 + 1];
        let mut lamport = 1;
        for p in parents {
            let parent = &self.entries[p];
            for (mine, theirs) in ancestors.iter_mut().zip(&parent.ancestors) {
                *mine |= theirs;
            }
            ancestors[p / 64] |= 1 << (p % 64);
            lamport = lamport.max(parent.lamport + 1);
        }
        let lamport = lamport.max(op.number.min(lamport + CLAIM));
        let has = |n: Index| ancestors[n / 64] >> (n % 64) & 1 == 1;
        self.may(&op, &has, trusted)?;
        self.put(op, lamport, ancestors);
        Ok(true)
    }

    /// The rule of admission; `has` tells whether an operation is an ancestor.
    fn may(&self, op: &ControlOp, has: &dyn Fn(Index) -> bool, trusted: bool) -> Result<(), Refusal> {
        let any = |map: &BTreeMap<DeviceId, Vec<Index>>, device| map.get(device).is_some_and(|list| list.iter().any(|n| has(*n)));
        let recovery = || self.genesis().is_some_and(|g| g.recovery_key == op.issuer.0);
        let right = match &op.body {
            OpBody::Genesis(_) => op.hash.0 == self.project.0,
            OpBody::Join(join) => {
                let at = self.index.get(&join.invite).copied().filter(|n| has(*n)).ok_or(Refusal::NoRight)?;
                let OpBody::Invite(invite) = &self.entries[at].op.body else { return Err(Refusal::NoRight) };
                if !trusted && !join.proved(invite, &op.issuer) {
                    return Err(Refusal::Proof);
                }
                true
            }
            OpBody::Remove(remove) if remove.device == op.issuer => any(&self.grants, &op.issuer),
            OpBody::Epoch(_) | OpBody::Convey(_) | OpBody::Adopt(_) | OpBody::Other(_) => any(&self.grants, &op.issuer),
            OpBody::SetRole(set) => (any(&self.governs, &op.issuer) || recovery()) && any(&self.grants, &set.device),
            _ => any(&self.governs, &op.issuer) || recovery(),
        };
        if right { Ok(()) } else { Err(Refusal::NoRight) }
    }

    fn put(&mut self, op: ControlOp, lamport: u64, ancestors: Vec<u64>) {
        let n = self.entries.len();
        if let Some((device, role)) = self.grant_of(&op) {
            self.grants.entry(device).or_default().push(n);
            if role == Role::Coordinator {
                self.governs.entry(device).or_default().push(n);
            }
        }
        for parent in &op.parents {
            self.heads.remove(parent);
        }
        self.heads.insert(op.hash);
        self.index.insert(op.hash, n);
        self.entries.push(Entry { op, lamport, ancestors });
    }

    /// Device and role an operation gives, whether or not it counts in the end. A request for approval gives nothing.
    fn grant_of(&self, op: &ControlOp) -> Option<(DeviceId, Role)> {
        match &op.body {
            OpBody::Genesis(_) => Some((op.issuer, Role::Coordinator)),
            OpBody::Add(add) => Some((add.device, add.role)),
            OpBody::SetRole(set) => Some((set.device, set.role)),
            OpBody::Join(join) => match &self.find(&join.invite)?.body {
                OpBody::Invite(invite) if invite.mode != InviteMode::Approve => Some((op.issuer, invite.role)),
                _ => None,
            },
            _ => None,
        }
    }

    /// Number of operations.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// `true` before genesis.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Operations, parents before children.
    pub fn ops(&self) -> impl DoubleEndedIterator<Item = &ControlOp> + ExactSizeIterator {
        self.entries.iter().map(|e| &e.op)
    }

    /// Operations nothing else builds on, sorted.
    pub fn heads(&self) -> Vec<ControlHash> {
        self.heads.iter().copied().collect()
    }

    /// One operation.
    pub fn find(&self, hash: &ControlHash) -> Option<&ControlOp> {
        self.index.get(hash).map(|n| &self.entries[*n].op)
    }

    /// `true` if the operation is here.
    pub fn contains(&self, hash: &ControlHash) -> bool {
        self.index.contains_key(hash)
    }

    /// The project's first operation.
    pub fn genesis(&self) -> Option<&super::Genesis> {
        self.entries.first().and_then(|e| match &e.op.body {
            OpBody::Genesis(genesis) => Some(genesis),
            _ => None,
        })
    }

    /// The next Lamport number of who knows all of this.
    pub fn next_number(&self) -> u64 {
        self.heads.iter().map(|h| self.entries[self.index[h]].lamport).max().unwrap_or(0) + 1
    }

    /// `true` if `known` are all here and `op` is one of them or an ancestor of one.
    pub fn sees(&self, known: &[ControlHash], op: &ControlHash) -> bool {
        let Some(n) = self.index.get(op) else { return false };
        known.iter().filter_map(|h| self.index.get(h)).any(|h| h == n || self.is_ancestor(*n, *h))
    }

    /// `hash` and all it builds on, parents first.
    pub fn ancestry(&self, hash: &ControlHash) -> Vec<&ControlOp> {
        let Some(n) = self.index.get(hash) else { return Vec::new() };
        (0..=*n).filter(|a| a == n || self.is_ancestor(*a, *n)).map(|a| &self.entries[a].op).collect()
    }

    /// Orders operations by seniority: lower is senior.
    pub fn seniority(&self, hash: &ControlHash) -> Option<(u64, ControlHash)> {
        self.at(hash).map(|n| self.rank(n))
    }

    pub(crate) fn is_ancestor(&self, older: Index, younger: Index) -> bool {
        let row = &self.entries[younger].ancestors;
        row.get(older / 64).is_some_and(|word| word >> (older % 64) & 1 == 1)
    }

    pub(crate) fn op(&self, n: Index) -> &ControlOp {
        &self.entries[n].op
    }

    pub(crate) fn at(&self, hash: &ControlHash) -> Option<Index> {
        self.index.get(hash).copied()
    }

    pub(crate) fn rank(&self, n: Index) -> Rank {
        (self.entries[n].lamport, self.entries[n].op.hash)
    }
}
