//! Runs every oracle on every case and counts.

use std::fmt;
use std::sync::Arc;

use writ_policy::{Compiled, Policy};

use super::capture::Case;
use super::oracles;

/// Why an answer that is not the engine's says nothing against it: the data contradicts itself.
pub const SPREADING: &str = "taken while the approval of a route was spreading: the viewer was told of it, and the router itself not yet";

/// Matches and mismatches of one oracle.
#[derive(Debug)]
pub struct Count {
    pub oracle: &'static str,
    pub matched: usize,
    /// Answers that are not compared: where, and the cause in the data.
    pub excepted: Vec<(String, &'static str)>,
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
    /// Cases whose answers fit another address than their policy names.
    pub renamed: Vec<String>,
}

impl Count {
    fn new(oracle: &'static str) -> Self {
        Self { oracle, matched: 0, excepted: Vec::new(), mismatches: Vec::new() }
    }

    /// Counts one answer.
    pub fn check(&mut self, place: String, expected: String, actual: String) {
        if expected == actual {
            self.matched += 1;
        } else {
            self.mismatches.push(Mismatch { place, expected, actual });
        }
    }

    /// Counts one answer that the data itself contradicts if it is not the engine's.
    pub fn check_unless(
        &mut self,
        cause: Option<&'static str>,
        place: String,
        expected: String,
        actual: String,
    ) {
        match cause {
            Some(cause) if expected != actual => self.excepted.push((place, cause)),
            _ => self.check(place, expected, actual),
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

    fn add(&mut self, other: Self) {
        self.matched += other.matched;
        self.excepted.extend(other.excepted);
        self.mismatches.extend(other.mismatches);
    }

    pub fn total(&self) -> usize {
        self.matched + self.mismatches.len()
    }
}

impl Report {
    pub fn is_clean(&self) -> bool {
        is_clean(&self.counts)
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
            for (place, cause) in &count.excepted {
                writeln!(f, "excepted: {} {place}: {cause}", count.oracle)?;
            }
        }
        for note in &self.renamed {
            writeln!(f, "renamed: {note}")?;
        }
        for count in &self.counts {
            write!(f, "{} {} of {}", count.oracle, count.matched, count.total())?;
            match count.excepted.len() {
                0 => writeln!(f)?,
                excepted => writeln!(f, ", {excepted} excepted")?,
            }
        }
        Ok(())
    }
}

/// What a check of one accepted case gets: the engine's view, the case, and where to count.
pub type Oracle = fn(&Compiled, &Case, &mut Count);

/// The oracle over what is accepted at all.
const REFUSALS: &str = "refusals";

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

/// Runs every oracle on every case. A case whose answers fit once an address of its policy is the one that a node of
/// the capture has was not wholly renamed when it was made public, and is counted as that.
pub fn run(cases: &[Case]) -> Report {
    let mut report = Report { counts: counts(), renamed: Vec::new() };
    for case in cases {
        let mut found = run_case(case);
        if !is_clean(&found)
            && let Some((renamed, note)) = renamed(case)
        {
            found = renamed;
            report.renamed.push(note);
        }
        report.counts.iter_mut().zip(found).for_each(|(all, one)| all.add(one));
    }
    report
}

fn counts() -> Vec<Count> {
    let oracles = ACCEPTED.iter().map(|(name, _)| *name).chain([REFUSALS]);
    oracles.map(Count::new).collect()
}

fn is_clean(counts: &[Count]) -> bool {
    counts.iter().all(|count| count.mismatches.is_empty())
}

/// Most replacements that are tried for one case.
const MAX_RENAMED: usize = 64;

fn renamed(case: &Case) -> Option<(Vec<Count>, String)> {
    let nodes = case.nodes.iter().flat_map(|(name, node)| [(name, node.ipv4), (name, node.ipv6)]);
    let strays = case.stray_addresses();
    let pairs = strays.iter().flat_map(|stray| nodes.clone().map(move |node| (*stray, node)));
    let pairs = pairs.filter(|(stray, (_, own))| stray.is_ipv4() == own.is_ipv4());
    pairs.take(MAX_RENAMED).find_map(|(stray, (name, own))| {
        let found = run_case(&case.with_address(stray, own));
        let note =
            format!("{}: its policy names {stray}, by which {name} went before it was renamed", case.id);
        is_clean(&found).then_some((found, note))
    })
}

fn run_case(case: &Case) -> Vec<Count> {
    let mut counts = counts();
    let Some((verdicts, accepted)) = counts.split_last_mut() else { return counts };
    let compiled = compile(case);
    let actual = match &compiled {
        Ok(_) => "accepted".to_owned(),
        Err(message) => message.clone(),
    };
    match (case.http, &case.error) {
        (200, _) => verdicts.check(case.id.clone(), "accepted".to_owned(), actual.clone()),
        // A fault of the service is no message; what counts is that the policy is refused.
        (500.., _) => {
            let actual = if compiled.is_err() { "refused".to_owned() } else { actual.clone() };
            verdicts.check(case.id.clone(), "refused".to_owned(), actual);
        }
        (_, error) => {
            let expected = error.clone().unwrap_or_default();
            let is_said = compiled.is_err() && actual.contains(&expected);
            let actual = if is_said { expected.clone() } else { actual.clone() };
            verdicts.check(case.id.clone(), expected, actual);
        }
    }
    match (case.http, &compiled) {
        (200, Ok(compiled)) => {
            for ((_, oracle), count) in ACCEPTED.iter().zip(accepted) {
                oracle(compiled, case, count);
            }
        }
        (200, Err(message)) => {
            for count in accepted {
                for name in case.expect.keys() {
                    let place = format!("{} {name}", case.id);
                    count.check(place, "an answer".to_owned(), format!("refused: {message}"));
                }
            }
        }
        _ => {}
    }
    counts
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
