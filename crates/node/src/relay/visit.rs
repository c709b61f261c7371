//! One sync with a relay: getting in, catching up at the doorstep, the exchange, other keys when somebody was removed, the label of
//! an account, and alarms.

use super::accounts::{Account, read_accounts};
use super::state::{RelayState, mailbox_id, relay_tag};
use crate::NodeError;
use crate::budget::Budget;
use crate::carry::{Carried, Errand, refused_by, row};
use crate::home::{Node, now_ms};
use cairn_contract::{Kept, Listing, Mailbox, MailboxError};
use cairn_model::{ChunkHash, DeviceId, hex};
use cairn_relay::wire::{Code, Head, LogId, public_key};
use cairn_relay::{Entered, KeyRing, Patience, Relay, RelayError, RelayMailbox, RelayUrl, Remembered};
use cairn_store::{Entropy, OsEntropy, Store, StoreError};
use cairn_sync::{ExchangeSetup, Memory, Progress};
use cairn_trust::{RelayHead, Role, open_admin, relay_access, relay_admin, relay_knock, relay_log, seal_admin};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Mutex;
use tokio::runtime::Handle;

/// How often the keys may turn out to be others in the middle of a visit.
const ROUNDS: usize = 4;
/// Every so many visits everything is listed again: what a relay hid for a moment, and what other devices were shown long ago.
const ALL_AGAIN: u32 = 32;

/// Seeds of the keys that may open the project's log.
pub(crate) fn ring(store: &Store) -> KeyRing {
    let project = store.project();
    let access = store.read_keys().iter().map(|key| relay_access(&project, key)).collect();
    KeyRing { log: LogId(relay_log(&project)), knock: relay_knock(&project), access }
}

/// Coordinators and their agreement keys, and a word that changes when they do.
fn coordinators(store: &Store) -> (Vec<(DeviceId, [u8; 32])>, String) {
    let members = store.membership();
    let all: Vec<(DeviceId, [u8; 32])> =
        members.members.values().filter(|m| m.role == Role::Coordinator).map(|m| (m.device, m.agreement_key)).collect();
    let word = all.iter().map(|(d, _)| hex(&d.short())).collect::<Vec<_>>().concat();
    (all, word)
}

pub(super) fn random<const N: usize>() -> [u8; N] {
    let random: &mut dyn Entropy = &mut OsEntropy;
    random.bytes()
}

/// Why a visit did not come to an exchange.
enum Stopped {
    Relay(RelayError),
    Node(NodeError),
}

impl From<RelayError> for Stopped {
    fn from(e: RelayError) -> Self {
        Stopped::Relay(e)
    }
}

impl<E: Into<NodeError>> From<E> for Stopped {
    fn from(e: E) -> Self {
        Stopped::Node(e.into())
    }
}

/// One visit.
pub(super) struct Visiting<'a> {
    pub(super) node: &'a Node,
    errand: &'a Errand<'a>,
    pub(super) url: &'a RelayUrl,
    pub(super) relay: Relay,
    pub(super) mailbox: RelayMailbox,
    before: RelayState,
    pub(super) state: RelayState,
    witnesses: Vec<(DeviceId, Head)>,
    pub(super) account: Option<Account>,
}

/// Syncs with a relay and tells what came of it, as a row of `targets`. Blocks.
pub(crate) fn sync_relay(node: &Node, errand: &Errand<'_>, url: &RelayUrl, seen: &(dyn Fn(&Progress) + Sync)) -> Result<Value, NodeError> {
    let turn = node.turn_at(url);
    let _one = turn.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut visiting = match Visiting::new(node, errand, url) {
        Ok(visiting) => visiting,
        Err(Stopped::Relay(e)) => return Ok(refused(errand, e)),
        Err(Stopped::Node(e)) => return Err(e),
    };
    let done = visiting.run(seen);
    visiting.remember()?;
    match done {
        Ok(row) => Ok(row),
        Err(Stopped::Relay(e)) => Ok(refused(errand, e)),
        Err(Stopped::Node(e)) => Err(e),
    }
}

/// A relay's mailbox that tells receipts at once which head it was shown: what is pushed in this visit tells of this visit.
struct Noting<'a> {
    mailbox: &'a mut RelayMailbox,
    node: &'a Node,
    tag: [u8; 16],
}

