//! The policy in force and those before it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};

use writ_policy::Compiled;
use writ_schema::{PolicyVersion, ProposalId, Seq};

/// How many earlier policies are kept to go back to.
const KEPT: usize = 64;

/// A policy in force.
#[derive(Debug, Clone, PartialEq)]
pub struct ActivePolicy {
    /// Its number.
    pub version: PolicyVersion,
    /// The whole file, people by their pseudonyms; nothing if the network's key is gone.
    pub text: Option<Arc<str>>,
    /// The proposal that holds its text.
    pub proposal: ProposalId,
    /// The record of that proposal.
    pub proposed: Seq,
    /// The record that put it in force.
    pub activated: Seq,
    /// The version that it restores, if it is an undo.
    pub restores: Option<PolicyVersion>,
}

/// A proposal that is not in force yet.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::core) struct Proposal {
    pub(in crate::core) text: Option<Arc<str>>,
    pub(in crate::core) record: Seq,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::core) struct Policies {
    /// The newest last, which is the one in force.
    history: VecDeque<ActivePolicy>,
    proposals: BTreeMap<ProposalId, Proposal>,
    compiled: CompiledPolicy,
}

/// The compiled form of the policy in force, made when it is first needed. It follows from the rest of the state, so
/// two states do not differ by it.
#[derive(Debug, Clone, Default)]
struct CompiledPolicy(OnceLock<Option<Arc<Compiled>>>);

impl PartialEq for CompiledPolicy {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Policies {
    pub(in crate::core) fn active(&self) -> Option<&ActivePolicy> {
        self.history.back()
    }

    pub(in crate::core) fn version(&self, version: PolicyVersion) -> Option<&ActivePolicy> {
        self.history.iter().find(|policy| policy.version == version)
    }

    /// The one before the one in force.
    pub(in crate::core) fn previous(&self) -> Option<&ActivePolicy> {
        self.history.iter().rev().nth(1)
    }

    pub(in crate::core) fn propose(&mut self, id: ProposalId, proposal: Proposal) {
        self.proposals.insert(id, proposal);
    }

    pub(in crate::core) fn take_proposal(&mut self, id: &ProposalId) -> Option<Proposal> {
        self.proposals.remove(id)
    }

    pub(in crate::core) fn activate(&mut self, policy: ActivePolicy) {
        if self.history.len() >= KEPT {
            self.history.pop_front();
        }
        self.history.push_back(policy);
        self.forget_compiled();
    }

    /// Forgets every text: the key that opened them was destroyed.
    pub(in crate::core) fn erase_texts(&mut self) {
        self.history.iter_mut().for_each(|policy| policy.text = None);
        self.proposals.values_mut().for_each(|proposal| proposal.text = None);
        self.forget_compiled();
    }

    /// Takes a change of nodes or users over into what is compiled, at the cost of that change alone.
    pub(in crate::core) fn with_compiled(&mut self, change: impl FnOnce(&mut Compiled)) {
        if let Some(Some(compiled)) = self.compiled.0.get_mut() {
            // A state shares what it compiled with its equal until either of them changes; after that each has its own.
            change(Arc::make_mut(compiled));
        }
    }

    fn forget_compiled(&mut self) {
        self.compiled = CompiledPolicy::default();
    }

    pub(in crate::core) fn compiled(
        &self,
        compile: impl FnOnce(&ActivePolicy) -> Option<Arc<Compiled>>,
    ) -> Option<&Arc<Compiled>> {
        self.compiled.0.get_or_init(|| self.active().and_then(compile)).as_ref()
    }

    /// Takes over what another state, equal to this one, has compiled already.
    pub(in crate::core) fn adopt_compiled(&self, other: &Self) {
        if let Some(compiled) = other.compiled.0.get() {
            let _ = self.compiled.0.set(compiled.clone());
        }
    }
}
