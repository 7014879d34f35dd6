//! What the engine tells about itself.

use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;
use serde::Serialize;
use writ_schema::event::{DenialReason, PathKind, Side};
use writ_schema::net::{PortRange, Prefix, Protocol};
use writ_schema::protocol::Candidate;
use writ_schema::{AuthorizationId, NodeId, PolicyVersion, Seq};

use super::Engine;
use super::filter::Grant;
use super::nat::NatKind;
use super::paths::PathChange;
use super::peer::Peer;
use super::relay::{RelayClient, RelayTransport};
use super::stun::StunClient;
use super::time::Now;

/// What did not pass, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Packets of this host that are not whole.
    pub malformed_out: u64,
    /// Packets of this host that are not for the overlay.
    pub ignored_out: u64,
    /// Packets of this host that nothing permits.
    pub refused_out: u64,
    /// Packets that were held and never answered for.
    pub unanswered: u64,
    /// Datagrams and inner packets that are not whole.
    pub malformed_in: u64,
    /// Packets of peers that nothing permits.
    pub refused_in: u64,
    /// Handshakes over the limit.
    pub handshakes_limited: u64,
    /// Authorizations that came too late, or beyond the limit.
    pub authorizations_dropped: u64,
}

/// A connection that was denied.
#[derive(Debug, Clone, Serialize)]
pub struct DenialStatus {
    /// When the answer came.
    pub at: Timestamp,
    /// The address asked for.
    pub address: IpAddr,
    /// The protocol.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
    /// Why.
    pub reason: DenialReason,
    /// The same for people.
    pub explanation: String,
    /// The record of the denial.
    pub record: Seq,
}

/// An authorization as this node holds it.
#[derive(Debug, Clone, Serialize)]
pub struct AuthorizationStatus {
    /// Its name.
    pub id: AuthorizationId,
    /// Its record.
    pub record: Seq,
    /// Which end this node is.
    pub side: Side,
    /// The addresses behind the destination that are meant instead of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<Prefix>,
    /// The protocol.
    pub protocol: Protocol,
    /// The destination ports.
    pub ports: PortRange,
    /// The rule that allows it.
    pub rule: String,
    /// The policy that holds the rule.
    pub policy: PolicyVersion,
    /// When it ends by itself.
    pub expires_at: Timestamp,
    /// Bytes of IP packets sent under it.
    pub bytes_sent: u64,
    /// Bytes of IP packets received under it.
    pub bytes_received: u64,
}

/// The way to a peer.
#[derive(Debug, Clone, Serialize)]
pub struct PathStatus {
    /// Direct or over the relay.
    pub kind: PathKind,
    /// The peer's address, or the relay's.
    pub address: Option<SocketAddr>,
    /// Since when.
    pub since: Option<Timestamp>,
    /// Round-trip time, where it was measured.
    pub rtt_ms: Option<f64>,
    /// The longest packet that passes whole, once that is found out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<usize>,
    /// Why it is not direct.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why_relayed: Option<String>,
}

/// A server that tells this node under which address it is seen.
#[derive(Debug, Clone, Serialize)]
pub struct ServerStatus {
    /// The server.
    pub address: SocketAddr,
    /// What it says, if it answers.
    pub observed: Option<SocketAddr>,
}

/// A peer as this node sees it.
#[derive(Debug, Clone, Serialize)]
pub struct PeerStatus {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: Option<String>,
    /// Its overlay addresses.
    pub addresses: [IpAddr; 2],
    /// Why it is a peer.
    pub authorizations: Vec<AuthorizationStatus>,
    /// How packets go.
    pub path: PathStatus,
    /// How they went before.
    pub path_history: Vec<PathChange>,
    /// Bytes of IP packets sent.
    pub bytes_sent: u64,
    /// Bytes of IP packets received.
    pub bytes_received: u64,
    /// When the newest handshake completed.
    pub last_handshake: Option<Timestamp>,
    /// Number of its WireGuard key.
    pub generation: u64,
}

/// The engine at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct EngineStatus {
    /// Number of this node's WireGuard key.
    pub generation: u64,
    /// Whether a new key was asked for and is not in the log yet.
    pub rotation_pending: bool,
    /// Whether the relay answers.
    pub relay: bool,
    /// How it is spoken to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relay_transport: Option<RelayTransport>,
    /// Where the relay is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relay_address: Option<SocketAddr>,
    /// Of what kind the NAT in front of this node is.
    pub nat: NatKind,
    /// The STUN servers, and what each says.
    pub stun: Vec<ServerStatus>,
    /// The addresses under which servers see this node.
    pub observed: Vec<SocketAddr>,
    /// Flows in the filter.
    pub flows: usize,
    /// The peers.
    pub peers: Vec<PeerStatus>,
    /// The newest denials.
    pub denials: Vec<DenialStatus>,
    /// Since when more handshakes of strangers come than are looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flood_since: Option<Timestamp>,
    /// What did not pass.
    pub counters: Counters,
}

