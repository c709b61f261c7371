//! From a row of a table to what the store is to do.

use super::{LISTED, identity};
use crate::NodeError;
use cairn_formats::{Cell, Part, Position, Row, RowFault, number};
use cairn_model::{Configuration, Dataset, DocId, DocKey, FieldType, ProjectId, UNCATEGORISED, Value, import_identity};
use cairn_store::{Entropy, ImportMode, ImportRow, OsEntropy, RowAct, RowRefusal};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

type Wanted = Vec<(String, Option<Value>)>;

/// How the values of one field are written.
pub(super) struct FieldPlan {
    key: String,
    kind: Option<FieldType>,
    /// The option and its key, for several-of.
    choices: Vec<(String, String)>,
}

/// Makes of each row what the store is to do.
pub(super) struct Maker {
    pub(super) plans: HashMap<Arc<str>, FieldPlan>,
    pub(super) configuration: Arc<Option<Configuration>>,
    pub(super) default: Option<String>,
    pub(super) decimal: Option<char>,
    pub(super) mode: ImportMode,
    pub(super) project: ProjectId,
    pub(super) dataset: Option<Dataset>,
    pub(super) repeated: HashMap<DocId, u64>,
    pub(super) repeats: Vec<(u64, String)>,
    /// The latest good row of each identifier that stands again, in case that one is refused.
    pub(super) held: HashMap<DocId, ImportRow>,
    pub(super) keys: HashSet<String>,
    /// How often each content came, where rows have no identifier.
    pub(super) contents: HashMap<DocId, u64>,
    pub(super) ordinal: u64,
    pub(super) unknown_fields: std::collections::BTreeSet<String>,
}

impl Maker {
    /// What to do with a row; and with an earlier one of the same identifier, if this last one is refused.
    pub(super) fn row(&mut self, row: Result<Row, RowFault>) -> (ImportRow, Option<ImportRow>) {
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
pub(super) fn category(word: &str, shown: Option<&Configuration>) -> Option<String> {
    let Some(known) = shown else { return Some(word.to_owned()) };
    if word == UNCATEGORISED || known.category(word).is_some() {
        return Some(word.to_owned());
    }
    known.categories.iter().find(|c| c.name.to_lowercase() == word.to_lowercase()).map(|c| c.id.clone())
}

pub(super) fn unknown_category(word: &str, shown: Option<&Configuration>) -> NodeError {
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
