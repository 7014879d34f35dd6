//! Administrators, tokens and enrolment keys.

use jiff::{SignedDuration, Timestamp};
use writ_schema::event::{
    AdminRoleGranted, AdminRoleRevoked, EnrolKeyCreated, EnrolKeyRevoked, LoginSucceeded,
};
use writ_schema::{Record, Seq};

use crate::core::state::{Admin, EnrolmentKey, State, Token};

/// How long an enrolment key is remembered after its end, so that whoever still uses it is told what is wrong.
const REMEMBERED_AFTER: SignedDuration = SignedDuration::from_hours(90 * 24);

pub(super) fn role_granted(state: &mut State, seq: Seq, body: &AdminRoleGranted) {
    let admin = Admin {
        id: body.admin.clone(),
        name: body.name.value().cloned(),
        role: body.role,
        secret_hash: body.secret_hash,
        is_revoked: false,
        granted: seq,
    };
    state.admins.insert(body.admin.clone(), admin);
}

pub(super) fn role_revoked(state: &mut State, body: &AdminRoleRevoked) {
    if let Some(admin) = state.admins.get_mut(&body.admin) {
        admin.is_revoked = true;
    }
    state.tokens.retain(|_, token| token.admin != body.admin);
}

pub(super) fn login_succeeded(state: &mut State, time: Timestamp, body: &LoginSucceeded) {
    state.tokens.retain(|_, token| token.expires_at > time);
    let token = Token {
        id: body.token.clone(),
        admin: body.admin.clone(),
        hash: body.token_hash,
        expires_at: body.expires_at,
    };
    state.tokens.insert(body.token.clone(), token);
}

pub(super) fn enrol_key_created(state: &mut State, record: &Record, body: &EnrolKeyCreated) {
    state.enrolment_keys.retain(|_, key| record.time.duration_since(key.expires_at) < REMEMBERED_AFTER);
    let key = EnrolmentKey {
        id: body.key.clone(),
        secret_hash: body.secret_hash,
        owner: body.owner.clone(),
        max_uses: body.max_uses,
        uses: 0,
        expires_at: body.expires_at,
        is_revoked: false,
        created: record.seq,
    };
    state.enrolment_keys.insert(body.key.clone(), key);
}

pub(super) fn enrol_key_revoked(state: &mut State, body: &EnrolKeyRevoked) {
    if let Some(key) = state.enrolment_keys.get_mut(&body.key) {
        key.is_revoked = true;
    }
}
