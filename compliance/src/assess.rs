//! Judging a control: its rule's points, and the status that follows from them.

use crate::case::{Case, Point, Weight};
use crate::evidence::Snapshot;
use crate::framework::{Control, Framework};
use crate::rules;
use crate::status::Status;

/// The judgement of one control.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// The outcome.
    pub status: Status,
    /// Why, the most pressing first.
    pub points: Vec<Point>,
}

impl Finding {
    fn of(mut points: Vec<Point>) -> Self {
        points.sort_by_key(|point| point.weight);
        let status = match points.first().map(|point| point.weight) {
            Some(Weight::Contradicts) => Status::Contradicted,
            Some(Weight::Concerns) => Status::Attention,
            Some(Weight::Supports) => Status::Supported,
            Some(Weight::Informs) | None => Status::NoData,
        };
        Self { status, points }
    }
}

/// Judges one control. Without an assessment it cannot be judged.
pub fn assess(control: &Control, snapshot: &Snapshot) -> Finding {
    let judged = control.assessment.as_ref().and_then(|assessment| {
        let rule = rules::find(&assessment.rule)?;
        let case = Case {
            scope: &snapshot.scope,
            params: &assessment.params,
            query: &assessment.evidence,
            entries: &snapshot.entries,
        };
        Some(Finding::of((rule.judge)(&case)))
    });
    judged.unwrap_or(Finding { status: Status::NotAssessable, points: Vec::new() })
}

/// Judges every control of a framework, in its order.
pub fn assess_all<'a>(framework: &'a Framework, snapshot: &Snapshot) -> Vec<(&'a Control, Finding)> {
    framework.controls.iter().map(|control| (control, assess(control, snapshot))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use writ_schema::Seq;

    use crate::wording::{Phrase, Sentence};

    #[test]
    fn support_needs_a_record() {
        let point = |weight, records: &[u64]| {
            Point::new(weight, Sentence::of(Phrase::NothingRecorded), records.iter().map(|seq| Seq(*seq)))
        };
        assert_eq!(Finding::of(vec![point(Weight::Supports, &[])]).status, Status::NoData);
        assert_eq!(Finding::of(vec![point(Weight::Supports, &[4])]).status, Status::Supported);
        assert_eq!(Finding::of(vec![]).status, Status::NoData);
    }

    #[test]
    fn the_most_pressing_point_decides() {
        let point = |weight| Point::new(weight, Sentence::of(Phrase::NothingRecorded), [Seq(1)]);
        let mixed = vec![point(Weight::Supports), point(Weight::Contradicts), point(Weight::Concerns)];
        let finding = Finding::of(mixed);
        assert_eq!((finding.status, finding.points[0].weight), (Status::Contradicted, Weight::Contradicts));
        assert_eq!(
            Finding::of(vec![point(Weight::Supports), point(Weight::Concerns)]).status,
            Status::Attention
        );
    }
}
