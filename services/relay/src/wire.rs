//! The relay's wire format, shared by relay and agent. Pure: no sockets, no clock.
//!
//! | first byte | message | after the first byte |
//! |---|---|---|
//! | `0xF0` | [`Hello`], node to relay | node (16), counter (8), mac (32) |
//! | `0xF1` | [`HelloAck`], relay to node | counter (8), family (1: `4` or `6`), address (4 or 16), port (2), mac (32) |
//! | `0xF2` | data | peer (16), payload |
//! | `0xF3` | [`RefusedReason`], relay to node | reason (1), peer (16) |
//!
//! Numbers are big-endian. A mac is HMAC-SHA256 over every byte before it, under the node's relay key. The peer of
//! data is its destination on the way to the relay, and its source on the way from the relay. No message from the
//! relay is longer than the one it answers by more than three bytes, so a spoofed sender gains nothing.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use writ_schema::NodeId;

use crate::RelayKey;

/// How long a hello binds an address to a node.
pub const BINDING_LIFETIME: Duration = Duration::from_secs(90);
/// How often a node says hello: three times in a binding's life, and more often than NATs forget a mapping.
pub const HELLO_INTERVAL: Duration = Duration::from_secs(25);
/// Largest payload that is forwarded: a full Ethernet frame's worth.
pub const MAX_PAYLOAD_BYTES: usize = 1536;
/// Bytes before the payload of data.
pub const DATA_HEADER_BYTES: usize = 1 + NODE_BYTES;
/// Longest datagram of this format.
pub const MAX_DATAGRAM_BYTES: usize = DATA_HEADER_BYTES + MAX_PAYLOAD_BYTES;
/// Length of a hello.
pub const HELLO_BYTES: usize = 1 + NODE_BYTES + 8 + MAC_BYTES;
/// Length of a refusal.
pub const REFUSED_BYTES: usize = 2 + NODE_BYTES;

const NODE_BYTES: usize = 16;
const MAC_BYTES: usize = 32;

const HELLO: u8 = 0xF0;
const HELLO_ACK: u8 = 0xF1;
const DATA: u8 = 0xF2;
const REFUSED: u8 = 0xF3;
const STUN_COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];

/// Why bytes are not a message of this format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// There are no bytes.
    #[error("the datagram is empty")]
    Empty,
    /// The first byte is none of ours.
    #[error("no message of the relay begins with byte {0:#04x}")]
    UnknownKind(u8),
    /// Too short or too long for its kind.
    #[error("{bytes} bytes are not the length of a {kind} message")]
    Length {
        /// The message it claims to be.
        kind: &'static str,
        /// How long it is.
        bytes: usize,
    },
    /// An address family other than 4 and 6.
    #[error("address family {0} is neither 4 nor 6")]
    Family(u8),
    /// A reason for a refusal that this version does not know.
    #[error("refusal reason {0} is unknown")]
    Reason(u8),
    /// The payload is longer than the relay forwards.
    #[error("a payload of {0} bytes is longer than the relay forwards ({MAX_PAYLOAD_BYTES})")]
    Oversize(usize),
    /// The mac is not of this key and these bytes.
    #[error("the mac does not prove the node's relay key")]
    BadMac,
}

/// A node's identifier as it travels: 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeBytes(pub [u8; 16]);

impl From<&NodeId> for NodeBytes {
    fn from(node: &NodeId) -> Self {
        Self(node.to_bytes())
    }
}

impl From<NodeBytes> for NodeId {
    fn from(node: NodeBytes) -> Self {
        Self::from_bytes(node.0)
    }
}

impl fmt::Debug for NodeBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&NodeId::from(*self), f)
    }
}

/// What a datagram on a socket that carries several protocols is, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A STUN message.
    Stun,
    /// A WireGuard message.
    WireGuard,
    /// A message of this module.
    Relay,
    /// Nothing that belongs here.
    Unknown,
}

