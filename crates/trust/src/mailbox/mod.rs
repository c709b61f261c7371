//! What travels through mailboxes beside batches and receipts: control operations, read keys, manifests, packs, requests to
//! enter. All are chunks; whoever writes to a mailbox makes them, so none of them is evidence of anything but what it carries
//! signed inside.

mod keys;
mod manifest;
mod pack;
mod runs;

pub use keys::{KeysChunk, MailKeys, box_for_readers, open_readers, read_keys_chunk};
pub use manifest::{Manifest, Piece, Shelf};
pub use pack::{Pack, open_pack};
pub use runs::{Claim, Inside, Lack, PlacedBatch, Proof, Short, Worth};

use crate::chunk::seal_by_content;
use crate::derive::{derive, first16};
use crate::{ChunkError, ChunkKind, ControlOp, EpochKey, cbor, chunk_kind, limits, open, seal};
use cairn_model::{DeviceId, ProjectId};
use minicbor::bytes::ByteVec;

/// By what those who know the project find its mailboxes. Says nothing to others but that two are of one project.
pub fn mailbox_handle(project: &ProjectId) -> [u8; 16] {
    first16(derive("cairn mailbox v1", &[&project.0]))
}

/// Names one writer's sub-folder to members; to others it is a random word. A copy of a device has another incarnation and so
/// a sub-folder of its own.
pub fn writer_tag(discovery: &[u8; 32], device: &DeviceId, incarnation: &[u8; 16]) -> [u8; 8] {
    let full = derive("cairn writer v1", &[discovery, &device.0, incarnation]);
    let mut tag = [0; 8];
    tag.copy_from_slice(&full[..8]);
    tag
}

/// Control operations as one chunk. `nonce` is random and used once.
pub fn seal_control(project: &ProjectId, key: &EpochKey, nonce: &[u8; 24], ops: &[&[u8]]) -> Result<Vec<u8>, ChunkError> {
    let list: Vec<ByteVec> = ops.iter().map(|op| op.to_vec().into()).collect();
    seal(project, ChunkKind::Control, key, nonce, &cbor::encode(&list))
}

/// The operations in a control chunk whose signatures hold; others are left out.
pub fn open_control(project: &ProjectId, key: &EpochKey, chunk: &[u8]) -> Result<Vec<ControlOp>, ChunkError> {
    let body = open(project, key, chunk)?;
    let list: Vec<ByteVec> = minicbor::decode(&body).map_err(|_| ChunkError::Content("control operations"))?;
    Ok(list.iter().filter(|op| op.len() <= limits::CONTROL_OP_BYTES).filter_map(|op| ControlOp::decode(project, op).ok()).collect())
}

/// The key under which a request to enter by the invitation with this public key is sealed: known to members and to whoever
/// holds the ticket.
pub fn ask_key(invitation: &[u8; 32]) -> EpochKey {
    EpochKey(derive("cairn ask v1", &[invitation]))
}

/// A request to enter: the join, for members to see. The same join always gives the same chunk, because the nonce is derived from
/// the bytes that are sealed: a device that asks again where it cannot see its first request adds nothing.
pub fn seal_ask(project: &ProjectId, invitation: &[u8; 32], join: &[u8]) -> Result<Vec<u8>, ChunkError> {
    seal_by_content(project, ChunkKind::Ask, &ask_key(invitation), "cairn ask nonce v2", join)
}

/// The join in a request, if it was made for this invitation.
pub fn open_ask(project: &ProjectId, invitation: &[u8; 32], chunk: &[u8]) -> Result<Vec<u8>, ChunkError> {
    match chunk_kind(chunk)? {
        (kind, _) if kind == ChunkKind::Ask as u8 => open(project, &ask_key(invitation), chunk),
        _ => Err(ChunkError::NotAChunk),
    }
}
