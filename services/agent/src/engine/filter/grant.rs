//! Grants: what authorizations permit.

use std::time::Instant;

use writ_schema::AuthorizationId;
use writ_schema::event::Side;
use writ_schema::net::{PortRange, Protocol};

/// What a grant permits, and what has passed under it.
#[derive(Debug, Clone)]
pub(in crate::engine) struct Grant {
    pub authorization: AuthorizationId,
    pub side: Side,
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
        Self { authorization, side, protocol, ports, used: None, last_port, bytes_sent: 0, bytes_received: 0 }
    }

    pub fn covers(&self, side: Side, protocol: Protocol, port: u16) -> bool {
        self.side == side && self.protocol == protocol && (!protocol.has_ports() || self.ports.contains(port))
    }
}
