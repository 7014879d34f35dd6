//! Charts as SVG, made by pure functions: the same numbers give the same bytes.
//!
//! Every chart can be read in grey and carries its numbers as a table for those who cannot see it. There are no
//! gauges and no shares of a whole: a report of evidence has no score.

mod days;
mod statuses;
mod svg;
mod waits;

pub use days::{Day, DayLabels, days};
pub use statuses::{Tile, mark_image, statuses};
pub use svg::escape;
pub use waits::{WaitLabels, Waits, waits};

/// Colours of both renderings.
pub mod palette {
    use crate::status::Status;

    /// Text.
    pub const INK: &str = "#1b2430";
    /// Lesser text.
    pub const MUTED: &str = "#5b6573";
    /// Hairlines.
    pub const RULE: &str = "#d3d8df";
    /// The one accent.
    pub const ACCENT: &str = "#24466f";
    /// Refusals.
    pub const REFUSAL: &str = "#b4652a";

    /// The colour of a status; its shape tells as much.
    pub fn status(status: Status) -> &'static str {
        match status {
            Status::Contradicted => "#a3243b",
            Status::Attention => "#a86400",
            Status::Supported => "#1d6b50",
            Status::NoData => "#5f6975",
            Status::NotAssessable => "#8b949f",
        }
    }
}
