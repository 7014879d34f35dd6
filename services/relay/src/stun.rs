//! Answers STUN Binding requests (RFC 8489), without credentials.
//!
//! The attribute set has no MESSAGE-INTEGRITY on purpose: decoding one re-encodes everything before it, so a packet full
//! of them costs a stranger nothing and this server much. Likewise FINGERPRINT is let through once and last only,
//! which is where it belongs. Everything that is not a small, well-formed request is dropped before it is decoded.

use std::net::SocketAddr;

use bytecodec::{DecodeExt, EncodeExt};
use stun_codec::rfc5389::attributes::{ErrorCode, Fingerprint, UnknownAttributes, XorMappedAddress};
use stun_codec::rfc5389::errors::UnknownAttribute;
use stun_codec::rfc5389::methods::BINDING;
use stun_codec::{Message, MessageClass, MessageDecoder, MessageEncoder, define_attribute_enums};

define_attribute_enums!(
    Attribute,
    AttributeDecoder,
    AttributeEncoder,
    [XorMappedAddress, ErrorCode, UnknownAttributes, Fingerprint]
);

/// A Binding request needs 20 bytes; this leaves room for a client's SOFTWARE.
const MAX_REQUEST_BYTES: usize = 256;
const MAX_ATTRIBUTES: usize = 16;
const HEADER_BYTES: usize = 20;
const BINDING_REQUEST: [u8; 2] = [0x00, 0x01];
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];

/// The answer to a request that came from this address, or `None` when it deserves none.
pub(crate) fn answer(from: SocketAddr, datagram: &[u8]) -> Option<Vec<u8>> {
    if !is_plausible(datagram) {
        return None;
    }
    let request = MessageDecoder::<Attribute>::new().decode_from_bytes(datagram).ok()?.ok()?;
    let unknown: Vec<_> = request
        .unknown_attributes()
        .map(stun_codec::Attribute::get_type)
        .filter(|t| t.is_comprehension_required())
        .collect();
    let class = if unknown.is_empty() { MessageClass::SuccessResponse } else { MessageClass::ErrorResponse };
    let mut response = Message::<Attribute>::new(class, BINDING, request.transaction_id());
    if unknown.is_empty() {
        let observed = SocketAddr::new(from.ip().to_canonical(), from.port());
        response.add_attribute(XorMappedAddress::new(observed));
    } else {
        response.add_attribute(ErrorCode::from(UnknownAttribute));
        response.add_attribute(UnknownAttributes::new(unknown));
    }
    response.add_attribute(Fingerprint::new(&response).ok()?);
    MessageEncoder::new().encode_into_bytes(response).ok()
}

/// Whether a datagram is worth decoding: a Binding request of few, whole attributes.
fn is_plausible(datagram: &[u8]) -> bool {
    if datagram.len() > MAX_REQUEST_BYTES {
        return false;
    }
    let Some((header, attributes)) = datagram.split_first_chunk::<HEADER_BYTES>() else { return false };
    let [t0, t1, l0, l1, c0, c1, c2, c3, ..] = *header;
    [t0, t1] == BINDING_REQUEST
        && usize::from(u16::from_be_bytes([l0, l1])) == attributes.len()
        && [c0, c1, c2, c3] == MAGIC_COOKIE
        && are_plausible(attributes)
}

