//! Rules about what is let in: devices into the network, connections for a time.

use std::collections::BTreeMap;

use jiff::Timestamp;
use writ_schema::{EnrolmentKeyId, Seq};

use crate::case::{Case, Point, Weight};
use crate::entry::{Entry, Fact};
use crate::wording::{Arg, Phrase, Sentence};

struct Key {
    created: Seq,
    max_uses: u32,
    expires_at: Timestamp,
    revoked: bool,
    uses: u32,
}

impl Key {
    fn admits(&self, at: Timestamp) -> bool {
        !self.revoked && at < self.expires_at && self.uses < self.max_uses
    }
}

/// Whether every node joined with an enrolment key that was good at that moment.
pub fn device_admission(case: &Case<'_>) -> Vec<Point> {
    let mut keys: BTreeMap<&EnrolmentKeyId, Key> = BTreeMap::new();
    let (mut admitted, mut unfounded, mut for_many) = (Vec::new(), Vec::new(), Vec::new());
    for entry in case.history() {
        let in_period = case.period().contains(entry.time);
        match &entry.fact {
            Fact::EnrolKeyCreated { key, max_uses, expires_at } => {
                let (max_uses, expires_at) = (*max_uses, *expires_at);
                keys.insert(key, Key { created: entry.seq, max_uses, expires_at, revoked: false, uses: 0 });
                if in_period && max_uses > 1 {
                    for_many.push(entry.seq);
                }
            }
            Fact::EnrolKeyRevoked { key } => {
                if let Some(key) = keys.get_mut(key) {
                    key.revoked = true;
                }
            }
            Fact::NodeJoined { key, .. } => {
                let good = keys.get_mut(key).is_some_and(|key| use_key(key, entry, in_period, &mut admitted));
                if in_period && !good {
                    unfounded.push(entry.seq);
                }
            }
            _ => {}
        }
    }
    admission_points(case, admitted, unfounded, for_many)
}

fn use_key(key: &mut Key, join: &Entry, in_period: bool, admitted: &mut Vec<(Seq, Seq)>) -> bool {
    let good = key.admits(join.time);
    key.uses = key.uses.saturating_add(1);
    if good && in_period {
        admitted.push((key.created, join.seq));
    }
    good
}

fn admission_points(
    case: &Case<'_>,
    admitted: Vec<(Seq, Seq)>,
    unfounded: Vec<Seq>,
    for_many: Vec<Seq>,
) -> Vec<Point> {
    let refused: Vec<(Seq, u32)> = case
        .within()
        .filter_map(|entry| match entry.fact {
            Fact::JoinRefused { count } => Some((entry.seq, count)),
            _ => None,
        })
        .collect();
    let mut points = Vec::new();
    if !unfounded.is_empty() {
        let sentence = Sentence::count(Phrase::JoinsWithoutKey, unfounded.len());
        points.push(Point::new(Weight::Contradicts, sentence, unfounded));
    }
    if !for_many.is_empty() {
        points.push(Point::new(
            Weight::Concerns,
            Sentence::count(Phrase::KeysForMany, for_many.len()),
            for_many,
        ));
    }
    if !admitted.is_empty() {
        let sentence = Sentence::count(Phrase::JoinsWithKey, admitted.len());
        points.push(Point::new(
            Weight::Supports,
            sentence,
            admitted.into_iter().flat_map(|(key, join)| [key, join]),
        ));
    }
    if !refused.is_empty() {
        let attempts = refused.iter().fold(0_u64, |sum, (_, count)| sum.saturating_add(u64::from(*count)));
        let sentence = Sentence::of(Phrase::JoinsRefused).with("n", Arg::Count(attempts));
        points.push(Point::new(Weight::Supports, sentence, refused.into_iter().map(|(seq, _)| seq)));
    }
    points
}

/// Whether every authorization ends by itself soon enough.
pub fn bounded_authorizations(case: &Case<'_>) -> Vec<Point> {
    let limit = case.number("max_hours") as f64 * 3600.0;
    let (mut bounded, mut long) = (Vec::new(), Vec::new());
    let mut longest = 0.0_f64;
    for entry in case.within() {
        let Fact::Authorized { expires_at, .. } = &entry.fact else { continue };
        let seconds = expires_at.duration_since(entry.time).as_secs_f64();
        longest = longest.max(seconds);
        if seconds <= limit { bounded.push(entry.seq) } else { long.push(entry.seq) }
    }
    let mut points = Vec::new();
    for (weight, phrase, records) in
        [(Weight::Concerns, Phrase::BoundedLong, long), (Weight::Supports, Phrase::BoundedAll, bounded)]
    {
        if !records.is_empty() {
            let sentence = Sentence::count(phrase, records.len()).with("span", Arg::Span(longest));
            points.push(Point::new(weight, sentence.with("limit", Arg::Span(limit)), records));
        }
    }
    points
}
