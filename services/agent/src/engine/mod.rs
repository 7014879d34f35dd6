//! The data plane of a node, without IO.
//!
//! ```text
//!            handle_tun_packet   handle_datagram   handle_message   handle_timeout …
//!                    │                  │                │                │
//!                    ▼                  ▼                ▼                ▼
//!   filter ── pending ── peers (tunnels: WireGuard, paths) ── relay, STUN ── authorizations
//!                    │                  │                │                │
//!                    ▼                  ▼                ▼                ▼
//!              take_packets       poll_transmit     poll_message     poll_timeout
//! ```
//!
//! After any input, poll the outputs until they are empty, and call [`Engine::handle_timeout`] no later than
//! [`Engine::poll_timeout`] says, which also says why. Time and randomness are arguments, so that a run is a function of its
//! inputs (but for boringtun's own clock and ephemeral keys; see `wireguard`).
//!
//! Beside packets, peers exchange checkpoints of the log inside their tunnels (see `exchange`).
//!
//! Invariants: a packet leaves or enters only under a live authorization that [`crate::trust`] verified; a peer exists only
//! while such an authorization does; nothing here grows without bound.

mod allowance;
mod answer;
mod authorizations;
mod candidates;
mod control;
mod data;
mod early;
mod exchange;
mod exit;
mod filter;
mod guess;
mod keys;
mod limiter;
mod mtu;
mod nat;
mod output;
mod packet;
mod paths;
mod peer;
mod pending;
mod probe;
mod relay;
mod schedule;
mod status;
mod stun;
mod time;
mod trace;
mod upkeep;
mod wireguard;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use boringtun::x25519::StaticSecret;
use ed25519_dalek::SigningKey;
use jiff::Timestamp;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use writ_relay::wire::NodeBytes;
use writ_schema::net::Prefix;
use writ_schema::protocol::AgentMessage;
use writ_schema::{AuthorizationId, NetworkId, NodeId, RequestId};

use crate::trust::Membership;
use allowance::Allowance;
use authorizations::Live;
use candidates::OwnCandidates;
use data::{EARLY_HANDSHAKES, EARLY_PACKETS, EarlyHandshake};
use early::Early;
use filter::Filter;
use guess::{VOLLEY_FORGIVEN_AFTER, VOLLEYS_AT_ONCE};
use keys::Keys;
use limiter::HandshakeLimiter;
use output::{Packets, Transmits};
use peer::Peer;
use pending::Pending;
use relay::RelayClient;
use schedule::Schedule;
use stun::StunClient;

pub use exchange::Testimony;
pub use exit::ExitWay;
pub use keys::NextKey;
pub use mtu::{MIN_MTU, MTU};
pub use nat::{NatKind, Ports};
pub use output::{HEADROOM, Transmit};
pub use packet::{Malformed, Packet, Quoted, TcpFlags, Transport};
pub use paths::PathChange;
pub use relay::RelayTransport;
pub use status::{
    AuthorizationStatus, Counters, DenialStatus, EngineStatus, PathStatus, PeerStatus, ServerStatus,
};
pub use time::Now;
pub use trace::{FiveTuple, PacketTrace, TraceVerdict, TracedDirection, TracedFlow, TracedGrant};

/// Most messages that wait to be polled; more are dropped, oldest first.
const MAX_OUTPUT: usize = 8_192;

/// What the engine needs to begin.
pub struct Settings {
    /// Who this node is.
    pub membership: Membership,
    /// Signs acknowledgements and new keys.
    pub identity: SigningKey,
    /// The WireGuard key in use.
    pub wireguard: StaticSecret,
    /// Its number.
    pub generation: u64,
    /// A key that was asked for but not answered yet.
    pub next_key: Option<NextKey>,
    /// Seeds everything random but the cryptographic keys.
    pub seed: [u8; 32],
}

/// The way a datagram came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Via {
    Direct(SocketAddr),
    Relay(NodeBytes),
}