impl Mailbox for Noting<'_> {
    fn list(&mut self, cursor: &[u8]) -> Result<Listing, MailboxError> {
        let listing = self.mailbox.list(cursor)?;
        if let Some(head) = self.mailbox.head() {
            let head = RelayHead { relay: self.tag, seq: head.seq, hash: head.hash };
            self.node.store().note_relay_head(head).map_err(|e| MailboxError::Io("this device".into(), e.to_string()))?;
        }
        Ok(listing)
    }

    fn read(&mut self, names: &[ChunkHash]) -> Result<Vec<Vec<u8>>, MailboxError> {
        self.mailbox.read(names)
    }

    fn add(&mut self, chunks: &[Vec<u8>]) -> Result<(), MailboxError> {
        self.mailbox.add(chunks)
    }

    fn commit(&mut self) -> Result<Kept, MailboxError> {
        self.mailbox.commit()
    }
}

/// Advice that fits a relay, where that for files and folders does not.
fn advised(mut row: Value) -> Value {
    let remedy = match row["state"].as_str() {
        Some("full") => "ask the relay's operator for more room, or use another relay; what must not wait (keys, who belongs) came through",
        Some("failed") => "sync again; if it goes on, use another relay: everything is on this device",
        _ => return row,
    };
    row["remedy"] = json!(remedy);
    row
}

fn refused(errand: &Errand<'_>, e: RelayError) -> Value {
    let code = e.code();
    let mut out = refused_by(errand.typed, "relay", &e.into_mailbox());
    out["remedy"] = match code {
        Some(Code::AccountNeeded) => json!("log in first: `cairn relay login URL`, or `cairn relay register URL`"),
        Some(Code::Session) => json!("log in again: `cairn relay login URL`"),
        Some(Code::Blocked) => json!("ask the operator of the relay; your data is on your devices"),
        _ => return advised(out),
    };
    out
}

impl<'a> Visiting<'a> {
    fn new(node: &'a Node, errand: &'a Errand<'a>, url: &'a RelayUrl) -> Result<Self, Stopped> {
        let patience = if errand.unasked && errand.quick { Patience { tries: 2, ..Patience::default() } } else { Patience::default() };
        let relay = Relay::new(url, &node.network, patience, Handle::current())?;
        let mut store = node.store();
        if !errand.setup.dry_run {
            store.may_mail()?;
        }
        let before = RelayState::read(&store, url)?;
        let tag = relay_tag(url);
        let heads = store.heads_of_others()?.into_iter().filter(|(_, h)| h.relay == tag);
        let heads = heads.map(|(d, h)| (d, Head { seq: h.seq, hash: h.hash }));
        let witnesses: Vec<(DeviceId, Head)> = heads.filter(|(d, h)| before.compared.get(&d.to_string()) != Some(&h.to_string())).collect();
        let keys = ring(&store);
        let place = |key: &str| keys.access.iter().position(|seed| hex(&public_key(seed).0) == key);
        let token = before.session.as_ref().and_then(|(token, key)| Some((token.clone(), place(key)?)));
        let checked = before.checked.iter().filter_map(|h| h.parse().ok()).collect();
        let remembered = Remembered { head: before.head(), token, witnesses: witnesses.iter().map(|(_, h)| *h).collect(), checked };
        let account = read_accounts(&node.home_folder, store.keys())?.into_iter().filter(|a| a.relay == url.to_string());
        let account = account.min_by_key(|a| before.user.as_ref() != Some(&a.user));
        let mailbox = relay.mailbox(keys, remembered);
        drop(store);
        Ok(Self { node, errand, url, relay, mailbox, state: before.clone(), before, witnesses, account })
    }

