//! A position as one RFC 5870 `geo:` text, so that latitude from one device and longitude from another is impossible.

/// Degrees (WGS 84), metres.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    /// -90 to 90
    pub lat: f64,
    /// -180 to 180
    pub lon: f64,
    /// Metres above the ellipsoid.
    pub altitude: Option<f64>,
    /// Radius in metres.
    pub uncertainty: Option<f64>,
}

/// Why a position was refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PlaceError {
    /// Not a number, or not the form `LAT,LON`.
    #[error("`{0}` is not a position: write LAT,LON in degrees, such as -3.4653,-62.2159")]
    Syntax(String),
    /// Latitude beyond the poles.
    #[error("latitude {0} is outside -90 to 90")]
    Latitude(f64),
    /// Longitude beyond the date line.
    #[error("longitude {0} is outside -180 to 180")]
    Longitude(f64),
    /// Negative or infinite.
    #[error("uncertainty {0} is not a distance in metres")]
    Uncertainty(f64),
}

impl Place {
    /// Metres to another position on a sphere of the earth's mean radius (haversine).
    pub fn metres_to(&self, other: &Place) -> f64 {
        const RADIUS: f64 = 6_371_008.8;
        let (lat, lon) = ((other.lat - self.lat).to_radians(), (other.lon - self.lon).to_radians());
        let cos = self.lat.to_radians().cos() * other.lat.to_radians().cos();
        let half = (lat / 2.0).sin().powi(2) + cos * (lon / 2.0).sin().powi(2);
        2.0 * RADIUS * half.sqrt().min(1.0).asin()
    }

    /// Checks the ranges; `NaN` is refused.
    pub fn new(lat: f64, lon: f64) -> Result<Self, PlaceError> {
        if !(-90.0..=90.0).contains(&lat) {
            return Err(PlaceError::Latitude(lat));
        }
        if !(-180.0..=180.0).contains(&lon) {
            return Err(PlaceError::Longitude(lon));
        }
        // -0 and 0 are the same place and must be the same text.
        Ok(Self { lat: lat + 0.0, lon: lon + 0.0, altitude: None, uncertainty: None })
    }

    /// Adds a height in metres; infinite ones are refused.
    pub fn with_altitude(mut self, metres: f64) -> Result<Self, PlaceError> {
        if !metres.is_finite() {
            return Err(PlaceError::Syntax(metres.to_string()));
        }
        self.altitude = Some(metres + 0.0);
        Ok(self)
    }

    /// Adds a radius in metres.
    pub fn with_uncertainty(mut self, metres: f64) -> Result<Self, PlaceError> {
        if !metres.is_finite() || metres < 0.0 {
            return Err(PlaceError::Uncertainty(metres));
        }
        self.uncertainty = Some(metres + 0.0);
        Ok(self)
    }

    /// `LAT,LON` as people type it, with an optional third number (altitude).
    pub fn parse_typed(text: &str) -> Result<Self, PlaceError> {
        let syntax = || PlaceError::Syntax(text.to_owned());
        let parts: Vec<&str> = text.split(',').map(str::trim).collect();
        let number = |s: &str| s.parse::<f64>().map_err(|_| syntax());
        match parts.as_slice() {
            [lat, lon] => Place::new(number(lat)?, number(lon)?),
            [lat, lon, alt] => Place::new(number(lat)?, number(lon)?)?.with_altitude(number(alt)?),
            _ => Err(syntax()),
        }
    }

    /// `geo:LAT,LON[,ALT][;u=M]` with the shortest decimals that read back equal.
    pub fn to_geo(&self) -> String {
        let mut text = format!("geo:{},{}", self.lat, self.lon);
        if let Some(alt) = self.altitude {
            text.push_str(&format!(",{alt}"));
        }
        if let Some(u) = self.uncertainty {
            text.push_str(&format!(";u={u}"));
        }
        text
    }

    /// Reads a `geo:` text; parameters it does not know are skipped, as the RFC asks.
    pub fn from_geo(text: &str) -> Result<Self, PlaceError> {
        let syntax = || PlaceError::Syntax(text.to_owned());
        let body = text.strip_prefix("geo:").ok_or_else(syntax)?;
        let mut parts = body.split(';');
        let mut place = Self::parse_typed(parts.next().unwrap_or_default())?;
        for parameter in parts {
            if let Some(u) = parameter.strip_prefix("u=") {
                place = place.with_uncertainty(u.parse().map_err(|_| syntax())?)?;
            }
        }
        Ok(place)
    }

    /// 64-bit Morton number (32 bits a side), for the place index: near places mostly have near numbers.
    pub fn morton(&self) -> u64 {
        let (x, y) = self.cell();
        interleave(x) | (interleave(y) << 1)
    }

    /// Column and row on a 2^32 grid, west to east and south to north.
    pub fn cell(&self) -> (u32, u32) {
        let scale = |v: f64, span: f64| ((v / span + 0.5) * 4_294_967_295.0) as u32;
        (scale(self.lon, 360.0), scale(self.lat, 180.0))
    }
}

fn interleave(v: u32) -> u64 {
    let mut x = u64::from(v);
    x = (x | (x << 16)) & 0x0000_FFFF_0000_FFFF;
    x = (x | (x << 8)) & 0x00FF_00FF_00FF_00FF;
    x = (x | (x << 4)) & 0x0F0F_0F0F_0F0F_0F0F;
    x = (x | (x << 2)) & 0x3333_3333_3333_3333;
    (x | (x << 1)) & 0x5555_5555_5555_5555
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn geo_text_reads_back() {
        let p = Place::new(-3.4653, 120.0).unwrap().with_altitude(-12.5).unwrap().with_uncertainty(8.0).unwrap();
        assert_eq!(p.to_geo(), "geo:-3.4653,120,-12.5;u=8");
        assert_eq!(Place::from_geo(&p.to_geo()), Ok(p));
        assert_eq!(Place::from_geo("geo:1,2;crs=wgs84;u=3").unwrap().uncertainty, Some(3.0));
    }

    #[test]
    fn impossible_places_are_refused() {
        assert_eq!(Place::new(91.0, 0.0), Err(PlaceError::Latitude(91.0)));
        assert!(Place::new(f64::NAN, 0.0).is_err());
        assert!(Place::parse_typed("1;2").is_err());
        assert!(Place::parse_typed("1").is_err());
    }

    #[test]
    fn minus_zero_is_zero() {
        assert_eq!(Place::new(-0.0, -0.0).unwrap().to_geo(), "geo:0,0");
    }

    #[test]
    fn morton_keeps_corners_apart() {
        let sw = Place::new(-90.0, -180.0).unwrap().morton();
        let ne = Place::new(90.0, 180.0).unwrap().morton();
        assert_eq!((sw, ne), (0, u64::MAX));
    }
}
