//! Read keys: minted, boxed to each reader by HPKE (RFC 9180: X25519, HKDF-SHA256, ChaCha20-Poly1305), and handed on.
//!
//! A box names nobody; the number of boxes is a power of two. An epoch's id commits to its key, so a box that opens to
//! another key is ignored. A new epoch carries the discovery key and all older read keys its minter knows.

use crate::control::{Convey, EpochOp};
use crate::derive::derive;
use crate::{DeviceKeys, EpochId, EpochKey, limits};
use cairn_model::{DeviceId, ProjectId};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

type Aes = hpke::aead::ChaCha20Poly1305;
type Kdf = hpke::kdf::HkdfSha256;

/// Bytes of one key box: an X25519 key, the sealed key, a tag.
pub const BOX_BYTES: usize = 32 + 32 + 16;

/// What a reader of a project knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keyring {
    /// Finds devices of the project; gives no right.
    pub discovery: [u8; 32],
    /// Read keys in the order of their arrival; of the founder, the first epoch's first.
    pub keys: Vec<EpochKey>,
}

fn info(project: &ProjectId, what: &str) -> Vec<u8> {
    [what.as_bytes(), &project.0].concat()
}

/// A box of no project: for secrets that open before one is known.
pub(crate) fn seal_to(what: &str, to: &[u8; 32], plain: &[u8], seed: [u8; 32]) -> Option<Vec<u8>> {
    seal_info(what.as_bytes(), to, plain, &mut ChaCha20Rng::from_seed(seed))
}

/// Opens what [`seal_to`] made, with the secret of its key.
pub(crate) fn open_sealed(what: &str, secret: &[u8; 32], sealed: &[u8]) -> Option<Vec<u8>> {
    open_info(what.as_bytes(), secret, sealed)
}

pub(crate) fn seal_box(project: &ProjectId, what: &str, to: &[u8; 32], plain: &[u8], rng: &mut ChaCha20Rng) -> Option<Vec<u8>> {
    seal_info(&info(project, what), to, plain, rng)
}

fn seal_info(info: &[u8], to: &[u8; 32], plain: &[u8], rng: &mut ChaCha20Rng) -> Option<Vec<u8>> {
    let key = <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(to).ok()?;
    let sealed = hpke::single_shot_seal::<Aes, Kdf, X25519HkdfSha256, _>(&OpModeS::Base, &key, info, plain, &[], rng);
    let (enc, text) = sealed.ok()?;
    Some([&enc.to_bytes()[..], &text].concat())
}

pub(crate) fn open_box(project: &ProjectId, what: &str, keys: &DeviceKeys, sealed: &[u8]) -> Option<Vec<u8>> {
    open_info(&info(project, what), &keys.agreement_secret(), sealed)
}

fn open_info(info: &[u8], secret: &[u8; 32], sealed: &[u8]) -> Option<Vec<u8>> {
    let (enc, text) = sealed.split_at_checked(32)?;
    let enc = <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(enc).ok()?;
    let secret = <X25519HkdfSha256 as Kem>::PrivateKey::from_bytes(secret).ok()?;
    hpke::single_shot_open::<Aes, Kdf, X25519HkdfSha256>(&OpModeR::Base, &secret, &enc, info, text, &[]).ok()
}

const EPOCH_BOX: &str = "cairn epoch box v1";
const CONVEY_BOX: &str = "cairn convey box v1";

/// `false` for a key nothing can be boxed to: its owner shut itself out.
pub fn is_usable_key(agreement_key: &[u8; 32]) -> bool {
    let probe = x25519_dalek::StaticSecret::from([1; 32]);
    probe.diffie_hellman(&x25519_dalek::PublicKey::from(*agreement_key)).was_contributory()
}

