//! Runs every oracle on every case and counts.

use std::fmt;
use std::sync::Arc;

use writ_policy::{Compiled, Policy};

use crate::capture::Case;
use crate::oracles;

/// Matches and mismatches of one oracle.
#[derive(Debug)]
pub struct Count {
    pub oracle: &'static str,
    pub matched: usize,
    pub mismatches: Vec<Mismatch>,
}

/// One answer that is not Tailscale's.
#[derive(Debug)]
pub struct Mismatch {
    pub place: String,
    pub expected: String,
    pub actual: String,
}

/// What came of a run.
#[derive(Debug)]
pub struct Report {
    pub counts: Vec<Count>,
}

impl Count {
    fn new(oracle: &'static str) -> Self {
        Self { oracle, matched: 0, mismatches: Vec::new() }
    }

    /// Counts one answer.
    pub fn check(&mut self, place: String, expected: String, actual: String) {
        if expected == actual {
            self.matched += 1;
        } else {
            self.mismatches.push(Mismatch { place, expected, actual });
        }
    }

    pub fn total(&self) -> usize {
        self.matched + self.mismatches.len()
    }
}

impl Report {
    pub fn is_clean(&self) -> bool {
        self.counts.iter().all(|count| count.mismatches.is_empty())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for count in &self.counts {
            for mismatch in &count.mismatches {
                let Mismatch { place, expected, actual } = mismatch;
                writeln!(f, "{} {place}\n  expected {expected}\n  actual   {actual}", count.oracle)?;
            }
        }
        for count in &self.counts {
            writeln!(f, "{} {} of {}", count.oracle, count.matched, count.total())?;
        }
        Ok(())
    }
}

/// What a check of one accepted case gets: the engine's view, the case, and where to count.
pub type Oracle = fn(&Compiled, &Case, &mut Count);

/// The oracles over accepted policies.
const ACCEPTED: [(&str, Oracle); 5] = [
    ("filters", oracles::filters),
    ("peers", oracles::peers),
    ("allowed addresses", oracles::allowed),
    ("primary routes", oracles::primary_routes),
    ("pair capabilities", oracles::pair_capabilities),
];

pub fn run(cases: &[Case]) -> Report {
    let mut verdicts = Count::new("refusals");
    let mut counts: Vec<Count> = ACCEPTED.iter().map(|(name, _)| Count::new(name)).collect();
    for case in cases {
        let compiled = compile(case);
        let actual = match &compiled {
            Ok(_) => "accepted".to_owned(),
            Err(message) => message.clone(),
        };
        match (case.http, &case.error) {
            (200, _) => verdicts.check(case.id.clone(), "accepted".to_owned(), actual),
            (_, error) => {
                let expected = error.clone().unwrap_or_default();
                let actual = if actual.contains(&expected) { expected.clone() } else { actual };
                verdicts.check(case.id.clone(), expected, actual);
            }
        }
        if let (200, Ok(compiled)) = (case.http, &compiled) {
            for ((_, oracle), count) in ACCEPTED.iter().zip(&mut counts) {
                oracle(compiled, case, count);
            }
        } else if case.http == 200 {
            for count in &mut counts {
                let refused =
                    format!("refused: {actual}", actual = compiled.as_ref().err().map_or("", String::as_str));
                for name in case.expect.keys() {
                    count.check(format!("{} {name}", case.id), "an answer".to_owned(), refused.clone());
                }
            }
        }
    }
    counts.push(verdicts);
    Report { counts }
}

/// Loads a policy as a network would: reads it, resolves it, and runs its tests.
fn compile(case: &Case) -> Result<Compiled, String> {
    let policy = Policy::parse_full(&case.policy_text()).map_err(|error| error.to_string())?;
    let compiled = Compiled::new(Arc::new(policy), &case.inventory()).map_err(|error| error.to_string())?;
    match compiled.run_tests().first() {
        None => Ok(compiled),
        Some(failure) => Err(format!("test(s) failed: {failure}")),
    }
}
