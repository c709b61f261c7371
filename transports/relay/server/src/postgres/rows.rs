//! Statements and rows.

use super::session::Failed;
use crate::storage::{AccountId, AccountRow, LogRow, StorageError};
use cairn_relay_wire::Head;
use deadpool_postgres::GenericClient;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

type Values<'a> = &'a [&'a (dyn ToSql + Sync)];

/// Rows of a statement that is prepared once for each connection.
pub(super) async fn query(c: &impl GenericClient, sql: &str, values: Values<'_>) -> Result<Vec<Row>, Failed> {
    let statement = c.prepare_cached(sql).await?;
    Ok(c.query(&statement, values).await?)
}

/// The first row, if there is one.
pub(super) async fn one(c: &impl GenericClient, sql: &str, values: Values<'_>) -> Result<Option<Row>, Failed> {
    let statement = c.prepare_cached(sql).await?;
    Ok(c.query_opt(&statement, values).await?)
}

/// How many rows were changed.
pub(super) async fn run(c: &impl GenericClient, sql: &str, values: Values<'_>) -> Result<u64, Failed> {
    let statement = c.prepare_cached(sql).await?;
    Ok(c.execute(&statement, values).await?)
}

/// As the engine keeps numbers. Quotas above its range mean as much as its largest.
pub(super) fn int(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn fixed<const N: usize>(row: &Row, column: usize) -> Result<[u8; N], Failed> {
    let bytes: &[u8] = row.get(column);
    bytes.try_into().map_err(|_| StorageError::Damaged("a row of another length".into()).into())
}

pub(super) fn bytes16(row: &Row, column: usize) -> Result<[u8; 16], Failed> {
    fixed(row, column)
}

pub(super) fn bytes32(row: &Row, column: usize) -> Result<[u8; 32], Failed> {
    fixed(row, column)
}

/// What [`log_row`] reads, in its order; `logs` is nothing else in the statement.
pub(super) const LOG_COLUMNS: &str = "logs.seq, logs.head, logs.access, logs.admin, logs.knock, logs.version, logs.account, logs.chunks, logs.bytes, logs.asks, logs.staged, logs.last_append, logs.blocked";
/// The first column behind those.
pub(super) const AFTER_LOG: usize = 13;

pub(super) fn log_row(row: &Row) -> Result<LogRow, Failed> {
    let number = |n: usize| row.get::<_, i64>(n) as u64;
    let account = row.get::<_, Option<&[u8]>>(6).map(|_| bytes16(row, 6).map(AccountId)).transpose()?;
    Ok(LogRow {
        head: Head { seq: number(0), hash: bytes32(row, 1)? },
        access: bytes32(row, 2)?,
        admin: bytes32(row, 3)?,
        knock: bytes32(row, 4)?,
        version: row.get::<_, i32>(5) as u32,
        account,
        chunks: number(7),
        bytes: number(8),
        asks: number(9),
        staged: number(10),
        last_append: number(11),
        blocked: row.get(12),
    })
}

/// What [`account_row`] reads, in its order.
pub(super) const ACCOUNT_COLUMNS: &str = "accounts.account, accounts.name, accounts.auth, accounts.wrapped, accounts.recovery_auth, accounts.recovery_wrapped, accounts.bytes, accounts.logs, accounts.quota, accounts.blocked, accounts.created";

pub(super) fn account_row(row: &Row) -> Result<AccountRow, Failed> {
    let number = |n: usize| row.get::<_, i64>(n) as u64;
    Ok(AccountRow {
        id: AccountId(bytes16(row, 0)?),
        user: row.get(1),
        auth: bytes32(row, 2)?,
        wrapped: row.get(3),
        recovery_auth: bytes32(row, 4)?,
        recovery_wrapped: row.get(5),
        bytes: number(6),
        logs: number(7),
        quota: number(8),
        blocked: row.get(9),
        created: number(10),
    })
}