/// A new read key for `readers` (device and agreement key), of whom the first [`limits::READERS`] get a box. `seed` is 32 fresh
/// random bytes. A reader whose agreement key is no key gets a random box. Of `ring` the newest [`limits::CHAIN_KEYS`] go along.
pub fn mint(project: &ProjectId, ring: &Keyring, readers: &[(DeviceId, [u8; 32])], seed: [u8; 32]) -> Option<(EpochKey, EpochOp)> {
    let readers = &readers[..readers.len().min(limits::READERS)];
    let newest = &ring.keys[ring.keys.len().saturating_sub(limits::CHAIN_KEYS)..];
    let mut rng = ChaCha20Rng::from_seed(seed);
    let mut key = EpochKey([0; 32]);
    rng.fill_bytes(&mut key.0);
    let count = readers.len().next_power_of_two();
    let mut boxes = Vec::with_capacity(count * BOX_BYTES);
    for n in 0..count {
        let real = readers.get(n).and_then(|(_, to)| seal_box(project, EPOCH_BOX, to, &key.0, &mut rng));
        boxes.extend(real.unwrap_or_else(|| decoy(&mut rng)));
    }
    let mut nonce = [0; 24];
    rng.fill_bytes(&mut nonce);
    let plain: Vec<u8> = [ring.discovery].iter().chain(newest.iter().map(|k| &k.0)).flatten().copied().collect();
    let id = key.id();
    let aad = chain_aad(project, &id);
    let sealed = cipher(&key).encrypt(XNonce::from_slice(&nonce), Payload { msg: &plain, aad: &aad }).ok()?;
    let op = EpochOp {
        id,
        readers: readers.iter().map(|(d, _)| d.short()).collect(),
        boxes,
        chain_ids: newest.iter().map(EpochKey::id).collect(),
        chain: [&nonce[..], &sealed].concat(),
    };
    Some((key, op))
}

/// Looks like a box: an X25519 key has its top bit clear.
pub(crate) fn decoy(rng: &mut ChaCha20Rng) -> Vec<u8> {
    let mut bytes = vec![0; BOX_BYTES];
    rng.fill_bytes(&mut bytes);
    bytes[31] &= 0x7f;
    bytes
}

fn cipher(key: &EpochKey) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(&derive("cairn epoch chain v1", &[&key.0]).into())
}

fn chain_aad(project: &ProjectId, id: &EpochId) -> Vec<u8> {
    [b"cairn epoch chain v1", &project.0[..], &id.0].concat()
}

/// The keys an epoch gives this device: with `known` (its key) at hand or by this device's box. The new key is last.
pub fn open_epoch(project: &ProjectId, op: &EpochOp, keys: &DeviceKeys, known: Option<&EpochKey>) -> Option<Keyring> {
    let key = known.cloned().or_else(|| own_box(project, op, keys)).filter(|k| k.id() == op.id)?;
    let (nonce, sealed) = op.chain.split_at_checked(24)?;
    let aad = chain_aad(project, &op.id);
    let plain = cipher(&key).decrypt(XNonce::from_slice(nonce), Payload { msg: sealed, aad: &aad });
    // A minter that seals rubbish gives its key all the same.
    let mut ring = plain.ok().and_then(|p| read_ring(&p)).unwrap_or(Keyring { discovery: [0; 32], keys: Vec::new() });
    ring.keys.retain(|k| op.chain_ids.contains(&k.id()));
    ring.keys.push(key);
    Some(ring)
}

fn own_box(project: &ProjectId, op: &EpochOp, keys: &DeviceKeys) -> Option<EpochKey> {
    let me = keys.device().short();
    let places = op.readers.iter().enumerate().filter(|(_, r)| **r == me);
    places.filter_map(|(n, _)| op.boxes.get(n * BOX_BYTES..(n + 1) * BOX_BYTES)).find_map(|sealed| {
        let plain = open_box(project, EPOCH_BOX, keys, sealed)?;
        Some(EpochKey(plain.try_into().ok()?)).filter(|k| k.id() == op.id)
    })
}

fn read_ring(plain: &[u8]) -> Option<Keyring> {
    let (all, rest) = plain.as_chunks::<32>();
    let (discovery, keys) = all.split_first().filter(|_| rest.is_empty())?;
    Some(Keyring { discovery: *discovery, keys: keys.iter().map(|k| EpochKey(*k)).collect() })
}

