//! The pictures: numbers from the records, drawn by the chart module.

use std::collections::BTreeMap;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

use super::{ControlSection, Figure};
use crate::chart::{Day, DayLabels, Tile, WaitLabels, Waits, days, statuses, waits};
use crate::entry::{Entry, Fact};
use crate::evidence::Snapshot;
use crate::framework::{Framework, ParamValue};
use crate::rules::withdrawals;
use crate::status::Status;
use crate::wording::{Arg, Phrase, Sentence, Wording};

/// Periods of more days are drawn by weeks.
const MAX_DAYS: usize = 62;
/// Rows of a table before it stops; the whole is in the records.
const MAX_ROWS: usize = 400;

/// Every picture of a report.
pub(super) fn figures(
    framework: &Framework,
    snapshot: &Snapshot,
    controls: &[&ControlSection],
    words: &Wording,
) -> Vec<Figure> {
    vec![by_status(controls, words), by_day(snapshot, words), by_wait(framework, snapshot, words)]
}

pub(super) fn status_name(status: Status, words: &Wording) -> String {
    words.phrase(match status {
        Status::Contradicted => Phrase::StatusContradicted,
        Status::Attention => Phrase::StatusAttention,
        Status::Supported => Phrase::StatusSupported,
        Status::NoData => Phrase::StatusNoData,
        Status::NotAssessable => Phrase::StatusNotAssessable,
    })
}

fn by_status(controls: &[&ControlSection], words: &Wording) -> Figure {
    let tiles: Vec<Tile> =
        controls.iter().map(|c| Tile { number: c.number.clone(), status: c.status }).collect();
    let title = words.phrase(Phrase::ChartStatuses);
    let rows: Vec<Vec<String>> = Status::ALL
        .into_iter()
        .map(|status| {
            let numbers: Vec<&str> =
                controls.iter().filter(|c| c.status == status).map(|c| c.number.as_str()).collect();
            vec![status_name(status, words), numbers.len().to_string(), numbers.join("; ")]
        })
        .collect();
    let alt = describe(&title, rows.iter().map(|row| row.join(" ")));
    Figure {
        id: "statuses",
        note: words.phrase(Phrase::ChartStatusesNote),
        svg: Some(statuses(&tiles, &alt, |status| status_name(status, words))),
        title,
        alt,
        columns: vec![
            words.phrase(Phrase::ColumnStatus),
            "n".to_owned(),
            words.phrase(Phrase::ColumnControls),
        ],
        rows,
    }
}

fn by_day(snapshot: &Snapshot, words: &Wording) -> Figure {
    let (buckets, weekly) = decisions(snapshot);
    let title = words.phrase(if weekly { Phrase::ChartWeeks } else { Phrase::ChartDays });
    let (authorized, denied) = (words.phrase(Phrase::ChartAuthorized), words.phrase(Phrase::ChartDenied));
    let sum = |count: fn(&Day) -> u64| buckets.iter().map(count).fold(0_u64, u64::saturating_add);
    let (all, refused) = (sum(|day| day.authorized), sum(|day| day.denied));
    let alt = describe(&title, [format!("{authorized} {all}"), format!("{denied} {refused}")].into_iter());
    let drawn = all > 0 || refused > 0;
    let labels = DayLabels { alt: &alt, authorized: &authorized, denied: &denied };
    Figure {
        id: "decisions",
        note: words.phrase(if drawn { Phrase::ChartDaysNote } else { Phrase::ChartDaysNone }),
        svg: drawn.then(|| days(&buckets, &labels)),
        rows: buckets
            .iter()
            .filter(|day| day.authorized > 0 || day.denied > 0)
            .take(MAX_ROWS)
            .map(|day| vec![day.date.clone(), day.authorized.to_string(), day.denied.to_string()])
            .collect(),
        columns: vec![words.phrase(Phrase::ColumnDate), authorized.clone(), denied.clone()],
        title,
        alt,
    }
}

