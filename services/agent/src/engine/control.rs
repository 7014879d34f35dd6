//! The session: what the control plane says after verification, and what becomes of it.

use std::collections::BTreeSet;
use std::iter;
use std::net::SocketAddr;
use std::time::Duration;

use boringtun::x25519::StaticSecret;
use rand::Rng;
use writ_relay::wire::NodeBytes;
use writ_schema::event::{AcknowledgedAction, CloseReason, DenialReason, Side};
use writ_schema::keys::Statement;
use writ_schema::net::Prefix;
use writ_schema::protocol::{AgentMessage, MAX_REASON_CHARS};
use writ_schema::{CommandId, RequestId, Seq};

use super::Engine;
use super::authorizations::{Origin, Renewal};
use super::filter::Wish;
use super::keys::NextKey;
use super::packet::Packet;
use super::relay::RelayClient;
use super::status::DenialStatus;
use super::stun::StunClient;
use super::time::Now;
use super::wireguard::Tunnel;
use crate::trust::{Relay, Verified, VerifiedKey, VerifiedRevocation, VerifiedSnapshot};

/// Denials that `status` shows.
const MAX_DENIALS: usize = 32;
/// A busy control plane that names no time is asked again after this.
const DEFAULT_RETRY: Duration = Duration::from_secs(1);

impl Engine {
    /// Takes a verified message of the control plane.
    pub fn handle_message(&mut self, now: Now, message: Verified) {
        match message {
            Verified::Snapshot(snapshot) => self.take_snapshot(now, *snapshot),
            // What was denied may be allowed now.
            Verified::NetmapChanged(_) => self.pending.forget_denials(),
            Verified::Consistency | Verified::Explained(_) | Verified::Cosigned { .. } => {}
            Verified::Authorized(authorization) => self.admit(now, &authorization, Origin::Decided),
            Verified::Denied { request, reason, explanation, record } => {
                self.denied(now, &request, reason, explanation, record);
            }
            Verified::Revoked(revocation) => self.revoked(now, &revocation),
            Verified::Key(key) if *key.node() == self.own.membership.node => self.adopt_key(now, &key),
            Verified::Key(key) => self.change_key(now, &key),
            Verified::Candidates { node, candidates } => {
                if let Some(peer) = self.peers.get_mut(&NodeBytes::from(&node)) {
                    peer.paths.announce(now.instant, &candidates);
                }
            }
            Verified::Refused { request, error, retry_after_ms, .. } => {
                self.refused(now, request.as_ref(), &error, retry_after_ms);
            }
            Verified::Removed => self.removed(),
        }
        self.schedule_all();
    }

    /// The session stands: says again what the control plane may not have heard.
    pub fn handle_session_up(&mut self, now: Now) {
        self.session_is_up = true;
        self.candidates.forget_announced();
        self.announce_candidates();
        self.message(AgentMessage::Routes { routes: self.filter.offered().to_vec() });
        self.pending.ask_again(now.instant);
        self.ask(now);
        self.send_rotation();
    }

    /// The session is gone. What is live stays live until it expires.
    pub fn handle_session_down(&mut self) {
        self.session_is_up = false;
        for live in self.live.values_mut() {
            if matches!(live.renewal, Renewal::Asked(..)) {
                live.renewal = Renewal::None;
            }
        }
        // Wishes are asked anew when there is a session; answers that were due will not come.
        self.messages.retain(|message| !matches!(message, AgentMessage::Connect { .. }));
    }

    /// Packets for these prefixes belong into a tunnel: the host's routes for them lead here.
    pub fn set_accepted_routes(&mut self, routes: Vec<Prefix>) {
        self.filter.set_accepted(routes);
    }

