//! Accounts, their tokens and labels.

use super::rows::{decode_account, decode_log, encode_account, encode_log};
use super::tables::{ACCOUNTS, BY_TOKEN, LABELS, LOGS, TOKENS, Tables, USERS, bytes_of, engine, key, read};
use crate::storage::{AccountId, AccountRow, LogRow, StorageError};
use cairn_relay_wire::{LogId, limits};
use redb::{ReadTransaction, ReadableTable};

fn put(t: &mut Tables<'_>, row: &AccountRow) -> Result<(), StorageError> {
    t.accounts.insert(&row.id.0, encode_account(row).as_slice()).map(drop).map_err(engine)
}

fn get(t: &Tables<'_>, id: AccountId) -> Result<AccountRow, StorageError> {
    let kept = bytes_of(&t.accounts, &id.0)?.ok_or(StorageError::NoAccount)?;
    decode_account(id.0, &kept)
}

fn of_user(t: &Tables<'_>, user: &str) -> Result<AccountRow, StorageError> {
    let id = t.users.get(user).map_err(engine)?.map(|v| *v.value()).ok_or(StorageError::NoAccount)?;
    get(t, AccountId(id))
}

pub(super) fn create(t: &mut Tables<'_>, row: &AccountRow, code: Option<[u8; 32]>) -> Result<(), StorageError> {
    if t.users.get(row.user.as_str()).map_err(engine)?.is_some() {
        return Err(StorageError::NameTaken);
    }
    if let Some(code) = code
        && t.codes.remove(&code).map_err(engine)?.is_none()
    {
        return Err(StorageError::NoCode);
    }
    t.users.insert(row.user.as_str(), &row.id.0).map_err(engine)?;
    put(t, row)
}

fn read_account(tx: &ReadTransaction, id: [u8; 16]) -> Result<Option<AccountRow>, StorageError> {
    bytes_of(&read(tx, ACCOUNTS)?, &id)?.map(|b| decode_account(id, &b)).transpose()
}

pub(super) fn by_name(tx: &ReadTransaction, user: &str) -> Result<Option<AccountRow>, StorageError> {
    let id = read(tx, USERS)?.get(user).map_err(engine)?.map(|v| *v.value());
    id.map_or(Ok(None), |id| read_account(tx, id))
}

pub(super) fn by_token(tx: &ReadTransaction, token: &[u8; 32]) -> Result<Option<AccountRow>, StorageError> {
    let id = read(tx, BY_TOKEN)?.get(token).map_err(engine)?.map(|v| *v.value());
    id.map_or(Ok(None), |id| read_account(tx, id))
}

/// All keys that begin with an account.
fn of_account(id: AccountId) -> ([u8; 48], [u8; 48]) {
    (key(&id.0, &[0; 32]), key(&id.0, &[255; 32]))
}

pub(super) fn tokens(tx: &ReadTransaction, id: AccountId) -> Result<u32, StorageError> {
    let (from, to) = of_account(id);
    Ok(read(tx, TOKENS)?.range::<&[u8; 48]>(&from..=&to).map_err(engine)?.count() as u32)
}

pub(super) fn add_token(t: &mut Tables<'_>, id: AccountId, token: &[u8; 32], now: u64) -> Result<(), StorageError> {
    get(t, id)?;
    let (from, to) = of_account(id);
    let mut all = Vec::new();
    for entry in t.tokens.range::<&[u8; 48]>(&from..=&to).map_err(engine)? {
        let (at, since) = entry.map_err(engine)?;
        all.push((since.value(), *at.value()));
    }
    // The oldest makes room: a device that was logged in so long ago logs in again.
    if all.len() >= limits::TOKENS
        && let Some((_, oldest)) = all.into_iter().min()
    {
        t.tokens.remove(&oldest).map_err(engine)?;
        let mut hash = [0; 32];
        hash.copy_from_slice(&oldest[16..]);
        t.by_token.remove(&hash).map_err(engine)?;
    }
    t.tokens.insert(&key(&id.0, token), now).map_err(engine)?;
    t.by_token.insert(token, &id.0).map(drop).map_err(engine)
}

pub(super) fn drop_token(t: &mut Tables<'_>, token: &[u8; 32]) -> Result<(), StorageError> {
    let id = t.by_token.remove(token).map_err(engine)?.map(|v| *v.value());
    if let Some(id) = id {
        t.tokens.remove(&key(&id, token)).map_err(engine)?;
    }
    Ok(())
}

