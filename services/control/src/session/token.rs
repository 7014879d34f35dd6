//! Session tokens: short-lived JWTs (EdDSA) that a node signs itself. The server stores no bearer secret.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Mutex, PoisonError};

use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use writ_schema::keys::IdentityKey;
use writ_schema::protocol::{MAX_SESSION_TOKEN_SECONDS, SessionClaims};
use writ_schema::{NetworkId, NodeId};

/// How far an agent's clock may be ahead of the server's.
pub const MAX_CLOCK_SKEW_SECONDS: u64 = 60;

/// Longest token that is read, in bytes. A real one has about 350.
const MAX_TOKEN_BYTES: usize = 2048;

/// Shortest and longest name of a token. 16 characters of base64 are 96 bits, so no two are ever the same by chance.
const JTI_CHARS: std::ops::RangeInclusive<usize> = 16..=64;

/// Tokens that are remembered at once. At 512 bytes each at most this is 64 MiB, and one lives for three minutes at most.
const MAX_REMEMBERED: usize = 1 << 17;

/// Why a session token was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefusal {
    /// Not a JWT with the claims of a session.
    #[error("this is not a session token: expected a JWT (EdDSA) with iss, aud, iat, exp and jti")]
    Malformed,
    /// The node does not belong to the network.
    #[error("the node that signed this token does not belong to the network; join it anew")]
    UnknownNode,
    /// Signed by another key than the node's.
    #[error("the token is not signed by the identity key of the node it names")]
    BadSignature,
    /// For another network.
    #[error("the token is for another network")]
    WrongNetwork,
    /// It has ended.
    #[error("the token has expired; sign a new one (is the clock right?)")]
    Expired,
    /// It would live too long.
    #[error("the token lives longer than {MAX_SESSION_TOKEN_SECONDS} seconds; sign a shorter one")]
    TooLong,
    /// Signed in the future.
    #[error("the token was signed in the future; set the clock right")]
    FromTheFuture,
    /// It has opened a session before.
    #[error("the token was used before; sign a new one for each session")]
    Replayed,
    /// Signed before this server started, so that nobody can say whether it was used before.
    #[error("the token was signed before this server started; sign a new one")]
    BeforeStart,
    /// So many tokens came that no more can be remembered.
    #[error("too many sessions were opened lately; try again in a minute")]
    TooMany,
}

impl TokenRefusal {
    /// A stable word for programs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Malformed => "malformed_token",
            Self::UnknownNode => "unknown_node",
            Self::BadSignature => "bad_signature",
            Self::WrongNetwork => "wrong_network",
            Self::Expired => "expired_token",
            Self::TooLong => "token_too_long",
            Self::FromTheFuture => "token_from_the_future",
            Self::Replayed => "replayed_token",
            Self::BeforeStart => "token_before_start",
            Self::TooMany => "busy",
        }
    }
}

/// Checks session tokens and remembers those that were used.
#[derive(Debug)]
pub struct TokenGate {
    started: u64,
    used: Mutex<Used>,
}

impl TokenGate {
    /// A gate that opens at this moment (Unix seconds) and refuses whatever was signed before.
    pub fn new(started: u64) -> Self {
        Self { started, used: Mutex::new(Used::default()) }
    }

    /// Admits a token once. `key_of` gives the identity key of a node of the network.
    pub fn admit(
        &self,
        token: &str,
        network: &NetworkId,
        now: u64,
        key_of: impl FnOnce(&NodeId) -> Option<IdentityKey>,
    ) -> Result<NodeId, TokenRefusal> {
        let claims = verify(token, network, now, key_of)?;
        if claims.iat < self.started {
            return Err(TokenRefusal::BeforeStart);
        }
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.insert(claims, now)
    }
}