    /// What lies behind other nodes and may be reached under live authorizations, in order.
    pub fn routes_in_use(&self) -> Vec<Prefix> {
        let routes =
            self.live.values().filter(|live| live.side == Side::Source).filter_map(|live| live.route);
        routes.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// This node carries packets for these prefixes, as far as that is approved. It is told to the control plane when a session
    /// begins.
    pub fn set_offered_routes(&mut self, routes: Vec<Prefix>) {
        self.filter.set_offered(routes);
    }

    /// The addresses of this host's interfaces, with the port that is listened on.
    pub fn set_host_addresses(&mut self, now: Now, addresses: Vec<SocketAddr>) {
        if !self.candidates.set_hosts(addresses) {
            return;
        }
        self.stun.iter_mut().for_each(|client| client.restart(now.instant));
        self.begin_anew(now);
        self.announce_candidates();
    }

    /// The network under this host is another, though its addresses may be the same: another way out, a cable that was
    /// pulled. Everything that may work differently now is tried at once.
    pub fn handle_network_change(&mut self, now: Now) {
        self.stun.iter_mut().for_each(|client| client.ask_again(now.instant));
        self.begin_anew(now);
    }

    fn begin_anew(&mut self, now: Now) {
        if let Some(relay) = &mut self.relay {
            relay.restart(now.instant);
        }
        self.try_paths(now);
    }

    /// Tries every candidate of every peer: what did not work before may work now.
    pub(super) fn try_paths(&mut self, now: Now) {
        self.peers.values_mut().for_each(|peer| peer.paths.network_changed(now.instant));
        self.schedule_all();
    }

    /// This host has slept: what NATs remembered of it is probably gone, and it may be elsewhere.
    pub fn handle_resume(&mut self, now: Now) {
        self.handle_network_change(now);
        self.peers.values_mut().for_each(|peer| peer.paths.suspect(now.instant));
        self.schedule_all();
    }

    /// Begins a key rotation; `None` while one is under way. The key must be stored before the outputs are polled.
    pub fn rotate(&mut self, secret: StaticSecret) -> Option<NextKey> {
        if self.keys.next.is_some() {
            return None;
        }
        let command = CommandId::from_bytes(self.random.random());
        let next = NextKey { command, generation: self.keys.generation.checked_add(1)?, secret };
        self.keys.next = Some(next.clone());
        self.send_rotation();
        Some(next)
    }

    /// The number of the WireGuard key in use, and of the one that was asked for.
    pub fn key_generations(&self) -> (u64, Option<u64>) {
        (self.keys.generation, self.keys.next.as_ref().map(|next| next.generation))
    }

    /// Says, signed, that a frame of the control plane was not accepted.
    pub fn reject(&mut self, frame: u64, why: &str) {
        let line = why.chars().map(|c| if c.is_control() { ' ' } else { c });
        let reason: String = line.take(MAX_REASON_CHARS).collect();
        let statement = Statement::Rejection { network: &self.network, frame, reason: &reason };
        let signature = statement.sign(&self.identity);
        self.message(AgentMessage::Reject { frame, reason, signature });
    }

    pub(super) fn send_rotation(&mut self) {
        let Some(next) = self.keys.next.as_ref().filter(|_| self.session_is_up) else { return };
        let wireguard_key = next.public();
        let statement = Statement::Rotation {
            network: &self.network,
            generation: next.generation,
            wireguard_key: &wireguard_key,
        };
        let message = AgentMessage::Rotate {
            command: next.command.clone(),
            generation: next.generation,
            wireguard_key,
            signature: statement.sign(&self.identity),
        };
        self.message(message);
    }

    /// Our own new key is in the log: a tunnel with it is prepared beside every one in use, and takes the place of the others.
    fn adopt_key(&mut self, now: Now, key: &VerifiedKey) {
        if !self.keys.adopt(now.instant, key.generation(), key.key()) {
            return;
        }
        let peers: Vec<_> = self.peers.keys().copied().collect();
        for bytes in peers {
            let index = self.free_index();
            let Some(peer) = self.peers.get_mut(&bytes) else { continue };
            let mut next = Tunnel::new(now.instant, self.keys.current(), peer.key, index);
            let is_in_use = peer.tunnels.active().is_awake();
            let initiation = is_in_use.then(|| next.initiate(now.instant)).flatten();
            let freed = peer.tunnels.prepare(now.instant, next);
            self.by_index.insert(index, bytes);
            for freed in freed.into_iter().flatten() {
                self.by_index.remove(&freed);
            }
            if let Some(initiation) = initiation {
                self.send_sealed(bytes, initiation);
            }
        }
    }

    fn take_snapshot(&mut self, now: Now, snapshot: VerifiedSnapshot) {
        self.set_relay(now, snapshot.relay);
        let named: BTreeSet<_> =
            snapshot.authorizations.iter().map(|authorization| authorization.authorization()).collect();
        let gone: Vec<_> = self.live.keys().filter(|id| !named.contains(id)).cloned().collect();
        for authorization in &snapshot.authorizations {
            self.admit(now, authorization, Origin::Snapshot);
        }
        for id in gone {
            // The control plane has recorded its end already.
            let _ = self.remove_authorization(&id, CloseReason::Revoked);
        }
    }

    pub(super) fn set_relay(&mut self, now: Now, relay: Relay) {
        match self.relay.as_mut().filter(|current| current.is_same(relay.address, &relay.key)) {
            // A control plane that was started anew tells everything anew, and its relay has forgotten who was there.
            Some(current) => current.restart(now.instant),
            None => {
                let client = RelayClient::new(now.instant, self.own.bytes, relay.address, relay.key);
                self.relay = Some(client);
            }
        }
        let mut servers = Vec::new();
        let keeping = StunClient::keeping(now.instant, relay.address);
        let others: BTreeSet<_> = relay.stun.into_iter().filter(|server| *server != relay.address).collect();
        let looking = others.into_iter().map(|server| StunClient::looking(now.instant, server));
        for client in iter::once(keeping).chain(looking) {
            let is_known = |it: &&StunClient| it.server() == client.server() && it.keeps() == client.keeps();
            let known = self.stun.iter().find(is_known).cloned();
            servers.push(known.unwrap_or(client));
        }
        self.stun = servers;
    }

    fn denied(
        &mut self,
        now: Now,
        request: &RequestId,
        reason: DenialReason,
        explanation: String,
        record: Seq,
    ) {
        let renewed = self
            .live
            .values_mut()
            .find(|live| matches!(&live.renewal, Renewal::Asked(asked, _) if asked == request));
        if let Some(live) = renewed {
            live.renewal = Renewal::Denied;
        }
        let Some((wish, packets)) = self.pending.deny(now.instant, request) else { return };
        for bytes in packets {
            if let Ok(packet) = Packet::parse(&bytes) {
                self.answer_refusal(&packet, &bytes);
            }
        }
        if self.denials.len() >= MAX_DENIALS {
            self.denials.pop_front();
        }
        let Wish { address, protocol, port, .. } = wish;
        let at = now.wall;
        self.denials.push_back(DenialStatus { at, address, protocol, port, reason, explanation, record });
    }

    fn revoked(&mut self, now: Now, revocation: &VerifiedRevocation) {
        let id = revocation.authorization();
        self.cut(now, id);
        let action = AcknowledgedAction::Withdrawn;
        self.acknowledge(id.clone(), revocation.record(), revocation.leaf(), action);
        if let Some(closed) = self.closing.remove(id) {
            self.message(closed);
        }
    }

    fn refused(&mut self, now: Now, request: Option<&RequestId>, error: &str, retry_after_ms: Option<u64>) {
        let Some(request) = request else { return self.rotation_refused(error) };
        let after = retry_after_ms.map_or(DEFAULT_RETRY, Duration::from_millis);
        self.pending.retry(now.instant, request, after);
        for live in self.live.values_mut() {
            if matches!(&live.renewal, Renewal::Asked(asked, _) if asked == request) {
                live.renewal = Renewal::None;
            }
        }
    }

    /// A key that can never be accepted is given up; anything else is asked for again in the next session.
    fn rotation_refused(&mut self, error: &str) {
        if matches!(error, "wrong_generation" | "key_in_use") {
            self.keys.next = None;
        }
    }

    fn removed(&mut self) {
        self.is_removed = true;
        let ids: Vec<_> = self.live.keys().cloned().collect();
        for id in ids {
            self.close(&id, CloseReason::Revoked);
        }
        self.report_closing();
        self.relay = None;
        self.stun.clear();
    }

    /// Asks for what has not been asked for yet.
    pub(super) fn ask(&mut self, now: Now) {
        if !self.session_is_up {
            return;
        }
        for (request, wish) in self.pending.take_due(now.instant) {
            let exit = self.exit_of(&wish);
            let Wish { address, protocol, port, .. } = wish;
            self.message(AgentMessage::Connect { request, address, exit, protocol, port, renews: None });
        }
    }

    pub(super) fn announce_candidates(&mut self) {
        if !self.session_is_up {
            return;
        }
        let relay = self.relay.as_ref().and_then(RelayClient::observed);
        let observed = self.stun.iter().filter_map(StunClient::observed).chain(relay);
        if let Some(candidates) = self.candidates.announcement(observed) {
            self.message(AgentMessage::Candidates { candidates });
        }
    }
}
