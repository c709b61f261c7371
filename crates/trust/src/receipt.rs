//! Receipts: a device's signed frontier, evidence of what it holds. In no feed, frontier or digest.

use crate::derive::derive;
use crate::{DeviceKeys, Frontier, cbor, limits, verify};
use cairn_model::{DeviceId, ProjectId};
use minicbor::bytes::ByteArray;
use minicbor::{Decode, Encode};

/// What a device says it holds durably.
#[derive(Clone, Debug, PartialEq)]
pub struct Receipt {
    /// Who says so.
    pub device: DeviceId,
    /// Rises with every receipt of this incarnation; the latest replaces.
    pub counter: u64,
    /// Which incarnation counts.
    pub incarnation: [u8; 16],
    /// What it holds.
    pub frontier: Frontier,
    /// The ends of relays' logs as it was shown them: whoever is shown something else at the same place knows that the relay lies.
    pub heads: Vec<RelayHead>,
}

/// The end of a relay's log, as one device was shown it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct RelayHead {
    /// Which relay: a hash of what it is known by.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub relay: [u8; 16],
    /// Place.
    #[n(2)]
    pub seq: u64,
    /// Hash of the chain up to there.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub hash: [u8; 32],
}

/// Why bytes are no receipt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// Does not decode.
    #[error("malformed receipt")]
    Malformed,
    /// Not signed by the device it names.
    #[error("the receipt is not signed by its device")]
    Signature,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Inner {
    #[n(1)]
    device: ByteArray<32>,
    #[n(2)]
    incarnation: ByteArray<16>,
    #[n(3)]
    counter: u64,
    #[n(4)]
    frontier: Frontier,
    #[n(5)]
    heads: Option<Vec<RelayHead>>,
}

impl Receipt {
    /// Signed bytes.
    pub fn sign(&self, project: &ProjectId, keys: &DeviceKeys) -> Vec<u8> {
        let inner = cbor::encode(&Inner {
            device: self.device.0.into(),
            incarnation: self.incarnation.into(),
            counter: self.counter,
            frontier: self.frontier.clone(),
            heads: Some(self.heads.clone()).filter(|h| !h.is_empty()),
        });
        let signature = keys.sign(&hash(project, &inner)).into();
        cbor::encode(&cbor::Signed { inner: inner.into(), signature })
    }

    /// Reads and checks signed bytes.
    pub fn open(project: &ProjectId, bytes: &[u8]) -> Result<Self, ReceiptError> {
        let outer: cbor::Signed = minicbor::decode(bytes).map_err(|_| ReceiptError::Malformed)?;
        let inner: Inner = minicbor::decode(&outer.inner).map_err(|_| ReceiptError::Malformed)?;
        let heads = inner.heads.unwrap_or_default();
        if inner.frontier.len() > limits::FRONTIER_TIPS || heads.len() > limits::RELAY_HEADS {
            return Err(ReceiptError::Malformed);
        }
        if !verify(&inner.device, &hash(project, &outer.inner), &outer.signature) {
            return Err(ReceiptError::Signature);
        }
        let (device, incarnation) = (DeviceId(*inner.device), *inner.incarnation);
        Ok(Self { device, counter: inner.counter, incarnation, frontier: inner.frontier, heads })
    }
}

fn hash(project: &ProjectId, inner: &[u8]) -> [u8; 32] {
    derive("cairn receipt v1", &[&project.0, inner])
}
