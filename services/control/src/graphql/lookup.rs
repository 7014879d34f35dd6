//! Turning rows of the views into answers: each with its records, and with names where the caller may see them.

use std::collections::BTreeSet;

use rusqlite::Connection;
use writ_schema::event::NodeOwner;
use writ_schema::net::Prefix;
use writ_schema::{NodeId, Seq};

use super::error::QueryError;
use super::types::{
    Acknowledgement, Admin, Authorization, CloseReport, Denial, EnrolmentKey, Node, NodeRef, Owner, Policy,
    PolicyEffect, Record, Revocation, Route, Session, SourceRef, User, Withdrawal,
};
use crate::views::{
    Moment, ViewError, admins, connections, denials, enrolment_keys, nodes, personal, policies, records,
    sessions, users, withdrawals,
};

/// A connection to the views, at a moment, for a caller.
pub(super) struct Lookup<'a> {
    /// Where to read.
    pub(super) connection: &'a Connection,
    /// As of when.
    pub(super) moment: Moment,
    /// Whether names of people's machines and logins in policies are shown.
    pub(super) sees_names: bool,
}

type Found<T> = Result<T, QueryError>;

impl Lookup<'_> {
    /// The record at a position.
    pub(super) fn record(&self, seq: Seq) -> Found<Record> {
        let found = records::of_seqs(self.connection, &[seq].into())?;
        let row = found.into_values().next().ok_or(ViewError::Damaged("record"))?;
        Ok(Record::new(row))
    }

    fn record_if(&self, seq: Option<Seq>) -> Found<Option<Record>> {
        seq.map(|seq| self.record(seq)).transpose()
    }

    pub(super) fn user(&self, row: users::User) -> Found<User> {
        Ok(User {
            user: row.user.to_string().into(),
            status: row.status.into(),
            decided_at: row.decided_at.map(Into::into),
            record: self.record(row.provisioned)?,
            leaver: self.record_if(row.leaver)?,
            disabled: self.record_if(row.disabled)?,
            erased: self.record_if(row.erased)?,
        })
    }

    /// A node's name. That of a person's machine is shown only to those who run the network.
    fn name_of(&self, node: &nodes::Node) -> Found<Option<String>> {
        let is_personal = matches!(node.owner, NodeOwner::User(_));
        if is_personal && !self.sees_names {
            return Ok(None);
        }
        Ok(personal::value(self.connection, node.joined, "name")?)
    }

    pub(super) fn node(&self, row: nodes::Node) -> Found<Node> {
        let session = sessions::open_of(self.connection, &self.moment, &row.node)?;
        Ok(Node {
            name: self.name_of(&row)?,
            node: row.node.to_string().into(),
            owner: owner(&row.owner),
            addresses: vec![row.address_v4.to_string(), row.address_v6.to_string()],
            identity_key: row.identity_key,
            wireguard_key: row.wireguard_key,
            key_generation: row.key_generation.into(),
            key_since: row.key_since.into(),
            enrolment_key: row.enrolment_key.to_string().into(),
            routes: routes(&row.advertised, &row.approved),
            session: session.map(|session| self.session(session)).transpose()?,
            removal: row.removal.map(Into::into),
            record: self.record(row.joined)?,
            rotated: self.record_if(row.rotated)?,
            removed: self.record_if(row.removed)?,
        })
    }

    /// What an answer says of a node that it mentions.
    pub(super) fn node_ref(&self, id: &NodeId) -> Found<NodeRef> {
        let row = nodes::get(self.connection, &self.moment, id)?;
        let (name, owned_by, joined) = match row {
            None => (None, None, None),
            Some(row) => (self.name_of(&row)?, Some(owner(&row.owner)), Some(self.record(row.joined)?)),
        };
        Ok(NodeRef { node: id.to_string().into(), name, owner: owned_by, record: joined })
    }

    pub(super) fn session(&self, row: sessions::Session) -> Found<Session> {
        Ok(Session {
            node: self.node_ref(&row.node)?,
            agent: row.agent,
            reason: row.reason.map(Into::into),
            record: self.record(row.started)?,
            ended: self.record_if(row.ended)?,
        })
    }

    pub(super) fn enrolment_key(&self, row: enrolment_keys::EnrolmentKey) -> Found<EnrolmentKey> {
        Ok(EnrolmentKey {
            usable: row.is_usable(&self.moment),
            enrolment_key: row.key.to_string().into(),
            owner: owner(&row.owner),
            max_uses: row.max_uses,
            uses: row.uses,
            expires_at: row.expires_at.into(),
            created_by: row.created_by,
            record: self.record(row.created)?,
            last_use: self.record_if(row.last_use)?,
            revoked: self.record_if(row.revoked)?,
        })
    }

    pub(super) fn admin(&self, row: admins::Admin) -> Found<Admin> {
        let name =
            if self.sees_names { personal::value(self.connection, row.granted, "name")? } else { None };
        Ok(Admin {
            admin: row.admin.to_string().into(),
            role: row.role.into(),
            name,
            record: self.record(row.granted)?,
            revoked: self.record_if(row.revoked)?,
        })
    }

    pub(super) fn policy(&self, row: policies::PolicyRow) -> Found<Policy> {
        let text = policies::text(self.connection, &row)?;
        let text = text.map(|text| if self.sees_names { self.with_logins(text) } else { text });
        Ok(Policy {
            version: row.version.0.into(),
            text,
            digest: row.digest,
            base: row.base.map(|version| version.0.into()),
            restores: row.restores.map(|version| version.0.into()),
            effect: PolicyEffect {
                gained: row.effect.gained.into(),
                lost: row.effect.lost.into(),
                connections_cut: row.effect.connections_cut.into(),
                tests_passed: row.effect.tests_passed.into(),
            },
            proposed_by: row.proposed_by,
            activated_by: row.activated_by,
            proposed: self.record(row.proposed)?,
            record: self.record(row.activated)?,
            superseded: self.record_if(row.superseded)?,
        })
    }

    /// Writes logins for pseudonyms. Whoever was erased stays a pseudonym.
    fn with_logins(&self, text: String) -> String {
        let mut login = |name: &str| {
            let known = name.parse().ok().and_then(|user| {
                personal::persons(self.connection, &self.moment, &[user]).ok()?.pop()?.login
            });
            Some(known.unwrap_or_else(|| name.to_owned()))
        };
        writ_policy::replace_logins(&text, &mut login).unwrap_or(text)
    }

    pub(super) fn source(
        &self,
        node: Option<&NodeId>,
        user: Option<&writ_schema::UserId>,
    ) -> Found<Option<SourceRef>> {
        let Some(node) = node else { return Ok(None) };
        Ok(Some(SourceRef { node: self.node_ref(node)?, user: user.map(|user| user.to_string().into()) }))
    }

    pub(super) fn authorization(&self, row: connections::Authorization) -> Found<Authorization> {
        let id = &row.authorization;
        let acknowledged = connections::acknowledgements(self.connection, &self.moment, id)?;
        let acknowledgements = acknowledged.into_iter().map(|row| self.acknowledgement(&row));
        let reports = self.reports(&row.chain, &self.moment)?;
        Ok(Authorization {
            live: row.is_live(&self.moment),
            authorization: id.to_string().into(),
            chain: row.chain.to_string().into(),
            renews: row.renews.as_ref().map(|id| id.to_string().into()),
            source: self.source(row.source_node.as_ref(), row.source_user.as_ref())?,
            destination: self.node_ref(&row.destination)?,
            route: row.route.map(|route| route.to_string()),
            protocol: row.protocol.to_string(),
            ports: row.ports.to_string(),
            rule: row.rule,
            policy: row.policy.0.into(),
            expires_at: row.expires_at.into(),
            revocation: row.revocation.map(Into::into),
            acknowledgements: acknowledgements.collect::<Found<_>>()?,
            reports: reports.into_iter().filter(|report| *report.authorization == id.to_string()).collect(),
            record: self.record(row.seq)?,
            revoked: self.record_if(row.revoked)?,
        })
    }

    fn acknowledgement(&self, row: &connections::Acknowledgement) -> Found<Acknowledgement> {
        Ok(Acknowledgement {
            side: row.side.into(),
            action: row.action.into(),
            carried_out: self.record(row.carried_out)?,
            record: self.record(row.seq)?,
        })
    }

    /// What agents reported of a connection and its renewals by some moment.
    pub(super) fn reports(
        &self,
        chain: &writ_schema::AuthorizationId,
        known_by: &Moment,
    ) -> Found<Vec<CloseReport>> {
        let rows = connections::closings(self.connection, known_by, chain)?.into_iter();
        rows.map(|row| {
            Ok(CloseReport {
                authorization: row.authorization.to_string().into(),
                side: row.side.into(),
                reason: row.reason.into(),
                bytes_sent: row.bytes_sent.into(),
                bytes_received: row.bytes_received.into(),
                path: row.path.map(Into::into),
                record: self.record(row.seq)?,
            })
        })
        .collect()
    }

    pub(super) fn denial(&self, row: denials::Denial) -> Found<Denial> {
        let destination = row.destination.as_ref().map(|node| self.node_ref(node)).transpose()?;
        Ok(Denial {
            source: self.source(row.source_node.as_ref(), row.source_user.as_ref())?,
            address: row.address.to_string(),
            destination,
            protocol: row.protocol.to_string(),
            port: row.port,
            reason: row.reason.into(),
            policy: row.policy.map(|version| version.0.into()),
            count: row.count,
            record: self.record(row.seq)?,
        })
    }

    pub(super) fn withdrawal(&self, row: withdrawals::Withdrawal) -> Found<Withdrawal> {
        let took = row.last_time.map(|last| last.as_millisecond().saturating_sub(row.time.as_millisecond()));
        Ok(Withdrawal {
            revoked: row.revoked.into(),
            ends: row.revoked.saturating_mul(2).into(),
            ends_acknowledged: row.ends_acknowledged.into(),
            took_milliseconds: took.and_then(|millis| u64::try_from(millis).ok()).map(Into::into),
            open_until: row.open_until.map(Into::into),
            cause: self.record(row.cause)?,
            last_acknowledgement: self.record_if(row.last)?,
            revocations: withdrawals::revocations(self.connection, &self.moment, row.cause)?
                .into_iter()
                .map(|row| self.revocation(row))
                .collect::<Found<_>>()?,
        })
    }

    fn revocation(&self, row: withdrawals::Revocation) -> Found<Revocation> {
        Ok(Revocation {
            authorization: row.authorization.to_string().into(),
            reason: row.reason.into(),
            expires_at: row.expires_at.into(),
            record: self.record(row.seq)?,
            source_acknowledgement: self.record_if(row.source)?,
            destination_acknowledgement: self.record_if(row.destination)?,
        })
    }
}

/// An owner as answers show it.
pub(super) fn owner(owner: &NodeOwner) -> Owner {
    match owner {
        NodeOwner::User(user) => Owner { user: Some(user.to_string().into()), tags: Vec::new() },
        NodeOwner::Tags(tags) => Owner { user: None, tags: tags.iter().map(ToString::to_string).collect() },
    }
}

/// What a node offers or may carry packets for, in order.
fn routes(advertised: &[Prefix], approved: &[Prefix]) -> Vec<Route> {
    let all: BTreeSet<&Prefix> = advertised.iter().chain(approved).collect();
    let route = |prefix: &Prefix| Route {
        prefix: prefix.to_string(),
        advertised: advertised.contains(prefix),
        approved: approved.contains(prefix),
    };
    all.into_iter().map(route).collect()
}
