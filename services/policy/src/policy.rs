//! A policy as read: names, rules and tests.

use std::collections::BTreeMap;

use crate::auto_approvers::{self, AutoApprovers};
use crate::conditions::{Conditions, Notes};
use crate::document::{Document, Unsupported};
use crate::error::PolicyError;
use crate::hujson::Member;
use crate::node_attrs::{self, NodeAttrs};
use crate::posture::Postures;
use crate::rules::{self, Rule, RuleRef, Section};
use crate::selector::{self, Autogroup, Names, Selector, SelectorKind, UserName, is_user_name};
use crate::ssh::{self, SshRule};
use crate::ssh_tests::{self, SshTest};
use crate::tests_section::{self, PolicyTest};

/// Sections of a policy file that are read.
const SECTIONS: [&str; 9] = [
    "groups",
    "tagOwners",
    "hosts",
    "postures",
    "defaultSrcPosture",
    "acls",
    "grants",
    "autoApprovers",
    "tests",
];

/// Sections that the engine understands and the product does not enforce.
const UNDERSTOOD: [&str; 4] = ["ssh", "sshTests", "nodeAttrs", "randomizeClientPort"];

/// Sections that Tailscale's or Headscale's files may have and that are refused by name.
const UNSUPPORTED: [&str; 6] =
    ["ipsets", "derpMap", "disableIPv4", "OneCGNATRoute", "attrConfig", "extraDNSRecords"];

/// What to do about something unsupported.
const REMOVE: &str = "remove it: a policy is refused rather than enforced in part";

/// A policy file that was read and whose names are all defined.
#[derive(Debug)]
pub struct Policy {
    pub(crate) text: String,
    pub(crate) names: Names,
    pub(crate) rules: Vec<Rule>,
    pub(crate) tests: Vec<PolicyTest>,
    pub(crate) ssh: Vec<SshRule>,
    pub(crate) ssh_tests: Vec<SshTest>,
    pub(crate) node_attrs: Vec<NodeAttrs>,
    pub(crate) randomizes_client_port: bool,
    pub(crate) auto_approvers: AutoApprovers,
    postures: usize,
    unsupported: Vec<Unsupported>,
    is_silent: bool,
}

/// How much of each thing a policy has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Rules.
    pub rules: usize,
    /// Those of them that ask for more than who, where and on which ports.
    pub conditional_rules: usize,
    /// Groups.
    pub groups: usize,
    /// Tags.
    pub tags: usize,
    /// Hosts.
    pub hosts: usize,
    /// Postures.
    pub postures: usize,
    /// Tests.
    pub tests: usize,
}

