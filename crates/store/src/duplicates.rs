//! Observations that look like one: near each other in place and time, of one category, by different devices. A hint for people; nothing
//! waits for it and nothing is merged.
//!
//! One walk in the order of time with a window behind it. What is in the window lies in cells at least as wide as the distance asked for,
//! so a row is compared with its own cell and those around it.

use crate::glimpse::Glimpse;
use crate::query::Filter;
use crate::{Store, StoreError};
use cairn_model::{ChunkHash, DeviceId, DocId, DocKind, Instant, Place};
use redb::ReadableTable;
use std::collections::{BTreeSet, HashMap, VecDeque};

/// Rows that are compared at most: a million rows with one and the same time must not fill memory.
const WINDOW: usize = 100_000;
/// Metres in a degree of latitude on the sphere that [`Place::metres_to`] measures on, rounded down.
const DEGREE: f64 = 111_195.0;
/// Nearer to a pole than this many degrees a band is one cell.
const POLE: f64 = 89.9;
/// Pairs given at most, whatever is asked for.
const PAIRS: usize = 100_000;
/// Rows of one cell that a row is compared with: a station's table of one day has all its rows in one.
const CELL: usize = 512;

/// What looks alike.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Likeness {
    /// At most so far apart.
    pub metres: f64,
    /// At most so long apart, milliseconds.
    pub within_ms: i64,
    /// Also what one device made twice.
    pub same_device: bool,
    /// At most so many are given; 0 is no limit.
    pub limit: usize,
}

/// Two observations that look alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// The one whose device has the lower id, then the lower id.
    pub ids: (DocId, DocId),
    /// Who made them.
    pub devices: (Option<DeviceId>, Option<DeviceId>),
    /// Their category.
    pub category: String,
    /// How far apart.
    pub metres: f64,
    /// How long apart, milliseconds.
    pub apart_ms: i64,
}

/// What a look for pairs came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Duplicates {
    /// Those asked for.
    pub pairs: Vec<Pair>,
    /// All that were found.
    pub count: u64,
    /// Nothing was left out: so many rows at one place and time that not each was compared with each.
    pub complete: bool,
}

struct Candidate {
    id: DocId,
    ms: i64,
    place: Place,
    device: Option<DeviceId>,
    /// The table of rows it came from: rows of one table are told apart by their keys.
    dataset: Option<[u8; 16]>,
    both: Vec<DocId>,
}

/// Category, band of latitude, cell in the band.
type Cell = (u32, i32, i32);

struct Window {
    likeness: Likeness,
    /// In each the rows as they came, so that the first to go is at the front.
    cells: HashMap<Cell, VecDeque<Candidate>>,
    order: VecDeque<(i64, Cell)>,
    categories: HashMap<String, u32>,
    /// Every row was compared with all that lie near.
    complete: bool,
}

impl Window {
    fn step(&self) -> f64 {
        (self.likeness.metres / DEGREE).max(1e-6)
    }

    fn band(&self, lat: f64) -> i32 {
        (lat / self.step()).floor() as i32
    }

    /// Width of a cell in a band, degrees: of the band's edge nearest to a pole, where a degree is shortest.
    fn width(&self, band: i32) -> f64 {
        let (low, high) = (f64::from(band) * self.step(), f64::from(band + 1) * self.step());
        match low.abs().max(high.abs()) {
            lat if lat < POLE => self.step() / lat.to_radians().cos(),
            _ => 720.0,
        }
    }

    fn cell(&self, category: u32, place: &Place) -> Cell {
        let band = self.band(place.lat);
        (category, band, (place.lon / self.width(band)).floor() as i32)
    }

    /// Cells in which something near may lie, also across the date line.
    fn around(&self, category: u32, place: &Place) -> Vec<Cell> {
        let mut out = Vec::with_capacity(9);
        let own = self.band(place.lat);
        for band in own - 1..=own + 1 {
            let width = self.width(band);
            for lon in [place.lon, place.lon - 360.0, place.lon + 360.0] {
                if !(-180.0 - width..=180.0 + width).contains(&lon) {
                    continue;
                }
                let middle = (lon / width).floor() as i32;
                out.extend((middle - 1..=middle + 1).map(|cell| (category, band, cell)));
            }
        }
        out.sort_unstable();
        out.dedup();
        out
    }

