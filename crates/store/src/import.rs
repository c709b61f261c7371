//! Rows of a table as one unit: what each mode does with a row, and what it does with observations that have none.

use crate::docs::{DocRow, doc_key, take};
use crate::glimpse::Glimpse;
use crate::local::{cut, cut_unit, may_edit, write_taken};
use crate::mem::{Ctx, Mem};
use crate::tables::{Tables, from_bytes};
use crate::{Store, StoreError};
use cairn_model::{Dataset, DocId, DocKey, DocKind, DocState, UnitId, Value, check_sizes, limits};
use redb::ReadableTable;
use std::collections::HashSet;

/// Keys with the values to set, or to remove for `None`.
type Wanted = Vec<(String, Option<Value>)>;

/// What is done with rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImportMode {
    /// Rows that are not there yet are added; one that is there with other values is refused.
    #[default]
    Append,
    /// Rows are added or changed.
    Upsert,
    /// As upsert, and rows of the data set that the file does not have are deleted.
    Replace,
    /// Rows named are deleted.
    Delete,
}

/// How an import goes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImportPlan {
    /// What the rows belong to; without one every row is new.
    pub dataset: Option<Dataset>,
    /// What is done with them.
    pub mode: ImportMode,
    /// More deletions than this stop it.
    pub max_delete: Option<u64>,
    /// One refused row stops it.
    pub strict: bool,
    /// Count and show only.
    pub dry_run: bool,
    /// Replacing by nothing is meant.
    pub allow_empty: bool,
    /// The data set gets another identifier: rows under the one before are deleted (replace only).
    pub change_key: bool,
    /// So many changes are told row by row.
    pub shown: usize,
}

/// One row to import, or why it was refused.
pub struct ImportRow {
    /// Line in the file, from 1.
    pub line: u64,
    /// What to do.
    pub act: Result<RowAct, RowRefusal>,
}

/// What to do with one row.
pub enum RowAct {
    /// Set these keys of an observation, and the others only if it is new.
    Put(DocId, Wanted, Wanted),
    /// Delete it.
    Delete(DocId),
    /// Nothing: a later row of the file has the same identifier.
    Repeated,
}

/// A row that was left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RowRefusal {
    /// Line in the file, from 1.
    pub line: u64,
    /// The column at fault, where it is one.
    pub column: Option<String>,
    /// Why.
    pub reason: String,
    /// The observation it would have been, where that is known: it is not deleted as missing.
    pub id: Option<DocId>,
}

/// What happens to one observation, told row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct RowChange {
    /// Line in the file; 0 for an observation that the file does not have.
    pub line: u64,
    /// The observation.
    pub id: DocId,
    /// `created`, `updated`, `deleted`.
    pub action: &'static str,
    /// Key, before, after.
    pub keys: Vec<(String, Option<Value>, Option<Value>)>,
}

/// What an import did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImportStats {
    /// The unit; `None` if nothing was written.
    pub unit: Option<UnitId>,
    /// Observations made, or brought back.
    pub created: u64,
    /// Of these, how many had been deleted before.
    pub restored: u64,
    /// Existing ones that changed.
    pub updated: u64,
    /// Existing ones that stayed as they were.
    pub unchanged: u64,
    /// Deleted.
    pub deleted: u64,
    /// Rows to delete that are not there.
    pub unknown: u64,
    /// Rows whose identifier a later row has too: the last one counts.
    pub repeated: u64,
    /// Observations that the file does not have and that were kept, because refused rows could not be told apart.
    pub withheld: u64,
    /// Rows left out.
    pub rejected: Vec<RowRefusal>,
    /// All rows left out, also past what `rejected` lists.
    pub rejected_count: u64,
    /// Single changes, as many as were asked for.
    pub changes: Vec<RowChange>,
}

/// Refusals listed in full; the rest are counted.
const REJECTS_KEPT: usize = 100_000;

