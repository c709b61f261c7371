//! One relay over HTTP: requests that are tried again, answers that are told from a captive portal's.

use crate::error::RelayError;
use crate::tls;
use crate::url::RelayUrl;
use bytes::Bytes;
use cairn_relay_wire::{About, Code, MARK_HEADER, Problem, SESSION_HEADER, VERSION};
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Client, Method, NoProxy, Proxy, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// How the network is reached. Handed in: the environment is the caller's business.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// URL of a proxy for https.
    pub proxy: Option<String>,
    /// Hosts that are reached without it, as `NO_PROXY` lists them.
    pub no_proxy: Option<String>,
}

/// How long and how often something is tried.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Tries of one request.
    pub tries: u32,
    /// The longest pause between two.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { tries: 5, pause: Duration::from_secs(8) }
    }
}

/// To open a connection.
const CONNECT: Duration = Duration::from_secs(15);
/// Silence after which an answer is given up.
const SILENCE: Duration = Duration::from_secs(75);
/// Pause before the second try; it doubles.
const FIRST_PAUSE_MS: u64 = 200;
/// A relay may ask for a pause; a longer one is for the next sync.
const LONGEST_ASKED: Duration = Duration::from_secs(20);

/// A body of a request.
#[derive(Clone, Debug)]
pub(crate) enum Payload {
    None,
    Json(Vec<u8>),
    Bytes(&'static str, Bytes),
}

impl Payload {
    pub fn json(value: &impl Serialize) -> Self {
        Payload::Json(serde_json::to_vec(value).unwrap_or_default())
    }
}

/// Tokens sent with a request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tokens<'a> {
    pub session: Option<&'a str>,
    pub account: Option<&'a str>,
}

/// One relay.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    client: Client,
    pub url: RelayUrl,
    patience: Patience,
}

/// A random share of a pause, so that many devices do not come back at the same moment.
fn jitter(most: Duration) -> Duration {
    let mut random = [0; 2];
    // Without randomness all pauses are of full length.
    let share = getrandom::fill(&mut random).map_or(u16::MAX, |()| u16::from_le_bytes(random));
    most / 2 + most.mul_f64(f64::from(share) / f64::from(u16::MAX) / 2.0)
}

/// A client for servers that are no relays: where rows come from and go to. Who sends secrets follows no redirects.
///
/// # Errors
/// The proxy's address, or the machine's certificates.
pub fn web_client(network: &Network, follow: bool) -> Result<Client, RelayError> {
    let unusable = |why: String| RelayError::Unreached { url: "the web".into(), why };
    let tls = tls::web().map_err(|e| unusable(e.to_string()))?;
    let builder = Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .redirect(if follow { reqwest::redirect::Policy::limited(5) } else { reqwest::redirect::Policy::none() })
        .https_only(false)
        .connect_timeout(CONNECT)
        .read_timeout(SILENCE);
    through(builder, network).map_err(unusable)?.build().map_err(|e| unusable(e.to_string()))
}

fn through(builder: reqwest::ClientBuilder, network: &Network) -> Result<reqwest::ClientBuilder, String> {
    let Some(proxy) = &network.proxy else { return Ok(builder) };
    let without = network.no_proxy.as_deref().and_then(NoProxy::from_string);
    let proxied = Proxy::all(proxy).map_err(|e| format!("the proxy `{proxy}`: {e}"))?;
    Ok(builder.proxy(proxied.no_proxy(without)))
}

impl Http {
    pub fn new(url: &RelayUrl, network: &Network, patience: Patience) -> Result<Self, RelayError> {
        let unusable = |why: String| RelayError::Unreached { url: url.to_string(), why };
        let tls = tls::config(url.pin()).map_err(|e| unusable(e.to_string()))?;
        let builder = Client::builder()
            .tls_backend_preconfigured(tls)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            .http2_adaptive_window(true)
            .tcp_nodelay(true);
        let client = through(builder, network).map_err(unusable)?.build().map_err(|e| unusable(e.to_string()))?;
        Ok(Self { client, url: url.clone(), patience })
    }