    /// Rows come newest first: what is more than the span later is passed.
    fn forget(&mut self, now: i64) {
        while let Some((ms, cell)) = self.order.front().copied() {
            let near = ms - now <= self.likeness.within_ms;
            if near && self.order.len() < WINDOW {
                break;
            }
            self.complete &= !near;
            self.order.pop_front();
            if let Some(held) = self.cells.get_mut(&cell) {
                held.pop_front();
                if held.is_empty() {
                    self.cells.remove(&cell);
                }
            }
        }
    }

    fn pair(&self, category: &str, a: &Candidate, b: &Candidate) -> Option<Pair> {
        let l = &self.likeness;
        let meant = a.both.contains(&b.id) || b.both.contains(&a.id);
        let rows_of_one_table = a.dataset.is_some() && a.dataset == b.dataset;
        let one_device = a.device == b.device && !l.same_device;
        if meant || rows_of_one_table || one_device {
            return None;
        }
        let metres = a.place.metres_to(&b.place);
        if metres > l.metres {
            return None;
        }
        let (first, second) = if (a.device, a.id) <= (b.device, b.id) { (a, b) } else { (b, a) };
        Some(Pair {
            ids: (first.id, second.id),
            devices: (first.device, second.device),
            category: category.to_owned(),
            metres,
            apart_ms: (a.ms - b.ms).abs(),
        })
    }

    /// Compares a row with what is in the window, and puts it there.
    fn take(&mut self, category: &str, row: Candidate, each: &mut dyn FnMut(Pair)) {
        self.forget(row.ms);
        let next = self.categories.len() as u32;
        let number = *self.categories.entry(category.to_owned()).or_insert(next);
        for cell in self.around(number, &row.place) {
            let Some(held) = self.cells.get(&cell) else { continue };
            // The latest ones: they are nearest in time.
            self.complete &= held.len() <= CELL;
            for other in held.iter().rev().take(CELL) {
                if let Some(pair) = self.pair(category, other, &row) {
                    each(pair);
                }
            }
        }
        let cell = self.cell(number, &row.place);
        self.order.push_back((row.ms, cell));
        self.cells.entry(cell).or_default().push_back(row);
    }
}

