//! A relay with nodes around it and a clock that is moved by hand.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use writ_relay::wire::{self, Hello, Message, NodeBytes, RefusedReason};
use writ_relay::{Limits, Refusal, Relay, relay_key};
use writ_schema::NodeId;

pub const SECRET: [u8; 32] = [42; 32];

pub struct Bench {
    pub relay: Relay,
    pub now: Instant,
    counter: u64,
}

/// A datagram that the relay put out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    pub to: SocketAddr,
    pub bytes: Vec<u8>,
}

impl Bench {
    pub fn new() -> Self {
        Self::with_limits(Limits::default())
    }

    pub fn with_limits(limits: Limits) -> Self {
        Self { relay: Relay::new(SECRET, limits), now: Instant::now(), counter: 0 }
    }

    /// Nodes 1 and 2 are bound at their addresses and may talk for an hour.
    pub fn with_a_permitted_pair() -> Self {
        let mut bench = Self::new();
        bench.bind(1);
        bench.bind(2);
        bench.permit(1, 2, Duration::from_secs(3600));
        bench
    }

    pub fn receive(&mut self, from: SocketAddr, bytes: &[u8]) -> Vec<Sent> {
        let mut sent = Vec::new();
        let mut out = |to: SocketAddr, bytes: &[u8]| sent.push(Sent { to, bytes: bytes.to_vec() });
        self.relay.handle_datagram(self.now, from, bytes, &mut out);
        sent
    }

    pub fn next_hello(&mut self, n: u8) -> Vec<u8> {
        self.counter += 1;
        Hello::new((&node(n)).into(), self.counter, &relay_key(&SECRET, &node(n))).encode().to_vec()
    }

    pub fn bind(&mut self, n: u8) {
        let hello = self.next_hello(n);
        let sent = self.receive(address(n), &hello);
        assert!(matches!(sent[..], [Sent { to, .. }] if to == address(n)), "{sent:?}");
    }

    /// Data from where node `from` is bound, for node `to`.
    pub fn data(&mut self, from: u8, to: u8) -> Vec<Sent> {
        self.receive(address(from), &data(to, b"ciphertext"))
    }

    pub fn permit(&mut self, a: u8, b: u8, lifetime: Duration) {
        self.relay.permit(&node(a), &node(b), self.now + lifetime).unwrap();
    }

    pub fn advance(&mut self, time: Duration) {
        self.now += time;
    }

    pub fn refused(&self, reason: Refusal) -> u64 {
        self.relay.counters().refused(reason)
    }

    /// How many datagrams were refused, for any reason.
    pub fn all_refused(&self) -> u64 {
        self.relay.counters().refusals().map(|(_, count)| count).sum()
    }
}

pub fn node(n: u8) -> NodeId {
    NodeId::from_bytes([n; 16])
}

pub fn address(n: u8) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, n], 51820))
}

pub fn data(to: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = wire::data_header((&node(to)).into()).to_vec();
    bytes.extend_from_slice(payload);
    bytes
}

/// What node `to` receives when the relay forwards the usual data of node `from`.
pub fn forwarded(from: u8, to: u8) -> Vec<Sent> {
    vec![Sent { to: address(to), bytes: data(from, b"ciphertext") }]
}

/// The reason that the relay told, if that is all it sent.
pub fn told(sent: &[Sent]) -> Option<RefusedReason> {
    let [Sent { bytes, .. }] = sent else { return None };
    match wire::decode(bytes) {
        Ok(Message::Refused { reason, .. }) => Some(reason),
        _ => None,
    }
}

pub fn node_bytes(n: u8) -> NodeBytes {
    (&node(n)).into()
}