/// Checks everything about a token except whether it was used before.
pub fn verify(
    token: &str,
    network: &NetworkId,
    now: u64,
    key_of: impl FnOnce(&NodeId) -> Option<IdentityKey>,
) -> Result<SessionClaims, TokenRefusal> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(TokenRefusal::Malformed);
    }
    // The issuer is needed to find the key; nothing else of these claims is used before the signature is checked.
    let claims: SessionClaims =
        jsonwebtoken::dangerous::insecure_decode(token).map_err(|_| TokenRefusal::Malformed)?.claims;
    let key = key_of(&claims.iss).ok_or(TokenRefusal::UnknownNode)?;
    let key = DecodingKey::from_ed_der(key.as_bytes());
    let claims: SessionClaims =
        jsonwebtoken::decode(token, &key, &signature_only()).map_err(|_| TokenRefusal::BadSignature)?.claims;
    check_claims(claims, network, now)
}

fn check_claims(claims: SessionClaims, network: &NetworkId, now: u64) -> Result<SessionClaims, TokenRefusal> {
    if claims.aud != *network {
        return Err(TokenRefusal::WrongNetwork);
    }
    if !JTI_CHARS.contains(&claims.jti.len()) {
        return Err(TokenRefusal::Malformed);
    }
    match claims.exp.checked_sub(claims.iat) {
        Some(1..=MAX_SESSION_TOKEN_SECONDS) => {}
        Some(0) | None => return Err(TokenRefusal::Malformed),
        Some(_) => return Err(TokenRefusal::TooLong),
    }
    if claims.iat > now.saturating_add(MAX_CLOCK_SKEW_SECONDS) {
        return Err(TokenRefusal::FromTheFuture);
    }
    if claims.exp <= now {
        return Err(TokenRefusal::Expired);
    }
    Ok(claims)
}

/// The signature alone: times and audience are checked by our own rules and clock.
fn signature_only() -> Validation {
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.required_spec_claims = HashSet::new();
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation
}

/// Tokens that opened a session, by when they end.
#[derive(Debug, Default)]
struct Used {
    tokens: HashSet<(NodeId, String)>,
    by_end: BTreeMap<u64, BTreeSet<(NodeId, String)>>,
}

impl Used {
    fn insert(&mut self, claims: SessionClaims, now: u64) -> Result<NodeId, TokenRefusal> {
        self.forget_ended(now);
        let name = (claims.iss.clone(), claims.jti);
        if self.tokens.contains(&name) {
            return Err(TokenRefusal::Replayed);
        }
        if self.tokens.len() >= MAX_REMEMBERED {
            return Err(TokenRefusal::TooMany);
        }
        self.by_end.entry(claims.exp).or_default().insert(name.clone());
        self.tokens.insert(name);
        Ok(claims.iss)
    }