impl Store {
    /// Pairs of observations that look like one, newest first.
    pub fn duplicates(&self, likeness: &Likeness) -> Result<Duplicates, StoreError> {
        let v = self.view()?;
        let mut window =
            Window { likeness: *likeness, cells: HashMap::new(), order: VecDeque::new(), categories: HashMap::new(), complete: true };
        let most = if likeness.limit == 0 { PAIRS } else { likeness.limit.min(PAIRS) };
        let (mut out, mut count) = (Vec::new(), 0u64);
        let mut each = |pair: Pair| {
            count += 1;
            if out.len() < most {
                out.push(pair);
            }
        };
        for entry in v.by_time.iter()? {
            let key = *entry?.0.value();
            let number = u32::from_be_bytes([key[16], key[17], key[18], key[19]]);
            let bytes = v.docs.get(number)?.ok_or(StoreError::Damaged("document"))?;
            let glimpse = Glimpse::of(bytes.value())?;
            let seen = glimpse.observation();
            let ms = seen.at.and_then(|at| Instant::parse(at).ok()).map(|at| at.unix_ms());
            let (Some(ms), Some(place), DocKind::Observation) = (ms, seen.place, glimpse.kind()) else { continue };
            let device = glimpse.creator().and_then(|chain| self.mem.feeds.get(chain as usize)).map(|feed| feed.device);
            let dataset = glimpse.get("dataset").map(|name| ChunkHash::of(name.display().as_bytes()).short());
            let row = Candidate { id: glimpse.id(), ms, place, device, dataset, both: seen.both.clone() };
            window.take(seen.category, row, &mut each);
        }
        Ok(Duplicates { pairs: out, count, complete: window.complete })
    }
    /// Pairs of observations that people said are both meant, each once, the one whose device has the lower id first.
    pub fn meant_pairs(&self) -> Result<Vec<(DocId, DocId)>, StoreError> {
        let mut said = BTreeSet::new();
        self.each_observation(&Filter::default(), &mut |id, seen| {
            said.extend(seen.both.iter().map(|other| (id.min(*other), id.max(*other))));
            Ok(())
        })?;
        let mut out = Vec::new();
        for (a, b) in said {
            let (Some(first), Some(second)) = (self.observation(&a)?, self.observation(&b)?) else { continue };
            if first.seen.deleted || second.seen.deleted || a == b {
                continue;
            }
            out.push(if (first.created_by, a) <= (second.created_by, b) { (a, b) } else { (b, a) });
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn likeness(metres: f64, minutes: i64) -> Likeness {
        Likeness { metres, within_ms: minutes * 60_000, same_device: false, limit: 0 }
    }

    fn row(n: u8, device: u8, lat: f64, lon: f64, minute: i64) -> Candidate {
        let place = Place::new(lat, lon).unwrap();
        Candidate { id: DocId([n; 16]), ms: minute * 60_000, place, device: Some(DeviceId([device; 32])), dataset: None, both: Vec::new() }
    }

    /// Against the plain rule: every pair is looked at.
    #[test]
    fn the_window_finds_what_a_look_at_every_pair_finds() {
        let mut seed = 7u64;
        let mut random = |n: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % n
        };
        for round in 0..60 {
            let base = [(0.0, 0.0), (89.95, 20.0), (-45.0, 179.9995), (-89.99, -179.9999)][round % 4];
            let mut rows: Vec<Candidate> = (0..60)
                .map(|n| {
                    let lat = (base.0 + random(100) as f64 * 0.00001).clamp(-90.0, 90.0);
                    let lon = base.1 + random(100) as f64 * 0.00001;
                    let lon = if lon > 180.0 { lon - 360.0 } else { lon };
                    row(n, random(3) as u8, lat, lon, random(60) as i64)
                })
                .collect();
            rows.sort_by_key(|r| std::cmp::Reverse(r.ms));
            let rule = likeness(30.0, 5);
            let mut plain = Vec::new();
            let window =
                Window { likeness: rule, cells: HashMap::new(), order: VecDeque::new(), categories: HashMap::new(), complete: true };
            for (n, a) in rows.iter().enumerate() {
                for b in rows[..n].iter().filter(|b| b.ms - a.ms <= rule.within_ms) {
                    plain.extend(window.pair("x", b, a).map(|p| p.ids));
                }
            }
            let (mut window, mut found) = (window, Vec::new());
            for row in rows {
                window.take("x", row, &mut |p| found.push(p.ids));
            }
            plain.sort_unstable();
            found.sort_unstable();
            assert_eq!(found, plain, "round {round}");
        }
    }

    #[test]
    fn who_made_them_and_what_was_said_of_them_counts() {
        let window =
            |rule| Window { likeness: rule, cells: HashMap::new(), order: VecDeque::new(), categories: HashMap::new(), complete: true };
        let rule = likeness(30.0, 5);
        let (a, same, mut other) = (row(1, 1, 0.0, 0.0, 0), row(2, 1, 0.0, 0.0, 0), row(3, 2, 0.0, 0.0001, 1));
        assert!(window(rule).pair("x", &a, &same).is_none());
        assert!(window(Likeness { same_device: true, ..rule }).pair("x", &a, &same).is_some());
        let pair = window(rule).pair("x", &other, &a).unwrap();
        assert_eq!((pair.ids, pair.apart_ms), ((a.id, other.id), 60_000));
        assert!((pair.metres - 11.1).abs() < 0.1);
        other.both.push(a.id);
        assert!(window(rule).pair("x", &a, &other).is_none(), "said to be both meant");
    }
}
