//! Rows in: from a file to what the store does with each.

use crate::home::now_ms;
use crate::request::{ImportRequest, Reply};
use crate::{Node, NodeError, show};
use cairn_formats::{Cell, FormatError, Part, Position, ReadOptions, Row, RowFault, Rows, number, open_rows};
use cairn_model::{Configuration, Dataset, DocId, DocKey, FieldType, ProjectId, UNCATEGORISED, Value, import_identity};
use cairn_store::{Entropy, ImportMode, ImportPlan, ImportRow, ImportStats, OsEntropy, RowAct, RowRefusal, StoreError};
use serde_json::json;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};

type Wanted = Vec<(String, Option<Value>)>;
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
    node.after_large_unit(stats.created + stats.updated)?;
    if let Some(rejects) = &request.rejects {
        write_rejects(Path::new(rejects), path, &options, &stats)?;
    }
    if request.strict && stats.rejected_count > 0 {
        return Err(strictly_refused(path, &stats));
    }
    let mut reply = reply(&stats, request, &maker);
    reply.warnings.extend(notes);
    Ok(reply)
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

/// How the values of one field are written.
struct FieldPlan {
    key: String,
    kind: Option<FieldType>,
    /// The option and its key, for several-of.
    choices: Vec<(String, String)>,
}

/// Makes of each row what the store is to do.
struct Maker {
    plans: HashMap<Arc<str>, FieldPlan>,
    configuration: Arc<Option<Configuration>>,
    default: Option<String>,
    decimal: Option<char>,
    mode: ImportMode,
    project: ProjectId,
    dataset: Option<Dataset>,
    repeated: HashMap<DocId, u64>,
    repeats: Vec<(u64, String)>,
    /// The latest good row of each identifier that stands again, in case that one is refused.
    held: HashMap<DocId, ImportRow>,
    keys: HashSet<String>,
    /// How often each content came, where rows have no identifier.
    contents: HashMap<DocId, u64>,
    ordinal: u64,
    unknown_fields: std::collections::BTreeSet<String>,
}

impl Maker {
    /// What to do with a row; and with an earlier one of the same identifier, if this last one is refused.
    fn row(&mut self, row: Result<Row, RowFault>) -> (ImportRow, Option<ImportRow>) {
        let line = row.as_ref().map_or_else(|f| f.line, |r| r.line);
        let keys = row.as_ref().map_or_else(|f| f.keys.clone(), |r| r.keys.clone());
        let made = self.one(row);
        if self.repeated.is_empty() {
            return (made, None);
        }
        let keyed = self.dataset.as_ref().filter(|d| !d.key.is_empty());
        let Some((id, last)) = keyed.and_then(|d| identity(&self.project, d, &keys)).and_then(|id| Some((id, *self.repeated.get(&id)?)))
        else {
            return (made, None);
        };
        if self.ordinal == last {
            let earlier = self.held.remove(&id);
            return if made.act.is_err() { (made, earlier) } else { (made, None) };
        }
        if made.act.is_err() {
            return (made, None);
        }
        if self.repeats.len() < LISTED {
            self.repeats.push((line, keys.iter().flatten().cloned().collect::<Vec<_>>().join(", ")));
        }
        self.held.insert(id, made);
        (ImportRow { line, act: Ok(RowAct::Repeated) }, None)
    }

    fn one(&mut self, row: Result<Row, RowFault>) -> ImportRow {
        self.ordinal += 1;
        match row {
            Ok(row) => {
                let line = row.line;
                let act = self.act(row).map_err(|refusal| RowRefusal { line, ..refusal });
                ImportRow { line, act }
            }
            Err(fault) => {
                let id = self.dataset.as_ref().and_then(|d| identity(&self.project, d, &fault.keys)).filter(|_| !fault.keys.is_empty());
                let refusal = RowRefusal { line: fault.line, column: fault.column, reason: fault.reason, id };
                ImportRow { line: fault.line, act: Err(refusal) }
            }
        }
    }

