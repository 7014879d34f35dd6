//! How long connection records can be read.

use writ_schema::event::{RetentionLapsed, Version};
use writ_schema::seal::{Quarter, Retention};

use super::{Case, Decision};
use crate::core::rejection::Rejection;

/// Ends the time in which anybody can read whose the connections of a quarter were.
pub(super) fn lapse(case: &Case<'_>, quarter: Quarter) -> Decision {
    if quarter >= Quarter::of(case.context.now) {
        return Err(Rejection::QuarterNotOver(quarter).into());
    }
    if case.state.is_lapsed(quarter) {
        return Err(Rejection::QuarterLapsed(quarter).into());
    }
    // In the first minutes of a quarter, authorizations of the last one are in force: their agents must still be told
    // when they end.
    let of_quarter = Retention::Connections(quarter);
    let mut live = case.state.live_authorizations(case.context.now);
    if live.any(|held| held.sealed_for.as_ref().is_some_and(|of| of.1 == of_quarter)) {
        return Err(Rejection::QuarterInUse(quarter).into());
    }
    Ok(vec![case.draft(RetentionLapsed { v: Version, quarter })])
}
