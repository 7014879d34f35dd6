//! What happened: connections, denials, sessions, withdrawals.

use async_graphql::{Context, ID, InputObject, Object, Result};
use writ_schema::event::Role;

use crate::graphql::caller::Needs;
use crate::graphql::enums::DenialReason;
use crate::graphql::error::QueryError;
use crate::graphql::scalars::{Time, read, read_cursor, read_optional};
use crate::graphql::scope::{AsOfInput, moment, page_cost, query, slice};
use crate::graphql::types::{Authorization, Denial, Rows, Session, Withdrawal, rows};
use crate::views::connections::{self, ConnectionFilter};
use crate::views::denials::{self, DenialFilter};
use crate::views::{sessions, withdrawals};

/// What one connection costs besides its own fields: its ends, acknowledgements and reports.
const CONNECTION_COST: usize = 5;

/// What one withdrawal costs besides its own fields: it lists its revocations.
const WITHDRAWAL_COST: usize = 20;

/// Which connections are wanted. What is absent does not restrict.
#[derive(InputObject, Default)]
pub struct ConnectionFilterInput {
    /// From this node.
    source: Option<ID>,
    /// From this user's nodes.
    user: Option<ID>,
    /// To this node.
    destination: Option<ID>,
    /// By this protocol: `tcp`, `udp`, `icmp` or a number.
    protocol: Option<String>,
    /// With this port among theirs.
    port: Option<u16>,
    /// In force at the moment asked about.
    #[graphql(default)]
    live: bool,
    /// Given no earlier.
    from: Option<Time>,
    /// Given earlier than this.
    to: Option<Time>,
    /// The permission that others continue: the whole of a connection.
    chain: Option<ID>,
}

impl ConnectionFilterInput {
    fn read(self) -> Result<ConnectionFilter> {
        Ok(ConnectionFilter {
            source: read_optional(self.source.as_ref())?,
            user: read_optional(self.user.as_ref())?,
            destination: read_optional(self.destination.as_ref())?,
            protocol: self.protocol.as_deref().map(read).transpose()?,
            port: self.port,
            only_live: self.live,
            from: self.from.map(|time| time.0),
            to: self.to.map(|time| time.0),
            chain: read_optional(self.chain.as_ref())?,
        })
    }
}

/// Which denials are wanted. What is absent does not restrict.
#[derive(InputObject, Default)]
pub struct DenialFilterInput {
    /// Of requests by this node.
    source: Option<ID>,
    /// Of requests by this user's nodes.
    user: Option<ID>,
    /// Of requests for this node.
    destination: Option<ID>,
    /// For this reason.
    reason: Option<DenialReason>,
    /// Not earlier.
    from: Option<Time>,
    /// Earlier than this.
    to: Option<Time>,
}

impl DenialFilterInput {
    fn read(self) -> Result<DenialFilter> {
        Ok(DenialFilter {
            source: read_optional(self.source.as_ref())?,
            user: read_optional(self.user.as_ref())?,
            destination: read_optional(self.destination.as_ref())?,
            reason: self.reason.map(Into::into),
            from: self.from.map(|time| time.0),
            to: self.to.map(|time| time.0),
        })
    }
}

/// History. Each of these queries is recorded.
#[derive(Default)]
pub struct HistoryQuery;

