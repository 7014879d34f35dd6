//! This node's WireGuard keys: the one in use, the one that is to follow, and the one before.

use std::sync::Arc;
use std::time::Instant;

use boringtun::x25519::{PublicKey, StaticSecret};
use writ_schema::CommandId;
use writ_schema::keys::WireGuardKey;

use super::peer::OLD_TUNNEL_LIFETIME;
use super::wireguard::OwnKey;

/// A key that is not in the log yet.
#[derive(Clone)]
pub struct NextKey {
    /// The command that asks for it, kept until it is answered.
    pub command: CommandId,
    /// Its number.
    pub generation: u64,
    /// The private half.
    pub secret: StaticSecret,
}

impl NextKey {
    /// The public half.
    pub fn public(&self) -> WireGuardKey {
        WireGuardKey::from_bytes(*PublicKey::from(&self.secret).as_bytes())
    }
}

/// The keys that handshakes are accepted with.
pub(super) struct Keys {
    current: Arc<OwnKey>,
    pub generation: u64,
    previous: Option<(Arc<OwnKey>, Instant)>,
    pub next: Option<NextKey>,
}

impl Keys {
    pub fn new(secret: StaticSecret, generation: u64) -> Self {
        Self { current: Arc::new(OwnKey::new(secret)), generation, previous: None, next: None }
    }

    pub fn current(&self) -> &Arc<OwnKey> {
        &self.current
    }

    /// The next key is in the log: it is the current one from now on.
    pub fn adopt(&mut self, now: Instant, generation: u64, public: &WireGuardKey) -> bool {
        let fits = |next: &mut NextKey| next.generation == generation && next.public() == *public;
        let Some(next) = self.next.take_if(fits) else { return false };
        let before = std::mem::replace(&mut self.current, Arc::new(OwnKey::new(next.secret)));
        self.previous = now.checked_add(OLD_TUNNEL_LIFETIME).map(|until| (before, until));
        self.generation = generation;
        true
    }

    /// Forgets the key before when its time is over. Tells whether it did.
    pub fn expire(&mut self, now: Instant) -> bool {
        self.previous.take_if(|(_, until)| *until <= now).is_some()
    }

    /// Which of our keys a handshake is with.
    pub fn addressed_by(&self, datagram: &[u8]) -> Option<&OwnKey> {
        let previous = self.previous.as_ref().map(|(key, _)| &**key);
        [Some(&*self.current), previous].into_iter().flatten().find(|key| key.is_addressed_by(datagram))
    }

    pub fn reset_limiters(&self) {
        self.current.reset_limiter();
        if let Some((previous, _)) = &self.previous {
            previous.reset_limiter();
        }
    }
}