impl Store {
    /// All good rows as one unit, in one transaction: after a crash all of them or none. `rows` giving an error stops
    /// the import and leaves nothing. Rows that change nothing write nothing.
    ///
    /// # Errors
    /// The role, another identifier of the data set, more deletions than allowed, an empty file that would replace.
    pub fn import(
        &mut self,
        plan: &ImportPlan,
        rows: &mut dyn Iterator<Item = Result<ImportRow, String>>,
        now_ms: i64,
    ) -> Result<ImportStats, StoreError> {
        self.may_write(DocKind::Observation)?;
        // Set by a walk through all rows whose outcome is not to be kept.
        let mut only_counted = None;
        let done = self.write(|t, mem, ctx| {
            let mut run = Run::begin(t, mem, ctx, plan, now_ms)?;
            for row in rows {
                run.row(t, mem, ctx, row.map_err(StoreError::Source)?)?;
            }
            run.missing(t, mem, ctx)?;
            cut_unit(t, mem, ctx, now_ms, true)?;
            mem.open.act = None;
            let mut stats = run.stats;
            let nothing = stats.created + stats.updated + stats.deleted == 0;
            if plan.dry_run || nothing || (plan.strict && stats.rejected_count > 0) {
                stats.unit = None;
                only_counted = Some(stats);
                return Err(StoreError::Source("counted only".into()));
            }
            Ok(stats)
        });
        only_counted.map_or(done, Ok)
    }

    /// Data sets with the number of observations shown of each.
    pub fn datasets(&self) -> Result<Vec<(Dataset, u64)>, StoreError> {
        let v = self.view()?;
        let mut out = Vec::new();
        for (raw, number) in self.mem.datasets.iter() {
            let Some(dataset) = Dataset::parse(raw) else { continue };
            let mut rows = 0;
            for entry in v.by_dataset.range(set_range(*number))? {
                let doc = v.docs.get(entry?.0.value() as u32)?.ok_or(StoreError::Damaged("document"))?;
                rows += u64::from(!is_deleted(&from_bytes::<DocRow>(doc.value(), "document")?.state));
            }
            out.push((dataset, rows));
        }
        Ok(out)
    }
}

pub(crate) fn set_range(set: u32) -> std::ops::RangeInclusive<u64> {
    u64::from(set) << 32..=(u64::from(set) << 32 | u64::from(u32::MAX))
}

fn is_deleted(state: &DocState) -> bool {
    state.get("deleted") == Some(&Value::Bool(true))
}

/// Why a row is more than one change holds.
fn too_large(cells: usize, bytes: usize) -> Option<String> {
    let (most, most_bytes) = (limits::OPS_PER_CHANGE - 8, limits::CHANGE_BYTES - (64 << 10));
    (cells > most || bytes > most_bytes)
        .then(|| format!("the row has {cells} cells and {bytes} bytes; at most {most} and {most_bytes} are taken"))
}

fn value_size(value: Option<&Value>) -> usize {
    match value {
        Some(Value::Text(t)) => t.len() + 8,
        Some(Value::Bytes(b)) => b.len() + 8,
        _ => 16,
    }
}

/// One import on its way.
struct Run<'a> {
    plan: &'a ImportPlan,
    now_ms: i64,
    stats: ImportStats,
    /// The data set as documents write it.
    raw: Option<String>,
    /// Rows of the data set that the file has, for `replace`.
    seen: HashSet<u32>,
    /// Rows taken, unchanged ones too.
    taken: u64,
    /// Refused rows that could be any observation.
    unnamed: u64,
    deleted_key: String,
    dataset_key: String,
}

impl<'a> Run<'a> {
    fn begin(t: &mut Tables<'_>, mem: &mut Mem, ctx: &mut Ctx<'_>, plan: &'a ImportPlan, now_ms: i64) -> Result<Self, StoreError> {
        if let Some(dataset) = &plan.dataset
            && !plan.change_key
            && let Some(other) = other_key(t, mem, dataset)?
        {
            return Err(StoreError::DatasetKey {
                dataset: dataset.name.clone(),
                known: other.key.join(", "),
                asked: dataset.key.join(", "),
            });
        }
        cut(t, mem, ctx, now_ms)?;
        let unit = UnitId(ctx.entropy.bytes());
        mem.open.act = Some((cairn_trust::UnitKind::Import, unit, 0));
        Ok(Self {
            plan,
            now_ms,
            stats: ImportStats { unit: Some(unit), ..ImportStats::default() },
            raw: plan.dataset.as_ref().map(Dataset::encode),
            seen: HashSet::new(),
            taken: 0,
            unnamed: 0,
            deleted_key: DocKey::Deleted.encode(),
            dataset_key: DocKey::Dataset.encode(),
        })
    }

    fn row(&mut self, t: &mut Tables<'_>, mem: &mut Mem, ctx: &mut Ctx<'_>, row: ImportRow) -> Result<(), StoreError> {
        let outcome = match row.act {
            Ok(RowAct::Put(id, wanted, if_new)) => self.put(t, mem, ctx, row.line, id, (wanted, if_new))?,
            Ok(RowAct::Delete(id)) => self.delete(t, mem, ctx, row.line, id)?,
            Ok(RowAct::Repeated) => {
                self.stats.repeated += 1;
                None
            }
            Err(refusal) => Some(refusal),
        };
        match outcome {
            None => self.taken += 1,
            Some(refusal) => self.refused(t, refusal)?,
        }
        Ok(())
    }

