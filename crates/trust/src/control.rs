//! The control log: signed operations that say who belongs and with which role. Evaluation is a pure function of
//! the set of operations; no clock, no order of arrival.

use crate::derive::derive;
use crate::{DeviceKeys, Signature, cbor, limits, verify};
use cairn_model::{DeviceId, DocId, ProjectId};
use minicbor::bytes::{ByteArray, ByteVec};
use minicbor::{Decode, Encode};
use std::collections::{BTreeMap, BTreeSet};

/// Names a control operation: hash of the bytes that were signed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct ControlHash(pub [u8; 32]);

impl std::fmt::Debug for ControlHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ControlHash({})", &cairn_model::hex(&self.0)[..8])
    }
}

/// What a device may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Invites and removes; writes configuration and observations.
    Coordinator,
    /// Writes observations.
    Member,
    /// Reads.
    Observer,
    /// Reads and keeps all history.
    Archive,
}

impl Role {
    /// The word on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Role::Coordinator => "coordinator",
            Role::Member => "member",
            Role::Observer => "observer",
            Role::Archive => "archive",
        }
    }

    /// The role behind a word.
    pub fn from_word(word: &str) -> Option<Self> {
        [Role::Coordinator, Role::Member, Role::Observer, Role::Archive].into_iter().find(|r| r.word() == word)
    }

    fn number(self) -> u8 {
        self as u8 + 1
    }

    fn from_number(n: u8) -> Option<Self> {
        [Role::Coordinator, Role::Member, Role::Observer, Role::Archive].into_iter().find(|r| r.number() == n)
    }

    /// May write observations.
    pub fn writes_observations(self) -> bool {
        matches!(self, Role::Coordinator | Role::Member)
    }

    /// May write the configuration.
    pub fn writes_configuration(self) -> bool {
        self == Role::Coordinator
    }
}

/// The first operation; its hash is the project.
#[derive(Clone, Debug, PartialEq)]
pub struct Genesis {
    /// Name people gave the project.
    pub name: String,
    /// The founder's display name.
    pub founder_name: String,
    /// Founder's key for epoch boxes.
    pub agreement_key: [u8; 32],
    /// Public half of the recovery words.
    pub recovery_key: [u8; 32],
    /// Configuration lineage: the id of the configuration document.
    pub configuration: DocId,
    /// Data format, major.
    pub format_major: u16,
    /// Members may edit each other's observations.
    pub members_edit_others: bool,
    /// Anyone with the configuration file may join.
    pub open: bool,
    /// 32 random bytes.
    pub random: [u8; 32],
}

/// A right to join, proved with the private half of `key`.
#[derive(Clone, Debug, PartialEq)]
pub struct Invite {
    /// Public key of the invitation's secret.
    pub key: [u8; 32],
    /// Role given.
    pub role: Role,
    /// How many devices may use it.
    pub uses: u32,
}

/// A device enters by an invitation.
#[derive(Clone, Debug, PartialEq)]
pub struct Join {
    /// The invitation.
    pub invite: ControlHash,
    /// Display name.
    pub name: String,
    /// Key for epoch boxes.
    pub agreement_key: [u8; 32],
    /// By the invitation's key, over invitation and device.
    pub proof: Signature,
}

/// What an operation says.
#[derive(Clone, Debug, PartialEq)]
pub enum OpBody {
    /// The first.
    Genesis(Genesis),
    /// A right to join.
    Invite(Invite),
    /// A device enters.
    Join(Join),
    /// An operation of a newer version: kept and forwarded.
    Other(u32),
}

/// A signed operation, with the bytes it was read from.
#[derive(Clone, Debug, PartialEq)]
pub struct ControlOp {
    /// Its name.
    pub hash: ControlHash,
    /// Who signed.
    pub issuer: DeviceId,
    /// Operations known to the issuer that it builds on.
    pub parents: Vec<ControlHash>,
    /// What it says.
    pub body: OpBody,
    /// The whole operation as carried.
    pub bytes: Vec<u8>,
}

