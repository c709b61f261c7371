//! Accounts at a relay, as a device uses them. What is sealed and what is stretched is the caller's business.

use crate::chain::Remembered;
use crate::error::RelayError;
use crate::http::{Http, Network, Patience, Payload, Tokens};
use crate::mailbox::RelayMailbox;
use crate::session::{Door, KeyRing};
use crate::url::RelayUrl;
use cairn_relay_wire::{
    About, Account, Label, LogId, LoggedIn, Login, NewPassword, OperatorAccount, OperatorChange, OperatorLog, Register, RegistrationCode,
    Sealed, Usage,
};
use reqwest::Method;
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;

/// One relay, to be asked. Blocks; the caller runs it where that does no harm.
pub struct Relay {
    http: Http,
    runtime: Handle,
}

impl Relay {
    /// At this address; `runtime` carries the connections.
    pub fn new(url: &RelayUrl, network: &Network, patience: Patience, runtime: Handle) -> Result<Self, RelayError> {
        Ok(Self { http: Http::new(url, network, patience)?, runtime })
    }

    /// The log of a project there.
    pub fn mailbox(&self, keys: KeyRing, remembered: Remembered) -> RelayMailbox {
        RelayMailbox::new(Door::new(self.http.clone(), keys), remembered, self.runtime.clone())
    }

    fn json<T: DeserializeOwned>(&self, method: Method, path: &str, tokens: Tokens<'_>, payload: Payload) -> Result<T, RelayError> {
        self.runtime.block_on(self.http.json(method, path, tokens, payload))
    }

    fn done(&self, method: Method, path: &str, tokens: Tokens<'_>, payload: Payload) -> Result<(), RelayError> {
        self.runtime.block_on(self.http.send(method, path, tokens, payload)).map(drop)
    }

    /// What it is.
    pub fn about(&self) -> Result<About, RelayError> {
        self.runtime.block_on(self.http.about())
    }

    /// Makes an account and logs in.
    pub fn register(&self, new: &Register) -> Result<LoggedIn, RelayError> {
        self.json(Method::POST, "/v1/accounts", Tokens::default(), Payload::json(new))
    }

    /// Logs in.
    pub fn login(&self, login: &Login) -> Result<LoggedIn, RelayError> {
        self.json(Method::POST, "/v1/account/session", Tokens::default(), Payload::json(login))
    }

    /// Logs out.
    pub fn logout(&self, token: &str) -> Result<(), RelayError> {
        self.done(Method::DELETE, "/v1/account/session", of(token), Payload::None)
    }

    /// Another password.
    pub fn set_password(&self, token: &str, new: &NewPassword) -> Result<(), RelayError> {
        self.done(Method::PUT, "/v1/account/password", of(token), Payload::json(new))
    }

    /// The account and its projects.
    pub fn account(&self, token: &str) -> Result<Account, RelayError> {
        self.json(Method::GET, "/v1/account", of(token), Payload::None)
    }

    /// Labels a project; `session` is one of its log.
    pub fn label(&self, token: &str, session: &str, log: LogId, label: Vec<u8>) -> Result<(), RelayError> {
        let tokens = Tokens { session: Some(session), account: Some(token) };
        self.done(Method::PUT, &format!("/v1/account/projects/{log}"), tokens, Payload::json(&Label { label: Sealed(label) }))
    }

    /// Takes a project off the account's list.
    pub fn unlabel(&self, token: &str, log: LogId) -> Result<(), RelayError> {
        self.done(Method::DELETE, &format!("/v1/account/projects/{log}"), of(token), Payload::None)
    }

    /// Sums, for the operator.
    pub fn usage(&self, token: &str) -> Result<Usage, RelayError> {
        self.json(Method::GET, "/v1/operator/usage", of(token), Payload::None)
    }

    /// All accounts, for the operator.
    pub fn accounts(&self, token: &str) -> Result<Vec<OperatorAccount>, RelayError> {
        self.json(Method::GET, "/v1/operator/accounts", of(token), Payload::None)
    }

    /// All logs, for the operator.
    pub fn logs(&self, token: &str) -> Result<Vec<OperatorLog>, RelayError> {
        self.json(Method::GET, "/v1/operator/logs", of(token), Payload::None)
    }

    /// Changes an account, for the operator.
    pub fn change_account(&self, token: &str, user: &str, change: &OperatorChange) -> Result<(), RelayError> {
        self.done(Method::PATCH, &format!("/v1/operator/accounts/{user}"), of(token), Payload::json(change))
    }

    /// Erases an account, for the operator.
    pub fn delete_account(&self, token: &str, user: &str) -> Result<(), RelayError> {
        self.done(Method::DELETE, &format!("/v1/operator/accounts/{user}"), of(token), Payload::None)
    }

    /// Blocks a log or lets it go on, for the operator.
    pub fn block_log(&self, token: &str, log: LogId, blocked: bool) -> Result<(), RelayError> {
        let change = OperatorChange { quota_bytes: None, blocked: Some(blocked) };
        self.done(Method::PATCH, &format!("/v1/operator/logs/{log}"), of(token), Payload::json(&change))
    }

    /// Erases a log, for the operator.
    pub fn delete_log(&self, token: &str, log: LogId) -> Result<(), RelayError> {
        self.done(Method::DELETE, &format!("/v1/operator/logs/{log}"), of(token), Payload::None)
    }

    /// A code for one new account, for the operator.
    pub fn code(&self, token: &str) -> Result<RegistrationCode, RelayError> {
        self.json(Method::POST, "/v1/operator/codes", of(token), Payload::None)
    }
}

fn of(token: &str) -> Tokens<'_> {
    Tokens { session: None, account: Some(token) }
}
