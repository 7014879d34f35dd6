//! The `ssh` section: who may log in where, as which local user.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;
use writ_schema::NodeId;

use crate::compile::Compiled;
use crate::document::{Document, Token};
use crate::duration;
use crate::error::PolicyError;
use crate::hujson::{Kind, Value};
use crate::nodes::Node;
use crate::rules::Fields;
use crate::selector::{Autogroup, Names, Selector, SelectorKind};

/// One rule of the section.
#[derive(Debug)]
pub(crate) struct SshRule {
    pub(crate) action: SshAction,
    pub(crate) src: Vec<Selector>,
    pub(crate) dst: Vec<Selector>,
    pub(crate) users: Vec<LocalUser>,
    pub(crate) accept_env: Vec<String>,
}

/// What a rule does with a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SshAction {
    /// Ask the user to sign in again first.
    Check,
    /// Let it in.
    Accept,
}

/// A local user that a rule lets log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LocalUser {
    /// `autogroup:nonroot`: any but root.
    NonRoot,
    /// `localpart:*@domain`: the one named as the login is before the `@`.
    LocalPart {
        domain: String,
        offset: usize,
    },
    Named(String),
}

/// What a node's SSH server is told about one address that may log in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SshGrant {
    /// What is done with the login.
    pub action: SshAction,
    /// From which addresses.
    pub principals: Vec<IpAddr>,
    /// Local users: `*` to `=` means any by its own name; root to nothing means never root.
    pub users: BTreeMap<String, String>,
    /// Patterns of environment variables that are taken over.
    pub accept_env: Vec<String>,
}

/// Longest time between two checks.
const MAX_CHECK_PERIOD_HOURS: u64 = 168;

pub(crate) fn read(
    document: &Document<'_>,
    names: &Names,
    value: &Value,
) -> Result<Vec<SshRule>, PolicyError> {
    document.array(value)?.iter().map(|entry| read_rule(document, names, entry)).collect()
}

fn read_rule(document: &Document<'_>, names: &Names, entry: &Value) -> Result<SshRule, PolicyError> {
    let fields =
        Fields::read(document, entry, &["action", "src", "dst", "users", "checkPeriod", "acceptEnv"])?;
    let action = read_action(document, entry, fields.get("action"))?;
    if let Some(value) = fields.get("checkPeriod") {
        if action != SshAction::Check {
            return Err(document.refuse(value.start, "checkPeriod is only valid with action \"check\""));
        }
        check_period(document, value)?;
    }
    let rule = SshRule {
        action,
        src: read_selectors(document, names, fields.get("src"), "src", is_ssh_source)?,
        dst: read_selectors(document, names, fields.get("dst"), "dst", is_ssh_destination)?,
        users: read_users(document, entry, fields.get("users"))?,
        accept_env: read_accept_env(document, fields.get("acceptEnv"))?,
    };
    check_ends(document, &rule)?;
    Ok(rule)
}

fn read_action(
    document: &Document<'_>,
    entry: &Value,
    value: Option<&Value>,
) -> Result<SshAction, PolicyError> {
    let Some(value) = value else { return Err(document.refuse(entry.start, "action must be specified")) };
    match document.string(value)?.trim() {
        "accept" => Ok(SshAction::Accept),
        "check" => Ok(SshAction::Check),
        "" => Err(document.refuse(value.start, "action must be specified")),
        other => Err(document
            .refuse(value.start, format!("{other:?} is not a valid action"))
            .with_help("the actions are \"accept\" and \"check\"")),
    }
}

fn check_period(document: &Document<'_>, value: &Value) -> Result<(), PolicyError> {
    let text = document.string(value)?;
    if text == "always" || text.is_empty() {
        return Ok(());
    }
    let period = match text.strip_prefix('-') {
        Some(positive) if duration::parse(positive).is_ok() => {
            let message = format!("checkPeriod {text} must be a positive duration");
            return Err(document.refuse(value.start, message));
        }
        _ => duration::parse(text.strip_prefix('+').unwrap_or(text)),
    };
    let period = period.map_err(|message| document.refuse(value.start, message))?;
    if period > duration::hours(MAX_CHECK_PERIOD_HOURS) {
        let shown = duration::text(period);
        let message = format!("checkPeriod {shown} is above the max ({MAX_CHECK_PERIOD_HOURS}h)");
        return Err(document.refuse(value.start, message));
    }
    Ok(())
}

