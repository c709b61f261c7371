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
}

impl Receipt {
    /// Signed bytes.
    pub fn sign(&self, project: &ProjectId, keys: &DeviceKeys) -> Vec<u8> {
        let inner = cbor::encode(&Inner {
            device: self.device.0.into(),
            incarnation: self.incarnation.into(),
            counter: self.counter,
            frontier: self.frontier.clone(),
        });
        let signature = keys.sign(&hash(project, &inner)).into();
        cbor::encode(&cbor::Signed { inner: inner.into(), signature })
    }

    /// Reads and checks signed bytes.
    pub fn open(project: &ProjectId, bytes: &[u8]) -> Result<Self, ReceiptError> {
        let outer: cbor::Signed = minicbor::decode(bytes).map_err(|_| ReceiptError::Malformed)?;
        let inner: Inner = minicbor::decode(&outer.inner).map_err(|_| ReceiptError::Malformed)?;
        if inner.frontier.len() > limits::FRONTIER_TIPS {
            return Err(ReceiptError::Malformed);
        }
        if !verify(&inner.device, &hash(project, &outer.inner), &outer.signature) {
            return Err(ReceiptError::Signature);
        }
        Ok(Self { device: DeviceId(*inner.device), counter: inner.counter, incarnation: *inner.incarnation, frontier: inner.frontier })
    }
}

fn hash(project: &ProjectId, inner: &[u8]) -> [u8; 32] {
    derive("cairn receipt v1", &[&project.0, inner])
}
