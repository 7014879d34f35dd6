//! Commands: what somebody wishes to happen.

use std::fmt;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use writ_schema::event::{AcknowledgedAction, CloseReason, NodeOwner, PathKind, Role, SessionEnd};
use writ_schema::keys::{SecretHash, Signature, WireGuardKey};
use writ_schema::net::{Prefix, Protocol};
use writ_schema::protocol::JoinRequest;
use writ_schema::seal::Quarter;
use writ_schema::{
    Actor, AdminId, AuthorizationId, CommandId, EnrolmentKeyId, NetworkId, NodeId, PolicyVersion, ProposalId,
    Seq, TokenId, UserId,
};
use zeroize::Zeroizing;

/// A command on its way to the sequencer. Time and randomness are added there.
#[derive(Debug, Clone)]
pub struct Submission {
    /// Chosen by the client: a repeat gets the first answer and appends nothing.
    pub id: CommandId,
    /// Who submits it.
    pub actor: Actor,
    /// The wish.
    pub command: Command,
    /// W3C traceparent of what brought it about.
    pub trace: Option<String>,
}

/// A wish. Personal data in it is sealed before it is written; secrets are only ever compared.
#[derive(Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Make the network. Only on an empty log.
    CreateNetwork {
        /// Its identity.
        network: NetworkId,
        /// Its name, a DNS label.
        name: String,
        /// IPv4 prefix of the nodes' addresses, inside 100.64.0.0/10.
        prefix_v4: String,
        /// IPv6 prefix of the nodes' addresses, a ULA /48.
        prefix_v6: String,
        /// Origin of the log's checkpoints.
        origin: String,
        /// Verifier key of the log.
        log_key: String,
    },
    /// The control plane begins to write; sessions that were left open are ended. The sequencer submits it by itself.
    OpenLog {
        /// Version of the program.
        program: String,
    },
    /// The log's key changes. The sequencer makes it, in a commit of its own.
    RotateLogKey {
        /// Verifier key that signs from now on.
        new_key: String,
        /// The note that both keys have signed.
        rotation: String,
    },
    /// The control plane stops writing; open sessions are ended. The sequencer submits it by itself.
    CloseLog,

    /// Make a person known.
    ProvisionUser {
        /// The pseudonym.
        user: UserId,
        /// Sign-in name, an e-mail address.
        login: String,
        /// Name for people.
        display_name: String,
    },
    /// A person leaves: disables the user, removes their nodes and revokes what they hold, in one commit.
    ReceiveLeaver {
        /// Who.
        user: UserId,
        /// When it was decided elsewhere.
        decided_at: Option<Timestamp>,
    },
    /// Destroy the keys of a person's data. They must have left.
    EraseUser {
        /// Who.
        user: UserId,
    },

    /// Destroy the keys of a quarter's connection records. The quarter must be over.
    LapseRetention {
        /// Which quarter.
        quarter: Quarter,
    },

    /// Make an administrator, or give one another role, name and secret.
    GrantRole {
        /// Who.
        admin: AdminId,
        /// Name for people.
        name: String,
        /// The role.
        role: Role,
        /// Hash of the sign-in secret.
        secret_hash: SecretHash,
    },
    /// End an administrator's rights and tokens.
    RevokeRole {
        /// Who.
        admin: AdminId,
    },
    /// Sign in.
    LogIn {
        /// Who.
        admin: AdminId,
        /// The sign-in secret as it was typed.
        secret: Secret,
        /// Name of the token that is to be issued.
        token: TokenId,
        /// Hash of the token's secret.
        token_hash: SecretHash,
    },
    /// Record that the submitting administrator tried what their role does not allow. Always answered by
    /// [`Rejection::NotAllowed`](super::Rejection::NotAllowed).
    RecordDeniedAct {
        /// Name of the API operation.
        operation: String,
        /// The role that it needs.
        needs: Role,
    },

    /// Make a key to join with.
    CreateEnrolmentKey {
        /// Name of the key.
        key: EnrolmentKeyId,
        /// Hash of its secret.
        secret_hash: SecretHash,
        /// Whose nodes it makes.
        owner: NodeOwner,
        /// How many nodes may join with it.
        max_uses: u32,
        /// Until when.
        expires_at: Timestamp,
    },
    /// End a key before its time.
    RevokeEnrolmentKey {
        /// Which.
        key: EnrolmentKeyId,
    },

    /// Let a node in. Submit it under the request's own command id.
    Join {
        /// As the agent sent it.
        request: JoinRequest,
    },
    /// Take a node out and revoke what it holds, in one commit.
    RemoveNode {
        /// Which.
        node: NodeId,
    },
    /// Take a node's new WireGuard key.
    RotateKey {
        /// Whose.
        node: NodeId,
        /// Number of the key.
        generation: u64,
        /// The key.
        wireguard_key: WireGuardKey,
        /// The identity key's signature.
        signature: Signature,
    },
    /// Take what a node offers to carry packets for. What the policy approves by itself is approved at once.
    AdvertiseRoutes {
        /// Whose offer.
        node: NodeId,
        /// All of it.
        routes: Vec<Prefix>,
    },
    /// Say what a node may carry packets for, and revoke what leads through it to anything else.
    ApproveRoutes {
        /// Which.
        node: NodeId,
        /// All that it may.
        routes: Vec<Prefix>,
    },
    /// A node's agent has connected. A session that is still open is ended as replaced, in the same commit.
    StartSession {
        /// Whose.
        node: NodeId,
        /// Version of the agent, as it says.
        agent: String,
    },
    /// A node's agent is gone.
    EndSession {
        /// Whose.
        node: NodeId,
        /// Why.
        reason: SessionEnd,
    },

    /// Record that a node's agent did not accept a frame of its session. Always answered by
    /// [`Rejection::FrameRejected`](super::Rejection::FrameRejected).
    RecordFrameRejected {
        /// Whose agent.
        node: NodeId,
        /// Number of the frame.
        frame: u64,
        /// What did not verify.
        reason: String,
        /// The identity key's signature.
        signature: Signature,
    },

    /// Put a policy in force and revoke what it no longer allows, in one commit.
    SetPolicy {
        /// The whole file, people by their pseudonyms.
        text: String,
        /// Name of the proposal.
        proposal: ProposalId,
        /// The version that the author saw: refused if another is in force by now. `None` asks for no such check.
        base: Option<PolicyVersion>,
        /// Whether a file that says nothing of access, and so allows everything, is meant.
        allow_everything: bool,
    },
    /// Put an earlier policy in force again, as a new version.
    UndoPolicy {
        /// Which; the one before the active one if absent.
        to: Option<PolicyVersion>,
        /// Name of the proposal.
        proposal: ProposalId,
    },

    /// "May I reach this address on this protocol and port?"
    RequestConnection {
        /// Who asks.
        node: NodeId,
        /// The address, of a node or behind one.
        address: IpAddr,
        /// The exit node that is to carry the packets to the Internet.
        exit: Option<NodeId>,
        /// The protocol.
        protocol: Protocol,
        /// The destination port; 0 where the protocol has none.
        port: u16,
        /// The authorization that this one is to continue. One that it cannot continue is passed over.
        renews: Option<AuthorizationId>,
    },
    /// An agent has carried out a record.
    Acknowledge {
        /// Whose agent.
        node: NodeId,
        /// Which authorization.
        authorization: AuthorizationId,
        /// The record.
        record: Seq,
        /// Leaf hash of that record, base64, as the server read it from the log.
        leaf: String,
        /// What was done.
        action: AcknowledgedAction,
        /// The identity key's signature.
        signature: Signature,
    },
    /// An agent reports the end of a connection.
    ReportClosed {
        /// Whose agent.
        node: NodeId,
        /// Which authorization.
        authorization: AuthorizationId,
        /// Why.
        reason: CloseReason,
        /// Bytes of IP packets that it sent.
        bytes_sent: u64,
        /// Bytes of IP packets that it received.
        bytes_received: u64,
        /// The way packets went last.
        path: Option<PathKind>,
    },

    /// The submitting administrator read history.
    RecordQuery {
        /// The top-level fields.
        fields: Vec<String>,
        /// SHA-256 of the query with its variables, hex.
        digest: String,
    },
    /// The submitting administrator is to see the persons behind pseudonyms.
    RecordDeanonymised {
        /// Whose names.
        users: Vec<UserId>,
        /// For what.
        purpose: String,
    },
    /// The submitting administrator made a report.
    RecordReport {
        /// The framework and its version.
        framework: String,
        /// SHA-256 of the evidence bundle, hex.
        bundle_digest: String,
        /// Records before this one were considered.
        as_of: Seq,
    },
}

