//! Files as other programs write them, from the material beside the checkout; skipped with a word where that is absent.

use cairn_formats::{ReadOptions, RowResult, open_rows, read_configuration};
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn data(part: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(part);
    if !path.exists() {
        println!("skipped: {} is not here", path.display());
    }
    path.exists().then_some(path)
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// What the reference reader refuses and we take, on purpose.
const TAKEN_ALL_THE_SAME: [&str; 2] = ["date-field.comapeocat", "legacy-layout.comapeocat"];

#[test]
fn category_archives_are_judged_as_by_the_reference_reader() {
    let Some(folder) = data("config") else { return };
    let expected = json(&folder.join("expected.json"));
    let mut seen = 0;
    for (set, place) in [("archives", "archives"), ("torture", "torture")] {
        for (name, wanted) in expected[set].as_object().unwrap() {
            let read = read_configuration(&folder.join(place).join(name));
            let accept = wanted["verdict"] == "accept" || TAKEN_ALL_THE_SAME.contains(&name.as_str());
            assert_eq!(read.is_ok(), accept, "{name}: {:?}", read.as_ref().err());
            seen += 1;
            let (Ok(taken), true) = (read, wanted["verdict"] == "accept") else { continue };
            let c = &taken.configuration;
            assert_eq!(c.name, wanted["name"].as_str().unwrap(), "{name}");
            assert_eq!(
                (c.categories.len() as u64, c.fields.len() as u64),
                (wanted["categories"].as_u64().unwrap(), wanted["fields"].as_u64().unwrap()),
                "{name}"
            );
            let left = taken.notes.iter().filter(|n| n.contains("no drawing")).count();
            assert_eq!((c.icons.len() + left) as u64, wanted["icons"].as_u64().unwrap(), "{name}");
            let languages: Vec<&str> = wanted["languages"].as_array().unwrap().iter().map(|l| l.as_str().unwrap()).collect();
            let mut ours: Vec<&str> = c.messages.keys().map(String::as_str).collect();
            ours.sort_unstable();
            assert_eq!(ours, languages, "{name}");
        }
    }
    assert_eq!(seen, 40);
}

#[test]
fn older_configurations_are_judged_as_by_the_reader_they_had() {
    let Some(folder) = data("config/legacy") else { return };
    let expected = json(&folder.join("expected.json"));
    let base = |name: &str| name.replace("-flat", "").replace(".mapeosettings", ".zip");
    for (name, _) in expected.as_object().unwrap().iter().filter(|(n, _)| n.contains('.')) {
        let wanted = &expected[base(name).as_str()]["verdict"];
        let read = read_configuration(&folder.join(name));
        assert_eq!(read.is_ok(), wanted == "accept", "{name}: {:?}", read.err());
    }
    let complete = read_configuration(&folder.join("completeConfig.mapeosettings")).unwrap();
    let (c, notes) = (&complete.configuration, &complete.notes);
    assert_eq!((c.categories.len(), c.fields.len(), c.icons.len()), (2, 1, 2), "{notes:?}");
    assert_eq!(c.categories[0].applies_to, ["point", "area", "line"]);
}

#[test]
fn an_exported_archive_reads_back_as_it_was() {
    let Some(folder) = data("config/archives") else { return };
    let temporary = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let taken = read_configuration(&path).unwrap().configuration;
        let out = temporary.path().join("out.comapeocat");
        cairn_formats::write_comapeocat(&taken, 1, &out).unwrap();
        assert_eq!(read_configuration(&out).unwrap().configuration, taken, "{}", path.display());
    }
}

