//! A packet traced through the filter: which flow and which grant let it pass, or why nothing does.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use writ_relay::wire::NodeBytes;
use writ_schema::event::Side;
use writ_schema::net::Protocol;
use writ_schema::{AuthorizationId, NodeId};

use super::Engine;
use super::filter::{Flow, Grant, Outbound, Refused, Service};
use super::packet::{Packet, TcpFlags, Transport, number};
use super::status::AuthorizationStatus;
use super::time::Now;

/// A packet, by what the filter looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FiveTuple {
    /// Where it comes from.
    pub source: IpAddr,
    /// Its source port, where the protocol has ports.
    pub source_port: u16,
    /// Where it goes.
    pub destination: IpAddr,
    /// Its destination port, where the protocol has ports.
    pub destination_port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// Whether it begins a connection: a TCP SYN, an echo request.
    pub begins: bool,
}

/// Which way a packet goes, seen from this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TracedDirection {
    /// From this host into the overlay.
    Out,
    /// From a peer to this host.
    In,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TraceVerdict {
    /// It passes.
    Admitted,
    /// It is held while the control plane is asked.
    Asked,
    /// It is dropped.
    Refused,
}

/// The flow that a packet belongs to.
#[derive(Debug, Clone, Serialize)]
pub struct TracedFlow {
    /// Which end this node is: the source opened the flow.
    pub side: Side,
    /// The port that was opened.
    pub service: u16,
    /// Seconds since its last packet.
    pub idle_seconds: u64,
    /// Whether it was closed.
    pub ended: bool,
}

/// A grant that was looked at.
#[derive(Debug, Clone, Serialize)]
pub struct TracedGrant {
    /// What it permits.
    pub authorization: AuthorizationStatus,
    /// What keeps it from letting the packet open a flow; nothing if it lets it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lacks: Option<&'static str>,
}

/// What the filter does with a packet, and by what.
#[derive(Debug, Clone, Serialize)]
pub struct PacketTrace {
    /// Which way it goes.
    pub direction: TracedDirection,
    /// What becomes of it.
    pub verdict: TraceVerdict,
    /// The same for people.
    pub why: String,
    /// The other end, if it is a peer.
    pub peer: Option<NodeId>,
    /// The flow that it belongs to.
    pub flow: Option<TracedFlow>,
    /// The authorization that it passes under.
    pub authorization: Option<AuthorizationStatus>,
    /// What is granted with this peer.
    pub grants: Vec<TracedGrant>,
}

/// What came of a trial, in either direction.
struct Tried {
    direction: TracedDirection,
    verdict: TraceVerdict,
    refused: Option<Refused>,
    under: Option<AuthorizationId>,
    flow: Option<Flow>,
    peer: Option<NodeBytes>,
}

impl Engine {
    /// What the filter would do with a packet at this moment. Nothing comes of it: nothing is opened, asked or counted.
    pub fn trace(&self, now: Now, tuple: &FiveTuple) -> PacketTrace {
        let packet = packet_of(tuple);
        let is_inbound =
            !self.own.addresses.contains(&tuple.source) && self.filter.owner(tuple.source).is_some();
        let tried = if is_inbound { self.try_inbound(now, &packet) } else { self.try_outbound(now, &packet) };
        let side = match tried.direction {
            TracedDirection::Out => Side::Source,
            TracedDirection::In => Side::Destination,
        };
        let is_own = match tried.direction {
            TracedDirection::Out => self.filter.owner(tuple.destination).is_some(),
            TracedDirection::In => self.own.addresses.contains(&tuple.destination),
        };
        let behind = (!is_own).then_some(tuple.destination);
        let service = Service { behind, port: tuple.destination_port };
        let grants = tried.peer.map(|peer| self.filter.grants(peer)).unwrap_or_default();
        let traced = grants.iter().filter_map(|grant| {
            let authorization = self.authorization_status(grant)?;
            let lacks = lack(grant, side, tuple.protocol, service);
            Some(TracedGrant { authorization, lacks })
        });
        let under = tried.under.as_ref();
        let grant = grants.iter().find(|grant| Some(&grant.authorization) == under);
        PacketTrace {
            direction: tried.direction,
            verdict: tried.verdict,
            why: why(&tried),
            peer: tried.peer.and_then(|peer| Some(self.peers.get(&peer)?.node.clone())),
            flow: tried.flow.map(|flow| TracedFlow {
                side: flow.side,
                service: flow.service.port,
                idle_seconds: now.instant.saturating_duration_since(flow.last).as_secs(),
                ended: flow.ended,
            }),
            authorization: grant.and_then(|grant| self.authorization_status(grant)),
            grants: traced.collect(),
        }
    }

