//! One row of any format, and what its columns are taken for.

use crate::times::TimeReader;
use cairn_model::{Coord, Instant, Place, Shape};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A file that cannot be read as what it should be. Nothing of it is taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Bytes that are no text in the encoding.
    #[error("line {line}, column {column}: the text is not {encoding}; name its encoding, as `--encoding windows-1252`")]
    Encoding {
        /// From 1.
        line: u64,
        /// Cell, from 1.
        column: u64,
        /// What it was read as.
        encoding: String,
    },
    /// Broken structure.
    #[error("line {line}, column {column}: {reason}")]
    Structure {
        /// From 1.
        line: u64,
        /// From 1.
        column: u64,
        /// What is wrong.
        reason: String,
    },
    /// Broken, and lines do not tell where (an archive, a database).
    #[error("{place}: {reason}")]
    Part {
        /// The entry, table or sheet.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// What was asked for does not fit the file.
    #[error("{0}")]
    Options(String),
    /// The disk.
    #[error("{0}")]
    Io(String),
}

impl FormatError {
    /// `true` if the disk had no room. Writers of other crates give the system's error as text only.
    pub fn is_out_of_space(&self) -> bool {
        // ENOSPC and EDQUOT of Linux and macOS, and what SQLite says.
        let texts = ["os error 28)", "os error 122)", "os error 69)", "disk is full"];
        matches!(self, FormatError::Io(text) if texts.iter().any(|t| text.contains(t)))
    }

    pub(crate) fn part(place: impl Into<String>, reason: impl ToString) -> Self {
        FormatError::Part { place: place.into(), reason: reason.to_string() }
    }

    pub(crate) fn line(line: u64, reason: impl ToString) -> Self {
        FormatError::Structure { line, column: 1, reason: reason.to_string() }
    }
}

impl From<std::io::Error> for FormatError {
    fn from(e: std::io::Error) -> Self {
        FormatError::Io(e.to_string())
    }
}

/// One row that cannot be taken; the others can.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowFault {
    /// Line in the file (or number of the feature), from 1.
    pub line: u64,
    /// The column at fault, where it is one.
    pub column: Option<String>,
    /// What is wrong.
    pub reason: String,
    /// Texts of the key columns, as far as the row has them.
    pub keys: Vec<Option<String>>,
}

/// A value as the file has it.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Text, to be typed by the configuration.
    Text(String),
    /// A number.
    Number(f64),
    /// A whole number.
    Integer(i64),
    /// Yes or no.
    Bool(bool),
    /// The column is there and has nothing.
    Empty,
}

impl Cell {
    /// As text; empty for nothing.
    pub fn text(&self) -> String {
        match self {
            Cell::Text(t) => t.clone(),
            Cell::Number(n) => n.to_string(),
            Cell::Integer(i) => i.to_string(),
            Cell::Bool(b) => b.to_string(),
            Cell::Empty => String::new(),
        }
    }
}

/// A part of a row: the file says nothing of it, says that there is none, or says what it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Part<T> {
    /// No column for it.
    #[default]
    Absent,
    /// The column is empty.
    Empty,
    /// This.
    Set(T),
}

impl<T> Part<T> {
    fn or_empty(&mut self) {
        if matches!(self, Part::Absent) {
            *self = Part::Empty;
        }
    }

    /// The value, if there is one.
    pub fn get(&self) -> Option<&T> {
        match self {
            Part::Set(value) => Some(value),
            _ => None,
        }
    }
}

/// Where it was.
#[derive(Clone, Debug, PartialEq)]
pub enum Position {
    /// A position.
    Place(Place),
    /// A track or an area.
    Shape(Shape),
}

/// One observation to be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// Line in the file (or number of the feature), from 1.
    pub line: u64,
    /// Category id.
    pub category: Part<String>,
    /// Position.
    pub place: Part<Position>,
    /// Time.
    pub at: Part<Instant>,
    /// Note.
    pub note: Part<String>,
    /// Fields by name.
    pub fields: Vec<(Arc<str>, Cell)>,
    /// Texts of the key columns; `None` where the row has nothing there.
    pub keys: Vec<Option<String>>,
    /// The row says that it is to be deleted.
    pub delete: bool,
    /// Ids and names the category may have, where the file has another program's.
    pub category_hints: Vec<String>,
}

