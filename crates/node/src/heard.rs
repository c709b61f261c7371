//! What people at a serving device should hear of.

use crate::Node;
use serde_json::Value;

/// A device that entered through this one.
#[derive(Clone, Debug, serde::Serialize)]
pub struct LetIn {
    /// The device.
    pub device: String,
    /// Its display name.
    pub name: String,
    /// Six digits that the newcomer shows too; empty for one that was approved.
    pub check: String,
}

/// What people at a serving device should hear of.
#[derive(Clone, Debug, serde::Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Heard {
    /// A device entered.
    LetIn(LetIn),
    /// A device brought something over a link.
    Synced {
        /// Its display name.
        with: String,
        /// Number of the sync.
        sync: String,
        /// Observations that are new, changed and deleted by it.
        new: i64,
        /// See `new`.
        changed: i64,
        /// See `new`.
        deleted: i64,
    },
    /// How far a sync is: told now and then, to programs that listen.
    Progress {
        /// A remote's name, or an address.
        with: String,
        /// Batches that went and came.
        done: u64,
        /// Batches that will, as far as is known; it only grows.
        planned: u64,
        /// Bytes.
        bytes: u64,
    },
    /// Other devices may have confirmed more than before.
    Confirmed,
    /// A device asks to enter.
    Asks,
    /// A code was tried and was not the one shown.
    WrongCode,
    /// A remote that is a file or a folder is in another state than before.
    Carried {
        /// Its name.
        target: String,
        /// In a word.
        state: String,
        /// Why.
        message: String,
        /// What to do.
        remedy: String,
    },
    /// What is shown here changed by an undo or a redo; what is held did not.
    SetAside {
        /// Changes that are set aside now.
        changes: u64,
    },
    /// A job was run by its schedule.
    Job {
        /// Its name.
        name: String,
        /// In a word.
        state: String,
        /// What went wrong, if anything.
        message: String,
    },
    /// A device that proved the project may not exchange observations now.
    TurnedAway {
        /// Its display name.
        name: String,
        /// In a word.
        state: String,
        /// Why.
        reason: String,
        /// What to do.
        remedy: String,
    },
}

impl Node {
    /// Tells what a target brought, from its row in a sync's reply.
    pub(crate) fn tell_synced(&self, with: &str, number: u32, row: &Value) {
        let count = |key: &str| row["observations"][key].as_i64().unwrap_or(0);
        let (new, changed, deleted) = (count("new"), count("changed"), count("deleted"));
        // Nobody may listen.
        self.heard.send(Heard::Synced { with: with.to_owned(), sync: number.to_string(), new, changed, deleted }).ok();
    }
}
