//! Rules about the log itself: what is in it, whether it paused, whether it was altered.

use jiff::Timestamp;
use writ_schema::Seq;

use crate::case::{Case, Point, Weight};
use crate::entry::Fact;
use crate::evidence::{Check, Verification};
use crate::wording::{Arg, Phrase, Sentence};

/// Whether every family of events that should be recorded is seen to be.
pub fn recorded_kinds(case: &Case<'_>) -> Vec<Point> {
    let mut points = Vec::new();
    for (name, kinds) in case.groups("groups") {
        let records: Vec<Seq> =
            case.within().filter(|entry| kinds.contains(entry.kind())).map(|entry| entry.seq).collect();
        let group = Arg::Phrase(group_phrase(name));
        let (weight, phrase) = match records.is_empty() {
            true => (Weight::Concerns, Phrase::GroupEmpty),
            false => (Weight::Supports, Phrase::GroupRecorded),
        };
        points.push(Point::new(weight, Sentence::count(phrase, records.len()).with("group", group), records));
    }
    if points.iter().all(|point| point.records.is_empty()) {
        points.clear();
    }
    points
}

fn group_phrase(name: &str) -> Phrase {
    match name {
        "connections" => Phrase::GroupAccess,
        "traffic" => Phrase::GroupTraffic,
        "identities" => Phrase::GroupIdentities,
        "sign_ins" => Phrase::GroupSignIns,
        "administration" => Phrase::GroupAdministration,
        "configuration" => Phrase::GroupConfiguration,
        "devices" => Phrase::GroupDevices,
        "first_keys" => Phrase::GroupFirstKeys,
        _ => Phrase::GroupKeyChanges,
    }
}

/// Whether every pause of the log is itself recorded, and short.
pub fn log_pauses(case: &Case<'_>) -> Vec<Point> {
    let limit = case.number("max_pause_minutes") as f64 * 60.0;
    let mut points = Vec::new();
    let mut paused = Vec::new();
    let mut last_opened: Option<Seq> = None;
    let mut last_closed: Option<(Seq, Timestamp)> = None;
    for entry in case.history() {
        let in_period = case.period().contains(entry.time);
        match (&entry.fact, last_closed) {
            (Fact::LogOpened { .. }, Some((closed, since))) if in_period => {
                let seconds = entry.time.duration_since(since).as_secs_f64();
                paused.push(Pause { since, seconds, records: [closed, entry.seq] });
            }
            (Fact::LogOpened { clean }, None) => {
                if in_period && let Some(before) = last_opened {
                    // Only an ordered end may be called clean.
                    let (weight, phrase) = match clean {
                        true => (Weight::Contradicts, Phrase::LogUnclearEnd),
                        false => (Weight::Concerns, Phrase::LogForced),
                    };
                    points.push(Point::new(
                        weight,
                        Sentence::of(phrase).with("time", Arg::Time(entry.time)),
                        [before, entry.seq],
                    ));
                }
            }
            (Fact::LogClosed, Some((closed, _))) if in_period => {
                let sentence = Sentence::of(Phrase::LogUnclearEnd).with("time", Arg::Time(entry.time));
                points.push(Point::new(Weight::Contradicts, sentence, [closed, entry.seq]));
            }
            _ => {}
        }
        match entry.fact {
            Fact::LogOpened { .. } => (last_opened, last_closed) = (Some(entry.seq), None),
            Fact::LogClosed => last_closed = Some((entry.seq, entry.time)),
            _ => {}
        }
    }
    points.extend(pauses(limit, paused));
    points.extend(state_at_end(case, last_opened, last_closed));
    points
}

/// One point for all short pauses, one for each long one.
fn pauses(limit: f64, all: Vec<Pause>) -> Vec<Point> {
    let (short, long): (Vec<Pause>, Vec<Pause>) = all.into_iter().partition(|pause| pause.seconds <= limit);
    let mut points: Vec<Point> = long
        .into_iter()
        .map(|pause| {
            let sentence = Sentence::of(Phrase::LogPausedLong).with("time", Arg::Time(pause.since));
            Point::new(Weight::Concerns, sentence.with("span", Arg::Span(pause.seconds)), pause.records)
        })
        .collect();
    let longest = short.iter().map(|pause| pause.seconds).fold(0.0, f64::max);
    if !short.is_empty() {
        let sentence = Sentence::count(Phrase::LogPaused, short.len()).with("span", Arg::Span(longest));
        points.push(Point::new(
            Weight::Supports,
            sentence,
            short.into_iter().flat_map(|pause| pause.records),
        ));
    }
    points
}

