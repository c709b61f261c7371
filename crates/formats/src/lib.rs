//! Files people bring and take. Pure text in, rows out: what a row means is decided by the caller.

mod csv_rows;
mod export;
mod geojson_rows;
mod row;

pub use csv_rows::CsvRows;
pub use export::{CsvExport, ExportField, ExportRow, GeoJsonExport};
pub use geojson_rows::read_geojson;
pub use row::{Cell, FormatError, Mapping, Row, RowFault};
