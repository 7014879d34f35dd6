//! The way to the Internet: through an exit node, if one is chosen.
//!
//! All of the Internet is one destination, under one authorization for each protocol and range of ports: the control plane is
//! asked about its first address, whichever is meant, and does not learn which. What is not on the Internet and not behind a
//! nearer route leads nowhere, nor does anything while the chosen node cannot carry it: packets are refused, and none leaks
//! out beside the tunnel.

use std::net::IpAddr;

use writ_schema::event::{CloseReason, Side};
use writ_schema::{NodeId, internet};

use super::Engine;
use super::filter::Wish;

/// Where this host's packets go that no nearer route leads elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ExitWay {
    /// They do not come into the tunnel.
    #[default]
    None,
    /// Nowhere: the exit node that is chosen is not known, or may not be used any more.
    Closed,
    /// Through this node.
    Through {
        /// Which.
        node: NodeId,
        /// Whether it carries IPv4.
        v4: bool,
        /// Whether it carries IPv6.
        v6: bool,
    },
}

impl ExitWay {
    /// The exit node, if it carries packets to the address.
    fn to(&self, address: IpAddr) -> Option<&NodeId> {
        match self {
            Self::Through { node, v4, v6 } => {
                let is_carried = if address.is_ipv4() { *v4 } else { *v6 };
                (is_carried && internet::contains(address)).then_some(node)
            }
            Self::None | Self::Closed => None,
        }
    }
}

impl Engine {
    /// Sends packets to the Internet this way from now on. What led through another exit node ends.
    pub fn set_exit(&mut self, exit: ExitWay) {
        if self.exit == exit {
            return;
        }
        self.exit = exit;
        self.pending.forget_denials();
        let is_through =
            |other: &NodeId| matches!(&self.exit, ExitWay::Through { node, .. } if node == other);
        let is_left = |live: &super::authorizations::Live| {
            live.side == Side::Source
                && live.route.is_some_and(|route| route.is_everything())
                && !self.peers.get(&live.peer).is_some_and(|peer| is_through(&peer.node))
        };
        let left: Vec<_> =
            self.live.iter().filter(|(_, live)| is_left(live)).map(|(id, _)| id.clone()).collect();
        for id in left {
            self.close(&id, CloseReason::Idle);
        }
    }

    /// Whether packets to an address go by the way to the Internet: the host's routes lead them into the tunnel for nothing
    /// nearer.
    pub(super) fn goes_by_exit(&self, address: IpAddr) -> bool {
        self.exit != ExitWay::None
            && !self.own.overlay.iter().any(|prefix| prefix.contains(address))
            && !self.filter.accepted().iter().any(|route| route.contains(address))
    }

    /// The exit node that would carry packets to an address.
    pub fn exit_to(&self, address: IpAddr) -> Option<NodeId> {
        self.goes_by_exit(address).then(|| self.exit.to(address)).flatten().cloned()
    }

    /// The wish as it is asked for; none if no way leads there.
    pub(super) fn wish_by_exit(&self, wish: Wish) -> Option<Wish> {
        if !self.goes_by_exit(wish.address) {
            return Some(wish);
        }
        self.exit.to(wish.address)?;
        Some(Wish { address: internet::first(wish.address.is_ipv4()), by_exit: true, ..wish })
    }

    /// The exit node that a wish is for.
    pub(super) fn exit_of(&self, wish: &Wish) -> Option<NodeId> {
        self.exit.to(wish.address).filter(|_| wish.by_exit).cloned()
    }
}
