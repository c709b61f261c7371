//! Earlier states: what was held after each sync, and documents as they were then or at a time.

use crate::docs::{DocRow, read_change};
use crate::mem::Mem;
use crate::tables::{Tables, View, from_bytes, to_bytes};
use crate::{Store, StoreError};
use cairn_model::{Change, DocState};
use redb::ReadableTable;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A state of the whole project that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AsOf {
    /// Changes until then (milliseconds), by their authors' clocks.
    Time(i64),
    /// What was held after a sync: chain number to last batch.
    Held(BTreeMap<u32, u64>),
}

#[derive(Serialize, Deserialize)]
struct Moment {
    digest: [u8; 32],
    chains: Vec<(u32, u64)>,
}

/// Remembers what is held, as the state after a sync.
pub(crate) fn remember(t: &mut Tables<'_>, mem: &Mem, sync: u32) -> Result<(), StoreError> {
    let digest = crate::feeds::digest_of(mem, &crate::feeds::frontier(t, mem)?);
    let chains = mem.feeds.iter().enumerate().map(|(n, f)| (n as u32, f.seq)).collect();
    t.moments.insert(sync, &to_bytes(&Moment { digest, chains })[..])?;
    Ok(())
}

impl Store {
    /// The state after a sync, by its number or by the beginning (six digits at least) of the digest `status` showed then.
    pub fn moment(&self, text: &str) -> Result<Option<AsOf>, StoreError> {
        let v = self.view()?;
        let held = |m: Moment| Some(AsOf::Held(m.chains.into_iter().collect()));
        if let Ok(number) = text.parse::<u32>()
            && let Some(bytes) = v.moments.get(number)?
        {
            return Ok(held(from_bytes(bytes.value(), "moment")?));
        }
        for row in v.moments.iter()?.rev() {
            let moment: Moment = from_bytes(row?.1.value(), "moment")?;
            if text.len() >= 6 && cairn_model::hex(&moment.digest).starts_with(&text.to_lowercase()) {
                return Ok(held(moment));
            }
        }
        Ok(None)
    }
}

/// A document as it was; empty if it was not there.
pub(crate) fn state_at(v: &View, mem: &Mem, row: &DocRow, moment: &AsOf) -> Result<DocState, StoreError> {
    let mut kept = Vec::new();
    for at in &row.applied {
        let there = match moment {
            AsOf::Held(chains) => chains.get(&at.feed).is_some_and(|seq| at.seq <= *seq),
            AsOf::Time(_) => true,
        };
        if there {
            kept.push((*at, read_change(v, mem, at)?));
        }
    }
    if let AsOf::Time(until) = moment {
        kept.retain(|(_, change): &(_, Change)| change.time_ms <= *until);
    }
    let mut past = DocRow::new(row.kind, row.id);
    // A change whose dependencies came later by their clocks waits, as it would have then.
    crate::docs::rebuild(&mut past, kept, &crate::aside::of(v, mem, &row.id)?);
    Ok(past.state)
}
