//! Rows of one table of a GeoPackage (OGC 12-128r18). Only tables are read, never views: what a view computes has no bound. Names are
//! compared as SQLite does, without regard to case, and a query that works long without giving a row is ended.

use crate::row::{Cell, Column, Reading};
use crate::rows::{RowResult, Rows, streamed};
use crate::{FormatError, ReadOptions};
use cairn_model::Shape;
use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::SyncSender;

/// Bytes of one value.
const VALUE_BYTES: i32 = 16 << 20;
/// Steps of SQLite's machine between two looks at the clock of a query, and how many looks it may take for one row: some seconds.
const STEPS: i32 = 100_000;
const LOOKS: u32 = 2_000;

/// A database that nothing is believed of, with the patience for its queries.
pub(crate) struct Opened {
    connection: Connection,
    /// Looks since the last row.
    looks: Arc<AtomicU32>,
}

impl Opened {
    /// A row came: the next one has as long.
    fn again(&self) {
        self.looks.store(0, Ordering::Relaxed);
    }
}

impl std::ops::Deref for Opened {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

fn broken(e: impl ToString) -> FormatError {
    FormatError::part("the database", e)
}

/// A layer that holds rows.
struct Layer {
    table: String,
    features: bool,
    geometry: Option<String>,
    srs: i64,
}

/// Opens a database that nothing is believed of.
pub(crate) fn open(path: &Path) -> Result<Opened, FormatError> {
    let mut connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(broken)?;
    connection.execute_batch("PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA query_only = ON;").map_err(broken)?;
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, VALUE_BYTES).map_err(broken)?;
    connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0).map_err(broken)?;
    let looks = Arc::new(AtomicU32::new(0));
    let seen = looks.clone();
    connection.progress_handler(STEPS, Some(move || seen.fetch_add(1, Ordering::Relaxed) >= LOOKS)).map_err(broken)?;
    let opened = Opened { connection, looks };
    let kind = kind_of(&opened, "gpkg_contents")?;
    if kind == Kind::Absent {
        return Err(broken("it is no GeoPackage: it has no `gpkg_contents`"));
    }
    for (name, kind) in [("gpkg_contents", kind), ("gpkg_geometry_columns", kind_of(&opened, "gpkg_geometry_columns")?)] {
        if kind == Kind::Other {
            return Err(broken(format!("`{name}` is no table")));
        }
    }
    Ok(opened)
}

/// What a name of the schema stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Absent,
    Table,
    /// A view computes without bound, and so does a virtual table over one.
    Other,
}

/// A name that stands for several things, as only a forged schema has it, is no plain table.
fn kind_of(connection: &Opened, name: &str) -> Result<Kind, FormatError> {
    let sql = "SELECT type, rootpage FROM sqlite_master WHERE type IN ('table', 'view') AND name = ?1 COLLATE NOCASE";
    let mut statement = connection.prepare(sql).map_err(broken)?;
    let plain = |r: &rusqlite::Row<'_>| Ok(r.get::<_, String>(0)? == "table" && r.get::<_, i64>(1)? > 0);
    let found = statement.query_map([name], plain).map_err(broken)?.take(2).collect::<Result<Vec<bool>, _>>().map_err(broken)?;
    Ok(match found.as_slice() {
        [] => Kind::Absent,
        [true] => Kind::Table,
        _ => Kind::Other,
    })
}

/// Reads the layer asked for, or the first with geometries, or the first one.
pub(crate) fn read(path: &Path, options: &ReadOptions) -> Result<Box<dyn Rows>, FormatError> {
    let connection = open(path)?;
    let layers = layers(&connection)?;
    let names: Vec<&str> = layers.iter().map(|l| l.table.as_str()).collect();
    let chosen = match &options.sheet {
        Some(asked) => layers.iter().find(|l| l.table.eq_ignore_ascii_case(asked)),
        None => layers.iter().find(|l| l.features).or_else(|| layers.first()),
    };
    let Some(layer) = chosen else {
        let asked = options.sheet.as_deref().unwrap_or("rows");
        return Err(FormatError::Options(format!("there is no layer `{asked}`; there are: {}", names.join(", "))));
    };
    if layer.features && !matches!(layer.srs, 4326 | 4979 | 0 | -1) {
        return Err(FormatError::part(
            &layer.table,
            format!("its reference system is EPSG:{}; only degrees (EPSG:4326) are taken", layer.srs),
        ));
    }
    let others: Vec<&str> = names.iter().filter(|n| **n != layer.table).copied().collect();
    let mut notes = Vec::new();
    if !others.is_empty() && options.sheet.is_none() {
        notes.push(format!("layer `{}` was read; `--sheet` chooses another one: {}", layer.table, others.join(", ")));
    }
    let reading = Reading::new(options)?;
    let (columns, types) = columns(&connection, layer, &reading)?;
    let (table, geometry) = (layer.table.clone(), layer.geometry.clone());
    let source = Source { reading, columns, types, geometry };
    Ok(Box::new(streamed(notes, move |to| source.send_all(&connection, &table, to))))
}

