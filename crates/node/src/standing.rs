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
    if store.has_untold_operations()? {
        reasons
            .push("what this device said of who belongs (an invitation, a removal, a role) may be known to nobody else: sync first".into());
    }
    let safe = reasons.is_empty();
    let data = json!({
        "safe": safe, "copies": wanted, "holding": holding, "open": open, "unsynced": coverage.unsynced, "only_here": coverage.only_here,
        "reasons": reasons, "held_by": holders(&store)?,
    });
    Ok(Reply { data, code: if safe { 0 } else { 7 }, ..Reply::default() })
}

/// How a project stands here. The list is closed: programs may know each word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    UpToDate,
    ToSend,
    ToReceive,
    NotCounted,
    Removed,
    ConfigurationDiffers,
    Quarantined,
    SetAside,
    NotReached,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            State::UpToDate => "up-to-date",
            State::ToSend => "to-send",
            State::ToReceive => "to-receive",
            State::NotCounted => "waiting-for-approval",
            State::Removed => "removed",
            State::ConfigurationDiffers => "configuration-differs",
            State::Quarantined => "quarantined",
            State::SetAside => "set-aside",
            State::NotReached => "not-reached",
        }
    }

    fn next(self) -> &'static str {
        match self {
            State::UpToDate => "nothing to do",
            State::ToSend | State::ToReceive => "cairn sync",
            State::NotCounted => "ask a coordinator for a new ticket, then `cairn join TICKET`; nothing recorded here is lost",
            State::Removed => {
                "ask a coordinator to let it in again (`cairn devices approve`): what was recorded here and had not arrived waits until then, and counts once \
                 they accept it (`cairn devices quarantine`); what is shown stays readable, and `cairn export` takes it along"
            }
            State::ConfigurationDiffers => "`cairn config adopt` here, or wait until the others have adopted it",
            State::Quarantined => "`cairn devices quarantine` shows what it is; a coordinator can accept it",
            State::SetAside => "`cairn undo` lists the syncs, `cairn redo SYNC` shows it again",
            State::NotReached => "meet on one network, or use a file, a folder or a relay (`cairn sync --help`)",
        }
    }
}

/// Longer than this without a word of anybody is told.
const SILENT_MS: i64 = 7 * 24 * 3600 * 1000;

/// Every state that holds now, with how much of it and what to do next.
pub(crate) fn states(store: &Store, now_ms: i64) -> Result<Vec<Value>, NodeError> {
    let mut out: Vec<(State, u64, Option<i64>)> = Vec::new();
    match store.still_in() {
        Err(_) => out.push((State::Removed, 1, None)),
        Ok(()) if store.is_refused()? => out.push((State::NotCounted, 1, None)),
        Ok(()) => {}
    }
    let removed = out.first().is_some_and(|(state, ..)| *state == State::Removed);
    // Who has just entered and has not even the configuration has everything to receive, however much that is.
    let nothing_yet = u64::from(store.configuration().is_none());
    let (quarantined, _) = store.set_apart_counts()?;
    let counts = [
        (State::ToSend, store.coverage()?.unsynced),
        (State::ToReceive, store.known_elsewhere()?.max(nothing_yet)),
        (State::ConfigurationDiffers, u64::from(store.gated()?.is_some())),
        (State::Quarantined, quarantined),
        (State::SetAside, store.set_aside_changes()),
    ];
    // Nobody would take it from a removed device, nor give it anything.
    let idle = |state: &State| removed && matches!(state, State::ToSend | State::ToReceive);
    out.extend(counts.into_iter().filter(|(state, n)| *n > 0 && !idle(state)).map(|(state, n)| (state, n, None)));
    let others = store.membership().members.len() > 1;
    // An address from a ticket is of nobody who was met.
    let last = store.met()?.iter().map(|(_, known)| known.met_ms).filter(|ms| *ms > 0).max();
    if let Some(last) = last.filter(|last| others && now_ms - last > SILENT_MS) {
        out.push((State::NotReached, 1, Some(last)));
    }
    if out.is_empty() {
        out.push((State::UpToDate, 0, None));
    }
    let row = |(state, count, since): (State, u64, Option<i64>)| {
        let since = since.and_then(Instant::from_unix_ms).map(|i| i.to_rfc3339());
        json!({"state": state.word(), "count": count, "since": since, "next": state.next()})
    };
    Ok(out.into_iter().map(row).collect())
}
