//! Who could reach what, who was authorised, who did talk: three levels, kept apart.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_graphql::{Context, ID, Object, OneofObject, Result};
use writ_schema::NodeId;
use writ_schema::event::{NodeOwner, Role};
use writ_schema::net::Protocol;

use crate::graphql::caller::Needs;
use crate::graphql::error::{Code, QueryError, fail};
use crate::graphql::lookup::Lookup;
use crate::graphql::reach::{Policies, Question, could_reach, policy_ref};
use crate::graphql::scalars::read;
use crate::graphql::scope::{AsOfInput, moment, query};
use crate::graphql::types::{Access, AsOf, PolicyRef, Reach, Talk};
use crate::views::connections::{self, Authorization, ConnectionFilter};
use crate::views::{MAX_PAGE, Moment, Slice, nodes, personal};

/// What such an answer costs: it compiles a policy and reads three lists.
const ACCESS_COST: usize = 300;

/// Which node is meant.
#[derive(OneofObject)]
pub enum NodeInput {
    /// By its identifier.
    Node(ID),
    /// By the name that it had at the moment asked about.
    Name(String),
}

/// Levels of access.
#[derive(Default)]
pub struct AccessQuery;

#[Object]
impl AccessQuery {
    /// Who could reach a node at a moment and by which rule, who was authorised to, and who did.
    #[graphql(guard = "Needs(Role::Auditor)", complexity = "ACCESS_COST + child_complexity")]
    async fn who_could_reach(
        &self,
        context: &Context<'_>,
        to: NodeInput,
        #[graphql(desc = "Only by this: `tcp`, `udp`, `icmp` or a number.")] protocol: Option<String>,
        #[graphql(desc = "Only on this port.")] port: Option<u16>,
        #[graphql(desc = "The moment in question.")] as_of: Option<AsOfInput>,
        #[graphql(
            desc = "Reports of connections come after the fact: up to when they are considered. Left out, all."
        )]
        known_by: Option<AsOfInput>,
    ) -> Result<Access> {
        access(context, to, false, (protocol, port), as_of, known_by).await
    }

    /// What a node could reach at a moment and by which rule, what it was authorised to, and what it did.
    #[graphql(guard = "Needs(Role::Auditor)", complexity = "ACCESS_COST + child_complexity")]
    async fn reach(
        &self,
        context: &Context<'_>,
        from: NodeInput,
        #[graphql(desc = "Only by this: `tcp`, `udp`, `icmp` or a number.")] protocol: Option<String>,
        #[graphql(desc = "Only on this port.")] port: Option<u16>,
        #[graphql(desc = "The moment in question.")] as_of: Option<AsOfInput>,
        #[graphql(
            desc = "Reports of connections come after the fact: up to when they are considered. Left out, all."
        )]
        known_by: Option<AsOfInput>,
    ) -> Result<Access> {
        access(context, from, true, (protocol, port), as_of, known_by).await
    }
}

async fn access(
    context: &Context<'_>,
    named: NodeInput,
    outward: bool,
    (protocol, port): (Option<String>, Option<u16>),
    as_of: Option<AsOfInput>,
    known_by: Option<AsOfInput>,
) -> Result<Access> {
    let protocol: Option<Protocol> = protocol.as_deref().map(read).transpose()?;
    let known_by = moment(context, known_by).await?;
    let moment = moment(context, as_of).await?;
    let cache = Arc::clone(context.data::<Arc<Policies>>()?);
    let answered = (AsOf::new(context, &moment)?, AsOf::new(context, &known_by)?);
    let answer = query(context, moment, move |lookup| {
        let node = find(lookup, named)?;
        let question = Question { node, outward, protocol, port };
        let (policy, reach, is_cut) = permitted(lookup, &cache, &question)?;
        let (rows, has_more) = authorized(lookup, &question)?;
        let talked = talked(lookup, &rows, &known_by)?;
        let authorized = rows.into_iter().map(|row| lookup.authorization(row));
        Ok(Access {
            as_of: answered.0,
            known_by: answered.1,
            node: lookup.node_ref(&question.node)?,
            policy,
            could_reach: reach,
            authorized: authorized.collect::<Result<_, _>>()?,
            talked,
            truncated: is_cut || has_more,
            limits: limits(),
        })
    });
    answer.await
}

/// Finds the node that is meant. The name of a person's machine is personal, so only those who may see it can ask by it.
pub(super) fn find(lookup: &Lookup<'_>, named: NodeInput) -> Result<NodeId, QueryError> {
    let missing = || fail(Code::NotFound, "there was no such node at that moment");
    let (id, is_by_name) = match named {
        NodeInput::Node(id) => (read(&id)?, false),
        NodeInput::Name(name) => {
            let found = personal::node_of_name(lookup.connection, &lookup.moment, &name)?;
            (found.ok_or_else(missing)?, true)
        }
    };
    let row = nodes::get(lookup.connection, &lookup.moment, &id)?.ok_or_else(missing)?;
    if is_by_name && !lookup.sees_names && matches!(row.owner, NodeOwner::User(_)) {
        return Err(missing().into());
    }
    Ok(id)
}

type Permitted = (Option<PolicyRef>, Vec<Reach>, bool);

fn permitted(lookup: &Lookup<'_>, cache: &Policies, question: &Question) -> Result<Permitted, QueryError> {
    let Some(force) = cache.in_force(lookup)? else { return Ok((None, Vec::new(), false)) };
    let (reach, is_cut) = could_reach(lookup, &force, question)?;
    Ok((Some(policy_ref(lookup, &force.row)?), reach, is_cut))
}

/// The permissions in force at the moment.
fn authorized(lookup: &Lookup<'_>, question: &Question) -> Result<(Vec<Authorization>, bool), QueryError> {
    let mut filter = ConnectionFilter {
        protocol: question.protocol,
        port: question.port,
        only_live: true,
        ..ConnectionFilter::default()
    };
    let end = if question.outward { &mut filter.source } else { &mut filter.destination };
    *end = Some(question.node.clone());
    let slice = Slice::new(MAX_PAGE, None)?.newest_first(true);
    let page = connections::list(lookup.connection, &lookup.moment, &filter, &slice)?;
    Ok((page.rows, page.has_next))
}

/// What agents reported of these permissions, or of those that continued them.
fn talked(lookup: &Lookup<'_>, rows: &[Authorization], known_by: &Moment) -> Result<Vec<Talk>, QueryError> {
    let mut talked = Vec::new();
    let mut seen = BTreeSet::new();
    for row in rows.iter().filter(|row| seen.insert(row.chain.clone())) {
        for report in lookup.reports(&row.chain, known_by)? {
            talked.push(Talk {
                source: lookup.source(row.source_node.as_ref(), row.source_user.as_ref())?,
                destination: lookup.node_ref(&row.destination)?,
                report,
            });
        }
    }
    Ok(talked)
}

fn limits() -> Vec<String> {
    [
        "couldReach is what the policy permitted, whether or not anybody tried.",
        "talked is what agents reported when a connection ended: one that is still open, or whose agent never came back, \
         is not in it.",
        "What was done inside a connection is not visible to the network.",
    ]
    .map(str::to_owned)
    .to_vec()
}
