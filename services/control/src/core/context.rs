//! What a decision takes from outside: the time and random bytes.

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};
use writ_schema::protocol::AUTHORIZATION_SECONDS;
use writ_schema::seal::Salt;

/// The moment and the randomness of one decision.
#[derive(Clone)]
pub struct Context {
    /// The time. Never before that of the last record.
    pub now: Timestamp,
    /// How long an authorization lasts.
    pub authorization_life: SignedDuration,
    entropy: [u8; 32],
}

impl Context {
    /// A decision at this moment, with 32 random bytes that serve no other decision.
    pub fn new(now: Timestamp, entropy: [u8; 32]) -> Self {
        let authorization_life = SignedDuration::from_secs(AUTHORIZATION_SECONDS);
        Self { now, authorization_life, entropy }
    }

    /// The 128 bits of a new identifier.
    pub(crate) fn identifier(&self) -> [u8; 16] {
        self.derive(b"identifier", 0)
    }

    /// The salt of the decision's record at this position.
    pub(crate) fn salt(&self, position: usize) -> Salt {
        Salt::from_bytes(self.derive(b"salt", position))
    }

    fn derive<const N: usize>(&self, purpose: &[u8], number: usize) -> [u8; N] {
        let digest = Sha256::new_with_prefix(self.entropy)
            .chain_update(purpose)
            .chain_update(number.to_le_bytes())
            .finalize();
        let mut bytes = [0; N];
        bytes.copy_from_slice(&digest[..N]);
        bytes
    }
}
