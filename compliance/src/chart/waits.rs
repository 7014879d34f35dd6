//! How long withdrawals took to be acknowledged: one dot each, on a logarithmic axis.

use super::palette;
use super::svg::{Anchor, Drawing, Face};

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 172.0;
const LEFT: f64 = 26.0;
const RIGHT: f64 = 132.0;
const TOP: f64 = 30.0;
const BASE: f64 = 136.0;
const RADIUS: f64 = 3.6;
/// From 10 ms to a week: decades of seconds are the axis.
const FROM_EXPONENT: f64 = -2.0;
const TO_EXPONENT: f64 = 5.8;
const TICKS: [(f64, &str); 7] = [
    (0.01, "10 ms"),
    (0.1, "100 ms"),
    (1.0, "1 s"),
    (10.0, "10 s"),
    (60.0, "1 min"),
    (3600.0, "1 h"),
    (86_400.0, "24 h"),
];

/// What to draw.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Waits {
    /// Seconds from cause to last acknowledgement.
    pub seconds: Vec<f64>,
    /// Withdrawals that some agent has not acknowledged.
    pub open: usize,
    /// The limit that the assessment uses, in seconds.
    pub limit: Option<f64>,
}

/// Words on the chart.
pub struct WaitLabels<'a> {
    /// What a screen reader says.
    pub alt: &'a str,
    /// At the line of the limit.
    pub limit: &'a str,
    /// Over the dots without an acknowledgement.
    pub open: &'a str,
}

/// The dots.
pub fn waits(waits: &Waits, labels: &WaitLabels<'_>) -> String {
    let mut drawing = Drawing::new(WIDTH, HEIGHT);
    axis(&mut drawing);
    if let Some(limit) = waits.limit {
        let at = x_of(limit);
        let dashed = format!(r#"stroke="{}" stroke-width="1.2" stroke-dasharray="5 3""#, palette::REFUSAL);
        drawing.line((at, TOP - 8.0), (at, BASE), &dashed);
        drawing.text(at, TOP - 14.0, Face::LABEL.at(Anchor::Middle), labels.limit);
    }
    let mut columns: Vec<(i64, u32)> = Vec::new();
    let mut seconds = waits.seconds.clone();
    seconds.sort_by(f64::total_cmp);
    for second in seconds {
        let column = (x_of(second) / (2.0 * RADIUS)).round() as i64;
        let height = match columns.last_mut() {
            Some((last, height)) if *last == column => {
                *height += 1;
                *height
            }
            _ => {
                columns.push((column, 0));
                0
            }
        };
        dot(
            &mut drawing,
            column as f64 * 2.0 * RADIUS,
            height,
            &format!(r#"fill="{}" fill-opacity="0.85""#, palette::ACCENT),
        );
    }
    open_lane(&mut drawing, waits.open, labels.open);
    drawing.finish(labels.alt)
}

fn x_of(seconds: f64) -> f64 {
    let exponent = seconds.max(1e-9).log10().clamp(FROM_EXPONENT, TO_EXPONENT);
    LEFT + (exponent - FROM_EXPONENT) / (TO_EXPONENT - FROM_EXPONENT) * (WIDTH - LEFT - RIGHT)
}

/// Draws a dot; a full column folds over instead of leaving the picture.
fn dot(drawing: &mut Drawing, x: f64, height: u32, look: &str) {
    let room = ((BASE - TOP) / (2.0 * RADIUS)).floor() as u32;
    let y = BASE - RADIUS - 2.0 - f64::from(height % room.max(1)) * 2.0 * RADIUS;
    drawing.raw(format_args!(r#"<circle cx="{x:.2}" cy="{y:.2}" r="{RADIUS:.2}" {look}/>"#));
}

fn axis(drawing: &mut Drawing) {
    let hairline = format!(r#"stroke="{}" stroke-width="0.8""#, palette::RULE);
    for (seconds, label) in TICKS {
        drawing.line((x_of(seconds), TOP), (x_of(seconds), BASE), &hairline);
        drawing.text(x_of(seconds), BASE + 18.0, Face::LABEL.at(Anchor::Middle), label);
    }
    drawing.line((LEFT, BASE), (WIDTH - RIGHT, BASE), &format!(r#"stroke="{}""#, palette::INK));
}

fn open_lane(drawing: &mut Drawing, open: usize, label: &str) {
    let left = WIDTH - RIGHT + 22.0;
    let look = format!(r#"fill="none" stroke="{}" stroke-width="1.4""#, palette::REFUSAL);
    drawing.line(
        (left, BASE),
        (WIDTH, BASE),
        &format!(r#"stroke="{}" stroke-dasharray="2 2""#, palette::INK),
    );
    drawing.text((left + WIDTH) / 2.0, BASE + 18.0, Face::LABEL.at(Anchor::Middle), label);
    let columns = ((WIDTH - left) / (2.0 * RADIUS + 2.0)).floor() as usize;
    for index in 0..open {
        let x = left + RADIUS + (index % columns) as f64 * (2.0 * RADIUS + 2.0);
        dot(drawing, x, u32::try_from(index / columns).unwrap_or(u32::MAX), &look);
    }
    if open == 0 {
        drawing.text((left + WIDTH) / 2.0, BASE - 8.0, Face::LABEL.at(Anchor::Middle), "0");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABELS: WaitLabels<'static> = WaitLabels { alt: "waits", limit: "limit", open: "open" };

    #[test]
    fn every_withdrawal_is_one_dot() {
        let drawn = waits(&Waits { seconds: vec![0.2, 0.2, 3.0, 1e9], open: 2, limit: Some(60.0) }, &LABELS);
        assert_eq!(drawn.matches("<circle").count(), 6);
    }

    #[test]
    fn the_axis_is_monotone_and_bounded() {
        let at = [0.0, 0.01, 1.0, 60.0, 86_400.0, f64::INFINITY].map(x_of);
        assert!(at.is_sorted() && at.iter().all(|x| (LEFT..=WIDTH - RIGHT).contains(x)));
    }
}