/// `ring` for one device that lacks keys. `None` if its agreement key is no key.
pub fn seal_conveyed(project: &ProjectId, ring: &Keyring, to: &DeviceId, agreement_key: &[u8; 32], seed: [u8; 32]) -> Option<Convey> {
    let plain: Vec<u8> = [ring.discovery].iter().chain(ring.keys.iter().map(|k| &k.0)).flatten().copied().collect();
    let sealed = seal_box(project, CONVEY_BOX, agreement_key, &plain, &mut ChaCha20Rng::from_seed(seed))?;
    Some(Convey { device: *to, epochs: ring.keys.iter().map(EpochKey::id).collect(), sealed })
}

/// What was conveyed to this device. Keys that are not those promised are left out.
pub fn open_conveyed(project: &ProjectId, convey: &Convey, keys: &DeviceKeys) -> Option<Keyring> {
    if convey.device != keys.device() {
        return None;
    }
    let mut ring = read_ring(&open_box(project, CONVEY_BOX, keys, &convey.sealed)?)?;
    ring.keys.retain(|k| convey.epochs.contains(&k.id()));
    Some(ring)
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: ProjectId = ProjectId([7; 32]);

    fn team(count: u8) -> Vec<DeviceKeys> {
        (0..count).map(|n| DeviceKeys::from_seed([n + 1; 32])).collect()
    }

    fn readers(team: &[DeviceKeys]) -> Vec<(DeviceId, [u8; 32])> {
        team.iter().map(|k| (k.device(), k.agreement_key())).collect()
    }

    fn ring() -> Keyring {
        Keyring { discovery: [9; 32], keys: vec![EpochKey([1; 32]), EpochKey([2; 32])] }
    }

    #[test]
    fn each_reader_opens_its_box_and_walks_the_chain_and_nobody_else_does() {
        let team = team(5);
        let (key, op) = mint(&P, &ring(), &readers(&team[..4]), [3; 32]).unwrap();
        assert_eq!((op.boxes.len(), op.readers.len()), (4 * BOX_BYTES, 4));
        for k in &team[..4] {
            let got = open_epoch(&P, &op, k, None).unwrap();
            assert_eq!((got.discovery, got.keys.last()), ([9; 32], Some(&key)));
            assert_eq!(got.keys[..2], ring().keys);
        }
        assert_eq!(open_epoch(&P, &op, &team[4], None), None);
        let mut impostor = op.clone();
        impostor.readers[0] = team[4].device().short();
        assert_eq!(open_epoch(&P, &impostor, &team[4], None), None);
    }

    /// Attack row 51: a box altered on the way, or one that holds another key, is ignored.
    #[test]
    fn row_51_an_altered_box_is_ignored() {
        let team = team(2);
        let (_, op) = mint(&P, &ring(), &readers(&team), [3; 32]).unwrap();
        for at in 0..BOX_BYTES {
            let mut bad = op.clone();
            bad.boxes[at] ^= 1;
            assert_eq!(open_epoch(&P, &bad, &team[0], None), None, "byte {at}");
        }
        let mut other = op.clone();
        other.id = EpochKey([8; 32]).id();
        assert_eq!(open_epoch(&P, &other, &team[0], None), None);
        let cut = EpochOp { boxes: op.boxes[..BOX_BYTES - 1].to_vec(), ..op };
        assert_eq!(open_epoch(&P, &cut, &team[0], None), None);
    }

    #[test]
    fn conveyed_keys_open_only_for_their_device() {
        let team = team(2);
        let (to, key) = (team[0].device(), team[0].agreement_key());
        let convey = seal_conveyed(&P, &ring(), &to, &key, [4; 32]).unwrap();
        assert_eq!(open_conveyed(&P, &convey, &team[0]), Some(ring()));
        assert_eq!(open_conveyed(&P, &convey, &team[1]), None);
        assert_eq!(open_conveyed(&ProjectId([8; 32]), &convey, &team[0]), None);
    }

    #[test]
    fn a_rotation_for_200_devices_is_small() {
        let team = team(200);
        let (_, op) = mint(&P, &ring(), &readers(&team), [3; 32]).unwrap();
        assert!(op.boxes.len() + op.readers.len() * 9 + op.chain.len() < 25_000);
    }
}
