//! The users that a policy's names can mean.

use std::collections::{BTreeSet, HashMap};

use crate::error::PolicyError;
use writ_schema::UserId;

use crate::inventory::{Inventory, InventoryUser, Role, Roles};
use crate::policy::Policy;
use crate::selector::{Autogroup, Names, Selector, SelectorKind, UserName};
use crate::ssh::LocalUser;

/// The users that names can mean.
#[derive(Debug, Clone, Default)]
pub(crate) struct Users {
    by_name: HashMap<String, usize>,
    names: Vec<String>,
    ids: Vec<UserId>,
    roles: BTreeSet<(Role, usize)>,
    groups: HashMap<String, BTreeSet<usize>>,
}

impl Users {
    pub(crate) fn new(inventory: &Inventory, roles: &Roles) -> Self {
        let mut users = Users::default();
        for user in &inventory.users {
            users.add(user);
        }
        let named = roles.iter().flat_map(|(role, ids)| ids.iter().map(move |id| (*role, id)));
        users.roles =
            named.filter_map(|(role, id)| users.find(id.as_str()).map(|user| (role, user))).collect();
        users
    }

    fn add(&mut self, user: &InventoryUser) -> usize {
        let index = self.names.len();
        self.by_name.insert(user.id.to_string(), index);
        self.by_name.insert(user.login.clone(), index);
        self.names.push(user.login.clone());
        self.ids.push(user.id.clone());
        index
    }

    /// Adds a user, unless the user is there already, and to the groups that name the user.
    pub(crate) fn insert(&mut self, user: &InventoryUser, names: &Names) -> Option<usize> {
        if self.find(user.id.as_str()).is_some() {
            return None;
        }
        let index = self.add(user);
        for (group, members) in &names.groups {
            if members.iter().any(|name| self.find(&name.text) == Some(index)) {
                self.groups.entry(group.clone()).or_default().insert(index);
            }
        }
        Some(index)
    }

    /// Takes over who is in the policy's groups.
    pub(crate) fn with_groups(self, names: &Names) -> Self {
        self.regrouped(names).0
    }

    /// Takes over who is in the policy's groups, and says who came into one or left one.
    pub(crate) fn regrouped(mut self, names: &Names) -> (Self, BTreeSet<usize>) {
        let resolve = |(group, members): (&String, &Vec<UserName>)| {
            (group.clone(), members.iter().filter_map(|name| self.find(&name.text)).collect())
        };
        let groups: HashMap<String, BTreeSet<usize>> = names.groups.iter().map(resolve).collect();
        let none = BTreeSet::new();
        let all: BTreeSet<&String> = groups.keys().chain(self.groups.keys()).collect();
        let changed = all.into_iter().flat_map(|group| {
            let (before, after) =
                (self.groups.get(group).unwrap_or(&none), groups.get(group).unwrap_or(&none));
            before.symmetric_difference(after).copied().collect::<Vec<_>>()
        });
        let changed = changed.collect();
        self.groups = groups;
        (self, changed)
    }

    /// Whether a selector names the nodes of a user by whose they are.
    pub(crate) fn is_named(&self, user: usize, selector: &Selector) -> bool {
        match &selector.kind {
            SelectorKind::User(name) => self.find(name) == Some(user),
            SelectorKind::Group(group) => self.is_member(user, group),
            SelectorKind::Domain(domain) => self.is_of_domain(user, domain),
            SelectorKind::Autogroup(Autogroup::Role(role)) => self.has_role(user, *role),
            _ => false,
        }
    }

    /// The identifier of a user by position.
    pub(crate) fn id(&self, user: usize) -> UserId {
        self.ids.get(user).cloned().unwrap_or_else(|| UserId::from_bytes([0; 16]))
    }

    pub(crate) fn is_member(&self, user: usize, group: &str) -> bool {
        self.groups.get(group).is_some_and(|members| members.contains(&user))
    }

