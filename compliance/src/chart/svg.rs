//! A drawing: elements written one after another, numbers with two decimals.

use std::fmt::{Display, Write};

use super::palette;

/// The text faces: the first is embedded in the PDF, the others are what browsers have.
const FACES: &str = "Libertinus Serif, Source Serif 4, Charter, Georgia, serif";

/// Escapes text for use in markup, in content and in quoted attributes alike.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Not allowed in XML at all, and invisible: shown as what they are.
            c if c.is_control() && c != '\n' && c != '\t' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// Where a text is anchored.
#[derive(Debug, Clone, Copy)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

/// How a text looks.
#[derive(Debug, Clone, Copy)]
pub struct Face {
    pub size: f64,
    pub fill: &'static str,
    pub anchor: Anchor,
}

impl Face {
    pub const LABEL: Self = Self { size: 12.5, fill: palette::MUTED, anchor: Anchor::Start };

    pub fn at(self, anchor: Anchor) -> Self {
        Self { anchor, ..self }
    }

    pub fn ink(self) -> Self {
        Self { fill: palette::INK, ..self }
    }
}

/// An SVG under way.
pub struct Drawing {
    width: f64,
    height: f64,
    body: String,
}

impl Drawing {
    pub fn new(width: f64, height: f64) -> Self {
        Self { width, height, body: String::new() }
    }

    /// Adds finished markup.
    pub fn raw(&mut self, markup: impl Display) {
        // Writing into a String cannot fail.
        let _ = write!(self.body, "{markup}");
    }

    pub fn rect(&mut self, x: f64, y: f64, width: f64, height: f64, attributes: &str) {
        self.raw(format_args!(
            r#"<rect x="{x:.2}" y="{y:.2}" width="{width:.2}" height="{height:.2}" {attributes}/>"#
        ));
    }

    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), attributes: &str) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.raw(format_args!(r#"<line x1="{x1:.2}" y1="{y1:.2}" x2="{x2:.2}" y2="{y2:.2}" {attributes}/>"#));
    }

    pub fn text(&mut self, x: f64, y: f64, face: Face, text: &str) {
        let anchor = match face.anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let (size, fill) = (face.size, face.fill);
        self.raw(format_args!(
            r#"<text x="{x:.2}" y="{y:.2}" font-size="{size:.1}" fill="{fill}" text-anchor="{anchor}">{}</text>"#,
            escape(text)
        ));
    }

    /// The finished file. The label is what a screen reader says.
    pub fn finish(self, label: &str) -> String {
        let Self { width, height, body } = self;
        format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0} {height:.0}" width="{width:.0}" height="{height:.0}" role="img" aria-label="{}" font-family="{FACES}">{body}</svg>"#,
            escape(label)
        )
    }
}

/// The smallest 1, 2 or 5 times a power of ten that is at least this.
pub fn nice_ceiling(value: u64) -> u64 {
    let mut step = 1_u64;
    loop {
        for factor in [1, 2, 5] {
            let candidate = step.saturating_mul(factor);
            if candidate >= value {
                return candidate;
            }
        }
        step = step.saturating_mul(10);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ceilings_are_nice() {
        let ceilings = [0, 1, 3, 7, 11, 60, 999].map(nice_ceiling);
        assert_eq!(ceilings, [1, 1, 5, 10, 20, 100, 1000]);
        assert_eq!(nice_ceiling(u64::MAX), u64::MAX);
    }

    #[test]
    fn hostile_text_is_escaped() {
        assert_eq!(escape("<a b='\"&\u{0}"), "&lt;a b=&#39;&quot;&amp;\u{fffd}");
    }
}
