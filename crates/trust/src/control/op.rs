//! Control operations: what can be said, how it is signed and read.

use super::Role;
use crate::derive::derive;
use crate::frontier::Tip;
use crate::{DeviceKeys, EpochId, RecoveryWords, Signature, cbor, limits, verify};
use cairn_model::{DeviceId, DocId, ProjectId};
use minicbor::bytes::{ByteArray, ByteVec};
use minicbor::{Decode, Encode};

/// Names a control operation: hash of the bytes that were signed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct ControlHash(pub [u8; 32]);

impl std::fmt::Debug for ControlHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ControlHash({})", &cairn_model::hex(&self.0)[..8])
    }
}

impl ControlHash {
    /// The project whose genesis this is.
    pub fn project(&self) -> ProjectId {
        ProjectId(self.0)
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
    /// The first epoch; absent in projects made before epochs changed.
    pub epoch: Option<EpochId>,
}

/// What the holder of an invitation's secret gets by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InviteMode {
    /// The ticket carries the read keys too: works with nobody reachable. Revoking it changes the read key.
    Bearer,
    /// Only the right to ask: a coordinator approves.
    Approve,
    /// Enters at once, but gets the read keys from a member that is met (QR, short code).
    Meet,
}

impl InviteMode {
    const ALL: [InviteMode; 3] = [InviteMode::Bearer, InviteMode::Approve, InviteMode::Meet];
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
    /// What the secret gives.
    pub mode: InviteMode,
}

/// A device enters, or asks to, by an invitation.
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
    /// The newest epoch whose key the ticket brought.
    pub epoch: Option<EpochId>,
}

/// A coordinator lets a device in.
#[derive(Clone, Debug, PartialEq)]
pub struct Add {
    /// Who.
    pub device: DeviceId,
    /// Display name.
    pub name: String,
    /// Key for epoch boxes.
    pub agreement_key: [u8; 32],
    /// Its role.
    pub role: Role,
}

/// A coordinator gives a device another role.
#[derive(Clone, Debug, PartialEq)]
pub struct SetRole {
    /// Who.
    pub device: DeviceId,
    /// The new role.
    pub role: Role,
    /// What the issuer held of its feeds: counts where the new role may write less.
    pub cuts: Vec<Tip>,
}

/// Why a device is out. Decides how cuts of concurrent removals combine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RemoveMode {
    /// It left, or is no longer needed: the highest cut holds.
    Left,
    /// It was lost: the highest cut holds.
    Lost,
    /// Someone else may have written with it: the lowest cut holds.
    Compromised,
    /// It asked to join and is refused.
    Refused,
}

impl RemoveMode {
    const ALL: [RemoveMode; 4] = [RemoveMode::Left, RemoveMode::Lost, RemoveMode::Compromised, RemoveMode::Refused];

    /// The word for people and JSON.
    pub fn word(self) -> &'static str {
        match self {
            RemoveMode::Left => "left",
            RemoveMode::Lost => "lost",
            RemoveMode::Compromised => "compromised",
            RemoveMode::Refused => "refused",
        }
    }
}

/// A device is out; by itself or by a coordinator that is senior to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Remove {
    /// Who.
    pub device: DeviceId,
    /// Why.
    pub mode: RemoveMode,
    /// The last batch of each of its feeds that counts; a feed not named counts for nothing.
    pub cuts: Vec<Tip>,
}

/// Project-wide rules; absent ones stay as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Members may edit each other's observations.
    pub members_edit_others: Option<bool>,
    /// Anyone with the configuration file may join.
    pub open: Option<bool>,
}

/// A new read key, boxed to every reader.
#[derive(Clone, Debug, PartialEq)]
pub struct EpochOp {
    /// Commits to the key.
    pub id: EpochId,
    /// First 8 bytes of each reader's device id; box `n` is reader `n`'s.
    pub readers: Vec<[u8; 8]>,
    /// [`crate::BOX_BYTES`] for each reader, then random ones up to a power of two.
    pub boxes: Vec<u8>,
    /// Epochs whose keys `chain` holds.
    pub chain_ids: Vec<EpochId>,
    /// Discovery key and the keys of `chain_ids`, sealed under the new key.
    pub chain: Vec<u8>,
}

/// Read keys for one device that lacks them.
#[derive(Clone, Debug, PartialEq)]
pub struct Convey {
    /// For whom.
    pub device: DeviceId,
    /// Epochs whose keys are in the box, in order.
    pub epochs: Vec<EpochId>,
    /// HPKE box of the discovery key and the epoch keys.
    pub sealed: Vec<u8>,
}

