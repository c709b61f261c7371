//! Rows out, in parts of a few hundred: a project of any size takes the memory of some parts.

mod delimited;
mod dwca;
mod geojson;
mod geopackage;
mod gpx;
mod kml;
mod shapefile;
mod text;
mod xlsx;

use crate::FormatError;
use cairn_model::{DocId, FieldRef, FieldValue, Observation, ObservationRef, Shape, Value, ValueRef};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// One observation to write.
#[derive(Clone, Debug)]
pub struct ExportRow {
    /// Its id.
    pub id: DocId,
    /// What is shown of it.
    pub seen: Observation,
}

/// The kinds of values a field has among the rows to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds {
    /// Whole numbers.
    pub integer: bool,
    /// Decimal numbers.
    pub decimal: bool,
    /// Yes and no.
    pub bool: bool,
    /// Anything else.
    pub text: bool,
}

impl Kinds {
    /// Adds what stands in a field.
    pub fn add(&mut self, value: &FieldRef<'_>) {
        match value {
            FieldRef::One(value) => self.see(*value),
            FieldRef::Several(_) => self.text = true,
        }
    }

    /// Adds a value where it lies.
    pub fn see(&mut self, value: ValueRef<'_>) {
        match value {
            ValueRef::Integer(_) => self.integer = true,
            ValueRef::Decimal(_) => self.decimal = true,
            ValueRef::Bool(_) => self.bool = true,
            _ => self.text = true,
        }
    }

    /// Adds what others saw.
    pub fn join(&mut self, other: Kinds) {
        self.integer |= other.integer;
        self.decimal |= other.decimal;
        self.bool |= other.bool;
        self.text |= other.text;
    }

    /// The one type that all values fit, for formats with typed columns.
    pub(crate) fn column(self) -> ColumnType {
        match (self.text, self.bool, self.decimal, self.integer) {
            (false, false, true, _) => ColumnType::Decimal,
            (false, false, false, true) => ColumnType::Integer,
            (false, true, false, false) => ColumnType::Bool,
            _ => ColumnType::Text,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ColumnType {
    Text,
    Integer,
    Decimal,
    Bool,
}

/// What the rows to write have, looked at before the first is written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Survey {
    /// Fields that occur.
    pub fields: BTreeMap<String, Kinds>,
    /// Rows.
    pub rows: u64,
    /// Some have a height.
    pub altitude: bool,
    /// Some have an uncertainty.
    pub uncertainty: bool,
    /// Some are tracks or areas.
    pub shapes: bool,
}

/// How rows are written.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WriteOptions {
    /// The format's word; by the file's ending if absent.
    pub format: Option<String>,
    /// CSV: a byte order mark, for Excel.
    pub bom: bool,
    /// CSV: texts that a spreadsheet would take for a formula as they are.
    pub raw: bool,
    /// CSV: between cells.
    pub delimiter: Option<char>,
}

/// What a whole file is about.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// The project's name.
    pub project: String,
    /// The project's id.
    pub project_id: String,
    /// RFC 3339.
    pub written: String,
    /// Field id -> label.
    pub labels: BTreeMap<String, String>,
    /// What was done to the rows: coordinates rounded, an earlier state.
    pub remarks: Vec<String>,
}

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Rows in the file.
    pub rows: u64,
    /// Rows the format has no place for.
    pub left_out: u64,
    /// What the format could not carry of those written.
    pub notes: BTreeSet<String>,
}

/// Rows on their way into a file: as the bytes they are there, or as they are in the project.
#[derive(Debug, Default)]
pub struct Encoded {
    bytes: Vec<u8>,
    rows: Vec<ExportRow>,
    written: Written,
}

impl Encoded {
    /// What the format could not carry.
    fn note(&mut self, note: &str) {
        if !self.written.notes.contains(note) {
            self.written.notes.insert(note.to_owned());
        }
    }
}

/// What is done with each row before its turn in the file comes; by several threads at once.
pub trait RowEncoder: Send + Sync {
    /// Adds a row to a part.
    ///
    /// # Errors
    /// What the format cannot hold.
    fn encode(&self, id: DocId, seen: &ObservationRef<'_>, part: &mut Encoded) -> Result<(), FormatError>;
}

/// For formats that write rows one after the other.
struct AsTheyAre;

impl RowEncoder for AsTheyAre {
    fn encode(&self, id: DocId, seen: &ObservationRef<'_>, part: &mut Encoded) -> Result<(), FormatError> {
        part.rows.push(ExportRow { id, seen: seen.owned() });
        Ok(())
    }
}

/// Writes rows in one format.
pub trait RowWriter: Send {
    /// What makes parts of rows.
    fn encoder(&self) -> Arc<dyn RowEncoder> {
        Arc::new(AsTheyAre)
    }

    /// The next part, made by [`RowWriter::encoder`].
    ///
    /// # Errors
    /// The disk, or more than the format holds.
    fn put(&mut self, part: &Encoded) -> Result<(), FormatError> {
        part.rows.iter().try_for_each(|row| self.write(row))
    }

    /// One row.
    ///
    /// # Errors
    /// The disk, or more than the format holds.
    fn write(&mut self, row: &ExportRow) -> Result<(), FormatError>;

