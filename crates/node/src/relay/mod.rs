//! Relays: a sync with one, the accounts of this device there, and what is kept up to date while the service runs.

mod accounts;
mod label;
mod live;
mod state;
mod visit;

pub use accounts::{Credentials, ProjectChoice};
pub(crate) use live::watch_relays;
pub(crate) use state::RelayState;
pub use visit::from_relay as relay_fault;
pub(crate) use visit::sync_relay;

use crate::NodeError;
use crate::home::{Node, blocking};
use cairn_relay::{Network, Patience, Relay, RelayUrl};
use serde_json::{Value, json};

/// Does `work` with a relay, where it may block. For its operator; projects and accounts have their own ways.
pub fn at_relay<T: Send>(
    url: &RelayUrl,
    network: &Network,
    work: impl FnOnce(&Relay) -> Result<T, NodeError> + Send,
) -> Result<T, NodeError> {
    blocking(async {
        tokio::task::block_in_place(|| {
            let relay = Relay::new(url, network, Patience::default(), tokio::runtime::Handle::current()).map_err(relay_fault)?;
            work(&relay)
        })
    })
}

/// What was wrong at a relay has been seen by somebody.
pub(crate) fn forget_alarms(store: &mut cairn_store::Store, url: &RelayUrl) -> Result<(), NodeError> {
    let before = RelayState::read(store, url)?;
    RelayState { evidence: Vec::new(), ..before.clone() }.write(store, url, &before)
}

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
