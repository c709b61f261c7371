//! Dates and times in the forms that sheets have.

use crate::FormatError;
use crate::row::Cell;
use cairn_model::Instant;
use jiff::civil::DateTime;
use jiff::fmt::strtime;
use jiff::tz::TimeZone;

/// Reads times by the forms it was told.
pub(crate) struct TimeReader {
    forms: Vec<Form>,
    zone: Option<TimeZone>,
}

enum Form {
    Iso,
    Unix,
    UnixMs,
    Pattern(String),
}

impl TimeReader {
    pub fn new(forms: &[String], tz: Option<&str>) -> Result<Self, FormatError> {
        let zone = tz.filter(|t| !t.eq_ignore_ascii_case("utc")).map(zone).transpose()?;
        let mut out: Vec<Form> = forms.iter().map(|f| form(f)).collect();
        if out.is_empty() {
            out.push(Form::Iso);
        }
        Ok(Self { forms: out, zone })
    }

    /// Text by the forms; a number is milliseconds since 1970 unless the forms say that it is seconds.
    pub fn read(&self, cell: &Cell) -> Option<Instant> {
        match cell {
            Cell::Integer(n) => self.number(*n as f64, &n.to_string()),
            Cell::Number(n) => self.number(*n, &n.to_string()),
            Cell::Text(text) => self.forms.iter().find_map(|f| self.by_form(f, text.trim())),
            Cell::Bool(_) | Cell::Empty => None,
        }
    }

    /// A bare number is a moment only where it is one of milliseconds that anybody alive saw, or where that was told.
    fn number(&self, n: f64, text: &str) -> Option<Instant> {
        if !n.is_finite() {
            return None;
        }
        let patterns = self.forms.iter().filter(|f| matches!(f, Form::Pattern(_)));
        if let Some(moment) = patterns.into_iter().find_map(|f| self.by_form(f, text)) {
            return Some(moment);
        }
        let told = |wanted: fn(&Form) -> bool| self.forms.iter().any(wanted);
        if told(|f| matches!(f, Form::Unix)) {
            return Instant::from_unix_ms((n * 1000.0) as i64);
        }
        let ms = told(|f| matches!(f, Form::UnixMs)) || (told(|f| matches!(f, Form::Iso)) && n.abs() >= 1e11);
        if ms { Instant::from_unix_ms(n as i64) } else { None }
    }

    fn by_form(&self, form: &Form, text: &str) -> Option<Instant> {
        match form {
            Form::Iso => self.iso(text),
            Form::Unix => Instant::from_unix_ms((text.parse::<f64>().ok().filter(|n| n.is_finite())? * 1000.0) as i64),
            Form::UnixMs => Instant::from_unix_ms(text.parse().ok()?),
            Form::Pattern(pattern) => {
                let parsed = strtime::parse(pattern, text).ok()?;
                if let Ok(moment) = parsed.to_timestamp() {
                    return Instant::from_unix_ms(moment.as_millisecond());
                }
                let day = parsed.to_date().ok()?;
                self.placed(day.to_datetime(parsed.to_time().unwrap_or_default()))
            }
        }
    }

    fn iso(&self, text: &str) -> Option<Instant> {
        if self.zone.is_none() {
            return Instant::parse(text).ok();
        }
        // With an offset of its own it needs no zone.
        if text.parse::<jiff::Timestamp>().is_ok() {
            return Instant::parse(text).ok();
        }
        self.placed(text.parse::<DateTime>().ok()?)
    }

    fn placed(&self, civil: DateTime) -> Option<Instant> {
        let Some(zone) = &self.zone else { return Instant::parse(&civil.to_string()).ok() };
        let zoned = zone.to_zoned_datetime(civil).ok()?;
        Instant::parse(&zoned.strftime("%Y-%m-%dT%H:%M:%S%.f%:z").to_string()).ok()
    }
}

/// A time zone by its IANA name, or an offset as `-05:00`.
pub fn zone(name: &str) -> Result<TimeZone, FormatError> {
    TimeZone::get(name)
        .or_else(|_| TimeZone::posix(name))
        .or_else(|_| offset(name))
        .map_err(|_| FormatError::Options(format!("`{name}` is no time zone: as America/Lima, Europe/Berlin, UTC or -05:00")))
}

fn offset(name: &str) -> Result<TimeZone, jiff::Error> {
    let parsed = strtime::parse("%:z", name).or_else(|_| strtime::parse("%z", name))?;
    parsed.offset().map(TimeZone::fixed).ok_or_else(|| jiff::Error::from_args(format_args!("no offset")))
}

