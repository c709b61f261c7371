//! GeoPackage 1.3: a table of features, one that explains its columns, and metadata.

use super::{About, ColumnType, ExportRow, RowWriter, Survey, Written, column_name, io, shape_of};
use crate::FormatError;
use cairn_model::{FieldValue, Instant, Shape, Value};
use rusqlite::{Connection, ToSql, params, params_from_iter, types::Value as Sql};
use std::path::Path;

const TABLE: &str = "observations";
/// Rows between two commits.
const TOGETHER: u64 = 10_000;

/// What every GeoPackage has (OGC 12-128r18, annex C), with the extension that metadata needs (annex F.8).
const SCHEMA: &str = "
PRAGMA application_id = 1196444487;
PRAGMA user_version = 10300;
CREATE TABLE gpkg_spatial_ref_sys (srs_name TEXT NOT NULL, srs_id INTEGER NOT NULL PRIMARY KEY, organization TEXT NOT NULL,
  organization_coordsys_id INTEGER NOT NULL, definition TEXT NOT NULL, description TEXT);
INSERT INTO gpkg_spatial_ref_sys VALUES
  ('WGS 84 geodetic', 4326, 'EPSG', 4326, 'GEOGCS[\"WGS 84\",DATUM[\"WGS_1984\",SPHEROID[\"WGS 84\",6378137,298.257223563,AUTHORITY[\"EPSG\",\"7030\"]],AUTHORITY[\"EPSG\",\"6326\"]],PRIMEM[\"Greenwich\",0,AUTHORITY[\"EPSG\",\"8901\"]],UNIT[\"degree\",0.0174532925199433,AUTHORITY[\"EPSG\",\"9122\"]],AUTHORITY[\"EPSG\",\"4326\"]]', 'longitude and latitude in degrees'),
  ('Undefined cartesian SRS', -1, 'NONE', -1, 'undefined', 'undefined cartesian coordinate reference system'),
  ('Undefined geographic SRS', 0, 'NONE', 0, 'undefined', 'undefined geographic coordinate reference system');
CREATE TABLE gpkg_contents (table_name TEXT NOT NULL PRIMARY KEY, data_type TEXT NOT NULL, identifier TEXT UNIQUE, description TEXT DEFAULT '',
  last_change DATETIME NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')), min_x DOUBLE, min_y DOUBLE, max_x DOUBLE, max_y DOUBLE, srs_id INTEGER,
  CONSTRAINT fk_gc_r_srs_id FOREIGN KEY (srs_id) REFERENCES gpkg_spatial_ref_sys(srs_id));
CREATE TABLE gpkg_geometry_columns (table_name TEXT NOT NULL, column_name TEXT NOT NULL, geometry_type_name TEXT NOT NULL, srs_id INTEGER NOT NULL,
  z TINYINT NOT NULL, m TINYINT NOT NULL, CONSTRAINT pk_geom_cols PRIMARY KEY (table_name, column_name),
  CONSTRAINT uk_gc_table_name UNIQUE (table_name), CONSTRAINT fk_gc_tn FOREIGN KEY (table_name) REFERENCES gpkg_contents(table_name),
  CONSTRAINT fk_gc_srs FOREIGN KEY (srs_id) REFERENCES gpkg_spatial_ref_sys (srs_id));
CREATE TABLE gpkg_extensions (table_name TEXT, column_name TEXT, extension_name TEXT NOT NULL, definition TEXT NOT NULL, scope TEXT NOT NULL,
  CONSTRAINT ge_tce UNIQUE (table_name, column_name, extension_name));
CREATE TABLE gpkg_metadata (id INTEGER CONSTRAINT m_pk PRIMARY KEY ASC NOT NULL, md_scope TEXT NOT NULL DEFAULT 'dataset',
  md_standard_uri TEXT NOT NULL, mime_type TEXT NOT NULL DEFAULT 'text/xml', metadata TEXT NOT NULL DEFAULT '');
CREATE TABLE gpkg_metadata_reference (reference_scope TEXT NOT NULL, table_name TEXT, column_name TEXT, row_id_value INTEGER,
  timestamp DATETIME NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')), md_file_id INTEGER NOT NULL, md_parent_id INTEGER,
  CONSTRAINT crmr_mfi_fk FOREIGN KEY (md_file_id) REFERENCES gpkg_metadata(id),
  CONSTRAINT crmr_mpi_fk FOREIGN KEY (md_parent_id) REFERENCES gpkg_metadata(id));