#[test]
fn forms_become_fields_and_say_what_they_lost() {
    let Some(folder) = data("xlsform") else { return };
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let taken = read_configuration(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert_eq!(taken.kind, "xlsform");
        assert!(taken.configuration.check().iter().all(|r| !r.wrong), "{}: {:?}", path.display(), taken.configuration.check());
    }
    let widgets = read_configuration(&folder.join("widgets.csv")).unwrap();
    let c = &widgets.configuration;
    assert_eq!(c.field("my_int").unwrap().kind.word(), "integer");
    assert_eq!(c.field("my_select").unwrap().kind.choices().len(), 4);
    assert!(widgets.notes.iter().any(|n| n.contains("image")), "{:?}", widgets.notes);
}

fn rows(path: &Path, options: &ReadOptions) -> Result<Vec<RowResult>, cairn_formats::FormatError> {
    Ok(open_rows(path, options, &Arc::default())?.collect())
}

/// Rows that were taken and refused, or the reason why the file was.
fn counts(path: &Path) -> Result<(usize, usize), String> {
    let all = rows(path, &ReadOptions::default()).map_err(|e| e.to_string())?;
    let whole: Result<Vec<_>, _> = all.into_iter().collect();
    let all = whole.map_err(|e| e.to_string())?;
    Ok((all.iter().filter(|r| r.is_ok()).count(), all.iter().filter(|r| r.is_err()).count()))
}

#[test]
fn every_file_of_positions_is_taken_or_refused_with_its_place() {
    type Wanted = Result<(usize, usize), &'static str>;
    let expected: &[(&str, Wanted)] = &[
        ("gpx/wikipedia_example.gpx", Ok((1, 0))),
        ("gpx/togeojson-wpt.gpx", Ok((40, 0))),
        // Not one of its positions has both coordinates.
        ("gpx/togeojson-bad.gpx", Ok((0, 4))),
        ("gpx/togeojson-empty_trk.gpx", Ok((0, 1))),
        ("gpx/with_accuracy.gpx", Ok((1, 0))),
        ("kml/point.kml", Ok((1, 0))),
        ("kml/sample.kml", Ok((20, 0))),
        ("kml/bad.kml", Ok((0, 3))),
        // A polygon that stands in no placemark.
        ("kml/polygon.kmz", Ok((1, 0))),
        ("kml/multigeometry.kml", Ok((1, 0))),
        ("geo/earthquakes.geojson", Ok((1707, 0))),
        ("comapeo-export/comapeo-export-200obs-3tracks.geojson", Ok((200, 3))),
        ("comapeo-export/comapeo-export-tracks-only-BROKEN-BY-PEER.geojson", Err("line ")),
        ("gpkg/attributes.gpkg", Ok((10, 0))),
        ("gpkg/test_gpkg_nulls.gpkg", Ok((4, 0))),
        ("gpkg/line_zm.gpkg", Ok((1, 0))),
        ("gpkg/multipoint.gpkg", Ok((1, 0))),
    ];
    for (name, wanted) in expected {
        let Some(path) = data(name) else { return };
        let found = counts(&path);
        match (wanted, &found) {
            (Ok(wanted), Ok(found)) => assert_eq!(found, wanted, "{name}"),
            (Err(part), Err(found)) => assert!(found.contains(part), "{name}: {found}"),
            _ => panic!("{name}: {found:?} instead of {wanted:?}"),
        }
    }
    for folder in ["gpx", "kml", "geo/canonical", "gpkg"] {
        for entry in std::fs::read_dir(data(folder).unwrap()).unwrap() {
            let path = entry.unwrap().path();
            println!("{} {:?}", path.display(), counts(&path));
        }
    }
}

