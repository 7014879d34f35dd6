//! The protocol over HTTP.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix_web::dev::ServerHandle;
use actix_web::http::{StatusCode, header};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use anyhow::{Context as _, Result};
use writ_ledger::witness::{
    AddCheckpoint, Answer, FolderState, LogId, MAX_REQUEST_BYTES, StateError, Witness, WitnessState,
};
use writ_ledger::{CosignerKey, CosigningKey};

use super::WitnessConfig;
use crate::http::ApiError;
use crate::http::body;
use crate::tls::Identity;

/// Connections at once: a log needs one.
const MAX_CONNECTIONS: usize = 1024;

/// How long a request's head may take to arrive.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// How long a whole request may take to arrive.
const BODY_LIMIT: Duration = Duration::from_secs(20);

/// Logs keep their connection from one checkpoint to the next.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

const SHUTDOWN_SECONDS: u64 = 5;

/// The folder, shared with whoever keeps evidence in it.
#[derive(Debug, Clone)]
struct SharedState(Arc<FolderState>);

impl WitnessState for SharedState {
    fn newest(&self, log: &LogId) -> Result<Option<String>, StateError> {
        self.0.newest(log)
    }

    fn store(&self, log: &LogId, note: &str) -> Result<(), StateError> {
        self.0.store(log, note)
    }
}

struct Service {
    witness: Witness<SharedState>,
    state: SharedState,
}

/// A witness that serves until it is stopped.
pub struct WitnessServer {
    address: SocketAddr,
    key: CosignerKey,
    server: ServerHandle,
    serving: tokio::task::JoinHandle<std::io::Result<()>>,
}

fn open(data: &Path, config: &WitnessConfig) -> Result<Service> {
    let key = CosigningKey::load(&WitnessConfig::key_file(data))?;
    let state = SharedState(Arc::new(FolderState::open(&WitnessConfig::state_folder(data))?));
    let witness = Witness::open(key, config.log_keys()?, state.clone())?;
    Ok(Service { witness, state })
}

/// How far each log is cosigned. The witness must not be running.
pub(super) fn cosigned(data: &Path, config: &WitnessConfig) -> Result<Vec<(String, Option<u64>)>> {
    let service = open(data, config)?;
    Ok(service.witness.sizes().map(|(origin, size)| (origin.to_owned(), size)).collect())
}

impl WitnessServer {
    /// Opens the witness in a folder and serves it.
    pub fn start(data: &Path, config: &WitnessConfig) -> Result<Self> {
        let listener = TcpListener::bind(config.listen)
            .with_context(|| format!("cannot serve HTTP on {}", config.listen))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let service = web::Data::new(open(data, config)?);
        let key = service.witness.key();
        let server = HttpServer::new(move || App::new().app_data(service.clone()).configure(routes))
            .h1_allow_half_closed(false)
            .client_request_timeout(REQUEST_LIMIT)
            .keep_alive(KEEP_ALIVE)
            .max_connections(MAX_CONNECTIONS)
            .shutdown_timeout(SHUTDOWN_SECONDS)
            .disable_signals();
        let server = match (&config.tls.certificate, &config.tls.key) {
            (Some(certificate), Some(key)) => {
                let identity = Identity::load(certificate, key)?;
                server.listen_rustls_0_23(listener, identity.server_config()?)?
            }
            _ => server.listen(listener)?,
        };
        let server = server.run();
        let handle = server.handle();
        Ok(Self { address, key, server: handle, serving: tokio::spawn(server) })
    }

    /// Where it is served.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its public key.
    pub fn key(&self) -> &CosignerKey {
        &self.key
    }

    /// Answers what has been asked, and stops.
    pub async fn stop(self) {
        self.server.stop(true).await;
        // Its end was asked for; how it ended changes nothing any more.
        let _ = self.serving.await;
    }
}

fn routes(config: &mut web::ServiceConfig) {
    config
        .service(web::resource("/add-checkpoint").route(web::post().to(add_checkpoint)))
        .service(web::resource("/{log}/checkpoint").route(web::get().to(checkpoint)))
        .service(web::resource("/vkey").route(web::get().to(verifier_key)))
        .service(web::resource("/healthz").route(web::get().to(|| async { "alive\n" })));
}

async fn add_checkpoint(
    service: web::Data<Service>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let body = tokio::time::timeout(BODY_LIMIT, body::read(&request, payload, MAX_REQUEST_BYTES)).await;
    let body = body.map_err(|_| ApiError::bad_request("slow_body", "the body did not arrive in time"))??;
    // Storing waits for the disk.
    let answer = web::block(move || answer(&service, &body)).await;
    let answer = answer.map_err(|error| ApiError::internal(&error))?;
    let status = StatusCode::from_u16(answer.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Ok(HttpResponse::build(status)
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .content_type(answer.content_type())
        .body(answer.body()))
}

fn answer(service: &Service, body: &[u8]) -> Answer {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let answer = service.witness.add_checkpoint(body, now);
    let request = AddCheckpoint::parse(body);
    let origin = request.map(|request| request.checkpoint.origin).unwrap_or_default();
    match &answer {
        Answer::Cosigned(_) => tracing::info!(origin, "cosigned"),
        Answer::Unavailable(why) => tracing::error!(origin, why, "cannot cosign"),
        refused => tracing::info!(origin, status = refused.status(), "refused to cosign"),
    }
    if let Some(evidence) = answer.evidence() {
        match service.state.0.keep_evidence(&LogId::of(&origin), evidence, body) {
            Ok(kept) => tracing::warn!(
                origin,
                ?evidence,
                ?kept,
                "the log has signed a checkpoint that is not proven to continue the one cosigned here"
            ),
            Err(error) => tracing::error!(origin, %error, "evidence against the log cannot be kept"),
        }
    }
    answer
}

async fn checkpoint(service: web::Data<Service>, log: web::Path<String>) -> HttpResponse {
    match LogId::parse(&log).and_then(|log| service.witness.newest(&log)) {
        Some(note) => text(note),
        None => HttpResponse::NotFound()
            .content_type("text/plain; charset=utf-8")
            .body("no checkpoint of that log was cosigned here\n"),
    }
}

async fn verifier_key(service: web::Data<Service>) -> HttpResponse {
    text(format!("{}\n", service.witness.key()))
}

fn text(body: String) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .content_type("text/plain; charset=utf-8")
        .body(body)
}
