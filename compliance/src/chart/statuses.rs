//! One tile for each control, sorted by status.

use super::palette;
use super::svg::{Anchor, Drawing, Face};
use crate::status::Status;

const WIDTH: f64 = 640.0;
const LABEL_WIDTH: f64 = 160.0;
const TILE_WIDTH: f64 = 91.0;
const TILE_HEIGHT: f64 = 26.0;
const GAP: f64 = 5.0;
const ROW_GAP: f64 = 12.0;
const TILES_PER_LINE: usize = 5;

/// A control on the chart.
#[derive(Debug, Clone)]
pub struct Tile {
    /// Its number in the law.
    pub number: String,
    /// Its status.
    pub status: Status,
}

/// The tiles in rows of equal status. `name` gives a status its word.
pub fn statuses(tiles: &[Tile], label: &str, name: impl Fn(Status) -> String) -> String {
    let rows: Vec<(Status, Vec<&Tile>)> = Status::ALL
        .into_iter()
        .map(|status| (status, tiles.iter().filter(|tile| tile.status == status).collect()))
        .collect();
    let height = rows.iter().map(|(_, row)| row_height(row.len()) + ROW_GAP).sum::<f64>();
    let mut drawing = Drawing::new(WIDTH, height);
    let mut top = ROW_GAP / 2.0;
    for (status, row) in &rows {
        drawing.raw(status_mark(*status, 0.0, top + 5.0, 16.0));
        drawing.text(24.0, top + 17.5, Face::LABEL.ink(), &name(*status));
        if row.is_empty() {
            drawing.text(LABEL_WIDTH, top + 17.5, Face::LABEL, "0");
        }
        for (index, tile) in row.iter().enumerate() {
            draw_tile(&mut drawing, tile, index, top);
        }
        top += row_height(row.len()) + ROW_GAP;
    }
    drawing.finish(label)
}

fn row_height(tiles: usize) -> f64 {
    let lines = tiles.div_ceil(TILES_PER_LINE).max(1);
    lines as f64 * (TILE_HEIGHT + GAP) - GAP
}

fn draw_tile(drawing: &mut Drawing, tile: &Tile, index: usize, top: f64) {
    let x = LABEL_WIDTH + (index % TILES_PER_LINE) as f64 * (TILE_WIDTH + GAP);
    let y = top + (index / TILES_PER_LINE) as f64 * (TILE_HEIGHT + GAP);
    let colour = palette::status(tile.status);
    let look = match tile.status {
        Status::Contradicted => format!(r#"fill="{colour}""#),
        Status::Attention => format!(r##"fill="#f7ecd9" stroke="{colour}" stroke-width="1.4""##),
        Status::Supported => format!(r##"fill="#e3f0ea" stroke="{colour}" stroke-width="1""##),
        Status::NoData => format!(r##"fill="#ffffff" stroke="{colour}" stroke-width="1""##),
        Status::NotAssessable => {
            format!(r##"fill="#ffffff" stroke="{colour}" stroke-width="1" stroke-dasharray="3 2.5""##)
        }
    };
    drawing.rect(x, y, TILE_WIDTH, TILE_HEIGHT, &format!(r#"rx="3" {look}"#));
    let fill = match tile.status {
        Status::Contradicted => "#ffffff",
        Status::NoData | Status::NotAssessable => palette::MUTED,
        Status::Attention | Status::Supported => palette::INK,
    };
    let face = Face { size: 12.5, fill, anchor: Anchor::Middle };
    drawing.text(x + TILE_WIDTH / 2.0, y + 17.5, face, &tile.number);
}

/// The sign of a status: its shape differs, so that colour is not needed.
fn status_mark(status: Status, x: f64, y: f64, size: f64) -> String {
    let colour = palette::status(status);
    let stroke = r#"fill="none" stroke-linecap="round" stroke-linejoin="round""#;
    let shape = match status {
        Status::Supported => format!(
            r##"<circle cx="8" cy="8" r="7.5" fill="{colour}"/><path d="M4.6 8.3 7 10.7 11.5 5.6" stroke="#ffffff" stroke-width="1.8" {stroke}/>"##
        ),
        Status::Attention => format!(
            r##"<path d="M8 1 15.4 14.4H.6Z" fill="{colour}"/><path d="M8 5.6V9.8M8 12.2V12.3" stroke="#ffffff" stroke-width="1.7" {stroke}/>"##
        ),
        Status::Contradicted => format!(
            r##"<rect x=".7" y=".7" width="14.6" height="14.6" rx="2" fill="{colour}"/><path d="M5 5 11 11M11 5 5 11" stroke="#ffffff" stroke-width="1.8" {stroke}/>"##
        ),
        Status::NoData => {
            format!(r#"<circle cx="8" cy="8" r="6.7" stroke="{colour}" stroke-width="1.5" {stroke}/>"#)
        }
        Status::NotAssessable => format!(
            r#"<circle cx="8" cy="8" r="6.7" stroke="{colour}" stroke-width="1.2" stroke-dasharray="2.4 2.2" {stroke}/><path d="M5 8H11" stroke="{colour}" stroke-width="1.5" {stroke}/>"#
        ),
    };
    let scale = size / 16.0;
    format!(r#"<g transform="translate({x:.2} {y:.2}) scale({scale:.4})">{shape}</g>"#)
}

/// The sign as an image of its own. The status's word always stands beside it, so it says nothing to a screen reader.
pub fn mark_image(status: Status) -> String {
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true">{}</svg>"#,
        status_mark(status, 0.0, 0.0, 16.0)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_control_stands_in_the_row_of_its_status() {
        let tile = |number: &str, status| Tile { number: number.to_owned(), status };
        let tiles = [tile("3.2.3", Status::Supported), tile("<6.4>", Status::Contradicted)];
        let svg = statuses(&tiles, "by status", |status| status.slug().to_owned());
        let (contradicted, supported) = (svg.find("&lt;6.4&gt;"), svg.find("3.2.3"));
        assert!(contradicted < supported, "the pressing rows come first");
        assert!(Status::ALL.iter().all(|status| svg.contains(status.slug())), "empty rows are shown as well");
    }
}