/// Tells the protocols on one socket apart. The first byte does not do: a STUN response begins with `0x01`, as does a
/// WireGuard initiation. But three zeros follow in WireGuard, and the magic cookie stands in STUN.
pub fn classify(datagram: &[u8]) -> Kind {
    match *datagram {
        [HELLO..=REFUSED, ..] => Kind::Relay,
        [1..=4, 0, 0, 0, ..] => Kind::WireGuard,
        [0..=0x3F, _, _, _, a, b, c, d, ..] if [a, b, c, d] == STUN_COOKIE => Kind::Stun,
        _ => Kind::Unknown,
    }
}

/// A message of the relay, borrowed from its datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// A node binds its address.
    Hello(Hello),
    /// The relay has bound it.
    HelloAck(HelloAck),
    /// A packet for or from a peer.
    Data {
        /// Destination towards the relay, source from the relay.
        peer: NodeBytes,
        /// The ciphertext.
        payload: &'a [u8],
    },
    /// The relay did not do as it was asked.
    Refused {
        /// Why.
        reason: RefusedReason,
        /// The destination of the refused data, or the node of the refused hello.
        peer: NodeBytes,
    },
}

/// Reads one datagram. A hello and its answer are not proven yet: see [`Hello::verify`], [`HelloAck::verify`].
pub fn decode(datagram: &[u8]) -> Result<Message<'_>, WireError> {
    let (&kind, rest) = datagram.split_first().ok_or(WireError::Empty)?;
    match kind {
        HELLO => Hello::read(rest).map(Message::Hello),
        HELLO_ACK => HelloAck::read(rest).map(Message::HelloAck),
        DATA => read_data(rest),
        REFUSED => read_refused(rest),
        other => Err(WireError::UnknownKind(other)),
    }
}

/// A node tells the relay its address.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// Who says so.
    pub node: NodeBytes,
    /// The node's time in microseconds since 1970; must be greater in every hello, so that none can be replayed.
    pub counter: u64,
    mac: [u8; MAC_BYTES],
}

impl Hello {
    /// A hello, proven by the node's key.
    pub fn new(node: NodeBytes, counter: u64, key: &RelayKey) -> Self {
        let mac = key.mac(&[&[HELLO], &node.0, &counter.to_be_bytes()]);
        Self { node, counter, mac }
    }

    /// Whether it was made with this key.
    pub fn verify(&self, key: &RelayKey) -> Result<(), WireError> {
        let proven = key.proves(&[&[HELLO], &self.node.0, &self.counter.to_be_bytes()], &self.mac);
        if proven { Ok(()) } else { Err(WireError::BadMac) }
    }

    /// The bytes to send.
    pub fn encode(&self) -> [u8; HELLO_BYTES] {
        let mut writer = Writer::<HELLO_BYTES>::new(HELLO);
        writer.put(&self.node.0);
        writer.put(&self.counter.to_be_bytes());
        writer.put(&self.mac);
        writer.bytes
    }

    fn read(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader { bytes, kind: "hello" };
        let hello =
            Self { node: reader.node()?, counter: u64::from_be_bytes(reader.array()?), mac: reader.array()? };
        reader.end()?;
        Ok(hello)
    }
}

impl fmt::Debug for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hello")
            .field("node", &self.node)
            .field("counter", &self.counter)
            .finish_non_exhaustive()
    }
}

/// The relay has bound the address that it observed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HelloAck {
    /// The counter of the hello that this answers. An answer to an older hello is to be ignored.
    pub counter: u64,
    /// The node's address as the relay sees it: a candidate, as from STUN.
    pub observed: SocketAddr,
    mac: [u8; MAC_BYTES],
}

/// The bytes of an encoded [`HelloAck`], whose length depends on the address family.
#[derive(Debug, Clone, Copy)]
pub struct HelloAckBytes {
    bytes: [u8; HelloAck::MAX_BYTES],
    length: usize,
}

impl AsRef<[u8]> for HelloAckBytes {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&self.bytes)
    }
}

impl HelloAck {
    const MAX_BYTES: usize = 1 + 8 + 1 + 16 + 2 + MAC_BYTES;

