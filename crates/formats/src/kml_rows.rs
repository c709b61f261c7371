//! Placemarks of a KML file (2.2, with Google's tracks), alone or in a KMZ. Network links are not followed.

use crate::row::{Cell, CellFault, Draft, Reading, coord};
use crate::rows::{Ready, RowResult, Rows};
use crate::xml::{Element, Node, Xml, decode, whole_text};
use crate::{FormatError, ReadOptions};
use cairn_model::{Coord, Instant, Shape};
use std::io::Read;
use std::path::Path;

/// Reads every placemark.
pub(crate) fn read(input: Box<dyn Read + Send>, options: &ReadOptions) -> Result<Box<dyn Rows>, FormatError> {
    placemarks(&whole_text(input, options.encoding.as_deref())?, options)
}

/// Reads the document of a KMZ: `doc.kml`, or the first one at the root.
pub(crate) fn read_zipped(path: &Path, options: &ReadOptions) -> Result<Box<dyn Rows>, FormatError> {
    let mut zip = crate::archive::Archive::open(path)?;
    let mut names: Vec<String> = zip.names().into_iter().filter(|n| n.to_lowercase().ends_with(".kml")).collect();
    names.sort_by_key(|n| (n != "doc.kml", n.matches('/').count(), n.clone()));
    let name = names.first().ok_or_else(|| FormatError::part("the archive", "there is no .kml file in it"))?;
    let raw = zip.read(name, crate::xml::FILE_BYTES)?;
    placemarks(&decode(raw, options.encoding.as_deref())?, options)
}

fn placemarks(text: &str, options: &ReadOptions) -> Result<Box<dyn Rows>, FormatError> {
    let reading = Reading::new(options)?;
    let mut xml = Xml::new(text);
    let mut out: Vec<RowResult> = Vec::new();
    let mut notes = Vec::new();
    let mut is_kml = false;
    loop {
        match xml.next(&[
            "Placemark",
            "NetworkLink",
            "Style",
            "StyleMap",
            "Schema",
            "Point",
            "LineString",
            "Polygon",
            "MultiGeometry",
            "Track",
        ])? {
            Node::Whole(element) if element.name == "Placemark" => out.push(Ok(row(&reading, &element, out.len() as u64 + 1))),
            Node::Whole(element) if element.name == "NetworkLink" => {
                if notes.is_empty() {
                    notes.push("links to other files were not followed".to_owned());
                }
            }
            // A geometry that stands in no placemark is one without a name.
            Node::Whole(element) if !matches!(element.name.as_str(), "Style" | "StyleMap" | "Schema") => {
                let placemark = Element { children: vec![element], ..Element::default() };
                out.push(Ok(row(&reading, &placemark, out.len() as u64 + 1)));
            }
            Node::Start(name) => is_kml |= name == "kml" || name == "Document" || name == "Folder",
            Node::Whole(_) | Node::End => {}
            Node::EndOfFile => break,
        }
    }
    if !is_kml && out.is_empty() {
        return Err(FormatError::line(1, "not KML: there is no `kml` element"));
    }
    Ok(Box::new(Ready(out.into_iter(), notes)))
}

fn row(reading: &Reading, element: &Element, number: u64) -> Result<crate::Row, crate::RowFault> {
    let mut draft = reading.draft(number);
    match fill(reading, element, &mut draft) {
        Ok(()) => draft.finish(),
        Err(fault) => Err(draft.fault(fault)),
    }
}

