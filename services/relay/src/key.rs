//! The key that a node and the relay share.

use std::fmt;

use hmac::digest::Key;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use writ_schema::NodeId;
use zeroize::Zeroize;

/// Separates this use of the secret from any other.
const CONTEXT: &[u8] = b"writ relay key v1";

/// The key under which one node and the relay authenticate their hellos. It never shows in `Debug`.
#[derive(Clone)]
pub struct RelayKey([u8; 32]);

/// The relay key of a node: HMAC-SHA256 of its name under the relay's secret.
pub fn relay_key(secret: &[u8; 32], node: &NodeId) -> RelayKey {
    derive(secret, &node.to_bytes())
}

pub(crate) fn derive(secret: &[u8; 32], node: &[u8; 16]) -> RelayKey {
    RelayKey(mac(secret, &[CONTEXT, node]))
}

impl RelayKey {
    /// The key of these bytes, as the control plane handed them to the node.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The secret bytes, to hand them to the node that they belong to.
    pub fn expose_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(crate) fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        mac(&self.0, parts)
    }

    pub(crate) fn proves(&self, parts: &[&[u8]], tag: &[u8; 32]) -> bool {
        self.mac(parts).ct_eq(tag).into()
    }
}

impl Drop for RelayKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for RelayKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RelayKey(redacted)")
    }
}

pub(crate) fn mac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    // HMAC pads a short key with zeros to its block, so filling the block here is the same and cannot fail.
    let mut block = Key::<Hmac<Sha256>>::default();
    for (to, from) in block.iter_mut().zip(key) {
        *to = *from;
    }
    let mut mac = <Hmac<Sha256> as hmac::digest::KeyInit>::new(&block);
    block.as_mut_slice().zeroize();
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_plain_hmac_sha256() {
        // RFC 4231, test case 2, whose key is shorter than 32 bytes: trailing zeros do not change an HMAC.
        let mut key = [0; 32];
        key[..4].copy_from_slice(b"Jefe");
        let tag = mac(&key, &[b"what do ya want ", b"for nothing?"]);
        assert_eq!(tag[..8], [0x5b, 0xdc, 0xc1, 0x46, 0xbf, 0x60, 0x75, 0x4e]);
    }

    #[test]
    fn every_node_and_every_secret_has_its_own_key() {
        let (a, b) = (NodeId::from_bytes([1; 16]), NodeId::from_bytes([2; 16]));
        let key = *relay_key(&[7; 32], &a).expose_bytes();
        assert_eq!(&key, relay_key(&[7; 32], &a).expose_bytes());
        assert_ne!(&key, relay_key(&[7; 32], &b).expose_bytes());
        assert_ne!(&key, relay_key(&[8; 32], &a).expose_bytes());
    }

    #[test]
    fn a_key_does_not_show_in_debug() {
        assert_eq!(format!("{:?}", RelayKey::from_bytes([0x41; 32])), "RelayKey(redacted)");
    }
}
