use writ_compliance::catalogue;
use writ_compliance::status::Status;
use writ_compliance::text::Lang;

use crate::scene::{Scene, month};

#[test]
fn every_framework_is_valid_and_ids_are_unique_among_all() {
    let mut ids = Vec::new();
    for name in catalogue::names() {
        let framework = catalogue::named(name).unwrap();
        assert_eq!(framework.id, name);
        assert!(framework.controls.iter().filter(|control| control.assessment.is_some()).count() >= 12);
        assert!(
            framework.controls.iter().any(|control| control.assessment.is_none()),
            "the gap must be shown"
        );
        ids.extend(framework.controls.into_iter().map(|control| control.id));
    }
    let all = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), all);
}

#[test]
fn a_framework_that_contradicts_itself_is_refused() {
    let yaml = include_str!("../../frameworks/nis2.yaml");
    let cases = [
        ("rule: key_age", "rule: key_fage", "no rule"),
        ("max_age_days:", "max_age_weeks:", "takes the parameters"),
        ("chapter: access", "chapter: nowhere", "no chapter"),
        ("id: nis2.3.2.4\n", "id: nis2.3.2.3\n", "used twice"),
        ("period: [node.joined, key.rotated]", "period: [node.joined]", "does not ask for `key.rotated`"),
        ("history: [log.opened, log.closed]", "history: [log.opened]", "needs `log.closed`"),
        ("[log.opened, log.closed]", "[log.opened, log.closed, log.lost]", "no event kind `log.lost`"),
        ("cannot_evidence:", "cannot_show:", "unknown field"),
        ("source: guidance", "source: hearsay", "hearsay"),
    ];
    for (from, to, message) in cases {
        assert!(yaml.contains(from), "{from}");
        let error = catalogue::parse(&yaml.replace(from, to)).unwrap_err().to_string();
        assert!(error.contains(message), "{to}: {error}");
    }
}

#[test]
fn texts_are_there_in_both_languages_and_differ() {
    for framework in catalogue::names().map(|name| catalogue::named(name).unwrap()) {
        for control in &framework.controls {
            assert_ne!(
                control.cannot_evidence.get(Lang::En),
                control.cannot_evidence.get(Lang::De),
                "{}",
                control.id
            );
        }
    }
}

#[test]
fn an_empty_log_supports_nothing() {
    for framework in catalogue::names().map(|name| catalogue::named(name).unwrap()) {
        let snapshot = Scene::default().snapshot(&framework);
        for (control, finding) in writ_compliance::assess::assess_all(&framework, &snapshot) {
            let expected = if control.assessment.is_some() { Status::NoData } else { Status::NotAssessable };
            assert_eq!(finding.status, expected, "{}", control.id);
        }
    }
}

#[test]
fn every_supported_control_names_records_that_exist() {
    for framework in catalogue::names().map(|name| catalogue::named(name).unwrap()) {
        let snapshot = writ_compliance::evidence::gather(&month(), &framework).unwrap();
        let (_, last) = snapshot.scope.extent.range.unwrap();
        for (control, finding) in writ_compliance::assess::assess_all(&framework, &snapshot) {
            let cited: Vec<_> = finding.points.iter().flat_map(|point| &point.records).collect();
            assert!(cited.iter().all(|seq| **seq <= last), "{}", control.id);
            if finding.status == Status::Supported {
                assert!(!cited.is_empty(), "{}", control.id);
            }
        }
    }
}
