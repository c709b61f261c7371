//! Device keys, the control log, epochs, and the formats of batches and chunks. Pure: randomness is handed in.
//!
//! The bytes are described in `crates/store/FORMAT.md`; `tests/` keeps test vectors of them.
#![warn(missing_docs)]

mod batch;
mod cbor;
mod chunk;
mod control;
mod derive;
mod frontier;
mod keys;
pub mod limits;
mod receipt;
mod ticket;

pub use batch::{Batch, BatchError, BatchHash, Header, Item, Unit, UnitKind};
pub use chunk::{ChunkError, ChunkHash, ChunkKind, EpochId, EpochKey, chunk_kind, open, seal};
pub use control::{ControlError, ControlHash, ControlOp, Genesis, Invite, Join, Member, Membership, OpBody, Role, evaluate};
pub use derive::{actor_id, branch_id, discovery_tag, feed_id, link_proof};
pub use frontier::{Digest, Frontier, Tip, digest};
pub use keys::{DeviceKeys, RecoveryWords, SecretSeed, Signature, verify};
pub use receipt::{Receipt, ReceiptError};
pub use ticket::{Ticket, TicketError};
