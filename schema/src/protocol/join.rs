//! Joining: the one exchange before a node has a session.

use std::net::{Ipv4Addr, Ipv6Addr};

use data_encoding::BASE64URL_NOPAD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CheckpointUpdate, ProvenRecord};
use crate::keys::{IdentityKey, Signature, WireGuardKey};
use crate::{CommandId, NetworkId, NodeId};

/// What an enrolment key is to the person who types it: where the network is, how to recognise it, and a secret.
///
/// It is written `writ-enrol-` and base64url of this object as JSON, so that it survives a shell and a chat.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolmentTicket {
    /// Base URL of the control plane.
    pub server: String,
    /// The network.
    pub network: NetworkId,
    /// Verifier key of its log (C2SP signed-note): the agent's root of trust.
    pub log_key: String,
    /// SHA-256 of the server certificate's DER, base64url, where no public authority vouches for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_sha256: Option<String>,
    /// The secret: at least 128 random bits.
    pub secret: String,
}

/// Longest ticket that is read, in characters.
const MAX_TICKET_CHARS: usize = 4096;

const TICKET_PREFIX: &str = "writ-enrol-";

/// The text is not an enrolment key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is not an enrolment key: expected the whole text that `writ keys create` printed, `{TICKET_PREFIX}…`"
)]
pub struct TicketError;

impl EnrolmentTicket {
    /// Writes the ticket as it is shown once.
    pub fn to_text(&self) -> String {
        // An object of strings always serializes.
        let json = serde_json::to_vec(self).unwrap_or_default();
        format!("{TICKET_PREFIX}{}", BASE64URL_NOPAD.encode(&json))
    }

    /// Reads what a person typed.
    pub fn parse(text: &str) -> Result<Self, TicketError> {
        let body = text
            .trim()
            .strip_prefix(TICKET_PREFIX)
            .filter(|b| b.len() <= MAX_TICKET_CHARS)
            .ok_or(TicketError)?;
        let json = BASE64URL_NOPAD.decode(body.as_bytes()).map_err(|_| TicketError)?;
        serde_json::from_slice(&json).map_err(|_| TicketError)
    }
}

impl std::fmt::Debug for EnrolmentTicket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EnrolmentTicket({} at {}, secret)", self.network, self.server)
    }
}

/// "Let this node in."
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinRequest {
    /// Chosen by the agent and kept until answered: a repeat gets the first answer.
    pub command: CommandId,
    /// The secret of the enrolment ticket.
    pub secret: String,
    /// The node's identity key.
    pub identity_key: IdentityKey,
    /// Its first WireGuard key.
    pub wireguard_key: WireGuardKey,
    /// Signature over [`Join`](crate::keys::Statement::Join).
    pub join_signature: Signature,
    /// Signature over [`Rotation`](crate::keys::Statement::Rotation) of generation 0.
    pub key_signature: Signature,
    /// The name it would like, a DNS label.
    pub name: String,
}

impl std::fmt::Debug for JoinRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JoinRequest({})", NodeId::of_identity_key(self.identity_key.as_bytes()))
    }
}

/// "You are in", with proof that the log says so.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinResponse {
    /// The node.
    pub node: NodeId,
    /// Its IPv4 address.
    pub address_v4: Ipv4Addr,
    /// Its IPv6 address.
    pub address_v6: Ipv6Addr,
    /// Name of the network.
    pub network_name: String,
    /// Record 0, which names the network and its log key.
    pub genesis: ProvenRecord,
    /// The node's own `node.joined`.
    pub join: ProvenRecord,
    /// The checkpoint that both proofs lead to.
    pub checkpoint: CheckpointUpdate,
}

/// How the HTTP API says no.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ErrorBody {
    /// A stable word for programs.
    pub error: String,
    /// What was wrong, and what to do, for people.
    pub message: String,
}

/// Claims of the token with which a node opens a session: a JWT (EdDSA) that it signs itself.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionClaims {
    /// The node.
    pub iss: NodeId,
    /// The network.
    pub aud: NetworkId,
    /// When it was signed, Unix seconds.
    pub iat: u64,
    /// When it ends, Unix seconds; at most [`MAX_SESSION_TOKEN_SECONDS`] later.
    pub exp: u64,
    /// Random: each token opens one session.
    pub jti: String,
}

/// Longest life of a session token.
pub const MAX_SESSION_TOKEN_SECONDS: u64 = 120;

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket() -> EnrolmentTicket {
        EnrolmentTicket {
            server: "https://writ.example".to_owned(),
            network: NetworkId::from_bytes([4; 16]),
            log_key: "writ.example/log+00000000+AA==".to_owned(),
            certificate_sha256: None,
            secret: "not-to-be-shown".to_owned(),
        }
    }

    #[test]
    fn a_ticket_survives_text_and_never_prints_its_secret() {
        let read = EnrolmentTicket::parse(&ticket().to_text()).unwrap();
        assert_eq!((read.server, read.secret), (ticket().server, ticket().secret));
        assert!(!format!("{:?}", ticket()).contains("not-to-be-shown"));
    }

    #[test]
    fn what_is_not_a_ticket_is_refused() {
        let long = format!("{TICKET_PREFIX}{}", "A".repeat(MAX_TICKET_CHARS + 1));
        for bad in ["", "writ-enrol-", "writ-enrol-!!", "hello", &long] {
            assert!(EnrolmentTicket::parse(bad).is_err());
        }
    }
}
