//! Backups: everything sealed under a key of their own, which is sealed for this device, for the recovery words, and for a passphrase
//! if there is one. The bytes are described in `crates/store/FORMAT.md`.

use crate::cbor::encode;
use crate::epoch::{open_sealed, seal_to};
use crate::{DeviceKeys, PassphraseError, RecoveryWords, open_seed, seal_seed};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use minicbor::bytes::{ByteArray, ByteVec};
use minicbor::{Decode, Encode};

/// First bytes of a backup.
pub const BACKUP_MAGIC: &[u8; 8] = b"CairnBk1";
/// Bytes of plaintext in a segment; the last one may have fewer.
pub const BACKUP_SEGMENT: usize = 1 << 20;
/// Bytes a header may have.
pub const BACKUP_HEADER: usize = 64 << 10;

const BOX: &str = "cairn backup box v1";

/// Who can open a backup.
#[derive(Encode, Decode, Clone, Debug, PartialEq)]
#[cbor(map)]
struct Readers {
    /// Beginning of every nonce.
    #[n(1)]
    prefix: ByteArray<15>,
    /// For the device that made it.
    #[n(2)]
    device: ByteVec,
    /// For the recovery words of the project.
    #[n(3)]
    recovery: Option<ByteVec>,
    /// For a passphrase: a line as in a key file.
    #[n(4)]
    passphrase: Option<String>,
}

