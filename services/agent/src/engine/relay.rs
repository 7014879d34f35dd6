//! This node at the relay: says hello, and so stays reachable over it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use writ_relay::RelayKey;
use writ_relay::wire::{HELLO_INTERVAL, Hello, HelloAck, NodeBytes, RefusedReason};

use super::time::Now;

/// Waits between hellos until one is answered.
const RETRIES: [Duration; 4] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_millis(1_000),
    Duration::from_millis(3_000),
];

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
    observed: Option<SocketAddr>,
}

impl RelayClient {
    pub fn new(now: Instant, node: NodeBytes, address: SocketAddr, key: RelayKey) -> Self {
        Self { node, address, key, counter: 0, unanswered: 0, next: now, observed: None }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether the control plane still names this relay and key.
    pub fn is_same(&self, address: SocketAddr, key: &RelayKey) -> bool {
        self.address == address && self.key.expose_bytes() == key.expose_bytes()
    }

    /// This node as the relay saw it last; `None` while it does not answer.
    pub fn observed(&self) -> Option<SocketAddr> {
        self.observed
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

fn microseconds(wall: Timestamp) -> u64 {
    u64::try_from(wall.as_microsecond()).unwrap_or(0)
}
