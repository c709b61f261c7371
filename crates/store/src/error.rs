//! What can go wrong in a store, by who must act.

use cairn_model::{DocId, EditError};
use std::path::PathBuf;

/// Errors of the store. Whatever is returned, the store is as it was before the call.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk or the file refused; the outcome of a commit that failed this way is unknown until reopened.
    #[error("the store could not be read or written: {0}")]
    Disk(#[source] Box<redb::Error>),
    /// A file beside the store.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: std::io::Error,
    },
    /// Another process has the store.
    #[error("the store is in use by {holder}")]
    InUse {
        /// Process and verb, as far as known.
        holder: String,
    },
    /// No store there.
    #[error("there is no store in {}", .0.display())]
    Missing(PathBuf),
    /// Made by a newer version.
    #[error("the store has format {found}; this version knows up to {known}")]
    Newer {
        /// In the file.
        found: u32,
        /// Known here.
        known: u32,
    },
    /// A row that must be there is not, or does not read.
    #[error("the store is damaged: {0}")]
    Damaged(&'static str),
    /// The edit itself.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// No such document.
    #[error("there is no observation {0}")]
    NotFound(DocId),
    /// This device may not write that.
    #[error("this device is {role} and may not {act}")]
    Role {
        /// Its role.
        role: &'static str,
        /// What was tried.
        act: &'static str,
    },
    /// This device was removed from the project.
    #[error("this device was removed from the project by {by} ({mode})")]
    Removed {
        /// Display name of who removed it.
        by: String,
        /// Why, in a word.
        mode: &'static str,
    },
    /// Only a senior coordinator may do that.
    #[error("{name} is a coordinator, and at least as senior as this device")]
    Senior {
        /// Display name of the device meant.
        name: String,
    },
    /// The read keys have not arrived.
    #[error("no read key for this device is among what arrived")]
    NoKeys,
    /// What was asked of the control log does not fit it.
    #[error("{0}")]
    Control(String),
    /// The document is at its size limit.
    #[error("the observation has {bytes} bytes; at most {most} are allowed")]
    DocumentSize {
        /// It would have.
        bytes: usize,
        /// Allowed.
        most: usize,
    },
    /// The document has as many authors as it can number.
    #[error("observation {document} was edited by more programs than one observation can hold; record it as a new one")]
    DocumentFull {
        /// Which one.
        document: DocId,
    },
    /// Our own batch failed the receiver's check: a bug, caught before it left the device.
    #[error("internal fault: own batch refused ({0})")]
    OwnBatch(String),
    /// The data set's rows are identified by other columns.
    #[error("the rows of data set `{dataset}` are identified by {known}, not by {asked}")]
    DatasetKey {
        /// Its name.
        dataset: String,
        /// The columns in use, comma-separated.
        known: String,
        /// The columns asked for.
        asked: String,
    },
    /// The import would delete more than it may. Nothing was written.
    #[error("{would} observations would be deleted; at most {most} may be")]
    TooManyDeletions {
        /// So many.
        would: u64,
        /// Allowed.
        most: u64,
    },
    /// The file has no rows, and what it replaces has. Nothing was written.
    #[error("the file has no rows; replacing would delete all {rows} observations of data set `{dataset}`")]
    EmptyReplace {
        /// Its name.
        dataset: String,
        /// Rows there.
        rows: u64,
    },
    /// Nothing came with a sync of that number.
    #[error("no sync {0} brought anything here")]
    NoSync(u32),
    /// No act, batch or version of that name is here.
    #[error("no import, batch or version of that name is here")]
    NoAct,
    /// The caller's source of rows stopped.
    #[error("{0}")]
    Source(String),
}

impl StoreError {
    /// `true` if the disk is full or a quota is reached.
    pub fn is_out_of_space(&self) -> bool {
        use std::io::ErrorKind as K;
        self.io().is_some_and(|e| matches!(e.kind(), K::StorageFull | K::QuotaExceeded))
    }

    /// `true` if nothing can be written there at all.
    pub fn is_read_only(&self) -> bool {
        self.io().is_some_and(|e| e.kind() == std::io::ErrorKind::ReadOnlyFilesystem)
    }

    fn io(&self) -> Option<&std::io::Error> {
        match self {
            StoreError::Disk(e) => match &**e {
                redb::Error::Io(io) => Some(io),
                _ => None,
            },
            StoreError::File { source, .. } => Some(source),
            _ => None,
        }
    }
}

macro_rules! from_redb {
    ($($kind:ident),*) => { $(impl From<redb::$kind> for StoreError {
        fn from(e: redb::$kind) -> Self { StoreError::Disk(Box::new(e.into())) }
    })* };
}
from_redb!(Error, DatabaseError, TransactionError, TableError, StorageError, CommitError, CompactionError, SetDurabilityError);
