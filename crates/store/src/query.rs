//! Listing: from indexes, newest first, alike on all devices. Never loads a document; rows hold the merged state.

use crate::docs::{DocRow, DocView, time_key};
use crate::tables::{View, from_bytes};
use crate::{Store, StoreError};
use cairn_model::{DocId, DocKind, Observation, Place};
use redb::ReadableTable;

/// West, south, east, north in degrees; west may be greater than east (across the date line).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bbox {
    /// Western edge.
    pub west: f64,
    /// Southern edge.
    pub south: f64,
    /// Eastern edge.
    pub east: f64,
    /// Northern edge.
    pub north: f64,
}

impl Bbox {
    fn contains(&self, p: &Place) -> bool {
        let lon = if self.west <= self.east { (self.west..=self.east).contains(&p.lon) } else { p.lon >= self.west || p.lon <= self.east };
        lon && (self.south..=self.north).contains(&p.lat)
    }
}

/// What to list. All given conditions must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// Category id.
    pub category: Option<String>,
    /// Not before, milliseconds.
    pub since: Option<i64>,
    /// Not after, milliseconds.
    pub until: Option<i64>,
    /// Inside.
    pub bbox: Option<Bbox>,
    /// Fields and their values.
    pub fields: Vec<(String, String)>,
    /// Deleted ones too.
    pub deleted: bool,
    /// Only these observations.
    pub only: Option<Vec<DocId>>,
    /// Only rows of this data set.
    pub dataset: Option<String>,
    /// At most so many; 0 is no limit.
    pub limit: usize,
}

/// The answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Listing {
    /// Newest first, then by id.
    pub observations: Vec<DocView>,
    /// All that match, whatever the limit.
    pub count: u64,
}

/// Past this many quads of the place index a box is scanned by time instead.
const QUADS: usize = 64;

pub(crate) type TimeKey = [u8; 20];

impl Store {
    /// Lists observations. Without conditions on fields, rows past the limit are counted from the index alone.
    pub fn list(&self, filter: &Filter) -> Result<Listing, StoreError> {
        let v = self.view()?;
        let keys = self.candidates(&v, filter)?;
        let both = filter.category.is_some() && filter.dataset.is_some();
        let check_rows = filter.bbox.is_some() || !filter.fields.is_empty() || both || filter.only.is_some();
        let limit = if filter.limit == 0 { usize::MAX } else { filter.limit };
        let mut out = Listing { observations: Vec::new(), count: 0 };
        for key in keys {
            if !check_rows && out.observations.len() >= limit {
                out.count += 1;
                continue;
            }
            let number = u32::from_be_bytes([key[16], key[17], key[18], key[19]]);
            let bytes = v.docs.get(number)?.ok_or(StoreError::Damaged("document"))?;
            let row: DocRow = from_bytes(bytes.value(), "document")?;
            if check_rows && !matches(filter, &row) {
                continue;
            }
            out.count += 1;
            if out.observations.len() < limit {
                out.observations.push(self.doc_view(&v, &row)?);
            }
        }
        Ok(out)
    }

    /// Observations shown now.
    pub fn count(&self) -> Result<u64, StoreError> {
        use redb::ReadableTableMetadata;
        Ok(self.view()?.by_time.len()?)
    }

    /// Observations with something to settle.
    pub fn conflict_count(&self) -> Result<u64, StoreError> {
        use redb::ReadableTableMetadata;
        Ok(self.view()?.conflicts.len()?)
    }

    /// Ids that begin with `prefix` (hex digits).
    pub fn ids_with_prefix(&self, prefix: &str, most: usize) -> Result<Vec<DocId>, StoreError> {
        let v = self.view()?;
        let mut low = [0u8; 17];
        low[0] = DocKind::Observation as u8;
        let even = &prefix[..prefix.len() / 2 * 2];
        let Ok(bytes) = cairn_model::unhex(even) else { return Ok(Vec::new()) };
        if bytes.len() > 16 {
            return Ok(Vec::new());
        }
        low[1..=bytes.len()].copy_from_slice(&bytes);
        let mut out = Vec::new();
        for row in v.doc_ids.range::<&[u8; 17]>(&low..)? {
            let key = row?.0;
            let id = DocId::from_slice(&key.value()[1..]).map_err(|_| StoreError::Damaged("id"))?;
            if key.value()[0] != low[0] || !id.to_string().starts_with(even) || out.len() == most {
                break;
            }
            if id.to_string().starts_with(&prefix.to_lowercase()) {
                out.push(id);
            }
        }
        Ok(out)
    }

