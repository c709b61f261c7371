//! A read key boxed to readers who are not named, for those who were away when it was minted or have just been let in.
//!
//! `plain header, count (2 bytes), count boxes of 80 bytes, ciphertext`. Sealed under the key itself: who the boxes are for, the
//! discovery key and all older read keys. Whoever opens a box checks the key against the epoch id of the header.

use crate::chunk::{PLAIN_BYTES, open_behind, seal_behind};
use crate::derive::derive;
use crate::epoch::{decoy, open_box, seal_box};
use crate::{BOX_BYTES, ChunkError, ChunkKind, DeviceKeys, EpochId, EpochKey, Keyring, cbor, chunk_kind, limits};
use cairn_model::{DeviceId, ProjectId};
use minicbor::bytes::{ByteArray, ByteVec};
use minicbor::{Decode, Encode};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

const MAIL_BOX: &str = "cairn mail box v1";

#[derive(Encode, Decode)]
#[cbor(map)]
struct Inner {
    #[n(1)]
    readers: ByteVec,
    #[n(2)]
    discovery: ByteArray<32>,
    #[n(3)]
    older: ByteVec,
    /// From which every box was made. Version 0.1 wrote none.
    #[n(4)]
    seed: Option<ByteArray<32>>,
}

/// What a keys chunk gave.
#[derive(Clone, Debug, PartialEq)]
pub struct MailKeys {
    /// The discovery key and all read keys in it, the newest last.
    pub ring: Keyring,
    /// [`DeviceId::short`] of those who can open it, as its writer says: box n is for the n-th.
    pub readers: Vec<[u8; 8]>,
    seed: Option<[u8; 32]>,
}

/// A keys chunk as it lies there: whose epoch it is, and its boxes.
pub struct KeysChunk<'a> {
    /// Epoch of the key in the boxes.
    pub epoch: EpochId,
    boxes: &'a [u8],
    chunk: &'a [u8],
}

impl KeysChunk<'_> {
    /// How many boxes it has.
    pub fn boxes(&self) -> usize {
        self.boxes.len() / BOX_BYTES
    }
}

/// `newest` for `readers` (device and agreement key), with all of `ring`. `seed` is 32 fresh random bytes. One whose agreement key
/// is no key gets a box nobody opens. `None` for more than [`limits::READERS`].
pub fn box_for_readers(
    project: &ProjectId,
    ring: &Keyring,
    newest: &EpochKey,
    readers: &[(DeviceId, [u8; 32])],
    seed: [u8; 32],
) -> Option<Vec<u8>> {
    if readers.len() > limits::READERS {
        return None;
    }
    let count = readers.len().next_power_of_two();
    let mut open_part = (count as u16).to_le_bytes().to_vec();
    for n in 0..count {
        let real = readers.get(n).and_then(|(_, to)| one_box(project, &seed, n, to, newest));
        open_part.extend(real.unwrap_or_else(|| decoy(&mut box_rng(&seed, n))));
    }
    let mut nonce = [0; 24];
    nonce.copy_from_slice(&derive("cairn mail box nonce v1", &[&seed])[..24]);
    let inner = Inner {
        readers: readers.iter().flat_map(|(d, _)| d.short()).collect::<Vec<u8>>().into(),
        discovery: ring.discovery.into(),
        older: ring.keys.iter().filter(|k| *k != newest).flat_map(|k| k.0).collect::<Vec<u8>>().into(),
        seed: Some(seed.into()),
    };
    seal_behind(project, ChunkKind::Keys, newest, &nonce, &open_part, &cbor::encode(&inner)).ok()
}

fn box_rng(seed: &[u8; 32], n: usize) -> ChaCha20Rng {
    ChaCha20Rng::from_seed(derive("cairn mail box seed v1", &[seed, &(n as u16).to_le_bytes()]))
}

/// Box `n`; `None` if nothing can be boxed to the key.
fn one_box(project: &ProjectId, seed: &[u8; 32], n: usize, to: &[u8; 32], newest: &EpochKey) -> Option<Vec<u8>> {
    seal_box(project, MAIL_BOX, to, &newest.0, &mut box_rng(seed, n))
}

impl MailKeys {
    /// Those of its readers who can open `chunk`. `agreement_key` gives the key of a device by its short id. Whose key is unknown is
    /// left out; one to whose key nothing can be boxed is not. A chunk of version 0.1 proves nobody.
    pub fn proved_readers(
        &self,
        project: &ProjectId,
        chunk: &KeysChunk<'_>,
        agreement_key: &dyn Fn(&[u8; 8]) -> Option<[u8; 32]>,
    ) -> Vec<[u8; 8]> {
        let (Some(seed), Some(newest)) = (self.seed, self.ring.keys.last()) else { return Vec::new() };
        let boxes = chunk.boxes.chunks_exact(BOX_BYTES);
        let proved = |(n, (reader, there)): (usize, (&[u8; 8], &[u8]))| {
            let made = one_box(project, &seed, n, &agreement_key(reader)?, newest);
            made.is_none_or(|made| made == there).then_some(*reader)
        };
        self.readers.iter().zip(boxes).enumerate().filter_map(proved).collect()
    }
}

