//! Decisions over time: authorizations above the line, denials below it.

use super::palette;
use super::svg::{Anchor, Drawing, Face, nice_ceiling};

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 52.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 28.0;
/// Widest a bar may be, so that a report of one day is not a wall.
const MAX_BAR: f64 = 34.0;
/// About the width of a date label with air around it.
const DATE_WIDTH: f64 = 82.0;

/// The decisions of one day, or of one week where the period is long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Day {
    /// Its (first) date.
    pub date: String,
    /// Connections authorized.
    pub authorized: u64,
    /// Connections denied, repeats counted.
    pub denied: u64,
}

/// Words on the chart.
pub struct DayLabels<'a> {
    /// What a screen reader says.
    pub alt: &'a str,
    /// For the bars above the line.
    pub authorized: &'a str,
    /// For the bars below the line.
    pub denied: &'a str,
}

/// Bars for each day.
pub fn days(days: &[Day], labels: &DayLabels<'_>) -> String {
    let mut drawing = Drawing::new(WIDTH, HEIGHT);
    legend(&mut drawing, labels);
    let scale = Scale::of(days);
    scale.axis(&mut drawing);
    let slot = (WIDTH - LEFT) / days.len().max(1) as f64;
    let bar = (slot * 0.72).min(MAX_BAR);
    let label_every = (DATE_WIDTH / slot).ceil().max(1.0) as usize;
    for (index, day) in days.iter().enumerate() {
        let middle = LEFT + (index as f64 + 0.5) * slot;
        let up = scale.length(day.authorized);
        drawing.rect(middle - bar / 2.0, scale.zero - up, bar, up, &format!(r#"fill="{}""#, palette::ACCENT));
        let down = scale.length(day.denied);
        drawing.rect(middle - bar / 2.0, scale.zero, bar, down, &format!(r#"fill="{}""#, palette::REFUSAL));
        let fits = middle + DATE_WIDTH / 2.0 <= WIDTH && middle >= DATE_WIDTH / 2.0;
        if index % label_every == 0 && fits {
            drawing.text(middle, HEIGHT - 8.0, Face::LABEL.at(Anchor::Middle), &day.date);
        }
    }
    drawing.line((LEFT, scale.zero), (WIDTH, scale.zero), &format!(r#"stroke="{}""#, palette::INK));
    drawing.finish(labels.alt)
}

fn legend(drawing: &mut Drawing, labels: &DayLabels<'_>) {
    drawing.rect(LEFT, 5.0, 11.0, 11.0, &format!(r#"fill="{}""#, palette::ACCENT));
    drawing.text(LEFT + 17.0, 15.0, Face::LABEL.ink(), &format!("\u{2191} {}", labels.authorized));
    drawing.rect(LEFT + 190.0, 5.0, 11.0, 11.0, &format!(r#"fill="{}""#, palette::REFUSAL));
    drawing.text(LEFT + 207.0, 15.0, Face::LABEL.ink(), &format!("\u{2193} {}", labels.denied));
}

struct Scale {
    zero: f64,
    unit: f64,
    step: u64,
    up: u64,
    down: u64,
}

impl Scale {
    fn of(days: &[Day]) -> Self {
        let up = days.iter().map(|day| day.authorized).max().unwrap_or(0).max(1);
        let down = days.iter().map(|day| day.denied).max().unwrap_or(0);
        let step = nice_ceiling(up.max(down).div_ceil(4));
        let (up, down) = (up.next_multiple_of(step), down.next_multiple_of(step));
        let height = HEIGHT - TOP - BOTTOM;
        let unit = height / up.saturating_add(down) as f64;
        Self { zero: TOP + up as f64 * unit, unit, step, up, down }
    }

    fn length(&self, count: u64) -> f64 {
        count as f64 * self.unit
    }

    fn axis(&self, drawing: &mut Drawing) {
        let hairline = format!(r#"stroke="{}" stroke-width="0.8""#, palette::RULE);
        let mut tick = |count: u64, y: f64| {
            drawing.line((LEFT, y), (WIDTH, y), &hairline);
            drawing.text(LEFT - 8.0, y + 4.0, Face::LABEL.at(Anchor::End), &count.to_string());
        };
        for count in (0..=self.up / self.step).map(|n| n * self.step) {
            tick(count, self.zero - self.length(count));
        }
        for count in (1..=self.down / self.step).map(|n| n * self.step) {
            tick(count, self.zero + self.length(count));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABELS: DayLabels<'static> = DayLabels { alt: "per day", authorized: "allowed", denied: "denied" };

    #[test]
    fn bars_keep_their_proportion() {
        let day = |authorized, denied| Day { date: "2026-11-01".to_owned(), authorized, denied };
        let scale = Scale::of(&[day(40, 10), day(20, 5)]);
        assert_eq!(scale.length(40), 4.0 * scale.length(10));
        assert!(
            scale.zero - scale.length(40) >= TOP - 1e-9
                && scale.zero + scale.length(10) <= HEIGHT - BOTTOM + 1e-9
        );
    }

    #[test]
    fn an_empty_period_still_draws() {
        assert!(days(&[], &LABELS).starts_with("<svg"));
    }
}