    /// Index entries in listing order, narrowed by the best index for the filter.
    pub(crate) fn candidates(&self, v: &View, filter: &Filter) -> Result<Vec<TimeKey>, StoreError> {
        let (newest, oldest) = (time_key(Some(filter.until.unwrap_or(i64::MAX))), time_key(Some(filter.since.unwrap_or(i64::MIN))));
        let bounds = |key: &TimeKey| {
            let t = &key[..8];
            (filter.until.is_none() || t >= &newest[..]) && (filter.since.is_none() || t <= &oldest[..])
        };
        let mut keys: Vec<TimeKey> = Vec::new();
        if let Some(ids) = &filter.only {
            keys = self.keys_of(v, ids)?;
        } else if let Some(dataset) = &filter.dataset {
            keys = self.keys_of_dataset(v, dataset, filter.deleted)?;
        } else if let Some(category) = &filter.category {
            if let Some(n) = self.mem.categories.get(category) {
                let (mut low, mut high) = ([0u8; 24], [0xff; 24]);
                low[..4].copy_from_slice(&n.to_be_bytes());
                high[..4].copy_from_slice(&n.to_be_bytes());
                for row in v.by_category.range::<&[u8; 24]>(&low..=&high)? {
                    let key = row?.0;
                    keys.push(key.value()[4..].try_into().map_err(|_| StoreError::Damaged("index"))?);
                }
            }
        } else if let Some(numbers) = filter.bbox.map(|b| self.in_box(v, &b)).transpose()?.flatten() {
            keys = self.keys_of_numbers(v, numbers)?;
        } else if !filter.fields.is_empty() {
            keys = scan(v, filter)?;
        } else {
            for row in v.by_time.iter()? {
                keys.push(*row?.0.value());
            }
        }
        if filter.deleted && filter.only.is_none() && filter.dataset.is_none() {
            for row in v.deleted.iter()? {
                let key = *row?.0.value();
                if filter.category.is_none() || self.category_of(v, &key)? == filter.category {
                    keys.push(key);
                }
            }
            keys.sort_unstable();
        }
        keys.retain(bounds);
        Ok(keys)
    }

    fn category_of(&self, v: &View, key: &TimeKey) -> Result<Option<String>, StoreError> {
        let number = u32::from_be_bytes([key[16], key[17], key[18], key[19]]);
        let bytes = v.docs.get(number)?.ok_or(StoreError::Damaged("document"))?;
        let row: DocRow = from_bytes(bytes.value(), "document")?;
        Ok(Some(Observation::read(&row.state).category))
    }

    fn keys_of_dataset(&self, v: &View, name: &str, deleted: bool) -> Result<Vec<TimeKey>, StoreError> {
        let mut keys = Vec::new();
        for (raw, set) in self.mem.datasets.iter() {
            if cairn_model::Dataset::parse(raw).is_none_or(|d| d.name != name) {
                continue;
            }
            for entry in v.by_dataset.range(crate::import::set_range(*set))? {
                let number = entry?.0.value() as u32;
                let bytes = v.docs.get(number)?.ok_or(StoreError::Damaged("document"))?;
                let row: DocRow = from_bytes(bytes.value(), "document")?;
                if deleted || !Observation::read(&row.state).deleted {
                    keys.push(time_key_of(&row, number));
                }
            }
        }
        keys.sort_unstable();
        Ok(keys)
    }

    fn keys_of(&self, v: &View, ids: &[DocId]) -> Result<Vec<TimeKey>, StoreError> {
        let mut numbers = Vec::new();
        for id in ids {
            if let Some(n) = v.doc_ids.get(&crate::docs::doc_key(DocKind::Observation, id))? {
                numbers.push(n.value());
            }
        }
        self.keys_of_numbers(v, numbers)
    }

    fn keys_of_numbers(&self, v: &View, numbers: Vec<u32>) -> Result<Vec<TimeKey>, StoreError> {
        let mut keys = Vec::with_capacity(numbers.len());
        for number in numbers {
            let bytes = v.docs.get(number)?.ok_or(StoreError::Damaged("document"))?;
            let row: DocRow = from_bytes(bytes.value(), "document")?;
            keys.push(time_key_of(&row, number));
        }
        keys.sort_unstable();
        Ok(keys)
    }

    /// Document numbers in the quads that cover a box; `None` where too many quads would be needed.
    fn in_box(&self, v: &View, b: &Bbox) -> Result<Option<Vec<u32>>, StoreError> {
        let parts = if b.west <= b.east { vec![*b] } else { vec![Bbox { east: 180.0, ..*b }, Bbox { west: -180.0, ..*b }] };
        let mut numbers = Vec::new();
        for part in parts {
            let corner = |lat: f64, lon: f64| Place::new(lat, lon).map(|p| p.cell()).unwrap_or_default();
            let Some(quads) = quads(corner(part.south, part.west), corner(part.north, part.east)) else { return Ok(None) };
            for (low, high) in quads {
                let (mut from, mut to) = ([0u8; 12], [0xff; 12]);
                from[..8].copy_from_slice(&low.to_be_bytes());
                to[..8].copy_from_slice(&high.to_be_bytes());
                for row in v.by_place.range::<&[u8; 12]>(&from..=&to)? {
                    let key = row?.0;
                    let k = key.value();
                    numbers.push(u32::from_be_bytes([k[8], k[9], k[10], k[11]]));
                }
            }
        }
        Ok(Some(numbers))
    }
}