/// Why bytes are no control operation of this project.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// Does not decode or is past a limit.
    #[error("malformed control operation: {0}")]
    Malformed(&'static str),
    /// Not signed by its issuer.
    #[error("the control operation is not signed by its issuer")]
    Signature,
    /// Of another project.
    #[error("the control operation belongs to another project")]
    Project,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Inner {
    #[n(1)]
    kind: u32,
    #[n(2)]
    project: Option<ByteArray<32>>,
    #[n(3)]
    issuer: ByteArray<32>,
    #[n(4)]
    parents: Vec<ControlHash>,
    #[n(5)]
    name: Option<String>,
    #[n(6)]
    agreement_key: Option<ByteArray<32>>,
    #[n(10)]
    recovery_key: Option<ByteArray<32>>,
    #[n(11)]
    configuration: Option<ByteArray<16>>,
    #[n(12)]
    format_major: Option<u16>,
    #[n(13)]
    members_edit_others: Option<bool>,
    #[n(14)]
    open: Option<bool>,
    #[n(15)]
    random: Option<ByteArray<32>>,
    #[n(16)]
    project_name: Option<String>,
    #[n(20)]
    invite_key: Option<ByteArray<32>>,
    #[n(21)]
    role: Option<u8>,
    #[n(22)]
    uses: Option<u32>,
    #[n(30)]
    invite: Option<ControlHash>,
    #[n(31)]
    proof: Option<ByteArray<64>>,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Outer {
    #[n(1)]
    inner: ByteVec,
    #[n(2)]
    signature: ByteArray<64>,
}

const GENESIS: u32 = 1;
const INVITE: u32 = 2;
const JOIN: u32 = 3;
const NAME_BYTES: usize = 256;

fn op_hash(inner: &[u8]) -> ControlHash {
    ControlHash(derive("cairn control v1", &[inner]))
}

/// What an invitation's key signs for a device that joins.
fn join_hash(invite: &ControlHash, device: &DeviceId, agreement_key: &[u8; 32]) -> [u8; 32] {
    derive("cairn join v1", &[&invite.0, &device.0, agreement_key])
}

impl ControlOp {
    /// The project's first operation; the hash of what it returns is the project.
    pub fn genesis(keys: &DeviceKeys, genesis: &Genesis) -> Self {
        let inner = Inner {
            name: Some(genesis.founder_name.clone()),
            project_name: Some(genesis.name.clone()),
            agreement_key: Some(genesis.agreement_key.into()),
            recovery_key: Some(genesis.recovery_key.into()),
            configuration: Some(genesis.configuration.0.into()),
            format_major: Some(genesis.format_major),
            members_edit_others: Some(genesis.members_edit_others),
            open: Some(genesis.open),
            random: Some(genesis.random.into()),
            ..Inner::new(GENESIS, keys.device())
        };
        Self::sign(keys, inner, OpBody::Genesis(genesis.clone()))
    }

    /// An invitation. `parents` is the operation the issuer's own right comes from, so that a ticket can carry all of it.
    pub fn invite(keys: &DeviceKeys, project: &ProjectId, parents: Vec<ControlHash>, invite: &Invite) -> Self {
        let inner = Inner {
            project: Some(project.0.into()),

            parents,
            invite_key: Some(invite.key.into()),
            role: Some(invite.role.number()),
            uses: Some(invite.uses),
            ..Inner::new(INVITE, keys.device())
        };
        Self::sign(keys, inner, OpBody::Invite(invite.clone()))
    }

    /// This device enters; `secret` is the invitation's.
    pub fn join(keys: &DeviceKeys, project: &ProjectId, invite: ControlHash, name: &str, secret: &DeviceKeys) -> Self {
        let agreement_key = keys.agreement_key();
        let join =
            Join { invite, name: name.to_owned(), agreement_key, proof: secret.sign(&join_hash(&invite, &keys.device(), &agreement_key)) };
        let inner = Inner {
            project: Some(project.0.into()),

            parents: vec![invite],
            name: Some(join.name.clone()),
            agreement_key: Some(agreement_key.into()),
            invite: Some(invite),
            proof: Some(join.proof.into()),
            ..Inner::new(JOIN, keys.device())
        };
        Self::sign(keys, inner, OpBody::Join(join))
    }

    fn sign(keys: &DeviceKeys, inner: Inner, body: OpBody) -> Self {
        let (issuer, parents) = (DeviceId(*inner.issuer), inner.parents.clone());
        let inner = cbor::encode(&inner);
        let hash = op_hash(&inner);
        let bytes = cbor::encode(&Outer { inner: inner.into(), signature: keys.sign(&hash.0).into() });
        Self { hash, issuer, parents, body, bytes }
    }

    /// Reads an operation and checks its signature and, except for genesis, its project.
    pub fn decode(project: &ProjectId, bytes: &[u8]) -> Result<Self, ControlError> {
        if bytes.len() > limits::CONTROL_OP_BYTES {
            return Err(ControlError::Malformed("too large"));
        }
        let outer: Outer = minicbor::decode(bytes).map_err(|_| ControlError::Malformed("cbor"))?;
        let inner: Inner = minicbor::decode(&outer.inner).map_err(|_| ControlError::Malformed("cbor"))?;
        let hash = op_hash(&outer.inner);
        if !verify(&inner.issuer, &hash.0, &outer.signature) {
            return Err(ControlError::Signature);
        }
        let ours = if inner.kind == GENESIS { hash.0 == project.0 } else { inner.project.is_some_and(|p| *p == project.0) };
        if !ours {
            return Err(ControlError::Project);
        }
        let body = inner.body().ok_or(ControlError::Malformed("missing or oversized part"))?;
        Ok(Self { hash, issuer: DeviceId(*inner.issuer), parents: inner.parents, body, bytes: bytes.to_vec() })
    }
}

impl Inner {
    fn new(kind: u32, issuer: DeviceId) -> Self {
        Self {
            kind,
            issuer: issuer.0.into(),
            project: None,
            parents: Vec::new(),
            name: None,
            agreement_key: None,
            recovery_key: None,
            configuration: None,
            format_major: None,
            members_edit_others: None,
            open: None,
            random: None,
            project_name: None,
            invite_key: None,
            role: None,
            uses: None,
            invite: None,
            proof: None,
        }
    }

    fn body(&self) -> Option<OpBody> {
        let short = |t: &Option<String>| t.clone().filter(|n| n.len() <= NAME_BYTES);
        Some(match self.kind {
            GENESIS => OpBody::Genesis(Genesis {
                name: short(&self.project_name)?,
                founder_name: short(&self.name)?,
                agreement_key: *self.agreement_key?,
                recovery_key: *self.recovery_key?,
                configuration: DocId(*self.configuration?),
                format_major: self.format_major?,
                members_edit_others: self.members_edit_others?,
                open: self.open?,
                random: *self.random?,
            }),
            INVITE => OpBody::Invite(Invite { key: *self.invite_key?, role: Role::from_number(self.role?)?, uses: self.uses? }),
            JOIN => OpBody::Join(Join {
                invite: self.invite?,
                name: short(&self.name)?,
                agreement_key: *self.agreement_key?,
                proof: *self.proof?,
            }),
            other => OpBody::Other(other),
        })
    }
}

impl ControlHash {
    /// The project whose genesis this is.
    pub fn project(&self) -> ProjectId {
        ProjectId(self.0)
    }
}

/// One device that belongs.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// The device.
    pub device: DeviceId,
    /// Display name.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// The operation its right comes from.
    pub grant: ControlHash,
}

/// Who belongs, evaluated from a set of operations.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Membership {
    /// Genesis, once it is there.
    pub genesis: Option<Genesis>,
    /// Devices that belong.
    pub members: BTreeMap<DeviceId, Member>,
    /// Operations nothing else builds on, sorted.
    pub heads: Vec<ControlHash>,
}

