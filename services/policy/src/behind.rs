//! What is reached behind routers, by whom: from the filters and routes that decisions go by.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use std::net::IpAddr;
use writ_schema::NodeId;

use crate::address::AddressSet;
use crate::compile::Compiled;
use crate::decide::Service;
use crate::filter::FilterRule;
use crate::nodes::Node;
use crate::peers::{Granting, granted};
use crate::ranges::led_to;

/// What one node may reach behind another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReachBehind {
    /// Who.
    pub source: NodeId,
    /// The node that carries the packets.
    pub router: NodeId,
    /// The addresses behind it; everything where that is the Internet.
    pub route: IpNet,
    /// What is granted there, as in [`Reach`](crate::Reach). Never empty.
    pub services: Vec<Service>,
}

impl Compiled {
    /// What a node may reach behind routers, whatever the circumstances, in order of router and route.
    pub fn reach_behind(&self, node: &NodeId) -> Vec<ReachBehind> {
        let Some(source) = self.node(node) else { return Vec::new() };
        let mut routers: Vec<&Node> = self.nodes.routers().collect();
        routers.sort_unstable_by_key(|router| &router.id);
        routers.into_iter().flat_map(|router| behind(source, router, &self.filter(&router.id))).collect()
    }

    /// Who may reach what behind a router, in order of source and route.
    pub fn who_can_reach_behind(&self, router: &NodeId) -> Vec<ReachBehind> {
        let Some(router) = self.node(router).filter(|router| !router.routes.is_empty()) else {
            return Vec::new();
        };
        let rules = self.filter(&router.id);
        let mut sources: Vec<&Node> = self.nodes.iter().collect();
        sources.sort_unstable_by_key(|source| &source.id);
        sources.into_iter().flat_map(|source| behind(source, router, &rules)).collect()
    }

    /// What one node may reach behind another, in order of the routes.
    pub fn services_behind(&self, src: &NodeId, router: &NodeId) -> Vec<ReachBehind> {
        let ends = self.node(src).zip(self.node(router)).filter(|(_, router)| !router.routes.is_empty());
        ends.map(|(source, router)| behind(source, router, &self.filter(&router.id))).unwrap_or_default()
    }
}

/// What a node may reach behind a router with this filter.
fn behind(source: &Node, router: &Node, rules: &[FilterRule]) -> Vec<ReachBehind> {
    let granting = grants(source, router, rules);
    let reached = granting.into_iter().map(|(route, rules)| {
        let rules = rules.iter().map(|rule| Granting {
            rule: rule.rule,
            protocols: &rule.protocols,
            ports: &rule.ports,
            conditions: rule.conditions.as_deref(),
        });
        let services = granted(&rules.collect::<Vec<_>>());
        ReachBehind { source: source.id.clone(), router: router.id.clone(), route, services }
    });
    reached.collect()
}

/// The rules that let a node reach addresses behind a router, in order of the file, by where they lead.
pub(crate) fn grants<'r>(
    source: &Node,
    router: &Node,
    rules: &'r [FilterRule],
) -> BTreeMap<IpNet, Vec<&'r FilterRule>> {
    let mut granting: BTreeMap<IpNet, Vec<&FilterRule>> = BTreeMap::new();
    if source.id == router.id {
        return granting;
    }
    for rule in rules {
        let is_source = |is_ipv4| {
            source.addresses.iter().any(|own| own.is_ipv4() == is_ipv4 && rule.sources.contains(*own))
        };
        let routes = router.routes.iter().filter(|route| is_source(route.addr().is_ipv4()));
        // Routes may lie in one another.
        let led: BTreeSet<IpNet> =
            routes.flat_map(|route| prefixes(&rule.destinations.intersection(&led_to(*route)))).collect();
        let is_widest =
            |net: &&IpNet| !led.iter().any(|other| other != *net && led_to(*other).covers(&led_to(**net)));
        for route in led.iter().filter(is_widest) {
            granting.entry(*route).or_default().push(rule);
        }
    }
    granting
}

/// The fewest prefixes that make up a set; everything of a family where it is the Internet.
pub(crate) fn prefixes(set: &AddressSet) -> Vec<IpNet> {
    let everything = [IpNet::V4(Default::default()), IpNet::V6(Default::default())];
    let (mut left, mut found) = (set.clone(), Vec::new());
    for all in everything {
        let internet = led_to(all);
        if left.covers(&internet) {
            left = left.without(&internet);
            found.push(all);
        }
    }
    for range in left.ranges() {
        match range {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                found.extend(Ipv4Subnets::new(first, last, 0).map(IpNet::V4));
            }
            (IpAddr::V6(first), IpAddr::V6(last)) => {
                found.extend(Ipv6Subnets::new(first, last, 0).map(IpNet::V6));
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_made_up_of_prefixes_and_the_internet_of_one() {
        let net = |text: &str| text.parse::<IpNet>().expect("prefix");
        let all = |texts: &[&str]| texts.iter().map(|text| net(text)).collect::<Vec<_>>();
        let set = AddressSet::from_prefixes(all(&["10.0.0.0/9", "10.128.0.0/9", "fd00::/64"]));
        assert_eq!(prefixes(&set), all(&["10.0.0.0/8", "fd00::/64"]));
        assert_eq!(prefixes(&led_to(net("0.0.0.0/0"))), all(&["0.0.0.0/0"]));
        let both = led_to(net("0.0.0.0/0")).union(&AddressSet::from_prefixes([net("10.0.0.0/8")]));
        assert_eq!(prefixes(&both), all(&["0.0.0.0/0", "10.0.0.0/8"]));
        let last =
            AddressSet::from_ranges([("10.0.0.1".parse().expect("a"), "10.0.0.2".parse().expect("b"))]);
        assert_eq!(prefixes(&last), all(&["10.0.0.1/32", "10.0.0.2/32"]));
    }
}