impl Engine {
    /// Tells about itself.
    pub fn status(&self, now: Now) -> EngineStatus {
        let seen_by_relay = self.relay.as_ref().and_then(|relay| relay.observed());
        let mut observed: Vec<_> =
            self.stun.iter().filter_map(|client| client.observed()).chain(seen_by_relay).collect();
        observed.sort_unstable();
        observed.dedup();
        EngineStatus {
            generation: self.keys.generation,
            rotation_pending: self.keys.next.is_some(),
            relay: self.relay.as_ref().is_some_and(RelayClient::answers),
            relay_transport: self.relay.as_ref().map(RelayClient::transport),
            relay_address: self.relay_address(),
            nat: self.nat_kind(),
            stun: self
                .stun
                .iter()
                .map(|client| ServerStatus { address: client.server(), observed: client.observed() })
                .collect(),
            observed,
            flows: self.filter.flow_count(),
            peers: self.peers.values().map(|peer| self.peer_status(now, peer)).collect(),
            denials: self.denials.iter().cloned().collect(),
            flood_since: self.flood_since,
            counters: self.counters,
        }
    }

    /// Of what kind the NAT in front of this node is, as far as servers show.
    pub(super) fn nat_kind(&self) -> NatKind {
        NatKind::judge(self.candidates.hosts(), self.stun.iter().filter_map(StunClient::observed))
    }

    /// What this node has announced about where it can be reached.
    pub fn announced_candidates(&self) -> &[Candidate] {
        self.candidates.announced()
    }

    fn peer_status(&self, now: Now, peer: &Peer) -> PeerStatus {
        let grants = self.filter.grants(peer.bytes).iter();
        let authorizations = grants.filter_map(|grant| self.authorization_status(grant));
        let history: Vec<_> = peer.paths.history().cloned().collect();
        let relay = self.relay.as_ref().map(|relay| relay.address());
        let path = PathStatus {
            kind: peer.paths.kind(),
            address: peer.paths.direct().or(relay),
            since: history.last().map(|change| change.at),
            rtt_ms: peer.paths.rtt().map(|rtt| rtt.as_secs_f64() * 1_000.0),
            mtu: peer.mtu.known().filter(|_| peer.mtu.way() == peer.way()),
            why_relayed: self.why_relayed(now, peer),
        };
        let ago = peer.tunnels.active().last_handshake();
        PeerStatus {
            node: peer.node.clone(),
            name: peer.name.clone(),
            addresses: peer.addresses,
            authorizations: authorizations.collect(),
            path,
            path_history: history,
            bytes_sent: peer.bytes_sent,
            bytes_received: peer.bytes_received,
            last_handshake: ago
                .and_then(|ago| now.wall.checked_sub(jiff::SignedDuration::try_from(ago).ok()?).ok()),
            generation: peer.generation,
        }
    }

    pub(super) fn authorization_status(&self, grant: &Grant) -> Option<AuthorizationStatus> {
        let live = self.live.get(&grant.authorization)?;
        Some(AuthorizationStatus {
            id: grant.authorization.clone(),
            record: live.record,
            side: live.side,
            route: live.route,
            protocol: live.protocol,
            ports: live.ports,
            rule: live.rule.clone(),
            policy: live.policy,
            expires_at: live.expires_at,
            bytes_sent: grant.bytes_sent,
            bytes_received: grant.bytes_received,
        })
    }

    /// Why packets of a peer take the detour, as far as this end can tell.
    fn why_relayed(&self, now: Now, peer: &Peer) -> Option<String> {
        let relay = self.relay.as_ref();
        let text = if peer.paths.kind() == PathKind::Direct {
            return None;
        } else if peer.tunnels.active().established().is_none() {
            match relay.is_some_and(RelayClient::answers) {
                true => "no tunnel yet: the peer has not answered the handshake".to_owned(),
                false => "no tunnel yet: the relay does not answer".to_owned(),
            }
        } else if relay.is_some_and(|relay| relay.transport() == RelayTransport::Tls) {
            "this network lets no UDP out".to_owned()
        } else {
            match peer.paths.everywhere().len() {
                0 => "the peer has no address to try".to_owned(),
                count => {
                    let again = peer.paths.next_round().map(|at| at.saturating_duration_since(now.instant));
                    let again =
                        again.map_or(String::new(), |wait| format!("; tried again in {} s", wait.as_secs()));
                    let is_hard = matches!(self.nat_kind(), NatKind::DestinationDependent { .. });
                    let between = match (is_hard, peer.paths.can_be_guessed()) {
                        (true, true) => "both NATs draw another port for each destination",
                        (true, false) => {
                            "this host's NAT draws another port for each destination, and the peer's lets in only what it knows"
                        }
                        (false, true) => {
                            "the peer's NAT draws another port for each destination, and none was guessed"
                        }
                        (false, false) => "a NAT or firewall is between",
                    };
                    format!("none of the peer's {count} addresses has answered a probe: {between}{again}")
                }
            }
        };
        Some(text)
    }
}
