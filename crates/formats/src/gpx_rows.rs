//! Waypoints, routes and tracks of a GPX file (1.0 and 1.1).

use crate::row::{Cell, CellFault, Draft, Reading, coord};
use crate::rows::{Ready, RowResult, Rows};
use crate::xml::{Element, Node, Xml, whole_text};
use crate::{FormatError, ReadOptions};
use cairn_model::{Coord, Instant, Shape};
use std::io::Read;

/// Texts a waypoint, route or track has, and which field each becomes.
const TEXTS: [&str; 6] = ["name", "cmt", "src", "sym", "type", "number"];

/// Reads all of them: a waypoint is a position, a route a line, a track a line for each of its segments.
pub(crate) fn read(input: Box<dyn Read + Send>, options: &ReadOptions) -> Result<Box<dyn Rows>, FormatError> {
    let reading = Reading::new(options)?;
    let text = whole_text(input, options.encoding.as_deref())?;
    let mut xml = Xml::new(&text);
    let mut out: Vec<RowResult> = Vec::new();
    let mut is_gpx = false;
    loop {
        match xml.next(&["wpt", "rte", "trk"])? {
            Node::Whole(element) => out.push(Ok(row(&reading, &element, out.len() as u64 + 1))),
            Node::Start(name) => is_gpx |= name == "gpx",
            Node::End => {}
            Node::EndOfFile => break,
        }
    }
    if !is_gpx {
        return Err(FormatError::line(1, "not GPX: there is no `gpx` element"));
    }
    Ok(Box::new(Ready(out.into_iter(), Vec::new())))
}

fn row(reading: &Reading, element: &Element, number: u64) -> Result<crate::Row, crate::RowFault> {
    let mut draft = reading.draft(number);
    match fill(reading, element, &mut draft) {
        Ok(()) => draft.finish(),
        Err(fault) => Err(draft.fault(fault)),
    }
}

fn fill(reading: &Reading, element: &Element, draft: &mut Draft<'_>) -> Result<(), CellFault> {
    let put = |draft: &mut Draft<'_>, name: &str, text: &str| draft.put(&reading.column(name), Cell::Text(text.to_owned()));
    let own = element.all("extensions").flat_map(leaves).any(|e| e.attribute("name") == Some("category"));
    // What we write as `type` for other programs stands among the extensions too.
    for name in TEXTS.into_iter().filter(|n| !own || *n != "type") {
        if let Some(text) = element.text_of(name) {
            put(draft, name, text)?;
        }
    }
    if let Some(text) = element.text_of("desc") {
        put(draft, "note", text)?;
    }
    if let Some(link) = element.child("link").and_then(|l| l.attribute("href")) {
        put(draft, "link", link)?;
    }
    for extension in element.all("extensions").flat_map(leaves) {
        put(draft, extension.attribute("name").unwrap_or(&extension.name), extension.text.trim())?;
    }
    let points = |parent: &Element, name: &str| parent.all(name).map(position).collect::<Result<Vec<_>, _>>();
    let shape = match element.name.as_str() {
        "wpt" => {
            if let Some(hdop) = element.text_of("hdop") {
                put(draft, "hdop", hdop)?;
            }
            Shape::Point(position(element)?)
        }
        "rte" => Shape::Line(points(element, "rtept")?),
        _ => {
            let segments = element.all("trkseg").map(|s| points(s, "trkpt")).collect::<Result<Vec<_>, _>>()?;
            let mut segments: Vec<Vec<Coord>> = segments.into_iter().filter(|s| !s.is_empty()).collect();
            if segments.len() == 1 { Shape::Line(segments.remove(0)) } else { Shape::Lines(segments) }
        }
    };
    let first = shape.first().ok_or((None, format!("`{}` without positions", element.name)))?;
    if let Some(moment) = first.time.and_then(|t| Instant::from_unix_ms((t * 1000.0) as i64)) {
        draft.row.at = crate::Part::Set(moment);
    }
    match shape {
        Shape::Line(line) if line.len() == 1 => draft.shape(Shape::Point(line[0])),
        other => draft.shape(other),
    }
}

/// The elements with text in an extension.
fn leaves(element: &Element) -> Vec<&Element> {
    let mut out = Vec::new();
    for child in &element.children {
        if child.children.is_empty() {
            if !child.text.trim().is_empty() {
                out.push(child);
            }
        } else {
            out.extend(leaves(child));
        }
    }
    out
}

fn position(element: &Element) -> Result<Coord, CellFault> {
    let number = |name: &str, text: &str| {
        text.trim().parse::<f64>().map_err(|_| (Some(name.to_owned()), format!("`{}` is not a number", crate::row::short(text))))
    };
    let degrees = |name: &str| number(name, element.attribute(name).ok_or((None, format!("a position without `{name}`")))?);
    let altitude = element.text_of("ele").map(|t| number("ele", t)).transpose()?;
    let time = match element.text_of("time") {
        Some(text) => Some(Instant::parse(text).map_err(|e| (Some("time".to_owned()), e.to_string()))?.unix_ms() as f64 / 1000.0),
        None => None,
    };
    Ok(coord(degrees("lon")?, degrees("lat")?, altitude)?.with_time(time))
}
