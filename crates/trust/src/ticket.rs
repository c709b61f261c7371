//! Tickets: an invitation as one line of text.

use crate::{ControlHash, ControlOp, DeviceKeys, EpochKey, InviteMode, Role, SecretSeed, cbor};
use cairn_model::{DeviceId, ProjectId};
use data_encoding::BASE32_NOPAD;
use minicbor::bytes::{ByteArray, ByteVec};
use minicbor::{Decode, Encode};

/// Everything a newcomer needs to enter.
#[derive(Clone, Debug, PartialEq)]
pub struct Ticket {
    /// The project.
    pub project: ProjectId,
    /// The invitation's operation.
    pub invite: ControlHash,
    /// What the invitation gives.
    pub mode: InviteMode,
    /// Seed of the invitation's key.
    pub secret: SecretSeed,
    /// Only of a bearer ticket: control operations from genesis to the invitation, which is the last.
    pub ops: Vec<ControlOp>,
    /// Only of a bearer ticket: read keys.
    pub epochs: Vec<EpochKey>,
    /// Only of a bearer ticket: the project's discovery key.
    pub discovery: [u8; 32],
    /// `HOST:PORT` hints.
    pub addresses: Vec<String>,
    /// The device that shows the ticket; of others, nothing but a member's key is asked for.
    pub host: Option<DeviceId>,
    /// What the newcomer is told before it acts; not evidence.
    pub tells: Tells,
}

/// What a ticket tells people.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tells {
    /// The project's name.
    pub project: String,
    /// The role it offers.
    pub role: Option<Role>,
    /// Observations at the time it was made.
    pub observations: u64,
}

/// Why a text is no ticket.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// Not a ticket at all.
    #[error("this is not a cairn ticket: it starts with `cairn1`")]
    NotATicket,
    /// Letters are missing or wrong.
    #[error("the ticket is damaged: copy it again, whole")]
    Damaged,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct TicketCbor {
    #[n(1)]
    project: ByteArray<32>,
    #[n(2)]
    ops: Option<Vec<ByteVec>>,
    #[n(3)]
    secret: ByteArray<32>,
    #[n(4)]
    epochs: Option<Vec<ByteArray<32>>>,
    #[n(5)]
    discovery: Option<ByteArray<32>>,
    #[n(6)]
    addresses: Vec<String>,
    #[n(7)]
    mode: Option<u8>,
    #[n(8)]
    invite: Option<ControlHash>,
    #[n(9)]
    host: Option<ByteArray<32>>,
    #[n(10)]
    name: Option<String>,
    #[n(11)]
    role: Option<u8>,
    #[n(12)]
    observations: Option<u64>,
}

const PREFIX: &str = "cairn1";
const CHECK_BYTES: usize = 4;
const TEXT_LIMIT: usize = 16 << 10;

impl Ticket {
    /// The invitation's key pair.
    pub fn invitation_keys(&self) -> DeviceKeys {
        DeviceKeys::from_seed(self.secret)
    }

    /// `cairn1` and base32, lower case, with a checksum.
    pub fn encode(&self) -> String {
        let bearer = self.mode == InviteMode::Bearer;
        let mut bytes = cbor::encode(&TicketCbor {
            project: self.project.0.into(),
            ops: bearer.then(|| self.ops.iter().map(|op| op.bytes.clone().into()).collect()),
            secret: self.secret.into(),
            epochs: bearer.then(|| self.epochs.iter().map(|e| e.0.into()).collect()),
            discovery: bearer.then(|| self.discovery.into()),
            addresses: self.addresses.clone(),
            mode: (!bearer).then_some(self.mode as u8),
            invite: (!bearer).then_some(self.invite),
            host: self.host.map(|d| d.0.into()),
            name: Some(self.tells.project.clone()).filter(|n| !n.is_empty()),
            role: self.tells.role.map(Role::number),
            observations: Some(self.tells.observations).filter(|n| *n > 0),
        });
        let check = *blake3::hash(&bytes).as_bytes();
        bytes.extend(&check[..CHECK_BYTES]);
        format!("{PREFIX}{}", BASE32_NOPAD.encode(&bytes).to_lowercase())
    }

    /// Reads a ticket; white space inside (line breaks of an e-mail) does no harm.
    pub fn decode(text: &str) -> Result<Self, TicketError> {
        let compact: String = text.chars().filter(|c| !c.is_whitespace()).take(TEXT_LIMIT + 1).collect::<String>().to_lowercase();
        let body = compact.strip_prefix(PREFIX).ok_or(TicketError::NotATicket)?;
        let damaged = TicketError::Damaged;
        let bytes = BASE32_NOPAD.decode(body.to_uppercase().as_bytes()).map_err(|_| damaged.clone())?;
        let (bytes, check) = bytes.split_last_chunk::<CHECK_BYTES>().ok_or(damaged.clone())?;
        if blake3::hash(bytes).as_bytes()[..CHECK_BYTES] != check[..] {
            return Err(damaged);
        }
        let t: TicketCbor = minicbor::decode(bytes).map_err(|_| damaged.clone())?;
        Self::read(t).ok_or(damaged)
    }

    fn read(t: TicketCbor) -> Option<Self> {
        let project = ProjectId(*t.project);
        let ops: Result<Vec<_>, _> = t.ops.unwrap_or_default().iter().map(|op| ControlOp::decode(&project, op)).collect();
        let ops = ops.ok()?;
        let mode = match t.mode.unwrap_or(0) {
            0 => InviteMode::Bearer,
            1 => InviteMode::Approve,
            2 => InviteMode::Meet,
            _ => return None,
        };
        let invite = if mode == InviteMode::Bearer { ops.last()?.hash } else { t.invite? };
        if mode == InviteMode::Bearer && t.discovery.is_none() {
            return None;
        }
        Some(Self {
            project,
            invite,
            mode,
            secret: *t.secret,
            ops,
            epochs: t.epochs.unwrap_or_default().iter().map(|e| EpochKey(**e)).collect(),
            discovery: t.discovery.map_or([0; 32], |d| *d),
            addresses: t.addresses,
            host: t.host.map(|d| DeviceId(*d)),
            tells: Tells {
                project: t.name.unwrap_or_default(),
                role: t.role.and_then(Role::from_number),
                observations: t.observations.unwrap_or(0),
            },
        })
    }
}
