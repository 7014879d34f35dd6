//! Frameworks: the controls of a law as data.
//!
//! A framework file says what is required in our own words, which records the assessment asks for, which rule
//! judges them and what the answer cannot show. Changing what a report says is a change of data under review.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::text::{Lang, Text};

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
    /// Every record that any of its controls asks for.
    pub fn evidence(&self) -> EvidenceQuery {
        let mut all = EvidenceQuery::default();
        for assessment in self.controls.iter().filter_map(|control| control.assessment.as_ref()) {
            all.period.extend(assessment.evidence.period.iter().cloned());
            all.history.extend(assessment.evidence.history.iter().cloned());
        }
        all
    }
}
