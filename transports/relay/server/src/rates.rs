//! How often somebody may ask. Buckets are kept for those who asked lately, and for a bounded number of them.

use crate::service::Settings;
use crate::storage::AccountId;
use cairn_relay_wire::{Code, LogId, Problem, Right};
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;

/// Buckets at which those that are full again are forgotten.
const BUCKETS: usize = 100_000;
/// How much of a second's requests may come at once.
const BURST: u32 = 4;

pub(crate) struct Rates {
    clock: DefaultClock,
    addresses: DefaultKeyedRateLimiter<IpAddr>,
    logs: DefaultKeyedRateLimiter<(LogId, u8)>,
    accounts: DefaultKeyedRateLimiter<AccountId>,
    login_addresses: DefaultKeyedRateLimiter<IpAddr>,
    users: DefaultKeyedRateLimiter<String>,
    doorsteps: DefaultKeyedRateLimiter<LogId>,
    inboxes: DefaultKeyedRateLimiter<(LogId, IpAddr)>,
    creators: DefaultKeyedRateLimiter<IpAddr>,
}

fn a_second(count: u32) -> Quota {
    let count = NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
    Quota::per_second(count).allow_burst(count.saturating_mul(NonZeroU32::new(BURST).unwrap_or(NonZeroU32::MIN)))
}

fn a_minute(count: u32) -> Quota {
    Quota::per_minute(NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN))
}

/// One household has a whole /64.
pub(crate) fn bucket(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => v4.into(),
            None => Ipv6Addr::from(u128::from(v6) & !u128::from(u64::MAX)).into(),
        },
        v4 => v4,
    }
}

impl Rates {
    pub fn new(settings: &Settings) -> Self {
        Self {
            clock: DefaultClock::default(),
            addresses: RateLimiter::keyed(a_second(settings.rate)),
            logs: RateLimiter::keyed(a_second(settings.rate)),
            accounts: RateLimiter::keyed(a_second(settings.rate)),
            login_addresses: RateLimiter::keyed(a_minute(settings.logins)),
            users: RateLimiter::keyed(a_minute(settings.logins)),
            doorsteps: RateLimiter::keyed(a_second(settings.rate / 10)),
            inboxes: RateLimiter::keyed(a_minute(settings.logins)),
            creators: RateLimiter::keyed(a_minute(settings.logins.saturating_mul(4))),
        }
    }

    fn check<K: Hash + Eq + Clone>(&self, limiter: &DefaultKeyedRateLimiter<K>, key: &K) -> Result<(), Problem> {
        if limiter.len() > BUCKETS {
            limiter.retain_recent();
        }
        limiter.check_key(key).map_err(|wait| {
            let seconds = wait.wait_time_from(self.clock.now()).as_secs() + 1;
            let mut problem = Problem::new(Code::Rate, format!("too many requests: try again in {seconds} s"));
            problem.retry_after_s = Some(seconds);
            problem
        })
    }

    /// Any request.
    pub fn address(&self, address: IpAddr) -> Result<(), Problem> {
        self.check(&self.addresses, &bucket(address))
    }

    /// One on a log, by who may do this much. Those at the doorstep have a small share of their own: whoever knows the project may
    /// stand there.
    pub fn log(&self, log: LogId, right: Right) -> Result<(), Problem> {
        match right {
            Right::Knock => self.check(&self.doorsteps, &log),
            _ => self.check(&self.logs, &(log, right.number())),
        }
    }

    /// One of an account.
    pub fn account(&self, account: AccountId) -> Result<(), Problem> {
        self.check(&self.accounts, &account)
    }

    /// A new log.
    pub fn create(&self, address: IpAddr) -> Result<(), Problem> {
        self.check(&self.creators, &bucket(address))
    }

    /// One that tries a password or makes an account.
    pub fn login(&self, address: IpAddr, user: &str) -> Result<(), Problem> {
        self.check(&self.login_addresses, &bucket(address))?;
        self.check(&self.users, &user.to_owned())
    }

    /// One that leaves a request to enter.
    pub fn ask(&self, log: LogId, address: IpAddr) -> Result<(), Problem> {
        self.check(&self.inboxes, &(log, bucket(address)))
    }
}
