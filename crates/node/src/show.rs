//! The JSON shapes of the command line.

use cairn_model::{FieldValue, Value};
use cairn_store::{ConflictEntry, DocView, Store};
use serde_json::{Map, json};

/// What people must know before they open a project.
pub(crate) const OPEN_PROJECT: &str = "whoever has the configuration file can read and write everything, for good: what was read cannot be taken back, and a device that is removed can enter again under another key";

/// A value as JSON; bytes as hex text.
pub(crate) fn value(v: &Value) -> serde_json::Value {
    match v {
        Value::Text(t) => json!(t),
        Value::Integer(i) => json!(i),
        Value::Decimal(d) => json!(d),
        Value::Bool(b) => json!(b),
        other => json!(other.display()),
    }
}

/// `{id, key, values[{value, device, time}]}`
pub(crate) fn conflict(entry: &ConflictEntry) -> serde_json::Value {
    let values: Vec<serde_json::Value> = entry
        .values
        .iter()
        .map(|v| {
            let time = cairn_model::Instant::from_unix_ms(v.time_ms).map(|i| i.to_rfc3339());
            json!({"value": v.value.as_ref().map(value), "device": v.device.map(|d| d.to_string()), "time": time})
        })
        .collect();
    json!({"id": entry.id.to_string(), "key": entry.key, "values": values})
}

/// An observation as `show` and `list` print it: alike on all devices.
pub(crate) fn observation(o: &DocView) -> serde_json::Value {
    let mut fields = Map::new();
    for (name, v) in &o.seen.fields {
        let shown = match v {
            FieldValue::One(v) => value(v),
            FieldValue::Several(options) => json!(options),
        };
        fields.insert(name.clone(), shown);
    }
    let mut out = json!({
        "id": o.id.to_string(),
        "category": o.seen.category,
        "lat": o.seen.place.map(|p| p.lat),
        "lon": o.seen.place.map(|p| p.lon),
        "time": o.seen.at,
        "fields": fields,
        "note": o.seen.note,
        "deleted": o.seen.deleted,
        "conflicts": o.conflicts.iter().map(conflict).collect::<Vec<_>>(),
        "created_by": o.created_by.map(|d| d.to_string()),
        "version": o.version,
    });
    if let Some(shape) = &o.seen.shape {
        out["geometry"] = cairn_formats::geojson_geometry(shape);
    }
    if let Some(dataset) = &o.seen.dataset {
        out["dataset"] = json!(dataset.name);
    }
    if !o.seen.both.is_empty() {
        out["both_meant_with"] = json!(o.seen.both.iter().map(ToString::to_string).collect::<Vec<_>>());
    }
    if o.seen.purged {
        out["purged"] = json!(true);
    }
    if let Some(made) = &o.seen.made_with {
        out["configuration_version"] = json!(made.to_string());
    }
    if let Some(altitude) = o.seen.place.and_then(|p| p.altitude) {
        out["altitude"] = json!(altitude);
    }
    if let Some(metres) = o.seen.place.and_then(|p| p.uncertainty) {
        out["uncertainty"] = json!(metres);
    }
    out
}

/// Feeds with their tips, for `status`.
pub(crate) fn frontier(store: &Store) -> Result<serde_json::Value, cairn_store::StoreError> {
    let tips = store.frontier()?;
    Ok(tips.iter().map(|t| json!({"feed": t.feed.to_string(), "seq": t.seq, "tip": cairn_model::hex(&t.hash.0)})).collect())
}
