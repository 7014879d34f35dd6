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
/// How often the server is asked that keeps a mapping of this node's: more often than NATs forget it.
const KEEP_INTERVAL: Duration = Duration::from_secs(25);
/// How often the others are asked, whose answers show of what kind the NAT is: so seldom that NATs have forgotten the mapping,
/// and a new one is seen.
const LOOK_INTERVAL: Duration = Duration::from_secs(600);
/// Waits between the tries of one round.
const RETRIES: [Duration; 3] =
    [Duration::from_millis(500), Duration::from_millis(1_000), Duration::from_millis(2_000)];

/// One server, asked again and again.
#[derive(Debug, Clone)]
pub(super) struct StunClient {
    server: SocketAddr,
    interval: Duration,
    transaction: [u8; 12],
    tries: usize,
    next: Instant,
    observed: Option<SocketAddr>,
    /// The last whole round was not answered.
    has_failed: bool,
}

impl StunClient {
    /// Asks so often that the mapping stays.
    pub fn keeping(now: Instant, server: SocketAddr) -> Self {
        Self::every(KEEP_INTERVAL, now, server)
    }

    /// Asks now and then.
    pub fn looking(now: Instant, server: SocketAddr) -> Self {
        Self::every(LOOK_INTERVAL, now, server)
    }

    fn every(interval: Duration, now: Instant, server: SocketAddr) -> Self {
        let transaction = [0; 12];
        Self { server, interval, transaction, tries: 0, next: now, observed: None, has_failed: false }
    }

    /// Whether it keeps the mapping.
    pub fn keeps(&self) -> bool {
        self.interval == KEEP_INTERVAL
    }

    pub fn server(&self) -> SocketAddr {
        self.server
    }

    /// This node as the server saw it last.
    pub fn observed(&self) -> Option<SocketAddr> {
        self.observed
    }

    /// Whether the newest request but one was not answered, nor any since.
    pub fn is_silent(&self) -> bool {
        self.has_failed || self.tries > 1
    }

    /// Asks at once, unless it is asking: others on the same path do not answer.
    pub fn hasten(&mut self, now: Instant) {
        if self.tries == 0 {
            self.next = now;
        }
    }

    /// Asks anew at once, and keeps what was observed until the answer comes.
    pub fn ask_again(&mut self, now: Instant) {
        (self.tries, self.next) = (0, now);
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
            (self.tries, self.observed, self.has_failed) = (0, None, true);
            self.next = now.checked_add(self.interval)?;
            return None;
        }
        self.next = now.checked_add(RETRIES.get(self.tries).copied().unwrap_or(self.interval))?;
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
        (self.tries, self.has_failed) = (0, false);
        self.next = now.checked_add(self.interval).unwrap_or(now);
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

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    const SERVER: &str = "198.51.100.1:3478";
    const SEEN: &str = "203.0.113.9:4000";

    fn respond(request: &[u8], class: MessageClass) -> Vec<u8> {
        let mut transaction = [0; 12];
        transaction.copy_from_slice(&request[8..20]);
        let mut message = Message::<Attribute>::new(class, BINDING, TransactionId::new(transaction));
        message.add_attribute(XorMappedAddress::new(SEEN.parse().unwrap()));
        MessageEncoder::new().encode_into_bytes(message).unwrap()
    }

    #[test]
    fn an_answer_counts_from_the_server_that_was_asked_and_once() {
        let (now, server) = (Instant::now(), SERVER.parse().unwrap());
        let mut client = StunClient::keeping(now, server);
        let request = client.poll(now, &mut StdRng::seed_from_u64(1)).unwrap();
        let answer = respond(&request, MessageClass::SuccessResponse);
        assert!(!client.handle(now, SEEN.parse().unwrap(), &answer), "from elsewhere");
        assert!(!client.handle(now, server, &respond(&request, MessageClass::ErrorResponse)), "an error");
        let mut other = answer.clone();
        other[8] ^= 1;
        assert!(!client.handle(now, server, &other), "another transaction");
        assert!(client.handle(now, server, &answer));
        assert_eq!(client.observed(), Some(SEEN.parse().unwrap()));
        assert!(!client.handle(now, server, &answer), "a second time");
        assert_eq!(client.deadline(), now + KEEP_INTERVAL);
    }

    #[test]
    fn a_server_that_is_silent_for_a_round_vouches_for_nothing() {
        let mut now = Instant::now();
        let mut client = StunClient::keeping(now, SERVER.parse().unwrap());
        client.observed = Some(SEEN.parse().unwrap());
        let mut random = StdRng::seed_from_u64(1);
        let mut asked = 0;
        while client.observed().is_some() {
            asked += usize::from(client.poll(now, &mut random).is_some());
            now += Duration::from_millis(100);
        }
        assert_eq!(asked, RETRIES.len() + 1);
    }
}