impl Command {
    /// The command's name, for logs and traces.
    pub fn name(&self) -> &'static str {
        match self {
            Self::CreateNetwork { .. } => "create_network",
            Self::OpenLog { .. } => "open_log",
            Self::RotateLogKey { .. } => "rotate_log_key",
            Self::CloseLog => "close_log",
            Self::ProvisionUser { .. } => "provision_user",
            Self::ReceiveLeaver { .. } => "receive_leaver",
            Self::EraseUser { .. } => "erase_user",
            Self::LapseRetention { .. } => "lapse_retention",
            Self::GrantRole { .. } => "grant_role",
            Self::RevokeRole { .. } => "revoke_role",
            Self::LogIn { .. } => "log_in",
            Self::RecordDeniedAct { .. } => "record_denied_act",
            Self::CreateEnrolmentKey { .. } => "create_enrolment_key",
            Self::RevokeEnrolmentKey { .. } => "revoke_enrolment_key",
            Self::Join { .. } => "join",
            Self::RemoveNode { .. } => "remove_node",
            Self::RotateKey { .. } => "rotate_key",
            Self::AdvertiseRoutes { .. } => "advertise_routes",
            Self::ApproveRoutes { .. } => "approve_routes",
            Self::StartSession { .. } => "start_session",
            Self::EndSession { .. } => "end_session",
            Self::RecordFrameRejected { .. } => "record_frame_rejected",
            Self::SetPolicy { .. } => "set_policy",
            Self::UndoPolicy { .. } => "undo_policy",
            Self::RequestConnection { .. } => "request_connection",
            Self::Acknowledge { .. } => "acknowledge",
            Self::ReportClosed { .. } => "report_closed",
            Self::RecordQuery { .. } => "record_query",
            Self::RecordDeanonymised { .. } => "record_deanonymised",
            Self::RecordReport { .. } => "record_report",
        }
    }

    /// The node on whose behalf the command comes, where that must not be seen from the record around it.
    pub fn confidential_node(&self) -> Option<&NodeId> {
        match self {
            Self::RequestConnection { node, .. }
            | Self::RecordFrameRejected { node, .. }
            | Self::Acknowledge { node, .. }
            | Self::ReportClosed { node, .. } => Some(node),
            _ => None,
        }
    }
}

impl fmt::Debug for Command {
    /// The name alone: commands hold people's names and secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A secret as somebody typed it. It is never printed and wiped after use.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Wraps what was typed.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// Whether it is the secret with this hash.
    pub fn fits(&self, hash: &SecretHash) -> bool {
        hash.matches(&self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Serialize for Secret {
    /// Its hash, which is enough to tell a repeated command from another one.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        SecretHash::of(&self.0).serialize(serializer)
    }
}