/// Decisions by day, or by week for a long period; every day of the period has its place, also the quiet ones.
fn decisions(snapshot: &Snapshot) -> (Vec<Day>, bool) {
    let period = snapshot.scope.period;
    let date = |time: Timestamp| time.to_zoned(TimeZone::UTC).date();
    let (from, until) = (date(period.from), date(period.to));
    let mut counts: BTreeMap<Date, (u64, u64)> = BTreeMap::new();
    for entry in snapshot.entries.iter().filter(|entry| period.contains(entry.time)) {
        let slot = |counts: &mut BTreeMap<Date, (u64, u64)>, add: (u64, u64)| {
            let (authorized, denied) = counts.entry(date(entry.time)).or_default();
            *authorized = authorized.saturating_add(add.0);
            *denied = denied.saturating_add(add.1);
        };
        match entry.fact {
            Fact::Authorized { .. } => slot(&mut counts, (1, 0)),
            Fact::Denied { count, .. } => slot(&mut counts, (0, u64::from(count))),
            _ => {}
        }
    }
    let weekly = from.series(Span::new().days(1)).take_while(|day| *day < until).nth(MAX_DAYS).is_some();
    let step = if weekly { 7 } else { 1 };
    let mut starts: Vec<Date> =
        from.series(Span::new().days(step)).take_while(|day| *day < until || *day == from).collect();
    // The period's last day counts too if it ends within it.
    if !weekly && counts.contains_key(&until) && until != from {
        starts.push(until);
    }
    let ends = starts.iter().skip(1).copied().chain([Date::MAX]);
    let days = starts.iter().zip(ends).map(|(start, end)| {
        let (authorized, denied) = counts
            .range(*start..end)
            .fold((0_u64, 0_u64), |sum, (_, (a, d))| (sum.0.saturating_add(*a), sum.1.saturating_add(*d)));
        Day { date: start.to_string(), authorized, denied }
    });
    (days.collect(), weekly)
}

fn by_wait(framework: &Framework, snapshot: &Snapshot, words: &Wording) -> Figure {
    let period = snapshot.scope.period;
    let within = snapshot.entries.iter().filter(|entry| period.contains(entry.time));
    let find = |seq| -> Option<&Entry> {
        let index = snapshot.entries.binary_search_by_key(&seq, |entry| entry.seq).ok()?;
        snapshot.entries.get(index)
    };
    let all = withdrawals(within, find);
    let seconds: Vec<f64> = all.iter().filter_map(|w| w.seconds()).collect();
    let limit = limit_of(framework);
    let drawn = Waits { open: all.len() - seconds.len(), seconds, limit };
    let title = words.phrase(Phrase::ChartWaits);
    let open = words.phrase(Phrase::ChartOpen);
    let limit_text = Sentence::of(Phrase::ChartLimit).with("span", Arg::Span(limit.unwrap_or(0.0)));
    let took = |seconds: Option<f64>| seconds.map_or_else(|| open.clone(), |s| words.span(s));
    let rows: Vec<Vec<String>> =
        all.iter().take(MAX_ROWS).map(|w| vec![w.revoked.to_string(), took(w.seconds())]).collect();
    let alt = describe(&title, rows.iter().take(12).map(|row| row.join(": ")));
    let labels = WaitLabels { alt: &alt, limit: &words.sentence(&limit_text), open: &open };
    Figure {
        id: "withdrawals",
        note: words.phrase(if all.is_empty() { Phrase::ChartWaitsNone } else { Phrase::ChartWaitsNote }),
        svg: (!all.is_empty()).then(|| waits(&drawn, &labels)),
        columns: vec![words.phrase(Phrase::ColumnWithdrawal), words.phrase(Phrase::ColumnTook)],
        rows,
        title,
        alt,
    }
}

fn limit_of(framework: &Framework) -> Option<f64> {
    let mut assessments = framework.controls.iter().filter_map(|control| control.assessment.as_ref());
    let assessment = assessments.find(|assessment| assessment.rule == "revocation_effect")?;
    match assessment.params.get("max_seconds")?.value {
        ParamValue::Number(seconds) => Some(seconds as f64),
        ParamValue::Flag(_) | ParamValue::Groups(_) => None,
    }
}

fn describe(title: &str, facts: impl Iterator<Item = String>) -> String {
    let facts: Vec<String> = facts.collect();
    format!("{title}: {}", facts.join("; "))
}
