//! The newest log lines, kept in memory: for whoever asks a process what it has been doing.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::Subscriber;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, fmt};

use crate::InitError;
use crate::logs::filter;

/// Lines that are kept.
const MAX_LINES: usize = 1_000;
/// Longest line that is kept whole, in bytes; all of them take less than 2 MiB.
const MAX_LINE_BYTES: usize = 2_000;

/// A log line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Counted from the start of the process, from 1.
    pub number: u64,
    /// As text, without a line end.
    pub text: String,
}

/// The newest log lines of this process. Copies mean the same lines.
#[derive(Debug, Clone, Default)]
pub struct RecentLines(Arc<Mutex<Ring>>);

#[derive(Debug, Default)]
struct Ring {
    lines: VecDeque<Line>,
    last: u64,
}

impl RecentLines {
    /// The lines after this one, oldest first, as far as they are kept.
    pub fn after(&self, number: u64) -> Vec<Line> {
        self.ring().lines.iter().filter(|line| line.number > number).cloned().collect()
    }

    /// Keeps the lines that pass this filter, in the language of `RUST_LOG`.
    pub(crate) fn layer<S>(&self, directives: &str) -> Result<Box<dyn Layer<S> + Send + Sync>, InitError>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        // A layer of its own kind of fields: those of the terminal's layer may hold its colours.
        let fields = fmt::format::debug_fn(|writer, field, value| match field.name() {
            "message" => write!(writer, "{value:?}"),
            name => write!(writer, "{name}={value:?}"),
        });
        let lines = fmt::layer().with_ansi(false).fmt_fields(fields.delimited(" ")).with_writer(self.clone());
        Ok(lines.with_filter(filter(directives)?).boxed())
    }

    fn push(&self, line: &[u8]) {
        let text = String::from_utf8_lossy(line);
        // What others sent may be quoted in a line: it must not steer the terminal that shows it.
        let text = text.trim_end_matches('\n').replace(|c: char| c.is_control(), " ");
        let kept = match text.char_indices().map(|(at, _)| at).find(|at| *at > MAX_LINE_BYTES) {
            Some(end) => format!("{}…", text.get(..end).unwrap_or_default()),
            None => text,
        };
        let mut ring = self.ring();
        ring.last += 1;
        let number = ring.last;
        if ring.lines.len() >= MAX_LINES {
            ring.lines.pop_front();
        }
        ring.lines.push_back(Line { number, text: kept });
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes one line: the subscriber writes each whole, in one go.
#[derive(Debug)]
pub struct LineWriter(RecentLines);

impl io::Write for LineWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for RecentLines {
    type Writer = LineWriter;

    fn make_writer(&self) -> LineWriter {
        LineWriter(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    fn log(recent: &RecentLines, work: impl FnOnce()) {
        let subscriber = tracing_subscriber::registry().with(recent.layer("info").unwrap());
        tracing::subscriber::with_default(subscriber, work);
    }

    #[test]
    fn lines_are_numbered_and_asked_for_from_where_one_was() {
        let recent = RecentLines::default();
        log(&recent, || {
            tracing::info!(port = 7, "one\ntwo");
            tracing::debug!("a detail");
            tracing::warn!("three");
        });
        let lines = recent.after(0);
        assert_eq!(lines.iter().map(|line| line.number).collect::<Vec<_>>(), [1, 2]);
        let first = &lines[0].text;
        assert!(first.contains("INFO") && first.ends_with("one two port=7"), "{lines:?}");
        assert!(lines[1].text.ends_with("three"), "{lines:?}");
        assert_eq!(recent.after(1), lines[1..]);
        assert_eq!(recent.after(2), []);
    }

    #[test]
    fn only_so_many_lines_and_so_much_of_each_are_kept() {
        let recent = RecentLines::default();
        log(&recent, || {
            for number in 0..MAX_LINES + 10 {
                tracing::info!("line {number}");
            }
            tracing::info!("{}", "ü".repeat(MAX_LINE_BYTES));
        });
        let lines = recent.after(0);
        assert_eq!((lines.len(), lines[0].number), (MAX_LINES, 12));
        let longest = lines.last().unwrap().text.len();
        assert!(longest <= MAX_LINE_BYTES + 8, "{longest}");
    }
}
