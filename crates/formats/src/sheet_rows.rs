//! Rows of a spreadsheet: XLSX, XLSB, XLS and ODS, the first sheet or the one asked for.

use crate::row::{Cell, Column, Reading, Row, RowFault};
use crate::rows::{Ready, RowResult, Rows};
use crate::{FormatError, ReadOptions};
use calamine::{Data, Reader, Sheets, open_workbook_auto_from_rs};
use std::io::{Cursor, Read};
use std::path::Path;

/// Bytes of a workbook, and of everything in it unpacked.
const FILE_BYTES: u64 = 256 << 20;
/// Cells of a sheet, empty ones between included.
const CELLS: u64 = 10_000_000;
/// Bytes of all texts of a sheet: one text may stand in many cells.
const TEXTS: u64 = 256 << 20;
/// Rows of a sheet of ODS, empty ones included: the most that LibreOffice writes, twice.
const ROWS: u64 = 2 << 20;
/// Columns of a sheet.
const COLUMNS: usize = 4096;

type Book = Sheets<Cursor<Vec<u8>>>;

fn broken(e: impl ToString) -> FormatError {
    FormatError::part("the workbook", e)
}

/// A row of cells with its number from 1.
type Line = (u64, Vec<Data>);

fn open(path: &Path) -> Result<Book, FormatError> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(broken("it has more than 256 MiB"));
    }
    if bytes.starts_with(b"PK") {
        weigh(path)?;
    }
    open_workbook_auto_from_rs(Cursor::new(bytes)).map_err(broken)
}

/// A sheet's name, and its rows with their numbers.
pub(crate) type SheetTexts = (String, Vec<(u64, Vec<String>)>);

/// Every sheet as texts, with the numbers of rows.
pub(crate) fn texts(path: &Path) -> Result<Vec<SheetTexts>, FormatError> {
    guarded(|| texts_of(path))
}

fn texts_of(path: &Path) -> Result<Vec<SheetTexts>, FormatError> {
    let mut book = open(path)?;
    let mut out = Vec::new();
    for name in book.sheet_names() {
        let text = |data: Data| cell(data).map_or_else(|_| String::new(), |c| c.text());
        let lines = lines(&mut book, &name)?.into_iter().map(|(n, cells)| (n, cells.into_iter().map(text).collect())).collect();
        out.push((name, lines));
    }
    Ok(out)
}

/// Reads one sheet whole; its first row that is not empty is the header.
pub(crate) fn read(path: &Path, options: &ReadOptions) -> Result<Box<dyn Rows>, FormatError> {
    guarded(|| read_book(path, options))
}

/// Damaged workbooks make the library that reads them panic: that ends the reading, not the program.
fn guarded<T>(work: impl FnOnce() -> Result<T, FormatError>) -> Result<T, FormatError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or_else(|_| Err(broken("it is damaged")))
}

fn read_book(path: &Path, options: &ReadOptions) -> Result<Box<dyn Rows>, FormatError> {
    let mut book = open(path)?;
    let names = book.sheet_names();
    let name = match &options.sheet {
        Some(asked) => names.iter().find(|n| *n == asked),
        None => names.first(),
    };
    let Some(name) = name.cloned() else {
        let asked = options.sheet.as_deref().unwrap_or_default();
        return Err(FormatError::Options(format!("there is no sheet `{asked}`; there are: {}", names.join(", "))));
    };
    let mut notes = Vec::new();
    if names.len() > 1 && options.sheet.is_none() {
        notes.push(format!("sheet `{name}` was read; `--sheet` chooses another one: {}", names[1..].join(", ")));
    }
    let mut lines = lines(&mut book, &name)?.into_iter().filter(|(_, cells)| cells.iter().any(filled));
    for _ in 0..options.skip {
        if lines.next().is_none() {
            break;
        }
    }
    let reading = Reading::new(options)?;
    let names = header(options, &mut lines, &name)?;
    let columns = reading.columns(&names)?;
    let rows: Vec<RowResult> = lines.map(|(number, cells)| Ok(row(&reading, &columns, number, cells))).collect();
    Ok(Box::new(Ready(rows.into_iter(), notes)))
}

/// A formula that gives an empty text fills nothing.
fn filled(data: &Data) -> bool {
    match data {
        Data::Empty => false,
        Data::String(text) => !text.trim().is_empty(),
        _ => true,
    }
}

