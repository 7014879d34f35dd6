//! Mutations: each is one command, durable before it is answered.

mod admins;
mod log;
mod nodes;
mod people;
mod policy;

use async_graphql::MergedObject;

pub(super) use policy::pseudonymised;

/// Mutations. Each takes `commandId`, chosen by the client (`cmd_` and 26 characters): a repeat gets the first answer and
/// does nothing twice.
#[derive(MergedObject, Default)]
pub struct Mutation(
    people::PeopleMutation,
    nodes::NodesMutation,
    policy::PolicyMutation,
    admins::AdminsMutation,
    log::LogMutation,
);
