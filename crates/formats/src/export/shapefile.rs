//! ESRI shapefiles in a ZIP: one of positions, one of tracks, one of areas, each with its table, projection and encoding.

use super::{ColumnType, ExportRow, RowWriter, Survey, Written, column_name, file, io, settle, shape_of};
use crate::FormatError;
use cairn_model::{Coord, FieldValue, Shape, Value};
use shapefile::dbase::{FieldName, FieldValue as Dbf, Record, TableWriterBuilder, encoding::Unicode};
use shapefile::{Multipoint, Point, Polygon, PolygonRing, Polyline, Writer};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// Bytes of a text in a table of this format.
const TEXT: usize = 254;
/// Bytes of one file of it.
const FILE_BYTES: u64 = 2 << 30;

const PRJ: &str = "GEOGCS[\"GCS_WGS_1984\",DATUM[\"D_WGS_1984\",SPHEROID[\"WGS_1984\",6378137.0,298.257223563]],PRIMEM[\"Greenwich\",0.0],UNIT[\"Degree\",0.0174532925199433]]";

type Sink = Writer<BufWriter<File>>;

pub(super) struct ShapeFile {
    folder: tempfile::TempDir,
    path: PathBuf,
    /// Column, field, type.
    columns: Vec<(String, Option<String>, ColumnType)>,
    sinks: [Option<Sink>; 4],
    written: Written,
}

const LAYERS: [&str; 4] = ["positions", "groups", "tracks", "areas"];

impl ShapeFile {
    pub fn new(path: &Path, survey: &Survey) -> Result<Self, FormatError> {
        let beside = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = tempfile::Builder::new().prefix(".cairn-shp").tempdir_in(beside)?;
        let mut columns: Vec<(String, Option<String>, ColumnType)> = Vec::new();
        for name in ["cairn_id", "category", "time", "note", "altitude", "uncertain"] {
            let kind = if matches!(name, "altitude" | "uncertain") { ColumnType::Decimal } else { ColumnType::Text };
            columns.push((name.to_owned(), None, kind));
        }
        for (field, kinds) in &survey.fields {
            let name = short_name(field, &columns);
            columns.push((name, Some(field.clone()), kinds.column()));
        }
        if columns.len() > 255 {
            return Err(FormatError::Options(format!("{} columns: a shapefile has room for 255", columns.len())));
        }
        Ok(Self { folder, path: path.to_owned(), columns, sinks: [None, None, None, None], written: Written::default() })
    }

    fn sink(&mut self, layer: usize) -> Result<&mut Sink, FormatError> {
        if self.sinks[layer].is_none() {
            let mut table = TableWriterBuilder::with_encoding(Unicode);
            for (name, _, kind) in &self.columns {
                let field = FieldName::try_from(name.as_str()).map_err(|e| FormatError::part(name, e))?;
                table = match kind {
                    ColumnType::Text => table.add_character_field(field, TEXT as u8),
                    ColumnType::Integer => table.add_numeric_field(field, 20, 0),
                    ColumnType::Decimal => table.add_numeric_field(field, 24, 12),
                    ColumnType::Bool => table.add_logical_field(field),
                };
            }
            let open = |ending: &str| -> Result<BufWriter<File>, FormatError> {
                Ok(BufWriter::new(File::create(self.folder.path().join(format!("{}.{ending}", LAYERS[layer])))?))
            };
            let shapes = shapefile::ShapeWriter::with_shx(open("shp")?, open("shx")?);
            self.sinks[layer] = Some(Writer::new(shapes, table.build_with_dest(open("dbf")?)));
        }
        self.sinks[layer].as_mut().ok_or_else(|| io("no layer"))
    }

    fn record(&mut self, row: &ExportRow) -> Record {
        let seen = &row.seen;
        let mut record = Record::default();
        for (name, field, kind) in &self.columns {
            let own = |name: &str| match name {
                "cairn_id" => Some(FieldValue::One(Value::Text(row.id.to_string()))),
                "category" => Some(FieldValue::One(Value::Text(seen.category.clone()))),
                "time" => seen.at.clone().map(|t| FieldValue::One(Value::Text(t))),
                "note" => seen.note.clone().map(|t| FieldValue::One(Value::Text(t))),
                "altitude" => seen.place.and_then(|p| p.altitude).map(|n| FieldValue::One(Value::Decimal(n))),
                _ => seen.place.and_then(|p| p.uncertainty).map(|n| FieldValue::One(Value::Decimal(n))),
            };
            let value = match field {
                Some(field) => seen.fields.get(field).cloned(),
                None => own(name),
            };
            let (value, cut) = dbf(value.as_ref(), *kind);
            if cut {
                self.written.notes.insert(format!("texts of more than {TEXT} bytes were cut"));
            }
            record.insert(name.clone(), value);
        }
        record
    }
}

