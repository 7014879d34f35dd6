//! The policy engine: pure. A policy's text goes in; filters, peers, decisions, explanations and differences
//! come out.
//!
//! The language is Tailscale's policy file. [`Policy::parse`] reads a text and refuses by name whatever is
//! not supported; [`Compiled::new`] resolves its names against the users and nodes of one moment. One
//! compiled policy has four faces, which tests hold to one another: what a node's filter lets in and whom it
//! can reach ([`Compiled::filter`], [`Compiled::peers`]), one decision ([`Compiled::decide`]), its reasons
//! ([`Compiled::explain`]), and what a change gives and takes ([`difference()`]).
//!
//! Nothing is permitted that no rule permits, with one exception that is Tailscale's and that callers must
//! look for: [`Policy::allows_everything_by_silence`].

mod address;
mod auto_approvers;
mod behind;
mod bits;
mod capabilities;
mod compile;
mod conditions;
mod decide;
mod difference;
mod document;
mod duration;
mod edit;
mod error;
mod explain;
mod filter;
mod hujson;
mod inventory;
mod logins;
mod node_attrs;
mod nodes;
mod peers;
mod policy;
mod posture;
mod ranges;
mod routes;
mod rules;
mod run_tests;
mod selector;
mod service;
mod side;
mod splice;
mod ssh;
mod ssh_tests;
mod tag_owners;
mod tests_section;
mod users;
mod visibility;

pub use address::AddressSet;
pub use behind::ReachBehind;
pub use capabilities::CapabilityRule;
pub use compile::Compiled;
pub use conditions::{Circumstances, Conditions, Notes, SignedIn, Unmet};
pub use decide::{Decision, Permit, Refused, Service};
pub use difference::{Change, Difference, IdentityChange, difference};
pub use edit::{Edit, NameList, edit};
pub use error::PolicyError;
pub use explain::{Explanation, Lack, NearMiss};
pub use filter::FilterRule;
pub use inventory::{Inventory, InventoryNode, InventoryUser, Owner, Role, Roles};
pub use logins::{logins_in_remarks, replace_logins};
pub use peers::Reach;
pub use policy::{Policy, Summary};
pub use posture::Attribute;
pub use routes::Way;
pub use rules::{RuleRef, RuleRefError, Section};
pub use run_tests::{TestFailure, Verdict};
pub use service::{PortRange, Protocol, ProtocolError};
pub use ssh::{SshAction, SshGrant};
