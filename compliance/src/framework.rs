//! Frameworks: the controls of a law as data.
//!
//! A framework file says what is required in our own words, which records the assessment asks for, which rule
//! judges them and what the answer cannot show. Changing what a report says is a change of data under review.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::rules;
use crate::text::{Lang, Text};

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

/// A law and its controls.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Framework {
    /// Short name, as on the command line.
    pub id: String,
    /// Grows with every change of a control, parameter or wording.
    pub version: String,
    /// Name of the law.
    pub title: Text,
    /// Which texts the controls paraphrase.
    pub source: Text,
    /// Whom it binds, and how to read a benchmark.
    pub applicability: Text,
    /// The chapters, in the order of the report.
    pub chapters: Vec<Chapter>,
    /// The controls, in the order of the report.
    pub controls: Vec<Control>,
}

/// A heading that groups controls.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chapter {
    /// Name that controls refer to.
    pub id: String,
    /// The heading.
    pub title: Text,
}

/// One requirement and how the log can speak to it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Control {
    /// Unique within all frameworks.
    pub id: String,
    /// The short number by which the law's readers know it.
    pub number: String,
    /// The chapter it belongs to.
    pub chapter: String,
    /// Its name.
    pub title: Text,
    /// What is required, in our own words.
    pub requirement: Text,
    /// Where it is written.
    pub references: Vec<Reference>,
    /// How it is assessed. Absent where the log cannot speak to it.
    #[serde(default)]
    pub assessment: Option<Assessment>,
    /// What an assessment leaves open; for a control that cannot be assessed, why.
    pub cannot_evidence: Text,
}

/// A passage of a law: written the same in every language, or in each its own way.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Reference {
    /// The same in every language.
    Same(String),
    /// Each language's own.
    Each(Text),
}

impl Reference {
    /// The passage as a language writes it.
    pub fn get(&self, lang: Lang) -> &str {
        match self {
            Self::Same(text) => text,
            Self::Each(text) => text.get(lang),
        }
    }
}

/// Which records are asked for and what judges them.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assessment {
    /// The records asked for.
    pub evidence: EvidenceQuery,
    /// Name of the rule.
    pub rule: String,
    /// The rule's parameters.
    #[serde(default)]
    pub params: BTreeMap<String, Param>,
}

/// Kinds of records, within the period or from the log's beginning to the period's end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvidenceQuery {
    /// Kinds wanted within the period.
    #[serde(default)]
    pub period: BTreeSet<String>,
    /// Kinds wanted from the log's beginning, because the state at a moment follows from them.
    #[serde(default)]
    pub history: BTreeSet<String>,
}

/// A number or list that a rule compares with, and who says so.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Param {
    /// The value.
    pub value: ParamValue,
    /// Where it comes from.
    pub source: ParamSource,
    /// The passage, or the reason for a default of ours.
    pub basis: Text,
}

/// The value of a parameter.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum ParamValue {
    /// A number; its unit is in the parameter's name.
    Number(u64),
    /// Yes or no.
    Flag(bool),
    /// Named groups of event kinds.
    Groups(BTreeMap<String, BTreeSet<String>>),
}

/// Who sets a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ParamSource {
    /// The law itself. It may be tightened, never loosened.
    Law,
    /// Guidance of an authority.
    Guidance,
    /// A default of ours, to be replaced by the entity's own decision.
    House,
}

impl ParamSource {
    /// The name that stands in wording keys.
    pub fn slug(self) -> &'static str {
        match self {
            Self::Law => "law",
            Self::Guidance => "guidance",
            Self::House => "house",
        }
    }
}

impl Framework {
    /// The built-in framework of this name.
    pub fn named(name: &str) -> Result<Self, FrameworkError> {
        let found = BUILT_IN.iter().find(|(id, _)| *id == name);
        let (_, yaml) = found.ok_or_else(|| FrameworkError::Unknown(name.to_owned()))?;
        Self::parse(yaml)
    }

    /// The names of the built-in frameworks.
    pub fn names() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|(id, _)| *id)
    }

    /// Reads and checks a framework file.
    pub fn parse(yaml: &str) -> Result<Self, FrameworkError> {
        let framework: Self = serde_norway::from_str(yaml)?;
        framework.check()?;
        Ok(framework)
    }

    /// Every record that any of its controls asks for.
    pub fn evidence(&self) -> EvidenceQuery {
        let mut all = EvidenceQuery::default();
        for assessment in self.controls.iter().filter_map(|control| control.assessment.as_ref()) {
            all.period.extend(assessment.evidence.period.iter().cloned());
            all.history.extend(assessment.evidence.history.iter().cloned());
        }
        all
    }

    fn check(&self) -> Result<(), FrameworkError> {
        let mut seen = BTreeSet::new();
        for control in &self.controls {
            let fail = |problem| FrameworkError::Control { control: control.id.clone(), problem };
            if !seen.insert(&control.id) {
                return Err(fail("this id is used twice".to_owned()));
            }
            if !self.chapters.iter().any(|chapter| chapter.id == control.chapter) {
                return Err(fail(format!("there is no chapter `{}`", control.chapter)));
            }
            control.check().map_err(fail)?;
        }
        Ok(())
    }
}

impl Control {
    fn check(&self) -> Result<(), String> {
        let texts = [&self.title, &self.requirement, &self.cannot_evidence];
        if texts.into_iter().any(Text::is_partial) {
            return Err("title, requirement and cannot_evidence are needed in every language".to_owned());
        }
        if self.references.is_empty() {
            return Err("say where the requirement is written".to_owned());
        }
        self.assessment.as_ref().map_or(Ok(()), Assessment::check)
    }
}

impl Assessment {
    fn check(&self) -> Result<(), String> {
        let rule = rules::find(&self.rule).ok_or_else(|| format!("there is no rule `{}`", self.rule))?;
        let given: BTreeSet<&str> = self.params.keys().map(String::as_str).collect();
        let wanted: BTreeSet<&str> = rule.params.iter().copied().collect();
        if given != wanted {
            return Err(format!("rule `{}` takes the parameters {wanted:?}, not {given:?}", self.rule));
        }
        if let Some((name, _)) = self.params.iter().find(|(_, param)| param.basis.is_partial()) {
            return Err(format!("parameter `{name}` needs its basis in every language"));
        }
        self.evidence.check(rule)?;
        self.check_groups()
    }

    fn check_groups(&self) -> Result<(), String> {
        for param in self.params.values() {
            let ParamValue::Groups(groups) = &param.value else { continue };
            let kinds = groups.values().flatten();
            if let Some(kind) = kinds.into_iter().find(|kind| !self.evidence.period.contains(*kind)) {
                return Err(format!("the evidence query does not ask for `{kind}`, which a group names"));
            }
        }
        Ok(())
    }
}

impl EvidenceQuery {
    fn check(&self, rule: &rules::Rule) -> Result<(), String> {
        let asked = self.period.iter().chain(&self.history);
        if let Some(kind) = asked.clone().find(|kind| writ_schema::Event::known_version(kind).is_none()) {
            return Err(format!("there is no event kind `{kind}`"));
        }
        let missing = |wanted: &[&'static str], given: &BTreeSet<String>| {
            wanted.iter().find(|kind| !given.contains(**kind)).copied()
        };
        let lacks = missing(rule.period, &self.period).or_else(|| missing(rule.history, &self.history));
        match lacks {
            Some(kind) => Err(format!("the rule needs `{kind}`, which the evidence query does not ask for")),
            None => Ok(()),
        }
    }
}
