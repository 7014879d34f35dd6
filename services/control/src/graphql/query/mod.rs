//! Queries.

mod access;
mod evidence;
mod history;
mod log;
mod paths;
mod policy;
mod present;

use async_graphql::MergedObject;

/// Queries. Each takes `asOf`; what is left out is the present.
#[derive(MergedObject, Default)]
pub struct Query(
    present::PresentQuery,
    policy::PolicyQuery,
    history::HistoryQuery,
    access::AccessQuery,
    paths::PathQuery,
    log::LogQuery,
    evidence::EvidenceQuery,
);
