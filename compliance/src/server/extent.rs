//! What a period of the log holds, by the server's own count, held against what it proves.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use writ_schema::Seq;

use crate::entry::Entry;
use crate::evidence::{Extent, Period};

/// The server's answer.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Claimed {
    first: Option<u64>,
    last: Option<u64>,
    counts: Vec<KindCount>,
    as_of: AsOf,
}

#[derive(Debug, Deserialize)]
struct KindCount {
    kind: String,
    count: u64,
}

#[derive(Debug, Deserialize)]
struct AsOf {
    seq: Option<u64>,
}

impl Claimed {
    /// The last record that the report may use. None if the log is empty.
    pub(super) fn last(&self) -> Option<u64> {
        self.last.or(self.as_of.seq)
    }

    /// Records that show where the period begins and ends: its own ends, and their neighbours outside.
    pub(super) fn ends(&self) -> BTreeSet<u64> {
        let (Some(first), Some(last)) = (self.first, self.last) else { return BTreeSet::new() };
        let before = first.checked_sub(1);
        let after = last.checked_add(1).filter(|after| self.as_of.seq.is_some_and(|newest| *after <= newest));
        [Some(first), Some(last), before, after].into_iter().flatten().collect()
    }

    /// Takes the claim over if the proven records bear it out: the ends lie in the period and their neighbours do not,
    /// and of every kind that was asked for, as many are proven as are claimed. Otherwise says what does not fit.
    pub(super) fn checked(
        self,
        period: Period,
        asked: &BTreeSet<String>,
        proven: &BTreeMap<Seq, Entry>,
    ) -> Result<Extent, String> {
        let range = self.first.zip(self.last);
        for seq in self.ends() {
            let entry = proven.get(&Seq(seq)).ok_or_else(|| format!("record {seq} was not proven"))?;
            let is_claimed = range.is_some_and(|(first, last)| (first..=last).contains(&seq));
            if is_claimed != period.contains(entry.time) {
                let time = entry.time;
                return Err(format!(
                    "record {seq} of {time} is not where the server says that the period ends"
                ));
            }
        }
        let counts: BTreeMap<String, u64> =
            self.counts.into_iter().map(|KindCount { kind, count }| (kind, count)).collect();
        for kind in asked {
            let within = proven.values().filter(|entry| entry.kind() == kind && period.contains(entry.time));
            let (found, claimed) = (within.count() as u64, counts.get(kind).copied().unwrap_or(0));
            if found != claimed {
                return Err(format!(
                    "the server counts {claimed} records `{kind}` in the period and proves {found}"
                ));
            }
        }
        Ok(Extent { range: range.map(|(first, last)| (Seq(first), Seq(last))), counts })
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use writ_schema::Actor;

    use super::*;
    use crate::entry::Fact;

    const PERIOD: Period = Period { from: Timestamp::constant(10, 0), to: Timestamp::constant(20, 0) };

    /// One record a second, every third of them a denial.
    fn proven() -> BTreeMap<Seq, Entry> {
        let entry = |seq: u64| {
            let time = Timestamp::from_second(seq as i64).unwrap();
            let kind = if seq.is_multiple_of(3) { "connection.denied" } else { "node.joined" };
            Entry { seq: Seq(seq), time, actor: Actor::System, cause: None, kind, fact: Fact::Other }
        };
        (0..30).map(|seq| (Seq(seq), entry(seq))).collect()
    }

    fn claimed(first: u64, last: u64, denied: u64) -> Claimed {
        let counts = [("connection.denied", denied), ("session.started", 2)];
        let counts = counts.map(|(kind, count)| KindCount { kind: kind.to_owned(), count }).into();
        Claimed { first: Some(first), last: Some(last), counts, as_of: AsOf { seq: Some(29) } }
    }

    fn checked(claim: Claimed, proven: &BTreeMap<Seq, Entry>) -> Result<Extent, String> {
        claim.checked(PERIOD, &["connection.denied".to_owned()].into(), proven)
    }

    #[test]
    fn counts_and_range_are_the_logs_and_not_those_of_the_fetched_kinds() {
        let extent = checked(claimed(10, 19, 3), &proven()).unwrap();
        assert_eq!(extent.range, Some((Seq(10), Seq(19))));
        assert_eq!(
            extent.counts.get("session.started"),
            Some(&2),
            "a kind that no control asks for counts too"
        );
    }

    #[test]
    fn a_range_that_is_too_short_or_too_long_is_found() {
        for (first, last) in [(11, 19), (9, 19), (10, 18), (10, 20)] {
            let problem = checked(claimed(first, last, 3), &proven()).unwrap_err();
            assert!(problem.contains("is not where"), "{first} to {last}: {problem}");
        }
    }

    #[test]
    fn a_record_that_is_counted_and_kept_back_is_found() {
        let mut proven = proven();
        proven.remove(&Seq(15));
        let problem = checked(claimed(10, 19, 3), &proven).unwrap_err();
        assert!(problem.contains("counts 3") && problem.contains("proves 2"), "{problem}");
        proven.remove(&Seq(9));
        assert!(checked(claimed(10, 19, 2), &proven).unwrap_err().contains("record 9 was not proven"));
    }
}