fn read_selectors(
    document: &Document<'_>,
    names: &Names,
    value: Option<&Value>,
    side: &str,
    is_fit: fn(&Selector) -> bool,
) -> Result<Vec<Selector>, PolicyError> {
    let Some(value) = value else { return Ok(Vec::new()) };
    let mut selectors = Vec::new();
    for token in document.strings(value)? {
        let token = Token { text: token.text.trim(), offset: token.offset };
        let selector = names.selector(document, token, &format!("{side}={:?}", token.text))?;
        if !is_fit(&selector) {
            return Err(document.refuse(token.offset, format!("invalid {side} {:?}", token.text)));
        }
        selectors.push(selector);
    }
    Ok(selectors)
}

fn is_ssh_source(selector: &Selector) -> bool {
    use Autogroup::{Member, Tagged};
    match &selector.kind {
        SelectorKind::User(_) | SelectorKind::Domain(_) | SelectorKind::Group(_) | SelectorKind::Tag(_) => {
            true
        }
        SelectorKind::Autogroup(autogroup) => matches!(autogroup, Member | Tagged) || autogroup.is_role(),
        SelectorKind::Any | SelectorKind::Host(_) | SelectorKind::Addresses(_) => false,
    }
}

fn is_ssh_destination(selector: &Selector) -> bool {
    use Autogroup::{Member, Own, Tagged};
    match &selector.kind {
        SelectorKind::User(_) | SelectorKind::Tag(_) => true,
        SelectorKind::Autogroup(autogroup) => matches!(autogroup, Member | Own | Tagged),
        _ => false,
    }
}

fn read_users(
    document: &Document<'_>,
    entry: &Value,
    value: Option<&Value>,
) -> Result<Vec<LocalUser>, PolicyError> {
    let refuse = |offset: usize| document.refuse(offset, "users must be specified");
    let value = value.ok_or_else(|| refuse(entry.start))?;
    if matches!(value.kind, Kind::Null) {
        return Err(refuse(value.start));
    }
    let tokens = document.strings(value)?;
    if tokens.is_empty() {
        return Err(refuse(value.start));
    }
    tokens.into_iter().map(|token| read_user(document, token)).collect()
}

fn read_user(document: &Document<'_>, token: Token<'_>) -> Result<LocalUser, PolicyError> {
    match token.text.trim() {
        user @ ("" | "*") => Err(document.refuse(token.offset, format!("user {user:?} is not valid"))),
        "autogroup:nonroot" => Ok(LocalUser::NonRoot),
        text => Ok(match text.strip_prefix("localpart:*@") {
            Some(domain) if !domain.is_empty() => {
                LocalUser::LocalPart { domain: domain.to_owned(), offset: token.offset }
            }
            _ => LocalUser::Named(text.to_owned()),
        }),
    }
}

fn read_accept_env(document: &Document<'_>, value: Option<&Value>) -> Result<Vec<String>, PolicyError> {
    let Some(value) = value else { return Ok(Vec::new()) };
    let tokens = document.strings(value)?;
    if let Some(empty) = tokens.iter().find(|token| token.is_empty()) {
        return Err(document.refuse(empty.offset, "acceptEnv values cannot be empty"));
    }
    Ok(tokens.iter().map(|token| token.text.to_owned()).collect())
}

/// A person's node is entered by that person only.
fn check_ends(document: &Document<'_>, rule: &SshRule) -> Result<(), PolicyError> {
    let is_tag =
        |s: &&Selector| matches!(s.kind, SelectorKind::Tag(_) | SelectorKind::Autogroup(Autogroup::Tagged));
    let personal = |s: &&Selector| {
        matches!(s.kind, SelectorKind::User(_) | SelectorKind::Autogroup(Autogroup::Own | Autogroup::Member))
    };
    if let (Some(dst), Some(_)) = (rule.dst.iter().find(personal), rule.src.iter().find(is_tag)) {
        return Err(document.refuse(dst.offset, "tags in src cannot access user-owned devices"));
    }
    let users = rule.dst.iter().filter(|dst| matches!(dst.kind, SelectorKind::User(_)));
    for dst in users {
        if !rule.src.iter().all(|src| src.kind == dst.kind) {
            return Err(document.refuse(dst.offset, "users in dst are only allowed from the same user"));
        }
    }
    Ok(())
}