    fn run(&mut self, seen: &(dyn Fn(&Progress) + Sync)) -> Result<Value, Stopped> {
        let setup = self.errand.setup.clone();
        self.state.visits = self.state.visits.wrapping_add(1);
        if setup.push && !setup.dry_run {
            self.close_way_in()?;
        }
        for round in 0..ROUNDS {
            match self.mailbox.enter()? {
                Entered::NoLog if !setup.push || setup.dry_run => return Ok(self.nothing_there()),
                Entered::NoLog => self.create()?,
                Entered::Doorstep => {
                    if let Some(row) = self.catch_up(round + 1 == ROUNDS)? {
                        return Ok(row);
                    }
                }
                Entered::In(place) => {
                    if place > 0 && setup.push && !setup.dry_run {
                        self.shut_out_first(seen)?;
                    }
                    let carried = self.exchange(&setup, seen);
                    // Other keys count since a moment ago, or the log is gone.
                    let moved = MailboxError::is_locked_or_missing;
                    let moved = matches!(&carried.visit.ended, Some(crate::VisitError::Mailbox(e)) if moved(e));
                    if moved && round + 1 < ROUNDS {
                        self.mailbox.with_keys(ring(&self.node.store()));
                        continue;
                    }
                    return self.finish(&setup, carried);
                }
            }
        }
        Err(Stopped::Relay(RelayError::Contradiction {
            url: self.url.to_string(),
            why: "it changes its mind about the keys of this project".into(),
        }))
    }

    fn exchange(&mut self, setup: &ExchangeSetup, seen: &(dyn Fn(&Progress) + Sync)) -> Carried {
        let id = mailbox_id(self.url);
        let mut memory = self.node.store().mailbox(&id).ok().flatten().map(|bytes| Memory::decode(&bytes)).unwrap_or_default();
        if self.state.visits.is_multiple_of(ALL_AGAIN) {
            memory.cursor.clear();
        }
        let setup = ExchangeSetup { memory, in_small_steps: true, step_bytes: self.errand.budget.map(Budget::step), ..setup.clone() };
        let sync = (!setup.dry_run).then_some(self.errand.number);
        let mut noting = Noting { mailbox: &mut self.mailbox, node: self.node, tag: relay_tag(self.url) };
        let carried = self.node.carry_at(&Mutex::default(), (&mut noting, self.errand.budget), Some(id), setup, sync, &mut |p| seen(p));
        if self.mailbox.must_list_again() && sync.is_some() {
            // Only a cache: without the cursor everything is listed again.
            let store = &mut self.node.store();
            if let Some(kept) = store.mailbox(&id).ok().flatten() {
                store.note_mailbox(&id, &Memory::decode(&kept).listed_again().encode()).ok();
            }
        }
        carried
    }

    fn nothing_there(&self) -> Value {
        let mut out = refused_by(self.errand.typed, "relay", &MailboxError::Missing(self.url.to_string()));
        out["message"] = json!("the project has nothing at this relay yet");
        out["remedy"] = json!("a sync without --pull puts it there");
        out
    }

    /// Makes the log. The admin secret goes to coordinators; a member that makes it forgets it.
    fn create(&mut self) -> Result<(), Stopped> {
        let secret: [u8; 32] = random();
        let record = {
            let store = self.node.store();
            let (all, _) = coordinators(&store);
            seal_admin(&store.project(), &secret, &all, random())
        };
        let record = record.ok_or_else(|| StoreError::Control("there are more coordinators than a relay's record has room for".into()))?;
        let token = self.account.as_ref().map(|a| a.token.clone());
        let admin = relay_admin(&secret);
        match self.mailbox.create(&admin, record.clone(), token.as_deref()) {
            // The account's token has ended. Where nobody needs to pay, the project does not wait for that.
            Err(e) if e.code() == Some(Code::Session) => match self.mailbox.create(&admin, record, None) {
                Err(other) if other.code() == Some(Code::AccountNeeded) => return Err(e.into()),
                done => done?,
            },
            done => done?,
        };
        let (me, (all, word)) = {
            let store = self.node.store();
            (store.device(), coordinators(&store))
        };
        if all.iter().any(|(d, _)| *d == me) {
            self.state.admins = Some(word);
        }
        Ok(())
    }

