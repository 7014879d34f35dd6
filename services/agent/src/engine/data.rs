//! Packets and datagrams: what comes in, and where it goes.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use boringtun::x25519::PublicKey;
use writ_relay::wire::{self, Kind, NodeBytes};
use writ_schema::net::Prefix;

use super::early::Bounds;
use super::exchange::Part;
use super::filter::{Outbound, Refused, Wish};
use super::limiter::Admission;
use super::mtu::{MIN_MTU, Way};
use super::packet::{Packet, number};
use super::pending::Held;
use super::probe::Probe;
use super::relay::RelayClient;
use super::time::Now;
use super::wireguard::{Address, MAX_DATAGRAM_BYTES, Opened, address_of, sealed_length};
use super::{Engine, Via, answer};

/// Handshakes of nodes that are no peers yet. The source is what they are limited by everywhere.
pub(super) const EARLY_HANDSHAKES: Bounds =
    Bounds { of_one: 4, of_all: 64, held_for: Duration::from_secs(3) };

/// Packets through a tunnel that stands already. A program sends again after a second by itself.
pub(super) const EARLY_PACKETS: Bounds = Bounds { of_one: 8, of_all: 512, held_for: Duration::from_secs(1) };

/// A handshake of somebody who is not a peer yet.
#[derive(Debug)]
pub(super) struct EarlyHandshake {
    ours: PublicKey,
    theirs: PublicKey,
    via: Via,
    datagram: Vec<u8>,
}

impl Engine {
    /// A packet of this host for the overlay.
    pub fn handle_tun_packet(&mut self, now: Now, bytes: &[u8]) {
        let Ok(packet) = Packet::parse(bytes) else {
            self.counters.malformed_out += 1;
            return;
        };
        if self.is_removed || bytes.len() > MAX_DATAGRAM_BYTES || !self.is_ours(packet.destination) {
            self.counters.ignored_out += 1;
            return;
        }
        match self.filter.outbound(now.instant, &packet, bytes.len()) {
            Outbound::Admit(peer) => match self.answer_too_long(peer, &packet, bytes) {
                Some(answer) => self.packets.copy(&answer),
                None => self.send_packet(now, peer, bytes),
            },
            Outbound::Ask(wish) => match self.wish_by_exit(wish) {
                Some(wish) => self.hold(now, wish, &packet, bytes),
                None => {
                    self.counters.refused_out += 1;
                    self.answer_refusal(&packet, bytes);
                }
            },
            Outbound::Refuse(refused) => {
                self.counters.refused_out += 1;
                if refused == Refused::NotGranted {
                    self.answer_refusal(&packet, bytes);
                }
            }
        }
    }

    /// A datagram from the network.
    pub fn handle_datagram(&mut self, now: Now, from: SocketAddr, datagram: &[u8]) {
        if self.is_removed || datagram.len() > MAX_DATAGRAM_BYTES {
            return;
        }
        match wire::classify(datagram) {
            Kind::WireGuard => self.handle_wireguard(now, Via::Direct(from), datagram),
            Kind::Relay => self.handle_relay(now, from, datagram),
            Kind::Stun => self.handle_stun(now, from, datagram),
            Kind::Unknown => self.counters.malformed_in += 1,
        }
    }

    fn hold(&mut self, now: Now, wish: Wish, packet: &Packet, bytes: &[u8]) {
        let request = self.request_id();
        match self.pending.hold(now.instant, wish, bytes, || request) {
            Held::Waits => self.ask(now),
            Held::Denied => self.answer_refusal(packet, bytes),
            Held::Dropped => self.counters.refused_out += 1,
        }
    }

    pub(super) fn answer_refusal(&mut self, packet: &Packet, bytes: &[u8]) {
        if let Some(answer) = answer::refuse(packet, bytes) {
            self.packets.copy(&answer);
        }
    }

    /// What to say to whoever sent a packet that does not pass whole and must not be cut.
    fn answer_too_long(&self, to: NodeBytes, packet: &Packet, bytes: &[u8]) -> Option<Vec<u8>> {
        if bytes.len() <= MIN_MTU {
            return None;
        }
        let limit = self.peers.get(&to)?.mtu.limit(packet.source.is_ipv4());
        let mtu = limit.filter(|mtu| bytes.len() > *mtu)?;
        answer::too_long(packet, bytes, mtu)
    }

