//! Administrators, their sign-ins and the keys that nodes join with.

use jiff::{SignedDuration, Timestamp};
use writ_schema::event::{
    AdminRoleGranted, AdminRoleRevoked, EnrolKeyCreated, EnrolKeyRevoked, LoginFailed, LoginFailure,
    LoginSucceeded, NodeOwner, Role, Version,
};
use writ_schema::keys::SecretHash;
use writ_schema::seal::{Retention, Sealed, Subject};
use writ_schema::{Actor, AdminId, EnrolmentKeyId, TokenId};

use super::values::{check_line, invalid};
use super::{Case, Decision, Refusal, access};
use crate::core::command::{Command, Secret};
use crate::core::refusals::RefusalFact;
use crate::core::rejection::Rejection;

/// How long an access token lasts.
pub const TOKEN_LIFE: SignedDuration = SignedDuration::from_hours(12);

/// Longest life of an enrolment key.
const MAX_KEY_LIFE: SignedDuration = SignedDuration::from_hours(366 * 24);

/// Most nodes that may join with one key.
const MAX_KEY_USES: u32 = 100_000;

/// Most tags of one node.
const MAX_TAGS: usize = 32;

pub(super) fn decide(case: &Case<'_>, command: &Command) -> Decision {
    match command {
        Command::GrantRole { admin, name, role, secret_hash } => {
            grant(case, admin, name, *role, *secret_hash)
        }
        Command::RevokeRole { admin } => revoke(case, admin),
        Command::LogIn { admin, secret, token, token_hash } => {
            log_in(case, admin, secret, token, *token_hash)
        }
        Command::RecordDeniedAct { operation, needs } => {
            check_line("operation", operation, 64)?;
            Err(access::denied_act(case, operation.clone(), *needs)?)
        }
        Command::CreateEnrolmentKey { key, secret_hash, owner, max_uses, expires_at } => {
            check_key(case, key, *max_uses, *expires_at)?;
            let created = EnrolKeyCreated {
                v: Version,
                key: key.clone(),
                secret_hash: *secret_hash,
                owner: checked_owner(case, owner)?,
                max_uses: *max_uses,
                expires_at: *expires_at,
            };
            Ok(vec![case.draft(created)])
        }
        Command::RevokeEnrolmentKey { key } => revoke_key(case, key),
        _ => Ok(Vec::new()),
    }
}

fn grant(case: &Case<'_>, admin: &AdminId, name: &str, role: Role, secret_hash: SecretHash) -> Decision {
    check_line("name", name, 128)?;
    if role != Role::Owner {
        keep_an_owner(case, admin)?;
    }
    let name = Sealed::new(Subject::Admin(admin.clone()), Retention::Identity, name.to_owned());
    let granted = AdminRoleGranted { v: Version, admin: admin.clone(), name, role, secret_hash };
    Ok(vec![case.draft(granted)])
}

fn revoke(case: &Case<'_>, admin: &AdminId) -> Decision {
    let known = case.state.admin(admin).filter(|known| !known.is_revoked);
    known.ok_or_else(|| Rejection::UnknownAdmin(admin.clone()))?;
    keep_an_owner(case, admin)?;
    Ok(vec![case.draft(AdminRoleRevoked { v: Version, admin: admin.clone() })])
}

/// Refuses to take the role of the only owner.
fn keep_an_owner(case: &Case<'_>, admin: &AdminId) -> Result<(), Rejection> {
    let mut owners = case.state.admins().filter(|known| known.role == Role::Owner && !known.is_revoked);
    match (owners.next(), owners.next()) {
        (Some(only), None) if only.id == *admin => Err(Rejection::LastOwner(admin.clone())),
        _ => Ok(()),
    }
}

fn log_in(
    case: &Case<'_>,
    admin: &AdminId,
    secret: &Secret,
    token: &TokenId,
    token_hash: SecretHash,
) -> Decision {
    let known = case.state.admin(admin);
    let failure = match known {
        None => Some(LoginFailure::UnknownAdmin),
        Some(known) if !secret.fits(&known.secret_hash) => Some(LoginFailure::WrongSecret),
        Some(known) if known.is_revoked => Some(LoginFailure::Revoked),
        Some(_) => None,
    };
    if let Some(reason) = failure {
        let admin = known.map(|known| known.id.clone());
        let fact = RefusalFact::LogIn(LoginFailed { v: Version, admin, reason, count: 1 });
        return Err(Box::new(Refusal { rejection: Rejection::LogIn(reason), fact: Some(fact) }));
    }
    if case.state.token(token).is_some() {
        return Err(invalid("token", "this token exists already".to_owned()).into());
    }
    let expires_at = later(case.context.now, TOKEN_LIFE);
    let (admin, token) = (admin.clone(), token.clone());
    let actor = Actor::Admin(admin.clone());
    let succeeded = LoginSucceeded { v: Version, admin, token, token_hash, expires_at };
    Ok(vec![case.draft_by(actor, succeeded)])
}

/// A moment later, or the end of time.
pub(super) fn later(now: Timestamp, by: SignedDuration) -> Timestamp {
    now.checked_add(by).unwrap_or(Timestamp::MAX)
}

fn check_key(
    case: &Case<'_>,
    key: &EnrolmentKeyId,
    max_uses: u32,
    expires_at: Timestamp,
) -> Result<(), Rejection> {
    if case.state.enrolment_key(key).is_some() {
        return Err(Rejection::EnrolmentKeyExists(key.clone()));
    }
    if !(1..=MAX_KEY_USES).contains(&max_uses) {
        return Err(invalid("max_uses", format!("expected 1 to {MAX_KEY_USES}")));
    }
    let now = case.context.now;
    if expires_at <= now || expires_at > later(now, MAX_KEY_LIFE) {
        return Err(invalid("expires_at", "expected a moment within the next 366 days".to_owned()));
    }
    Ok(())
}

fn checked_owner(case: &Case<'_>, owner: &NodeOwner) -> Result<NodeOwner, Rejection> {
    match owner {
        NodeOwner::User(id) => {
            let user = case.state.user(id).ok_or_else(|| Rejection::UnknownUser(id.clone()))?;
            if user.is_disabled { Err(Rejection::UserDisabled(id.clone())) } else { Ok(owner.clone()) }
        }
        NodeOwner::Tags(tags) => {
            let mut tags = tags.clone();
            tags.sort();
            tags.dedup();
            if tags.is_empty() || tags.len() > MAX_TAGS {
                return Err(invalid("owner", format!("expected 1 to {MAX_TAGS} tags")));
            }
            Ok(NodeOwner::Tags(tags))
        }
    }
}

fn revoke_key(case: &Case<'_>, key: &EnrolmentKeyId) -> Decision {
    let known = case.state.enrolment_key(key).ok_or_else(|| Rejection::UnknownEnrolmentKey(key.clone()))?;
    if known.is_revoked {
        return Err(Rejection::EnrolmentKeyRevoked(key.clone()).into());
    }
    Ok(vec![case.draft(EnrolKeyRevoked { v: Version, key: key.clone() })])
}
