//! Pairs of observations that are both meant, side by side in one row: what agreement between raters is computed from.

use crate::export::{Rounding, about};
use crate::request::{ExportRequest, Reply};
use crate::workshop::Making;
use crate::{Node, NodeError};
use cairn_formats::{ExportRow, FormatError, Survey, create, write_format};
use cairn_model::{FieldRef, FieldValue, Observation, ObservationRef, Value};
use cairn_store::{DocView, Store};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;

/// Columns that are no fields.
const OWN: [&str; 9] = ["id", "category", "device", "time", "note", "lat", "lon", "altitude", "uncertainty"];

/// Everything one rater said, under the name of its column.
fn said(store: &Store, view: &DocView) -> BTreeMap<String, FieldValue> {
    let one = |text: String| FieldValue::One(Value::Text(text));
    let seen = &view.seen;
    let mut out = BTreeMap::from([
        ("id".to_owned(), one(view.id.to_string())),
        ("category".to_owned(), one(seen.category.clone())),
        ("device".to_owned(), one(view.created_by.map(|d| store.device_name(&d)).unwrap_or_default())),
    ]);
    out.extend(seen.at.clone().map(|at| ("time".to_owned(), one(at))));
    out.extend(seen.note.clone().map(|note| ("note".to_owned(), one(note))));
    if let Some(place) = seen.place {
        out.insert("lat".into(), FieldValue::One(Value::Decimal(place.lat)));
        out.insert("lon".into(), FieldValue::One(Value::Decimal(place.lon)));
        let metres = [("altitude", place.altitude), ("uncertainty", place.uncertainty)];
        out.extend(metres.into_iter().filter_map(|(name, value)| Some((name.to_owned(), FieldValue::One(Value::Decimal(value?))))));
    }
    // A field that is called like one of the above keeps its own name apart.
    out.extend(seen.fields.iter().map(|(name, value)| {
        let own = if OWN.contains(&name.as_str()) { format!("field {name}") } else { name.clone() };
        (own, value.clone())
    }));
    out
}

/// One row: the first one's place and time, and `NAME.1`, `NAME.2` of everything.
fn row(store: &Store, first: &DocView, second: &DocView) -> ExportRow {
    let mut fields = BTreeMap::new();
    for (number, view) in [(1, first), (2, second)] {
        fields.extend(said(store, view).into_iter().map(|(name, value)| (format!("{name}.{number}"), value)));
    }
    let seen = Observation {
        category: first.seen.category.clone(),
        at: first.seen.at.clone(),
        place: first.seen.place,
        fields,
        ..Observation::default()
    };
    ExportRow { id: first.id, seen }
}

fn coarse(view: &mut DocView, rounding: Option<Rounding>) {
    if let Some(rounding) = rounding {
        let mut seen = ObservationRef::from(&view.seen);
        rounding.apply(&mut seen);
        view.seen = seen.owned();
    }
}

pub(crate) fn export_pairs(node: &Node, request: &ExportRequest) -> Result<Reply, NodeError> {
    let path = Path::new(&request.file);
    let fault = |e: FormatError| NodeError::format(path, &e);
    let format = write_format(path, request.write.format.as_deref()).map_err(fault)?;
    if request.as_of.is_some() {
        return Err(NodeError::input("--pairs is of now: leave --as-of away"));
    }
    let rounding = request.round.as_deref().map(Rounding::parse).transpose()?;
    let store = node.store();
    let filter = crate::reading::filter(&store, &request.filter)?;
    let chosen: std::collections::BTreeSet<_> = store.list(&filter)?.observations.into_iter().map(|o| o.id).collect();
    let (mut rows, mut survey, mut shapes) = (Vec::new(), Survey::default(), 0);
    for (a, b) in store.meant_pairs()? {
        let (Some(mut first), Some(mut second)) = (store.observation(&a)?, store.observation(&b)?) else { continue };
        if !chosen.contains(&a) && !chosen.contains(&b) {
            continue;
        }
        coarse(&mut first, rounding);
        coarse(&mut second, rounding);
        let row = row(&store, &first, &second);
        for (name, value) in &ObservationRef::from(&row.seen).fields {
            let value: &FieldRef<'_> = value;
            survey.fields.entry(name.to_string()).or_default().add(value);
            // Both sides have the column, also where one of them never said anything.
            let other = match name.rsplit_once('.') {
                Some((stem, "1")) => format!("{stem}.2"),
                Some((stem, _)) => format!("{stem}.1"),
                None => continue,
            };
            survey.fields.entry(other).or_default().add(value);
        }
        survey.rows += 1;
        shapes += usize::from(first.seen.shape.is_some() || second.seen.shape.is_some());
        rows.push(row);
    }
    rows.sort_by(|a, b| (&a.seen.at, a.id).cmp(&(&b.seen.at, b.id)));
    let making = Making::of(path).map_err(|e| NodeError::io(path, &e))?;
    let mut writer = create(making.path(), format, &request.write, &survey, &about(&store, request)?).map_err(fault)?;
    rows.iter().try_for_each(|row| writer.write(row)).map_err(fault)?;
    let written = writer.finish().map_err(fault)?;
    making.finish().map_err(|e| NodeError::io(path, &e))?;
    let mut reply =
        Reply::new(json!({"file": request.file, "format": format, "exported": written.rows, "left_out": written.left_out, "pairs": true}));
    reply.warnings.extend(written.notes);
    if shapes > 0 {
        reply.warnings.push(format!("{shapes} pairs have a track or an area: only where it begins is written"));
    }
    Ok(reply)
}
