//! A network in memory: agents behind NATs or not, the real relay, and a control plane that answers as it is told.
//! Time is virtual and delays come from a seed, so that a run can be repeated.

use std::collections::{BTreeSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use boringtun::x25519::StaticSecret;
use jiff::SignedDuration;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use writ_agent::engine::{Engine, EngineStatus, HEADROOM, Now, RelayTransport, Settings, Testimony};
use writ_agent::trust::{Refusal, StoredLive, StoredTrust, Trust};
use writ_relay::wire::{Kind, classify};
use writ_relay::{Limits, Relay, relay_key};
use writ_schema::event::{AcknowledgedAction, CloseReason, DenialReason, PathKind, RevocationReason, Side};
use writ_schema::keys::IdentityKey;
use writ_schema::net::{Prefix, Protocol};
use writ_schema::protocol::*;
use writ_schema::{AuthorizationId, RequestId, Seq};

use super::control_plane::{ControlPlane, Node, Permit};
pub use super::nat::Nat;
use super::nat::Router;

const RELAY: &str = "198.51.100.1:3478";
/// Further ports of the relay's machine that answer STUN.
const STUN_PORTS: [u16; 3] = [3479, 3480, 3481];
const RELAY_SECRET: [u8; 32] = [6; 32];

/// A host with an agent.
pub struct Host {
    pub node: Node,
    pub engine: Engine,
    /// What came out of the TUN device.
    pub received: VecDeque<Vec<u8>>,
    pub address: SocketAddr,
    router: Option<Router>,
    candidates: Vec<Candidate>,
    /// While set, nothing comes directly to this host any more.
    pub direct_is_blocked: bool,
    /// While set, its network lets no UDP through.
    pub udp_is_blocked: bool,
    /// While set, nothing happens on this host.
    pub sleeps: bool,
    /// The other end of its stream to the relay, if it has one.
    stream: Option<SocketAddr>,
    /// What it says to its peers about the log instead of the truth.
    pub testimony: Option<Testimony>,
    /// How much it has heard from them.
    pub heard: usize,
    /// What it did not believe.
    pub refused: Vec<Refusal>,
    session: bool,
}

impl Host {
    /// From where a datagram goes out, if it does.
    fn outbound(&mut self, now: Duration, to: SocketAddr, datagram: &[u8]) -> Option<SocketAddr> {
        let is_for_relay = to == RELAY.parse().unwrap() && classify(datagram) == Kind::Relay;
        match (self.stream, &mut self.router) {
            (Some(end), _) if is_for_relay => Some(end),
            _ if self.udp_is_blocked => None,
            (_, Some(router)) => Some(router.outbound(now, to)),
            (_, None) => Some(self.address),
        }
    }

    /// Whether a datagram from outside comes in.
    fn admits(&self, now: Duration, from: SocketAddr, to: SocketAddr) -> bool {
        !self.udp_is_blocked
            && match &self.router {
                Some(router) => router.outside == to.ip() && router.admits(now, to.port(), from),
                None => self.address == to,
            }
    }
}

/// Takes what an engine has for its TUN device.
pub fn take_packets(engine: &mut Engine) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    engine
        .take_packets(|waiting| packets = waiting.iter().map(|packet| packet[HEADROOM..].to_vec()).collect());
    packets
}

struct Datagram {
    at: Duration,
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
}

/// What was said to the control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    Connect { host: usize, port: u16, renews: bool },
    Acknowledged { host: usize, action: AcknowledgedAction },
    Closed { host: usize, reason: CloseReason, bytes_sent: u64 },
    Asked { host: usize, size: u64 },
}

/// How the control plane answers what it is asked because of a peer's checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    Truly,
    Never,
    WithRubbish,
}

/// What a hostile relay sends instead of a datagram to somebody, when it has seen all these.
pub type HostileRelay = fn(SocketAddr, &[u8], &[Vec<u8>]) -> Vec<(SocketAddr, Vec<u8>)>;

