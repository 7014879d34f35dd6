//! How nodes hear of changes of the network: a few at a time, between commits.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use writ_schema::NodeId;
use writ_schema::protocol::{ExitNode, Netmap, Reachable, ServerMessage};

use super::super::netmap::{Routes, difference, netmap};
use super::Hub;
use crate::core::State;
use crate::core::state::Node;

/// Changes of the network within this time are told in one netmap.
const DEBOUNCE: Duration = Duration::from_millis(50);

/// Netmaps that are computed before commits are looked at again.
const AT_ONCE: usize = 32;

impl Hub {
    /// The network has changed: everybody hears of it soon.
    pub(super) fn schedule_netmaps(&mut self) {
        self.netmaps_due.get_or_insert_with(|| Instant::now() + DEBOUNCE);
    }

    /// How long until [`tell_netmaps`](Self::tell_netmaps) has something to tell.
    pub(super) fn netmaps_wait(&self) -> Option<Duration> {
        if !self.stale_netmaps.is_empty() {
            return Some(Duration::ZERO);
        }
        self.netmaps_due.map(|due| due.saturating_duration_since(Instant::now()))
    }

    /// Tells a few nodes how their netmaps have changed.
    pub(super) fn tell_netmaps(&mut self) {
        if self.netmaps_due.is_some_and(|due| due <= Instant::now()) {
            self.netmaps_due = None;
            let queued: HashSet<NodeId> = self.stale_netmaps.iter().cloned().collect();
            let live =
                self.entries.iter().filter(|(node, entry)| entry.live.is_some() && !queued.contains(*node));
            self.stale_netmaps.extend(live.map(|(node, _)| node.clone()));
        }
        for _ in 0..AT_ONCE {
            let Some(node) = self.stale_netmaps.pop_front() else { return };
            self.tell_netmap(&node);
        }
    }

    fn tell_netmap(&mut self, id: &NodeId) {
        let new = {
            let state = self.parts.sequencer.state();
            state.node(id).map(|node| self.netmap_of(&state, node))
        };
        let Some(entry) = self.entries.get_mut(id).filter(|entry| entry.takes_frames()) else { return };
        let (Some(new), Some(old)) = (new, entry.netmap.as_ref()) else { return };
        match difference(old, &new) {
            Some(None) => {}
            Some(Some(delta)) => {
                entry.netmap = Some(new);
                self.tell(id, ServerMessage::NetmapChanged(delta), None);
            }
            None => self.tell_everything(id),
        }
    }

    pub(super) fn netmap_of(&self, state: &State, node: &Node) -> Netmap {
        let reachable = state.reachable_from(&node.id).into_iter().filter_map(|(peer, services)| {
            Some(Reachable { node: state.node(&peer)?.described(), services })
        });
        let mut reachable: Vec<Reachable> = reachable.collect();
        reachable.sort_by(|a, b| a.node.node.cmp(&b.node.node));
        let network_name = state.network().map(|network| network.created.name.clone()).unwrap_or_default();
        let exits = state.exits_for(&node.id).into_iter();
        let exits = exits
            .filter_map(|(exit, routes)| Some(ExitNode { node: state.node(&exit)?.described(), routes }));
        let routes = Routes {
            reached: state.routes_for(&node.id),
            exits: exits.collect(),
            approved: node.routes().collect(),
        };
        netmap(network_name, node.described(), reachable, routes)
    }
}
