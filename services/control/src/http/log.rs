//! The log over HTTP, as C2SP tlog-tiles: checkpoints and hash tiles for everyone, entries for auditors.

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use jiff::Timestamp;
use writ_ledger::rotation::write_rotations;
use writ_ledger::tile::{TileKind, TilePath};
use writ_ledger::{ReadError, Rotation};

use super::Services;
use super::access;
use super::error::ApiError;
use crate::core::state::LogKeyChange;

/// A tile never changes once it is there.
const FOR_EVER: &str = "public, max-age=31536000, immutable";

/// The newest checkpoint, cosigned where there are witnesses: see [`crate::cosigners`].
pub async fn checkpoint(services: web::Data<Services>) -> HttpResponse {
    text(services.cosigners.published().text().to_owned())
}

/// Cosigned checkpoints from before, which bound when records were logged: see [`writ_ledger::cosigned`].
pub async fn cosigned(services: web::Data<Services>) -> HttpResponse {
    text(services.cosigners.history().to_text())
}

/// The log's public key.
pub async fn verifier_key(services: web::Data<Services>) -> Result<HttpResponse, ApiError> {
    let key = services.sequencer.state().network().map(|network| network.log_key().to_owned());
    key.map(|key| text(format!("{key}\n"))).ok_or_else(|| ApiError::not_found("there is no network yet"))
}

/// The changes of the log's key: whoever trusts an earlier one follows them to the one that signs now.
pub async fn rotations(services: web::Data<Services>) -> HttpResponse {
    let state = services.sequencer.state();
    let changes = state.network().map(|network| network.log_keys.as_slice()).unwrap_or_default();
    let rotations: Vec<Rotation> = changes.iter().map(LogKeyChange::rotation).collect();
    text(write_rotations(&rotations))
}

/// A tile of hashes, or a bundle of entries.
pub async fn tile(services: web::Data<Services>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let path = request.path().strip_prefix("/log/").unwrap_or_default();
    let path: TilePath = path
        .parse()
        .map_err(|error: writ_ledger::tile::TilePathError| ApiError::not_found(error.to_string()))?;
    let caching = match path.kind() {
        TileKind::Hashes { .. } => FOR_EVER,
        TileKind::Entries => {
            check_entries_role(&services, &request)?;
            "private, no-store"
        }
    };
    let log = services.log.clone();
    let bytes = web::block(move || log.tile(&path)).await;
    let bytes = bytes.map_err(|error| ApiError::internal(&error))?.map_err(|error| unreadable(&error))?;
    let bytes = bytes.ok_or_else(|| ApiError::not_found("the log has not grown that far"))?;
    let mut response = HttpResponse::Ok();
    response.insert_header((header::CACHE_CONTROL, caching)).content_type("application/octet-stream");
    Ok(response.body(bytes))
}

/// A record that is not the one in the tree is never served: whoever asks for it is told instead.
fn unreadable(error: &ReadError) -> ApiError {
    let ReadError::Changed { seq, .. } = error else { return ApiError::internal(error) };
    tracing::error!(%error, "the log is damaged");
    let message = format!(
        "record {seq} is not the one that is in the tree, or its hash there is damaged; `writ log verify` on the log's folder \
         tells which"
    );
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "log_damaged", message)
}

fn check_entries_role(services: &Services, request: &HttpRequest) -> Result<(), ApiError> {
    let token = access::bearer_of(request)?;
    let caller = access::caller(&services.sequencer.state(), token, Timestamp::now())?;
    if access::reads_entries(caller.role) {
        return Ok(());
    }
    let message =
        "log entries are for auditors, admins and owners; your role reads the state through GraphQL";
    Err(ApiError::new(StatusCode::FORBIDDEN, "forbidden", message))
}

fn text(body: String) -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; charset=utf-8").body(body)
}
