//! What a record does to a state, one file per family of events.

mod administration;
mod assurance;
mod connection;
mod node;
mod policy;
mod user;

use writ_schema::{Event, Record};

use super::state::State;

/// Folds a record into a state. The record's sealed fields are open as far as their keys exist.
pub fn evolve(state: &mut State, record: &Record) {
    state.size = record.seq.0.saturating_add(1);
    state.time = record.time;
    if !is_refusal(&record.event) {
        state.answered.note(&record.command, record.seq, record.time);
    }
    state.authorizations.prune(record.time);
    match &record.event {
        Event::NetworkCreated(body) => assurance::network_created(state, body),
        Event::LogOpened(_) => state.is_open = true,
        Event::LogClosed(_) => state.is_open = false,
        Event::LogKeyRotated(body) => assurance::log_key_rotated(state, record.seq, body),
        Event::KeyShredded(body) => assurance::key_shredded(state, body),
        Event::RetentionLapsed(body) => assurance::retention_lapsed(state, body),
        Event::UserProvisioned(body) => user::provisioned(state, record.seq, body),
        Event::UserDisabled(body) => user::disabled(state, body),
        Event::AdminRoleGranted(body) => administration::role_granted(state, record.seq, body),
        Event::AdminRoleRevoked(body) => administration::role_revoked(state, body),
        Event::LoginSucceeded(body) => administration::login_succeeded(state, record.time, body),
        Event::EnrolKeyCreated(body) => administration::enrol_key_created(state, record, body),
        Event::EnrolKeyRevoked(body) => administration::enrol_key_revoked(state, body),
        Event::NodeJoined(body) => node::joined(state, record.seq, body),
        Event::NodeRemoved(body) => node::removed(state, record.seq, body),
        Event::NodeRoutesAdvertised(body) => node::routes_advertised(state, body),
        Event::NodeRoutesApproved(body) => node::routes_approved(state, body),
        Event::KeyRotated(body) => node::key_rotated(state, record.seq, body),
        Event::SessionStarted(body) => node::session_started(state, record.seq, body),
        Event::SessionTerminated(body) => state.nodes.set_session(&body.node, None),
        Event::PolicyChangeProposed(body) => policy::proposed(state, record.seq, body),
        Event::PolicyActivated(body) => policy::activated(state, record.seq, body),
        Event::ConnectionAuthorized(body) => connection::authorized(state, record.seq, body),
        Event::ConnectionRevoked(body) => connection::revoked(state, record.seq, body),
        Event::ConnectionAcknowledged(body) => connection::acknowledged(state, body),
        Event::ConnectionClosed(body) => connection::closed(state, body),
        // Facts that nothing is decided by.
        Event::UserLeaverReceived(_)
        | Event::AdminActDenied(_)
        | Event::LoginFailed(_)
        | Event::NodeJoinRefused(_)
        | Event::SessionFrameRejected(_)
        | Event::ConnectionDenied(_)
        | Event::AuditQueryExecuted(_)
        | Event::AuditDeanonymiseExecuted(_)
        | Event::ReportGenerated(_) => {}
    }
}

/// Whether an event records a refusal. A command that was refused is decided anew when it comes again: a reason may
/// have gone, such as a destination that was offline.
pub(crate) fn is_refusal(event: &Event) -> bool {
    matches!(
        event,
        Event::AdminActDenied(_)
            | Event::LoginFailed(_)
            | Event::NodeJoinRefused(_)
            | Event::SessionFrameRejected(_)
            | Event::ConnectionDenied(_)
    )
}
