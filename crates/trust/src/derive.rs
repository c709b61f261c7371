//! Every derived identifier, each under its own BLAKE3 context.

use cairn_model::{ActorId, DeviceId, FeedId, ProjectId};

pub(crate) fn derive(context: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    for part in parts {
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

pub(crate) fn first16(full: [u8; 32]) -> [u8; 16] {
    let mut short = [0; 16];
    short.copy_from_slice(&full[..16]);
    short
}

/// The actor of all changes made in one writable open: `nonce` is drawn at that open.
pub fn actor_id(feed: &FeedId, nonce: &[u8; 16]) -> ActorId {
    ActorId(first16(derive("cairn actor v1", &[&feed.0, nonce])))
}

/// A device's feed in one incarnation.
pub fn feed_id(project: &ProjectId, device: &DeviceId, incarnation: &[u8; 16]) -> FeedId {
    FeedId(first16(derive("cairn feed v1", &[&project.0, &device.0, incarnation])))
}

/// The feed that a branch becomes: named by the feed it left and its first batch.
pub fn branch_id(feed: &FeedId, first: &[u8; 32]) -> FeedId {
    FeedId(first16(derive("cairn branch v1", &[&feed.0, first])))
}

/// Proof of knowing the project's discovery key, bound to one TLS session and one side of it, so that it can be
/// neither replayed nor reflected. `exporter` is 32 bytes of keying material; `dialler` says whose proof it is.
pub fn link_proof(discovery: &[u8; 32], exporter: &[u8; 32], dialler: bool) -> [u8; 32] {
    derive("cairn link proof v1", &[discovery, exporter, &[u8::from(dialler)]])
}

/// What an announcement shows for a project: meaningless without the discovery key, fresh with every nonce.
pub fn discovery_tag(discovery: &[u8; 32], nonce: &[u8]) -> [u8; 6] {
    let full = derive("cairn discovery tag v1", &[discovery, nonce]);
    let mut tag = [0; 6];
    tag.copy_from_slice(&full[..6]);
    tag
}

/// A knock: what a dialler shows before anything else, so that a device presents its key to nobody who does not know `key`
/// (the discovery key, or one of [`invitation_knock_key`] and [`code_knock_key`]). `nonce` is fresh for every dial.
pub fn knock(key: &[u8; 32], nonce: &[u8; 8]) -> [u8; 16] {
    first16(derive("cairn knock v1", &[key, nonce]))
}

/// What the knocked-at device shows with its key: it knows the knock's key too, so the dialler may show its own.
pub fn knock_answer(key: &[u8; 32], nonce: &[u8; 8], device: &DeviceId) -> [u8; 16] {
    first16(derive("cairn knock answer v1", &[key, nonce, &device.0]))
}

/// Known to members and to who holds the invitation; by the invitation's public key.
pub fn invitation_knock_key(invitation: &[u8; 32]) -> [u8; 32] {
    derive("cairn invitation knock v1", &[invitation])
}

/// Of a short code's first number, while it is open. Public in effect: it only finds the device that shows the code.
pub fn code_knock_key(nameplate: u8) -> [u8; 32] {
    derive("cairn code knock v1", &[&[nameplate]])
}

/// Six digits that both ends of one channel show, so that people can see that they speak to each other.
pub fn check_digits(exporter: &[u8; 32]) -> String {
    let full = derive("cairn check digits v1", &[exporter]);
    format!("{:06}", u64::from_le_bytes([full[0], full[1], full[2], full[3], full[4], full[5], full[6], full[7]]) % 1_000_000)
}
