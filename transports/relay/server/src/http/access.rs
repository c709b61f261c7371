//! Who asks: a session of a log, an account's token, the operator's.

use super::refusal::Refusal;
use crate::service::{Service, now};
use crate::storage::{AccountRow, LogRow};
use axum::http::{HeaderMap, header};
use cairn_relay_wire::{Code, LogId, Right, SESSION_HEADER};

/// The address a request came from, as the listener or the proxy before it says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub std::net::IpAddr);

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

/// Changes with every change of a log's keys, and differs for a log that was erased and made again.
pub(crate) fn keys_word(row: &LogRow) -> u32 {
    let mut hasher = blake3::Hasher::new_derive_key("cairn relay session keys v1");
    hasher.update(&row.access).update(&row.admin).update(&row.knock).update(&row.version.to_le_bytes());
    let hash = *hasher.finalize().as_bytes();
    u32::from_le_bytes([hash[0], hash[1], hash[2], hash[3]])
}

fn no_session() -> Refusal {
    Refusal::new(Code::Session, "this needs an open session: the token is missing, has ended, or is for something else")
}

/// Hash under which a token or a proof is kept.
pub(crate) fn hashed(what: &str, secret: &[u8]) -> [u8; 32] {
    blake3::derive_key(&format!("cairn relay {what} hash v1"), secret)
}

/// Same bytes, told in a time that does not depend on them.
pub(crate) fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    a.iter().zip(b).fold(0, |acc, (x, y)| acc | (x ^ y)) == 0
}

impl Service {
    /// The log, and what the session may do with it. The answer is the same for a log that is not there.
    pub(crate) async fn session(&self, headers: &HeaderMap, log: LogId) -> Result<(LogRow, Right), Refusal> {
        let (row, right) = self.still(headers, log).await?;
        self.rates.log(log, right)?;
        Ok((row, right))
    }

    /// The same, not counted: for whoever listens and asks nothing.
    pub(crate) async fn still(&self, headers: &HeaderMap, log: LogId) -> Result<(LogRow, Right), Refusal> {
        let beside = headers.get(SESSION_HEADER).and_then(|v| v.to_str().ok());
        let token = beside.or_else(|| bearer(headers)).ok_or_else(no_session)?;
        let claim = self.mint.read_session(token, now()).filter(|c| c.log == log).ok_or_else(no_session)?;
        let row = self.storage.log(log).await?.ok_or_else(no_session)?;
        if claim.right != Right::Knock && claim.keys != keys_word(&row) {
            return Err(Refusal::new(Code::Session, "the keys of this log were changed: open a session again"));
        }
        if row.blocked {
            return Err(Refusal::new(Code::Blocked, "this log is blocked by the operator of the relay"));
        }
        Ok((row, claim.right))
    }

    /// The log, for a session that may read and append.
    pub(crate) async fn member(&self, headers: &HeaderMap, log: LogId) -> Result<LogRow, Refusal> {
        match self.session(headers, log).await? {
            (row, Right::Access | Right::Admin) => Ok(row),
            (_, Right::Knock) => Err(Refusal::new(Code::Right, "the doorstep of a log reads keys and control operations only")),
        }
    }

    /// The log, for a session of a coordinator.
    pub(crate) async fn coordinator(&self, headers: &HeaderMap, log: LogId) -> Result<LogRow, Refusal> {
        match self.session(headers, log).await? {
            (row, Right::Admin) => Ok(row),
            _ => Err(Refusal::new(Code::Right, "this needs a coordinator's session")),
        }
    }

    /// The account of a request, with the hash of its token.
    pub(crate) async fn account(&self, headers: &HeaderMap) -> Result<(AccountRow, [u8; 32]), Refusal> {
        let none = || Refusal::new(Code::Session, "this needs an account: log in");
        let token = bearer(headers).filter(|t| t.len() <= 128).ok_or_else(none)?;
        let hash = hashed("token", token.as_bytes());
        let account = self.storage.account_by_token(hash).await?.ok_or_else(none)?;
        self.rates.account(account.id)?;
        if account.blocked {
            return Err(Refusal::new(Code::Blocked, "this account is blocked by the operator of the relay"));
        }
        Ok((account, hash))
    }

    /// The operator.
    pub(crate) fn operator(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let token = bearer(headers).map(|t| hashed("operator", t.as_bytes()));
        match (self.settings.operator, token) {
            (Some(kept), Some(token)) if same(&kept, &token) => Ok(()),
            _ => Err(Refusal::new(Code::Session, "this needs the operator's token")),
        }
    }
}
