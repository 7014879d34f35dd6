//! What the filter would do with a packet: it is tried on a copy, so it is the filter itself that answers.

use std::time::Instant;

use writ_relay::wire::NodeBytes;
use writ_schema::AuthorizationId;

use super::flow::{Direction, Ends, Flow};
use super::{Filter, Outbound, Packet, Refused};

/// What became of a packet that was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine) struct Trial<V> {
    /// What the filter says.
    pub verdict: V,
    /// The authorization that it passed under.
    pub under: Option<AuthorizationId>,
}

impl Filter {
    /// Tries a packet of this node. Nothing is opened, counted or forgotten.
    pub fn try_outbound(&self, now: Instant, packet: &Packet) -> Trial<Outbound> {
        let mut copy = self.clone();
        let verdict = copy.outbound(now, packet, 1);
        let under = match verdict {
            Outbound::Admit(peer) => self.counted(&copy, peer),
            Outbound::Ask(_) | Outbound::Refuse(_) => None,
        };
        Trial { verdict, under }
    }

    /// Tries a packet of a peer. Nothing is opened, counted or forgotten.
    pub fn try_inbound(&self, now: Instant, from: NodeBytes, packet: &Packet) -> Trial<Result<(), Refused>> {
        let mut copy = self.clone();
        let verdict = copy.inbound(now, from, packet, 1);
        let under = verdict.ok().and_then(|()| self.counted(&copy, from));
        Trial { verdict, under }
    }

    /// The grant that the packet was counted under.
    fn counted(&self, after: &Self, peer: NodeBytes) -> Option<AuthorizationId> {
        let sum = |grant: &super::Grant| grant.bytes_sent.saturating_add(grant.bytes_received);
        let mut pairs = self.grants(peer).iter().zip(after.grants(peer));
        pairs.find(|(before, after)| sum(before) != sum(after)).map(|(grant, _)| grant.authorization.clone())
    }

    /// The flow that a packet of this node belongs to.
    pub fn flow_out(&self, now: Instant, packet: &Packet) -> Option<Flow> {
        self.live_flow(now, &Ends::of(packet, Direction::Out)?.key)
    }

    /// The flow that a packet of a peer belongs to.
    pub fn flow_in(&self, now: Instant, packet: &Packet) -> Option<Flow> {
        self.live_flow(now, &Ends::of(packet, Direction::In)?.key)
    }

    /// Whose this address is.
    pub fn owner(&self, address: std::net::IpAddr) -> Option<NodeBytes> {
        self.addresses.get(&address).copied()
    }
}