    /// An answer, proven by the node's key. An IPv4 address that a dual-stack socket shows as IPv6 is given as IPv4.
    pub fn new(counter: u64, observed: SocketAddr, key: &RelayKey) -> Self {
        let observed = SocketAddr::new(observed.ip().to_canonical(), observed.port());
        let mut ack = Self { counter, observed, mac: [0; MAC_BYTES] };
        ack.mac = key.mac(&[ack.unproven().as_ref()]);
        ack
    }

    /// Whether it was made with this key.
    pub fn verify(&self, key: &RelayKey) -> Result<(), WireError> {
        if key.proves(&[self.unproven().as_ref()], &self.mac) { Ok(()) } else { Err(WireError::BadMac) }
    }

    /// The bytes to send.
    pub fn encode(&self) -> HelloAckBytes {
        let mut writer = self.write_unproven();
        writer.put(&self.mac);
        HelloAckBytes { bytes: writer.bytes, length: writer.length }
    }

    fn unproven(&self) -> HelloAckBytes {
        let writer = self.write_unproven();
        HelloAckBytes { bytes: writer.bytes, length: writer.length }
    }

    fn write_unproven(&self) -> Writer<{ Self::MAX_BYTES }> {
        let mut writer = Writer::new(HELLO_ACK);
        writer.put(&self.counter.to_be_bytes());
        match self.observed.ip() {
            IpAddr::V4(ip) => {
                writer.put(&[4]);
                writer.put(&ip.octets());
            }
            IpAddr::V6(ip) => {
                writer.put(&[6]);
                writer.put(&ip.octets());
            }
        }
        writer.put(&self.observed.port().to_be_bytes());
        writer
    }

    fn read(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader { bytes, kind: "hello acknowledgement" };
        let counter = u64::from_be_bytes(reader.array()?);
        let [family] = reader.array()?;
        let ip = match family {
            4 => IpAddr::V4(Ipv4Addr::from(reader.array::<4>()?)),
            6 => IpAddr::V6(Ipv6Addr::from(reader.array::<16>()?)),
            other => return Err(WireError::Family(other)),
        };
        let observed = SocketAddr::new(ip, u16::from_be_bytes(reader.array()?));
        let ack = Self { counter, observed, mac: reader.array()? };
        reader.end()?;
        Ok(ack)
    }
}

impl fmt::Debug for HelloAck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The observed address is personal data: logs of whole messages must not carry it.
        f.debug_struct("HelloAck").field("counter", &self.counter).finish_non_exhaustive()
    }
}

/// What stands before the payload of data for (towards the relay) or from (from the relay) this peer.
pub fn data_header(peer: NodeBytes) -> [u8; DATA_HEADER_BYTES] {
    let mut writer = Writer::new(DATA);
    writer.put(&peer.0);
    writer.bytes
}

/// Writes a data message over what `out` held.
pub fn encode_data(peer: NodeBytes, payload: &[u8], out: &mut Vec<u8>) -> Result<(), WireError> {
    if payload.len() > MAX_PAYLOAD_BYTES {
        return Err(WireError::Oversize(payload.len()));
    }
    out.clear();
    out.extend_from_slice(&data_header(peer));
    out.extend_from_slice(payload);
    Ok(())
}

fn read_data(bytes: &[u8]) -> Result<Message<'_>, WireError> {
    let mut reader = Reader { bytes, kind: "data" };
    let peer = reader.node()?;
    let payload = reader.bytes;
    match payload.len() {
        0 => Err(reader.wrong_length()),
        length if length > MAX_PAYLOAD_BYTES => Err(WireError::Oversize(length)),
        _ => Ok(Message::Data { peer, payload }),
    }
}

