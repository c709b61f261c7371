//! What every transport implements. Of ours it knows only ids: a link carries bytes and says who is at the other end.
//!
//! | id | transport | kind | crate |
//! |---|---|---|---|
//! | `memory` | in-process pipes, for tests | link | `cairn-contract` |
//! | `quic` | QUIC over the local network | link | `cairn-quic` |
//! | `memory` | a list of chunks, for tests | mailbox | `cairn-contract` |
//! | `file` | one bundle file | mailbox | `cairn-bundle` |
//! | `folder` | a shared folder of bundle files | mailbox | `cairn-bundle` |
//!
//! A new transport is a folder, one of the traits here, [`conformance`], a row in this table and one line in the
//! command line. If the engine or the store must change for it, this contract was wrong.

pub mod conformance;
mod mailbox;
pub mod memory;

pub use mailbox::{Entry, Kept, Listing, Mailbox, MailboxError, kind_of};

use cairn_model::DeviceId;
use std::future::Future;

/// Who is at the other end of a link, and what binds proofs to it.
#[derive(Clone, Debug)]
pub struct LinkInfo {
    /// The device whose key the transport authenticated.
    pub peer: DeviceId,
    /// 32 bytes both ends derive alike and nobody else can: proofs are bound to them.
    pub exporter: [u8; 32],
    /// Where the other end is, as `sync` takes it; empty where that means nothing.
    pub remote: String,
    /// This end opened the link.
    pub dialled: bool,
}

/// Why a link gave no more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The other end closed it with a reason number of the protocol.
    #[error("closed by the other device (reason {0})")]
    Closed(u64),
    /// It broke: cable, battery, sleep, time-out.
    #[error("the connection was lost: {0}")]
    Lost(String),
}

/// The sending half.
pub trait SendHalf: Send + 'static {
    /// Sends all of `bytes`, in order; waits while the other end is not reading.
    fn send(&mut self, bytes: &[u8]) -> impl Future<Output = Result<(), LinkError>> + Send;
    /// Ends the link: what was sent before arrives, then the reason. Nothing can be sent or received after.
    fn close(self, reason: u64) -> impl Future<Output = ()> + Send;
}

/// The receiving half.
pub trait ReceiveHalf: Send + 'static {
    /// The next bytes, in pieces of any size; an error once and for all when the link has ended.
    fn receive(&mut self) -> impl Future<Output = Result<Vec<u8>, LinkError>> + Send;
}

/// A live, ordered, authenticated connection to one device.
pub trait Link: Send + 'static {
    /// Sends.
    type Tx: SendHalf;
    /// Receives.
    type Rx: ReceiveHalf;
    /// Who is there.
    fn info(&self) -> &LinkInfo;
    /// Both halves, to be used at once.
    fn split(self) -> (Self::Tx, Self::Rx);
}
