//! Accounts, their tokens and labels.

use super::rows::{ACCOUNT_COLUMNS, LOG_COLUMNS, account_row, bytes16, int, log_row, one, query, run};
use super::session::Failed;
use crate::storage::{AccountId, AccountRow, LogRow, StorageError};
use cairn_relay_wire::{LogId, limits};
use deadpool_postgres::{GenericClient, Transaction};

pub(super) async fn create(t: &Transaction<'_>, new: &AccountRow, code: Option<[u8; 32]>) -> Result<(), Failed> {
    if let Some(row) = one(t, "select account from cairn_relay.accounts where name = $1", &[&new.user]).await? {
        // A try before this one may have come through without being heard.
        return if bytes16(&row, 0)? == new.id.0 { Ok(()) } else { Err(StorageError::NameTaken.into()) };
    }
    if let Some(code) = code
        && run(t, "delete from cairn_relay.codes where code = $1", &[&&code[..]]).await? == 0
    {
        return Err(StorageError::NoCode.into());
    }
    let made = run(
        t,
        "insert into cairn_relay.accounts (account, name, auth, wrapped, recovery_auth, recovery_wrapped, bytes, logs, quota, blocked, created)
         values ($1, $2, $3, $4, $5, $6, 0, 0, $7, false, $8) on conflict (name) do nothing",
        &[
            &&new.id.0[..],
            &new.user,
            &&new.auth[..],
            &new.wrapped,
            &&new.recovery_auth[..],
            &new.recovery_wrapped,
            &int(new.quota),
            &int(new.created),
        ],
    )
    .await?;
    if made == 0 { Err(StorageError::NameTaken.into()) } else { Ok(()) }
}

pub(super) async fn by_name(c: &impl GenericClient, user: &str) -> Result<Option<AccountRow>, Failed> {
    let sql = format!("select {ACCOUNT_COLUMNS} from cairn_relay.accounts where name = $1");
    one(c, &sql, &[&user]).await?.map(|r| account_row(&r)).transpose()
}

pub(super) async fn by_token(c: &impl GenericClient, token: &[u8; 32]) -> Result<Option<AccountRow>, Failed> {
    let sql = format!("select {ACCOUNT_COLUMNS} from cairn_relay.tokens join cairn_relay.accounts using (account) where token = $1");
    one(c, &sql, &[&&token[..]]).await?.map(|r| account_row(&r)).transpose()
}

async fn held(t: &Transaction<'_>, id: AccountId) -> Result<(), Failed> {
    let row = one(t, "select 1 from cairn_relay.accounts where account = $1 for update", &[&&id.0[..]]).await?;
    row.map(drop).ok_or_else(|| StorageError::NoAccount.into())
}

pub(super) async fn add_token(t: &Transaction<'_>, id: AccountId, token: &[u8; 32], now: u64) -> Result<(), Failed> {
    held(t, id).await?;
    let sql = "insert into cairn_relay.tokens (token, account, since) values ($1, $2, $3) on conflict (token) do nothing";
    run(t, sql, &[&&token[..], &&id.0[..], &int(now)]).await?;
    // The oldest make room: a device that was logged in so long ago logs in again.
    let sql = "delete from cairn_relay.tokens where token in
        (select token from cairn_relay.tokens where account = $1 and token <> $2 order by since desc, token offset $3)";
    run(t, sql, &[&&id.0[..], &&token[..], &(limits::TOKENS as i64 - 1)]).await.map(drop)
}

pub(super) async fn tokens(c: &impl GenericClient, id: AccountId) -> Result<u32, Failed> {
    let row = one(c, "select count(*) from cairn_relay.tokens where account = $1", &[&&id.0[..]]).await?;
    Ok(row.map_or(0, |r| r.get::<_, i64>(0) as u32))
}

