//! What `writ-agent status` shows.

use std::net::IpAddr;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::Serialize;
use writ_schema::net::{Prefix, Protocol};
use writ_schema::protocol::{Candidate, Explained, Netmap};
use writ_schema::{NetworkId, NodeId};

use super::firewall::DroppingChain;
use super::host_dns::HostDnsStatus;
use crate::engine::{AuthorizationStatus, EngineStatus, PathStatus};
use crate::trust::{QuorumStatus, UnprovenCheckpoint};

/// The agent at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct AgentStatus {
    /// Its version.
    pub version: &'static str,
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// The network.
    pub network: NetworkId,
    /// The network's name.
    pub network_name: String,
    /// The node's overlay addresses.
    pub addresses: [IpAddr; 2],
    /// The session with the control plane.
    pub session: SessionStatus,
    /// Since when it is so.
    pub session_since: Timestamp,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_why: Option<String>,
    /// Why what is verified cannot be stored, while it cannot: nothing new is taken until it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_failure: Option<String>,
    /// Records that the newest verified checkpoint covers.
    pub checkpoint_size: u64,
    /// That the log has shown two histories: new connections are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split_view: Option<SplitViewStatus>,
    /// Checkpoints of peers that the control plane has not proven to be of its log.
    pub unproven_checkpoints: Vec<UnprovenCheckpoint>,
    /// How the policy that this node was given is met.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub witnesses: Option<QuorumStatus>,
    /// What may be reached, as the control plane says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub netmap: Option<Netmap>,
    /// How this host's programs find the network's names.
    pub host_dns: HostDnsStatus,
    /// What lies behind other nodes and is reached through them.
    pub reached_routes: Vec<Prefix>,
    /// The exit node that is chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_node: Option<ExitStatus>,
    /// What this node offers to carry packets for.
    pub advertised_routes: Vec<RouteStatus>,
    /// What of this host's own firewall drops what it carries, as it was looked at last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dropping_chains: Vec<DroppingChain>,
    /// Where this node has announced itself.
    pub candidates: Vec<Candidate>,
    /// The engine.
    #[serde(flatten)]
    pub engine: EngineStatus,
    /// The newest things that did not verify.
    pub refusals: Vec<RefusalStatus>,
}

/// A split view of the log.
#[derive(Debug, Clone, Serialize)]
pub struct SplitViewStatus {
    /// When it was found.
    pub at: Timestamp,
    /// The peer that held the other checkpoint; none if it was the control plane itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<NodeId>,
    /// What was found.
    pub what: String,
    /// Whether `writ verify` finds the evidence to prove it.
    pub is_proven: bool,
    /// The file with both checkpoints.
    pub evidence: PathBuf,
}

/// The exit node that this node has chosen.
#[derive(Debug, Clone, Serialize)]
pub struct ExitStatus {
    /// As it was chosen.
    pub name: String,
    /// Which it is, once that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    /// What becomes of packets to the Internet.
    pub state: ExitState,
    /// Whether it carries IPv4; what it does not carry is blocked.
    pub v4: bool,
    /// Whether it carries IPv6; what it does not carry is blocked.
    pub v6: bool,
}

/// What becomes of packets to the Internet while an exit node is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitState {
    /// They go through it.
    InUse,
    /// They are blocked: it is not there, or may not be used.
    Closed,
}

/// A prefix that this node offers to carry packets for.
#[derive(Debug, Clone, Serialize)]
pub struct RouteStatus {
    /// The prefix.
    pub prefix: Prefix,
    /// Whether the policy or an administrator has approved: nothing is carried before.
    pub approved: bool,
}

/// The session with the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionStatus {
    /// It stands.
    Connected,
    /// It is tried again and again.
    Connecting,
}

/// Something that the control plane sent and that did not verify.
#[derive(Debug, Clone, Serialize)]
pub struct RefusalStatus {
    /// When.
    pub time: Timestamp,
    /// The frame that held it.
    pub frame: u64,
    /// What was wrong.
    pub reason: String,
}

/// A log line of the agent.
#[derive(Debug, Clone, Serialize)]
pub struct LogLine {
    /// Counted from its start.
    pub number: u64,
    /// As it is written to standard error.
    pub text: String,
}

/// How a connection of this node would be decided now, and how its packets go.
#[derive(Debug, Clone, Serialize)]
pub struct WhyStatus {
    /// What was asked.
    pub protocol: Protocol,
    /// What was asked; 0 where the protocol has no ports.
    pub port: u16,
    /// Whether it would be authorized.
    pub allowed: bool,
    /// What the control plane says.
    #[serde(flatten)]
    pub explained: Explained,
    /// The live authorizations that cover it already.
    pub authorizations: Vec<AuthorizationStatus>,
    /// How packets go, while there is a tunnel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathStatus>,
}
