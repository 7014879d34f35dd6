//! Records: events as they stand in the log.
//!
//! A record is encoded once, as one JSON object; those bytes are stored, hashed, shipped and proven, and nobody ever
//! encodes a record again to check it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::Event;
use crate::seal::{
    HeldKey, OpeningKey, OpeningKeys, Place, Retention, Salt, SealError, SealVisitor, Sealable, Sealed,
    SealingKeys,
};
use crate::{AdminId, CommandId, NodeId, Seq, UserId};

/// Longest record in bytes: what a tlog-tiles entry bundle can hold.
pub const MAX_RECORD_BYTES: usize = 65_535;

/// An event with its place in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Record {
    /// Position in the log.
    pub seq: Seq,
    /// When it was decided, by the control plane's clock. Never earlier than the record before.
    pub time: Timestamp,
    /// Who caused it.
    pub actor: Actor,
    /// The command that it answers.
    pub command: CommandRef,
    /// The record that brought it about, for consequences such as the revocations of a policy change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Seq>,
    /// Makes the keys of the record's sealed fields its own; absent if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub salt: Option<Salt>,
    /// What happened.
    pub event: Event,
}

/// Who caused a record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Actor {
    /// The control plane itself, by a timer or at start.
    System,
    /// A local administrator.
    Admin(AdminId),
    /// A person, signed in.
    User(UserId),
    /// A node, where its name is no secret (joins, key rotations).
    Node(NodeId),
    /// The agents of a connection, whose names stand sealed in the event.
    Agent,
    /// Somebody who could not be identified.
    Anonymous,
}

/// The command behind a record. A client that repeats a command gets the first answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CommandRef {
    /// Chosen by the client.
    pub id: CommandId,
    /// A keyed code of the command (64 bits, hex): the same id with another wish is refused, not repeated. Keyed under the
    /// vault, since a plain hash would let anyone guess at what is sealed.
    pub digest: String,
}

/// Why bytes are not a record that this version can act on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A kind, or a version of a kind, that came later than this program.
    #[error(
        "record {seq} is `{kind}` version {version}, which this version of Writ does not know: it could be a \
         revocation, so nothing is decided or reported past it; install the Writ that wrote it, or a newer one"
    )]
    UnknownKind {
        /// Which record.
        seq: Seq,
        /// Its kind.
        kind: String,
        /// Its kind's version.
        version: u64,
    },
    /// Not a record at all.
    #[error("not a record: {0}")]
    Malformed(String),
}

impl Record {
    /// The bytes that are stored and hashed. Every sealed field must be closed.
    pub fn encode(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// Reads a record. Its sealed fields are closed.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        // Looked at once as a whole, which is faster than string by string.
        let text = std::str::from_utf8(bytes).map_err(|error| DecodeError::Malformed(error.to_string()))?;
        serde_json::from_str(text).map_err(|error| explain(bytes, &error))
    }

    /// The rotation in a record's bytes, if the record changes the log's key. Cheap for all other records.
    pub fn log_key_rotation(bytes: &[u8]) -> Option<String> {
        const KIND: &[u8] = b"log.key_rotated";
        if !bytes.windows(KIND.len()).any(|window| window == KIND) {
            return None;
        }
        match Self::decode(bytes).ok()?.event {
            Event::LogKeyRotated(body) => Some(body.rotation),
            _ => None,
        }
    }

    /// Closes every open field.
    pub fn close<K: SealingKeys + ?Sized>(&mut self, keys: &K) -> Result<(), SealError> {
        let mut closing = Closing { salt: self.salt, keys, verdict: Ok(()) };
        self.event.visit_sealed(&mut closing);
        closing.verdict
    }

    /// Opens every field whose key is there; the others stay closed, as after an erasure.
    /// Fails only if a field was altered.
    pub fn open<K: OpeningKeys + ?Sized>(&mut self, keys: &K) -> Result<(), SealError> {
        let mut opening = Opening { salt: self.salt, keys, verdict: Ok(()) };
        self.event.visit_sealed(&mut opening);
        opening.verdict
    }

