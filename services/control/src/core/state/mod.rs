//! The state of the network: what the records so far have made of it.

mod addresses;
mod administration;
mod answered;
mod authorizations;
mod nodes;
mod policies;
mod users;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use jiff::Timestamp;
use writ_schema::event::NetworkCreated;
use writ_schema::event::NodeOwner;
use writ_schema::seal::{Quarter, Retention, Subject};
use writ_schema::{AdminId, AuthorizationId, CommandId, EnrolmentKeyId, NodeId, Seq, TokenId, UserId};

pub use addresses::Prefixes;
pub use administration::{Admin, EnrolmentKey, Token};
pub use answered::Answered;
pub use authorizations::{Authorization, AuthorizationEnd};
pub use nodes::{Node, Session};
pub use policies::ActivePolicy;
pub(in crate::core) use policies::Proposal;
pub use users::User;

use addresses::Addresses;
use answered::AnsweredCommands;
use authorizations::Authorizations;
use nodes::Nodes;
use policies::Policies;
use users::Users;

/// The network, its log and everything in it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    pub(super) network: Option<Network>,
    pub(super) size: u64,
    pub(super) time: Timestamp,
    pub(super) is_open: bool,
    pub(super) users: Users,
    pub(super) admins: BTreeMap<AdminId, Admin>,
    pub(super) tokens: BTreeMap<TokenId, Token>,
    pub(super) enrolment_keys: BTreeMap<EnrolmentKeyId, EnrolmentKey>,
    pub(super) nodes: Nodes,
    pub(super) addresses: Addresses,
    pub(super) policies: Policies,
    pub(super) authorizations: Authorizations,
    pub(super) answered: AnsweredCommands,
    pub(super) lapsed: BTreeSet<Quarter>,
}

/// The network as it was made.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    /// What record 0 says.
    pub created: NetworkCreated,
    /// Where the nodes' addresses are taken from.
    pub prefixes: Prefixes,
    /// The changes of the log's key, in order.
    pub log_keys: Vec<LogKeyChange>,
}

/// A change of the log's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogKeyChange {
    /// The record of it.
    pub seq: Seq,
    /// Verifier key that signs after it.
    pub key: String,
    /// The note that both keys have signed.
    pub rotation: String,
}

impl LogKeyChange {
    /// As verifiers follow it.
    pub fn rotation(&self) -> writ_ledger::Rotation {
        writ_ledger::Rotation { index: self.seq.0, statement: self.rotation.clone() }
    }
}

impl Network {
    /// Verifier key that signs the log now.
    pub fn log_key(&self) -> &str {
        self.log_keys.last().map_or(&self.created.log_key, |change| &change.key)
    }
}

impl State {
    /// The network, once it is made.
    pub fn network(&self) -> Option<&Network> {
        self.network.as_ref()
    }

    /// The records that changed the log's key.
    pub fn log_key_changes(&self) -> Vec<Seq> {
        self.network.iter().flat_map(|network| &network.log_keys).map(|change| change.seq).collect()
    }

    /// How many records made this state.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The time of the last record.
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// Whether the log was opened and not closed since.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// Every user, those who have left included.
    pub fn users(&self) -> impl Iterator<Item = &User> {
        self.users.all()
    }

    /// A user, also one who has left.
    pub fn user(&self, id: &UserId) -> Option<&User> {
        self.users.find(id)
    }

    /// The active user with this login.
    pub fn user_by_login(&self, login: &str) -> Option<&User> {
        self.users.by_login(login)
    }

    /// Every administrator, those whose role was revoked included.
    pub fn admins(&self) -> impl Iterator<Item = &Admin> {
        self.admins.values()
    }

    /// An administrator, also one whose role was revoked.
    pub fn admin(&self, id: &AdminId) -> Option<&Admin> {
        self.admins.get(id)
    }

