//! Rows of delimited text, one at a time: a file of any size takes the memory of one row.

use crate::row::{Cell, Column, Meaning, Reading};
use crate::rows::{RowResult, Rows};
use crate::text::Text;
use crate::{FormatError, ReadOptions};
use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of one row: a long text in one cell fits, a binary file does not.
const ROW_BYTES: u64 = 4 << 20;
/// Notes on one file.
const NOTES: usize = 20;
/// Columns of one table.
const COLUMNS: usize = 20_000;
/// The delimiters that are looked for, the likeliest first.
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];

/// Iterates over rows; an `Err` in the outer result ends the file.
pub(crate) struct CsvRows {
    reader: csv::Reader<Limited>,
    reading: Reading,
    columns: Vec<Column>,
    /// With the cell they are for, where the file has one.
    defaults: Vec<(Option<usize>, Column, String)>,
    record: csv::ByteRecord,
    since: Arc<AtomicU64>,
    encoding: &'static str,
    notes: Vec<String>,
    /// The reader counts a line that ends in CR LF when it comes to the next one.
    crlf: bool,
    /// The header turned out to be the first row.
    pending: bool,
    done: bool,
}

/// Ends an input that goes on for too long without a row: a quote that is never closed, a file that is no text.
struct Limited {
    input: Box<dyn Read + Send>,
    since: Arc<AtomicU64>,
}

impl Read for Limited {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let got = self.input.read(buf)?;
        if self.since.fetch_add(got as u64, Ordering::Relaxed) > ROW_BYTES {
            return Err(std::io::Error::other("a row of more than 4 MiB; is a quote missing?"));
        }
        Ok(got)
    }
}

impl CsvRows {
    /// Recognises encoding and delimiter where they are not told, and reads the header.
    pub fn new(input: Box<dyn Read + Send>, options: &ReadOptions) -> Result<Self, FormatError> {
        let mut text = Text::new(input, options.encoding.as_deref())?;
        let encoding = text.encoding.name();
        let mut notes = Vec::new();
        if text.guessed {
            notes.push(format!("the text is not UTF-8; it was read as {encoding} (`--encoding` names another)"));
        }
        let mut head = Vec::new();
        text.by_ref().take(64 << 10).read_to_end(&mut head)?;
        let told = separator_line(&head);
        if let Some((_, bytes)) = told {
            head.drain(..bytes);
        }
        let mut begin = 0;
        for _ in 0..options.skip.min(head.len() as u64) {
            begin = (begin + first_record(&head[begin..]).len() + 1).min(head.len());
        }
        let first = first_record(&head[begin..]);
        let crlf = first.ends_with(b"\r");
        let delimiter = match options.delimiter {
            Some(c) => {
                u8::try_from(c).map_err(|_| FormatError::Options(format!("`{c}` cannot stand between cells: one byte is needed")))?
            }
            None => told.map_or_else(|| likely(first), |(d, _)| d),
        };
        let since = Arc::new(AtomicU64::new(0));
        let input = Limited { input: Box::new(std::io::Cursor::new(head).chain(text)), since: since.clone() };
        let reader = builder(options, delimiter)?.from_reader(input);
        let reading = Reading::new(options)?;
        let mut rows = Self {
            reader,
            reading,
            columns: Vec::new(),
            defaults: Vec::new(),
            record: csv::ByteRecord::new(),
            since,
            encoding,
            notes,
            crlf,
            pending: false,
            done: false,
        };
        rows.header()?;
        Ok(rows)
    }

