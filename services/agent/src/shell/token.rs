//! The token that opens a session: signed by the node itself, for one use, soon over.

use anyhow::{Context as _, Result};
use data_encoding::BASE64URL_NOPAD;
use ed25519_dalek::SigningKey;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use writ_schema::protocol::SessionClaims;
use zeroize::Zeroizing;

use crate::trust::Membership;

/// How long a token may be used: a connection attempt, and clocks that differ a little.
const TOKEN_SECONDS: u64 = 60;

/// PKCS#8 (RFC 8410) of an Ed25519 seed begins so.
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// A new token.
pub(super) fn session_token(
    membership: &Membership,
    identity: &SigningKey,
    now: Timestamp,
) -> Result<String> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).context("the system gave no random bytes")?;
    let iat = u64::try_from(now.as_second()).context("this machine's clock is before 1970")?;
    let claims = SessionClaims {
        iss: membership.node.clone(),
        aud: membership.network.clone(),
        iat,
        exp: iat.saturating_add(TOKEN_SECONDS),
        jti: BASE64URL_NOPAD.encode(&random),
    };
    let der = Zeroizing::new([&PKCS8_PREFIX[..], identity.as_bytes()].concat());
    let key = EncodingKey::from_ed_der(&der);
    jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims, &key)
        .context("the session token cannot be signed")
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use jsonwebtoken::{DecodingKey, Validation};
    use writ_schema::{NetworkId, NodeId};

    use super::*;

    #[test]
    fn a_token_names_node_and_network_and_is_signed_by_the_identity_key() {
        let identity = SigningKey::from_bytes(&[5; 32]);
        let membership = Membership {
            node: NodeId::of_identity_key(&identity.verifying_key().to_bytes()),
            network: NetworkId::from_bytes([1; 16]),
            network_name: "example".to_owned(),
            address_v4: Ipv4Addr::new(100, 64, 0, 1),
            address_v6: Ipv6Addr::LOCALHOST,
        };
        let token = session_token(&membership, &identity, Timestamp::now()).unwrap();
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_audience(&[membership.network.as_str()]);
        let key = DecodingKey::from_ed_der(identity.verifying_key().as_bytes());
        let read = jsonwebtoken::decode::<SessionClaims>(&token, &key, &validation).unwrap();
        assert_eq!(read.claims.iss, membership.node);
        let other = DecodingKey::from_ed_der(&SigningKey::from_bytes(&[6; 32]).verifying_key().to_bytes());
        assert!(jsonwebtoken::decode::<SessionClaims>(&token, &other, &validation).is_err());
    }
}
