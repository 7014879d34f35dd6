//! The frameworks that this program carries, read and checked: a file that contradicts itself or its rules is refused.

use std::collections::BTreeSet;

use crate::framework::{Assessment, Control, EvidenceQuery, Framework, ParamValue};
use crate::rules::{self, Rule};
use crate::text::Text;

/// The frameworks that this program carries, by name.
const BUILT_IN: [(&str, &str); 2] =
    [("nis2", include_str!("../frameworks/nis2.yaml")), ("dora", include_str!("../frameworks/dora.yaml"))];

/// Why a framework cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FrameworkError {
    /// No such framework is built in.
    #[error("`{0}` is not a framework: choose nis2 or dora")]
    Unknown(String),
    /// Not YAML of the right shape.
    #[error("the framework file cannot be read: {0}")]
    Malformed(#[from] serde_norway::Error),
    /// A control that contradicts itself or its rule.
    #[error("control {control}: {problem}")]
    Control {
        /// Which control.
        control: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// The framework of this name.
pub fn named(name: &str) -> Result<Framework, FrameworkError> {
    let found = BUILT_IN.iter().find(|(id, _)| *id == name);
    let (_, yaml) = found.ok_or_else(|| FrameworkError::Unknown(name.to_owned()))?;
    parse(yaml)
}

/// The names of all frameworks.
pub fn names() -> impl Iterator<Item = &'static str> {
    BUILT_IN.iter().map(|(id, _)| *id)
}

/// Reads and checks a framework file.
pub fn parse(yaml: &str) -> Result<Framework, FrameworkError> {
    let framework: Framework = serde_norway::from_str(yaml)?;
    check(&framework)?;
    Ok(framework)
}

fn check(framework: &Framework) -> Result<(), FrameworkError> {
    let mut seen = BTreeSet::new();
    for control in &framework.controls {
        let fail = |problem| FrameworkError::Control { control: control.id.clone(), problem };
        if !seen.insert(&control.id) {
            return Err(fail("this id is used twice".to_owned()));
        }
        if !framework.chapters.iter().any(|chapter| chapter.id == control.chapter) {
            return Err(fail(format!("there is no chapter `{}`", control.chapter)));
        }
        check_control(control).map_err(fail)?;
    }
    Ok(())
}

fn check_control(control: &Control) -> Result<(), String> {
    let texts = [&control.title, &control.requirement, &control.cannot_evidence];
    if texts.into_iter().any(Text::is_partial) {
        return Err("title, requirement and cannot_evidence are needed in every language".to_owned());
    }
    if control.references.is_empty() {
        return Err("say where the requirement is written".to_owned());
    }
    control.assessment.as_ref().map_or(Ok(()), check_assessment)
}

fn check_assessment(assessment: &Assessment) -> Result<(), String> {
    let rule =
        rules::find(&assessment.rule).ok_or_else(|| format!("there is no rule `{}`", assessment.rule))?;
    let given: BTreeSet<&str> = assessment.params.keys().map(String::as_str).collect();
    let wanted: BTreeSet<&str> = rule.params.iter().copied().collect();
    if given != wanted {
        return Err(format!("rule `{}` takes the parameters {wanted:?}, not {given:?}", assessment.rule));
    }
    if let Some((name, _)) = assessment.params.iter().find(|(_, param)| param.basis.is_partial()) {
        return Err(format!("parameter `{name}` needs its basis in every language"));
    }
    check_query(&assessment.evidence, rule)?;
    check_groups(assessment)
}

fn check_groups(assessment: &Assessment) -> Result<(), String> {
    for param in assessment.params.values() {
        let ParamValue::Groups(groups) = &param.value else { continue };
        let kinds = groups.values().flatten();
        if let Some(kind) = kinds.into_iter().find(|kind| !assessment.evidence.period.contains(*kind)) {
            return Err(format!("the evidence query does not ask for `{kind}`, which a group names"));
        }
    }
    Ok(())
}

fn check_query(query: &EvidenceQuery, rule: &Rule) -> Result<(), String> {
    let asked = query.period.iter().chain(&query.history);
    if let Some(kind) = asked.clone().find(|kind| writ_schema::Event::known_version(kind).is_none()) {
        return Err(format!("there is no event kind `{kind}`"));
    }
    let missing = |wanted: &[&'static str], given: &BTreeSet<String>| {
        wanted.iter().find(|kind| !given.contains(**kind)).copied()
    };
    let lacks = missing(rule.period, &query.period).or_else(|| missing(rule.history, &query.history));
    match lacks {
        Some(kind) => Err(format!("the rule needs `{kind}`, which the evidence query does not ask for")),
        None => Ok(()),
    }
}
