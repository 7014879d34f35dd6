//! Nodes without agents, by the dozen, against a real control plane on a loopback.
//!
//! It is served without TLS, so that what is measured is the control plane and not the handshakes.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use writ_schema::event::AcknowledgedAction;
use writ_schema::net::Protocol;
use writ_schema::protocol::EnrolmentTicket;
use writ_schema::{Event, Record};

use super::beside;
use super::figure::Figure;
use super::node::Node;
use super::session::{Answer, Carried, Session};
use crate::lab::{Lab, wait_for};
use crate::parts::{ControlPlane, Operator, Owner, Programs, Settings};

/// Nodes that have a session at the same time.
const SESSIONS: usize = 32;
/// How long each rate is measured.
const TIME: Duration = Duration::from_millis(1500);
/// Live authorizations that a policy change takes away.
const CUT: usize = 50;
/// Agents have acknowledged well within this, or something is wrong.
const ACKNOWLEDGE_LIMIT: Duration = Duration::from_secs(10);

/// How many nodes may join with one key; at most so many joins are measured.
const USES: u32 = 1000;

const PORT: u16 = 80;
const TAG: &str = "tag:load";
const ALLOWING: &str = r#"{
    "tagOwners": { "tag:load": [] },
    "acls": [{ "action": "accept", "src": ["tag:load"], "dst": ["tag:load:80"] }],
}"#;
const EMPTY: &str = r#"{ "tagOwners": { "tag:load": [] }, "acls": [] }"#;

/// Joins, authorizations, and withdrawals.
pub(super) fn measure(programs: &Programs) -> anyhow::Result<Vec<Figure>> {
    let lab = Lab::new("throughput")?;
    let host = lab.host("control")?;
    let settings = Settings::at("figures", Ipv4Addr::LOCALHOST);
    let control = ControlPlane::create(programs, &host, &lab.directory().join("data"), settings)?;
    let operator = Operator::sign_in(&control)?;
    operator.set_policy(ALLOWING)?;
    let key = || operator.enrolment_key(Owner::Tag(TAG), USES);
    let (one_by_one, at_once, ticket) = (key()?, key()?, key()?);
    let plain = beside::durable_appends(lab.directory())?;

    let cut = operator.clone();
    let measured = host.inside(move || runtime()?.block_on(authorizations(&ticket, cut)))?;
    let rate = measured.context("authorizations could not be measured")?;
    let withdrawal = withdrawal(&control)?;

    // Last, for the effect of a policy change is computed on every pair of nodes.
    let measured = host.inside(move || runtime()?.block_on(joins(&one_by_one, &at_once)))?;
    let [one, many] = measured.context("joins could not be measured")?;

    Ok(vec![
        one.beside("joins_one_by_one_to_plain_appends", &plain),
        many.beside("joins_32_at_once_to_plain_appends", &plain),
        rate.beside("authorizations_to_plain_appends", &plain),
        plain,
        one,
        many,
        rate,
        withdrawal,
    ])
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime can be started")
}

/// One by one, and as many at once as there will be sessions.
async fn joins(one_by_one: &EnrolmentTicket, at_once: &EnrolmentTicket) -> anyhow::Result<[Figure; 2]> {
    let one = join_for(one_by_one, 1, TIME).await?;
    let many = join_for(at_once, SESSIONS, TIME).await?;
    Ok([
        Figure::rate("joins_per_second_one_by_one", one.0, one.1),
        Figure::rate("joins_per_second_32_at_once", many.0, many.1),
    ])
}