fn drop_tokens(t: &mut Tables<'_>, id: AccountId, keep: Option<&[u8; 32]>) -> Result<(), StorageError> {
    let (from, to) = of_account(id);
    let mut gone: Vec<[u8; 32]> = Vec::new();
    for entry in t.tokens.range::<&[u8; 48]>(&from..=&to).map_err(engine)? {
        let mut hash = [0; 32];
        hash.copy_from_slice(&entry.map_err(engine)?.0.value()[16..]);
        gone.push(hash);
    }
    for token in gone.iter().filter(|hash| keep != Some(hash)) {
        drop_token(t, token)?;
    }
    Ok(())
}

pub(super) fn set_password(t: &mut Tables<'_>, new: &AccountRow, keep: &[u8; 32], labels: &[(LogId, Vec<u8>)]) -> Result<(), StorageError> {
    let mut row = get(t, new.id)?;
    (row.auth, row.wrapped) = (new.auth, new.wrapped.clone());
    (row.recovery_auth, row.recovery_wrapped) = (new.recovery_auth, new.recovery_wrapped.clone());
    put(t, &row)?;
    for (log, label) in labels {
        let at: [u8; 32] = key(&new.id.0, &log.0);
        if t.labels.get(&at).map_err(engine)?.is_some() {
            t.labels.insert(&at, label.as_slice()).map_err(engine)?;
        }
    }
    drop_tokens(t, new.id, Some(keep))
}

fn labels_of(id: AccountId) -> ([u8; 32], [u8; 32]) {
    (key(&id.0, &[0; 16]), key(&id.0, &[255; 16]))
}

pub(super) fn projects(tx: &ReadTransaction, id: AccountId) -> Result<Vec<(LogId, Vec<u8>, LogRow)>, StorageError> {
    let (from, to) = labels_of(id);
    let logs = read(tx, LOGS)?;
    let mut out = Vec::new();
    for entry in read(tx, LABELS)?.range::<&[u8; 32]>(&from..=&to).map_err(engine)? {
        let (at, label) = entry.map_err(engine)?;
        let mut log = [0; 16];
        log.copy_from_slice(&at.value()[16..]);
        if let Some(row) = bytes_of(&logs, &log)? {
            out.push((LogId(log), label.value().to_vec(), decode_log(&row)?));
        }
    }
    Ok(out)
}

pub(super) fn set_label(t: &mut Tables<'_>, id: AccountId, log: LogId, label: Option<&[u8]>) -> Result<(), StorageError> {
    let at: [u8; 32] = key(&id.0, &log.0);
    let Some(label) = label else {
        t.labels.remove(&at).map_err(engine)?;
        return Ok(());
    };
    if bytes_of(&t.logs, &log.0)?.is_none() {
        return Err(StorageError::NoLog);
    }
    let (from, to) = labels_of(id);
    let (mut count, mut bytes) = (0, label.len());
    for entry in t.labels.range::<&[u8; 32]>(&from..=&to).map_err(engine)? {
        let (other, kept) = entry.map_err(engine)?;
        if *other.value() != at {
            (count, bytes) = (count + 1, bytes + kept.value().len());
        }
    }
    if count >= limits::PROJECTS || bytes > limits::LABELS_BYTES {
        return Err(StorageError::Many("projects"));
    }
    t.labels.insert(&at, label).map(drop).map_err(engine)
}

pub(super) fn all(tx: &ReadTransaction) -> Result<Vec<AccountRow>, StorageError> {
    let mut out = Vec::new();
    for entry in read(tx, ACCOUNTS)?.iter().map_err(engine)? {
        let (id, row) = entry.map_err(engine)?;
        out.push(decode_account(*id.value(), row.value())?);
    }
    out.sort_by(|a, b| a.user.cmp(&b.user));
    Ok(out)
}

pub(super) fn change(t: &mut Tables<'_>, user: &str, quota: Option<u64>, blocked: Option<bool>) -> Result<(), StorageError> {
    let mut row = of_user(t, user)?;
    (row.quota, row.blocked) = (quota.unwrap_or(row.quota), blocked.unwrap_or(row.blocked));
    put(t, &row)
}

pub(super) fn delete(t: &mut Tables<'_>, user: &str) -> Result<(), StorageError> {
    let row = of_user(t, user)?;
    drop_tokens(t, row.id, None)?;
    let (from, to) = labels_of(row.id);
    t.labels.retain_in::<&[u8; 32], _>(&from..=&to, |_, _| false).map_err(engine)?;
    let mut owned = Vec::new();
    for entry in t.logs.iter().map_err(engine)? {
        let (log, kept) = entry.map_err(engine)?;
        let kept = decode_log(kept.value())?;
        if kept.account == Some(row.id) {
            owned.push((*log.value(), LogRow { account: None, ..kept }));
        }
    }
    for (log, kept) in owned {
        t.logs.insert(&log, encode_log(&kept).as_slice()).map_err(engine)?;
    }
    t.users.remove(user).map_err(engine)?;
    t.accounts.remove(&row.id.0).map(drop).map_err(engine)
}