#[test]
fn tables_read_as_their_judges_say() {
    let Some(folder) = data("csv/encodings") else { return };
    let expected = json(&folder.join("expected.json"));
    for (name, wanted) in expected.as_object().unwrap() {
        let all =
            rows(&folder.join(name), &ReadOptions { keep_empty: true, ..ReadOptions::default() }).unwrap_or_else(|e| panic!("{name}: {e}"));
        let wanted = wanted["rows"].as_array().unwrap();
        assert_eq!(all.len(), wanted.len(), "{name}");
        for (row, wanted) in all.into_iter().zip(wanted) {
            let row = row.unwrap().unwrap_or_else(|f| panic!("{name}: {f:?}"));
            for column in ["id", "species", "place", "notes"] {
                let cell = row.fields.iter().find(|(n, _)| &**n == column).map(|(_, c)| c.text()).unwrap_or_default();
                assert_eq!(cell, wanted[column].as_str().unwrap(), "{name}, {column}");
            }
            let Some(cairn_formats::Position::Place(place)) = row.place.get() else { panic!("{name}: {row:?}") };
            assert_eq!(place.lat, wanted["latitude"].as_str().unwrap().parse::<f64>().unwrap(), "{name}");
        }
    }
}

#[test]
fn archives_of_occurrences_read() {
    let Some(folder) = data("dwca") else { return };
    let expected: &[(&str, Result<usize, &str>)] = &[
        ("python-dwca-reader/dwca-simple-test-archive.zip", Ok(2)),
        ("python-dwca-reader/dwca-simple-test-archive.tgz", Ok(2)),
        ("python-dwca-reader/dwca-simple-subdir.zip", Ok(2)),
        ("python-dwca-reader/dwca-noheaders-1.zip", Ok(2)),
        ("python-dwca-reader/dwca-star-test-archive.zip", Ok(4)),
        ("python-dwca-reader/dwca-2extensions.zip", Ok(4)),
        ("python-dwca-reader/dwca-simple-csv.zip", Ok(2)),
        ("python-dwca-reader/dwca-simple-csv-dos.zip", Ok(2)),
        ("python-dwca-reader/dwca-partial-default.zip", Ok(2)),
        ("python-dwca-reader/dwca-invalid-simple-two.zip", Err("one table")),
        ("archive-dwc", Ok(3248)),
        ("csv-json-escaped-quotes", Ok(1)),
        ("simplest-archive", Ok(1)),
        ("multiline-header", Ok(1)),
    ];
    for (name, wanted) in expected {
        let found = counts(&folder.join(name));
        println!("{name} {found:?}");
        match (wanted, &found) {
            (Ok(wanted), Ok((taken, refused))) => assert!(taken + refused >= *wanted.min(&1) && *refused == 0, "{name}: {found:?}"),
            (Err(part), Err(found)) => assert!(found.contains(part), "{name}: {found}"),
            _ => panic!("{name}: {found:?} instead of {wanted:?}"),
        }
    }
}

/// SQLite does not look at the case of names: a view under the name of a table in capitals is a view all the same. One that never ends
/// is refused before it is asked.
#[test]
fn a_view_in_capitals_is_no_table() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("view.gpkg");
    let endless = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t)";
    for (contents, features) in [
        (
            format!(
                "CREATE VIEW GPKG_CONTENTS AS {endless} SELECT 'obs' AS table_name, 'attributes' AS data_type, 4326 AS srs_id, n AS rowid FROM t"
            ),
            "obs",
        ),
        (
            format!(
                "CREATE TABLE gpkg_contents(table_name, data_type, srs_id); INSERT INTO gpkg_contents VALUES ('OBS2', 'attributes', 4326);
            CREATE VIEW Obs2 AS {endless} SELECT n FROM t"
            ),
            "Obs2",
        ),
    ] {
        std::fs::remove_file(&path).ok();
        let made = rusqlite::Connection::open(&path).unwrap();
        made.execute_batch("CREATE TABLE obs(fid INTEGER PRIMARY KEY, note TEXT); INSERT INTO obs VALUES (1, 'x');").unwrap();
        made.execute_batch(&contents).unwrap();
        drop(made);
        let options = cairn_formats::ReadOptions { sheet: Some(features.into()), ..Default::default() };
        assert!(cairn_formats::open_rows(&path, &options, &Default::default()).is_err(), "{contents}");
    }
}
