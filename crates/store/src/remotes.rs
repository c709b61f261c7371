//! Names for targets, when and which way they are visited, and bytes spent on metered lines. Of this device alone: nothing of it travels.

use crate::tables::{from_bytes, to_bytes};
use crate::{Store, StoreError};
use redb::ReadableTable;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How a remote is visited when nobody asks for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteRule {
    /// Only take what is new there.
    pub pull: bool,
    /// Only give what is missing there.
    pub push: bool,
    /// At these times; at once and always if absent.
    pub schedule: Option<String>,
    /// Since when the rule holds, milliseconds.
    pub since_ms: i64,
    /// When the last visit by the schedule began that came to its end.
    pub began_ms: Option<i64>,
}

impl Store {
    /// Names for targets, and what they stand for.
    pub fn remotes(&self) -> Result<Vec<(String, String)>, StoreError> {
        let v = self.view()?;
        let mut out = Vec::new();
        for row in v.remotes.iter()? {
            let (name, target) = row?;
            out.push((name.value().to_owned(), String::from_utf8_lossy(target.value()).into_owned()));
        }
        Ok(out)
    }

    /// Rules of remotes that have one.
    pub fn remote_rules(&self) -> Result<BTreeMap<String, RemoteRule>, StoreError> {
        let v = self.view()?;
        let mut out = BTreeMap::new();
        for row in v.remote_rules.iter()? {
            let (name, rule) = row?;
            out.insert(name.value().to_owned(), from_bytes(rule.value(), "rule of a remote")?);
        }
        Ok(out)
    }

    /// The rule of one remote; the usual one where none was given.
    pub fn remote_rule(&self, name: &str) -> Result<RemoteRule, StoreError> {
        let v = self.view()?;
        let row = v.remote_rules.get(name)?;
        row.map_or(Ok(RemoteRule::default()), |row| from_bytes(row.value(), "rule of a remote"))
    }

    /// Gives a target a name, or takes the name away, with its rule.
    pub fn set_remote(&mut self, name: &str, target: Option<&str>) -> Result<(), StoreError> {
        self.set_remote_with(name, target, &RemoteRule::default())
    }

    /// Gives a target a name and a rule.
    pub fn set_remote_with(&mut self, name: &str, target: Option<&str>, rule: &RemoteRule) -> Result<(), StoreError> {
        self.write(|t, _, _| {
            match target {
                Some(target) => drop(t.remotes.insert(name, target.as_bytes())?),
                None => drop(t.remotes.remove(name)?),
            }
            match target.filter(|_| *rule != RemoteRule::default()) {
                Some(_) => drop(t.remote_rules.insert(name, &to_bytes(rule)[..])?),
                None => drop(t.remote_rules.remove(name)?),
            }
            Ok(())
        })
    }

    /// Notes when a visit by the schedule began that came to its end; of a name that was taken away meanwhile nothing is noted.
    pub fn note_remote_began(&mut self, name: &str, now_ms: i64) -> Result<(), StoreError> {
        let mut rule = self.remote_rule(name)?;
        if rule == RemoteRule::default() {
            return Ok(());
        }
        rule.began_ms = Some(now_ms);
        self.write(|t, _, _| {
            t.remote_rules.insert(name, &to_bytes(&rule)[..])?;
            Ok(())
        })
    }

    /// Bytes spent on metered lines on a day, as [`Store::note_metered`] counts days.
    pub fn metered(&self, day: i64) -> Result<u64, StoreError> {
        let v = self.view()?;
        let row = v.meta.get("metered")?;
        let (of, bytes): (i64, u64) = row.map_or(Ok((day, 0)), |row| from_bytes(row.value(), "bytes spent"))?;
        Ok(if of == day { bytes } else { 0 })
    }

    /// Adds to what was spent on a day; another day begins at nothing.
    pub fn note_metered(&mut self, day: i64, bytes: u64) -> Result<(), StoreError> {
        let v = self.view()?;
        let row = v.meta.get("metered")?;
        let (of, before): (i64, u64) = row.map_or(Ok((day, 0)), |row| from_bytes(row.value(), "bytes spent"))?;
        // What a link spent that began yesterday must not make today anew. A later day than that was said by a clock that was wrong.
        if of == day + 1 {
            return Ok(());
        }
        let spent = if of == day { before.saturating_add(bytes) } else { bytes };
        self.write(|t, _, _| {
            t.meta.insert("metered", &to_bytes(&(day, spent))[..])?;
            Ok(())
        })
    }
}
