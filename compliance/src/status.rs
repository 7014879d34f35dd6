//! What the log says of a control. There is no score, and no state that says a law is met.

use serde::Serialize;

/// The outcome of assessing one control.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// The log shows at least one case against the requirement.
    Contradicted,
    /// Partial, late or near a limit: a person has to look.
    Attention,
    /// Records in scope support the requirement, and none speaks against it.
    Supported,
    /// The events that the assessment needs did not occur in scope. This supports nothing.
    NoData,
    /// The log of an overlay network cannot speak to it.
    NotAssessable,
}

impl Status {
    /// Every status, the most pressing first.
    pub const ALL: [Self; 5] =
        [Self::Contradicted, Self::Attention, Self::Supported, Self::NoData, Self::NotAssessable];

    /// The name that stands in wording keys, styles and files.
    pub fn slug(self) -> &'static str {
        match self {
            Self::Contradicted => "contradicted",
            Self::Attention => "attention",
            Self::Supported => "supported",
            Self::NoData => "no_data",
            Self::NotAssessable => "not_assessable",
        }
    }
}
