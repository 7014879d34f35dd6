//! What an assessment takes from a record: who, when, because of what, and the few fields that rules compare.
//!
//! Nothing sealed is taken along. A report therefore holds pseudonyms at most, whoever makes it.

use jiff::Timestamp;
use writ_schema::event::{AcknowledgedAction, DenialReason, Event, NodeOwner, Role, Side, SignIn};
use writ_schema::{
    Actor, AdminId, AuthorizationId, EnrolmentKeyId, NodeId, PolicyVersion, ProposalId, Record, Seq, UserId,
};

/// A record, as far as an assessment is concerned.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its number.
    pub seq: Seq,
    /// When it was decided.
    pub time: Timestamp,
    /// Who caused it.
    pub actor: Actor,
    /// The record that brought it about.
    pub cause: Option<Seq>,
    /// Its kind.
    pub kind: &'static str,
    /// What happened.
    pub fact: Fact,
}

/// What happened, in the fields that rules compare.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the fields are those of the events of the same name")]
pub enum Fact {
    LogOpened {
        clean: bool,
    },
    LogClosed,
    UserProvisioned {
        user: UserId,
    },
    LeaverReceived {
        user: UserId,
    },
    UserDisabled {
        user: UserId,
    },
    RoleGranted {
        admin: AdminId,
        role: Role,
    },
    RoleRevoked {
        admin: AdminId,
    },
    ActDenied {
        count: u32,
    },
    LoginSucceeded,
    LoginFailed {
        count: u32,
    },
    EnrolKeyCreated {
        key: EnrolmentKeyId,
        max_uses: u32,
        expires_at: Timestamp,
    },
    EnrolKeyRevoked {
        key: EnrolmentKeyId,
    },
    NodeJoined {
        node: NodeId,
        owner: NodeOwner,
        key: EnrolmentKeyId,
    },
    JoinRefused {
        count: u32,
    },
    FrameRejected {
        count: u32,
    },
    NodeRemoved {
        node: NodeId,
    },
    KeyRotated {
        node: NodeId,
    },
    ChangeProposed {
        proposal: ProposalId,
        tests_passed: u64,
    },
    PolicyActivated {
        version: PolicyVersion,
        proposal: ProposalId,
    },
    Authorized {
        authorization: AuthorizationId,
        policy: PolicyVersion,
        has_rule: bool,
        by_device_key: bool,
        renews: Option<AuthorizationId>,
        expires_at: Timestamp,
    },
    Denied {
        by_default: bool,
        count: u32,
    },
    Revoked {
        authorization: AuthorizationId,
    },
    Acknowledged {
        record: Seq,
        side: Side,
        action: AcknowledgedAction,
    },
    ReportGenerated,
    /// A kind of which only the occurrence matters.
    Other,
}

impl Entry {
    /// The kind, as it is written.
    pub fn kind(&self) -> &'static str {
        self.kind
    }
}

impl From<Record> for Entry {
    fn from(record: Record) -> Self {
        let Record { seq, time, actor, cause, event, .. } = record;
        Self { seq, time, actor, cause, kind: event.kind(), fact: event.into() }
    }
}

impl From<Event> for Fact {
    fn from(event: Event) -> Self {
        match event {
            Event::LogOpened(e) => Self::LogOpened { clean: e.clean },
            Event::LogClosed(_) => Self::LogClosed,
            Event::UserProvisioned(e) => Self::UserProvisioned { user: e.user },
            Event::UserLeaverReceived(e) => Self::LeaverReceived { user: e.user },
            Event::UserDisabled(e) => Self::UserDisabled { user: e.user },
            Event::AdminRoleGranted(e) => Self::RoleGranted { admin: e.admin, role: e.role },
            Event::AdminRoleRevoked(e) => Self::RoleRevoked { admin: e.admin },
            Event::AdminActDenied(e) => Self::ActDenied { count: e.count },
            Event::LoginSucceeded(_) => Self::LoginSucceeded,
            Event::LoginFailed(e) => Self::LoginFailed { count: e.count },
            Event::EnrolKeyCreated(e) => {
                Self::EnrolKeyCreated { key: e.key, max_uses: e.max_uses, expires_at: e.expires_at }
            }
            Event::EnrolKeyRevoked(e) => Self::EnrolKeyRevoked { key: e.key },
            Event::NodeJoined(e) => Self::NodeJoined { node: e.node, owner: e.owner, key: e.enrolment_key },
            Event::NodeJoinRefused(e) => Self::JoinRefused { count: e.count },
            Event::SessionFrameRejected(e) => Self::FrameRejected { count: e.count },
            Event::NodeRemoved(e) => Self::NodeRemoved { node: e.node },
            Event::KeyRotated(e) => Self::KeyRotated { node: e.node },
            Event::PolicyChangeProposed(e) => {
                Self::ChangeProposed { proposal: e.proposal, tests_passed: e.effect.tests_passed }
            }
            Event::PolicyActivated(e) => Self::PolicyActivated { version: e.version, proposal: e.proposal },
            Event::ConnectionAuthorized(e) => Self::Authorized {
                authorization: e.authorization,
                policy: e.policy,
                has_rule: !e.rule.is_empty(),
                by_device_key: matches!(e.sign_in, SignIn::EnrolmentKey),
                renews: e.renews,
                expires_at: e.expires_at,
            },
            Event::ConnectionDenied(e) => Self::Denied {
                by_default: matches!(e.reason, DenialReason::NoPolicy | DenialReason::NoRule),
                count: e.count,
            },
            Event::ConnectionRevoked(e) => Self::Revoked { authorization: e.authorization },
            Event::ConnectionAcknowledged(e) => {
                Self::Acknowledged { record: e.record, side: e.side, action: e.action }
            }
            Event::ReportGenerated(_) => Self::ReportGenerated,
            Event::NetworkCreated(_)
            | Event::NodeRoutesAdvertised(_)
            | Event::NodeRoutesApproved(_)
            | Event::LogKeyRotated(_)
            | Event::KeyShredded(_)
            | Event::RetentionLapsed(_)
            | Event::SessionStarted(_)
            | Event::SessionTerminated(_)
            | Event::ConnectionClosed(_)
            | Event::AuditQueryExecuted(_)
            | Event::AuditDeanonymiseExecuted(_) => Self::Other,
        }
    }
}
