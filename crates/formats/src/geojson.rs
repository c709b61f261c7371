//! Geometries as GeoJSON has them.

use cairn_model::{Coord, Shape};
use serde_json::{Value, json};

/// Collections in collections.
const DEPTH: u8 = 8;

/// A geometry object.
pub(crate) fn read(geometry: &Value) -> Result<Shape, String> {
    read_at(geometry, 0)
}

fn read_at(geometry: &Value, depth: u8) -> Result<Shape, String> {
    if depth > DEPTH {
        return Err("geometries in geometries, too deep".into());
    }
    let kind = geometry.get("type").and_then(Value::as_str).unwrap_or_default();
    let coordinates = geometry.get("coordinates").unwrap_or(&Value::Null);
    Ok(match kind {
        "Point" => Shape::Point(coord(coordinates)?),
        "LineString" => Shape::Line(list(coordinates, &coord)?),
        "MultiPoint" => Shape::Points(list(coordinates, &coord)?),
        "Polygon" => Shape::Area(list(coordinates, &|r| list(r, &coord))?),
        "MultiLineString" => Shape::Lines(list(coordinates, &|r| list(r, &coord))?),
        "MultiPolygon" => Shape::Areas(list(coordinates, &|a| list(a, &|r| list(r, &coord)))?),
        "GeometryCollection" => Shape::Several(list(geometry.get("geometries").unwrap_or(&Value::Null), &|g| read_at(g, depth + 1))?),
        other => return Err(format!("`{}` is no kind of geometry", crate::row::short(other))),
    })
}

fn list<T>(value: &Value, item: &dyn Fn(&Value) -> Result<T, String>) -> Result<Vec<T>, String> {
    value.as_array().ok_or("a list of coordinates was expected")?.iter().map(item).collect()
}

fn coord(value: &Value) -> Result<Coord, String> {
    let numbers: Option<Vec<f64>> = value.as_array().and_then(|n| n.iter().map(Value::as_f64).collect());
    match numbers.as_deref() {
        Some([lon, lat]) => Coord::new(*lon, *lat, None),
        Some([lon, lat, altitude, ..]) => Coord::new(*lon, *lat, Some(*altitude)),
        _ => return Err("a position needs a longitude and a latitude".into()),
    }
    .map_err(|e| e.to_string())
}

/// The same, written.
pub fn write(shape: &Shape) -> Value {
    let one = |c: &Coord| match c.altitude {
        Some(a) => json!([c.lon, c.lat, a]),
        None => json!([c.lon, c.lat]),
    };
    let line = |l: &Vec<Coord>| Value::Array(l.iter().map(one).collect());
    let rings = |r: &Vec<Vec<Coord>>| Value::Array(r.iter().map(line).collect());
    match shape {
        Shape::Point(c) => json!({"type": "Point", "coordinates": one(c)}),
        Shape::Line(l) => json!({"type": "LineString", "coordinates": line(l)}),
        Shape::Points(l) => json!({"type": "MultiPoint", "coordinates": line(l)}),
        Shape::Area(r) => json!({"type": "Polygon", "coordinates": rings(r)}),
        Shape::Lines(r) => json!({"type": "MultiLineString", "coordinates": rings(r)}),
        Shape::Areas(a) => json!({"type": "MultiPolygon", "coordinates": a.iter().map(rings).collect::<Vec<_>>()}),
        Shape::Several(parts) => json!({"type": "GeometryCollection", "geometries": parts.iter().map(write).collect::<Vec<_>>()}),
    }
}
