//! Waiting for a log to grow.

use crate::error::RelayError;
use crate::http::{Http, Payload};
use crate::session::{Door, Entered, KeyRing};
use crate::{Network, Patience, RelayUrl};
use reqwest::Method;
use std::time::{Duration, Instant};

/// Waits for news of one log, over one stream of events, or by long polls where streams do not get through.
pub struct News {
    door: Door,
    stream: Option<reqwest::Response>,
    after: u64,
    /// Text of the stream that has no end of line yet.
    line: String,
    polls: bool,
}

/// A long poll that ends sooner, without news, was none.
const SHORT: Duration = Duration::from_secs(10);
/// Longest line of a stream of events.
const LINE: usize = 4_096;

impl News {
    /// Of this log, past `after`.
    pub fn new(url: &RelayUrl, network: &Network, keys: KeyRing, after: u64) -> Result<Self, RelayError> {
        let http = Http::new(url, network, Patience { tries: 1, ..Patience::default() })?;
        Ok(Self { door: Door::new(http, keys), stream: None, after, line: String::new(), polls: false })
    }

    /// Returns when the log has grown past what is known, with its end. An error when the connection broke or the door is closed; it may
    /// be called again.
    pub async fn next(&mut self) -> Result<u64, RelayError> {
        if self.door.enter().await? != Entered::NoLog && self.polls {
            return self.poll().await;
        }
        if self.stream.is_none() {
            self.line.clear();
            self.stream = Some(self.door.ask(Method::GET, &format!("/events?after={}", self.after), Payload::None).await?);
        }
        loop {
            let Some(stream) = &mut self.stream else { return Ok(self.after) };
            match stream.chunk().await {
                Ok(Some(bytes)) => {
                    self.line.push_str(&String::from_utf8_lossy(&bytes));
                    if let Some(seq) = self.read_lines() {
                        return Ok(seq);
                    }
                }
                ended => {
                    let silent = matches!(&ended, Err(e) if e.is_timeout());
                    self.stream = None;
                    // Signs of life come every twenty seconds: a stream without them does not get through.
                    self.polls |= silent;
                    let why = ended.err().map_or_else(|| "the stream of events ended".into(), |e| e.to_string());
                    self.door.entered = None;
                    return Err(RelayError::Unreached { url: self.door.http.url.base().to_owned(), why });
                }
            }
        }
    }

    fn read_lines(&mut self) -> Option<u64> {
        let mut news = None;
        while let Some(end) = self.line.find('\n') {
            let line: String = self.line.drain(..=end).collect();
            let seq = line.trim_end().strip_prefix("id:").and_then(|id| id.trim().parse::<u64>().ok());
            if let Some(seq) = seq.filter(|s| *s > self.after) {
                self.after = seq;
                news = Some(seq);
            }
        }
        if self.line.len() > LINE {
            self.line.clear();
        }
        news
    }

    async fn poll(&mut self) -> Result<u64, RelayError> {
        #[derive(serde::Deserialize)]
        struct Said {
            seq: u64,
        }
        let began = Instant::now();
        let response = self.door.ask(Method::GET, &format!("/wait?after={}", self.after), Payload::None).await?;
        let body = response.bytes().await.map_err(|e| self.door.http.broke_off(&e))?;
        let said: Said = serde_json::from_slice(&body).map_err(|e| self.door.http.contradiction(e.to_string()))?;
        if said.seq <= self.after && began.elapsed() < SHORT {
            // It answers at once without news: it is not asked again at once.
            tokio::time::sleep(SHORT).await;
        }
        self.after = said.seq.max(self.after);
        Ok(self.after)
    }
}
