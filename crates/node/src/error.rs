//! Errors by who must act. They cross the local socket as they are; hints and exit codes are the command line's.

use cairn_store::StoreError;
use serde::{Deserialize, Serialize};

/// What a request can fail with. The store is as it was before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum NodeError {
    /// No project here.
    #[error("there is no project in {home}")]
    NoProject {
        /// The home looked in.
        home: String,
    },
    /// No project of that name.
    #[error("there is no project `{name}` here; there are: {known}")]
    UnknownProject {
        /// Asked for.
        name: String,
        /// Names there are.
        known: String,
    },
    /// Several projects and none named.
    #[error("there are several projects here: {known}")]
    WhichProject {
        /// Names there are.
        known: String,
    },
    /// Already there.
    #[error("{what} is here already")]
    Exists {
        /// What.
        what: String,
    },
    /// Another process has it.
    #[error("the store is in use by {holder}")]
    InUse {
        /// Process and verb.
        holder: String,
    },
    /// What a person gave does not fit.
    #[error("{message}")]
    Input {
        /// What and where.
        message: String,
    },
    /// No such thing.
    #[error("there is no {what}")]
    NotFound {
        /// What.
        what: String,
    },
    /// Several ids begin so.
    #[error("`{prefix}` is the beginning of several ids; type more of it")]
    Ambiguous {
        /// What was typed.
        prefix: String,
    },
    /// This device may not do that, or is not a member.
    #[error("{message}")]
    NotAllowed {
        /// What and why.
        message: String,
        /// What to do.
        remedy: String,
    },
    /// Another configuration, project or protocol.
    #[error("{message}")]
    Mismatch {
        /// What differs.
        message: String,
    },
    /// The command and the service that answers it are of different versions.
    #[error("{message}")]
    Versions {
        /// Which is older.
        message: String,
        /// It is the service.
        service: bool,
    },
    /// Nobody answered.
    #[error("{target}: nobody reached")]
    Unreached {
        /// Where.
        target: String,
    },
    /// A relay did not answer, or somebody else did.
    #[error("{message}")]
    RelayUnreached {
        /// Which, and why.
        message: String,
    },
    /// No space.
    #[error("there is no space left: {message}")]
    NoSpace {
        /// Where.
        message: String,
    },
    /// The device's key is under a passphrase and none was given.
    #[error("this device's key is under a passphrase")]
    Locked,
    /// Not the passphrase.
    #[error("this is not the passphrase of this device's key")]
    WrongPassphrase,
    /// Not the passphrase of a backup.
    #[error("{path}: this is not its passphrase")]
    WrongBackupPassphrase {
        /// The backup.
        path: String,
    },
    /// The device's key is in the platform's key store and cannot be had from there.
    #[error("{}", if *gone { "the key store of this machine does not have this device's key" } else { "the key store that has this device's key is not there or locked" })]
    KeyStore {
        /// It is open and does not have it.
        gone: bool,
    },
    /// It would do harm as it was asked for.
    #[error("{message}")]
    Refused {
        /// What and why.
        message: String,
        /// What to do.
        remedy: String,
    },
    /// Stopped before it deleted more than it may.
    #[error("{would} observations would be deleted; at most {most} may be, so nothing was done")]
    TooManyDeletions {
        /// So many.
        would: u64,
        /// Allowed.
        most: u64,
    },
    /// A file outside the store.
    #[error("{path}: {message}")]
    File {
        /// Which.
        path: String,
        /// What happened.
        message: String,
    },
    /// The store itself.
    #[error("{message}")]
    Store {
        /// What happened.
        message: String,
    },
}

impl NodeError {
    pub(crate) fn not_allowed(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        NodeError::NotAllowed { message: message.into(), remedy: remedy.into() }
    }

    pub(crate) fn refused(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        NodeError::Refused { message: message.into(), remedy: remedy.into() }
    }

    pub(crate) fn input(message: impl Into<String>) -> Self {
        NodeError::Input { message: message.into() }
    }

    /// A file that could not be read or written; a full disk is a full disk.
    pub(crate) fn io(path: &std::path::Path, e: &std::io::Error) -> Self {
        match e.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                NodeError::NoSpace { message: format!("{}: {e}", path.display()) }
            }
            _ => NodeError::file(path, e),
        }
    }

    /// A file that could not be written in its format: for want of space, or otherwise.
    pub(crate) fn format(path: &std::path::Path, e: &cairn_formats::FormatError) -> Self {
        if e.is_out_of_space() { NodeError::NoSpace { message: format!("{}: {e}", path.display()) } } else { NodeError::file(path, e) }
    }

    pub(crate) fn file(path: &std::path::Path, e: impl std::fmt::Display) -> Self {
        NodeError::File { path: path.display().to_string(), message: e.to_string() }
    }
}

impl From<StoreError> for NodeError {
    fn from(e: StoreError) -> Self {
        if let Some(refused) = crate::import::refusal(&e) {
            return refused;
        }
        let message = e.to_string();
        match e {
            _ if e.is_out_of_space() => NodeError::NoSpace { message },
            _ if e.is_read_only() => NodeError::refused(
                "the disk that this home is on can only be read, and a store is opened for writing",
                "copy the whole folder to another disk (`cp -a HOME ELSEWHERE`) and name it with `--home ELSEWHERE`; if the system turned it \
                 read-only after errors, do that first of all",
            ),
            StoreError::InUse { holder } => NodeError::InUse { holder },
            StoreError::Missing(path) => NodeError::NoProject { home: path.display().to_string() },
            StoreError::Edit(_) | StoreError::Source(_) | StoreError::DocumentSize { .. } | StoreError::DocumentFull { .. } => {
                NodeError::Input { message }
            }
            StoreError::NotFound(id) => NodeError::NotFound { what: format!("observation {id}") },
            StoreError::Role { act, .. } => {
                let writes = act.contains("observations") || act.contains("configuration");
                let other_role = "a coordinator can give this device another role: `cairn devices role`";
                NodeError::not_allowed(message, if writes { other_role } else { "ask a coordinator: see `cairn devices`" })
            }
            StoreError::Removed { .. } => NodeError::not_allowed(message, "a coordinator can let it in again: `cairn devices approve`"),
            StoreError::Senior { .. } => {
                NodeError::not_allowed(message, "only a coordinator senior to it can, or the recovery words: `cairn devices recover`")
            }
            StoreError::NoKeys => NodeError::not_allowed(message, "try again through another device"),
            StoreError::Control(_) => NodeError::Input { message },
            StoreError::Newer { .. } => NodeError::Mismatch { message },
            _ => NodeError::Store { message },
        }
    }
}
