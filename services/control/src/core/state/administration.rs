//! Administrators, their tokens, and the keys that nodes join with.

use jiff::Timestamp;
use writ_schema::event::{NodeOwner, Role};
use writ_schema::keys::SecretHash;
use writ_schema::{AdminId, EnrolmentKeyId, Seq, TokenId};

/// A local administrator.
#[derive(Debug, Clone, PartialEq)]
pub struct Admin {
    /// Who.
    pub id: AdminId,
    /// Name for people; nothing once it was erased.
    pub name: Option<String>,
    /// The role.
    pub role: Role,
    /// Hash of the sign-in secret.
    pub secret_hash: SecretHash,
    /// Whether the role was revoked.
    pub is_revoked: bool,
    /// The record that gave the role.
    pub granted: Seq,
}

/// An access token.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// Its name.
    pub id: TokenId,
    /// Whose.
    pub admin: AdminId,
    /// Hash of its secret.
    pub hash: SecretHash,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// A key that nodes join with.
#[derive(Debug, Clone, PartialEq)]
pub struct EnrolmentKey {
    /// Its name.
    pub id: EnrolmentKeyId,
    /// Hash of its secret.
    pub secret_hash: SecretHash,
    /// Whose nodes it makes.
    pub owner: NodeOwner,
    /// How many nodes may join with it.
    pub max_uses: u32,
    /// How many have.
    pub uses: u32,
    /// Until when.
    pub expires_at: Timestamp,
    /// Whether it ended before its time.
    pub is_revoked: bool,
    /// The record that made it.
    pub created: Seq,
}

impl EnrolmentKey {
    /// Whether a node can join with it.
    pub fn is_usable(&self, now: Timestamp) -> bool {
        !self.is_revoked && self.uses < self.max_uses && self.expires_at > now
    }
}