/// Ten bytes of plain letters, different from those there are.
/// A field called like a column of ours gets `f_` before it: an import would take it for that.
fn short_name(field: &str, taken: &[(String, Option<String>, ColumnType)]) -> String {
    let field = column_name(field).replace("field:", "f_");
    let plain: String = field.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).take(10).collect();
    let plain = if plain.is_empty() { "field".to_owned() } else { plain };
    let free = |name: &str| !taken.iter().any(|(t, ..)| t.eq_ignore_ascii_case(name));
    if free(&plain) {
        return plain;
    }
    let numbered = |n: u32| format!("{}{n}", &plain[..plain.len().min(10 - n.to_string().len())]);
    (1..).map(numbered).find(|name| free(name)).unwrap_or(plain)
}

fn dbf(value: Option<&FieldValue>, kind: ColumnType) -> (Dbf, bool) {
    match (kind, value) {
        (ColumnType::Integer | ColumnType::Decimal, Some(FieldValue::One(Value::Integer(n)))) => (Dbf::Numeric(Some(*n as f64)), false),
        (ColumnType::Integer | ColumnType::Decimal, Some(FieldValue::One(Value::Decimal(n)))) => (Dbf::Numeric(Some(*n)), false),
        (ColumnType::Integer | ColumnType::Decimal, _) => (Dbf::Numeric(None), false),
        (ColumnType::Bool, Some(FieldValue::One(Value::Bool(b)))) => (Dbf::Logical(Some(*b)), false),
        (ColumnType::Bool, _) => (Dbf::Logical(None), false),
        (ColumnType::Text, None) => (Dbf::Character(None), false),
        (ColumnType::Text, Some(value)) => {
            let mut text = value.display();
            let cut = text.len() > TEXT;
            if cut {
                text.truncate(text.floor_char_boundary(TEXT));
            }
            (Dbf::Character(Some(text)), cut)
        }
    }
}

fn points(line: &[Coord]) -> Vec<Point> {
    line.iter().map(|c| Point::new(c.lon, c.lat)).collect()
}

impl RowWriter for ShapeFile {
    fn write(&mut self, row: &ExportRow) -> Result<(), FormatError> {
        let record = self.record(row);
        let long = |lines: Vec<Vec<Coord>>| lines.into_iter().filter(|l| l.len() > 1).map(|l| points(&l)).collect::<Vec<_>>();
        let rings = |areas: Vec<Vec<Vec<Coord>>>| {
            let ring = |(n, r): (usize, &Vec<Coord>)| if n == 0 { PolygonRing::Outer(points(r)) } else { PolygonRing::Inner(points(r)) };
            areas.iter().flat_map(|a| a.iter().filter(|r| !r.is_empty()).enumerate().map(ring).collect::<Vec<_>>()).collect::<Vec<_>>()
        };
        let done = match shape_of(row) {
            Some(Shape::Point(c)) => self.sink(0)?.write_shape_and_record(&Point::new(c.lon, c.lat), &record),
            Some(Shape::Points(p)) => self.sink(1)?.write_shape_and_record(&Multipoint::new(points(&p)), &record),
            Some(Shape::Line(l)) if l.len() > 1 => self.sink(2)?.write_shape_and_record(&Polyline::new(points(&l)), &record),
            Some(Shape::Lines(l)) if l.iter().any(|l| l.len() > 1) => {
                self.sink(2)?.write_shape_and_record(&Polyline::with_parts(long(l)), &record)
            }
            Some(Shape::Area(a)) => self.sink(3)?.write_shape_and_record(&Polygon::with_rings(rings(vec![a])), &record),
            Some(Shape::Areas(a)) => self.sink(3)?.write_shape_and_record(&Polygon::with_rings(rings(a)), &record),
            other => {
                let why = if other.is_some() { "groups of different kinds" } else { "rows without a position" };
                self.written.notes.insert(format!("{why} are left out: a shapefile has none"));
                self.written.left_out += 1;
                return Ok(());
            }
        };
        done.map_err(io)?;
        self.written.rows += 1;
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<Written, FormatError> {
        let mut zip = ZipWriter::new(file(&self.path)?);
        let options = SimpleFileOptions::default().large_file(true);
        for (layer, sink) in self.sinks.iter_mut().enumerate() {
            // Dropping it writes its headers.
            if sink.take().is_none() {
                continue;
            }
            let name = LAYERS[layer];
            for ending in ["shp", "shx", "dbf"] {
                let path = self.folder.path().join(format!("{name}.{ending}"));
                if std::fs::metadata(&path)?.len() > FILE_BYTES {
                    return Err(FormatError::Options("a shapefile cannot have more than 2 GB; write a part of the rows".into()));
                }
                zip.start_file(format!("{name}.{ending}"), options).map_err(io)?;
                std::io::copy(&mut File::open(&path)?, &mut zip)?;
            }
            for (ending, text) in [("prj", PRJ), ("cpg", "UTF-8")] {
                zip.start_file(format!("{name}.{ending}"), options).map_err(io)?;
                zip.write_all(text.as_bytes())?;
            }
        }
        self.written.notes.insert(
            "names of columns have ten letters at most; heights of tracks, times of positions and lists of options are not carried as such"
                .into(),
        );
        settle(zip.finish().map_err(io)?)?;
        Ok(self.written)
    }
}
