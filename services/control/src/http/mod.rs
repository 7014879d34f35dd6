//! The HTTP surface: agents, the log, sign-in, GraphQL, health.

pub mod access;
pub(crate) mod body;
mod error;
mod graphql;
mod health;
mod join;
mod log;
mod login;
mod relay;
mod session;
mod sources;

use std::sync::Arc;
use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::{Server, ServiceRequest, ServiceResponse};
use actix_web::http::header;
use actix_web::middleware::{self, Next};
use actix_web::{App, HttpServer, web};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use writ_ledger::store::Reader;

use crate::cosigners::Cosigners;
use crate::metrics::Metrics;
use crate::sequencer::SequencerHandle;
use crate::session::Sessions;
use crate::views::Views;

pub use error::ApiError;
pub use relay::RelayStreams;
pub use sources::Sources;

/// Connections at once. Each agent holds one.
const MAX_CONNECTIONS: usize = 60_000;

/// TLS handshakes and accepted connections at once; an office that comes back after an outage fits.
const MAX_CONNECTION_RATE: usize = 1024;

const BACKLOG: u32 = 4096;

/// How long a request's head may take to arrive.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);

const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// How long running requests may take when the server stops, in seconds.
const SHUTDOWN_SECONDS: u64 = 10;

/// What handlers work with.
pub struct Services {
    /// The one writer.
    pub sequencer: SequencerHandle,
    /// The log.
    pub log: Reader,
    /// Who cosigns it.
    pub cosigners: Cosigners,
    /// The views.
    pub views: Views,
    /// The GraphQL API.
    pub schema: crate::graphql::Schema,
    /// The agents' sessions.
    pub sessions: Sessions,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Failed attempts to sign in.
    pub login_sources: Sources,
    /// Agents that reach the relay over TLS.
    pub relay_streams: RelayStreams,
    /// Cancelled when the server stops.
    pub stopping: CancellationToken,
    /// The sockets of agents.
    pub live_sessions: LiveSessions,
}

/// Counts sockets of agents, so that a stop can wait until their ends are recorded.
#[derive(Debug, Clone, Default)]
pub struct LiveSessions(TaskTracker);

impl LiveSessions {
    /// Held by a socket as long as it is there.
    pub fn token(&self) -> TaskTrackerToken {
        self.0.token()
    }

    /// Waits until every socket is gone.
    pub async fn gone(&self) {
        self.0.close();
        self.0.wait().await;
    }
}

/// How HTTP is served.
#[derive(Debug)]
pub enum Listener {
    /// Without TLS.
    Plain(std::net::TcpListener),
    /// With TLS.
    Tls(std::net::TcpListener, Box<rustls::ServerConfig>),
}

impl Listener {
    /// Where it listens.
    pub fn local_addr(&self) -> std::io::Result<std::net::SocketAddr> {
        match self {
            Self::Plain(listener) | Self::Tls(listener, _) => listener.local_addr(),
        }
    }
}

/// A server that runs when it is awaited.
pub fn serve(services: web::Data<Services>, listener: Listener) -> std::io::Result<Server> {
    let server = HttpServer::new(move || {
        App::new()
            .app_data(services.clone())
            .wrap(headers())
            .wrap(middleware::from_fn(count))
            .configure(routes)
            .default_service(web::to(not_found))
    })
    // With the default, an agent that went away is not noticed until something is sent to it.
    .h1_allow_half_closed(false)
    // Small frames answer small frames: held back until the last one is acknowledged, each would wait 40 ms.
    .tcp_nodelay(true)
    .client_request_timeout(REQUEST_LIMIT)
    .keep_alive(KEEP_ALIVE)
    .max_connections(MAX_CONNECTIONS)
    .max_connection_rate(MAX_CONNECTION_RATE)
    .backlog(BACKLOG)
    .shutdown_timeout(SHUTDOWN_SECONDS)
    .disable_signals();
    let server = match listener {
        Listener::Plain(listener) => server.listen(listener)?,
        Listener::Tls(listener, config) => server.listen_rustls_0_23(listener, *config)?,
    };
    Ok(server.run())
}

fn routes(config: &mut web::ServiceConfig) {
    let at = |path: &str| web::resource(path.to_owned()).default_service(web::to(wrong_method));
    config
        .service(at("/agent/v1/join").route(web::post().to(join::join)))
        .service(at("/agent/v1/session").route(web::get().to(session::session)))
        .service(at("/agent/v1/relay").route(web::get().to(relay::relay)))
        .service(at("/log/checkpoint").route(web::get().to(log::checkpoint)))
        .service(at("/log/checkpoints.cosigned").route(web::get().to(log::cosigned)))
        .service(at("/log/rotations").route(web::get().to(log::rotations)))
        .service(at("/log/vkey").route(web::get().to(log::verifier_key)))
        .service(at("/log/tile/{tile:.*}").route(web::get().to(log::tile)))
        .service(at("/api/v1/login").route(web::post().to(login::login)))
        .service(at("/graphql").route(web::post().to(graphql::query)).route(web::get().to(graphql::get)))
        .service(at("/healthz").route(web::get().to(health::live)))
        .service(at("/readyz").route(web::get().to(health::ready)))
        .service(at("/metrics").route(web::get().to(health::metrics)));
}

/// What every answer says, unless its handler says otherwise.
fn headers() -> middleware::DefaultHeaders {
    middleware::DefaultHeaders::new()
        .add((header::CACHE_CONTROL, "no-store"))
        .add((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .add((header::X_FRAME_OPTIONS, "DENY"))
        .add((header::REFERRER_POLICY, "no-referrer"))
        .add((header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"))
}

async fn count(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let services = request.app_data::<web::Data<Services>>().cloned();
    // The pattern, never the path: a label for every path would be a label for every guess.
    let route = request.match_pattern().unwrap_or_else(|| "none".to_owned());
    let answer = next.call(request).await;
    if let Some(services) = services {
        let status = match &answer {
            Ok(response) => response.status(),
            Err(error) => error.as_response_error().status_code(),
        };
        services.metrics.http_request(&route, status.as_u16());
    }
    answer
}

async fn not_found() -> Result<&'static str, ApiError> {
    Err(ApiError::not_found("nothing is here; the API is at /graphql, the log at /log/checkpoint"))
}

async fn wrong_method() -> Result<&'static str, ApiError> {
    let message = "this address does not take this method";
    Err(ApiError::new(actix_web::http::StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message))
}
