//! Plays steps in order, prints for each what happened and why it can be believed, and counts what was verified.

use std::fmt;
use std::io::{self, Write};
use std::time::Instant;

use crate::lab::signals;

/// A step of the demonstration.
pub struct Step<S> {
    /// What it is about, for the line that says it failed.
    pub title: &'static str,
    /// Does it and checks it. What it returns was verified, not just done.
    pub play: fn(&mut S) -> anyhow::Result<Verified>,
}

/// What a step showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// What happened.
    pub what: String,
    /// Why it can be believed.
    pub why: String,
}

impl Verified {
    /// A plain sentence each, without the full stop.
    pub fn new(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self { what: what.into(), why: why.into() }
    }
}

/// How a play went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// How many steps there are.
    pub planned: usize,
    /// How many were verified.
    pub verified: usize,
    /// The step that failed, and why. Those after it were not played, since they stand on it.
    pub failed: Option<(String, String)>,
}

impl Outcome {
    /// Every step was verified.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        self.failed.is_none() && self.verified == self.planned
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.failed {
            None => write!(f, "{} of {} steps verified.", self.verified, self.planned),
            Some((title, _)) => {
                let rest = self.planned.saturating_sub(self.verified).saturating_sub(1);
                write!(
                    f,
                    "{} of {} steps verified; \"{title}\" failed, {rest} not played.",
                    self.verified, self.planned
                )
            }
        }
    }
}

/// Plays the steps until one fails.
///
/// # Errors
/// Only when `out` cannot be written to.
pub fn play<S>(steps: &[Step<S>], stage: &mut S, out: &mut impl Write) -> io::Result<Outcome> {
    let mut outcome = Outcome { planned: steps.len(), verified: 0, failed: None };
    for (number, step) in (1_usize..).zip(steps) {
        let start = Instant::now();
        let result = (step.play)(stage);
        let took = start.elapsed().as_secs_f64();
        match result {
            Ok(Verified { what, why }) => {
                writeln!(out, "{number:>2}. {what}. [{took:.1} s]\n    Why believe it: {why}.")?;
                outcome.verified = outcome.verified.saturating_add(1);
            }
            Err(error) => {
                signals::give_way();
                let reason = format!("{error:#}");
                writeln!(out, "{number:>2}. FAILED after {took:.1} s: {}: {reason}", step.title)?;
                outcome.failed = Some((step.title.to_owned(), reason));
                break;
            }
        }
        out.flush()?;
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(played: &mut Vec<&'static str>) -> anyhow::Result<Verified> {
        played.push("good");
        Ok(Verified::new("It went well", "it was measured"))
    }

    fn bad(played: &mut Vec<&'static str>) -> anyhow::Result<Verified> {
        played.push("bad");
        Err(anyhow::anyhow!("cause").context("effect"))
    }

    #[test]
    fn every_step_prints_a_line_and_its_reason_on_another() {
        let steps = [Step { title: "a", play: good }, Step { title: "b", play: good }];
        let (mut played, mut out) = (Vec::new(), Vec::new());
        let outcome = play(&steps, &mut played, &mut out).unwrap();
        assert!(outcome.is_verified());
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().count(), 4);
        assert!(text.starts_with(" 1. It went well. ["), "{text}");
        assert!(text.contains("\n    Why believe it: it was measured.\n"), "{text}");
    }

    #[test]
    fn what_stands_on_a_failed_step_is_not_played_and_not_verified() {
        let steps = [("a", good as fn(&mut _) -> _), ("b", bad), ("c", good)]
            .map(|(title, play)| Step { title, play });
        let (mut played, mut out) = (Vec::new(), Vec::new());
        let outcome = play(&steps, &mut played, &mut out).unwrap();
        assert_eq!(played, ["good", "bad"]);
        assert!(!outcome.is_verified());
        assert_eq!(outcome.to_string(), "1 of 3 steps verified; \"b\" failed, 1 not played.");
        assert!(String::from_utf8(out).unwrap().contains("b: effect: cause"));
    }
}
