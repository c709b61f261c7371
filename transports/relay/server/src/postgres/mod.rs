//! The engine for more than one node: PostgreSQL. Nodes keep nothing themselves; any number of them serve the same logs. Everything of
//! a log lies under its id, so one server, a replicated cluster and one that is spread by log hold the same tables.

mod accounts;
mod logs;
mod news;
mod rows;
mod session;

use crate::storage::{
    AccountId, AccountRow, Allowance, Commit, Found, Heard, Incoming, LogRow, PartKey, Presence, Storage, StorageError, Swept,
};
use async_trait::async_trait;
use cairn_model::ChunkHash;
use cairn_relay_wire::{IndexRow, Keys, LogId, NewLog, Trimmed, Uploaded, Usage};
use deadpool_postgres::Pool;
use rows::{int, one, run};
use session::{Failed, attempt, transact};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use tokio::sync::mpsc;
use tokio_postgres::Config;
use tokio_postgres_rustls::MakeRustlsConnect;

/// Schemas in their order; each is applied once, in one transaction with the note that it was.
const SCHEMAS: [&str; 1] = [include_str!("schema-1.sql")];
/// Held while schemas are applied: nodes may start together.
const MIGRATING: i64 = 0x6361_6972_6e01;

/// A PostgreSQL database, or a cluster of them.
pub struct Postgres {
    pool: Pool,
    config: Config,
    tls: Option<MakeRustlsConnect>,
    words: mpsc::Sender<(LogId, u64)>,
    /// Until somebody listens.
    spoken: Mutex<Option<mpsc::Receiver<(LogId, u64)>>>,
}

impl Postgres {
    /// Connects by a connection string, of one or several hosts, and brings the schema up to date. `root`: a PEM file of the authority
    /// that vouches for the database, where none does that this machine believes.
    pub async fn open(connection: &str, root: Option<&Path>) -> Result<Self, StorageError> {
        let config = session::config(connection)?;
        let tls = session::tls(&config, root)?;
        let pool = session::pool(config.clone(), tls.clone())?;
        transact!(pool, |t| migrate(&t).await)?;
        let (words, spoken) = news::channel();
        Ok(Self { pool, config, tls, words, spoken: Mutex::new(Some(spoken)) })
    }
}

async fn migrate(t: &deadpool_postgres::Transaction<'_>) -> Result<(), Failed> {
    t.execute("select pg_advisory_xact_lock($1)", &[&MIGRATING]).await?;
    t.batch_execute("create schema if not exists cairn_relay").await?;
    let there: bool = t.query_one("select to_regclass('cairn_relay.meta') is not null", &[]).await?.get(0);
    let version = match there {
        true => t.query_opt("select value from cairn_relay.meta where key = 'schema'", &[]).await?.map(|r| r.get::<_, Vec<u8>>(0)),
        false => None,
    };
    let known = version.and_then(|v| String::from_utf8(v).ok()).and_then(|v| v.parse::<usize>().ok()).unwrap_or(0);
    if known > SCHEMAS.len() {
        let message = format!("the database has schema {known}, this program knows {}: install the newest", SCHEMAS.len());
        return Err(StorageError::Engine(message).into());
    }
    for (n, schema) in SCHEMAS.iter().enumerate().skip(known) {
        t.batch_execute(schema).await?;
        let set = "insert into cairn_relay.meta (key, value) values ('schema', $1) on conflict (key) do update set value = excluded.value";
        t.execute(set, &[&(n + 1).to_string().as_bytes()]).await?;
    }
    Ok(())
}

#[async_trait]
impl Storage for Postgres {
    async fn secret(&self) -> Result<[u8; 32], StorageError> {
        let mut fresh = [0; 32];
        getrandom::fill(&mut fresh).map_err(|e| StorageError::Engine(e.to_string()))?;
        let kept = transact!(self.pool, |t| {
            let put = "insert into cairn_relay.meta (key, value) values ('secret', $1) on conflict (key) do nothing";
            run(&t, put, &[&&fresh[..]]).await?;
            one(&t, "select value from cairn_relay.meta where key = 'secret'", &[]).await
        })?;
        let kept = kept.map(|row| row.get::<_, Vec<u8>>(0)).and_then(|v| v.try_into().ok());
        kept.ok_or_else(|| StorageError::Damaged("the secret of this relay".into()))
    }