    /// Encrypts a packet that the filter let pass, right behind the datagrams that go the same way.
    fn send_packet(&mut self, now: Now, to: NodeBytes, packet: &[u8]) {
        let Some(peer) = self.peers.get_mut(&to) else { return };
        peer.bytes_sent = peer.bytes_sent.saturating_add(packet.len() as u64);
        peer.sent(now.instant);
        // In doubt it goes both ways.
        let direct = peer.paths.direct().filter(|_| !peer.paths.is_doubtful());
        let is_relayed = peer.paths.direct().is_none();
        let tunnel = peer.tunnels.active_mut();
        let relay =
            self.relay.as_ref().filter(|relay| is_relayed && relay.answers()).map(RelayClient::address);
        let length = sealed_length(packet.len());
        let handshake = match (direct, relay) {
            (Some(address), _) => {
                self.transmits.write(address, length, |buffer| tunnel.seal_into(now.instant, packet, buffer))
            }
            (None, Some(relay)) => {
                self.transmits.write(relay, wire::DATA_HEADER_BYTES.saturating_add(length), |buffer| {
                    let start = buffer.len();
                    buffer.extend_from_slice(&wire::data_header(to));
                    let handshake = tunnel.seal_into(now.instant, packet, buffer);
                    if buffer.len() == start.saturating_add(wire::DATA_HEADER_BYTES) {
                        buffer.truncate(start);
                    }
                    handshake
                })
            }
            (None, None) => tunnel.seal(now.instant, packet),
        };
        if let Some(message) = handshake {
            self.send_sealed(to, message);
        }
        self.schedule(to);
    }

    /// Sends a WireGuard message by the path of the moment. A handshake goes over the relay as well, and so does everything
    /// while the direct path is in doubt: if it has died, nothing is lost, and a second copy is recognised as a replay.
    pub(super) fn send_sealed(&mut self, to: NodeBytes, sealed: Vec<u8>) {
        let paths = self.peers.get(&to).map(|peer| &peer.paths);
        let (direct, is_doubtful) =
            paths.map_or((None, false), |paths| (paths.direct(), paths.is_doubtful()));
        let is_initiation = sealed.first() == Some(&1);
        match direct {
            Some(address) if is_initiation || is_doubtful => {
                self.transmits.copy(address, &sealed);
                self.send_relayed(to, &sealed);
            }
            Some(address) => self.transmits.copy(address, &sealed),
            None => {
                self.send_relayed(to, &sealed);
                self.send_without_relay(to, &sealed, is_initiation);
            }
        }
    }

    /// While no relay answers, or nothing comes of what it carries, a handshake is tried wherever the peer may be, and what follows
    /// goes where it was heard.
    fn send_without_relay(&mut self, to: NodeBytes, sealed: &[u8], is_initiation: bool) {
        let Some(peer) = self.peers.get(&to) else { return };
        let relay_answers = self.relay.as_ref().is_some_and(|relay| relay.answers());
        if relay_answers && !peer.tunnels.active().is_unheard() {
            return;
        }
        let targets = if is_initiation {
            peer.paths.everywhere()
        } else {
            peer.paths.heard_from().into_iter().collect()
        };
        let hosts = self.candidates.hosts();
        for address in targets.into_iter().filter(|it| is_outside(self.filter.accepted(), hosts, it.ip())) {
            self.transmits.copy(address, sealed);
        }
    }

    fn send_relayed(&mut self, to: NodeBytes, sealed: &[u8]) {
        let Some(relay) = self.relay.as_ref().map(|relay| relay.address()) else { return };
        let mut datagram = Vec::with_capacity(wire::DATA_HEADER_BYTES + sealed.len());
        if wire::encode_data(to, sealed, &mut datagram).is_ok() {
            self.transmits.copy(relay, &datagram);
        }
    }

    fn send_via(&mut self, via: Via, to: NodeBytes, sealed: Vec<u8>) {
        match via {
            Via::Direct(address) => self.transmits.copy(address, &sealed),
            Via::Relay(_) => self.send_relayed(to, &sealed),
        }
    }