/// What an operation says.
#[derive(Clone, Debug, PartialEq)]
pub enum OpBody {
    /// The first.
    Genesis(Genesis),
    /// A right to join.
    Invite(Invite),
    /// A device enters or asks to.
    Join(Join),
    /// An invitation ends.
    Revoke(ControlHash),
    /// A coordinator lets a device in.
    Add(Add),
    /// Another role.
    SetRole(SetRole),
    /// Out.
    Remove(Remove),
    /// Set-apart batches count after all: this one and all before it in its feed.
    Accept(Tip),
    /// Rules.
    Policy(Policy),
    /// A new read key.
    Epoch(EpochOp),
    /// Read keys for one device.
    Convey(Convey),
    /// From here on another configuration.
    Lineage(DocId),
    /// The issuer works with this configuration now.
    Adopt(DocId),
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
    /// Lowest Lamport number it claims, where its parents do not say enough.
    pub number: u64,
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

#[derive(Encode, Decode, Default)]
#[cbor(map)]
struct Inner {
    #[n(1)]
    kind: u32,
    #[n(2)]
    project: Option<ByteArray<32>>,
    #[n(3)]
    issuer: Option<ByteArray<32>>,
    #[n(4)]
    parents: Vec<ControlHash>,
    #[n(5)]
    name: Option<String>,
    #[n(6)]
    agreement_key: Option<ByteArray<32>>,
    #[n(7)]
    number: Option<u64>,
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
    #[n(23)]
    mode: Option<u8>,
    #[n(30)]
    invite: Option<ControlHash>,
    #[n(31)]
    proof: Option<ByteArray<64>>,
    #[n(40)]
    device: Option<ByteArray<32>>,
    #[n(41)]
    tips: Option<Vec<Tip>>,
    #[n(50)]
    epoch: Option<ByteArray<16>>,
    #[n(51)]
    epochs: Option<Vec<ByteArray<16>>>,
    #[n(52)]
    readers: Option<Vec<ByteArray<8>>>,
    #[n(53)]
    boxes: Option<ByteVec>,
    #[n(54)]
    sealed: Option<ByteVec>,
}

const NAME_BYTES: usize = 256;

fn op_hash(inner: &[u8]) -> ControlHash {
    ControlHash(derive("cairn control v1", &[inner]))
}

/// What an invitation's key signs for a device that joins.
fn join_hash(invite: &ControlHash, device: &DeviceId, agreement_key: &[u8; 32]) -> [u8; 32] {
    derive("cairn join v1", &[&invite.0, &device.0, agreement_key])
}

impl Join {
    /// `true` if the holder of the invitation's secret signed for `device`.
    pub(crate) fn proved(&self, invite: &Invite, device: &DeviceId) -> bool {
        verify(&invite.key, &join_hash(&self.invite, device, &self.agreement_key), &self.proof)
    }
}

/// Who signs an operation: a device, or the recovery words.
#[derive(Clone, Copy)]
pub enum Issuer<'a> {
    /// A device.
    Device(&'a DeviceKeys),
    /// The words, which outrank all.
    Recovery(&'a RecoveryWords),
}

impl Issuer<'_> {
    fn id(&self) -> DeviceId {
        match self {
            Issuer::Device(keys) => keys.device(),
            Issuer::Recovery(words) => DeviceId(words.public_key()),
        }
    }

    fn sign(&self, hash: &[u8; 32]) -> Signature {
        match self {
            Issuer::Device(keys) => keys.sign(hash),
            Issuer::Recovery(words) => words.sign(hash),
        }
    }
}

impl ControlOp {
    /// The project's first operation; the hash of what it returns is the project.
    pub fn genesis(keys: &DeviceKeys, genesis: &Genesis) -> Self {
        Self::sign(Issuer::Device(keys), None, Vec::new(), 0, OpBody::Genesis(genesis.clone()))
    }

    /// An operation on top of `parents`. `number` is the issuer's next Lamport number where the parents alone say less.
    pub fn issue(issuer: Issuer<'_>, project: &ProjectId, parents: Vec<ControlHash>, number: u64, body: OpBody) -> Self {
        Self::sign(issuer, Some(project), parents, number, body)
    }

    /// This device enters; `secret` is the invitation's, `epoch` the newest whose key came with it.
    pub fn join(
        keys: &DeviceKeys,
        project: &ProjectId,
        invite: ControlHash,
        name: &str,
        secret: &DeviceKeys,
        epoch: Option<EpochId>,
    ) -> Self {
        let agreement_key = keys.agreement_key();
        let proof = secret.sign(&join_hash(&invite, &keys.device(), &agreement_key));
        let body = OpBody::Join(Join { invite, name: name.to_owned(), agreement_key, proof, epoch });
        Self::sign(Issuer::Device(keys), Some(project), vec![invite], 0, body)
    }

