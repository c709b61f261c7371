//! Files of text whose rows do not depend on each other: each is made where it was read, and only put in its place here.

use super::{Encoded, ExportRow, RowEncoder, RowWriter, Written, settle};
use crate::FormatError;
use cairn_model::ObservationRef;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::sync::Arc;

pub(super) struct TextFile<E> {
    pub out: BufWriter<File>,
    pub encoder: Arc<E>,
    /// Bytes that each row begins with and the first one does not.
    pub between: usize,
    /// After the last row.
    pub end: &'static [u8],
    pub written: Written,
}

impl<E: RowEncoder + 'static> RowWriter for TextFile<E> {
    fn encoder(&self) -> Arc<dyn RowEncoder> {
        self.encoder.clone()
    }

    fn put(&mut self, part: &Encoded) -> Result<(), FormatError> {
        let first = self.written.rows == 0 && part.written.rows > 0;
        self.out.write_all(&part.bytes[if first { self.between } else { 0 }..])?;
        self.written.rows += part.written.rows;
        self.written.left_out += part.written.left_out;
        self.written.notes.extend(part.written.notes.iter().cloned());
        Ok(())
    }

    fn write(&mut self, row: &ExportRow) -> Result<(), FormatError> {
        let mut part = Encoded::default();
        self.encoder.encode(row.id, &ObservationRef::from(&row.seen), &mut part)?;
        self.put(&part)
    }

    fn finish(mut self: Box<Self>) -> Result<Written, FormatError> {
        self.out.write_all(self.end)?;
        settle(self.out)?;
        Ok(self.written)
    }
}
