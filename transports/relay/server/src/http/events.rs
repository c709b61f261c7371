//! News of a log: a stream of server-sent events, and a long poll for where such streams do not get through. Both are hints; what
//! there is, the index tells.

use super::Shared;
use super::refusal::{Answer, Refusal};
use crate::service::Service;
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use cairn_relay_wire::{Code, LogId, Problem, limits};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// The end of a log, without its hash.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct News {
    /// Chunks appended, ever.
    seq: u64,
}

#[derive(Deserialize, utoipa::IntoParams)]
pub(crate) struct Since {
    /// The last place that is known.
    after: Option<u64>,
    /// Seconds to wait, at most 55.
    seconds: Option<u64>,
}

/// One who waits; the gauge counts while it lives.
struct Listener {
    s: Arc<Service>,
    heads: watch::Receiver<u64>,
    headers: HeaderMap,
    log: LogId,
    after: u64,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.s.metrics.listeners.dec();
    }
}

impl Listener {
    async fn new(s: Arc<Service>, headers: HeaderMap, log: LogId, after: u64) -> Result<Self, Refusal> {
        let heads = s.hub.wait(log);
        s.member(&headers, log).await?;
        s.metrics.listeners.inc();
        Ok(Self { s, heads, headers, log, after })
    }

    /// The next head past what is known; an error when the session has ended.
    async fn next(&mut self) -> Result<u64, Refusal> {
        loop {
            let seq = self.s.still(&self.headers, self.log).await?.0.head.seq;
            if seq > self.after {
                self.after = seq;
                return Ok(seq);
            }
            // Once in a while it looks by itself: another node's word may have been lost.
            let look = Duration::from_secs(limits::ALIVE_S);
            if let Ok(Err(_)) = tokio::time::timeout(look, self.heads.changed()).await {
                return Err(Refusal::new(Code::Unavailable, "the relay is closing"));
            }
        }
    }
}

/// A `head` event whenever the log has grown past `after`, as long as the session counts.
#[utoipa::path(get, path = "/v1/logs/{log}/events", tag = "events", params(("log" = LogId, Path), Since), security(("session" = [])),
    responses((status = 200, body = String, content_type = "text/event-stream"), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn stream_events(State(s): Shared, Path(log): Path<LogId>, Query(since): Query<Since>, headers: HeaderMap) -> Answer {
    let listener = Listener::new(s, headers, log, since.after.unwrap_or(0)).await?;
    let events = stream::unfold(Some(listener), |listener| async {
        let mut listener = listener?;
        match listener.next().await {
            Ok(seq) => {
                let event = Event::default().event("head").id(seq.to_string()).data(format!("{{\"seq\":{seq}}}"));
                Some((Ok::<_, std::convert::Infallible>(event), Some(listener)))
            }
            Err(_) => Some((Ok(Event::default().event("end").data("{}")), None)),
        }
    });
    let alive = KeepAlive::new().interval(Duration::from_secs(limits::ALIVE_S));
    Ok(([("x-accel-buffering", "no")], Sse::new(events).keep_alive(alive)).into_response())
}

/// Answers when the log has grown past `after`, or when the time is over.
#[utoipa::path(get, path = "/v1/logs/{log}/wait", tag = "events", params(("log" = LogId, Path), Since), security(("session" = [])),
    responses((status = 200, body = News), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn wait(State(s): Shared, Path(log): Path<LogId>, Query(since): Query<Since>, headers: HeaderMap) -> Answer {
    let seconds = since.seconds.unwrap_or(limits::WAIT_S).min(limits::WAIT_S);
    let mut listener = Listener::new(s, headers, log, since.after.unwrap_or(0)).await?;
    let seq = match tokio::time::timeout(Duration::from_secs(seconds), listener.next()).await {
        Ok(seq) => seq?,
        Err(_) => listener.s.still(&listener.headers, log).await?.0.head.seq,
    };
    Ok(Json(News { seq }).into_response())
}
