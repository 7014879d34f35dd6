//! Connections: requests, acknowledgements, ends.

use std::net::IpAddr;

use jiff::Timestamp;
use writ_policy::{Circumstances, Compiled, Decision as PolicyDecision, Permit, Refused, Unmet, Way};
use writ_schema::event::{
    AcknowledgedAction, CloseReason, ConnectionAcknowledged, ConnectionAuthorized, ConnectionClosed,
    ConnectionDenied, DenialReason, PathKind, Side, SignIn, Version,
};
use writ_schema::keys::{Signature, Statement};
use writ_schema::net::{PortRange, Prefix, Protocol};
use writ_schema::{Actor, AuthorizationId, NodeId, PolicyVersion, Seq, internet};

use super::administration::later;
use super::{Case, Decision, Refusal};
use crate::core::command::Command;
use crate::core::policy::{circumstances, permits, policy_protocols, record_ports, ways};
use crate::core::refusals::RefusalFact;
use crate::core::rejection::Rejection;
use crate::core::state::{Authorization, Node, State};

/// Most live authorizations of one source.
pub const MAX_LIVE_PER_SOURCE: usize = 4096;

pub(super) fn decide(case: &Case<'_>, command: &Command) -> Decision {
    match command {
        Command::RequestConnection { node, address, exit, protocol, port, renews } => {
            let source = case.live_node(node)?;
            // A port means nothing to a protocol that has none.
            let port = if protocol.has_ports() { *port } else { 0 };
            let (address, exit) = (*address, exit.as_ref());
            let wanted = Wanted { source, address, exit, protocol: *protocol, port };
            request(case, &wanted, renews.as_ref())
        }
        Command::Acknowledge { node, authorization, record, leaf, action, signature } => {
            let (authorization, side) = own(case, node, authorization)?;
            acknowledge(case, authorization, side, node, *record, leaf, *action, signature)
        }
        Command::ReportClosed { node, authorization, reason, bytes_sent, bytes_received, path } => {
            let (authorization, side) = own(case, node, authorization)?;
            close(case, authorization, side, *reason, (*bytes_sent, *bytes_received), *path)
        }
        _ => Ok(Vec::new()),
    }
}

/// What somebody asks for.
pub(in crate::core) struct Wanted<'a> {
    pub source: &'a Node,
    pub address: IpAddr,
    /// The exit node that is to carry the packets, where the address is one of the Internet.
    pub exit: Option<&'a NodeId>,
    pub protocol: Protocol,
    pub port: u16,
}

/// Why somebody does not get it, in the words of the record and of people.
pub(in crate::core) struct Denial {
    pub reason: DenialReason,
    pub explanation: String,
    /// The rule that allows it but for a condition.
    pub rule: Option<String>,
}

impl Denial {
    fn new(reason: DenialReason, explanation: impl Into<String>) -> Self {
        Self { reason, explanation: explanation.into(), rule: None }
    }
}

/// What the policy grants.
pub(in crate::core) struct Granted<'a> {
    pub destination: &'a Node,
    /// The addresses behind the destination that are meant instead of its own.
    pub route: Option<Prefix>,
    pub rule: String,
    pub ports: PortRange,
    pub policy: PolicyVersion,
    /// When the rule stops allowing it, if nothing else happens.
    pub until: Option<Timestamp>,
}

fn request(case: &Case<'_>, wanted: &Wanted<'_>, renews: Option<&AuthorizationId>) -> Decision {
    match grant(case.state, case.context.now, wanted) {
        Ok(granted) => {
            let end = later(case.context.now, case.context.authorization_life);
            let authorized = ConnectionAuthorized {
                v: ConnectionAuthorized::version(granted.route),
                renews: renews.filter(|id| continues(case, id, wanted, &granted)).cloned(),
                authorization: AuthorizationId::from_bytes(case.context.identifier()),
                source: case.sealed_source(wanted.source),
                destination: granted.destination.id.clone(),
                route: granted.route,
                protocol: wanted.protocol,
                ports: granted.ports,
                rule: granted.rule,
                policy: granted.policy,
                sign_in: SignIn::EnrolmentKey,
                expires_at: granted.until.map_or(end, |until| until.min(end)),
            };
            Ok(vec![case.draft_by(Actor::Agent, authorized)])
        }
        Err(Denial { reason, explanation, rule }) => {
            let denied = ConnectionDenied {
                v: Version,
                source: case.sealed_source(wanted.source),
                address: wanted.address,
                destination: case.state.node_by_address(wanted.address).map(|node| node.id.clone()),
                protocol: wanted.protocol,
                port: wanted.port,
                reason,
                rule,
                policy: case.state.policy().map(|active| active.version),
                count: 1,
            };
            let rejection = Rejection::Connection { reason, explanation };
            let fact = RefusalFact::Connection { source: wanted.source.id.clone(), denied: Box::new(denied) };
            Err(Box::new(Refusal { rejection, fact: Some(fact) }))
        }
    }
}

