//! Policies, and what a change would do.

use std::sync::Arc;

use async_graphql::{Context, Object, Result};
use jiff::Timestamp;
use writ_policy::{Change, Compiled, IdentityChange as Alike, Policy as PolicyText, difference};
use writ_schema::PolicyVersion;
use writ_schema::event::Role;
use writ_schema::net::Protocol;

use crate::core::policy::{record_ports, still_allows};
use crate::graphql::caller::Needs;
use crate::graphql::error::{Code, QueryError, bad_input, fail};
use crate::graphql::lookup::Lookup;
use crate::graphql::mutation::pseudonymised;
use crate::graphql::scalars::{UInt, read_cursor};
use crate::graphql::scope::{AsOfInput, moment, page_cost, query, slice};
use crate::graphql::types::{AsOf, IdentityChange, Permission, Policy, PolicyDifference, Rows, rows};
use crate::sequencer::SequencerHandle;
use crate::views::{connections, policies};

/// Most changes of each kind that a preview lists.
const MAX_CHANGES: usize = 200;

/// Policies.
#[derive(Default)]
pub struct PolicyQuery;

#[Object]
impl PolicyQuery {
    /// The policy in force, or one version of it. Absent where there is none.
    #[graphql(guard = "Needs(Role::Viewer)")]
    async fn policy(
        &self,
        context: &Context<'_>,
        version: Option<UInt>,
        as_of: Option<AsOfInput>,
    ) -> Result<Option<Policy>> {
        let moment = moment(context, as_of).await?;
        let found = query(context, moment, move |lookup| {
            let row = match version {
                Some(version) => {
                    policies::version(lookup.connection, &lookup.moment, PolicyVersion(version.0))?
                }
                None => policies::active(lookup.connection, &lookup.moment)?,
            };
            row.map(|row| lookup.policy(row)).transpose()
        });
        found.await
    }

    /// Every policy that was in force, newest first.
    #[graphql(guard = "Needs(Role::Viewer)", complexity = "page_cost(first, child_complexity)")]
    async fn policy_versions(
        &self,
        context: &Context<'_>,
        as_of: Option<AsOfInput>,
        #[graphql(desc = "At most 200.")] first: Option<i32>,
        after: Option<String>,
    ) -> Result<Rows<Policy>> {
        let after = read_cursor(after)?;
        let slice = slice(first, after)?;
        let moment = moment(context, as_of).await?;
        let page = query(context, moment, move |lookup| {
            let page = policies::list(lookup.connection, &lookup.moment, &slice)?;
            let edges = page.rows.into_iter().map(|row| Ok((row.activated.to_string(), lookup.policy(row)?)));
            Ok((edges.collect::<Result<_, QueryError>>()?, page.has_next))
        });
        rows(context, &moment, page.await?, after.is_some())
    }

    /// What a policy would change: permissions gained and lost, live connections cut. Nothing is recorded or done.
    #[graphql(guard = "Needs(Role::NetworkAdmin)", complexity = "50 + child_complexity")]
    async fn policy_difference(&self, context: &Context<'_>, text: String) -> Result<PolicyDifference> {
        let moment = moment(context, None).await?;
        let text = pseudonymised(context, &text)?;
        let (before, after, base, cut) = compare(context, &text)?;
        let failures = after.run_tests();
        let tests = after.policy().test_count();
        let is_silent = after.policy().allows_everything_by_silence();
        let changes = match &before {
            Some(before) => difference(before, &after),
            None => difference(&nothing()?, &after),
        };
        let (gained, lost) = (changes.gained_by_identity(), changes.lost_by_identity());
        let as_of = AsOf::new(context, &moment)?;
        let answer = query(context, moment, move |lookup| {
            let list = |changes: &[Change]| -> Result<Vec<Permission>, QueryError> {
                changes.iter().take(MAX_CHANGES).map(|change| permission(lookup, change)).collect()
            };
            let grouped = |changes: &[Alike]| -> Result<Vec<IdentityChange>, QueryError> {
                changes.iter().take(MAX_CHANGES).map(|change| alike(lookup, change)).collect()
            };
            let mut connections_cut = Vec::new();
            for id in cut.iter().take(MAX_CHANGES) {
                if let Some(row) = connections::get(lookup.connection, &lookup.moment, id)? {
                    connections_cut.push(lookup.authorization(row)?);
                }
            }
            Ok(PolicyDifference {
                as_of,
                base: base.map(|version| version.0.into()),
                acceptable: failures.is_empty() && !is_silent,
                allows_everything: is_silent,
                failed_tests: failures.iter().map(ToString::to_string).collect(),
                tests: tests.into(),
                gained_count: changes.gained.len().into(),
                lost_count: changes.lost.len().into(),
                gained: list(&changes.gained)?,
                lost: list(&changes.lost)?,
                gained_by_identity_count: gained.len().into(),
                lost_by_identity_count: lost.len().into(),
                gained_by_identity: grouped(&gained)?,
                lost_by_identity: grouped(&lost)?,
                connections_cut_count: cut.len().into(),
                connections_cut,
                summary: changes.to_string(),
            })
        });
        answer.await
    }
}

type Compared = (Option<Arc<Compiled>>, Compiled, Option<PolicyVersion>, Vec<writ_schema::AuthorizationId>);

/// Compiles the new text for the present state, and finds the live connections that it would not allow.
fn compare(context: &Context<'_>, text: &str) -> Result<Compared> {
    let policy = PolicyText::parse(text).map_err(bad_input)?;
    let state = context.data::<SequencerHandle>()?.state();
    let after = Compiled::new(Arc::new(policy), &state.inventory()).map_err(bad_input)?;
    let now = Timestamp::now();
    let live = state.live_authorizations(now);
    let cut =
        live.filter(|live| !still_allows(&state, &after, live, now)).map(|live| live.id.clone()).collect();
    let base = state.policy().map(|active| active.version);
    Ok((state.compiled_policy().cloned(), after, base, cut))
}

/// A policy that permits nothing, for comparing the first one with.
fn nothing() -> Result<Compiled> {
    let empty = PolicyText::parse(r#"{"acls": []}"#);
    let nobody = writ_policy::Inventory::default();
    // Nodes of one side only count too, so an empty inventory gives every permission of the other as new.
    empty
        .and_then(|policy| Compiled::new(Arc::new(policy), &nobody))
        .map_err(|error| fail(Code::Unavailable, error.to_string()))
}

fn permission(lookup: &Lookup<'_>, change: &Change) -> Result<Permission, QueryError> {
    let protocol = Protocol::of_number(change.protocol.number());
    Ok(Permission {
        source: lookup.node_ref(&change.src)?,
        destination: lookup.node_ref(&change.dst)?,
        route: change.route.map(|route| route.to_string()),
        protocol: protocol.to_string(),
        ports: record_ports(protocol, change.ports).to_string(),
        conditions: change.conditions.clone(),
    })
}

fn alike(lookup: &Lookup<'_>, change: &Alike) -> Result<IdentityChange, QueryError> {
    let (source, destination) = &change.example;
    Ok(IdentityChange {
        source: lookup.node_ref(source)?,
        destination: lookup.node_ref(destination)?,
        services: change.services.clone(),
        pairs: change.pairs.into(),
    })
}
