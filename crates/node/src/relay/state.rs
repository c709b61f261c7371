//! What a project remembers of a relay beside the cache of its log: the last head it was shown, the session, what others were shown,
//! and what was wrong.

use crate::NodeError;
use cairn_model::{ChunkHash, DeviceId, Instant};
use cairn_relay::wire::Head;
use cairn_relay::{Alarm, RelayUrl};
use cairn_store::{Entropy, OsEntropy, Store};
use cairn_trust::{open_own, seal_own};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Alarms kept, the newest.
const ALARMS: usize = 32;

/// One thing a relay did that an honest one does not, with what proves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Evidence {
    /// When it was noticed, by this device's clock.
    pub at: String,
    /// In a word.
    pub what: String,
    /// In a sentence.
    pub message: String,
    /// The head it had shown, here or to that device.
    pub shown: String,
    /// The head it shows.
    pub now: String,
    /// The other device, if it was shown there.
    pub device: Option<String>,
}

/// Remembered of one relay, under its address.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct RelayState {
    /// The last head that was seen and checked.
    pub head: Option<String>,
    /// Heads checked before, for what other devices tell later.
    pub checked: Vec<String>,
    /// Visits so far: every so many everything is listed, whatever the cursor says.
    pub visits: u32,
    /// Session and the public half of the key it was opened with.
    pub session: Option<(String, String)>,
    /// What of other devices' words was compared already.
    pub compared: BTreeMap<String, String>,
    /// What was wrong.
    pub evidence: Vec<Evidence>,
    /// Coordinators the admin key was boxed to when this device looked last.
    pub admins: Option<String>,
    /// User name of the account that this project is listed under.
    pub user: Option<String>,
    /// What the label was made of: changes when it must be written anew.
    pub labelled: Option<String>,
    /// The invitation in the label, and its secret if it is this device's own.
    pub invite: Option<(String, Option<String>)>,
    /// How many devices had left or been removed when labels with a way in began.
    pub since: Option<u64>,
}

/// A relay as receipts name it.
pub(crate) fn relay_tag(url: &RelayUrl) -> [u8; 16] {
    ChunkHash::of(url.audience().as_bytes()).short()
}

fn key(url: &RelayUrl) -> [u8; 16] {
    ChunkHash::of(format!("relay state {}", url.audience()).as_bytes()).short()
}

/// Under what the store keeps the cache of a relay's log.
pub(crate) fn mailbox_id(url: &RelayUrl) -> [u8; 16] {
    ChunkHash::of(format!("relay {}", url.audience()).as_bytes()).short()
}

impl RelayState {
    pub fn read(store: &Store, url: &RelayUrl) -> Result<Self, NodeError> {
        let kept = store.mailbox(&key(url))?.and_then(|bytes| open_own(store.keys(), &bytes));
        Ok(kept.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default())
    }

    /// Keeps it, if it is not `before`.
    pub fn write(&self, store: &mut Store, url: &RelayUrl, before: &Self) -> Result<(), NodeError> {
        if self != before {
            let bytes = serde_json::to_vec(self).map_err(|e| NodeError::Store { message: e.to_string() })?;
            // Under the device's key: a session and an invitation's secret are in it.
            let random: &mut dyn Entropy = &mut OsEntropy;
            let sealed = seal_own(store.keys(), random.bytes(), &bytes);
            store.note_mailbox(&key(url), &sealed)?;
        }
        Ok(())
    }

    pub fn head(&self) -> Option<Head> {
        self.head.as_ref()?.parse().ok()
    }

    /// Keeps evidence of an alarm; gives it if it is new.
    pub fn note(&mut self, alarm: &Alarm, witnesses: &[(DeviceId, Head)], store: &Store, now_ms: i64) -> Option<Evidence> {
        let name = |n: &usize| witnesses.get(*n).map(|(d, _)| store.device_name(d)).unwrap_or_default();
        let (what, shown, now, device, message) = match alarm {
            Alarm::RolledBack { before, now } => {
                let message =
                    format!("the relay shows {} chunks and has shown {}: it was set back, or hides what it holds", now.seq, before.seq);
                ("rolled-back", before, *now, None, message)
            }
            Alarm::Changed { before, now } => {
                let message =
                    format!("the relay shows another past than it did: chunk {} and what came before it were changed", before.seq);
                ("changed", before, *now, None, message)
            }
            Alarm::Withheld { witness, there, here } => {
                let message =
                    format!("the relay showed {} {} chunks and shows {} here: it holds something back", name(witness), there.seq, here.seq);
                ("withheld", there, *here, Some(name(witness)), message)
            }
            Alarm::Forked { witness, there, here } => {
                let message = format!("the relay showed {} other chunks than it shows here, up to chunk {}", name(witness), there.seq);
                ("forked", there, *here, Some(name(witness)), message)
            }
            Alarm::Hidden { head, chunks } => {
                let message =
                    format!("the relay says that {chunks} chunks were taken away there, up to chunk {}, and no device did that", head.seq);
                ("hidden", head, *head, None, message)
            }
            Alarm::Dropped { head, chunks } => {
                ("dropped", head, *head, None, format!("the relay acknowledged {chunks} chunks and does not show them"))
            }
        };
        let at = Instant::from_unix_ms(now_ms).map(|i| i.to_rfc3339()).unwrap_or_default();
        let evidence = Evidence { at, what: what.into(), message, shown: shown.to_string(), now: now.to_string(), device };
        let known = self.evidence.iter().any(|e| (&e.what, &e.shown, &e.device) == (&evidence.what, &evidence.shown, &evidence.device));
        if !known {
            if self.evidence.len() == ALARMS {
                self.evidence.remove(0);
            }
            self.evidence.push(evidence.clone());
        }
        (!known).then_some(evidence)
    }
}
