//! Rows in: from a file to what the store does with each.

mod outcome;
mod rows;

use self::outcome::{reply, with_column, write_rejects};
use self::rows::{Maker, category, unknown_category};
use crate::home::now_ms;
use crate::request::{ImportRequest, Reply};
use crate::{Node, NodeError};
use cairn_formats::{FormatError, ReadOptions, Rows, open_rows};
use cairn_model::{Dataset, DocId, ProjectId, import_identity};
use cairn_store::{ImportMode, ImportPlan, ImportRow, ImportStats, StoreError};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};

/// (done, planned, rows), in bytes of the file.
pub(crate) type Told<'a> = &'a dyn Fn(u64, u64, u64);

/// Rows that go to the store together, and batches of them on their way.
const TOGETHER: usize = 512;
const AHEAD: usize = 4;
/// Refusals, repeated identifiers and changes told in a reply.
const LISTED: usize = 100;

/// The mode's word.
pub(crate) fn mode(word: &str) -> Result<ImportMode, NodeError> {
    Ok(match word {
        "" | "append" => ImportMode::Append,
        "upsert" => ImportMode::Upsert,
        "replace" => ImportMode::Replace,
        "delete" => ImportMode::Delete,
        other => return Err(NodeError::input(format!("`{other}` is no mode: append, upsert, replace or delete"))),
    })
}

fn broken(path: &Path) -> impl Fn(FormatError) -> NodeError + '_ {
    move |e| NodeError::file(path, e)
}

/// What belongs together is asked for together, before a file is opened.
fn dataset(request: &ImportRequest, mode: ImportMode) -> Result<Option<Dataset>, NodeError> {
    let refused = |message: &str, remedy: &str| Err(NodeError::refused(message, remedy));
    let keyed = !request.read.key.is_empty();
    match (&request.dataset, mode) {
        (None, ImportMode::Append) if keyed => {
            refused("a key without a data set: an identifier is one only among the rows of one table", "name the table: `--dataset NAME`")
        }
        (None, ImportMode::Append) => Ok(None),
        (_, ImportMode::Upsert | ImportMode::Delete) if !keyed => refused(
            "without a key nobody can tell which row is which observation",
            "name the columns that identify a row: `--key COLUMN` (several: `--key A --key B`)",
        ),
        (None, _) => {
            refused("without a data set everything would be meant, also what people recorded by hand", "name the table: `--dataset NAME`")
        }
        (Some(name), _) if name.trim().is_empty() => refused("the data set has no name", "name the table: `--dataset NAME`"),
        (Some(_), _) if request.change_key && mode != ImportMode::Replace => {
            refused("another key can only come with all rows", "`--mode replace --change-key`")
        }
        (Some(name), _) => Ok(Some(Dataset::new(name, &request.read.key))),
    }
}

/// `import`, after a copy of the store if one is due.
pub(crate) fn import_safely(node: &Node, request: &ImportRequest, told: Told<'_>) -> Result<Reply, NodeError> {
    let copy_fault = if request.dry_run { None } else { crate::backup::before_changes(node) };
    let mut reply = import(node, request, told)?;
    reply.warnings.extend(copy_fault);
    Ok(reply)
}