async fn join_for(
    ticket: &EnrolmentTicket,
    at_once: usize,
    time: Duration,
) -> anyhow::Result<(usize, Duration)> {
    let start = Instant::now();
    let begun = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..at_once {
        let (http, ticket, begun) = (client()?, ticket.clone(), Arc::clone(&begun));
        tasks.spawn(async move {
            let mut count = 0_usize;
            while start.elapsed() < time {
                let number = begun.fetch_add(1, Ordering::SeqCst);
                if number >= USES as usize {
                    break;
                }
                Node::join(&http, &ticket, format!("load-{at_once}-{number}")).await?;
                count = count.saturating_add(1);
            }
            Ok::<_, anyhow::Error>(count)
        });
    }
    let mut total = 0_usize;
    while let Some(count) = tasks.join_next().await {
        total = total.saturating_add(count??);
    }
    Ok((total, start.elapsed()))
}

/// Each join comes from another machine, so each has a connection of its own.
fn client() -> anyhow::Result<reqwest::Client> {
    let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build();
    client.context("no HTTP client can be made")
}

/// First the policy change that takes live authorizations away, while there are just so many; then as many
/// authorizations as it can decide.
async fn authorizations(ticket: &EnrolmentTicket, operator: Operator) -> anyhow::Result<Figure> {
    let mut sessions = open_sessions(ticket).await?;
    let addresses: Vec<Ipv4Addr> = sessions.iter().map(|session| session.node().address()).collect();
    sessions = cut(sessions, &addresses, operator.clone()).await?;
    tokio::task::spawn_blocking(move || operator.set_policy(ALLOWING)).await??;
    ask_for(sessions, &addresses, TIME).await
}

async fn open_sessions(ticket: &EnrolmentTicket) -> anyhow::Result<Vec<Session>> {
    let http = client()?;
    let mut sessions = Vec::with_capacity(SESSIONS);
    for number in 0..SESSIONS {
        let node = Node::join(&http, ticket, format!("session-{number}")).await?;
        sessions.push(Session::open(node).await?);
    }
    Ok(sessions)
}

/// Who is asked by whom: the next one, and where one asks more than once, the one after that.
fn target(addresses: &[Ipv4Addr], asker: usize, round: usize) -> anyhow::Result<IpAddr> {
    let position = asker.saturating_add(round).saturating_add(1).checked_rem(addresses.len());
    let address = position.and_then(|position| addresses.get(position)).context("there is nobody to ask")?;
    Ok(IpAddr::V4(*address))
}

/// Authorizes [`CUT`] connections, puts the empty policy in force, and serves until every end has acknowledged.
async fn cut(
    sessions: Vec<Session>,
    addresses: &[Ipv4Addr],
    operator: Operator,
) -> anyhow::Result<Vec<Session>> {
    let (stop, stopped) = watch::channel(false);
    let established = Arc::new(AtomicUsize::new(0));
    let withdrawn = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for (number, mut session) in sessions.into_iter().enumerate() {
        let rounds = CUT.saturating_sub(number).div_ceil(SESSIONS);
        let targets: Vec<_> =
            (0..rounds).map(|round| target(addresses, number, round)).collect::<Result<_, _>>()?;
        let (established, withdrawn, stopped) =
            (Arc::clone(&established), Arc::clone(&withdrawn), stopped.clone());
        tasks.spawn(async move {
            for target in targets {
                match session.ask(target, Protocol::Tcp, PORT).await? {
                    Answer::Authorized(_) => established.fetch_add(1, Ordering::SeqCst),
                    Answer::Denied(reason, record) => bail!("denied by record {record}: {reason:?}"),
                };
            }
            serve(session, stopped, &withdrawn).await
        });
    }
    wait_for_count(&established, CUT).await.context("not every connection was authorized")?;
    tokio::task::spawn_blocking(move || operator.set_policy(EMPTY)).await??;
    wait_for_count(&withdrawn, CUT.saturating_mul(2)).await.context("not every end was told")?;
    stop.send_replace(true);
    let mut back = Vec::with_capacity(SESSIONS);
    while let Some(session) = tasks.join_next().await {
        back.push(session??);
    }
    // Who asks whom stands on the order.
    let place = |session: &Session| addresses.iter().position(|address| *address == session.node().address());
    back.sort_by_key(place);
    Ok(back)
}

