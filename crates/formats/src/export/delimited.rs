//! CSV and TSV (RFC 4180): one line a row, a column for every field.

use super::text::TextFile;
use super::{Encoded, RowEncoder, Survey, WriteOptions, Written, column_name, file, io};
use crate::FormatError;
use cairn_model::{DocId, FieldRef, ObservationRef, ValueRef};
use std::borrow::Cow;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

/// Cells of one row.
pub(super) struct Cells {
    fields: Vec<String>,
    survey: Survey,
    guard: bool,
    delimiter: u8,
}

pub(super) fn create(path: &Path, tabs: bool, options: &WriteOptions, survey: &Survey) -> Result<TextFile<Cells>, FormatError> {
    let delimiter = options.delimiter.map_or(Ok(if tabs { b'\t' } else { b',' }), |c| {
        let byte = u8::try_from(c).ok().filter(|b| b.is_ascii() && !matches!(b, b'"' | b'\n' | b'\r'));
        byte.ok_or_else(|| FormatError::Options(format!("`{c}` cannot stand between cells")))
    })?;
    let fields: Vec<String> = survey.fields.keys().cloned().collect();
    let survey = Survey { fields: Default::default(), ..survey.clone() };
    let cells = Cells { fields, survey, guard: !options.raw, delimiter };
    let mut out = file(path)?;
    if options.bom {
        out.write_all(&[0xef, 0xbb, 0xbf])?;
    }
    out.write_all(&cells.header())?;
    Ok(TextFile { out, encoder: Arc::new(cells), between: 0, end: b"", written: Written::default() })
}

impl Cells {
    fn header(&self) -> Vec<u8> {
        let own_id = if self.fields.iter().any(|f| f == "id") { ":id" } else { "id" };
        let mut header = vec![own_id.to_owned(), "category".into(), "lat".into(), "lon".into()];
        for (there, name) in [(self.survey.altitude, "altitude"), (self.survey.uncertainty, "uncertainty")] {
            header.extend(there.then(|| name.to_owned()));
        }
        header.extend(["time".to_owned(), "note".to_owned()]);
        header.extend(self.survey.shapes.then(|| "wkt".to_owned()));
        let guarded =
            |name: Cow<'_, str>| if self.guard && name.starts_with(['=', '+', '-', '@']) { format!("'{name}") } else { name.into_owned() };
        header.extend(self.fields.iter().map(|f| guarded(column_name(f))));
        let mut line = Vec::new();
        for name in header {
            self.cell(&mut line, &name);
        }
        self.end(&mut line);
        line
    }

    /// A cell and what comes after it.
    fn cell(&self, out: &mut Vec<u8>, text: &str) {
        let special = |b: &u8| *b == self.delimiter || matches!(b, b'"' | b'\n' | b'\r');
        if text.bytes().any(|b| special(&b)) {
            out.push(b'"');
            out.extend_from_slice(text.replace('"', "\"\"").as_bytes());
            out.push(b'"');
        } else {
            out.extend_from_slice(text.as_bytes());
        }
        out.push(self.delimiter);
    }

    /// The end of a line in place of the last delimiter.
    fn end(&self, out: &mut Vec<u8>) {
        out.pop();
        out.push(b'\n');
    }

    /// A text; one that a spreadsheet would take for a formula gets an apostrophe before it.
    fn text(&self, part: &mut Encoded, text: &str) {
        if self.guard && text.starts_with(['=', '+', '-', '@', '\t', '\r']) && text.parse::<f64>().is_err() {
            part.note("texts that begin like a formula have an apostrophe before them (`--raw` writes them as they are)");
            return self.cell(&mut part.bytes, &format!("'{text}"));
        }
        self.cell(&mut part.bytes, text);
    }

    fn number(&self, out: &mut Vec<u8>, number: Option<impl std::fmt::Display>) -> Result<(), FormatError> {
        if let Some(number) = number {
            write!(out, "{number}").map_err(io)?;
        }
        out.push(self.delimiter);
        Ok(())
    }

    fn field(&self, part: &mut Encoded, value: &FieldRef<'_>) -> Result<(), FormatError> {
        match value {
            FieldRef::One(ValueRef::Text(text)) => self.text(part, text),
            FieldRef::One(ValueRef::Integer(n)) => self.number(&mut part.bytes, Some(n))?,
            FieldRef::One(ValueRef::Decimal(n)) => self.number(&mut part.bytes, Some(n))?,
            FieldRef::One(ValueRef::Bool(b)) => self.cell(&mut part.bytes, if *b { "true" } else { "false" }),
            other => self.text(part, &other.display()),
        }
        Ok(())
    }
}

impl RowEncoder for Cells {
    fn encode(&self, id: DocId, seen: &ObservationRef<'_>, part: &mut Encoded) -> Result<(), FormatError> {
        let mut hex = [0; 32];
        self.cell(&mut part.bytes, data_encoding::HEXLOWER.encode_mut_str(&id.0, &mut hex));
        self.text(part, seen.category);
        self.number(&mut part.bytes, seen.place.map(|p| p.lat))?;
        self.number(&mut part.bytes, seen.place.map(|p| p.lon))?;
        if self.survey.altitude {
            self.number(&mut part.bytes, seen.place.and_then(|p| p.altitude))?;
        }
        if self.survey.uncertainty {
            self.number(&mut part.bytes, seen.place.and_then(|p| p.uncertainty))?;
        }
        self.text(part, seen.at.unwrap_or_default());
        self.text(part, seen.note.unwrap_or_default());
        if self.survey.shapes {
            self.cell(&mut part.bytes, &seen.shape.as_deref().map(crate::wkt::write).unwrap_or_default());
        }
        // Both are sorted: one walk beside the other.
        let mut fields = seen.fields.iter().peekable();
        for column in &self.fields {
            while fields.next_if(|(field, _)| **field < **column).is_some() {}
            match fields.next_if(|(field, _)| **field == **column) {
                Some((_, value)) => self.field(part, value)?,
                None => part.bytes.push(self.delimiter),
            }
        }
        self.end(&mut part.bytes);
        part.written.rows += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_read_back_as_they_were() {
        let cells = Cells { fields: Vec::new(), survey: Survey::default(), guard: false, delimiter: b';' };
        let row = ["plain", "a;b", "say \"so\"", "two\nlines", "", "r\rn", "a,b"];
        let mut line = Vec::new();
        row.iter().for_each(|text| cells.cell(&mut line, text));
        cells.end(&mut line);
        let mut reader = csv::ReaderBuilder::new().has_headers(false).delimiter(b';').from_reader(&line[..]);
        assert_eq!(reader.records().next().unwrap().unwrap(), row.to_vec());
    }
}
