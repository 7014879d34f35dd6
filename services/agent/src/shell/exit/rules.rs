//! The kernel's rules for choosing a routing table (ip-rule(8)), as far as they are this agent's.
//!
//! They stand right before the rule for the main table and behind everybody else's. In order:
//!
//! 1. what the main table knows a way for that is not its default;
//! 2. who is bound to an interface with a way out goes out there, as systemd-resolved does for that interface's DNS servers;
//! 3. everything else that bears no mark goes by the agent's own table. A mark is the agent's own, or another VPN's on what it
//!    sends itself: that must not be carried by what it carries.
//!
//! Each bears the agent's number as its protocol, by which the next start finds what a crash has left.

use std::collections::BTreeSet;
use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::route::RouteProtocol;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

/// The agent's routing table.
pub(super) const TABLE: u8 = 87;
const MAIN_TABLE: u8 = 254;
/// One before that of the main table. Of rules with one priority the older goes first.
const PRIORITY: u32 = 32_765;
/// Who has made a rule: a number that nobody has registered (`/etc/iproute2/rt_protos`).
const PROTOCOL: RouteProtocol = RouteProtocol::Other(119);
/// Bytes of an answer that are read at a time.
const ANSWER_BYTES: usize = 32 * 1024;

pub(super) const FAMILIES: [AddressFamily; 2] = [AddressFamily::Inet, AddressFamily::Inet6];

/// Puts rules in place, and those that there were out of it; no packet finds none meanwhile. The uplinks are the interfaces with
/// a way out.
pub(super) fn replace(family: AddressFamily, uplinks: &BTreeSet<String>) -> io::Result<()> {
    let before = own(family)?;
    for rule in rules(family, uplinks) {
        tell(RouteNetlinkMessage::NewRule(rule), NLM_F_CREATE)?;
    }
    before.into_iter().try_for_each(|rule| tell(RouteNetlinkMessage::DelRule(rule), 0))
}

/// Takes them out of place.
pub(super) fn remove(family: AddressFamily) -> io::Result<()> {
    own(family)?.into_iter().try_for_each(|rule| tell(RouteNetlinkMessage::DelRule(rule), 0))
}

fn rules(family: AddressFamily, uplinks: &BTreeSet<String>) -> Vec<RuleMessage> {
    let nearer = rule(family, MAIN_TABLE, vec![RuleAttribute::SuppressPrefixLen(0)]);
    let bound =
        uplinks.iter().map(|uplink| rule(family, MAIN_TABLE, vec![RuleAttribute::Oifname(uplink.clone())]));
    let unmarked = rule(family, TABLE, vec![RuleAttribute::FwMark(0), RuleAttribute::FwMask(u32::MAX)]);
    std::iter::once(nearer).chain(bound).chain([unmarked]).collect()
}

fn rule(family: AddressFamily, table: u8, selectors: Vec<RuleAttribute>) -> RuleMessage {
    let mut rule = RuleMessage::default();
    (rule.header.family, rule.header.table, rule.header.action) = (family, table, RuleAction::ToTable);
    rule.attributes = vec![RuleAttribute::Priority(PRIORITY), RuleAttribute::Protocol(PROTOCOL)];
    rule.attributes.extend(selectors);
    rule
}

/// The agent's rules, in order.
fn own(family: AddressFamily) -> io::Result<Vec<RuleMessage>> {
    let mut all = RuleMessage::default();
    all.header.family = family;
    let mut rules = Vec::new();
    exchange(RouteNetlinkMessage::GetRule(all), NLM_F_DUMP, |message| {
        if let RouteNetlinkMessage::NewRule(rule) = message
            && rule.attributes.contains(&RuleAttribute::Protocol(PROTOCOL))
        {
            rules.push(rule);
        }
    })?;
    Ok(rules)
}

fn tell(message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
    exchange(message, flags | NLM_F_ACK, |_| {})
}

/// Sends a message and takes what comes of it until it is done (netlink(7)).
fn exchange(
    message: RouteNetlinkMessage,
    flags: u16,
    mut take: impl FnMut(RouteNetlinkMessage),
) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    let mut packet = NetlinkMessage::new(header, NetlinkPayload::from(message));
    packet.finalize();
    let mut bytes = vec![0; packet.buffer_len()];
    packet.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    loop {
        let mut answer = Vec::with_capacity(ANSWER_BYTES);
        socket.recv(&mut answer, 0)?;
        let mut rest = answer.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            let length = usize::try_from(message.header.length).unwrap_or(usize::MAX).max(1);
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            match message.payload {
                NetlinkPayload::Done(_) => return Ok(()),
                NetlinkPayload::Error(error) if error.code.is_none() => return Ok(()),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::InnerMessage(inner) => take(inner),
                _ => {}
            }
        }
    }
}
