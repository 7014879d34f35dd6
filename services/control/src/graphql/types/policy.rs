//! Policies and what a change does.

use async_graphql::SimpleObject;

use super::{AsOf, Authorization, NodeRef, Record};
use crate::graphql::scalars::UInt;

/// A policy that is or was in force.
#[derive(SimpleObject)]
pub struct Policy {
    /// Its number.
    pub version: UInt,
    /// The whole file. People stand in it by their logins for those who run the network, else by their pseudonyms.
    pub text: Option<String>,
    /// SHA-256 of the text as it was recorded (with pseudonyms), hex.
    pub digest: String,
    /// The version that it changed.
    pub base: Option<UInt>,
    /// The version that it restored, if it was an undo.
    pub restores: Option<UInt>,
    /// What it was to change, as computed when it was proposed.
    pub effect: PolicyEffect,
    /// Who proposed it.
    pub proposed_by: String,
    /// Who put it in force.
    pub activated_by: String,
    /// The record of the proposal, which holds the text.
    pub proposed: Record,
    /// The record that put it in force.
    pub record: Record,
    /// The record that put another in its place.
    pub superseded: Option<Record>,
}

/// What a policy change does, in numbers.
#[derive(SimpleObject)]
pub struct PolicyEffect {
    /// Permissions (source, destination, protocol, ports) that are new.
    pub gained: UInt,
    /// Permissions that go.
    pub lost: UInt,
    /// Live connections that are cut.
    pub connections_cut: UInt,
    /// The file's own tests, all of which pass.
    pub tests_passed: UInt,
}

/// What a policy would change if it were put in force now. Nothing is.
#[derive(SimpleObject)]
pub struct PolicyDifference {
    /// The moment that it is compared with.
    pub as_of: AsOf,
    /// The version that it would change.
    pub base: Option<UInt>,
    /// Whether it could be put in force: it can be read, its names exist, its tests pass, it says something of access.
    pub acceptable: bool,
    /// Whether it says nothing of access, and so allows everything. `setPolicy` refuses it unless told that this is meant.
    pub allows_everything: bool,
    /// Tests of the file that fail, in words.
    pub failed_tests: Vec<String>,
    /// How many tests the file carries.
    pub tests: UInt,
    /// How many permissions are new.
    pub gained_count: UInt,
    /// How many permissions go.
    pub lost_count: UInt,
    /// The first new permissions.
    pub gained: Vec<Permission>,
    /// The first permissions that go.
    pub lost: Vec<Permission>,
    /// How many groups the new permissions make by identity.
    pub gained_by_identity_count: UInt,
    /// How many groups the permissions that go make by identity.
    pub lost_by_identity_count: UInt,
    /// The new permissions, grouped by identity; the first groups.
    pub gained_by_identity: Vec<IdentityChange>,
    /// The permissions that go, grouped by identity; the first groups.
    pub lost_by_identity: Vec<IdentityChange>,
    /// How many live connections would be cut.
    pub connections_cut_count: UInt,
    /// The first live connections that would be cut.
    pub connections_cut: Vec<Authorization>,
    /// The same in words, people by their pseudonyms.
    pub summary: String,
}

/// One pair of nodes, or a node and addresses behind another, a protocol and ports.
#[derive(SimpleObject)]
pub struct Permission {
    /// From.
    pub source: NodeRef,
    /// To.
    pub destination: NodeRef,
    /// The addresses behind the destination that are meant instead of its own: packets go through it. Everything is the
    /// Internet, whose addresses are public.
    pub route: Option<String>,
    /// By which protocol.
    pub protocol: String,
    /// On which ports.
    pub ports: String,
    /// What the rule asks for besides, in words.
    pub conditions: Option<String>,
}

/// What changes alike for every pair of nodes of two identities: of one user each, or with the same tags.
#[derive(SimpleObject)]
pub struct IdentityChange {
    /// From a node of the one; its owner is the identity.
    pub source: NodeRef,
    /// To a node of the other; its owner is the identity.
    pub destination: NodeRef,
    /// Protocols and ports, with what the rules ask for besides, in words.
    pub services: String,
    /// How many pairs of nodes it holds for.
    pub pairs: UInt,
}
