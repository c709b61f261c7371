//! What can be typed about rows that come and go.

use crate::args::{FilterArgs, pair};
use std::path::PathBuf;

pub const IMPORT_HELP: &str =
    "lat/latitude/y, lon/lng/long/longitude/x, time/date/datetime, category, note are known in any case; other columns become fields.
A data set is a table that comes again: its key says which row is which observation, on every device.

Modes: append adds rows (one that is there with other values is refused), upsert adds and changes, replace makes the data set
equal to the file, delete removes the rows the file names. Observations made by hand are never touched.

Examples:
  cairn import sightings.csv --category animal --map \"Common name=species\" --dry-run
  cairn import boxes.xlsx --dataset boxes --key \"Box No\" --mode upsert
  cairn import boxes.csv --dataset boxes --key \"Box No\" --mode replace --max-delete 20
  cairn import deutsch.csv --date-format dd.MM.yyyy --tz Europe/Berlin --decimal ,
  cairn import track.gpx --category patrol";

pub const EXPORT_HELP: &str = "The format is told by the ending: .csv .tsv .geojson .geojsonl .gpx .kml .kmz .gpkg .dwca.zip .xlsx .shp.zip

Examples:
  cairn export fires.csv --category fire --since 2026-01-01
  cairn export share.gpkg --round 0.1deg                   positions to share with strangers
  cairn export before.geojson --as-of 2026-06-30";

/// How a file of rows is read.
#[derive(clap::Args, Debug)]
pub struct ReadArgs {
    /// What the file is, where that is not recognised: csv, tsv, geojson, gpx, kml, kmz, gpkg, dwca, sheet
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Take a column for a field, or for lat, lon, altitude, uncertainty, position, time, category, note, or - (nothing)
    #[arg(long, value_name = "COL=FIELD", value_parser = pair)]
    pub map: Vec<(String, String)>,
    /// Leave a column out
    #[arg(long, value_name = "COL")]
    pub ignore: Vec<String>,
    /// Column that identifies a row; may be given several times
    #[arg(long, value_name = "COL")]
    pub key: Vec<String>,
    /// Encoding, where it is not recognised: windows-1252, utf-16le, shift_jis ...
    #[arg(long, value_name = "NAME")]
    pub encoding: Option<String>,
    /// Between cells; \t for tabs
    #[arg(long, value_name = "CHAR", value_parser = character)]
    pub delimiter: Option<char>,
    /// Around cells, or `none`
    #[arg(long, value_name = "CHAR")]
    pub quote: Option<String>,
    /// Before a quote in quotes, where it is not doubled
    #[arg(long, value_name = "CHAR", value_parser = character)]
    pub escape: Option<char>,
    /// Rows to skip before the header
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub skip: u64,
    /// There is no header line
    #[arg(long)]
    pub no_header: bool,
    /// Names of the columns instead of the header's
    #[arg(long, value_name = "A,B,...", value_delimiter = ',')]
    pub columns: Vec<String>,
    /// Texts that mean nothing, as NA
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub missing: Vec<String>,
    /// An empty cell is an empty text, not nothing
    #[arg(long)]
    pub keep_empty: bool,
    /// Forms of dates, tried in order: iso, unix, dd.MM.yyyy HH:mm, %d.%m.%Y
    #[arg(long = "date-format", value_name = "FORM")]
    pub dates: Vec<String>,
    /// Time zone of times without one, as America/Lima or -05:00
    #[arg(long, value_name = "ZONE", allow_hyphen_values = true)]
    pub tz: Option<String>,
    /// Decimal sign, . or ,
    #[arg(long, value_name = "CHAR")]
    pub decimal: Option<char>,
    /// Sheet of a spreadsheet, layer of a GeoPackage
    #[arg(long, value_name = "NAME")]
    pub sheet: Option<String>,
}

#[derive(clap::Args, Debug)]
pub struct ImportArgs {
    pub file: PathBuf,
    /// What is done with rows
    #[arg(long, default_value = "append", value_parser = ["append", "upsert", "replace", "delete"])]
    pub mode: String,
    /// The table the rows belong to
    #[arg(long, value_name = "NAME")]
    pub dataset: Option<String>,
    /// Category for new rows without one (id or name)
    #[arg(long)]
    pub category: Option<String>,
    #[command(flatten)]
    pub read: ReadArgs,
    /// Check, count and show; write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Take nothing if a row is refused
    #[arg(long)]
    pub strict: bool,
    /// Do nothing if more would be deleted (exit 25)
    #[arg(long, value_name = "N")]
    pub max_delete: Option<u64>,
    /// Replace by an empty file
    #[arg(long)]
    pub allow_empty: bool,
    /// Identify the data set's rows by other columns from now on (with replace)
    #[arg(long)]
    pub change_key: bool,
    /// Write the rows that were left out, with reasons
    #[arg(long, value_name = "FILE")]
    pub rejects: Option<PathBuf>,
}

#[derive(clap::Args, Debug)]
pub struct ExportArgs {
    pub file: PathBuf,
    /// csv, tsv, geojson, geojson-seq, gpx, kml, kmz, gpkg, dwca, xlsx or shapefile; by the file's ending if absent
    #[arg(long)]
    pub format: Option<String>,
    /// CSV: a byte order mark, so that Excel reads UTF-8
    #[arg(long)]
    pub bom: bool,
    /// CSV: texts that begin like a formula as they are
    #[arg(long)]
    pub raw: bool,
    /// CSV: between cells
    #[arg(long, value_name = "CHAR", value_parser = character)]
    pub delimiter: Option<char>,
    /// Positions less exact, as 0.1deg or 10km
    #[arg(long, value_name = "SIZE")]
    pub round: Option<String>,
    /// As it was: a time (by the authors' clocks), the number of a sync, or a digest `status` showed after one
    #[arg(long, value_name = "TIME|SYNC|DIGEST")]
    pub as_of: Option<String>,
    /// Pairs that are both meant (`cairn conflicts both-meant`), side by side: NAME.1 and NAME.2 of everything
    #[arg(long)]
    pub pairs: bool,
    #[command(flatten)]
    pub filter: FilterArgs,
}

fn character(text: &str) -> Result<char, String> {
    let text = if text == "\\t" { "\t" } else { text };
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(c), None) => Ok(c),
        _ => Err(format!("`{text}` is not one character")),
    }
}