    /// The administrator with this token: the secret fits, token and role have not ended.
    pub fn admin_by_token(&self, id: &TokenId, secret: &str, now: Timestamp) -> Option<&Admin> {
        let token =
            self.tokens.get(id).filter(|token| token.expires_at > now && token.hash.matches(secret))?;
        self.admins.get(&token.admin).filter(|admin| !admin.is_revoked)
    }

    /// A token.
    pub fn token(&self, id: &TokenId) -> Option<&Token> {
        self.tokens.get(id)
    }

    /// Every enrolment key that was not yet forgotten.
    pub fn enrolment_keys(&self) -> impl Iterator<Item = &EnrolmentKey> {
        self.enrolment_keys.values()
    }

    /// An enrolment key.
    pub fn enrolment_key(&self, id: &EnrolmentKeyId) -> Option<&EnrolmentKey> {
        self.enrolment_keys.get(id)
    }

    /// The nodes of the network.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.live()
    }

    /// A node of the network.
    pub fn node(&self, id: &NodeId) -> Option<&Node> {
        self.nodes.find(id).filter(|node| !node.is_removed())
    }

    /// A node, also one that was removed.
    pub fn node_ever(&self, id: &NodeId) -> Option<&Node> {
        self.nodes.find(id)
    }

    /// The node of the network with this overlay address.
    pub fn node_by_address(&self, address: IpAddr) -> Option<&Node> {
        let host = self.network.as_ref()?.prefixes.host_of(address)?;
        self.node(self.addresses.holder(host)?)
    }

    /// The node of the network with this name, however it is capitalised.
    pub fn node_by_name(&self, name: &str) -> Option<&Node> {
        self.node(self.nodes.by_name(name)?)
    }

    /// The policy in force.
    pub fn policy(&self) -> Option<&ActivePolicy> {
        self.policies.active()
    }

    /// An authorization that is live or ended not long ago.
    pub fn authorization(&self, id: &AuthorizationId) -> Option<&Authorization> {
        self.authorizations.find(id)
    }

    /// Authorizations of which a node has not said that it carried their withdrawal out, in the order of their withdrawals.
    pub fn unacknowledged_withdrawals_of(&self, node: &NodeId) -> Vec<(&Authorization, AuthorizationEnd)> {
        let waiting = self.authorizations.of(node).filter(|it| it.waits_for_withdrawal_by(node));
        let mut ended: Vec<_> = waiting.filter_map(|it| Some((it, it.revoked?))).collect();
        ended.sort_by_key(|(_, end)| end.record);
        ended
    }

    /// The live authorizations of which the node is an end.
    pub fn live_authorizations_of(
        &self,
        node: &NodeId,
        now: Timestamp,
    ) -> impl Iterator<Item = &Authorization> {
        self.authorizations.of(node).filter(move |authorization| authorization.is_live(now))
    }

    /// Every live authorization.
    pub fn live_authorizations(&self, now: Timestamp) -> impl Iterator<Item = &Authorization> {
        self.authorizations.all().filter(move |authorization| authorization.is_live(now))
    }

    /// Whether the time to keep the connection records of this quarter is over.
    pub fn is_lapsed(&self, quarter: Quarter) -> bool {
        self.lapsed.contains(&quarter)
    }

    /// What a command was answered with, if it is among the last that were.
    pub fn answered(&self, id: &CommandId) -> Option<&Answered> {
        self.answered.find(id)
    }

    /// Under whose key stands what a node does: its owner's, or its own if it belongs to no person.
    pub fn subject_of(&self, node: &NodeId) -> Subject {
        match self.node_ever(node).map(|node| &node.owner) {
            Some(NodeOwner::User(user)) => Subject::User(user.clone()),
            _ => Subject::Node(node.clone()),
        }
    }

    /// The retention of connection records of a moment.
    pub fn connection_retention(time: Timestamp) -> Retention {
        Retention::Connections(Quarter::of(time))
    }

    /// Position of the record that made the network.
    pub const GENESIS: Seq = Seq(0);
}