fn form(text: &str) -> Form {
    match text.to_lowercase().as_str() {
        "iso" | "iso8601" => Form::Iso,
        "unix" => Form::Unix,
        "unix-ms" => Form::UnixMs,
        _ if text.contains('%') => Form::Pattern(text.to_owned()),
        _ => Form::Pattern(by_letters(text)),
    }
}

/// `dd.MM.yyyy HH:mm:ss`, as spreadsheets and Java write patterns, as `strptime` does.
fn by_letters(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    const WORDS: [(&str, &str); 16] = [
        ("yyyy", "%Y"),
        ("yy", "%y"),
        ("MMMM", "%B"),
        ("MMM", "%b"),
        ("MM", "%m"),
        ("M", "%m"),
        ("dd", "%d"),
        ("d", "%d"),
        ("HH", "%H"),
        ("H", "%H"),
        ("hh", "%I"),
        ("mm", "%M"),
        ("ss", "%S"),
        ("SSS", "%f"),
        ("a", "%p"),
        ("XXX", "%:z"),
    ];
    while let Some(c) = rest.chars().next() {
        if let Some(quoted) = rest.strip_prefix('\'') {
            let (literal, after) = quoted.split_once('\'').unwrap_or((quoted, ""));
            out.push_str(literal);
            rest = after;
            continue;
        }
        let word = WORDS.iter().find(|(w, _)| rest.starts_with(w));
        let (len, written) = word.map_or((c.len_utf8(), None), |(w, p)| (w.len(), Some(*p)));
        match written {
            Some(pattern) => out.push_str(pattern),
            None => out.push(c),
        }
        rest = &rest[len..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(forms: &[&str], tz: Option<&str>, text: &str) -> Option<String> {
        let forms: Vec<String> = forms.iter().map(|f| (*f).to_owned()).collect();
        TimeReader::new(&forms, tz).unwrap().read(&Cell::Text(text.into())).map(|i| i.to_rfc3339())
    }

    #[test]
    fn forms_and_zones() {
        assert_eq!(read(&[], None, "2018-10-06").as_deref(), Some("2018-10-06T00:00:00Z"));
        assert_eq!(read(&["dd.MM.yyyy HH:mm"], None, "06.10.2018 14:05").as_deref(), Some("2018-10-06T14:05:00Z"));
        assert_eq!(read(&["MM/dd/yyyy"], None, "04/30/2011").as_deref(), Some("2011-04-30T00:00:00Z"));
        assert_eq!(read(&["%d %b %Y"], None, "3 Feb 2020").as_deref(), Some("2020-02-03T00:00:00Z"));
        assert_eq!(read(&[], Some("America/Lima"), "2018-10-06 14:05").as_deref(), Some("2018-10-06T14:05:00-05:00"));
        assert_eq!(read(&[], Some("America/Lima"), "2018-10-06T14:05:00Z").as_deref(), Some("2018-10-06T14:05:00Z"));
        assert_eq!(read(&[], Some("Europe/Berlin"), "2018-07-01").as_deref(), Some("2018-07-01T00:00:00+02:00"));
        assert_eq!(read(&[], Some("+03:00"), "2018-07-01").as_deref(), Some("2018-07-01T00:00:00+03:00"));
        assert_eq!(read(&["MM/dd/yyyy"], None, "30/04/2011"), None);
        assert_eq!(read(&["unix"], None, "1551000123.5").as_deref(), Some("2019-02-24T09:22:03.5Z"));
        assert_eq!(read(&[], None, "04/30/2011"), None);
        let number = |forms: &[&str], n: i64| {
            let forms: Vec<String> = forms.iter().map(|f| (*f).to_owned()).collect();
            TimeReader::new(&forms, None).unwrap().read(&Cell::Integer(n)).map(|i| i.to_rfc3339())
        };
        assert_eq!(number(&["yyyyMMdd"], 20_180_630).as_deref(), Some("2018-06-30T00:00:00Z"));
        assert_eq!(number(&[], 2018), None, "a year is no millisecond");
        assert_eq!(number(&[], 1_551_000_123_500).as_deref(), Some("2019-02-24T09:22:03.5Z"));
    }

    #[test]
    fn an_unknown_zone_is_told() {
        assert!(matches!(TimeReader::new(&[], Some("Mars/Base")), Err(FormatError::Options(_))));
    }
}
