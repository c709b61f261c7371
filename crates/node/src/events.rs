//! What happens at a running service, told line by line to whoever asked.

use crate::driver::Progress;
use crate::heard::Heard;
use crate::home::Node;
use crate::request::Reply;
use crate::socket::{Line, VOCABULARY, write_line};
use cairn_model::hex;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::broadcast::error::RecvError;

fn ready(node: &Node) -> Value {
    let store = node.store();
    json!({
        "event": "ready", "vocabulary": VOCABULARY, "program": env!("CARGO_PKG_VERSION"), "project": store.project().to_string(),
        "device": store.device().to_string(),
    })
}

/// How things stand after something changed; `None` if they are as they were told last.
fn changed(node: &Node, last: &mut Option<Value>) -> Option<Value> {
    let store = node.store();
    let told = json!({
        "event": "changed", "digest": hex(&store.digest().ok()?), "observations": store.count().ok()?,
        "unsynced": store.coverage().ok()?.unsynced, "conflicts": store.conflict_count().ok()?,
    });
    if last.as_ref() == Some(&told) {
        return None;
    }
    *last = Some(told.clone());
    Some(told)
}

/// Ends when the listener goes, or the service, which says so.
pub(crate) async fn stream(
    node: &Arc<Node>,
    mut read: impl AsyncReadExt + Unpin,
    mut write: impl AsyncWriteExt + Unpin,
) -> std::io::Result<()> {
    let (mut heard, mut changes) = (node.heard.subscribe(), node.changes());
    let mut ending = node.ending.subscribe();
    let mut last = None;
    changed(node, &mut last);
    write_line(&mut write, &Line::Event(ready(node))).await?;
    let mut nothing = [0];
    loop {
        let event = tokio::select! {
            heard = heard.recv() => match heard {
                Ok(Heard::Confirmed) => changed(node, &mut last),
                Ok(heard) => of_heard(&heard),
                Err(RecvError::Lagged(missed)) => {
                    write_line(&mut write, &Line::Event(json!({"event": "missed", "count": missed}))).await?;
                    changed(node, &mut last)
                }
                Err(RecvError::Closed) => return Ok(()),
            },
            change = changes.recv() => match change {
                // Whoever was too slow for single changes is told how things stand now.
                Ok(_) | Err(RecvError::Lagged(_)) => changed(node, &mut last),
                Err(RecvError::Closed) => return Ok(()),
            },
            () = ended(&mut ending) => return write_line(&mut write, &Line::Done(Ok(Reply::default()))).await,
            gone = read.read(&mut nothing) => match gone {
                Ok(n) if n > 0 => None,
                _ => return Ok(()),
            },
        };
        if let Some(event) = event {
            write_line(&mut write, &Line::Event(event)).await?;
        }
    }
}

/// Until the service ends, or is gone.
async fn ended(ending: &mut tokio::sync::watch::Receiver<bool>) {
    ending.wait_for(|ends| *ends).await.ok();
}

/// How often progress is told at most.
const TELL: Duration = Duration::from_millis(250);

/// Tells listeners how far a sync with `with` is, now and then; the last number of a sync is in what it brought.
pub(crate) fn progress_of(node: &Arc<Node>, with: String) -> impl Fn(&Progress) + Send + Sync + use<> {
    let node = node.clone();
    let told: Mutex<Option<Instant>> = Mutex::default();
    move |p| {
        let planned = p.to_send.saturating_add(p.to_receive);
        if planned == 0 || node.heard.receiver_count() == 0 {
            return;
        }
        let mut told = told.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let done = p.sent + p.received;
        // The last step is always told.
        if done < planned && told.is_some_and(|at| at.elapsed() < TELL) {
            return;
        }
        *told = Some(Instant::now());
        let heard = Heard::Progress { with: with.clone(), done, planned, bytes: p.sent_bytes + p.received_bytes };
        // Nobody may listen any more.
        node.heard.send(heard).ok();
    }
}

fn of_heard(heard: &Heard) -> Option<Value> {
    serde_json::to_value(heard).ok()
}
