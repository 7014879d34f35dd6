//! The packet filter: stateful, and closed by default.
//!
//! A packet passes if a live *grant* covers it (an authorization in which this node is the source, for packets out, or
//! the destination, for packets in), or if it answers a flow that a grant covers still. So taking a grant away stops its
//! flows with the very next packet. A peer may only send from its own addresses and only to ours, or to those behind this
//! node that a grant leads to; and what answers from behind a node does so in a flow only.
//!
//! A flow outlives its grant in the table for a reason: what a local server still has to say in a flow that was cut must
//! not look like a wish of this node to connect.

mod flow;
mod grant;
mod trial;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Instant;

use writ_relay::wire::NodeBytes;
use writ_schema::AuthorizationId;
use writ_schema::event::Side;
use writ_schema::net::{Prefix, Protocol};

use super::packet::{Packet, Quoted, Transport};
use flow::{Direction, Ends, FlowKey};

pub(in crate::engine) use flow::Flow;
pub(in crate::engine) use grant::{Grant, Service};

/// Most flows at a time.
const MAX_FLOWS: usize = 65_536;
/// Most flows with one peer at a time, so that none can fill the table.
const MAX_FLOWS_PER_PEER: usize = 16_384;

/// What to ask the control plane for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::engine) struct Wish {
    pub address: IpAddr,
    pub protocol: Protocol,
    pub port: u16,
    /// The address stands for the whole Internet, and a chosen exit node is to lead there.
    pub by_exit: bool,
}

/// What becomes of a packet from the TUN device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Outbound {
    Admit(NodeBytes),
    Ask(Wish),
    Refuse(Refused),
}

/// Why a packet does not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Refused {
    /// From or to an address that is not the sender's or not ours.
    ForeignAddress,
    /// No grant covers it.
    NotGranted,
    /// It belongs to no flow, and is not how one begins.
    NoFlow,
    /// There are too many flows.
    TableFull,
}

#[derive(Debug, Clone, Default)]
struct Peer {
    /// Whether it has addresses of its own.
    is_named: bool,
    grants: Vec<Grant>,
    flows: usize,
}

/// The filter.
#[derive(Debug, Clone)]
pub(in crate::engine) struct Filter {
    own: [IpAddr; 2],
    addresses: HashMap<IpAddr, NodeBytes>,
    peers: HashMap<NodeBytes, Peer>,
    flows: HashMap<FlowKey, Flow>,
    /// What is reached behind other nodes, exit nodes apart.
    accepted: Vec<Prefix>,
    /// What this node carries packets for.
    offered: Vec<Prefix>,
    /// The peers that carry packets for what lies behind them, with how many grants lead there.
    routers: BTreeMap<NodeBytes, usize>,
}

impl Filter {
    pub fn new(own: [IpAddr; 2]) -> Self {
        let (addresses, peers, flows) = (HashMap::new(), HashMap::new(), HashMap::new());
        let (accepted, offered) = (Vec::new(), Vec::new());
        Self { own, addresses, peers, flows, accepted, offered, routers: BTreeMap::new() }
    }

    /// Says what is reached behind other nodes, exit nodes apart.
    pub fn set_accepted(&mut self, accepted: Vec<Prefix>) {
        self.accepted = accepted;
    }

    /// What is reached behind other nodes, exit nodes apart.
    pub fn accepted(&self) -> &[Prefix] {
        &self.accepted
    }

    /// Says what this node carries packets for.
    pub fn set_offered(&mut self, offered: Vec<Prefix>) {
        self.offered = offered;
    }

    /// What this node carries packets for.
    pub fn offered(&self) -> &[Prefix] {
        &self.offered
    }

    /// Whether this node carries packets wherever a route for a prefix leads.
    pub fn offers(&self, route: Prefix) -> bool {
        self.offered.iter().any(|offered| offered.leads_where(route))
    }

    /// Names the addresses that are a peer's own.
    pub fn add_peer(&mut self, peer: NodeBytes, addresses: [IpAddr; 2]) {
        self.peers.entry(peer).or_default().is_named = true;
        for address in addresses {
            self.addresses.insert(address, peer);
        }
    }

