//! Local administrators, their sign-ins and their enrolment keys.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Version, sealed_fields};
use crate::keys::SecretHash;
use crate::seal::Sealed;
use crate::{AdminId, EnrolmentKeyId, Tag, TokenId, UserId};

/// What an administrator may do. Each role may do what the ones after it may, except where an API says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Everything, administrators included.
    Owner,
    /// Users, nodes, keys and policy.
    Admin,
    /// Nodes, keys and policy.
    NetworkAdmin,
    /// Reads everything, the log entries and the persons behind pseudonyms included; changes nothing.
    Auditor,
    /// Reads the present state.
    Viewer,
}

/// An administrator was made, or got another role. Their sign-in secret is stored as a hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AdminRoleGranted {
    /// Version of this kind.
    pub v: Version<1>,
    /// Who.
    pub admin: AdminId,
    /// Name for people.
    pub name: Sealed<String>,
    /// The role from now on.
    pub role: Role,
    /// Hash of the sign-in secret.
    pub secret_hash: SecretHash,
}

/// An administrator may do nothing any more; their tokens have ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AdminRoleRevoked {
    /// Version of this kind.
    pub v: Version<1>,
    /// Who.
    pub admin: AdminId,
}

/// An administrator tried what their role does not allow. Repeats within a window are one record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AdminActDenied {
    /// Version of this kind.
    pub v: Version<1>,
    /// Who.
    pub admin: AdminId,
    /// What was tried: the name of the API operation.
    pub operation: String,
    /// The role it would have needed.
    pub needs: Role,
    /// How often since the last such record.
    pub count: u32,
}

/// Somebody signed in and got an access token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LoginSucceeded {
    /// Version of this kind.
    pub v: Version<1>,
    /// Who.
    pub admin: AdminId,
    /// The token that was issued.
    pub token: TokenId,
    /// Hash of the token's secret.
    pub token_hash: SecretHash,
    /// When the token ends.
    pub expires_at: Timestamp,
}

/// A sign-in did not succeed. Repeats within a window are one record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LoginFailed {
    /// Version of this kind.
    pub v: Version<1>,
    /// Who was claimed, if such an administrator exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<AdminId>,
    /// Why.
    pub reason: LoginFailure,
    /// How often since the last such record.
    pub count: u32,
}

/// Why a sign-in did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LoginFailure {
    /// No such administrator.
    UnknownAdmin,
    /// Not their secret.
    WrongSecret,
    /// Their role was revoked.
    Revoked,
}

/// A key with which nodes may join was made. Its secret was shown once and is stored as a hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EnrolKeyCreated {
    /// Version of this kind.
    pub v: Version<1>,
    /// Name of the key.
    pub key: EnrolmentKeyId,
    /// Hash of its secret.
    pub secret_hash: SecretHash,
    /// Whose nodes it makes.
    pub owner: NodeOwner,
    /// How many nodes may join with it.
    pub max_uses: u32,
    /// Until when.
    pub expires_at: Timestamp,
}

/// To whom a node belongs: a person, or a service that its tags name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NodeOwner {
    /// A person.
    User(UserId),
    /// A service, by its tags (at least one).
    Tags(Vec<Tag>),
}

/// An enrolment key ended before its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EnrolKeyRevoked {
    /// Version of this kind.
    pub v: Version<1>,
    /// Which.
    pub key: EnrolmentKeyId,
}

sealed_fields! {
    AdminRoleGranted { name }
    AdminRoleRevoked {}
    AdminActDenied {}
    LoginSucceeded {}
    LoginFailed {}
    EnrolKeyCreated {}
    EnrolKeyRevoked {}
}
