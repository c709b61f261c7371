//! Getting into a log: which of our keys counts there, a session under it, and requests that open another when it ends.

use crate::error::RelayError;
use crate::http::{Http, Payload, Tokens, is};
use cairn_relay_wire::limits::SESSION_S;
use cairn_relay_wire::{
    Challenge, Code, Keys, LogId, LogMade, NewLog, OpenSession, Right, Sealed, Session, SessionClaim, prove, public_key,
};
use reqwest::{Method, Response};
use std::time::Instant;

/// Seeds of the keys that may open a log.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyRing {
    /// The log.
    pub log: LogId,
    /// Opens the doorstep.
    pub knock: [u8; 32],
    /// Read and append; those that may still count, the newest first.
    pub access: Vec<[u8; 32]>,
}

/// What opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered {
    /// There is no such log.
    NoLog,
    /// None of the read keys counts any more, or not yet: only the doorstep.
    Doorstep,
    /// Reading and appending, under the key of this place in the ring.
    In(usize),
}

/// One log at one relay.
pub(crate) struct Door {
    pub http: Http,
    pub keys: KeyRing,
    token: Option<String>,
    /// When it was opened, in this visit.
    opened: Option<Instant>,
    pub entered: Option<Entered>,
    /// The keys as the relay said them last.
    pub challenge: Option<Challenge>,
}

impl Door {
    pub fn new(http: Http, keys: KeyRing) -> Self {
        Self { http, keys, token: None, opened: None, entered: None, challenge: None }
    }

    pub fn path(&self, rest: &str) -> String {
        format!("/v1/logs/{}{rest}", self.keys.log)
    }

    /// A token from an earlier visit: saves two requests if it still counts.
    pub fn with_token(&mut self, token: String, place: usize) {
        (self.token, self.entered) = (Some(token), Some(Entered::In(place)));
    }

    /// The token of the session, for another visit.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    async fn challenge(&mut self) -> Result<Option<Challenge>, RelayError> {
        match self.http.json(Method::GET, &self.path("/challenge"), Tokens::default(), Payload::None).await {
            Ok(challenge) => Ok(Some(challenge)),
            Err(e) if is(&e, Code::NotFound) => Ok(None),
            Err(e) => Err(e),
        }
    }

    async fn open(&self, challenge: &Challenge, right: Right, seed: &[u8; 32]) -> Result<String, RelayError> {
        let claim = SessionClaim { audience: self.http.url.audience(), log: &self.keys.log, right, nonce: &challenge.nonce };
        let asked =
            OpenSession { right, audience: claim.audience.to_owned(), nonce: challenge.nonce.clone(), signature: prove(seed, &claim) };
        let opened: Session = self.http.json(Method::POST, &self.path("/session"), Tokens::default(), Payload::json(&asked)).await?;
        Ok(opened.token)
    }

    /// Opens whatever our keys open.
    pub async fn enter(&mut self) -> Result<Entered, RelayError> {
        // One that may end in the middle of a long push is opened anew before.
        let old = self.opened.is_some_and(|at| at.elapsed().as_secs() > SESSION_S * 3 / 4);
        if let Some(entered) = self.entered.filter(|_| !old) {
            return Ok(entered);
        }
        self.token = None;
        let Some(challenge) = self.challenge().await? else { return Ok(Entered::NoLog) };
        let place = self.keys.access.iter().position(|seed| public_key(seed) == challenge.access);
        let (right, seed) = match place {
            Some(place) => (Right::Access, self.keys.access[place]),
            None if challenge.knock == public_key(&self.keys.knock) => (Right::Knock, self.keys.knock),
            None => {
                return Err(self.http.contradiction(
                    "the log of this project has a stranger's keys there; use another relay, or ask its operator to erase it",
                ));
            }
        };
        self.token = Some(self.open(&challenge, right, &seed).await?);
        self.opened = Some(Instant::now());
        self.challenge = Some(challenge);
        let entered = place.map_or(Entered::Doorstep, Entered::In);
        self.entered = Some(entered);
        Ok(entered)
    }

    /// Makes the log with these keys.
    pub async fn create(&mut self, admin: &[u8; 32], record: Vec<u8>, account: Option<&str>) -> Result<bool, RelayError> {
        let newest = self.keys.access.first().ok_or_else(|| self.http.contradiction("there is no read key to make its log with"))?;
        let new =
            NewLog { access: public_key(newest), admin: public_key(admin), knock: public_key(&self.keys.knock), record: Sealed(record) };
        let tokens = Tokens { session: None, account };
        let made: LogMade = self.http.json(Method::PUT, &self.path(""), tokens, Payload::json(&new)).await?;
        self.entered = None;
        Ok(made.created)
    }

    /// A request under the session; when that has ended, once more under a new one.
    pub async fn ask(&mut self, method: Method, rest: &str, payload: Payload) -> Result<Response, RelayError> {
        self.ask_with(method, rest, &[], payload).await
    }

    /// The same with more headers.
    pub async fn ask_with(
        &mut self,
        method: Method,
        rest: &str,
        more: &[(&'static str, String)],
        payload: Payload,
    ) -> Result<Response, RelayError> {
        let mut again = false;
        loop {
            self.enter().await?;
            let Some(token) = self.token.clone() else {
                return Err(RelayError::Refused {
                    url: self.http.url.base().to_owned(),
                    problem: cairn_relay_wire::Problem::new(Code::NotFound, "the project has nothing there yet"),
                });
            };
            let mut headers = self.http.session_headers(&token);
            for (name, value) in more {
                if let Ok(value) = value.parse() {
                    headers.insert(*name, value);
                }
            }
            match self.http.send_with(method.clone(), &self.path(rest), headers, payload.clone()).await {
                Err(e) if is(&e, Code::Session) && !again => {
                    again = true;
                    self.entered = None;
                }
                other => return other,
            }
        }
    }

    /// The keys with the sealed record.
    pub async fn read_keys(&mut self) -> Result<Keys, RelayError> {
        let body = self.ask(Method::GET, "/keys", Payload::None).await?.bytes().await.map_err(|e| self.http.broke_off(&e))?;
        serde_json::from_slice(&body).map_err(|e| self.http.contradiction(format!("its keys do not read: {e}")))
    }

    async fn admin_token(&mut self, admin: &[u8; 32]) -> Result<String, RelayError> {
        let challenge = self.challenge().await?.ok_or_else(|| self.http.contradiction("the log is gone"))?;
        self.open(&challenge, Right::Admin, admin).await
    }

    /// Other keys from now on, under the admin key there was.
    pub async fn rotate(&mut self, admin: &[u8; 32], new: &Keys) -> Result<(), RelayError> {
        let token = self.admin_token(admin).await?;
        let tokens = Tokens { session: Some(&token), account: None };
        let _: Keys = self.http.json(Method::PUT, &self.path("/keys"), tokens, Payload::json(new)).await?;
        self.entered = None;
        Ok(())
    }

    /// A request as a coordinator.
    pub async fn as_admin(&mut self, admin: &[u8; 32], method: Method, rest: &str, payload: Payload) -> Result<Response, RelayError> {
        let token = self.admin_token(admin).await?;
        self.http.send(method, &self.path(rest), Tokens { session: Some(&token), account: None }, payload).await
    }
}
