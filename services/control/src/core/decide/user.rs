//! People: joiners, leavers, erasure.

use jiff::Timestamp;
use writ_schema::UserId;
use writ_schema::event::{
    EnrolKeyRevoked, KeyShredded, NodeOwner, NodeRemoval, RevocationReason, UserDisabled, UserLeaverReceived,
    UserProvisioned, UserSource, Version,
};
use writ_schema::seal::{Retention, Sealed, Subject};

use super::values::{check_line, invalid};
use super::{Case, Decision, withdrawal};
use crate::core::command::Command;
use crate::core::rejection::Rejection;
use crate::core::state::User;

/// Longest e-mail address (RFC 5321).
const MAX_LOGIN_CHARS: usize = 254;

pub(super) fn decide(case: &Case<'_>, command: &Command) -> Decision {
    match command {
        Command::ProvisionUser { user, login, display_name } => provision(case, user, login, display_name),
        Command::ReceiveLeaver { user, decided_at } => leaver(case, user, *decided_at),
        Command::EraseUser { user } => erase(case, user),
        _ => Ok(Vec::new()),
    }
}

fn provision(case: &Case<'_>, user: &UserId, login: &str, display_name: &str) -> Decision {
    check_line("login", login, MAX_LOGIN_CHARS)?;
    if !login.contains('@') || login.contains(char::is_whitespace) {
        return Err(invalid("login", "expected an e-mail address".to_owned()).into());
    }
    check_line("display_name", display_name, 128)?;
    if case.state.user(user).is_some() {
        return Err(Rejection::UserExists(user.clone()).into());
    }
    if let Some(other) = case.state.user_by_login(login) {
        return Err(Rejection::LoginInUse(other.id.clone()).into());
    }
    let sealed = |text: &str| Sealed::new(Subject::User(user.clone()), Retention::Identity, text.to_owned());
    let provisioned = UserProvisioned {
        v: Version,
        user: user.clone(),
        login: sealed(login),
        display_name: sealed(display_name),
        source: UserSource::Manual,
    };
    Ok(vec![case.draft(provisioned)])
}

fn leaver(case: &Case<'_>, user: &UserId, decided_at: Option<Timestamp>) -> Decision {
    let known = known(case, user)?;
    if known.is_disabled {
        return Err(Rejection::UserDisabled(user.clone()).into());
    }
    if decided_at.is_some_and(|decided| decided > case.context.now) {
        return Err(invalid("decided_at", "a decision cannot lie in the future".to_owned()).into());
    }
    let received =
        UserLeaverReceived { v: Version, user: user.clone(), source: UserSource::Manual, decided_at };
    let mut drafts =
        vec![case.draft(received), case.consequence(0, UserDisabled { v: Version, user: user.clone() })];
    let is_owner = |owner: &NodeOwner| matches!(owner, NodeOwner::User(owner) if owner == user);
    let keys = case.state.enrolment_keys();
    let keys = keys.filter(|key| is_owner(&key.owner) && key.is_usable(case.context.now));
    drafts.extend(keys.map(|key| case.consequence(0, EnrolKeyRevoked { v: Version, key: key.id.clone() })));
    let nodes = case.state.nodes().filter(|node| is_owner(&node.owner));
    let removal = NodeRemoval::OwnerDisabled;
    drafts.extend(withdrawal::remove_nodes(case, Some(0), nodes, removal, RevocationReason::UserDisabled));
    Ok(drafts)
}

fn erase(case: &Case<'_>, user: &UserId) -> Decision {
    let known = known(case, user)?;
    if known.is_erased {
        return Err(Rejection::UserErased(user.clone()).into());
    }
    if !known.is_disabled {
        return Err(Rejection::UserActive(user.clone()).into());
    }
    let shredded = KeyShredded { v: Version, subject: Subject::User(user.clone()) };
    Ok(vec![case.draft(shredded)])
}

fn known<'a>(case: &Case<'a>, user: &UserId) -> Result<&'a User, Rejection> {
    case.state.user(user).ok_or_else(|| Rejection::UnknownUser(user.clone()))
}