#[Object]
impl HistoryQuery {
    /// Authorizations with what became of them, in order of their records.
    #[graphql(
        guard = "Needs(Role::Auditor)",
        complexity = "page_cost(first, child_complexity + CONNECTION_COST)"
    )]
    async fn connections(
        &self,
        context: &Context<'_>,
        as_of: Option<AsOfInput>,
        filter: Option<ConnectionFilterInput>,
        #[graphql(default)] newest_first: bool,
        #[graphql(desc = "At most 200.")] first: Option<i32>,
        after: Option<String>,
    ) -> Result<Rows<Authorization>> {
        let after = read_cursor(after)?;
        let slice = slice(first, after)?.newest_first(newest_first);
        let filter = filter.unwrap_or_default().read()?;
        let moment = moment(context, as_of).await?;
        let page = query(context, moment, move |lookup| {
            let page = connections::list(lookup.connection, &lookup.moment, &filter, &slice)?;
            let edges =
                page.rows.into_iter().map(|row| Ok((row.seq.to_string(), lookup.authorization(row)?)));
            Ok((edges.collect::<Result<_, QueryError>>()?, page.has_next))
        });
        rows(context, &moment, page.await?, after.is_some())
    }

    /// Refused connections, in order of their records.
    #[graphql(guard = "Needs(Role::Auditor)", complexity = "page_cost(first, child_complexity)")]
    async fn denials(
        &self,
        context: &Context<'_>,
        as_of: Option<AsOfInput>,
        filter: Option<DenialFilterInput>,
        #[graphql(default)] newest_first: bool,
        #[graphql(desc = "At most 200.")] first: Option<i32>,
        after: Option<String>,
    ) -> Result<Rows<Denial>> {
        let after = read_cursor(after)?;
        let slice = slice(first, after)?.newest_first(newest_first);
        let filter = filter.unwrap_or_default().read()?;
        let moment = moment(context, as_of).await?;
        let page = query(context, moment, move |lookup| {
            let page = denials::list(lookup.connection, &lookup.moment, &filter, &slice)?;
            let edges = page.rows.into_iter().map(|row| Ok((row.seq.to_string(), lookup.denial(row)?)));
            Ok((edges.collect::<Result<_, QueryError>>()?, page.has_next))
        });
        rows(context, &moment, page.await?, after.is_some())
    }

    /// Sessions: when which agent was connected.
    #[graphql(guard = "Needs(Role::Auditor)", complexity = "page_cost(first, child_complexity)")]
    #[expect(clippy::too_many_arguments, reason = "each is an argument of the API's field")]
    async fn sessions(
        &self,
        context: &Context<'_>,
        as_of: Option<AsOfInput>,
        #[graphql(desc = "Only of this node.")] node: Option<ID>,
        #[graphql(default, desc = "Only those open at the moment asked about.")] open: bool,
        #[graphql(default)] newest_first: bool,
        #[graphql(desc = "At most 200.")] first: Option<i32>,
        after: Option<String>,
    ) -> Result<Rows<Session>> {
        let after = read_cursor(after)?;
        let slice = slice(first, after)?.newest_first(newest_first);
        let node = read_optional(node.as_ref())?;
        let moment = moment(context, as_of).await?;
        let page = query(context, moment, move |lookup| {
            let page = sessions::list(lookup.connection, &lookup.moment, node.as_ref(), open, &slice)?;
            let edges = page.rows.into_iter().map(|row| Ok((row.started.to_string(), lookup.session(row)?)));
            Ok((edges.collect::<Result<_, QueryError>>()?, page.has_next))
        });
        rows(context, &moment, page.await?, after.is_some())
    }

    /// How long each withdrawal of permissions took until the last agent had acknowledged it, newest first. A leaver is
    /// listed even if there was nothing to revoke.
    #[graphql(
        guard = "Needs(Role::Auditor)",
        complexity = "page_cost(first, child_complexity + WITHDRAWAL_COST)"
    )]
    async fn withdrawals(
        &self,
        context: &Context<'_>,
        as_of: Option<AsOfInput>,
        #[graphql(desc = "Causes no earlier than this.")] from: Option<Time>,
        #[graphql(desc = "Causes earlier than this.")] to: Option<Time>,
        #[graphql(desc = "At most 200.")] first: Option<i32>,
        after: Option<String>,
    ) -> Result<Rows<Withdrawal>> {
        let after = read_cursor(after)?;
        let slice = slice(first, after)?;
        let (from, to) = (from.map(|time| time.0), to.map(|time| time.0));
        let moment = moment(context, as_of).await?;
        let page = query(context, moment, move |lookup| {
            let page = withdrawals::list(lookup.connection, &lookup.moment, from, to, &slice)?;
            let edges = page.rows.into_iter().map(|row| Ok((row.cause.to_string(), lookup.withdrawal(row)?)));
            Ok((edges.collect::<Result<_, QueryError>>()?, page.has_next))
        });
        rows(context, &moment, page.await?, after.is_some())
    }
}