    fn refused(&mut self, t: &Tables<'_>, refusal: RowRefusal) -> Result<(), StoreError> {
        self.stats.rejected_count += 1;
        match &refusal.id {
            Some(id) => self.seen.extend(t.doc_ids.get(&doc_key(DocKind::Observation, id))?.map(|n| n.value())),
            None => self.unnamed += 1,
        }
        if self.stats.rejected.len() < REJECTS_KEPT {
            self.stats.rejected.push(refusal);
        }
        Ok(())
    }

    fn put(
        &mut self,
        t: &mut Tables<'_>,
        mem: &mut Mem,
        ctx: &mut Ctx<'_>,
        line: u64,
        id: DocId,
        (mut wanted, if_new): (Wanted, Wanted),
    ) -> Result<Option<RowRefusal>, StoreError> {
        let refused = |reason: String| Ok(Some(RowRefusal { line, column: None, reason, id: Some(id) }));
        if let Err(e) = check_sizes(&wanted) {
            return refused(e.to_string());
        }
        let size: usize = wanted.iter().map(|(k, v)| k.len() + value_size(v.as_ref())).sum();
        if let Some(raw) = &self.raw {
            wanted.push((self.dataset_key.clone(), Some(Value::from(raw.as_str()))));
            wanted.push((self.deleted_key.clone(), None));
        }
        let number = t.doc_ids.get(&doc_key(DocKind::Observation, &id))?.map(|n| n.value());
        let mut was_deleted = false;
        if let Some(number) = number {
            let bytes = t.docs.get(number)?.ok_or(StoreError::Damaged("document"))?;
            let there = bytes.value().len();
            let shown = Glimpse::of(bytes.value())?;
            if shown.get("purged") == Some(cairn_model::ValueRef::Bool(true)) {
                return refused("its content was purged in this project: it is not taken in again".into());
            }
            if there + size > limits::DOCUMENT_BYTES {
                return refused(format!(
                    "the observation would have {} bytes; at most {} are allowed",
                    there + size,
                    limits::DOCUMENT_BYTES
                ));
            }
            if self.plan.mode == ImportMode::Replace {
                self.seen.insert(number);
            }
            was_deleted = shown.is_deleted();
            // A cell that says what is shown changes nothing, also where others wrote something else beside it.
            wanted.retain(|(key, value)| shown.get(key) != value.as_ref().map(Value::borrowed));
            if wanted.is_empty() && !shown.is_empty() {
                self.stats.unchanged += 1;
                return Ok(None);
            }
            if self.plan.mode == ImportMode::Append && self.raw.is_some() && !was_deleted {
                return refused("is in the data set already with other values; `--mode upsert` changes it".into());
            }
        }
        // What is not there needs no removal.
        let cells = wanted.iter().filter(|(_, value)| value.is_some() || number.is_some()).count();
        if let Some(reason) = too_large(cells, size) {
            return refused(reason);
        }
        if let Err(e) = may_edit(t, mem, &id) {
            return refused(e.to_string());
        }
        let taken = take(t, mem, DocKind::Observation, &id)?;
        if taken.row.state.is_empty() {
            wanted.extend(if_new);
        }
        let shown = self.shown(&taken.row.state, &wanted);
        let Some(is_new) = write_taken(t, mem, ctx, taken, wanted, self.now_ms)? else {
            self.stats.unchanged += 1;
            return Ok(None);
        };
        if is_new && self.plan.mode == ImportMode::Replace {
            self.seen.extend(t.doc_ids.get(&doc_key(DocKind::Observation, &id))?.map(|n| n.value()));
        }
        let action = self.count_written(is_new, was_deleted);
        self.tell(line, id, action, shown);
        Ok(None)
    }

