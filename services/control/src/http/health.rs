//! Liveness, readiness and metrics.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use serde::Serialize;

use super::Services;
use super::error::ApiError;

/// How long the views may be behind the log before the server calls itself not ready.
const MAX_VIEW_DELAY: Duration = Duration::from_secs(10);

/// The process lives.
pub async fn live() -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; charset=utf-8").body("alive\n")
}

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    log_records: u64,
    log_is_open: bool,
    log_is_writable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_problem: Option<String>,
    view_records: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    view_fault: Option<String>,
}

/// Commands can be taken, and queries see what was done.
pub async fn ready(services: web::Data<Services>) -> HttpResponse {
    let (log_records, log_is_open) = {
        let state = services.sequencer.state();
        (state.size(), state.is_open())
    };
    // From a commit that failed, on a full disk or without a broker for instance, until one succeeds.
    let log_problem = services.sequencer.problem();
    let log_is_writable = log_problem.is_none();
    let views = services.views.progress();
    let is_late = views.behind_since.is_some_and(|since| since.elapsed() > MAX_VIEW_DELAY);
    let ready = log_is_open && log_is_writable && views.fault.is_none() && !is_late;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    HttpResponse::build(status).json(Readiness {
        ready,
        log_records,
        log_is_open,
        log_is_writable,
        log_problem,
        view_records: views.folded,
        view_fault: views.fault.map(|fault| fault.to_string()),
    })
}

/// Everything that is counted, for Prometheus.
pub async fn metrics(services: web::Data<Services>) -> Result<HttpResponse, ApiError> {
    let text = services.metrics.text().map_err(|error| ApiError::internal(&error))?;
    Ok(HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text))
}
