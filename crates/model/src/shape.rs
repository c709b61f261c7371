//! A track or an area as one WKB value (OGC 06-103r4, ISO Z), so that half of it from one device and half from another is impossible.

use crate::{Place, PlaceError};

/// Shapes in shapes: deeper ones are somebody's joke.
const DEPTH: u8 = 8;
/// Positions of one shape: what a field value has room for.
const POSITIONS: usize = crate::limits::FIELD_VALUE_BYTES / 16;

/// One position of a shape: degrees (WGS 84) and metres.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Coord {
    /// Longitude.
    pub lon: f64,
    /// Latitude.
    pub lat: f64,
    /// Metres.
    pub altitude: Option<f64>,
    /// When it was passed, seconds since 1970; the measure of WKB.
    pub time: Option<f64>,
}

/// Any geometry that RFC 7946 knows.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// One position.
    Point(Coord),
    /// A track.
    Line(Vec<Coord>),
    /// An area: its outer ring, then holes.
    Area(Vec<Vec<Coord>>),
    /// Several positions.
    Points(Vec<Coord>),
    /// A track with gaps.
    Lines(Vec<Vec<Coord>>),
    /// Several areas.
    Areas(Vec<Vec<Vec<Coord>>>),
    /// Of several kinds.
    Several(Vec<Shape>),
}

/// Why bytes or positions are no shape.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ShapeError {
    /// The bytes.
    #[error("not a geometry: {0}")]
    Bytes(&'static str),
    /// A position.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// Nothing in it.
    #[error("an empty geometry")]
    Empty,
    /// More than a field value holds.
    #[error("a geometry of more than {POSITIONS} positions")]
    Size,
}

impl Coord {
    /// Checks the ranges.
    pub fn new(lon: f64, lat: f64, altitude: Option<f64>) -> Result<Self, PlaceError> {
        let place = Place::new(lat, lon)?;
        let place = altitude.map_or(Ok(place), |a| place.with_altitude(a))?;
        Ok(Self { lon: place.lon, lat: place.lat, altitude: place.altitude, time: None })
    }

    /// Adds when it was passed.
    pub fn with_time(mut self, seconds: Option<f64>) -> Self {
        self.time = seconds.filter(|s| s.is_finite());
        self
    }

    /// The position alone.
    pub fn place(&self) -> Place {
        Place { lat: self.lat, lon: self.lon, altitude: self.altitude, uncertainty: None }
    }
}

impl Shape {
    /// Every position, in order.
    pub fn coords(&self) -> Vec<Coord> {
        let mut out = Vec::new();
        self.visit(&mut |c| out.push(*c));
        out
    }

    fn visit(&self, see: &mut dyn FnMut(&Coord)) {
        match self {
            Shape::Point(c) => see(c),
            Shape::Line(line) | Shape::Points(line) => line.iter().for_each(see),
            Shape::Area(rings) | Shape::Lines(rings) => rings.iter().flatten().for_each(see),
            Shape::Areas(areas) => areas.iter().flatten().flatten().for_each(see),
            Shape::Several(parts) => parts.iter().for_each(|p| p.visit(see)),
        }
    }

    /// The first position: where the track begins.
    pub fn first(&self) -> Option<Coord> {
        match self {
            Shape::Point(c) => Some(*c),
            Shape::Line(line) | Shape::Points(line) => line.first().copied(),
            Shape::Area(rings) | Shape::Lines(rings) => rings.iter().flatten().next().copied(),
            Shape::Areas(areas) => areas.iter().flatten().flatten().next().copied(),
            Shape::Several(parts) => parts.iter().find_map(Shape::first),
        }
    }

