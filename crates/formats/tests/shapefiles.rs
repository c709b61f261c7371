//! Shapefiles written here and by others, whole and damaged.

use cairn_formats::{About, ExportRow, FormatError, Kinds, Position, ReadOptions, Row, Survey, WriteOptions, create, open_rows};
use cairn_model::{Coord, DocId, FieldValue, Observation, Place, Shape, Value};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn at(lon: f64, lat: f64) -> Coord {
    Coord { lon, lat, altitude: None, time: None }
}

fn shapes() -> Vec<Shape> {
    let ring = |x: f64, d: f64| vec![at(x, 0.0), at(x + d, 0.0), at(x + d, d), at(x, 0.0)];
    let hole = vec![at(0.2, 0.1), at(0.3, 0.2), at(0.3, 0.1), at(0.2, 0.1)];
    vec![
        Shape::Point(at(-62.2159, -3.4653)),
        Shape::Points(vec![at(1.0, 2.0), at(3.0, 4.0)]),
        Shape::Line(vec![at(1.0, 2.0), at(1.5, 2.5)]),
        Shape::Lines(vec![vec![at(1.0, 2.0), at(1.5, 2.5)], vec![at(5.0, 6.0), at(7.0, 8.0)]]),
        Shape::Area(vec![ring(0.0, 1.0), hole]),
        Shape::Areas(vec![vec![ring(0.0, 1.0)], vec![ring(20.0, 2.0)]]),
    ]
}

fn written(folder: &Path) -> PathBuf {
    let path = folder.join("out.shp.zip");
    let (mut survey, text) = (Survey::default(), Kinds { text: true, ..Kinds::default() });
    survey.fields.insert("species".into(), text);
    survey.fields.insert("count".into(), Kinds { integer: true, ..Kinds::default() });
    let mut out = create(&path, "shapefile", &WriteOptions::default(), &survey, &About::default()).unwrap();
    for (n, shape) in shapes().into_iter().enumerate() {
        let mut seen = Observation { category: "nest".into(), at: Some("2026-03-01T10:20:30Z".into()), ..Observation::default() };
        seen.fields.insert("species".into(), FieldValue::One(Value::from("Großer Brachvogel")));
        seen.fields.insert("count".into(), FieldValue::One(Value::Integer(n as i64)));
        let first = shape.first().unwrap();
        seen.place = Some(Place { uncertainty: Some(8.0), ..Place::new(first.lat, first.lon).unwrap() });
        seen.shape = (n > 0).then_some(shape);
        out.write(&ExportRow { id: DocId([n as u8; 16]), seen }).unwrap();
    }
    assert_eq!(out.finish().unwrap().rows, 6);
    path
}

fn read(path: &Path, options: &ReadOptions) -> Result<Vec<Row>, FormatError> {
    open_rows(path, options, &Arc::default())?.map(|row| Ok(row?.expect("a good row"))).collect()
}

/// The files in a ZIP, by name.
fn unpacked(zip: &Path) -> Vec<(String, Vec<u8>)> {
    let mut zip = zip::ZipArchive::new(std::fs::File::open(zip).unwrap()).unwrap();
    let mut file = |n| {
        let mut entry = zip.by_index(n).unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (entry.name().unwrap().into_owned(), bytes)
    };
    (0..20).map(&mut file).collect()
}

