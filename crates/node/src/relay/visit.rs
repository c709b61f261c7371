//! One sync with a relay: getting in, catching up at the doorstep, the exchange, other keys when somebody was removed, the label of
//! an account, and alarms.

use super::accounts::{Account, read_accounts};
use super::state::{RelayState, mailbox_id, relay_tag};
use crate::NodeError;
use crate::carry::{Carried, Errand, refused_by, row};
use crate::home::{Node, now_ms};
use cairn_contract::{Mailbox, MailboxError};
use cairn_model::{DeviceId, hex, unhex};
use cairn_relay::wire::{Code, Head, LogId, public_key};
use cairn_relay::{Entered, KeyRing, Patience, Relay, RelayError, RelayMailbox, RelayUrl, Remembered};
use cairn_store::{Entropy, OsEntropy, Store, StoreError};
use cairn_sync::{ExchangeSetup, Memory, Progress};
use cairn_trust::{
    ControlHash, InviteMode, ProjectLabel, RelayHead, Role, open_admin, relay_access, relay_admin, relay_knock, relay_log, seal_admin,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tokio::runtime::Handle;

/// How often the keys may turn out to be others in the middle of a visit.
const ROUNDS: usize = 4;
/// Devices that may come back by one label's ticket.
const LABEL_USES: u32 = 8;

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

fn random<const N: usize>() -> [u8; N] {
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
struct Visiting<'a> {
    node: &'a Node,
    errand: &'a Errand<'a>,
    url: &'a RelayUrl,
    relay: Relay,
    mailbox: RelayMailbox,
    before: RelayState,
    state: RelayState,
    witnesses: Vec<(DeviceId, Head)>,
    account: Option<Account>,
}

/// Syncs with a relay and tells what came of it, as a row of `targets`. Blocks.
pub(crate) fn sync_relay(node: &Node, errand: &Errand<'_>, url: &RelayUrl, seen: &(dyn Fn(&Progress) + Sync)) -> Result<Value, NodeError> {
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

fn refused(errand: &Errand<'_>, e: RelayError) -> Value {
    let code = e.code();
    let mut out = refused_by(errand.typed, "relay", &e.into_mailbox());
    out["remedy"] = match code {
        Some(Code::AccountNeeded) => json!("log in first: `cairn relay login URL`, or `cairn relay register URL`"),
        Some(Code::Blocked) => json!("ask the operator of the relay; your data is on your devices"),
        _ => out["remedy"].take(),
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
        let remembered = Remembered { head: before.head(), token, witnesses: witnesses.iter().map(|(_, h)| *h).collect() };
        let account = read_accounts(&node.home_folder, store.keys())?.into_iter().filter(|a| a.relay == url.to_string());
        let account = account.min_by_key(|a| before.user.as_ref() != Some(&a.user));
        let mailbox = relay.mailbox(keys, remembered);
        drop(store);
        Ok(Self { node, errand, url, relay, mailbox, state: before.clone(), before, witnesses, account })
    }

    fn run(&mut self, seen: &(dyn Fn(&Progress) + Sync)) -> Result<Value, Stopped> {
        let setup = self.errand.setup.clone();
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
                    let locked = matches!(&carried.visit.ended, Some(crate::VisitError::Mailbox(MailboxError::Locked(_))));
                    if locked && round + 1 < ROUNDS {
                        // Other keys count since a moment ago.
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
        let memory = self.node.store().mailbox(&id).ok().flatten().map(|bytes| Memory::decode(&bytes)).unwrap_or_default();
        let setup = ExchangeSetup { memory, in_small_steps: true, ..setup.clone() };
        let sync = (!setup.dry_run).then_some(self.errand.number);
        self.node.carry_at(&self.node.relaying, &mut self.mailbox, Some(id), setup, sync, &mut |p| seen(p))
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
        self.mailbox.create(&relay_admin(&secret), record, token.as_deref())?;
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
        let carried = self.node.carry_at(&self.node.relaying, &mut self.mailbox, None, setup.clone(), Some(sync), &mut |_| {});
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

    /// The newest read key counts at the relay from now on, and only coordinators have the admin key. By a coordinator.
    fn rotate(&mut self) -> Result<(), Stopped> {
        let (project, me, keys, all, word, newest) = {
            let store = self.node.store();
            let (all, word) = coordinators(&store);
            (store.project(), store.device(), store.keys().clone(), all, word, ring(&store))
        };
        if !all.iter().any(|(d, _)| *d == me) {
            return Ok(());
        }
        let newest_counts = matches!(self.mailbox.enter()?, Entered::In(0));
        if newest_counts && self.state.admins.as_ref() == Some(&word) {
            return Ok(());
        }
        let there = self.mailbox.keys()?;
        let Some((secret, readers)) = open_admin(&project, &there.record.0, &keys) else { return Ok(()) };
        if public_key(&relay_admin(&secret)) != there.admin {
            return Ok(());
        }
        let wanted: BTreeSet<[u8; 8]> = all.iter().map(|(d, _)| d.short()).collect();
        let boxed: BTreeSet<[u8; 8]> = readers.into_iter().collect();
        if newest_counts && wanted == boxed {
            self.state.admins = Some(word);
            return Ok(());
        }
        let next = if boxed.is_subset(&wanted) { secret } else { random() };
        let Some(record) = seal_admin(&project, &next, &all, random()) else { return Ok(()) };
        self.mailbox.with_keys(newest);
        match self.mailbox.rotate(there.version, &relay_admin(&secret), &relay_admin(&next), record) {
            // Another coordinator was faster; the next visit looks again.
            Err(e) if e.code() == Some(Code::Changed) => Ok(()),
            Err(e) => Err(e.into()),
            Ok(()) => {
                self.state.admins = Some(word);
                Ok(())
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
            if let Err(Stopped::Node(e)) = self.rotate() {
                return Err(Stopped::Node(e));
            }
            if let Err(e) = self.label() {
                faults.push(json!(format!("the account's list of projects was not brought up to date: {e}")));
            }
        }
        faults.extend(self.alarms()?.into_iter().map(Value::from));
        row["faults"] = json!(faults);
        Ok(row)
    }

    /// Evidence of what was wrong, kept, and told.
    fn alarms(&mut self) -> Result<Vec<String>, NodeError> {
        let store = self.node.store();
        let mut told = Vec::new();
        for alarm in self.mailbox.alarms().to_vec() {
            if let Some(e) = self.state.note(&alarm, &self.witnesses, &store, now_ms()) {
                told.push(format!("ALARM: {}; what it lacks is pushed again, and `cairn status` keeps the evidence", e.message));
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
            if self.mailbox.walked() {
                self.state.compared.extend(self.witnesses.iter().map(|(d, h)| (d.to_string(), h.to_string())));
            }
            store.note_relay_head(RelayHead { relay: relay_tag(self.url), seq: head.seq, hash: head.hash })?;
        }
        let keys = ring(&store);
        let session = self.mailbox.token().and_then(|(token, place)| Some((token, hex(&public_key(keys.access.get(place)?).0))));
        self.state.session = session;
        self.state.write(&mut store, self.url, &self.before)
    }

    /// What a label is made of, in a word.
    fn label_word(&self, account: &Account) -> Result<String, NodeError> {
        let store = self.node.store();
        let key = store.read_keys().first().map(|k| hex(&k.id().0)).unwrap_or_default();
        let invite = self.state.invite.as_ref().map(|(op, _)| op.clone()).unwrap_or_default();
        Ok(format!("{} {key} {invite} {}", account.user, store.genesis()?.name))
    }

    /// The account's devices see the project by name, and with a way in if this device may invite. Written anew only when what it is
    /// made of changed.
    fn label(&mut self) -> Result<(), NodeError> {
        let Some(account) = self.account.clone() else { return Ok(()) };
        let usable = self.way_in_counts();
        if self.state.labelled == Some(self.label_word(&account)?) && usable != Some(false) {
            return Ok(());
        }
        let ticket = self.way_in(usable)?;
        let (project, label) = {
            let store = self.node.store();
            let label = ProjectLabel::new(store.genesis()?.name.clone(), store.project(), ticket, store.count()?);
            (store.project(), label.seal(&account.key, random()))
        };
        let Some((session, _)) = self.mailbox.token() else { return Ok(()) };
        self.relay.label(&account.token, &session, LogId(relay_log(&project)), label).map_err(from_relay)?;
        (self.state.user, self.state.labelled) = (Some(account.user.clone()), Some(self.label_word(&account)?));
        Ok(())
    }

    /// Whether the invitation of the label still lets somebody in; `None` if there is none, or it was revoked on purpose.
    fn way_in_counts(&self) -> Option<bool> {
        let (invite, _) = self.state.invite.as_ref()?;
        let store = self.node.store();
        let members = store.membership();
        let found = members.invitations.iter().find(|i| hex(&i.op.0) == *invite)?;
        (!found.revoked).then_some(found.is_open())
    }

    /// A ticket for the account's next device. Where this device may not invite, or the invitation was revoked, there is none.
    fn way_in(&mut self, usable: Option<bool>) -> Result<Option<String>, NodeError> {
        let mut store = self.node.store();
        let role = store.membership().members.get(&store.device()).map(|m| m.role);
        if role != Some(Role::Coordinator) || (self.state.invite.is_some() && usable.is_none()) {
            return Ok(None);
        }
        let addresses = vec![self.url.to_string()];
        let known = self.state.invite.clone().filter(|_| usable == Some(true)).and_then(|(op, secret)| {
            let bytes = |text: &str| unhex(text).ok().and_then(|b| <[u8; 32]>::try_from(b).ok());
            Some((ControlHash(bytes(&op)?), bytes(&secret)?))
        });
        let again = known.map(|(op, secret)| store.ticket_again(&op, secret, addresses.clone())).transpose()?.flatten();
        let ticket = match again {
            Some(ticket) => ticket,
            None => store.invite(Role::Coordinator, LABEL_USES, InviteMode::Bearer, addresses)?,
        };
        self.state.invite = Some((hex(&ticket.invite.0), hex(&ticket.secret)));
        Ok(Some(ticket.encode()))
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
