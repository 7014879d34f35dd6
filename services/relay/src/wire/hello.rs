//! How a node binds its address, and how it knows that it is bound.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::field::{Reader, Writer};
use super::{HELLO, HELLO_ACK, HELLO_BYTES, MAC_BYTES, NodeBytes, WireError};
use crate::RelayKey;

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

    pub(super) fn read(bytes: &[u8]) -> Result<Self, WireError> {
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

    pub(super) fn read(bytes: &[u8]) -> Result<Self, WireError> {
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

#[cfg(test)]
mod tests {
    use super::super::{Message, decode};
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
}