/// What a column is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    Lat,
    Lon,
    Altitude,
    Uncertainty,
    /// WKT, `geo:` or `LAT,LON`.
    Position,
    Time,
    /// A time if it reads as one, else a field of this name.
    MaybeTime(Arc<str>),
    Category,
    Note,
    Deleted,
    Ignore,
    /// Fields in a JSON object, where it is one.
    Properties(Arc<str>),
    Field(Arc<str>),
}

/// How a file is read.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReadOptions {
    /// The kind of file, where its ending does not tell.
    pub format: Option<String>,
    /// Column -> what it is taken for: `lat`, `lon`, `altitude`, `uncertainty`, `position`, `time`, `category`, `note`, `-` (nothing), or a field.
    pub map: BTreeMap<String, String>,
    /// Columns left out.
    pub ignore: Vec<String>,
    /// Columns that identify a row.
    pub key: Vec<String>,
    /// Name of the encoding (WHATWG label), where it is not recognised.
    pub encoding: Option<String>,
    /// Between cells.
    pub delimiter: Option<char>,
    /// Around cells; `none` for no quotes.
    pub quote: Option<String>,
    /// Before a quote in a quoted cell, where it is not doubled.
    pub escape: Option<char>,
    /// Records before the header.
    pub skip: u64,
    /// The file has no header line; `columns` names them.
    pub no_header: bool,
    /// Names of the columns instead of the header's.
    pub columns: Vec<String>,
    /// Texts that mean that there is nothing, as `NA`.
    pub missing: Vec<String>,
    /// An empty cell is an empty text.
    pub keep_empty: bool,
    /// Forms of dates and times: `iso`, `unix`, `unix-ms`, or patterns as `dd.MM.yyyy HH:mm` or `%d.%m.%Y %H:%M`.
    pub dates: Vec<String>,
    /// Time zone of times without an offset, as `America/Lima`; UTC if absent.
    pub tz: Option<String>,
    /// The decimal sign, `.` or `,`; if absent a comma is taken where a number cannot be read otherwise.
    pub decimal: Option<char>,
    /// Sheet of a spreadsheet, layer of a database.
    pub sheet: Option<String>,
    /// As `map`, for columns that need not be there.
    #[serde(skip)]
    pub soft_map: BTreeMap<String, String>,
    /// Column -> what stands in it where the file has nothing.
    #[serde(skip)]
    pub defaults: Vec<(String, String)>,
    /// Empty cells at the end of a row may be left out.
    #[serde(skip)]
    pub ragged: bool,
    /// A file of one column needs no header: it is the identifier (for deletions).
    #[serde(skip)]
    pub single_column: bool,
    /// Only identifiers are needed.
    #[serde(skip)]
    pub keys_only: bool,
}

/// One column of a file.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub name: Arc<str>,
    pub meaning: Meaning,
    pub key: Option<usize>,
}

/// What turns cells into parts of rows.
pub(crate) struct Reading {
    options: ReadOptions,
    times: TimeReader,
}

impl Reading {
    pub fn new(options: &ReadOptions) -> Result<Self, FormatError> {
        Ok(Self { times: TimeReader::new(&options.dates, options.tz.as_deref())?, options: options.clone() })
    }

    pub fn options(&self) -> &ReadOptions {
        &self.options
    }

    /// What a column is taken for.
    pub fn column(&self, name: &str) -> Column {
        let mapped = self.options.map.get(name).or_else(|| self.options.soft_map.get(name));
        let meaning = if self.options.ignore.iter().any(|i| i == name) {
            Meaning::Ignore
        } else {
            meaning(mapped.map_or(name, String::as_str), mapped.is_some())
        };
        let shown = match &meaning {
            Meaning::Field(field) => field.to_string(),
            _ => name.to_owned(),
        };
        let key = self.options.key.iter().position(|k| k == name || *k == shown);
        Column { name: name.into(), meaning, key }
    }

    /// A column that is a field, whatever its name would be taken for.
    pub fn column_as_field(&self, name: &str) -> Column {
        Column { meaning: Meaning::Field(name.into()), ..self.column(name) }
    }