    /// `point`, `line` or `area`: what a category may apply to.
    pub fn kind(&self) -> &'static str {
        match self {
            Shape::Point(_) | Shape::Points(_) => "point",
            Shape::Line(_) | Shape::Lines(_) => "line",
            Shape::Area(_) | Shape::Areas(_) => "area",
            Shape::Several(parts) => parts.first().map_or("point", Shape::kind),
        }
    }

    /// The same shape with every position changed.
    pub fn map(&self, change: &dyn Fn(Coord) -> Coord) -> Shape {
        let line = |l: &Vec<Coord>| l.iter().map(|c| change(*c)).collect::<Vec<_>>();
        let rings = |r: &Vec<Vec<Coord>>| r.iter().map(line).collect::<Vec<_>>();
        match self {
            Shape::Point(c) => Shape::Point(change(*c)),
            Shape::Line(l) => Shape::Line(line(l)),
            Shape::Points(l) => Shape::Points(line(l)),
            Shape::Area(r) => Shape::Area(rings(r)),
            Shape::Lines(r) => Shape::Lines(rings(r)),
            Shape::Areas(a) => Shape::Areas(a.iter().map(rings).collect()),
            Shape::Several(parts) => Shape::Several(parts.iter().map(|p| p.map(change)).collect()),
        }
    }

    fn has_empty_part(&self) -> bool {
        match self {
            Shape::Point(_) => false,
            Shape::Line(line) | Shape::Points(line) => line.is_empty(),
            Shape::Area(parts) | Shape::Lines(parts) => parts.is_empty() || parts.iter().any(Vec::is_empty),
            Shape::Areas(areas) => areas.is_empty() || areas.iter().any(|a| a.is_empty() || a.iter().any(Vec::is_empty)),
            Shape::Several(parts) => parts.is_empty() || parts.iter().any(Shape::has_empty_part),
        }
    }

    /// Checks that it has positions, in every part, and not too many.
    pub fn check(&self) -> Result<(), ShapeError> {
        if self.has_empty_part() {
            return Err(ShapeError::Empty);
        }
        let mut count = 0;
        self.visit(&mut |_| count += 1);
        match count {
            0 => Err(ShapeError::Empty),
            n if n > POSITIONS => Err(ShapeError::Size),
            _ => Ok(()),
        }
    }

    /// Little-endian WKB; with heights and times where any position has one, "not a number" where it has none.
    pub fn to_wkb(&self) -> Vec<u8> {
        let mut more = More { high: false, timed: false };
        self.visit(&mut |c| {
            more.high |= c.altitude.is_some();
            more.timed |= c.time.is_some();
        });
        let mut out = Vec::new();
        self.write(&mut out, more);
        out
    }

    fn code(&self) -> u32 {
        match self {
            Shape::Point(_) => 1,
            Shape::Line(_) => 2,
            Shape::Area(_) => 3,
            Shape::Points(_) => 4,
            Shape::Lines(_) => 5,
            Shape::Areas(_) => 6,
            Shape::Several(_) => 7,
        }
    }

    fn write(&self, out: &mut Vec<u8>, more: More) {
        out.push(1);
        out.extend((self.code() + 1000 * u32::from(more.high) + 2000 * u32::from(more.timed)).to_le_bytes());
        let count = |out: &mut Vec<u8>, n: usize| out.extend((n as u32).to_le_bytes());
        match self {
            Shape::Point(c) => write_coord(c, out, more),
            Shape::Line(line) => write_line(line, out, more),
            Shape::Area(rings) => {
                count(out, rings.len());
                rings.iter().for_each(|r| write_line(r, out, more));
            }
            Shape::Points(points) => {
                count(out, points.len());
                points.iter().for_each(|c| Shape::Point(*c).write(out, more));
            }
            Shape::Lines(lines) => {
                count(out, lines.len());
                lines.iter().for_each(|l| Shape::Line(l.clone()).write(out, more));
            }
            Shape::Areas(areas) => {
                count(out, areas.len());
                areas.iter().for_each(|a| Shape::Area(a.clone()).write(out, more));
            }
            Shape::Several(parts) => {
                count(out, parts.len());
                parts.iter().for_each(|p| p.write(out, more));
            }
        }
    }

    /// Reads WKB of either byte order: ISO, or EWKB as PostGIS and older programs write it. A measure is taken for a time.
    pub fn from_wkb(bytes: &[u8]) -> Result<Self, ShapeError> {
        let mut reader = Reader { rest: bytes, positions: 0 };
        let shape = reader.shape(0)?;
        if !reader.rest.is_empty() {
            return Err(ShapeError::Bytes("bytes after its end"));
        }
        shape.check()?;
        Ok(shape)
    }
}