/// How a request is decided at a moment.
pub(in crate::core) fn grant<'a>(
    state: &'a State,
    now: Timestamp,
    wanted: &Wanted<'_>,
) -> Result<Granted<'a>, Denial> {
    let (Some(active), Some(compiled)) = (state.policy(), state.compiled_policy()) else {
        let explanation = "no policy is in force yet, so nothing is allowed";
        return Err(Denial::new(DenialReason::NoPolicy, explanation));
    };
    let known = circumstances(wanted.source, now);
    let (destination, route, permit) = match state.node_by_address(wanted.address) {
        Some(destination) => (destination, None, to_node(state, compiled, wanted, destination, &known)?),
        None => {
            let (router, way) = through_router(state, compiled, wanted, &known)?;
            (router, Some(Prefix::of(way.prefix)), way.permit)
        }
    };
    let source_id = &wanted.source.id;
    let live = state.live_authorizations_of(source_id, now);
    let as_source = live.filter(|held| held.side_of(source_id) == Some(Side::Source));
    if as_source.count() >= MAX_LIVE_PER_SOURCE {
        let explanation = format!("this node holds {MAX_LIVE_PER_SOURCE} live authorizations already");
        return Err(Denial::new(DenialReason::TooManyAuthorizations, explanation));
    }
    let Permit { rule, ports, until } = permit;
    Ok(Granted {
        destination,
        route,
        rule: rule.to_string(),
        ports: record_ports(wanted.protocol, ports),
        policy: active.version,
        until,
    })
}

fn to_node(
    state: &State,
    compiled: &Compiled,
    wanted: &Wanted<'_>,
    destination: &Node,
    known: &Circumstances,
) -> Result<Permit, Denial> {
    let ends = (&wanted.source.id, &destination.id);
    let permit = permits(compiled, ends, wanted.protocol, wanted.port, known)
        .map_err(|refused| denial(state, wanted, Some(destination), refused))?;
    if destination.session.is_none() {
        let explanation = format!("{} is allowed but not connected", display_name(destination));
        return Err(Denial::new(DenialReason::DestinationOffline, explanation));
    }
    Ok(permit)
}

/// The best way whose router is connected.
fn through_router<'a>(
    state: &'a State,
    compiled: &Compiled,
    wanted: &Wanted<'_>,
    known: &Circumstances,
) -> Result<(&'a Node, Way), Denial> {
    let Wanted { source, address, exit, protocol, port } = wanted;
    if !compiled.is_routed(*address, *exit) {
        return Err(Denial::new(DenialReason::UnknownDestination, unrouted(state, compiled, wanted)));
    }
    let ways = ways(compiled, &source.id, (*address, *exit), *protocol, *port, known)
        .map_err(|refused| denial(state, wanted, None, refused))?;
    let ways: Vec<(&Node, Way)> =
        ways.into_iter().filter_map(|way| Some((state.node(&way.router)?, way))).collect();
    if let Some((router, way)) = ways.iter().find(|(router, _)| router.session.is_some()) {
        return Ok((router, way.clone()));
    }
    let routers: Vec<&str> = ways.iter().map(|(router, _)| display_name(router)).collect();
    let routers = routers.join(", ");
    let explanation = format!("{address} is allowed, but none of its routers is connected: {routers}");
    Err(Denial::new(DenialReason::DestinationOffline, explanation))
}

/// Why no router leads to an address.
fn unrouted(state: &State, compiled: &Compiled, wanted: &Wanted<'_>) -> String {
    let Wanted { source, address, exit, .. } = wanted;
    if let Some(exit) = exit {
        let name = state.node(exit).map_or(exit.as_str(), display_name);
        return format!(
            "{name} carries no packets to {address}: it is no exit node, or not for such addresses"
        );
    }
    let head = format!("no node of the network has {address}, and none carries packets for it");
    if internet::contains(*address) && !compiled.exits_for(&source.id).is_empty() {
        return format!("{head}; an exit node would (`writ-agent exit-node NAME`)");
    }
    head
}

/// Why the policy does not allow it: no rule does, or the nearest does but for its conditions.
fn denial(state: &State, wanted: &Wanted<'_>, destination: Option<&Node>, refused: Refused) -> Denial {
    let unmet = match refused {
        Refused::Unmet(unmet) => unmet,
        Refused::NoRule => return Denial::new(DenialReason::NoRule, explain(state, wanted, destination)),
    };
    let Some((rule, first)) = unmet.first().and_then(|(rule, unmet)| Some((rule, unmet.first()?))) else {
        return Denial::new(DenialReason::NoRule, explain(state, wanted, destination));
    };
    let words = unmet.iter().map(|(rule, unmet)| {
        let unmet: Vec<String> = unmet.iter().map(ToString::to_string).collect();
        format!("{rule} would allow it, but {}", unmet.join(", and "))
    });
    let explanation = words.collect::<Vec<_>>().join("; ");
    let reason = match first {
        Unmet::NotYet(_) | Unmet::NoLonger(_) => DenialReason::OutsideValidity,
        Unmet::SignInAge(..) => DenialReason::SignInTooOld,
        Unmet::Mfa => DenialReason::MfaRequired,
        Unmet::Posture(..) => DenialReason::PostureNotMet,
    };
    Denial { reason, explanation, rule: Some(rule.to_string()) }
}