INSERT INTO gpkg_extensions VALUES
  ('gpkg_metadata', NULL, 'gpkg_metadata', 'http://www.geopackage.org/spec131/#extension_metadata', 'read-write'),
  ('gpkg_metadata_reference', NULL, 'gpkg_metadata', 'http://www.geopackage.org/spec131/#extension_metadata', 'read-write');
CREATE TABLE columns (fid INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, column_name TEXT, field TEXT, label TEXT);
INSERT INTO gpkg_contents (table_name, data_type, identifier, description, srs_id) VALUES ('columns', 'attributes', 'columns', 'what the columns of observations are', 0);
";

pub(super) struct GeoPackage {
    connection: Connection,
    insert: String,
    fields: Vec<(String, ColumnType)>,
    bounds: Option<[f64; 4]>,
    written: Written,
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl GeoPackage {
    pub fn new(path: &Path, survey: &Survey, about: &About) -> Result<Self, FormatError> {
        std::fs::File::create(path)?;
        let connection = Connection::open(path).map_err(io)?;
        // The file is thrown away if this does not end well.
        connection.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; BEGIN").map_err(io)?;
        connection.execute_batch(SCHEMA).map_err(io)?;
        let fields: Vec<(String, ColumnType)> = survey.fields.iter().map(|(f, k)| (f.clone(), k.column())).collect();
        let names = unique(&fields);
        let mut columns = vec![
            "fid INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL".to_owned(),
            "geom GEOMETRY".into(),
            "\":id\" TEXT".into(),
            "category TEXT".into(),
            "time DATETIME".into(),
            "note TEXT".into(),
            "uncertainty DOUBLE".into(),
        ];
        for ((_, kind), name) in fields.iter().zip(&names) {
            let word = match kind {
                ColumnType::Text => "TEXT",
                ColumnType::Integer => "INTEGER",
                ColumnType::Decimal => "DOUBLE",
                ColumnType::Bool => "BOOLEAN",
            };
            columns.push(format!("{} {word}", quoted(name)));
        }
        let table = format!("CREATE TABLE {TABLE} ({})", columns.join(", "));
        connection.execute_batch(&table).map_err(io)?;
        let height = if survey.altitude || survey.shapes { 2 } else { 0 };
        connection
            .execute(
                "INSERT INTO gpkg_contents (table_name, data_type, identifier, description, srs_id) VALUES (?1, 'features', ?2, ?3, 4326)",
                params![TABLE, about.project, about.remarks.join("; ")],
            )
            .map_err(io)?;
        let geometry = "INSERT INTO gpkg_geometry_columns VALUES (?1, 'geom', 'GEOMETRY', 4326, ?2, 0)";
        connection.execute(geometry, params![TABLE, height]).map_err(io)?;
        explain(&connection, &fields, &names, about)?;
        let marks = vec!["?"; names.len() + 6].join(", ");
        let listed: String = names.iter().map(|n| format!(", {}", quoted(n))).collect();
        let insert = format!("INSERT INTO {TABLE} (geom, \":id\", category, time, note, uncertainty{listed}) VALUES ({marks})");
        Ok(Self { connection, insert, fields, bounds: None, written: Written::default() })
    }
}

/// SQLite takes names that differ in case only for one.
fn unique(fields: &[(String, ColumnType)]) -> Vec<String> {
    let mut taken: Vec<String> = ["fid", "geom", ":id"].map(str::to_owned).to_vec();
    fields
        .iter()
        .map(|(field, _)| {
            let mut name: String = column_name(field).chars().map(|c| if c.is_control() { '_' } else { c }).collect();
            while taken.contains(&name.to_lowercase()) {
                name.push('_');
            }
            taken.push(name.to_lowercase());
            name
        })
        .collect()
}

fn explain(connection: &Connection, fields: &[(String, ColumnType)], names: &[String], about: &About) -> Result<(), FormatError> {
    for ((field, _), name) in fields.iter().zip(names) {
        let label = about.labels.get(field);
        connection
            .execute("INSERT INTO columns (column_name, field, label) VALUES (?1, ?2, ?3)", params![name, field, label])
            .map_err(io)?;
    }
    let text = crate::export::dwca::eml(about);
    connection
        .execute(
            "INSERT INTO gpkg_metadata (id, md_scope, md_standard_uri, mime_type, metadata) VALUES (1, 'dataset', 'https://eml.ecoinformatics.org/eml-2.2.0', 'text/xml', ?1)",
            [text],
        )
        .map_err(io)?;
    let reference = "INSERT INTO gpkg_metadata_reference (reference_scope, table_name, md_file_id) VALUES ('table', ?1, 1)";
    connection.execute(reference, [TABLE]).map_err(io)?;
    Ok(())
}

/// The header of a GeoPackage geometry and its WKB.
fn blob(shape: &Shape) -> Vec<u8> {
    let mut out = vec![b'G', b'P', 0, 1];
    out.extend(4326i32.to_le_bytes());
    // A measure would need a column that says so.
    out.extend(shape.map(&|c| c.with_time(None)).to_wkb());
    out
}

fn sql(value: Option<&FieldValue>, kind: ColumnType) -> Sql {
    match (value, kind) {
        (None, _) => Sql::Null,
        (Some(FieldValue::One(Value::Integer(n))), ColumnType::Integer) => Sql::Integer(*n),
        (Some(FieldValue::One(Value::Integer(n))), ColumnType::Decimal) => Sql::Real(*n as f64),
        (Some(FieldValue::One(Value::Decimal(n))), ColumnType::Decimal) => Sql::Real(*n),
        (Some(FieldValue::One(Value::Bool(b))), ColumnType::Bool) => Sql::Integer(i64::from(*b)),
        (Some(other), _) => Sql::Text(other.display()),
    }
}

/// The form that the standard asks for: UTC with milliseconds.
fn moment(at: Option<&str>) -> Option<String> {
    let instant = Instant::parse(at?).ok()?;
    let utc = Instant::from_unix_ms(instant.unix_ms())?.to_rfc3339();
    let (seconds, fraction) = utc.trim_end_matches('Z').split_once('.').map_or((utc.trim_end_matches('Z'), ""), |(s, f)| (s, f));
    Some(format!("{seconds}.{fraction:0<3}Z"))
}

impl RowWriter for GeoPackage {
    fn write(&mut self, row: &ExportRow) -> Result<(), FormatError> {
        let shape = shape_of(row);
        let geom = shape.as_ref().map_or(Sql::Null, |s| Sql::Blob(blob(s)));
        if let Some(shape) = &shape {
            for c in shape.coords() {
                let [w, s, e, n] = self.bounds.unwrap_or([c.lon, c.lat, c.lon, c.lat]);
                self.bounds = Some([w.min(c.lon), s.min(c.lat), e.max(c.lon), n.max(c.lat)]);
            }
            if shape.coords().iter().any(|c| c.time.is_some()) {
                self.written.notes.insert("times of single positions of tracks are left out: GPX and GeoJSON have them".into());
            }
        }
        let text = |t: Option<&str>| t.map_or(Sql::Null, |t| Sql::Text(t.to_owned()));
        let uncertainty = row.seen.place.and_then(|p| p.uncertainty).map_or(Sql::Null, Sql::Real);
        let mut values = vec![
            geom,
            Sql::Text(row.id.to_string()),
            Sql::Text(row.seen.category.clone()),
            text(moment(row.seen.at.as_deref()).as_deref()),
            text(row.seen.note.as_deref()),
            uncertainty,
        ];
        values.extend(self.fields.iter().map(|(f, kind)| sql(row.seen.fields.get(f), *kind)));
        let mut statement = self.connection.prepare_cached(&self.insert).map_err(io)?;
        statement.execute(params_from_iter(values.iter().map(|v| v as &dyn ToSql))).map_err(io)?;
        drop(statement);
        self.written.rows += 1;
        if self.written.rows.is_multiple_of(TOGETHER) {
            self.connection.execute_batch("COMMIT; BEGIN").map_err(io)?;
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Written, FormatError> {
        if let Some([w, s, e, n]) = self.bounds {
            let update = "UPDATE gpkg_contents SET min_x = ?1, min_y = ?2, max_x = ?3, max_y = ?4 WHERE table_name = 'observations'";
            self.connection.execute(update, params![w, s, e, n]).map_err(io)?;
        }
        self.connection.execute_batch("COMMIT").map_err(io)?;
        let path = self.connection.path().map(std::path::PathBuf::from);
        self.connection.close().map_err(|(_, e)| io(e))?;
        if let Some(path) = path {
            std::fs::File::open(path)?.sync_all()?;
        }
        Ok(self.written)
    }
}