pub(super) async fn set_password(
    t: &Transaction<'_>,
    new: &AccountRow,
    keep: &[u8; 32],
    labels: &[(LogId, Vec<u8>)],
) -> Result<(), Failed> {
    let sql = "update cairn_relay.accounts set auth = $2, wrapped = $3, recovery_auth = $4, recovery_wrapped = $5 where account = $1";
    let values: &[&(dyn tokio_postgres::types::ToSql + Sync)] =
        &[&&new.id.0[..], &&new.auth[..], &new.wrapped, &&new.recovery_auth[..], &new.recovery_wrapped];
    if run(t, sql, values).await? == 0 {
        return Err(StorageError::NoAccount.into());
    }
    for (log, label) in labels {
        let set = "update cairn_relay.labels set label = $3 where account = $1 and log = $2";
        run(t, set, &[&&new.id.0[..], &&log.0[..], label]).await?;
    }
    let sql = "delete from cairn_relay.tokens where account = $1 and token <> $2";
    run(t, sql, &[&&new.id.0[..], &&keep[..]]).await.map(drop)
}

pub(super) async fn projects(c: &impl GenericClient, id: AccountId) -> Result<Vec<(LogId, Vec<u8>, LogRow)>, Failed> {
    let sql = format!(
        "select {LOG_COLUMNS}, labels.log, labels.label from cairn_relay.labels join cairn_relay.logs using (log)
         where labels.account = $1 order by labels.log"
    );
    let at = super::rows::AFTER_LOG;
    let rows = query(c, &sql, &[&&id.0[..]]).await?;
    rows.iter().map(|r| Ok((LogId(bytes16(r, at)?), r.get(at + 1), log_row(r)?))).collect()
}

pub(super) async fn set_label(t: &Transaction<'_>, id: AccountId, log: LogId, label: Option<&[u8]>) -> Result<(), Failed> {
    let Some(label) = label else {
        let sql = "delete from cairn_relay.labels where account = $1 and log = $2";
        return run(t, sql, &[&&id.0[..], &&log.0[..]]).await.map(drop);
    };
    if one(t, "select 1 from cairn_relay.logs where log = $1", &[&&log.0[..]]).await?.is_none() {
        return Err(StorageError::NoLog.into());
    }
    held(t, id).await?;
    let sql = "select count(*), coalesce(sum(length(label)), 0)::bigint from cairn_relay.labels where account = $1 and log <> $2";
    let others = one(t, sql, &[&&id.0[..], &&log.0[..]]).await?;
    let (count, bytes) = others.map_or((0, 0), |r| (r.get::<_, i64>(0), r.get::<_, i64>(1)));
    if count as usize >= limits::PROJECTS || bytes as usize + label.len() > limits::LABELS_BYTES {
        return Err(StorageError::Many("projects").into());
    }
    let sql = "insert into cairn_relay.labels (account, log, label) values ($1, $2, $3)
        on conflict (account, log) do update set label = excluded.label";
    run(t, sql, &[&&id.0[..], &&log.0[..], &label]).await.map(drop)
}

pub(super) async fn all(c: &impl GenericClient) -> Result<Vec<AccountRow>, Failed> {
    let rows = query(c, &format!("select {ACCOUNT_COLUMNS} from cairn_relay.accounts order by name"), &[]).await?;
    rows.iter().map(account_row).collect()
}

pub(super) async fn change(c: &impl GenericClient, user: &str, quota: Option<u64>, blocked: Option<bool>) -> Result<(), Failed> {
    let sql = "update cairn_relay.accounts set quota = coalesce($2, quota), blocked = coalesce($3, blocked) where name = $1";
    match run(c, sql, &[&user, &quota.map(int), &blocked]).await? {
        0 => Err(StorageError::NoAccount.into()),
        _ => Ok(()),
    }
}

/// Its logs come first, as everywhere: whoever appends holds a log and then its account.
pub(super) async fn delete(t: &Transaction<'_>, user: &str) -> Result<(), Failed> {
    let row = one(t, "select account from cairn_relay.accounts where name = $1", &[&user]).await?.ok_or(StorageError::NoAccount)?;
    let id = bytes16(&row, 0)?;
    query(t, "select 1 from cairn_relay.logs where account = $1 order by log for update", &[&&id[..]]).await?;
    run(t, "update cairn_relay.logs set account = null where account = $1", &[&&id[..]]).await?;
    for table in ["labels", "tokens", "accounts"] {
        run(t, &format!("delete from cairn_relay.{table} where account = $1"), &[&&id[..]]).await?;
    }
    Ok(())
}
