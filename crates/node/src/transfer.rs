//! Rows and configurations in and out of files.

use crate::home::now_ms;
use crate::reading::filter;
use crate::request::{ConfigRequest, ExportRequest, ImportRequest, Reply};
use crate::{Node, NodeError, show};
use cairn_formats::{Cell, CsvExport, CsvRows, ExportField, ExportRow, FormatError, GeoJsonExport, Mapping, Row, RowFault, read_geojson};
use cairn_model::{Configuration, DocId, DocKey, Edit, FieldValue, UNCATEGORISED, Value};
use cairn_store::{DocView, ImportRow, ImportStats, Store, StoreError};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::Path;

type Answered = Result<Reply, NodeError>;
type Rows = Box<dyn Iterator<Item = Result<Result<Row, RowFault>, FormatError>>>;

fn ending(path: &Path) -> String {
    path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default()
}

fn rows(path: &Path, mapping: &Mapping) -> Result<Rows, NodeError> {
    let file = BufReader::new(File::open(path).map_err(|e| NodeError::file(path, e))?);
    let broken = |e: FormatError| NodeError::file(path, e);
    match ending(path).as_str() {
        "csv" | "tsv" | "txt" => Ok(Box::new(CsvRows::new(file, mapping).map_err(broken)?)),
        "geojson" | "json" => Ok(Box::new(read_geojson(file, mapping).map_err(broken)?.into_iter().map(Ok))),
        other => Err(NodeError::file(path, format!("`.{other}` is not a known kind of file: .csv, .tsv, .geojson or .json"))),
    }
}

fn edit_of(row: &Row, default: Option<&str>, configuration: Option<&Configuration>) -> Result<Edit, String> {
    let mut edit = Edit::new();
    let category = row.category.as_deref().or(default).unwrap_or(UNCATEGORISED);
    edit.category(category, configuration).map_err(|e| e.to_string())?;
    if let Some(place) = row.place {
        edit.place(place);
    }
    if let Some(at) = row.at {
        edit.at(at);
    }
    if let Some(note) = &row.note {
        edit.note(note);
    }
    for (name, cell) in &row.fields {
        let known = configuration.is_some_and(|c| c.field(name).is_some());
        let typed = match cell {
            Cell::Text(t) => {
                edit.field(name, t, configuration, &[]).map_err(|e| e.to_string())?;
                continue;
            }
            Cell::Number(n) => (Value::Decimal(n + 0.0), n.to_string()),
            Cell::Integer(i) => (Value::Integer(*i), i.to_string()),
            Cell::Bool(b) => (Value::Bool(*b), b.to_string()),
        };
        if known {
            edit.field(name, &typed.1, configuration, &[]).map_err(|e| e.to_string())?;
        } else {
            edit.set(&DocKey::Field(name.clone()), Some(typed.0));
        }
    }
    Ok(edit)
}

pub(crate) fn import(node: &Node, request: &ImportRequest) -> Answered {
    let path = Path::new(&request.file);
    let rows = rows(path, &Mapping(request.map.clone()))?;
    let mut store = node.store();
    let configuration = store.configuration();
    let shown = configuration.as_ref().as_ref();
    if let Some(category) = &request.category {
        Edit::new().category(category, shown).map_err(|e| NodeError::input(e.to_string()))?;
    }
    let fresh = || -> DocId {
        use cairn_store::{Entropy, OsEntropy};
        DocId((&mut OsEntropy as &mut dyn Entropy).bytes())
    };
    let mut ready = rows.map(|row| {
        let row = row.map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(match row {
            Ok(row) => ImportRow { line: row.line, edit: edit_of(&row, request.category.as_deref(), shown).map(|e| (fresh(), e)) },
            Err(fault) => ImportRow { line: fault.line, edit: Err(fault.reason) },
        })
    });
    if let Some(rejects) = request.rejects.as_deref().map(Path::new) {
        // A file that cannot be written is told before anything is taken.
        File::create(rejects).map_err(|e| NodeError::file(rejects, e))?;
    }
    let stats = if request.dry_run { count_only(&mut ready)? } else { store.import(&mut ready, now_ms())? };
    drop(store);
    node.after_large_unit(stats.created + stats.updated)?;
    if let Some(rejects) = &request.rejects {
        write_rejects(Path::new(rejects), &stats)?;
    }
    Ok(import_reply(&stats, request.dry_run))
}

fn count_only(rows: &mut dyn Iterator<Item = Result<ImportRow, String>>) -> Result<ImportStats, NodeError> {
    let mut stats = ImportStats::default();
    for row in rows {
        let row = row.map_err(NodeError::input)?;
        match row.edit.and_then(|(_, e)| e.into_wanted().map_err(|e| e.to_string())) {
            Ok(_) => stats.created += 1,
            Err(reason) => {
                stats.rejected_count += 1;
                stats.rejected.push(cairn_store::RowRefusal { line: row.line, reason });
            }
        }
    }
    Ok(stats)
}

