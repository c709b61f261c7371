//! GPX 1.1: positions as waypoints, tracks as tracks; fields as extensions.

use super::{About, ExportRow, RowWriter, Written, file, settle};
use crate::FormatError;
use crate::xml::escape;
use cairn_model::{Coord, FieldValue, Instant, Shape};
use std::fs::File;
use std::io::{BufWriter, Read, Seek, Write};
use std::path::Path;

pub(super) struct Gpx {
    out: BufWriter<File>,
    /// Tracks come after all waypoints: they wait here.
    tracks: BufWriter<File>,
    written: Written,
}

impl Gpx {
    pub fn new(path: &Path, about: &About) -> Result<Self, FormatError> {
        let mut out = file(path)?;
        writeln!(
            out,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<gpx version=\"1.1\" creator=\"Cairn\" xmlns=\"http://www.topografix.com/GPX/1/1\" xmlns:cairn=\"urn:cairn:gpx:1\">\n<metadata><name>{}</name><time>{}</time></metadata>",
            escape(&about.project),
            escape(&about.written)
        )?;
        Ok(Self { out, tracks: BufWriter::new(tempfile::tempfile()?), written: Written::default() })
    }
}

fn element(out: &mut String, name: &str, text: Option<&str>) {
    if let Some(text) = text {
        out.push_str(&format!("<{name}>{}</{name}>", escape(text)));
    }
}

/// What stands beside the positions, in the order of the schema.
fn about(row: &ExportRow) -> String {
    let seen = &row.seen;
    let mut out = String::new();
    element(&mut out, "name", seen.fields.get("name").map(FieldValue::display).as_deref());
    element(&mut out, "desc", seen.note.as_deref());
    element(&mut out, "type", Some(&seen.category));
    out
}

fn extensions(row: &ExportRow) -> String {
    let seen = &row.seen;
    let mut out = String::from("<extensions>");
    let mut put = |name: &str, text: &str| {
        out.push_str(&format!("<cairn:field name=\"{}\">{}</cairn:field>", escape(name), escape(text)));
    };
    put("category", &seen.category);
    if let Some(metres) = seen.place.and_then(|p| p.uncertainty) {
        put("uncertainty", &metres.to_string());
    }
    if let Some(at) = &seen.at {
        put("time", at);
    }
    for (field, value) in seen.fields.iter().filter(|(field, _)| *field != "name") {
        put(&super::column_name(field), &value.display());
    }
    out + "</extensions>"
}

fn point(name: &str, c: &Coord, out: &mut String) {
    out.push_str(&format!("<{name} lat=\"{}\" lon=\"{}\">", c.lat, c.lon));
    if let Some(altitude) = c.altitude {
        out.push_str(&format!("<ele>{altitude}</ele>"));
    }
    if let Some(moment) = c.time.and_then(|t| Instant::from_unix_ms((t * 1000.0) as i64)) {
        out.push_str(&format!("<time>{}</time>", moment.to_rfc3339()));
    }
}

impl RowWriter for Gpx {
    fn write(&mut self, row: &ExportRow) -> Result<(), FormatError> {
        let lines = match super::shape_of(row) {
            Some(Shape::Point(mut c)) => {
                c.time = row.seen.unix_ms().map(|ms| ms as f64 / 1000.0);
                let mut out = String::new();
                point("wpt", &c, &mut out);
                writeln!(self.out, "{out}{}{}</wpt>", about(row), extensions(row))?;
                self.written.rows += 1;
                return Ok(());
            }
            Some(Shape::Line(line)) => vec![line],
            Some(Shape::Lines(lines)) => lines,
            other => {
                let why = if other.is_some() {
                    "areas and groups of positions are left out: GPX has none"
                } else {
                    "rows without a position are left out: GPX has none"
                };
                self.written.notes.insert(why.into());
                self.written.left_out += 1;
                return Ok(());
            }
        };
        let mut out = format!("<trk>{}{}", about(row), extensions(row));
        for line in lines {
            out.push_str("<trkseg>");
            for c in &line {
                point("trkpt", c, &mut out);
                out.push_str("</trkpt>");
            }
            out.push_str("</trkseg>");
        }
        writeln!(self.tracks, "{out}</trk>")?;
        self.written.rows += 1;
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<Written, FormatError> {
        let mut tracks = self.tracks.into_inner().map_err(|e| e.into_error())?;
        tracks.rewind()?;
        std::io::copy(&mut tracks.take(u64::MAX), &mut self.out)?;
        self.out.write_all(b"</gpx>\n")?;
        settle(self.out)?;
        Ok(self.written)
    }
}