/// Why the relay did not do as a node asked. It is a hint and not proven: never act on it but by saying hello anew,
/// asking the control plane, or trying another path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RefusedReason {
    /// The sender's address is not bound: say hello.
    NotBound = 1,
    /// The pair holds no live permit.
    NoPermit = 2,
    /// The peer is not bound at this relay now.
    PeerAbsent = 3,
    /// The hello's counter is not greater than one seen before.
    StaleHello = 4,
    /// The relay holds as many nodes as it can.
    Full = 5,
}

impl RefusedReason {
    fn of_code(code: u8) -> Result<Self, WireError> {
        [Self::NotBound, Self::NoPermit, Self::PeerAbsent, Self::StaleHello, Self::Full]
            .into_iter()
            .find(|reason| *reason as u8 == code)
            .ok_or(WireError::Reason(code))
    }
}

/// The bytes of a refusal.
pub fn encode_refused(reason: RefusedReason, peer: NodeBytes) -> [u8; REFUSED_BYTES] {
    let mut writer = Writer::new(REFUSED);
    writer.put(&[reason as u8]);
    writer.put(&peer.0);
    writer.bytes
}

fn read_refused(bytes: &[u8]) -> Result<Message<'_>, WireError> {
    let mut reader = Reader { bytes, kind: "refused" };
    let [code] = reader.array()?;
    let peer = reader.node()?;
    reader.end()?;
    Ok(Message::Refused { reason: RefusedReason::of_code(code)?, peer })
}

/// Takes fields off the front; `bytes` is what is left after the first byte.
struct Reader<'a> {
    bytes: &'a [u8],
    kind: &'static str,
}

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (head, tail) = self.bytes.split_first_chunk().ok_or_else(|| self.wrong_length())?;
        self.bytes = tail;
        Ok(*head)
    }

    fn node(&mut self) -> Result<NodeBytes, WireError> {
        self.array().map(NodeBytes)
    }

    fn end(&self) -> Result<(), WireError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(self.wrong_length()) }
    }

    fn wrong_length(&self) -> WireError {
        WireError::Length { kind: self.kind, bytes: self.bytes.len() }
    }
}

/// Fills a message of known greatest length.
struct Writer<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Writer<N> {
    fn new(kind: u8) -> Self {
        let mut writer = Self { bytes: [0; N], length: 0 };
        writer.put(&[kind]);
        writer
    }

