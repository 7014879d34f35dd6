//! People.

use writ_schema::Seq;
use writ_schema::event::{UserDisabled, UserProvisioned};

use crate::core::state::{State, User};

pub(super) fn provisioned(state: &mut State, seq: Seq, body: &UserProvisioned) {
    state.users.insert(User {
        id: body.user.clone(),
        login: body.login.value().cloned(),
        display_name: body.display_name.value().cloned(),
        is_disabled: false,
        is_erased: false,
        provisioned: seq,
    });
    state.policies.forget_compiled();
}

pub(super) fn disabled(state: &mut State, body: &UserDisabled) {
    state.users.disable(&body.user);
}
