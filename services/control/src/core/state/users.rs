//! People.

use std::collections::BTreeMap;

use writ_schema::{Seq, UserId};

/// A person, by pseudonym.
#[derive(Debug, Clone, PartialEq)]
pub struct User {
    /// The pseudonym.
    pub id: UserId,
    /// Sign-in name; nothing once it was erased.
    pub login: Option<String>,
    /// Name for people; nothing once it was erased.
    pub display_name: Option<String>,
    /// Whether the person has left.
    pub is_disabled: bool,
    /// Whether the person's data was erased.
    pub is_erased: bool,
    /// The record that made the user known.
    pub provisioned: Seq,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::core) struct Users {
    by_id: BTreeMap<UserId, User>,
    /// Logins of active users, in lower case.
    by_login: BTreeMap<String, UserId>,
}

impl Users {
    pub(super) fn all(&self) -> impl Iterator<Item = &User> {
        self.by_id.values()
    }

    pub(super) fn find(&self, id: &UserId) -> Option<&User> {
        self.by_id.get(id)
    }

    pub(super) fn by_login(&self, login: &str) -> Option<&User> {
        self.by_id.get(self.by_login.get(&login.to_lowercase())?)
    }

    pub(in crate::core) fn insert(&mut self, user: User) {
        if let Some(login) = &user.login {
            self.by_login.insert(login.to_lowercase(), user.id.clone());
        }
        self.by_id.insert(user.id.clone(), user);
    }

    pub(in crate::core) fn disable(&mut self, id: &UserId) {
        if let Some(user) = self.by_id.get_mut(id) {
            user.is_disabled = true;
            release(&mut self.by_login, user);
        }
    }

    pub(in crate::core) fn erase(&mut self, id: &UserId) {
        if let Some(user) = self.by_id.get_mut(id) {
            release(&mut self.by_login, user);
            (user.login, user.display_name, user.is_erased) = (None, None, true);
        }
    }
}

fn release(by_login: &mut BTreeMap<String, UserId>, user: &User) {
    let Some(login) = user.login.as_ref().map(|login| login.to_lowercase()) else { return };
    if by_login.get(&login) == Some(&user.id) {
        by_login.remove(&login);
    }
}