    pub(crate) fn members(&self, group: &str) -> impl Iterator<Item = usize> + '_ {
        self.groups.get(group).into_iter().flatten().copied()
    }

    pub(crate) fn with_role(&self, role: Role) -> impl Iterator<Item = usize> {
        self.roles.range((role, 0)..=(role, usize::MAX)).map(|(_, user)| *user)
    }

    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    pub(crate) fn is_of_domain(&self, user: usize, domain: &str) -> bool {
        self.name(user).rsplit_once('@').is_some_and(|(_, own)| own == domain)
    }

    pub(crate) fn has_role(&self, user: usize, role: Role) -> bool {
        self.roles.contains(&(role, user))
    }

    pub(crate) fn name(&self, user: usize) -> &str {
        self.names.get(user).map_or("unknown user", String::as_str)
    }
}

/// Refuses the first user that the policy grants something to, or by, and the inventory does not have. Owners
/// of tags are left out: they say who may tag a node, and nothing is granted to them.
pub(crate) fn check_users(policy: &Policy, users: &Users) -> Result<(), PolicyError> {
    let in_groups = policy.names.groups.values().flatten().map(|name| (name.text.as_str(), name.offset));
    let in_rules =
        policy.rules.iter().flat_map(|rule| rule.src.iter().chain(rule.targets.iter().map(|t| &t.dst)));
    let in_tests = policy.tests.iter().flat_map(|test| {
        std::iter::once(&test.src)
            .chain(test.accept.iter().chain(&test.deny).map(|destination| &destination.dst))
    });
    let in_ssh = policy.ssh.iter().flat_map(|rule| rule.src.iter().chain(&rule.dst));
    let in_ssh_tests = policy.ssh_tests.iter().flat_map(|test| std::iter::once(&test.src).chain(&test.dst));
    let in_attrs = policy.node_attrs.iter().flat_map(|entry| &entry.targets);
    let in_selectors =
        in_rules.chain(in_tests).chain(in_ssh).chain(in_ssh_tests).chain(in_attrs).filter_map(|selector| {
            match &selector.kind {
                SelectorKind::User(name) => Some((name.as_str(), selector.offset)),
                _ => None,
            }
        });
    let unknown = in_groups.chain(in_selectors).filter(|(name, _)| users.find(name).is_none());
    match unknown.min_by_key(|(_, offset)| *offset) {
        None => Ok(()),
        Some((name, offset)) => Err(policy
            .refuse(offset, format!("user not found: {name:?}"))
            .with_nearest(name, users.names.iter().map(String::as_str))),
    }
}

/// Refuses a domain that no user of the inventory has.
pub(crate) fn check_domains(policy: &Policy, users: &Users) -> Result<(), PolicyError> {
    let in_rules =
        policy.rules.iter().flat_map(|rule| rule.src.iter().chain(rule.targets.iter().map(|t| &t.dst)));
    let in_ssh = policy.ssh.iter().flat_map(|rule| rule.src.iter().chain(&rule.dst));
    let selected = in_rules.chain(in_ssh).filter_map(|selector| match &selector.kind {
        SelectorKind::Domain(domain) => Some((domain, selector.offset)),
        _ => None,
    });
    let local = policy.ssh.iter().flat_map(|rule| &rule.users).filter_map(|user| match user {
        LocalUser::LocalPart { domain, offset } => Some((domain, *offset)),
        _ => None,
    });
    let is_known = |domain: &str| (0..users.len()).any(|user| users.is_of_domain(user, domain));
    match selected.chain(local).filter(|(domain, _)| !is_known(domain)).min_by_key(|(_, offset)| *offset) {
        None => Ok(()),
        Some((domain, offset)) => {
            let message = format!(
                "{domain} is not associated with this Tailnet and cannot be used in user:*@<domain> expressions"
            );
            Err(policy.refuse(offset, message))
        }
    }
}