    fn header(&mut self) -> Result<(), FormatError> {
        let options = self.reading.options().clone();
        for _ in 0..options.skip {
            if !self.read_record()? {
                break;
            }
        }
        let mut names = options.columns.clone();
        if !options.no_header {
            if !self.read_record()? {
                return Err(FormatError::line(1, "the file has no header line"));
            }
            let found: Vec<String> =
                (0..self.record.len()).map(|n| Ok(self.text(n, 1)?.trim().to_owned())).collect::<Result<_, FormatError>>()?;
            let only_ids =
                options.single_column && found.len() == 1 && !options.key.iter().any(|k| k.to_lowercase() == found[0].to_lowercase());
            if only_ids {
                self.notes.push(format!("the file has no header line; its one column was taken for `{}`", options.key.join(", ")));
                self.pending = true;
                names = options.key.clone();
            } else if names.is_empty() {
                names = found;
            }
        }
        if names.is_empty() {
            return Err(FormatError::Options("without a header line the columns need names: `--columns a,b,c`".into()));
        }
        if names.len() > COLUMNS {
            return Err(FormatError::line(1, format!("{} columns; at most {COLUMNS} are taken", names.len())));
        }
        if names.iter().any(|n| n.contains('\0')) {
            return Err(FormatError::line(1, "a zero byte in the header; this is no text file"));
        }
        let names = self.apart(names);
        self.columns = self.reading.columns(&names)?;
        for (name, value) in &options.defaults {
            self.defaults.push((names.iter().position(|n| n == name), self.reading.column(name), value.clone()));
        }
        Ok(())
    }

    /// Two columns of one name would hide each other.
    fn apart(&mut self, names: Vec<String>) -> Vec<String> {
        let mut out: Vec<String> = Vec::with_capacity(names.len());
        let mut taken: HashSet<String> = HashSet::new();
        let mut counts: HashMap<String, usize> = HashMap::new();
        for name in names {
            let mut shown = name.clone();
            while !name.is_empty() && !taken.insert(shown.clone()) {
                let n = counts.entry(name.clone()).or_insert(1);
                *n += 1;
                shown = format!("{name} ({n})");
            }
            if shown != name && self.notes.len() < NOTES {
                self.notes.push(format!("there are several columns `{name}`: one of them is called `{shown}` here"));
            }
            out.push(shown);
        }
        out
    }

    fn read_record(&mut self) -> Result<bool, FormatError> {
        self.since.store(0, Ordering::Relaxed);
        self.reader.read_byte_record(&mut self.record).map_err(|e| self.structure(&e))
    }

    fn line(&self) -> u64 {
        let at = self.record.position();
        let line = at.map_or(0, csv::Position::line);
        // Before the first record there was no line end to be counted late.
        line + u64::from(self.crlf && at.is_some_and(|p| p.byte() > 0))
    }

    fn structure(&self, e: &csv::Error) -> FormatError {
        let line = match e.position() {
            Some(at) => at.line(),
            None => self.reader.position().line(),
        };
        let reason = match e.kind() {
            csv::ErrorKind::Io(io) => io.to_string(),
            _ => e.to_string(),
        };
        FormatError::line(line, reason)
    }

    fn text(&self, n: usize, line: u64) -> Result<&str, FormatError> {
        let cell = &self.record[n];
        let fault = || FormatError::Encoding { line, column: n as u64 + 1, encoding: self.encoding.to_owned() };
        std::str::from_utf8(cell).map_err(|_| fault())
    }

    fn row(&self, line: u64) -> RowResult {
        if memchr::memchr(0, self.record.as_slice()).is_some() {
            return Err(FormatError::line(line, "a zero byte; this is no text file"));
        }
        let mut draft = self.reading.draft(line);
        let wide = self.record.len().max(self.columns.len());
        let extra = (self.columns.len()..self.record.len()).any(|n| !self.record[n].trim_ascii().is_empty());
        let short = self.record.len() < self.columns.len() && !self.reading.options().ragged;
        if short || extra {
            let reason = format!("{} cells where the header has {}", self.record.len(), self.columns.len());
            // Which cell is which is not known: nor is the identifier.
            return Ok(Err(draft.fault((None, reason))));
        }
        let keys_only = self.reading.options().keys_only;
        for (n, column) in self.columns.iter().enumerate().take(wide) {
            if keys_only && column.key.is_none() && column.meaning != Meaning::Deleted {
                continue;
            }
            let text = if n < self.record.len() { self.text(n, line)? } else { "" };
            if let Err(fault) = draft.put(column, Cell::Text(text.to_owned())) {
                self.keys_only(&mut draft);
                return Ok(Err(draft.fault(fault)));
            }
        }
        for (cell, column, value) in &self.defaults {
            if cell.is_none_or(|n| self.record.get(n).is_none_or(|c| c.trim_ascii().is_empty()))
                && let Err(fault) = draft.put(column, Cell::Text(value.clone()))
            {
                return Ok(Err(draft.fault(fault)));
            }
        }
        Ok(draft.finish())
    }

