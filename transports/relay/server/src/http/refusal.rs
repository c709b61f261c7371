//! Refusals as answers.

use crate::storage::StorageError;
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use cairn_relay_wire::{Code, Problem};

/// A problem on its way out.
#[derive(Debug)]
pub(crate) struct Refusal(pub Problem, Option<Detail>);

/// What an engine said: for the operator's log, not for whoever asks.
#[derive(Clone, Debug)]
pub(crate) struct Detail(pub String);

pub(crate) type Answer = Result<Response, Refusal>;

impl Refusal {
    pub fn new(code: Code, title: impl Into<String>) -> Self {
        Self(Problem::new(code, title), None)
    }

    pub fn malformed(title: impl Into<String>) -> Self {
        Self::new(Code::Malformed, title)
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self(problem, None)
    }
}

impl From<StorageError> for Refusal {
    fn from(e: StorageError) -> Self {
        let code = match &e {
            StorageError::NoLog | StorageError::NoAccount => Code::NotFound,
            StorageError::Exists => Code::Exists,
            StorageError::Changed => Code::Changed,
            StorageError::NameTaken => Code::NameTaken,
            StorageError::NoCode => Code::RegistrationCode,
            StorageError::Quota { .. } | StorageError::Many(_) => Code::Quota,
            StorageError::NotUploaded(_) => Code::NotFound,
            StorageError::Blocked => Code::Blocked,
            StorageError::Full => Code::Full,
            StorageError::TooLarge => Code::TooLarge,
            StorageError::Engine(_) | StorageError::Damaged(_) => Code::Unavailable,
        };
        match e {
            StorageError::Engine(_) | StorageError::Damaged(_) => {
                Self(Problem::new(code, "the relay's storage does not answer as it should: try again later"), Some(Detail(e.to_string())))
            }
            _ => Self::new(code, e.to_string()),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Problem { status, retry_after_s, .. } = self.0;
        let body = serde_json::to_vec(&self.0).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = retry_after_s {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if let Some(detail) = self.1 {
            response.extensions_mut().insert(detail);
        }
        response
    }
}

/// What the framework itself refused, in our words.
pub(crate) fn in_our_words(response: Response) -> Response {
    let ours = response.headers().get(header::CONTENT_TYPE).is_some_and(|t| t == "application/problem+json");
    let refusal = match response.status().as_u16() {
        status if status < 400 || ours => return response,
        404 => Refusal::new(Code::NotFound, "there is no such path"),
        405 => Refusal::new(Code::Method, "this path takes other methods"),
        408 => Refusal::new(Code::Slow, "the request came too slowly"),
        413 => Refusal::new(Code::TooLarge, "the body is too large"),
        415 => Refusal::new(Code::MediaType, "this path takes a body of another type"),
        status if status < 500 => Refusal::malformed("the request does not read"),
        _ => Refusal::new(Code::Unavailable, "the relay failed; try again"),
    };
    let allow = response.headers().get(header::ALLOW).cloned();
    let mut out = refusal.into_response();
    if let Some(allow) = allow {
        out.headers_mut().insert(header::ALLOW, allow);
    }
    out
}
