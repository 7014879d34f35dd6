//! The report as data: every word in its language, every statement with its records. Renderers only arrange it.

mod build;
mod figures;
mod numbers;

use std::collections::BTreeMap;

use serde::Serialize;
use writ_schema::Seq;

use crate::status::Status;
use crate::text::Lang;

pub use build::build;
pub use numbers::ranges;

/// A whole report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The language.
    pub lang: Lang,
    /// The framework's short name.
    pub framework: String,
    /// The framework's version.
    pub framework_version: String,
    /// Headings and labels, by the key of their phrase.
    pub labels: BTreeMap<&'static str, String>,
    /// The framework's full name.
    pub subtitle: String,
    /// What it stands on: network, period, records, checkpoint, framework.
    pub scope: Vec<Field>,
    /// The texts behind the controls and whom they bind.
    pub about: Vec<Field>,
    /// One line for each status, the most pressing first.
    pub summary: Vec<StatusLine>,
    /// The pictures.
    pub figures: Vec<Figure>,
    /// The controls by chapter.
    pub chapters: Vec<ChapterSection>,
    /// The date that files carry: that of the newest record, never of the day of making.
    pub date: Stamp,
}

/// A label and its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Field {
    /// What it is.
    pub label: String,
    /// What it is here.
    pub value: String,
    /// Whether the value is to be read letter by letter, as a hash is.
    pub literal: bool,
}

/// A status and how many controls have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StatusLine {
    /// The status.
    pub status: Status,
    /// Its name in styles and files.
    pub slug: &'static str,
    /// Its word.
    pub name: String,
    /// What it means.
    pub means: String,
    /// How many controls have it.
    pub count: usize,
    /// The same in words.
    pub count_text: String,
}

/// A picture with the numbers behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Figure {
    /// Its name in files.
    pub id: &'static str,
    /// Its heading.
    pub title: String,
    /// How to read it.
    pub note: String,
    /// What it shows, for those who cannot see it.
    pub alt: String,
    /// The drawing; absent if there is nothing to draw.
    #[serde(serialize_with = "is_drawn")]
    pub svg: Option<String>,
    /// Headings of the table.
    pub columns: Vec<String>,
    /// The table.
    pub rows: Vec<Vec<String>>,
}

/// Programs read the rows; whether there is a drawing is all they need to know of it.
fn is_drawn<S: serde::Serializer>(svg: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bool(svg.is_some())
}

/// A chapter with its controls.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChapterSection {
    /// The heading.
    pub title: String,
    /// Whether none of its controls can be assessed.
    pub outside: bool,
    /// The controls.
    pub controls: Vec<ControlSection>,
}

/// A control and what the log says of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ControlSection {
    /// Its id.
    pub id: String,
    /// Its number in the law.
    pub number: String,
    /// Its name.
    pub title: String,
    /// Its status.
    pub status: Status,
    /// The status's name in styles and files.
    pub slug: &'static str,
    /// The status's word.
    pub status_name: String,
    /// What is required.
    pub requirement: String,
    /// Where it is written.
    pub references: String,
    /// What the log says.
    pub points: Vec<PointLine>,
    /// How many of them a page shows, the most pressing first.
    pub points_shown: usize,
    /// What a page says in place of the rest.
    pub points_more: Option<String>,
    /// The limits that were applied.
    pub params: Vec<ParamLine>,
    /// What stays open.
    pub cannot_evidence: String,
}

impl ControlSection {
    /// Whether the log can speak to it at all.
    pub fn is_assessed(&self) -> bool {
        self.status != Status::NotAssessable
    }
}

/// One statement with its records.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PointLine {
    /// Its weight's name in styles and files.
    pub weight: &'static str,
    /// The statement.
    pub text: String,
    /// The records behind it, as a reader likes them.
    pub records_text: String,
    /// All records behind it.
    pub records: Vec<Seq>,
}

/// A limit that was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ParamLine {
    /// Its name in the framework.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Who says so.
    pub source: String,
    /// The passage or reason.
    pub basis: String,
}

/// A moment in UTC, taken apart for file formats that want it so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the fields are what they are called")]
pub struct Stamp {
    pub year: i16,
    pub month: i8,
    pub day: i8,
    pub hour: i8,
    pub minute: i8,
    pub second: i8,
}

impl Report {
    /// The label of a phrase.
    pub fn label(&self, key: &str) -> &str {
        self.labels.get(key).map_or("", String::as_str)
    }

    /// All controls in order.
    pub fn controls(&self) -> impl Iterator<Item = &ControlSection> {
        self.chapters.iter().flat_map(|chapter| &chapter.controls)
    }

    /// The numbers behind the report, for programs. Drawings are left to the renderers.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec_pretty(self)
    }
}
