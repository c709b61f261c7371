//! CSV and TSV (RFC 4180): one line a row, a column for every field.

use super::{ExportRow, RowWriter, Survey, WriteOptions, Written, column_name, file, io, settle};
use crate::FormatError;
use cairn_model::{FieldValue, Value};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

pub(super) struct Delimited {
    out: csv::Writer<BufWriter<File>>,
    fields: Vec<String>,
    survey: Survey,
    guard: bool,
    written: Written,
    cell: String,
}

impl Delimited {
    pub fn new(path: &Path, tabs: bool, options: &WriteOptions, survey: &Survey) -> Result<Self, FormatError> {
        let mut out = file(path)?;
        if options.bom {
            out.write_all(&[0xef, 0xbb, 0xbf])?;
        }
        let delimiter = options.delimiter.map_or(Ok(if tabs { b'\t' } else { b',' }), |c| {
            u8::try_from(c).map_err(|_| FormatError::Options(format!("`{c}` cannot stand between cells")))
        })?;
        let mut out = csv::WriterBuilder::new().delimiter(delimiter).buffer_capacity(64 << 10).from_writer(out);
        let fields: Vec<String> = survey.fields.keys().cloned().collect();
        let own_id = if fields.iter().any(|f| f == "id") { ":id" } else { "id" };
        let mut header = vec![own_id.to_owned(), "category".into(), "lat".into(), "lon".into()];
        for (there, name) in [(survey.altitude, "altitude"), (survey.uncertainty, "uncertainty")] {
            header.extend(there.then(|| name.to_owned()));
        }
        header.extend(["time".to_owned(), "note".to_owned()]);
        header.extend(survey.shapes.then(|| "wkt".to_owned()));
        let guarded = |name: String| if !options.raw && name.starts_with(['=', '+', '-', '@']) { format!("'{name}") } else { name };
        header.extend(fields.iter().map(|f| guarded(column_name(f))));
        out.write_record(&header).map_err(io)?;
        let survey = Survey { fields: Default::default(), ..survey.clone() };
        Ok(Self { out, fields, survey, guard: !options.raw, written: Written::default(), cell: String::new() })
    }

    /// A text; one that a spreadsheet would take for a formula gets an apostrophe before it.
    fn text(&mut self, text: &str) -> Result<(), FormatError> {
        if self.guard && text.starts_with(['=', '+', '-', '@', '\t', '\r']) && text.parse::<f64>().is_err() {
            self.written
                .notes
                .insert("texts that begin like a formula have an apostrophe before them (`--raw` writes them as they are)".into());
            self.cell.clear();
            self.cell.push('\'');
            self.cell.push_str(text);
            return self.out.write_field(&self.cell).map_err(io);
        }
        self.out.write_field(text).map_err(io)
    }

    fn number(&mut self, number: Option<impl std::fmt::Display>) -> Result<(), FormatError> {
        use std::fmt::Write;
        self.cell.clear();
        if let Some(number) = number {
            write!(self.cell, "{number}").map_err(io)?;
        }
        self.out.write_field(&self.cell).map_err(io)
    }

    fn field(&mut self, value: Option<&FieldValue>) -> Result<(), FormatError> {
        match value {
            None => self.out.write_field("").map_err(io),
            Some(FieldValue::One(Value::Text(text))) => self.text(text),
            Some(FieldValue::One(Value::Integer(n))) => self.number(Some(n)),
            Some(FieldValue::One(Value::Decimal(n))) => self.number(Some(n)),
            Some(FieldValue::One(Value::Bool(b))) => self.out.write_field(if *b { "true" } else { "false" }).map_err(io),
            Some(other) => self.text(&other.display()),
        }
    }
}

impl RowWriter for Delimited {
    fn write(&mut self, row: &ExportRow) -> Result<(), FormatError> {
        let seen = &row.seen;
        let mut id = [0; 32];
        let id = data_encoding::HEXLOWER.encode_mut_str(&row.id.0, &mut id);
        self.out.write_field(id.as_bytes()).map_err(io)?;
        self.text(&seen.category)?;
        self.number(seen.place.map(|p| p.lat))?;
        self.number(seen.place.map(|p| p.lon))?;
        if self.survey.altitude {
            self.number(seen.place.and_then(|p| p.altitude))?;
        }
        if self.survey.uncertainty {
            self.number(seen.place.and_then(|p| p.uncertainty))?;
        }
        self.text(seen.at.as_deref().unwrap_or_default())?;
        self.text(seen.note.as_deref().unwrap_or_default())?;
        if self.survey.shapes {
            let wkt = seen.shape.as_ref().map(crate::wkt::write).unwrap_or_default();
            self.out.write_field(wkt).map_err(io)?;
        }
        for n in 0..self.fields.len() {
            self.field(seen.fields.get(&self.fields[n]))?;
        }
        self.written.rows += 1;
        self.out.write_record(None::<&[u8]>).map_err(io)
    }

    fn finish(self: Box<Self>) -> Result<Written, FormatError> {
        settle(self.out.into_inner().map_err(io)?)?;
        Ok(self.written)
    }
}