    fn id(&mut self, row: &Row, wanted: &Wanted) -> Result<DocId, RowRefusal> {
        let Some(dataset) = &self.dataset else { return Ok(fresh()) };
        if !dataset.key.is_empty() {
            let blank = dataset.key.iter().zip(&row.keys).find(|(_, text)| text.is_none()).map(|(column, _)| column.clone());
            return identity(&self.project, dataset, &row.keys).ok_or_else(|| RowRefusal {
                column: blank,
                reason: "the row has no identifier".into(),
                ..RowRefusal::default()
            });
        }
        if self.mode != ImportMode::Replace {
            return Ok(fresh());
        }
        // Without an identifier a row is what it holds; of equal rows the first, the second and so on.
        let mut texts: Vec<String> =
            wanted.iter().map(|(k, v)| format!("{k}={}", v.as_ref().map(Value::display).unwrap_or_default())).collect();
        texts.sort_unstable();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let content = import_identity(&self.project, &dataset.name, &texts);
        let count = self.contents.entry(content).or_default();
        *count += 1;
        Ok(import_identity(&self.project, &dataset.name, &[&content.to_string(), &count.to_string()]))
    }

    fn act(&mut self, row: Row) -> Result<RowAct, RowRefusal> {
        let (wanted, if_new) = if self.mode == ImportMode::Delete || row.delete {
            (Vec::new(), Vec::new())
        } else {
            let known = self.dataset.as_ref().filter(|d| !d.key.is_empty()).and_then(|d| identity(&self.project, d, &row.keys));
            self.wanted(&row).map_err(|(column, reason)| RowRefusal { column, reason, id: known, ..RowRefusal::default() })?
        };
        let id = self.id(&row, &wanted)?;
        if self.mode == ImportMode::Delete || row.delete {
            return Ok(RowAct::Delete(id));
        }
        Ok(RowAct::Put(id, wanted, if_new))
    }

    fn wanted(&mut self, row: &Row) -> Result<(Wanted, Wanted), (Option<String>, String)> {
        let mut wanted: Wanted = Vec::with_capacity(row.fields.len() + 4);
        let mut if_new = Vec::new();
        let configuration = self.configuration.clone();
        let shown = configuration.as_ref().as_ref();
        let key = |key: DocKey| key.encode();
        match &row.category {
            Part::Set(word) => {
                let id = category(word, shown).ok_or_else(|| (Some("category".to_owned()), unknown_category(word, shown).to_string()))?;
                wanted.push((key(DocKey::Category), Some(Value::Text(id))));
            }
            _ => {
                let guessed = guess(row, shown).or_else(|| self.default.clone());
                let id = guessed.unwrap_or_else(|| UNCATEGORISED.to_owned());
                if_new.push((key(DocKey::Category), Some(Value::Text(id))));
            }
        }
        match &row.place {
            Part::Absent => {}
            Part::Empty => wanted.push((key(DocKey::Where), None)),
            Part::Set(Position::Place(place)) => wanted.push((key(DocKey::Where), Some(Value::Text(place.to_geo())))),
            Part::Set(Position::Shape(shape)) => wanted.push((key(DocKey::Where), Some(Value::Bytes(shape.to_wkb())))),
        }
        match &row.at {
            Part::Absent => {}
            Part::Empty => wanted.push((key(DocKey::At), None)),
            Part::Set(at) => wanted.push((key(DocKey::At), Some(Value::Text(at.to_rfc3339())))),
        }
        match &row.note {
            Part::Absent => {}
            Part::Empty => wanted.push((key(DocKey::Note), None)),
            Part::Set(note) => wanted.push((key(DocKey::Note), Some(Value::Text(note.clone())))),
        }
        for (name, cell) in &row.fields {
            self.field(name, cell, shown, &mut wanted).map_err(|reason| (Some(name.to_string()), reason))?;
        }
        self.keep_last(&mut wanted);
        Ok((wanted, if_new))
    }

    /// Of two columns for one field the last counts: a change must not contradict itself.
    fn keep_last(&mut self, wanted: &mut Wanted) {
        self.keys.clear();
        let twice = wanted.iter().any(|(key, _)| !self.keys.insert(key.clone()));
        if twice {
            self.keys.clear();
            let mut n = wanted.len();
            while n > 0 {
                n -= 1;
                if !self.keys.insert(wanted[n].0.clone()) {
                    wanted.remove(n);
                }
            }
        }
    }

