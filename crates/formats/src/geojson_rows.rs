//! Features of a GeoJSON file (RFC 7946).

use crate::row::{Cell, Draft, Meaning};
use crate::{FormatError, Mapping, Row, RowFault};
use serde_json::Value;
use std::io::Read;

/// Bytes of a GeoJSON file: it is read whole, unlike CSV.
const FILE_BYTES: u64 = 512 << 20;

/// Reads a FeatureCollection or a single Feature. Features that are no point, or whose parts do not fit, are faults;
/// a file that is not GeoJSON is an error.
pub fn read_geojson(input: impl Read, mapping: &Mapping) -> Result<Vec<Result<Row, RowFault>>, FormatError> {
    let mut text = Vec::new();
    input.take(FILE_BYTES + 1).read_to_end(&mut text).map_err(|e| FormatError::Io(e.to_string()))?;
    let broken = |line: u64, column: u64, reason: String| Err(FormatError::Structure { line, column, reason });
    if text.len() as u64 > FILE_BYTES {
        return broken(1, 1, "the file has more than 512 MiB; split it".into());
    }
    let root: Value = match serde_json::from_slice(&text) {
        Ok(root) => root,
        Err(e) => return broken(e.line() as u64, e.column() as u64, format!("not JSON: {e}")),
    };
    match (root.get("type").and_then(Value::as_str), root.get("features")) {
        (Some("FeatureCollection"), Some(Value::Array(features))) => {
            Ok(features.iter().enumerate().map(|(n, f)| feature(n as u64 + 1, f, mapping)).collect())
        }
        (Some("Feature"), _) => Ok(vec![feature(1, &root, mapping)]),
        _ => broken(1, 1, "not GeoJSON: a FeatureCollection or a Feature was expected".into()),
    }
}

fn feature(number: u64, feature: &Value, mapping: &Mapping) -> Result<Row, RowFault> {
    let fault = |reason: String| RowFault { line: number, reason };
    if feature.get("type").and_then(Value::as_str) != Some("Feature") {
        return Err(fault("not a Feature".into()));
    }
    let mut draft = Draft::default();
    draft.row.line = number;
    position(feature.get("geometry").unwrap_or(&Value::Null), &mut draft).map_err(fault)?;
    if let Some(id) = feature.get("id").and_then(cell) {
        draft.put(&Meaning::Field("id".into()), "id", id).map_err(fault)?;
    }
    for (name, value) in feature.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let value = cell(value).or_else(|| (!value.is_null()).then(|| Cell::Text(value.to_string())));
        if let Some(value) = value {
            draft.put(&mapping.meaning(name), name, value).map_err(fault)?;
        }
    }
    draft.finish().map_err(fault)
}

fn position(geometry: &Value, draft: &mut Draft) -> Result<(), String> {
    if geometry.is_null() {
        return Ok(());
    }
    let kind = geometry.get("type").and_then(Value::as_str).unwrap_or("no type");
    if kind != "Point" {
        return Err(format!("geometry {kind}: only points are taken in this version"));
    }
    let numbers: Vec<f64> = geometry.get("coordinates").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_f64).collect();
    let [lon, lat, rest @ ..] = numbers.as_slice() else { return Err("a point needs a longitude and a latitude".into()) };
    draft.put(&Meaning::Lon, "longitude", Cell::Number(*lon))?;
    draft.put(&Meaning::Lat, "latitude", Cell::Number(*lat))?;
    match rest.first() {
        Some(altitude) => draft.put(&Meaning::Altitude, "altitude", Cell::Number(*altitude)),
        None => Ok(()),
    }
}

fn cell(value: &Value) -> Option<Cell> {
    match value {
        Value::Bool(b) => Some(Cell::Bool(*b)),
        Value::String(s) => Some(Cell::Text(s.clone())),
        Value::Number(n) => n.as_i64().map(Cell::Integer).or(n.as_f64().map(Cell::Number)),
        // A list of texts is several options chosen; `export` writes them so.
        Value::Array(items) if items.iter().all(Value::is_string) => {
            Some(Cell::Text(items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(";")))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_become_rows_with_typed_cells() {
        let text = r#"{"type":"FeatureCollection","features":[
            {"type":"Feature","id":"ak1","geometry":{"type":"Point","coordinates":[-150.5,61.2,12]},"properties":{"mag":1.5,"time":1551000000000,"felt":null,"codes":["a"]}},
            {"type":"Feature","geometry":{"type":"LineString","coordinates":[]},"properties":{}},
            {"type":"Feature","geometry":null,"properties":null}]}"#;
        let rows = read_geojson(text.as_bytes(), &Mapping::default()).unwrap();
        let first = rows[0].as_ref().unwrap();
        assert_eq!(first.place.unwrap().to_geo(), "geo:61.2,-150.5,12");
        assert_eq!(first.at.unwrap().unix_ms(), 1_551_000_000_000);
        assert_eq!(first.fields[1], ("mag".into(), Cell::Number(1.5)));
        assert!(rows[1].as_ref().unwrap_err().reason.contains("LineString"));
        assert_eq!(rows[2].as_ref().unwrap().place, None);
    }

    #[test]
    fn what_is_not_geojson_is_refused_with_its_place() {
        let refused = |t: &str| read_geojson(t.as_bytes(), &Mapping::default()).unwrap_err();
        assert!(matches!(refused("{\"type\":\n oops"), FormatError::Structure { line: 2, .. }));
        assert!(matches!(refused("[1]"), FormatError::Structure { line: 1, .. }));
    }
}
