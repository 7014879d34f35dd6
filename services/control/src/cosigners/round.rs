//! Rounds: the newest checkpoint to all witnesses at once.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use writ_ledger::{NoteSignature, SignedCheckpoint};

use super::Cosigners;
use super::client::{Client, Failure};
use crate::sequencer::Commit;

/// The least time between two rounds: commits within it share the second one.
const LEAST_PAUSE: Duration = Duration::from_millis(200);

/// How often the same checkpoint is cosigned anew while nothing is written, so that its age says that it is the newest.
const REFRESH: Duration = Duration::from_secs(600);

const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

/// A witness that is asked.
struct Asked {
    client: Client,
    backoff: Duration,
    /// Not before.
    next: Instant,
}

pub(super) async fn run(
    cosigners: Cosigners,
    mut commits: Receiver<Arc<Commit>>,
    stopping: CancellationToken,
) {
    let http = match reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build() {
        Ok(http) => http,
        Err(error) => return tracing::error!(%error, "witnesses cannot be asked"),
    };
    let now = Instant::now();
    let mut asked: Vec<Asked> = cosigners
        .0
        .panel
        .witnesses
        .iter()
        .map(|witness| Asked {
            client: Client::new(witness.clone(), http.clone()),
            backoff: FIRST_BACKOFF,
            next: now,
        })
        .collect();
    loop {
        let round = async {
            ask_all(&cosigners, &mut asked).await;
            tokio::time::sleep(LEAST_PAUSE).await;
        };
        tokio::select! {
            () = round => {}
            () = stopping.cancelled() => return,
        }
        let next = next_round(&cosigners, &asked);
        tokio::select! {
            commit = commits.recv() => if matches!(commit, Err(RecvError::Closed)) { return },
            () = tokio::time::sleep_until(next) => {}
            () = stopping.cancelled() => return,
        }
        // What came meanwhile is covered by the newest checkpoint.
        while commits.try_recv().is_ok() {}
    }
}

/// When there is something to ask although nothing is written: a witness that failed, or a cosignature that grows old.
fn next_round(cosigners: &Cosigners, asked: &[Asked]) -> Instant {
    let size = cosigners.0.log.size();
    let behind = cosigners.statuses().into_iter().zip(asked);
    let behind = behind.filter(|(status, _)| status.problem.is_some() || status.cosigned_size != Some(size));
    let retry = behind.map(|(_, asked)| asked.next).min();
    let refresh = Instant::now() + REFRESH;
    retry.map_or(refresh, |retry| retry.min(refresh))
}

async fn ask_all(cosigners: &Cosigners, asked: &mut [Asked]) {
    let signed = cosigners.newest();
    let (size, now) = (signed.checkpoint().size, Instant::now());
    if cosigners.cosigned().is_none_or(|cosigned| cosigned.checkpoint().size < size) {
        cosigners.note_behind(true);
    }
    let log = &cosigners.0.log;
    let due = asked.iter_mut().enumerate().filter(|(_, asked)| asked.next <= now);
    let answers = due.map(|(at, asked)| {
        let signed = signed.clone();
        async move {
            let answer = asked.client.cosign(log, &signed).await;
            match &answer {
                Ok(_) => (asked.backoff, asked.next) = (FIRST_BACKOFF, Instant::now()),
                Err(_) => {
                    asked.next = Instant::now() + asked.backoff;
                    asked.backoff = (asked.backoff * 2).min(LONGEST_BACKOFF);
                }
            }
            (at, answer)
        }
    });
    let mut lines = Vec::new();
    for (at, answer) in join_all(answers).await {
        lines.extend(record(cosigners, at, size, answer));
    }
    take_in(cosigners, &signed, &lines);
}

fn record(
    cosigners: &Cosigners,
    at: usize,
    size: u64,
    answer: Result<(NoteSignature, u64), Failure>,
) -> Option<NoteSignature> {
    let name = cosigners.0.panel.witnesses.get(at).map(|witness| witness.key.name()).unwrap_or_default();
    match answer {
        Ok((line, time)) => {
            tracing::debug!(witness = name, size, "cosigned");
            cosigners.note(at, |status| {
                (status.cosigned_size, status.cosigned_at, status.problem) = (Some(size), Some(time), None);
            });
            Some(line)
        }
        Err(failure) => {
            if failure.is_alarm() {
                tracing::error!(witness = name, size, %failure, "a witness contradicts this log");
            } else {
                tracing::warn!(witness = name, size, %failure, "a witness did not cosign");
            }
            cosigners.note(at, |status| {
                status.failures = status.failures.saturating_add(1);
                status.problem = Some(failure.to_string());
            });
            None
        }
    }
}

/// Publishes the checkpoint if, with these lines, a quorum has cosigned it.
fn take_in(cosigners: &Cosigners, signed: &SignedCheckpoint, lines: &[NoteSignature]) {
    if lines.is_empty() {
        return;
    }
    let cosigned = signed.with_signatures(lines);
    let Ok(note) = cosigned.text().parse() else { return };
    let panel = &cosigners.0.panel;
    let count = panel.witnesses.iter().filter(|by| matches!(by.key.cosigned(&note), Ok(Some(_)))).count();
    if count >= panel.quorum {
        cosigners.publish(cosigned);
        cosigners.note_behind(false);
    }
}
