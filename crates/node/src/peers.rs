//! Who has what, last heard of when: a row for each member, a column for each whose work there is.

use crate::request::Reply;
use crate::{Node, NodeError, now_ms};
use cairn_model::{DeviceId, Instant};
use cairn_store::{KnownDevice, Store};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Batches of each author that are here.
fn work(store: &Store) -> BTreeMap<DeviceId, u64> {
    let mut out = BTreeMap::new();
    for feed in store.feeds() {
        *out.entry(feed.device).or_insert(0) += (feed.seq + 1).saturating_sub(feed.base);
    }
    out.retain(|_, batches| *batches > 0);
    out
}

/// Batches of each author that are here and not among what a device signed for.
fn lacks(store: &Store, frontier: &[cairn_trust::Tip]) -> Result<BTreeMap<DeviceId, u64>, NodeError> {
    let feeds = store.feeds();
    let mut out = BTreeMap::new();
    for (chain, _, batches) in store.missing_for(frontier)?.0 {
        if let Some(feed) = feeds.get(chain as usize) {
            *out.entry(feed.device).or_insert(0) += batches;
        }
    }
    Ok(out)
}

fn by_author(store: &Store, counts: &BTreeMap<DeviceId, u64>) -> Value {
    let row =
        |(device, batches): (&DeviceId, &u64)| json!({"device": device.to_string(), "name": store.device_name(device), "batches": batches});
    json!(counts.iter().map(row).collect::<Vec<_>>())
}

pub(crate) fn peers(node: &Node) -> Result<Reply, NodeError> {
    let store = node.store();
    let (receipts, met, now) = (store.receipts()?, store.met()?, now_ms());
    let mut rows = Vec::new();
    for m in store.membership().members.values().filter(|m| m.device != store.device()) {
        let known: Option<&KnownDevice> = met.iter().find(|(d, _)| *d == m.device).map(|(_, k)| k);
        let receipt = receipts.iter().find(|r| r.device == m.device);
        let lacks = receipt.map(|r| lacks(&store, &r.frontier)).transpose()?;
        let batches: Option<u64> = lacks.as_ref().map(|l| l.values().sum());
        // A clock that was ahead gives no age.
        let age_s = known.map(|k| now - k.met_ms).filter(|ms| *ms >= 0).map(|ms| ms / 1000);
        rows.push(json!({
            "device": m.device.to_string(), "name": m.name, "role": m.role.word(),
            "last_heard": known.and_then(|k| Instant::from_unix_ms(k.met_ms)).map(|i| i.to_rfc3339()), "heard_s_ago": age_s,
            "transport": known.map(|k| &k.transport), "addresses": known.map(|k| &k.addresses),
            "has_all": receipt.map(|r| r.frontier == store.frontier().unwrap_or_default()),
            "lacks_batches": batches, "lacks": lacks.as_ref().map(|l| by_author(&store, l)),
        }));
    }
    let turned_away = crate::network::turned_away(node, &store);
    Ok(Reply::new(json!({"peers": rows, "authors": by_author(&store, &work(&store)), "not_allowed": turned_away})))
}