impl Policy {
    /// Reads a policy to be enforced. Whatever this version does not enforce is refused by name, never passed
    /// over.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let policy = Self::read(text, Reach::Enforced)?;
        match policy.unsupported().into_iter().next() {
            Some(refusal) => Err(refusal),
            None => Ok(policy),
        }
    }

    /// Reads all of the language that the engine understands, more than the product enforces, and passes over sections that it
    /// knows by name only: for looking at files, never for activating them. [`Policy::unsupported`] says what stands between the two.
    pub fn parse_full(text: &str) -> Result<Self, PolicyError> {
        Self::read(text, Reach::Understood)
    }

    fn read(text: &str, reach: Reach) -> Result<Self, PolicyError> {
        let document = Document::parse(text)?;
        let members = document.object(document.root())?;
        for (index, member) in members.iter().enumerate() {
            check_section(&document, member, reach)?;
            rules::check_not_repeated(&document, members, index)?;
        }
        let section = |name: &str| rules::member(members, name).map(|member| &member.value);
        let names = read_names(&document, section)?;
        let mut rules = Vec::new();
        let postures = Postures::read(&document, section("postures"), section("defaultSrcPosture"))?;
        for kind in [Section::Acls, Section::Grants] {
            if let Some(value) = section(kind.key()) {
                rules.extend(rules::read(&document, &names, &postures, kind, value)?);
            }
        }
        document.check_directives()?;
        rules.iter_mut().enumerate().for_each(|(position, rule)| rule.position = position);
        let tests = match section("tests") {
            Some(value) => tests_section::read(&document, &names, value)?,
            None => Vec::new(),
        };
        let ssh = match section("ssh") {
            Some(value) => ssh::read(&document, &names, value)?,
            None => Vec::new(),
        };
        let ssh_tests = match section("sshTests") {
            Some(value) => ssh_tests::read(&document, &names, value)?,
            None => Vec::new(),
        };
        let node_attrs = match section("nodeAttrs") {
            Some(value) => node_attrs::read(&document, &names, value)?,
            None => Vec::new(),
        };
        let randomizes_client_port = match section("randomizeClientPort") {
            Some(value) => document.boolean(value)?,
            None => false,
        };
        let auto_approvers = match section("autoApprovers") {
            Some(value) => auto_approvers::read(&document, &names, value)?,
            None => AutoApprovers::default(),
        };
        let is_silent = section("acls").is_none() && section("grants").is_none();
        let unsupported = document.into_unsupported();
        Ok(Self {
            text: text.to_owned(),
            names,
            rules,
            tests,
            ssh,
            ssh_tests,
            node_attrs,
            randomizes_client_port,
            auto_approvers,
            postures: postures.len(),
            unsupported,
            is_silent,
        })
    }

    /// What the file asks for and the product does not enforce, in order of the text; at most a hundred.
    pub fn unsupported(&self) -> Vec<PolicyError> {
        let Ok(document) = Document::parse(&self.text) else { return Vec::new() };
        let refuse = |unsupported: &Unsupported| {
            document.refuse(unsupported.offset, unsupported.what.as_str()).with_help(REMOVE)
        };
        self.unsupported.iter().take(100).map(refuse).collect()
    }

    /// The text that was read, byte for byte.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the file has neither `acls` nor `grants`. To Tailscale that means *allow everything*, and so
    /// it does here: whoever activates a policy must refuse such a file unless it is told in so many words.
    pub fn allows_everything_by_silence(&self) -> bool {
        self.is_silent
    }

    /// Number of rules.
    pub fn rule_count(&self) -> usize {
        self.rules.len()
    }

    /// How much of each thing the file has.
    pub fn summary(&self) -> Summary {
        Summary {
            rules: self.rules.len(),
            conditional_rules: self.rules.iter().filter(|rule| rule.conditions.is_some()).count(),
            groups: self.names.groups.len(),
            tags: self.names.tag_owners.len(),
            hosts: self.names.hosts.len(),
            postures: self.postures,
            tests: self.tests.len(),
        }
    }

    /// Number of tests that the file carries.
    pub fn test_count(&self) -> usize {
        self.tests.len()
    }

    /// What a rule asks for besides who, where and on which ports; nothing if that is nothing.
    pub fn conditions(&self, rule: RuleRef) -> Option<&Conditions> {
        self.rule(rule).and_then(|rule| rule.conditions.as_deref())
    }

    /// What is written down about a rule.
    pub fn notes(&self, rule: RuleRef) -> Option<&Notes> {
        self.rule(rule).map(|rule| &rule.notes)
    }

    /// Whether the rules say the same as another policy's, and the hosts that they name.
    pub(crate) fn has_rules_of(&self, other: &Policy) -> bool {
        self.names.hosts == other.names.hosts
            && self.is_silent == other.is_silent
            && self.rules.len() == other.rules.len()
            && self.rules.iter().zip(&other.rules).all(|(rule, other)| rule.says_the_same(other))
    }

    fn rule(&self, at: RuleRef) -> Option<&Rule> {
        let found = self.rules.binary_search_by(|rule| rule.at.cmp(&at)).ok()?;
        self.rules.get(found)
    }

    /// The tags that the policy defines.
    pub fn tags(&self) -> impl Iterator<Item = &str> {
        self.names.tag_owners.keys().map(String::as_str)
    }

    /// A refusal of what stands at a byte of the text, after reading.
    pub(crate) fn refuse(&self, offset: usize, message: impl Into<String>) -> PolicyError {
        match Document::parse(&self.text) {
            Ok(document) => document.refuse(offset, message),
            Err(error) => error,
        }
    }
}