fn time_key_of(row: &DocRow, number: u32) -> TimeKey {
    let mut key = [0; 20];
    key[..8].copy_from_slice(&time_key(Observation::read(&row.state).unix_ms()));
    key[8..16].copy_from_slice(&row.id.0[..8]);
    key[16..].copy_from_slice(&number.to_be_bytes());
    key
}

/// Observations whose fields match, by one pass over all rows in the order they lie on the disk. A row is decoded only
/// if the bytes of the value stand in it: no index on fields would be worth its size (ten fields an observation).
fn scan(v: &View, filter: &Filter) -> Result<Vec<TimeKey>, StoreError> {
    let needles: Vec<Vec<Vec<u8>>> = filter.fields.iter().map(|(field, text)| encodings(field, text)).collect();
    let mut keys = Vec::new();
    for entry in v.docs.iter()? {
        let (number, bytes) = entry?;
        let stands = |n: &Vec<u8>| memchr::memmem::find(bytes.value(), n).is_some();
        if !needles.iter().all(|any| any.iter().any(stands)) {
            continue;
        }
        let row: DocRow = from_bytes(bytes.value(), "document")?;
        let seen = Observation::read(&row.state);
        if row.kind == DocKind::Observation && !row.state.is_empty() && !seen.deleted && matches(filter, &row) {
            keys.push(time_key_of(&row, number.value()));
        }
    }
    keys.sort_unstable();
    Ok(keys)
}

/// Every way in which a field that shows `text` can stand in a row.
fn encodings(field: &str, text: &str) -> Vec<Vec<u8>> {
    use crate::tables::to_bytes;
    use cairn_model::{DocKey, Value};
    let mut values = vec![Value::from(text)];
    values.extend(text.parse().ok().map(Value::Integer));
    values.extend(text.parse().ok().map(Value::Decimal));
    values.extend(text.parse().ok().map(Value::Bool));
    values.extend(cairn_model::unhex(text).ok().map(Value::Bytes));
    let mut out: Vec<Vec<u8>> = values.iter().map(to_bytes).collect();
    out.push(DocKey::Choice(field.to_owned(), text.to_owned()).encode().into_bytes());
    out
}

/// Morton ranges of the quads, at the level of the box's longer side, that cover it.
fn quads(sw: (u32, u32), ne: (u32, u32)) -> Option<Vec<(u64, u64)>> {
    let side = (ne.0 - sw.0.min(ne.0)).max(ne.1 - sw.1.min(ne.1)).max(1);
    let level = (32 - side.leading_zeros()).saturating_sub(2).min(31);
    let mut out = Vec::new();
    for x in (sw.0 >> level)..=(ne.0 >> level) {
        for y in (sw.1 >> level)..=(ne.1 >> level) {
            let low = morton(x << level, y << level);
            out.push((low, low | ((1u64 << (2 * level)) - 1)));
        }
    }
    (out.len() <= QUADS).then_some(out)
}

fn morton(x: u32, y: u32) -> u64 {
    let mut out = 0u64;
    for bit in 0..32 {
        out |= (u64::from(x >> bit & 1) << (2 * bit)) | (u64::from(y >> bit & 1) << (2 * bit + 1));
    }
    out
}

fn matches(filter: &Filter, row: &DocRow) -> bool {
    if filter.bbox.is_none() && filter.fields.is_empty() && filter.category.is_none() && filter.dataset.is_none() {
        return true;
    }
    matches_seen(filter, &Observation::read(&row.state))
}

/// Times, which candidates are chosen by where no moment is asked for.
pub(crate) fn within(filter: &Filter, seen: &Observation) -> bool {
    let at = seen.unix_ms();
    let since = filter.since.is_none_or(|s| at.is_some_and(|at| at >= s));
    let until = filter.until.is_none_or(|u| at.is_some_and(|at| at <= u));
    since && until
}

pub(crate) fn matches_seen(filter: &Filter, seen: &Observation) -> bool {
    let category = filter.category.as_ref().is_none_or(|c| *c == seen.category);
    let place = filter.bbox.as_ref().is_none_or(|b| seen.place.is_some_and(|p| b.contains(&p)));
    let dataset = filter.dataset.as_ref().is_none_or(|d| seen.dataset.as_ref().is_some_and(|s| s.name == *d));
    category && place && dataset && filter.fields.iter().all(|(f, wanted)| seen.fields.get(f).is_some_and(|v| v.matches(wanted)))
}
