//! The `sshTests` section: what the `ssh` section promises about itself.

use std::net::Ipv6Addr;

use crate::compile::Compiled;
use crate::document::{Document, Token};
use crate::error::PolicyError;
use crate::hujson::Value;
use crate::nodes::Identity;
use crate::rules::Fields;
use crate::selector::{Autogroup, Names, Selector, SelectorKind};
use crate::ssh::SshAction;

/// One promise: from this source, logins at these destinations are let in, asked to sign in again, or
/// refused.
#[derive(Debug)]
pub(crate) struct SshTest {
    pub(crate) src: Selector,
    pub(crate) dst: Vec<Selector>,
    pub(crate) accept: Vec<String>,
    pub(crate) check: Vec<String>,
    pub(crate) deny: Vec<String>,
}

pub(crate) fn read(
    document: &Document<'_>,
    names: &Names,
    value: &Value,
) -> Result<Vec<SshTest>, PolicyError> {
    document.array(value)?.iter().map(|entry| read_test(document, names, entry)).collect()
}

fn read_test(document: &Document<'_>, names: &Names, entry: &Value) -> Result<SshTest, PolicyError> {
    let fields = Fields::read(document, entry, &["src", "dst", "accept", "check", "deny"])?;
    let failed = |error: PolicyError| error.prefixed("test(s) failed");
    let src = fields.required("src").map_err(failed)?;
    let src = Token { text: document.string(src)?, offset: src.start };
    let src = names.selector(document, src, &format!("src={:?}", src.text)).map_err(failed)?;
    let mut dst = Vec::new();
    for token in document.strings(fields.required("dst").map_err(failed)?)? {
        if matches!(token.text, "*" | "autogroup:internet" | "autogroup:danger-all") {
            let message = format!("SSH tests dst contains disallowed element {:?}", token.text);
            return Err(document.refuse(token.offset, message));
        }
        // Tailscale takes the colons of a bare IPv6 address for something else, and fails the test.
        if token.parse::<Ipv6Addr>().is_ok() {
            let message = format!("test(s) failed: dst={:?}: an IPv6 address cannot stand here", token.text);
            return Err(document
                .refuse(token.offset, message)
                .with_help("name the node's tag, user or host"));
        }
        dst.push(names.selector(document, token, &format!("dst={:?}", token.text)).map_err(failed)?);
    }
    let users = |key: &str| match fields.get(key) {
        Some(value) => Ok(document.strings(value)?.iter().map(|token| token.text.to_owned()).collect()),
        None => Ok(Vec::new()),
    };
    Ok(SshTest { src, dst, accept: users("accept")?, check: users("check")?, deny: users("deny")? })
}

impl Compiled {
    /// Runs the policy's SSH tests against its nodes; each failure in words.
    pub fn run_ssh_tests(&self) -> Vec<String> {
        let tests = self.policy.ssh_tests.iter().enumerate();
        tests.flat_map(|(index, test)| self.ssh_test_failures(index, test)).collect()
    }

    fn ssh_test_failures(&self, index: usize, test: &SshTest) -> Vec<String> {
        let mut failures = Vec::new();
        let promises = [
            (&test.accept, Some(SshAction::Accept)),
            (&test.check, Some(SshAction::Check)),
            (&test.deny, None),
        ];
        for (users, expected) in promises {
            for user in users {
                for dst in &test.dst {
                    let actual = self.ssh_outcomes(&test.src, dst, user);
                    // A login that has to be confirmed is let in all the same.
                    let is_met = |outcome: &Option<SshAction>| match expected {
                        Some(SshAction::Accept) => outcome.is_some(),
                        other => *outcome == other,
                    };
                    if actual.is_empty() || !actual.iter().all(is_met) {
                        let wanted = match expected {
                            Some(SshAction::Accept) => "accepted",
                            Some(SshAction::Check) => "checked",
                            None => "denied",
                        };
                        failures.push(format!(
                            "sshTests[{index}]: {} -> {user}@{} should be {wanted} and is not",
                            test.src.text, dst.text
                        ));
                    }
                }
            }
        }
        failures
    }

    /// What becomes of a login as a local user, for every pair of nodes that the two selectors name.
    fn ssh_outcomes(&self, src: &Selector, dst: &Selector, user: &str) -> Vec<Option<SshAction>> {
        let mut outcomes = Vec::new();
        for source in self.nodes.iter().filter(|node| self.names_node(src, node)) {
            for target in self.nodes.iter() {
                let is_meant = match dst.kind {
                    SelectorKind::Autogroup(Autogroup::Own) => {
                        matches!(source.identity, Identity::User(_)) && source.identity == target.identity
                    }
                    _ => self.names_node(dst, target),
                };
                if !is_meant {
                    continue;
                }
                let grants = self.ssh(&target.id);
                let fits = |grant: &&crate::ssh::SshGrant| {
                    grant.principals.iter().any(|address| source.addresses.contains(address))
                        && match grant.users.get(user).or_else(|| grant.users.get("*")) {
                            Some(local) => !local.is_empty(),
                            None => false,
                        }
                };
                outcomes.push(grants.iter().find(fits).map(|grant| grant.action));
            }
        }
        outcomes
    }
}