/// How much of the language is taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    Enforced,
    Understood,
}

fn check_section(document: &Document<'_>, member: &Member, reach: Reach) -> Result<(), PolicyError> {
    let key = member.key.as_str();
    let is_of = |known: &[&str]| known.iter().any(|name| name.eq_ignore_ascii_case(key));
    if is_of(&SECTIONS) {
        return Ok(());
    }
    let message = format!("the section {key:?} is not supported");
    if (is_of(&UNDERSTOOD) || is_of(&UNSUPPORTED)) && reach == Reach::Understood {
        document.note_unsupported(member.key_start, message);
        return Ok(());
    }
    if is_of(&UNDERSTOOD) || is_of(&UNSUPPORTED) {
        return Err(document.refuse(member.key_start, message).with_help(REMOVE));
    }
    Err(document.unknown_key(member, SECTIONS))
}

fn read_names<'v>(
    document: &Document<'_>,
    section: impl Fn(&str) -> Option<&'v crate::hujson::Value>,
) -> Result<Names, PolicyError> {
    let mut names = Names::default();
    if let Some(value) = section("groups") {
        names.groups = read_groups(document, document.object(value)?)?;
    }
    if let Some(value) = section("hosts") {
        for member in document.object(value)? {
            check_host_name(document, member)?;
            let text = document.string(&member.value)?;
            let net = selector::parse_prefix(text).map_err(|m| document.refuse(member.value.start, m))?;
            names.hosts.insert(member.key.clone(), net);
        }
    }
    if let Some(value) = section("tagOwners") {
        let members = document.object(value)?;
        // Tags may own tags, so all are known before any owner is read.
        for member in members {
            check_tag_name(document, member)?;
            names.tag_owners.insert(member.key.clone(), Vec::new());
        }
        for member in members {
            let owners = read_owners(document, &names, member)?;
            names.tag_owners.insert(member.key.clone(), owners);
        }
        check_tag_cycles(document, &names, members)?;
    }
    Ok(names)
}

fn read_groups(
    document: &Document<'_>,
    members: &[Member],
) -> Result<BTreeMap<String, Vec<UserName>>, PolicyError> {
    let mut groups = BTreeMap::new();
    for group in members {
        if group.key.strip_prefix("group:").is_none_or(str::is_empty) {
            let message = format!("groups[{:?}]: group names must start with 'group:'", group.key);
            return Err(document.refuse(group.key_start, message));
        }
        let mut users = Vec::new();
        for token in document.strings(&group.value)? {
            if token.starts_with("group:") {
                // Of a chain of groups the last link is named, which has to go first.
                if let Some(inner) =
                    members.iter().find(|inner| inner.key == token.text && inner.key != group.key)
                    && let Some(error) = nested_group(document, inner)?
                {
                    return Err(error);
                }
                let message =
                    format!("groups[{:?}]: {:?}: group members cannot be recursive", group.key, token.text);
                return Err(document.refuse(token.offset, message));
            }
            if !is_user_name(token.text) {
                let message = format!("groups[{:?}]: {:?} is not a user", group.key, token.text);
                return Err(document
                    .refuse(token.offset, message)
                    .with_help("a user is named by login, with an '@'"));
            }
            users.push(UserName { text: token.text.to_owned(), offset: token.offset });
        }
        groups.insert(group.key.clone(), users);
    }
    Ok(groups)
}

