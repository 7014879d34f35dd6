//! Live authorizations: admitted, renewed, cut, closed.

use std::time::{Duration, Instant};

use boringtun::x25519::PublicKey;
use jiff::{SignedDuration, Timestamp};
use rand::Rng;
use writ_relay::wire::NodeBytes;
use writ_schema::event::{AcknowledgedAction, CloseReason, Side};
use writ_schema::keys::Statement;
use writ_schema::net::{PortRange, Prefix, Protocol};
use writ_schema::protocol::{AgentMessage, is_due_for_renewal};
use writ_schema::{AuthorizationId, PolicyVersion, RequestId, Seq};

use super::Engine;
use super::exchange::Exchange;
use super::filter::{Grant, Wish};
use super::mtu::PathMtu;
use super::paths::Paths;
use super::peer::{Peer, Tunnels};
use super::time::Now;
use super::wireguard::Tunnel;
use crate::trust::{Restored, VerifiedAuthorization, VerifiedKey, VerifiedPeer};

/// Most live authorizations.
const MAX_LIVE: usize = 16_384;
/// An authorization that carried packets within this time (or half its life, if that is shorter) is renewed.
const USED_WITHIN: Duration = Duration::from_secs(300);
/// An unanswered renewal is asked for again after this.
const RENEWAL_PATIENCE: Duration = Duration::from_secs(10);
/// The end that did not change its key waits this long before it begins the new handshake itself.
const FOLLOWER_PATIENCE: Duration = Duration::from_secs(1);

/// A live authorization, beside what the filter knows of it.
#[derive(Debug, Clone)]
pub(super) struct Live {
    pub peer: NodeBytes,
    pub side: Side,
    pub route: Option<Prefix>,
    pub protocol: Protocol,
    pub ports: PortRange,
    pub rule: String,
    pub policy: PolicyVersion,
    pub record: Seq,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
    /// When it ends at the latest, whatever is done to the wall clock.
    ends_at: Instant,
    /// When it has no more left than this, three quarters of its life are over.
    due_within: Duration,
    pub renewal: Renewal,
    /// Whether the control plane was told, by this process, that it is established.
    pub is_acknowledged: bool,
}

/// How far the renewal of an authorization is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Renewal {
    None,
    Asked(RequestId, Instant),
    /// It was denied: the authorization runs to its end.
    Denied,
}

impl Live {
    fn of(now: Now, authorization: &VerifiedAuthorization) -> Self {
        let (issued_at, expires_at) = (authorization.issued_at(), authorization.expires_at());
        // A wall clock that is behind would let it live longer than it was granted for.
        let life = between(now.wall, expires_at).min(between(issued_at, expires_at));
        Self {
            peer: NodeBytes::from(authorization.peer().node()),
            side: authorization.side(),
            route: authorization.route(),
            protocol: authorization.protocol(),
            ports: authorization.ports(),
            rule: authorization.rule().clone(),
            policy: authorization.policy(),
            record: authorization.record(),
            issued_at,
            expires_at,
            ends_at: now.instant.checked_add(life).unwrap_or(now.instant),
            due_within: between(issued_at, expires_at) / 4,
            renewal: Renewal::None,
            is_acknowledged: false,
        }
    }

    /// How long it has still to live, by whichever clock says less: the steady one does not count while the host sleeps, and the
    /// other one can be set.
    fn left(&self, now: Now) -> Duration {
        between(now.wall, self.expires_at).min(self.ends_at.saturating_duration_since(now.instant))
    }

    /// Three quarters of its life are over, by its own length and by the protocol's, if it has so much left.
    fn is_due(&self, left: Duration) -> bool {
        let now = self.expires_at.checked_sub(SignedDuration::try_from(left).unwrap_or_default());
        left <= self.due_within && now.is_ok_and(|now| is_due_for_renewal(now, self.expires_at))
    }

    fn used_within(&self) -> Duration {
        USED_WITHIN.min(between(self.issued_at, self.expires_at) / 2)
    }
}

/// The time from one moment to another; none if that is earlier.
fn between(from: Timestamp, to: Timestamp) -> Duration {
    to.duration_since(from).try_into().unwrap_or_default()
}

/// Where an authorization came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// It was decided just now.
    Decided,
    /// It was live already when this session began.
    Snapshot,
    /// It was live already when this process began.
    Restored,
}

impl Engine {
    /// Takes up what was live before this process began, without waiting for the control plane.
    pub fn handle_restored(&mut self, now: Now, restored: Restored) {
        if let Some(relay) = restored.relay {
            self.set_relay(now, relay);
        }
        for authorization in &restored.authorizations {
            self.admit(now, authorization, Origin::Restored);
        }
        self.schedule_all();
    }