    fn name(&self) -> String {
        self.url.base().to_owned()
    }

    fn refused(&self, problem: Problem) -> RelayError {
        RelayError::Refused { url: self.name(), problem }
    }

    pub fn contradiction(&self, why: impl Into<String>) -> RelayError {
        RelayError::Contradiction { url: self.name(), why: why.into() }
    }

    /// One try.
    async fn once(&self, method: &Method, path: &str, headers: &HeaderMap, payload: &Payload) -> Result<Response, RelayError> {
        let mut request = self.client.request(method.clone(), format!("{}{path}", self.url.base())).headers(headers.clone());
        request = match payload {
            Payload::None => request,
            Payload::Json(body) => request.header("content-type", "application/json").body(body.clone()),
            Payload::Bytes(kind, body) => request.header("content-type", *kind).body(body.clone()),
        };
        let response = request.send().await.map_err(|e| self.failed(&e))?;
        let status = response.status();
        if !response.headers().contains_key(MARK_HEADER) {
            let portal =
                status.is_redirection() || response.headers().get("content-type").is_some_and(|t| t.as_bytes().starts_with(b"text/html"));
            // A balancer without a node behind it says so without our mark.
            if matches!(status.as_u16(), 502..=504) {
                return Err(RelayError::Unreached { url: self.name(), why: format!("what stands before it says {status}") });
            }
            let why = if portal {
                "a web page came back: this network may want you to sign in first; open any page in a browser"
            } else {
                "it is no cairn relay"
            };
            return Err(RelayError::Elsewhere { url: self.name(), why: why.into() });
        }
        if status.is_success() {
            return Ok(response);
        }
        let fallback = Problem::new(Code::Unavailable, format!("it answered {status}"));
        let body = response.bytes().await.unwrap_or_default();
        Err(self.refused(serde_json::from_slice(&body).unwrap_or(fallback)))
    }

    /// What went wrong before an answer came.
    fn failed(&self, e: &reqwest::Error) -> RelayError {
        let mut why = e.to_string();
        let mut cause: Option<&dyn std::error::Error> = Some(e);
        while let Some(inner) = cause {
            if let Some(tls) = inner.downcast_ref::<std::io::Error>().and_then(in_io) {
                return self.distrust(tls);
            }
            if let Some(tls) = inner.downcast_ref::<rustls::Error>() {
                return self.distrust(tls);
            }
            why = inner.to_string();
            cause = inner.source();
        }
        RelayError::Unreached { url: self.name(), why }
    }

    fn distrust(&self, e: &rustls::Error) -> RelayError {
        use rustls::CertificateError as C;
        let why = match e {
            rustls::Error::InvalidCertificate(C::Expired | C::ExpiredContext { .. } | C::NotValidYet | C::NotValidYetContext { .. }) => {
                "its dates do not fit this device's clock: is the clock right?".to_owned()
            }
            rustls::Error::InvalidCertificate(C::ApplicationVerificationFailure) => {
                "another key than the one in the address: a captive portal, another relay, or somebody in between".to_owned()
            }
            rustls::Error::InvalidCertificate(_) => {
                format!("{e}: a captive portal or somebody in between; for a self-made certificate use the address with its `#PIN`")
            }
            other => return RelayError::Unreached { url: self.name(), why: other.to_string() },
        };
        RelayError::Certificate { url: self.name(), why }
    }

    /// How long to wait before another try; `None` if there is no use in one.
    fn pause(&self, e: &RelayError, tried: u32) -> Option<Duration> {
        if tried >= self.patience.tries {
            return None;
        }
        let doubled = Duration::from_millis(FIRST_PAUSE_MS << tried.min(10)).min(self.patience.pause);
        match e {
            RelayError::Unreached { .. } => Some(jitter(doubled)),
            RelayError::Refused { problem, .. } => match (problem.code, problem.retry_after_s.map(Duration::from_secs)) {
                (Code::Rate, Some(asked)) if asked <= LONGEST_ASKED => Some(asked.max(jitter(doubled))),
                (Code::Unavailable | Code::Slow, _) => Some(jitter(doubled)),
                _ => None,
            },
            _ => None,
        }
    }

