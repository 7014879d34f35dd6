//! What an agent with a thousand idle peers costs.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use writ_schema::net::Protocol;
use writ_schema::protocol::EnrolmentTicket;

use super::iperf::cpu_seconds;
use crate::lab::{Lab, Process, wait_for};
use crate::load::{Answer, Figure, Node, Session, Unit};
use crate::parts::{Agent, ControlPlane, Operator, Owner, Programs, Settings};

/// As many uses as one enrolment key may have, too.
const PEERS: u32 = 1_000;
const PORT: u16 = 80;
/// What was to be done because peers came is done by then.
const SETTLE: Duration = Duration::from_secs(5);
const TIME: Duration = Duration::from_secs(10);
const POLICY: &str = r#"{
    "tagOwners": { "tag:lab": [] },
    "acls": [{ "action": "accept", "src": ["tag:lab"], "dst": ["tag:lab:80"] }],
}"#;

/// Memory and processor time of an agent without peers, and of the same agent once a thousand nodes may connect to it.
///
/// # Errors
/// When the lab cannot run here, or a program is missing or fails.
pub fn measure(programs: &Programs) -> anyhow::Result<Vec<Figure>> {
    let lab = Lab::new("idle")?;
    let host = lab.host("host")?;
    let settings = Settings::at("idle", Ipv4Addr::LOCALHOST);
    let control = ControlPlane::create(programs, &host, &lab.directory().join("data"), settings)?;
    let operator = Operator::sign_in(&control)?;
    operator.set_policy(POLICY)?;
    let ticket = |uses| operator.enrolment_key(Owner::Tag("tag:lab"), uses);
    let agent = Agent::join(programs, &host, &lab.directory().join("agent"), "agent", &ticket(1)?)?;
    let alone = cost(agent.process()?)?;
    let (many, address) = (ticket(PEERS)?, agent.address()?);
    host.inside(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(connect(&many, address))
    })??;
    wait_for(SETTLE, "the agent knows its peers", || match agent.status() {
        Ok(status) if status["peers"].as_array().is_some_and(|peers| peers.len() == PEERS as usize) => Ok(()),
        Ok(_) => Err("some are missing".to_owned()),
        Err(error) => Err(error.to_string()),
    })?;
    let among = cost(agent.process()?)?;
    Ok(vec![
        Figure::new("idle_peers", f64::from(PEERS), Unit::Count),
        Figure::new("idle_memory", among.0, Unit::Mebibytes),
        Figure::new("idle_memory_without_peers", alone.0, Unit::Mebibytes),
        Figure::new("idle_cpu", among.1, Unit::Percent),
        Figure::new("idle_cpu_without_peers", alone.1, Unit::Percent),
    ])
}

/// Lets many nodes ask for a connection to an address.
async fn connect(ticket: &EnrolmentTicket, address: IpAddr) -> anyhow::Result<()> {
    let http = reqwest::Client::builder().no_proxy().build().context("no HTTP client can be made")?;
    for number in 0..PEERS {
        let node = Node::join(&http, ticket, format!("peer-{number}")).await?;
        match Session::open(node).await?.ask(address, Protocol::Tcp, PORT).await? {
            Answer::Authorized(_) => {}
            Answer::Denied(reason, record) => bail!("denied by record {record}: {reason:?}"),
        }
    }
    Ok(())
}

/// Resident memory in MiB, and percent of a processor, once what came last is done.
fn cost(process: &Process) -> anyhow::Result<(f64, f64)> {
    std::thread::sleep(SETTLE);
    let (before, start) = (cpu_seconds(&[process])?, Instant::now());
    std::thread::sleep(TIME);
    let cpu = (cpu_seconds(&[process])? - before) / start.elapsed().as_secs_f64() * 100.0;
    Ok((resident_mebibytes(process.id())?, cpu))
}

fn resident_mebibytes(pid: i32) -> anyhow::Result<f64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()).context("no VmRSS is told")?;
    Ok(kibibytes.parse::<f64>()? / 1024.0)
}