    /// The columns of a header, with a key found in any case; columns asked for and not there are told.
    pub fn columns(&self, names: &[String]) -> Result<Vec<Column>, FormatError> {
        let there: std::collections::HashSet<&String> = names.iter().collect();
        let mut columns: Vec<Column> = names.iter().map(|n| self.column(n)).collect();
        let missing = |what: &str, name: &str| {
            FormatError::line(1, format!("there is no column `{name}` to {what}; the file has: {}", names.join(", ")))
        };
        for (n, key) in self.options.key.iter().enumerate() {
            if !columns.iter().any(|c| c.key == Some(n)) {
                let found = columns.iter_mut().find(|c| c.name.to_lowercase() == key.to_lowercase());
                found.ok_or_else(|| missing("identify rows by", key))?.key = Some(n);
            }
        }
        match self.options.map.keys().find(|m| !there.contains(m)) {
            Some(gone) => Err(missing("map", gone)),
            None => Ok(columns),
        }
    }

    pub fn draft(&self, line: u64) -> Draft<'_> {
        let row = Row { line, keys: vec![None; self.options.key.len()], ..Row::default() };
        Draft { reading: self, row, lat: Part::Absent, lon: Part::Absent, altitude: None, uncertainty: None }
    }
}

/// What a column would be taken for, in a word: as `map` names it, or `field NAME`.
pub fn taken_for(column: &str, options: &ReadOptions) -> String {
    let mapped = options.map.get(column);
    let key = if options.key.iter().any(|k| k.eq_ignore_ascii_case(column)) { ", identifies rows" } else { "" };
    let word = match meaning(mapped.map_or(column, String::as_str), mapped.is_some()) {
        Meaning::Lat => "lat".to_owned(),
        Meaning::Lon => "lon".into(),
        Meaning::Altitude => "altitude".into(),
        Meaning::Uncertainty => "uncertainty".into(),
        Meaning::Position => "position".into(),
        Meaning::Time | Meaning::MaybeTime(_) => "time".into(),
        Meaning::Category => "category".into(),
        Meaning::Note => "note".into(),
        Meaning::Deleted => "deletion".into(),
        Meaning::Ignore => "-".into(),
        Meaning::Properties(name) | Meaning::Field(name) => format!("field {name}"),
    };
    word + key
}

fn meaning(name: &str, mapped: bool) -> Meaning {
    let name = name.trim();
    // A name must be one everywhere rows are written to.
    let plain: String;
    let name = if name.contains(char::is_control) {
        plain = name.chars().map(|c| if c.is_control() { '_' } else { c }).collect();
        &plain
    } else {
        name
    };
    if let Some(field) = name.strip_prefix("field:") {
        return Meaning::Field(field.into());
    }
    match name.to_lowercase().as_str() {
        "lat" | "latitude" | "y" => Meaning::Lat,
        "lon" | "lng" | "long" | "longitude" | "x" => Meaning::Lon,
        "altitude" | "altitude_m" => Meaning::Altitude,
        "uncertainty" | "uncertainty_m" => Meaning::Uncertainty,
        "wkt" => Meaning::Position,
        "position" if mapped => Meaning::Position,
        "time" | "date" | "datetime" => Meaning::Time,
        "category" => Meaning::Category,
        "note" => Meaning::Note,
        ":deleted" => Meaning::Deleted,
        other if mapped && other.starts_with("time? ") => Meaning::MaybeTime(name[6..].into()),
        other if mapped && other.starts_with("json? ") => Meaning::Properties(name[6..].into()),
        "-" if mapped => Meaning::Ignore,
        "" => Meaning::Ignore,
        other if other.starts_with(':') => Meaning::Ignore,
        _ => Meaning::Field(name.into()),
    }
}

/// Collects the parts of one row and checks them together.
pub(crate) struct Draft<'a> {
    reading: &'a Reading,
    pub row: Row,
    lat: Part<f64>,
    lon: Part<f64>,
    altitude: Option<f64>,
    uncertainty: Option<f64>,
}

/// Column (where it is one) and reason.
pub(crate) type CellFault = (Option<String>, String);