fn are_plausible(mut attributes: &[u8]) -> bool {
    for _ in 0..=MAX_ATTRIBUTES {
        let Some((&[t0, t1, l0, l1], rest)) = attributes.split_first_chunk() else {
            return attributes.is_empty();
        };
        let padded = usize::from(u16::from_be_bytes([l0, l1])).next_multiple_of(4);
        let Some(rest) = rest.get(padded..) else { return false };
        if u16::from_be_bytes([t0, t1]) == Fingerprint::CODEPOINT && !rest.is_empty() {
            return false;
        }
        attributes = rest;
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use stun_codec::TransactionId;
    use stun_codec::rfc5389;

    use super::*;

    const FROM: &str = "203.0.113.9:51820";

    fn request(attributes: impl FnOnce(&mut Message<rfc5389::Attribute>)) -> Vec<u8> {
        let mut message = Message::new(MessageClass::Request, BINDING, TransactionId::new([7; 12]));
        attributes(&mut message);
        MessageEncoder::new().encode_into_bytes(message).unwrap()
    }

    /// Decodes as an independent client would: with every attribute of RFC 5389.
    fn decode(bytes: &[u8]) -> Message<rfc5389::Attribute> {
        MessageDecoder::new().decode_from_bytes(bytes).unwrap().unwrap()
    }

    fn with_header(attributes: &[u8]) -> Vec<u8> {
        let mut bytes = BINDING_REQUEST.to_vec();
        bytes.extend(u16::try_from(attributes.len()).unwrap().to_be_bytes());
        bytes.extend(MAGIC_COOKIE);
        bytes.extend([7; 12]);
        bytes.extend(attributes);
        bytes
    }

    #[test]
    fn a_client_learns_its_address_in_both_families() {
        for (from, told) in
            [(FROM, FROM), ("[2001:db8::9]:7", "[2001:db8::9]:7"), ("[::ffff:203.0.113.9]:51820", FROM)]
        {
            let answer = decode(&answer(from.parse().unwrap(), &request(|_| ())).unwrap());
            assert_eq!(answer.class(), MessageClass::SuccessResponse);
            assert_eq!(answer.transaction_id(), TransactionId::new([7; 12]));
            assert_eq!(answer.get_attribute::<XorMappedAddress>().unwrap().address(), told.parse().unwrap());
            assert!(answer.get_attribute::<Fingerprint>().is_some());
        }
    }

    #[test]
    fn optional_attributes_are_passed_over_and_a_right_fingerprint_is_accepted() {
        let bytes = request(|m| {
            m.add_attribute(rfc5389::attributes::Software::new_static("a client"));
            let fingerprint = Fingerprint::new(m).unwrap();
            m.add_attribute(fingerprint);
        });
        assert_eq!(
            decode(&answer(FROM.parse().unwrap(), &bytes).unwrap()).class(),
            MessageClass::SuccessResponse
        );
        let mut wrong = bytes;
        *wrong.last_mut().unwrap() ^= 1;
        assert_eq!(answer(FROM.parse().unwrap(), &wrong), None);
    }

    #[test]
    fn a_required_attribute_that_is_unknown_is_named_in_the_error() {
        let bytes =
            request(|m| m.add_attribute(rfc5389::attributes::Username::new("someone".into()).unwrap()));
        let answer = decode(&answer(FROM.parse().unwrap(), &bytes).unwrap());
        assert_eq!(answer.class(), MessageClass::ErrorResponse);
        assert_eq!(answer.get_attribute::<ErrorCode>().unwrap().code(), 420);
        let unknown = answer.get_attribute::<UnknownAttributes>().unwrap();
        assert_eq!(unknown.unknowns().iter().map(|t| t.as_u16()).collect::<Vec<_>>(), [0x0006]);
    }

    #[test]
    fn a_packet_full_of_message_integrity_is_dropped_before_it_is_decoded() {
        let mut integrity = vec![0x00, 0x08, 0x00, 20];
        integrity.extend([0; 20]);
        let hostile = with_header(&integrity.repeat(48));
        assert_eq!(hostile.len(), 1172);
        assert!(!is_plausible(&hostile));
        assert_eq!(answer(FROM.parse().unwrap(), &hostile), None);
    }

    #[test]
    fn a_packet_full_of_fingerprints_or_tiny_attributes_is_dropped_before_it_is_decoded() {
        assert!(!is_plausible(&with_header(&[0x80, 0x28, 0, 4, 0, 0, 0, 0].repeat(2))));
        assert!(is_plausible(&with_header(&[0x80, 0x01, 0, 0].repeat(MAX_ATTRIBUTES))));
        assert!(!is_plausible(&with_header(&[0x80, 0x01, 0, 0].repeat(MAX_ATTRIBUTES + 1))));
    }

    #[test]
    fn only_whole_binding_requests_are_decoded() {
        let good = request(|_| ());
        assert!(is_plausible(&good));
        let altered = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            bytes
        };
        // Not a request; not Binding; wrong cookie; a length that lies.
        for bad in [altered(0, 1), altered(1, 3), altered(4, 0), altered(3, 4)] {
            assert!(!is_plausible(&bad));
        }
        assert!(!is_plausible(&good[..19]));
        assert!(!is_plausible(&with_header(&[0x80, 0x22, 0, 8, 0, 0, 0, 0])), "an attribute beyond the end");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_attributes_are_answered_or_dropped_without_panic(
            attributes in proptest::collection::vec((any::<u16>(), proptest::collection::vec(any::<u8>(), 0..24)), 0..8)
        ) {
            let mut bytes = Vec::new();
            for (kind, value) in attributes {
                bytes.extend(kind.to_be_bytes());
                bytes.extend((value.len() as u16).to_be_bytes());
                bytes.extend(&value);
                bytes.resize(bytes.len().next_multiple_of(4), 0);
            }
            if let Some(answer) = answer(FROM.parse().unwrap(), &with_header(&bytes)) {
                prop_assert!(answer.len() <= 128, "an answer of {} bytes", answer.len());
            }
        }
    }
}