    /// The keys of the closed fields, as far as they are there, for a reader who is entitled to fields of such retention.
    pub fn held_keys<K: OpeningKeys + ?Sized>(
        &self,
        keys: &K,
        is_entitled: impl Fn(&Retention) -> bool,
    ) -> Vec<HeldKey> {
        let mut handing = Handing { salt: self.salt, keys, is_entitled, held: Vec::new() };
        self.event.clone().visit_sealed(&mut handing);
        handing.held
    }
}

struct Closing<'a, K: ?Sized> {
    salt: Option<Salt>,
    keys: &'a K,
    verdict: Result<(), SealError>,
}

impl<K: SealingKeys + ?Sized> SealVisitor for Closing<'_, K> {
    fn visit<T: Sealable>(&mut self, field: &'static str, sealed: &mut Sealed<T>) {
        if self.verdict.is_ok() {
            self.verdict = place(self.salt, field).and_then(|place| sealed.close(place, self.keys));
        }
    }
}

struct Opening<'a, K: ?Sized> {
    salt: Option<Salt>,
    keys: &'a K,
    verdict: Result<(), SealError>,
}

impl<K: OpeningKeys + ?Sized> SealVisitor for Opening<'_, K> {
    fn visit<T: Sealable>(&mut self, field: &'static str, sealed: &mut Sealed<T>) {
        match place(self.salt, field).and_then(|place| sealed.open(place, self.keys)) {
            Ok(()) | Err(SealError::NoKey { .. }) => {}
            Err(error) => self.verdict = Err(error),
        }
    }
}

struct Handing<'a, K: ?Sized, F> {
    salt: Option<Salt>,
    keys: &'a K,
    is_entitled: F,
    held: Vec<HeldKey>,
}

impl<K: OpeningKeys + ?Sized, F: Fn(&Retention) -> bool> SealVisitor for Handing<'_, K, F> {
    fn visit<T: Sealable>(&mut self, field: &'static str, sealed: &mut Sealed<T>) {
        let (Some(key_ref), Ok(place)) = (sealed.key_ref(), place(self.salt, field)) else { return };
        let Some(OpeningKey { key, of: Some((_, retention)) }) = self.keys.opening_key(key_ref, place) else {
            return;
        };
        if (self.is_entitled)(&retention) {
            self.held.push(HeldKey { key_ref, key });
        }
    }
}

fn place(salt: Option<Salt>, field: &'static str) -> Result<Place, SealError> {
    salt.map(|salt| Place { salt, field }).ok_or(SealError::NoSalt { field })
}

/// Tells a record of a later version from garbage.
fn explain(bytes: &[u8], error: &serde_json::Error) -> DecodeError {
    #[derive(Deserialize)]
    struct Envelope {
        seq: Seq,
        event: BTreeMap<String, serde_json::Value>,
    }
    let malformed = DecodeError::Malformed(error.to_string());
    let Ok(Envelope { seq, event }) = serde_json::from_slice(bytes) else { return malformed };
    let Some((kind, body)) = event.into_iter().next() else { return malformed };
    let version = body.get("v").and_then(serde_json::Value::as_u64).unwrap_or(1);
    match Event::known_version(&kind) {
        Some(known) if known >= version => malformed,
        _ => DecodeError::UnknownKind { seq, kind, version },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_a_later_kind_or_version_is_named() {
        let later = br#"{"seq":7,"event":{"node.teleported":{"v":3}}}"#;
        let expected =
            DecodeError::UnknownKind { seq: Seq(7), kind: "node.teleported".to_owned(), version: 3 };
        assert_eq!(Record::decode(later), Err(expected));
        let newer = br#"{"seq":7,"event":{"node.joined":{"v":9}}}"#;
        assert!(matches!(Record::decode(newer), Err(DecodeError::UnknownKind { version: 9, .. })));
    }

    #[test]
    fn garbage_is_malformed() {
        for bad in [
            &b""[..],
            b"{}",
            b"[1]",
            b"\xff",
            br#"{"seq":1,"event":{}}"#,
            br#"{"seq":1,"event":{"node.joined":{"v":1}}}"#,
        ] {
            assert!(matches!(Record::decode(bad), Err(DecodeError::Malformed(_))));
        }
    }
}
