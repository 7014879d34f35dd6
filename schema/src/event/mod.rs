//! The event catalogue: every fact that the log can hold, one module per family.
//!
//! Kinds are named `family.happened` in the past tense and each carries its version. Kinds and versions are only ever
//! added; what one meant once it means for ever.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::seal::{DestroyedKeys, Retention, SealVisitor, Sealable, Sealed, Subject};

mod administration;
mod assurance;
mod connection;
mod node;
mod policy;
mod user;

pub use administration::*;
pub use assurance::*;
pub use connection::*;
pub use node::*;
pub use policy::*;
pub use user::*;

/// The version of an event kind. It reads and writes as its number and accepts no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Version<const N: u64>;

impl<const N: u64> Serialize for Version<N> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(N)
    }
}

impl<'de, const N: u64> Deserialize<'de> for Version<N> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer)? {
            n if n == N => Ok(Self),
            n => Err(serde::de::Error::custom(format!("version {n} where {N} is known"))),
        }
    }
}

impl<const N: u64> JsonSchema for Version<N> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("Version{N}").into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "const": N })
    }
}

/// The version of an event kind that has grown: the first, or any later one up to `NEWEST`. A record is of the oldest version
/// that can say what it says, so that older programs go on reading whatever they understand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct VersionUpTo<const NEWEST: u64>(u64);

impl<const NEWEST: u64> VersionUpTo<NEWEST> {
    /// The first version.
    pub const FIRST: Self = Self(1);
    /// The newest version.
    pub const NEWEST: Self = Self(NEWEST);
}

impl<const NEWEST: u64> Serialize for VersionUpTo<NEWEST> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de, const NEWEST: u64> Deserialize<'de> for VersionUpTo<NEWEST> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer)? {
            n if (1..=NEWEST).contains(&n) => Ok(Self(n)),
            n => Err(serde::de::Error::custom(format!("version {n} where 1 to {NEWEST} are known"))),
        }
    }
}

impl<const NEWEST: u64> JsonSchema for VersionUpTo<NEWEST> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("VersionUpTo{NEWEST}").into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "integer", "minimum": 1, "maximum": NEWEST })
    }
}

macro_rules! catalogue {
    ($($kind:literal $variant:ident($body:ident) $version:literal,)*) => {
        /// A fact, in the past tense.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        pub enum Event {
            $(
                #[doc = concat!("`", $kind, "`")]
                #[serde(rename = $kind)]
                $variant($body),
            )*
        }

        impl Event {
            /// Every kind with its newest version.
            pub const CATALOGUE: &'static [(&'static str, u64)] = &[$(($kind, $version)),*];

            /// The kind, as it is written.
            pub fn kind(&self) -> &'static str {
                match self { $(Self::$variant(_) => $kind,)* }
            }

            /// Calls the visitor for every sealed field.
            pub fn visit_sealed(&mut self, visitor: &mut impl SealVisitor) {
                match self { $(Self::$variant(body) => body.visit_sealed(visitor),)* }
            }
        }

        $(
            impl From<$body> for Event {
                fn from(body: $body) -> Self {
                    Self::$variant(body)
                }
            }
        )*
    };
}

