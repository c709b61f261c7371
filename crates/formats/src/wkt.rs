//! Well-known text (OGC 06-103r4): the shapes that tables have in a column.

use cairn_model::{Coord, Shape};

/// Shapes in shapes.
const DEPTH: u8 = 8;

/// Reads one geometry; `SRID=4326;` before it is skipped, another one refused.
pub(crate) fn read(text: &str) -> Result<Shape, String> {
    let mut rest = text.trim();
    if let Some((srid, after)) = rest.split_once(';')
        && let Some(number) = srid.trim().to_uppercase().strip_prefix("SRID=")
    {
        if number != "4326" {
            return Err(format!("SRID {number}: only 4326 (degrees, WGS 84) is taken"));
        }
        rest = after;
    }
    let mut parser = Parser { rest };
    let shape = parser.shape(0)?;
    if !parser.rest.trim().is_empty() {
        return Err("text after the geometry".into());
    }
    shape.check().map_err(|e| e.to_string())?;
    Ok(shape)
}

/// Writes one geometry.
pub(crate) fn write(shape: &Shape) -> String {
    let coords = shape.coords();
    let high = !coords.is_empty() && coords.iter().all(|c| c.altitude.is_some());
    written(shape, high)
}

fn written(shape: &Shape, high: bool) -> String {
    let z = if high { " Z" } else { "" };
    let one = |c: &Coord| match (high, c.altitude) {
        (true, Some(a)) => format!("{} {} {a}", c.lon, c.lat),
        _ => format!("{} {}", c.lon, c.lat),
    };
    let line = |l: &Vec<Coord>| format!("({})", l.iter().map(one).collect::<Vec<_>>().join(", "));
    let rings = |r: &Vec<Vec<Coord>>| format!("({})", r.iter().map(line).collect::<Vec<_>>().join(", "));
    match shape {
        Shape::Point(c) => format!("POINT{z} ({})", one(c)),
        Shape::Line(l) => format!("LINESTRING{z} {}", line(l)),
        Shape::Points(l) => format!("MULTIPOINT{z} ({})", l.iter().map(|c| format!("({})", one(c))).collect::<Vec<_>>().join(", ")),
        Shape::Area(r) => format!("POLYGON{z} {}", rings(r)),
        Shape::Lines(r) => format!("MULTILINESTRING{z} {}", rings(r)),
        Shape::Areas(a) => format!("MULTIPOLYGON{z} ({})", a.iter().map(rings).collect::<Vec<_>>().join(", ")),
        Shape::Several(parts) => {
            format!("GEOMETRYCOLLECTION{z} ({})", parts.iter().map(|p| written(p, high)).collect::<Vec<_>>().join(", "))
        }
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn word(&mut self) -> String {
        let rest = self.rest.trim_start();
        let end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        self.rest = &rest[end..];
        rest[..end].to_uppercase()
    }

    fn eat(&mut self, c: char) -> bool {
        let rest = self.rest.trim_start();
        match rest.strip_prefix(c) {
            Some(after) => {
                self.rest = after;
                true
            }
            None => false,
        }
    }

    fn list<T>(&mut self, item: &mut dyn FnMut(&mut Self) -> Result<T, String>) -> Result<Vec<T>, String> {
        if !self.eat('(') {
            return Err("`(` was expected".into());
        }
        let mut out = Vec::new();
        loop {
            out.push(item(self)?);
            if self.eat(')') {
                return Ok(out);
            }
            if !self.eat(',') {
                return Err("`,` or `)` was expected".into());
            }
        }
    }

    fn coord(&mut self, measured: bool) -> Result<Coord, String> {
        let rest = self.rest.trim_start();
        let end = rest.find([',', ')', '(']).unwrap_or(rest.len());
        let numbers: Vec<&str> = rest[..end].split_whitespace().collect();
        self.rest = &rest[end..];
        let number = |t: &str| t.parse::<f64>().map_err(|_| format!("`{}` is not a number", crate::row::short(t)));
        match numbers.as_slice() {
            [lon, lat] => Coord::new(number(lon)?, number(lat)?, None),
            [lon, lat, _] if measured => Coord::new(number(lon)?, number(lat)?, None),
            [lon, lat, alt] | [lon, lat, alt, _] => Coord::new(number(lon)?, number(lat)?, Some(number(alt)?)),
            _ => return Err("a position needs two to four numbers".into()),
        }
        .map_err(|e| e.to_string())
    }

    fn shape(&mut self, depth: u8) -> Result<Shape, String> {
        if depth > DEPTH {
            return Err("geometries in geometries, too deep".into());
        }
        let kind = self.word();
        let before = self.rest;
        let measured = match self.word().as_str() {
            "M" => true,
            "Z" | "ZM" => false,
            "EMPTY" => return Err("an empty geometry".into()),
            _ => {
                self.rest = before;
                false
            }
        };
        let mut coord = |p: &mut Self| p.coord(measured);
        // A point of several stands in brackets of its own, or does not.
        let mut wrapped = |p: &mut Self| {
            let wrapped = p.eat('(');
            let c = p.coord(measured)?;
            if wrapped && !p.eat(')') { Err("`)` was expected".to_owned()) } else { Ok(c) }
        };
        Ok(match kind.as_str() {
            "POINT" | "POINTZ" => {
                let found = self.list(&mut coord)?;
                Shape::Point(*found.first().ok_or("a point without numbers")?)
            }
            "LINESTRING" | "LINESTRINGZ" => Shape::Line(self.list(&mut coord)?),
            "MULTIPOINT" | "MULTIPOINTZ" => Shape::Points(self.list(&mut wrapped)?),
            "POLYGON" | "POLYGONZ" => Shape::Area(self.list(&mut |p| p.list(&mut |p| p.coord(measured)))?),
            "MULTILINESTRING" | "MULTILINESTRINGZ" => Shape::Lines(self.list(&mut |p| p.list(&mut |p| p.coord(measured)))?),
            "MULTIPOLYGON" | "MULTIPOLYGONZ" => Shape::Areas(self.list(&mut |p| p.list(&mut |p| p.list(&mut |p| p.coord(measured))))?),
            "GEOMETRYCOLLECTION" => Shape::Several(self.list(&mut |p| p.shape(depth + 1))?),
            other => return Err(format!("`{}` is no geometry that is known", crate::row::short(other))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_survive() {
        for text in [
            "POINT (-73.9562 40.794)",
            "POINT Z (1 2 3)",
            "LINESTRING (1 2, 3 4)",
            "POLYGON ((0 0, 1 0, 1 1, 0 0), (0.1 0.1, 0.2 0.1, 0.2 0.2, 0.1 0.1))",
            "MULTIPOINT ((1 2), (3 4))",
            "MULTILINESTRING ((1 2, 3 4), (5 6, 7 8))",
            "MULTIPOLYGON (((0 0, 1 0, 1 1, 0 0)))",
            "GEOMETRYCOLLECTION (POINT (1 2), LINESTRING (1 2, 3 4))",
        ] {
            assert_eq!(read(text).map(|s| write(&s)), Ok(text.to_owned()), "{text}");
        }
        assert_eq!(read("srid=4326; multipoint(1 2,3 4)").map(|s| write(&s)), Ok("MULTIPOINT ((1 2), (3 4))".into()));
    }

    #[test]
    fn what_is_no_geometry_is_told() {
        for text in
            ["POINT (1)", "POINT EMPTY", "CIRCLE (1 2)", "POINT (1 2) x", "LINESTRING (1 2", "SRID=31370;POINT (1 2)", "POINT (1 91)"]
        {
            assert!(read(text).is_err(), "{text}");
        }
        let deep = "GEOMETRYCOLLECTION (".repeat(10_000);
        assert!(read(&deep).is_err());
    }
}