impl Compiled {
    /// Who may log in to a node over SSH: checks before acceptances, else in order of the file. The first
    /// that fits counts.
    pub fn ssh(&self, node: &NodeId) -> Vec<SshGrant> {
        let Some(node) = self.node(node) else { return Vec::new() };
        let mut rules: Vec<&SshRule> = self.policy.ssh.iter().collect();
        rules.sort_by_key(|rule| rule.action);
        rules.into_iter().flat_map(|rule| self.ssh_grants(rule, node)).collect()
    }

    fn ssh_grants(&self, rule: &SshRule, node: &Node) -> Vec<SshGrant> {
        let sources: Vec<&Node> =
            self.nodes.iter().filter(|source| self.may_log_in(rule, source, node)).collect();
        let has_local_part = rule.users.iter().any(|user| matches!(user, LocalUser::LocalPart { .. }));
        let grant = |principals: Vec<IpAddr>, users: BTreeMap<String, String>| SshGrant {
            action: rule.action,
            principals,
            users,
            accept_env: rule.accept_env.clone(),
        };
        let addresses = |nodes: &[&Node]| {
            let mut all: Vec<IpAddr> = nodes.iter().flat_map(|node| node.addresses.iter().copied()).collect();
            all.sort();
            all
        };
        if sources.is_empty() {
            return Vec::new();
        }
        if !has_local_part {
            return vec![grant(addresses(&sources), common_users(&rule.users))];
        }
        // Each person has another local part, so each gets rules of their own.
        let mut grants = Vec::new();
        let mut by_user: BTreeMap<Option<usize>, Vec<&Node>> = BTreeMap::new();
        for source in sources {
            by_user.entry(source.identity.user()).or_default().push(source);
        }
        for (user, nodes) in by_user {
            grants.push(grant(addresses(&nodes), common_users(&rule.users)));
            let local = user.and_then(|user| self.local_part(rule, user));
            grants.extend(
                local.map(|local| grant(addresses(&nodes), BTreeMap::from([(local.clone(), local)]))),
            );
        }
        grants
    }

    /// Whether a rule lets the one node log in to the other. A rule that names local parts also lets everyone
    /// it names log in between nodes of their own.
    fn may_log_in(&self, rule: &SshRule, source: &Node, node: &Node) -> bool {
        if !rule.src.iter().any(|selector| self.names_node(selector, source)) {
            return false;
        }
        let is_same = source.is_of_same_user(node);
        let has_local_part = rule.users.iter().any(|user| matches!(user, LocalUser::LocalPart { .. }));
        (has_local_part && (is_same || source.id == node.id))
            || rule.dst.iter().any(|dst| match dst.kind {
                SelectorKind::Autogroup(Autogroup::Own) => is_same,
                _ => self.names_node(dst, node),
            })
    }

    /// The part of a user's login before the `@`, if the rule names the domain behind it.
    fn local_part(&self, rule: &SshRule, user: usize) -> Option<String> {
        let (local, own_domain) = self.users.name(user).rsplit_once('@')?;
        let is_named =
            |user: &LocalUser| matches!(user, LocalUser::LocalPart { domain, .. } if domain == own_domain);
        rule.users.iter().any(is_named).then(|| local.to_owned())
    }
}

/// The local users that a rule names for everyone. Root is ruled out in so many words unless named.
fn common_users(users: &[LocalUser]) -> BTreeMap<String, String> {
    let mut map = BTreeMap::from([("root".to_owned(), String::new())]);
    for user in users {
        match user {
            LocalUser::NonRoot => drop(map.insert("*".to_owned(), "=".to_owned())),
            LocalUser::Named(name) => drop(map.insert(name.clone(), name.clone())),
            LocalUser::LocalPart { .. } => {}
        }
    }
    map
}
