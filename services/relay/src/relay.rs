//! The relay's behaviour, without sockets or clock.

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use writ_schema::NodeId;
use zeroize::Zeroizing;

use crate::bindings::{BindError, Bindings};
use crate::counters::{Counters, Refusal};
use crate::key::{derive, mac};
use crate::permits::{Permits, PermitsFull};
use crate::rate::RateLimiter;
use crate::stun;
use crate::wire::{
    self, HelloAck, Kind, MAX_DATAGRAM_BYTES, Message, NodeBytes, RefusedReason, WireError, data_header,
};

/// How often expired bindings and permits are cleared away. They end by themselves; this only frees their memory.
pub(crate) const CLEAN_UP_INTERVAL: Duration = Duration::from_secs(30);

/// Bounds on what the relay holds and answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Nodes that are bound or whose counters are remembered. One takes about 150 bytes.
    pub nodes: usize,
    /// Pairs that hold a permit. One takes about 60 bytes.
    pub permits: usize,
    /// Buckets onto which sources are spread for the rate limits.
    pub sources: usize,
    /// Hellos per second and source. Many nodes may share one address behind a NAT.
    pub hellos_per_second: u16,
    /// STUN requests per second and source.
    pub stun_per_second: u16,
    /// Refusals told per second and source.
    pub refusals_per_second: u16,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            nodes: 1 << 16,
            permits: 1 << 20,
            sources: 1 << 14,
            hellos_per_second: 50,
            stun_per_second: 50,
            refusals_per_second: 10,
        }
    }
}

/// How much the relay holds now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Nodes whose address is bound.
    pub bound_nodes: usize,
    /// Pairs that hold a permit.
    pub permits: usize,
}

/// STUN server and relay without IO: datagrams and time in, datagrams out.
///
/// Feed every datagram to [`handle_datagram`](Self::handle_datagram) with the time it came and send what it puts out,
/// before feeding the next; call [`handle_timeout`](Self::handle_timeout) now and then. Permits, bindings and refusals
/// are exact to the `now` given: nothing waits for a timeout.
pub struct Relay {
    secret: Zeroizing<[u8; 32]>,
    bindings: Bindings,
    permits: Permits,
    hello_rate: RateLimiter,
    stun_rate: RateLimiter,
    refusal_rate: RateLimiter,
    counters: Counters,
    outgoing: Vec<u8>,
}