fn layers(connection: &Opened) -> Result<Vec<Layer>, FormatError> {
    let sql =
        "SELECT table_name, data_type, srs_id FROM gpkg_contents WHERE data_type IN ('features', 'attributes', 'aspatial') ORDER BY rowid";
    let mut statement = connection.prepare(sql).map_err(broken)?;
    let rows =
        statement.query_map([], |r| Ok((r.get::<_, String>(0)?, r.get::<_, String>(1)?, r.get::<_, Option<i64>>(2)?))).map_err(broken)?;
    let mut out = Vec::new();
    for row in rows {
        let (table, kind, srs) = row.map_err(broken)?;
        connection.again();
        if kind_of(connection, &table)? != Kind::Table {
            continue;
        }
        let features = kind == "features";
        let found = connection
            .query_row("SELECT column_name, srs_id FROM gpkg_geometry_columns WHERE table_name = ?1 COLLATE NOCASE", [&table], |r| {
                Ok((r.get::<_, String>(0)?, r.get::<_, i64>(1)?))
            })
            .ok()
            .filter(|_| features);
        let (geometry, srs) = found.map_or((None, srs.unwrap_or(4326)), |(g, s)| (Some(g), s));
        out.push(Layer { table, features, geometry, srs });
    }
    Ok(out)
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn columns(connection: &Opened, layer: &Layer, reading: &Reading) -> Result<(Vec<Column>, Vec<String>), FormatError> {
    let mut statement = connection.prepare(&format!("PRAGMA table_info({})", quoted(&layer.table))).map_err(broken)?;
    let row = |r: &rusqlite::Row<'_>| Ok((r.get::<_, String>(1)?, r.get::<_, String>(2)?));
    let found = statement.query_map([], row).map_err(broken)?.collect::<Result<Vec<_>, _>>().map_err(broken)?;
    let names: Vec<String> = found.iter().map(|(n, _)| n.clone()).collect();
    let mut columns = reading.columns(&names)?;
    for column in columns.iter_mut().filter(|c| matches!(&*c.name, "fid" | "ogc_fid") && c.key.is_none()) {
        // The number of a row in its file says nothing about what was seen.
        column.meaning = crate::row::Meaning::Ignore;
    }
    Ok((columns, found.into_iter().map(|(_, t)| t.to_uppercase()).collect()))
}

struct Source {
    reading: Reading,
    columns: Vec<Column>,
    types: Vec<String>,
    geometry: Option<String>,
}

impl Source {
    fn send_all(&self, connection: &Opened, table: &str, to: &SyncSender<RowResult>) -> Result<(), FormatError> {
        let names: Vec<String> = self.columns.iter().map(|c| quoted(&c.name)).collect();
        let mut statement = connection.prepare(&format!("SELECT {} FROM {}", names.join(", "), quoted(table))).map_err(broken)?;
        let mut rows = statement.query([]).map_err(broken)?;
        let mut number = 0;
        while let Some(row) = rows.next().map_err(|e| FormatError::part(format!("table `{table}`, row {}", number + 1), e))? {
            number += 1;
            connection.again();
            if to.send(Ok(self.row(row, number)?)).is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn row(&self, row: &rusqlite::Row<'_>, number: u64) -> Result<Result<crate::Row, crate::RowFault>, FormatError> {
        let mut draft = self.reading.draft(number);
        for (n, column) in self.columns.iter().enumerate() {
            let value = row.get_ref(n).map_err(broken)?;
            let put = if self.geometry.as_deref() == Some(&*column.name) {
                match geometry(value) {
                    Ok(Some(shape)) => draft.shape(shape),
                    Ok(None) => Ok(()),
                    Err(reason) => Err((Some(column.name.to_string()), reason)),
                }
            } else {
                draft.put(column, cell(value, &self.types[n]))
            };
            if let Err(fault) = put {
                return Ok(Err(draft.fault(fault)));
            }
        }
        Ok(draft.finish())
    }
}

fn cell(value: ValueRef<'_>, kind: &str) -> Cell {
    match value {
        ValueRef::Null => Cell::Empty,
        ValueRef::Integer(n) if kind == "BOOLEAN" => Cell::Bool(n != 0),
        ValueRef::Integer(n) => Cell::Integer(n),
        ValueRef::Real(n) => Cell::Number(n),
        ValueRef::Text(text) => Cell::Text(String::from_utf8_lossy(text).into_owned()),
        // Pictures and the like are not observations' fields.
        ValueRef::Blob(_) => Cell::Empty,
    }
}

/// The geometry in a GeoPackage value; `None` for nothing or an empty one.
fn geometry(value: ValueRef<'_>) -> Result<Option<Shape>, String> {
    let ValueRef::Blob(bytes) = value else { return Ok(None) };
    let [b'G', b'P', _, flags, ..] = bytes else { return Err("not a GeoPackage geometry".into()) };
    let envelope = match (flags >> 1) & 7 {
        0 => 0,
        1 => 32,
        2 | 3 => 48,
        4 => 64,
        _ => return Err("a GeoPackage geometry with an unknown envelope".into()),
    };
    if flags & 0x10 != 0 {
        return Ok(None);
    }
    let wkb = bytes.get(8 + envelope..).ok_or("a GeoPackage geometry that ends too early")?;
    Shape::from_wkb(wkb).map(Some).map_err(|e| e.to_string())
}
