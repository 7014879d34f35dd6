//! Which address belongs to which node.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Instant;

use crate::wire::{BINDING_LIFETIME, NodeBytes};

/// Part of the nodes without a binding that are forgotten when the table is full, so that the search for them does not
/// repeat with every hello.
const FORGET_SHARE: usize = 16;

/// Why a proven hello did not bind.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BindError {
    /// Its counter is not greater than the last.
    Stale,
    /// Every place is taken by a node with a live binding.
    Full,
}

struct Known {
    /// Kept beyond the binding's end: a hello may not be replayed later either.
    counter: u64,
    heard: Instant,
    address: Option<SocketAddr>,
}

impl Known {
    fn live_address(&self, now: Instant) -> Option<SocketAddr> {
        self.address.filter(|_| now.saturating_duration_since(self.heard) < BINDING_LIFETIME)
    }
}

pub(crate) struct Bindings {
    nodes: HashMap<NodeBytes, Known>,
    by_address: HashMap<SocketAddr, NodeBytes>,
    limit: usize,
}

impl Bindings {
    pub(crate) fn new(limit: usize) -> Self {
        Self { nodes: HashMap::new(), by_address: HashMap::new(), limit }
    }

    /// How many nodes are bound, as of the last clean-up.
    pub(crate) fn len(&self) -> usize {
        self.by_address.len()
    }

    /// Binds the address to the node, and to no other: NATs give one node's port to the next. The caller has proven the hello.
    pub(crate) fn bind(
        &mut self,
        now: Instant,
        node: NodeBytes,
        counter: u64,
        from: SocketAddr,
    ) -> Result<(), BindError> {
        match self.nodes.get(&node) {
            Some(known) if counter <= known.counter => return Err(BindError::Stale),
            Some(_) => {}
            None => self.make_room(now)?,
        }
        self.unbind(node);
        if let Some(other) = self.by_address.insert(from, node)
            && let Some(known) = self.nodes.get_mut(&other)
        {
            known.address = None;
        }
        self.nodes.insert(node, Known { counter, heard: now, address: Some(from) });
        Ok(())
    }

    pub(crate) fn node_at(&self, now: Instant, from: SocketAddr) -> Option<NodeBytes> {
        let node = *self.by_address.get(&from)?;
        self.nodes.get(&node)?.live_address(now).map(|_| node)
    }

    pub(crate) fn address_of(&self, now: Instant, node: NodeBytes) -> Option<SocketAddr> {
        self.nodes.get(&node)?.live_address(now)
    }

    /// Ends the node's binding; its counter stays.
    pub(crate) fn unbind(&mut self, node: NodeBytes) {
        if let Some(known) = self.nodes.get_mut(&node)
            && let Some(address) = known.address.take()
        {
            self.by_address.remove(&address);
        }
    }

    pub(crate) fn drop_expired(&mut self, now: Instant) {
        for known in self.nodes.values_mut() {
            if known.live_address(now).is_none()
                && let Some(address) = known.address.take()
            {
                self.by_address.remove(&address);
            }
        }
    }

    /// Only nodes that hold a key come here, so this is no way for a stranger to make the relay forget counters.
    fn make_room(&mut self, now: Instant) -> Result<(), BindError> {
        if self.nodes.len() < self.limit {
            return Ok(());
        }
        self.drop_expired(now);
        let mut idle: Vec<_> = self
            .nodes
            .iter()
            .filter(|(_, k)| k.address.is_none())
            .map(|(node, k)| (k.heard, *node))
            .collect();
        if idle.is_empty() {
            return Err(BindError::Full);
        }
        idle.sort_unstable();
        for (_, node) in idle.iter().take(idle.len().div_ceil(FORGET_SHARE)) {
            self.nodes.remove(node);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const A: NodeBytes = NodeBytes([1; 16]);
    const B: NodeBytes = NodeBytes([2; 16]);
    const C: NodeBytes = NodeBytes([3; 16]);

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    #[test]
    fn a_node_has_one_address_and_an_address_one_node() {
        let (now, mut bindings) = (Instant::now(), Bindings::new(4));
        bindings.bind(now, A, 1, at(1)).unwrap();
        bindings.bind(now, A, 2, at(2)).unwrap();
        assert_eq!((bindings.node_at(now, at(1)), bindings.node_at(now, at(2))), (None, Some(A)));
        bindings.bind(now, B, 1, at(2)).unwrap();
        assert_eq!((bindings.address_of(now, A), bindings.node_at(now, at(2))), (None, Some(B)));
        assert_eq!(bindings.len(), 1);
    }

    #[test]
    fn a_counter_outlives_its_binding() {
        let (now, mut bindings) = (Instant::now(), Bindings::new(4));
        bindings.bind(now, A, 5, at(1)).unwrap();
        let later = now + BINDING_LIFETIME;
        assert_eq!(bindings.address_of(later, A), None);
        bindings.drop_expired(later);
        bindings.unbind(A);
        assert_eq!(bindings.bind(later, A, 5, at(2)), Err(BindError::Stale));
        assert_eq!(bindings.bind(later, A, 6, at(2)), Ok(()));
    }

    #[test]
    fn a_full_table_keeps_live_bindings_and_forgets_the_oldest_idle_node() {
        let (now, mut bindings) = (Instant::now(), Bindings::new(2));
        bindings.bind(now, A, 1, at(1)).unwrap();
        bindings.bind(now + Duration::from_secs(60), B, 1, at(2)).unwrap();
        assert_eq!(bindings.bind(now + Duration::from_secs(61), C, 1, at(3)), Err(BindError::Full));
        let later = now + BINDING_LIFETIME;
        assert_eq!(bindings.bind(later, C, 1, at(3)), Ok(()));
        assert_eq!((bindings.node_at(later, at(2)), bindings.node_at(later, at(3))), (Some(B), Some(C)));
        assert_eq!(bindings.nodes.len(), 2);
    }
}
