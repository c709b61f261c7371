//! Logs and their keys: making one, opening sessions, rotation.

use super::Shared;
use super::access::{Peer, hashed, keys_word};
use super::body;
use super::refusal::{Answer, Refusal};
use crate::service::now;
use crate::token::Claim;
use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;
use cairn_relay_wire::{
    Accounts, Challenge, Code, Hex, Keys, LogId, LogMade, LogStatus, NewLog, OpenSession, Problem, Right, Session, SessionClaim, limits,
    verify_claim,
};

/// Makes the log of a project. Where accounts are needed, with an account's token. Again with the same keys is no error.
#[utoipa::path(put, path = "/v1/logs/{log}", tag = "logs", params(("log" = LogId, Path)), request_body = NewLog,
    security((), ("account" = [])), responses((status = 200, body = LogMade), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn create(
    State(s): Shared,
    Extension(Peer(from)): Extension<Peer>,
    Path(log): Path<LogId>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let account = match headers.contains_key(header::AUTHORIZATION) {
        true => Some(s.account(&headers).await?.0.id),
        false if s.settings.accounts == Accounts::Required => {
            return Err(Refusal::new(Code::AccountNeeded, "this relay keeps projects of accounts only: `cairn relay login`"));
        }
        false => None,
    };
    let new: NewLog = body::json(&headers, body).await?;
    if new.record.0.len() > limits::RECORD_BYTES {
        return Err(Refusal::new(Code::TooLarge, "the record of admin keys is too large"));
    }
    let known = s.storage.log(log).await?.is_some();
    if !known {
        s.rates.create(from)?;
    }
    let created = s.storage.create_log(log, new, account, now()).await?;
    Ok(Json(LogMade { created }).into_response())
}

/// The first half of opening a session: something to sign, and the keys that count now. The log's name is a secret of its project.
#[utoipa::path(get, path = "/v1/logs/{log}/challenge", tag = "logs", params(("log" = LogId, Path)),
    responses((status = 200, body = Challenge), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn challenge(State(s): Shared, Path(log): Path<LogId>) -> Answer {
    let row = s.storage.log(log).await?.ok_or_else(|| Refusal::new(Code::NotFound, "there is no such log"))?;
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|e| Refusal::new(Code::Unavailable, e.to_string()))?;
    let nonce = s.mint.nonce(&log, random, now());
    let (access, admin, knock) = (Hex(row.access), Hex(row.admin), Hex(row.knock));
    Ok(Json(Challenge { nonce, version: row.version, access, admin, knock }).into_response())
}

/// The second half: the nonce signed by the key of the right that is asked for.
#[utoipa::path(post, path = "/v1/logs/{log}/session", tag = "logs", params(("log" = LogId, Path)), request_body = OpenSession,
    responses((status = 200, body = Session), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn session(State(s): Shared, Path(log): Path<LogId>, headers: HeaderMap, body: Body) -> Answer {
    let asked: OpenSession = body::json(&headers, body).await?;
    let refused = || Refusal::new(Code::Key, "this key does not open the log: another counts now, or never did");
    let now = now();
    let until = s.mint.read_nonce(&asked.nonce, &log, now);
    let until = until.ok_or_else(|| Refusal::new(Code::Session, "the challenge has ended: ask for another"))?;
    if !s.settings.audiences.iter().any(|a| a.eq_ignore_ascii_case(&asked.audience)) {
        return Err(Refusal::new(Code::Key, "the session was signed for another relay: this one does not go by that name"));
    }
    let row = s.storage.log(log).await?.ok_or_else(refused)?;
    let key = match asked.right {
        Right::Knock => row.knock,
        Right::Access => row.access,
        Right::Admin => row.admin,
    };
    let claim = SessionClaim { audience: &asked.audience, log: &log, right: asked.right, nonce: &asked.nonce };
    if !verify_claim(&key, &claim, &asked.signature.0) {
        return Err(refused());
    }
    if !s.storage.answer_once(hashed("challenge", asked.nonce.as_bytes()), until, now).await? {
        return Err(Refusal::new(Code::Session, "this challenge was answered before: ask for another"));
    }
    let token = s.mint.session(&Claim { log, right: asked.right, keys: keys_word(&row), until: now + limits::SESSION_S });
    Ok(Json(Session { token, seconds: limits::SESSION_S }).into_response())
}

/// How a log is.
#[utoipa::path(get, path = "/v1/logs/{log}", tag = "logs", params(("log" = LogId, Path)), security(("session" = [])),
    responses((status = 200, body = LogStatus), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn status(State(s): Shared, Path(log): Path<LogId>, headers: HeaderMap) -> Answer {
    let row = s.member(&headers, log).await?;
    let allowed = s.allowance();
    let quota_bytes = s.storage.room(log, allowed).await?.saturating_add(row.bytes + row.staged);
    let status = LogStatus {
        head: row.head.to_string(),
        chunks: row.chunks,
        bytes: row.bytes,
        quota_bytes,
        staged_bytes: row.staged,
        version: row.version,
        last_append: (row.head.seq > 0).then_some(row.last_append),
    };
    Ok(Json(status).into_response())
}

/// The keys that count, with the sealed record for coordinators.
#[utoipa::path(get, path = "/v1/logs/{log}/keys", tag = "logs", params(("log" = LogId, Path)), security(("session" = [])),
    responses((status = 200, body = Keys), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn keys(State(s): Shared, Path(log): Path<LogId>, headers: HeaderMap) -> Answer {
    let (row, _) = s.session(&headers, log).await?;
    let record = cairn_relay_wire::Sealed(s.storage.record(log).await?);
    Ok(Json(Keys { version: row.version, access: Hex(row.access), admin: Hex(row.admin), record }).into_response())
}

/// Other keys from now on: sessions under those before end at once.
#[utoipa::path(put, path = "/v1/logs/{log}/keys", tag = "logs", params(("log" = LogId, Path)), security(("session" = [])), request_body = Keys,
    responses((status = 200, body = Keys), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn rotate(State(s): Shared, Path(log): Path<LogId>, headers: HeaderMap, body: Body) -> Answer {
    let row = s.coordinator(&headers, log).await?;
    let keys: Keys = body::json(&headers, body).await?;
    if keys.record.0.len() > limits::RECORD_BYTES {
        return Err(Refusal::new(Code::TooLarge, "the record of admin keys is too large"));
    }
    let version = s.storage.set_keys(log, keys.clone()).await?;
    // Whoever listens under a key that does not count any more is let go.
    s.grew(log, row.head.seq + 1);
    Ok(Json(Keys { version, ..keys }).into_response())
}