impl Draft<'_> {
    /// A fault of this row.
    pub fn fault(&self, (column, reason): CellFault) -> RowFault {
        RowFault { line: self.row.line, column, reason, keys: self.row.keys.clone() }
    }

    pub fn is_missing(&self, cell: &Cell) -> bool {
        let options = &self.reading.options;
        match cell {
            Cell::Empty => true,
            Cell::Text(t) => (t.trim().is_empty() && !options.keep_empty) || options.missing.iter().any(|m| m == t.trim()),
            _ => false,
        }
    }

    fn number(&self, column: &Column, cell: &Cell) -> Result<f64, CellFault> {
        let found = match cell {
            Cell::Number(n) => Some(*n),
            Cell::Integer(i) => Some(*i as f64),
            other => number(&other.text(), self.reading.options.decimal),
        };
        found.ok_or_else(|| (Some(column.name.to_string()), format!("`{}` is not a number", short(&cell.text()))))
    }

    pub fn put(&mut self, column: &Column, cell: Cell) -> Result<(), CellFault> {
        let missing = self.is_missing(&cell);
        if let Some(key) = column.key
            && !missing
        {
            let text = cell.text();
            if !text.trim().is_empty() {
                self.row.keys[key] = Some(text);
            }
        }
        if self.reading.options.keys_only && column.meaning != Meaning::Deleted {
            return Ok(());
        }
        if missing {
            self.nothing(column);
            return Ok(());
        }
        let at = || Some(column.name.to_string());
        match &column.meaning {
            Meaning::Lat => self.lat = Part::Set(self.number(column, &cell)?),
            Meaning::Lon => self.lon = Part::Set(self.number(column, &cell)?),
            Meaning::Altitude => self.altitude = Some(self.number(column, &cell)?),
            Meaning::Uncertainty => self.uncertainty = Some(self.number(column, &cell)?),
            Meaning::Position => {
                let text = cell.text();
                self.row.place = Part::Set(position(&text).map_err(|e| (at(), e))?);
            }
            Meaning::Time => {
                let time = self.reading.times.read(&cell);
                self.row.at = Part::Set(time.ok_or_else(|| {
                    (at(), format!("`{}` is not a time; name its form, as `--date-format dd.MM.yyyy`", short(&cell.text())))
                })?);
            }
            Meaning::MaybeTime(name) => match self.reading.times.read(&cell) {
                Some(time) => self.row.at = Part::Set(time),
                None => self.row.fields.push((name.clone(), cell)),
            },
            Meaning::Category => self.row.category = Part::Set(cell.text().trim().to_owned()),
            Meaning::Note => self.row.note = Part::Set(cell.text()),
            Meaning::Deleted => self.row.delete = matches!(cell.text().trim().to_lowercase().as_str(), "true" | "1" | "yes" | "t" | "y"),
            Meaning::Ignore => {}
            Meaning::Properties(name) => self.properties(name, cell)?,
            Meaning::Field(name) => self.row.fields.push((name.clone(), cell)),
        }
        Ok(())
    }

    fn properties(&mut self, name: &Arc<str>, cell: Cell) -> Result<(), CellFault> {
        let text = cell.text();
        let Ok(serde_json::Value::Object(object)) = serde_json::from_str(&text) else {
            self.row.fields.push((name.clone(), cell));
            return Ok(());
        };
        for (name, value) in &object {
            let column = self.reading.column(name);
            // What an object says beside the columns is a field, except what kind of record it is.
            let field = name.strip_prefix("field:").unwrap_or(name);
            let column = if name == "category" { column } else { Column { meaning: Meaning::Field(field.into()), ..column } };
            self.put(&column, crate::geojson_rows::cell(value))?;
        }
        Ok(())
    }

    fn nothing(&mut self, column: &Column) {
        match &column.meaning {
            // Of two columns for one thing an empty one says nothing against the other.
            Meaning::Lat => self.lat.or_empty(),
            Meaning::Lon => self.lon.or_empty(),
            Meaning::Position => self.row.place.or_empty(),
            Meaning::Time | Meaning::MaybeTime(_) => self.row.at.or_empty(),
            Meaning::Category => self.row.category.or_empty(),
            Meaning::Note => self.row.note.or_empty(),
            Meaning::Field(name) => self.row.fields.push((name.clone(), Cell::Empty)),
            _ => {}
        }
    }

    /// A position that the format has in a part of its own.
    pub fn shape(&mut self, shape: Shape) -> Result<(), CellFault> {
        shape.check().map_err(|e| (None, e.to_string()))?;
        self.row.place = Part::Set(match shape {
            Shape::Point(c) => Position::Place(c.place()),
            other => Position::Shape(other),
        });
        Ok(())
    }

    pub fn finish(mut self) -> Result<Row, RowFault> {
        let placed = match (&self.lat, &self.lon) {
            (Part::Set(lat), Part::Set(lon)) => Place::new(*lat, *lon).map(Some).map_err(|e| (None, e.to_string())),
            (Part::Set(_), _) => Err((None, "a latitude without a longitude".into())),
            (_, Part::Set(_)) => Err((None, "a longitude without a latitude".into())),
            (Part::Absent, Part::Absent) => Ok(None),
            _ => {
                if self.row.place == Part::Absent {
                    self.row.place = Part::Empty;
                }
                Ok(None)
            }
        };
        let placed = placed.and_then(|p| self.with_extent(p));
        match placed {
            Ok(place) => {
                // Of several columns that tell where, degrees count before a text, which may have fewer digits or none.
                if let Some(place) = place {
                    self.row.place = Part::Set(Position::Place(place));
                }
                Ok(self.row)
            }
            Err(fault) => Err(self.fault(fault)),
        }
    }

    fn with_extent(&mut self, place: Option<Place>) -> Result<Option<Place>, CellFault> {
        let told = (self.altitude, self.uncertainty);
        let extend = |mut place: Place| -> Result<Place, CellFault> {
            if let Some(a) = told.0 {
                place = place.with_altitude(a).map_err(|e| (Some("altitude".into()), e.to_string()))?;
            }
            if let Some(u) = told.1 {
                place = place.with_uncertainty(u).map_err(|e| (Some("uncertainty".into()), e.to_string()))?;
            }
            Ok(place)
        };
        match (place, &self.row.place) {
            // A track keeps its own positions; the columns beside it name only where it begins.
            (Some(_), Part::Set(Position::Shape(_))) => Ok(None),
            (Some(place), _) => extend(place).map(Some),
            (None, Part::Set(Position::Place(place))) => extend(*place).map(Some),
            (None, _) => Ok(None),
        }
    }
}