catalogue! {
    "network.created" NetworkCreated(NetworkCreated) 1,
    "log.opened" LogOpened(LogOpened) 1,
    "log.closed" LogClosed(LogClosed) 1,
    "log.key_rotated" LogKeyRotated(LogKeyRotated) 1,
    "user.provisioned" UserProvisioned(UserProvisioned) 1,
    "user.leaver_received" UserLeaverReceived(UserLeaverReceived) 1,
    "user.disabled" UserDisabled(UserDisabled) 1,
    "key.shredded" KeyShredded(KeyShredded) 1,
    "retention.lapsed" RetentionLapsed(RetentionLapsed) 1,
    "admin.role_granted" AdminRoleGranted(AdminRoleGranted) 1,
    "admin.role_revoked" AdminRoleRevoked(AdminRoleRevoked) 1,
    "admin.act_denied" AdminActDenied(AdminActDenied) 1,
    "login.succeeded" LoginSucceeded(LoginSucceeded) 1,
    "login.failed" LoginFailed(LoginFailed) 1,
    "enrol_key.created" EnrolKeyCreated(EnrolKeyCreated) 1,
    "enrol_key.revoked" EnrolKeyRevoked(EnrolKeyRevoked) 1,
    "node.joined" NodeJoined(NodeJoined) 1,
    "node.join_refused" NodeJoinRefused(NodeJoinRefused) 1,
    "node.removed" NodeRemoved(NodeRemoved) 1,
    "node.routes_advertised" NodeRoutesAdvertised(NodeRoutesAdvertised) 1,
    "node.routes_approved" NodeRoutesApproved(NodeRoutesApproved) 1,
    "key.rotated" KeyRotated(KeyRotated) 1,
    "session.started" SessionStarted(SessionStarted) 1,
    "session.terminated" SessionTerminated(SessionTerminated) 1,
    "session.frame_rejected" SessionFrameRejected(SessionFrameRejected) 1,
    "policy.change_proposed" PolicyChangeProposed(PolicyChangeProposed) 1,
    "policy.activated" PolicyActivated(PolicyActivated) 1,
    "connection.authorized" ConnectionAuthorized(ConnectionAuthorized) 2,
    "connection.denied" ConnectionDenied(ConnectionDenied) 1,
    "connection.revoked" ConnectionRevoked(ConnectionRevoked) 2,
    "connection.acknowledged" ConnectionAcknowledged(ConnectionAcknowledged) 1,
    "connection.closed" ConnectionClosed(ConnectionClosed) 1,
    "audit.query_executed" AuditQueryExecuted(AuditQueryExecuted) 1,
    "audit.deanonymise_executed" AuditDeanonymiseExecuted(AuditDeanonymiseExecuted) 1,
    "report.generated" ReportGenerated(ReportGenerated) 1,
}

impl Event {
    /// The newest version of a kind that this program knows.
    pub fn known_version(kind: &str) -> Option<u64> {
        Self::CATALOGUE.iter().find(|(known, _)| *known == kind).map(|(_, version)| *version)
    }
}

impl Event {
    /// Under which keys the open fields are to be sealed, as far as that is known here; without repeats.
    pub fn sealed_for(&self) -> Vec<(Subject, Retention)> {
        let mut listing = Listing(Vec::new());
        self.clone().visit_sealed(&mut listing);
        listing.0
    }
}

impl Event {
    /// The keys that are destroyed by this fact.
    pub fn destroyed_keys(&self) -> Option<DestroyedKeys> {
        match self {
            Self::KeyShredded(body) => Some(DestroyedKeys::OfSubject(body.subject.clone())),
            Self::RetentionLapsed(body) => {
                Some(DestroyedKeys::OfRetention(Retention::Connections(body.quarter)))
            }
            _ => None,
        }
    }
}

struct Listing(Vec<(Subject, Retention)>);

impl SealVisitor for Listing {
    fn visit<T: Sealable>(&mut self, _field: &'static str, sealed: &mut Sealed<T>) {
        if let Some(of) = sealed.of().filter(|of| !self.0.contains(of)) {
            self.0.push(of.clone());
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}

/// Implements the visit of an event body: the sealed fields, by name.
macro_rules! sealed_fields {
    ($($body:ident { $($field:ident),* })*) => {
        $(
            impl $body {
                pub(super) fn visit_sealed(&mut self, visitor: &mut impl $crate::seal::SealVisitor) {
                    let _ = &visitor;
                    $(visitor.visit(stringify!($field), &mut self.$field);)*
                }
            }
        )*
    };
}
pub(crate) use sealed_fields;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_named_once_and_in_the_past_tense_of_its_family() {
        let mut kinds: Vec<_> = Event::CATALOGUE.iter().map(|(kind, _)| *kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        assert_eq!(kinds.len(), Event::CATALOGUE.len());
        assert!(kinds.iter().all(|kind| kind.split('.').count() == 2));
    }
}
