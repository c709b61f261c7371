//! JSON bodies. Times are seconds since 1970 by the relay's clock, sizes are bytes.

use crate::{Hex, LogId, Right, Sealed};
use serde::{Deserialize, Serialize};

/// Whether a log needs somebody who pays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Accounts {
    /// Any project may have a log within the default quota.
    #[default]
    Optional,
    /// Only accounts make logs.
    Required,
}

/// Who may make an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Registration {
    /// Anyone.
    #[default]
    Open,
    /// Who has a code from the operator.
    Code,
    /// Nobody.
    Closed,
}

/// What a relay says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct About {
    /// `cairn-relay`.
    pub service: String,
    /// Versions of the interface it speaks.
    pub versions: Vec<u32>,
    /// Version of the program.
    pub program: String,
    /// Whether a log needs an account.
    pub accounts: Accounts,
    /// Who may make an account.
    pub registration: Registration,
    /// Bytes a log without an account may have.
    pub quota_bytes: u64,
    /// Days for which trimmed chunks can be brought back.
    pub retention_days: u32,
    /// The relay's clock.
    pub now: u64,
}

/// Keys for a new log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NewLog {
    /// Opens sessions that read and append.
    pub access: Hex<32>,
    /// Opens sessions of coordinators.
    pub admin: Hex<32>,
    /// Opens the doorstep; never changes.
    pub knock: Hex<32>,
    /// The secret of the admin key, boxed to coordinators; opaque.
    pub record: Sealed,
}

/// What came of making a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LogMade {
    /// `false`: it was there, with just these keys.
    pub created: bool,
}

/// The relay's half of opening a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Challenge {
    /// To be signed, within a minute.
    pub nonce: String,
    /// How often the keys were changed.
    pub version: u32,
    /// The key that reads and appends now.
    pub access: Hex<32>,
    /// The admin key now.
    pub admin: Hex<32>,
    /// The key of the doorstep.
    pub knock: Hex<32>,
}

/// The client's half.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OpenSession {
    /// What for.
    pub right: Right,
    /// The relay as the client knows it: the pin of its key, or `HOST[:PORT]`.
    pub audience: String,
    /// From the challenge.
    pub nonce: String,
    /// Over audience, log, right and nonce.
    pub signature: Hex<64>,
}

/// An open session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Session {
    /// To be sent with every request.
    pub token: String,
    /// Seconds it counts.
    pub seconds: u64,
}

/// How a log is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LogStatus {
    /// Its head, `SEQ-HASH`.
    pub head: String,
    /// Chunks that are there.
    pub chunks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes it may have.
    pub quota_bytes: u64,
    /// Bytes that are uploaded and not committed.
    pub staged_bytes: u64,
    /// How often the keys were changed.
    pub version: u32,
    /// Last append; absent if there was none.
    pub last_append: Option<u64>,
}

/// A log's keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Keys {
    /// How often they were changed; of new ones, the version they replace.
    pub version: u32,
    /// Opens sessions that read and append.
    pub access: Hex<32>,
    /// Opens sessions of coordinators.
    pub admin: Hex<32>,
    /// The secret of the admin key, boxed to coordinators; opaque.
    pub record: Sealed,
}

/// What became of uploaded chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Uploaded {
    /// New here; seen by nobody before the commit.
    pub stored: u32,
    /// Here already.
    pub there: u32,
}

/// What a commit came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Committed {
    /// The log's head after it.
    pub head: String,
    /// How many were appended; the others were in the log already.
    pub appended: u32,
    /// Places of all, in the order they were given.
    pub places: Vec<u64>,
}

/// What a trim or its undoing came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Trimmed {
    /// Chunks that changed.
    pub chunks: u32,
    /// Their bytes.
    pub bytes: u64,
}

/// A new account. The password never leaves the device: `auth` and the key that wraps are stretched from it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Register {
    /// User name: a letter or digit, then letters, digits, `.`, `-`, `_`, `@`, 64 in all.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 64))]
    pub user: String,
    /// Proof of the password.
    pub auth: Hex<32>,
    /// The account's key under the password.
    pub wrapped: Sealed,
    /// Proof of the recovery words.
    pub recovery_auth: Hex<32>,
    /// The account's key under the recovery words.
    pub recovery_wrapped: Sealed,
    /// From the operator, where accounts are by code.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub code: Option<String>,
}

