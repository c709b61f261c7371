//! XLSForm, as far as a list of questions goes: the form becomes a category, its questions fields.

use super::TakenConfiguration;
use crate::FormatError;
use cairn_model::{Category, Configuration, Field, FieldChoice, FieldType, escape, message_key};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A sheet: its rows as texts by column name, with their numbers.
type Sheet = Vec<(u64, BTreeMap<String, String>)>;

/// Columns of the survey whose rules are not taken over.
const RULES: [&str; 9] =
    ["constraint", "relevant", "required", "default", "calculation", "choice_filter", "read_only", "appearance", "repeat_count"];

/// Choices of one list.
const LIST: usize = 2_000;
/// Options of all questions together.
const OPTIONS: usize = 20_000;

/// `true` for a form written as delimited text: its first cell names the sheet.
pub(crate) fn is_text(bytes: &[u8]) -> bool {
    let line = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
    let first = String::from_utf8_lossy(line.split(|b| *b == b',').next().unwrap_or_default()).to_lowercase();
    matches!(first.trim().trim_matches('"').trim_start_matches('\u{feff}'), "survey" | "choices" | "settings")
}

/// Reads sheets from delimited text: a cell in the first column begins one, the next row is its header.
pub(crate) fn read_text(bytes: &[u8]) -> Result<TakenConfiguration, FormatError> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(bytes);
    let mut sheets: BTreeMap<String, Vec<(u64, Vec<String>)>> = BTreeMap::new();
    let mut current = String::new();
    for record in reader.byte_records() {
        let record = record.map_err(|e| FormatError::line(e.position().map_or(1, csv::Position::line), e))?;
        let line = record.position().map_or(0, csv::Position::line);
        let cells: Vec<String> = record.iter().map(|c| String::from_utf8_lossy(c).trim().to_owned()).collect();
        match cells.first().filter(|c| !c.is_empty()) {
            Some(name) => current = name.to_lowercase(),
            None => sheets.entry(current.clone()).or_default().push((line, cells[1.min(cells.len())..].to_vec())),
        }
    }
    form(sheets)
}

/// Reads a workbook.
pub(crate) fn read_book(path: &Path) -> Result<TakenConfiguration, FormatError> {
    let mut sheets = BTreeMap::new();
    for (name, lines) in crate::sheet_rows::texts(path)? {
        sheets.insert(name.to_lowercase().trim().to_owned(), lines);
    }
    form(sheets)
}

fn sheet(sheets: &BTreeMap<String, Vec<(u64, Vec<String>)>>, name: &str) -> Sheet {
    let mut rows = sheets.get(name).into_iter().flatten().filter(|(_, cells)| cells.iter().any(|c| !c.trim().is_empty()));
    let Some((_, header)) = rows.next() else { return Vec::new() };
    let names: Vec<String> = header.iter().map(|h| column(h)).collect();
    rows.map(|(line, cells)| {
        let filled = names.iter().cloned().zip(cells.iter().map(|c| c.trim().to_owned())).filter(|(n, c)| !n.is_empty() && !c.is_empty());
        (*line, filled.collect())
    })
    .collect()
}

/// Names of columns in the words of today: `bind:relevant` is `relevant`, `list name` is `list_name`, `label:en` is `label::en`.
fn column(name: &str) -> String {
    let name = name.trim().to_lowercase();
    let name = name.strip_prefix("bind:").or_else(|| name.strip_prefix("control:")).unwrap_or(&name).trim_start_matches(':').to_owned();
    match name.as_str() {
        "list name" | "list" => "list_name".into(),
        "value" => "name".into(),
        "readonly" => "read_only".into(),
        other => match other.split_once(':') {
            Some((word, language)) if matches!(word, "label" | "hint") => format!("{word}::{}", language.trim_start_matches(':').trim()),
            _ => other.to_owned(),
        },
    }
}

/// `label::Español (es)`: the code in brackets, or what stands there.
fn language(text: &str) -> String {
    match text.rsplit_once('(').and_then(|(_, code)| code.strip_suffix(')')) {
        Some(code) => code.trim().to_owned(),
        None => text.trim().to_owned(),
    }
}

