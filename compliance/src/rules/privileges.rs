//! Rules about administrators: who they are, what they did, how they signed in.

use std::collections::BTreeMap;

use writ_schema::event::Role;
use writ_schema::{Actor, AdminId, Seq};

use crate::case::{Case, Point, Weight, seqs};
use crate::entry::{Entry, Fact};
use crate::wording::{Arg, Phrase, Sentence};

/// Whether every administrative act names its author.
pub fn accountable_actors(case: &Case<'_>) -> Vec<Point> {
    let (mut named, mut by_system, mut bootstrap, mut anonymous) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for entry in case.within() {
        match (&entry.actor, &entry.fact) {
            (Actor::Admin(_) | Actor::User(_) | Actor::Node(_), _) => named.push(entry.seq),
            // A consequence has the author of its cause.
            (Actor::System, _) if entry.cause.is_some() => named.push(entry.seq),
            // Made by the operator on the machine itself, before anybody could sign in.
            (Actor::System, Fact::RoleGranted { .. }) => bootstrap.push(entry.seq),
            (Actor::System, _) => by_system.push(entry.seq),
            (Actor::Anonymous | Actor::Agent, _) => anonymous.push(entry.seq),
        }
    }
    let groups = [
        (Weight::Contradicts, Phrase::ActsAnonymous, anonymous),
        (Weight::Concerns, Phrase::ActsBySystem, by_system),
        (Weight::Supports, Phrase::ActsNamed, named),
        (Weight::Informs, Phrase::ActsBootstrap, bootstrap),
    ];
    groups
        .into_iter()
        .filter(|(_, _, records)| !records.is_empty())
        .map(|(weight, phrase, records)| Point::new(weight, Sentence::count(phrase, records.len()), records))
        .collect()
}

/// The roles at one moment, as they are folded from the records before it.
#[derive(Default)]
struct Roles<'a>(BTreeMap<&'a AdminId, (Role, Seq)>);

impl<'a> Roles<'a> {
    /// Takes in a record. Tells whether somebody raised their own role.
    fn fold(&mut self, entry: &'a Entry) -> bool {
        match &entry.fact {
            Fact::RoleGranted { admin, role } => {
                let before = self.0.insert(admin, (*role, entry.seq));
                // Roles are ordered from the most powerful to the least.
                let raised = before.is_none_or(|(old, _)| *role < old);
                raised && entry.actor == Actor::Admin(admin.clone())
            }
            Fact::RoleRevoked { admin } => {
                self.0.remove(admin);
                false
            }
            _ => false,
        }
    }
}

/// Whether administrators are few, made by others, and act within a role.
pub fn privileged_access(case: &Case<'_>) -> Vec<Point> {
    let mut entries: Vec<&Entry> = case.history().chain(case.within()).collect();
    entries.sort_by_key(|entry| entry.seq);
    entries.dedup_by_key(|entry| entry.seq);
    let mut roles = Roles::default();
    let (mut self_granted, mut without_role) = (Vec::new(), Vec::new());
    for entry in entries {
        let in_period = case.period().contains(entry.time);
        if let Actor::Admin(admin) = &entry.actor
            && in_period
            && !roles.0.contains_key(admin)
            && !matches!(entry.fact, Fact::ActDenied { .. })
        {
            without_role.push(entry.seq);
        }
        if roles.fold(entry) && in_period {
            self_granted.push(entry.seq);
        }
    }
    let holders: Vec<Seq> = roles.0.values().map(|(_, seq)| *seq).collect();
    let full: Vec<Seq> =
        roles.0.values().filter(|(role, _)| *role == Role::Owner).map(|(_, seq)| *seq).collect();
    let refused = seqs(case.within(), |fact| matches!(fact, Fact::ActDenied { .. }));
    let limit = case.number("max_full_control");
    let too_many = full.len() as u64 > limit;
    let held = Sentence::count(Phrase::RolesHeld, holders.len()).with("full", Arg::Count(full.len() as u64));
    let many = Sentence::count(Phrase::RolesMany, full.len()).with("limit", Arg::Count(limit));
    let say = |phrase, records: &[Seq]| Sentence::count(phrase, records.len());
    let groups = [
        (Weight::Contradicts, say(Phrase::RolesSelfGranted, &self_granted), self_granted),
        (Weight::Contradicts, say(Phrase::ActsWithoutRole, &without_role), without_role),
        (Weight::Concerns, many, if too_many { full } else { Vec::new() }),
        (Weight::Supports, held, holders),
        (Weight::Informs, say(Phrase::ActsRefused, &refused), refused),
    ];
    groups
        .into_iter()
        .filter(|(_, _, records)| !records.is_empty())
        .map(|(weight, sentence, records)| Point::new(weight, sentence, records))
        .collect()
}

/// How strongly people are known. This version of Writ knows one factor, so this can never support.
pub fn strong_sign_in(case: &Case<'_>) -> Vec<Point> {
    let one_factor = seqs(case.within(), |fact| *fact == Fact::LoginSucceeded);
    let by_device = seqs(case.within(), |fact| matches!(fact, Fact::Authorized { by_device_key: true, .. }));
    [(Phrase::SignInOneFactor, one_factor), (Phrase::SignInDeviceKey, by_device)]
        .into_iter()
        .filter(|(_, records)| !records.is_empty())
        .map(|(phrase, records)| {
            Point::new(Weight::Concerns, Sentence::count(phrase, records.len()), records)
        })
        .collect()
}
