//! What a record does to a state.

use writ_schema::Record;

use super::state::State;

/// Folds a record into a state. The record's sealed fields are open as far as their keys exist.
pub fn evolve(state: &mut State, record: &Record) {
    state.size = record.seq.0.saturating_add(1);
}
