//! GeoJSON (RFC 7946) with flat properties: a collection with one feature a line, or a sequence (RFC 8142).

use super::text::TextFile;
use super::{Encoded, RowEncoder, Written, column_name, file};
use crate::FormatError;
use cairn_model::{DocId, FieldRef, Instant, ObservationRef, Shape, ValueRef};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

/// One feature.
pub(super) struct Feature {
    sequence: bool,
}

pub(super) fn create(path: &Path, sequence: bool) -> Result<TextFile<Feature>, FormatError> {
    let mut out = file(path)?;
    if !sequence {
        out.write_all(b"{\"type\":\"FeatureCollection\",\"features\":[")?;
    }
    let (between, end): (_, &[u8]) = if sequence { (0, b"") } else { (1, b"\n]}\n") };
    Ok(TextFile { out, encoder: Arc::new(Feature { sequence }), between, end, written: Written::default() })
}

fn text(out: &mut Vec<u8>, text: &str) -> Result<(), FormatError> {
    serde_json::to_writer(out, text).map_err(super::io)
}

fn name(out: &mut Vec<u8>, name: &str) -> Result<(), FormatError> {
    out.push(b',');
    text(out, name)?;
    out.push(b':');
    Ok(())
}

fn value(out: &mut Vec<u8>, value: &FieldRef<'_>) -> Result<(), FormatError> {
    match value {
        FieldRef::One(ValueRef::Text(t)) => text(out, t),
        FieldRef::One(ValueRef::Integer(n)) => Ok(write!(out, "{n}")?),
        FieldRef::One(ValueRef::Decimal(n)) if n.is_finite() => serde_json::to_writer(out, n).map_err(super::io),
        FieldRef::One(ValueRef::Bool(b)) => Ok(write!(out, "{b}")?),
        other => serde_json::to_writer(out, &super::json(&other.owned())).map_err(super::io),
    }
}

fn geometry(out: &mut Vec<u8>, seen: &ObservationRef<'_>) -> Result<(), FormatError> {
    match (&seen.shape, seen.place) {
        (Some(shape), _) => serde_json::to_writer(out, &crate::geojson::write(shape)).map_err(super::io),
        (None, Some(place)) => {
            write!(out, "{{\"type\":\"Point\",\"coordinates\":[{},{}", place.lon, place.lat)?;
            if let Some(altitude) = place.altitude {
                write!(out, ",{altitude}")?;
            }
            Ok(out.write_all(b"]}")?)
        }
        (None, None) => Ok(out.write_all(b"null")?),
    }
}

fn times(out: &mut Vec<u8>, shape: &Shape) -> Result<(), FormatError> {
    let times: Vec<Option<String>> =
        shape.coords().iter().map(|c| c.time.and_then(|t| Instant::from_unix_ms((t * 1000.0) as i64)).map(|i| i.to_rfc3339())).collect();
    if times.iter().all(Option::is_none) {
        return Ok(());
    }
    name(out, "coordTimes")?;
    serde_json::to_writer(out, &times).map_err(super::io)
}

impl RowEncoder for Feature {
    fn encode(&self, id: DocId, seen: &ObservationRef<'_>, part: &mut Encoded) -> Result<(), FormatError> {
        let out = &mut part.bytes;
        out.extend_from_slice(if self.sequence { b"\x1e" } else { b",\n" });
        let mut hex = [0; 32];
        let id = data_encoding::HEXLOWER.encode_mut_str(&id.0, &mut hex);
        write!(out, "{{\"type\":\"Feature\",\"id\":\"{id}\",\"geometry\":")?;
        geometry(out, seen)?;
        out.extend_from_slice(b",\"properties\":{\"category\":");
        text(out, seen.category)?;
        for (key, value) in [("time", seen.at), ("note", seen.note)] {
            if let Some(value) = value {
                name(out, key)?;
                text(out, value)?;
            }
        }
        if let Some(metres) = seen.place.and_then(|p| p.uncertainty) {
            name(out, "uncertainty")?;
            write!(out, "{metres}")?;
        }
        for (field, shown) in &seen.fields {
            name(out, &column_name(field))?;
            value(out, shown)?;
        }
        if let Some(shape) = seen.shape.as_deref() {
            times(out, shape)?;
        }
        out.extend_from_slice(if self.sequence { b"}}\n" } else { b"}}" });
        part.written.rows += 1;
        Ok(())
    }
}
