//! What happens at a running service, told line by line to whoever asked.

use crate::heard::Heard;
use crate::home::Node;
use crate::serve::{Line, write_line};
use cairn_model::hex;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::broadcast::error::RecvError;

/// Version of the request vocabulary and of the events: raised when a word changes its meaning, not when words are added.
pub(crate) const VOCABULARY: u32 = 1;

fn ready(node: &Node) -> Value {
    let store = node.store();
    json!({
        "event": "ready", "vocabulary": VOCABULARY, "program": env!("CARGO_PKG_VERSION"), "project": store.project().to_string(),
        "device": store.device().to_string(),
    })
}

/// How things stand after something changed; `None` if they are as they were told last.
fn changed(node: &Node, last: &mut Option<String>) -> Option<Value> {
    let store = node.store();
    let digest = hex(&store.digest().ok()?);
    if last.as_ref() == Some(&digest) {
        return None;
    }
    let told = json!({
        "event": "changed", "digest": digest, "observations": store.count().ok()?, "unsynced": store.coverage().ok()?.unsynced,
        "conflicts": store.conflict_count().ok()?,
    });
    *last = Some(digest);
    Some(told)
}

/// Ends when the listener goes, or the service.
pub(crate) async fn stream(
    node: &Arc<Node>,
    mut read: impl AsyncReadExt + Unpin,
    mut write: impl AsyncWriteExt + Unpin,
) -> std::io::Result<()> {
    let (mut heard, mut changes) = (node.heard.subscribe(), node.changes());
    let mut last = node.store().digest().ok().map(|d| hex(&d));
    write_line(&mut write, &Line::Event(ready(node))).await?;
    let mut nothing = [0];
    loop {
        let event = tokio::select! {
            heard = heard.recv() => match heard {
                Ok(heard) => of_heard(&heard),
                Err(RecvError::Lagged(missed)) => Some(json!({"event": "missed", "count": missed})),
                Err(RecvError::Closed) => return Ok(()),
            },
            change = changes.recv() => match change {
                // Whoever was too slow for single changes is told how things stand now.
                Ok(_) | Err(RecvError::Lagged(_)) => changed(node, &mut last),
                Err(RecvError::Closed) => return Ok(()),
            },
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

fn of_heard(heard: &Heard) -> Option<Value> {
    serde_json::to_value(heard).ok()
}
