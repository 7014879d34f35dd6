//! Moments and lengths of time as people type them.

use std::str::FromStr;

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp, Zoned};
use serde_json::{Value, json};

/// A moment of the log: right after a record, or at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsOf {
    /// Right after the record with this number.
    Record(u64),
    /// At this time.
    Time(Timestamp),
}

impl FromStr for AsOf {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return text
                .parse()
                .map(Self::Record)
                .map_err(|_| format!("`{text}` is too large for a record number"));
        }
        time(text).map(Self::Time)
    }
}

/// Reads a time: RFC 3339, a local date or date and time, or a time ago.
pub fn time(text: &str) -> Result<Timestamp, String> {
    time_at(text, &Zoned::now())
}

fn time_at(text: &str, now: &Zoned) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let in_zone = |civil: DateTime| civil.to_zoned(zone(now)).ok().map(|zoned| zoned.timestamp());
    let date = || text.parse::<Date>().ok().filter(|_| text.len() == 10).map(|date| date.at(0, 0, 0, 0));
    let found = match text.parse::<Span>() {
        _ if text == "now" => Some(now.timestamp()),
        Ok(span) if text.ends_with("ago") => now.checked_add(span).ok().map(|then| then.timestamp()),
        _ => date().or_else(|| text.parse::<DateTime>().ok()).and_then(in_zone),
    };
    found.ok_or_else(|| {
        format!(
            "`{text}` is not a time: expected 2026-03-14, \"2026-03-14 10:02\" (your time zone), \
             2026-03-14T10:02:00Z, \"10 minutes ago\" or now"
        )
    })
}

fn zone(now: &Zoned) -> TimeZone {
    now.time_zone().clone()
}

/// Reads a positive length of time such as `90s`, `1h` or `2 days`.
pub fn length(text: &str) -> Result<SignedDuration, String> {
    let day_has_24_hours = |span: Span| span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).ok();
    let length = text.parse::<Span>().ok().and_then(day_has_24_hours);
    length
        .filter(SignedDuration::is_positive)
        .ok_or_else(|| format!("`{text}` is not a length of time such as 90s, 15m, 1h or 7d"))
}

/// An argument of the API that names a moment, `null` for now.
pub fn argument(as_of: Option<AsOf>) -> Value {
    match as_of {
        None => Value::Null,
        Some(AsOf::Record(seq)) => json!({ "record": seq }),
        Some(AsOf::Time(time)) => json!({ "time": time }),
    }
}

/// A document without its moment where the present is meant: to name one is to read history, which is recorded.
pub fn document(document: &str, as_of: Option<AsOf>) -> String {
    match as_of {
        Some(_) => document.to_owned(),
        None => document.replace(", $asOf: AsOfInput", "").replace(", asOf: $asOf", ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Zoned {
        "2026-03-14T12:00:00+01:00[Europe/Berlin]".parse().unwrap()
    }

    #[test]
    fn times_are_read_in_the_zone_of_the_reader() {
        for (text, utc) in [
            ("2026-03-14T10:02:00Z", "2026-03-14T10:02:00Z"),
            ("2026-03-14", "2026-03-13T23:00:00Z"),
            ("2026-03-14 10:02", "2026-03-14T09:02:00Z"),
            ("2026-07-14T10:02:03", "2026-07-14T08:02:03Z"),
            ("10 minutes ago", "2026-03-14T10:50:00Z"),
            ("1d ago", "2026-03-13T11:00:00Z"),
            ("now", "2026-03-14T11:00:00Z"),
        ] {
            assert_eq!(time_at(text, &now()).map(|t| t.to_string()), Ok(utc.to_owned()), "{text}");
        }
        for bad in ["", "yesterday", "10 minutes", "2026-02-30", "14.3.2026"] {
            assert!(time_at(bad, &now()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_bare_number_is_a_record() {
        assert_eq!("42".parse(), Ok(AsOf::Record(42)));
        assert!("99999999999999999999".parse::<AsOf>().is_err());
    }

    #[test]
    fn lengths_are_positive() {
        assert_eq!(length("1h"), Ok(SignedDuration::from_hours(1)));
        assert_eq!(length("7d"), Ok(SignedDuration::from_hours(168)));
        for bad in ["0s", "1h ago", "", "soon", "5"] {
            assert!(length(bad).is_err(), "{bad}");
        }
    }
}