    /// The identifier of a row that is refused, so that it is known which one it was.
    fn keys_only(&self, draft: &mut crate::row::Draft<'_>) {
        for (n, column) in self.columns.iter().enumerate() {
            let Some(key) = column.key else { continue };
            let text = self.record.get(n).and_then(|c| std::str::from_utf8(c).ok()).map(|t| Cell::Text(t.to_owned()));
            draft.row.keys[key] = text.filter(|t| !draft.is_missing(t)).map(|t| t.text()).filter(|t| !t.trim().is_empty());
        }
    }

    fn blank(&self) -> bool {
        self.record.iter().all(|cell| cell.trim_ascii().is_empty()) && self.columns.len() > 1
    }

    fn advance(&mut self) -> Option<RowResult> {
        loop {
            if !std::mem::take(&mut self.pending) {
                match self.read_record() {
                    Ok(true) => {}
                    Ok(false) => return None,
                    Err(e) => return Some(Err(e)),
                }
            }
            // A sheet's empty lines are not rows.
            if !self.blank() {
                return Some(self.row(self.line()));
            }
        }
    }
}

impl Iterator for CsvRows {
    type Item = RowResult;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let row = self.advance();
        self.done = matches!(row, None | Some(Err(_)));
        row
    }
}

impl Rows for CsvRows {
    fn raw(&self) -> Option<(Vec<String>, Vec<String>)> {
        let names = self.columns.iter().map(|c| c.name.to_string()).collect();
        Some((names, self.record.iter().map(|c| String::from_utf8_lossy(c).into_owned()).collect()))
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }
}

fn builder(options: &ReadOptions, delimiter: u8) -> Result<csv::ReaderBuilder, FormatError> {
    let mut builder = csv::ReaderBuilder::new();
    builder.flexible(true).has_headers(false).delimiter(delimiter).buffer_capacity(64 << 10);
    match options.quote.as_deref() {
        None => {}
        Some("none" | "") => {
            builder.quoting(false);
        }
        Some(quote) => {
            let byte = u8::try_from(quote.chars().next().unwrap_or('"')).ok().filter(|_| quote.chars().count() == 1);
            builder.quote(byte.ok_or_else(|| FormatError::Options(format!("`{quote}` is no quote: one byte, or `none`")))?);
        }
    }
    if let Some(escape) = options.escape {
        builder.escape(u8::try_from(escape).ok()).double_quote(false);
    }
    Ok(builder)
}

/// Excel's `sep=;`: the delimiter, and how many bytes that line has.
fn separator_line(head: &[u8]) -> Option<(u8, usize)> {
    let end = head.iter().position(|b| *b == b'\n')?;
    let line = head[..end].strip_suffix(b"\r").unwrap_or(&head[..end]);
    match line.strip_prefix(b"sep=")? {
        [one] => Some((*one, end + 1)),
        _ => None,
    }
}

/// Bytes up to the first line end that stands in no quotes.
fn first_record(head: &[u8]) -> &[u8] {
    let mut quoted = false;
    let end = head.iter().position(|b| {
        quoted ^= *b == b'"';
        !quoted && *b == b'\n'
    });
    &head[..end.unwrap_or(head.len())]
}

