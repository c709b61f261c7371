//! The default engine: one redb file in the relay's folder.

mod accounts;
mod logs;
mod rows;
mod tables;
mod writer;

use crate::storage::{AccountId, AccountRow, Allowance, Commit, Found, Incoming, LogRow, PartKey, Presence, Storage, StorageError, Swept};
use async_trait::async_trait;
use cairn_model::ChunkHash;
use cairn_relay_wire::{IndexRow, Keys, LogId, NewLog, Trimmed, Uploaded, Usage};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use tables::{INDEX, LOGS, META, RECORDS, bytes_of, engine, read};
use writer::Writer;

/// One redb file.
pub struct Embedded {
    writer: Writer,
    /// Challenges that were answered, by when they end. One process has the file, so memory will do.
    answered: Mutex<BTreeMap<u64, BTreeSet<[u8; 32]>>>,
}

impl Embedded {
    /// Opens or makes the file at `path`.
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        Ok(Self { writer: Writer::open(path)?, answered: Mutex::default() })
    }
}

#[async_trait]
impl Storage for Embedded {
    async fn secret(&self) -> Result<[u8; 32], StorageError> {
        let write = |t: &mut tables::Tables<'_>| {
            if let Some(kept) = bytes_of(&t.meta, "secret")? {
                return kept.try_into().map_err(|_| StorageError::Engine("a damaged secret".into()));
            }
            let mut fresh = [0; 32];
            getrandom::fill(&mut fresh).map_err(|e| StorageError::Engine(e.to_string()))?;
            t.meta.insert("secret", &fresh[..]).map_err(engine)?;
            Ok(fresh)
        };
        self.writer.write(write).await
    }

    async fn healthy(&self) -> Result<(), StorageError> {
        self.writer.alive()?;
        self.writer.read(|tx| bytes_of(&read(tx, META)?, "secret").map(drop)).await
    }

    async fn answer_once(&self, challenge: [u8; 32], until: u64, now: u64) -> Result<bool, StorageError> {
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        *answered = answered.split_off(&now);
        Ok(answered.entry(until).or_default().insert(challenge))
    }

    async fn create_log(&self, log: LogId, new: NewLog, account: Option<AccountId>, now: u64) -> Result<bool, StorageError> {
        self.writer.write(move |t| logs::create(t, log, &new, account, now)).await
    }

    async fn log(&self, log: LogId) -> Result<Option<LogRow>, StorageError> {
        self.writer.read(move |tx| bytes_of(&read(tx, LOGS)?, &log.0)?.map(|b| rows::decode_log(&b)).transpose()).await
    }

    async fn record(&self, log: LogId) -> Result<Vec<u8>, StorageError> {
        self.writer.read(move |tx| bytes_of(&read(tx, RECORDS)?, &log.0)?.ok_or(StorageError::NoLog)).await
    }

    async fn set_keys(&self, log: LogId, keys: Keys) -> Result<u32, StorageError> {
        self.writer.write(move |t| logs::set_keys(t, log, &keys)).await
    }

    async fn upload(&self, log: LogId, chunks: Vec<Incoming>, allowed: Allowance, now: u64) -> Result<Uploaded, StorageError> {
        self.writer.write(move |t| logs::upload(t, log, &chunks, &allowed, now)).await
    }

    async fn commit(&self, log: LogId, names: Vec<ChunkHash>, allowed: Allowance, now: u64) -> Result<Commit, StorageError> {
        self.writer.write(move |t| logs::commit(t, log, &names, &allowed, now)).await
    }

    async fn append(&self, log: LogId, chunks: Vec<Incoming>, allowed: Allowance, now: u64) -> Result<Commit, StorageError> {
        self.writer.write(move |t| logs::append(t, log, &chunks, &allowed, now)).await
    }

    async fn has(&self, log: LogId, names: Vec<[u8; 16]>) -> Result<Vec<Presence>, StorageError> {
        self.writer.read(move |tx| logs::has(tx, log, &names)).await
    }

    async fn index(&self, log: LogId, after: u64, limit: usize, about: bool) -> Result<Vec<IndexRow>, StorageError> {
        self.writer.read(move |tx| logs::index(tx, log, after, limit, about)).await
    }

    async fn find(&self, log: LogId, name: ChunkHash) -> Result<Option<(Found, u8)>, StorageError> {
        self.writer.read(move |tx| logs::find(tx, log, name)).await
    }

    async fn names(&self, log: LogId, name: ChunkHash) -> Result<bool, StorageError> {
        self.writer.read(move |tx| logs::names(tx, log, &name)).await
    }

    async fn room(&self, log: LogId, allowed: Allowance) -> Result<u64, StorageError> {
        self.writer.read(move |tx| logs::room(tx, log, &allowed)).await
    }

    async fn trim(&self, log: LogId, names: Vec<ChunkHash>, undo: bool, now: u64) -> Result<Trimmed, StorageError> {
        self.writer.write(move |t| logs::trim(t, log, &names, undo, now)).await
    }

    async fn sweep(&self, trimmed_before: u64, staged_before: u64) -> Result<Swept, StorageError> {
        self.writer.write(move |t| logs::sweep(t, trimmed_before, staged_before)).await
    }

    async fn create_account(&self, account: AccountRow, code: Option<[u8; 32]>) -> Result<(), StorageError> {
        self.writer.write(move |t| accounts::create(t, &account, code)).await
    }

    async fn account_by_name(&self, user: String) -> Result<Option<AccountRow>, StorageError> {
        self.writer.read(move |tx| accounts::by_name(tx, &user)).await
    }

    async fn account_by_token(&self, token: [u8; 32]) -> Result<Option<AccountRow>, StorageError> {
        self.writer.read(move |tx| accounts::by_token(tx, &token)).await
    }

    async fn add_token(&self, account: AccountId, token: [u8; 32], now: u64) -> Result<(), StorageError> {
        self.writer.write(move |t| accounts::add_token(t, account, &token, now)).await
    }

    async fn drop_token(&self, token: [u8; 32]) -> Result<(), StorageError> {
        self.writer.write(move |t| accounts::drop_token(t, &token)).await
    }

    async fn tokens(&self, account: AccountId) -> Result<u32, StorageError> {
        self.writer.read(move |tx| accounts::tokens(tx, account)).await
    }

    async fn set_password(&self, account: AccountRow, keep: [u8; 32], labels: Vec<(LogId, Vec<u8>)>) -> Result<(), StorageError> {
        self.writer.write(move |t| accounts::set_password(t, &account, &keep, &labels)).await
    }

    async fn projects(&self, account: AccountId) -> Result<Vec<(LogId, Vec<u8>, LogRow)>, StorageError> {
        self.writer.read(move |tx| accounts::projects(tx, account)).await
    }

    async fn set_label(&self, account: AccountId, log: LogId, label: Option<Vec<u8>>) -> Result<(), StorageError> {
        self.writer.write(move |t| accounts::set_label(t, account, log, label.as_deref())).await
    }

    async fn add_code(&self, code: [u8; 32]) -> Result<(), StorageError> {
        self.writer.write(move |t| t.codes.insert(&code, ()).map(drop).map_err(engine)).await
    }

    async fn usage(&self) -> Result<Usage, StorageError> {
        self.writer.read(logs::usage).await
    }

    async fn accounts(&self) -> Result<Vec<AccountRow>, StorageError> {
        self.writer.read(accounts::all).await
    }

    async fn logs(&self) -> Result<Vec<(LogId, LogRow)>, StorageError> {
        self.writer.read(logs::all).await
    }

    async fn change_account(&self, user: String, quota: Option<u64>, blocked: Option<bool>) -> Result<(), StorageError> {
        self.writer.write(move |t| accounts::change(t, &user, quota, blocked)).await
    }

    async fn block_log(&self, log: LogId, blocked: bool) -> Result<(), StorageError> {
        self.writer.write(move |t| logs::block(t, log, blocked)).await
    }

    async fn delete_account(&self, user: String) -> Result<(), StorageError> {
        self.writer.write(move |t| accounts::delete(t, &user)).await
    }

    async fn delete_log(&self, log: LogId) -> Result<Vec<PartKey>, StorageError> {
        self.writer.write(move |t| logs::delete(t, log)).await
    }
}

/// The row of a place.
fn place(
    table: &impl redb::ReadableTable<&'static [u8; 24], &'static [u8]>,
    log: LogId,
    seq: u64,
) -> Result<Option<rows::PlaceRow>, StorageError> {
    bytes_of(table, &logs::at(log, seq))?.map(|b| rows::PlaceRow::decode(&b)).transpose()
}

/// The table of places of a read transaction.
fn places(tx: &redb::ReadTransaction) -> Result<redb::ReadOnlyTable<&'static [u8; 24], &'static [u8]>, StorageError> {
    read(tx, INDEX)
}
