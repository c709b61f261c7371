//! When a job is due.

use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use std::time::Duration;

/// Times at which something is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// So long after it began last.
    Every(Duration),
    /// At this time of each day.
    Daily(Time),
    /// On this day of each week.
    Weekly(Weekday, Time),
    /// On this day of each month; of a shorter one on its last.
    Monthly(i8, Time),
}

/// `90s`, `15m`, `2h`, `1d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no span of time: as 30s, 15m, 2h, 1d");
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let number: u64 = text[..split].parse().map_err(|_| wrong())?;
    let ms = match text[split..].trim() {
        "ms" => 1,
        "s" => 1000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(ms).map(Duration::from_millis).ok_or_else(wrong)
}

fn time(text: &str) -> Option<Time> {
    let (hour, minute) = text.split_once(':')?;
    Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()
}

fn weekday(text: &str) -> Option<Weekday> {
    Some(match text.get(..3)? {
        "mon" => Weekday::Monday,
        "tue" => Weekday::Tuesday,
        "wed" => Weekday::Wednesday,
        "thu" => Weekday::Thursday,
        "fri" => Weekday::Friday,
        "sat" => Weekday::Saturday,
        "sun" => Weekday::Sunday,
        _ => return None,
    })
}

impl Schedule {
    /// `hourly`, `every 15m`, `daily 02:30`, `weekly mon 02:30`, `monthly 1 02:30`.
    ///
    /// # Errors
    /// What it is not.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no schedule: hourly, every 15m, daily 02:30, weekly mon 02:30, monthly 1 02:30");
        let lower = text.to_lowercase();
        let words: Vec<&str> = lower.split_whitespace().collect();
        match words.as_slice() {
            ["hourly"] => Ok(Self::Every(Duration::from_secs(3600))),
            ["every", span] => {
                let span = duration(span)?;
                if span < Duration::from_secs(1) { Err(wrong()) } else { Ok(Self::Every(span)) }
            }
            ["daily", at] => time(at).map(Self::Daily).ok_or_else(wrong),
            ["weekly", day, at] => weekday(day).zip(time(at)).map(|(d, t)| Self::Weekly(d, t)).ok_or_else(wrong),
            ["monthly", day, at] => {
                let day = day.parse::<i8>().ok().filter(|d| (1..=31).contains(d));
                day.zip(time(at)).map(|(d, t)| Self::Monthly(d, t)).ok_or_else(wrong)
            }
            _ => Err(wrong()),
        }
    }

    /// The first time after `ms` (milliseconds since 1970), in a time zone.
    ///
    /// # Errors
    /// The zone is unknown, or the calendar ends.
    pub fn next_after(&self, ms: i64, zone: Option<&str>) -> Result<i64, String> {
        if let Self::Every(span) = self {
            return Ok(ms.saturating_add(span.as_millis() as i64));
        }
        let zone = zone.map_or(Ok(TimeZone::UTC), |z| cairn_formats::zone(z).map_err(|e| e.to_string()))?;
        let began = Timestamp::from_millisecond(ms).map_err(|e| e.to_string())?;
        let mut day = zone.to_datetime(began).date();
        // A month without that day, and a day on which clocks jump over that time, are passed by at most once each.
        for _ in 0..400 {
            if let Some(civil) = self.on(day) {
                let moment = zone.to_timestamp(civil).map_err(|e| e.to_string())?;
                if moment > began {
                    return Ok(moment.as_millisecond());
                }
            }
            day = day.checked_add(1.day()).map_err(|e| e.to_string())?;
        }
        Err("there is no such day".into())
    }

    fn on(&self, day: Date) -> Option<DateTime> {
        match self {
            Self::Every(_) => None,
            Self::Daily(at) => Some(day.to_datetime(*at)),
            Self::Weekly(weekday, at) => (day.weekday() == *weekday).then(|| day.to_datetime(*at)),
            Self::Monthly(wanted, at) => (day.day() == (*wanted).min(day.days_in_month())).then(|| day.to_datetime(*at)),
        }
    }

    /// The same for systemd's `OnCalendar`, or `None` for a span.
    pub fn on_calendar(&self) -> Option<String> {
        let at = |t: &Time| format!("{:02}:{:02}:00", t.hour(), t.minute());
        Some(match self {
            Self::Every(_) => return None,
            Self::Daily(t) => format!("*-*-* {}", at(t)),
            Self::Weekly(d, t) => format!("{} *-*-* {}", short(*d), at(t)),
            Self::Monthly(31, t) => format!("*-*~01 {}", at(t)),
            // That scheduler passes by months without such a day.
            Self::Monthly(d, _) if *d > 28 => return None,
            Self::Monthly(d, t) => format!("*-*-{d:02} {}", at(t)),
        })
    }

    /// The same for cron, as far as it can say it.
    pub fn cron(&self) -> Option<String> {
        Some(match self {
            Self::Every(span) => {
                let minutes = span.as_secs() / 60;
                match minutes {
                    0 => return None,
                    60 => "0 * * * *".into(),
                    m if m < 60 && 60 % m == 0 => format!("*/{m} * * * *"),
                    m if m % 60 == 0 && m / 60 < 24 && 24 % (m / 60) == 0 => format!("0 */{} * * *", m / 60),
                    _ => return None,
                }
            }
            Self::Daily(t) => format!("{} {} * * *", t.minute(), t.hour()),
            Self::Weekly(d, t) => format!("{} {} * * {}", t.minute(), t.hour(), d.to_sunday_zero_offset()),
            Self::Monthly(d, _) if *d > 28 => return None,
            Self::Monthly(d, t) => format!("{} {} {d} * *", t.minute(), t.hour()),
        })
    }
}

