//! Opening a file of rows: what it is, by what it holds and only then by its name.

use crate::csv_rows::CsvRows;
use crate::{FormatError, ReadOptions, Row, RowFault};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// A row, or why it cannot be taken; an outer error ends the file.
pub type RowResult = Result<Result<Row, RowFault>, FormatError>;

/// Rows of a file, one at a time.
pub trait Rows: Iterator<Item = RowResult> + Send {
    /// Names of the columns and texts of the last row as it stands in the file, where the format has such.
    fn raw(&self) -> Option<(Vec<String>, Vec<String>)> {
        None
    }

    /// What people should know of how the file was read.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Rows that were read at once.
pub(crate) struct Ready<I>(pub I, pub Vec<String>);

impl<I: Iterator<Item = RowResult>> Iterator for Ready<I> {
    type Item = RowResult;
    fn next(&mut self) -> Option<RowResult> {
        self.0.next()
    }
}

impl<I: Iterator<Item = RowResult> + Send> Rows for Ready<I> {
    fn notes(&self) -> Vec<String> {
        self.1.clone()
    }
}

/// Rows on their way from the thread that reads them.
const AHEAD: usize = 256;

/// Rows that a thread of their own reads: of libraries that lend rows and cannot be stopped between two.
pub(crate) struct Streamed {
    rows: Receiver<RowResult>,
    notes: Vec<String>,
}

impl Iterator for Streamed {
    type Item = RowResult;
    fn next(&mut self) -> Option<RowResult> {
        self.rows.recv().ok()
    }
}

impl Rows for Streamed {
    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }
}

/// `work` sends rows until it is done, or nobody listens any more; what it fails with comes last.
pub(crate) fn streamed(
    notes: Vec<String>,
    work: impl FnOnce(&SyncSender<RowResult>) -> Result<(), FormatError> + Send + 'static,
) -> Streamed {
    let (sender, rows) = sync_channel(AHEAD);
    std::thread::spawn(move || {
        if let Err(e) = work(&sender) {
            // Whoever does not listen any more needs no answer.
            sender.send(Err(e)).ok();
        }
    });
    Streamed { rows, notes }
}

/// Counts bytes as they are read, for progress.
struct Counted<R> {
    input: R,
    bytes: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let got = self.input.read(buf)?;
        self.bytes.fetch_add(got as u64, Ordering::Relaxed);
        Ok(got)
    }
}

/// The kinds of files that rows come from, by the word for `--format`.
pub const ROW_FORMATS: [&str; 10] = ["csv", "tsv", "geojson", "gpx", "kml", "kmz", "gpkg", "dwca", "shapefile", "sheet"];

/// What a file is: by the word that was told, else by its first bytes, else by its ending.
///
/// # Errors
/// A file that is nothing of what is known.
pub fn recognise(path: &Path, told: Option<&str>) -> Result<&'static str, FormatError> {
    let by_word = |word: &str| {
        Some(match word {
            "csv" | "txt" | "tab" => "csv",
            "tsv" => "tsv",
            "geojson" | "json" | "geojsonl" | "geojsons" | "geojson-seq" | "ndjson" => "geojson",
            "gpx" => "gpx",
            "kml" => "kml",
            "kmz" => "kmz",
            "gpkg" => "gpkg",
            "dwca" => "dwca",
            "shapefile" | "shp" => "shapefile",
            "sheet" | "xlsx" | "xls" | "ods" | "xlsb" | "xlsm" => "sheet",
            _ => return None,
        })
    };
    if let Some(word) = told {
        return by_word(word).ok_or_else(|| FormatError::Options(format!("`{word}` is no format of rows: {}", ROW_FORMATS.join(", "))));
    }
    if path.is_dir() {
        return Ok("dwca");
    }
    let mut head = Vec::new();
    File::open(path)?.take(4096).read_to_end(&mut head)?;
    let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
    let named = by_word(&ending);
    let text = head.strip_prefix(&[0xef, 0xbb, 0xbf]).unwrap_or(&head).trim_ascii_start();
    let contains = |word: &str| memchr::memmem::find(&head, word.as_bytes()).is_some();
    Ok(match () {
        () if head.starts_with(b"SQLite format 3\0") => "gpkg",
        () if head.starts_with(b"PK\x03\x04") => in_zip(path, named)?,
        () if head.starts_with(&[0x1f, 0x8b]) => "dwca",
        () if head.starts_with(&[0, 0, 0x27, 0x0a]) => "shapefile",
        () if head.starts_with(&[0xd0, 0xcf, 0x11, 0xe0]) => "sheet",
        () if text.starts_with(b"<") && contains("<gpx") => "gpx",
        () if text.starts_with(b"<") && (contains("<kml") || contains(":kml")) => "kml",
        () if (text.starts_with(b"{") || text.starts_with(b"\x1e")) && named != Some("csv") && named != Some("tsv") => "geojson",
        () => named.ok_or_else(|| {
            FormatError::Options("this file is nothing that is known: CSV, XLSX, ODS, GeoJSON, GPX, KML, KMZ, GeoPackage, a shapefile or a Darwin Core archive (`--format` tells which)".into())
        })?,
    })
}

fn in_zip(path: &Path, named: Option<&'static str>) -> Result<&'static str, FormatError> {
    let names = crate::archive::names(path)?;
    let has = |n: &str| names.iter().any(|name| name == n || name.ends_with(&format!("/{n}")));
    let ends = |ending: &str| names.iter().any(|n| n.to_lowercase().ends_with(ending));
    Ok(match () {
        () if has("xl/workbook.xml") || has("xl/workbook.bin") || has("content.xml") => "sheet",
        () if has("meta.xml") => "dwca",
        () if ends(".kml") => "kmz",
        () if ends(".shp") => "shapefile",
        () => named.unwrap_or("dwca"),
    })
}

/// Opens a file of rows. `bytes` counts what was read of it.
///
/// # Errors
/// What the file is not, with its place.
pub fn open_rows(path: &Path, options: &ReadOptions, bytes: &Arc<AtomicU64>) -> Result<Box<dyn Rows>, FormatError> {
    let kind = recognise(path, options.format.as_deref())?;
    let input = || -> Result<Box<dyn Read + Send>, FormatError> {
        Ok(Box::new(Counted { input: BufReader::with_capacity(256 << 10, File::open(path)?), bytes: bytes.clone() }))
    };
    Ok(match kind {
        "csv" => Box::new(CsvRows::new(input()?, options)?),
        "tsv" => {
            let options = ReadOptions { delimiter: options.delimiter.or(Some('\t')), ..options.clone() };
            Box::new(CsvRows::new(input()?, &options)?)
        }
        "geojson" => Box::new(crate::geojson_rows::GeoJsonRows::new(input()?, options)?),
        "gpx" => crate::gpx_rows::read(input()?, options)?,
        "kml" => crate::kml_rows::read(input()?, options)?,
        "kmz" => crate::kml_rows::read_zipped(path, options)?,
        "gpkg" => crate::gpkg_rows::read(path, options)?,
        "sheet" => crate::sheet_rows::read(path, options)?,
        "shapefile" => crate::shp_rows::read(path, options)?,
        _ => crate::dwca_rows::read(path, options)?,
    })
}
