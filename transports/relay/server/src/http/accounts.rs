//! Accounts: who pays, and who comes back with nothing but a name and a password. The relay has neither the password nor a key.

use super::Shared;
use super::access::{Peer, hashed, same};
use super::body;
use super::refusal::{Answer, Refusal};
use crate::service::{Service, now};
use crate::storage::{AccountId, AccountRow};
use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use cairn_relay_wire::{
    Account, Code, Label, LabelOf, LogId, LoggedIn, Login, NewPassword, Problem, ProjectRow, Register, Registration, Sealed, limits,
};
use data_encoding::BASE64URL_NOPAD;

fn random<const N: usize>() -> Result<[u8; N], Refusal> {
    let mut out = [0; N];
    getrandom::fill(&mut out).map_err(|e| Refusal::new(Code::Unavailable, e.to_string()))?;
    Ok(out)
}

/// User names are compared as they are typed, but for the case of letters.
fn user_name(text: &str) -> Result<String, Refusal> {
    let fits = |c: char| c.is_alphanumeric() || ".-_@".contains(c);
    let name = text.to_lowercase();
    let begins = name.chars().next().is_some_and(char::is_alphanumeric);
    if !begins || name.chars().count() > limits::USER_CHARS || !name.chars().all(fits) {
        return Err(Refusal::malformed("a user name begins with a letter or digit, and has 1 to 64 letters, digits, `.`, `-`, `_` or `@`"));
    }
    // Operators name either.
    if name.parse::<LogId>().is_ok() {
        return Err(Refusal::malformed("this user name would be taken for the name of a log"));
    }
    Ok(name)
}

fn wrapped(sealed: &Sealed) -> Result<Vec<u8>, Refusal> {
    match sealed.0.len() {
        1..=limits::WRAPPED_BYTES => Ok(sealed.0.clone()),
        _ => Err(Refusal::malformed("a wrapped key of 1 to 256 bytes is expected")),
    }
}

async fn log_in(s: &Service, account: AccountId, key: Vec<u8>) -> Answer {
    let token = BASE64URL_NOPAD.encode(&random::<32>()?);
    s.storage.add_token(account, hashed("token", token.as_bytes()), now()).await?;
    Ok(Json(LoggedIn { token, wrapped: Sealed(key) }).into_response())
}

