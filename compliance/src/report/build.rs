//! From findings to a report: everything in words, in the order of reading.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::figures::{self, status_name};
use super::numbers::shortened;
use super::{ChapterSection, ControlSection, Field, ParamLine, PointLine, Report, Stamp, StatusLine};
use crate::assess::{Finding, assess_all};
use crate::case::Point;
use crate::evidence::{Scope, Snapshot};
use crate::framework::{Control, Framework, Param, ParamSource, ParamValue};
use crate::status::Status;
use crate::wording::{Arg, Phrase, Sentence, Wording, group_digits};

/// Groups of record numbers that a statement prints; the JSON beside the report has all.
const MAX_GROUPS: usize = 16;
/// Statements that a page prints for one control, so that a control fits on a page.
const MAX_POINTS: usize = 12;

/// Assesses the snapshot and puts the result into words.
pub fn build(framework: &Framework, snapshot: &Snapshot, words: &Wording) -> Report {
    let findings = assess_all(framework, snapshot);
    let chapters = chapters(framework, &findings, words);
    let controls: Vec<&ControlSection> = chapters.iter().flat_map(|chapter| &chapter.controls).collect();
    Report {
        lang: words.lang(),
        framework: framework.id.clone(),
        framework_version: framework.version.clone(),
        labels: Phrase::ALL.iter().map(|phrase| (phrase.key(), words.phrase(*phrase))).collect(),
        subtitle: framework.title.get(words.lang()).to_owned(),
        scope: scope(framework, &snapshot.scope, words),
        about: about(framework, words),
        summary: summary(&controls, words),
        figures: figures::figures(framework, snapshot, &controls, words),
        date: stamp(snapshot.scope.as_of.unwrap_or(snapshot.scope.period.to)),
        chapters,
    }
}

fn scope(framework: &Framework, scope: &Scope, words: &Wording) -> Vec<Field> {
    let field = |label, value, literal| Field { label: words.phrase(label), value, literal };
    let period = Sentence::of(Phrase::PeriodSpan)
        .with("from", Arg::Time(scope.period.from))
        .with("to", Arg::Time(scope.period.to));
    let range = match scope.extent.range {
        Some((first, last)) => {
            let n = last.0.saturating_sub(first.0).saturating_add(1);
            let sentence = Sentence::of(Phrase::LogRangeSpan).with("n", Arg::Count(n));
            let sentence = sentence.with("first", Arg::Word(group_digits(first.0)));
            words.sentence(&sentence.with("last", Arg::Word(group_digits(last.0))))
        }
        None => words.phrase(Phrase::LogRangeNone),
    };
    let version = Sentence::of(Phrase::FrameworkVersion)
        .with("title", Arg::Word(framework.title.get(words.lang()).to_owned()))
        .with("version", Arg::Word(framework.version.clone()));
    let mut fields = vec![
        field(Phrase::FrameworkLabel, words.sentence(&version), false),
        field(Phrase::Network, printable(&scope.network), true),
        field(Phrase::PeriodLabel, words.sentence(&period), false),
        field(Phrase::LogRange, range, false),
    ];
    if let Some(time) = scope.as_of {
        fields.push(field(Phrase::NewestRecord, words.time(time), false));
    }
    match &scope.checkpoint {
        Some(checkpoint) => {
            let size = Sentence::of(Phrase::CheckpointSize).with("size", Arg::Count(checkpoint.size));
            fields.push(field(Phrase::CheckpointLabel, words.sentence(&size), false));
            fields.push(field(Phrase::RootLabel, printable(&checkpoint.root), true));
            fields.push(field(Phrase::OriginLabel, printable(&checkpoint.origin), true));
        }
        None => fields.push(field(Phrase::CheckpointLabel, words.phrase(Phrase::CheckpointNone), false)),
    }
    fields
}

/// Text from outside in characters that every face can show; all others by their code.
fn printable(text: &str) -> String {
    let plain = |c: char| matches!(c, ' '..='~' | '\u{a0}'..='\u{17f}');
    text.chars().map(|c| if plain(c) { c.to_string() } else { c.escape_unicode().to_string() }).collect()
}

