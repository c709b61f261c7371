//! Signing and key-agreement keys of a device, and the recovery words.

use crate::derive::derive;
use cairn_model::DeviceId;
use chacha20poly1305::aead::{Aead, KeyInit};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use x25519_dalek::{PublicKey, StaticSecret};

/// 32 secret bytes from the operating system's generator; handed in, never made here.
pub type SecretSeed = [u8; 32];
/// Ed25519 signature.
pub type Signature = [u8; 64];

/// One device's keys, both derived from one seed.
#[derive(Clone)]
pub struct DeviceKeys {
    seed: SecretSeed,
    sign: SigningKey,
    kem: StaticSecret,
}

impl DeviceKeys {
    /// Keys of a seed; the same seed gives the same keys.
    pub fn from_seed(seed: SecretSeed) -> Self {
        let sign = SigningKey::from_bytes(&derive("cairn device signing key v1", &[&seed]));
        let kem = StaticSecret::from(derive("cairn device agreement key v1", &[&seed]));
        Self { seed, sign, kem }
    }

    /// Seals what only this device reads again; `nonce` is random.
    pub fn seal_private(&self, nonce: &[u8; 24], plain: &[u8]) -> Vec<u8> {
        let sealed = self.private().encrypt(XNonce::from_slice(nonce), plain).unwrap_or_default();
        [&nonce[..], &sealed].concat()
    }

    /// Opens what [`DeviceKeys::seal_private`] made; `None` if it was changed or is another device's.
    pub fn open_private(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_at_checked(24)?;
        self.private().decrypt(XNonce::from_slice(nonce), sealed).ok()
    }

    fn private(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&derive("cairn storage key v1", &[&self.seed]).into())
    }

    /// The private half of the agreement key.
    pub(crate) fn agreement_secret(&self) -> [u8; 32] {
        self.kem.to_bytes()
    }

    /// What to keep in the key file.
    pub fn seed(&self) -> &SecretSeed {
        &self.seed
    }

    /// The Ed25519 public key, which is the device's id.
    pub fn device(&self) -> DeviceId {
        DeviceId(self.sign.verifying_key().to_bytes())
    }

    /// The X25519 public key, to which epoch keys are boxed.
    pub fn agreement_key(&self) -> [u8; 32] {
        PublicKey::from(&self.kem).to_bytes()
    }

    /// Signs a hash that was made under its own context.
    pub fn sign(&self, hash: &[u8; 32]) -> Signature {
        self.sign.sign(hash).to_bytes()
    }

    /// The 32-byte Ed25519 private key, for the TLS certificate only.
    pub fn signing_secret(&self) -> [u8; 32] {
        self.sign.to_bytes()
    }
}

impl std::fmt::Debug for DeviceKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DeviceKeys({:?})", self.device())
    }
}

/// `verify_strict` and nothing else: batch verification and the lax form accept signatures that others refuse.
pub fn verify(key: &[u8; 32], hash: &[u8; 32], signature: &Signature) -> bool {
    let Ok(key) = VerifyingKey::from_bytes(key) else { return false };
    key.verify_strict(hash, &ed25519_dalek::Signature::from_bytes(signature)).is_ok()
}

/// The 24 words that outrank every coordinator. Shown once; only the public key is kept.
pub struct RecoveryWords {
    entropy: [u8; 32],
}

impl RecoveryWords {
    /// From 32 random bytes.
    pub fn new(entropy: [u8; 32]) -> Self {
        Self { entropy }
    }

    /// The 24 English BIP-39 words, separated by blanks.
    pub fn phrase(&self) -> String {
        bip39::Mnemonic::from_entropy(&self.entropy).map(|m| m.to_string()).unwrap_or_default()
    }

    /// From words as typed; `None` if a word or the checksum is wrong.
    pub fn parse(phrase: &str) -> Option<Self> {
        let entropy = bip39::Mnemonic::parse_normalized(phrase).ok()?.to_entropy();
        Some(Self { entropy: entropy.try_into().ok()? })
    }

    /// The public key that genesis names.
    pub fn public_key(&self) -> [u8; 32] {
        self.key().verifying_key().to_bytes()
    }

    /// Signs a hash that was made under its own context.
    pub fn sign(&self, hash: &[u8; 32]) -> Signature {
        self.key().sign(hash).to_bytes()
    }

    /// Opens what is boxed to the Montgomery form of [`RecoveryWords::public_key`].
    pub(crate) fn agreement_secret(&self) -> [u8; 32] {
        self.key().to_scalar_bytes()
    }

    fn key(&self) -> SigningKey {
        SigningKey::from_bytes(&derive("cairn recovery key v1", &[&self.entropy]))
    }
}
