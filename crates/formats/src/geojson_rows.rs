//! Features of a GeoJSON file (RFC 7946), of newline-delimited GeoJSON or of a text sequence (RFC 8142), one at a time.
//! In what CoMapeo writes, the document beside the properties is preferred: it has the types.

use crate::geojson;
use crate::row::{Cell, CellFault, Draft, Meaning, Reading};
use crate::rows::{RowResult, Rows};
use crate::text::Text;
use crate::{FormatError, ReadOptions};
use cairn_model::{Instant, Place, Shape};
use serde_json::{Map, Value};
use std::io::{BufRead, BufReader, Read};

/// Bytes of one feature, or of what stands beside the features.
const FEATURE_BYTES: usize = 4 << 20;

pub(crate) struct GeoJsonRows {
    scan: Scan,
    reading: Reading,
    state: State,
    number: u64,
    beside: Vec<u8>,
    found: bool,
}

#[derive(PartialEq)]
enum State {
    /// Between the values of the file.
    Root,
    /// Between the features of a collection.
    Features,
    /// Between the members of a collection after its features.
    Members,
    Done,
}

/// Bytes with their place.
struct Scan {
    input: BufReader<Text>,
    line: u64,
    column: u64,
}

impl Scan {
    fn fault(&self, reason: impl ToString) -> FormatError {
        FormatError::Structure { line: self.line, column: self.column.max(1), reason: reason.to_string() }
    }

    fn peek(&mut self) -> Result<Option<u8>, FormatError> {
        Ok(self.input.fill_buf()?.first().copied())
    }

    fn byte(&mut self) -> Result<Option<u8>, FormatError> {
        let Some(b) = self.peek()? else { return Ok(None) };
        self.input.consume(1);
        self.column += 1;
        if b == b'\n' {
            self.line += 1;
            self.column = 0;
        }
        Ok(Some(b))
    }

    fn space(&mut self) -> Result<Option<u8>, FormatError> {
        while let Some(b) = self.peek()? {
            if !matches!(b, b' ' | b'\t' | b'\r' | b'\n' | 0x1e) {
                return Ok(Some(b));
            }
            self.byte()?;
        }
        Ok(None)
    }

    fn expect(&mut self, wanted: u8) -> Result<(), FormatError> {
        match self.space()? {
            Some(b) if b == wanted => self.byte().map(|_| ()),
            Some(b) => Err(self.fault(format!("`{}` was expected, not `{}`", wanted as char, b as char))),
            None => Err(self.fault("the file ends in the middle")),
        }
    }

    /// Bytes of one JSON value, which is parsed by who called.
    fn value(&mut self, out: &mut Vec<u8>) -> Result<(), FormatError> {
        let first = self.space()?.ok_or_else(|| self.fault("the file ends in the middle"))?;
        let (mut depth, mut quoted, mut escaped) = (0usize, false, false);
        let begin = out.len();
        loop {
            let buf = self.input.fill_buf()?;
            if buf.is_empty() {
                return if depth == 0 && !quoted { Ok(()) } else { Err(self.fault("the file ends in the middle")) };
            }
            let mut used = 0;
            let mut done = false;
            for b in buf {
                let scalar = depth == 0 && !matches!(first, b'{' | b'[' | b'"');
                if scalar && matches!(b, b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n') {
                    done = true;
                    break;
                }
                used += 1;
                self.column += 1;
                if *b == b'\n' {
                    self.line += 1;
                    self.column = 0;
                }
                if quoted {
                    (escaped, quoted) = (!escaped && *b == b'\\', escaped || *b != b'"');
                    done = !quoted && depth == 0;
                } else {
                    match b {
                        b'"' => quoted = true,
                        b'{' | b'[' => depth += 1,
                        b'}' | b']' => {
                            depth = depth.saturating_sub(1);
                            done = depth == 0;
                        }
                        _ => {}
                    }
                }
                if done {
                    break;
                }
            }
            out.extend_from_slice(&buf[..used]);
            self.input.consume(used);
            if done {
                return Ok(());
            }
            if out.len() - begin > FEATURE_BYTES {
                return Err(self.fault("a feature of more than 4 MiB"));
            }
        }
    }
}