/// The refusal of a group that holds a group, if it does.
fn nested_group(document: &Document<'_>, group: &Member) -> Result<Option<PolicyError>, PolicyError> {
    let nested = document.strings(&group.value)?.into_iter().find(|token| token.starts_with("group:"));
    Ok(nested.map(|token| {
        let message = format!("groups[{:?}]: {:?}: group members cannot be recursive", group.key, token.text);
        document.refuse(token.offset, message)
    }))
}

fn check_host_name(document: &Document<'_>, member: &Member) -> Result<(), PolicyError> {
    let name = &member.key;
    let is_plain = name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if is_plain && selector::parse_prefix(name).is_err() {
        return Ok(());
    }
    let message =
        format!("hosts[{name:?}]: a host name has letters, digits, '-', '_' and '.', and is no address");
    Err(document.refuse(member.key_start, message))
}

fn check_tag_name(document: &Document<'_>, member: &Member) -> Result<(), PolicyError> {
    let refuse = |message: &str| {
        Err(document.refuse(member.key_start, format!("tagOwners[{:?}]: {message}", member.key)))
    };
    let Some(name) = member.key.strip_prefix("tag:") else {
        return refuse("tag names must start with 'tag:'");
    };
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return refuse("tag names must start with a letter, after 'tag:'");
    }
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return refuse("tag names can only contain letters, numbers, or dashes");
    }
    Ok(())
}

fn read_owners(document: &Document<'_>, names: &Names, tag: &Member) -> Result<Vec<Selector>, PolicyError> {
    let mut owners = Vec::new();
    for token in document.strings(&tag.value)? {
        let entry = format!("tagOwners[{:?}]", tag.key);
        let owner = names.selector(document, token, &entry);
        let is_owner = match owner.as_ref().map(|owner| &owner.kind) {
            Ok(SelectorKind::Autogroup(autogroup)) => autogroup.is_role() || *autogroup == Autogroup::Member,
            Ok(SelectorKind::Group(_) | SelectorKind::Tag(_) | SelectorKind::User(_)) => true,
            Ok(_) => false,
            Err(_) => true,
        };
        if !is_owner {
            let message = format!("{entry}: {:?} cannot own a tag here", token.text);
            return Err(document
                .refuse(token.offset, message)
                .with_help("owners are users, groups and tags"));
        }
        owners.push(owner?);
    }
    Ok(owners)
}

/// Refuses tags that own each other in a circle: nobody could be said to own them. A tag may own itself,
/// which says nothing.
fn check_tag_cycles(document: &Document<'_>, names: &Names, tags: &[Member]) -> Result<(), PolicyError> {
    // Tags are peeled off once all tags among their owners are; what cannot be peeled off is in or behind a
    // circle.
    let mut waiting: BTreeMap<&str, usize> = BTreeMap::new();
    let mut owned: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (tag, owners) in &names.tag_owners {
        let owners = owners.iter().map(|owner| owner.text.as_str());
        let tags = owners.filter(|owner| owner.starts_with("tag:") && owner != tag);
        waiting.insert(tag, 0);
        for owner in tags {
            *waiting.entry(tag).or_default() += 1;
            owned.entry(owner).or_default().push(tag);
        }
    }
    let mut settled: Vec<&str> =
        waiting.iter().filter(|(_, count)| **count == 0).map(|(tag, _)| *tag).collect();
    while let Some(tag) = settled.pop() {
        waiting.remove(tag);
        for next in owned.get(tag).into_iter().flatten() {
            if let Some(count) = waiting.get_mut(next) {
                *count -= 1;
                if *count == 0 {
                    settled.push(next);
                }
            }
        }
    }
    match tags.iter().find(|tag| waiting.contains_key(tag.key.as_str())) {
        None => Ok(()),
        Some(tag) => Err(document
            .refuse(tag.key_start, format!("tagOwners[{:?}]: tags own each other in a circle", tag.key))),
    }
}
