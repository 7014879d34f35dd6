//! One side of the rules: which lines a node stands on as a source, or as a destination.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use crate::address::AddressSet;
use crate::bits::Bits;
use crate::nodes::{Families, Identity};
use crate::selector::{Autogroup, Names, Selector, SelectorKind};
use crate::users::Users;

/// Which lines a source, or a destination, stands on, indexed by what it may be named by.
#[derive(Debug, Clone)]
pub(crate) struct Side {
    count: usize,
    any: Bits,
    member: Bits,
    tagged: Bits,
    users: HashMap<usize, Vec<usize>>,
    tags: BTreeMap<String, Vec<usize>>,
    literals: Vec<(AddressSet, usize)>,
}

impl Side {
    pub(crate) fn new(count: usize) -> Self {
        Self {
            count,
            any: Bits::new(count),
            member: Bits::new(count),
            tagged: Bits::new(count),
            users: HashMap::new(),
            tags: BTreeMap::new(),
            literals: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, selector: &Selector, line: usize, names: &Names, users: &Users) {
        match &selector.kind {
            SelectorKind::Any => self.any.insert(line),
            SelectorKind::User(name) => self.add_user(name, line, users),
            SelectorKind::Group(group) => {
                users.members(group).for_each(|user| self.users.entry(user).or_default().push(line));
            }
            SelectorKind::Domain(domain) => {
                let members = (0..users.len()).filter(|user| users.is_of_domain(*user, domain));
                members.for_each(|user| self.users.entry(user).or_default().push(line));
            }
            SelectorKind::Autogroup(Autogroup::Role(role)) => {
                users.with_role(*role).for_each(|user| self.users.entry(user).or_default().push(line));
            }
            SelectorKind::Tag(tag) => self.tags.entry(tag.clone()).or_default().push(line),
            SelectorKind::Host(name) => self.literals.push((names.host(name), line)),
            SelectorKind::Addresses(addresses) => self.literals.push((addresses.clone(), line)),
            SelectorKind::Autogroup(Autogroup::Member | Autogroup::Own) => self.member.insert(line),
            SelectorKind::Autogroup(Autogroup::Tagged) => self.tagged.insert(line),
            SelectorKind::Autogroup(Autogroup::DangerAll) => self.any.insert(line),
            SelectorKind::Autogroup(Autogroup::Internet) => {}
        }
    }

    /// Puts everyone on a line.
    pub(crate) fn add_any(&mut self, line: usize) {
        self.any.insert(line);
    }

    /// Replaces the lines that a user stands on by name, group, domain or role.
    pub(crate) fn set_user(&mut self, user: usize, lines: Vec<usize>) {
        match lines.is_empty() {
            true => drop(self.users.remove(&user)),
            false => drop(self.users.insert(user, lines)),
        }
    }

    fn add_user(&mut self, name: &str, line: usize, users: &Users) {
        if let Some(user) = users.find(name) {
            self.users.entry(user).or_default().push(line);
        }
    }

    pub(crate) fn lines(&self, identity: &Identity, addresses: &[IpAddr]) -> Families {
        let mut named = self.any.clone();
        match identity {
            Identity::User(user) => {
                named.extend(&self.member);
                self.users.get(user).into_iter().flatten().for_each(|line| named.insert(*line));
            }
            Identity::Tags(tags) => {
                if !tags.is_empty() {
                    named.extend(&self.tagged);
                }
                for line in tags.iter().filter_map(|tag| self.tags.get(tag)).flatten() {
                    named.insert(*line);
                }
            }
            Identity::Address => {}
        }
        let family = |is_ipv4: bool| {
            let mut own = addresses.iter().filter(|address| address.is_ipv4() == is_ipv4).peekable();
            if own.peek().is_none() {
                return Bits::new(self.count);
            }
            let mut bits = named.clone();
            for (set, line) in &self.literals {
                if own.clone().any(|address| set.contains(*address)) {
                    bits.insert(*line);
                }
            }
            bits
        };
        Families::new(family(true), family(false))
    }
}