    fn handle_relay(&mut self, now: Now, from: SocketAddr, datagram: &[u8]) {
        let Some(relay) = self.relay.as_mut().filter(|relay| relay.address() == from) else { return };
        match wire::decode(datagram) {
            Ok(wire::Message::HelloAck(ack)) => {
                if relay.handle_ack(now.instant, &ack) {
                    self.announce_candidates();
                }
            }
            Ok(wire::Message::Data { peer, payload }) => {
                self.handle_wireguard(now, Via::Relay(peer), payload)
            }
            Ok(wire::Message::Refused { reason, .. }) => relay.handle_refused(now.instant, reason),
            Ok(wire::Message::Hello(_)) | Err(_) => self.counters.malformed_in += 1,
        }
    }

    fn handle_stun(&mut self, now: Now, from: SocketAddr, datagram: &[u8]) {
        let changed = self.stun.iter_mut().find_map(|client| {
            let before = client.observed();
            client.handle(now.instant, from, datagram).then_some((client.keeps(), before))
        });
        if let Some((keeps, before)) = changed {
            // What the others saw was this node's old place; or they were silent, and UDP passes again.
            for other in self.stun.iter_mut().filter(|other| keeps && !other.keeps()) {
                match before.or(other.observed()) {
                    Some(_) => other.restart(now.instant),
                    None => other.hasten(now.instant),
                }
            }
            self.announce_candidates();
            self.try_paths(now);
        }
    }

    fn handle_wireguard(&mut self, now: Now, via: Via, datagram: &[u8]) {
        match address_of(datagram) {
            Address::Initiation => self.handle_initiation(now, via, datagram),
            Address::Tunnel(index) => {
                let Some(peer) = self.by_index.get(&index).copied() else { return };
                let source = via_address(via);
                let tunnel = self.peers.get_mut(&peer).and_then(|peer| peer.tunnels.by_index(index));
                let Some(tunnel) = tunnel else { return };
                let opened = tunnel.open(now.instant, Some(source), datagram, self.packets.next());
                self.handle_opened(now, via, peer, opened);
            }
            Address::Nowhere => self.counters.malformed_in += 1,
        }
    }

    fn handle_initiation(&mut self, now: Now, via: Via, datagram: &[u8]) {
        // Whoever does not know our key is not worth more than a hash.
        let Some(own) = self.keys.addressed_by(datagram) else {
            self.counters.malformed_in += 1;
            return;
        };
        let is_peer = matches!(via, Via::Relay(node) if self.peers.contains_key(&node));
        match self.limiter.admit(now.instant, via_address(via), is_peer) {
            Admission::Admitted => {}
            Admission::Dropped => return self.counters.handshakes_limited += 1,
            Admission::FloodBegins => {
                self.flood_since = Some(now.wall);
                return self.counters.handshakes_limited += 1;
            }
        }
        let (ours, Some(theirs)) = (*own.public(), own.initiator(datagram)) else { return };
        if !self.open_initiation(now, via, &ours, &theirs, datagram) {
            let early = EarlyHandshake { ours, theirs, via, datagram: datagram.to_vec() };
            self.early_handshakes.hold(now.instant, via_address(via), early);
        }
    }

    /// Gives the handshake to the tunnel between these keys. Tells whether there is one.
    fn open_initiation(
        &mut self,
        now: Now,
        via: Via,
        ours: &PublicKey,
        theirs: &PublicKey,
        datagram: &[u8],
    ) -> bool {
        let buffer = self.packets.next();
        let found = self.peers.values_mut().find_map(|peer| {
            let tunnel = peer.tunnels.by_keys(ours, theirs)?;
            Some((peer.bytes, tunnel.open(now.instant, Some(via_address(via)), datagram, buffer)))
        });
        let Some((peer, opened)) = found else { return false };
        self.handle_opened(now, via, peer, opened);
        true
    }

    /// Takes up handshakes that came before the peer was known.
    pub(super) fn replay_early(&mut self, now: Now) {
        for waiting in self.early_handshakes.take(now.instant) {
            let EarlyHandshake { ours, theirs, via, datagram } = &waiting.thing;
            if !self.open_initiation(now, *via, ours, theirs, datagram) {
                self.early_handshakes.give_back(waiting);
            }
        }
    }

    fn handle_opened(&mut self, now: Now, via: Via, from: NodeBytes, opened: Opened) {
        if opened.authentic {
            self.handle_authentic(now, via, from);
        }
        if let Some(reply) = opened.reply {
            self.send_via(via, from, reply);
            self.suspect_path(now, via, from);
        }
        let is_relayed = self.peers.get(&from).is_some_and(|peer| peer.paths.direct().is_none());
        for sealed in opened.send {
            // Until there is a direct path, the way by which the peer was heard is the best there is.
            if is_relayed { self.send_via(via, from, sealed) } else { self.send_sealed(from, sealed) }
        }
        if opened.has_packet {
            self.handle_inner(now, via, from);
        }
        self.schedule(from);
    }

