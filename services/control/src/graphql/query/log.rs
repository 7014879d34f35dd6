//! The log itself: records, checkpoints, proofs, and how far the views are.

use async_graphql::{Context, ID, InputObject, Object, Result};
use jiff::Timestamp;
use writ_ledger::store::Reader;
use writ_schema::event::{Event, Role};

use crate::cosigners::Cosigners;
use crate::graphql::caller::Needs;
use crate::graphql::error::{Code, QueryError, bad_input, fail};
use crate::graphql::scalars::{Time, UInt, read_cursor};
use crate::graphql::scope::{AsOfInput, moment, page_cost, query, slice};
use crate::graphql::types::{
    AsOf, Checkpoint, ConsistencyProof, Extent, KindCount, Record, Rows, ViewsStatus, Witnesses, rows,
};
use crate::views::Views;
use crate::views::records::{self, RecordFilter};

/// Which records are wanted. What is absent does not restrict.
#[derive(InputObject, Default)]
pub struct RecordFilterInput {
    /// Of these kinds, such as `node.joined`.
    kinds: Option<Vec<String>>,
    /// Not earlier.
    from: Option<Time>,
    /// Earlier than this.
    to: Option<Time>,
    /// Caused by this actor: an identifier, or `system`, `agent`, `anonymous`.
    actor: Option<String>,
    /// Brought about by the record at this position.
    cause: Option<UInt>,
    /// That name this identifier, of whatever kind, where it is no secret.
    subject: Option<ID>,
}

impl RecordFilterInput {
    /// Checks what the caller wrote.
    pub(super) fn read(self) -> Result<RecordFilter> {
        let kinds = self.kinds.unwrap_or_default();
        if kinds.len() > Event::CATALOGUE.len() {
            return Err(bad_input("`kinds` names more kinds than there are"));
        }
        if let Some(unknown) = kinds.iter().find(|kind| Event::known_version(kind).is_none()) {
            return Err(bad_input(format!("there is no kind `{unknown}` of records")));
        }
        Ok(RecordFilter {
            kinds,
            from: self.from.map(|time| time.0),
            to: self.to.map(|time| time.0),
            actor: self.actor,
            cause: self.cause.map(Into::into),
            subject: self.subject.map(|subject| subject.to_string()),
        })
    }
}

/// The log.
#[derive(Default)]
pub struct LogQuery;

#[Object]
impl LogQuery {
    /// Records in order.
    #[graphql(guard = "Needs(Role::Auditor)", complexity = "page_cost(first, child_complexity)")]
    async fn records(
        &self,
        context: &Context<'_>,
        as_of: Option<AsOfInput>,
        filter: Option<RecordFilterInput>,
        #[graphql(default)] newest_first: bool,
        #[graphql(desc = "At most 200.")] first: Option<i32>,
        after: Option<String>,
    ) -> Result<Rows<Record>> {
        let after = read_cursor(after)?;
        let slice = slice(first, after)?.newest_first(newest_first);
        let filter = filter.unwrap_or_default().read()?;
        let moment = moment(context, as_of).await?;
        let page = query(context, moment, move |lookup| {
            let page = records::list(lookup.connection, &lookup.moment, &filter, &slice)?;
            let edges = page.rows.into_iter().map(|row| (row.seq.to_string(), Record::new(row)));
            Ok((edges.collect(), page.has_next))
        });
        rows(context, &moment, page.await?, after.is_some())
    }

    /// One record; ask for its `proof` to be sure of it.
    #[graphql(guard = "Needs(Role::Auditor)")]
    async fn record(&self, context: &Context<'_>, seq: UInt) -> Result<Record> {
        let moment = moment(context, None).await?;
        if seq.0 >= moment.size {
            let message = format!("there is no record {} yet: the log holds {}", seq.0, moment.size);
            return Err(fail(Code::NotFound, message));
        }
        query(context, moment, move |lookup| lookup.record(seq.into())).await
    }

