//! KML 2.2, alone or as KMZ: a placemark a row, fields as extended data.

use super::{About, ExportRow, RowWriter, Written, column_name, file, settle, shape_of};
use crate::FormatError;
use crate::xml::escape;
use cairn_model::{Coord, FieldValue, Shape};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

enum Out {
    Plain(BufWriter<File>),
    Zipped(Box<ZipWriter<BufWriter<File>>>),
}

impl Write for Out {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        match self {
            Out::Plain(out) => out.write(buf),
            Out::Zipped(out) => out.write(buf),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Out::Plain(out) => out.flush(),
            Out::Zipped(out) => out.flush(),
        }
    }
}

pub(super) struct Kml {
    out: Out,
    written: Written,
}

impl Kml {
    pub fn new(path: &Path, zipped: bool, about: &About) -> Result<Self, FormatError> {
        let mut out = if zipped {
            let mut zip = ZipWriter::new(file(path)?);
            zip.start_file("doc.kml", SimpleFileOptions::default().large_file(true)).map_err(super::io)?;
            Out::Zipped(Box::new(zip))
        } else {
            Out::Plain(file(path)?)
        };
        writeln!(
            out,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<kml xmlns=\"http://www.opengis.net/kml/2.2\"><Document><name>{}</name>",
            escape(&about.project)
        )?;
        Ok(Self { out, written: Written::default() })
    }
}

fn coordinates(line: &[Coord]) -> String {
    let one = |c: &Coord| match c.altitude {
        Some(a) => format!("{},{},{a}", c.lon, c.lat),
        None => format!("{},{}", c.lon, c.lat),
    };
    let high = if line.iter().any(|c| c.altitude.is_some()) { "<altitudeMode>absolute</altitudeMode>" } else { "" };
    format!("{high}<coordinates>{}</coordinates>", line.iter().map(one).collect::<Vec<_>>().join(" "))
}

fn area(rings: &[Vec<Coord>]) -> String {
    let ring = |side: &str, r: &Vec<Coord>| format!("<{side}><LinearRing>{}</LinearRing></{side}>", coordinates(r));
    let mut sides = rings.iter();
    let outer = sides.next().map(|r| ring("outerBoundaryIs", r)).unwrap_or_default();
    format!("<Polygon>{outer}{}</Polygon>", sides.map(|r| ring("innerBoundaryIs", r)).collect::<String>())
}

fn geometry(shape: &Shape) -> String {
    let line = |l: &Vec<Coord>| format!("<LineString>{}</LineString>", coordinates(l));
    let point = |c: &Coord| format!("<Point>{}</Point>", coordinates(std::slice::from_ref(c)));
    let several = |parts: String| format!("<MultiGeometry>{parts}</MultiGeometry>");
    match shape {
        Shape::Point(c) => point(c),
        Shape::Line(l) => line(l),
        Shape::Area(r) => area(r),
        Shape::Points(p) => several(p.iter().map(point).collect()),
        Shape::Lines(l) => several(l.iter().map(line).collect()),
        Shape::Areas(a) => several(a.iter().map(|r| area(r)).collect()),
        Shape::Several(parts) => several(parts.iter().map(geometry).collect()),
    }
}

impl RowWriter for Kml {
    fn write(&mut self, row: &ExportRow) -> Result<(), FormatError> {
        let seen = &row.seen;
        let mut out = format!("<Placemark id=\"o{}\">", row.id);
        if let Some(name) = seen.fields.get("name").map(FieldValue::display) {
            out.push_str(&format!("<name>{}</name>", escape(&name)));
        }
        if let Some(note) = &seen.note {
            out.push_str(&format!("<description>{}</description>", escape(note)));
        }
        if let Some(at) = &seen.at {
            out.push_str(&format!("<TimeStamp><when>{}</when></TimeStamp>", escape(at)));
        }
        out.push_str("<ExtendedData>");
        let mut put = |name: &str, text: &str| {
            out.push_str(&format!("<Data name=\"{}\"><value>{}</value></Data>", escape(name), escape(text)));
        };
        put("category", &seen.category);
        if let Some(metres) = seen.place.and_then(|p| p.uncertainty) {
            put("uncertainty", &metres.to_string());
        }
        for (field, value) in seen.fields.iter().filter(|(f, _)| *f != "name") {
            put(&column_name(field), &value.display());
        }
        out.push_str("</ExtendedData>");
        if let Some(shape) = shape_of(row) {
            if shape.coords().iter().any(|c| c.time.is_some()) {
                self.written.notes.insert("times of single positions of tracks are left out: GPX and GeoJSON have them".into());
            }
            out.push_str(&geometry(&shape));
        }
        writeln!(self.out, "{out}</Placemark>")?;
        self.written.rows += 1;
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<Written, FormatError> {
        self.out.write_all(b"</Document></kml>\n")?;
        settle(match self.out {
            Out::Plain(out) => out,
            Out::Zipped(zip) => zip.finish().map_err(super::io)?,
        })?;
        Ok(self.written)
    }
}