fn write_coord(c: &Coord, out: &mut Vec<u8>, more: More) {
    out.extend(c.lon.to_le_bytes());
    out.extend(c.lat.to_le_bytes());
    if more.high {
        out.extend(c.altitude.unwrap_or(f64::NAN).to_le_bytes());
    }
    if more.timed {
        out.extend(c.time.unwrap_or(f64::NAN).to_le_bytes());
    }
}

fn write_line(line: &[Coord], out: &mut Vec<u8>, more: More) {
    out.extend((line.len() as u32).to_le_bytes());
    line.iter().for_each(|c| write_coord(c, out, more));
}

/// What positions have beside longitude and latitude.
#[derive(Clone, Copy)]
struct More {
    high: bool,
    timed: bool,
}

struct Reader<'a> {
    rest: &'a [u8],
    positions: usize,
}

/// What stands in the head of a WKB geometry.
#[derive(Clone, Copy)]
struct Head {
    little: bool,
    kind: u32,
    z: bool,
    m: bool,
}

impl Reader<'_> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], ShapeError> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(ShapeError::Bytes("it ends too early"))?;
        self.rest = rest;
        Ok(*head)
    }

    fn number(&mut self, little: bool) -> Result<u32, ShapeError> {
        let bytes = self.bytes::<4>()?;
        Ok(if little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    }

    fn double(&mut self, little: bool) -> Result<f64, ShapeError> {
        let bytes = self.bytes::<8>()?;
        Ok(if little { f64::from_le_bytes(bytes) } else { f64::from_be_bytes(bytes) })
    }

    fn head(&mut self) -> Result<Head, ShapeError> {
        let little = match self.bytes::<1>()?[0] {
            0 => false,
            1 => true,
            _ => return Err(ShapeError::Bytes("its byte order is unknown")),
        };
        let mut kind = self.number(little)?;
        let (mut z, mut m) = (kind & 0x8000_0000 != 0, kind & 0x4000_0000 != 0);
        if kind & 0x2000_0000 != 0 {
            self.number(little)?;
        }
        kind &= 0x0fff_ffff;
        if kind >= 1000 {
            z |= matches!(kind / 1000, 1 | 3);
            m |= matches!(kind / 1000, 2 | 3);
            kind %= 1000;
        }
        Ok(Head { little, kind, z, m })
    }

    fn coord(&mut self, head: Head) -> Result<Coord, ShapeError> {
        let (lon, lat) = (self.double(head.little)?, self.double(head.little)?);
        let altitude = if head.z { Some(self.double(head.little)?).filter(|z| !z.is_nan()) } else { None };
        let time = if head.m { Some(self.double(head.little)?).filter(|m| !m.is_nan()) } else { None };
        self.positions += 1;
        if self.positions > POSITIONS {
            return Err(ShapeError::Size);
        }
        Ok(Coord::new(lon, lat, altitude)?.with_time(time))
    }

    fn line(&mut self, head: Head) -> Result<Vec<Coord>, ShapeError> {
        // No capacity is taken on the word of a count.
        let count = self.number(head.little)?;
        (0..count).map(|_| self.coord(head)).collect()
    }

    fn shape(&mut self, depth: u8) -> Result<Shape, ShapeError> {
        if depth > DEPTH {
            return Err(ShapeError::Bytes("geometries in geometries, too deep"));
        }
        let head = self.head()?;
        Ok(match head.kind {
            1 => Shape::Point(self.coord(head)?),
            2 => Shape::Line(self.line(head)?),
            3 => {
                let count = self.number(head.little)?;
                Shape::Area((0..count).map(|_| self.line(head)).collect::<Result<_, _>>()?)
            }
            kind @ 4..=7 => {
                let count = self.number(head.little)?;
                let mut parts = Vec::new();
                for _ in 0..count {
                    parts.push(self.shape(depth + 1)?);
                }
                Shape::gather(kind, parts)?
            }
            _ => return Err(ShapeError::Bytes("a kind that is not known (curves are not taken)")),
        })
    }
}

