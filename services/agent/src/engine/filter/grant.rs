//! Grants: what authorizations permit.

use std::net::IpAddr;
use std::time::Instant;

use writ_schema::AuthorizationId;
use writ_schema::event::Side;
use writ_schema::net::{PortRange, Prefix, Protocol};

/// What a flow is opened to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) struct Service {
    /// The address behind the destination, which carries packets for it; nothing where the destination itself is meant.
    pub behind: Option<IpAddr>,
    /// 0 where the protocol has none.
    pub port: u16,
}

/// What a grant permits, and what has passed under it.
#[derive(Debug, Clone)]
pub(in crate::engine) struct Grant {
    pub authorization: AuthorizationId,
    pub side: Side,
    /// The addresses behind the destination that are meant instead of its own.
    pub route: Option<Prefix>,
    pub protocol: Protocol,
    pub ports: PortRange,
    /// When a packet last passed in the direction of the grant.
    pub used: Option<Instant>,
    /// The port that it was for.
    pub last_port: u16,
    pub bytes_sent: u64,
    pub bytes_received: u64,
}

impl Grant {
    pub fn new(authorization: AuthorizationId, side: Side, protocol: Protocol, ports: PortRange) -> Self {
        let last_port = ports.first();
        let (used, bytes_sent, bytes_received) = (None, 0, 0);
        let route = None;
        Self { authorization, side, route, protocol, ports, used, last_port, bytes_sent, bytes_received }
    }

    pub fn covers(&self, side: Side, protocol: Protocol, service: Service) -> bool {
        self.side == side
            && self.protocol == protocol
            && self.leads_to(service.behind)
            && (!protocol.has_ports() || self.ports.contains(service.port))
    }

    /// A permission for what lies behind a node is none for the node itself, nor the other way round.
    pub fn leads_to(&self, behind: Option<IpAddr>) -> bool {
        match (self.route, behind) {
            (None, None) => true,
            (Some(route), Some(address)) => route.leads_to(address),
            (None, Some(_)) | (Some(_), None) => false,
        }
    }
}
