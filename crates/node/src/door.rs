//! Who may see this device's key: keys of the project and its open invitations, and the short code that is shown now.

use crate::NodeError;
use cairn_model::DeviceId;
use cairn_quic::{Door, Knock};
use cairn_store::{Entropy, OsEntropy, Store};
use cairn_trust::{Code, code_knock_key, discovery_tag, knock, knock_answer};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How long a short code is shown, on the clock that only goes forward.
pub(crate) const CODE_LIFE: Duration = Duration::from_secs(300);
/// Tags of one announcement: the project's and those of the newest invitations.
const TAGS: usize = 8;
/// Bytes of one tag.
const TAG: usize = 6;

/// A short code and what it stands for.
#[derive(Clone)]
struct ShownCode {
    code: Code,
    ticket: String,
    until: Instant,
    /// Somebody has tried it. Its number stays known, so that who comes next is told so.
    tried: bool,
}

#[derive(Default)]
struct Inside {
    keys: Vec<[u8; 32]>,
    code: Option<ShownCode>,
    /// Counts changes, so that announcements follow.
    version: u64,
}

/// Shared by the socket, the links and the verbs of one project.
#[derive(Clone, Default)]
pub(crate) struct Doors {
    inside: Arc<Mutex<Inside>>,
    tried: Arc<Notify>,
}

impl Doors {
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows the control log.
    pub fn refresh(&self, store: &Store) {
        let keys = store.knock_keys();
        let mut inside = self.inside();
        if inside.keys != keys {
            inside.keys = keys;
            inside.version += 1;
        }
    }

    /// Shows a code that stands for a ticket; an earlier one is shown no longer.
    pub fn show(&self, code: Code, ticket: String) {
        let mut inside = self.inside();
        inside.code = Some(ShownCode { code, ticket, until: Instant::now() + CODE_LIFE, tried: false });
        inside.version += 1;
    }

    fn shown(&self) -> Option<ShownCode> {
        let mut inside = self.inside();
        if inside.code.as_ref().is_some_and(|c| c.until < Instant::now()) {
            inside.code = None;
        }
        inside.code.clone()
    }

    /// The code that is shown, while it may be tried.
    pub fn code(&self) -> Option<(Code, String)> {
        self.shown().filter(|c| !c.tried).map(|c| (c.code, c.ticket))
    }

    /// For who tries it now: one guess, so nobody after can.
    pub fn take_code(&self) -> Option<(Code, String)> {
        let code = self.code();
        if let Some(shown) = &mut self.inside().code {
            shown.tried = true;
            self.tried.notify_one();
        }
        code
    }

    /// Waits until somebody tries the code.
    pub async fn tried(&self) {
        self.tried.notified().await;
    }

    fn keys(&self) -> Vec<[u8; 32]> {
        let mut keys = self.inside().keys.clone();
        keys.extend(self.shown().map(|c| code_knock_key(c.code.nameplate)));
        keys
    }

    /// Keys of invitations alone.
    pub fn invitations(&self) -> Vec<[u8; 32]> {
        self.inside().keys.iter().skip(1).copied().collect()
    }

    /// For [`cairn_quic::Endpoint::bind`].
    pub fn door(&self, device: DeviceId) -> Door {
        let doors = self.clone();
        Arc::new(move |nonce, tag| {
            let key = doors.keys().into_iter().find(|key| knock(key, nonce) == *tag)?;
            Some(knock_answer(&key, nonce, &device))
        })
    }

    /// Counts changes.
    pub fn version(&self) -> u64 {
        self.inside().version
    }

    /// Tags for an announcement with this nonce.
    pub fn tags(&self, nonce: &[u8; 8]) -> Vec<u8> {
        let keys = self.keys();
        let (project, others) = keys.split_at(keys.len().min(1));
        project.iter().chain(others.iter().rev().take(TAGS - 1)).flat_map(|key| discovery_tag(key, nonce)).collect()
    }
}

/// A door that lets nobody in, for who only dials.
pub(crate) fn closed() -> Door {
    Arc::new(|_, _| None)
}

/// A fresh knock with a key.
pub(crate) fn knock_with(key: [u8; 32]) -> Knock {
    let nonce: [u8; 8] = (&mut OsEntropy as &mut dyn Entropy).bytes();
    Knock { nonce, tag: knock(&key, &nonce), answer: Arc::new(move |device| knock_answer(&key, &nonce, device)) }
}

/// `true` if one of an announcement's tags is that of `key`.
pub(crate) fn is_announced(key: &[u8; 32], nonce: &[u8], tags: &[u8]) -> bool {
    let tag = discovery_tag(key, nonce);
    tags.chunks_exact(TAG).any(|t| t == tag)
}

/// A fresh short code.
pub(crate) fn new_code() -> Code {
    Code::new((&mut OsEntropy as &mut dyn Entropy).bytes())
}

/// The device a person means: its name, the beginning of its id, or its digits.
pub(crate) fn device_of(store: &Store, typed: &str) -> Result<DeviceId, NodeError> {
    let m = store.membership();
    let known: Vec<(DeviceId, String)> = (m.members.values().map(|d| (d.device, d.name.clone())))
        .chain(m.former.values().map(|d| (d.device, d.name.clone())))
        .chain(m.pending.iter().map(|d| (d.device, d.name.clone())))
        .collect();
    let hex = typed.len() >= 4 && typed.bytes().all(|b| b.is_ascii_hexdigit());
    let digits = |d: &DeviceId| d.digits().replace('-', "") == typed.replace(['-', ' '], "");
    let meant = |(d, name): &&(DeviceId, String)| name == typed || (hex && d.to_string().starts_with(&typed.to_lowercase())) || digits(d);
    let mut found: Vec<DeviceId> = known.iter().filter(meant).map(|(d, _)| *d).collect();
    found.sort_unstable();
    found.dedup();
    match found.as_slice() {
        [] => Err(NodeError::NotFound { what: format!("device `{typed}` in this project") }),
        [one] => Ok(*one),
        _ => Err(NodeError::Ambiguous { prefix: typed.to_owned() }),
    }
}
