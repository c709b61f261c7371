//! Tables of the embedded engine. A log's id comes first in every key of its own; bytes lie under a number in order of arrival,
//! because random keys cost ten times the time.

use crate::storage::StorageError;
use redb::{ReadOnlyTable, ReadTransaction, ReadableTable, Table, TableDefinition, WriteTransaction};

type Bytes = &'static [u8];

pub(super) const META: TableDefinition<&str, Bytes> = TableDefinition::new("meta.1");
/// log -> LogCbor
pub(super) const LOGS: TableDefinition<&[u8; 16], Bytes> = TableDefinition::new("logs.1");
/// log -> sealed record of admin keys
pub(super) const RECORDS: TableDefinition<&[u8; 16], Bytes> = TableDefinition::new("records.1");
/// log, place -> name, length, kind, flag, number of its bytes
pub(super) const INDEX: TableDefinition<&[u8; 24], Bytes> = TableDefinition::new("index.1");
/// log, place -> (): what is read at the doorstep
pub(super) const ABOUT: TableDefinition<&[u8; 24], ()> = TableDefinition::new("about.1");
/// log, first 16 bytes of the name -> where it is
pub(super) const NAMES: TableDefinition<&[u8; 32], Bytes> = TableDefinition::new("names.1");
/// order of arrival -> bytes of a chunk
pub(super) const DATA: TableDefinition<u64, Bytes> = TableDefinition::new("data.1");
/// time, log, name -> (): uploaded and not committed
pub(super) const STAGED: TableDefinition<&[u8; 56], ()> = TableDefinition::new("staged.1");
/// time, log, place -> (): trimmed
pub(super) const TRIMMED: TableDefinition<&[u8; 32], ()> = TableDefinition::new("trimmed.1");
/// account -> AccountCbor
pub(super) const ACCOUNTS: TableDefinition<&[u8; 16], Bytes> = TableDefinition::new("accounts.1");
/// user name -> account
pub(super) const USERS: TableDefinition<&str, &[u8; 16]> = TableDefinition::new("users.1");
/// account, hash of a token -> time
pub(super) const TOKENS: TableDefinition<&[u8; 48], u64> = TableDefinition::new("tokens.1");
/// hash of a token -> account
pub(super) const BY_TOKEN: TableDefinition<&[u8; 32], &[u8; 16]> = TableDefinition::new("by-token.1");
/// account, log -> sealed label
pub(super) const LABELS: TableDefinition<&[u8; 32], Bytes> = TableDefinition::new("labels.1");
/// hash of a code for a new account -> ()
pub(super) const CODES: TableDefinition<&[u8; 32], ()> = TableDefinition::new("codes.1");

macro_rules! tables {
    ($($field:ident: $table:ident<$k:ty, $v:ty>),* $(,)?) => {
        /// All tables of one write transaction.
        pub(super) struct Tables<'t> { $(pub $field: Table<'t, $k, $v>),* }
        impl<'t> Tables<'t> {
            pub fn open(tx: &'t WriteTransaction) -> Result<Self, StorageError> {
                Ok(Self { $($field: tx.open_table($table).map_err(engine)?),* })
            }
        }
    };
}

tables! {
    meta: META<&'static str, Bytes>,
    logs: LOGS<&'static [u8; 16], Bytes>,
    records: RECORDS<&'static [u8; 16], Bytes>,
    index: INDEX<&'static [u8; 24], Bytes>,
    about: ABOUT<&'static [u8; 24], ()>,
    names: NAMES<&'static [u8; 32], Bytes>,
    data: DATA<u64, Bytes>,
    staged: STAGED<&'static [u8; 56], ()>,
    trimmed: TRIMMED<&'static [u8; 32], ()>,
    accounts: ACCOUNTS<&'static [u8; 16], Bytes>,
    users: USERS<&'static str, &'static [u8; 16]>,
    tokens: TOKENS<&'static [u8; 48], u64>,
    by_token: BY_TOKEN<&'static [u8; 32], &'static [u8; 16]>,
    labels: LABELS<&'static [u8; 32], Bytes>,
    codes: CODES<&'static [u8; 32], ()>,
}

/// Any refusal of the engine; a full disk is told apart.
pub(super) fn engine(e: impl Into<redb::Error>) -> StorageError {
    match e.into() {
        redb::Error::Io(e)
            if matches!(
                e.kind(),
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded | std::io::ErrorKind::FileTooLarge
            ) =>
        {
            StorageError::Full
        }
        e => StorageError::Engine(e.to_string()),
    }
}

/// `a` and `b` as one key.
pub(super) fn key<const A: usize, const B: usize, const N: usize>(a: &[u8; A], b: &[u8; B]) -> [u8; N] {
    let mut out = [0; N];
    out[..A].copy_from_slice(a);
    out[A..].copy_from_slice(b);
    out
}

/// The value of a key, copied.
pub(super) fn bytes_of<'k, K: redb::Key + 'static>(
    table: &impl ReadableTable<K, Bytes>,
    key: impl std::borrow::Borrow<K::SelfType<'k>>,
) -> Result<Option<Vec<u8>>, StorageError> {
    Ok(table.get(key).map_err(engine)?.map(|v| v.value().to_vec()))
}

/// One table of a read transaction.
pub(super) fn read<K: redb::Key, V: redb::Value>(
    tx: &ReadTransaction,
    of: TableDefinition<K, V>,
) -> Result<ReadOnlyTable<K, V>, StorageError> {
    tx.open_table(of).map_err(engine)
}
