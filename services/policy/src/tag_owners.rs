//! Who may put which tag on a node.

use std::collections::BTreeSet;

use writ_schema::UserId;

use crate::compile::Compiled;
use crate::selector::{Autogroup, SelectorKind};

impl Compiled {
    /// Whether a user owns a tag: by name, through a group, or by owning a tag that owns it.
    pub fn may_tag(&self, user: &UserId, tag: &str) -> bool {
        let Some(user) = self.users.find(user.as_str()) else { return false };
        let mut waiting = vec![tag];
        let mut seen = BTreeSet::new();
        while let Some(tag) = waiting.pop() {
            if !seen.insert(tag) {
                continue;
            }
            for owner in self.policy.names.tag_owners.get(tag).into_iter().flatten() {
                let owns = match &owner.kind {
                    SelectorKind::User(name) => self.users.find(name) == Some(user),
                    SelectorKind::Group(group) => self.users.is_member(user, group),
                    SelectorKind::Autogroup(Autogroup::Member) => true,
                    SelectorKind::Autogroup(Autogroup::Role(role)) => self.users.has_role(user, *role),
                    SelectorKind::Tag(owning) => {
                        waiting.push(owning);
                        false
                    }
                    _ => false,
                };
                if owns {
                    return true;
                }
            }
        }
        false
    }
}
