//! Why a command was not carried out, in words for programs and for people.

use writ_schema::event::{DenialReason, JoinRefusal, LoginFailure, Role};
use writ_schema::seal::Quarter;
use writ_schema::{AdminId, AuthorizationId, EnrolmentKeyId, NodeId, PolicyVersion, Seq, UserId};

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// There is no network yet.
    #[error("there is no network yet; make one with `writd init`")]
    NoNetwork,
    /// There is a network already.
    #[error("this log already holds a network; a second one needs a data directory of its own")]
    NetworkExists,
    /// A value cannot be taken.
    #[error("{field}: {message}")]
    Invalid {
        /// Which value.
        field: &'static str,
        /// What is wrong with it, and what to do.
        message: String,
    },
    /// The command is for an administrator and came from somebody else.
    #[error("this is for a signed-in administrator")]
    NotAnAdmin,
    /// The administrator's role does not allow it.
    #[error("this needs the role {needs:?}; ask somebody who has it")]
    NotAllowed {
        /// The role it needs.
        needs: Role,
    },
    /// The last owner cannot be taken away.
    #[error("{0} is the only owner; make another one first")]
    LastOwner(AdminId),
    /// No such administrator.
    #[error("there is no administrator {0}")]
    UnknownAdmin(AdminId),
    /// A sign-in did not succeed. What exactly was wrong is in the log, not in the answer.
    #[error("the administrator or the secret is wrong")]
    LogIn(LoginFailure),
    /// No such user.
    #[error("there is no user {0}")]
    UnknownUser(UserId),
    /// The pseudonym is taken.
    #[error("the user {0} exists already")]
    UserExists(UserId),
    /// Another user has this login.
    #[error("the login belongs to the user {0} already")]
    LoginInUse(UserId),
    /// The user has left.
    #[error("the user {0} has left")]
    UserDisabled(UserId),
    /// The user has not left.
    #[error("the user {0} has not left; record that they leave before their data is erased")]
    UserActive(UserId),
    /// The user's data is gone already.
    #[error("the data of the user {0} was erased before")]
    UserErased(UserId),
    /// The quarter is not over.
    #[error("the quarter {0} is not over; its connection records are still being written")]
    QuarterNotOver(Quarter),
    /// Its authorizations are in force.
    #[error("authorizations of the quarter {0} are still in force; try again in a quarter of an hour")]
    QuarterInUse(Quarter),
    /// It lapsed before.
    #[error("the connection records of {0} lapsed before")]
    QuarterLapsed(Quarter),
    /// No such enrolment key.
    #[error("there is no enrolment key {0}")]
    UnknownEnrolmentKey(EnrolmentKeyId),
    /// The name of the key is taken, or it has ended.
    #[error("the enrolment key {0} exists already")]
    EnrolmentKeyExists(EnrolmentKeyId),
    /// The key was revoked before.
    #[error("the enrolment key {0} was revoked before")]
    EnrolmentKeyRevoked(EnrolmentKeyId),
    /// A node was not let in.
    #[error("{}", join_message(*.0))]
    Join(JoinRefusal),
    /// No such node, or it was removed.
    #[error("there is no node {0} in the network")]
    UnknownNode(NodeId),
    /// The node has no session.
    #[error("the node {0} has no session")]
    NoSession(NodeId),
    /// What an agent did not accept. That it says so is recorded, and this is the answer to whoever recorded it.
    #[error("the agent of {0} did not accept what it was sent; that is in the log")]
    FrameRejected(NodeId),
    /// A signature is not by the node's identity key over what it should be.
    #[error("the signature is not by the identity key of {0} over this statement")]
    BadSignature(NodeId),
    /// A key's number does not follow the one before.
    #[error("the key's generation must be {expected}")]
    WrongGeneration {
        /// The number that it must have.
        expected: u64,
    },
    /// The WireGuard key belongs to another node, or is the one in use.
    #[error("this WireGuard key is in use; make a new one")]
    KeyInUse,
    /// The policy cannot be put in force.
    #[error("the policy was not put in force: {0}")]
    Policy(String),
    /// Another policy came into force since the author looked.
    #[error("the policy was changed meanwhile: version {current} is in force; look at it and propose again")]
    PolicyChanged {
        /// What is in force.
        current: PolicyVersion,
    },
    /// There is no such policy to go back to.
    #[error("there is no earlier policy to restore, or it is no longer kept; set its text anew")]
    NoPolicyToRestore,
    /// A connection may not be made.
    #[error("{explanation}")]
    Connection {
        /// Why.
        reason: DenialReason,
        /// The same for people, with the rule that came nearest.
        explanation: String,
    },
    /// No such authorization, or not one of this node.
    #[error("there is no authorization {0} of this node")]
    UnknownAuthorization(AuthorizationId),
    /// The record is not one that this acknowledgement can be about.
    #[error("record {0} is not the one that this acknowledgement is about")]
    WrongRecord(Seq),
    /// It was said before.
    #[error("this was reported before")]
    AlreadyReported,
    /// So much was refused lately that this was not even decided.
    #[error("too many different requests were refused within a minute; wait a minute")]
    TooManyRefusals,
    /// The event would not fit into a record.
    #[error("the result is too long for a record of the log")]
    TooLong,
}