    /// A peer that begins a handshake by another way than ours may have been restarted.
    fn suspect_path(&mut self, now: Now, via: Via, from: NodeBytes) {
        let Some(peer) = self.peers.get_mut(&from) else { return };
        let is_ours = matches!(via, Via::Direct(address) if peer.paths.direct() == Some(address));
        if !is_ours {
            peer.paths.suspect(now.instant);
        }
    }

    fn handle_authentic(&mut self, now: Now, via: Via, from: NodeBytes) {
        let Some(peer) = self.peers.get_mut(&from) else { return };
        if let Via::Direct(address) = via {
            peer.paths.seen_from(now.instant, address);
        }
        let before = peer.tunnels.active().index();
        if let Some(free) = peer.tunnels.promote(now.instant, false) {
            self.by_index.remove(&free);
        }
        if peer.tunnels.active().index() != before {
            peer.exchange.restart(now.instant);
        }
        if peer.tunnels.active().established().is_some() {
            peer.paths.tunnel_established(now.instant);
            peer.exchange.tunnel_established(now.instant);
        }
    }

    /// A packet out of a peer's tunnel, in the next buffer.
    fn handle_inner(&mut self, now: Now, via: Via, from: NodeBytes) {
        let bytes = self.packets.written();
        let length = bytes.len();
        let Ok(packet) = Packet::parse(bytes) else {
            self.counters.malformed_in += 1;
            return;
        };
        if packet.number == number::PROBE {
            let bytes = bytes.to_vec();
            return self.handle_probe(now, via, from, &packet, &bytes);
        }
        match self.filter.inbound(now.instant, from, &packet, length) {
            Ok(()) => {
                self.packets.keep();
                self.count_inner(now, from, length);
            }
            Err(refused) => {
                self.counters.refused_in += 1;
                if refused == Refused::NotGranted {
                    self.early_packets.hold(now.instant, from, self.packets.written().to_vec());
                }
            }
        }
    }

