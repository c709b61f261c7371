//! GeoJSON (RFC 7946) with flat properties: a collection with one feature a line, or a sequence (RFC 8142).

use super::{ExportRow, RowWriter, Written, column_name, file, settle};
use crate::FormatError;
use cairn_model::{FieldValue, Instant, Shape, Value};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

pub(super) struct GeoJson {
    out: BufWriter<File>,
    sequence: bool,
    written: Written,
}

impl GeoJson {
    pub fn new(path: &Path, sequence: bool) -> Result<Self, FormatError> {
        let mut out = file(path)?;
        if !sequence {
            out.write_all(b"{\"type\":\"FeatureCollection\",\"features\":[")?;
        }
        Ok(Self { out, sequence, written: Written::default() })
    }

    fn text(&mut self, text: &str) -> Result<(), FormatError> {
        serde_json::to_writer(&mut self.out, text).map_err(super::io)
    }

    fn name(&mut self, name: &str) -> Result<(), FormatError> {
        self.out.write_all(b",")?;
        self.text(name)?;
        Ok(self.out.write_all(b":")?)
    }

    fn value(&mut self, value: &FieldValue) -> Result<(), FormatError> {
        match value {
            FieldValue::One(Value::Text(text)) => self.text(text),
            FieldValue::One(Value::Integer(n)) => Ok(write!(self.out, "{n}")?),
            FieldValue::One(Value::Decimal(n)) if n.is_finite() => serde_json::to_writer(&mut self.out, n).map_err(super::io),
            FieldValue::One(Value::Bool(b)) => Ok(write!(self.out, "{b}")?),
            other => serde_json::to_writer(&mut self.out, &super::json(other)).map_err(super::io),
        }
    }

    fn geometry(&mut self, row: &ExportRow) -> Result<(), FormatError> {
        match (&row.seen.shape, row.seen.place) {
            (Some(shape), _) => serde_json::to_writer(&mut self.out, &crate::geojson::write(shape)).map_err(super::io),
            (None, Some(place)) => {
                write!(self.out, "{{\"type\":\"Point\",\"coordinates\":[{},{}", place.lon, place.lat)?;
                if let Some(altitude) = place.altitude {
                    write!(self.out, ",{altitude}")?;
                }
                Ok(self.out.write_all(b"]}")?)
            }
            (None, None) => Ok(self.out.write_all(b"null")?),
        }
    }

    fn times(&mut self, shape: &Shape) -> Result<(), FormatError> {
        let times: Vec<Option<String>> = shape
            .coords()
            .iter()
            .map(|c| c.time.and_then(|t| Instant::from_unix_ms((t * 1000.0) as i64)).map(|i| i.to_rfc3339()))
            .collect();
        if times.iter().all(Option::is_none) {
            return Ok(());
        }
        self.name("coordTimes")?;
        serde_json::to_writer(&mut self.out, &times).map_err(super::io)
    }
}

impl RowWriter for GeoJson {
    fn write(&mut self, row: &ExportRow) -> Result<(), FormatError> {
        let seen = &row.seen;
        let separator: &[u8] = match (self.sequence, self.written.rows) {
            (true, _) => b"\x1e",
            (false, 0) => b"\n",
            (false, _) => b",\n",
        };
        self.out.write_all(separator)?;
        write!(self.out, "{{\"type\":\"Feature\",\"id\":\"{}\",\"geometry\":", row.id)?;
        self.geometry(row)?;
        self.out.write_all(b",\"properties\":{\"category\":")?;
        self.text(&seen.category)?;
        for (name, value) in [("time", &seen.at), ("note", &seen.note)] {
            if let Some(value) = value {
                self.name(name)?;
                self.text(value)?;
            }
        }
        if let Some(metres) = seen.place.and_then(|p| p.uncertainty) {
            self.name("uncertainty")?;
            write!(self.out, "{metres}")?;
        }
        for (field, value) in &seen.fields {
            self.name(&column_name(field))?;
            self.value(value)?;
        }
        if let Some(shape) = &seen.shape {
            self.times(shape)?;
        }
        self.out.write_all(if self.sequence { b"}}\n" } else { b"}}" })?;
        self.written.rows += 1;
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<Written, FormatError> {
        if !self.sequence {
            self.out.write_all(b"\n]}\n")?;
        }
        settle(self.out)?;
        Ok(self.written)
    }
}
