//! One decision: may this node reach that one on this protocol and port?

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use writ_schema::NodeId;

use crate::compile::{Compiled, Line};
use crate::conditions::{Circumstances, Unmet};
use crate::explain::{self, NearMiss};
use crate::rules::RuleRef;
use crate::service::{PortRange, Protocol};

/// The answer to a request to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// A rule allows it, under the rule's conditions if it has any.
    Allowed {
        /// The first rule of the file that does without conditions, or else the first that does.
        rule: RuleRef,
        /// The contiguous range of ports, granted by that rule, that the port is in.
        ports: PortRange,
    },
    /// No rule allows it.
    Denied {
        /// The rules that come nearest, and what each lacks.
        nearest: Vec<NearMiss>,
    },
}

/// Protocol and ports that a rule grants between two nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Service {
    /// The protocol.
    pub protocol: Protocol,
    /// The ports; all of them with a protocol that has none.
    pub ports: PortRange,
    /// The first rule of the file that grants them.
    pub rule: RuleRef,
}

/// A permission of this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit {
    /// The first rule of the file that allows it and whose conditions are met.
    pub rule: RuleRef,
    /// The contiguous range of ports, granted by that rule, that the port is in.
    pub ports: PortRange,
    /// When the rule stops allowing it, if nothing else happens.
    pub until: Option<Timestamp>,
}

/// A refusal of this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// No rule allows it, whatever the circumstances.
    NoRule,
    /// These rules would, were it not for the conditions that are not met. In order of the file, never empty.
    Unmet(Vec<(RuleRef, Vec<Unmet>)>),
}

impl Compiled {
    /// Decides in circumstances: the first rule whose conditions are met, or what keeps every rule that allows the
    /// connection otherwise.
    pub fn permits_now(
        &self,
        src: &NodeId,
        dst: &NodeId,
        protocol: Protocol,
        port: u16,
        known: &Circumstances,
    ) -> Result<Permit, Refused> {
        let mut refused: Vec<(RuleRef, Vec<Unmet>)> = Vec::new();
        for (line, ports) in self.allowing(src, dst, protocol, port) {
            let unmet =
                line.conditions.as_deref().map(|conditions| conditions.unmet(known)).unwrap_or_default();
            if unmet.is_empty() {
                let until = line.conditions.as_deref().and_then(|conditions| conditions.holds_until(known));
                return Ok(Permit { rule: line.rule, ports, until });
            }
            if refused.last().is_none_or(|(rule, _)| *rule != line.rule) {
                refused.push((line.rule, unmet));
            }
        }
        Err(if refused.is_empty() { Refused::NoRule } else { Refused::Unmet(refused) })
    }

    /// Decides, with the rule that allowed it or the rules that came nearest.
    pub fn decide(&self, src: &NodeId, dst: &NodeId, protocol: Protocol, port: u16) -> Decision {
        match self.permits(src, dst, protocol, port) {
            Some((rule, ports)) => Decision::Allowed { rule, ports },
            None => Decision::Denied { nearest: explain::nearest(self, src, dst, protocol, port) },
        }
    }

    /// Decides without looking for reasons: the rule and the range of ports, or nothing. A rule without conditions
    /// goes before those with some, whose conditions are taken as met; [`Compiled::permits_now`] looks at them.
    pub fn permits(
        &self,
        src: &NodeId,
        dst: &NodeId,
        protocol: Protocol,
        port: u16,
    ) -> Option<(RuleRef, PortRange)> {
        let mut conditional = None;
        for (line, ports) in self.allowing(src, dst, protocol, port) {
            if line.conditions.is_none() {
                return Some((line.rule, ports));
            }
            conditional.get_or_insert((line.rule, ports));
        }
        conditional
    }

    /// The lines that allow a connection, in order of the file, and the range of ports of each.
    fn allowing(
        &self,
        src: &NodeId,
        dst: &NodeId,
        protocol: Protocol,
        port: u16,
    ) -> impl Iterator<Item = (&Line, PortRange)> {
        let places = || {
            let (from, to) = (self.nodes.place(src)?, self.nodes.place(dst)?);
            let profiles = self.profile(from.profile).zip(self.profile(to.profile))?;
            Some((profiles, from.user.is_some() && from.user == to.user))
        };
        let places = if src == dst { None } else { places() };
        let leading = places.map(|((source, destination), is_same_user)| {
            self.leading(&source.source, &destination.destination, is_same_user)
        });
        leading.into_iter().flatten().filter_map(move |(_, line)| {
            let range = line.services.iter().find_map(|granted| granted.range(protocol, port))?;
            Some((line, range))
        })
    }
}