    fn put(&mut self, part: &[u8]) {
        let end = self.length.saturating_add(part.len());
        // Every caller's parts add up to at most N, which the round-trip tests show.
        if let Some(room) = self.bytes.get_mut(self.length..end) {
            room.copy_from_slice(part);
            self.length = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NODE: NodeBytes = NodeBytes([3; 16]);

    fn key() -> RelayKey {
        RelayKey::from_bytes([9; 32])
    }

    #[test]
    fn a_hello_survives_the_wire_and_proves_its_key() {
        let bytes = Hello::new(NODE, 42, &key()).encode();
        let Ok(Message::Hello(hello)) = decode(&bytes) else { panic!("not a hello") };
        assert_eq!((hello.node, hello.counter), (NODE, 42));
        assert_eq!(hello.verify(&key()), Ok(()));
        assert_eq!(hello.verify(&RelayKey::from_bytes([8; 32])), Err(WireError::BadMac));
    }

    #[test]
    fn no_byte_of_a_hello_or_its_answer_can_be_altered() {
        let ack = HelloAck::new(7, "[2001:db8::1]:51820".parse().unwrap(), &key());
        for bytes in [Hello::new(NODE, 42, &key()).encode().to_vec(), ack.encode().as_ref().to_vec()] {
            for at in 0..bytes.len() {
                let mut altered = bytes.clone();
                altered[at] ^= 1;
                let proven = match decode(&altered) {
                    Ok(Message::Hello(hello)) => hello.verify(&key()).is_ok(),
                    Ok(Message::HelloAck(ack)) => ack.verify(&key()).is_ok(),
                    _ => false,
                };
                assert!(!proven, "byte {at}");
            }
        }
    }

    #[test]
    fn an_answer_survives_the_wire_in_both_families() {
        for observed in ["192.0.2.1:7", "[2001:db8::1]:65535"] {
            let ack = HelloAck::new(7, observed.parse().unwrap(), &key());
            let bytes = ack.encode();
            assert_eq!(decode(bytes.as_ref()), Ok(Message::HelloAck(ack)));
            assert_eq!(ack.verify(&key()), Ok(()));
        }
    }

    #[test]
    fn an_ipv4_address_on_a_dual_stack_socket_is_told_as_ipv4() {
        let ack = HelloAck::new(7, "[::ffff:192.0.2.1]:7".parse().unwrap(), &key());
        assert_eq!(ack.observed, "192.0.2.1:7".parse().unwrap());
    }

    #[test]
    fn data_has_a_payload_within_bounds() {
        let mut out = vec![1];
        assert_eq!(encode_data(NODE, &[5; MAX_PAYLOAD_BYTES], &mut out), Ok(()));
        assert_eq!(decode(&out), Ok(Message::Data { peer: NODE, payload: &[5; MAX_PAYLOAD_BYTES] }));
        out.push(5);
        assert_eq!(decode(&out), Err(WireError::Oversize(MAX_PAYLOAD_BYTES + 1)));
        assert_eq!(
            encode_data(NODE, &[0; MAX_PAYLOAD_BYTES + 1], &mut out),
            Err(WireError::Oversize(MAX_PAYLOAD_BYTES + 1))
        );
        assert!(matches!(decode(&data_header(NODE)), Err(WireError::Length { .. })));
    }

    #[test]
    fn a_refusal_survives_the_wire_and_an_unknown_reason_is_named() {
        let bytes = encode_refused(RefusedReason::PeerAbsent, NODE);
        assert_eq!(decode(&bytes), Ok(Message::Refused { reason: RefusedReason::PeerAbsent, peer: NODE }));
        let mut unknown = bytes;
        unknown[1] = 200;
        assert_eq!(decode(&unknown), Err(WireError::Reason(200)));
    }

    #[test]
    fn the_protocols_on_one_socket_are_told_apart() {
        let stun_request = [0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42];
        let stun_response = [1, 1, 0, 12, 0x21, 0x12, 0xA4, 0x42];
        let wireguard = [1, 0, 0, 0, 0x21, 0x12, 0xA4, 0x42];
        assert_eq!(classify(&stun_request), Kind::Stun);
        assert_eq!(classify(&stun_response), Kind::Stun);
        assert_eq!(classify(&wireguard), Kind::WireGuard);
        assert_eq!(classify(&data_header(NODE)), Kind::Relay);
        assert_eq!(classify(&[]), Kind::Unknown);
        assert_eq!(classify(&[0xF4, 0, 0, 0]), Kind::Unknown);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_bytes_are_read_without_panic(
            kind in prop_oneof![0xF0_u8..=0xF3, any::<u8>()],
            mut bytes in proptest::collection::vec(any::<u8>(), 0..1700),
        ) {
            bytes.insert(0, kind);
            classify(&bytes);
            // What is read is what was written: one message has one form.
            match decode(&bytes) {
                Ok(Message::Hello(hello)) => prop_assert_eq!(&hello.encode()[..], &bytes[..]),
                Ok(Message::HelloAck(ack)) => prop_assert_eq!(ack.encode().as_ref().to_vec(), bytes),
                Ok(Message::Data { peer, payload }) => {
                    let mut out = Vec::new();
                    prop_assert_eq!(encode_data(peer, payload, &mut out), Ok(()));
                    prop_assert_eq!(out, bytes);
                }
                Ok(Message::Refused { reason, peer }) => {
                    prop_assert_eq!(&encode_refused(reason, peer)[..], &bytes[..]);
                }
                Err(error) => prop_assert!(!error.to_string().is_empty()),
            }
        }

        #[test]
        fn short_messages_of_every_kind_are_read_without_panic(
            kind in 0xF0_u8..=0xF3, body in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let mut bytes = vec![kind];
            bytes.extend(body);
            let _ = decode(&bytes);
        }
    }
}