    fn try_outbound(&self, now: Now, packet: &Packet) -> Tried {
        let trial = self.filter.try_outbound(now.instant, packet);
        let (verdict, refused) = match trial.verdict {
            // What is not for the overlay never comes to the filter.
            _ if !self.is_ours(packet.destination) => (TraceVerdict::Refused, Some(Refused::ForeignAddress)),
            Outbound::Admit(_) => (TraceVerdict::Admitted, None),
            Outbound::Ask(wish) if self.wish_by_exit(wish).is_none() => {
                (TraceVerdict::Refused, Some(Refused::NotGranted))
            }
            Outbound::Ask(_) => (TraceVerdict::Asked, None),
            Outbound::Refuse(refused) => (TraceVerdict::Refused, Some(refused)),
        };
        let flow = self.filter.flow_out(now.instant, packet);
        let carries = || match trial.verdict {
            Outbound::Admit(peer) => Some(peer),
            Outbound::Ask(_) | Outbound::Refuse(_) => None,
        };
        let peer = self.filter.owner(packet.destination).or_else(carries);
        Tried { direction: TracedDirection::Out, verdict, refused, under: trial.under, flow, peer }
    }

    fn try_inbound(&self, now: Now, packet: &Packet) -> Tried {
        let peer = self.filter.owner(packet.source);
        let trial = peer.map(|peer| self.filter.try_inbound(now.instant, peer, packet));
        let (refused, under) = match trial {
            Some(trial) => (trial.verdict.err(), trial.under),
            None => (Some(Refused::ForeignAddress), None),
        };
        let verdict = if refused.is_none() { TraceVerdict::Admitted } else { TraceVerdict::Refused };
        let flow = self.filter.flow_in(now.instant, packet);
        Tried { direction: TracedDirection::In, verdict, refused, under, flow, peer }
    }
}

fn packet_of(tuple: &FiveTuple) -> Packet {
    let FiveTuple { source, source_port, destination, destination_port, protocol, begins } = *tuple;
    let number = match (protocol, source) {
        (Protocol::Tcp, _) => number::TCP,
        (Protocol::Udp, _) => number::UDP,
        (Protocol::Icmp, IpAddr::V4(_)) => number::ICMP,
        (Protocol::Icmp, IpAddr::V6(_)) => number::ICMP_V6,
        (Protocol::Other(number), _) => number,
    };
    let transport = match protocol {
        Protocol::Icmp => Transport::Echo { identifier: source_port, reply: !begins },
        _ if protocol.has_ports() => {
            let tcp = (protocol == Protocol::Tcp).then(|| TcpFlags::of(begins));
            Transport::Ports { source: source_port, destination: destination_port, tcp }
        }
        _ => Transport::Plain,
    };
    Packet { source, destination, number, transport_at: 0, transport }
}

fn lack(grant: &Grant, side: Side, protocol: Protocol, service: Service) -> Option<&'static str> {
    if grant.side != side {
        return Some("it is for connections the other way round");
    }
    if grant.protocol != protocol {
        return Some("it is for another protocol");
    }
    if !grant.leads_to(service.behind) {
        return Some("it is for other addresses");
    }
    (!grant.covers(side, protocol, service)).then_some("it is for other ports")
}

fn why(tried: &Tried) -> String {
    let opener = |flow: &Flow| match flow.side {
        Side::Source => "this node",
        Side::Destination => "the peer",
    };
    let text = match (tried.verdict, tried.refused, &tried.flow) {
        (TraceVerdict::Admitted, _, Some(flow)) => {
            return format!(
                "it belongs to a flow that {} opened, which an authorization still covers",
                opener(flow)
            );
        }
        (TraceVerdict::Admitted, _, None) => "an authorization lets it open a flow",
        (TraceVerdict::Asked, _, _) => {
            "nothing permits it yet: the agent holds it and asks the control plane (`writ-agent why` tells what that will say)"
        }
        (TraceVerdict::Refused, Some(Refused::ForeignAddress), _) => {
            "it is from or to an address that is neither this node's nor a peer's"
        }
        (TraceVerdict::Refused, Some(Refused::NotGranted), Some(flow)) => {
            return format!(
                "it belongs to a flow that {} opened and whose authorization is gone",
                opener(flow)
            );
        }
        (TraceVerdict::Refused, Some(Refused::NoFlow), _) => {
            "it does not begin a connection, and there is no flow that it could belong to"
        }
        (TraceVerdict::Refused, Some(Refused::TableFull), _) => "there are too many flows already",
        (TraceVerdict::Refused, Some(Refused::NotGranted) | None, _) => {
            "no authorization of this node with that peer covers it"
        }
    };
    text.to_owned()
}