impl Rejection {
    /// A stable word for programs.
    pub fn word(&self) -> &'static str {
        match self {
            Self::NoNetwork => "no_network",
            Self::NetworkExists => "network_exists",
            Self::Invalid { .. } => "invalid",
            Self::NotAnAdmin => "not_an_admin",
            Self::NotAllowed { .. } => "not_allowed",
            Self::LastOwner(_) => "last_owner",
            Self::UnknownAdmin(_) => "unknown_admin",
            Self::LogIn(_) => "login_failed",
            Self::UnknownUser(_) => "unknown_user",
            Self::UserExists(_) => "user_exists",
            Self::LoginInUse(_) => "login_in_use",
            Self::UserDisabled(_) => "user_disabled",
            Self::UserActive(_) => "user_active",
            Self::UserErased(_) => "user_erased",
            Self::QuarterNotOver(_) => "quarter_not_over",
            Self::QuarterInUse(_) => "quarter_in_use",
            Self::QuarterLapsed(_) => "quarter_lapsed",
            Self::UnknownEnrolmentKey(_) => "unknown_enrolment_key",
            Self::EnrolmentKeyExists(_) => "enrolment_key_exists",
            Self::EnrolmentKeyRevoked(_) => "enrolment_key_revoked",
            Self::Join(reason) => join_word(*reason),
            Self::UnknownNode(_) => "unknown_node",
            Self::NoSession(_) => "no_session",
            Self::BadSignature(_) => "bad_signature",
            Self::WrongGeneration { .. } => "wrong_generation",
            Self::FrameRejected(_) => "frame_rejected",
            Self::KeyInUse => "key_in_use",
            Self::Policy(_) => "bad_policy",
            Self::PolicyChanged { .. } => "policy_changed",
            Self::NoPolicyToRestore => "no_policy_to_restore",
            Self::Connection { .. } => "connection_denied",
            Self::UnknownAuthorization(_) => "unknown_authorization",
            Self::WrongRecord(_) => "wrong_record",
            Self::AlreadyReported => "already_reported",
            Self::TooManyRefusals => "too_many_refusals",
            Self::TooLong => "too_long",
        }
    }
}

fn join_word(reason: JoinRefusal) -> &'static str {
    match reason {
        JoinRefusal::UnknownKey => "unknown_key",
        JoinRefusal::UsedKey => "used_key",
        JoinRefusal::ExpiredKey => "expired_key",
        JoinRefusal::RevokedKey => "revoked_key",
        JoinRefusal::OwnerDisabled => "owner_disabled",
        JoinRefusal::BadProof => "bad_proof",
        JoinRefusal::KeyInUse => "key_in_use",
        JoinRefusal::BadName => "bad_name",
        JoinRefusal::NameInUse => "name_in_use",
        JoinRefusal::NoAddress => "no_address",
    }
}

fn join_message(reason: JoinRefusal) -> &'static str {
    match reason {
        JoinRefusal::UnknownKey => "this network has no such enrolment key; ask for a new one",
        JoinRefusal::UsedKey => "the enrolment key is used up; ask for a new one",
        JoinRefusal::ExpiredKey => "the enrolment key has expired; ask for a new one",
        JoinRefusal::RevokedKey => "the enrolment key was revoked; ask for a new one",
        JoinRefusal::OwnerDisabled => "the owner of the enrolment key has left the network",
        JoinRefusal::BadProof => "the request is not signed by the identity key that it shows",
        JoinRefusal::KeyInUse => {
            "the identity key or the WireGuard key already belongs to a node; make new ones"
        }
        JoinRefusal::BadName => "the name is not a DNS label: up to 63 of a-z, 0-9 and -, no - at the ends",
        JoinRefusal::NameInUse => "another node has this name; choose another one",
        JoinRefusal::NoAddress => "no address is left in the network; remove nodes that are no longer used",
    }
}
