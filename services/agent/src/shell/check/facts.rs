//! What can be found out about this host's network.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use data_encoding::HEXLOWER;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use nix::sys::socket::{getsockopt, sockopt::IpMtu};
use reqwest::Url;
use tokio::net::{UdpSocket, lookup_host};

use crate::shell::firewall::{Carried, DroppingChain};
use crate::shell::http;
use crate::shell::resolver::Heard;
use crate::shell::server;
use crate::shell::status::AgentStatus;
use crate::state::Enrolment;

/// How long the control plane and the resolver may take. Together less than whoever asked waits.
const LIMIT: Duration = Duration::from_secs(3);

/// What was found out.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The agent's own view.
    pub status: AgentStatus,
    /// The name of the control plane, and the addresses that it has; the problem if it has none. Nothing where it is called
    /// by an address.
    pub name: Option<(String, Result<Vec<SocketAddr>, String>)>,
    /// What the control plane says over plain HTTP.
    pub control_plane: Result<ControlPlaneFacts, String>,
    /// Whether a query through this host's own resolver reaches the agent's. Nothing where the agent has none.
    pub names_reach_agent: Option<bool>,
    /// What of this host's firewall drops what it carries for others. Nothing where it carries nothing.
    pub dropping_chains: Option<Vec<DroppingChain>>,
    /// Longest packet that the network lets through to the relay, as the kernel knows.
    pub path_mtu: Option<u32>,
}

/// What an answer of the control plane shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlPlaneFacts {
    /// How far its clock is ahead of this one, in seconds. Its answer tells whole seconds.
    pub clock_ahead_seconds: i64,
    /// How long it took.
    pub took: Duration,
}

/// Finds everything out. Takes a few seconds at most.
pub(in crate::shell) async fn gather(
    enrolment: &Enrolment,
    status: AgentStatus,
    heard: Option<Heard>,
    carried: Option<Carried>,
) -> Facts {
    let dropping = async {
        match &carried {
            Some(carried) => Some(carried.look().await),
            None => None,
        }
    };
    let (name, control_plane, names_reach_agent, dropping_chains, path_mtu) = tokio::join!(
        resolve(&enrolment.server),
        ask(&enrolment.server, enrolment.certificate_sha256.as_deref()),
        reach_agent(&status.network_name, heard),
        dropping,
        path_mtu(status.engine.relay_address),
    );
    let control_plane = control_plane.map_err(|error| format!("{error:#}"));
    Facts { status, name, control_plane, names_reach_agent, dropping_chains, path_mtu }
}

async fn resolve(server: &str) -> Option<(String, Result<Vec<SocketAddr>, String>)> {
    let url = Url::parse(server).ok()?;
    let name = url.domain()?.to_owned();
    let port = url.port_or_known_default()?;
    let found = match tokio::time::timeout(LIMIT, lookup_host((name.as_str(), port))).await {
        Ok(Ok(found)) => Ok(found.collect()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer".to_owned()),
    };
    Some((name, found))
}

/// Asks the C library for a name that nobody has, and looks whether the agent was asked.
async fn reach_agent(network: &str, heard: Option<Heard>) -> Option<bool> {
    let heard = heard?;
    let mut label = [0; 8];
    getrandom::fill(&mut label).ok()?;
    // With a dot at its end no search domain is tried.
    let name = format!("check-{}.{network}.", HEXLOWER.encode(&label));
    // That there is no such name is the answer.
    let _ = tokio::time::timeout(LIMIT, lookup_host((name.as_str(), 0))).await;
    Some(heard.has(&name))
}

async fn ask(server: &str, pin: Option<&str>) -> Result<ControlPlaneFacts> {
    let client = http::client(pin, LIMIT)?;
    let (before, started) = (Timestamp::now(), std::time::Instant::now());
    let response = client.get(server::health_url(server)?).send().await.context("it cannot be reached")?;
    let took = started.elapsed();
    let date = response.headers().get("date").and_then(|date| date.to_str().ok());
    let Some(date) = date else { bail!("its answer has no date") };
    // RFC 9110 dates are those of RFC 2822 with `GMT` for the zone.
    let told = DateTimeParser::new().parse_zoned(date).context("its answer's date cannot be read")?;
    let halfway = before.as_millisecond() + i64::try_from(took.as_millis() / 2).unwrap_or(0);
    // Cut to a second by the server: on average it was half a second later.
    let ahead = told.timestamp().as_millisecond() + 500 - halfway;
    Ok(ControlPlaneFacts { clock_ahead_seconds: ahead / 1_000, took })
}

/// What the kernel knows of the way to the relay: its interface's MTU, or less where a router has said so.
async fn path_mtu(relay: Option<SocketAddr>) -> Option<u32> {
    let relay = relay.filter(SocketAddr::is_ipv4)?;
    let socket = UdpSocket::bind("0.0.0.0:0").await.ok()?;
    socket.connect(relay).await.ok()?;
    u32::try_from(getsockopt(&socket, IpMtu).ok()?).ok()
}