fn header(options: &ReadOptions, lines: &mut dyn Iterator<Item = Line>, sheet: &str) -> Result<Vec<String>, FormatError> {
    if options.no_header {
        return Ok(options.columns.clone());
    }
    let (_, cells) = lines.next().ok_or_else(|| FormatError::part(format!("sheet `{sheet}`"), "it has no header row"))?;
    if !options.columns.is_empty() {
        return Ok(options.columns.clone());
    }
    let mut names: Vec<String> = Vec::new();
    for data in cells {
        let name = cell(data).map_or_else(|e| e, |c| c.text().trim().to_owned());
        let taken = !name.is_empty() && names.contains(&name);
        names.push(if taken { format!("{name} ({})", names.len() + 1) } else { name });
    }
    Ok(names)
}

/// What the archive unpacks to is counted before anything of it is believed.
fn weigh(path: &Path) -> Result<(), FormatError> {
    let mut archive = crate::archive::Archive::open(path)?;
    let mut left = FILE_BYTES;
    for name in archive.names() {
        let mut counted = Count(0);
        archive.unpack(&name, left, &mut counted)?;
        left -= counted.0;
    }
    if archive.has("content.xml") {
        let text = archive.read("content.xml", FILE_BYTES)?;
        repeated(&String::from_utf8_lossy(&text))?;
    }
    Ok(())
}

struct Count(u64);

impl std::io::Write for Count {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.0 += buf.len() as u64;
        Ok(buf.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A cell of an ODS file may say that it is there a million times, in a row that says so too.
fn repeated(text: &str) -> Result<(), FormatError> {
    use quick_xml::events::Event;
    let mut reader = quick_xml::Reader::from_str(text);
    let (mut rows, mut columns, mut filled, mut cells) = (1u64, 0u64, 0u64, 0u64);
    // A repeated cell has its text as often: counted by the longest there is.
    let mut texts = 0u64;
    let (mut times_here, mut length) = (1u64, 0u64);
    // Programs say how many empty rows follow, up to the end of the sheet; no further.
    let mut all_rows = 0u64;
    loop {
        let event = reader.read_event().map_err(|e| FormatError::part("content.xml", e))?;
        let begins = matches!(event, Event::Start(_));
        match event {
            Event::Start(e) | Event::Empty(e) => {
                let times = |name: &str| {
                    let named = e.attributes().flatten().filter(|a| a.key.local_name().as_ref() == name);
                    named.map(|a| a.value.parse::<u64>().unwrap_or(u64::MAX)).max().unwrap_or(1)
                };
                match e.local_name().as_ref() {
                    "table" => all_rows = 0,
                    "table-row" => {
                        (rows, columns, filled) = (times("number-rows-repeated"), 0, 0);
                        all_rows = all_rows.saturating_add(rows);
                        if all_rows > ROWS {
                            return Err(FormatError::part("content.xml", "it says that a sheet has more rows than a sheet can have"));
                        }
                    }
                    "table-cell" => {
                        (times_here, length) = (times("number-columns-repeated"), 0);
                        columns = columns.saturating_add(times_here);
                        if begins || e.attributes().count() > 2 {
                            filled = columns;
                        }
                    }
                    _ => {}
                }
            }
            Event::Text(text) => length += text.len() as u64,
            Event::End(e) if e.local_name().as_ref() == "table-cell" => {
                texts = texts.saturating_add(times_here.saturating_mul(rows).saturating_mul(length));
                if texts > TEXTS {
                    return Err(FormatError::part("content.xml", "its repeated texts have more than 256 MiB"));
                }
            }
            Event::End(e) if e.local_name().as_ref() == "table-row" => {
                cells = cells.saturating_add(rows.saturating_mul(filled));
                if cells > CELLS {
                    return Err(FormatError::part("content.xml", "it repeats cells more often than a sheet has room for"));
                }
            }
            Event::Eof => return Ok(()),
            _ => {}
        }
    }
}

/// Rows as their cells come.
struct Sparse<'a> {
    name: &'a str,
    lines: Vec<Line>,
    cells: u64,
    texts: u64,
}

impl Sparse<'_> {
    fn put(&mut self, (row, column): (u32, u32), data: Data) -> Result<(), FormatError> {
        let (number, column) = (u64::from(row) + 1, column as usize);
        if column >= COLUMNS {
            return Err(FormatError::part(format!("sheet `{}`, row {number}", self.name), format!("more than {COLUMNS} columns")));
        }
        if self.lines.last().is_none_or(|(last, _)| *last != number) {
            self.lines.push((number, Vec::new()));
        }
        let Some((_, line)) = self.lines.last_mut() else { return Ok(()) };
        self.cells += (column + 1).saturating_sub(line.len()) as u64;
        self.texts += if let Data::String(text) = &data { text.len() as u64 } else { 0 };
        if self.cells > CELLS || self.texts > TEXTS {
            return Err(FormatError::part(format!("sheet `{}`", self.name), "it has too many cells"));
        }
        line.resize(line.len().max(column + 1), Data::Empty);
        line[column] = data;
        Ok(())
    }
}

