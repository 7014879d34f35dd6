//! Running the tests that a policy carries.
//!
//! A test speaks of identities, not of machines: it holds before the first node of a user or tag has joined,
//! and says the same whatever nodes there are.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::compile::{Compiled, Line};
use crate::nodes::Identity;
use crate::rules::{Granted, RuleRef};
use crate::selector::{Autogroup, Selector, SelectorKind};
use crate::service::Protocol;
use crate::tests_section::{PolicyTest, TestDestination};

/// A promise of the policy that it does not keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestFailure {
    /// Position in `tests`, from zero.
    pub index: usize,
    /// The source as the test names it.
    pub source: String,
    /// The destination as the test names it.
    pub destination: String,
    /// The protocol tried; any of the usual ones if the test names none.
    pub protocol: Option<Protocol>,
    /// What the test expected.
    pub expected: Verdict,
    /// What the policy says.
    pub actual: Verdict,
    /// The rule that allowed what was to be denied.
    pub rule: Option<RuleRef>,
}

/// An outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The connection is allowed.
    Accepted,
    /// The connection is denied.
    Denied,
    /// The source or destination stands for nobody, so nothing can be said.
    Nobody,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Accepted => "accepted",
            Verdict::Denied => "denied",
            Verdict::Nobody => "neither accepted nor denied, because it stands for nobody",
        })
    }
}

impl fmt::Display for TestFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TestFailure { index, source, destination, protocol, expected, actual, .. } = self;
        let by = protocol.map(|protocol| format!(" ({protocol})")).unwrap_or_default();
        write!(f, "tests[{index}]: {source} -> {destination}{by} should be {expected} but is {actual}")?;
        match &self.rule {
            Some(rule) => write!(f, " by {rule}"),
            None => Ok(()),
        }
    }
}

impl Compiled {
    /// Runs the policy's tests; nothing comes back if all hold.
    pub fn run_tests(&self) -> Vec<TestFailure> {
        let mut failures = Vec::new();
        for (index, test) in self.policy().tests.iter().enumerate() {
            let promises = test.accept.iter().map(|destination| (destination, Verdict::Accepted));
            for (destination, expected) in promises.chain(test.deny.iter().map(|d| (d, Verdict::Denied))) {
                failures.extend(self.check_promise(index, test, destination, expected));
            }
        }
        failures
    }

    fn check_promise(
        &self,
        index: usize,
        test: &PolicyTest,
        destination: &TestDestination,
        expected: Verdict,
    ) -> Option<TestFailure> {
        // A test that names no protocol holds if any of those that a rule means by default gets through.
        let protocols = match &test.protocol {
            Some(named) => std::slice::from_ref(named),
            None => &Protocol::DEFAULTS[..],
        };
        let mut verdicts = Vec::new();
        for source in self.witnesses(&test.src) {
            let from = self.source_lines(&source.identity, &source.addresses);
            for target in self.targets(&destination.dst, &source) {
                let to = self.destination_lines(&target.identity, &target.addresses);
                let user = source.identity.user();
                let is_same_user = user.is_some() && user == target.identity.user();
                let grants = |line: &Line| {
                    let any = |granted: &Granted| {
                        granted.ports.iter().any(|range| range.contains(destination.port))
                            && protocols.iter().any(|named| granted.covers(*named))
                    };
                    // A test says what the device is; that its user signed in as asked is taken for granted.
                    let conditions = line.conditions.as_deref();
                    conditions.is_none_or(|asked| asked.unmet_posture(&test.attributes).is_none())
                        && line.services.iter().any(any)
                };
                let allowing = self.leading(&from, &to, is_same_user).find(|(_, line)| grants(line));
                verdicts.push(match allowing {
                    Some((_, line)) => (Verdict::Accepted, Some(line.rule)),
                    None => (Verdict::Denied, None),
                });
            }
        }
        let wrong = if verdicts.is_empty() {
            Some((Verdict::Nobody, None))
        } else {
            verdicts.into_iter().find(|(verdict, _)| *verdict != expected)
        };
        wrong.map(|(actual, rule)| TestFailure {
            index,
            source: test.src.text.clone(),
            destination: destination.text.clone(),
            protocol: test.protocol,
            expected,
            actual,
            rule,
        })
    }

    fn targets(&self, selector: &Selector, source: &Witness) -> Vec<Witness> {
        match selector.kind {
            SelectorKind::Autogroup(Autogroup::Own) => {
                source.identity.user().map(Witness::of_user).into_iter().collect()
            }
            _ => self.witnesses(selector),
        }
    }

    /// Who stands for a selector.
    fn witnesses(&self, selector: &Selector) -> Vec<Witness> {
        let names = &self.policy().names;
        match &selector.kind {
            SelectorKind::User(name) => self.users.find(name).map(Witness::of_user).into_iter().collect(),
            SelectorKind::Group(group) => {
                let members = names.groups.get(group).into_iter().flatten();
                members.filter_map(|name| self.users.find(&name.text)).map(Witness::of_user).collect()
            }
            SelectorKind::Domain(domain) => (0..self.users.len())
                .filter(|user| self.users.is_of_domain(*user, domain))
                .map(Witness::of_user)
                .collect(),
            SelectorKind::Autogroup(Autogroup::Role(role)) => (0..self.users.len())
                .filter(|user| self.users.has_role(*user, *role))
                .map(Witness::of_user)
                .collect(),
            SelectorKind::Tag(tag) => vec![Witness::of_tag(tag)],
            SelectorKind::Host(name) => self.address_witnesses(names.host(name).ranges()),
            SelectorKind::Addresses(set) => self.address_witnesses(set.ranges()),
            SelectorKind::Autogroup(Autogroup::Member | Autogroup::Own) => {
                (0..self.users.len()).map(Witness::of_user).collect()
            }
            SelectorKind::Autogroup(Autogroup::Internet | Autogroup::DangerAll) => Vec::new(),
            SelectorKind::Autogroup(Autogroup::Tagged) => {
                names.tag_owners.keys().map(|tag| Witness::of_tag(tag)).collect()
            }
            SelectorKind::Any => (0..self.users.len())
                .map(Witness::of_user)
                .chain(names.tag_owners.keys().map(|tag| Witness::of_tag(tag)))
                .collect(),
        }
    }

    /// The first and last address of each range: as the nodes that hold them, if there are such.
    fn address_witnesses(&self, ranges: impl Iterator<Item = (IpAddr, IpAddr)>) -> Vec<Witness> {
        let ends =
            ranges.flat_map(|(first, last)| if first == last { vec![first] } else { vec![first, last] });
        ends.map(|address| {
            let node = self.node_at(address).and_then(|id| self.node(id));
            let identity = node.map_or(Identity::Address, |node| node.identity.clone());
            Witness { identity, addresses: vec![address] }
        })
        .collect()
    }
}

struct Witness {
    identity: Identity,
    addresses: Vec<IpAddr>,
}

impl Witness {
    fn of_user(user: usize) -> Self {
        Self { identity: Identity::User(user), addresses: nowhere() }
    }

    fn of_tag(tag: &str) -> Self {
        Self { identity: Identity::Tags(vec![tag.to_owned()]), addresses: nowhere() }
    }
}

/// Addresses that no rule names singly: an identity is reachable over both families wherever its nodes are.
fn nowhere() -> Vec<IpAddr> {
    vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)]
}
