//! The policy and its changes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Version, sealed_fields};
use crate::seal::Sealed;
use crate::{PolicyVersion, ProposalId};

/// A policy change was proposed, with its effect computed on the network of that moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyChangeProposed {
    /// Version of this kind.
    pub v: Version<1>,
    /// Name of the proposal.
    pub proposal: ProposalId,
    /// The version that it changes; absent for the first policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<PolicyVersion>,
    /// The whole file, people by their pseudonyms. Sealed under the network's key, for comments are free text.
    pub text: Sealed<String>,
    /// SHA-256 of that text, hex.
    pub digest: String,
    /// What it would change.
    pub effect: PolicyEffect,
}

/// What a policy change does, in numbers; the exact pairs follow from the two versions and the nodes of the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyEffect {
    /// Permissions (source, destination, protocol, port range) that are new.
    pub gained: u64,
    /// Permissions that go.
    pub lost: u64,
    /// Live connections that would be cut.
    pub connections_cut: u64,
    /// The file's own tests, all of which pass.
    pub tests_passed: u64,
}

/// A policy is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyActivated {
    /// Version of this kind.
    pub v: Version<1>,
    /// Its number.
    pub version: PolicyVersion,
    /// The proposal that holds its text.
    pub proposal: ProposalId,
    /// The version that is restored, if this is an undo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restores: Option<PolicyVersion>,
}

sealed_fields! {
    PolicyChangeProposed { text }
    PolicyActivated {}
}
