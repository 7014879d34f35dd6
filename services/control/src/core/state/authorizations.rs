//! Authorizations: those that are live, and for a while those that have ended, for what agents still report of them.

use std::collections::{BTreeSet, HashMap};

use jiff::{SignedDuration, Timestamp};
use writ_schema::event::{AcknowledgedAction, RevocationReason, Side, Source};
use writ_schema::net::{PortRange, Prefix, Protocol};
use writ_schema::seal::{DestroyedKeys, Retention, Subject};
use writ_schema::{AuthorizationId, NodeId, PolicyVersion, Seq};

/// How long an authorization is remembered after it has expired.
const REMEMBERED_AFTER: SignedDuration = SignedDuration::from_mins(15);

/// The permission for one node to reach another.
#[derive(Debug, Clone, PartialEq)]
pub struct Authorization {
    /// Its name.
    pub id: AuthorizationId,
    /// Who may; nothing once the key to it was destroyed.
    pub source: Option<Source>,
    /// Under whose key the source stands; nothing once that key was destroyed.
    pub sealed_for: Option<(Subject, Retention)>,
    /// Whom it may reach.
    pub destination: NodeId,
    /// The addresses behind the destination that are meant instead of its own.
    pub route: Option<Prefix>,
    /// By which protocol.
    pub protocol: Protocol,
    /// On which ports.
    pub ports: PortRange,
    /// The rule that allowed it.
    pub rule: String,
    /// The policy that holds the rule.
    pub policy: PolicyVersion,
    /// The one that it continues.
    pub renews: Option<AuthorizationId>,
    /// When it ends by itself.
    pub expires_at: Timestamp,
    /// Its `connection.authorized` record.
    pub record: Seq,
    /// Whether it was withdrawn, and how.
    pub revoked: Option<AuthorizationEnd>,
    pub(in crate::core) acknowledged: BTreeSet<(Side, AcknowledgedAction)>,
    pub(in crate::core) closed: BTreeSet<Side>,
}

/// A withdrawal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuthorizationEnd {
    /// Its `connection.revoked` record.
    pub record: Seq,
    /// Why.
    pub reason: RevocationReason,
}

impl Authorization {
    /// Whether it permits anything at this moment.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.revoked.is_none() && self.expires_at > now && self.source.is_some()
    }

    /// Whether an end has reported that it does not use it any more.
    pub fn is_closed(&self) -> bool {
        !self.closed.is_empty()
    }

    /// Whether the node was told to end it, and has not said that it did.
    pub fn waits_for_withdrawal_by(&self, node: &NodeId) -> bool {
        let has_withdrawn = |side| self.is_acknowledged(side, AcknowledgedAction::Withdrawn);
        self.revoked.is_some() && self.side_of(node).is_some_and(|side| !has_withdrawn(side))
    }

    /// Which end the node is.
    pub fn side_of(&self, node: &NodeId) -> Option<Side> {
        if self.source.as_ref().is_some_and(|source| source.node == *node) {
            return Some(Side::Source);
        }
        (self.destination == *node).then_some(Side::Destination)
    }

    /// Whether that end has acknowledged that action.
    pub fn is_acknowledged(&self, side: Side, action: AcknowledgedAction) -> bool {
        self.acknowledged.contains(&(side, action))
    }
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::core) struct Authorizations {
    by_id: HashMap<AuthorizationId, Authorization>,
    by_node: HashMap<NodeId, BTreeSet<AuthorizationId>>,
    by_expiry: BTreeSet<(Timestamp, AuthorizationId)>,
}

impl Authorizations {
    pub(super) fn find(&self, id: &AuthorizationId) -> Option<&Authorization> {
        self.by_id.get(id)
    }

    /// In the order in which they expire.
    pub(super) fn all(&self) -> impl Iterator<Item = &Authorization> {
        self.by_expiry.iter().filter_map(|(_, id)| self.by_id.get(id))
    }

    pub(super) fn of(&self, node: &NodeId) -> impl Iterator<Item = &Authorization> {
        self.by_node.get(node).into_iter().flatten().filter_map(|id| self.by_id.get(id))
    }

    pub(in crate::core) fn get_mut(&mut self, id: &AuthorizationId) -> Option<&mut Authorization> {
        self.by_id.get_mut(id)
    }

    pub(in crate::core) fn insert(&mut self, authorization: Authorization) {
        for node in ends(&authorization) {
            self.by_node.entry(node).or_default().insert(authorization.id.clone());
        }
        self.by_expiry.insert((authorization.expires_at, authorization.id.clone()));
        self.by_id.insert(authorization.id.clone(), authorization);
    }

    /// Forgets what expired long before this moment.
    pub(in crate::core) fn prune(&mut self, now: Timestamp) {
        let expired = |at: &Timestamp| now.duration_since(*at) > REMEMBERED_AFTER;
        while let Some((_, id)) = self.by_expiry.first().filter(|(at, _)| expired(at)).cloned() {
            self.by_expiry.pop_first();
            if let Some(authorization) = self.by_id.remove(&id) {
                ends(&authorization).for_each(|node| self.unlink(&node, &id));
            }
        }
    }

    /// Forgets who the sources are that stand under a destroyed key.
    pub(in crate::core) fn erase_sources(&mut self, keys: &DestroyedKeys) {
        let touched: Vec<_> = self
            .by_id
            .values_mut()
            .filter(|authorization| authorization.sealed_for.as_ref().is_some_and(|of| keys.contain(of)))
            .filter_map(|authorization| {
                authorization.sealed_for = None;
                Some((authorization.id.clone(), authorization.source.take()?.node))
            })
            .collect();
        for (id, node) in touched {
            self.unlink(&node, &id);
        }
    }

    fn unlink(&mut self, node: &NodeId, id: &AuthorizationId) {
        if let Some(of_node) = self.by_node.get_mut(node) {
            of_node.remove(id);
            if of_node.is_empty() {
                self.by_node.remove(node);
            }
        }
    }
}

fn ends(authorization: &Authorization) -> impl Iterator<Item = NodeId> + use<> {
    let source = authorization.source.as_ref().map(|source| source.node.clone());
    source.into_iter().chain([authorization.destination.clone()])
}