impl GeoJsonRows {
    pub fn new(input: Box<dyn Read + Send>, options: &ReadOptions) -> Result<Self, FormatError> {
        let text = Text::new(input, options.encoding.as_deref())?;
        let scan = Scan { input: BufReader::with_capacity(64 << 10, text), line: 1, column: 0 };
        let mut rows = Self { scan, reading: Reading::new(options)?, state: State::Root, number: 0, beside: Vec::new(), found: false };
        match rows.scan.space()? {
            Some(b'{') => Ok(rows),
            _ => Err(rows.scan.fault("not GeoJSON: an object was expected")),
        }
    }

    fn advance(&mut self) -> Option<RowResult> {
        loop {
            let step = match self.state {
                State::Root => self.root(),
                State::Features => self.feature(),
                State::Members => self.members(),
                State::Done => return None,
            };
            match step {
                Ok(Some(row)) => return Some(Ok(row)),
                Ok(None) => {}
                Err(e) => {
                    self.state = State::Done;
                    return Some(Err(e));
                }
            }
        }
    }

    /// One value of the file: a collection is walked into, a feature is a row.
    fn root(&mut self) -> Result<Option<Result<crate::Row, crate::RowFault>>, FormatError> {
        if self.scan.space()?.is_none() {
            self.state = State::Done;
            if !self.found {
                return Err(self.scan.fault("not GeoJSON: a FeatureCollection or a Feature was expected"));
            }
            return Ok(None);
        }
        self.scan.expect(b'{')?;
        self.beside = b"{".to_vec();
        self.members()
    }

    fn members(&mut self) -> Result<Option<Result<crate::Row, crate::RowFault>>, FormatError> {
        self.state = State::Members;
        loop {
            match self.scan.space()? {
                Some(b'}') => {
                    self.scan.byte()?;
                    self.state = State::Root;
                    return self.object();
                }
                Some(b',') => {
                    self.scan.byte()?;
                }
                _ => {}
            }
            let mut key = Vec::new();
            if self.scan.space()? != Some(b'"') {
                return Err(self.scan.fault("a name in quotes was expected"));
            }
            self.scan.value(&mut key)?;
            self.scan.expect(b':')?;
            if serde_json::from_slice::<String>(&key).is_ok_and(|k| k == "features") && self.scan.space()? == Some(b'[') {
                self.scan.byte()?;
                self.found = true;
                self.state = State::Features;
                return Ok(None);
            }
            if self.beside.len() > 1 {
                self.beside.push(b',');
            }
            self.beside.extend_from_slice(&key);
            self.beside.push(b':');
            self.scan.value(&mut self.beside)?;
            if self.beside.len() > FEATURE_BYTES {
                return Err(self.scan.fault("more than 4 MiB beside the features"));
            }
        }
    }

    /// What an object was, once it has ended.
    fn object(&mut self) -> Result<Option<Result<crate::Row, crate::RowFault>>, FormatError> {
        let mut text = std::mem::take(&mut self.beside);
        text.push(b'}');
        let value: Value = serde_json::from_slice(&text).map_err(|e| self.scan.fault(format!("not JSON: {e}")))?;
        match value.get("type").and_then(Value::as_str) {
            Some("Feature") => {
                self.found = true;
                self.number += 1;
                Ok(Some(row(&self.reading, &value, self.number)))
            }
            Some("FeatureCollection") => {
                self.found = true;
                Ok(None)
            }
            _ if self.found && value.as_object().is_some_and(Map::is_empty) => Ok(None),
            _ => Err(self.scan.fault("not GeoJSON: a FeatureCollection or a Feature was expected")),
        }
    }

