//! Rules about the policy: how it is changed, and whether decisions follow it.

use std::collections::BTreeMap;

use writ_schema::{Actor, PolicyVersion, ProposalId, Seq};

use crate::case::{Case, Point, Weight};
use crate::entry::Fact;
use crate::wording::{Arg, Phrase, Sentence};

struct Proposal<'a> {
    seq: Seq,
    by: &'a Actor,
    tests_passed: u64,
}

/// Whether every change was proposed before, tested, and put in force by somebody else.
pub fn change_control(case: &Case<'_>) -> Vec<Point> {
    let alone = match case.flag("self_approval_contradicts") {
        true => Weight::Contradicts,
        false => Weight::Concerns,
    };
    let proposals: BTreeMap<&ProposalId, Proposal<'_>> = case
        .history()
        .filter_map(|entry| match &entry.fact {
            Fact::ChangeProposed { proposal, tests_passed } => {
                Some((proposal, Proposal { seq: entry.seq, by: &entry.actor, tests_passed: *tests_passed }))
            }
            _ => None,
        })
        .collect();
    let mut changes: BTreeMap<(Weight, Phrase), (Vec<String>, Vec<Seq>)> = BTreeMap::new();
    let mut note = |weight, phrase, version: &PolicyVersion, records: &[Seq]| {
        let (versions, all) = changes.entry((weight, phrase)).or_default();
        versions.push(version.to_string());
        all.extend_from_slice(records);
    };
    for entry in case.within() {
        let Fact::PolicyActivated { version, proposal } = &entry.fact else { continue };
        let Some(before) = proposals.get(proposal).filter(|before| before.seq < entry.seq) else {
            note(Weight::Contradicts, Phrase::ChangeUnproposed, version, &[entry.seq]);
            continue;
        };
        let records = [before.seq, entry.seq];
        match *before.by == entry.actor {
            true => note(alone, Phrase::ChangeAlone, version, &records),
            false => note(Weight::Supports, Phrase::ChangeIndependent, version, &records),
        }
        match before.tests_passed {
            0 => note(Weight::Concerns, Phrase::ChangeUntested, version, &records),
            _ => note(Weight::Supports, Phrase::ChangeTested, version, &records),
        }
    }
    changes
        .into_iter()
        .map(|((weight, phrase), (versions, records))| {
            let sentence = Sentence::count(phrase, versions.len());
            Point::new(weight, sentence.with("versions", Arg::Word(versions.join(", "))), records)
        })
        .collect()
}

/// Whether each authorization names a rule of the policy in force at that moment, and the default denies.
pub fn decisions_follow_policy(case: &Case<'_>) -> Vec<Point> {
    let activations: Vec<(Seq, u64)> = case
        .history()
        .filter_map(|entry| match &entry.fact {
            Fact::PolicyActivated { version, .. } => Some((entry.seq, version.0)),
            _ => None,
        })
        .collect();
    let in_force = |at: Seq| {
        let next = activations.partition_point(|(seq, _)| *seq < at);
        next.checked_sub(1).and_then(|index| activations.get(index)).map(|(_, version)| *version)
    };
    let (mut by_rule, mut stale, mut denied) = (Vec::new(), Vec::new(), Vec::new());
    let mut attempts = 0_u64;
    for entry in case.within() {
        match &entry.fact {
            Fact::Authorized { policy, has_rule, .. }
                if *has_rule && in_force(entry.seq) == Some(policy.0) =>
            {
                by_rule.push(entry.seq);
            }
            Fact::Authorized { .. } => stale.push(entry.seq),
            Fact::Denied { by_default: true, count } => {
                attempts = attempts.saturating_add(u64::from(*count));
                denied.push(entry.seq);
            }
            _ => {}
        }
    }
    if by_rule.is_empty() && stale.is_empty() && denied.is_empty() {
        return Vec::new();
    }
    let mut points = Vec::new();
    if !stale.is_empty() {
        points.push(Point::new(
            Weight::Contradicts,
            Sentence::count(Phrase::DecisionsStale, stale.len()),
            stale,
        ));
    }
    if !by_rule.is_empty() {
        points.push(Point::new(
            Weight::Supports,
            Sentence::count(Phrase::DecisionsByRule, by_rule.len()),
            by_rule,
        ));
    }
    points.push(match denied.is_empty() {
        true => Point::new(Weight::Concerns, Sentence::of(Phrase::DenialsNone), []),
        false => {
            let sentence = Sentence::of(Phrase::DenialsByDefault).with("n", Arg::Count(attempts));
            Point::new(Weight::Supports, sentence, denied)
        }
    });
    points
}