/// User name and a proof: of the password, or of the recovery words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Login {
    /// User name.
    pub user: String,
    /// Proof.
    pub auth: Hex<32>,
    /// The proof is of the recovery words.
    #[serde(default)]
    pub recovery: bool,
}

/// Logged in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LoggedIn {
    /// To be sent with requests of the account. It neither reads nor appends.
    pub token: String,
    /// The account's key, under what was proved.
    pub wrapped: Sealed,
}

/// Another password.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NewPassword {
    /// Proof of the password there was, or of the recovery words.
    pub old: Hex<32>,
    /// Proof of the new one.
    pub auth: Hex<32>,
    /// The account's key under it.
    pub wrapped: Sealed,
    /// Proof of new recovery words, if they change too.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub recovery_auth: Option<Hex<32>>,
    /// The account's key under those.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub recovery_wrapped: Option<Sealed>,
    /// The labels under the new key; of projects on the account's list only.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub labels: Vec<LabelOf>,
}

/// A sealed label of one project.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LabelOf {
    /// Its log.
    pub log: LogId,
    /// Name and a way in.
    pub label: Sealed,
}

/// One project of an account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProjectRow {
    /// Its log.
    pub log: LogId,
    /// Name and a way in, sealed under the account's key.
    pub label: Sealed,
    /// Bytes there.
    pub bytes: u64,
    /// Chunks there.
    pub chunks: u64,
    /// Last append; absent if there was none.
    pub last_append: Option<u64>,
    /// Bytes this account's logs may have together.
    pub quota_bytes: u64,
    /// This account pays for it.
    pub pays: bool,
}

/// An account as its owner sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Account {
    /// User name.
    pub user: String,
    /// Bytes of its logs.
    pub bytes: u64,
    /// Bytes they may have.
    pub quota_bytes: u64,
    /// Its projects.
    pub projects: Vec<ProjectRow>,
    /// Devices that are logged in.
    pub devices: u32,
}

/// A sealed label.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Label {
    /// Name and a way in, sealed under the account's key.
    pub label: Sealed,
}

/// An account as the operator sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OperatorAccount {
    /// User name.
    pub user: String,
    /// Logs it pays for.
    pub logs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes they may have.
    pub quota_bytes: u64,
    /// Neither log-in nor append.
    pub blocked: bool,
    /// When it was made.
    pub created: u64,
}

/// A log as the operator sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OperatorLog {
    /// Its name.
    pub log: LogId,
    /// User name of who pays; absent if nobody does.
    pub user: Option<String>,
    /// Chunks there.
    pub chunks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Last append; absent if there was none.
    pub last_append: Option<u64>,
    /// Nothing is given out or taken.
    pub blocked: bool,
}

/// Everything, summed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Usage {
    /// Accounts.
    pub accounts: u64,
    /// Logs.
    pub logs: u64,
    /// Chunks in them.
    pub chunks: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What the operator changes; what is absent stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OperatorChange {
    /// Bytes its logs may have, 0 for the relay's default; of accounts only.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub quota_bytes: Option<u64>,
    /// Block it, or not any more.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub blocked: Option<bool>,
}

/// A code for one new account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RegistrationCode {
    /// The code.
    pub code: String,
}

#[cfg(feature = "openapi")]
mod schemas {
    use super::{Hex, LogId, Sealed};
    use std::borrow::Cow;
    use utoipa::openapi::{ObjectBuilder, RefOr, Schema, Type};
    use utoipa::{PartialSchema, ToSchema};

    fn digits(pattern: &str) -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern)).into()
    }

    impl PartialSchema for LogId {
        fn schema() -> RefOr<Schema> {
            digits("^[0-9a-f]{32}$")
        }
    }
    impl ToSchema for LogId {}

    impl<const N: usize> PartialSchema for Hex<N> {
        fn schema() -> RefOr<Schema> {
            digits(&format!("^[0-9a-f]{{{}}}$", 2 * N))
        }
    }
    impl<const N: usize> ToSchema for Hex<N> {
        fn name() -> Cow<'static, str> {
            Cow::Owned(format!("Hex{N}"))
        }
    }

    impl PartialSchema for Sealed {
        fn schema() -> RefOr<Schema> {
            digits("^([0-9a-f]{2})*$")
        }
    }
    impl ToSchema for Sealed {}
}