    fn feature(&mut self) -> Result<Option<Result<crate::Row, crate::RowFault>>, FormatError> {
        match self.scan.space()? {
            Some(b']') => {
                self.scan.byte()?;
                self.state = State::Members;
                return Ok(None);
            }
            Some(b',') if self.number > 0 => {
                self.scan.byte()?;
                if self.scan.space()? == Some(b']') {
                    return Err(self.scan.fault("not JSON: a comma before the end of the list"));
                }
            }
            _ => {}
        }
        let (line, mut text) = (self.scan.line, Vec::new());
        self.scan.value(&mut text)?;
        let value: Value = serde_json::from_slice(&text).map_err(|e| FormatError::Structure {
            line: line + e.line() as u64 - 1,
            column: e.column() as u64,
            reason: format!("not JSON: {e}"),
        })?;
        self.number += 1;
        Ok(Some(row(&self.reading, &value, self.number)))
    }
}

impl Iterator for GeoJsonRows {
    type Item = RowResult;
    fn next(&mut self) -> Option<RowResult> {
        self.advance()
    }
}

impl Rows for GeoJsonRows {}

fn row(reading: &Reading, feature: &Value, number: u64) -> Result<crate::Row, crate::RowFault> {
    let mut draft = reading.draft(number);
    let filled = match feature.get("$comapeo") {
        Some(Value::Object(document)) => comapeo(reading, document, feature, &mut draft),
        _ => fill(reading, feature, &mut draft),
    };
    match filled {
        Ok(()) => draft.finish(),
        Err(fault) => Err(draft.fault(fault)),
    }
}

fn fill(reading: &Reading, feature: &Value, draft: &mut Draft<'_>) -> Result<(), CellFault> {
    if feature.get("type").and_then(Value::as_str) != Some("Feature") {
        return Err((None, "not a Feature".into()));
    }
    let nothing = Map::new();
    let properties = feature.get("properties").and_then(Value::as_object).unwrap_or(&nothing);
    if let Some(id) = feature.get("id")
        && !properties.contains_key("id")
    {
        draft.put(&reading.column("id"), cell(id))?;
    }
    for (name, value) in properties.iter().filter(|(name, _)| *name != "coordTimes") {
        let mut column = reading.column(name);
        // Coordinates beside a geometry are a copy of it, or of something else.
        if matches!(column.meaning, Meaning::Lat | Meaning::Lon) && !reading.options().map.contains_key(name) {
            column.meaning = Meaning::Field(name.as_str().into());
        }
        draft.put(&column, cell(value))?;
    }
    match feature.get("geometry") {
        None | Some(Value::Null) => Ok(()),
        Some(geometry) => {
            let shape = geojson::read(geometry).map_err(|e| (Some("geometry".to_owned()), e))?;
            draft.shape(with_times(shape, properties.get("coordTimes")))
        }
    }
}

/// The times of a track's positions, as several programs write them beside it.
fn with_times(shape: Shape, times: Option<&Value>) -> Shape {
    let mut flat = Vec::new();
    fn collect(value: &Value, out: &mut Vec<Option<f64>>) {
        match value {
            Value::Array(items) => items.iter().for_each(|i| collect(i, out)),
            Value::String(text) => out.push(Instant::parse(text).ok().map(|i| i.unix_ms() as f64 / 1000.0)),
            Value::Number(n) => out.push(n.as_f64().map(|ms| ms / 1000.0)),
            _ => out.push(None),
        }
    }
    if let Some(times) = times {
        collect(times, &mut flat);
    }
    if flat.is_empty() || flat.len() != shape.coords().len() {
        return shape;
    }
    let next = std::cell::Cell::new(0);
    shape.map(&|c| {
        let n = next.replace(next.get() + 1);
        c.with_time(flat[n])
    })
}