    /// What a time of the log holds: first and last record, and how many of each kind.
    #[graphql(guard = "Needs(Role::Auditor)", complexity = "50 + child_complexity")]
    async fn history(
        &self,
        context: &Context<'_>,
        as_of: Option<AsOfInput>,
        #[graphql(desc = "From this time on.")] from: Option<Time>,
        #[graphql(desc = "Up to, but not including, this time.")] to: Option<Time>,
    ) -> Result<Extent> {
        let (from, to) = (from.map(|time| time.0), to.map(|time| time.0));
        let moment = moment(context, as_of).await?;
        let found = query(context, moment, move |lookup| {
            let counts = records::counts(lookup.connection, &lookup.moment, from, to)?;
            let range = records::range(lookup.connection, &lookup.moment, from, to)?;
            Ok::<_, QueryError>((counts, range))
        });
        let (counts, range) = found.await?;
        let counts = counts.into_iter().map(|(kind, count)| KindCount { kind, count: count.into() });
        Ok(Extent {
            as_of: AsOf::new(context, &moment)?,
            first: range.map(|(first, _)| first.into()),
            last: range.map(|(_, last)| last.into()),
            counts: counts.collect(),
        })
    }

    /// The newest signed checkpoint.
    #[graphql(guard = "Needs(Role::Viewer)")]
    async fn checkpoint(&self, context: &Context<'_>) -> Result<Checkpoint> {
        Checkpoint::newest(context)
    }

    /// The witnesses of the log, and how far they have cosigned it.
    #[graphql(guard = "Needs(Role::Viewer)")]
    async fn witnesses(&self, context: &Context<'_>) -> Result<Witnesses> {
        Ok(Witnesses::now(context.data::<Cosigners>()?))
    }

    /// Proof that the log had only grown between two of its sizes.
    #[graphql(guard = "Needs(Role::Viewer)", complexity = "5 + child_complexity")]
    async fn consistency(
        &self,
        context: &Context<'_>,
        old_size: UInt,
        #[graphql(desc = "That of the newest checkpoint, if left out.")] new_size: Option<UInt>,
    ) -> Result<ConsistencyProof> {
        let reader = context.data::<Reader>()?;
        let checkpoint = Checkpoint::newest(context)?;
        let new_size = new_size.unwrap_or(checkpoint.size);
        if let Some(beyond) = [old_size, new_size].into_iter().find(|size| size.0 > checkpoint.size.0) {
            let message = format!("the log holds {} records, not {}", checkpoint.size.0, beyond.0);
            return Err(bad_input(message));
        }
        if old_size.0 > new_size.0 {
            let message = format!("`oldSize` is {}, more than `newSize`, {}", old_size.0, new_size.0);
            return Err(bad_input(message));
        }
        let unreadable = |error| fail(Code::Unavailable, format!("the log cannot be read: {error}"));
        let proof = reader.consistency(old_size.0, new_size.0).map_err(unreadable)?;
        Ok(ConsistencyProof {
            old_size,
            new_size,
            old_root: reader.root(old_size.0).map_err(unreadable)?.to_string(),
            new_root: reader.root(new_size.0).map_err(unreadable)?.to_string(),
            hashes: proof.hashes.iter().map(ToString::to_string).collect(),
            checkpoint,
        })
    }

    /// How far the views that answer queries have followed the log.
    #[graphql(guard = "Needs(Role::Viewer)")]
    async fn views(&self, context: &Context<'_>) -> Result<ViewsStatus> {
        let progress = context.data::<Views>()?.progress();
        let behind = progress.behind_since.map_or(0, |since| since.elapsed().as_millis());
        Ok(ViewsStatus {
            position: progress.folded.into(),
            head: progress.head.into(),
            lag: progress.lag().into(),
            behind_milliseconds: u64::try_from(behind).unwrap_or(u64::MAX).into(),
            fault: progress.fault.map(|fault| fault.to_string()),
        })
    }

    /// The control plane's clock.
    #[graphql(guard = "Needs(Role::Viewer)")]
    async fn now(&self) -> Time {
        Timestamp::now().into()
    }
}
