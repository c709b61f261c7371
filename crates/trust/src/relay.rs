//! Keys and sealed things for a relay: what opens a project's log there, and what an account keeps there. The relay has public
//! halves and ciphertext only.

use crate::derive::{derive, first16};
use crate::{DeviceKeys, EpochKey, Keyring, SecretSeed, box_for_readers, cbor, open_readers, read_keys_chunk};
use argon2::{Algorithm, Argon2, Params, Version};
use cairn_model::{DeviceId, ProjectId};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use minicbor::bytes::ByteArray;
use minicbor::{Decode, Encode};

/// Names a project's log at any relay. Whoever knows the project (or a ticket for it) knows it.
pub fn relay_log(project: &ProjectId) -> [u8; 16] {
    first16(derive("cairn relay log v1", &[&project.0]))
}

/// Seed of the key that opens the doorstep of a log: for whoever knows the project.
pub fn relay_knock(project: &ProjectId) -> SecretSeed {
    derive("cairn relay knock key v1", &[&project.0])
}

/// Seed of the key that reads and appends, as long as this read key is the one that counts at the relay.
pub fn relay_access(project: &ProjectId, key: &EpochKey) -> SecretSeed {
    derive("cairn relay access key v1", &[&project.0, &key.0])
}

/// Seed of the key with which coordinators change a log's keys and trim it. `secret` is random, and boxed to them.
pub fn relay_admin(secret: &SecretSeed) -> SecretSeed {
    derive("cairn relay admin key v1", &[secret])
}

/// The admin secret for `coordinators` (device and agreement key), as the relay keeps it. `seed` is 32 fresh random bytes.
pub fn seal_admin(project: &ProjectId, secret: &SecretSeed, coordinators: &[(DeviceId, [u8; 32])], seed: [u8; 32]) -> Option<Vec<u8>> {
    let key = EpochKey(*secret);
    let ring = Keyring { discovery: [0; 32], keys: vec![key.clone()] };
    box_for_readers(project, &ring, &key, coordinators, seed)
}

/// The admin secret, if it is boxed to this device, and [`DeviceId::short`] of all it is boxed to.
pub fn open_admin(project: &ProjectId, record: &[u8], keys: &DeviceKeys) -> Option<(SecretSeed, Vec<[u8; 8]>)> {
    let boxed = read_keys_chunk(record).ok()?;
    let opened = open_readers(project, &boxed, Some(keys), None)?;
    Some((opened.ring.keys.last()?.0, opened.readers))
}

/// What a password, or recovery words, give: a proof for the relay, and the key that wraps the account's key.
#[derive(Clone, PartialEq, Eq)]
pub struct AccountProof {
    /// Shown to the relay, which keeps a hash of it.
    pub auth: [u8; 32],
    wrap: [u8; 32],
}

/// 64 MiB and three passes: what RFC 9106 advises where two gigabytes are too much; a second on a phone. The relay could guess
/// offline, so guesses must be dear.
const MEMORY_KIB: u32 = 64 << 10;
const PASSES: u32 = 3;
/// Words that bring an account back.
const RECOVERY_BYTES: usize = 16;

fn split(secret: &[u8; 32]) -> AccountProof {
    AccountProof { auth: derive("cairn account proof v1", &[secret]), wrap: derive("cairn account wrap v1", &[secret]) }
}

impl AccountProof {
    /// Stretches a password. The salt is the user name: nothing has to be asked of the relay first.
    pub fn of_password(user: &str, password: &str) -> Option<Self> {
        let salt = first16(derive("cairn account salt v1", &[user.to_lowercase().as_bytes()]));
        let params = Params::new(MEMORY_KIB, PASSES, 1, Some(32)).ok()?;
        let mut secret = [0; 32];
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_into(password.as_bytes(), &salt, &mut secret).ok()?;
        Some(split(&secret))
    }

    /// From recovery words; `None` for words that are none.
    pub fn of_words(phrase: &str) -> Option<Self> {
        let words = bip39::Mnemonic::parse_normalized(phrase).ok()?.to_entropy();
        let words: [u8; RECOVERY_BYTES] = words.try_into().ok()?;
        Some(split(&derive("cairn account words v1", &[&words])))
    }

    /// Wraps the account's key. `nonce` is random and used once.
    pub fn wrap(&self, account: &[u8; 32], nonce: [u8; 24]) -> Vec<u8> {
        sealed(&self.wrap, b"cairn account key v1", &nonce, account)
    }

    /// The account's key.
    pub fn unwrap(&self, wrapped: &[u8]) -> Option<[u8; 32]> {
        opened(&self.wrap, b"cairn account key v1", wrapped)?.try_into().ok()
    }
}

/// Twelve words for these random bytes.
pub fn account_words(entropy: &[u8; RECOVERY_BYTES]) -> String {
    bip39::Mnemonic::from_entropy(entropy).map(|m| m.to_string()).unwrap_or_default()
}

/// What an account keeps of a project, readable by the account's devices only.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct ProjectLabel {
    /// Its name.
    #[n(1)]
    pub name: String,
    /// Its id.
    #[n(2)]
    project: ByteArray<32>,
    /// A ticket that lets another device of the same person in.
    #[n(3)]
    pub ticket: Option<String>,
    /// Observations when it was written.
    #[n(4)]
    pub observations: Option<u64>,
    /// How many devices had left or been removed when the first label under this account's key was written. Once there are more, one of
    /// them may know the key: labels carry no ticket until the key is another.
    #[n(5)]
    pub since: Option<u64>,
}