    /// A token that has ended is refused for that, so it need not be remembered.
    fn forget_ended(&mut self, now: u64) {
        let later = self.by_end.split_off(&now.saturating_add(1));
        for name in std::mem::replace(&mut self.by_end, later).into_values().flatten() {
            self.tokens.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer as _, SigningKey};
    use jsonwebtoken::{EncodingKey, Header};

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn private() -> SigningKey {
        SigningKey::from_bytes(&[7; 32])
    }

    fn node() -> NodeId {
        NodeId::of_identity_key(IdentityKey::of(&private()).as_bytes())
    }

    fn network() -> NetworkId {
        NetworkId::from_bytes([3; 16])
    }

    fn claims() -> SessionClaims {
        SessionClaims {
            iss: node(),
            aud: network(),
            iat: NOW,
            exp: NOW + 60,
            jti: "0123456789abcdef".to_owned(),
        }
    }

    fn signed(claims: &SessionClaims, key: &SigningKey) -> String {
        let part = |json: Vec<u8>| data_encoding::BASE64URL_NOPAD.encode(&json);
        let header = part(br#"{"alg":"EdDSA","typ":"JWT"}"#.to_vec());
        let message = format!("{header}.{}", part(serde_json::to_vec(claims).unwrap()));
        format!("{message}.{}", part(key.sign(message.as_bytes()).to_bytes().to_vec()))
    }

    fn admit(gate: &TokenGate, token: &str, now: u64) -> Result<NodeId, TokenRefusal> {
        gate.admit(token, &network(), now, |asked| (*asked == node()).then(|| IdentityKey::of(&private())))
    }

    fn verdict(change: impl FnOnce(&mut SessionClaims)) -> Result<NodeId, TokenRefusal> {
        let mut claims = claims();
        change(&mut claims);
        admit(&TokenGate::new(0), &signed(&claims, &private()), NOW)
    }

    #[test]
    fn a_nodes_own_token_opens_one_session() {
        let gate = TokenGate::new(0);
        let token = signed(&claims(), &private());
        assert_eq!(admit(&gate, &token, NOW), Ok(node()));
        assert_eq!(admit(&gate, &token, NOW + 1), Err(TokenRefusal::Replayed));
        assert_eq!(admit(&gate, &token, NOW + 60), Err(TokenRefusal::Expired));
    }

    #[test]
    fn each_claim_is_checked() {
        assert_eq!(verdict(|_| {}), Ok(node()));
        assert_eq!(verdict(|c| c.iss = NodeId::from_bytes([0; 16])), Err(TokenRefusal::UnknownNode));
        assert_eq!(verdict(|c| c.aud = NetworkId::from_bytes([0; 16])), Err(TokenRefusal::WrongNetwork));
        assert_eq!(verdict(|c| c.exp = NOW + 121), Err(TokenRefusal::TooLong));
        assert_eq!(verdict(|c| c.exp = c.iat), Err(TokenRefusal::Malformed));
        assert_eq!(verdict(|c| (c.iat, c.exp) = (NOW + 61, NOW + 90)), Err(TokenRefusal::FromTheFuture));
        assert_eq!(verdict(|c| (c.iat, c.exp) = (NOW + 60, NOW + 90)), Ok(node()));
        assert_eq!(verdict(|c| (c.iat, c.exp) = (NOW - 60, NOW)), Err(TokenRefusal::Expired));
        assert_eq!(verdict(|c| c.jti = "short".to_owned()), Err(TokenRefusal::Malformed));
    }

    #[test]
    fn another_key_another_algorithm_or_garbage_is_refused() {
        let gate = TokenGate::new(0);
        let other = SigningKey::from_bytes(&[8; 32]);
        assert_eq!(admit(&gate, &signed(&claims(), &other), NOW), Err(TokenRefusal::BadSignature));
        let hmac = jsonwebtoken::encode(
            &Header::new(Algorithm::HS256),
            &claims(),
            &EncodingKey::from_secret(IdentityKey::of(&private()).as_bytes()),
        )
        .unwrap();
        assert!(admit(&gate, &hmac, NOW).is_err());
        let none = "eyJhbGciOiJub25lIn0.e30.";
        let long = "a.".repeat(4000);
        for bad in ["", "a.b", "a.b.c", "....", none, &long] {
            assert!(admit(&gate, bad, NOW).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_token_from_before_the_start_is_refused_because_it_may_have_been_used() {
        let token = signed(&claims(), &private());
        assert_eq!(admit(&TokenGate::new(NOW + 1), &token, NOW + 1), Err(TokenRefusal::BeforeStart));
        assert_eq!(admit(&TokenGate::new(NOW), &token, NOW + 1), Ok(node()));
    }

    #[test]
    fn ended_tokens_are_forgotten() {
        let gate = TokenGate::new(0);
        admit(&gate, &signed(&claims(), &private()), NOW).unwrap();
        let later = SessionClaims { iat: NOW + 100, exp: NOW + 160, ..claims() };
        assert_eq!(admit(&gate, &signed(&later, &private()), NOW + 100), Ok(node()));
        let used = gate.used.lock().unwrap();
        assert_eq!((used.tokens.len(), used.by_end.len()), (1, 1));
    }

    #[test]
    fn tokens_that_a_common_library_signs_are_read() {
        // PKCS #8 of an Ed25519 key is this head and the seed (RFC 8410).
        let head = data_encoding::HEXLOWER.decode(b"302e020100300506032b657004220420").unwrap();
        let key = EncodingKey::from_ed_der(&[head, private().to_bytes().to_vec()].concat());
        let token = jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims(), &key).unwrap();
        assert_eq!(admit(&TokenGate::new(0), &token, NOW), Ok(node()));
    }
}
