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

mod field;
mod hello;

use std::fmt;
use std::time::Duration;

use writ_schema::NodeId;

use field::{Reader, Writer};
pub use hello::{Hello, HelloAck, HelloAckBytes};

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NODE: NodeBytes = NodeBytes([3; 16]);

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
