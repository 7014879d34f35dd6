//! `POST /api/v1/login`: a local administrator's secret for an access token that ends by itself.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use writ_schema::event::{Event, Role};
use writ_schema::{Actor, AdminId, CommandId};

use super::Services;
use super::access::AccessToken;
use super::body;
use super::error::ApiError;
use crate::core::{Command, Secret, Submission};
use crate::entropy;

const MAX_LOGIN_BODY_BYTES: usize = 4096;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LoginRequest {
    admin: AdminId,
    secret: String,
}

#[derive(Serialize)]
struct LoginResponse<'a> {
    token: &'a str,
    expires_at: Timestamp,
    role: Role,
}

/// Signs an administrator in.
pub async fn login(
    services: web::Data<Services>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let source = request.peer_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| address.ip());
    let body: LoginRequest = body::json(&request, payload, MAX_LOGIN_BODY_BYTES).await?;
    services
        .login_sources
        .attempt(source, Instant::now())
        .map_err(|wait| ApiError::busy(StatusCode::TOO_MANY_REQUESTS, wait))?;
    let token = AccessToken::make().map_err(|error| ApiError::internal(&error))?;
    let id = CommandId::from_bytes(entropy::bytes().map_err(|error| ApiError::internal(&error))?);
    let command = Command::LogIn {
        admin: body.admin.clone(),
        secret: Secret::new(body.secret),
        token: token.id().clone(),
        token_hash: token.hash(),
    };
    let submission = Submission { id, actor: Actor::Anonymous, command, trace: None };
    let outcome = services.sequencer.submit(submission).await;
    let outcome = outcome.map_err(|error| ApiError::of_submit(error, StatusCode::UNAUTHORIZED))?;
    services.login_sources.succeeded(source);
    let expires_at = outcome.records.iter().find_map(|record| match &record.record.event {
        Event::LoginSucceeded(body) => Some(body.expires_at),
        _ => None,
    });
    let role = services.sequencer.state().admin(&body.admin).map(|admin| admin.role);
    let (Some(expires_at), Some(role)) = (expires_at, role) else {
        let message = "the sign-in was undone meanwhile; try again";
        return Err(ApiError::unauthorized("login_failed", message));
    };
    let text = token.expose();
    Ok(HttpResponse::Ok().json(LoginResponse { token: &text, expires_at, role }))
}
