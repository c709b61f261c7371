//! How an account's list shows a project, and the way in it carries for the account's next device. A device that was removed may know
//! the account's key, so after a removal there is no way in on the list before the account has another key.

use super::accounts::Account;
use super::visit::{Visiting, from_relay, random};
use crate::NodeError;
use cairn_model::{ChunkHash, hex, unhex};
use cairn_relay::wire::LogId;
use cairn_store::{Store, StoreError};
use cairn_trust::{ControlHash, InviteMode, ProjectLabel, Role, Ticket, relay_log};

/// Devices that may come back by one label's ticket.
const LABEL_USES: u32 = 8;

/// Devices that left or were removed.
fn former(store: &Store) -> u64 {
    store.membership().former.len() as u64
}

fn bytes(text: &str) -> Option<[u8; 32]> {
    unhex(text).ok()?.try_into().ok()
}

impl Visiting<'_> {
    /// What a label is made of, in a word.
    fn label_word(&self, account: &Account) -> Result<String, NodeError> {
        let store = self.node.store();
        let key = store.read_keys().first().map(|k| hex(&k.id().0)).unwrap_or_default();
        let own = hex(&ChunkHash::of(&account.key).short());
        let invite = self.state.invite.as_ref().map(|(op, _)| op.clone()).unwrap_or_default();
        Ok(format!("{} {own} {key} {invite} {} {}", account.user, former(&store), store.genesis()?.name))
    }

    /// Brings the label up to date, if what it is made of changed.
    pub(super) fn label(&mut self) -> Result<(), NodeError> {
        let Some(account) = self.account.clone() else { return Ok(()) };
        self.mailbox.enter().map_err(from_relay)?;
        let Some((session, _)) = self.mailbox.token() else { return Ok(()) };
        if self.state.labelled == Some(self.label_word(&account)?) && self.way_in_counts() != Some(false) {
            return Ok(());
        }
        let there = self.label_there(&account)?;
        let gone = former(&self.node.store());
        // A removed device may take the label off the list, or write one of its own: what this device knows of the same key counts.
        let own = hex(&ChunkHash::of(&account.key).short());
        let known = self.state.since.filter(|_| self.state.labelled.as_ref().is_some_and(|word| word.contains(&own)));
        let listed = there.as_ref().and_then(|l| l.since);
        let word = |visiting: &Self| Ok::<_, NodeError>(Some(visiting.label_word(&account)?));
        // Whoever left may know this key, for all this device can tell: it makes no way in, and leaves the one that others made.
        let unsure = known.is_none() && !account.made_here && gone > 0;
        if unsure && there.is_some() {
            self.state.labelled = word(self)?;
            return Ok(());
        }
        let since = listed.into_iter().chain(known).min().unwrap_or(gone);
        let found = there.and_then(|l| l.ticket).filter(|_| since >= gone).filter(|text| self.still_opens(text));
        let ticket = match found {
            Some(ticket) => Some(ticket),
            None if since >= gone && !unsure => self.way_in()?,
            None => None,
        };
        let (log, label) = {
            let store = self.node.store();
            let mut label = ProjectLabel::new(store.genesis()?.name.clone(), store.project(), ticket, store.count()?, since);
            label.since = label.since.filter(|_| !unsure);
            (LogId(relay_log(&store.project())), label.seal(&account.key, random()))
        };
        self.relay.label(&account.token, &session, log, label).map_err(from_relay)?;
        self.state.since = (!unsure).then_some(since);
        (self.state.user, self.state.labelled) = (Some(account.user.clone()), word(self)?);
        Ok(())
    }

    /// The label as the account has it, if its key opens it.
    fn label_there(&self, account: &Account) -> Result<Option<ProjectLabel>, NodeError> {
        let log = LogId(relay_log(&self.node.store().project()));
        let there = self.relay.account(&account.token).map_err(from_relay)?;
        let row = there.projects.into_iter().find(|p| p.log == log);
        Ok(row.and_then(|p| ProjectLabel::open(&account.key, &log.0, &p.label.0)))
    }

    /// Another device's way in, as good as one of our own: it is kept, else each device would put its own in its place for ever.
    fn still_opens(&mut self, text: &str) -> bool {
        let Ok(ticket) = Ticket::decode(text) else { return false };
        let op = hex(&ticket.invite.0);
        let known = {
            let store = self.node.store();
            let newest = store.read_keys().first().cloned();
            let open = store.membership().invitations.iter().any(|i| i.op == ticket.invite && i.is_open());
            open && newest.is_some_and(|key| ticket.epochs.contains(&key))
        };
        if known && self.state.invite.as_ref().is_none_or(|(own, _)| *own != op) {
            self.state.invite = Some((op, None));
        }
        known
    }

    /// Whether the invitation of the label still lets somebody in; `None` if there is none, or it was revoked.
    fn way_in_counts(&self) -> Option<bool> {
        let (invite, _) = self.state.invite.as_ref()?;
        let store = self.node.store();
        let members = store.membership();
        let found = members.invitations.iter().find(|i| hex(&i.op.0) == *invite)?;
        (!found.revoked).then_some(found.is_open())
    }

    /// This device's own invitation for the label, if it is open.
    fn own_way_in(&self) -> Option<(ControlHash, [u8; 32])> {
        let (op, secret) = self.state.invite.as_ref()?;
        let own = (ControlHash(bytes(op)?), bytes(secret.as_ref()?)?);
        (self.way_in_counts() == Some(true)).then_some(own)
    }

    /// Somebody was removed since there is a way in: who knows the account's key could enter by it again. It is revoked before anything
    /// else goes to the relay.
    pub(super) fn close_way_in(&mut self) -> Result<(), NodeError> {
        let gone = former(&self.node.store());
        if self.state.since.is_none_or(|since| since >= gone) {
            return Ok(());
        }
        if let Some((op, _)) = self.own_way_in() {
            match self.node.store().revoke(op) {
                // A coordinator no more: whoever is one revokes it.
                Ok(()) | Err(StoreError::Control(_) | StoreError::Role { .. }) => {}
                Err(e) => return Err(e.into()),
            }
        }
        self.state.invite = None;
        Ok(())
    }

    /// A ticket for the account's next device. Where this device may not invite, or a ticket would be too long, there is none.
    fn way_in(&mut self) -> Result<Option<String>, NodeError> {
        let own = self.own_way_in();
        let mut store = self.node.store();
        let role = store.membership().members.get(&store.device()).map(|m| m.role);
        if role != Some(Role::Coordinator) {
            return Ok(None);
        }
        let addresses = vec![self.url.to_string()];
        let again = own.map(|(op, secret)| store.ticket_again(&op, secret, addresses.clone())).transpose()?.flatten();
        let ticket = match again.map_or_else(|| store.invite(Role::Coordinator, LABEL_USES, InviteMode::Bearer, addresses), Ok) {
            Ok(ticket) => ticket,
            Err(StoreError::Control(_) | StoreError::Role { .. }) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        self.state.invite = Some((hex(&ticket.invite.0), Some(hex(&ticket.secret))));
        Ok(Some(ticket.encode()))
    }
}