/// Everything.
pub struct World {
    pub control: ControlPlane,
    /// Another history of the same log, and the hosts that are told it.
    pub fork: Option<ControlPlane>,
    pub on_fork: BTreeSet<usize>,
    /// While set, questions about consistency are not answered, or falsely.
    pub answers: Answers,
    pub hosts: Vec<Host>,
    pub said: Vec<Said>,
    pub live: Vec<(AuthorizationId, Seq, usize, usize)>,
    /// Ports that may be reached.
    pub allowed: BTreeSet<u16>,
    /// Which host carries packets for what.
    pub routes: Vec<(Prefix, usize)>,
    pub life: Duration,
    /// While set, destinations are told of authorizations only by [`World::tell_destinations`].
    pub destinations_wait: bool,
    untold: Vec<(usize, Seq, Side, usize)>,
    /// Datagrams that were seen on the wire outside, for an eavesdropper.
    pub wire: Vec<Vec<u8>>,
    /// Where datagrams were sent to.
    pub sent_to: BTreeSet<SocketAddr>,
    relay: Relay,
    /// Longest datagram that the network carries whole, IPv4 and UDP headers included. It cuts in two those that may be.
    pub carries: usize,
    /// While set, the relay does not answer.
    pub relay_is_away: bool,
    /// While set, the relay does with data as it likes: what it would have sent, and to whom, is given to this with all that was
    /// ever sent.
    pub hostile_relay: Option<HostileRelay>,
    /// How far the hosts' wall clocks are ahead of the control plane's.
    pub skew: SignedDuration,
    began: Instant,
    elapsed: Duration,
    flying: Vec<Datagram>,
    random: StdRng,
    loss: f64,
    /// How many networks there are beside the first of each host.
    networks: u8,
}

impl World {
    pub fn new(seed: u64, nats: &[Nat]) -> Self {
        let mut control = ControlPlane::new();
        let began = Instant::now();
        let mut hosts = Vec::new();
        for (number, nat) in (1_u8..).zip(nats) {
            let node = control.join(&format!("host{number}"), number);
            let now = Now { instant: began, wall: control.now };
            let engine = Engine::new(now, settings(&node, [number; 32]));
            let (address, router) = connected(*nat, number);
            hosts.push(Host {
                node,
                engine,
                received: VecDeque::new(),
                address,
                router,
                candidates: Vec::new(),
                direct_is_blocked: false,
                udp_is_blocked: false,
                sleeps: false,
                stream: None,
                testimony: None,
                heard: 0,
                refused: Vec::new(),
                session: false,
            });
        }
        let mut world = Self {
            control,
            fork: None,
            on_fork: BTreeSet::new(),
            answers: Answers::Truly,
            hosts,
            said: Vec::new(),
            live: Vec::new(),
            allowed: BTreeSet::from([80]),
            routes: Vec::new(),
            life: Duration::from_secs(600),
            destinations_wait: false,
            untold: Vec::new(),
            wire: Vec::new(),
            sent_to: BTreeSet::new(),
            relay: Relay::new(RELAY_SECRET, Limits::default()),
            carries: 1500,
            relay_is_away: false,
            hostile_relay: None,
            skew: SignedDuration::ZERO,
            began,
            elapsed: Duration::ZERO,
            flying: Vec::new(),
            random: StdRng::seed_from_u64(seed),
            loss: 0.0,
            networks: 100,
        };
        for host in 0..world.hosts.len() {
            world.connect_session(host);
        }
        world
    }

    pub fn with_loss(mut self, loss: f64) -> Self {
        self.loss = loss;
        self
    }

    pub fn now(&self) -> Now {
        Now { instant: self.began + self.elapsed, wall: self.control.now + self.skew }
    }

    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    pub fn status(&self, host: usize) -> EngineStatus {
        self.hosts[host].engine.status(self.now())
    }

    pub fn path(&self, host: usize) -> Option<PathKind> {
        self.status(host).peers.first().map(|peer| peer.path.kind)
    }

    /// Opens a session and tells everything anew.
    pub fn connect_session(&mut self, host: usize) {
        let now = self.now();
        self.hosts[host].session = true;
        self.hosts[host].engine.handle_session_up(now);
        let address = self.hosts[host].address;
        self.hosts[host].engine.set_host_addresses(now, vec![address]);
        let authorizations = self.live.clone().into_iter().filter_map(|(_, seq, source, destination)| {
            let (side, peer) = match (source == host, destination == host) {
                (true, _) => (Side::Source, destination),
                (_, true) => (Side::Destination, source),
                _ => return None,
            };
            let candidates = self.hosts[peer].candidates.clone();
            Some(self.control.authorized(seq, side, &self.hosts[peer].node, candidates, None))
        });
        let authorizations = authorizations.collect();
        let relay = self.relay_access(host);
        let netmap = self.control.netmap(&self.hosts[host].node);
        let snapshot = Snapshot { netmap, authorizations, relay };
        self.tell(host, ServerMessage::Snapshot(snapshot));
    }