impl ProjectLabel {
    /// A label.
    pub fn new(name: String, project: ProjectId, ticket: Option<String>, observations: u64, since: u64) -> Self {
        Self { name, project: project.0.into(), ticket, observations: Some(observations), since: Some(since) }
    }

    /// The project.
    pub fn project(&self) -> ProjectId {
        ProjectId(*self.project)
    }

    /// Sealed under the account's key. `nonce` is random and used once.
    pub fn seal(&self, account: &[u8; 32], nonce: [u8; 24]) -> Vec<u8> {
        sealed(&derive("cairn account label v1", &[account]), b"cairn project label v1", &nonce, &cbor::encode(self))
    }

    /// Opens what [`ProjectLabel::seal`] made, if it is for this log.
    pub fn open(account: &[u8; 32], log: &[u8; 16], bytes: &[u8]) -> Option<Self> {
        let plain = opened(&derive("cairn account label v1", &[account]), b"cairn project label v1", bytes)?;
        let label: Self = minicbor::decode(&plain).ok()?;
        (relay_log(&label.project()) == *log).then_some(label)
    }
}

/// Seals what a device keeps for itself beside its stores, under its key. `nonce` is random and used once.
pub fn seal_own(keys: &DeviceKeys, nonce: [u8; 24], plain: &[u8]) -> Vec<u8> {
    sealed(&derive("cairn own file v1", &[keys.seed()]), b"cairn own file v1", &nonce, plain)
}

/// Opens what [`seal_own`] made.
pub fn open_own(keys: &DeviceKeys, bytes: &[u8]) -> Option<Vec<u8>> {
    opened(&derive("cairn own file v1", &[keys.seed()]), b"cairn own file v1", bytes)
}

fn sealed(key: &[u8; 32], what: &[u8], nonce: &[u8; 24], plain: &[u8]) -> Vec<u8> {
    let payload = Payload { msg: plain, aad: what };
    let text = XChaCha20Poly1305::new(key.into()).encrypt(XNonce::from_slice(nonce), payload).unwrap_or_default();
    [&nonce[..], &text].concat()
}

fn opened(key: &[u8; 32], what: &[u8], bytes: &[u8]) -> Option<Vec<u8>> {
    let (nonce, text) = bytes.split_at_checked(24)?;
    XChaCha20Poly1305::new(key.into()).decrypt(XNonce::from_slice(nonce), Payload { msg: text, aad: what }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: ProjectId = ProjectId([7; 32]);

    #[test]
    fn keys_differ_by_project_and_epoch() {
        let (a, b) = (EpochKey([1; 32]), EpochKey([2; 32]));
        assert_ne!(relay_access(&P, &a), relay_access(&P, &b));
        assert_ne!(relay_access(&P, &a), relay_access(&ProjectId([8; 32]), &a));
        assert_ne!(relay_log(&P), relay_log(&ProjectId([8; 32])));
    }

    #[test]
    fn the_admin_secret_is_for_coordinators() {
        let team: Vec<DeviceKeys> = (1..4).map(|n| DeviceKeys::from_seed([n; 32])).collect();
        let readers: Vec<_> = team[..2].iter().map(|k| (k.device(), k.agreement_key())).collect();
        let record = seal_admin(&P, &[9; 32], &readers, [3; 32]).unwrap();
        let (secret, who) = open_admin(&P, &record, &team[1]).unwrap();
        assert_eq!((secret, who.len()), ([9; 32], 2));
        assert_eq!(open_admin(&P, &record, &team[2]), None);
    }

    #[test]
    fn an_account_comes_back_by_password_or_words_and_by_nothing_else() {
        let (key, nonce) = ([5; 32], [6; 24]);
        let password = AccountProof::of_password("Ana@Example", "seven wet stones").unwrap();
        assert!(AccountProof::of_password("ana@example", "seven wet stones").unwrap() == password, "names ignore case");
        assert_eq!(password.unwrap(&password.wrap(&key, nonce)), Some(key));
        let words = account_words(&[4; 16]);
        assert_eq!(words.split(' ').count(), 12);
        let recovery = AccountProof::of_words(&words).unwrap();
        assert_eq!(recovery.unwrap(&recovery.wrap(&key, nonce)), Some(key));
        assert_eq!(recovery.unwrap(&password.wrap(&key, nonce)), None);
        assert!(AccountProof::of_words("seven wet stones").is_none());
    }

    #[test]
    fn a_label_opens_with_the_accounts_key_and_for_its_log_only() {
        let label = ProjectLabel::new("River".into(), P, Some("cairn1x".into()), 3, 0);
        let sealed = label.seal(&[1; 32], [2; 24]);
        assert_eq!(ProjectLabel::open(&[1; 32], &relay_log(&P), &sealed), Some(label));
        assert_eq!(ProjectLabel::open(&[2; 32], &relay_log(&P), &sealed), None);
        assert_eq!(ProjectLabel::open(&[1; 32], &[0; 16], &sealed), None);
    }
}
