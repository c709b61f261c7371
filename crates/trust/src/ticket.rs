//! Tickets: everything a newcomer needs to read and write at once, as one line of text.

use crate::{ControlOp, DeviceKeys, EpochKey, SecretSeed, cbor};
use cairn_model::ProjectId;
use data_encoding::BASE32_NOPAD;
use minicbor::bytes::{ByteArray, ByteVec};
use minicbor::{Decode, Encode};

/// A bearer ticket: who holds it can read and write until the invitation is used up.
#[derive(Clone, Debug, PartialEq)]
pub struct Ticket {
    /// The project.
    pub project: ProjectId,
    /// Control operations from genesis to the invitation, which is the last.
    pub ops: Vec<ControlOp>,
    /// Seed of the invitation's key.
    pub secret: SecretSeed,
    /// Read keys.
    pub epochs: Vec<EpochKey>,
    /// The project's discovery key.
    pub discovery: [u8; 32],
    /// `HOST:PORT` hints.
    pub addresses: Vec<String>,
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
    ops: Vec<ByteVec>,
    #[n(3)]
    secret: ByteArray<32>,
    #[n(4)]
    epochs: Vec<ByteArray<32>>,
    #[n(5)]
    discovery: ByteArray<32>,
    #[n(6)]
    addresses: Vec<String>,
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
        let mut bytes = cbor::encode(&TicketCbor {
            project: self.project.0.into(),
            ops: self.ops.iter().map(|op| op.bytes.clone().into()).collect(),
            secret: self.secret.into(),
            epochs: self.epochs.iter().map(|e| e.0.into()).collect(),
            discovery: self.discovery.into(),
            addresses: self.addresses.clone(),
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
        let project = ProjectId(*t.project);
        let ops: Result<Vec<_>, _> = t.ops.iter().map(|op| ControlOp::decode(&project, op)).collect();
        let ops = ops.map_err(|_| damaged.clone())?;
        if ops.is_empty() {
            return Err(damaged);
        }
        Ok(Self {
            project,
            ops,
            secret: *t.secret,
            epochs: t.epochs.iter().map(|e| EpochKey(**e)).collect(),
            discovery: *t.discovery,
            addresses: t.addresses,
        })
    }
}
