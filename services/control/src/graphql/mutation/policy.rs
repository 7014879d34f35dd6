//! Changing the policy.

use async_graphql::{Context, ErrorExtensions, ID, Object, Result};
use writ_policy::replace_logins;
use writ_schema::event::Role;
use writ_schema::{PolicyVersion, ProposalId, UserId};

use crate::core::{Command, State};
use crate::graphql::caller::Needs;
use crate::graphql::commands::{Done, command_id, derived, submit};
use crate::graphql::error::bad_input;
use crate::graphql::scalars::UInt;
use crate::sequencer::SequencerHandle;

/// The policy.
#[derive(Default)]
pub struct PolicyMutation;

#[Object]
impl PolicyMutation {
    /// Puts a policy in force and revokes what it no longer allows, in one commit. See `policyDifference` first.
    #[graphql(guard = "Needs(Role::NetworkAdmin)", complexity = "50 + child_complexity")]
    async fn set_policy(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "The whole file, people by their logins. Pass it as a variable.")] text: String,
        #[graphql(desc = "The version that you saw: refused if another is in force by now.")] base: Option<
            UInt,
        >,
        #[graphql(
            default,
            desc = "That a file with neither `acls` nor `grants` is meant: it allows everything, and is refused otherwise."
        )]
        allow_everything: bool,
        command_id: Option<ID>,
    ) -> Result<Done> {
        let text = pseudonymised(context, &text)?;
        let id = self::command_id(command_id)?;
        let proposal = ProposalId::from_bytes(derived("proposal", &id));
        let base = base.map(|version| PolicyVersion(version.0));
        submit(context, &id, Command::SetPolicy { text, proposal, base, allow_everything }).await
    }

    /// Puts an earlier policy in force again, as a new version.
    #[graphql(guard = "Needs(Role::NetworkAdmin)")]
    async fn undo_policy(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "Which; the one before the one in force if left out.")] to: Option<UInt>,
        command_id: Option<ID>,
    ) -> Result<Done> {
        let id = self::command_id(command_id)?;
        let proposal = ProposalId::from_bytes(derived("proposal", &id));
        let to = to.map(|version| PolicyVersion(version.0));
        submit(context, &id, Command::UndoPolicy { to, proposal }).await
    }
}

/// Writes pseudonyms for logins: no name gets into the log in the clear.
pub(in crate::graphql) fn pseudonymised(context: &Context<'_>, text: &str) -> Result<String> {
    let state = context.data::<SequencerHandle>()?.state();
    let mut pseudonym = |name: &str| user_named(&state, name).map(|user| user.to_string());
    replace_logins(text, &mut pseudonym).map_err(|error| {
        let (line, column, path) = (error.line(), error.column(), error.path().to_owned());
        bad_input(&error).extend_with(|_, extensions| {
            extensions.set("line", line);
            extensions.set("column", column);
            extensions.set("path", path);
        })
    })
}

/// The user that a policy calls so. A person who has left keeps the name until nobody else has it and it is erased.
fn user_named(state: &State, name: &str) -> Option<UserId> {
    let pseudonym = || name.parse().ok().filter(|user| state.user(user).is_some());
    let left = || {
        let mut users = state.users();
        let found =
            users.find(|user| user.login.as_ref().is_some_and(|login| login.eq_ignore_ascii_case(name)));
        found.map(|user| user.id.clone())
    };
    state.user_by_login(name).map(|user| user.id.clone()).or_else(pseudonym).or_else(left)
}
