//! Routes: what nodes offer to carry packets for, and what of it is approved.

use writ_schema::Actor;
use writ_schema::event::{
    ConnectionRevoked, NodeRoutesAdvertised, NodeRoutesApproved, RevocationReason, Version,
};
use writ_schema::net::Prefix;
use writ_schema::protocol::MAX_ROUTES;

use super::values::invalid;
use super::{Case, Decision, Draft, withdrawal};
use crate::core::command::Command;
use crate::core::policy::{circumstances, ways};
use crate::core::rejection::Rejection;
use crate::core::state::{Authorization, Node};

pub(super) fn decide(case: &Case<'_>, command: &Command) -> Decision {
    match command {
        Command::AdvertiseRoutes { node, routes } => advertise(case, case.live_node(node)?, routes),
        Command::ApproveRoutes { node, routes } => approve(case, case.live_node(node)?, routes),
        _ => Ok(Vec::new()),
    }
}

/// What the policy approves by itself is approved at once.
fn advertise(case: &Case<'_>, node: &Node, routes: &[Prefix]) -> Decision {
    let routes = check(case, routes)?;
    let actor = Actor::Node(node.id.clone());
    let advertised = NodeRoutesAdvertised { v: Version, node: node.id.clone(), routes: routes.clone() };
    let mut drafts = vec![case.draft_by(actor, advertised)];
    let compiled = case.state.compiled_policy();
    let approved = with_approved_by(node, &routes, |route| {
        compiled.is_some_and(|compiled| compiled.auto_approves(&node.id, &route.net()))
    });
    let policy = case.state.policy().map(|active| active.version);
    drafts.extend(approved.clone().map(|routes| {
        case.consequence(0, NodeRoutesApproved { v: Version, node: node.id.clone(), routes, policy })
    }));
    let approved = approved.unwrap_or_else(|| node.approved.clone());
    drafts.extend(withdrawn(case, node, |route| routes.contains(route) && approved.contains(route)));
    Ok(drafts)
}

fn approve(case: &Case<'_>, node: &Node, routes: &[Prefix]) -> Decision {
    let routes = check(case, routes)?;
    let approved =
        NodeRoutesApproved { v: Version, node: node.id.clone(), routes: routes.clone(), policy: None };
    let withdrawn = withdrawn(case, node, |route| node.advertised.contains(route) && routes.contains(route));
    Ok(std::iter::once(case.draft(approved)).chain(withdrawn).collect())
}

/// What is approved once a policy has approved of what else is offered; nothing if that changes nothing.
pub(super) fn with_approved_by(
    node: &Node,
    advertised: &[Prefix],
    approves: impl Fn(&Prefix) -> bool,
) -> Option<Vec<Prefix>> {
    let new: Vec<Prefix> =
        advertised.iter().filter(|it| !node.approved.contains(it) && approves(it)).copied().collect();
    let mut all = [node.approved.as_slice(), &new].concat();
    all.sort_unstable();
    (!new.is_empty() && all.len() <= MAX_ROUTES).then_some(all)
}

/// The ends of the authorizations that lead through a node to what none of its routes cover any more. They follow from the
/// first draft.
fn withdrawn(case: &Case<'_>, node: &Node, is_in_force: impl Fn(&Prefix) -> bool) -> Vec<Draft> {
    let left: Vec<Prefix> = node.routes().filter(|route| is_in_force(route)).collect();
    let is_cut = |authorization: &&Authorization| {
        let behind = authorization.route.filter(|_| authorization.destination == node.id);
        behind.is_some_and(|behind| !left.iter().any(|route| route.leads_where(behind)))
    };
    let cut = case.state.live_authorizations_of(&node.id, case.context.now).filter(is_cut);
    cut.map(|authorization| {
        case.consequence(0, withdrawal::revocation(authorization, RevocationReason::RouteWithdrawn))
    })
    .collect()
}

/// A router has gone: what leads through it ends where another one carries packets for the same, so that the next packet
/// finds it. Where none does, the authorization waits for the router to come back.
pub(super) fn replaced<'a>(
    case: &'a Case<'_>,
    router: &'a Node,
) -> impl Iterator<Item = ConnectionRevoked> + use<'a> {
    let led = case.state.live_authorizations_of(&router.id, case.context.now);
    led.filter(|authorization| authorization.destination == router.id)
        .filter(|authorization| has_other_way(case, authorization))
        .map(|authorization| withdrawal::revocation(authorization, RevocationReason::RouterReplaced))
}

/// The Internet is reached through the exit node that was chosen, and no other takes its place unasked.
fn has_other_way(case: &Case<'_>, authorization: &Authorization) -> bool {
    let source = authorization.source.as_ref().and_then(|source| case.state.node(&source.node));
    let (Some(source), Some(behind), Some(compiled)) =
        (source, authorization.route.filter(|route| !route.is_everything()), case.state.compiled_policy())
    else {
        return false;
    };
    let known = circumstances(source, case.context.now);
    let port = authorization.ports.first();
    let ways = ways(compiled, &source.id, (behind.first(), None), authorization.protocol, port, &known);
    ways.into_iter().flatten().any(|way| {
        let is_up = case.state.node(&way.router).is_some_and(|node| node.session.is_some());
        is_up && way.router != authorization.destination
    })
}

/// In order and without repeats. The network's own addresses, and those that mean something on one link or host only, are
/// nobody's to carry.
fn check(case: &Case<'_>, routes: &[Prefix]) -> Result<Vec<Prefix>, Rejection> {
    if routes.len() > MAX_ROUTES {
        let message = format!("{} prefixes, where at most {MAX_ROUTES} are taken", routes.len());
        return Err(invalid("routes", message));
    }
    let own = case.network.prefixes.all();
    for route in routes {
        let address = route.first();
        let is_local = address.is_loopback()
            || address.is_multicast()
            || match address {
                std::net::IpAddr::V4(v4) => v4.is_link_local(),
                std::net::IpAddr::V6(v6) => v6.is_unicast_link_local(),
            };
        if is_local && !route.is_everything() {
            return Err(invalid("routes", format!("{route} is no network that can be routed to")));
        }
        if !route.is_everything() && own.iter().any(|own| own.overlaps(*route)) {
            return Err(invalid("routes", format!("{route} overlaps the addresses of this network's nodes")));
        }
    }
    let mut routes = routes.to_vec();
    routes.sort_unstable();
    routes.dedup();
    Ok(routes)
}
