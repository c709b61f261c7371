//! What all requests share: settings, storage, parts, who waits for news, rates, numbers.

use crate::metrics::Metrics;
use crate::parts::Parts;
use crate::rates::Rates;
use crate::storage::{Allowance, PartKey, Storage, StorageError};
use crate::token::Mint;
use cairn_relay_wire::{Accounts, LogId, Registration, limits};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// What an operator chooses.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether a log needs an account.
    pub accounts: Accounts,
    /// Who may make one.
    pub registration: Registration,
    /// Bytes of a log without an account, and of all logs of an account without a quota of its own.
    pub quota_bytes: u64,
    /// Days for which trimmed chunks can be brought back.
    pub retention_days: u32,
    /// Names under which clients may know this relay: `HOST`, `HOST:PORT`, pins of keys.
    pub audiences: Vec<String>,
    /// Requests a second from one address, and on one log.
    pub rate: u32,
    /// Log-ins and registrations a minute from one address, and log-ins for one user.
    pub logins: u32,
    /// Connections at once.
    pub connections: usize,
    /// Of those, from one address.
    pub connections_per_address: usize,
    /// How long a handshake, the headers of a request or a sign of life may take.
    pub patience: Duration,
    /// Requests come through a proxy that says for whom (`X-Forwarded-For`, last entry).
    pub behind_proxy: bool,
    /// Hash of the operator's token; `None` closes the operator's part.
    pub operator: Option<[u8; 32]>,
    /// Numbers are shown to whoever asks on this listener, not only to the operator.
    pub open_metrics: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            accounts: Accounts::Optional,
            registration: Registration::Open,
            quota_bytes: 10 << 30,
            retention_days: 14,
            audiences: Vec::new(),
            rate: 200,
            logins: 10,
            connections: 8_192,
            connections_per_address: 512,
            patience: Duration::from_secs(10),
            behind_proxy: false,
            operator: None,
            open_metrics: false,
        }
    }
}

/// Who waits for a log to grow. Only a hint: whoever hears reads again from where it stopped.
#[derive(Default)]
pub(crate) struct Hub {
    heads: Mutex<HashMap<LogId, watch::Sender<u64>>>,
}

impl Hub {
    fn heads(&self) -> std::sync::MutexGuard<'_, HashMap<LogId, watch::Sender<u64>>> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn heard(&self, log: LogId, seq: u64) {
        let mut heads = self.heads();
        let Some(sender) = heads.get(&log) else { return };
        if sender.is_closed() {
            heads.remove(&log);
        } else {
            sender.send_modify(|now| *now = seq);
        }
    }

    pub fn wait(&self, log: LogId) -> watch::Receiver<u64> {
        let mut heads = self.heads();
        // Logs that nobody waits for any more go when the table would grow.
        if heads.len().is_power_of_two() && !heads.contains_key(&log) {
            heads.retain(|_, sender| !sender.is_closed());
        }
        heads.entry(log).or_insert_with(|| watch::Sender::new(0)).subscribe()
    }
}

/// One request that was answered: for a log without identities.
#[derive(Clone, Copy, Debug)]
pub struct Answered<'a> {
    /// Path with names in place of ids.
    pub route: &'a str,
    /// Status.
    pub status: u16,
    /// Until the answer began.
    pub took: Duration,
    /// What the engine said, where it failed.
    pub failed: Option<&'a str>,
}

/// Is told of every answered request.
pub type Heard = Box<dyn Fn(&Answered<'_>) + Send + Sync>;

/// One relay node.
pub struct Service {
    pub(crate) settings: Settings,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) parts: Parts,
    pub(crate) mint: Mint,
    pub(crate) hub: Arc<Hub>,
    pub(crate) rates: Rates,
    pub(crate) metrics: Metrics,
    pub(crate) heard: Option<Heard>,
}

/// Parts younger than this are never erased.
const YOUNG_S: u64 = 86_400;

/// Seconds since 1970 by this machine's clock.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

impl Service {
    /// Over this storage.
    pub async fn new(settings: Settings, storage: Arc<dyn Storage>, parts: Parts, heard: Option<Heard>) -> Result<Arc<Self>, StorageError> {
        let mint = Mint::new(storage.secret().await?);
        let hub = Arc::new(Hub::default());
        let of = hub.clone();
        storage.listen(Box::new(move |log, seq| of.heard(log, seq)));
        let rates = Rates::new(&settings);
        Ok(Arc::new(Self { settings, storage, parts, mint, hub, rates, metrics: Metrics::default(), heard }))
    }

    pub(crate) fn allowance(&self) -> Allowance {
        Allowance {
            quota: self.settings.quota_bytes,
            reserve: limits::RESERVE_BYTES,
            staged: limits::STAGED_BYTES,
            asks: limits::ASKS_BYTES,
        }
    }

    /// A log grew here: whoever listens is woken, at the other nodes too.
    pub(crate) fn grew(&self, log: LogId, seq: u64) {
        self.hub.heard(log, seq);
        self.storage.tell(log, seq);
    }

    /// Erases what was trimmed or uploaded long enough ago.
    pub async fn sweep(&self) -> Result<u64, StorageError> {
        let now = now();
        let trimmed = now.saturating_sub(u64::from(self.settings.retention_days) * 86_400);
        let staged = now.saturating_sub(limits::STAGED_S);
        let mut erased = 0;
        loop {
            let swept = self.storage.sweep(trimmed, staged).await?;
            self.erase(&swept.parts).await?;
            erased += swept.chunks;
            if !swept.more {
                break;
            }
        }
        self.parts.sweep_pieces(staged).await?;
        let lost = self.parts.older_than(now.saturating_sub(YOUNG_S)).await?;
        self.erase(&lost).await?;
        Ok(erased)
    }

    /// Erases parts that nothing names. Young ones are left: they may be about to be named, and a later sweep finds them.
    pub(crate) async fn erase(&self, parts: &[PartKey]) -> Result<(), StorageError> {
        let before = now().saturating_sub(YOUNG_S);
        for key in parts {
            if !self.storage.names(key.log, key.name).await? {
                self.parts.erase(key, before).await?;
            }
        }
        Ok(())
    }
}