    async fn healthy(&self) -> Result<(), StorageError> {
        let row = attempt!(self.pool, |c| one(&c, "select pg_is_in_recovery()", &[]).await)?;
        match row.map(|r| r.get::<_, bool>(0)) {
            Some(false) => Ok(()),
            _ => Err(StorageError::Engine("the database takes no writes".into())),
        }
    }

    async fn answer_once(&self, challenge: [u8; 32], until: u64, now: u64) -> Result<bool, StorageError> {
        transact!(self.pool, |t| {
            run(&t, "delete from cairn_relay.challenges where ends < $1", &[&int(now)]).await?;
            let put = "insert into cairn_relay.challenges (challenge, ends) values ($1, $2) on conflict (challenge) do nothing";
            run(&t, put, &[&&challenge[..], &int(until)]).await.map(|new| new == 1)
        })
    }

    async fn create_log(&self, log: LogId, new: NewLog, account: Option<AccountId>, now: u64) -> Result<bool, StorageError> {
        transact!(self.pool, |t| logs::create(&t, log, &new, account, now).await)
    }

    async fn log(&self, log: LogId) -> Result<Option<LogRow>, StorageError> {
        let sql = format!("select {} from cairn_relay.logs where log = $1", rows::LOG_COLUMNS);
        attempt!(self.pool, |c| one(&c, &sql, &[&&log.0[..]]).await?.map(|r| rows::log_row(&r)).transpose())
    }

    async fn record(&self, log: LogId) -> Result<Vec<u8>, StorageError> {
        let row = attempt!(self.pool, |c| one(&c, "select record from cairn_relay.logs where log = $1", &[&&log.0[..]]).await)?;
        row.map(|r| r.get(0)).ok_or(StorageError::NoLog)
    }

    async fn set_keys(&self, log: LogId, keys: Keys) -> Result<u32, StorageError> {
        transact!(self.pool, |t| logs::set_keys(&t, log, &keys).await)
    }

    async fn upload(&self, log: LogId, chunks: Vec<Incoming>, allowed: Allowance, now: u64) -> Result<Uploaded, StorageError> {
        transact!(self.pool, |t| logs::upload(&t, log, &chunks, &allowed, now).await)
    }

    async fn commit(&self, log: LogId, names: Vec<ChunkHash>, allowed: Allowance, now: u64) -> Result<Commit, StorageError> {
        transact!(self.pool, |t| logs::commit(&t, log, &names, &allowed, now).await)
    }

    async fn append(&self, log: LogId, chunks: Vec<Incoming>, allowed: Allowance, now: u64) -> Result<Commit, StorageError> {
        let names: Vec<ChunkHash> = chunks.iter().map(|c| c.name).collect();
        transact!(self.pool, |t| {
            logs::upload(&t, log, &chunks, &allowed, now).await?;
            logs::commit(&t, log, &names, &allowed, now).await
        })
    }

    async fn has(&self, log: LogId, names: Vec<[u8; 16]>) -> Result<Vec<Presence>, StorageError> {
        attempt!(self.pool, |c| logs::has(&c, log, &names).await)
    }

    async fn index(&self, log: LogId, after: u64, limit: usize, about: bool) -> Result<Vec<IndexRow>, StorageError> {
        attempt!(self.pool, |c| logs::index(&c, log, after, limit, about).await)
    }

    async fn find(&self, log: LogId, name: ChunkHash) -> Result<Option<(Found, u8)>, StorageError> {
        attempt!(self.pool, |c| logs::find(&c, log, name).await)
    }

    async fn names(&self, log: LogId, name: ChunkHash) -> Result<bool, StorageError> {
        attempt!(self.pool, |c| logs::names(&c, log, &name).await)
    }

    async fn room(&self, log: LogId, allowed: Allowance) -> Result<u64, StorageError> {
        attempt!(self.pool, |c| logs::room(&c, log, &allowed).await)
    }

    async fn trim(&self, log: LogId, names: Vec<ChunkHash>, undo: bool, now: u64) -> Result<Trimmed, StorageError> {
        transact!(self.pool, |t| logs::trim(&t, log, &names, undo, now).await)
    }

