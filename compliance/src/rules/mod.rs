//! The rules that judge controls. Each is a pure function of the records that its control asks for.

use crate::case::{Case, Point};

mod admission;
mod changes;
mod logging;
mod privileges;
mod reading;
mod state;
mod withdrawal;

pub use withdrawal::{Withdrawal, withdrawals};

/// A rule, what it needs and what it takes.
pub struct Rule {
    /// The name that frameworks use.
    pub name: &'static str,
    /// Parameters that it takes, all of them needed.
    pub params: &'static [&'static str],
    /// Kinds that it needs within the period.
    pub period: &'static [&'static str],
    /// Kinds that it needs from the log's beginning.
    pub history: &'static [&'static str],
    /// What it says of a case.
    pub judge: fn(&Case<'_>) -> Vec<Point>,
}

const ADMINISTRATIVE: &[&str] = &[
    "policy.change_proposed",
    "policy.activated",
    "enrol_key.created",
    "enrol_key.revoked",
    "user.disabled",
    "node.removed",
];

/// Every rule.
pub static RULES: [Rule; 18] = [
    Rule {
        name: "recorded_kinds",
        params: &["groups"],
        period: &[],
        history: &[],
        judge: logging::recorded_kinds,
    },
    Rule {
        name: "log_pauses",
        params: &["max_pause_minutes"],
        period: &[],
        history: &["log.opened", "log.closed"],
        judge: logging::log_pauses,
    },
    Rule {
        name: "log_integrity",
        params: &["min_witnesses"],
        period: &["session.frame_rejected"],
        history: &[],
        judge: logging::log_integrity,
    },
    Rule {
        name: "log_review",
        params: &["max_interval_days"],
        period: &["audit.query_executed", "audit.deanonymise_executed"],
        history: &[],
        judge: reading::log_review,
    },
    Rule {
        name: "refusals_recorded",
        params: &["max_per_day"],
        period: &["connection.denied", "login.failed", "node.join_refused", "admin.act_denied"],
        history: &[],
        judge: reading::refusals_recorded,
    },
    Rule {
        name: "accountable_actors",
        params: &[],
        period: ADMINISTRATIVE,
        history: &[],
        judge: privileges::accountable_actors,
    },
    Rule {
        name: "report_cycle",
        params: &["max_interval_days"],
        period: &[],
        history: &["report.generated"],
        judge: reading::report_cycle,
    },
    Rule {
        name: "change_control",
        params: &["self_approval_contradicts"],
        period: &["policy.activated"],
        history: &["policy.change_proposed"],
        judge: changes::change_control,
    },
    Rule {
        name: "decisions_follow_policy",
        params: &[],
        period: &["connection.authorized", "connection.denied"],
        history: &["policy.activated"],
        judge: changes::decisions_follow_policy,
    },
    Rule {
        name: "device_admission",
        params: &[],
        period: &["node.join_refused"],
        history: &["enrol_key.created", "enrol_key.revoked", "node.joined"],
        judge: admission::device_admission,
    },
    Rule {
        name: "bounded_authorizations",
        params: &["max_hours"],
        period: &["connection.authorized"],
        history: &[],
        judge: admission::bounded_authorizations,
    },
    Rule {
        name: "revocation_effect",
        params: &["max_seconds", "contradicted_after_minutes"],
        period: &["connection.authorized", "connection.revoked", "connection.acknowledged"],
        history: &["policy.activated", "user.disabled", "user.leaver_received", "node.removed"],
        judge: withdrawal::revocation_effect,
    },
    Rule {
        name: "leaver_effect",
        params: &["max_hours", "contradicted_after_hours"],
        period: &["connection.revoked", "connection.acknowledged"],
        history: &["user.leaver_received", "user.disabled", "node.joined", "node.removed"],
        judge: withdrawal::leaver_effect,
    },
    Rule {
        name: "key_age",
        params: &["max_age_days", "contradicted_after_days"],
        period: &[],
        history: &["node.joined", "node.removed", "key.rotated"],
        judge: state::key_age,
    },
    Rule {
        name: "access_register",
        params: &[],
        period: &[],
        history: &["user.provisioned", "user.disabled", "node.joined", "node.removed"],
        judge: state::access_register,
    },
    Rule {
        name: "inventory",
        params: &[],
        period: &[],
        history: &["node.joined", "node.removed", "key.rotated"],
        judge: state::inventory,
    },
    Rule {
        name: "privileged_access",
        params: &["max_full_control"],
        period: ADMINISTRATIVE,
        history: &["admin.role_granted", "admin.role_revoked"],
        judge: privileges::privileged_access,
    },
    Rule {
        name: "strong_sign_in",
        params: &[],
        period: &["login.succeeded", "connection.authorized"],
        history: &[],
        judge: privileges::strong_sign_in,
    },
];

/// The rule of this name.
pub fn find(name: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.name == name)
}
