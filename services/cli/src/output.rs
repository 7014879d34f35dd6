//! Printing: tables for people, one JSON value for programs.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use comfy_table::{ContentArrangement, Table, presets};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

/// Standard output cannot be written to.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output: {0}")]
pub struct PrintError(pub io::Error);

/// Where and how results are printed.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    json: bool,
    is_terminal: bool,
}

impl Output {
    /// For people, or for programs.
    pub fn new(json: bool) -> Self {
        Self { json, is_terminal: io::stdout().is_terminal() }
    }

    /// Whether a program reads.
    pub fn is_json(self) -> bool {
        self.json
    }

    /// Colours, where they are welcome.
    pub fn paint(self) -> Paint {
        Paint::for_stream(self.is_terminal && !self.json)
    }

    /// Prints a result: the text for people, or the value for programs.
    pub fn show(self, text: &str, value: &impl Serialize) -> anyhow::Result<()> {
        if self.json { self.value(value) } else { self.line(text.trim_end_matches('\n')) }
    }

    /// Prints one JSON value on one line if a program reads it, laid out if a person does.
    pub fn value(self, value: &impl Serialize) -> anyhow::Result<()> {
        let text = if self.json && !self.is_terminal {
            serde_json::to_string(value)?
        } else {
            serde_json::to_string_pretty(value)?
        };
        self.line(&text)
    }

    /// Prints a line at once.
    pub fn line(self, text: &str) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())
            .and_then(|()| out.write_all(b"\n"))
            .and_then(|()| out.flush())
            .map_err(PrintError)?;
        Ok(())
    }

    /// Says something by the way, to people only.
    pub fn note(self, text: &str) {
        if !self.json {
            // A note that cannot be printed is not worth failing for.
            let _ = writeln!(io::stderr(), "{}", printable(text));
        }
    }

    /// A table as text: as wide as the terminal; unwrapped where there is none.
    pub fn table(self, header: &[&str], rows: Vec<Vec<String>>) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        let dynamic = self.is_terminal && !self.json;
        table.set_content_arrangement(if dynamic {
            ContentArrangement::Dynamic
        } else {
            ContentArrangement::Disabled
        });
        table.set_header(header.to_vec());
        for row in rows {
            table.add_row(row.iter().map(|cell| printable(cell)).collect::<Vec<_>>());
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        table.trim_fmt()
    }
}

/// Text in colour, or as it is.
#[derive(Debug, Clone, Copy)]
pub struct Paint {
    on: bool,
}

impl Paint {
    /// Colour only on a terminal whose owner has not said no (`NO_COLOR`).
    pub fn for_stream(is_terminal: bool) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { on: is_terminal && !refused }
    }

    /// What is wrong or goes away.
    pub fn red(self, text: &str) -> String {
        self.in_colour("31", text)
    }

    /// What is right or comes.
    pub fn green(self, text: &str) -> String {
        self.in_colour("32", text)
    }

    /// What stands out.
    pub fn bold(self, text: &str) -> String {
        self.in_colour("1", text)
    }

    fn in_colour(self, code: &str, text: &str) -> String {
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Text from elsewhere made safe for a terminal: nothing in it moves the cursor, colours or turns the direction of writing.
pub fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if turns || (c.is_control() && c != '\n' && c != '\t') {
            // Writing into a text cannot fail.
            let _ = write!(safe, "\\u{{{:x}}}", u32::from(c));
        } else {
            safe.push(c);
        }
    }
    safe
}

/// A moment in the zone of the reader, to the second.
pub fn local_time(time: Timestamp) -> String {
    time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
}

/// A count with its noun.
pub fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// A number of bytes for people.
pub fn bytes(count: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.iter().find(|(size, _)| count >= *size) {
        // Three digits of a figure for people: the loss of precision is meant.
        Some((size, unit)) => format!("{:.1} {unit}", count as f64 / *size as f64),
        None => format!("{count} B"),
    }
}

/// A length of time for people.
pub fn duration(milliseconds: i64) -> String {
    match milliseconds {
        ..1_000 => format!("{milliseconds} ms"),
        1_000..60_000 => format!("{}.{:03} s", milliseconds / 1_000, milliseconds % 1_000),
        _ => format!("{} min {} s", milliseconds / 60_000, milliseconds % 60_000 / 1_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_the_log_cannot_steer_a_terminal() {
        assert_eq!(printable("a\x1b[31mb\u{202e}c\r"), "a\\u{1b}[31mb\\u{202e}c\\u{d}");
        assert_eq!(printable("Zoë\tMüller\n"), "Zoë\tMüller\n");
    }

    #[test]
    fn figures_are_for_people() {
        assert_eq!([bytes(0), bytes(1536), bytes(5 << 30)], ["0 B", "1.5 KiB", "5.0 GiB"]);
        assert_eq!([duration(7), duration(1_250), duration(61_000)], ["7 ms", "1.250 s", "1 min 1 s"]);
        assert_eq!([counted(1, "record"), counted(0, "record")], ["1 record", "0 records"]);
    }

    #[test]
    fn a_table_off_the_terminal_is_not_wrapped() {
        let out = Output { json: false, is_terminal: false };
        let long = "x".repeat(300);
        let table = out.table(&["ID", "NAME"], vec![vec!["1".to_owned(), long.clone()]]);
        assert_eq!(table, format!("ID  NAME\n1   {long}"));
    }
}