    async fn sweep(&self, trimmed_before: u64, staged_before: u64) -> Result<Swept, StorageError> {
        let (of, more) = attempt!(self.pool, |c| logs::to_sweep(&c, trimmed_before, staged_before).await)?;
        let mut all = Swept { more, ..Swept::default() };
        for log in of {
            match transact!(self.pool, |t| logs::sweep(&t, log, trimmed_before, staged_before).await) {
                Ok(swept) => {
                    all.chunks += swept.chunks;
                    all.parts.extend(swept.parts);
                }
                // It was erased meanwhile.
                Err(StorageError::NoLog) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(all)
    }

    async fn create_account(&self, account: AccountRow, code: Option<[u8; 32]>) -> Result<(), StorageError> {
        transact!(self.pool, |t| accounts::create(&t, &account, code).await)
    }

    async fn account_by_name(&self, user: String) -> Result<Option<AccountRow>, StorageError> {
        attempt!(self.pool, |c| accounts::by_name(&c, &user).await)
    }

    async fn account_by_token(&self, token: [u8; 32]) -> Result<Option<AccountRow>, StorageError> {
        attempt!(self.pool, |c| accounts::by_token(&c, &token).await)
    }

    async fn add_token(&self, account: AccountId, token: [u8; 32], now: u64) -> Result<(), StorageError> {
        transact!(self.pool, |t| accounts::add_token(&t, account, &token, now).await)
    }

    async fn drop_token(&self, token: [u8; 32]) -> Result<(), StorageError> {
        attempt!(self.pool, |c| run(&c, "delete from cairn_relay.tokens where token = $1", &[&&token[..]]).await.map(drop))
    }

    async fn tokens(&self, account: AccountId) -> Result<u32, StorageError> {
        attempt!(self.pool, |c| accounts::tokens(&c, account).await)
    }

    async fn set_password(&self, account: AccountRow, keep: [u8; 32], labels: Vec<(LogId, Vec<u8>)>) -> Result<(), StorageError> {
        transact!(self.pool, |t| accounts::set_password(&t, &account, &keep, &labels).await)
    }

    async fn projects(&self, account: AccountId) -> Result<Vec<(LogId, Vec<u8>, LogRow)>, StorageError> {
        attempt!(self.pool, |c| accounts::projects(&c, account).await)
    }

    async fn set_label(&self, account: AccountId, log: LogId, label: Option<Vec<u8>>) -> Result<(), StorageError> {
        transact!(self.pool, |t| accounts::set_label(&t, account, log, label.as_deref()).await)
    }

    async fn add_code(&self, code: [u8; 32]) -> Result<(), StorageError> {
        let sql = "insert into cairn_relay.codes (code) values ($1) on conflict (code) do nothing";
        attempt!(self.pool, |c| run(&c, sql, &[&&code[..]]).await.map(drop))
    }

    async fn usage(&self) -> Result<Usage, StorageError> {
        attempt!(self.pool, |c| logs::usage(&c).await)
    }

    async fn accounts(&self) -> Result<Vec<AccountRow>, StorageError> {
        attempt!(self.pool, |c| accounts::all(&c).await)
    }

    async fn logs(&self) -> Result<Vec<(LogId, LogRow)>, StorageError> {
        attempt!(self.pool, |c| logs::all(&c).await)
    }

    async fn change_account(&self, user: String, quota: Option<u64>, blocked: Option<bool>) -> Result<(), StorageError> {
        attempt!(self.pool, |c| accounts::change(&c, &user, quota, blocked).await)
    }

    async fn block_log(&self, log: LogId, blocked: bool) -> Result<(), StorageError> {
        let sql = "update cairn_relay.logs set blocked = $2 where log = $1";
        match attempt!(self.pool, |c| run(&c, sql, &[&&log.0[..], &blocked]).await)? {
            0 => Err(StorageError::NoLog),
            _ => Ok(()),
        }
    }

    async fn delete_account(&self, user: String) -> Result<(), StorageError> {
        transact!(self.pool, |t| accounts::delete(&t, &user).await)
    }

    async fn delete_log(&self, log: LogId) -> Result<Vec<PartKey>, StorageError> {
        transact!(self.pool, |t| logs::delete(&t, log).await)
    }

    fn listen(&self, heard: Heard) {
        let spoken = self.spoken.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(spoken) = spoken {
            tokio::spawn(news::run(self.config.clone(), self.tls.clone(), spoken, heard));
        }
    }

    fn tell(&self, log: LogId, seq: u64) {
        // Where it does not fit or nobody speaks, readers at other nodes look by themselves.
        self.words.try_send((log, seq)).ok();
    }
}
