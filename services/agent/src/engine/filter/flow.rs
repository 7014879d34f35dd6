//! Flows: exchanges between two ends, and where a packet stands in one.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use writ_relay::wire::NodeBytes;
use writ_schema::event::Side;

use super::Service;
use crate::engine::packet::{Packet, TcpFlags, Transport};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct FlowKey {
    pub number: u8,
    pub local: IpAddr,
    pub remote: IpAddr,
    pub local_port: u16,
    pub remote_port: u16,
}

#[derive(Debug, Clone, Copy)]
pub(in crate::engine) struct Flow {
    pub peer: NodeBytes,
    /// Whether this node opened it.
    pub side: Side,
    /// What was opened.
    pub service: Service,
    pub last: Instant,
    pub ended: bool,
}

impl Flow {
    /// Whether an address is what the flow leads to behind this node or behind the peer.
    pub fn leads_to(&self, side: Side, address: IpAddr) -> bool {
        self.side == side && self.service.behind == Some(address)
    }

    pub fn lifetime(&self, number: u8) -> Duration {
        let seconds = match (number, self.ended) {
            (6, true) => 30,
            // RFC 5382: an established connection may be silent for two hours and four minutes.
            (6, false) => 7_440,
            (1 | 58, _) => 30,
            _ => 180,
        };
        Duration::from_secs(seconds)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Out,
    In,
}

/// A packet seen from this node.
pub(super) struct Ends {
    pub key: FlowKey,
    /// The port that the packet would open.
    pub opens_port: u16,
    /// Whether a flow can begin with it.
    pub begins: bool,
    /// Whether it can only be an answer.
    pub answers: bool,
    pub tcp: Option<TcpFlags>,
}

impl Ends {
    /// `None` for messages that belong to no exchange.
    pub fn of(packet: &Packet, direction: Direction) -> Option<Self> {
        let (source, destination, opens_port, begins, tcp) = match packet.transport {
            Transport::Ports { source, destination, tcp } => {
                (source, destination, destination, tcp.is_none_or(TcpFlags::opens), tcp)
            }
            Transport::Echo { identifier, reply: false } => (identifier, 0, 0, true, None),
            Transport::Echo { identifier, reply: true } => (0, identifier, 0, false, None),
            Transport::Plain => (0, 0, 0, true, None),
            Transport::Error(_) | Transport::OtherIcmp => return None,
        };
        let number = packet.number;
        let key = match direction {
            Direction::Out => FlowKey {
                number,
                local: packet.source,
                remote: packet.destination,
                local_port: source,
                remote_port: destination,
            },
            Direction::In => FlowKey {
                number,
                local: packet.destination,
                remote: packet.source,
                local_port: destination,
                remote_port: source,
            },
        };
        let answers = matches!(packet.transport, Transport::Echo { reply: true, .. });
        Some(Self { key, opens_port, begins, answers, tcp })
    }

    pub fn quoted(key: FlowKey) -> Self {
        Self { key, opens_port: 0, begins: false, answers: true, tcp: None }
    }
}