    /// What a host would find on its disk after a crash.
    pub fn stored(&self, host: usize) -> (StoredTrust, StoredLive) {
        let trust = &self.hosts[host].node.trust;
        (trust.stored(), trust.stored_live(self.control.now, Some(self.relay_access(host)), 51820))
    }

    /// A crash and a new start from what is on disk, without a session. Gives what is not taken up again.
    pub fn restart(&mut self, host: usize, (trust, live): (StoredTrust, StoredLive)) -> Vec<Refusal> {
        let now = self.now();
        let (key, node) = (self.control.log_key(), &mut self.hosts[host].node);
        let identity = IdentityKey::of(&node.identity);
        node.trust = Trust::resume(&node.membership, identity, key, trust).unwrap();
        let mut restored = node.trust.restore(now.wall, live);
        let refused = std::mem::take(&mut restored.refused);
        let mut engine = Engine::new(now, settings(node, [77; 32]));
        engine.set_host_addresses(now, vec![self.hosts[host].address]);
        engine.handle_restored(now, restored);
        self.hosts[host].engine = engine;
        self.hosts[host].session = false;
        refused
    }

    fn relay_access(&self, host: usize) -> RelayAccess {
        let key = relay_key(&RELAY_SECRET, &self.hosts[host].node.id);
        let key = data_encoding::BASE64.encode(key.expose_bytes());
        let address: SocketAddr = RELAY.parse().unwrap();
        let stun = STUN_PORTS.map(|port| SocketAddr::new(address.ip(), port)).to_vec();
        RelayAccess { address, key, stun }
    }

    /// Tells a host something of no weight, with the newest checkpoint.
    pub fn tell_candidates(&mut self, host: usize) {
        let node = self.hosts[host].node.id.clone();
        self.tell(host, ServerMessage::Candidates { node, candidates: Vec::new() });
    }

    pub fn lose_session(&mut self, host: usize) {
        self.hosts[host].session = false;
        self.hosts[host].engine.handle_session_down();
    }

    pub fn tell(&mut self, host: usize, message: ServerMessage) {
        if !self.hosts[host].session {
            return;
        }
        let now = self.now();
        let held = self.hosts[host].node.trust.chain().size();
        let frame = self.control_of(host).frame(held, message);
        let target = &mut self.hosts[host];
        match target.node.trust.verify(now.wall, frame) {
            Ok(verified) => target.engine.handle_message(now, verified),
            Err(refusal) => target.refused.push(refusal),
        }
    }

    /// The history that a host is told.
    fn control_of(&self, host: usize) -> &ControlPlane {
        self.fork.as_ref().filter(|_| self.on_fork.contains(&host)).unwrap_or(&self.control)
    }

    /// What a host and its peers say to each other about the log.
    fn compare_notes(&mut self, host: usize) {
        let (now, target) = (self.now(), &mut self.hosts[host]);
        while let Some((peer, testimony)) = target.engine.poll_heard() {
            target.heard += 1;
            match testimony {
                Testimony::Checkpoint(note) => target.node.trust.hear_checkpoint(now.wall, &peer, &note),
                Testimony::SplitView(text) => target.node.trust.hear_split_view(now.wall, &peer, &text),
            };
        }
        let trust = &target.node.trust;
        let testimony = match trust.split_view().filter(|found| found.is_proven) {
            Some(found) => Some(Testimony::SplitView(found.evidence.clone())),
            None => trust.chain().note().map(|note| Testimony::Checkpoint(note.into())),
        };
        if let Some(testimony) = target.testimony.clone().or(testimony) {
            target.engine.testify(now, testimony);
        }
        if target.session
            && let Some(message) = target.node.trust.ask(now.wall, || target.engine.request_id())
        {
            self.hear(host, message);
        }
    }

    /// Sends a packet from a host's TUN device.
    pub fn send(&mut self, host: usize, packet: &[u8]) {
        let now = self.now();
        self.hosts[host].engine.handle_tun_packet(now, packet);
        self.settle();
    }

