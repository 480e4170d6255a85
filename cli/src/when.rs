//! Instants and spans as people write and read them.

use clap::Args;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use vedette_proto::v1::TimeRange;

use crate::exit::Stop;

/// An instant as somebody wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// A fixed instant.
    At(Timestamp),
    /// So long before now.
    Ago(SignedDuration),
}

impl When {
    /// Reads RFC 3339, `2026-11-22 10:00` in local time, `now`, or a span before now like `30m`, `2h`, `3d`.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::parse_in(text, &local_zone())
    }

    fn parse_in(text: &str, zone: &TimeZone) -> Result<Self, String> {
        let text = text.trim();
        if text == "now" {
            return Ok(Self::Ago(SignedDuration::ZERO));
        }
        if let Some(span) = parse_span(text) {
            return Ok(Self::Ago(span));
        }
        if let Ok(instant) = text.parse::<Timestamp>() {
            return Ok(Self::At(instant));
        }
        let civil = text.parse::<DateTime>().or_else(|_| text.parse::<Date>().map(DateTime::from));
        let zoned = civil.and_then(|civil| zone.to_zoned(civil));
        zoned
            .map(|zoned| Self::At(zoned.timestamp()))
            .map_err(|_| "not a time; write 30m, 2h, 3d (ago), now, \"2026-11-22 10:00\" (local) or 2026-11-22T10:00:00Z".to_owned())
    }

    /// The instant, Unix milliseconds.
    pub fn unix_ms(self, now: Timestamp) -> i64 {
        match self {
            Self::At(instant) => instant.as_millisecond(),
            Self::Ago(span) => now.as_millisecond().saturating_sub(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)),
        }
    }
}

/// Reads a span from now on: `30m`, `2h`, `1d`.
pub fn parse_ahead(text: &str) -> Result<SignedDuration, String> {
    parse_span(text.trim()).filter(|span| !span.is_zero()).ok_or_else(|| "not a span; write 30m, 2h, 1d".to_owned())
}

/// `1h30m`, `3d`: whole numbers with units, the largest unit first or not.
fn parse_span(text: &str) -> Option<SignedDuration> {
    let mut seconds: i64 = 0;
    let mut digits = String::new();
    for c in text.chars() {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        let unit = match c {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            // A day here is 24 hours, whatever the clocks did.
            'd' => 86_400,
            'w' => 7 * 86_400,
            _ => return None,
        };
        seconds = seconds.checked_add(digits.parse::<i64>().ok()?.checked_mul(unit)?)?;
        digits.clear();
    }
    // A century is more than any history holds, and keeps arithmetic far from the ends of time.
    (!text.is_empty() && digits.is_empty() && seconds <= 100 * 366 * 86_400).then(|| SignedDuration::from_secs(seconds))
}

/// Flags that say from when to when.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "When")]
pub struct RangeArgs {
    /// From then on: 30m, 2h, 3d (ago), "2026-11-22 10:00" (local) or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = When::parse)]
    pub since: Option<When>,
    /// Until then, not including it
    #[arg(long, value_name = "TIME", value_parser = When::parse)]
    pub until: Option<When>,
}

impl RangeArgs {
    /// The range, or `None` where neither end was given.
    pub fn range(&self, now: Timestamp) -> Result<Option<TimeRange>, Stop> {
        if self.since.is_none() && self.until.is_none() {
            return Ok(None);
        }
        let end = |when: Option<When>| when.map_or(0, |when| when.unix_ms(now));
        let (start_unix_ms, end_unix_ms) = (end(self.since), end(self.until));
        if self.since.is_some() && self.until.is_some() && start_unix_ms >= end_unix_ms {
            return Err(Stop::usage("--since must be before --until"));
        }
        Ok(Some(TimeRange { start_unix_ms, end_unix_ms }))
    }
}

/// The zone of this machine, or what `TZ` says; UTC where neither is known.
pub fn local_zone() -> TimeZone {
    TimeZone::try_system().unwrap_or(TimeZone::UTC)
}

/// `2026-11-22 10:00:05 CET`.
pub fn local(unix_ms: i64, zone: &TimeZone) -> String {
    print(unix_ms, zone, "%Y-%m-%d %H:%M:%S %Z")
}

/// `10:00:05`, for a line whose day and zone are said nearby.
pub fn clock(unix_ms: i64, zone: &TimeZone) -> String {
    print(unix_ms, zone, "%H:%M:%S")
}