    /// At the doorstep: read keys and control operations tell whether this device still belongs, and which key counts. A row where it
    /// goes no further.
    fn catch_up(&mut self, last: bool) -> Result<Option<Value>, Stopped> {
        if self.errand.setup.dry_run {
            return Ok(Some(self.locked("the keys of the project were changed; a sync without --dry-run reads the new ones")));
        }
        let setup = ExchangeSetup { pull: true, ..ExchangeSetup::default() };
        let sync = self.errand.number;
        let carried =
            self.node.carry_at(&Mutex::default(), (&mut self.mailbox, self.errand.budget), None, setup.clone(), Some(sync), &mut |_| {});
        if carried.visit.outcome.shut_out || carried.visit.ended.is_some() {
            return Ok(Some(row(self.node, self.errand.typed, "relay", &setup, carried)?));
        }
        self.mailbox.with_keys(ring(&self.node.store()));
        if matches!(self.mailbox.enter()?, Entered::In(_)) && !last {
            return Ok(None);
        }
        let mut row = row(self.node, self.errand.typed, "relay", &setup, carried)?;
        let ask = self.node.store().own_ask();
        let left = ask.is_some_and(|ask| self.mailbox.add(&[ask]).and_then(|()| self.mailbox.commit()).is_ok());
        let said = self.locked(match left {
            true => "the keys of the project were changed since this device's ticket was made: it has asked to be let in",
            false => "the keys of the project were changed, and the new one is not there for this device yet",
        });
        for key in ["state", "message", "remedy"] {
            row[key] = said[key].clone();
        }
        Ok(Some(row))
    }

    fn locked(&self, message: &str) -> Value {
        let mut out = refused_by(self.errand.typed, "relay", &MailboxError::Locked(self.url.to_string()));
        out["message"] = json!(message);
        out
    }

    /// Somebody may have been removed: what tells of it goes first, then the old key stops counting, then all the rest.
    fn shut_out_first(&mut self, seen: &(dyn Fn(&Progress) + Sync)) -> Result<(), Stopped> {
        let little = ExchangeSetup { pull: true, push: true, only: Some(BTreeSet::new()), ..ExchangeSetup::default() };
        let carried = self.exchange(&little, seen);
        if carried.visit.ended.is_none() {
            self.rotate()?;
        }
        Ok(())
    }

    /// The newest read key counts at the relay from now on, and only coordinators have the admin key. By a coordinator. `false` if an
    /// older read key goes on counting there.
    fn rotate(&mut self) -> Result<bool, Stopped> {
        let (project, me, keys, all, word, newest) = {
            let store = self.node.store();
            let (all, word) = coordinators(&store);
            (store.project(), store.device(), store.keys().clone(), all, word, ring(&store))
        };
        let newest_counts = matches!(self.mailbox.enter()?, Entered::In(0));
        let governs = all.iter().any(|(d, _)| *d == me);
        if !governs || (newest_counts && self.state.admins.as_ref() == Some(&word)) {
            return Ok(newest_counts);
        }
        let there = self.mailbox.keys()?;
        let Some((secret, _)) = open_admin(&project, &there.record.0, &keys) else { return Ok(newest_counts) };
        if public_key(&relay_admin(&secret)) != there.admin {
            return Ok(newest_counts);
        }
        // Always another secret: whoever made the log, or was a coordinator once, may have kept the one there is.
        let next: [u8; 32] = random();
        let Some(record) = seal_admin(&project, &next, &all, random()) else { return Ok(newest_counts) };
        self.mailbox.with_keys(newest);
        match self.mailbox.rotate(there.version, &relay_admin(&secret), &relay_admin(&next), record) {
            // Another coordinator was faster; the next visit looks again.
            Err(e) if e.code() == Some(Code::Changed) => Ok(newest_counts),
            Err(e) => Err(e.into()),
            Ok(()) => {
                self.state.admins = Some(word);
                Ok(true)
            }
        }
    }

    fn finish(&mut self, setup: &ExchangeSetup, carried: Carried) -> Result<Value, Stopped> {
        let went_well = carried.visit.ended.is_none() && !carried.visit.outcome.shut_out;
        let mut row = row(self.node, self.errand.typed, "relay", setup, carried)?;
        let mut faults: Vec<Value> = row["faults"].as_array().cloned().unwrap_or_default();
        if went_well && setup.push && !setup.dry_run {
            self.node.store().may_mail()?;
            self.mailbox.with_keys(ring(&self.node.store()));
            // What the exchange brought may have been a removal.
            match self.rotate() {
                Ok(true) => {}
                Ok(false) => self.not_shut_out(&mut row, &mut faults),
                Err(Stopped::Node(e)) => return Err(Stopped::Node(e)),
                Err(Stopped::Relay(e)) => {
                    faults.push(json!(format!("the keys at the relay were not changed: {e}; the next sync tries again")))
                }
            }
            if let Err(e) = self.label() {
                faults.push(json!(format!("the account's list of projects was not brought up to date: {e}")));
            }
        }
        faults.extend(self.alarms()?.into_iter().map(Value::from));
        row["faults"] = json!(faults);
        Ok(advised(row))
    }

