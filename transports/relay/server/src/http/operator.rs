//! The operator's part: who uses how much, quotas, blocking, erasing. Nothing here reads what lies in a log.

use super::Shared;
use super::access::hashed;
use super::body;
use super::refusal::{Answer, Refusal};
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use cairn_relay_wire::{Code, LogId, OperatorAccount, OperatorChange, OperatorLog, Problem, RegistrationCode, Usage};
use data_encoding::BASE32_NOPAD;
use std::collections::BTreeMap;

/// Sums.
#[utoipa::path(get, path = "/v1/operator/usage", tag = "operator", security(("operator" = [])),
    responses((status = 200, body = Usage), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn usage(State(s): Shared, headers: HeaderMap) -> Answer {
    s.operator(&headers)?;
    Ok(Json(s.storage.usage().await?).into_response())
}

/// Numbers in the text form of Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "operator", security((), ("operator" = [])),
    responses((status = 200, body = String, content_type = "application/openmetrics-text"), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn metrics(State(s): Shared, headers: HeaderMap) -> Answer {
    if !s.settings.open_metrics {
        s.operator(&headers)?;
    }
    let text = s.metrics.text(&s.storage.usage().await?);
    Ok(([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response())
}

/// All accounts.
#[utoipa::path(get, path = "/v1/operator/accounts", tag = "operator", security(("operator" = [])),
    responses((status = 200, body = Vec<OperatorAccount>), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn accounts(State(s): Shared, headers: HeaderMap) -> Answer {
    s.operator(&headers)?;
    let default = s.settings.quota_bytes;
    let row = |a: crate::storage::AccountRow| OperatorAccount {
        user: a.user,
        logs: a.logs,
        bytes: a.bytes,
        quota_bytes: if a.quota == 0 { default } else { a.quota },
        blocked: a.blocked,
        created: a.created,
    };
    Ok(Json(s.storage.accounts().await?.into_iter().map(row).collect::<Vec<_>>()).into_response())
}

/// Changes an account's quota, blocks it, or lets it go on.
#[utoipa::path(patch, path = "/v1/operator/accounts/{user}", tag = "operator", params(("user" = String, Path)), security(("operator" = [])),
    request_body = OperatorChange, responses((status = 204), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn change_account(State(s): Shared, Path(user): Path<String>, headers: HeaderMap, body: Body) -> Answer {
    s.operator(&headers)?;
    let change: OperatorChange = body::json(&headers, body).await?;
    s.storage.change_account(user.to_lowercase(), change.quota_bytes, change.blocked).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Erases an account. Its logs stay and are nobody's.
#[utoipa::path(delete, path = "/v1/operator/accounts/{user}", tag = "operator", params(("user" = String, Path)), security(("operator" = [])),
    responses((status = 204), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn delete_account(State(s): Shared, Path(user): Path<String>, headers: HeaderMap) -> Answer {
    s.operator(&headers)?;
    s.storage.delete_account(user.to_lowercase()).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// All logs.
#[utoipa::path(get, path = "/v1/operator/logs", tag = "operator", security(("operator" = [])),
    responses((status = 200, body = Vec<OperatorLog>), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn logs(State(s): Shared, headers: HeaderMap) -> Answer {
    s.operator(&headers)?;
    let users: BTreeMap<_, _> = s.storage.accounts().await?.into_iter().map(|a| (a.id, a.user)).collect();
    let row = |(log, l): (LogId, crate::storage::LogRow)| OperatorLog {
        log,
        user: l.account.and_then(|a| users.get(&a).cloned()),
        chunks: l.chunks,
        bytes: l.bytes,
        last_append: (l.head.seq > 0).then_some(l.last_append),
        blocked: l.blocked,
    };
    Ok(Json(s.storage.logs().await?.into_iter().map(row).collect::<Vec<_>>()).into_response())
}

/// Blocks a log, or lets it go on.
#[utoipa::path(patch, path = "/v1/operator/logs/{log}", tag = "operator", params(("log" = LogId, Path)), security(("operator" = [])),
    request_body = OperatorChange, responses((status = 204), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn change_log(State(s): Shared, Path(log): Path<LogId>, headers: HeaderMap, body: Body) -> Answer {
    s.operator(&headers)?;
    let change: OperatorChange = body::json(&headers, body).await?;
    let (None, Some(blocked)) = (change.quota_bytes, change.blocked) else {
        return Err(Refusal::malformed("a log can be blocked or not; quotas are of accounts"));
    };
    s.storage.block_log(log, blocked).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Erases a log for good. Its project's devices hold everything and can push it again.
#[utoipa::path(delete, path = "/v1/operator/logs/{log}", tag = "operator", params(("log" = LogId, Path)), security(("operator" = [])),
    responses((status = 204), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn delete_log(State(s): Shared, Path(log): Path<LogId>, headers: HeaderMap) -> Answer {
    s.operator(&headers)?;
    let parts = s.storage.delete_log(log).await?;
    s.erase(&parts).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Makes a code for one new account.
#[utoipa::path(post, path = "/v1/operator/codes", tag = "operator", security(("operator" = [])),
    responses((status = 200, body = RegistrationCode), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn code(State(s): Shared, headers: HeaderMap) -> Answer {
    s.operator(&headers)?;
    let mut random = [0; 10];
    getrandom::fill(&mut random).map_err(|e| Refusal::new(Code::Unavailable, e.to_string()))?;
    let code = BASE32_NOPAD.encode(&random).to_lowercase();
    s.storage.add_code(hashed("code", code.as_bytes())).await?;
    Ok(Json(RegistrationCode { code }).into_response())
}