fn import_reply(stats: &ImportStats, dry_run: bool) -> Reply {
    let bad: Vec<_> = stats.rejected.iter().take(100).map(|r| json!({"line": r.line, "reason": r.reason})).collect();
    let data = json!({
        "import": stats.unit.map(|u| u.to_string()), "created": stats.created, "updated": stats.updated, "unchanged": stats.unchanged,
        "deleted": 0, "rejected": stats.rejected_count, "rejects": bad, "dry_run": dry_run,
    });
    Reply { data, code: if stats.rejected_count > 0 { 3 } else { 0 }, warnings: Vec::new() }
}

fn write_rejects(path: &Path, stats: &ImportStats) -> Result<(), NodeError> {
    let mut out = String::from("line,reason\n");
    for r in &stats.rejected {
        out.push_str(&format!("{},\"{}\"\n", r.line, r.reason.replace('"', "\"\"")));
    }
    std::fs::write(path, out).map_err(|e| NodeError::file(path, e))
}

fn export_row(o: &DocView) -> ExportRow {
    let fields = o.seen.fields.iter().map(|(name, v)| ExportField {
        name: name.clone(),
        value: match v {
            FieldValue::One(v) => show::value(v),
            FieldValue::Several(options) => json!(options),
        },
        text: v.display(),
    });
    ExportRow {
        id: o.id.to_string(),
        category: o.seen.category.clone(),
        lat: o.seen.place.map(|p| p.lat),
        lon: o.seen.place.map(|p| p.lon),
        altitude: o.seen.place.and_then(|p| p.altitude),
        time: o.seen.at.clone(),
        note: o.seen.note.clone(),
        fields: fields.collect(),
    }
}

pub(crate) fn export(node: &Node, request: &ExportRequest) -> Answered {
    let path = Path::new(&request.file);
    let format = request.format.clone().unwrap_or_else(|| ending(path));
    let store = node.store();
    let filter = filter(&store, &request.filter)?;
    // A reader never sees half a file: it appears under its name when it is whole.
    let temporary = path.with_extension("cairn-part");
    let file = || File::create(&temporary).map(BufWriter::new).map_err(|e| NodeError::file(&temporary, e));
    let source = |e: FormatError| StoreError::Source(e.to_string());
    let done = |e: FormatError| NodeError::file(path, e);
    let (count, out) = match format.as_str() {
        "csv" => {
            let mut names = BTreeSet::new();
            store.for_each(&filter, &mut |o| {
                names.extend(o.seen.fields.into_keys());
                Ok(())
            })?;
            let mut out = CsvExport::new(file()?, names.into_iter().collect()).map_err(done)?;
            let count = store.for_each(&filter, &mut |o| out.write(&export_row(&o)).map_err(source))?;
            (count, out.finish().map_err(done)?)
        }
        "geojson" | "json" => {
            let mut out = GeoJsonExport::new(file()?).map_err(done)?;
            let count = store.for_each(&filter, &mut |o| out.write(&export_row(&o)).map_err(source))?;
            (count, out.finish().map_err(done)?)
        }
        other => return Err(NodeError::input(format!("`{other}` is not a format: csv or geojson"))),
    };
    let whole = out.into_inner().map_err(|e| e.into_error()).and_then(|mut f| f.flush().and_then(|()| f.sync_all()));
    whole.and_then(|()| std::fs::rename(&temporary, path)).map_err(|e| NodeError::file(path, e))?;
    Ok(Reply::new(json!({"file": request.file, "format": format, "exported": count})))
}

/// A configuration as a JSON file: what `config export` writes and `config import` and `new --config` read.
#[derive(Serialize, Deserialize)]
struct ConfigFile {
    name: String,
    version: String,
    categories: Vec<CategoryFile>,
    fields: Vec<FieldFile>,
}

#[derive(Serialize, Deserialize)]
struct CategoryFile {
    id: String,
    name: String,
    #[serde(default = "point")]
    applies_to: Vec<String>,
    #[serde(default)]
    fields: Vec<String>,
}

fn point() -> Vec<String> {
    vec!["point".into()]
}

#[derive(Serialize, Deserialize)]
struct FieldFile {
    id: String,
    label: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    help: String,
    #[serde(default)]
    options: Vec<OptionFile>,
}

#[derive(Serialize, Deserialize)]
struct OptionFile {
    id: String,
    label: String,
}

fn to_file(c: &Configuration) -> ConfigFile {
    let category = |c: &cairn_model::Category| CategoryFile {
        id: c.id.clone(),
        name: c.name.clone(),
        applies_to: c.applies_to.clone(),
        fields: c.fields.clone(),
    };
    let field = |f: &cairn_model::Field| FieldFile {
        id: f.id.clone(),
        label: f.label.clone(),
        kind: f.kind.word().into(),
        help: f.help.clone(),
        options: f.kind.choices().iter().map(|o| OptionFile { id: o.id.clone(), label: o.label.clone() }).collect(),
    };
    ConfigFile {
        name: c.name.clone(),
        version: c.version.clone(),
        categories: c.categories.iter().map(category).collect(),
        fields: c.fields.iter().map(field).collect(),
    }
}