/// The text without a language, or in the form's own, and those in others.
fn texts(row: &BTreeMap<String, String>, word: &str, own: &str) -> (String, Vec<(String, String)>) {
    let prefix = format!("{word}::");
    let mut others: Vec<(String, String)> = row.iter().filter_map(|(k, v)| Some((language(k.strip_prefix(&prefix)?), v.clone()))).collect();
    if let Some(plain) = row.get(word) {
        return (plain.clone(), others);
    }
    let first = others.iter().position(|(l, _)| *l == own.to_lowercase()).or(if others.is_empty() { None } else { Some(0) });
    match first {
        Some(n) => {
            let text = others[n].1.clone();
            if !own.is_empty() && others[n].0 == own.to_lowercase() {
                others.remove(n);
            }
            (text, others)
        }
        None => (String::new(), others),
    }
}

/// A choice with its labels by language.
type Choice = (FieldChoice, Vec<(String, String)>);

struct Reader {
    out: Configuration,
    notes: Vec<String>,
    own: String,
    lists: BTreeMap<String, Vec<Choice>>,
    fields: Vec<String>,
    /// Counted as questions come.
    options: usize,
}

fn form(sheets: BTreeMap<String, Vec<(u64, Vec<String>)>>) -> Result<TakenConfiguration, FormatError> {
    let survey = sheet(&sheets, "survey");
    if survey.is_empty() {
        return Err(FormatError::part("sheet `survey`", "it is not there or empty: this is no XLSForm"));
    }
    let settings = sheet(&sheets, "settings").into_iter().next().map(|(_, row)| row).unwrap_or_default();
    let setting = |name: &str| settings.get(name).cloned().unwrap_or_default();
    let mut reader = Reader {
        out: Configuration { version: setting("version"), ..Configuration::default() },
        notes: Vec::new(),
        own: language(&setting("default_language").to_lowercase()),
        lists: BTreeMap::new(),
        fields: Vec::new(),
        options: 0,
    };
    for (_, row) in sheet(&sheets, "choices") {
        let (Some(list), Some(id)) = (row.get("list_name"), row.get("name")) else { continue };
        let (label, others) = texts(&row, "label", &reader.own);
        let choice = FieldChoice { id: id.clone(), label: if label.is_empty() { id.clone() } else { label }, value: None };
        let options = reader.lists.entry(list.clone()).or_default();
        if options.len() >= LIST {
            return Err(FormatError::part(format!("list `{list}`"), format!("more than {LIST} choices")));
        }
        if !options.iter().any(|(o, _)| o.id == choice.id) {
            options.push((choice, others));
        }
    }
    reader.survey(&survey);
    let known = ["survey", "choices", "settings"];
    let more: Vec<&String> = sheets.keys().filter(|s| !known.contains(&s.as_str()) && !s.is_empty()).collect();
    if !more.is_empty() {
        let names: Vec<String> = more.iter().map(|s| format!("`{s}`")).collect();
        reader.notes.push(format!("sheets that were not taken over: {}", names.join(", ")));
    }
    let Reader { mut out, notes, fields, .. } = reader;
    let title = if setting("form_title").is_empty() { "Form".to_owned() } else { setting("form_title") };
    let id = if setting("form_id").is_empty() { slug(&title) } else { slug(&setting("form_id")) };
    out.name = title.clone();
    out.categories.push(Category { id, name: title, applies_to: vec!["point".into(), "line".into()], fields, ..Category::default() });
    Ok(TakenConfiguration { configuration: out, kind: "xlsform", notes })
}

fn slug(text: &str) -> String {
    let plain: String = text.to_lowercase().chars().map(|c| if c.is_alphanumeric() || c == '_' { c } else { '-' }).collect();
    let plain = plain.trim_matches('-').to_owned();
    if plain.is_empty() { "form".into() } else { plain }
}