    /// Forgets a peer. Its flows stay as marks of what was cut until they time out.
    pub fn remove_peer(&mut self, peer: NodeBytes) {
        self.addresses.retain(|_, owner| *owner != peer);
        self.routers.remove(&peer);
        if let Some(known) = self.peers.get_mut(&peer) {
            known.grants.clear();
            known.is_named = false;
        }
        self.forget_empty();
    }

    pub fn grant(&mut self, peer: NodeBytes, grant: Grant) {
        if leads_through(&grant) {
            *self.routers.entry(peer).or_default() += 1;
        }
        self.peers.entry(peer).or_default().grants.push(grant);
    }

    /// Takes a grant away.
    pub fn revoke(&mut self, peer: NodeBytes, authorization: &AuthorizationId) -> Option<Grant> {
        let grants = &mut self.peers.get_mut(&peer)?.grants;
        let at = grants.iter().position(|grant| grant.authorization == *authorization)?;
        let revoked = grants.swap_remove(at);
        if leads_through(&revoked)
            && let Some(count) = self.routers.get_mut(&peer)
        {
            *count = count.saturating_sub(1);
            self.routers.retain(|_, count| *count > 0);
        }
        Some(revoked)
    }

    pub fn grants(&self, peer: NodeBytes) -> &[Grant] {
        self.peers.get(&peer).map_or(&[], |peer| peer.grants.as_slice())
    }

    /// Decides about a packet of this node.
    pub fn outbound(&mut self, now: Instant, packet: &Packet, bytes: usize) -> Outbound {
        let is_own = self.own.contains(&packet.source);
        if let Transport::Error(quoted) = packet.transport {
            return self.outbound_error(now, packet, &quoted, bytes);
        }
        let Some(ends) = Ends::of(packet, Direction::Out) else {
            return Outbound::Refuse(if is_own { Refused::NoFlow } else { Refused::ForeignAddress });
        };
        let flow = self.live_flow(now, &ends.key);
        let flow = flow.filter(|flow| is_own || flow.leads_to(Side::Destination, packet.source));
        if let Some(peer) = flow.and_then(|flow| self.pass(now, &ends, flow, Direction::Out, bytes)) {
            return Outbound::Admit(peer);
        }
        if !is_own {
            // A neighbour of this node begins nothing through it.
            let refused = if flow.is_some() { Refused::NotGranted } else { Refused::ForeignAddress };
            return Outbound::Refuse(refused);
        }
        if let Some(opened) = self.open_outbound(now, packet, &ends, bytes) {
            return opened.map_or_else(Outbound::Refuse, Outbound::Admit);
        }
        match flow {
            // What a local server still has to say in a flow that was cut.
            Some(Flow { side: Side::Destination, .. }) => Outbound::Refuse(Refused::NotGranted),
            None if !ends.begins => Outbound::Refuse(Refused::NoFlow),
            Some(_) | None => Outbound::Ask(Wish {
                address: packet.destination,
                protocol: packet.protocol(),
                port: ends.opens_port,
                by_exit: false,
            }),
        }
    }

    /// Begins a flow, if a grant covers it.
    fn open_outbound(
        &mut self,
        now: Instant,
        packet: &Packet,
        ends: &Ends,
        bytes: usize,
    ) -> Option<Result<NodeBytes, Refused>> {
        if ends.answers {
            return None;
        }
        let (protocol, port) = (packet.protocol(), ends.opens_port);
        let (peer, behind) = match self.addresses.get(&packet.destination) {
            Some(peer) => (*peer, None),
            None => (self.router(packet.destination, protocol, port)?, Some(packet.destination)),
        };
        let service = Service { behind, port };
        self.covering(peer, Side::Source, protocol, service)?;
        let flow = Flow { peer, side: Side::Source, service, last: now, ended: false };
        Some(self.open(now, ends, flow, Direction::Out, bytes).map(|()| peer))
    }