struct Pause {
    since: Timestamp,
    seconds: f64,
    records: [Seq; 2],
}

fn state_at_end(case: &Case<'_>, opened: Option<Seq>, closed: Option<(Seq, Timestamp)>) -> Option<Point> {
    if let Some((seq, since)) = closed {
        let sentence = Sentence::of(Phrase::LogStillClosed).with("time", Arg::Time(since));
        return Some(Point::new(Weight::Concerns, sentence, [seq]));
    }
    let running = Sentence::of(Phrase::LogRunning);
    // Running in a period without a single record says nothing about that period.
    case.scope.extent.range.and(opened).map(|seq| Point::new(Weight::Supports, running, [seq]))
}

/// Whether the log was shown to be whole and unaltered while it was read.
pub fn log_integrity(case: &Case<'_>) -> Vec<Point> {
    let Some((first, last)) = case.scope.extent.range else { return Vec::new() };
    let Verification { signature, consistency, proven, failed, witnesses } = &case.scope.verification;
    let ends = [first, last];
    let verdict = |check: &Check, holds, fails, unchecked| match check {
        Check::Passed => Point::new(Weight::Supports, Sentence::of(holds), ends),
        Check::Failed => Point::new(Weight::Contradicts, Sentence::of(fails), ends),
        Check::NotDone => Point::new(Weight::Concerns, Sentence::of(unchecked), ends),
    };
    if *signature == Check::NotDone && proven.is_empty() && failed.is_empty() {
        return vec![Point::new(Weight::Informs, Sentence::of(Phrase::NotVerified), [])];
    }
    let mut points = vec![
        verdict(signature, Phrase::SignatureHolds, Phrase::SignatureFails, Phrase::SignatureUnchecked),
        verdict(
            consistency,
            Phrase::ConsistencyHolds,
            Phrase::ConsistencyFails,
            Phrase::ConsistencyUnchecked,
        ),
        Point::new(
            Weight::Supports,
            Sentence::count(Phrase::ProofsHold, proven.len()),
            proven.iter().copied(),
        ),
    ];
    if !failed.is_empty() {
        let sentence = Sentence::count(Phrase::ProofsFail, failed.len());
        points.push(Point::new(Weight::Contradicts, sentence, failed.iter().copied()));
    }
    let (weight, phrase) = match *witnesses >= case.number("min_witnesses") {
        true => (Weight::Supports, Phrase::WitnessesEnough),
        false => (Weight::Concerns, Phrase::WitnessesFew),
    };
    points.push(Point::new(weight, Sentence::of(phrase).with("n", Arg::Count(*witnesses)), ends));
    points.extend(objections(case));
    points.push(numbering(case, first, last));
    points
}

/// Endpoints verify what they are told. What they rejected was altered on its way, or the log was.
fn objections(case: &Case<'_>) -> Option<Point> {
    let (mut times, mut records) = (0_u64, Vec::new());
    for entry in case.within() {
        if let Fact::FrameRejected { count } = entry.fact {
            times = times.saturating_add(count.into());
            records.push(entry.seq);
        }
    }
    let sentence = Sentence::of(Phrase::EndpointsObject).with("n", Arg::Count(times));
    (times > 0).then(|| Point::new(Weight::Concerns, sentence, records))
}

/// Numbers run without a gap, so the counts by kind have to add up to the length of the range.
fn numbering(case: &Case<'_>, first: Seq, last: Seq) -> Point {
    let expected = last.0.saturating_sub(first.0).saturating_add(1);
    let counted: u64 = case.scope.extent.counts.values().fold(0, |sum, n| sum.saturating_add(*n));
    let (weight, phrase) = match counted == expected {
        true => (Weight::Supports, Phrase::NumbersComplete),
        false => (Weight::Contradicts, Phrase::NumbersMissing),
    };
    let sentence = Sentence::of(phrase).with("n", Arg::Count(counted)).with("expected", Arg::Count(expected));
    Point::new(weight, sentence, [first, last])
}
