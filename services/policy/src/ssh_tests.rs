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
    let src = Token { text: document.string(src)?.trim(), offset: src.start };
    if src.is_empty() {
        let message = "SSH tests entry must have a non-empty src";
        return Err(failed(document.refuse(src.offset, message)));
    }
    let src = names.selector(document, src, &format!("src={:?}", src.text)).map_err(failed)?;
    let destinations = document.strings(fields.required("dst").map_err(failed)?)?;
    if destinations.is_empty() {
        return Err(failed(document.refuse(entry.start, "SSH tests entry must have at least one dst")));
    }
    let read = |token: &Token<'_>| read_destination(document, names, *token).map_err(failed);
    let dst = destinations.iter().map(read).collect::<Result<_, _>>()?;
    let users = |key: &str| match fields.get(key) {
        Some(value) => {
            Ok(document.strings(value)?.iter().map(|token| token.text.trim().to_owned()).collect())
        }
        None => Ok(Vec::new()),
    };
    let test = SshTest { src, dst, accept: users("accept")?, check: users("check")?, deny: users("deny")? };
    if test.accept.is_empty() && test.check.is_empty() && test.deny.is_empty() {
        let message = "an SSH test needs users in \"accept\", \"check\" or \"deny\"";
        return Err(failed(document.refuse(entry.start, message)));
    }
    Ok(test)
}

/// Reads a destination: one host, or all nodes of a name.
fn read_destination(
    document: &Document<'_>,
    names: &Names,
    token: Token<'_>,
) -> Result<Selector, PolicyError> {
    let refuse = |what: &str| {
        Err(document.refuse(token.offset, format!("SSH tests dst contains {what} {:?}", token.text)))
    };
    let name = token.text.trim();
    if matches!(name, "*" | "autogroup:internet" | "autogroup:danger-all") {
        return refuse("disallowed element");
    }
    if name.starts_with("tag:") && !names.tag_owners.contains_key(name) {
        return refuse("unknown tag");
    }
    // Tailscale takes the colons of a bare IPv6 address for something else, and fails the test.
    if name.parse::<Ipv6Addr>().is_ok() {
        let message = format!("dst={name:?}: an IPv6 address cannot stand here");
        return Err(document.refuse(token.offset, message).with_help("name the node's tag, user or host"));
    }
    let selector = names.selector(document, token, &format!("dst={:?}", token.text))?;
    let is_wide = match &selector.kind {
        SelectorKind::Addresses(addresses) => !addresses.is_one_address(),
        SelectorKind::Host(host) => !names.host(host).is_one_address(),
        _ => false,
    };
    if is_wide { refuse("disallowed element") } else { Ok(selector) }
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
                // Whose own nodes are meant is clear only if the source is one user.
                let is_meant = match dst.kind {
                    SelectorKind::Autogroup(Autogroup::Own) => {
                        matches!(src.kind, SelectorKind::User(_))
                            && matches!(source.identity, Identity::User(_))
                            && source.identity == target.identity
                    }
                    _ => self.names_node(dst, target),
                };
                if !is_meant {
                    continue;
                }
                let grants = self.ssh(&target.id);
                let fits = |grant: &&crate::ssh::SshGrant| {
                    grant.principals.iter().any(|address| source.addresses.contains(address))
                        && !user.is_empty()
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
