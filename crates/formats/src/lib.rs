//! Files people bring and take. Bytes in, rows out: what a row means is decided by the caller.
#![warn(missing_docs)]

mod archive;
mod config;
mod csv_rows;
mod dwca_rows;
mod export;
mod geojson;
mod geojson_rows;
mod gpkg_rows;
mod gpx_rows;
mod kml_rows;
mod row;
mod rows;
mod sheet_rows;
mod shp_rows;
mod text;
mod times;
mod wkt;
mod xml;

pub use config::{TakenConfiguration, configuration_json, read_configuration, sanitise_svg, write_comapeocat};
pub use export::{
    About, Encoded, ExportRow, Kinds, RowEncoder, RowWriter, Survey, WRITE_FORMATS, WriteOptions, Written, create, needs_survey,
    write_format,
};
pub use geojson::write as geojson_geometry;
pub use row::{Cell, FormatError, Part, Position, ReadOptions, Row, RowFault, number, taken_for};
pub use rows::{ROW_FORMATS, RowResult, Rows, open_rows, recognise};
pub use times::zone;
