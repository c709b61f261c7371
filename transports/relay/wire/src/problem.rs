//! What a relay says when it does not do something: problem details (RFC 9457) with a stable code.

use serde::{Deserialize, Serialize};

/// Why, in a word that programs may rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Code {
    /// The request does not read.
    Malformed,
    /// The body is of another type than the path takes.
    MediaType,
    /// Larger than the limit.
    TooLarge,
    /// No token, one that ended, or one for something else.
    Session,
    /// The proof does not open this: another key counts now, or never did.
    Key,
    /// The right of this session is not enough.
    Right,
    /// There is no such thing, or nobody says so.
    NotFound,
    /// It is there already, with other keys.
    Exists,
    /// The keys were changed meanwhile: read them again.
    Changed,
    /// The user name is taken.
    NameTaken,
    /// User name and password do not fit.
    Password,
    /// New accounts are by code here, and this is none.
    RegistrationCode,
    /// No new accounts here.
    RegistrationClosed,
    /// A log needs an account here.
    AccountNeeded,
    /// The operator has blocked this.
    Blocked,
    /// No room within the quota.
    Quota,
    /// Too many requests: wait as long as `retry_after_s` says.
    Rate,
    /// No room on the relay's disk.
    Full,
    /// The relay cannot answer now.
    Unavailable,
    /// The path takes other methods.
    Method,
    /// The request came too slowly, or broke off: try again.
    Slow,
    /// Nothing lies in the range that was asked for.
    Range,
}

impl Code {
    /// What a status means that comes without a body.
    pub fn of_status(status: u16) -> Self {
        match status {
            401 => Code::Session,
            403 => Code::Key,
            404 => Code::NotFound,
            405 => Code::Method,
            408 => Code::Slow,
            409 => Code::Changed,
            413 => Code::TooLarge,
            415 => Code::MediaType,
            416 => Code::Range,
            429 => Code::Rate,
            507 => Code::Quota,
            400..500 => Code::Malformed,
            _ => Code::Unavailable,
        }
    }
}

impl Code {
    /// The status it travels with.
    pub fn status(self) -> u16 {
        match self {
            Code::Malformed => 400,
            Code::Session | Code::Password => 401,
            Code::Key | Code::Right | Code::RegistrationCode | Code::RegistrationClosed | Code::AccountNeeded | Code::Blocked => 403,
            Code::NotFound => 404,
            Code::Method => 405,
            Code::Slow => 408,
            Code::Exists | Code::Changed | Code::NameTaken => 409,
            Code::TooLarge => 413,
            Code::MediaType => 415,
            Code::Range => 416,
            Code::Rate => 429,
            Code::Unavailable => 503,
            Code::Quota | Code::Full => 507,
        }
    }
}

/// The body of a refusal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// `urn:cairn:relay:` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status, again.
    pub status: u16,
    /// Why.
    pub code: Code,
    /// Why, for people.
    pub title: String,
    /// Seconds to wait before another try.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub retry_after_s: Option<u64>,
}

impl Problem {
    /// One with these words.
    pub fn new(code: Code, title: impl Into<String>) -> Self {
        let word = kebab(code);
        Self { kind: format!("urn:cairn:relay:{word}"), status: code.status(), code, title: title.into(), retry_after_s: None }
    }
}

fn kebab(code: Code) -> String {
    let debug = format!("{code:?}");
    let mut word = String::with_capacity(debug.len() + 4);
    for (n, letter) in debug.chars().enumerate() {
        if letter.is_ascii_uppercase() && n > 0 {
            word.push('-');
        }
        word.push(letter.to_ascii_lowercase());
    }
    word
}
