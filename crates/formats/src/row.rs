//! One row of any format, and what its columns are taken for.

use cairn_model::{Instant, Place};
use std::collections::BTreeMap;

/// A file that cannot be read as what it should be. Nothing of it is taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Bytes that are no UTF-8 text.
    #[error("line {line}, column {column}: the text is not UTF-8; save the file as UTF-8 and import again")]
    NotUtf8 {
        /// From 1.
        line: u64,
        /// Cell, from 1.
        column: u64,
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
    /// The disk.
    #[error("{0}")]
    Io(String),
}

/// One row that cannot be taken; the others can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowFault {
    /// Line in the file (or number of the feature), from 1.
    pub line: u64,
    /// Column name and what is wrong.
    pub reason: String,
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
}

/// One observation to be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// Line in the file (or number of the feature), from 1.
    pub line: u64,
    /// Category id.
    pub category: Option<String>,
    /// Position.
    pub place: Option<Place>,
    /// Time.
    pub at: Option<Instant>,
    /// Note.
    pub note: Option<String>,
    /// Fields by name.
    pub fields: Vec<(String, Cell)>,
}

/// What a column is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    Lat,
    Lon,
    Altitude,
    Time,
    Category,
    Note,
    Field(String),
}

/// Column name -> what it is taken for: `lat`, `lon`, `time`, `category`, `note`, or a field.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mapping(pub BTreeMap<String, String>);

impl Mapping {
    pub(crate) fn meaning(&self, column: &str) -> Meaning {
        let mapped = self.0.get(column);
        let name = mapped.map_or(column, String::as_str).trim();
        match name.to_lowercase().as_str() {
            "lat" | "latitude" | "y" => Meaning::Lat,
            "lon" | "lng" | "long" | "longitude" | "x" => Meaning::Lon,
            "altitude" if mapped.is_some() => Meaning::Altitude,
            "time" | "date" | "datetime" => Meaning::Time,
            "category" => Meaning::Category,
            "note" => Meaning::Note,
            _ => Meaning::Field(name.to_owned()),
        }
    }
}

/// Collects the parts of one row and checks them together.
#[derive(Default)]
pub(crate) struct Draft {
    pub row: Row,
    lat: Option<f64>,
    lon: Option<f64>,
    altitude: Option<f64>,
}

impl Draft {
    pub fn put(&mut self, meaning: &Meaning, column: &str, cell: Cell) -> Result<(), String> {
        let text = match &cell {
            Cell::Text(t) => t.clone(),
            Cell::Number(n) => n.to_string(),
            Cell::Integer(i) => i.to_string(),
            Cell::Bool(b) => b.to_string(),
        };
        if text.trim().is_empty() {
            return Ok(());
        }
        let number = || text.trim().parse::<f64>().map_err(|_| format!("column `{column}`: `{text}` is not a number"));
        match meaning {
            Meaning::Lat => self.lat = Some(number()?),
            Meaning::Lon => self.lon = Some(number()?),
            Meaning::Altitude => self.altitude = Some(number()?),
            Meaning::Time => self.row.at = Some(time(&cell, &text).ok_or_else(|| format!("column `{column}`: `{text}` is not a time"))?),
            Meaning::Category => self.row.category = Some(text.trim().to_owned()),
            Meaning::Note => self.row.note = Some(text),
            Meaning::Field(name) if name.is_empty() => {}
            Meaning::Field(name) => self.row.fields.push((name.clone(), cell)),
        }
        Ok(())
    }

    pub fn finish(mut self) -> Result<Row, String> {
        match (self.lat, self.lon) {
            (Some(lat), Some(lon)) => {
                let place = Place::new(lat, lon).map_err(|e| e.to_string())?;
                let place = self.altitude.map_or(Ok(place), |a| place.with_altitude(a)).map_err(|e| e.to_string())?;
                self.row.place = Some(place);
            }
            (None, None) => {}
            (Some(_), None) => return Err("a latitude without a longitude".into()),
            (None, Some(_)) => return Err("a longitude without a latitude".into()),
        }
        Ok(self.row)
    }
}

/// Texts people write, or milliseconds since 1970 where the file has a number.
fn time(cell: &Cell, text: &str) -> Option<Instant> {
    match cell {
        Cell::Integer(ms) => Instant::from_unix_ms(*ms),
        Cell::Number(ms) => Instant::from_unix_ms(*ms as i64),
        _ => Instant::parse(text).ok(),
    }
}
