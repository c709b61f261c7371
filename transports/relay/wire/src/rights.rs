//! Who may do what at a log without saying who: three key pairs, of which the relay has the public halves.

use crate::{Hex, LogId};
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

/// What a session may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Right {
    /// Who knows the project, and perhaps no read key that counts: reads keys and control operations, leaves a request to enter.
    Knock,
    /// Who has the read key of now: reads and appends.
    Access,
    /// Coordinators: new keys, trimming.
    Admin,
}

impl Right {
    /// As it is signed, and as tokens carry it.
    pub fn number(self) -> u8 {
        match self {
            Right::Knock => 1,
            Right::Access => 2,
            Right::Admin => 3,
        }
    }

    /// The right of a number.
    pub fn of(number: u8) -> Option<Self> {
        [Right::Knock, Right::Access, Right::Admin].into_iter().find(|r| r.number() == number)
    }
}

/// What a client signs to open a session. `audience` is the relay as the client knows it (its key's pin, or its name), so that a
/// relay cannot open a session with another one by what it was told.
#[derive(Clone, Copy, Debug)]
pub struct SessionClaim<'a> {
    /// Pin, or `HOST[:PORT]`.
    pub audience: &'a str,
    /// The log.
    pub log: &'a LogId,
    /// What for.
    pub right: Right,
    /// The relay's word, used once.
    pub nonce: &'a str,
}

impl SessionClaim<'_> {
    fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("cairn relay session v1");
        for part in [self.audience.as_bytes(), &self.log.0, &[self.right.number()], self.nonce.as_bytes()] {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
        *hasher.finalize().as_bytes()
    }
}

/// The public half of the key pair made from `seed`.
pub fn public_key(seed: &[u8; 32]) -> Hex<32> {
    Hex(SigningKey::from_bytes(seed).verifying_key().to_bytes())
}

/// The signature that opens a session.
pub fn prove(seed: &[u8; 32], claim: &SessionClaim<'_>) -> Hex<64> {
    Hex(SigningKey::from_bytes(seed).sign(&claim.digest()).to_bytes())
}

/// `true` if the holder of `key` signed this claim.
pub fn verify_claim(key: &[u8; 32], claim: &SessionClaim<'_>, signature: &[u8; 64]) -> bool {
    let signature = ed25519_dalek::Signature::from_bytes(signature);
    VerifyingKey::from_bytes(key).is_ok_and(|key| key.verify_strict(&claim.digest(), &signature).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_holds_for_its_relay_log_right_and_nonce_only() {
        let (seed, log, other) = ([7; 32], LogId([1; 16]), LogId([2; 16]));
        let claim = SessionClaim { audience: "relay.example", log: &log, right: Right::Access, nonce: "n1" };
        let (key, proof) = (public_key(&seed).0, prove(&seed, &claim).0);
        assert!(verify_claim(&key, &claim, &proof));
        let others = [
            SessionClaim { audience: "relay.example:1", ..claim },
            SessionClaim { log: &other, ..claim },
            SessionClaim { right: Right::Admin, ..claim },
            SessionClaim { nonce: "n2", ..claim },
        ];
        assert!(!others.iter().any(|c| verify_claim(&key, c, &proof)));
        assert!(!verify_claim(&public_key(&[8; 32]).0, &claim, &proof) && !verify_claim(&[0; 32], &claim, &proof));
    }
}