fn import(node: &Node, request: &ImportRequest, told: Told<'_>) -> Result<Reply, NodeError> {
    let path = Path::new(&request.file);
    let mode = mode(&request.mode)?;
    let dataset = dataset(request, mode)?;
    let mut options = request.read.clone();
    // Of a row to delete nothing but its identifier matters.
    options.keys_only = mode == ImportMode::Delete;
    options.single_column = mode == ImportMode::Delete && options.key.len() == 1 && !options.no_header;
    let store = node.store();
    let configuration = store.configuration();
    let project = store.project();
    drop(store);
    let shown = configuration.as_ref().as_ref();
    let default = match &request.category {
        Some(word) => Some(category(word, shown).ok_or_else(|| unknown_category(word, shown))?),
        None => None,
    };
    if let Some(rejects) = request.rejects.as_deref().map(Path::new) {
        let same = std::fs::canonicalize(rejects).is_ok_and(|r| std::fs::canonicalize(path).is_ok_and(|p| p == r));
        if same {
            return Err(NodeError::refused(
                format!("{}: refused rows would be written over the table itself", path.display()),
                "name another file",
            ));
        }
        // A file that cannot be written is told before anything is taken.
        std::fs::File::create(rejects).map_err(|e| NodeError::file(rejects, e))?;
    }
    let before = stamp(path);
    let repeated = if options.key.is_empty() || dataset.is_none() { HashMap::new() } else { repeated(path, &options, &project, &dataset)? };
    let bytes = Arc::new(AtomicU64::new(0));
    let rows = open_rows(path, &options, &bytes).map_err(broken(path))?;
    let notes = rows.notes();
    let maker = Maker {
        plans: HashMap::new(),
        configuration: configuration.clone(),
        default,
        decimal: options.decimal,
        mode,
        project,
        dataset: dataset.clone(),
        repeated,
        repeats: Vec::new(),
        held: HashMap::new(),
        keys: HashSet::new(),
        contents: HashMap::new(),
        ordinal: 0,
        unknown_fields: Default::default(),
    };
    let plan = ImportPlan {
        dataset,
        mode,
        max_delete: request.max_delete,
        strict: request.strict,
        dry_run: request.dry_run,
        allow_empty: request.allow_empty,
        change_key: request.change_key,
        shown: if request.dry_run { LISTED } else { 0 },
    };
    let size = std::fs::metadata(path).map_or(0, |m| m.len());
    let (stats, maker) =
        stream(node, &plan, rows, maker, (path, before), &|rows| told(bytes.load(Ordering::Relaxed).min(size), size, rows))?;
    let failed = finish(node, request, (path, &options), &stats);
    if request.strict && stats.rejected_count > 0 {
        return Err(strictly_refused(path, &stats));
    }
    let mut reply = reply(&stats, request, &maker);
    reply.warnings.extend(notes.into_iter().chain(failed));
    Ok(reply)
}

/// What follows once the rows are in. Who is told that an import failed would bring them again: what goes wrong here is a warning.
fn finish(node: &Node, request: &ImportRequest, (path, options): (&Path, &ReadOptions), stats: &ImportStats) -> Vec<String> {
    let mut failed: Vec<String> = node.after_large_unit(stats.created + stats.updated).into_iter().collect();
    if let Some(Err(e)) = request.rejects.as_ref().map(|rejects| write_rejects(Path::new(rejects), path, options, stats)) {
        failed.push(format!("the refused rows could not be written: {e}"));
    }
    failed
}

fn strictly_refused(path: &Path, stats: &ImportStats) -> NodeError {
    let told: Vec<String> = stats.rejected.iter().take(5).map(|r| format!("line {}: {}", r.line, with_column(r))).collect();
    let message = format!("{}: {} rows cannot be taken, so nothing was: {}", path.display(), stats.rejected_count, told.join("; "));
    NodeError::refused(message, "repair them, or take the others without `--strict`")
}