    fn count_inner(&mut self, now: Now, from: NodeBytes, length: usize) {
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.bytes_received = peer.bytes_received.saturating_add(length as u64);
            peer.received(now.instant);
        }
    }

    /// Looks again at packets that came before their permission. Those that are still not permitted go on waiting.
    pub(super) fn replay_early_packets(&mut self, now: Now) {
        for waiting in self.early_packets.take(now.instant) {
            let Ok(packet) = Packet::parse(&waiting.thing) else { continue };
            match self.filter.inbound(now.instant, waiting.from, &packet, waiting.thing.len()) {
                Ok(()) => {
                    self.packets.copy(&waiting.thing);
                    self.count_inner(now, waiting.from, waiting.thing.len());
                }
                Err(Refused::NotGranted) => self.early_packets.give_back(waiting),
                Err(_) => {}
            }
        }
    }

    fn handle_probe(&mut self, now: Now, via: Via, from: NodeBytes, packet: &Packet, bytes: &[u8]) {
        let Some(peer) = self.peers.get_mut(&from) else { return };
        let ends = (packet.source, packet.destination);
        let own = self.own.membership.address_v4;
        let message = bytes.get(packet.transport_at..).unwrap_or_default();
        if ends != (peer.address_v4.into(), own.into()) {
            self.counters.refused_in += 1;
            return;
        }
        if let Some(part) = Part::decode(message) {
            return self.take_part(now, from, &part);
        }
        match Probe::decode(message) {
            Some(Probe::Ping(id)) => {
                let pong = Probe::Pong(id).encode(own, peer.address_v4);
                let sealed = pong.and_then(|pong| peer.tunnels.active_mut().seal(now.instant, &pong));
                if let Some(sealed) = sealed {
                    self.send_via(via, from, sealed);
                }
            }
            Some(Probe::Pong(id)) if peer.mtu.answered(now.instant, id) => {}
            Some(Probe::Pong(id)) => {
                let direct = match via {
                    Via::Direct(address) => Some(address),
                    Via::Relay(_) => None,
                };
                peer.paths.answered(now, id, direct);
                peer.mtu.follow(now.instant, peer.way());
            }
            None => self.counters.refused_in += 1,
        }
    }

    /// Sends the probes of a peer that are due.
    pub(super) fn probe(&mut self, now: Now, to: NodeBytes) {
        let (accepted, hosts) = (self.filter.accepted(), self.candidates.hosts());
        let Some(peer) = self.peers.get_mut(&to) else { return };
        let own = self.own.membership.address_v4;
        let was_doubtful = peer.paths.is_doubtful();
        let probes = peer.paths.poll(now, &mut self.random);
        let falls_into_doubt = peer.paths.is_doubtful() && !was_doubtful;
        let looks_around = peer.paths.take_unfound();
        let mut handshakes = Vec::new();
        let probes = probes.into_iter().filter(|(_, address)| is_outside(accepted, hosts, address.ip()));
        for (id, address) in probes {
            let ping = Probe::Ping(id).encode(own, peer.address_v4);
            let sealed = ping.and_then(|ping| peer.tunnels.active_mut().seal(now.instant, &ping));
            match sealed {
                // The session has run out, and the probe waits for a new one.
                Some(bytes) if bytes.first() == Some(&1) => handshakes.push(bytes),
                Some(bytes) => self.transmits.copy(address, &bytes),
                None => {}
            }
        }
        for initiation in handshakes {
            self.send_sealed(to, initiation);
        }
        if falls_into_doubt {
            // The NAT in front of this node may have forgotten everything, the relay's way in as well.
            if let Some(relay) = &mut self.relay {
                relay.restart(now.instant);
            }
        }
        if falls_into_doubt || looks_around {
            self.stun.iter_mut().for_each(|client| client.hasten(now.instant));
        }
    }

    /// Whether packets for an address belong into a tunnel.
    pub(super) fn is_ours(&self, address: IpAddr) -> bool {
        let mut accepted = self.filter.accepted().iter();
        self.is_overlay(address)
            || accepted.any(|route| route.contains(address))
            || self.goes_by_exit(address)
    }

    /// Sends the probes by which it is found how long packets to a peer may be.
    pub(super) fn probe_length(&mut self, now: Now, to: NodeBytes) {
        let Some(peer) = self.peers.get_mut(&to).filter(|peer| peer.tunnels.active().established().is_some())
        else {
            return;
        };
        let (own, way) = (self.own.membership.address_v4, peer.way());
        let mut handshakes = Vec::new();
        peer.mtu.follow(now.instant, way);
        for (id, length) in peer.mtu.poll(now.instant, peer.paths.is_active(now.instant), &mut self.random) {
            let ping = Probe::Ping(id).encode_padded(own, peer.address_v4, length);
            let sealed = ping.and_then(|ping| peer.tunnels.active_mut().seal(now.instant, &ping));
            match (sealed, way, &self.relay) {
                // The session has run out, and what waits for a new one may be cut in two.
                (Some(bytes), ..) if bytes.first() == Some(&1) => {
                    peer.mtu.forget(id);
                    handshakes.push(bytes);
                }
                (Some(bytes), Way::Direct(address), _) => self.transmits.whole(address, bytes),
                (Some(bytes), Way::Relay, Some(relay)) => {
                    let datagram = [&wire::data_header(to)[..], &bytes].concat();
                    self.transmits.whole(relay.address(), datagram);
                }
                (Some(_), Way::Relay, None) | (None, ..) => peer.mtu.forget(id),
            }
        }
        for initiation in handshakes {
            self.send_sealed(to, initiation);
        }
    }

    /// Whether an address belongs to the overlay and to another node than this.
    pub(super) fn is_overlay(&self, address: IpAddr) -> bool {
        self.own.overlay.iter().any(|prefix| prefix.contains(address))
            && !self.own.addresses.contains(&address)
    }
}

/// Whether a datagram to an address leaves the host: the host's route to what lies behind a peer leads into the tunnel, which
/// must not run through itself, unless the host is in that network too.
pub(super) fn is_outside(accepted: &[Prefix], hosts: &[SocketAddr], address: IpAddr) -> bool {
    let mut behind = accepted.iter().filter(|route| route.contains(address));
    behind.all(|route| hosts.iter().any(|host| route.contains(host.ip())))
}

/// What handshakes are limited by: the address, or the node that the relay names.
fn via_address(via: Via) -> IpAddr {
    match via {
        Via::Direct(address) => address.ip(),
        Via::Relay(node) => Ipv6Addr::from(node.0).into(),
    }
}