    /// Lets time pass until something holds. Fails when it never does.
    pub fn run_until(&mut self, limit: Duration, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        let end = self.elapsed + limit;
        while !holds(self) {
            assert!(self.elapsed < end, "after {:?} still not: {what}", self.elapsed);
            self.step();
        }
    }

    pub fn run_for(&mut self, time: Duration) {
        let end = self.elapsed + time;
        while self.elapsed < end {
            self.step();
        }
    }

    /// Goes to the next thing that happens, a tenth of a second away at most.
    fn step(&mut self) {
        self.settle();
        let datagram = self.flying.iter().map(|d| d.at).min();
        let timeouts =
            self.hosts.iter().filter(|host| !host.sleeps).filter_map(|host| host.engine.poll_timeout());
        let timeout = timeouts.map(|(at, _)| at.saturating_duration_since(self.began)).min();
        let next = datagram.into_iter().chain(timeout).min().unwrap_or(Duration::MAX);
        let next = next.clamp(self.elapsed, self.elapsed + Duration::from_millis(100));
        // Never stand still, even if a deadline is not met by being handled.
        let next = if next == self.elapsed { next + Duration::from_micros(50) } else { next };
        self.control.pass(next - self.elapsed);
        self.elapsed = next;
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.flying).into_iter().partition(|datagram| datagram.at <= next);
        self.flying = later;
        for datagram in due {
            self.deliver(datagram);
        }
        let now = self.now();
        for host in self.hosts.iter_mut().filter(|host| !host.sleeps) {
            if host.engine.poll_timeout().is_some_and(|(at, _)| at <= now.instant) {
                host.engine.handle_timeout(now);
            }
        }
        self.settle();
    }

    fn settle(&mut self) {
        for host in 0..self.hosts.len() {
            self.tend_stream(host);
            while let Some(transmit) = self.hosts[host].engine.poll_transmit() {
                for datagram in transmit.datagrams() {
                    if transmit.is_whole && datagram.len() + 28 > self.carries {
                        continue;
                    }
                    if let Some(from) = self.hosts[host].outbound(self.elapsed, transmit.to, datagram) {
                        self.fly(from, transmit.to, datagram.to_vec());
                    }
                }
                self.hosts[host].engine.reuse(transmit);
            }
            let packets = take_packets(&mut self.hosts[host].engine);
            self.hosts[host].received.extend(packets);
            while let Some(ended) = self.hosts[host].engine.poll_ended() {
                self.hosts[host].node.trust.end(self.control.now, &ended);
            }
        }
        for host in 0..self.hosts.len() {
            while let Some(message) = self.hosts[host].engine.poll_message() {
                self.hear(host, message);
            }
            self.compare_notes(host);
        }
    }

    /// What the agent's shell does about the stream to the relay.
    fn tend_stream(&mut self, host: usize) {
        let now = self.now();
        let end = SocketAddr::from(([127, 0, 0, 1], 50_000 + u16::try_from(host).unwrap()));
        let host = &mut self.hosts[host];
        match (host.engine.wants_relay_stream(), host.stream) {
            (true, None) => {
                host.stream = Some(end);
                host.engine.set_relay_transport(now, RelayTransport::Tls);
            }
            (false, Some(_)) => {
                host.stream = None;
                host.engine.set_relay_transport(now, RelayTransport::Udp);
            }
            _ => {}
        }
    }

    /// A host's router restarts and has forgotten everything.
    pub fn flush_nat(&mut self, host: usize) {
        if let Some(router) = &mut self.hosts[host].router {
            router.forget();
        }
    }

    /// A host comes up in another network.
    pub fn roam(&mut self, host: usize, nat: Nat) {
        self.networks += 1;
        let (address, router) = connected(nat, self.networks);
        (self.hosts[host].address, self.hosts[host].router) = (address, router);
        let now = self.now();
        self.hosts[host].engine.set_host_addresses(now, vec![address]);
        self.hosts[host].engine.handle_network_change(now);
        self.settle();
    }

    /// A host that slept is awake.
    pub fn wake(&mut self, host: usize) {
        self.hosts[host].sleeps = false;
        let now = self.now();
        self.hosts[host].engine.handle_resume(now);
        self.settle();
    }

    fn fly(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        self.wire.push(bytes.clone());
        self.sent_to.insert(to);
        if self.random.random_bool(self.loss) {
            return;
        }
        let delay = Duration::from_micros(self.random.random_range(500..15_000));
        self.flying.push(Datagram { at: self.elapsed + delay, from, to, bytes });
    }

    fn deliver(&mut self, datagram: Datagram) {
        let Datagram { from, to, bytes, .. } = datagram;
        let now = self.now();
        let relay: SocketAddr = RELAY.parse().unwrap();
        if to.ip() == relay.ip() {
            if self.relay_is_away {
                return;
            }
            let mut out = Vec::new();
            let mut send = |to: SocketAddr, bytes: &[u8]| out.push((to, bytes.to_vec()));
            match to == relay {
                true => self.relay.handle_datagram(now.instant, from, &bytes, &mut send),
                false => self.relay.handle_stun(now.instant, from, &bytes, &mut send),
            }
            if let Some(hostile) = self.hostile_relay {
                out = out.iter().flat_map(|(to, bytes)| hostile(*to, bytes, &self.wire)).collect();
            }
            for (back, bytes) in out {
                self.fly(to, back, bytes);
            }
            return;
        }
        let is_direct = from.ip() != relay.ip();
        let target =
            self.hosts.iter_mut().find(|host| host.stream == Some(to) || host.admits(self.elapsed, from, to));
        let Some(host) = target.filter(|host| !(host.sleeps || is_direct && host.direct_is_blocked)) else {
            return;
        };
        host.engine.handle_datagram(now, from, &bytes);
    }

    fn hear(&mut self, host: usize, message: AgentMessage) {
        match message {
            AgentMessage::Connect { request, address, exit, protocol, port, renews } => {
                self.said.push(Said::Connect { host, port, renews: renews.is_some() });
                let target = self.hosts.iter().position(|h| {
                    [h.node.membership.address_v4.into(), h.node.membership.address_v6.into()]
                        .contains(&address)
                });
                let is_asked = |route: Prefix, to: usize| match &exit {
                    Some(exit) => route.is_everything() && self.hosts[to].node.id == *exit,
                    None => !route.is_everything(),
                };
                let leads_there =
                    |(route, to): &(Prefix, usize)| is_asked(*route, *to) && route.leads_to(address);
                let routed = self.routes.iter().copied().find(leads_there);
                let way = target.map(|target| (None, target));
                let way = way.or(routed.map(|(route, router)| (Some(route), router)));
                match way.filter(|_| self.allowed.contains(&port) || protocol == Protocol::Icmp) {
                    Some((route, to)) => {
                        self.authorize(host, to, route, (protocol, port), renews, Some(request))
                    }
                    None => self.deny(host, request),
                }
            }
            AgentMessage::Candidates { candidates } => {
                self.hosts[host].candidates.clone_from(&candidates);
                let node = self.hosts[host].node.id.clone();
                for peer in self.peers_of(host) {
                    let (node, candidates) = (node.clone(), candidates.clone());
                    self.tell(peer, ServerMessage::Candidates { node, candidates });
                }
            }
            AgentMessage::Acknowledge { action, .. } => self.said.push(Said::Acknowledged { host, action }),
            AgentMessage::Closed { reason, bytes_sent, .. } => {
                self.said.push(Said::Closed { host, reason, bytes_sent });
            }
            AgentMessage::Rotate { generation, wireguard_key, .. } => {
                let seq = self.control.rotate(&self.hosts[host].node, generation, wireguard_key);
                self.hosts[host].node.rotation = Some(seq);
                let node = self.hosts[host].node.id.clone();
                for told in [vec![host], self.peers_of(host)].concat() {
                    let (node, record) = (node.clone(), self.control.proven(seq));
                    self.tell(told, ServerMessage::PeerKey { node, record });
                }
            }
            AgentMessage::Consistency { request, size } => {
                self.said.push(Said::Asked { host, size });
                let mut answer = self.control_of(host).consistency(request, size);
                if let (ServerMessage::Consistency { proof, .. }, Answers::WithRubbish) =
                    (&mut answer, self.answers)
                {
                    proof.push("A".repeat(43) + "=");
                }
                if self.answers != Answers::Never {
                    self.tell(host, answer);
                }
            }
            AgentMessage::Cosigned { request } => {
                let answer = self.control_of(host).cosigned(request);
                self.tell(host, answer);
            }
            AgentMessage::Hello { .. }
            | AgentMessage::Routes { .. }
            | AgentMessage::Reject { .. }
            | AgentMessage::Explain { .. } => {}
        }
    }

    fn peers_of(&self, host: usize) -> Vec<usize> {
        let peers = self.live.iter().filter_map(|(_, _, a, b)| match (*a == host, *b == host) {
            (true, _) => Some(*b),
            (_, true) => Some(*a),
            _ => None,
        });
        peers.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Authorizes as if it had been asked for.
    fn authorize(
        &mut self,
        source: usize,
        destination: usize,
        route: Option<Prefix>,
        (protocol, port): (Protocol, u16),
        renews: Option<AuthorizationId>,
        request: Option<RequestId>,
    ) {
        self.live.retain(|(id, ..)| Some(id) != renews.as_ref());
        let ports = writ_schema::net::PortRange::single(port);
        let permit = Permit { route, protocol, ports, renews, life: self.life };
        let (id, seq) =
            self.control.authorize(&self.hosts[source].node, &self.hosts[destination].node, &permit);
        self.live.push((id, seq, source, destination));
        let (a, b) = (self.hosts[source].node.id.clone(), self.hosts[destination].node.id.clone());
        self.relay.permit(&a, &b, self.now().instant + self.life).unwrap();
        for (host, peer, side) in
            [(source, destination, Side::Source), (destination, source, Side::Destination)]
        {
            if self.destinations_wait && side == Side::Destination {
                self.untold.push((host, seq, side, peer));
            } else {
                let request = request.clone().filter(|_| side == Side::Source);
                self.tell_authorized(host, seq, side, peer, request);
            }
        }
    }

    /// Tells destinations what they were not told.
    pub fn tell_destinations(&mut self) {
        for (host, seq, side, peer) in std::mem::take(&mut self.untold) {
            self.tell_authorized(host, seq, side, peer, None);
        }
        self.settle();
    }

    fn tell_authorized(
        &mut self,
        host: usize,
        seq: Seq,
        side: Side,
        peer: usize,
        request: Option<RequestId>,
    ) {
        let candidates = self.hosts[peer].candidates.clone();
        let message = self.control.authorized(seq, side, &self.hosts[peer].node, candidates, request);
        self.tell(host, ServerMessage::Authorized(Box::new(message)));
    }

    fn deny(&mut self, host: usize, request: RequestId) {
        let explanation = "no rule allows it".to_owned();
        let (reason, record) = (DenialReason::NoRule, Seq(0));
        self.tell(host, ServerMessage::Denied { request, reason, explanation, record });
    }

    /// A host carries packets for a prefix, and the others send theirs to it.
    pub fn route(&mut self, prefix: &str, router: usize) {
        let prefix: Prefix = prefix.parse().unwrap();
        self.routes.push((prefix, router));
        for (number, host) in self.hosts.iter_mut().enumerate() {
            let routes = self.routes.iter().filter(|(_, to)| (*to == number) == (router == number));
            let routes = routes.map(|(prefix, _)| *prefix).collect();
            match number == router {
                true => host.engine.set_offered_routes(routes),
                false => host.engine.set_accepted_routes(routes),
            }
        }
    }

    /// Takes every live authorization away.
    pub fn revoke_all(&mut self) {
        for (id, _, source, destination) in std::mem::take(&mut self.live) {
            let seq = self.control.revoke(&id);
            for host in [source, destination] {
                let record = self.control.proven(seq);
                let reason = RevocationReason::PolicyChanged;
                self.tell(host, ServerMessage::Revoked { authorization: id.clone(), reason, record });
            }
        }
        self.settle();
    }

    pub fn rotate(&mut self, host: usize, secret: [u8; 32]) {
        assert!(self.hosts[host].engine.rotate(StaticSecret::from(secret)).is_some());
        self.settle();
    }
}

/// The address of a host in the network of this number, and the router there.
fn connected(nat: Nat, number: u8) -> (SocketAddr, Option<Router>) {
    let outside = Ipv4Addr::new(203, 0, 113, number);
    match nat.behaviour() {
        None => ((outside, 51820).into(), None),
        Some(behaviour) => (([192, 168, number, 2], 51820).into(), Some(Router::new(behaviour, outside))),
    }
}

fn settings(node: &Node, seed: [u8; 32]) -> Settings {
    Settings {
        membership: node.membership.clone(),
        identity: node.identity.clone(),
        wireguard: node.secret.clone(),
        generation: 0,
        next_key: None,
        seed,
    }
}
