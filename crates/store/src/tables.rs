//! Every table. The version is part of the name; keys are fixed-width so that appends stay cheap.

use crate::StoreError;
use redb::{ReadableDatabase, ReadableTable, Table, TableDefinition, WriteTransaction};

pub(crate) type Bytes = &'static [u8];

pub(crate) const META: TableDefinition<&str, Bytes> = TableDefinition::new("meta.1");
/// feed number << 40 | sequence -> chunk as received
pub(crate) const CHUNKS: TableDefinition<u64, Bytes> = TableDefinition::new("chunks.1");
/// same key -> BatchRow
pub(crate) const BATCHES: TableDefinition<u64, Bytes> = TableDefinition::new("batches.1");
/// first 16 bytes of a batch's hash -> the same key
pub(crate) const BY_HASH: TableDefinition<&[u8; 16], u64> = TableDefinition::new("by-hash.1");
/// same key -> (): held batches whose verdict is not "accepted"
pub(crate) const PENDING: TableDefinition<u64, ()> = TableDefinition::new("pending.1");
/// feed number -> FeedRow
pub(crate) const FEEDS: TableDefinition<u32, Bytes> = TableDefinition::new("feeds.1");
/// order of arrival -> control operation
pub(crate) const CONTROL: TableDefinition<u32, Bytes> = TableDefinition::new("control.1");
/// kind, id -> document number
pub(crate) const DOC_IDS: TableDefinition<&[u8; 17], u32> = TableDefinition::new("doc-ids.1");
/// document number -> DocRow
pub(crate) const DOCS: TableDefinition<u32, Bytes> = TableDefinition::new("docs.1");
/// time key (newest first), id prefix, document number
pub(crate) const BY_TIME: TableDefinition<&[u8; 20], ()> = TableDefinition::new("by-time.1");
/// the same for deleted observations
pub(crate) const DELETED: TableDefinition<&[u8; 20], ()> = TableDefinition::new("deleted.1");
/// category number, time key, id prefix, document number
pub(crate) const BY_CATEGORY: TableDefinition<&[u8; 24], ()> = TableDefinition::new("by-category.1");
/// Morton number, document number
pub(crate) const BY_PLACE: TableDefinition<&[u8; 12], ()> = TableDefinition::new("by-place.1");
/// category -> number
pub(crate) const CATEGORIES: TableDefinition<&str, u32> = TableDefinition::new("categories.1");
/// document number -> (): something for people to settle
pub(crate) const CONFLICTS: TableDefinition<u32, ()> = TableDefinition::new("conflicts.1");
/// place in the open batch -> OpenChange
pub(crate) const OPEN: TableDefinition<u32, Bytes> = TableDefinition::new("open.1");
/// device -> receipt as received
pub(crate) const RECEIPTS: TableDefinition<&[u8; 32], Bytes> = TableDefinition::new("receipts.1");
/// device -> addresses and times, only hints
pub(crate) const ADDRESSES: TableDefinition<&[u8; 32], Bytes> = TableDefinition::new("addresses.1");
/// document id, change hash -> ChangeRef: changes of quarantined batches
pub(crate) const APART: TableDefinition<&[u8; 48], Bytes> = TableDefinition::new("apart.1");
/// sync number << 32 | document number -> effect
pub(crate) const SYNC_DOCS: TableDefinition<u64, u8> = TableDefinition::new("sync-docs.1");
/// mailbox -> what is remembered of it
pub(crate) const MAILBOXES: TableDefinition<&[u8; 16], Bytes> = TableDefinition::new("mailboxes.1");
/// name -> target
pub(crate) const REMOTES: TableDefinition<&str, Bytes> = TableDefinition::new("remotes.1");
/// name -> RemoteRule: when and which way it is visited
pub(crate) const REMOTE_RULES: TableDefinition<&str, Bytes> = TableDefinition::new("remote-rules.1");

/// data set (name and identifying columns, as in documents) -> number
pub(crate) const DATASETS: TableDefinition<&str, u32> = TableDefinition::new("datasets.1");
/// data set number << 32 | document number -> (): its rows, deleted ones too
pub(crate) const BY_DATASET: TableDefinition<u64, ()> = TableDefinition::new("by-dataset.1");
/// job -> its file and since when
pub(crate) const JOBS: TableDefinition<&str, Bytes> = TableDefinition::new("jobs.1");
/// number of a run of a job -> what it did
pub(crate) const RUNS: TableDefinition<u64, Bytes> = TableDefinition::new("runs.1");