/// When something with a schedule is due next, milliseconds; in the past if it was missed. Begun at `began_ms` last, known since
/// `since_ms`.
///
/// # Errors
/// The schedule or the zone is not one.
pub(crate) fn due(text: &str, zone: Option<&str>, since_ms: i64, began_ms: Option<i64>, now_ms: i64) -> Result<i64, String> {
    let schedule = Schedule::parse(text)?;
    // What a clock that was ahead wrote down does not count: it must not stop it for good.
    let known = [began_ms, Some(since_ms)].into_iter().flatten().filter(|ms| *ms <= now_ms).max();
    match known {
        Some(last) => schedule.next_after(last, zone),
        None => Ok(now_ms),
    }
}

/// The number of a day in a time zone; days of UTC where the zone is unknown.
pub(crate) fn day_of(ms: i64, zone: Option<&str>) -> i64 {
    let day_ms = 86_400_000;
    let zone = zone.and_then(|z| cairn_formats::zone(z).ok()).unwrap_or(TimeZone::UTC);
    let offset = Timestamp::from_millisecond(ms).map_or(0, |at| i64::from(zone.to_offset(at).seconds()) * 1000);
    (ms + offset).div_euclid(day_ms)
}

fn short(day: Weekday) -> &'static str {
    match day {
        Weekday::Monday => "Mon",
        Weekday::Tuesday => "Tue",
        Weekday::Wednesday => "Wed",
        Weekday::Thursday => "Thu",
        Weekday::Friday => "Fri",
        Weekday::Saturday => "Sat",
        Weekday::Sunday => "Sun",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(schedule: &str, after: &str, zone: Option<&str>) -> String {
        let after = after.parse::<Timestamp>().unwrap().as_millisecond();
        let ms = Schedule::parse(schedule).unwrap().next_after(after, zone).unwrap();
        Timestamp::from_millisecond(ms).unwrap().to_string()
    }

    #[test]
    fn the_next_time_is_the_first_one_after() {
        assert_eq!(next("every 15m", "2026-11-27T10:00:00Z", None), "2026-11-27T10:15:00Z");
        assert_eq!(next("daily 02:30", "2026-11-27T02:30:00Z", None), "2026-11-28T02:30:00Z");
        assert_eq!(next("daily 02:30", "2026-11-27T02:29:59Z", None), "2026-11-27T02:30:00Z");
        assert_eq!(next("daily 02:30", "2026-11-27T02:30:00Z", Some("America/Lima")), "2026-11-27T07:30:00Z");
        assert_eq!(next("weekly mon 06:00", "2026-11-27T10:00:00Z", None), "2026-11-30T06:00:00Z");
        assert_eq!(next("monthly 31 06:00", "2026-11-27T10:00:00Z", None), "2026-11-30T06:00:00Z");
        // Clocks in Berlin jump from two to three: 02:30 is at half past three that day.
        assert_eq!(next("daily 02:30", "2026-03-28T12:00:00Z", Some("Europe/Berlin")), "2026-03-29T01:30:00Z");
    }

    #[test]
    fn a_clock_that_jumps_neither_stops_a_schedule_nor_makes_it_run_twice() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap().as_millisecond();
        let (since, morning) = (at("2026-03-01T00:00:00Z"), at("2026-03-05T07:00:00Z"));
        let due = |began: Option<&str>, now: &str| due("daily 07:00", None, since, began.map(at), at(now)).unwrap();
        assert_eq!(due(Some("2026-03-04T07:00:05Z"), "2026-03-05T06:00:00Z"), morning);
        assert!(due(Some("2026-03-02T07:00:05Z"), "2026-03-05T06:00:00Z") < at("2026-03-05T06:00:00Z"), "missed: due at once");
        assert_eq!(due(Some("2026-03-05T05:59:00Z"), "2026-03-05T06:00:00Z"), morning, "and once");
        // It ran while the clock was a year ahead, which was set right since.
        assert!(due(Some("2027-03-04T07:00:05Z"), "2026-03-05T06:00:00Z") <= morning);
        // The clock fell back to before the rule was made.
        assert_eq!(due(None, "2020-01-01T00:00:00Z"), at("2020-01-01T00:00:00Z"));
        assert_eq!(day_of(at("2026-03-05T03:00:00Z"), Some("America/Lima")) + 1, day_of(at("2026-03-05T06:00:00Z"), Some("America/Lima")));
    }

    #[test]
    fn what_is_no_schedule_is_told() {
        for text in ["", "yearly", "daily", "daily 25:00", "weekly foo 02:00", "every 0s", "monthly 32 02:00"] {
            assert!(Schedule::parse(text).is_err(), "{text}");
        }
        assert_eq!(Schedule::parse("weekly sun 02:30").unwrap().cron().as_deref(), Some("30 2 * * 0"));
        assert_eq!(Schedule::parse("daily 02:30").unwrap().on_calendar().as_deref(), Some("*-*-* 02:30:00"));
        assert_eq!(Schedule::parse("every 7m").unwrap().cron(), None);
    }
}
