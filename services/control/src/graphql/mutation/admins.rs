//! Administrators, and the reports they make.

use async_graphql::{Context, ID, Object, Result, SimpleObject};
use writ_schema::AdminId;
use writ_schema::event::Role as SchemaRole;
use writ_schema::keys::SecretHash;

use crate::core::Command;
use crate::graphql::caller::Needs;
use crate::graphql::commands::{Done, Prepared, command_id, derived, submit};
use crate::graphql::enums::Role;
use crate::graphql::scalars::{UInt, read};

/// An administrator was made.
#[derive(SimpleObject)]
pub struct AdminCreated {
    /// Who.
    pub admin: ID,
    /// The sign-in secret. It is shown this once and stored as a hash.
    pub secret: String,
    /// What was recorded.
    pub done: Done,
}

/// Administrators.
#[derive(Default)]
pub struct AdminsMutation;

#[Object]
impl AdminsMutation {
    /// Makes an administrator. Their sign-in secret is shown once.
    #[graphql(guard = "Needs(SchemaRole::Owner)")]
    async fn create_admin(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "Name for people.")] name: String,
        role: Role,
        command_id: Option<ID>,
    ) -> Result<AdminCreated> {
        let id = self::command_id(command_id)?;
        let admin = AdminId::from_bytes(derived("administrator", &id));
        let made = context.data::<Prepared>()?.secret(&id)?;
        let secret_hash = SecretHash::of(&made.secret);
        let command = Command::GrantRole { admin: admin.clone(), name, role: role.into(), secret_hash };
        let done = submit(context, &id, command).await?;
        Ok(AdminCreated { admin: admin.to_string().into(), secret: made.secret.to_string(), done })
    }

    /// Ends an administrator's rights and tokens.
    #[graphql(guard = "Needs(SchemaRole::Owner)")]
    async fn revoke_admin(&self, context: &Context<'_>, admin: ID, command_id: Option<ID>) -> Result<Done> {
        let id = self::command_id(command_id)?;
        submit(context, &id, Command::RevokeRole { admin: read(&admin)? }).await
    }

    /// Records that a report was made, so that it can be shown later which one it was.
    #[graphql(guard = "Needs(SchemaRole::Auditor)")]
    async fn record_report(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "The framework and its version.")] framework: String,
        #[graphql(desc = "SHA-256 of the evidence bundle it stands on, hex.")] bundle_digest: String,
        #[graphql(desc = "How many records were considered: `asOf { size }`.")] as_of_size: UInt,
        command_id: Option<ID>,
    ) -> Result<Done> {
        let id = self::command_id(command_id)?;
        let command = Command::RecordReport { framework, bundle_digest, as_of: as_of_size.into() };
        submit(context, &id, command).await
    }
}