fn print(unix_ms: i64, zone: &TimeZone, format: &str) -> String {
    match Timestamp::from_millisecond(unix_ms) {
        Ok(instant) => instant.to_zoned(zone.clone()).strftime(format).to_string(),
        Err(_) => format!("{unix_ms} ms"),
    }
}

/// RFC 3339 in UTC with milliseconds: `2026-11-22T09:00:05.000Z`.
pub fn utc(unix_ms: i64) -> String {
    match Timestamp::from_millisecond(unix_ms) {
        Ok(instant) => format!("{instant:.3}"),
        Err(_) => format!("{unix_ms} ms"),
    }
}

/// `4 s`, `12 min 30 s`, `3 h 5 min`, `2 d 4 h`.
pub fn span(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    let two = |large: i64, large_unit: &str, small: i64, small_unit: &str| match small {
        0 => format!("{large} {large_unit}"),
        small => format!("{large} {large_unit} {small} {small_unit}"),
    };
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => two(seconds / 60, "min", seconds % 60, "s"),
        3_600..86_400 => two(seconds / 3_600, "h", seconds % 3_600 / 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> i64 {
        let berlin = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        When::parse_in(text, &berlin).unwrap().unix_ms(now)
    }

    fn at(rfc3339: &str) -> i64 {
        rfc3339.parse::<Timestamp>().unwrap().as_millisecond()
    }

    #[test]
    fn rfc_3339_is_read_with_its_offset() {
        assert_eq!(ms("2026-11-22T10:00:00Z"), at("2026-11-22T10:00:00Z"));
        assert_eq!(ms("2026-11-22T10:00:00.250+02:00"), at("2026-11-22T08:00:00.250Z"));
    }

    #[test]
    fn a_time_without_a_zone_is_local() {
        assert_eq!(ms("2026-11-22 10:00"), at("2026-11-22T09:00:00Z"));
        assert_eq!(ms("2026-07-22 10:00:30"), at("2026-07-22T08:00:30Z"));
        assert_eq!(ms("2026-11-22"), at("2026-11-21T23:00:00Z"));
    }

    #[test]
    fn a_span_counts_back_from_now() {
        assert_eq!(ms("30m"), at("2026-11-22T11:30:00Z"));
        assert_eq!(ms("1h30m"), at("2026-11-22T10:30:00Z"));
        assert_eq!(ms("3d"), at("2026-11-19T12:00:00Z"));
        assert_eq!(ms("now"), at("2026-11-22T12:00:00Z"));
    }

    #[test]
    fn a_span_ahead_is_more_than_nothing() {
        assert_eq!(parse_ahead("1h30m"), Ok(SignedDuration::from_mins(90)));
        assert!(["", "0s", "now", "-2h", "2026-11-22"].into_iter().all(|text| parse_ahead(text).is_err()));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "30", "m", "-5m", "10:00", "2026-13-01 10:00", "99999999999999999999d", "5y", "yesterday", "1h 30m"] {
            assert!(When::parse_in(text, &TimeZone::UTC).is_err(), "{text}");
        }
    }

    #[test]
    fn a_range_must_run_forward() {
        let now = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24);
        let range = |since: &str, until: &str| {
            let when = |text: &str| When::parse_in(text, &TimeZone::UTC).ok();
            RangeArgs { since: when(since), until: when(until) }.range(now)
        };

        assert_eq!(range("2h", "1h").unwrap(), Some(TimeRange { start_unix_ms: 22 * 3_600_000, end_unix_ms: 23 * 3_600_000 }));
        assert_eq!(range("2h", "").unwrap(), Some(TimeRange { start_unix_ms: 22 * 3_600_000, end_unix_ms: 0 }));
        assert_eq!(range("", "").unwrap(), None);
        assert!(range("1h", "2h").is_err());
        assert!(range("1h", "1h").is_err());
    }

    #[test]
    fn spans_have_two_units_at_most() {
        assert_eq!(
            [span(4_000), span(750_000), span(11_100_000), span(187_200_000), span(3_600_000)],
            ["4 s", "12 min 30 s", "3 h 5 min", "2 d 4 h", "1 h"]
        );
    }

    #[test]
    fn local_time_names_its_zone() {
        let berlin = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();

        assert_eq!(local(at("2026-11-22T09:00:05Z"), &berlin), "2026-11-22 10:00:05 CET");
        assert_eq!(utc(at("2026-11-22T09:00:05Z")), "2026-11-22T09:00:05.000Z");
        assert_eq!(local(i64::MAX, &berlin), "9223372036854775807 ms");
    }
}