    /// A device that was removed can go on at the relay: said, because nobody else will.
    fn not_shut_out(&self, row: &mut Value, faults: &mut Vec<Value>) {
        let message = "the project has a new read key, and at this relay the old one counts on: a removed device can still fetch and add sealed chunks there";
        let governs = {
            let store = self.node.store();
            let me = store.device();
            coordinators(&store).0.iter().any(|(d, _)| *d == me)
        };
        if !governs {
            faults.push(json!(format!("{message}, until a coordinator syncs with it")));
        } else if row["state"] == "synced" {
            (row["state"], row["message"]) = (json!("partly"), json!(message));
            row["remedy"] = json!(
                "let the coordinator sync that put the project there (or one that did since); or use another relay: `cairn remote add`"
            );
        }
    }

    /// Evidence of what was wrong, kept, and told.
    fn alarms(&mut self) -> Result<Vec<String>, NodeError> {
        let store = self.node.store();
        let mut told = Vec::new();
        for alarm in self.mailbox.alarms().to_vec() {
            if let Some(e) = self.state.note(&alarm, &self.witnesses, &store, now_ms()) {
                told.push(format!(
                    "ALARM: {}; what it lacks is pushed again, and `cairn status` keeps the evidence until `cairn remote seen NAME`",
                    e.message
                ));
            }
        }
        Ok(told)
    }

    /// What the visit taught is kept, whatever it came to.
    fn remember(&mut self) -> Result<(), NodeError> {
        self.alarms()?;
        if self.errand.setup.dry_run {
            return Ok(());
        }
        let mut store = self.node.store();
        if let Some(head) = self.mailbox.head() {
            self.state.head = Some(head.to_string());
            let compared = self.mailbox.compared().iter().filter_map(|n| self.witnesses.get(*n));
            self.state.compared.extend(compared.map(|(d, h)| (d.to_string(), h.to_string())));
            self.state.checked = self.mailbox.checked().iter().map(ToString::to_string).collect();
            store.note_relay_head(RelayHead { relay: relay_tag(self.url), seq: head.seq, hash: head.hash })?;
        }
        let keys = ring(&store);
        let session = self.mailbox.token().and_then(|(token, place)| Some((token, hex(&public_key(keys.access.get(place)?).0))));
        self.state.session = session;
        self.state.write(&mut store, self.url, &self.before)
    }
}

/// A relay's refusal as an error of the whole command.
pub fn from_relay(e: RelayError) -> NodeError {
    let message = e.to_string();
    match e {
        RelayError::Unreached { .. } => NodeError::RelayUnreached { message },
        RelayError::Elsewhere { .. } | RelayError::Certificate { .. } => NodeError::RelayUnreached { message },
        RelayError::Newer { .. } => NodeError::Mismatch { message },
        RelayError::Contradiction { .. } => NodeError::Store { message },
        RelayError::Refused { problem, .. } => match problem.code {
            Code::Password => {
                NodeError::not_allowed(message, "look at the user name and the password; `cairn relay recover` takes the recovery words")
            }
            Code::Session => NodeError::not_allowed(message, "log in: `cairn relay login URL`"),
            Code::RegistrationClosed => NodeError::not_allowed(message, "ask the operator for an account, or use another relay"),
            Code::RegistrationCode => {
                NodeError::not_allowed(message, "ask the operator for a code: `cairn relay register URL --code CODE`")
            }
            Code::Blocked | Code::AccountNeeded | Code::Key | Code::Right => {
                NodeError::not_allowed(message, "ask the operator of the relay")
            }
            Code::Quota | Code::Full => NodeError::NoSpace { message },
            Code::NameTaken => NodeError::input(format!("{message}: choose another user name, or `cairn relay login` if it is yours")),
            Code::NotFound => NodeError::NotFound { what: "such thing at the relay".into() },
            _ => NodeError::Input { message },
        },
    }
}