fn fill(reading: &Reading, placemark: &Element, draft: &mut Draft<'_>) -> Result<(), CellFault> {
    let put = |draft: &mut Draft<'_>, name: &str, text: &str| draft.put(&reading.column(name), Cell::Text(text.to_owned()));
    for (name, column) in [("name", "name"), ("description", "note"), ("address", "address"), ("phoneNumber", "phone")] {
        if let Some(text) = placemark.text_of(name) {
            put(draft, column, text)?;
        }
    }
    for data in placemark.all("ExtendedData") {
        for value in data.all("Data") {
            put(draft, value.attribute("name").unwrap_or_default(), value.text_of("value").unwrap_or_default())?;
        }
        for value in data.all("SchemaData").flat_map(|s| s.all("SimpleData")) {
            put(draft, value.attribute("name").unwrap_or_default(), value.text.trim())?;
        }
    }
    let shapes = shapes(placemark)?;
    let moment = placemark.child("TimeStamp").and_then(|t| t.text_of("when"));
    let span = placemark.child("TimeSpan");
    if let Some(text) = moment.or_else(|| span.and_then(|s| s.text_of("begin"))) {
        put(draft, "time", &full_date(text))?;
    } else if let Some(moment) = shapes.first().and_then(Shape::first).and_then(|c| c.time) {
        draft.row.at = Instant::from_unix_ms((moment * 1000.0) as i64).map_or(crate::Part::Absent, crate::Part::Set);
    }
    if let Some(end) = span.and_then(|s| s.text_of("end")) {
        put(draft, "until", end)?;
    }
    match shapes.len() {
        0 => Ok(()),
        1 => draft.shape(shapes.into_iter().next().unwrap_or(Shape::Points(Vec::new()))),
        _ => draft.shape(together(shapes)),
    }
}

/// KML's years and months are days here.
fn full_date(text: &str) -> String {
    match text.len() {
        4 => format!("{text}-01-01"),
        7 => format!("{text}-01"),
        _ => text.to_owned(),
    }
}

/// Shapes of one kind are a shape of several parts.
fn together(shapes: Vec<Shape>) -> Shape {
    let mut lines = Vec::new();
    let mut points = Vec::new();
    let mut areas = Vec::new();
    for shape in &shapes {
        match shape {
            Shape::Line(l) => lines.push(l.clone()),
            Shape::Point(c) => points.push(*c),
            Shape::Area(a) => areas.push(a.clone()),
            _ => return Shape::Several(shapes),
        }
    }
    match (points.len(), lines.len(), areas.len()) {
        (_, 0, 0) => Shape::Points(points),
        (0, _, 0) => Shape::Lines(lines),
        (0, 0, _) => Shape::Areas(areas),
        _ => Shape::Several(shapes),
    }
}

fn shapes(parent: &Element) -> Result<Vec<Shape>, CellFault> {
    let mut out = Vec::new();
    for child in &parent.children {
        match child.name.as_str() {
            "Point" => out.push(Shape::Point(*coordinates(child)?.first().ok_or((None, "a point without coordinates".into()))?)),
            "LineString" => out.push(Shape::Line(coordinates(child)?)),
            "LinearRing" => out.push(Shape::Area(vec![coordinates(child)?])),
            "Polygon" => {
                let rings = ["outerBoundaryIs", "innerBoundaryIs"].into_iter().flat_map(|side| child.all(side).collect::<Vec<_>>());
                let rings = rings.flat_map(|b| b.all("LinearRing")).map(coordinates).collect::<Result<Vec<_>, _>>()?;
                out.push(Shape::Area(rings));
            }
            "MultiGeometry" | "MultiTrack" => out.extend(shapes(child)?),
            "Track" => out.push(Shape::Line(track(child)?)),
            _ => {}
        }
    }
    Ok(out)
}

/// `lon,lat[,alt]` with white space between.
fn coordinates(element: &Element) -> Result<Vec<Coord>, CellFault> {
    let text = element.text_of("coordinates").unwrap_or_default();
    text.split_whitespace().map(|t| numbers(t.split(','))).collect()
}

fn numbers<'a>(parts: impl Iterator<Item = &'a str>) -> Result<Coord, CellFault> {
    let read = |t: &str| t.trim().parse::<f64>().map_err(|_| (None, format!("coordinate `{}` is not a number", crate::row::short(t))));
    let found = parts.filter(|t| !t.trim().is_empty()).map(read).collect::<Result<Vec<f64>, CellFault>>()?;
    match found.as_slice() {
        [lon, lat] => coord(*lon, *lat, None),
        [lon, lat, altitude, ..] => coord(*lon, *lat, Some(*altitude)),
        _ => Err((None, "a position needs a longitude and a latitude".into())),
    }
}

fn track(element: &Element) -> Result<Vec<Coord>, CellFault> {
    let times: Vec<Option<f64>> =
        element.all("when").map(|w| Instant::parse(w.text.trim()).ok().map(|i| i.unix_ms() as f64 / 1000.0)).collect();
    let places = element.all("coord").map(|c| numbers(c.text.split_whitespace()));
    places.enumerate().map(|(n, c)| Ok(c?.with_time(times.get(n).copied().flatten()))).collect()
}
