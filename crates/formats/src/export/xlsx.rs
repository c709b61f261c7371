//! XLSX: one sheet, numbers as numbers, times as they are written.

use super::{ColumnType, ExportRow, RowWriter, Survey, Written, column_name, io};
use crate::FormatError;
use cairn_model::{FieldValue, Value};
use rust_xlsxwriter::Workbook;
use std::path::{Path, PathBuf};

/// Rows of a sheet, its header among them, and characters of a cell: the limits of the format.
const ROWS: u64 = 1_048_576;
const CHARS: usize = 32_767;

pub(super) struct Xlsx {
    book: Workbook,
    path: PathBuf,
    fields: Vec<(String, ColumnType)>,
    survey: Survey,
    written: Written,
}

impl Xlsx {
    pub fn new(path: &Path, survey: &Survey) -> Result<Self, FormatError> {
        if survey.rows >= ROWS {
            return Err(FormatError::Options(format!(
                "{} rows: a sheet of XLSX has room for {}; write a part of them, or CSV",
                survey.rows,
                ROWS - 1
            )));
        }
        let mut book = Workbook::new();
        let sheet = book.add_worksheet_with_constant_memory().map_err(io)?;
        sheet.set_name("observations").map_err(io)?;
        let fields: Vec<(String, ColumnType)> = survey.fields.iter().map(|(f, k)| (f.clone(), k.column())).collect();
        let own_id = if survey.fields.contains_key("id") { ":id" } else { "id" };
        let mut header: Vec<String> = [own_id, "category", "lat", "lon"].map(str::to_owned).to_vec();
        header.extend(survey.altitude.then(|| "altitude".to_owned()));
        header.extend(survey.uncertainty.then(|| "uncertainty".to_owned()));
        header.extend(["time".to_owned(), "note".to_owned()]);
        header.extend(survey.shapes.then(|| "wkt".to_owned()));
        header.extend(fields.iter().map(|(f, _)| column_name(f).into_owned()));
        for (n, name) in header.iter().enumerate() {
            sheet.write_string(0, n as u16, name).map_err(io)?;
        }
        let survey = Survey { fields: Default::default(), ..survey.clone() };
        Ok(Self { book, path: path.to_owned(), fields, survey, written: Written::default() })
    }
}

enum Out {
    Nothing,
    Number(f64),
    Bool(bool),
    Text(String),
}

fn out(value: Option<&FieldValue>) -> Out {
    match value {
        None => Out::Nothing,
        // Past 15 digits a spreadsheet rounds.
        Some(FieldValue::One(Value::Integer(n))) if n.unsigned_abs() < 1_000_000_000_000_000 => Out::Number(*n as f64),
        Some(FieldValue::One(Value::Decimal(n))) => Out::Number(*n),
        Some(FieldValue::One(Value::Bool(b))) => Out::Bool(*b),
        Some(other) => Out::Text(other.display()),
    }
}

impl RowWriter for Xlsx {
    fn write(&mut self, row: &ExportRow) -> Result<(), FormatError> {
        let seen = &row.seen;
        let number = |n: Option<f64>| n.map_or(Out::Nothing, Out::Number);
        let text = |t: Option<&String>| t.map_or(Out::Nothing, |t| Out::Text(t.clone()));
        let mut cells = vec![
            Out::Text(row.id.to_string()),
            Out::Text(seen.category.clone()),
            number(seen.place.map(|p| p.lat)),
            number(seen.place.map(|p| p.lon)),
        ];
        if self.survey.altitude {
            cells.push(number(seen.place.and_then(|p| p.altitude)));
        }
        if self.survey.uncertainty {
            cells.push(number(seen.place.and_then(|p| p.uncertainty)));
        }
        cells.extend([text(seen.at.as_ref()), text(seen.note.as_ref())]);
        if self.survey.shapes {
            cells.push(seen.shape.as_ref().map_or(Out::Nothing, |s| Out::Text(crate::wkt::write(s))));
        }
        cells.extend(self.fields.iter().map(|(f, _)| out(seen.fields.get(f))));
        self.written.rows += 1;
        let line = self.written.rows as u32;
        let sheet = self.book.worksheet_from_index(0).map_err(io)?;
        for (n, cell) in cells.into_iter().enumerate() {
            let column = n as u16;
            match cell {
                Out::Nothing => continue,
                Out::Number(n) => sheet.write_number(line, column, n),
                Out::Bool(b) => sheet.write_boolean(line, column, b),
                Out::Text(mut text) => {
                    // The format counts UTF-16 units.
                    if text.encode_utf16().count() > CHARS {
                        text = text.chars().take(CHARS / 2).collect();
                        self.written.notes.insert(format!("texts of more than {CHARS} characters were cut"));
                    }
                    sheet.write_string(line, column, text)
                }
            }
            .map_err(io)?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<Written, FormatError> {
        self.book.save(&self.path).map_err(io)?;
        std::fs::File::open(&self.path)?.sync_all()?;
        Ok(self.written)
    }
}