    fn headers(&self, tokens: Tokens<'_>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut put = |name: &'static str, text: String| {
            if let Ok(mut value) = HeaderValue::from_str(&text) {
                value.set_sensitive(true);
                headers.insert(name, value);
            }
        };
        if let Some(token) = tokens.session {
            put(SESSION_HEADER, token.to_owned());
        }
        if let Some(token) = tokens.account {
            put("authorization", format!("Bearer {token}"));
        }
        headers
    }

    /// A request, tried again while that helps. All our requests may be repeated.
    pub async fn send(&self, method: Method, path: &str, tokens: Tokens<'_>, payload: Payload) -> Result<Response, RelayError> {
        self.send_with(method, path, self.headers(tokens), payload).await
    }

    /// The same with headers of its own.
    pub async fn send_with(&self, method: Method, path: &str, headers: HeaderMap, payload: Payload) -> Result<Response, RelayError> {
        let mut tried = 0;
        loop {
            tried += 1;
            match self.once(&method, path, &headers, &payload).await {
                Ok(response) => return Ok(response),
                Err(e) => match self.pause(&e, tried) {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => return Err(e),
                },
            }
        }
    }

    /// Pauses before a try after an answer that broke off; `false` when it was tried often enough.
    pub async fn once_more(&self, e: &RelayError, tried: u32) -> bool {
        match self.pause(e, tried) {
            Some(pause) => {
                tokio::time::sleep(pause).await;
                true
            }
            None => false,
        }
    }

    pub fn session_headers(&self, session: &str) -> HeaderMap {
        self.headers(Tokens { session: Some(session), account: None })
    }

    /// A JSON answer.
    pub async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        tokens: Tokens<'_>,
        payload: Payload,
    ) -> Result<T, RelayError> {
        let mut tried = 0;
        loop {
            tried += 1;
            let response = self.send(method.clone(), path, tokens, payload.clone()).await?;
            match response.bytes().await {
                Ok(body) => return serde_json::from_slice(&body).map_err(|e| self.contradiction(format!("its answer does not read: {e}"))),
                Err(e) => {
                    let e = self.broke_off(&e);
                    if !self.once_more(&e, tried).await {
                        return Err(e);
                    }
                }
            }
        }
    }

    /// The body of an answer, if it is no longer than it may be.
    pub async fn body(&self, mut response: Response, most: usize) -> Result<Vec<u8>, RelayError> {
        let mut out = Vec::new();
        while let Some(bytes) = response.chunk().await.map_err(|e| self.broke_off(&e))? {
            if out.len() + bytes.len() > most {
                return Err(self.contradiction("its answer has no end"));
            }
            out.extend(&bytes);
        }
        Ok(out)
    }

    /// An answer broke off.
    pub fn broke_off(&self, e: &reqwest::Error) -> RelayError {
        RelayError::Unreached { url: self.name(), why: format!("the answer broke off: {e}") }
    }

    /// What the relay is. Refuses what is none, or speaks no version of ours.
    pub async fn about(&self) -> Result<About, RelayError> {
        let about: About = self.json(Method::GET, "/v1", Tokens::default(), Payload::None).await?;
        if about.versions.contains(&VERSION) { Ok(about) } else { Err(RelayError::Newer { url: self.name() }) }
    }
}

/// What TLS said, however often it was wrapped.
fn in_io(e: &std::io::Error) -> Option<&rustls::Error> {
    let inner = e.get_ref()?;
    inner.downcast_ref::<rustls::Error>().or_else(|| inner.downcast_ref::<std::io::Error>().and_then(in_io))
}

/// `true` for a refusal with this code.
pub(crate) fn is(e: &RelayError, code: Code) -> bool {
    e.code() == Some(code)
}

/// A header of an answer as text.
pub(crate) fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}
