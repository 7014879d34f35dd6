//! How HTTP says no: an [`ErrorBody`] with a stable word and a sentence, always.

use std::fmt;
use std::time::Duration;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, ResponseError};
use writ_schema::protocol::ErrorBody;

use crate::core::Rejection;
use crate::sequencer::SubmitError;

/// An answer that says no.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    word: &'static str,
    message: String,
    retry_after: Option<Duration>,
}

impl ApiError {
    /// An answer with this status, stable word and sentence.
    pub fn new(status: StatusCode, word: &'static str, message: impl Into<String>) -> Self {
        Self { status, word, message: message.into(), retry_after: None }
    }

    /// The request makes no sense.
    pub fn bad_request(word: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, word, message)
    }

    /// Who asks is not known.
    pub fn unauthorized(word: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, word, message)
    }

    /// Nothing is here.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// It failed inside; why is in the server's log.
    pub fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error, "a request failed inside");
        let message = "the control plane failed inside; its log says why";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }

    /// Try again after this time.
    pub fn busy(status: StatusCode, retry_after: Duration) -> Self {
        let message = format!("busy; try again in {} ms", retry_after.as_millis());
        Self { retry_after: Some(retry_after), ..Self::new(status, "busy", message) }
    }

    /// The answer to a command that was not carried out.
    pub fn of_submit(error: SubmitError, rejected: StatusCode) -> Self {
        match error {
            SubmitError::Rejected { reason: Rejection::TooManyRefusals, .. } => {
                let retry_after = Some(Duration::from_secs(60));
                let message = Rejection::TooManyRefusals.to_string();
                Self { retry_after, ..Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_refusals", message) }
            }
            SubmitError::Rejected { reason, .. } => Self::new(rejected, reason.word(), reason.to_string()),
            SubmitError::Busy { retry_after } => Self::busy(StatusCode::SERVICE_UNAVAILABLE, retry_after),
            SubmitError::ConflictingCommand(_) => {
                Self::new(StatusCode::CONFLICT, "conflicting_command", error.to_string())
            }
            SubmitError::Unavailable { .. } | SubmitError::Undecided { .. } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", error.to_string())
            }
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        if let Some(wait) = self.retry_after {
            // Whole seconds, rounded up: zero would mean "at once".
            response.insert_header((header::RETRY_AFTER, wait.as_millis().div_ceil(1000).max(1).to_string()));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
        }
        response.json(ErrorBody { error: self.word.to_owned(), message: self.message.clone() })
    }
}