/// Makes an account and logs in.
#[utoipa::path(post, path = "/v1/accounts", tag = "accounts", request_body = Register,
    responses((status = 200, body = LoggedIn), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn register(State(s): Shared, Extension(Peer(from)): Extension<Peer>, headers: HeaderMap, body: Body) -> Answer {
    let new: Register = body::json(&headers, body).await?;
    let user = user_name(&new.user)?;
    s.rates.login(from, &user)?;
    let code = match (s.settings.registration, &new.code) {
        (Registration::Closed, _) => {
            return Err(Refusal::new(Code::RegistrationClosed, "the operator of this relay makes no new accounts"));
        }
        (Registration::Code, None) => {
            return Err(Refusal::new(Code::RegistrationCode, "new accounts need a code from the operator of this relay"));
        }
        (Registration::Code, Some(code)) => Some(hashed("code", code.trim().as_bytes())),
        (Registration::Open, _) => None,
    };
    let row = AccountRow {
        id: AccountId(random()?),
        user,
        auth: hashed("proof", &new.auth.0),
        wrapped: wrapped(&new.wrapped)?,
        recovery_auth: hashed("proof", &new.recovery_auth.0),
        recovery_wrapped: wrapped(&new.recovery_wrapped)?,
        bytes: 0,
        logs: 0,
        quota: 0,
        blocked: false,
        created: now(),
    };
    let (id, key) = (row.id, row.wrapped.clone());
    s.storage.create_account(row, code).await?;
    log_in(&s, id, key).await
}

/// Logs in by password, or by recovery words. An unknown name and a wrong proof get the same answer.
#[utoipa::path(post, path = "/v1/account/session", tag = "accounts", request_body = Login,
    responses((status = 200, body = LoggedIn), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn login(State(s): Shared, Extension(Peer(from)): Extension<Peer>, headers: HeaderMap, body: Body) -> Answer {
    let asked: Login = body::json(&headers, body).await?;
    let user = user_name(&asked.user)?;
    s.rates.login(from, &user)?;
    let wrong = || Refusal::new(Code::Password, "user name and password do not fit");
    let account = s.storage.account_by_name(user).await?.ok_or_else(wrong)?;
    let (kept, key) = match asked.recovery {
        true => (account.recovery_auth, account.recovery_wrapped),
        false => (account.auth, account.wrapped),
    };
    if !same(&kept, &hashed("proof", &asked.auth.0)) {
        return Err(wrong());
    }
    if account.blocked {
        return Err(Refusal::new(Code::Blocked, "this account is blocked by the operator of the relay"));
    }
    log_in(&s, account.id, key).await
}

/// Logs this device out.
#[utoipa::path(delete, path = "/v1/account/session", tag = "accounts", security(("account" = [])),
    responses((status = 204), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn logout(State(s): Shared, headers: HeaderMap) -> Answer {
    let (_, token) = s.account(&headers).await?;
    s.storage.drop_token(token).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Another password; all other devices are logged out.
#[utoipa::path(put, path = "/v1/account/password", tag = "accounts", security(("account" = [])), request_body = NewPassword,
    responses((status = 204), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn password(State(s): Shared, Extension(Peer(from)): Extension<Peer>, headers: HeaderMap, body: Body) -> Answer {
    let (mut account, token) = s.account(&headers).await?;
    s.rates.login(from, &account.user)?;
    let new: NewPassword = body::json_up_to(&headers, body, 2 * limits::LABELS_BYTES + limits::JSON_BYTES).await?;
    let size = |l: &LabelOf| l.label.0.len();
    if new.labels.iter().any(|l| size(l) > limits::LABEL_BYTES) || new.labels.iter().map(size).sum::<usize>() > limits::LABELS_BYTES {
        return Err(Refusal::new(Code::TooLarge, "the labels are too large"));
    }
    let old = hashed("proof", &new.old.0);
    if !same(&account.auth, &old) && !same(&account.recovery_auth, &old) {
        return Err(Refusal::new(Code::Password, "this is not the password there was, nor the recovery words"));
    }
    (account.auth, account.wrapped) = (hashed("proof", &new.auth.0), wrapped(&new.wrapped)?);
    match (&new.recovery_auth, &new.recovery_wrapped) {
        (Some(auth), Some(key)) => (account.recovery_auth, account.recovery_wrapped) = (hashed("proof", &auth.0), wrapped(key)?),
        (None, None) => {}
        _ => return Err(Refusal::malformed("new recovery words need both their proof and the wrapped key")),
    }
    let labels = new.labels.into_iter().map(|l| (l.log, l.label.0)).collect();
    s.storage.set_password(account, token, labels).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The account and its projects.
#[utoipa::path(get, path = "/v1/account", tag = "accounts", security(("account" = [])),
    responses((status = 200, body = Account), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn account(State(s): Shared, headers: HeaderMap) -> Answer {
    let (account, _) = s.account(&headers).await?;
    let quota_bytes = if account.quota == 0 { s.settings.quota_bytes } else { account.quota };
    let all = s.storage.projects(account.id).await?;
    let row = |(log, label, row): (LogId, Vec<u8>, crate::storage::LogRow)| ProjectRow {
        log,
        label: Sealed(label),
        bytes: row.bytes,
        chunks: row.chunks,
        last_append: (row.head.seq > 0).then_some(row.last_append),
        quota_bytes,
        pays: row.account == Some(account.id),
    };
    let projects = all.into_iter().map(row).collect();
    let devices = s.storage.tokens(account.id).await?;
    Ok(Json(Account { user: account.user, bytes: account.bytes, quota_bytes, projects, devices }).into_response())
}

/// Labels a project for this account. Needs a session of its log too: who cannot read it cannot list it.
#[utoipa::path(put, path = "/v1/account/projects/{log}", tag = "accounts", params(("log" = LogId, Path)), security(("account" = [], "session" = [])),
    request_body = Label, responses((status = 204), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn label(State(s): Shared, Path(log): Path<LogId>, headers: HeaderMap, body: Body) -> Answer {
    let (account, _) = s.account(&headers).await?;
    s.member(&headers, log).await?;
    let label: Label = body::json(&headers, body).await?;
    if label.label.0.len() > limits::LABEL_BYTES {
        return Err(Refusal::new(Code::TooLarge, "the label is too large"));
    }
    s.storage.set_label(account.id, log, Some(label.label.0)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Takes a project off this account's list. Its log stays.
#[utoipa::path(delete, path = "/v1/account/projects/{log}", tag = "accounts", params(("log" = LogId, Path)), security(("account" = [])),
    responses((status = 204), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn unlabel(State(s): Shared, Path(log): Path<LogId>, headers: HeaderMap) -> Answer {
    let (account, _) = s.account(&headers).await?;
    s.storage.set_label(account.id, log, None).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
