//! Asks STUN servers (RFC 8489) under which address this node is seen.
//!
//! Answers are taken only for a transaction that is open, from the server that was asked, and when they are short: without
//! the attributes that are costly to decode.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytecodec::{DecodeExt, EncodeExt};
use rand::Rng;
use stun_codec::rfc5389::attributes::{MappedAddress, Software, XorMappedAddress};
use stun_codec::rfc5389::methods::BINDING;
use stun_codec::{
    Message, MessageClass, MessageDecoder, MessageEncoder, TransactionId, define_attribute_enums,
};

define_attribute_enums!(
    Attribute,
    AttributeDecoder,
    AttributeEncoder,
    [XorMappedAddress, MappedAddress, Software]
);

/// A Binding response with an IPv6 address, a fingerprint and a name fits.
const MAX_RESPONSE_BYTES: usize = 256;
/// How often a server is asked: more often than NATs forget a mapping.
const INTERVAL: Duration = Duration::from_secs(25);
/// Waits between the tries of one round.
const RETRIES: [Duration; 3] =
    [Duration::from_millis(500), Duration::from_millis(1_000), Duration::from_millis(2_000)];

/// One server, asked again and again.
#[derive(Debug)]
pub(super) struct StunClient {
    server: SocketAddr,
    transaction: [u8; 12],
    tries: usize,
    next: Instant,
    observed: Option<SocketAddr>,
}

impl StunClient {
    pub fn new(now: Instant, server: SocketAddr) -> Self {
        Self { server, transaction: [0; 12], tries: 0, next: now, observed: None }
    }

    pub fn server(&self) -> SocketAddr {
        self.server
    }

    /// This node as the server saw it last.
    pub fn observed(&self) -> Option<SocketAddr> {
        self.observed
    }

    /// Begins anew: the network has changed.
    pub fn restart(&mut self, now: Instant) {
        (self.tries, self.next, self.observed) = (0, now, None);
    }

    pub fn deadline(&self) -> Instant {
        self.next
    }

    /// The request to send now, if one is due.
    pub fn poll(&mut self, now: Instant, random: &mut impl Rng) -> Option<Vec<u8>> {
        if now < self.next {
            return None;
        }
        if self.tries == 0 {
            self.transaction = random.random();
        }
        if self.tries > RETRIES.len() {
            // A server that does not answer a whole round no longer vouches for an address.
            (self.tries, self.observed) = (0, None);
            self.next = now.checked_add(INTERVAL)?;
            return None;
        }
        self.next = now.checked_add(RETRIES.get(self.tries).copied().unwrap_or(INTERVAL))?;
        self.tries += 1;
        let request =
            Message::<Attribute>::new(MessageClass::Request, BINDING, TransactionId::new(self.transaction));
        MessageEncoder::new().encode_into_bytes(request).ok()
    }

    /// Takes an answer. Tells whether the observed address has changed.
    pub fn handle(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) -> bool {
        if from != self.server || self.tries == 0 || datagram.len() > MAX_RESPONSE_BYTES {
            return false;
        }
        if datagram.get(8..20) != Some(&self.transaction) {
            return false;
        }
        let Some(observed) = read_response(datagram) else { return false };
        self.tries = 0;
        self.next = now.checked_add(INTERVAL).unwrap_or(now);
        self.observed.replace(observed) != Some(observed)
    }
}

fn read_response(datagram: &[u8]) -> Option<SocketAddr> {
    let message = MessageDecoder::<Attribute>::new().decode_from_bytes(datagram).ok()?.ok()?;
    if message.class() != MessageClass::SuccessResponse || message.method() != BINDING {
        return None;
    }
    let xor = message.get_attribute::<XorMappedAddress>().map(XorMappedAddress::address);
    xor.or_else(|| message.get_attribute::<MappedAddress>().map(MappedAddress::address))
}