    fn field(&mut self, name: &Arc<str>, cell: &Cell, shown: Option<&Configuration>, wanted: &mut Wanted) -> Result<(), String> {
        if !self.plans.contains_key(name) {
            let plan = field_plan(name, shown, self.default.as_deref());
            if plan.kind.is_none() {
                self.unknown_fields.insert(name.to_string());
            }
            self.plans.insert(name.clone(), plan);
        }
        let plan = &self.plans[name];
        if *cell == Cell::Empty {
            wanted.push((plan.key.clone(), None));
            wanted.extend(plan.choices.iter().map(|(_, key)| (key.clone(), None)));
            return Ok(());
        }
        match (&plan.kind, cell) {
            (Some(FieldType::SeveralOf(options)), cell) => {
                let picked = FieldType::pick_several(options, &cell.text()).map_err(|e| e.to_string())?;
                for (option, key) in &plan.choices {
                    wanted.push((key.clone(), picked.contains(option).then_some(Value::Bool(true))));
                }
            }
            (Some(kind), cell) => {
                let text = cell.text();
                let numeric = matches!(kind, FieldType::Decimal | FieldType::Integer) && matches!(cell, Cell::Text(_));
                let as_number = || number(&text, self.decimal).and_then(|n| kind.parse(&n.to_string()).ok());
                let value = match (numeric, self.decimal) {
                    // A sign that was told counts before what the text looks like.
                    (true, Some(_)) => as_number().ok_or_else(|| kind.parse(&text)).or_else(|e| e),
                    (true, None) => kind.parse(&text).or_else(|e| as_number().ok_or(e)),
                    (false, _) => kind.parse(&text),
                };
                wanted.push((plan.key.clone(), Some(value.map_err(|e| e.to_string())?)));
            }
            (None, Cell::Text(text)) => wanted.push((plan.key.clone(), Some(Value::Text(text.clone())))),
            (None, Cell::Number(n)) => wanted.push((plan.key.clone(), Some(Value::Decimal(n + 0.0)))),
            (None, Cell::Integer(i)) => wanted.push((plan.key.clone(), Some(Value::Integer(*i)))),
            (None, Cell::Bool(b)) => wanted.push((plan.key.clone(), Some(Value::Bool(*b)))),
            (None, Cell::Empty) => {}
        }
        Ok(())
    }
}

fn fresh() -> DocId {
    DocId((&mut OsEntropy as &mut dyn Entropy).bytes())
}

/// A column is a field by its id; of the category that was asked for also by what people read, its label in any case.
fn field_plan(name: &str, shown: Option<&Configuration>, category: Option<&str>) -> FieldPlan {
    let of_category = |c: &Configuration, id: &str| category.and_then(|k| c.category(k)).is_some_and(|k| k.fields.iter().any(|f| f == id));
    let called =
        |c: &'_ Configuration| c.fields.iter().position(|f| f.label.to_lowercase() == name.to_lowercase() && of_category(c, &f.id));
    let field = shown.and_then(|c| c.field(name).or_else(|| called(c).map(|n| &c.fields[n])));
    let id = field.map_or(name, |f| f.id.as_str());
    let choices = match field.map(|f| &f.kind) {
        Some(FieldType::SeveralOf(options)) => {
            options.iter().map(|o| (o.id.clone(), DocKey::Choice(id.to_owned(), o.id.clone()).encode())).collect()
        }
        _ => Vec::new(),
    };
    FieldPlan { key: DocKey::Field(id.to_owned()).encode(), kind: field.map(|f| f.kind.clone()), choices }
}

/// A category by its id, or by what people read.
fn category(word: &str, shown: Option<&Configuration>) -> Option<String> {
    let Some(known) = shown else { return Some(word.to_owned()) };
    if word == UNCATEGORISED || known.category(word).is_some() {
        return Some(word.to_owned());
    }
    known.categories.iter().find(|c| c.name.to_lowercase() == word.to_lowercase()).map(|c| c.id.clone())
}

fn unknown_category(word: &str, shown: Option<&Configuration>) -> NodeError {
    let known: Vec<&str> = shown.iter().flat_map(|c| &c.categories).map(|c| c.id.as_str()).collect();
    NodeError::input(format!("there is no category `{word}`; the configuration has: {}", known.join(", ")))
}

/// The category of a record of another program: by its id or name there, or by its tags.
fn guess(row: &Row, shown: Option<&Configuration>) -> Option<String> {
    let configuration = shown?;
    let hinted = row.category_hints.iter().find_map(|hint| category(hint, shown));
    if row.category_hints.is_empty() {
        return None;
    }
    hinted.or_else(|| {
        let tag = |name: &str| row.fields.iter().find(|(n, _)| **n == *name).map(|(_, cell)| cell.text());
        configuration.category_by_tags(&tag).map(|c| c.id.clone())
    })
}

fn with_column(r: &RowRefusal) -> String {
    r.column.as_ref().map_or_else(|| r.reason.clone(), |c| format!("column `{c}`: {}", r.reason))
}

