//! Joining the network: once, before anything else.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use ed25519_dalek::SigningKey;
use writ_ledger::VerifierKey;
use writ_schema::CommandId;
use writ_schema::keys::{IdentityKey, SecretHash, Statement, WireGuardKey};
use writ_schema::protocol::{EnrolmentTicket, ErrorBody, JoinRequest, JoinResponse};

use super::{http, server};
use crate::state::{Enrolment, PendingJoin, StateDir, WireGuardKeys, random_secret};
use crate::trust::{JoiningKeys, Trust};

/// How often a control plane that is away or busy is asked.
const TRIES: u32 = 8;
/// Longest answer that is read: records and proofs are a few kilobytes.
const MAX_RESPONSE_BYTES: usize = 1024 * 1024;

/// Joins with an enrolment key, or goes on with a join that was cut off.
pub(super) async fn join(
    state: &StateDir,
    identity: &SigningKey,
    keys: &WireGuardKeys,
    ticket: Option<&str>,
    name: &str,
) -> Result<Enrolment> {
    let pending = remember(state, ticket, name)?;
    let ticket = EnrolmentTicket::parse(&pending.ticket)?;
    let log_key: VerifierKey = ticket.log_key.parse().context("the enrolment key names no valid log key")?;
    let ours = JoiningKeys {
        identity: IdentityKey::of(identity),
        wireguard: WireGuardKey::from_bytes(*boringtun::x25519::PublicKey::from(&keys.secret).as_bytes()),
    };
    let request = request(&ticket, identity, ours, &pending);
    let response = send(&ticket, &request).await?;
    let (trust, membership) = Trust::join(&ticket.network, log_key, ours, &response)
        .context("the control plane's answer to the join does not verify, so it is not believed")?;
    let enrolment = Enrolment {
        server: ticket.server,
        certificate_sha256: ticket.certificate_sha256,
        log_key: ticket.log_key,
        membership,
        name: pending.name,
        removed: false,
    };
    state.store_trust(&trust.stored())?;
    state.store_enrolment(&enrolment)?;
    state.remove_pending_join()?;
    Ok(enrolment)
}

/// Stores the join before it is sent, so that a repeat after a crash is the same command.
fn remember(state: &StateDir, ticket: Option<&str>, name: &str) -> Result<PendingJoin> {
    let before = state.pending_join()?;
    let ticket = match (ticket, &before) {
        (Some(ticket), _) => ticket.trim().to_owned(),
        (None, Some(before)) => return Ok(before.clone()),
        (None, None) => {
            bail!("this node has not joined a network yet: give it an enrolment key with --key or --key-file")
        }
    };
    EnrolmentTicket::parse(&ticket)?;
    if let Some(before) = before.filter(|before| before.ticket == ticket && before.name == name) {
        return Ok(before);
    }
    let random = random_secret()?;
    let mut id = [0; 16];
    id.copy_from_slice(random.get(..16).unwrap_or(&[0; 16]));
    let pending = PendingJoin { command: CommandId::from_bytes(id), ticket, name: name.to_owned() };
    state.store_pending_join(&pending)?;
    Ok(pending)
}

fn request(
    ticket: &EnrolmentTicket,
    identity: &SigningKey,
    ours: JoiningKeys,
    pending: &PendingJoin,
) -> JoinRequest {
    let (network, wireguard_key) = (&ticket.network, &ours.wireguard);
    let secret_hash = SecretHash::of(&ticket.secret);
    let join = Statement::Join { network, secret_hash: &secret_hash, wireguard_key };
    let first = Statement::Rotation { network, generation: 0, wireguard_key };
    JoinRequest {
        command: pending.command.clone(),
        secret: ticket.secret.clone(),
        identity_key: ours.identity,
        wireguard_key: ours.wireguard,
        join_signature: join.sign(identity),
        key_signature: first.sign(identity),
        name: pending.name.clone(),
    }
}

async fn send(ticket: &EnrolmentTicket, request: &JoinRequest) -> Result<JoinResponse> {
    let url = server::join_url(&ticket.server)?;
    let client = http::client(ticket.certificate_sha256.as_deref(), Duration::from_secs(20))?;
    let mut wait = Duration::from_millis(500);
    for _ in 1..TRIES {
        match attempt(&client, &url, request).await {
            Ok(response) => return Ok(response),
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Again(error)) => tracing::warn!("the join is tried again in {wait:?}: {error:#}"),
        }
        tokio::time::sleep(wait).await;
        wait = wait.saturating_mul(2).min(Duration::from_secs(10));
    }
    match attempt(&client, &url, request).await {
        Ok(response) => Ok(response),
        Err(Failure::Final(error) | Failure::Again(error)) => Err(error),
    }
}

enum Failure {
    Final(anyhow::Error),
    Again(anyhow::Error),
}

async fn attempt(
    client: &reqwest::Client,
    url: &str,
    request: &JoinRequest,
) -> Result<JoinResponse, Failure> {
    let sent = client.post(url).json(request).send().await;
    let mut response = sent.map_err(|error| {
        Failure::Again(anyhow::Error::new(error).context("the control plane cannot be reached"))
    })?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| Failure::Again(error.into()))? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_RESPONSE_BYTES {
            return Err(Failure::Final(anyhow!("the control plane's answer to the join is too long")));
        }
    }
    if status.is_success() {
        return serde_json::from_slice(&body)
            .context("the control plane's answer to the join cannot be read")
            .map_err(Failure::Final);
    }
    let error = match serde_json::from_slice::<ErrorBody>(&body) {
        Ok(ErrorBody { error, message }) => anyhow!("the join was refused ({error}): {message}"),
        Err(_) => anyhow!("the join was refused: HTTP {status}"),
    };
    if status.is_server_error() || status.as_u16() == 429 {
        Err(Failure::Again(error))
    } else {
        Err(Failure::Final(error))
    }
}