impl Relay {
    /// A relay that permits nothing yet. All relay keys of nodes follow from the secret.
    pub fn new(secret: [u8; 32], limits: Limits) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = mac(&secret, &[b"writ relay rate limits v1"]);
        let seed = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        // Four seconds' worth at once: after an outage, everyone behind a NAT comes back together.
        let limiter = |rate: u16| RateLimiter::new(limits.sources, rate, rate.saturating_mul(4).max(1), seed);
        Self {
            secret: Zeroizing::new(secret),
            bindings: Bindings::new(limits.nodes),
            permits: Permits::new(limits.permits),
            hello_rate: limiter(limits.hellos_per_second),
            stun_rate: limiter(limits.stun_per_second),
            refusal_rate: limiter(limits.refusals_per_second),
            counters: Counters::default(),
            outgoing: Vec::with_capacity(MAX_DATAGRAM_BYTES),
        }
    }

    /// Lets the two nodes talk, in both directions, until then. A pair that may talk longer already keeps that: of
    /// several authorizations the longest counts.
    pub fn permit(&mut self, a: &NodeId, b: &NodeId, until: Instant) -> Result<(), PermitsFull> {
        self.permits.permit(a.into(), b.into(), until)
    }

    /// Ends the permit of the two nodes with the next datagram. When another authorization of the same pair lives on,
    /// permit it anew.
    pub fn revoke(&mut self, a: &NodeId, b: &NodeId) {
        self.permits.revoke(a.into(), b.into());
    }

    /// Puts these permits in the place of all others, at once. When they are too many, nothing changes.
    pub fn set_permits(
        &mut self,
        permits: impl IntoIterator<Item = (NodeId, NodeId, Instant)>,
    ) -> Result<(), PermitsFull> {
        self.permits.replace(permits.into_iter().map(|(a, b, until)| ((&a).into(), (&b).into(), until)))
    }

    /// Ends the node's binding and all of its permits. It may say hello again, but no hello that was used before.
    pub fn drop_node(&mut self, node: &NodeId) {
        self.bindings.unbind(node.into());
        self.permits.revoke_all_of(node.into());
    }

    /// What was done since the start.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// How much is held now; what expired since the last [`handle_timeout`](Self::handle_timeout) is still counted.
    pub fn sizes(&self) -> Sizes {
        Sizes { bound_nodes: self.bindings.len(), permits: self.permits.len() }
    }

    /// Takes one datagram and puts out the one that follows from it, if any.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &[u8],
        out: &mut impl FnMut(SocketAddr, &[u8]),
    ) {
        match wire::classify(datagram) {
            Kind::Stun => self.handle_stun(now, from, datagram, out),
            Kind::Relay => self.handle_relay(now, from, datagram, out),
            Kind::WireGuard | Kind::Unknown => self.counters.refuse(Refusal::Malformed),
        }
    }

    /// Frees the memory of what has expired.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.bindings.drop_expired(now);
        self.permits.drop_expired(now);
    }

    pub(crate) fn count_failed_send(&mut self) {
        self.counters.refuse(Refusal::SendFailed);
    }

    /// The same for a socket on which only STUN is answered.
    pub fn handle_stun(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &[u8],
        out: &mut impl FnMut(SocketAddr, &[u8]),
    ) {
        if !self.stun_rate.admits(now, from.ip()) {
            return self.counters.refuse(Refusal::StunRate);
        }
        match stun::answer(from, datagram) {
            Some(answer) => {
                self.counters.stun_answered += 1;
                out(from, &answer);
            }
            None => self.counters.refuse(Refusal::BadStun),
        }
    }

    fn handle_relay(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &[u8],
        out: &mut impl FnMut(SocketAddr, &[u8]),
    ) {
        match wire::decode(datagram) {
            Ok(Message::Data { peer, payload }) => self.forward(now, from, peer, payload, out),
            Ok(Message::Hello(hello)) => self.handle_hello(now, from, hello, out),
            Err(WireError::Oversize(_)) => self.counters.refuse(Refusal::Oversize),
            // What only a relay sends has no business coming in.
            Ok(Message::HelloAck(_) | Message::Refused { .. }) | Err(_) => {
                self.counters.refuse(Refusal::Malformed);
            }
        }
    }

    fn handle_hello(
        &mut self,
        now: Instant,
        from: SocketAddr,
        hello: wire::Hello,
        out: &mut impl FnMut(SocketAddr, &[u8]),
    ) {
        if !self.hello_rate.admits(now, from.ip()) {
            return self.counters.refuse(Refusal::HelloRate);
        }
        let key = derive(&self.secret, &hello.node.0);
        if hello.verify(&key).is_err() {
            // No answer: to a stranger the relay does not even say that it is there.
            return self.counters.refuse(Refusal::BadMac);
        }
        match self.bindings.bind(now, hello.node, hello.counter, from) {
            Ok(()) => {
                self.counters.hellos_accepted += 1;
                out(from, HelloAck::new(hello.counter, from, &key).encode().as_ref());
            }
            Err(BindError::Stale) => {
                self.refuse(now, from, Refusal::StaleHello, RefusedReason::StaleHello, hello.node, out);
            }
            Err(BindError::Full) => {
                self.refuse(now, from, Refusal::Full, RefusedReason::Full, hello.node, out);
            }
        }
    }

    /// The permit is looked at before the destination's binding, so that nobody learns who is there without one.
    fn forward(
        &mut self,
        now: Instant,
        from: SocketAddr,
        destination: NodeBytes,
        payload: &[u8],
        out: &mut impl FnMut(SocketAddr, &[u8]),
    ) {
        let Some(source) = self.bindings.node_at(now, from) else {
            return self.refuse(now, from, Refusal::NotBound, RefusedReason::NotBound, destination, out);
        };
        if !self.permits.is_live(source, destination, now) {
            return self.refuse(now, from, Refusal::NoPermit, RefusedReason::NoPermit, destination, out);
        }
        let Some(to) = self.bindings.address_of(now, destination) else {
            return self.refuse(now, from, Refusal::PeerAbsent, RefusedReason::PeerAbsent, destination, out);
        };
        self.outgoing.clear();
        self.outgoing.extend_from_slice(&data_header(source));
        self.outgoing.extend_from_slice(payload);
        self.counters.forwarded_packets += 1;
        self.counters.forwarded_bytes += payload.len() as u64;
        out(to, &self.outgoing);
    }

    /// Counts a refusal and tells the sender, if it was not told too often.
    fn refuse(
        &mut self,
        now: Instant,
        from: SocketAddr,
        refusal: Refusal,
        reason: RefusedReason,
        peer: NodeBytes,
        out: &mut impl FnMut(SocketAddr, &[u8]),
    ) {
        self.counters.refuse(refusal);
        if self.refusal_rate.admits(now, from.ip()) {
            out(from, &wire::encode_refused(reason, peer));
        }
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").field("sizes", &self.sizes()).finish_non_exhaustive()
    }
}