    /// Admits a verified authorization: from here on its peer exists and its packets pass.
    pub(super) fn admit(&mut self, now: Now, authorization: &VerifiedAuthorization, origin: Origin) {
        let id = authorization.authorization().clone();
        let is_known = self.live.contains_key(&id);
        let is_full = !is_known && self.live.len() >= MAX_LIVE;
        if authorization.expires_at() <= now.wall || is_full || !self.may_carry(authorization) {
            self.counters.authorizations_dropped += 1;
            if !is_known {
                self.ended.push_back(id);
            }
            return;
        }
        let peer = self.ensure_peer(now, authorization.peer(), origin);
        if !is_known {
            let mut grant =
                Grant::new(id.clone(), authorization.side(), authorization.protocol(), authorization.ports());
            grant.route = authorization.route();
            if let Some(old) = authorization.renews() {
                self.continue_from(old, &mut grant);
            }
            self.filter.grant(peer, grant);
            self.live.insert(id.clone(), Live::of(now, authorization));
        }
        if origin != Origin::Restored {
            self.acknowledge_established(&id, authorization);
        }
        if !is_known {
            self.replay_early(now);
            self.replay_early_packets(now);
            self.release_pending(now, authorization);
        }
    }

    /// Whoever is let in through this node gets no further than where this node itself offers to carry packets.
    fn may_carry(&self, authorization: &VerifiedAuthorization) -> bool {
        match (authorization.side(), authorization.route()) {
            (Side::Destination, Some(route)) => self.filter.offers(route),
            _ => true,
        }
    }

    fn acknowledge_established(&mut self, id: &AuthorizationId, authorization: &VerifiedAuthorization) {
        let Some(live) = self.live.get_mut(id).filter(|live| !live.is_acknowledged) else { return };
        live.is_acknowledged = true;
        let action = AcknowledgedAction::Established;
        self.acknowledge(id.clone(), authorization.record(), authorization.leaf(), action);
    }

    /// A renewed authorization takes the place of the old one, and its count of bytes with it.
    fn continue_from(&mut self, old: &AuthorizationId, grant: &mut Grant) {
        let Some(live) = self.live.remove(old) else { return };
        self.ended.push_back(old.clone());
        if let Some(before) = self.filter.revoke(live.peer, old) {
            grant.used = before.used;
            grant.last_port = before.last_port;
            grant.bytes_sent = before.bytes_sent;
            grant.bytes_received = before.bytes_received;
        }
    }

    fn release_pending(&mut self, now: Now, authorization: &VerifiedAuthorization) {
        if authorization.side() != Side::Source {
            return;
        }
        let mut packets = match authorization.request() {
            Some(request) => self.pending.grant(request),
            None => Default::default(),
        };
        let (protocol, ports) = (authorization.protocol(), authorization.ports());
        let (addresses, route) = (authorization.peer().addresses(), authorization.route());
        packets.extend(self.pending.grant_covered(|wish: &Wish| {
            let is_led_to =
                |route: Prefix| route.leads_to(wish.address) && route.is_everything() == wish.by_exit;
            route.map_or(addresses.contains(&wish.address), is_led_to)
                && wish.protocol == protocol
                && (!protocol.has_ports() || ports.contains(wish.port))
        }));
        for packet in packets {
            self.handle_tun_packet(now, &packet);
        }
    }

    fn ensure_peer(&mut self, now: Now, verified: &VerifiedPeer, origin: Origin) -> NodeBytes {
        let bytes = NodeBytes::from(verified.node());
        if let Some(peer) = self.peers.get_mut(&bytes) {
            peer.paths.announce(now.instant, verified.candidates());
            peer.name = verified.name().map(str::to_owned).or(peer.name.take());
            self.change_key(now, verified.key());
            return bytes;
        }
        let theirs = PublicKey::from(*verified.key().key().as_bytes());
        let index = self.free_index();
        let mut tunnel = Tunnel::new(now.instant, self.keys.current(), theirs, index);
        // After a restart either end may be the one that has forgotten the sessions, so both begin.
        let initiation = (origin != Origin::Decided).then(|| tunnel.initiate(now.instant)).flatten();
        self.by_index.insert(index, bytes);
        self.filter.add_peer(bytes, verified.addresses());
        let peer = Peer {
            node: verified.node().clone(),
            bytes,
            name: verified.name().map(str::to_owned),
            address_v4: verified.address_v4(),
            addresses: verified.addresses(),
            generation: verified.key().generation(),
            key: theirs,
            tunnels: Tunnels::new(tunnel),
            paths: Paths::new(now, verified.candidates()),
            mtu: PathMtu::new(now.instant),
            exchange: Exchange::default(),
            bytes_sent: 0,
            bytes_received: 0,
            tick_at: now.instant,
            due: None,
        };
        self.peers.insert(bytes, peer);
        if let Some(initiation) = initiation {
            self.send_sealed(bytes, initiation);
        }
        bytes
    }

    /// A peer has a newer key: a tunnel with it is prepared beside the one in use.
    pub(super) fn change_key(&mut self, now: Now, key: &VerifiedKey) {
        let bytes = NodeBytes::from(key.node());
        let index = self.free_index();
        let Some(peer) = self.peers.get_mut(&bytes).filter(|peer| peer.generation < key.generation()) else {
            return;
        };
        peer.generation = key.generation();
        peer.key = PublicKey::from(*key.key().as_bytes());
        let mut next = Tunnel::new(now.instant, self.keys.current(), peer.key, index);
        if peer.tunnels.active().is_awake() {
            next.retry_after(now.instant, FOLLOWER_PATIENCE);
        }
        let freed = peer.tunnels.prepare(now.instant, next);
        self.by_index.insert(index, bytes);
        for freed in freed.into_iter().flatten() {
            self.by_index.remove(&freed);
        }
        self.replay_early(now);
    }