/// Says which rules came nearest.
fn explain(state: &State, wanted: &Wanted<'_>, destination: Option<&Node>) -> String {
    let Wanted { source, protocol, port, .. } = wanted;
    let version = state.policy().map_or(PolicyVersion(0), |active| active.version);
    let service = if protocol.has_ports() { format!("{protocol} port {port}") } else { protocol.to_string() };
    let to = destination.map_or_else(|| wanted.address.to_string(), |node| display_name(node).to_owned());
    let head = format!("no rule of policy version {version} allows this node to reach {to} on {service}");
    let named = policy_protocols(*protocol).next();
    let (Some(compiled), Some(named)) = (state.compiled_policy(), named) else { return head };
    let decision = match destination {
        Some(destination) => compiled.decide(&source.id, &destination.id, named, *port),
        None => compiled.explain_address(&source.id, (wanted.address, wanted.exit), named, *port).decision,
    };
    match decision {
        PolicyDecision::Denied { nearest } if !nearest.is_empty() => {
            let nearest: Vec<String> = nearest.iter().map(ToString::to_string).collect();
            format!("{head}; nearest: {}", nearest.join("; "))
        }
        _ => head,
    }
}

pub(in crate::core) fn display_name(node: &Node) -> &str {
    node.name.as_deref().unwrap_or(node.id.as_str())
}

/// Whether an authorization is one that the new one continues: live, between the same nodes, for the same service.
fn continues(case: &Case<'_>, renews: &AuthorizationId, wanted: &Wanted<'_>, granted: &Granted<'_>) -> bool {
    case.state.authorization(renews).is_some_and(|held| {
        held.is_live(case.context.now)
            && held.side_of(&wanted.source.id) == Some(Side::Source)
            && held.destination == granted.destination.id
            && held.route.is_some() == granted.route.is_some()
            && held.route.is_none_or(|route| route.leads_to(wanted.address))
            && held.protocol == wanted.protocol
            && held.ports.contains(wanted.port)
    })
}

/// The authorization, if the node is one of its ends.
fn own<'a>(
    case: &Case<'a>,
    node: &NodeId,
    id: &AuthorizationId,
) -> Result<(&'a Authorization, Side), Rejection> {
    let authorization = case.state.authorization(id);
    let own = authorization.and_then(|found| Some((found, found.side_of(node)?)));
    own.ok_or_else(|| Rejection::UnknownAuthorization(id.clone()))
}

#[expect(clippy::too_many_arguments, reason = "they are the parts of one command")]
fn acknowledge(
    case: &Case<'_>,
    authorization: &Authorization,
    side: Side,
    node: &NodeId,
    record: Seq,
    leaf: &str,
    action: AcknowledgedAction,
    signature: &Signature,
) -> Decision {
    let carried_out = match action {
        AcknowledgedAction::Established => Some(authorization.record),
        AcknowledgedAction::Withdrawn => authorization.revoked.map(|end| end.record),
    };
    if carried_out != Some(record) {
        return Err(Rejection::WrongRecord(record).into());
    }
    if authorization.is_acknowledged(side, action) {
        return Err(Rejection::AlreadyReported.into());
    }
    let known = case.state.node_ever(node).ok_or_else(|| Rejection::UnknownNode(node.clone()))?;
    let statement = Statement::Acknowledgement { network: &case.network.created.network, leaf, action };
    if known.identity_key.verify(&statement, signature).is_err() {
        return Err(Rejection::BadSignature(node.clone()).into());
    }
    let acknowledged = ConnectionAcknowledged {
        v: Version,
        authorization: authorization.id.clone(),
        record,
        side,
        action,
        signature: case.seal(node, *signature),
    };
    Ok(vec![case.draft_by(Actor::Agent, acknowledged)])
}

fn close(
    case: &Case<'_>,
    authorization: &Authorization,
    side: Side,
    reason: CloseReason,
    (bytes_sent, bytes_received): (u64, u64),
    path: Option<PathKind>,
) -> Decision {
    if authorization.closed.contains(&side) {
        return Err(Rejection::AlreadyReported.into());
    }
    let closed = ConnectionClosed {
        v: Version,
        authorization: authorization.id.clone(),
        side,
        reason,
        bytes_sent,
        bytes_received,
        path,
    };
    Ok(vec![case.draft_by(Actor::Agent, closed)])
}
