//! Rows of ESRI shapefiles: a `.shp` with its table beside it, or a ZIP with one or several of them.

use crate::archive::Archive;
use crate::row::{Cell, Column, Reading};
use crate::rows::{Rows, Streamed, streamed};
use crate::{FormatError, ReadOptions, RowFault};
use cairn_model::{Coord, Shape as Geometry};
use shapefile::dbase::encoding::{DynEncoding, EncodingRs};
use shapefile::dbase::{FieldValue, ReaderBuilder, Record};
use shapefile::record::traits::HasXY;
use shapefile::{PolygonRing, Shape, ShapeReader};
use std::fs::File;
use std::io::{BufReader, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// Bytes of one file of a shapefile, as the format has it.
const FILE_BYTES: u64 = 2 << 30;
/// Bytes of what describes one: its projection, its encoding.
const WORDS: u64 = 64 << 10;
/// Bytes of a table looked at to tell its encoding.
const LOOK: u64 = 256 << 10;

type Reader = shapefile::Reader<BufReader<File>, BufReader<File>>;

/// Where the files of a shapefile lie.
enum Place {
    Packed(Box<Archive>),
    Beside(PathBuf),
}

impl Place {
    /// Names of the shapefiles, without their ending.
    fn layers(&self) -> Vec<String> {
        match self {
            Place::Packed(archive) => {
                let is_layer = |n: &String| n.to_lowercase().ends_with(".shp") && !n.starts_with("__MACOSX");
                archive.names().iter().filter(|n| is_layer(n)).map(|n| n[..n.len() - 4].to_owned()).collect()
            }
            Place::Beside(path) => vec![path.with_extension("").to_string_lossy().into_owned()],
        }
    }

    /// A file of a layer; `None` if there is no such.
    fn file(&mut self, layer: &str, ending: &str) -> Result<Option<File>, FormatError> {
        match self {
            Place::Beside(path) => {
                let there = [ending.to_owned(), ending.to_uppercase()].map(|e| path.with_extension(e)).into_iter().find(|p| p.exists());
                Ok(there.map(File::open).transpose()?)
            }
            Place::Packed(archive) => {
                let wanted = format!("{layer}.{ending}").to_lowercase();
                let Some(name) = archive.names().into_iter().find(|n| n.to_lowercase() == wanted) else { return Ok(None) };
                let mut file = std::io::BufWriter::new(tempfile::tempfile()?);
                archive.unpack(&name, FILE_BYTES, &mut file)?;
                file.flush()?;
                let mut file = file.into_inner().map_err(|e| FormatError::Io(e.to_string()))?;
                file.rewind()?;
                Ok(Some(file))
            }
        }
    }

    fn words(&mut self, layer: &str, ending: &str) -> Result<Option<String>, FormatError> {
        let Some(file) = self.file(layer, ending)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(WORDS).read_to_end(&mut bytes)?;
        Ok(Some(String::from_utf8_lossy(&bytes).trim().to_owned()))
    }
}

/// Reads the layer asked for, or one after the other.
pub(crate) fn read(path: &Path, options: &ReadOptions) -> Result<Box<dyn Rows>, FormatError> {
    let mut head = [0; 2];
    File::open(path)?.read_exact(&mut head).map_err(|_| FormatError::part("the shapefile", "it ends too early"))?;
    let mut place = if head == *b"PK" { Place::Packed(Box::new(Archive::open(path)?)) } else { Place::Beside(path.with_extension("shp")) };
    let names = place.layers();
    let asked = |name: &&String| options.sheet.as_ref().is_none_or(|asked| asked == *name);
    let chosen: Vec<&String> = names.iter().filter(asked).collect();
    if chosen.is_empty() {
        let asked = options.sheet.as_deref().unwrap_or("with rows");
        return Err(FormatError::Options(format!("there is no layer `{asked}`; there are: {}", names.join(", "))));
    }
    let options = with_terms(options);
    let (mut layers, mut notes) = (Vec::new(), Vec::new());
    for name in chosen {
        layers.push(guarded(name, || Layer::open(&mut place, name, &options, &mut notes))?);
    }
    Ok(Box::new(stream(layers, notes)))
}

/// Columns that a shapefile written here has under short names.
fn with_terms(options: &ReadOptions) -> ReadOptions {
    let mut options = options.clone();
    for (column, meaning) in [("uncertain", "uncertainty"), ("cairn_id", "id")] {
        options.soft_map.entry(column.into()).or_insert_with(|| meaning.into());
    }
    options
}

fn stream(layers: Vec<Layer>, notes: Vec<String>) -> Streamed {
    streamed(notes, move |to| {
        let mut number = 0;
        for mut layer in layers {
            let name = layer.name.clone();
            guarded(&name, || layer.each(&mut number, &mut |row| to.send(Ok(row)).is_ok()))?;
        }
        Ok(())
    })
}

/// Damaged files make the library that reads them panic: that ends the reading, not the program.
fn guarded<T>(name: &str, work: impl FnOnce() -> Result<T, FormatError>) -> Result<T, FormatError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or_else(|_| Err(FormatError::part(name, "it is damaged")))
}