/// batch key -> number of the sync that brought it; batches made here have none
pub(crate) const ARRIVED: TableDefinition<u64, u32> = TableDefinition::new("arrived.1");
/// number of a sync -> when and with whom
pub(crate) const SYNCS: TableDefinition<u32, Bytes> = TableDefinition::new("syncs.1");
/// observation id, change hash -> number of the undone sync that brought the change: held, and not shown here
pub(crate) const ASIDE: TableDefinition<&[u8; 48], u32> = TableDefinition::new("aside.1");
/// number of a sync -> what was held after it
pub(crate) const MOMENTS: TableDefinition<u32, Bytes> = TableDefinition::new("moments.1");

macro_rules! tables {
    ($($field:ident: $table:ident<$k:ty, $v:ty>),* $(,)?) => {
        /// All tables of one write transaction.
        pub(crate) struct Tables<'t> { $(pub(crate) $field: Table<'t, $k, $v>),* }
        impl<'t> Tables<'t> {
            pub(crate) fn open(tx: &'t WriteTransaction) -> Result<Self, StoreError> {
                Ok(Self { $($field: tx.open_table($table)?),* })
            }
        }
        /// All tables of one read transaction.
        pub(crate) struct View { $(pub(crate) $field: redb::ReadOnlyTable<$k, $v>),* }
        impl View {
            pub(crate) fn open(db: &redb::Database) -> Result<Self, StoreError> {
                let tx = db.begin_read()?;
                Ok(Self { $($field: tx.open_table($table)?),* })
            }

            /// Every row of every table.
            pub(crate) fn copy_into(&self, to: &mut Tables<'_>) -> Result<(), StoreError> {
                $(for row in self.$field.iter()? {
                    let (key, value) = row?;
                    to.$field.insert(key.value(), value.value())?;
                })*
                Ok(())
            }
        }
    };
}

tables! {
    meta: META<&'static str, Bytes>,
    chunks: CHUNKS<u64, Bytes>,
    batches: BATCHES<u64, Bytes>,
    by_hash: BY_HASH<&'static [u8; 16], u64>,
    pending: PENDING<u64, ()>,
    feeds: FEEDS<u32, Bytes>,
    control: CONTROL<u32, Bytes>,
    doc_ids: DOC_IDS<&'static [u8; 17], u32>,
    docs: DOCS<u32, Bytes>,
    by_time: BY_TIME<&'static [u8; 20], ()>,
    deleted: DELETED<&'static [u8; 20], ()>,
    by_category: BY_CATEGORY<&'static [u8; 24], ()>,
    by_place: BY_PLACE<&'static [u8; 12], ()>,
    categories: CATEGORIES<&'static str, u32>,
    conflicts: CONFLICTS<u32, ()>,
    open: OPEN<u32, Bytes>,
    receipts: RECEIPTS<&'static [u8; 32], Bytes>,
    addresses: ADDRESSES<&'static [u8; 32], Bytes>,
    sync_docs: SYNC_DOCS<u64, u8>,
    apart: APART<&'static [u8; 48], Bytes>,
    mailboxes: MAILBOXES<&'static [u8; 16], Bytes>,
    remotes: REMOTES<&'static str, Bytes>,
    remote_rules: REMOTE_RULES<&'static str, Bytes>,
    datasets: DATASETS<&'static str, u32>,
    by_dataset: BY_DATASET<u64, ()>,
    jobs: JOBS<&'static str, Bytes>,
    runs: RUNS<u64, Bytes>,
    moments: MOMENTS<u32, Bytes>,
    arrived: ARRIVED<u64, u32>,
    syncs: SYNCS<u32, Bytes>,
    aside: ASIDE<&'static [u8; 48], u32>,
}

/// The bytes of a row.
pub(crate) fn to_bytes<T: serde::Serialize>(row: &T) -> Vec<u8> {
    postcard::to_stdvec(row).expect("rows encode to memory")
}

/// A row from its bytes.
pub(crate) fn from_bytes<'a, T: serde::Deserialize<'a>>(bytes: &'a [u8], what: &'static str) -> Result<T, StoreError> {
    postcard::from_bytes(bytes).map_err(|_| StoreError::Damaged(what))
}