    fn sign(issuer: Issuer<'_>, project: Option<&ProjectId>, parents: Vec<ControlHash>, number: u64, body: OpBody) -> Self {
        let id = issuer.id();
        let inner = cbor::encode(&Inner {
            project: project.map(|p| p.0.into()),
            issuer: Some(id.0.into()),
            parents: parents.clone(),
            number: (number > 0).then_some(number),
            ..Inner::of(&body)
        });
        let hash = op_hash(&inner);
        let bytes = cbor::encode(&cbor::Signed { inner: inner.into(), signature: issuer.sign(&hash.0).into() });
        Self { hash, issuer: id, parents, number, body, bytes }
    }

    /// Reads an operation and checks its signature and project.
    pub fn decode(project: &ProjectId, bytes: &[u8]) -> Result<Self, ControlError> {
        Self::read(project, bytes, true)
    }

    /// Reads an operation that was checked when it was taken in.
    pub fn decode_trusted(project: &ProjectId, bytes: &[u8]) -> Result<Self, ControlError> {
        Self::read(project, bytes, false)
    }

    fn read(project: &ProjectId, bytes: &[u8], check: bool) -> Result<Self, ControlError> {
        if check && bytes.len() > limits::CONTROL_OP_BYTES {
            return Err(ControlError::Malformed("too large"));
        }
        let outer: cbor::Signed = minicbor::decode(bytes).map_err(|_| ControlError::Malformed("cbor"))?;
        let inner: Inner = minicbor::decode(&outer.inner).map_err(|_| ControlError::Malformed("cbor"))?;
        let hash = op_hash(&outer.inner);
        let issuer = *inner.issuer.ok_or(ControlError::Malformed("issuer"))?;
        if check && !verify(&issuer, &hash.0, &outer.signature) {
            return Err(ControlError::Signature);
        }
        let ours = if inner.kind == GENESIS { hash.0 == project.0 } else { inner.project.is_some_and(|p| *p == project.0) };
        if !ours {
            return Err(ControlError::Project);
        }
        if inner.parents.len() > limits::CONTROL_HEADS || inner.parents.is_empty() != (inner.kind == GENESIS) {
            return Err(ControlError::Malformed("parents"));
        }
        let body = inner.body().ok_or(ControlError::Malformed("missing or oversized part"))?;
        let number = inner.number.unwrap_or(0);
        Ok(Self { hash, issuer: DeviceId(issuer), parents: inner.parents, number, body, bytes: bytes.to_vec() })
    }
}

const GENESIS: u32 = 1;
const INVITE: u32 = 2;
const JOIN: u32 = 3;
const REVOKE: u32 = 4;
const ADD: u32 = 5;
const SET_ROLE: u32 = 6;
const REMOVE: u32 = 7;
const ACCEPT: u32 = 8;
const POLICY: u32 = 9;
const EPOCH: u32 = 10;
const CONVEY: u32 = 11;
const LINEAGE: u32 = 12;
const ADOPT: u32 = 13;

fn ids(list: &[EpochId]) -> Option<Vec<ByteArray<16>>> {
    Some(list.iter().map(|e| e.0.into()).collect())
}

impl Inner {
    fn of(body: &OpBody) -> Self {
        let empty = Self::default;
        match body {
            OpBody::Genesis(g) => Self {
                kind: GENESIS,
                name: Some(g.founder_name.clone()),
                project_name: Some(g.name.clone()),
                agreement_key: Some(g.agreement_key.into()),
                recovery_key: Some(g.recovery_key.into()),
                configuration: Some(g.configuration.0.into()),
                format_major: Some(g.format_major),
                members_edit_others: Some(g.members_edit_others),
                open: Some(g.open),
                random: Some(g.random.into()),
                epoch: g.epoch.map(|e| e.0.into()),
                ..empty()
            },
            OpBody::Invite(i) => Self {
                kind: INVITE,
                invite_key: Some(i.key.into()),
                role: Some(i.role.number()),
                uses: Some(i.uses),
                mode: (i.mode != InviteMode::Bearer).then_some(i.mode as u8),
                ..empty()
            },
            OpBody::Join(j) => Self {
                kind: JOIN,
                name: Some(j.name.clone()),
                agreement_key: Some(j.agreement_key.into()),
                invite: Some(j.invite),
                proof: Some(j.proof.into()),
                epoch: j.epoch.map(|e| e.0.into()),
                ..empty()
            },
            OpBody::Revoke(invite) => Self { kind: REVOKE, invite: Some(*invite), ..empty() },
            OpBody::Add(a) => Self {
                kind: ADD,
                device: Some(a.device.0.into()),
                name: Some(a.name.clone()),
                agreement_key: Some(a.agreement_key.into()),
                role: Some(a.role.number()),
                ..empty()
            },
            OpBody::SetRole(s) => {
                Self { kind: SET_ROLE, device: Some(s.device.0.into()), role: Some(s.role.number()), tips: Some(s.cuts.clone()), ..empty() }
            }
            OpBody::Remove(r) => {
                Self { kind: REMOVE, device: Some(r.device.0.into()), mode: Some(r.mode as u8), tips: Some(r.cuts.clone()), ..empty() }
            }
            OpBody::Accept(tip) => Self { kind: ACCEPT, tips: Some(vec![*tip]), ..empty() },
            OpBody::Policy(p) => Self { kind: POLICY, members_edit_others: p.members_edit_others, open: p.open, ..empty() },
            OpBody::Epoch(e) => Self {
                kind: EPOCH,
                epoch: Some(e.id.0.into()),
                readers: Some(e.readers.iter().map(|r| (*r).into()).collect()),
                boxes: Some(e.boxes.clone().into()),
                epochs: ids(&e.chain_ids),
                sealed: Some(e.chain.clone().into()),
                ..empty()
            },
            OpBody::Convey(c) => Self {
                kind: CONVEY,
                device: Some(c.device.0.into()),
                epochs: ids(&c.epochs),
                sealed: Some(c.sealed.clone().into()),
                ..empty()
            },
            OpBody::Lineage(doc) => Self { kind: LINEAGE, configuration: Some(doc.0.into()), ..empty() },
            OpBody::Adopt(doc) => Self { kind: ADOPT, configuration: Some(doc.0.into()), ..empty() },
            OpBody::Other(kind) => Self { kind: *kind, ..empty() },
        }
    }

