#![doc = include_str!("../FORMAT.md")]

mod check;
mod control;
mod docs;
mod entropy;
mod error;
mod feeds;
mod files;
mod govern;
mod ingest;
mod judge;
mod local;
mod mail;
mod mem;
mod query;
mod receipts;
mod shelves;
mod tables;

pub use check::Finding;
pub use control::{AddedControl, Entrance};
pub use docs::{ConflictEntry, ConflictValue, DocView, LogEntry, SyncEffect};
pub use entropy::{Entropy, OsEntropy};
pub use error::StoreError;
pub use feeds::{FeedRow, Run, Verdict};
pub use files::{StoreFiles, create_file, open_file};
pub use govern::Removal;
pub use ingest::{IngestStats, Ingested};
pub use judge::SetApart;
pub use local::{ImportRow, ImportStats, RowRefusal};
pub use mail::Mail;
pub use mem::{NewProject, Reopen, Store};
pub use query::{Bbox, Filter, Listing};
pub use receipts::{Coverage, KnownDevice};
pub use shelves::{MailChunk, MailRun};