fn reply(stats: &ImportStats, request: &ImportRequest, maker: &Maker) -> Reply {
    let bad: Vec<_> =
        stats.rejected.iter().take(LISTED).map(|r| json!({"line": r.line, "column": r.column, "reason": with_column(r)})).collect();
    let repeats: Vec<_> = maker.repeats.iter().map(|(line, key)| json!({"line": line, "key": key})).collect();
    let mut data = json!({
        "import": stats.unit.map(|u| u.to_string()), "mode": if request.mode.is_empty() { "append" } else { request.mode.as_str() },
        "created": stats.created, "updated": stats.updated, "unchanged": stats.unchanged, "deleted": stats.deleted,
        "restored": stats.restored, "unknown": stats.unknown, "repeated": stats.repeated, "rejected": stats.rejected_count,
        "rejects": bad, "repeats": repeats, "dry_run": request.dry_run,
    });
    if let Some(dataset) = &maker.dataset {
        data["dataset"] = json!({"name": dataset.name, "key": dataset.key});
    }
    if request.dry_run {
        data["rows"] = stats.changes.iter().map(change).collect();
        let limit = request.max_delete.filter(|most| stats.deleted > *most);
        if let Some(most) = limit {
            data["would_stop"] = json!(format!("{} would be deleted; --max-delete allows {most}", stats.deleted));
        }
    }
    let mut warnings = Vec::new();
    if stats.withheld > 0 {
        warnings.push(format!(
            "{} observations are not in the file and were kept all the same: rows without an identifier were refused, and could be any of them",
            stats.withheld
        ));
    }
    if (stats.rejected.len() as u64) < stats.rejected_count {
        warnings.push(format!("only the first {} refused rows are told one by one", stats.rejected.len()));
    }
    if stats.repeated > 0 {
        warnings.push(format!("{} rows have an identifier that stands again further down: the last one counts", stats.repeated));
    }
    if request.dry_run && !maker.unknown_fields.is_empty() && maker.configuration.is_some() {
        let names: Vec<String> = maker.unknown_fields.iter().take(20).cloned().collect();
        warnings.push(format!("kept as they are, since the configuration has no such fields: {}", names.join(", ")));
    }
    Reply { data, code: if stats.rejected_count > 0 { 3 } else { 0 }, warnings }
}

fn change(c: &cairn_store::RowChange) -> serde_json::Value {
    let value = |v: &Option<Value>| v.as_ref().map(show::value);
    let keys: Vec<_> = c.keys.iter().map(|(key, from, to)| json!({"key": key, "from": value(from), "to": value(to)})).collect();
    let line = (c.line > 0).then_some(c.line);
    json!({"line": line, "id": c.id.to_string(), "action": c.action, "changes": keys})
}

/// Each refused row as it stands in the file, where the format has such, with line, column and reason. The names of these
/// three begin with a colon: the file can be repaired and imported as it is.
fn write_rejects(to: &Path, from: &Path, options: &ReadOptions, stats: &ImportStats) -> Result<(), NodeError> {
    let fault = |e: &dyn std::fmt::Display| NodeError::file(to, e);
    let mut left: BTreeMap<u64, &RowRefusal> = stats.rejected.iter().map(|r| (r.line, r)).collect();
    let mut out = csv::WriterBuilder::new().flexible(true).from_path(to).map_err(|e| fault(&e))?;
    let own = [":line", ":column", ":reason"].map(str::to_owned);
    let told = |r: &RowRefusal| [r.line.to_string(), r.column.clone().unwrap_or_default(), r.reason.clone()];
    let mut headed = false;
    let mut rows = if left.is_empty() { None } else { Some(open_rows(from, options, &Arc::new(AtomicU64::new(0))).map_err(broken(from))?) };
    while let Some((rows, row)) = rows.as_mut().and_then(|rows| rows.next().map(|row| (rows, row))) {
        let line = row.map_err(broken(from))?.map_or_else(|f| f.line, |r| r.line);
        let Some((refusal, (names, cells))) = left.get(&line).copied().zip(rows.raw()) else { continue };
        if !std::mem::replace(&mut headed, true) {
            out.write_record(own.iter().cloned().chain(names)).map_err(|e| fault(&e))?;
        }
        left.remove(&line);
        out.write_record(told(refusal).into_iter().chain(cells)).map_err(|e| fault(&e))?;
    }
    if !headed {
        out.write_record(&own).map_err(|e| fault(&e))?;
    }
    // Formats without lines tell the number and the reason.
    for refusal in left.values() {
        out.write_record(told(refusal)).map_err(|e| fault(&e))?;
    }
    out.flush().map_err(|e| fault(&e))
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