/// Reads and checks a configuration file.
pub(crate) fn read_configuration(path: &Path) -> Result<Configuration, NodeError> {
    let text = std::fs::read(path).map_err(|e| NodeError::file(path, e))?;
    let file: ConfigFile = serde_json::from_slice(&text).map_err(|e| NodeError::file(path, e))?;
    let mut fields = Vec::new();
    for f in file.fields {
        let choices = f.options.into_iter().map(|o| cairn_model::FieldChoice { id: o.id, label: o.label }).collect();
        let kind = cairn_model::FieldType::from_word(&f.kind, choices)
            .ok_or_else(|| NodeError::file(path, format!("field `{}`: `{}` is not a type", f.id, f.kind)))?;
        fields.push(cairn_model::Field { id: f.id, label: f.label, help: f.help, kind });
    }
    let mut categories = Vec::new();
    for c in file.categories {
        if let Some(gone) = c.fields.iter().find(|id| !fields.iter().any(|f| f.id == **id)) {
            return Err(NodeError::file(path, format!("category `{}` names a field `{gone}` that is not there", c.id)));
        }
        categories.push(cairn_model::Category { id: c.id, name: c.name, applies_to: c.applies_to, fields: c.fields });
    }
    Ok(Configuration { name: file.name, version: file.version, categories, fields })
}

pub(crate) fn config(node: &Node, request: &ConfigRequest) -> Answered {
    let mut store = node.store();
    match request {
        ConfigRequest::Show => {
            let shown = current(&store)?;
            Ok(Reply::new(json!(to_file(&shown))))
        }
        ConfigRequest::Export { file, with_invite } => {
            let path = Path::new(file);
            let mut shown = json!(to_file(&current(&store)?));
            let mut reply = Reply::new(json!({"file": file}));
            if *with_invite {
                shown["invitation"] = json!(public_ticket(&mut store)?);
                reply.warnings.push(show::OPEN_PROJECT.into());
            }
            let text = serde_json::to_string_pretty(&shown).map_err(|e| NodeError::file(path, e))?;
            std::fs::write(path, text + "\n").map_err(|e| NodeError::file(path, e))?;
            Ok(reply)
        }
        ConfigRequest::Switch { file, dry_run } => {
            let wanted = read_configuration(Path::new(file))?;
            let (from, to) = (current(&store)?.name, wanted.name.clone());
            if !dry_run {
                store.switch_configuration(&wanted, now_ms())?;
            }
            let mut reply = Reply::new(json!({"from": from, "to": to, "configuration": store.lineage()?.to_string(), "dry_run": dry_run}));
            reply.warnings.push("every device must follow with `cairn config adopt`; until then no observations pass between those that did and those that did not".into());
            Ok(reply)
        }
        ConfigRequest::Adopt => {
            let changed = store.adopt_configuration()?;
            let shown = current(&store)?;
            Ok(Reply::new(json!({"adopted": changed, "name": shown.name, "configuration": store.lineage()?.to_string()})))
        }
        ConfigRequest::Import { file, dry_run } => {
            let wanted = read_configuration(Path::new(file))?.to_keys();
            let before = store.configuration().as_ref().as_ref().map(Configuration::to_keys).unwrap_or_default();
            let gone = before.keys().filter(|k| !wanted.contains_key(*k)).map(|k| (k.clone(), None));
            let set = wanted.iter().filter(|(k, v)| before.get(*k) != Some(v)).map(|(k, v)| (k.clone(), Some(v.clone())));
            let edits: Vec<_> = gone.chain(set).collect();
            let changes = edits.len();
            let lineage = store.lineage()?;
            if !dry_run && changes > 0 {
                store.edit_document(cairn_model::DocKind::Configuration, lineage, edits, now_ms())?;
            }
            Ok(Reply::new(json!({"changes": changes, "dry_run": dry_run})))
        }
    }
}

/// A ticket for anyone, for ever: only in an open project.
fn public_ticket(store: &mut Store) -> Result<String, NodeError> {
    if !store.membership().open() {
        let remedy = "`cairn policy join open` opens it to everyone who has the file";
        return Err(NodeError::not_allowed("this project is entered by invitation", remedy));
    }
    Ok(store.invite(cairn_trust::Role::Member, u32::MAX, cairn_trust::InviteMode::Bearer, Vec::new())?.encode())
}

/// The invitation in a configuration file, if there is one.
pub(crate) fn invitation_in(path: &Path) -> Result<Option<String>, NodeError> {
    let text = std::fs::read_to_string(path).map_err(|e| NodeError::file(path, e))?;
    let value: serde_json::Value = serde_json::from_str(&text).map_err(|e| NodeError::file(path, e))?;
    Ok(value["invitation"].as_str().map(str::to_owned))
}

fn current(store: &Store) -> Result<Configuration, NodeError> {
    let shown = store.configuration();
    shown.as_ref().clone().ok_or_else(|| NodeError::NotFound { what: "configuration here yet; sync once with a member".into() })
}
