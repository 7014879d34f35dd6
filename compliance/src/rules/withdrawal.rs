//! Rules about taking access away: what was withdrawn, why, and when the last agent confirmed it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use writ_schema::event::{AcknowledgedAction, NodeOwner, Side};
use writ_schema::{AuthorizationId, Seq, UserId};

use super::state;
use crate::case::{Case, Point, Weight};
use crate::entry::{Entry, Fact};
use crate::wording::{Arg, Phrase, Sentence};

/// One permission that was withdrawn, from its cause to the last acknowledgement.
#[derive(Debug, Clone, PartialEq)]
pub struct Withdrawal<'a> {
    /// The permission.
    pub authorization: &'a AuthorizationId,
    /// The record that brought it about.
    pub cause: Option<Seq>,
    /// The record of the withdrawal.
    pub revoked: Seq,
    /// When its cause was recorded.
    pub since: Timestamp,
    /// The acknowledgements so far, and when they came.
    pub acknowledged: BTreeMap<Side, (Seq, Timestamp)>,
}

impl Withdrawal<'_> {
    /// Seconds from the cause to the last acknowledgement, once both ends have given theirs.
    pub fn seconds(&self) -> Option<f64> {
        let last = self.acknowledged.values().map(|(_, time)| *time).max()?;
        (self.acknowledged.len() == 2).then(|| last.duration_since(self.since).as_secs_f64())
    }

    fn records(&self) -> impl Iterator<Item = Seq> {
        self.cause.into_iter().chain([self.revoked]).chain(self.acknowledged.values().map(|(seq, _)| *seq))
    }
}

/// The withdrawals among the entries. `cause` finds the record that a withdrawal names as its cause.
pub fn withdrawals<'a>(
    entries: impl Iterator<Item = &'a Entry>,
    cause: impl Fn(Seq) -> Option<&'a Entry>,
) -> Vec<Withdrawal<'a>> {
    let mut found: BTreeMap<Seq, Withdrawal<'a>> = BTreeMap::new();
    for entry in entries {
        match &entry.fact {
            Fact::Revoked { authorization } => {
                let since = entry.cause.and_then(&cause).map_or(entry.time, |before| before.time);
                let acknowledged = BTreeMap::new();
                let withdrawal =
                    Withdrawal { authorization, cause: entry.cause, revoked: entry.seq, since, acknowledged };
                found.insert(entry.seq, withdrawal);
            }
            Fact::Acknowledged { record, side, action: AcknowledgedAction::Withdrawn } => {
                if let Some(withdrawal) = found.get_mut(record) {
                    // The first word of an agent counts; a repeat says nothing new.
                    withdrawal.acknowledged.entry(*side).or_insert((entry.seq, entry.time));
                }
            }
            _ => {}
        }
    }
    found.into_values().collect()
}

fn of_case<'a>(case: &Case<'a>) -> Vec<Withdrawal<'a>> {
    withdrawals(case.within(), |seq| case.record(seq))
}

/// Whether withdrawn permissions were seen to end at both agents, and soon enough.
pub fn revocation_effect(case: &Case<'_>) -> Vec<Point> {
    let (limit, far) =
        (case.number("max_seconds") as f64, case.number("contradicted_after_minutes") as f64 * 60.0);
    let all = of_case(case);
    let (mut in_time, mut late, mut too_late, mut open) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut longest = 0.0_f64;
    for withdrawal in &all {
        let records = withdrawal.records();
        match withdrawal.seconds() {
            Some(seconds) => {
                longest = longest.max(seconds);
                match seconds {
                    seconds if seconds <= limit => in_time.push(records),
                    seconds if seconds <= far => late.push(records),
                    _ => too_late.push(records),
                }
            }
            None => open.push(records),
        }
    }
    let groups = [
        (Weight::Contradicts, Phrase::WithdrawnTooLate, too_late),
        (Weight::Concerns, Phrase::WithdrawnLate, late),
        (Weight::Concerns, Phrase::WithdrawnOpen, open),
        (Weight::Supports, Phrase::WithdrawnInTime, in_time),
    ];
    let mut points: Vec<Point> = groups
        .into_iter()
        .filter(|(_, _, group)| !group.is_empty())
        .map(|(weight, phrase, group)| {
            let sentence = Sentence::count(phrase, group.len()).with("limit", Arg::Span(limit));
            Point::new(weight, sentence.with("span", Arg::Span(longest)), group.into_iter().flatten())
        })
        .collect();
    points.extend(renewed_after(case, &all));
    points
}

/// A permission that lives on in a renewal was not withdrawn at all.
fn renewed_after(case: &Case<'_>, all: &[Withdrawal<'_>]) -> Option<Point> {
    let revoked: BTreeMap<&AuthorizationId, Seq> = all.iter().map(|w| (w.authorization, w.revoked)).collect();
    let renewals: Vec<(Seq, Seq)> = case
        .within()
        .filter_map(|entry| match &entry.fact {
            Fact::Authorized { renews: Some(before), .. } => {
                revoked.get(before).filter(|seq| **seq < entry.seq).map(|seq| (*seq, entry.seq))
            }
            _ => None,
        })
        .collect();
    let sentence = Sentence::count(Phrase::RenewedAfter, renewals.len());
    let records = renewals.iter().flat_map(|(revoked, renewal)| [*revoked, *renewal]);
    (!renewals.is_empty()).then(|| Point::new(Weight::Contradicts, sentence, records))
}

