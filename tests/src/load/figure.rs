//! A figure: a number with a name and a unit, one line each.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// How many in a second.
    PerSecond,
    /// A time.
    Milliseconds,
    /// How many times as much as something beside it.
    Times,
    /// Gigabits in a second.
    GigabitsPerSecond,
    /// Processor seconds for each gigabit.
    SecondsPerGigabit,
    /// How many.
    Count,
    /// How many pairs of nodes.
    Pairs,
    /// Memory.
    Mebibytes,
    /// A share of one processor.
    Percent,
}

/// A measured number.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// What was measured.
    pub name: Cow<'static, str>,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: Unit,
}

impl Figure {
    /// A number as it is.
    pub(crate) fn new(name: impl Into<Cow<'static, str>>, value: f64, unit: Unit) -> Self {
        Self { name: name.into(), value, unit }
    }

    /// A count over a time.
    pub(crate) fn rate(name: impl Into<Cow<'static, str>>, count: usize, took: Duration) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "counts are small")]
        let value = count as f64 / took.as_secs_f64().max(1e-9);
        Self::new(name, value, Unit::PerSecond)
    }

    /// A time.
    pub(crate) fn time(name: impl Into<Cow<'static, str>>, time: Duration) -> Self {
        Self::new(name, time.as_secs_f64() * 1000.0, Unit::Milliseconds)
    }

    /// This one in terms of another.
    pub(crate) fn beside(&self, name: impl Into<Cow<'static, str>>, other: &Self) -> Self {
        Self::new(name, self.value / other.value.max(1e-9), Unit::Times)
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PerSecond => "1/s",
            Self::Milliseconds => "ms",
            Self::Times => "x",
            Self::GigabitsPerSecond => "Gbit/s",
            Self::SecondsPerGigabit => "s/Gbit",
            Self::Count => "1",
            Self::Pairs => "pairs",
            Self::Mebibytes => "MiB",
            Self::Percent => "%",
        })
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = if self.value < 10.0 { 2 } else { 0 };
        write!(f, "figure {} {:.digits$} {}", self.name, self.value, self.unit)
    }
}

/// The time that a share of all took at most (nearest rank). Zero if there are none.
pub(crate) fn percentile(times: &mut [Duration], share: f64) -> Duration {
    times.sort_unstable();
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts are small and shares are between 0 and 1"
    )]
    let rank = (share * times.len() as f64).ceil() as usize;
    times.get(rank.saturating_sub(1).min(times.len().saturating_sub(1))).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let mut times: Vec<_> = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!(percentile(&mut times, 0.5), Duration::from_millis(50));
        assert_eq!(percentile(&mut times, 0.99), Duration::from_millis(99));
        assert_eq!(percentile(&mut times[..1], 0.99), Duration::from_millis(1));
        assert_eq!(percentile(&mut [], 0.5), Duration::ZERO);
    }

    #[test]
    fn a_figure_is_one_line_for_programs() {
        let figure = Figure::rate("joins_per_second", 300, Duration::from_secs(2));
        assert_eq!(figure.to_string(), "figure joins_per_second 150 1/s");
        let other = Figure::rate("appends_per_second", 200, Duration::from_secs(1));
        assert_eq!(figure.beside("joins_to_appends", &other).to_string(), "figure joins_to_appends 0.75 x");
        assert_eq!(Figure::time("a", Duration::from_micros(2500)).to_string(), "figure a 2.50 ms");
    }
}
