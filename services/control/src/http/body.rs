//! Request bodies: bounded, of the right type, and refused with the place of the mistake.

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, web};
use futures_util::StreamExt as _;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use super::error::ApiError;

/// Reads a JSON body of at most so many bytes.
pub async fn json<T: DeserializeOwned>(
    request: &HttpRequest,
    payload: web::Payload,
    limit: usize,
) -> Result<T, ApiError> {
    check_type(request)?;
    let bytes = read(request, payload, limit).await?;
    serde_json::from_slice(&bytes).map_err(|error| explain(&error))
}

fn check_type(request: &HttpRequest) -> Result<(), ApiError> {
    let given =
        request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let message = "the body must be JSON: send `Content-Type: application/json`";
    Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message))
}

/// Reads a body of at most so many bytes.
pub async fn read(
    request: &HttpRequest,
    mut payload: web::Payload,
    limit: usize,
) -> Result<Vec<u8>, ApiError> {
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    if announced.and_then(|length| length.parse::<usize>().ok()).is_some_and(|length| length > limit) {
        return Err(too_large(limit));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|_| ApiError::bad_request("incomplete_body", "the body ended early"))?;
        if bytes.len().saturating_add(chunk.len()) > limit {
            return Err(too_large(limit));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn too_large(limit: usize) -> ApiError {
    let message = format!("the body has more than {limit} bytes");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
}

/// Says where and what, but repeats no values: they may be secrets.
fn explain(error: &serde_json::Error) -> ApiError {
    let place = format!("line {}, column {}", error.line(), error.column());
    let text = error.to_string();
    let names_only = ["missing field", "unknown field"].iter().any(|start| text.starts_with(start));
    match error.classify() {
        Category::Data if names_only => ApiError::bad_request("bad_body", text),
        Category::Data => ApiError::bad_request(
            "bad_body",
            format!("a value at {place} is not of the kind that belongs there"),
        ),
        Category::Syntax => ApiError::bad_request("bad_json", format!("the body is not JSON at {place}")),
        Category::Eof | Category::Io => {
            ApiError::bad_request("bad_json", format!("the body ends in the middle of its JSON, at {place}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use writ_schema::protocol::JoinRequest;

    use super::*;

    fn message(body: &str) -> String {
        explain(&serde_json::from_str::<JoinRequest>(body).unwrap_err()).to_string()
    }

    #[test]
    fn a_mistake_is_named_by_its_place() {
        assert!(message("{\n  \"secret\": x}").contains("line 2, column 13"));
        assert!(message("{").contains("ends in the middle"));
        assert!(message("{}").contains("missing field"));
    }

    #[test]
    fn values_are_never_repeated() {
        let text = message(r#"{"command":"cmd_hunter2","secret":"hunter2"}"#);
        assert!(!text.contains("hunter2"), "{text}");
    }
}
