//! The request vocabulary of looking after a project.

use serde::{Deserialize, Serialize};

/// `backup create`; listing and restoring are a matter of the home (see [`crate::Home::restore_backup`]).
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BackupRequest {
    /// A file or a folder, absolute; a plain copy beside the store if absent.
    pub to: Option<String>,
    /// Sealed for this passphrase too.
    pub passphrase: Option<String>,
    /// So many of a folder are kept; 5 if absent.
    pub keep: Option<u32>,
}

impl std::fmt::Debug for BackupRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the passphrase.
        f.debug_struct("BackupRequest").field("to", &self.to).field("keep", &self.keep).finish_non_exhaustive()
    }
}

/// `doctor`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DoctorRequest {
    /// Leave the network alone.
    pub offline: bool,
    /// Leave out the walk through the store.
    pub quick: bool,
    /// Where a report goes, absolute; it must not be there.
    pub report: Option<String>,
}

/// `conflicts`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConflictsRequest {
    /// Concurrent values alone.
    pub no_duplicates: bool,
    /// At most so many metres apart; 50 if absent.
    pub metres: Option<f64>,
    /// At most so long apart, as `10m`; ten minutes if absent.
    pub within: Option<String>,
    /// Also what one device made twice.
    pub same_device: bool,
    /// So many pairs at most; 0 is no limit.
    pub limit: usize,
}

/// `revert`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RevertRequest {
    /// The beginning of an act's id, `FEED:NUMBER` or `ID@VERSION`.
    pub what: String,
    /// What was made and edited by others since is deleted too.
    pub all: bool,
    /// Tell what would change only.
    pub dry_run: bool,
}
