//! Policy changes: read, resolve, test, measure, put in force and revoke, in one decision.

use std::sync::Arc;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use writ_policy::{Compiled, Policy, difference};
use writ_schema::event::{
    NodeRoutesApproved, PolicyActivated, PolicyChangeProposed, PolicyEffect, RevocationReason, Version,
};
use writ_schema::net::Prefix;
use writ_schema::seal::{Retention, Sealed, Subject};
use writ_schema::{PolicyVersion, ProposalId};

use super::{Case, Decision, routes, withdrawal};
use crate::core::policy::still_allows;
use crate::core::rejection::Rejection;
use crate::core::state::{Authorization, State};

/// Longest policy as JSON text. Sealing adds padding and a third for base64, and a record has room for 65,535 bytes.
const MAX_TEXT_BYTES: usize = 47_000;

/// Why a file that says nothing of access is refused.
const SILENT: &str = "it has neither `acls` nor `grants`, which allows everything to everybody; write `\"acls\": []` to \
                      allow nothing, or say that everything is meant (`writ policy set --allow-everything`)";

/// Most failing tests that an answer names.
const NAMED_FAILURES: usize = 5;

/// A policy that allows nothing: what a first policy is compared with.
const NOTHING: &str = r#"{"acls":[]}"#;

pub(super) fn set(
    case: &Case<'_>,
    text: &str,
    proposal: &ProposalId,
    base: Option<PolicyVersion>,
    allow_everything: bool,
) -> Decision {
    let current = case.state.policy().map_or(PolicyVersion(0), |active| active.version);
    if base.is_some_and(|base| base != current) {
        return Err(Rejection::PolicyChanged { current }.into());
    }
    let silence = if allow_everything { Silence::Meant } else { Silence::Refused };
    activate(case, text, proposal, None, silence)
}

pub(super) fn undo(case: &Case<'_>, to: Option<PolicyVersion>, proposal: &ProposalId) -> Decision {
    let policies = &case.state.policies;
    let active = policies.active().ok_or(Rejection::NoPolicyToRestore)?;
    let restored = match to {
        Some(version) => policies.version(version).filter(|found| found.version != active.version),
        None => policies.previous(),
    };
    let restored = restored.ok_or(Rejection::NoPolicyToRestore)?;
    let text = restored.text.as_deref().ok_or(Rejection::NoPolicyToRestore)?;
    // Whoever put it in force the first time said so then.
    activate(case, text, proposal, Some(restored.version), Silence::Meant)
}

/// What to make of a file that says nothing of access, which in this language allows everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    /// Somebody said in so many words that everything is to be allowed.
    Meant,
    /// Nobody did.
    Refused,
}

fn activate(
    case: &Case<'_>,
    text: &str,
    proposal: &ProposalId,
    restores: Option<PolicyVersion>,
    silence: Silence,
) -> Decision {
    let change = PolicyChange::new(case.state, text, silence)?;
    let cut: Vec<&Authorization> = change.cuts(case).collect();
    let effect = change.effect(case.state, cut.len())?;
    let base = case.state.policy().map(|active| active.version);
    let version = PolicyVersion(base.map_or(1, |base| base.0.saturating_add(1)));
    let network = Subject::Network(case.network.created.network.clone());
    let proposed = PolicyChangeProposed {
        v: Version,
        proposal: proposal.clone(),
        base,
        text: Sealed::new(network, Retention::Identity, text.to_owned()),
        digest: HEXLOWER.encode(&Sha256::digest(text.as_bytes())),
        effect,
    };
    let activated = PolicyActivated { v: Version, version, proposal: proposal.clone(), restores };
    let revocations = cut
        .into_iter()
        .map(|authorization| withdrawal::revocation(authorization, RevocationReason::PolicyChanged));
    let mut drafts = vec![case.draft(proposed), case.consequence(0, activated)];
    drafts.extend(revocations.map(|event| case.consequence(1, event)));
    drafts.extend(change.approvals(case.state, version).map(|event| case.consequence(1, event)));
    Ok(drafts)
}

/// A policy that could come into force: it was read, its names resolve and its tests pass.
pub struct PolicyChange {
    /// Compiled for the users and nodes of the state.
    pub compiled: Compiled,
}

impl PolicyChange {
    /// Reads and tests a policy, people named by their pseudonyms, without putting it in force.
    pub fn new(state: &State, text: &str, silence: Silence) -> Result<Self, Rejection> {
        let length = serde_json::to_string(text).map_or(usize::MAX, |json| json.len());
        if length > MAX_TEXT_BYTES {
            return Err(Rejection::Policy(format!(
                "the file has {length} bytes as JSON; a record of the log has room for {MAX_TEXT_BYTES}; \
                 shorten comments, or use groups and tags"
            )));
        }
        let refused = |error: writ_policy::PolicyError| Rejection::Policy(error.to_string());
        let policy = Policy::parse(text).map_err(refused)?;
        if policy.allows_everything_by_silence() && silence == Silence::Refused {
            return Err(Rejection::Policy(SILENT.to_owned()));
        }
        let compiled = Compiled::new(Arc::new(policy), &state.inventory()).map_err(refused)?;
        let failures = compiled.run_tests();
        if failures.is_empty() {
            return Ok(Self { compiled });
        }
        let named: Vec<String> = failures.iter().take(NAMED_FAILURES).map(ToString::to_string).collect();
        let more = failures.len().saturating_sub(NAMED_FAILURES);
        let rest = if more > 0 { format!("; and {more} more") } else { String::new() };
        Err(Rejection::Policy(format!("its tests do not pass: {}{rest}", named.join("; "))))
    }

    fn cuts<'a>(&'a self, case: &Case<'a>) -> impl Iterator<Item = &'a Authorization> {
        let live = case.state.live_authorizations(case.context.now);
        live.filter(|authorization| {
            !still_allows(case.state, &self.compiled, authorization, case.context.now)
        })
    }

    /// The routes on offer that it approves by itself and that were not approved before.
    fn approvals(&self, state: &State, version: PolicyVersion) -> impl Iterator<Item = NodeRoutesApproved> {
        state.nodes().filter_map(move |node| {
            let approves = |route: &Prefix| self.compiled.auto_approves(&node.id, &route.net());
            let routes = routes::with_approved_by(node, &node.advertised, approves)?;
            Some(NodeRoutesApproved { v: Version, node: node.id.clone(), routes, policy: Some(version) })
        })
    }

    /// What it would change, pair by pair.
    pub fn difference(&self, state: &State) -> Result<writ_policy::Difference, Rejection> {
        if let Some(active) = state.compiled_policy() {
            return Ok(difference(active, &self.compiled));
        }
        let refused = |error: writ_policy::PolicyError| Rejection::Policy(error.to_string());
        let nothing = Policy::parse(NOTHING).map_err(refused)?;
        let nothing = Compiled::new(Arc::new(nothing), &state.inventory()).map_err(refused)?;
        Ok(difference(&nothing, &self.compiled))
    }

    fn effect(&self, state: &State, cut: usize) -> Result<PolicyEffect, Rejection> {
        let changes = self.difference(state)?;
        Ok(PolicyEffect {
            gained: changes.gained.len() as u64,
            lost: changes.lost.len() as u64,
            connections_cut: cut as u64,
            tests_passed: self.compiled.policy().test_count() as u64,
        })
    }
}
