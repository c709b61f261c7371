//! Configuration documents: written in changes that fit a batch, and read as they were.

use crate::docs::{ChangeRef, DocRow, read_change, rebuild};
use crate::local::write_change;
use crate::{Store, StoreError};
use cairn_model::{Change, ChangeHash, Configuration, ConfigurationVersion, DeviceId, DocId, DocKind, FieldType, Value};
use std::collections::BTreeSet;

/// Keys and bytes of one change: a configuration with many drawings is written in several.
const KEYS: usize = 2000;
const BYTES: usize = 512 << 10;

/// One change of the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigurationChange {
    /// The version it made.
    pub version: ConfigurationVersion,
    /// Who.
    pub device: DeviceId,
    /// By that device's clock, milliseconds.
    pub time_ms: i64,
    /// The configuration after it, as its author saw it.
    pub configuration: Configuration,
    /// The same before.
    pub before: Configuration,
}

impl Store {
    /// Makes a configuration document show exactly `wanted`. Gives how many keys changed. One durable transaction.
    pub fn write_configuration(&mut self, lineage: DocId, wanted: &Configuration, now_ms: i64) -> Result<usize, StoreError> {
        self.may_write(DocKind::Configuration)?;
        let wanted = wanted.to_keys();
        let row = self.doc_row(DocKind::Configuration, &lineage)?;
        let shown = |key: &str| row.as_ref().and_then(|r| r.state.get(key)).cloned();
        let mut edits: Vec<(String, Option<Value>)> =
            wanted.iter().filter(|(k, v)| shown(k).as_ref() != Some(v)).map(|(k, v)| (k.clone(), Some(v.clone()))).collect();
        // What a newer version of this program wrote is not ours to change: parts it added, and fields of types it added.
        let typed = |key: &str| match key.strip_prefix("v.").and_then(|rest| rest.split_once('.')) {
            Some((id, _)) => shown(&format!("v.{id}.type"))
                .and_then(|word| word.as_text().map(|w| FieldType::from_word(w, Vec::new()).is_some()))
                .unwrap_or(true),
            None => true,
        };
        let ours = |key: &str| Configuration::knows_key(key) && typed(key);
        edits.retain(|(key, _)| typed(key));
        let gone = row.iter().flat_map(|r| r.state.keys()).map(|(k, _)| k).filter(|k| ours(k) && !wanted.contains_key(*k));
        edits.extend(gone.map(|k| (k.to_owned(), None)));
        // Drawings and texts first: a category never comes before its icon.
        edits.sort_by_key(|(k, _)| (!k.starts_with("i."), !k.starts_with("t."), !k.starts_with("v.")));
        let count = edits.len();
        if count == 0 {
            return Ok(0);
        }
        cairn_model::check_sizes(&edits)?;
        self.write(|t, mem, ctx| {
            for part in split(edits) {
                write_change(t, mem, ctx, DocKind::Configuration, lineage, part, now_ms)?;
            }
            Ok(())
        })?;
        self.reload_configuration()?;
        Ok(count)
    }

    /// Every change of the configuration this device works with, newest first.
    pub fn configuration_history(&self, limit: usize) -> Result<Vec<ConfigurationChange>, StoreError> {
        let lineage = self.lineage()?;
        let Some(row) = self.doc_row(DocKind::Configuration, &lineage)? else { return Ok(Vec::new()) };
        let all = self.changes_with_refs(&row)?;
        let mut out = Vec::new();
        for (at, change) in all.iter().rev().take(if limit == 0 { usize::MAX } else { limit }) {
            out.push(ConfigurationChange {
                version: ConfigurationVersion::of(&[change.hash]),
                device: self.mem.feeds[at.feed as usize].device,
                time_ms: change.time_ms,
                configuration: self.of_heads(&row, &all, &[change.hash]),
                before: self.of_heads(&row, &all, &change.deps),
            });
        }
        Ok(out)
    }

    /// A version of a configuration by the beginning (hex) of what [`ConfigurationVersion`] prints; of any lineage held here.
    pub fn configuration_at(&self, version: &str) -> Result<Option<Configuration>, StoreError> {
        for (_, lineage) in &self.mem.membership.lineages {
            let Some(row) = self.doc_row(DocKind::Configuration, lineage)? else { continue };
            let all = self.changes_with_refs(&row)?;
            let heads: Vec<&str> = (0..version.len().div_ceil(16)).map(|n| &version[n * 16..version.len().min(n * 16 + 16)]).collect();
            let named = |hash: &ChangeHash| heads.iter().any(|h| !h.is_empty() && cairn_model::hex(&hash.0).starts_with(h));
            let found: Vec<ChangeHash> = all.iter().map(|(_, c)| c.hash).filter(named).collect();
            if !found.is_empty() && found.len() == heads.len() {
                return Ok(Some(self.of_heads(&row, &all, &found)));
            }
        }
        Ok(None)
    }

    fn changes_with_refs(&self, row: &DocRow) -> Result<Vec<(ChangeRef, Change)>, StoreError> {
        let v = self.view()?;
        row.applied.iter().map(|at| Ok((*at, read_change(&v, &self.mem, at)?))).collect()
    }

    /// The configuration that these changes and all before them make.
    fn of_heads(&self, row: &DocRow, all: &[(ChangeRef, Change)], heads: &[ChangeHash]) -> Configuration {
        let mut wanted: BTreeSet<ChangeHash> = heads.iter().copied().collect();
        // Changes are applied parents first, so one pass backwards finds every ancestor.
        for (_, change) in all.iter().rev() {
            if wanted.contains(&change.hash) {
                wanted.extend(change.deps.iter().copied());
            }
        }
        let kept = all.iter().filter(|(_, c)| wanted.contains(&c.hash)).cloned().collect();
        let mut past = DocRow::new(row.kind, row.id);
        rebuild(&mut past, kept, &BTreeSet::new());
        Configuration::read(&past.state)
    }
}

fn split(edits: Vec<(String, Option<Value>)>) -> Vec<Vec<(String, Option<Value>)>> {
    let mut out: Vec<Vec<(String, Option<Value>)>> = vec![Vec::new()];
    let mut bytes = 0;
    for (key, value) in edits {
        let size = key.len() + value.as_ref().and_then(Value::as_text).map_or(8, str::len);
        let last = out.len() - 1;
        if out[last].len() >= KEYS || (bytes + size > BYTES && !out[last].is_empty()) {
            out.push(Vec::new());
            bytes = 0;
        }
        bytes += size;
        if let Some(part) = out.last_mut() {
            part.push((key, value));
        }
    }
    out
}