/// The delimiter that the header has most of, outside quotes.
fn likely(first: &[u8]) -> u8 {
    let mut quoted = false;
    let mut counts = [0usize; DELIMITERS.len()];
    for b in first {
        quoted ^= *b == b'"';
        if let (false, Some(n)) = (quoted, DELIMITERS.iter().position(|d| d == b)) {
            counts[n] += 1;
        }
    }
    let best = (0..DELIMITERS.len()).rev().max_by_key(|n| counts[*n]).unwrap_or(0);
    DELIMITERS[best]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::Position;
    use crate::{Part, RowFault};

    fn open(text: &[u8], options: &ReadOptions) -> Result<Vec<Result<crate::Row, RowFault>>, FormatError> {
        CsvRows::new(Box::new(std::io::Cursor::new(text.to_vec())), options)?.collect()
    }

    fn read(text: &[u8]) -> Result<Vec<Result<crate::Row, RowFault>>, FormatError> {
        open(text, &ReadOptions::default())
    }

    #[test]
    fn columns_are_known_by_their_names_and_others_become_fields() {
        let rows = read("\u{feff}Latitude;LONG;Date;species\n1,5;-2;2025-06-30;\"a;b\"\n;;;x\n;;;\n".as_bytes()).unwrap();
        let first = rows[0].as_ref().unwrap();
        let Part::Set(Position::Place(place)) = &first.place else { panic!("{first:?}") };
        assert_eq!((first.line, place.lat), (2, 1.5));
        assert_eq!(first.fields, [("species".into(), Cell::Text("a;b".into()))]);
        assert_eq!(rows[1].as_ref().unwrap().place, Part::Empty);
        assert_eq!(rows.len(), 2, "an empty line is no row");
    }

    #[test]
    fn single_bad_rows_are_told_with_line_and_column() {
        let rows = read(b"lat,lon,n\n1,2,a\n91,0,b\n1,2\nx,2,c\n1,,d\n").unwrap();
        let faults: Vec<RowFault> = rows.into_iter().filter_map(|r| r.err()).collect();
        assert_eq!(faults.iter().map(|f| f.line).collect::<Vec<_>>(), [3, 4, 5, 6]);
        assert!(faults[0].reason.contains("latitude 91"), "{faults:?}");
        assert_eq!(faults[2].column.as_deref(), Some("lat"));
    }

    /// A spreadsheet's file told people to repair the line above the wrong one.
    #[test]
    fn lines_are_counted_alike_with_either_line_end() {
        let text = "lat,lon,n\n1,2,a\n91,0,b\n1,2,c\n95,0,d\n";
        for text in [text.to_owned(), text.replace('\n', "\r\n")] {
            let lines: Vec<u64> = read(text.as_bytes()).unwrap().into_iter().filter_map(|r| r.err()).map(|f| f.line).collect();
            assert_eq!(lines, [3, 5]);
        }
        let options = ReadOptions { no_header: true, columns: vec!["lat".into(), "lon".into()], ..ReadOptions::default() };
        let first = open(b"91,0\r\n92,0\r\n", &options).unwrap();
        assert_eq!(first.into_iter().filter_map(|r| r.err()).map(|f| f.line).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn text_that_is_not_in_its_encoding_ends_the_file() {
        let mut late = b"lat,lon,n\n".to_vec();
        late.extend(b"1,2,ok\n".repeat(20_000));
        late.extend(b"1,2,\xff\n");
        assert_eq!(read(&late), Err(FormatError::Encoding { line: 20_002, column: 3, encoding: "UTF-8".into() }));
        assert!(matches!(read(b"a,b\n1,\0\n"), Err(FormatError::Structure { line: 2, .. })));
    }

    #[test]
    fn keys_are_texts_and_blank_ones_are_none() {
        let options = ReadOptions { key: vec!["ID".into(), "box".into()], ..ReadOptions::default() };
        let rows = open(b"id,box,n\n0012,a,1\n,b,2\n", &options).unwrap();
        assert_eq!(rows[0].as_ref().unwrap().keys, [Some("0012".into()), Some("a".into())]);
        assert_eq!(rows[1].as_ref().unwrap().keys, [None, Some("b".into())]);
        assert!(matches!(open(b"x,box\n1,2\n", &options), Err(FormatError::Structure { .. })));
    }

    #[test]
    fn a_row_without_end_is_refused_in_little_memory() {
        let long = std::io::repeat(b'x').take(1 << 30);
        let input = Box::new(std::io::Cursor::new(b"a,b\n1,\"".to_vec()).chain(long));
        let last = CsvRows::new(input, &ReadOptions::default()).unwrap().last().unwrap();
        assert!(matches!(&last, Err(FormatError::Structure { reason, .. }) if reason.contains("4 MiB")), "{last:?}");
        let input = Box::new(std::io::repeat(b'x').take(1 << 30));
        assert!(CsvRows::new(input, &ReadOptions::default()).is_err());
    }
}