    /// Takes an authorization away at once, proven or not; it is reported when the revocation is acknowledged.
    pub fn cut(&mut self, _now: Now, authorization: &AuthorizationId) {
        if let Some(closed) = self.remove_authorization(authorization, CloseReason::Revoked) {
            self.closing.insert(authorization.clone(), closed);
        }
    }

    /// The agent stops: ends every authorization, if the control plane can be told so. Otherwise they stay live in the log,
    /// and so for the next start.
    pub fn stop(&mut self, _now: Now) {
        if !self.session_is_up {
            return;
        }
        let ids: Vec<_> = self.live.keys().cloned().collect();
        for id in ids {
            self.close(&id, CloseReason::AgentStopped);
        }
        self.report_closing();
    }

    /// Reports what was cut and whose revocation did not verify, or will not come any more.
    pub(super) fn report_closing(&mut self) {
        for (_, closed) in std::mem::take(&mut self.closing) {
            self.message(closed);
        }
    }

    pub(super) fn close(&mut self, authorization: &AuthorizationId, reason: CloseReason) {
        if let Some(closed) = self.remove_authorization(authorization, reason) {
            self.message(closed);
        }
    }

    /// Removes an authorization, and its peer if it was the last one. Gives what is to be reported.
    pub(super) fn remove_authorization(
        &mut self,
        authorization: &AuthorizationId,
        reason: CloseReason,
    ) -> Option<AgentMessage> {
        let live = self.live.remove(authorization)?;
        self.ended.push_back(authorization.clone());
        let grant = self.filter.revoke(live.peer, authorization)?;
        let path = self.peers.get(&live.peer).map(|peer| peer.paths.kind());
        if self.filter.grants(live.peer).is_empty() {
            self.remove_peer(live.peer);
        }
        Some(AgentMessage::Closed {
            authorization: authorization.clone(),
            reason,
            bytes_sent: grant.bytes_sent,
            bytes_received: grant.bytes_received,
            path,
        })
    }

    fn remove_peer(&mut self, bytes: NodeBytes) {
        if let Some(mut peer) = self.peers.remove(&bytes) {
            for index in peer.tunnels.indices() {
                self.by_index.remove(&index);
            }
        }
        self.early_packets.forget(bytes);
        self.filter.remove_peer(bytes);
    }

    /// Ends what has expired or was idle, and asks for what is to go on.
    pub(super) fn tend_authorizations(&mut self, now: Now) {
        let due: Vec<_> = self
            .live
            .iter()
            .filter_map(|(id, live)| {
                let left = live.left(now);
                live.is_due(left).then(|| (id.clone(), left.is_zero()))
            })
            .collect();
        for (id, expired) in due {
            if expired {
                self.close(&id, CloseReason::Expired);
            } else {
                self.renew_or_close(now, &id);
            }
        }
    }

    fn renew_or_close(&mut self, now: Now, id: &AuthorizationId) {
        let request = self.request_id();
        let Some(live) = self.live.get_mut(id).filter(|live| live.side == Side::Source) else { return };
        let Some(grant) = self.filter.grants(live.peer).iter().find(|grant| grant.authorization == *id)
        else {
            return;
        };
        let is_used =
            grant.used.is_some_and(|at| now.instant.saturating_duration_since(at) < live.used_within());
        if !is_used {
            return self.close(id, CloseReason::Idle);
        }
        let may_ask = match &live.renewal {
            Renewal::None => true,
            Renewal::Asked(_, at) => now.instant.saturating_duration_since(*at) >= RENEWAL_PATIENCE,
            Renewal::Denied => false,
        };
        let Some(peer) = self.peers.get(&live.peer).filter(|_| may_ask && self.session_is_up) else { return };
        live.renewal = Renewal::Asked(request.clone(), now.instant);
        let message = AgentMessage::Connect {
            request,
            address: live.route.map_or(peer.address_v4.into(), Prefix::example),
            exit: live.route.filter(|route| route.is_everything()).map(|_| peer.node.clone()),
            protocol: live.protocol,
            port: grant.last_port,
            renews: Some(id.clone()),
        };
        self.message(message);
    }

    /// Says, signed, that a record was carried out.
    pub(super) fn acknowledge(
        &mut self,
        authorization: AuthorizationId,
        record: Seq,
        leaf: &str,
        action: AcknowledgedAction,
    ) {
        let statement = Statement::Acknowledgement { network: &self.network, leaf, action };
        let signature = statement.sign(&self.identity);
        self.message(AgentMessage::Acknowledge { authorization, record, action, signature });
    }

    /// A random index that no tunnel has.
    pub(super) fn free_index(&mut self) -> u32 {
        loop {
            let index = self.random.random_range(1..1 << 24);
            if !self.by_index.contains_key(&index) {
                return index;
            }
        }
    }
}
