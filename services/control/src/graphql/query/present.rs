//! What there is: network, users, nodes, keys, administrators.

use async_graphql::{Context, ID, Object, Result};
use writ_schema::event::Role;
use writ_schema::{AdminId, EnrolmentKeyId, NodeId, Seq, UserId};

use crate::graphql::caller::{Caller, Needs, caller};
use crate::graphql::enums::UserStatus;
use crate::graphql::error::{Code, fail};
use crate::graphql::scalars::{read, read_optional};
use crate::graphql::scope::{AsOfInput, moment, page_cost, query, slice};
use crate::graphql::types::{Admin, AsOf, EnrolmentKey, Network, Node, Rows, User, rows};
use crate::sequencer::SequencerHandle;
use crate::views::nodes::NodeFilter;
use crate::views::{admins, enrolment_keys, nodes, users};
use writ_schema::Tag;

/// The present state, or that of a moment.
#[derive(Default)]
pub struct PresentQuery;

#[Object]
impl PresentQuery {
    /// Who is signed in.
    #[graphql(guard = "Needs(Role::Viewer)")]
    async fn me(&self, context: &Context<'_>) -> Result<Admin> {
        let Caller { admin, .. } = caller(context)?.clone();
        let moment = moment(context, None).await?;
        let found = query(context, moment, move |lookup| {
            let row = admins::get(lookup.connection, &lookup.moment, &admin)?;
            row.map(|row| lookup.admin(row)).transpose()
        });
        found.await?.ok_or_else(|| fail(Code::NotFound, "the log knows no such administrator"))
    }

    /// The network.
    #[graphql(guard = "Needs(Role::Viewer)")]
    async fn network(&self, context: &Context<'_>) -> Result<Network> {
        let moment = moment(context, None).await?;
        let record = query(context, moment, |lookup| lookup.record(Seq(0))).await?;
        let state = context.data::<SequencerHandle>()?.state();
        let found = state.network().map(|network| (network.created.clone(), network.log_key().to_owned()));
        drop(state);
        let (created, log_key) =
            found.ok_or_else(|| fail(Code::NotFound, "there is no network yet: run `writd init`"))?;
        Ok(Network {
            network: created.network.to_string().into(),
            name: created.name,
            prefix_v4: created.prefix_v4,
            prefix_v6: created.prefix_v6,
            origin: created.origin,
            log_key,
            as_of: AsOf::new(context, &moment)?,
            record,
        })
    }

    /// Users by their pseudonyms.
    #[graphql(guard = "Needs(Role::Viewer)", complexity = "page_cost(first, child_complexity)")]
    async fn users(
        &self,
        context: &Context<'_>,
        as_of: Option<AsOfInput>,
        status: Option<UserStatus>,
        #[graphql(desc = "At most 200.")] first: Option<i32>,
        after: Option<String>,
    ) -> Result<Rows<User>> {
        let after: Option<UserId> = after.as_deref().map(read).transpose()?;
        let has_previous = after.is_some();
        let slice = slice(first, after)?;
        let moment = moment(context, as_of).await?;
        let status = status.map(Into::into);
        let page = query(context, moment, move |lookup| {
            let page = users::list(lookup.connection, &lookup.moment, status, &slice)?;
            let edges = page.rows.into_iter().map(|row| Ok((row.user.to_string(), lookup.user(row)?)));
            Ok((edges.collect::<Result<_, crate::graphql::error::QueryError>>()?, page.has_next))
        });
        rows(context, &moment, page.await?, has_previous)
    }

    /// Nodes. Those that were removed are left out unless asked for.
    #[graphql(guard = "Needs(Role::Viewer)", complexity = "page_cost(first, child_complexity)")]
    #[expect(clippy::too_many_arguments, reason = "each is an argument of the API's field")]
    async fn nodes(
        &self,
        context: &Context<'_>,
        as_of: Option<AsOfInput>,
        #[graphql(desc = "Only this one.")] node: Option<ID>,
        #[graphql(desc = "Only of this user.")] owner: Option<ID>,
        #[graphql(desc = "Only with this tag.")] tag: Option<String>,
        #[graphql(default)] with_removed: bool,
        #[graphql(desc = "At most 200.")] first: Option<i32>,
        after: Option<String>,
    ) -> Result<Rows<Node>> {
        let after: Option<NodeId> = after.as_deref().map(read).transpose()?;
        let has_previous = after.is_some();
        let slice = slice(first, after)?;
        let tag = tag.as_deref().map(read::<Tag>).transpose()?.map(|tag| tag.to_string());
        let (node, owner) = (read_optional(node.as_ref())?, read_optional(owner.as_ref())?);
        let filter = NodeFilter { node, owner, tag, with_removed };
        let moment = moment(context, as_of).await?;
        let page = query(context, moment, move |lookup| {
            let page = nodes::list(lookup.connection, &lookup.moment, &filter, &slice)?;
            let edges = page.rows.into_iter().map(|row| Ok((row.node.to_string(), lookup.node(row)?)));
            Ok((edges.collect::<Result<_, crate::graphql::error::QueryError>>()?, page.has_next))
        });
        rows(context, &moment, page.await?, has_previous)
    }

    /// Enrolment keys and how often they were used.
    #[graphql(guard = "Needs(Role::Auditor)", complexity = "page_cost(first, child_complexity)")]
    async fn enrolment_keys(
        &self,
        context: &Context<'_>,
        as_of: Option<AsOfInput>,
        #[graphql(desc = "At most 200.")] first: Option<i32>,
        after: Option<String>,
    ) -> Result<Rows<EnrolmentKey>> {
        let after: Option<EnrolmentKeyId> = after.as_deref().map(read).transpose()?;
        let has_previous = after.is_some();
        let slice = slice(first, after)?;
        let moment = moment(context, as_of).await?;
        let page = query(context, moment, move |lookup| {
            let page = enrolment_keys::list(lookup.connection, &lookup.moment, &slice)?;
            let edges =
                page.rows.into_iter().map(|row| Ok((row.key.to_string(), lookup.enrolment_key(row)?)));
            Ok((edges.collect::<Result<_, crate::graphql::error::QueryError>>()?, page.has_next))
        });
        rows(context, &moment, page.await?, has_previous)
    }

    /// Local administrators, those whose role was revoked included.
    #[graphql(guard = "Needs(Role::Auditor)", complexity = "page_cost(first, child_complexity)")]
    async fn admins(
        &self,
        context: &Context<'_>,
        as_of: Option<AsOfInput>,
        #[graphql(desc = "At most 200.")] first: Option<i32>,
        after: Option<String>,
    ) -> Result<Rows<Admin>> {
        let after: Option<AdminId> = after.as_deref().map(read).transpose()?;
        let has_previous = after.is_some();
        let slice = slice(first, after)?;
        let moment = moment(context, as_of).await?;
        let page = query(context, moment, move |lookup| {
            let page = admins::list(lookup.connection, &lookup.moment, &slice)?;
            let edges = page.rows.into_iter().map(|row| Ok((row.admin.to_string(), lookup.admin(row)?)));
            Ok((edges.collect::<Result<_, crate::graphql::error::QueryError>>()?, page.has_next))
        });
        rows(context, &moment, page.await?, has_previous)
    }
}
