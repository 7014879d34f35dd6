//! Durations as Go writes them, such as `1h30m`.

use std::time::Duration;

/// Reads a duration: numbers with units, one after the other.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let refuse = || format!("time: invalid duration {text:?}");
    let mut rest = text;
    let mut total = Duration::ZERO;
    if rest == "0" {
        return Ok(total);
    }
    if rest.is_empty() {
        return Err(refuse());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| !c.is_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let nanos: u64 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err(refuse()),
        };
        let part = nanoseconds(number, nanos).ok_or_else(refuse)?;
        total = total.checked_add(part).ok_or_else(refuse)?;
        rest = tail;
    }
    Ok(total)
}

/// So many of a unit, such as `1.5` hours; what is finer than a nanosecond is cut off.
fn nanoseconds(number: &str, unit: u64) -> Option<Duration> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // Twelve digits are finer than a nanosecond of an hour.
    let fraction = fraction.get(..12.min(fraction.len())).unwrap_or("");
    let scale = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    let part =
        if fraction.is_empty() { 0 } else { fraction.parse::<u128>().ok()? * u128::from(unit) / scale };
    let nanos = whole.checked_mul(unit)?.checked_add(u64::try_from(part).ok()?)?;
    Some(Duration::from_nanos(nanos))
}

/// A number of hours.
pub(crate) fn hours(hours: u64) -> Duration {
    Duration::from_secs(hours * 3600)
}

/// Writes a duration of whole seconds, such as `200h0m0s`.
pub(crate) fn text(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{}s", seconds % 60),
        _ => format!("{hours}h{minutes}m{}s", seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_survive_text_and_back() {
        for (written, shown) in [
            ("168h1s", "168h0m1s"),
            ("90s", "1m30s"),
            ("1h30m", "1h30m0s"),
            ("0s", "0s"),
            ("1.5h", "1h30m0s"),
            (".5m", "30s"),
        ] {
            assert_eq!(parse(written).map(text).as_deref(), Ok(shown));
        }
        for bad in ["", "abc", "1", "h", "1x", "99999999999999999999h", "1h-2m", "1.2.3h", ".h"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
