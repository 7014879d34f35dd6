//! Who asks, and what they may.

use async_graphql::{Context, Guard, Result};
use writ_schema::event::Role;
use writ_schema::{Actor, AdminId};

use super::error::{Code, fail};
use super::submission::submission;
use crate::core::Command;
use crate::sequencer::{SequencerHandle, SubmitError};

/// The signed-in administrator behind a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Who.
    pub admin: AdminId,
    /// What they may do.
    pub role: Role,
}

impl Caller {
    /// Whether the role is this one or one that may do more.
    pub fn is(&self, needs: Role) -> bool {
        self.role <= needs
    }

    /// The caller as a record names them.
    pub fn actor(&self) -> Actor {
        Actor::Admin(self.admin.clone())
    }

    /// Whether names of people's machines and logins in policies are shown: to those who run the network.
    pub(super) fn sees_names(&self) -> bool {
        self.is(Role::NetworkAdmin)
    }
}

/// The caller of a request.
pub(super) fn caller<'a>(context: &Context<'a>) -> Result<&'a Caller> {
    context
        .data_opt::<Caller>()
        .ok_or_else(|| fail(Code::Unauthenticated, "sign in first: no administrator is known"))
}

/// Lets a field be read by those who have a role, or one that may do more.
pub(super) struct Needs(pub(super) Role);

impl Guard for Needs {
    async fn check(&self, context: &Context<'_>) -> Result<()> {
        let field = context.field().name().to_owned();
        permit(context, self.0, &field).await
    }
}

/// Checks the caller's role. A denied act is recorded before it is answered.
pub(super) async fn permit(context: &Context<'_>, needs: Role, operation: &str) -> Result<()> {
    let caller = caller(context)?;
    if caller.is(needs) {
        return Ok(());
    }
    let sequencer = context.data::<SequencerHandle>()?;
    let command = Command::RecordDeniedAct { operation: operation.to_owned(), needs };
    let record = match sequencer.submit(submission(caller.actor(), command)?).await {
        Err(SubmitError::Rejected { record, .. }) => record,
        _ => None,
    };
    let recorded = record.map_or(String::new(), |seq| format!("; the attempt is record {seq}"));
    let message = format!(
        "`{operation}` needs the role {} and you have {}: ask somebody who has it{recorded}",
        role_name(needs),
        role_name(caller.role)
    );
    Err(fail(Code::Forbidden, message))
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Owner => "owner",
        Role::Admin => "admin",
        Role::NetworkAdmin => "network-admin",
        Role::Auditor => "auditor",
        Role::Viewer => "viewer",
    }
}