/// The shape of a keys chunk.
pub fn read_keys_chunk(chunk: &[u8]) -> Result<KeysChunk<'_>, ChunkError> {
    let (kind, epoch) = chunk_kind(chunk)?;
    let count = chunk.get(PLAIN_BYTES..PLAIN_BYTES + 2).map(|b| usize::from(u16::from_le_bytes([b[0], b[1]])));
    let count = count.filter(|n| kind == ChunkKind::Keys as u8 && *n <= limits::READERS).ok_or(ChunkError::NotAChunk)?;
    let boxes = chunk.get(PLAIN_BYTES + 2..PLAIN_BYTES + 2 + count * BOX_BYTES).ok_or(ChunkError::Content("boxes"))?;
    Ok(KeysChunk { epoch, boxes, chunk })
}

/// Opens a keys chunk with `known` (its key) at hand, or else by the box for this device: each box is tried.
pub fn open_readers(project: &ProjectId, chunk: &KeysChunk<'_>, keys: Option<&DeviceKeys>, known: Option<&EpochKey>) -> Option<MailKeys> {
    let own = || {
        let open = |sealed: &[u8]| Some(EpochKey(open_box(project, MAIL_BOX, keys?, sealed)?.try_into().ok()?));
        chunk.boxes.chunks_exact(BOX_BYTES).filter_map(open).find(|k| k.id() == chunk.epoch)
    };
    let key = known.cloned().or_else(own).filter(|k| k.id() == chunk.epoch)?;
    let body = open_behind(project, &key, chunk.chunk, 2 + chunk.boxes.len()).ok()?;
    let inner: Inner = minicbor::decode(&body).ok()?;
    let (older, _) = inner.older.as_chunks::<32>();
    let (readers, _) = inner.readers.as_chunks::<8>();
    let all = older.iter().map(|k| EpochKey(*k)).chain([key]).collect();
    let seed = inner.seed.map(|s| *s);
    Some(MailKeys { ring: Keyring { discovery: *inner.discovery, keys: all }, readers: readers.to_vec(), seed })
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: ProjectId = ProjectId([7; 32]);

    fn team(count: u8) -> Vec<DeviceKeys> {
        (0..count).map(|n| DeviceKeys::from_seed([n + 1; 32])).collect()
    }

    /// A member that lists a reader and puts rubbish into its box is found out by everybody who can open the chunk.
    #[test]
    fn a_list_of_readers_is_checked_box_by_box() {
        let team = team(3);
        let key_of = |short: &[u8; 8]| team.iter().find(|k| k.device().short() == *short).map(DeviceKeys::agreement_key);
        let ring = Keyring { discovery: [9; 32], keys: vec![EpochKey([1; 32]), EpochKey([2; 32])] };
        let listed = |keys: [[u8; 32]; 3]| team.iter().map(DeviceKeys::device).zip(keys).collect::<Vec<_>>();
        let proved = |readers: &[(DeviceId, [u8; 32])]| {
            let chunk = box_for_readers(&P, &ring, &EpochKey([2; 32]), readers, [3; 32]).unwrap();
            let shape = read_keys_chunk(&chunk).unwrap();
            open_readers(&P, &shape, Some(&team[0]), None).unwrap().proved_readers(&P, &shape, &key_of)
        };
        let honest = [0, 1, 2].map(|n: usize| team[n].agreement_key());
        let shorts: Vec<[u8; 8]> = team.iter().map(|k| k.device().short()).collect();
        assert_eq!(proved(&listed(honest)), shorts);
        // The second box is made for somebody else than the list says.
        assert_eq!(proved(&listed([honest[0], honest[2], honest[2]])), [shorts[0], shorts[2]]);
        let mut old = open_readers(
            &P,
            &read_keys_chunk(&box_for_readers(&P, &ring, &EpochKey([2; 32]), &listed(honest), [3; 32]).unwrap()).unwrap(),
            Some(&team[0]),
            None,
        )
        .unwrap();
        old.seed = None;
        let chunk = box_for_readers(&P, &ring, &EpochKey([2; 32]), &listed(honest), [3; 32]).unwrap();
        assert!(old.proved_readers(&P, &read_keys_chunk(&chunk).unwrap(), &key_of).is_empty(), "version 0.1 proves nobody");
    }

    #[test]
    fn readers_open_it_strangers_do_not_and_nothing_can_be_changed() {
        let team = team(4);
        let readers: Vec<_> = team[..3].iter().map(|k| (k.device(), k.agreement_key())).collect();
        let ring = Keyring { discovery: [9; 32], keys: vec![EpochKey([1; 32]), EpochKey([2; 32])] };
        let chunk = box_for_readers(&P, &ring, &EpochKey([2; 32]), &readers, [3; 32]).unwrap();
        let read = read_keys_chunk(&chunk).unwrap();
        assert_eq!(read.boxes.len(), 4 * BOX_BYTES, "a power of two");
        for k in &team[..3] {
            let got = open_readers(&P, &read, Some(k), None).unwrap();
            assert_eq!((&got.ring, got.readers.len()), (&ring, 3));
        }
        assert_eq!(open_readers(&P, &read, Some(&team[3]), None), None);
        assert_eq!(open_readers(&ProjectId([8; 32]), &read, Some(&team[0]), None), None);
        assert!(open_readers(&P, &read, None, Some(&EpochKey([2; 32]))).is_some());
        for at in (0..chunk.len()).step_by(11) {
            let mut bad = chunk.clone();
            bad[at] ^= 1;
            let got = read_keys_chunk(&bad).ok().and_then(|c| open_readers(&P, &c, Some(&team[0]), None));
            assert_eq!(got, None, "byte {at}");
        }
        for cut in 0..chunk.len() {
            assert!(
                read_keys_chunk(&chunk[..cut]).ok().is_none_or(|c| open_readers(&P, &c, Some(&team[0]), None).is_none()),
                "cut at {cut}"
            );
        }
    }
}
