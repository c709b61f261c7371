//! Relays: a sync with one, the accounts of this device there, and what is kept up to date while the service runs.

mod accounts;
mod live;
mod state;
mod visit;

pub use accounts::{Credentials, ProjectChoice};
pub(crate) use live::watch_relays;
pub(crate) use state::RelayState;
pub(crate) use visit::sync_relay;

use crate::NodeError;
use crate::home::Node;
use cairn_relay::RelayUrl;
use serde_json::{Value, json};

/// Relays among the remotes of a project, with what was wrong there: for `status`.
pub(crate) fn standing(node: &Node, store: &cairn_store::Store) -> Result<Vec<Value>, NodeError> {
    let mut out = Vec::new();
    for (name, target) in store.remotes()? {
        let Ok(url) = RelayUrl::parse(&target) else { continue };
        let state = RelayState::read(store, &url)?;
        out.push(json!({
            "name": name, "url": target, "head": state.head, "account": state.user, "alarms": state.evidence,
            "proxy": node.network.proxy.is_some(),
        }));
    }
    Ok(out)
}
