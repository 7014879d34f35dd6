//! People.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Version, sealed_fields};
use crate::UserId;
use crate::seal::Sealed;

/// A person can own nodes and be named in the policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UserProvisioned {
    /// Version of this kind.
    pub v: Version<1>,
    /// The pseudonym.
    pub user: UserId,
    /// Sign-in name, an e-mail address: what a policy file calls this person.
    pub login: Sealed<String>,
    /// Name for people.
    pub display_name: Sealed<String>,
    /// Who says so.
    pub source: UserSource,
}

/// Who says that a person exists or leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UserSource {
    /// An administrator, by hand.
    Manual,
}

/// The news that a person leaves has arrived. What follows from it names this record as its cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UserLeaverReceived {
    /// Version of this kind.
    pub v: Version<1>,
    /// Who.
    pub user: UserId,
    /// Who says so.
    pub source: UserSource,
    /// When the source says it was decided; never later than the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_at: Option<Timestamp>,
}

/// A person may do nothing any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UserDisabled {
    /// Version of this kind.
    pub v: Version<1>,
    /// Who.
    pub user: UserId,
}

sealed_fields! {
    UserProvisioned { login, display_name }
    UserLeaverReceived {}
    UserDisabled {}
}
