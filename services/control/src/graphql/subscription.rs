//! The live log.

use std::sync::Arc;

use async_graphql::{Context, Result, Subscription as GraphqlSubscription};
use futures_util::{Stream, StreamExt, stream};
use sha2::{Digest, Sha256};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use writ_schema::event::{Event, Role};

use super::caller::{Needs, caller};
use super::commands::record;
use super::error::{Code, bad_input, fail, of_submit};
use super::submission::submission;
use super::types::Record;
use crate::core::Command;
use crate::sequencer::{Commit, SequencerHandle};

/// Subscriptions.
pub struct Subscription;

#[GraphqlSubscription]
impl Subscription {
    /// Records as they are committed. A subscriber that falls behind is told so, and goes on with
    /// `records(after: …)` where it stopped.
    #[graphql(guard = "Needs(Role::Auditor)")]
    async fn records(
        &self,
        context: &Context<'_>,
        #[graphql(desc = "Only of these kinds, such as `node.joined`.")] kinds: Option<Vec<String>>,
    ) -> Result<impl Stream<Item = Result<Record>> + use<>> {
        let kinds = kinds.unwrap_or_default();
        if let Some(unknown) = kinds.iter().find(|kind| Event::known_version(kind).is_none()) {
            return Err(bad_input(format!("there is no kind `{unknown}` of records")));
        }
        let sequencer = context.data::<SequencerHandle>()?;
        let digest = data_encoding::HEXLOWER.encode(&Sha256::digest(kinds.join("\n")));
        let command = Command::RecordQuery { fields: vec!["subscription.records".to_owned()], digest };
        // Recorded once, when it begins, and not for what it then shows: that would never end.
        sequencer.submit(submission(caller(context)?.actor(), command)?).await.map_err(of_submit)?;
        Ok(follow(sequencer.subscribe()).filter(move |next| {
            let wanted = next.as_ref().map_or(true, |shown| kinds.is_empty() || kinds.contains(&shown.kind));
            std::future::ready(wanted)
        }))
    }
}

/// Every record of every commit, until the log is closed or the receiver falls behind.
fn follow(commits: Receiver<Arc<Commit>>) -> impl Stream<Item = Result<Record>> {
    stream::unfold(Some(commits), |commits| async move {
        let mut commits = commits?;
        match commits.recv().await {
            Ok(commit) => {
                let records: Vec<_> = commit.records.iter().map(|open| Ok(record(&open.record))).collect();
                Some((records, Some(commits)))
            }
            Err(RecvError::Lagged(_)) => {
                let message =
                    "the subscription fell behind: go on with `records(after: …)` and subscribe again";
                Some((vec![Err(fail(Code::Busy, message))], None))
            }
            Err(RecvError::Closed) => None,
        }
    })
    .flat_map(stream::iter)
}