    /// The peer through which a grant leads to an address behind it; of several the one with the nearest route. An exit node is
    /// no way to what is reached by a nearer one.
    fn router(&self, address: IpAddr, protocol: Protocol, port: u16) -> Option<NodeBytes> {
        let service = Service { behind: Some(address), port };
        let is_near = self.accepted.iter().any(|route| route.contains(address));
        let leading = self.routers.keys().filter_map(|router| {
            let covering =
                self.grants(*router).iter().filter(|it| it.covers(Side::Source, protocol, service));
            let routes = covering.filter_map(|grant| grant.route);
            let nearest = routes.map(|route| route.net().prefix_len()).max()?;
            (!is_near || nearest > 0).then_some((u8::MAX - nearest, *router))
        });
        leading.min().map(|(_, router)| router)
    }

    /// Decides about a packet that a peer sent through its tunnel.
    pub fn inbound(
        &mut self,
        now: Instant,
        from: NodeBytes,
        packet: &Packet,
        bytes: usize,
    ) -> Result<(), Refused> {
        let is_peers = self.addresses.get(&packet.source) == Some(&from);
        let behind = (!self.own.contains(&packet.destination)).then_some(packet.destination);
        if let Transport::Error(quoted) = packet.transport {
            return self.inbound_error(now, from, packet, &quoted, bytes);
        }
        let ends = Ends::of(packet, Direction::In).ok_or(Refused::NoFlow)?;
        let flow = self.live_flow(now, &ends.key).filter(|flow| flow.peer == from);
        let flow = flow.filter(|flow| is_peers || flow.leads_to(Side::Source, packet.source));
        if let Some(flow) = flow
            && self.pass(now, &ends, flow, Direction::In, bytes).is_some()
        {
            return Ok(());
        }
        let is_offered = behind.is_none_or(|address| self.offers(Prefix::single(address)));
        if flow.is_none() && (!is_peers || !is_offered) {
            return Err(Refused::ForeignAddress);
        }
        let service = Service { behind, port: ends.opens_port };
        if !is_peers || self.covering(from, Side::Destination, packet.protocol(), service).is_none() {
            return Err(Refused::NotGranted);
        }
        if ends.answers {
            return Err(Refused::NoFlow);
        }
        let flow = Flow { peer: from, side: Side::Destination, service, last: now, ended: false };
        self.open(now, &ends, flow, Direction::In, bytes)
    }

    /// Forgets flows that have been silent for too long.
    pub fn sweep(&mut self, now: Instant) {
        let (peers, before) = (&mut self.peers, self.flows.len());
        self.flows.retain(|key, flow| {
            let lives = now.saturating_duration_since(flow.last) < flow.lifetime(key.number);
            if !lives && let Some(peer) = peers.get_mut(&flow.peer) {
                peer.flows = peer.flows.saturating_sub(1);
            }
            lives
        });
        if self.flows.len() < before {
            self.forget_empty();
        }
    }

    fn forget_empty(&mut self) {
        self.peers.retain(|_, peer| peer.flows > 0 || peer.is_named);
    }

    /// How many flows there are.
    pub fn flow_count(&self) -> usize {
        self.flows.len()
    }

    fn live_flow(&self, now: Instant, key: &FlowKey) -> Option<Flow> {
        let flow = self.flows.get(key)?;
        (now.saturating_duration_since(flow.last) < flow.lifetime(key.number)).then_some(*flow)
    }

    fn covering(&self, peer: NodeBytes, side: Side, protocol: Protocol, service: Service) -> Option<usize> {
        self.grants(peer).iter().position(|grant| grant.covers(side, protocol, service))
    }

    /// Lets a packet of a known flow pass, if a grant still covers the flow.
    fn pass(
        &mut self,
        now: Instant,
        ends: &Ends,
        flow: Flow,
        direction: Direction,
        bytes: usize,
    ) -> Option<NodeBytes> {
        let protocol = Protocol::of_number(ends.key.number);
        let grants = &mut self.peers.get_mut(&flow.peer)?.grants;
        let grant = grants.iter_mut().find(|grant| grant.covers(flow.side, protocol, flow.service))?;
        count(grant, now, flow, direction, bytes);
        if let Some(known) = self.flows.get_mut(&ends.key) {
            known.last = now;
            known.ended =
                ends.tcp.map_or(known.ended, |flags| (known.ended || flags.ends()) && !flags.opens());
        }
        Some(flow.peer)
    }

