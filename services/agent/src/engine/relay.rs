//! This node at the relay: says hello, and so stays reachable over it. Over UDP; where nothing answers over UDP, over a
//! stream (WebSocket, TLS) that the shell opens and that carries the same datagrams.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;
use writ_relay::RelayKey;
use writ_relay::wire::{HELLO_INTERVAL, Hello, HelloAck, NodeBytes, RefusedReason};

use super::Engine;
use super::stun::StunClient;
use super::time::Now;

/// Waits between hellos until one is answered.
const RETRIES: [Duration; 4] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_millis(1_000),
    Duration::from_millis(3_000),
];

/// From so many hellos without an answer on, the relay counts as silent.
const SILENT: usize = 2;

/// How the relay is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RelayTransport {
    /// In datagrams.
    Udp,
    /// Over a WebSocket, because nothing answers over UDP.
    Tls,
}

/// The relay as this node uses it.
#[derive(Debug)]
pub(super) struct RelayClient {
    node: NodeBytes,
    address: SocketAddr,
    key: RelayKey,
    counter: u64,
    /// Hellos since the last answer.
    unanswered: usize,
    next: Instant,
    /// As the last answer says.
    observed: Option<SocketAddr>,
    transport: RelayTransport,
}

impl RelayClient {
    pub fn new(now: Instant, node: NodeBytes, address: SocketAddr, key: RelayKey) -> Self {
        let transport = RelayTransport::Udp;
        Self { node, address, key, counter: 0, unanswered: 0, next: now, observed: None, transport }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether the control plane still names this relay and key.
    pub fn is_same(&self, address: SocketAddr, key: &RelayKey) -> bool {
        self.address == address && self.key.expose_bytes() == key.expose_bytes()
    }

    /// Whether the relay answers.
    pub fn answers(&self) -> bool {
        self.observed.is_some()
    }

    /// This node as the relay saw it last; `None` while it does not answer, and over a stream: there it sees the other end
    /// of that.
    pub fn observed(&self) -> Option<SocketAddr> {
        self.observed.filter(|_| self.transport == RelayTransport::Udp)
    }

    pub fn transport(&self) -> RelayTransport {
        self.transport
    }

    /// Says hello at once in this way, which is a new one.
    pub fn go_over(&mut self, now: Instant, transport: RelayTransport) {
        (self.transport, self.observed) = (transport, None);
        self.restart(now);
    }

    /// Whether it has just become silent.
    pub fn falls_silent(&self) -> bool {
        self.unanswered == SILENT
    }

    /// Whether some hellos in a row were not answered.
    pub fn is_silent(&self) -> bool {
        self.unanswered >= SILENT
    }

    /// Says hello at once: the network has changed, or the relay does not know us.
    pub fn restart(&mut self, now: Instant) {
        (self.unanswered, self.next) = (0, now);
    }

    pub fn deadline(&self) -> Instant {
        self.next
    }

    /// The hello to send now, if one is due.
    pub fn poll(&mut self, now: Now) -> Option<Vec<u8>> {
        if now.instant < self.next {
            return None;
        }
        let wait = RETRIES.get(self.unanswered).or(RETRIES.last()).copied().unwrap_or(HELLO_INTERVAL);
        self.next = now.instant.checked_add(wait)?;
        self.unanswered += 1;
        if self.unanswered > RETRIES.len() {
            self.observed = None;
        }
        // Microseconds since 1970, and never the same twice even if the wall clock stands still or goes back.
        self.counter = microseconds(now.wall).max(self.counter.saturating_add(1));
        Some(Hello::new(self.node, self.counter, &self.key).encode().to_vec())
    }

    /// Takes the relay's answer. Tells whether the observed address has changed.
    pub fn handle_ack(&mut self, now: Instant, ack: &HelloAck) -> bool {
        if ack.counter != self.counter || ack.verify(&self.key).is_err() {
            return false;
        }
        self.unanswered = 0;
        self.next = now.checked_add(HELLO_INTERVAL).unwrap_or(now);
        self.observed.replace(ack.observed) != Some(ack.observed)
    }

    /// Takes a refusal, which is only a hint.
    pub fn handle_refused(&mut self, now: Instant, reason: RefusedReason) {
        // Only once per round, so that forged refusals cannot make us flood the relay.
        if reason == RefusedReason::NotBound && self.unanswered == 0 {
            self.next = now;
        }
    }
}

impl Engine {
    /// Where the relay is, once the control plane has named it.
    pub fn relay_address(&self) -> Option<SocketAddr> {
        self.relay.as_ref().map(RelayClient::address)
    }

    /// Whether the relay is to be reached over a stream: neither it nor any STUN server answers over UDP. A STUN server
    /// that answers again ends the wish.
    pub fn wants_relay_stream(&self) -> bool {
        let Some(relay) = &self.relay else { return false };
        let is_silent = relay.is_silent() || relay.transport() == RelayTransport::Tls;
        is_silent && self.stun.iter().all(StunClient::is_silent)
    }

    /// The relay is spoken to in this way from now on: a stream to it was opened, or is not wanted any more.
    pub fn set_relay_transport(&mut self, now: Now, transport: RelayTransport) {
        if let Some(relay) = &mut self.relay {
            relay.go_over(now.instant, transport);
        }
    }
}

fn microseconds(wall: Timestamp) -> u64 {
    u64::try_from(wall.as_microsecond()).unwrap_or(0)
}
