//! Who holds what: only what other devices signed counts.

use crate::request::Reply;
use crate::{Node, NodeError};
use cairn_model::Instant;
use cairn_store::{Holder, Store};
use serde_json::{Value, json};

/// Devices that must hold everything before a device may be wiped, if nobody says otherwise.
pub(crate) const COPIES: u32 = 2;

fn row(store: &Store, h: &Holder, met: &[(cairn_model::DeviceId, cairn_store::KnownDevice)]) -> Value {
    let known = met.iter().find(|(d, _)| *d == h.device).map(|(_, k)| k);
    json!({
        "device": h.device.to_string(), "name": store.device_name(&h.device), "holds_own": h.lacks_own == 0, "holds_all": h.lacks_all == 0,
        "lacks_own": h.lacks_own, "lacks_all": h.lacks_all,
        "last_heard": known.and_then(|k| Instant::from_unix_ms(k.met_ms)).map(|i| i.to_rfc3339()),
        "transport": known.map(|k| &k.transport),
    })
}

/// Members that signed for what they hold, as `status` and `peers` show them.
pub(crate) fn holders(store: &Store) -> Result<Vec<Value>, NodeError> {
    let met = store.met()?;
    Ok(store.holders()?.iter().map(|h| row(store, h, &met)).collect())
}

/// `status --safe-to-wipe`: whether everything made here is proven to be on so many other devices, and nothing else is only here.
pub(crate) fn safe_to_wipe(node: &Node, copies: Option<u32>) -> Result<Reply, NodeError> {
    let wanted = copies.unwrap_or(COPIES);
    if wanted == 0 {
        return Err(NodeError::input("--copies 0 would prove nothing: at least 1"));
    }
    let store = node.store();
    let coverage = store.coverage()?;
    let all = store.holders()?;
    let holding = all.iter().filter(|h| h.lacks_own == 0).count();
    let open = store.open_changes();
    let mut reasons = Vec::new();
    if open > 0 {
        reasons.push(format!("{open} changes were never sent: sync first"));
    }
    if holding < wanted as usize {
        let (says, verb) = if holding == 1 { ("device has", "confirms") } else { ("devices have", "confirm") };
        reasons.push(format!(
            "{holding} other {says} confirmed that they hold everything made here; {wanted} are asked for. Sync until {} more {verb} it",
            wanted as usize - holding
        ));
    }
    let of_others = coverage.only_here - coverage.unsynced;
    if of_others > 0 {
        reasons.push(format!("{of_others} changes by others are here, and no other device has confirmed them"));
    }
    let safe = reasons.is_empty();
    let data = json!({
        "safe": safe, "copies": wanted, "holding": holding, "open": open, "unsynced": coverage.unsynced, "only_here": coverage.only_here,
        "reasons": reasons, "held_by": holders(&store)?,
    });
    Ok(Reply { data, code: if safe { 0 } else { 7 }, ..Reply::default() })
}