/// Reads and types on one thread while the store writes on this one.
fn stream(
    node: &Node,
    plan: &ImportPlan,
    rows: Box<dyn Rows>,
    maker: Maker,
    (path, before): (&Path, Option<Stamp>),
    told: &dyn Fn(u64),
) -> Result<(ImportStats, Maker), NodeError> {
    let (sender, receiver) = sync_channel::<Vec<Result<ImportRow, String>>>(AHEAD);
    let name = path.display().to_string();
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let (mut rows, mut maker) = (rows, maker);
            loop {
                let mut batch: Vec<Result<(ImportRow, Option<ImportRow>), String>> = Vec::with_capacity(TOGETHER);
                for row in rows.by_ref().take(TOGETHER) {
                    batch.push(row.map(|row| maker.row(row)).map_err(|e| format!("{name}: {e}")));
                }
                if batch.is_empty() {
                    if stamp(path) != before {
                        let changed = Err(format!("{name}: it changed while it was read"));
                        // Whoever stopped reading has a reason of its own to tell.
                        sender.send(vec![changed]).ok();
                    }
                    return maker;
                }
                let batch = batch.into_iter().flat_map(both).collect();
                if sender.send(batch).is_err() {
                    return maker;
                }
            }
        });
        let mut given = 0;
        let mut source = Source { receiver, batch: Vec::new().into_iter() };
        let mut counted = std::iter::from_fn(|| {
            if given % TOGETHER as u64 == 0 {
                told(given);
            }
            given += 1;
            source.next()
        });
        let done = node.store().import(plan, &mut counted, now_ms());
        drop(source);
        let maker = reader.join().map_err(|_| NodeError::Store { message: "the reader of the file ended".into() })?;
        Ok((done.map_err(NodeError::from)?, maker))
    })
}

type Stamp = (u64, std::time::SystemTime);

/// Size and time of a file: a table that is written while it is read is neither the old nor the new one.
fn stamp(path: &Path) -> Option<Stamp> {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.len(), meta.modified().ok()?))
}

fn both(row: Result<(ImportRow, Option<ImportRow>), String>) -> Vec<Result<ImportRow, String>> {
    match row {
        Ok((row, None)) => vec![Ok(row)],
        Ok((row, Some(held))) => vec![Ok(row), Ok(held)],
        Err(e) => vec![Err(e)],
    }
}

struct Source {
    receiver: Receiver<Vec<Result<ImportRow, String>>>,
    batch: std::vec::IntoIter<Result<ImportRow, String>>,
}

impl Iterator for Source {
    type Item = Result<ImportRow, String>;
    fn next(&mut self) -> Option<Self::Item> {
        if let Some(row) = self.batch.next() {
            return Some(row);
        }
        self.batch = self.receiver.recv().ok()?.into_iter();
        self.batch.next()
    }
}

fn identity(project: &ProjectId, dataset: &Dataset, keys: &[Option<String>]) -> Option<DocId> {
    let texts: Option<Vec<&str>> = keys.iter().map(|k| k.as_deref()).collect();
    Some(import_identity(project, &dataset.name, &texts?))
}

/// Identifiers that stand more than once, with the number of the last row that has each: that one counts.
fn repeated(path: &Path, options: &ReadOptions, project: &ProjectId, dataset: &Option<Dataset>) -> Result<HashMap<DocId, u64>, NodeError> {
    let options = ReadOptions { keys_only: true, ..options.clone() };
    let mut seen: HashSet<u64> = HashSet::new();
    let mut last = HashMap::new();
    let Some(dataset) = dataset else { return Ok(last) };
    let rows = open_rows(path, &options, &Arc::new(AtomicU64::new(0))).map_err(broken(path))?;
    for (ordinal, row) in rows.enumerate() {
        let row = row.map_err(broken(path))?;
        let keys = row.as_ref().map_or_else(|fault| &fault.keys, |row| &row.keys);
        let Some(id) = identity(project, dataset, keys) else { continue };
        let (short, _) = id.0.split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
        if !seen.insert(u64::from_le_bytes(*short)) {
            last.insert(id, ordinal as u64 + 1);
        }
    }
    Ok(last)
}

/// What an import can be stopped by, with what to do.
pub(crate) fn refusal(e: &StoreError) -> Option<NodeError> {
    let message = e.to_string();
    Some(match e {
        StoreError::DatasetKey { .. } => {
            NodeError::refused(message, "use these columns, or bring all rows under the other: `--mode replace --change-key --key ...`")
        }
        StoreError::EmptyReplace { .. } => NodeError::refused(message, "if the table is meant to be empty: `--allow-empty`"),
        StoreError::TooManyDeletions { would, most } => NodeError::TooManyDeletions { would: *would, most: *most },
        _ => return None,
    })
}
