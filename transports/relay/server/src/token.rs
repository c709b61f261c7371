//! Tokens that need no table: what they say is in them, under a key that all nodes of a relay share. And challenges, which are the
//! same with a nonce.

use cairn_relay_wire::{LogId, Right, limits};
use data_encoding::BASE64URL_NOPAD;

const SESSION: &str = "cairn relay session token v1";
const NONCE: &str = "cairn relay nonce v1";

/// What a session's token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub log: LogId,
    pub right: Right,
    /// The log's keys it was opened under, in a word.
    pub keys: u32,
    /// Seconds since 1970.
    pub until: u64,
}

/// Makes and reads tokens.
#[derive(Clone)]
pub(crate) struct Mint {
    secret: [u8; 32],
}

fn mac(context: &str, secret: &[u8; 32], body: &[u8]) -> [u8; 16] {
    let mut out = [0; 16];
    out.copy_from_slice(&blake3::keyed_hash(&blake3::derive_key(context, secret), body).as_bytes()[..16]);
    out
}

/// Takes as long for a wrong one as for a right one.
fn same(a: &[u8; 16], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |acc, (x, y)| acc | (x ^ y)) == 0
}

impl Mint {
    pub fn new(secret: [u8; 32]) -> Self {
        Self { secret }
    }

    fn sign(&self, context: &str, body: Vec<u8>) -> String {
        let mac = mac(context, &self.secret, &body);
        BASE64URL_NOPAD.encode(&[body, mac.to_vec()].concat())
    }

    fn check(&self, context: &str, text: &str) -> Option<Vec<u8>> {
        let mut bytes = BASE64URL_NOPAD.decode(text.as_bytes()).ok()?;
        let tag = bytes.split_off(bytes.len().checked_sub(16)?);
        same(&mac(context, &self.secret, &bytes), &tag).then_some(bytes)
    }

    pub fn session(&self, claim: &Claim) -> String {
        let body = [&claim.log.0[..], &[claim.right.number()], &claim.keys.to_le_bytes(), &claim.until.to_le_bytes()].concat();
        self.sign(SESSION, body)
    }

    /// What a token says, if it is ours and has not ended.
    pub fn read_session(&self, text: &str, now: u64) -> Option<Claim> {
        let body: [u8; 29] = self.check(SESSION, text)?.try_into().ok()?;
        let (mut log, mut keys, mut until) = ([0; 16], [0; 4], [0; 8]);
        log.copy_from_slice(&body[..16]);
        keys.copy_from_slice(&body[17..21]);
        until.copy_from_slice(&body[21..]);
        let claim =
            Claim { log: LogId(log), right: Right::of(body[16])?, keys: u32::from_le_bytes(keys), until: u64::from_le_bytes(until) };
        (claim.until > now).then_some(claim)
    }

    /// A challenge for one log.
    pub fn nonce(&self, log: &LogId, random: [u8; 16], now: u64) -> String {
        let body = [&log.0[..], &random, &(now + limits::NONCE_S).to_le_bytes()].concat();
        self.sign(NONCE, body)
    }

    /// When a challenge ends, if it is ours, for this log, and has not ended.
    pub fn read_nonce(&self, text: &str, log: &LogId, now: u64) -> Option<u64> {
        let body: [u8; 40] = self.check(NONCE, text)?.try_into().ok()?;
        let mut until = [0; 8];
        until.copy_from_slice(&body[32..]);
        let until = u64::from_le_bytes(until);
        (body[..16] == log.0 && until > now && until <= now + limits::NONCE_S).then_some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_end_belong_to_one_relay_and_cannot_be_changed() {
        let mint = Mint::new([1; 32]);
        let claim = Claim { log: LogId([2; 16]), right: Right::Access, keys: 3, until: 100 };
        let token = mint.session(&claim);
        assert_eq!(mint.read_session(&token, 99), Some(claim));
        assert_eq!(mint.read_session(&token, 100), None, "it ended");
        assert_eq!(Mint::new([9; 32]).read_session(&token, 1), None, "another relay's");
        for at in 0..token.len() {
            let mut bad = token.clone().into_bytes();
            bad[at] = if bad[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(mint.read_session(&String::from_utf8(bad).unwrap(), 1).filter(|c| *c != claim), None);
        }
        let nonce = mint.nonce(&claim.log, [7; 16], 50);
        assert!(mint.read_nonce(&nonce, &claim.log, 60).is_some());
        assert_eq!(mint.read_nonce(&nonce, &LogId([3; 16]), 60), None);
        assert_eq!(mint.read_nonce(&nonce, &claim.log, 200), None);
        assert_eq!(mint.read_session(&nonce, 1), None, "a challenge is no token");
    }
}