/// The engine.
pub struct Engine {
    network: NetworkId,
    identity: SigningKey,
    own: Own,
    random: StdRng,
    keys: Keys,
    filter: Filter,
    exit: ExitWay,
    pending: Pending,
    peers: BTreeMap<NodeBytes, Peer>,
    by_index: HashMap<u32, NodeBytes>,
    live: BTreeMap<AuthorizationId, Live>,
    /// What is to be reported about revoked authorizations once the revocation is acknowledged.
    closing: BTreeMap<AuthorizationId, AgentMessage>,
    /// No more than were live, and taken after every input.
    ended: VecDeque<AuthorizationId>,
    /// What this node says to its peers about the log, and what they said.
    testimony: Option<Testimony>,
    heard: VecDeque<(NodeId, Testimony)>,
    relay: Option<RelayClient>,
    stun: Vec<StunClient>,
    candidates: OwnCandidates,
    /// How many volleys of guesses may go out.
    volleys: Allowance,
    limiter: HandshakeLimiter,
    /// Since when more handshakes come than are looked at.
    flood_since: Option<Timestamp>,
    early_handshakes: Early<IpAddr, EarlyHandshake>,
    early_packets: Early<NodeBytes, Vec<u8>>,
    session_is_up: bool,
    is_removed: bool,
    schedule: Schedule,
    next_second: Instant,
    transmits: Transmits,
    packets: Packets,
    messages: VecDeque<AgentMessage>,
    counters: Counters,
    denials: VecDeque<DenialStatus>,
}

/// This node in the overlay.
#[derive(Debug, Clone)]
struct Own {
    membership: Membership,
    bytes: NodeBytes,
    addresses: [IpAddr; 2],
    overlay: [Prefix; 2],
}

impl Engine {
    /// An engine without peers.
    pub fn new(now: Now, settings: Settings) -> Self {
        let membership = settings.membership;
        let addresses = [membership.address_v4.into(), membership.address_v6.into()];
        let mut keys = Keys::new(settings.wireguard, settings.generation);
        keys.next = settings.next_key;
        Self {
            network: membership.network.clone(),
            identity: settings.identity,
            own: Own {
                bytes: NodeBytes::from(&membership.node),
                overlay: membership.overlay(),
                membership,
                addresses,
            },
            random: StdRng::from_seed(settings.seed),
            keys,
            filter: Filter::new(addresses),
            exit: ExitWay::default(),
            pending: Pending::default(),
            peers: BTreeMap::new(),
            by_index: HashMap::new(),
            live: BTreeMap::new(),
            closing: BTreeMap::new(),
            ended: VecDeque::new(),
            testimony: None,
            heard: VecDeque::new(),
            relay: None,
            stun: Vec::new(),
            candidates: OwnCandidates::default(),
            volleys: Allowance::new(VOLLEYS_AT_ONCE, VOLLEY_FORGIVEN_AFTER),
            limiter: HandshakeLimiter::default(),
            flood_since: None,
            early_handshakes: Early::new(EARLY_HANDSHAKES),
            early_packets: Early::new(EARLY_PACKETS),
            session_is_up: false,
            is_removed: false,
            schedule: Schedule::default(),
            next_second: now.instant,
            transmits: Transmits::default(),
            packets: Packets::default(),
            messages: VecDeque::new(),
            counters: Counters::default(),
            denials: VecDeque::new(),
        }
    }

    /// The next datagrams to send. Once they are sent, [`Self::reuse`] spares an allocation.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop()
    }

    /// Takes the buffer of a transmit for datagrams to come.
    pub fn reuse(&mut self, transmit: Transmit) {
        self.transmits.reuse(transmit);
    }

    /// Lets all packets for the TUN device be written, each behind [`HEADROOM`] bytes. They are gone afterwards, and their
    /// buffers are used again.
    pub fn take_packets(&mut self, write: impl FnOnce(&mut [Vec<u8>])) {
        let waiting = self.packets.waiting();
        if !waiting.is_empty() {
            write(waiting);
            self.packets.clear();
        }
    }

    /// The next message for the control plane; none while there is no session.
    pub fn poll_message(&mut self) -> Option<AgentMessage> {
        if self.session_is_up { self.messages.pop_front() } else { None }
    }

    /// The next authorization that is over, for whatever reason, or was not taken.
    pub fn poll_ended(&mut self) -> Option<AuthorizationId> {
        self.ended.pop_front()
    }

    /// Whether the control plane has removed this node from the network.
    pub fn is_removed(&self) -> bool {
        self.is_removed
    }

    /// Since when more handshakes come than are looked at. Whoever is a peer does not suffer from it.
    pub fn flood_since(&self) -> Option<Timestamp> {
        self.flood_since
    }

    fn message(&mut self, message: AgentMessage) {
        if self.messages.len() >= MAX_OUTPUT {
            self.messages.pop_front();
        }
        self.messages.push_back(message);
    }

    /// A new name for a request.
    pub fn request_id(&mut self) -> RequestId {
        RequestId::from_bytes(self.random.random())
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engine({}, {} peers)", self.own.membership.node, self.peers.len())
    }
}
