//! Public keys and signatures as they stand in records and messages: base64 text.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64;
use ed25519_dalek::{Signer, SigningKey, Verifier, VerifyingKey};
use schemars::JsonSchema;

use crate::seal::Sealable;

/// Why a key or signature was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The text is not base64 of the right length.
    #[error("expected base64 of {bytes} bytes")]
    Encoding {
        /// Bytes that were expected.
        bytes: usize,
    },
    /// The 32 bytes are not a point of the curve.
    #[error("not an Ed25519 public key")]
    NotAKey,
    /// The signature is not by this key over this statement.
    #[error("the signature does not fit the key and the statement")]
    BadSignature,
}

macro_rules! base64_bytes {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema)]
        #[schemars(with = "String")]
        pub struct $name([u8; $len]);

        crate::text::as_text!($name);

        impl $name {
            /// Wraps the raw bytes.
            pub const fn from_bytes(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// The raw bytes.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = KeyError;

            fn from_str(text: &str) -> Result<Self, KeyError> {
                crate::text::base64(text).map(Self).ok_or(KeyError::Encoding { bytes: $len })
            }
        }

        impl TryFrom<String> for $name {
            type Error = KeyError;

            fn try_from(text: String) -> Result<Self, KeyError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.to_string()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&BASE64.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

base64_bytes!(
    /// A node's Ed25519 identity key (public half).
    IdentityKey, 32
);
base64_bytes!(
    /// A node's X25519 WireGuard key (public half).
    WireGuardKey, 32
);
base64_bytes!(
    /// An Ed25519 signature.
    Signature, 64
);
base64_bytes!(
    /// SHA-256 of a secret with at least 128 random bits, which a plain hash therefore protects.
    SecretHash, 32
);

/// A signature always has the same length.
impl Sealable for Signature {
    const PAD_BYTES: usize = 1;
}

impl SecretHash {
    /// Hashes a secret as it was shown to its owner.
    pub fn of(secret: &str) -> Self {
        use sha2::{Digest, Sha256};
        Self(Sha256::digest(secret.as_bytes()).into())
    }

    /// Compares without telling by time where the difference is.
    pub fn matches(&self, secret: &str) -> bool {
        use subtle::ConstantTimeEq;
        bool::from(self.0.ct_eq(&Self::of(secret).0))
    }
}

impl IdentityKey {
    /// The public half of a private identity key.
    pub fn of(private: &SigningKey) -> Self {
        Self(private.verifying_key().to_bytes())
    }

    /// Checks a signature over a statement (strictly: no small-order keys).
    pub fn verify(&self, statement: &Statement<'_>, signature: &Signature) -> Result<(), KeyError> {
        let key = VerifyingKey::from_bytes(&self.0).map_err(|_| KeyError::NotAKey)?;
        if key.is_weak() {
            return Err(KeyError::NotAKey);
        }
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        key.verify(statement.to_bytes().as_bytes(), &signature).map_err(|_| KeyError::BadSignature)
    }
}

/// What an identity key signs. The first line names the purpose, so that no signature serves another one.
#[derive(Debug, Clone, Copy)]
pub enum Statement<'a> {
    /// "I join this network with this WireGuard key", over the hash of the enrolment secret, so that a join seen by
    /// others can be repeated neither elsewhere nor with another key.
    Join {
        /// The network that is joined.
        network: &'a crate::NetworkId,
        /// Hash of the enrolment secret that is presented.
        secret_hash: &'a SecretHash,
        /// The first WireGuard key.
        wireguard_key: &'a WireGuardKey,
    },
    /// "My WireGuard key number `generation` is this". The key of the join is number 0.
    Rotation {
        /// The network.
        network: &'a crate::NetworkId,
        /// Number of the key, one more than the one before.
        generation: u64,
        /// The new WireGuard key.
        wireguard_key: &'a WireGuardKey,
    },
    /// "I have carried out the record with this leaf hash".
    Acknowledgement {
        /// The network.
        network: &'a crate::NetworkId,
        /// RFC 6962 leaf hash of the record, base64.
        leaf: &'a str,
        /// `established` or `withdrawn`.
        action: crate::event::AcknowledgedAction,
    },
    /// "I did not accept the frame of this number, for this reason".
    Rejection {
        /// The network.
        network: &'a crate::NetworkId,
        /// Number of the control plane's frame.
        frame: u64,
        /// What did not verify: one line.
        reason: &'a str,
    },
}

impl Statement<'_> {
    /// Signs the statement.
    pub fn sign(&self, private: &SigningKey) -> Signature {
        Signature(private.sign(self.to_bytes().as_bytes()).to_bytes())
    }

    fn to_bytes(self) -> String {
        match self {
            Self::Join { network, secret_hash, wireguard_key } => {
                format!("writ/join/v1\n{network}\n{secret_hash}\n{wireguard_key}\n")
            }
            Self::Rotation { network, generation, wireguard_key } => {
                format!("writ/rotation/v1\n{network}\n{generation}\n{wireguard_key}\n")
            }
            Self::Acknowledgement { network, leaf, action } => {
                format!("writ/acknowledgement/v1\n{network}\n{leaf}\n{action}\n")
            }
            Self::Rejection { network, frame, reason } => {
                format!("writ/rejection/v1\n{network}\n{frame}\n{reason}\n")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NetworkId;

    #[test]
    fn a_signature_fits_one_statement_only() {
        let private = SigningKey::from_bytes(&[3; 32]);
        let network = NetworkId::from_bytes([1; 16]);
        let wireguard_key = WireGuardKey::from_bytes([9; 32]);
        let first = Statement::Rotation { network: &network, generation: 1, wireguard_key: &wireguard_key };
        let second = Statement::Rotation { network: &network, generation: 2, wireguard_key: &wireguard_key };
        let signature = first.sign(&private);
        let public = IdentityKey::of(&private);
        assert_eq!(public.verify(&first, &signature), Ok(()));
        assert_eq!(public.verify(&second, &signature), Err(KeyError::BadSignature));
    }

    #[test]
    fn a_weak_key_verifies_nothing() {
        let network = NetworkId::from_bytes([1; 16]);
        let wireguard_key = WireGuardKey::from_bytes([9; 32]);
        let statement =
            Statement::Rotation { network: &network, generation: 1, wireguard_key: &wireguard_key };
        let mut identity_point = [0; 32];
        identity_point[0] = 1;
        let mut forged = [0; 64];
        forged[0] = 1;
        let verdict =
            IdentityKey::from_bytes(identity_point).verify(&statement, &Signature::from_bytes(forged));
        assert_eq!(verdict, Err(KeyError::NotAKey));
    }
}