    fn open(
        &mut self,
        now: Instant,
        ends: &Ends,
        flow: Flow,
        direction: Direction,
        bytes: usize,
    ) -> Result<(), Refused> {
        let protocol = Protocol::of_number(ends.key.number);
        let at = self.covering(flow.peer, flow.side, protocol, flow.service).ok_or(Refused::NotGranted)?;
        let before = self.flows.get(&ends.key).map(|flow| flow.peer);
        let peer = self.peers.entry(flow.peer).or_default();
        let is_peers_first = before != Some(flow.peer);
        let is_full = before.is_none() && self.flows.len() >= MAX_FLOWS;
        if is_full || (is_peers_first && peer.flows >= MAX_FLOWS_PER_PEER) {
            return Err(Refused::TableFull);
        }
        if is_peers_first {
            peer.flows += 1;
        }
        if let Some(grant) = peer.grants.get_mut(at) {
            count(grant, now, flow, direction, bytes);
        }
        self.flows.insert(ends.key, flow);
        // Another router has taken over what led through the one before.
        if let Some(left) = before.filter(|_| is_peers_first).and_then(|before| self.peers.get_mut(&before)) {
            left.flows = left.flows.saturating_sub(1);
        }
        Ok(())
    }

    /// An error of this node about a packet that a peer sent in a flow.
    fn outbound_error(&mut self, now: Instant, packet: &Packet, quoted: &Quoted, bytes: usize) -> Outbound {
        let key = FlowKey {
            number: quoted.number,
            local: quoted.destination,
            remote: quoted.source,
            local_port: quoted.destination_port,
            remote_port: quoted.source_port,
        };
        let is_own = self.own.contains(&packet.source);
        let admitted = (quoted.source == packet.destination)
            .then(|| self.live_flow(now, &key))
            .flatten()
            // Whoever stands on the way behind this node may say what became of a packet.
            .filter(|flow| is_own || flow.leads_to(Side::Destination, quoted.destination))
            .and_then(|flow| self.pass(now, &Ends::quoted(key), flow, Direction::Out, bytes));
        let refused = if is_own { Refused::NoFlow } else { Refused::ForeignAddress };
        admitted.map_or(Outbound::Refuse(refused), Outbound::Admit)
    }

    /// An error of a peer about a packet that this node sent in a flow.
    fn inbound_error(
        &mut self,
        now: Instant,
        from: NodeBytes,
        packet: &Packet,
        quoted: &Quoted,
        bytes: usize,
    ) -> Result<(), Refused> {
        let is_peers = self.addresses.get(&packet.source) == Some(&from);
        let key = FlowKey {
            number: quoted.number,
            local: quoted.source,
            remote: quoted.destination,
            local_port: quoted.source_port,
            remote_port: quoted.destination_port,
        };
        let is_plain = is_peers && self.own.contains(&packet.destination);
        let flow =
            self.live_flow(now, &key).filter(|flow| flow.peer == from && packet.destination == key.local);
        let flow = match flow {
            // Whoever stands on the way behind the peer may say what became of a packet, and the peer itself may tell those
            // behind this node.
            Some(flow) if is_plain || flow.leads_to(Side::Source, key.remote) => flow,
            Some(flow) if is_peers && flow.leads_to(Side::Destination, key.local) => flow,
            _ => return Err(if is_plain { Refused::NoFlow } else { Refused::ForeignAddress }),
        };
        self.pass(now, &Ends::quoted(key), flow, Direction::In, bytes).map(|_| ()).ok_or(Refused::NotGranted)
    }
}

fn count(grant: &mut Grant, now: Instant, flow: Flow, direction: Direction, bytes: usize) {
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    match direction {
        Direction::Out => grant.bytes_sent = grant.bytes_sent.saturating_add(bytes),
        Direction::In => grant.bytes_received = grant.bytes_received.saturating_add(bytes),
    }
    grant.used = Some(now);
    grant.last_port = flow.service.port;
}

/// Whether this node reaches what lies behind the peer under a grant.
fn leads_through(grant: &Grant) -> bool {
    grant.side == Side::Source && grant.route.is_some()
}

#[cfg(test)]
mod tests;
