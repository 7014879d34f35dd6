//! `POST /agent/v1/join`: the one exchange before a node has a session.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use writ_schema::event::{Event, NodeJoined};
use writ_schema::protocol::{JoinRequest, JoinResponse};
use writ_schema::{Actor, Seq};

use super::Services;
use super::body;
use super::error::ApiError;
use crate::core::{Command, State, Submission};
use crate::session::proofs::{ProofFailure, Prover};

/// Largest request of an agent.
pub const MAX_AGENT_BODY_BYTES: usize = 64 * 1024;

/// Lets a node in, or says why not. The answer comes when it is in the log.
pub async fn join(
    services: web::Data<Services>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let body: JoinRequest = body::json(&request, payload, MAX_AGENT_BODY_BYTES).await?;
    let submission = Submission {
        id: body.command.clone(),
        actor: Actor::Anonymous,
        command: Command::Join { request: body },
        trace: None,
    };
    let outcome = services.sequencer.submit(submission).await;
    let outcome = outcome.map_err(|error| ApiError::of_submit(error, StatusCode::FORBIDDEN))?;
    let joined = outcome.records.iter().find_map(|record| match &record.record.event {
        Event::NodeJoined(body) => Some((record.record.seq, body.clone())),
        _ => None,
    });
    let (seq, joined) = joined.ok_or_else(|| ApiError::internal(&ProofFailure::Record(outcome.first)))?;
    let response = welcome(&services, seq, &joined).map_err(|error| ApiError::internal(&error))?;
    Ok(HttpResponse::Ok().json(response))
}

fn welcome(services: &Services, seq: Seq, joined: &NodeJoined) -> Result<JoinResponse, ProofFailure> {
    let prover = Prover::new(
        &services.log,
        services.sequencer.vault(),
        services.cosigners.newest(),
        services.sequencer.state().log_key_changes(),
    );
    let network_name = {
        let state = services.sequencer.state();
        state.network().map(|network| network.created.name.clone()).unwrap_or_default()
    };
    Ok(JoinResponse {
        node: joined.node.clone(),
        address_v4: joined.address_v4,
        address_v6: joined.address_v6,
        network_name,
        genesis: prover.prove(State::GENESIS)?,
        join: prover.prove_own_join(seq)?,
        checkpoint: prover.checkpoint_from(0)?,
    })
}
