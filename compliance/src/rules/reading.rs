//! Rules about how the log is used: read, reported on, watched for refusals.

use std::collections::BTreeMap;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use writ_schema::Seq;

use crate::case::{Case, Point, Weight};
use crate::entry::{Entry, Fact};
use crate::wording::{Arg, Phrase, Sentence};

const DAY_SECONDS: f64 = 86_400.0;

/// Whether somebody reads the log at least as often as set.
pub fn log_review(case: &Case<'_>) -> Vec<Point> {
    let reads: Vec<&Entry> = case.within().filter(|entry| entry.kind() == "audit.query_executed").collect();
    let shown: Vec<Seq> = case
        .within()
        .filter(|entry| entry.kind() == "audit.deanonymise_executed")
        .map(|entry| entry.seq)
        .collect();
    let mut points = Vec::new();
    if !shown.is_empty() {
        points.push(Point::new(Weight::Informs, Sentence::count(Phrase::NamesShown, shown.len()), shown));
    }
    if reads.is_empty() {
        return points;
    }
    let moments =
        [case.period().from].into_iter().chain(reads.iter().map(|entry| entry.time)).chain([case.end()]);
    let moments: Vec<_> = moments.collect();
    let longest =
        moments.windows(2).map(|pair| pair[1].duration_since(pair[0]).as_secs_f64()).fold(0.0, f64::max);
    let (weight, phrase) = match longest <= case.number("max_interval_days") as f64 * DAY_SECONDS {
        true => (Weight::Supports, Phrase::ReviewsRegular),
        false => (Weight::Concerns, Phrase::ReviewsGap),
    };
    let sentence = Sentence::count(phrase, reads.len()).with("span", Arg::Span(longest));
    points.push(Point::new(weight, sentence, reads.iter().map(|entry| entry.seq)));
    points
}

/// Whether refusals are recorded, and whether they pile up.
pub fn refusals_recorded(case: &Case<'_>) -> Vec<Point> {
    let mut days: BTreeMap<Date, (u64, Vec<Seq>)> = BTreeMap::new();
    for entry in case.within() {
        let count = match entry.fact {
            Fact::Denied { count, .. }
            | Fact::LoginFailed { count }
            | Fact::JoinRefused { count }
            | Fact::ActDenied { count } => u64::from(count),
            _ => continue,
        };
        let (sum, records) = days.entry(entry.time.to_zoned(TimeZone::UTC).date()).or_default();
        *sum = sum.saturating_add(count);
        records.push(entry.seq);
    }
    let limit = case.number("max_per_day");
    let mut points: Vec<Point> = days
        .iter()
        .filter(|(_, (sum, _))| *sum > limit)
        .map(|(day, (sum, records))| {
            let sentence = Sentence::of(Phrase::RefusalsPile)
                .with("n", Arg::Count(*sum))
                .with("day", Arg::Word(day.to_string()));
            Point::new(Weight::Concerns, sentence, records.iter().copied())
        })
        .collect();
    let attempts = days.values().fold(0_u64, |sum, (n, _)| sum.saturating_add(*n));
    let records = days.into_values().flat_map(|(_, records)| records);
    let sentence = Sentence::of(Phrase::RefusalsFound).with("n", Arg::Count(attempts));
    if attempts > 0 {
        points.push(Point::new(Weight::Supports, sentence, records));
    }
    points
}

/// Whether reports are made often enough. The report at hand is not among them: it is recorded when it is done.
pub fn report_cycle(case: &Case<'_>) -> Vec<Point> {
    let Some(newest) = case.history().filter(|entry| entry.fact == Fact::ReportGenerated).last() else {
        return Vec::new();
    };
    let age = case.end().duration_since(newest.time).as_secs_f64();
    let (weight, phrase) = match age <= case.number("max_interval_days") as f64 * DAY_SECONDS {
        true => (Weight::Supports, Phrase::ReportRecent),
        false => (Weight::Concerns, Phrase::ReportOld),
    };
    let sentence = Sentence::of(phrase).with("time", Arg::Time(newest.time));
    vec![Point::new(weight, sentence, [newest.seq])]
}
