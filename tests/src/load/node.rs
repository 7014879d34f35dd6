//! A node without an agent: it has keys and joins as an agent does.

use std::net::Ipv4Addr;

use anyhow::{Context, anyhow, bail, ensure};
use data_encoding::BASE64URL_NOPAD;
use ed25519_dalek::{Signer, SigningKey};
use jiff::Timestamp;
use reqwest::StatusCode;
use serde::Serialize;
use writ_schema::keys::{IdentityKey, SecretHash, Signature, Statement, WireGuardKey};
use writ_schema::protocol::{EnrolmentTicket, ErrorBody, JoinRequest, JoinResponse, SessionClaims};
use writ_schema::{CommandId, NetworkId, NodeId};

/// Sessions are opened at once, so their tokens need not live long.
const TOKEN_SECONDS: u64 = 60;

/// The keys of a node and what the control plane made of it.
#[derive(Debug)]
pub struct Node {
    id: NodeId,
    address: Ipv4Addr,
    network: NetworkId,
    server: String,
    identity: SigningKey,
}

/// What a control plane answered to a join.
#[derive(Debug)]
pub enum Joined {
    /// The node is in.
    In(Box<Node>),
    /// It is not, and why: the stable word and the status.
    Refused(StatusCode, String),
}

impl Node {
    /// Joins with new keys.
    ///
    /// # Errors
    /// When the control plane does not answer, or refuses.
    pub async fn join(
        http: &reqwest::Client,
        ticket: &EnrolmentTicket,
        name: impl Into<String>,
    ) -> anyhow::Result<Self> {
        match Self::try_join(http, ticket, name).await? {
            Joined::In(node) => Ok(*node),
            Joined::Refused(status, error) => bail!("the join was refused: {status} {error}"),
        }
    }

    /// Joins with new keys, where a refusal is an answer.
    ///
    /// # Errors
    /// When the control plane does not answer, or not as agreed.
    pub async fn try_join(
        http: &reqwest::Client,
        ticket: &EnrolmentTicket,
        name: impl Into<String>,
    ) -> anyhow::Result<Joined> {
        let identity = SigningKey::from_bytes(&random()?);
        let request = request(ticket, &identity, name.into())?;
        let url = format!("{}/agent/v1/join", ticket.server);
        let answer =
            http.post(url).json(&request).send().await.context("the control plane does not answer")?;
        let status = answer.status();
        if !status.is_success() {
            let body: ErrorBody =
                answer.json().await.with_context(|| format!("{status} without an error body"))?;
            return Ok(Joined::Refused(status, body.error));
        }
        let answer: JoinResponse = answer.json().await.context("the answer to a join is not as agreed")?;
        let id = NodeId::of_identity_key(identity.verifying_key().as_bytes());
        ensure!(answer.node == id, "the control plane calls node {id} {}", answer.node);
        Ok(Joined::In(Box::new(Self {
            id,
            address: answer.address_v4,
            network: ticket.network.clone(),
            server: ticket.server.clone(),
            identity,
        })))
    }

    /// Its name in the log.
    #[must_use]
    pub fn id(&self) -> &NodeId {
        &self.id
    }

    /// Its overlay address.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Where its control plane is, without the scheme.
    pub(super) fn authority(&self) -> anyhow::Result<&str> {
        self.server.strip_prefix("http://").context("simulated nodes speak plain HTTP, on a loopback")
    }

    /// A token that opens one session.
    pub(super) fn token(&self) -> anyhow::Result<String> {
        let now = Timestamp::now().as_second().unsigned_abs();
        let claims = SessionClaims {
            iss: self.id.clone(),
            aud: self.network.clone(),
            iat: now,
            exp: now.saturating_add(TOKEN_SECONDS),
            jti: BASE64URL_NOPAD.encode(&random::<16>()?),
        };
        let head = encode(&serde_json::json!({ "alg": "EdDSA", "typ": "JWT" }))?;
        let signed = format!("{head}.{}", encode(&claims)?);
        let signature = self.identity.sign(signed.as_bytes()).to_bytes();
        Ok(format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature)))
    }

    /// Signs that a record was carried out.
    pub(super) fn acknowledge(
        &self,
        leaf: &str,
        action: writ_schema::event::AcknowledgedAction,
    ) -> Signature {
        Statement::Acknowledgement { network: &self.network, leaf, action }.sign(&self.identity)
    }
}

fn request(ticket: &EnrolmentTicket, identity: &SigningKey, name: String) -> anyhow::Result<JoinRequest> {
    // No packet will ever be sent, so nobody holds the private half.
    let wireguard_key = WireGuardKey::from_bytes(random()?);
    let network = &ticket.network;
    let secret_hash = SecretHash::of(&ticket.secret);
    let join = Statement::Join { network, secret_hash: &secret_hash, wireguard_key: &wireguard_key };
    let key = Statement::Rotation { network, generation: 0, wireguard_key: &wireguard_key };
    Ok(JoinRequest {
        command: CommandId::from_bytes(random()?),
        secret: ticket.secret.clone(),
        identity_key: IdentityKey::of(identity),
        wireguard_key,
        join_signature: join.sign(identity),
        key_signature: key.sign(identity),
        name,
    })
}

/// Random bytes for keys and names.
pub(super) fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| anyhow!("the system has no random bytes: {error}"))?;
    Ok(bytes)
}

fn encode(part: &impl Serialize) -> anyhow::Result<String> {
    Ok(BASE64URL_NOPAD.encode(&serde_json::to_vec(part).context("a token cannot be written")?))
}
