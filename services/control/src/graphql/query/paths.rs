//! Which ways there were during a period, and how far one goes from node to node.

use std::sync::Arc;

use async_graphql::{Context, ID, Object, OneofObject, Result};
use writ_schema::event::Role;
use writ_schema::net::Protocol;

use super::access::{NodeInput, find};
use crate::graphql::caller::Needs;
use crate::graphql::error::{Code, QueryError, bad_input, fail};
use crate::graphql::lookup::Lookup;
use crate::graphql::paths::{End, MAX_HOPS, Wanted, over_hops, over_time};
use crate::graphql::reach::{Policies, policy_ref};
use crate::graphql::scalars::{Time, read};
use crate::graphql::scope::{AsOfInput, moment, query};
use crate::graphql::types::{AsOf, BlastRadius, Paths};

/// What such an answer costs: it goes through the policies and nodes of a period.
const PATHS_COST: usize = 500;

/// Which nodes are meant at one end.
#[derive(OneofObject)]
pub enum EndInput {
    /// Whatever carries the tag, such as `tag:db`.
    Tag(String),
    /// Whatever belongs to the user.
    User(ID),
    /// A node, by its identifier.
    Node(ID),
    /// A node, by the name that it had at the end of the period.
    Name(String),
}

impl EndInput {
    fn read(self, lookup: &Lookup<'_>) -> Result<End, QueryError> {
        Ok(match self {
            EndInput::Tag(tag) if tag.starts_with("tag:") => End::Tag(tag),
            EndInput::Tag(tag) => {
                return Err(
                    fail(Code::BadInput, format!("{tag:?} is no tag: tags begin with \"tag:\"")).into()
                );
            }
            EndInput::User(user) => End::User(read(&user)?),
            EndInput::Node(node) => End::Node(read(&node)?),
            EndInput::Name(name) => End::Node(find(lookup, NodeInput::Name(name))?),
        })
    }
}

/// Ways.
#[derive(Default)]
pub struct PathQuery;

#[Object]
impl PathQuery {
    /// The ways that were open between two ends at any time of a period, under which rule, since when and until when: also
    /// one that was open for a minute.
    #[graphql(guard = "Needs(Role::Auditor)", complexity = "PATHS_COST + child_complexity")]
    #[expect(clippy::too_many_arguments, reason = "each is an argument of the API's field")]
    async fn paths(
        &self,
        context: &Context<'_>,
        from: EndInput,
        to: EndInput,
        #[graphql(desc = "The beginning of the period.")] since: Time,
        #[graphql(desc = "The end of the period. Left out, now.")] until: Option<Time>,
        #[graphql(desc = "Only by this: `tcp`, `udp`, `icmp` or a number.")] protocol: Option<String>,
        #[graphql(desc = "Only on this port.")] port: Option<u16>,
    ) -> Result<Paths> {
        let wanted = wanted(protocol, port)?;
        let start = moment(context, Some(AsOfInput::Time(since))).await?;
        let end = moment(context, until.map(AsOfInput::Time)).await?;
        if since.0 > end.time {
            return Err(bad_input("the period ends before it begins"));
        }
        let cache = Arc::clone(context.data::<Arc<Policies>>()?);
        let as_of = AsOf::new(context, &end)?;
        let answer = query(context, end, move |lookup| {
            let ends = (from.read(lookup)?, to.read(lookup)?);
            let found = over_time(lookup, &cache, (&ends.0, &ends.1), wanted, (start, end))?;
            Ok(Paths {
                as_of,
                paths: found.paths,
                looked_until: found.looked_until.into(),
                truncated: found.is_cut,
            })
        });
        answer.await
    }

    /// What can be reached from a node over several hops: who could be hurt if somebody took it over.
    #[graphql(guard = "Needs(Role::Auditor)", complexity = "PATHS_COST + child_complexity")]
    async fn blast_radius(
        &self,
        context: &Context<'_>,
        from: NodeInput,
        #[graphql(default = 2, desc = "How many hops are followed, at most 4.")] hops: u8,
        #[graphql(desc = "Only by this: `tcp`, `udp`, `icmp` or a number.")] protocol: Option<String>,
        #[graphql(desc = "Only on this port.")] port: Option<u16>,
        #[graphql(desc = "The moment in question.")] as_of: Option<AsOfInput>,
    ) -> Result<BlastRadius> {
        let wanted = wanted(protocol, port)?;
        if !(1..=MAX_HOPS).contains(&hops) {
            return Err(bad_input(format!("`hops` is from 1 to {MAX_HOPS}")));
        }
        let moment = moment(context, as_of).await?;
        let cache = Arc::clone(context.data::<Arc<Policies>>()?);
        let as_of = AsOf::new(context, &moment)?;
        let answer = query(context, moment, move |lookup| {
            let start = find(lookup, from)?;
            let force = cache.in_force(lookup)?;
            let (reached, truncated) = match &force {
                Some(force) => over_hops(lookup, force, &start, hops, wanted)?,
                None => (Vec::new(), false),
            };
            let policy = force.map(|force| policy_ref(lookup, &force.row)).transpose()?;
            Ok(BlastRadius { as_of, node: lookup.node_ref(&start)?, policy, reached, truncated })
        });
        answer.await
    }
}

fn wanted(protocol: Option<String>, port: Option<u16>) -> Result<Wanted> {
    let protocol: Option<Protocol> = protocol.as_deref().map(read).transpose()?;
    Ok(Wanted { protocol, port })
}
