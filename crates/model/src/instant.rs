//! Times as people give them: shown, never trusted, and no rule reads them.

use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, OffsetDateTime, PrimitiveDateTime, UtcOffset};

/// A moment with the offset it was written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instant(OffsetDateTime);

/// A text that is no time, or an impossible one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a time: write 2025-06-30T14:05:00Z, 2025-06-30T14:05:00-05:00 or 2025-06-30")]
pub struct TimeError(pub String);

impl Instant {
    /// RFC 3339, the same without offset (taken as UTC), with a blank for the `T`, without seconds, or a date alone; of the years 0 to
    /// 9999, which are those that can be printed.
    pub fn parse(text: &str) -> Result<Self, TimeError> {
        let parsed = Self::parse_any(text)?;
        (0..=9999).contains(&parsed.0.year()).then_some(parsed).ok_or_else(|| TimeError(text.trim().to_owned()))
    }

    fn parse_any(text: &str) -> Result<Self, TimeError> {
        let text = text.trim();
        let refused = || TimeError(text.to_owned());
        if let Ok(t) = OffsetDateTime::parse(&text.replacen(' ', "T", 1), &Rfc3339) {
            return Ok(Self(t));
        }
        let naive = text.replacen('T', " ", 1);
        let forms: [&[_]; 3] = [
            format_description!("[year]-[month]-[day] [hour]:[minute]:[second].[subsecond]"),
            format_description!("[year]-[month]-[day] [hour]:[minute]:[second]"),
            format_description!("[year]-[month]-[day] [hour]:[minute]"),
        ];
        for form in forms {
            if let Ok(t) = PrimitiveDateTime::parse(&naive, form) {
                return Ok(Self(t.assume_utc()));
            }
        }
        let day = Date::parse(text, format_description!("[year]-[month]-[day]")).map_err(|_| refused())?;
        Ok(Self(day.midnight().assume_utc()))
    }

    /// Milliseconds since 1970 in UTC; `None` outside the years this calendar prints.
    pub fn from_unix_ms(ms: i64) -> Option<Self> {
        let t = OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000).ok()?;
        (0..=9999).contains(&t.year()).then_some(Self(t.to_offset(UtcOffset::UTC)))
    }

    /// Milliseconds since 1970.
    pub fn unix_ms(&self) -> i64 {
        (self.0.unix_timestamp_nanos() / 1_000_000) as i64
    }

    /// RFC 3339 with the offset as written.
    pub fn to_rfc3339(&self) -> String {
        self.0.format(&Rfc3339).unwrap_or_else(|_| self.0.unix_timestamp().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_people_write() {
        let show = |t: &str| Instant::parse(t).map(|i| i.to_rfc3339());
        assert_eq!(show("2025-06-30").unwrap(), "2025-06-30T00:00:00Z");
        assert_eq!(show("2025-06-30 14:05").unwrap(), "2025-06-30T14:05:00Z");
        assert_eq!(show("2025-06-30T14:05:00-05:00").unwrap(), "2025-06-30T14:05:00-05:00");
        assert_eq!(show("2025-06-30 14:05:01.5").unwrap(), "2025-06-30T14:05:01.5Z");
        assert_eq!(show("2025-02-30"), Err(TimeError("2025-02-30".into())));
        assert!(show("yesterday").is_err());
        assert!(show("-0500-01-01").is_err(), "such a year could not be printed again");
    }

    #[test]
    fn milliseconds_round_trip() {
        let i = Instant::from_unix_ms(1_551_000_123_456).unwrap();
        assert_eq!(Instant::parse(&i.to_rfc3339()).unwrap().unix_ms(), 1_551_000_123_456);
        assert_eq!(Instant::from_unix_ms(i64::MAX), None);
    }
}