impl Shape {
    fn gather(kind: u32, parts: Vec<Shape>) -> Result<Shape, ShapeError> {
        let mixed = || ShapeError::Bytes("a part of another kind");
        Ok(match kind {
            4 => Shape::Points(
                parts.into_iter().map(|p| if let Shape::Point(c) = p { Ok(c) } else { Err(mixed()) }).collect::<Result<_, _>>()?,
            ),
            5 => Shape::Lines(
                parts.into_iter().map(|p| if let Shape::Line(l) = p { Ok(l) } else { Err(mixed()) }).collect::<Result<_, _>>()?,
            ),
            6 => Shape::Areas(
                parts.into_iter().map(|p| if let Shape::Area(a) = p { Ok(a) } else { Err(mixed()) }).collect::<Result<_, _>>()?,
            ),
            _ => Shape::Several(parts),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn c(lon: f64, lat: f64, altitude: Option<f64>) -> Coord {
        Coord { lon, lat, altitude, time: None }
    }

    #[test]
    fn every_kind_survives_its_bytes() {
        let ring = vec![c(0.0, 0.0, None), c(1.0, 0.0, None), c(1.0, 1.0, None), c(0.0, 0.0, None)];
        let high = vec![c(1.5, -2.0, Some(3.0)), c(2.0, 2.0, None)];
        let shapes = [
            Shape::Point(c(1.0, 2.0, None)),
            Shape::Line(high.clone()),
            Shape::Line(vec![high[0].with_time(Some(1.5e9)), high[1]]),
            Shape::Area(vec![ring.clone(), ring.clone()]),
            Shape::Points(high.clone()),
            Shape::Lines(vec![high.clone(), ring.clone()]),
            Shape::Areas(vec![vec![ring.clone()]]),
            Shape::Several(vec![Shape::Point(c(1.0, 2.0, None)), Shape::Several(vec![Shape::Line(ring)])]),
        ];
        for shape in shapes {
            assert_eq!(Shape::from_wkb(&shape.to_wkb()), Ok(shape));
        }
    }

    #[test]
    fn hostile_bytes_are_refused_in_little_memory() {
        let mut lying = vec![1, 2, 0, 0, 0];
        lying.extend(u32::MAX.to_le_bytes());
        assert_eq!(Shape::from_wkb(&lying), Err(ShapeError::Bytes("it ends too early")));
        let mut deep = Vec::new();
        for _ in 0..100_000 {
            deep.extend([1, 7, 0, 0, 0, 1, 0, 0, 0]);
        }
        assert!(matches!(Shape::from_wkb(&deep), Err(ShapeError::Bytes(_))));
        assert_eq!(Shape::from_wkb(&Shape::Line(Vec::new()).to_wkb()), Err(ShapeError::Empty));
        assert!(Shape::from_wkb(&Shape::Point(c(0.0, 91.0, None)).to_wkb()).is_err());
    }

    #[test]
    fn big_endian_and_measures_are_read() {
        let mut bytes = vec![0];
        bytes.extend(3001u32.to_be_bytes());
        for n in [1.0f64, 2.0, 3.0, 99.0] {
            bytes.extend(n.to_be_bytes());
        }
        assert_eq!(Shape::from_wkb(&bytes), Ok(Shape::Point(c(1.0, 2.0, Some(3.0)).with_time(Some(99.0)))));
    }
}