struct Layer {
    name: String,
    reader: Reader,
    reading: Reading,
    columns: Vec<Column>,
}

impl Layer {
    fn open(place: &mut Place, name: &str, options: &ReadOptions, notes: &mut Vec<String>) -> Result<Self, FormatError> {
        let broken = |e: &dyn std::fmt::Display| FormatError::part(name, e);
        let gone =
            |ending: &str| broken(&format!("there is no `.{ending}` beside it: a shapefile is several files, give all of them in one ZIP"));
        match place.words(name, "prj")? {
            Some(projection) => degrees(&projection).map_err(|e| broken(&e))?,
            None => notes.push(format!("`{name}` has no .prj: its positions are taken for degrees, WGS 84")),
        }
        let table = place.file(name, "dbf")?.ok_or_else(|| gone("dbf"))?;
        let told = options.encoding.clone().or(place.words(name, "cpg")?);
        let encoding = match told {
            Some(told) => known(&told).ok_or_else(|| broken(&format!("`{told}` is no encoding that is known")))?,
            None => guess(&table, name, notes)?,
        };
        let shapes = place.file(name, "shp")?.ok_or_else(|| gone("shp"))?;
        let shapes = ShapeReader::new(BufReader::new(shapes)).map_err(|e| broken(&e))?;
        let table = ReaderBuilder::new().with_encoding(encoding).build(BufReader::new(table)).map_err(|e| broken(&e))?;
        let names: Vec<String> = table.fields().iter().map(|f| f.name().to_string()).collect();
        let reading = Reading::new(options)?;
        let columns = reading.columns(&names)?;
        Ok(Self { name: name.to_owned(), reader: shapefile::Reader::new(shapes, table), reading, columns })
    }

    fn each(&mut self, number: &mut u64, take: &mut dyn FnMut(Result<crate::Row, RowFault>) -> bool) -> Result<(), FormatError> {
        let Self { name, reader, reading, columns } = self;
        for pair in reader.iter_shapes_and_records() {
            *number += 1;
            let (shape, record) = pair.map_err(|e| FormatError::part(format!("{name}, row {number}"), e))?;
            if !take(row(reading, columns, *number, shape, record)) {
                break;
            }
        }
        Ok(())
    }
}

fn row(reading: &Reading, columns: &[Column], number: u64, shape: Shape, mut record: Record) -> Result<crate::Row, RowFault> {
    let mut draft = reading.draft(number);
    for column in columns {
        let put = draft.put(column, record.remove(&column.name).map_or(Cell::Empty, cell));
        put.map_err(|fault| draft.fault(fault))?;
    }
    let placed = geometry(shape).and_then(|shape| shape.map_or(Ok(()), |shape| draft.shape(shape)));
    placed.map_err(|fault| draft.fault(fault))?;
    draft.finish()
}

/// Degrees of WGS 84, or why not.
fn degrees(projection: &str) -> Result<(), String> {
    let plain: String = projection.to_uppercase().chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    if !plain.starts_with("PROJ") && ["WGS84", "WGS1984", "ETRS89", "ETRS1989", "CRS84"].iter().any(|name| plain.contains(name)) {
        return Ok(());
    }
    let name: String = projection.split('"').nth(1).unwrap_or(projection).chars().take(60).collect();
    Err(format!(
        "its reference system is `{name}`; only degrees of WGS 84 (EPSG:4326) are taken: `ogr2ogr -t_srs EPSG:4326 new.shp old.shp` makes them"
    ))
}

/// By its name on the web, or as programs for maps write it: `ISO 88591`, `1252`, `ANSI 1252`.
fn known(name: &str) -> Option<DynEncoding> {
    let label = |name: &str| encoding_rs::Encoding::for_label(name.trim().as_bytes());
    let plain: String = name.to_uppercase().chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    let part = |prefix: &str, of: &str| plain.strip_prefix(prefix).and_then(|number| label(&format!("{of}{number}")));
    let found = label(name).or_else(|| part("ISO8859", "iso-8859-")).or_else(|| part("ANSI", "windows-")).or_else(|| part("", "windows-"));
    found.map(|e| EncodingRs::from(e).into()).or_else(|| DynEncoding::from_name(name))
}

/// Nobody says what the table's texts are: UTF-8 where they can be read as such.
fn guess(table: &File, name: &str, notes: &mut Vec<String>) -> Result<DynEncoding, FormatError> {
    let mut table = table;
    let mut bytes = Vec::new();
    table.take(LOOK).read_to_end(&mut bytes)?;
    table.rewind()?;
    // The header is binary; where it ends stands in it.
    let start = bytes.get(8..10).map_or(0, |b| usize::from(u16::from_le_bytes([b[0], b[1]])));
    let is_utf8 = match std::str::from_utf8(bytes.get(start..).unwrap_or_default()) {
        Ok(_) => true,
        Err(e) => e.error_len().is_none(),
    };
    let encoding = if is_utf8 { encoding_rs::UTF_8 } else { encoding_rs::WINDOWS_1252 };
    if !is_utf8 {
        notes.push(format!("`{name}` does not say what encoding its texts have: read as {}; `--encoding` names another", encoding.name()));
    }
    Ok(EncodingRs::from(encoding).into())
}