fn packed(to: &Path, files: &[(String, Vec<u8>)]) -> PathBuf {
    let mut zip = zip::ZipWriter::new(std::fs::File::create(to).unwrap());
    for (name, bytes) in files {
        zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
    to.to_owned()
}

#[test]
fn every_kind_of_shape_comes_back_with_its_table() {
    let folder = tempfile::tempdir().unwrap();
    let path = written(folder.path());
    let rows = read(&path, &ReadOptions::default()).unwrap();
    let wanted = shapes();
    for row in &rows {
        let n: usize = row.fields.iter().find(|(f, _)| **f == *"count").unwrap().1.text().parse().unwrap();
        let found = match row.place.get().unwrap() {
            Position::Place(place) => Shape::Point(at(place.lon, place.lat)),
            Position::Shape(shape) => shape.clone(),
        };
        assert_eq!(found, wanted[n]);
        let species = row.fields.iter().find(|(f, _)| **f == *"species").unwrap().1.text();
        assert_eq!((species.as_str(), row.category.get().unwrap().as_str()), ("Großer Brachvogel", "nest"));
        assert_eq!(row.at.get().unwrap().to_rfc3339(), "2026-03-01T10:20:30Z");
    }
    assert_eq!(rows.len(), wanted.len());
    let one = read(&path, &ReadOptions { sheet: Some("tracks".into()), ..ReadOptions::default() }).unwrap();
    assert_eq!(one.len(), 2);
    // As people have it: the files in a folder, the first of them named.
    for (name, bytes) in unpacked(&path) {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    assert_eq!(read(&folder.path().join("areas.shp"), &ReadOptions::default()).unwrap().len(), 2);
}

#[test]
fn a_shapefile_that_is_not_whole_or_not_in_degrees_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let files: Vec<_> = unpacked(&written(folder.path())).into_iter().filter(|(n, _)| n.starts_with("positions")).collect();
    let refused = |files: &[(String, Vec<u8>)]| {
        let path = packed(&folder.path().join("bad.zip"), files);
        read(&path, &ReadOptions::default()).unwrap_err().to_string()
    };
    let without = |ending: &str| files.iter().filter(|(n, _)| !n.ends_with(ending)).cloned().collect::<Vec<_>>();
    assert!(refused(&without(".dbf")).contains("all of them in one ZIP"));
    let mut projected = without(".prj");
    projected.push(("positions.prj".into(), b"PROJCS[\"WGS_1984_UTM_Zone_20S\",GEOGCS[\"GCS_WGS_1984\"]]".to_vec()));
    let said = refused(&projected);
    assert!(said.contains("WGS_1984_UTM_Zone_20S") && said.contains("ogr2ogr"), "{said}");
    assert!(read(&packed(&folder.path().join("no-prj.zip"), &without(".prj")), &ReadOptions::default()).is_ok());
}

#[test]
fn texts_of_older_programs_are_read_as_they_wrote_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut files: Vec<_> = unpacked(&written(folder.path())).into_iter().filter(|(n, _)| n.starts_with("positions")).collect();
    let table = files.iter_mut().find(|(n, _)| n.ends_with(".dbf")).unwrap();
    let place = memchr_find(&table.1, "Großer Brachvogel".as_bytes());
    table.1[place..place + 18].copy_from_slice(b"Gro\xdfer Brachvogel ");
    let species = |files: &[(String, Vec<u8>)], encoding: Option<&str>| {
        let options = ReadOptions { encoding: encoding.map(str::to_owned), ..ReadOptions::default() };
        let rows = read(&packed(&folder.path().join("old.zip"), files), &options).unwrap();
        rows[0].fields.iter().find(|(f, _)| **f == *"species").unwrap().1.text()
    };
    files.retain(|(n, _)| !n.ends_with(".cpg"));
    assert_eq!(species(&files, None), "Großer Brachvogel");
    assert_eq!(species(&files, Some("iso-8859-5")), "Gro\u{43f}er Brachvogel");
    files.push(("positions.cpg".into(), b"ISO 88591".to_vec()));
    assert_eq!(species(&files, None), "Großer Brachvogel");
}

fn memchr_find(bytes: &[u8], what: &[u8]) -> usize {
    bytes.windows(what.len()).position(|w| w == what).expect("is there")
}

#[test]
fn damaged_shapefiles_end_with_words() {
    let folder = tempfile::tempdir().unwrap();
    let files = unpacked(&written(folder.path()));
    let mut refused = 0;
    let mut attempt = |files: &[(String, Vec<u8>)]| {
        let path = packed(&folder.path().join("torn.zip"), files);
        let rows = open_rows(&path, &ReadOptions::default(), &Arc::default());
        // Rows that are refused one by one are words too; what must not happen is a panic here, a hang or memory without bound.
        refused += usize::from(rows.map_or(true, |rows| rows.take(10_000).any(|row| row.is_err())));
    };
    let files: Vec<_> = files.into_iter().filter(|(n, _)| n.starts_with("areas") || n.starts_with("positions")).collect();
    for (n, (name, bytes)) in files.iter().enumerate().filter(|(_, (name, _))| name.ends_with("shp") || name == "areas.dbf") {
        let step = if name.ends_with("shp") { 11 } else { 23 };
        for place in (0..bytes.len()).step_by(step) {
            let mut torn = files.clone();
            torn[n].1.truncate(place);
            attempt(&torn);
            torn[n].1 = bytes.clone();
            torn[n].1[place] = 0xff;
            attempt(&torn);
        }
    }
    assert!(refused > 100, "{refused}");
}