    fn count_written(&mut self, is_new: bool, was_deleted: bool) -> &'static str {
        if is_new || was_deleted {
            self.stats.created += 1;
            self.stats.restored += u64::from(!is_new);
            return "created";
        }
        self.stats.updated += 1;
        "updated"
    }

    fn shown(&self, state: &DocState, wanted: &Wanted) -> Vec<(String, Option<Value>, Option<Value>)> {
        if self.stats.changes.len() >= self.plan.shown {
            return Vec::new();
        }
        let told = wanted.iter().filter(|(key, value)| !DocKey::is_provenance(key) && (value.is_some() || state.get(key).is_some()));
        told.map(|(key, value)| (DocKey::decode(key).label(), state.get(key).cloned(), value.clone())).collect()
    }

    fn tell(&mut self, line: u64, id: DocId, action: &'static str, keys: Vec<(String, Option<Value>, Option<Value>)>) {
        if self.stats.changes.len() < self.plan.shown {
            self.stats.changes.push(RowChange { line, id, action, keys });
        }
    }

    fn delete(
        &mut self,
        t: &mut Tables<'_>,
        mem: &mut Mem,
        ctx: &mut Ctx<'_>,
        line: u64,
        id: DocId,
    ) -> Result<Option<RowRefusal>, StoreError> {
        if t.doc_ids.get(&doc_key(DocKind::Observation, &id))?.is_none() {
            self.stats.unknown += 1;
            return Ok(None);
        }
        let taken = take(t, mem, DocKind::Observation, &id)?;
        if taken.row.state.is_empty() || is_deleted(&taken.row.state) {
            self.stats.unknown += 1;
            return Ok(None);
        }
        if let Err(e) = may_edit(t, mem, &id) {
            return Ok(Some(RowRefusal { line, column: None, reason: e.to_string(), id: Some(id) }));
        }
        self.stats.deleted += 1;
        self.within_limit()?;
        write_taken(t, mem, ctx, taken, vec![(self.deleted_key.clone(), Some(Value::Bool(true)))], self.now_ms)?;
        self.tell(line, id, "deleted", Vec::new());
        Ok(None)
    }

    fn within_limit(&self) -> Result<(), StoreError> {
        match self.plan.max_delete {
            // A dry run counts on, so that people see how many there would be.
            Some(most) if self.stats.deleted > most && !self.plan.dry_run => {
                Err(StoreError::TooManyDeletions { would: self.stats.deleted, most })
            }
            _ => Ok(()),
        }
    }

    /// After the last row of a replacing file: what the data set has and the file has not.
    fn missing(&mut self, t: &mut Tables<'_>, mem: &mut Mem, ctx: &mut Ctx<'_>) -> Result<(), StoreError> {
        let (ImportMode::Replace, Some(dataset)) = (self.plan.mode, &self.plan.dataset) else { return Ok(()) };
        let mut gone = Vec::new();
        for (raw, set) in mem.datasets.iter() {
            if Dataset::parse(raw).is_some_and(|d| d.name == dataset.name) {
                for entry in t.by_dataset.range(set_range(*set))? {
                    let number = entry?.0.value() as u32;
                    if !self.seen.contains(&number) {
                        gone.extend(live_id(t, number)?);
                    }
                }
            }
        }
        let none_good = self.taken == 0 && self.stats.rejected_count > 0;
        if self.taken == 0 && !none_good && !gone.is_empty() && !self.plan.allow_empty {
            return Err(StoreError::EmptyReplace { dataset: dataset.name.clone(), rows: gone.len() as u64 });
        }
        if self.unnamed > 0 || none_good {
            self.stats.withheld = gone.len() as u64;
            return Ok(());
        }
        // Counted before the first is written: a file that was cut short is told quickly and whole.
        if let Some(most) = self.plan.max_delete
            && self.stats.deleted + gone.len() as u64 > most
            && !self.plan.dry_run
        {
            return Err(StoreError::TooManyDeletions { would: self.stats.deleted + gone.len() as u64, most });
        }
        for id in gone {
            if let Some(refusal) = self.delete(t, mem, ctx, 0, id)? {
                self.refused(t, refusal)?;
            }
        }
        Ok(())
    }
}

fn live_id(t: &Tables<'_>, number: u32) -> Result<Option<DocId>, StoreError> {
    let bytes = t.docs.get(number)?.ok_or(StoreError::Damaged("document"))?;
    let row: DocRow = from_bytes(bytes.value(), "document")?;
    Ok((!row.state.is_empty() && !is_deleted(&row.state)).then_some(row.id))
}

/// A data set of the same name whose rows other columns identify, if any of them is shown.
fn other_key(t: &Tables<'_>, mem: &Mem, wanted: &Dataset) -> Result<Option<Dataset>, StoreError> {
    for (raw, set) in mem.datasets.iter() {
        let Some(known) = Dataset::parse(raw).filter(|d| d.name == wanted.name && d.key != wanted.key) else { continue };
        for entry in t.by_dataset.range(set_range(*set))? {
            if live_id(t, entry?.0.value() as u32)?.is_some() {
                return Ok(Some(known));
            }
        }
    }
    Ok(None)
}
