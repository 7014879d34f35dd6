//! Access tokens: how they are written, and who stands behind one.

use std::fmt;

use actix_web::HttpRequest;
use actix_web::http::header;
use data_encoding::BASE64URL_NOPAD;
use jiff::Timestamp;
use writ_schema::TokenId;
use writ_schema::event::Role;
use writ_schema::keys::SecretHash;
use zeroize::Zeroizing;

use super::error::ApiError;
use crate::core::State;
use crate::entropy;
use crate::graphql::Caller;

const PREFIX: &str = "writ-token-";

/// Bytes of a token's secret.
const SECRET_BYTES: usize = 32;

/// Longest token that is read, in bytes. A real one has 81.
const MAX_TOKEN_BYTES: usize = 160;

/// An access token as its owner holds it: `writ-token-`, the 26 characters of its name, `-`, its secret in base64url.
pub struct AccessToken {
    id: TokenId,
    secret: Zeroizing<String>,
}

impl AccessToken {
    /// A new random token.
    pub fn make() -> Result<Self, entropy::NoEntropy> {
        let secret = Zeroizing::new(entropy::bytes::<SECRET_BYTES>()?);
        let id = TokenId::from_bytes(entropy::bytes()?);
        Ok(Self { id, secret: Zeroizing::new(BASE64URL_NOPAD.encode(&*secret)) })
    }

    /// Reads a token.
    pub fn parse(text: &str) -> Option<Self> {
        let body = text.strip_prefix(PREFIX).filter(|_| text.len() <= MAX_TOKEN_BYTES)?;
        let (id, secret) = body.split_once('-')?;
        let id = format!("{}{id}", TokenId::PREFIX).parse().ok()?;
        (!secret.is_empty()).then(|| Self { id, secret: Zeroizing::new(secret.to_owned()) })
    }

    /// Its name.
    pub fn id(&self) -> &TokenId {
        &self.id
    }

    /// Hash of its secret, which is what the log holds.
    pub fn hash(&self) -> SecretHash {
        SecretHash::of(&self.secret)
    }

    /// The token as it is shown once.
    pub fn expose(&self) -> Zeroizing<String> {
        let body = self.id.as_str().strip_prefix(TokenId::PREFIX).unwrap_or_default();
        Zeroizing::new(format!("{PREFIX}{body}-{}", *self.secret))
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccessToken({}, secret)", self.id)
    }
}

/// What follows `Bearer` in an `Authorization` value.
pub fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The token that a request shows.
pub fn bearer_of(request: &HttpRequest) -> Result<&str, ApiError> {
    let value = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    value.and_then(bearer).ok_or_else(|| {
        let message = "sign in first: this needs `Authorization: Bearer …`";
        ApiError::unauthorized("unauthenticated", message)
    })
}

/// Who stands behind a token at this moment.
pub fn caller(state: &State, token: &str, now: Timestamp) -> Result<Caller, ApiError> {
    let invalid =
        || ApiError::unauthorized("invalid_token", "this is not an access token of this network; sign in");
    let token = AccessToken::parse(token).ok_or_else(invalid)?;
    if let Some(admin) = state.admin_by_token(token.id(), &token.secret, now) {
        return Ok(Caller { admin: admin.id.clone(), role: admin.role });
    }
    // Only to somebody who holds the secret is it said what became of the token.
    let known =
        state.token(token.id()).filter(|known| known.hash.matches(&token.secret)).ok_or_else(invalid)?;
    if known.expires_at <= now {
        return Err(ApiError::unauthorized("expired_token", "the access token has expired; sign in again"));
    }
    let message = "the role behind this access token was revoked; ask an owner";
    Err(ApiError::unauthorized("revoked_token", message))
}

/// Whether the role may read log entries, which hold what people did: the auditor's, and those above all others.
pub fn reads_entries(role: Role) -> bool {
    matches!(role, Role::Owner | Role::Admin | Role::Auditor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_text_and_never_shows_its_secret() {
        let token = AccessToken::make().unwrap();
        let text = token.expose();
        let read = AccessToken::parse(&text).unwrap();
        assert_eq!((read.id(), read.hash()), (token.id(), token.hash()));
        assert!(!format!("{token:?}").contains(&**token.secret));
        assert!(text.len() <= MAX_TOKEN_BYTES);
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let long = format!("{PREFIX}{}", "a".repeat(MAX_TOKEN_BYTES));
        for bad in ["", PREFIX, "writ-token-abc", "writ-token-abc-def", "tok_x", &long] {
            assert!(AccessToken::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn the_bearer_scheme_is_read_in_any_case() {
        assert_eq!(bearer("Bearer x"), Some("x"));
        assert_eq!(bearer("bearer x"), Some("x"));
        assert_eq!(bearer("Basic x"), None);
        assert_eq!(bearer("x"), None);
    }
}