impl Reader {
    fn survey(&mut self, survey: &Sheet) {
        let mut rules = BTreeSet::new();
        let mut repeats = 0u32;
        for (line, row) in survey {
            let options: usize = self.out.fields.last().map_or(0, |f| f.kind.choices().len());
            self.options += options;
            if self.options > OPTIONS {
                self.left(*line, row, "everything from here on (too many options)");
                break;
            }
            let kind = row.get("type").map(|t| t.to_lowercase()).unwrap_or_default();
            let words: Vec<&str> = kind.split_whitespace().collect();
            match words.as_slice() {
                ["begin_repeat", ..] | ["begin", "repeat", ..] => {
                    repeats += 1;
                    self.left(*line, row, "a repeated group");
                    continue;
                }
                ["end_repeat", ..] | ["end", "repeat", ..] => {
                    repeats = repeats.saturating_sub(1);
                    continue;
                }
                _ => {}
            }
            if repeats > 0 {
                self.left(*line, row, "a question of a repeated group");
                continue;
            }
            self.question(*line, row, &words);
            rules.extend(RULES.into_iter().filter(|r| row.contains_key(*r)));
        }
        if !rules.is_empty() {
            let names: Vec<&str> = rules.into_iter().collect();
            self.notes.push(format!("rules that were not taken over: {}", names.join(", ")));
        }
    }

    fn left(&mut self, line: u64, row: &BTreeMap<String, String>, what: &str) {
        let name = row.get("name").map(|n| format!(" `{n}`")).unwrap_or_default();
        self.notes.push(format!("survey, row {line}{name}: {what} was not taken over"));
    }

    fn question(&mut self, line: u64, row: &BTreeMap<String, String>, words: &[&str]) {
        let several = |reader: &Self, list: &[&str]| {
            // Names of lists keep their case; types do not have one.
            let typed = row.get("type").cloned().unwrap_or_default();
            let list =
                typed.split_whitespace().nth_back(if list.last() == Some(&"or_other") { 1 } else { 0 }).unwrap_or_default().to_owned();
            reader.lists.get(&list).cloned().unwrap_or_default()
        };
        let kind = match words {
            ["text" | "string" | "barcode"] => FieldType::Text,
            ["integer" | "int" | "range"] => FieldType::Integer,
            ["decimal"] => FieldType::Decimal,
            ["date"] => FieldType::Date,
            ["datetime"] => FieldType::Time,
            ["select_one", list @ ..] | ["select", "one", "from", list @ ..] if !several(self, list).is_empty() => {
                FieldType::OneOf(self.choices(several(self, list), list))
            }
            ["select_multiple", list @ ..] | ["select", "all", "that", "apply", "from", list @ ..] if !several(self, list).is_empty() => {
                FieldType::SeveralOf(self.choices(several(self, list), list))
            }
            ["acknowledge" | "trigger"] => FieldType::YesNo,
            ["geopoint"] => return self.left(line, row, "a position of its own (the observation has one)"),
            ["begin_group" | "end_group" | "begin" | "end" | "start" | "today" | "deviceid", ..] | [] => return,
            ["note"] => return self.left(line, row, "a note"),
            other => return self.left(line, row, &format!("a question of type `{}`", other.join(" "))),
        };
        let Some(name) = row.get("name") else { return self.left(line, row, "a question without a name") };
        let options = match words {
            ["select_one" | "select_multiple" | "select", list @ ..] => several(self, list),
            _ => Vec::new(),
        };
        let (label, labels) = texts(row, "label", &self.own);
        let (help, hints) = texts(row, "hint", &self.own);
        for (property, translated) in [("label", labels), ("help", hints)] {
            for (language, text) in translated {
                self.message(language, message_key('v', name, property), text);
            }
        }
        for (option, translated) in options {
            for (language, text) in translated {
                self.message(language, message_key('v', name, &format!("l.{}", escape(&option.id))), text);
            }
        }
        if self.fields.contains(name) {
            return self.left(line, row, "a second question of this name");
        }
        self.fields.push(name.clone());
        let label = if label.is_empty() { name.clone() } else { label };
        self.out.fields.push(Field { id: name.clone(), label, help, kind, ..Field::default() });
    }

    fn choices(&self, options: Vec<(FieldChoice, Vec<(String, String)>)>, list: &[&str]) -> Vec<FieldChoice> {
        let mut out: Vec<FieldChoice> = options.into_iter().map(|(o, _)| o).collect();
        if list.last() == Some(&"or_other") && !out.iter().any(|o| o.id == "other") {
            out.push(FieldChoice { id: "other".into(), label: "Other".into(), value: None });
        }
        out
    }

    fn message(&mut self, language: String, key: String, text: String) {
        self.out.messages.entry(language).or_default().insert(key, text);
    }
}