impl Membership {
    /// The role of a device that belongs.
    pub fn role(&self, device: &DeviceId) -> Option<Role> {
        self.members.get(device).map(|m| m.role)
    }
}

/// Evaluates a set of operations (in any order, repeats allowed). Operations whose ancestry is incomplete wait.
pub fn evaluate<'a>(project: &ProjectId, ops: impl IntoIterator<Item = &'a ControlOp>) -> Membership {
    let by_hash: BTreeMap<ControlHash, &ControlOp> = ops.into_iter().map(|op| (op.hash, op)).collect();
    let mut out = Membership::default();
    let parents: BTreeSet<ControlHash> = by_hash.values().flat_map(|op| op.parents.iter().copied()).collect();
    out.heads = by_hash.keys().filter(|h| !parents.contains(h)).copied().collect();
    let ranked = rank(&by_hash);
    let mut used: BTreeMap<ControlHash, u32> = BTreeMap::new();
    let mut live_invites: BTreeMap<ControlHash, &Invite> = BTreeMap::new();
    for (_, hash) in ranked {
        let op = by_hash[&hash];
        match &op.body {
            OpBody::Genesis(g) if hash.0 == project.0 => {
                out.genesis = Some(g.clone());
                out.members
                    .insert(op.issuer, Member { device: op.issuer, name: g.founder_name.clone(), role: Role::Coordinator, grant: hash });
            }
            OpBody::Invite(invite) => {
                let issuer = out.members.get(&op.issuer);
                if issuer.is_some_and(|m| m.role == Role::Coordinator && op.parents.contains(&m.grant)) {
                    live_invites.insert(hash, invite);
                }
            }
            OpBody::Join(join) => admit(&mut out, op, join, &live_invites, &mut used),
            _ => {}
        }
    }
    out
}

fn admit(
    out: &mut Membership,
    op: &ControlOp,
    join: &Join,
    invites: &BTreeMap<ControlHash, &Invite>,
    used: &mut BTreeMap<ControlHash, u32>,
) {
    let Some(invite) = invites.get(&join.invite).filter(|_| op.parents.contains(&join.invite)) else { return };
    if out.members.contains_key(&op.issuer) || !verify(&invite.key, &join_hash(&join.invite, &op.issuer, &join.agreement_key), &join.proof)
    {
        return;
    }
    let count = used.entry(join.invite).or_default();
    if *count < invite.uses {
        *count += 1;
        out.members.insert(op.issuer, Member { device: op.issuer, name: join.name.clone(), role: invite.role, grant: op.hash });
    }
}

/// (Lamport number, hash) of every operation with complete ancestry, lowest first.
fn rank(ops: &BTreeMap<ControlHash, &ControlOp>) -> Vec<(u64, ControlHash)> {
    let mut lamport: BTreeMap<ControlHash, u64> = BTreeMap::new();
    let mut waiting: Vec<&ControlOp> = ops.values().copied().collect();
    loop {
        let before = waiting.len();
        waiting.retain(|op| {
            let known: Option<Vec<u64>> = op.parents.iter().map(|p| lamport.get(p).copied()).collect();
            match known {
                Some(parents) => {
                    lamport.insert(op.hash, parents.into_iter().max().unwrap_or(0) + 1);
                    false
                }
                None => true,
            }
        });
        if waiting.len() == before {
            break;
        }
    }
    let mut ranked: Vec<(u64, ControlHash)> = lamport.into_iter().map(|(h, l)| (l, h)).collect();
    ranked.sort_unstable();
    ranked
}
