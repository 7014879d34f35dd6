//! `writ-agent check`: what of this host's network stands in the way, and what to do about it.
//!
//! [`gather`] asks the engine, the control plane, the resolver and the kernel; [`diagnose`] judges. Pure.

mod diagnose;
mod facts;

use std::borrow::Cow;

use serde::Serialize;

pub use diagnose::diagnose;
pub(super) use facts::gather;
pub use facts::{ControlPlaneFacts, Facts};

/// How one thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// As it should be.
    Ok,
    /// It works, but worse than it could.
    Attention,
    /// Something does not work.
    Failed,
}

/// One line of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// How it stands.
    pub health: Health,
    /// What was found.
    pub found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<Cow<'static, str>>,
}