/// A number as people write it: with a comma where that is the decimal sign, or where nothing else makes sense.
pub fn number(text: &str, decimal: Option<char>) -> Option<f64> {
    let text = text.trim();
    let commas = text.matches(',').count();
    let read = |t: &str| t.parse::<f64>().ok().filter(|n| n.is_finite());
    match decimal {
        Some(',') => {
            // A point is a sign between thousands or nothing: `1.5` is no fifteen.
            let whole = text.split(',').next().unwrap_or_default();
            let mut groups = whole.trim_start_matches(['-', '+']).split('.');
            let first = groups.next().unwrap_or_default();
            let grouped = !whole.contains('.') || ((1..=3).contains(&first.len()) && groups.all(|g| g.len() == 3));
            if grouped { read(&text.replace('.', "").replace(',', ".")) } else { None }
        }
        None if commas == 1 && !text.contains('.') => read(&text.replace(',', ".")),
        _ => read(text),
    }
}

/// WKT, a `geo:` text, or `LAT,LON` as people type it.
fn position(text: &str) -> Result<Position, String> {
    let text = text.trim();
    if text.starts_with("geo:") {
        return Place::from_geo(text).map(Position::Place).map_err(|e| e.to_string());
    }
    if text.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return Ok(match crate::wkt::read(text)? {
            Shape::Point(c) => Position::Place(c.place()),
            other => Position::Shape(other),
        });
    }
    let spaced = if text.contains(',') { text.to_owned() } else { text.split_whitespace().collect::<Vec<_>>().join(",") };
    Place::parse_typed(&spaced).map(Position::Place).map_err(|e| e.to_string())
}

/// A cell in a message, not longer than people read.
pub(crate) fn short(text: &str) -> String {
    if text.chars().count() > 60 { text.chars().take(57).collect::<String>() + "..." } else { text.to_owned() }
}

/// A position for a message that a format found by itself.
pub(crate) fn coord(lon: f64, lat: f64, altitude: Option<f64>) -> Result<Coord, CellFault> {
    Coord::new(lon, lat, altitude).map_err(|e| (None, e.to_string()))
}
