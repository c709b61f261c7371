//! A device's key seed under a passphrase: Argon2id, then XChaCha20-Poly1305.
//!
//! One line of text: `cairn-key-1`, memory in KiB, passes, lanes, salt, nonce and ciphertext in hex, by blanks. The costs are
//! OWASP's for Argon2id (19 MiB, 2 passes, 1 lane), with twice the passes: a phone opens a home in a tenth of a second.

use crate::SecretSeed;
use argon2::{Algorithm, Argon2, Params, Version};
use cairn_model::{hex, unhex};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};

const MAGIC: &str = "cairn-key-1";
const MEMORY_KIB: u32 = 19 << 10;
const PASSES: u32 = 4;
const LANES: u32 = 1;
/// What a file may ask for: a forged one must not take the machine down.
const MOST_MEMORY_KIB: u32 = 1 << 20;
const MOST_PASSES: u32 = 64;

/// Why a seed does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PassphraseError {
    /// Not text of this format.
    #[error("this is not a device key")]
    Malformed,
    /// Another passphrase, or the text was changed.
    #[error("wrong passphrase")]
    Wrong,
}

/// `true` if the text is a seed under a passphrase.
pub fn is_sealed_seed(text: &str) -> bool {
    text.starts_with(MAGIC)
}

fn cipher(passphrase: &[u8], salt: &[u8], params: Params) -> Option<XChaCha20Poly1305> {
    let mut key = [0; 32];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_into(passphrase, salt, &mut key).ok()?;
    Some(XChaCha20Poly1305::new(&key.into()))
}

/// Seals a seed; `salt` and `nonce` are fresh random bytes.
pub fn seal_seed(seed: &SecretSeed, passphrase: &[u8], salt: [u8; 16], nonce: [u8; 24]) -> Option<String> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, Some(32)).ok()?;
    let payload = Payload { msg: seed, aad: MAGIC.as_bytes() };
    let sealed = cipher(passphrase, &salt, params)?.encrypt(XNonce::from_slice(&nonce), payload).ok()?;
    Some(format!("{MAGIC} {MEMORY_KIB} {PASSES} {LANES} {} {} {}", hex(&salt), hex(&nonce), hex(&sealed)))
}

/// Opens what [`seal_seed`] made.
pub fn open_seed(text: &str, passphrase: &[u8]) -> Result<SecretSeed, PassphraseError> {
    let bad = PassphraseError::Malformed;
    let word: Vec<&str> = text.split_whitespace().collect();
    let [MAGIC, memory, passes, lanes, salt, nonce, sealed] = word[..] else { return Err(bad) };
    let number = |text: &str| text.parse::<u32>().map_err(|_| bad);
    let (memory, passes) = (number(memory)?, number(passes)?);
    if memory > MOST_MEMORY_KIB || passes > MOST_PASSES {
        return Err(bad);
    }
    let params = Params::new(memory, passes, number(lanes)?, Some(32)).map_err(|_| bad)?;
    let (salt, nonce, sealed) = (unhex(salt).map_err(|_| bad)?, unhex(nonce).map_err(|_| bad)?, unhex(sealed).map_err(|_| bad)?);
    let nonce: [u8; 24] = nonce.try_into().map_err(|_| bad)?;
    let payload = Payload { msg: &sealed, aad: MAGIC.as_bytes() };
    let plain = cipher(passphrase, &salt, params).ok_or(bad)?.decrypt(XNonce::from_slice(&nonce), payload);
    plain.ok().and_then(|seed| seed.try_into().ok()).ok_or(PassphraseError::Wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_opens_with_its_passphrase_only() {
        let text = seal_seed(&[7; 32], b"correct horse", [1; 16], [2; 24]).unwrap();
        assert!(is_sealed_seed(&text));
        assert_eq!(open_seed(&text, b"correct horse"), Ok([7; 32]));
        assert_eq!(open_seed(&text, b"correct horsf"), Err(PassphraseError::Wrong));
        assert_eq!(open_seed(&text.replacen("19456", "1", 1), b"correct horse"), Err(PassphraseError::Malformed));
        assert_eq!(open_seed(&text.replacen("19456", "4000000000", 1), b"correct horse"), Err(PassphraseError::Malformed));
        assert_eq!(open_seed("cairn-key-1 x", b""), Err(PassphraseError::Malformed));
        let changed = text.replace(&text[text.len() - 2..], "00");
        assert!(open_seed(&changed, b"correct horse").is_err());
    }
}