/// Carries out what comes until told to stop.
async fn serve(
    mut session: Session,
    mut stopped: watch::Receiver<bool>,
    withdrawn: &AtomicUsize,
) -> anyhow::Result<Session> {
    loop {
        let message = tokio::select! {
            message = session.next() => message?,
            _ = stopped.wait_for(|stop| *stop) => return Ok(session),
        };
        if session.carry_out(&message).await? == Carried::Withdrawn {
            withdrawn.fetch_add(1, Ordering::SeqCst);
        }
    }
}

async fn wait_for_count(count: &AtomicUsize, wanted: usize) -> anyhow::Result<()> {
    let start = Instant::now();
    while count.load(Ordering::SeqCst) < wanted {
        let seen = count.load(Ordering::SeqCst);
        ensure!(start.elapsed() < ACKNOWLEDGE_LIMIT, "{seen} of {wanted} after {ACKNOWLEDGE_LIMIT:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Every session asks as fast as it is answered, and acknowledges what it gets at both ends.
async fn ask_for(sessions: Vec<Session>, addresses: &[Ipv4Addr], time: Duration) -> anyhow::Result<Figure> {
    let (stop, stopped) = watch::channel(false);
    let (counts, mut counted) = mpsc::channel(SESSIONS);
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for (number, mut session) in sessions.into_iter().enumerate() {
        let target = target(addresses, number, 0)?;
        let (stopped, counts) = (stopped.clone(), counts.clone());
        tasks.spawn(async move {
            let mut count = 0_usize;
            while start.elapsed() < time {
                match session.ask(target, Protocol::Tcp, PORT).await? {
                    Answer::Authorized(_) => count = count.saturating_add(1),
                    Answer::Denied(reason, record) => bail!("denied by record {record}: {reason:?}"),
                }
            }
            counts.send(count).await.context("nobody counts")?;
            drop(counts);
            drop(serve(session, stopped, &AtomicUsize::new(0)).await?);
            Ok(())
        });
    }
    drop(counts);
    let (mut total, mut finished) = (0_usize, 0_usize);
    while let Some(count) = counted.recv().await {
        total = total.saturating_add(count);
        finished = finished.saturating_add(1);
    }
    let took = start.elapsed();
    stop.send_replace(true);
    while let Some(end) = tasks.join_next().await {
        end??;
    }
    ensure!(finished == SESSIONS, "only {finished} of {SESSIONS} sessions lasted");
    Ok(Figure::rate("authorizations_per_second_32_sessions", total, took))
}

/// From the policy's record to the record of the last acknowledgement.
fn withdrawal(control: &ControlPlane) -> anyhow::Result<Figure> {
    let read = || {
        let records = control.records()?;
        let acknowledged: Vec<&Record> = records.iter().filter(|record| is_withdrawal(record)).collect();
        ensure!(acknowledged.len() == CUT.saturating_mul(2), "{} acknowledgements", acknowledged.len());
        let revoked = records.iter().find(|record| matches!(record.event, Event::ConnectionRevoked(_)));
        let cause = revoked.and_then(|record| record.cause).context("no revocation names its cause")?;
        let cause =
            records.iter().find(|record| record.seq == cause).context("the cause is not in the log")?;
        let last = acknowledged.iter().map(|record| record.time).max().context("there is no last one")?;
        let took = Duration::try_from(last.duration_since(cause.time)).context("time ran backwards")?;
        Ok::<_, anyhow::Error>(Figure::time("policy_change_to_last_of_100_acknowledgements", took))
    };
    Ok(wait_for(ACKNOWLEDGE_LIMIT, "every acknowledgement is in the log", read)?)
}

fn is_withdrawal(record: &Record) -> bool {
    matches!(&record.event, Event::ConnectionAcknowledged(event) if event.action == AcknowledgedAction::Withdrawn)
}