fn about(framework: &Framework, words: &Wording) -> Vec<Field> {
    let field =
        |label, text: &str| Field { label: words.phrase(label), value: text.to_owned(), literal: false };
    vec![
        field(Phrase::SourceLabel, framework.source.get(words.lang())),
        field(Phrase::ApplicabilityLabel, framework.applicability.get(words.lang())),
    ]
}

fn summary(controls: &[&ControlSection], words: &Wording) -> Vec<StatusLine> {
    let line = |status: Status| {
        let count = controls.iter().filter(|control| control.status == status).count();
        StatusLine {
            status,
            slug: status.slug(),
            name: status_name(status, words),
            means: words.phrase(meaning(status)),
            count,
            count_text: words.sentence(&Sentence::count(Phrase::SummaryCount, count)),
        }
    };
    Status::ALL.into_iter().map(line).collect()
}

fn meaning(status: Status) -> Phrase {
    match status {
        Status::Contradicted => Phrase::StatusContradictedMeans,
        Status::Attention => Phrase::StatusAttentionMeans,
        Status::Supported => Phrase::StatusSupportedMeans,
        Status::NoData => Phrase::StatusNoDataMeans,
        Status::NotAssessable => Phrase::StatusNotAssessableMeans,
    }
}

fn chapters(framework: &Framework, findings: &[(&Control, Finding)], words: &Wording) -> Vec<ChapterSection> {
    framework
        .chapters
        .iter()
        .map(|chapter| {
            let of_chapter = findings.iter().filter(|(control, _)| control.chapter == chapter.id);
            let controls: Vec<ControlSection> =
                of_chapter.map(|(control, finding)| section(control, finding, words)).collect();
            ChapterSection {
                title: chapter.title.get(words.lang()).to_owned(),
                outside: controls.iter().all(|control| control.status == Status::NotAssessable),
                controls,
            }
        })
        .collect()
}

fn section(control: &Control, finding: &Finding, words: &Wording) -> ControlSection {
    let lang = words.lang();
    let references = control.references.iter().map(|reference| reference.get(lang));
    let params = control.assessment.iter().flat_map(|assessment| &assessment.params);
    let point_line = |point: &Point| {
        let (shown, left) = shortened(&point.records, MAX_GROUPS);
        let more = words.sentence(&Sentence::count(Phrase::RecordsMore, left));
        PointLine {
            weight: point.weight.slug(),
            text: words.sentence(&point.sentence),
            records_text: if left == 0 { shown } else { format!("{shown} {more}") },
            records: point.records.clone(),
        }
    };
    let more = finding.points.len().checked_sub(MAX_POINTS).filter(|left| *left > 0);
    ControlSection {
        id: control.id.clone(),
        number: control.number.clone(),
        title: control.title.get(lang).to_owned(),
        status: finding.status,
        slug: finding.status.slug(),
        status_name: status_name(finding.status, words),
        requirement: control.requirement.get(lang).to_owned(),
        references: references.collect::<Vec<_>>().join(" · "),
        points: finding.points.iter().map(point_line).collect(),
        points_shown: finding.points.len().min(MAX_POINTS),
        points_more: more.map(|n| words.sentence(&Sentence::count(Phrase::PointsMore, n))),
        params: params.map(|(name, param)| param_line(name, param, words)).collect(),
        cannot_evidence: control.cannot_evidence.get(lang).to_owned(),
    }
}

fn param_line(name: &str, param: &Param, words: &Wording) -> ParamLine {
    let value = match &param.value {
        ParamValue::Number(number) => group_digits(*number),
        ParamValue::Flag(flag) => words.phrase(if *flag { Phrase::Yes } else { Phrase::No }),
        ParamValue::Groups(groups) => group_digits(groups.len() as u64),
    };
    let source = words.phrase(match param.source {
        ParamSource::Law => Phrase::SourceLaw,
        ParamSource::Guidance => Phrase::SourceGuidance,
        ParamSource::House => Phrase::SourceHouse,
    });
    ParamLine { name: name.to_owned(), value, source, basis: param.basis.get(words.lang()).to_owned() }
}

fn stamp(time: Timestamp) -> Stamp {
    let at = time.to_zoned(TimeZone::UTC);
    Stamp {
        year: at.year(),
        month: at.month(),
        day: at.day(),
        hour: at.hour(),
        minute: at.minute(),
        second: at.second(),
    }
}
