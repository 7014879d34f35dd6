//! People.

use writ_schema::Seq;
use writ_schema::event::{UserDisabled, UserProvisioned};

use crate::core::policy::inventory_user;
use crate::core::state::{State, User};

pub(super) fn provisioned(state: &mut State, seq: Seq, body: &UserProvisioned) {
    let user = User {
        id: body.user.clone(),
        login: body.login.value().cloned(),
        display_name: body.display_name.value().cloned(),
        is_disabled: false,
        is_erased: false,
        provisioned: seq,
    };
    state.policies.with_compiled(|compiled| compiled.insert_user(&inventory_user(&user)));
    state.users.insert(user);
}

pub(super) fn disabled(state: &mut State, body: &UserDisabled) {
    state.users.disable(&body.user);
}