pub(crate) fn cell(value: &Value) -> Cell {
    match value {
        Value::Null => Cell::Empty,
        Value::Bool(b) => Cell::Bool(*b),
        Value::String(s) => Cell::Text(s.clone()),
        Value::Number(n) => n.as_i64().map(Cell::Integer).or(n.as_f64().map(Cell::Number)).unwrap_or(Cell::Empty),
        // A list of texts is several options chosen; `export` writes them so.
        Value::Array(items) if items.iter().all(|i| i.is_string() || i.is_null()) => {
            Cell::Text(items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(";"))
        }
        other => Cell::Text(other.to_string()),
    }
}

/// A document of CoMapeo: tags with their types, the position with its accuracy, a track with its times.
fn comapeo(reading: &Reading, document: &Map<String, Value>, feature: &Value, draft: &mut Draft<'_>) -> Result<(), CellFault> {
    let text = |name: &str| document.get(name).and_then(Value::as_str);
    let property = |name: &str| feature.get("properties").and_then(|p| p.get(name)).and_then(Value::as_str);
    if let Some(id) = text("docId") {
        draft.put(&reading.column("$id"), Cell::Text(id.into()))?;
    }
    draft.row.category_hints = [property("$categoryId"), property("$category")].into_iter().flatten().map(str::to_owned).collect();
    for (name, value) in document.get("tags").and_then(Value::as_object).into_iter().flatten() {
        let column = crate::row::Column { meaning: Meaning::Field(name.as_str().into()), ..reading.column(name) };
        draft.put(&column, cell(value))?;
    }
    for (name, column) in [("$author", "$author"), ("$category", "$category")] {
        if let Some(value) = property(name) {
            draft.put(&reading.column_as_field(column), Cell::Text(value.into()))?;
        }
    }
    let attachments: Vec<&str> =
        document.get("attachments").and_then(Value::as_array).into_iter().flatten().filter_map(|a| a.get("name")?.as_str()).collect();
    if !attachments.is_empty() {
        draft.put(&reading.column_as_field("$attachments"), Cell::Text(attachments.join(";")))?;
    }
    let moment = |position: &Value| position.get("timestamp").and_then(Value::as_str).and_then(|t| Instant::parse(t).ok());
    let position = document.get("metadata").and_then(|m| m.get("position"));
    if let Some(time) = position.and_then(moment).or_else(|| text("createdAt").and_then(|t| Instant::parse(t).ok())) {
        draft.row.at = crate::Part::Set(time);
    }
    if let Some(locations) = document.get("locations").and_then(Value::as_array) {
        let mut line = Vec::with_capacity(locations.len());
        for location in locations {
            let number = |name: &str| location.get("coords").and_then(|c| c.get(name)).and_then(Value::as_f64);
            let (Some(lon), Some(lat)) = (number("longitude"), number("latitude")) else {
                return Err((None, "a location without coordinates".into()));
            };
            let time = moment(location).map(|i| i.unix_ms() as f64 / 1000.0);
            line.push(crate::row::coord(lon, lat, number("altitude"))?.with_time(time));
        }
        return draft.shape(Shape::Line(line));
    }
    if let (Some(lat), Some(lon)) = (document.get("lat").and_then(Value::as_f64), document.get("lon").and_then(Value::as_f64)) {
        let number = |name: &str| position.and_then(|p| p.get("coords")?.get(name)?.as_f64());
        let mut place = Place::new(lat, lon).map_err(|e| (None, e.to_string()))?;
        if let Some(metres) = number("altitude") {
            place = place.with_altitude(metres).map_err(|e| (None, e.to_string()))?;
        }
        if let Some(metres) = number("accuracy").filter(|m| *m >= 0.0) {
            place = place.with_uncertainty(metres).map_err(|e| (None, e.to_string()))?;
        }
        draft.row.place = crate::Part::Set(crate::Position::Place(place));
    }
    Ok(())
}
