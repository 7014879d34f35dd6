//! GraphQL over HTTP: queries and mutations by POST, subscriptions by WebSocket, an explorer for browsers.

use std::time::{Duration, Instant};

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use actix_ws::{AggregatedMessage, AggregatedMessageStream, CloseCode, CloseReason};
use async_graphql::Data;
use async_graphql::http::{WebSocketProtocols, WsMessage};
use data_encoding::BASE64;
use futures_util::StreamExt as _;
use jiff::Timestamp;

use super::Services;
use super::access;
use super::body;
use super::error::ApiError;
use crate::entropy;

/// Largest GraphQL request: a policy file with its query.
const MAX_QUERY_BODY_BYTES: usize = 1024 * 1024;

/// Longest message of a subscriber.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// Messages of a subscriber that wait to be read.
const MESSAGE_QUEUE: usize = 16;

const PING_EVERY: Duration = Duration::from_secs(20);
const SILENCE_LIMIT: Duration = Duration::from_secs(60);
const SEND_LIMIT: Duration = Duration::from_secs(15);

const EXPLORER: &str = include_str!("explorer.html");
const EXAMPLES: &str = include_str!("examples.json");

/// `POST /graphql`.
pub async fn query(
    services: web::Data<Services>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let token = access::bearer_of(&request)?;
    let caller = access::caller(&services.sequencer.state(), token, Timestamp::now())?;
    let query: async_graphql::Request = body::json(&request, payload, MAX_QUERY_BODY_BYTES).await?;
    let answer = services.schema.execute(query.data(caller)).await;
    Ok(HttpResponse::Ok().content_type("application/graphql-response+json").json(answer))
}

/// `GET /graphql`: a subscription if the client asks for a WebSocket, else the explorer.
pub async fn get(
    services: web::Data<Services>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    if request.headers().contains_key(header::UPGRADE) {
        subscribe(services, &request, payload)
    } else {
        explorer()
    }
}

fn explorer() -> Result<HttpResponse, ApiError> {
    let nonce = BASE64.encode(&entropy::bytes::<18>().map_err(|error| ApiError::internal(&error))?);
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let page = EXPLORER.replace("{{examples}}", EXAMPLES).replace("{{nonce}}", &nonce);
    let mut response = HttpResponse::Ok();
    response.insert_header((header::CONTENT_SECURITY_POLICY, policy));
    Ok(response.content_type("text/html; charset=utf-8").body(page))
}

fn subscribe(
    services: web::Data<Services>,
    request: &HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let offered = request.headers().get(header::SEC_WEBSOCKET_PROTOCOL).and_then(|value| value.to_str().ok());
    let protocol = offered
        .into_iter()
        .flat_map(|offered| offered.split(','))
        .find_map(|name| name.trim().parse::<WebSocketProtocols>().ok())
        .filter(|protocol| *protocol == WebSocketProtocols::GraphQLWS)
        .ok_or_else(|| {
            let message = "subscriptions speak the sub-protocol `graphql-transport-ws`";
            ApiError::bad_request("unsupported_subprotocol", message)
        })?;
    let (response, session, messages) =
        actix_ws::handle_with_protocols(request, payload, &[protocol.sec_websocket_protocol()])
            .map_err(|error| ApiError::bad_request("bad_upgrade", format!("no WebSocket: {error}")))?;
    let messages = messages
        .max_frame_size(MAX_MESSAGE_BYTES)
        .aggregate_continuations()
        .max_continuation_size(MAX_MESSAGE_BYTES);
    actix_web::rt::spawn(talk(services, protocol, session, messages));
    Ok(response)
}

/// Moves messages between a socket and its subscriptions until either ends.
async fn talk(
    services: web::Data<Services>,
    protocol: WebSocketProtocols,
    mut session: actix_ws::Session,
    mut messages: AggregatedMessageStream,
) {
    let (to_schema, from_client) = async_channel::bounded::<Vec<u8>>(MESSAGE_QUEUE);
    let inner = services.clone();
    let mut answers = Box::pin(
        async_graphql::http::WebSocket::new(services.schema.clone(), from_client, protocol)
            .on_connection_init(move |parameters| async move { authenticate(&inner, &parameters) })
            .keepalive_timeout(SILENCE_LIMIT),
    );
    let stopping = services.stopping.clone();
    let mut ping = tokio::time::interval(PING_EVERY);
    let mut heard = Instant::now();
    let reason = loop {
        let sent = tokio::select! {
            message = messages.recv() => {
                heard = Instant::now();
                match message {
                    Some(Ok(AggregatedMessage::Text(text))) => {
                        // A full queue waits here, and with it the client.
                        if to_schema.send(text.into_bytes().to_vec()).await.is_err() { break None; }
                        Ok(())
                    }
                    Some(Ok(AggregatedMessage::Ping(bytes))) => session.pong(&bytes).await,
                    Some(Ok(AggregatedMessage::Pong(_))) => Ok(()),
                    Some(Ok(AggregatedMessage::Binary(_))) => break Some(CloseReason::from(CloseCode::Unsupported)),
                    Some(Err(_)) => break Some(CloseReason::from(CloseCode::Protocol)),
                    Some(Ok(AggregatedMessage::Close(_))) | None => break None,
                }
            }
            answer = answers.next() => match answer {
                Some(WsMessage::Text(text)) => {
                    match tokio::time::timeout(SEND_LIMIT, session.text(text)).await {
                        Ok(sent) => sent,
                        Err(_) => break Some(CloseReason::from(CloseCode::Policy)),
                    }
                }
                Some(WsMessage::Close(code, why)) => {
                    break Some(CloseReason { code: code.into(), description: Some(why) });
                }
                None => break None,
            },
            _ = ping.tick() => {
                if heard.elapsed() > SILENCE_LIMIT { break None; }
                session.ping(b"").await
            }
            () = stopping.cancelled() => break Some(CloseReason::from(CloseCode::Restart)),
        };
        if sent.is_err() {
            break None;
        }
    };
    // The client may be gone already.
    let _ = session.close(reason).await;
}

fn authenticate(services: &Services, parameters: &serde_json::Value) -> async_graphql::Result<Data> {
    let token = parameters.get("authorization").and_then(serde_json::Value::as_str).and_then(access::bearer);
    let token = token.ok_or_else(|| {
        async_graphql::Error::new(
            "send `{\"authorization\": \"Bearer …\"}` as the payload of connection_init",
        )
    })?;
    let caller = access::caller(&services.sequencer.state(), token, Timestamp::now())
        .map_err(|error| async_graphql::Error::new(error.to_string()))?;
    let mut data = Data::default();
    data.insert(caller);
    Ok(data)
}