    fn body(&self) -> Option<OpBody> {
        let short = |t: &Option<String>| t.clone().filter(|n| n.len() <= NAME_BYTES);
        let device = || self.device.map(|d| DeviceId(*d));
        let role = || Role::from_number(self.role?);
        let tips = || self.tips.clone().filter(|t| t.len() <= limits::CUT_TIPS);
        let few = |list: &&Vec<ByteArray<16>>| list.len() <= limits::CHAIN_KEYS;
        let epochs = || self.epochs.as_ref().filter(few).map(|list| list.iter().map(|e| EpochId(**e)).collect::<Vec<_>>());
        let sealed = || self.sealed.clone().map(Vec::<u8>::from);
        let mode = |n: Option<u8>| InviteMode::ALL.get(usize::from(n.unwrap_or(0))).copied();
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
                epoch: self.epoch.map(|e| EpochId(*e)),
            }),
            INVITE => OpBody::Invite(Invite { key: *self.invite_key?, role: role()?, uses: self.uses?, mode: mode(self.mode)? }),
            JOIN => OpBody::Join(Join {
                invite: self.invite?,
                name: short(&self.name)?,
                agreement_key: *self.agreement_key?,
                proof: *self.proof?,
                epoch: self.epoch.map(|e| EpochId(*e)),
            }),
            REVOKE => OpBody::Revoke(self.invite?),
            ADD => OpBody::Add(Add { device: device()?, name: short(&self.name)?, agreement_key: *self.agreement_key?, role: role()? }),
            SET_ROLE => OpBody::SetRole(SetRole { device: device()?, role: role()?, cuts: tips()? }),
            REMOVE => OpBody::Remove(Remove { device: device()?, mode: *RemoveMode::ALL.get(usize::from(self.mode?))?, cuts: tips()? }),
            ACCEPT => OpBody::Accept(*tips()?.first()?),
            POLICY => OpBody::Policy(Policy { members_edit_others: self.members_edit_others, open: self.open }),
            EPOCH => OpBody::Epoch(EpochOp {
                id: EpochId(*self.epoch?),
                readers: self.readers.as_ref()?.iter().map(|r| **r).collect(),
                boxes: self.boxes.clone().map(Vec::<u8>::from)?,
                chain_ids: epochs()?,
                chain: sealed()?,
            }),
            CONVEY => OpBody::Convey(Convey { device: device()?, epochs: epochs()?, sealed: sealed()? }),
            LINEAGE => OpBody::Lineage(DocId(*self.configuration?)),
            ADOPT => OpBody::Adopt(DocId(*self.configuration?)),
            other => OpBody::Other(other),
        })
    }
}