/// Whether the access of people who left ended soon enough: account, nodes and live connections.
pub fn leaver_effect(case: &Case<'_>) -> Vec<Point> {
    let all = of_case(case);
    let (mut points, mut in_time, mut longest) = (Vec::new(), Vec::new(), 0.0_f64);
    let mut leavers = 0;
    for entry in case.within() {
        let Fact::LeaverReceived { user } = &entry.fact else { continue };
        match one_leaver(case, &all, entry, user) {
            Leaver::InTime { seconds, records } => {
                leavers += 1;
                longest = longest.max(seconds);
                in_time.extend(records);
            }
            Leaver::Otherwise(otherwise) => points.extend(otherwise),
        }
    }
    if leavers > 0 {
        let sentence = Sentence::count(Phrase::LeaverInTime, leavers).with("span", Arg::Span(longest));
        points.push(Point::new(Weight::Supports, sentence, in_time));
    }
    points
}

/// How it went with one person who left.
enum Leaver {
    InTime { seconds: f64, records: Vec<Seq> },
    Otherwise(Vec<Point>),
}

fn one_leaver(case: &Case<'_>, all: &[Withdrawal<'_>], notice: &Entry, user: &UserId) -> Leaver {
    let limit = case.number("max_hours") as f64 * 3600.0;
    let far = case.number("contradicted_after_hours") as f64 * 3600.0;
    let waited = case.end().duration_since(notice.time).as_secs_f64();
    let overdue = if waited > far { Weight::Contradicts } else { Weight::Concerns };
    let say = |phrase| Sentence::of(phrase).with("user", Arg::Word(short(user.as_str())));
    let disabled = case
        .history()
        .find(|entry| entry.seq > notice.seq && entry.fact == Fact::UserDisabled { user: user.clone() });
    let Some(disabled) = disabled else {
        return Leaver::Otherwise(vec![Point::new(overdue, say(Phrase::LeaverNotDisabled), [notice.seq])]);
    };
    let chain = consequences(case, notice.seq, disabled.seq);
    let mut records: Vec<Seq> = chain.iter().copied().collect();
    let mut last = disabled.time;
    let mut open = Vec::new();
    for removed in case.history().filter(|entry| chain.contains(&entry.seq)) {
        last = last.max(removed.time);
    }
    for withdrawal in all.iter().filter(|w| w.cause.is_some_and(|cause| chain.contains(&cause))) {
        records.extend(withdrawal.records());
        match withdrawal.acknowledged.values().map(|(_, time)| *time).max() {
            Some(time) if withdrawal.acknowledged.len() == 2 => last = last.max(time),
            _ => open.push(withdrawal.revoked),
        }
    }
    let mut points = Vec::new();
    let active: Vec<Seq> = state::nodes(case.history())
        .into_values()
        .filter(|node| *node.owner == NodeOwner::User(user.clone()))
        .map(|node| node.joined)
        .collect();
    if !active.is_empty() {
        points.push(Point::new(
            overdue,
            say(Phrase::LeaverNodeActive).with("n", Arg::Count(active.len() as u64)),
            active,
        ));
    }
    if !open.is_empty() {
        points.push(Point::new(
            Weight::Concerns,
            say(Phrase::LeaverOpen).with("n", Arg::Count(open.len() as u64)),
            open,
        ));
    }
    let seconds = last.duration_since(notice.time).as_secs_f64();
    let late = match seconds {
        seconds if seconds <= limit && points.is_empty() => return Leaver::InTime { seconds, records },
        seconds if seconds <= limit => return Leaver::Otherwise(points),
        seconds if seconds <= far => (Weight::Concerns, Phrase::LeaverLate),
        _ => (Weight::Contradicts, Phrase::LeaverTooLate),
    };
    points.push(Point::new(late.0, say(late.1).with("span", Arg::Span(seconds)), records));
    Leaver::Otherwise(points)
}

/// The notice, the disabling, and what names either as its cause.
fn consequences(case: &Case<'_>, notice: Seq, disabled: Seq) -> BTreeSet<Seq> {
    let mut chain = BTreeSet::from([notice, disabled]);
    for entry in case.history() {
        if entry.cause.is_some_and(|cause| chain.contains(&cause)) {
            chain.insert(entry.seq);
        }
    }
    chain
}

/// Enough of a pseudonym to find it in the log.
fn short(id: &str) -> String {
    match id.char_indices().nth(12) {
        Some((end, _)) => format!("{}\u{2026}", &id[..end]),
        None => id.to_owned(),
    }
}
