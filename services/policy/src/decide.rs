//! One decision: may this node reach that one on this protocol and port?

use serde::{Deserialize, Serialize};
use writ_schema::NodeId;

use crate::compile::Compiled;
use crate::explain::{self, NearMiss};
use crate::rules::RuleRef;
use crate::service::{PortRange, Protocol};

/// The answer to a request to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// A rule allows it.
    Allowed {
        /// The first rule of the file that does.
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

impl Compiled {
    /// Decides, with the rule that allowed it or the rules that came nearest.
    pub fn decide(&self, src: &NodeId, dst: &NodeId, protocol: Protocol, port: u16) -> Decision {
        match self.permits(src, dst, protocol, port) {
            Some((rule, ports)) => Decision::Allowed { rule, ports },
            None => Decision::Denied { nearest: explain::nearest(self, src, dst, protocol, port) },
        }
    }

    /// Decides without looking for reasons: the rule and the range of ports, or nothing.
    pub fn permits(
        &self,
        src: &NodeId,
        dst: &NodeId,
        protocol: Protocol,
        port: u16,
    ) -> Option<(RuleRef, PortRange)> {
        if src == dst {
            return None;
        }
        let (from, to) = (self.nodes.place(src)?, self.nodes.place(dst)?);
        let (source, destination) = (self.profile(from.profile)?, self.profile(to.profile)?);
        let is_same_user = from.user.is_some() && from.user == to.user;
        self.leading(&source.source, &destination.destination, is_same_user).find_map(|(_, line)| {
            let range = line.services.iter().find_map(|granted| granted.range(protocol, port))?;
            Some((line.rule, range))
        })
    }
}
