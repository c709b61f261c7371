//! Rows of a CSV file with a header line, one at a time: a file of any size takes the memory of one row.

use crate::row::{Cell, Draft, Meaning};
use crate::{FormatError, Mapping, Row, RowFault};
use std::io::Read;

/// Bytes of one row: a long text in one cell fits, a binary file does not.
const ROW_BYTES: usize = 4 << 20;

/// Iterates over rows; an `Err` in the outer result ends the file.
pub struct CsvRows<R: Read> {
    reader: csv::Reader<R>,
    columns: Vec<(String, Meaning)>,
    record: csv::ByteRecord,
    /// The reader counts a line that ends in CR LF when it comes to the next one.
    crlf: bool,
    done: bool,
}

impl<R: Read> CsvRows<R> {
    /// Reads the header. The delimiter is the one of `,`, `;` and tab that the header has most of.
    pub fn new(mut input: R, mapping: &Mapping) -> Result<CsvRows<impl Read + use<R>>, FormatError> {
        let mut head = Vec::new();
        let io = |e: std::io::Error| FormatError::Io(e.to_string());
        input.by_ref().take(64 << 10).read_to_end(&mut head).map_err(io)?;
        if head.starts_with(&[0xef, 0xbb, 0xbf]) {
            head.drain(..3);
        }
        let first = head.split(|b| *b == b'\n').next().unwrap_or_default();
        let crlf = first.ends_with(b"\r");
        let count = |d: u8| first.iter().filter(|b| **b == d).count();
        let delimiter = [b',', b';', b'\t'].into_iter().rev().max_by_key(|d| count(*d)).unwrap_or(b',');
        let chained = std::io::Cursor::new(head).chain(input);
        let mut reader = csv::ReaderBuilder::new().flexible(true).delimiter(delimiter).from_reader(chained);
        let header = reader.byte_headers().map_err(|e| structure(&e))?.clone();
        let mut columns = Vec::with_capacity(header.len());
        for (n, name) in header.iter().enumerate() {
            let name = std::str::from_utf8(name).map_err(|_| FormatError::NotUtf8 { line: 1, column: n as u64 + 1 })?.trim();
            columns.push((name.to_owned(), mapping.meaning(name)));
        }
        if columns.is_empty() {
            return Err(FormatError::Structure { line: 1, column: 1, reason: "the file has no header line".into() });
        }
        if let Some(gone) = mapping.0.keys().find(|m| !columns.iter().any(|(name, _)| name == *m)) {
            return Err(FormatError::Structure { line: 1, column: 1, reason: format!("there is no column `{gone}` to map") });
        }
        Ok(CsvRows { reader, columns, record: csv::ByteRecord::new(), crlf, done: false })
    }

    fn row(&self, line: u64) -> Result<Result<Row, RowFault>, FormatError> {
        let fault = |reason: String| Ok(Err(RowFault { line, reason }));
        if self.record.len() != self.columns.len() {
            return fault(format!("{} cells where the header has {}", self.record.len(), self.columns.len()));
        }
        let mut draft = Draft::default();
        draft.row.line = line;
        for (n, (cell, (name, meaning))) in self.record.iter().zip(&self.columns).enumerate() {
            let text = std::str::from_utf8(cell).map_err(|_| FormatError::NotUtf8 { line, column: n as u64 + 1 })?;
            if let Err(reason) = draft.put(meaning, name, Cell::Text(text.to_owned())) {
                return fault(reason);
            }
        }
        draft.finish().map_or_else(fault, |row| Ok(Ok(row)))
    }
}

impl<R: Read> Iterator for CsvRows<R> {
    type Item = Result<Result<Row, RowFault>, FormatError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        match self.reader.read_byte_record(&mut self.record) {
            Ok(false) => None,
            Ok(true) => {
                let line = self.record.position().map_or(0, csv::Position::line) + u64::from(self.crlf);
                if self.record.as_slice().len() > ROW_BYTES {
                    self.done = true;
                    let reason = "a row of more than 4 MiB; is a quote missing?".to_owned();
                    return Some(Err(FormatError::Structure { line, column: 1, reason }));
                }
                let row = self.row(line);
                self.done = row.is_err();
                Some(row)
            }
            Err(e) => {
                self.done = true;
                Some(Err(structure(&e)))
            }
        }
    }
}

fn structure(e: &csv::Error) -> FormatError {
    let line = e.position().map_or(1, csv::Position::line);
    FormatError::Structure { line, column: 1, reason: e.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Rows = Vec<Result<Row, RowFault>>;

    fn read(text: &[u8]) -> Result<Rows, FormatError> {
        CsvRows::new(text, &Mapping::default())?.collect()
    }

    #[test]
    fn columns_are_known_by_their_names_and_others_become_fields() {
        let rows = read("\u{feff}Latitude;LONG;Date;species\n1.5;-2;2025-06-30;\"a;b\"\n;;;\n".as_bytes()).unwrap();
        let first = rows[0].as_ref().unwrap();
        assert_eq!(
            (first.line, first.place.unwrap().lat, first.fields.clone()),
            (2, 1.5, vec![("species".into(), Cell::Text("a;b".into()))])
        );
        assert_eq!(rows[1].as_ref().unwrap().place, None);
    }

    #[test]
    fn single_bad_rows_are_told_with_line_and_column() {
        let rows = read(b"lat,lon,n\n1,2,a\n91,0,b\n1,2\nx,2,c\n1,,d\n").unwrap();
        let faults: Vec<(u64, String)> = rows.into_iter().filter_map(|r| r.err()).map(|f| (f.line, f.reason)).collect();
        assert_eq!(faults.iter().map(|f| f.0).collect::<Vec<_>>(), [3, 4, 5, 6]);
        assert!(faults[0].1.contains("latitude 91") && faults[2].1.contains("column `lat`"), "{faults:?}");
    }

    /// A spreadsheet's file told people to repair the line above the wrong one.
    #[test]
    fn lines_are_counted_alike_with_either_line_end() {
        let text = "lat,lon,n\n1,2,a\n91,0,b\n1,2,c\n95,0,d\n";
        for text in [text.to_owned(), text.replace('\n', "\r\n")] {
            let lines: Vec<u64> = read(text.as_bytes()).unwrap().into_iter().filter_map(|r| r.err()).map(|f| f.line).collect();
            assert_eq!(lines, [3, 5]);
        }
    }

    #[test]
    fn text_that_is_not_utf8_ends_the_file() {
        assert_eq!(read(b"lat,lon,n\n1,2,ok\n1,2,\xff\n"), Err(FormatError::NotUtf8 { line: 3, column: 3 }));
    }
}
