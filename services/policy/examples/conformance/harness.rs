//! Runs every oracle on every case and counts.

use std::fmt;
use std::sync::Arc;

use writ_policy::{Compiled, Policy};

use super::capture::Case;
use super::oracles;

/// Answers that are not compared, by oracle and beginning of their place, each with the cause in the data.
const EXCEPTIONS: [(&str, &str, &str); 1] = [(
    "allowed addresses",
    "acl-k03 ",
    "taken while the approval of a route was spreading: some nodes were told of it, and others, the router itself \
     among them, not yet",
)];

/// Matches and mismatches of one oracle.
#[derive(Debug)]
pub struct Count {
    pub oracle: &'static str,
    pub matched: usize,
    pub excepted: usize,
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
        Self { oracle, matched: 0, excepted: 0, mismatches: Vec::new() }
    }

    /// Counts one answer.
    pub fn check(&mut self, place: String, expected: String, actual: String) {
        if expected == actual {
            self.matched += 1;
        } else if EXCEPTIONS.iter().any(|(oracle, case, _)| *oracle == self.oracle && place.starts_with(case))
        {
            self.excepted += 1;
        } else {
            self.mismatches.push(Mismatch { place, expected, actual });
        }
    }

    /// Counts one answer, and spells it out only if it is wrong.
    pub fn check_fast(&mut self, is_right: bool, spell_out: impl FnOnce() -> (String, String, String)) {
        if is_right {
            self.matched += 1;
        } else {
            let (place, expected, actual) = spell_out();
            self.check(place, expected, actual);
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
        for (oracle, case, cause) in EXCEPTIONS {
            writeln!(f, "excepted: {oracle} of {}: {cause}", case.trim_end())?;
        }
        for count in &self.counts {
            write!(f, "{} {} of {}", count.oracle, count.matched, count.total())?;
            let excepted =
                if count.excepted > 0 { format!(", {} excepted", count.excepted) } else { String::new() };
            writeln!(f, "{excepted}")?;
        }
        Ok(())
    }
}

/// What a check of one accepted case gets: the engine's view, the case, and where to count.
pub type Oracle = fn(&Compiled, &Case, &mut Count);

/// The oracles over accepted policies.
const ACCEPTED: [(&str, Oracle); 9] = [
    ("filters", oracles::filters),
    ("decisions", oracles::decisions),
    ("peers", oracles::peers),
    ("allowed addresses", oracles::allowed),
    ("primary routes", oracles::primary_routes),
    ("node capabilities", oracles::node_capabilities),
    ("peer capabilities", oracles::peer_capabilities),
    ("pair capabilities", oracles::pair_capabilities),
    ("ssh rules", oracles::ssh_rules),
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
            // A fault of the service is no message; what counts is that the policy is refused.
            (500.., _) => verdicts.check(
                case.id.clone(),
                "refused".to_owned(),
                if compiled.is_err() { "refused".to_owned() } else { actual.clone() },
            ),
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
    let compiled = Compiled::with_roles(Arc::new(policy), &case.inventory(), &case.roles())
        .map_err(|error| error.to_string())?;
    let tests = compiled.run_tests().into_iter().map(|failure| failure.to_string());
    match tests.chain(compiled.run_ssh_tests()).next() {
        None => Ok(compiled),
        Some(failure) => Err(format!("test(s) failed: {failure}")),
    }
}
