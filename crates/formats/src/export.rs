//! Writing rows, one at a time.

use crate::FormatError;
use serde_json::{Map, Value, json};
use std::io::Write;

/// One field of an exported observation.
#[derive(Clone, Debug, PartialEq)]
pub struct ExportField {
    /// Field id.
    pub name: String,
    /// As JSON.
    pub value: Value,
    /// As a CSV cell.
    pub text: String,
}

/// One observation to write.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExportRow {
    /// Id, in full.
    pub id: String,
    /// Category id.
    pub category: String,
    /// Latitude, degrees.
    pub lat: Option<f64>,
    /// Longitude, degrees.
    pub lon: Option<f64>,
    /// Metres.
    pub altitude: Option<f64>,
    /// RFC 3339.
    pub time: Option<String>,
    /// Note.
    pub note: Option<String>,
    /// Fields.
    pub fields: Vec<ExportField>,
}

fn io(e: impl std::fmt::Display) -> FormatError {
    FormatError::Io(e.to_string())
}

/// CSV with the columns `id, category, lat, lon, time, note` and one for every field.
pub struct CsvExport<W: Write> {
    out: csv::Writer<W>,
    fields: Vec<String>,
}

impl<W: Write> CsvExport<W> {
    /// Writes the header. `fields` are the columns after the fixed ones.
    pub fn new(out: W, fields: Vec<String>) -> Result<Self, FormatError> {
        let mut out = csv::Writer::from_writer(out);
        let fixed = ["id", "category", "lat", "lon", "time", "note"];
        out.write_record(fixed.into_iter().chain(fields.iter().map(String::as_str))).map_err(io)?;
        Ok(Self { out, fields })
    }

    /// One line.
    pub fn write(&mut self, row: &ExportRow) -> Result<(), FormatError> {
        let number = |n: Option<f64>| n.map(|n| n.to_string()).unwrap_or_default();
        let mut cells = vec![row.id.clone(), row.category.clone(), number(row.lat), number(row.lon)];
        cells.extend([row.time.clone().unwrap_or_default(), row.note.clone().unwrap_or_default()]);
        for name in &self.fields {
            cells.push(row.fields.iter().find(|f| f.name == *name).map(|f| f.text.clone()).unwrap_or_default());
        }
        self.out.write_record(&cells).map_err(io)
    }

    /// Flushes; gives the output back.
    pub fn finish(self) -> Result<W, FormatError> {
        self.out.into_inner().map_err(io)
    }
}

/// A GeoJSON FeatureCollection, one feature a line.
pub struct GeoJsonExport<W: Write> {
    out: W,
    first: bool,
}

impl<W: Write> GeoJsonExport<W> {
    /// Writes the beginning.
    pub fn new(mut out: W) -> Result<Self, FormatError> {
        out.write_all(b"{\"type\":\"FeatureCollection\",\"features\":[").map_err(io)?;
        Ok(Self { out, first: true })
    }

    /// One feature; without a position its geometry is null, as RFC 7946 asks.
    pub fn write(&mut self, row: &ExportRow) -> Result<(), FormatError> {
        let mut properties = Map::new();
        properties.insert("category".into(), json!(row.category));
        for (key, value) in [("time", &row.time), ("note", &row.note)] {
            if let Some(value) = value {
                properties.insert(key.into(), json!(value));
            }
        }
        for field in &row.fields {
            properties.entry(field.name.clone()).or_insert_with(|| field.value.clone());
        }
        let geometry = match (row.lat, row.lon, row.altitude) {
            (Some(lat), Some(lon), Some(alt)) => json!({"type": "Point", "coordinates": [lon, lat, alt]}),
            (Some(lat), Some(lon), None) => json!({"type": "Point", "coordinates": [lon, lat]}),
            _ => Value::Null,
        };
        let feature = json!({"type": "Feature", "id": row.id, "geometry": geometry, "properties": properties});
        let separator: &[u8] = if std::mem::replace(&mut self.first, false) { b"\n" } else { b",\n" };
        self.out.write_all(separator).map_err(io)?;
        serde_json::to_writer(&mut self.out, &feature).map_err(io)
    }

    /// Writes the end; gives the output back.
    pub fn finish(mut self) -> Result<W, FormatError> {
        self.out.write_all(b"\n]}\n").map_err(io)?;
        self.out.flush().map_err(io)?;
        Ok(self.out)
    }
}
