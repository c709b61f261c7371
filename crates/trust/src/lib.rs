//! Device keys, the control log, epochs, and the formats of batches and chunks. Pure: randomness is handed in.
//!
//! The bytes are described in `crates/store/FORMAT.md`; `tests/` keeps test vectors of them.
#![warn(missing_docs)]

mod backup;
mod batch;
mod cbor;
mod chunk;
mod code;
mod control;
mod derive;
mod epoch;
mod frontier;
mod keys;
pub mod limits;
mod mailbox;
mod passphrase;
mod receipt;
mod relay;
mod ticket;

pub use backup::{BACKUP_HEADER, BACKUP_MAGIC, BACKUP_SEGMENT, BackupError, BackupSeal, BackupSecret, backup_header_len};
pub use batch::{Batch, BatchError, BatchHash, Header, Item, Unit, UnitKind};
pub use chunk::{ChunkError, ChunkKind, EpochId, EpochKey, chunk_kind, open, seal};
pub use code::{Code, CodeError, Pairing};
pub use control::{
    Accepted, Add, Admitted, ControlError, ControlHash, ControlOp, Convey, Ended, EpochOp, EpochState, Former, Genesis, Invitation, Invite,
    InviteMode, Issuer, Join, Log, Member, Membership, OpBody, Pending, Policy, ROLES, Refusal, Remove, RemoveMode, Right, Rights, Role,
    SetRole, evaluate,
};
pub use derive::{
    actor_id, branch_id, check_digits, code_knock_key, discovery_tag, feed_id, invitation_knock_key, knock, knock_answer, link_proof,
};
pub use epoch::{BOX_BYTES, Keyring, is_usable_key, mint, open_conveyed, open_epoch, seal_conveyed};
pub use frontier::{Digest, Frontier, Tip, digest};
pub use keys::{DeviceKeys, RecoveryWords, SecretSeed, Signature, verify};
pub use mailbox::{
    Claim, Inside, KeysChunk, Lack, MailKeys, Manifest, Pack, Piece, PlacedBatch, Proof, Shelf, Short, Worth, ask_key, box_for_readers,
    mailbox_handle, open_ask, open_control, open_pack, open_readers, read_keys_chunk, seal_ask, seal_control, writer_tag,
};
pub use passphrase::{PassphraseError, is_sealed_seed, open_seed, seal_seed};
pub use receipt::{Receipt, ReceiptError, RelayHead};
pub use relay::{
    AccountProof, ProjectLabel, account_words, open_admin, open_own, relay_access, relay_admin, relay_knock, relay_log, seal_admin,
    seal_own,
};
pub use ticket::{Tells, Ticket, TicketError};