fn cell(value: FieldValue) -> Cell {
    match value {
        FieldValue::Character(text) => text.map_or(Cell::Empty, Cell::Text),
        FieldValue::Numeric(number) => number.map_or(Cell::Empty, whole),
        FieldValue::Float(number) => number.map_or(Cell::Empty, |n| whole(f64::from(n))),
        FieldValue::Logical(answer) => answer.map_or(Cell::Empty, Cell::Bool),
        FieldValue::Date(date) => date.map_or(Cell::Empty, |d| Cell::Text(format!("{:04}-{:02}-{:02}", d.year(), d.month(), d.day()))),
        FieldValue::Integer(number) => Cell::Integer(i64::from(number)),
        FieldValue::Currency(number) | FieldValue::Double(number) => whole(number),
        FieldValue::DateTime(moment) => {
            let (date, time) = (moment.date(), moment.time());
            let day = format!("{:04}-{:02}-{:02}", date.year(), date.month(), date.day());
            Cell::Text(format!("{day}T{:02}:{:02}:{:02}", time.hours(), time.minutes(), time.seconds()))
        }
        FieldValue::Memo(text) => Cell::Text(text),
    }
}

/// The table has one kind of number: a whole one is told by its value.
fn whole(number: f64) -> Cell {
    if number.fract() == 0.0 && number.abs() < 9e15 { Cell::Integer(number as i64) } else { Cell::Number(number) }
}

type Placed = Result<Option<Geometry>, crate::row::CellFault>;

fn coord(x: f64, y: f64, z: Option<f64>) -> Result<Coord, crate::row::CellFault> {
    crate::row::coord(x, y, z.filter(|z| *z > shapefile::NO_DATA && z.is_finite()))
}

fn line<P>(points: &[P], height: fn(&P) -> Option<f64>) -> Result<Vec<Coord>, crate::row::CellFault>
where
    P: HasXY,
{
    points.iter().map(|p| coord(p.x(), p.y(), height(p))).collect()
}

fn lines<P: HasXY>(parts: &[Vec<P>], height: fn(&P) -> Option<f64>) -> Placed {
    let mut lines = parts.iter().map(|l| line(l, height)).collect::<Result<Vec<_>, _>>()?;
    Ok(if lines.len() == 1 { lines.pop().map(Geometry::Line) } else { Some(Geometry::Lines(lines)) })
}

/// An outer ring begins an area, inner ones are its holes. They run the other way round there.
fn areas<P: HasXY>(rings: &[PolygonRing<P>], height: fn(&P) -> Option<f64>) -> Placed {
    let mut areas: Vec<Vec<Vec<Coord>>> = Vec::new();
    for ring in rings {
        let (outer, points) = match ring {
            PolygonRing::Outer(points) => (true, points),
            PolygonRing::Inner(points) => (false, points),
        };
        let mut ring = line(points, height)?;
        ring.reverse();
        match areas.last_mut().filter(|_| !outer) {
            Some(area) => area.push(ring),
            None => areas.push(vec![ring]),
        }
    }
    Ok(if areas.len() == 1 { areas.pop().map(Geometry::Area) } else { Some(Geometry::Areas(areas)) })
}

fn geometry(shape: Shape) -> Placed {
    Ok(match shape {
        Shape::NullShape => None,
        Shape::Point(p) => Some(Geometry::Point(coord(p.x, p.y, None)?)),
        Shape::PointM(p) => Some(Geometry::Point(coord(p.x, p.y, None)?)),
        Shape::PointZ(p) => Some(Geometry::Point(coord(p.x, p.y, Some(p.z))?)),
        Shape::Multipoint(p) => Some(Geometry::Points(line(p.points(), |_| None)?)),
        Shape::MultipointM(p) => Some(Geometry::Points(line(p.points(), |_| None)?)),
        Shape::MultipointZ(p) => Some(Geometry::Points(line(p.points(), |p| Some(p.z))?)),
        Shape::Polyline(l) => lines(l.parts(), |_| None)?,
        Shape::PolylineM(l) => lines(l.parts(), |_| None)?,
        Shape::PolylineZ(l) => lines(l.parts(), |p| Some(p.z))?,
        Shape::Polygon(a) => areas(a.rings(), |_| None)?,
        Shape::PolygonM(a) => areas(a.rings(), |_| None)?,
        Shape::PolygonZ(a) => areas(a.rings(), |p| Some(p.z))?,
        Shape::Multipatch(_) => return Err((None, "surfaces in space (multipatch) have no place here".into())),
    })
}