/// What opens a backup.
pub enum BackupSecret<'a> {
    /// The device that made it.
    Device(&'a DeviceKeys),
    /// The project's recovery words.
    Recovery(&'a RecoveryWords),
    /// A passphrase.
    Passphrase(&'a [u8]),
}

/// Why a backup does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackupError {
    /// Not a backup, or its beginning is damaged.
    #[error("this is not a backup")]
    Malformed,
    /// Sealed for others.
    #[error("this backup does not open with that")]
    Wrong,
    /// A part is not what was written.
    #[error("the backup is damaged")]
    Damaged,
    /// It ends too early.
    #[error("the backup ends too early")]
    Short,
}

/// Seals or opens the segments of one backup, in their order.
pub struct BackupSeal {
    cipher: XChaCha20Poly1305,
    prefix: [u8; 15],
    header: [u8; 32],
    next: u64,
}

impl BackupSeal {
    /// A new backup: the seal, and the header that goes before the segments. `entropy` is fresh random bytes.
    pub fn create(keys: &DeviceKeys, recovery_key: &[u8; 32], passphrase: Option<&[u8]>, entropy: [u8; 160]) -> Option<(Self, Vec<u8>)> {
        let part = |from: usize, len: usize| &entropy[from..from + len];
        let key: [u8; 32] = part(0, 32).try_into().ok()?;
        let prefix: [u8; 15] = part(32, 15).try_into().ok()?;
        let nonce: [u8; 24] = part(48, 24).try_into().ok()?;
        let seed: [u8; 32] = part(72, 32).try_into().ok()?;
        let under = |p: &[u8]| seal_seed(&key, p, part(104, 16).try_into().ok()?, part(120, 24).try_into().ok()?);
        let recovery = ed25519_dalek::VerifyingKey::from_bytes(recovery_key).ok().map(|k| k.to_montgomery().to_bytes());
        let readers = Readers {
            prefix: prefix.into(),
            device: keys.seal_private(&nonce, &key).into(),
            recovery: recovery.and_then(|to| seal_to(BOX, &to, &key, seed)).map(Into::into),
            passphrase: match passphrase {
                Some(p) => Some(under(p)?),
                None => None,
            },
        };
        let body = encode(&readers);
        let header = [&BACKUP_MAGIC[..], &(body.len() as u32).to_le_bytes(), &body].concat();
        Some((Self::of(key, prefix, &header), header))
    }

    /// Reads the header at the beginning of `bytes`; gives how long it was.
    ///
    /// # Errors
    /// No backup, or sealed for others.
    pub fn open(bytes: &[u8], secret: &BackupSecret<'_>) -> Result<(Self, usize), BackupError> {
        let len = backup_header_len(bytes)?;
        let body = bytes.get(12..len).ok_or(BackupError::Short)?;
        let readers: Readers = minicbor::decode(body).map_err(|_| BackupError::Malformed)?;
        let key = match secret {
            BackupSecret::Device(keys) => keys.open_private(&readers.device),
            BackupSecret::Recovery(words) => readers.recovery.as_ref().and_then(|b| open_sealed(BOX, &words.agreement_secret(), b)),
            BackupSecret::Passphrase(p) => match open_seed(readers.passphrase.as_deref().unwrap_or_default(), p) {
                Ok(key) => Some(key.to_vec()),
                Err(PassphraseError::Wrong | PassphraseError::Malformed) => None,
            },
        };
        let key: [u8; 32] = key.and_then(|k| k.try_into().ok()).ok_or(BackupError::Wrong)?;
        Ok((Self::of(key, *readers.prefix, &bytes[..len]), len))
    }

    fn of(key: [u8; 32], prefix: [u8; 15], header: &[u8]) -> Self {
        Self { cipher: XChaCha20Poly1305::new(&key.into()), prefix, header: *blake3::hash(header).as_bytes(), next: 0 }
    }

    /// A number is used once, and only the last segment is marked as such: segments cannot be moved, left out or cut off.
    fn nonce(&mut self, last: bool) -> [u8; 24] {
        let mut nonce = [0; 24];
        nonce[..15].copy_from_slice(&self.prefix);
        nonce[15..23].copy_from_slice(&self.next.to_be_bytes());
        nonce[23] = u8::from(last);
        self.next += 1;
        nonce
    }

    /// The next segment.
    pub fn seal(&mut self, plain: &[u8], last: bool) -> Option<Vec<u8>> {
        let nonce = self.nonce(last);
        self.cipher.encrypt(XNonce::from_slice(&nonce), Payload { msg: plain, aad: &self.header }).ok()
    }

    /// The next segment.
    ///
    /// # Errors
    /// It is not what was sealed there.
    pub fn open_next(&mut self, sealed: &[u8], last: bool) -> Result<Vec<u8>, BackupError> {
        let nonce = self.nonce(last);
        self.cipher.decrypt(XNonce::from_slice(&nonce), Payload { msg: sealed, aad: &self.header }).map_err(|_| BackupError::Damaged)
    }
}

/// Bytes of the header, from its first twelve.
///
/// # Errors
/// Not the beginning of a backup.
pub fn backup_header_len(bytes: &[u8]) -> Result<usize, BackupError> {
    let start: &[u8; 12] = bytes.first_chunk().ok_or(BackupError::Short)?;
    let len = u32::from_le_bytes([start[8], start[9], start[10], start[11]]) as usize;
    if &start[..8] != BACKUP_MAGIC || len > BACKUP_HEADER {
        return Err(BackupError::Malformed);
    }
    Ok(12 + len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(passphrase: Option<&[u8]>) -> (Vec<u8>, Vec<Vec<u8>>, DeviceKeys, RecoveryWords) {
        let (keys, words) = (DeviceKeys::from_seed([3; 32]), RecoveryWords::new([4; 32]));
        let entropy: Vec<u8> = (0..160).collect();
        let (mut seal, header) = BackupSeal::create(&keys, &words.public_key(), passphrase, entropy.try_into().unwrap()).unwrap();
        let parts = vec![seal.seal(b"first", false).unwrap(), seal.seal(b"second", true).unwrap()];
        (header, parts, keys, words)
    }

    fn opened(header: &[u8], parts: &[Vec<u8>], secret: &BackupSecret<'_>) -> Result<Vec<u8>, BackupError> {
        let (mut seal, len) = BackupSeal::open(header, secret)?;
        assert_eq!(len, header.len());
        let mut out = Vec::new();
        for (n, part) in parts.iter().enumerate() {
            out.extend(seal.open_next(part, n + 1 == parts.len())?);
        }
        Ok(out)
    }

    #[test]
    fn it_opens_for_its_device_the_words_and_the_passphrase_only() {
        let (header, parts, keys, words) = made(Some(b"seven wet stones"));
        let all = [BackupSecret::Device(&keys), BackupSecret::Recovery(&words), BackupSecret::Passphrase(b"seven wet stones")];
        for secret in &all {
            assert_eq!(opened(&header, &parts, secret).unwrap(), b"firstsecond");
        }
        let (stranger, others) = (DeviceKeys::from_seed([5; 32]), RecoveryWords::new([6; 32]));
        for wrong in [BackupSecret::Device(&stranger), BackupSecret::Recovery(&others), BackupSecret::Passphrase(b"dry")] {
            assert_eq!(opened(&header, &parts, &wrong), Err(BackupError::Wrong));
        }
        let (header, parts, ..) = made(None);
        assert_eq!(opened(&header, &parts, &BackupSecret::Passphrase(b"")), Err(BackupError::Wrong));
    }

    #[test]
    fn segments_cannot_be_moved_left_out_or_changed() {
        let (header, parts, keys, _) = made(None);
        let device = BackupSecret::Device(&keys);
        let swapped = vec![parts[1].clone(), parts[0].clone()];
        assert_eq!(opened(&header, &swapped, &device), Err(BackupError::Damaged));
        assert_eq!(opened(&header, &parts[..1], &device), Err(BackupError::Damaged), "the end must be the end");
        let mut flipped = parts.clone();
        flipped[0][2] ^= 1;
        assert_eq!(opened(&header, &flipped, &device), Err(BackupError::Damaged));
        let mut other = header.clone();
        let last = other.len() - 1;
        other[last] ^= 1;
        assert!(opened(&other, &parts, &device).is_err());
        for len in 0..header.len() {
            assert!(BackupSeal::open(&header[..len], &device).is_err());
        }
    }
}
