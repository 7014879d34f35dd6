//! Identifiers. Each is a newtype, so that a node can never be passed where a user is meant.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE32_NOPAD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {kind} identifier: expected `{prefix}` and 26 characters of a-z and 2-7")]
pub struct IdError {
    kind: &'static str,
    prefix: &'static str,
    text: String,
}

/// Characters of an identifier after its prefix: 128 bits in base32 without padding.
const BODY_CHARS: usize = 26;

/// Characters of every prefix.
const PREFIX_CHARS: usize = 4;

/// Characters of an identifier: the prefix and the body. It is kept as they are, without an allocation: a record names several.
pub const ID_CHARS: usize = PREFIX_CHARS + BODY_CHARS;

/// Longest piece of a refused text that an error repeats.
const ECHO_CHARS: usize = 48;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema)]
        #[schemars(with = "String")]
        pub struct $name([u8; ID_CHARS]);

        crate::text::as_text!($name);

        impl $name {
            /// What every identifier of this kind begins with.
            pub const PREFIX: &'static str = $prefix;

            /// Makes the identifier of 128 bits; random ones come from the caller, so that the core stays pure.
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                let mut text = [0; ID_CHARS];
                let (prefix, body) = text.split_at_mut(PREFIX_CHARS);
                prefix.copy_from_slice($prefix.as_bytes());
                BASE32_NOPAD.encode_mut(&bytes, body);
                body.make_ascii_lowercase();
                Self(text)
            }

            /// The 128 bits behind the text.
            pub fn to_bytes(&self) -> [u8; 16] {
                let body = self.0[PREFIX_CHARS..].to_ascii_uppercase();
                // The text was checked when it came in, so this cannot fall back.
                BASE32_NOPAD.decode(&body).ok().and_then(|b| b.try_into().ok()).unwrap_or([0; 16])
            }

            /// The identifier as it is written.
            pub fn as_str(&self) -> &str {
                // Letters and digits only, so this cannot fall back.
                std::str::from_utf8(&self.0).unwrap_or_default()
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                if let Some(id) = id(text, $prefix) {
                    return Ok(Self(id));
                }
                Err(IdError { kind: $kind, prefix: $prefix, text: text.chars().take(ECHO_CHARS).collect() })
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.as_str().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

/// The characters of an identifier, if the text is one.
fn id(text: &str, prefix: &str) -> Option<[u8; ID_CHARS]> {
    let id: [u8; ID_CHARS] = text.as_bytes().try_into().ok()?;
    let (begin, body) = id.split_at(PREFIX_CHARS);
    // All of them are looked at, so that the compiler can look at many at once.
    let are_base32 = body.iter().fold(true, |all, byte| all & matches!(byte, b'a'..=b'z' | b'2'..=b'7'));
    // 26 letters hold 130 bits: the two too many are zero.
    let ends_whole = matches!(body.last(), Some(b'a' | b'e' | b'i' | b'm' | b'q' | b'u' | b'y' | b'4'));
    (begin == prefix.as_bytes() && are_base32 && ends_whole).then_some(id)
}

id!(
    /// A network: one deployment, one log, one policy.
    NetworkId, "net_", "network"
);
id!(
    /// A user: a random pseudonym. The person behind it is in sealed fields only.
    UserId, "usr_", "user"
);
id!(
    /// A node: the first 128 bits of the SHA-256 of its identity key, so the name proves the key.
    NodeId, "nod_", "node"
);
id!(
    /// A local administrator.
    AdminId, "adm_", "administrator"
);
id!(
    /// An enrolment key (its public name, not its secret).
    EnrolmentKeyId, "enk_", "enrolment key"
);
id!(
    /// An administrator's access token (its public name, not its secret).
    TokenId, "tok_", "token"
);
id!(
    /// An authorization: the permission for one node to reach another.
    AuthorizationId, "aut_", "authorization"
);
id!(
    /// A proposed policy change.
    ProposalId, "prp_", "policy proposal"
);
id!(
    /// A command, chosen by the client: a repeat gets the first answer and appends nothing.
    CommandId, "cmd_", "command"
);
id!(
    /// A request that an agent makes over its session, chosen by the agent.
    RequestId, "req_", "request"
);

impl NodeId {
    /// The node that holds this Ed25519 identity key.
    pub fn of_identity_key(key: &[u8; 32]) -> Self {
        let digest: [u8; 32] = Sha256::digest(key).into();
        let mut head = [0; 16];
        head.copy_from_slice(&digest[..16]);
        Self::from_bytes(head)
    }
}

/// Position of a record in the log, from zero.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct Seq(pub u64);

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Number of an activated policy, from one.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct PolicyVersion(pub u64);

impl fmt::Display for PolicyVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_survives_text_and_back() {
        let id = UserId::from_bytes([7; 16]);
        assert_eq!(id.as_str().parse::<UserId>(), Ok(id.clone()));
        assert_eq!(id.to_bytes(), [7; 16]);
    }

    #[test]
    fn a_wrong_prefix_length_or_letter_is_refused() {
        let node = NodeId::from_bytes([1; 16]).to_string();
        for bad in [
            "",
            "usr_",
            &node,
            "usr_0000000000000000000000000a",
            "usr_AAAAAAAAAAAAAAAAAAAAAAAAAA",
            "usr_aaaaaaaaaaaaaaaaaaaaaaaaab",
        ] {
            assert!(bad.parse::<UserId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_last_letter_is_one_that_128_bits_end_with() {
        for last in ('a'..='z').chain('2'..='7') {
            let body = format!("{}{last}", "a".repeat(BODY_CHARS - 1));
            let is_base32 = BASE32_NOPAD.decode(body.to_ascii_uppercase().as_bytes()).is_ok();
            assert_eq!(format!("usr_{body}").parse::<UserId>().is_ok(), is_base32, "{last}");
        }
    }

    #[test]
    fn a_node_is_named_by_its_key() {
        assert_ne!(NodeId::of_identity_key(&[0; 32]), NodeId::of_identity_key(&[1; 32]));
    }
}
