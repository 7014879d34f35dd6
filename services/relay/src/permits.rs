//! Which pairs of nodes may talk through the relay, and until when.

use std::collections::HashMap;
use std::time::Instant;

use crate::wire::NodeBytes;

/// The relay holds as many permits as it can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the relay holds {limit} permits already; revoke some or raise its limit")]
pub struct PermitsFull {
    /// How many it holds.
    pub limit: usize,
}

/// Two nodes without order: a permit holds in both directions.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Pair(NodeBytes, NodeBytes);

impl Pair {
    fn of(a: NodeBytes, b: NodeBytes) -> Self {
        Self(a.min(b), a.max(b))
    }

    fn has(&self, node: NodeBytes) -> bool {
        self.0 == node || self.1 == node
    }
}

pub(crate) struct Permits {
    until: HashMap<Pair, Instant>,
    limit: usize,
}

impl Permits {
    pub(crate) fn new(limit: usize) -> Self {
        Self { until: HashMap::new(), limit }
    }

    pub(crate) fn len(&self) -> usize {
        self.until.len()
    }

    /// Permits the pair, or prolongs it: a pair with several authorizations lives as long as the longest.
    pub(crate) fn permit(&mut self, a: NodeBytes, b: NodeBytes, until: Instant) -> Result<(), PermitsFull> {
        let pair = Pair::of(a, b);
        if let Some(current) = self.until.get_mut(&pair) {
            *current = until.max(*current);
            return Ok(());
        }
        if self.until.len() >= self.limit {
            return Err(PermitsFull { limit: self.limit });
        }
        self.until.insert(pair, until);
        Ok(())
    }

    pub(crate) fn revoke(&mut self, a: NodeBytes, b: NodeBytes) {
        self.until.remove(&Pair::of(a, b));
    }

    pub(crate) fn revoke_all_of(&mut self, node: NodeBytes) {
        self.until.retain(|pair, _| !pair.has(node));
    }

    /// Puts these permits in the place of all others; when they are too many, nothing changes.
    pub(crate) fn replace(
        &mut self,
        permits: impl IntoIterator<Item = (NodeBytes, NodeBytes, Instant)>,
    ) -> Result<(), PermitsFull> {
        let mut fresh = Self::new(self.limit);
        for (a, b, until) in permits {
            fresh.permit(a, b, until)?;
        }
        *self = fresh;
        Ok(())
    }

    pub(crate) fn is_live(&self, a: NodeBytes, b: NodeBytes, now: Instant) -> bool {
        self.until.get(&Pair::of(a, b)).is_some_and(|until| now < *until)
    }

    pub(crate) fn drop_expired(&mut self, now: Instant) {
        self.until.retain(|_, until| now < *until);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const A: NodeBytes = NodeBytes([1; 16]);
    const B: NodeBytes = NodeBytes([2; 16]);
    const C: NodeBytes = NodeBytes([3; 16]);

    #[test]
    fn a_permit_holds_in_both_directions_until_it_expires() {
        let (now, mut permits) = (Instant::now(), Permits::new(4));
        let until = now + Duration::from_secs(1);
        permits.permit(B, A, until).unwrap();
        assert!(permits.is_live(A, B, now) && permits.is_live(B, A, now));
        assert!(!permits.is_live(A, C, now));
        assert!(!permits.is_live(A, B, until));
    }

    #[test]
    fn a_shorter_permit_does_not_cut_a_longer_one() {
        let (now, mut permits) = (Instant::now(), Permits::new(4));
        permits.permit(A, B, now + Duration::from_secs(9)).unwrap();
        permits.permit(B, A, now + Duration::from_secs(1)).unwrap();
        assert!(permits.is_live(A, B, now + Duration::from_secs(5)));
    }

    #[test]
    fn permits_are_bounded_and_a_full_table_still_renews() {
        let (now, mut permits) = (Instant::now(), Permits::new(1));
        permits.permit(A, B, now + Duration::from_secs(1)).unwrap();
        assert_eq!(permits.permit(A, C, now), Err(PermitsFull { limit: 1 }));
        permits.permit(A, B, now + Duration::from_secs(9)).unwrap();
        assert_eq!(permits.replace([(A, C, now), (B, C, now)]), Err(PermitsFull { limit: 1 }));
        assert!(permits.is_live(A, B, now + Duration::from_secs(5)), "a refused replacement changes nothing");
    }

    #[test]
    fn a_node_loses_all_of_its_permits_and_others_keep_theirs() {
        let (now, mut permits) = (Instant::now(), Permits::new(4));
        let until = now + Duration::from_secs(1);
        permits.replace([(A, B, until), (C, A, until), (B, C, until)]).unwrap();
        permits.revoke_all_of(A);
        assert_eq!((permits.len(), permits.is_live(B, C, now)), (1, true));
    }
}