    /// Writes what comes last; the file is whole after it.
    ///
    /// # Errors
    /// The disk.
    fn finish(self: Box<Self>) -> Result<Written, FormatError>;
}

/// The formats, with their endings.
pub const WRITE_FORMATS: [(&str, &[&str]); 11] = [
    ("csv", &["csv"]),
    ("tsv", &["tsv", "tab"]),
    ("geojson", &["geojson", "json"]),
    ("geojson-seq", &["geojsons", "geojsonl", "ndjson"]),
    ("gpx", &["gpx"]),
    ("kml", &["kml"]),
    ("kmz", &["kmz"]),
    ("gpkg", &["gpkg"]),
    ("dwca", &["dwca.zip", "dwca"]),
    ("xlsx", &["xlsx"]),
    ("shapefile", &["shp.zip", "shp"]),
];

/// The format for a file.
///
/// # Errors
/// No format has that word or ending.
pub fn write_format(path: &Path, told: Option<&str>) -> Result<&'static str, FormatError> {
    let words = || WRITE_FORMATS.iter().map(|(w, _)| *w).collect::<Vec<_>>().join(", ");
    if let Some(told) = told {
        let found = WRITE_FORMATS.iter().find(|(word, endings)| *word == told || endings.contains(&told));
        return found.map(|(w, _)| *w).ok_or_else(|| FormatError::Options(format!("`{told}` is not a format: {}", words())));
    }
    let name = path.file_name().map(|n| n.to_string_lossy().to_lowercase()).unwrap_or_default();
    let ends = |endings: &[&str]| endings.iter().any(|e| name.ends_with(&format!(".{e}")));
    let found = WRITE_FORMATS.iter().find(|(_, endings)| ends(endings));
    found
        .map(|(w, _)| *w)
        .ok_or_else(|| FormatError::Options(format!("the ending of `{name}` tells no format; name one with `--format`: {}", words())))
}

/// `true` for formats whose beginning depends on all rows: those with columns.
pub fn needs_survey(format: &str) -> bool {
    !matches!(format, "geojson" | "geojson-seq" | "gpx" | "kml" | "kmz")
}

/// Begins a file.
///
/// # Errors
/// The disk, or more than the format holds.
pub fn create(
    path: &Path,
    format: &str,
    options: &WriteOptions,
    survey: &Survey,
    about: &About,
) -> Result<Box<dyn RowWriter>, FormatError> {
    Ok(match format {
        "csv" | "tsv" => Box::new(delimited::create(path, format == "tsv", options, survey)?),
        "geojson" => Box::new(geojson::create(path, false)?),
        "geojson-seq" => Box::new(geojson::create(path, true)?),
        "gpx" => Box::new(gpx::Gpx::new(path, about)?),
        "kml" => Box::new(kml::Kml::new(path, false, about)?),
        "kmz" => Box::new(kml::Kml::new(path, true, about)?),
        "gpkg" => Box::new(geopackage::GeoPackage::new(path, survey, about)?),
        "dwca" => Box::new(dwca::Dwca::new(path, survey, about)?),
        "xlsx" => Box::new(xlsx::Xlsx::new(path, survey)?),
        "shapefile" => Box::new(shapefile::ShapeFile::new(path, survey)?),
        other => return Err(FormatError::Options(format!("`{other}` is not a format"))),
    })
}

/// Names that columns of our own have; a field of such a name is written as `field:NAME`, which an import understands.
const OWN: [&str; 12] =
    ["id", "category", "lat", "lon", "altitude", "uncertainty", "time", "note", "wkt", "geometry", "latitude", "longitude"];

/// The name of a field's column.
pub(crate) fn column_name(field: &str) -> Cow<'_, str> {
    const MORE: [&str; 6] = ["x", "y", "lng", "long", "date", "datetime"];
    let taken = OWN.iter().chain(&MORE).any(|own| own.eq_ignore_ascii_case(field));
    if (taken && field != "id") || field.is_empty() || field.starts_with(':') || field.starts_with("field:") {
        return Cow::Owned(format!("field:{field}"));
    }
    Cow::Borrowed(field)
}

/// The field and its value as a number or a word of JSON.
pub(crate) fn json(value: &FieldValue) -> serde_json::Value {
    use serde_json::json;
    match value {
        FieldValue::Several(options) => json!(options),
        FieldValue::One(Value::Text(t)) => json!(t),
        FieldValue::One(Value::Integer(i)) => json!(i),
        FieldValue::One(Value::Decimal(d)) => json!(d),
        FieldValue::One(Value::Bool(b)) => json!(b),
        FieldValue::One(other) => json!(other.display()),
    }
}

/// A shape of one position where the row has no other.
pub(crate) fn shape_of(row: &ExportRow) -> Option<Shape> {
    let point = || row.seen.place.map(|p| Shape::Point(cairn_model::Coord { lon: p.lon, lat: p.lat, altitude: p.altitude, time: None }));
    row.seen.shape.clone().or_else(point)
}

pub(crate) fn io(e: impl std::fmt::Display) -> FormatError {
    FormatError::Io(e.to_string())
}

pub(crate) fn file(path: &Path) -> Result<std::io::BufWriter<std::fs::File>, FormatError> {
    Ok(std::io::BufWriter::with_capacity(256 << 10, std::fs::File::create(path)?))
}

/// Flushes to the disk.
pub(crate) fn settle(out: std::io::BufWriter<std::fs::File>) -> Result<(), FormatError> {
    Ok(out.into_inner().map_err(|e| e.into_error())?.sync_all()?)
}