/// The rows of a sheet. Those of an XLSX come cell by cell, so that one cell far away costs nothing.
fn lines(book: &mut Book, name: &str) -> Result<Vec<Line>, FormatError> {
    let mut sparse = Sparse { name, lines: Vec::new(), cells: 0, texts: 0 };
    match book {
        Sheets::Xlsx(xlsx) => {
            let mut reader = xlsx.worksheet_cells_reader(name).map_err(broken)?;
            while let Some(cell) = reader.next_cell().map_err(broken)? {
                sparse.put(cell.get_position(), Data::from(cell.get_value().clone()))?;
            }
            return Ok(sparse.lines);
        }
        Sheets::Xlsb(xlsb) => {
            let mut reader = xlsb.worksheet_cells_reader(name).map_err(broken)?;
            while let Some(cell) = reader.next_cell().map_err(broken)? {
                sparse.put(cell.get_position(), Data::from(cell.get_value().clone()))?;
            }
            return Ok(sparse.lines);
        }
        _ => {}
    }
    let range = book.worksheet_range(name).map_err(broken)?;
    let (top, left) = range.start().map_or((0, 0), |(r, c)| (u64::from(r), c as usize));
    let line = |(n, cells): (usize, &[Data])| {
        let mut all = vec![Data::Empty; left];
        all.extend_from_slice(cells);
        (top + n as u64 + 1, all)
    };
    Ok(range.rows().enumerate().map(line).collect())
}

fn row(reading: &Reading, columns: &[Column], number: u64, cells: Vec<Data>) -> Result<Row, RowFault> {
    let mut draft = reading.draft(number);
    let mut cells = cells.into_iter();
    for column in columns {
        let put = match cell(cells.next().unwrap_or(Data::Empty)) {
            Ok(cell) => draft.put(column, cell),
            Err(reason) => Err((Some(column.name.to_string()), reason)),
        };
        if let Err(fault) = put {
            return Err(draft.fault(fault));
        }
    }
    draft.finish()
}

fn cell(data: Data) -> Result<Cell, String> {
    Ok(match data {
        Data::Empty => Cell::Empty,
        Data::Int(n) => Cell::Integer(n),
        // A spreadsheet has no whole numbers of its own.
        Data::Float(n) if n.fract() == 0.0 && n.abs() < 1e15 => Cell::Integer(n as i64),
        Data::Float(n) => Cell::Number(n),
        Data::String(text) => Cell::Text(text),
        Data::Bool(b) => Cell::Bool(b),
        Data::DateTime(moment) if moment.is_duration() => Cell::Number(moment.as_f64()),
        Data::DateTime(moment) => Cell::Text(date(moment)),
        Data::DateTimeIso(text) | Data::DurationIso(text) => Cell::Text(text),
        Data::Error(e) => return Err(format!("the cell has an error: {e}")),
    })
}

fn date(moment: calamine::ExcelDateTime) -> String {
    // Days since 1900 that the calendar of spreadsheets has; others are told as the number they are.
    if !(1.0..2_958_466.0).contains(&moment.as_f64()) {
        return moment.as_f64().to_string();
    }
    let (year, month, day, hour, minute, second, milli) = moment.to_ymd_hms_milli();
    let day = format!("{year:04}-{month:02}-{day:02}");
    match (hour, minute, second, milli) {
        (0, 0, 0, 0) => day,
        (h, m, s, 0) => format!("{day}T{h:02}:{m:02}:{s:02}"),
        (h, m, s, ms) => format!("{day}T{h:02}:{m:02}:{s:02}.{ms:03}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 746 bytes kept a reader busy for minutes: a harmless attribute of another prefix stood before the one that counts.
    #[test]
    fn a_sheet_does_not_repeat_its_rows_for_ever() {
        let sheet =
            |rows: &str| format!("<t:table xmlns:t=\"t\" xmlns:x=\"x\"><t:table-row {rows}><t:table-cell/></t:table-row></t:table>");
        assert!(repeated(&sheet("x:number-rows-repeated=\"1\" t:number-rows-repeated=\"60000000\"")).is_err());
        assert!(repeated(&sheet("t:number-rows-repeated=\"1048570\"")).is_ok(), "the end of a sheet as LibreOffice writes it");
    }
}
