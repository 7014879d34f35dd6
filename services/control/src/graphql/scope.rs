//! What all fields of one request share: the moment that is their present.

use std::time::Duration;

use async_graphql::{Context, OneofObject, Result};
use jiff::Timestamp;
use rusqlite::Connection;
use tokio::sync::OnceCell;
use writ_schema::event::Role;

use super::caller::{caller, permit};
use super::error::{Code, QueryError, fail};
use super::lookup::Lookup;
use super::scalars::{Time, UInt};
use crate::sequencer::SequencerHandle;
use crate::views::{AsOf, Moment, Slice, Views};

/// How long a query waits for the views to take in what was committed before it came.
const PATIENCE: Duration = Duration::from_secs(5);

/// Rows of a page where the caller does not say.
pub(super) const DEFAULT_PAGE: usize = 50;

/// The moment that a query asks about. Left out, it is the present.
#[derive(OneofObject, Debug, Clone, Copy)]
pub enum AsOfInput {
    /// Right after the record at this position.
    Record(UInt),
    /// At this time: after the last record that is not later.
    Time(Time),
}

impl AsOfInput {
    fn moment(self) -> AsOf {
        match self {
            Self::Record(seq) => AsOf::Record(seq.into()),
            Self::Time(time) => AsOf::Time(time.0),
        }
    }
}

/// One request's own.
#[derive(Debug, Default)]
pub(super) struct Scope {
    present: OnceCell<Moment>,
}

/// Finds the moment of a query. The past needs a role of its own; the present is the same for all fields of a request.
pub(super) async fn moment(context: &Context<'_>, as_of: Option<AsOfInput>) -> Result<Moment> {
    let views = context.data::<Views>()?.clone();
    let present = context.data::<Scope>()?.present.get_or_try_init(|| present(context, &views)).await?;
    let Some(as_of) = as_of else { return Ok(*present) };
    permit(context, Role::Auditor, "asOf").await?;
    let now = present.time;
    let found = views
        .read(move |connection| Moment::resolve(connection, as_of.moment(), now).map_err(QueryError::from))
        .await?;
    Ok(found)
}

async fn present(context: &Context<'_>, views: &Views) -> Result<Moment> {
    let committed = context.data::<SequencerHandle>()?.state().size();
    let progress = views.caught_up(committed, PATIENCE).await;
    if let Some(fault) = progress.fault {
        return Err(fail(Code::Unavailable, format!("the views do not follow the log: {fault}")));
    }
    let now = Timestamp::now();
    Ok(views
        .read(move |connection| Moment::resolve(connection, AsOf::Present, now).map_err(QueryError::from))
        .await?)
}

/// Runs a query over the views, with everything that turns rows into answers.
pub(super) async fn query<T, F>(context: &Context<'_>, moment: Moment, run: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce(&Lookup<'_>) -> Result<T, QueryError> + Send + 'static,
{
    let views = context.data::<Views>()?;
    let sees_names = caller(context)?.sees_names();
    let answer = views.read(move |connection: &Connection| run(&Lookup { connection, moment, sees_names }));
    Ok(answer.await?)
}

/// The part of a list that the caller asks for.
pub(super) fn slice<K>(first: Option<i32>, after: Option<K>) -> Result<Slice<K>> {
    let first = match first {
        None => DEFAULT_PAGE,
        Some(first) => usize::try_from(first)
            .map_err(|_| fail(Code::BadInput, "`first` cannot be negative".to_owned()))?,
    };
    Slice::new(first, after).map_err(super::error::of_view)
}

/// What a page costs: its rows times what one row costs.
pub(super) fn page_cost(first: Option<i32>, row: usize) -> usize {
    let rows = first.map_or(DEFAULT_PAGE, |first| usize::try_from(first).unwrap_or(0));
    rows.max(1).saturating_mul(row.max(1))
}
