//! A network's history as it would be: connections that are authorized, acknowledged by both ends, renewed and closed, some
//! refused, now and then a key rotation. Identifiers, salts, ciphertext and signatures are random, as in a real log: nothing
//! compresses that could not.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};

use jiff::{SignedDuration, Timestamp};
use writ_schema::event::*;
use writ_schema::keys::{Signature, WireGuardKey};
use writ_schema::net::{PortRange, Protocol};
use writ_schema::record::CommandRef;
use writ_schema::seal::{
    HeldKey, IndexKey, KeyId, Place, Quarter, Retention, Salt, Sealed, SealingKeys, Subject, SubjectKey,
};
use writ_schema::{Actor, AuthorizationId, CommandId, NodeId, PolicyVersion, Record, Seq, UserId};

const NODES: u64 = 500;
const SERVERS: u64 = 40;

/// Fast random bytes that do not compress (xoshiro256++, public domain by Blackman and Vigna).
pub struct Random([u64; 4]);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self([
            seed ^ 0x9E37_79B9_7F4A_7C15,
            0xBF58_476D_1CE4_E5B9,
            0x94D0_49BB_1331_11EB,
            seed.wrapping_mul(31) + 7,
        ])
    }

    pub fn next(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.0;
        let result = a.wrapping_add(*d).rotate_left(23).wrapping_add(*a);
        let t = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= t;
        *d = d.rotate_left(45);
        result
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        bytes
            .chunks_mut(8)
            .for_each(|chunk| chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]));
        bytes
    }
}

/// One key per subject, as the vault has.
struct Keys;

impl SealingKeys for Keys {
    fn sealing_key(&self, of: &(Subject, Retention), place: Place) -> Option<HeldKey> {
        thread_local!(static KNOWN: RefCell<HashMap<Subject, (KeyId, SubjectKey)>> = RefCell::default());
        KNOWN.with_borrow_mut(|known| {
            let mut fresh = Random::new(known.len() as u64);
            let made = || (KeyId::from_bytes(fresh.bytes()), SubjectKey::from_bytes(fresh.bytes()));
            let (id, key) = known.entry(of.0.clone()).or_insert_with(made);
            let key_ref = IndexKey::from_bytes([9; 32]).key_ref(*id, place);
            Some(HeldKey { key_ref, key: key.field_key(place) })
        })
    }
}

/// Makes records, one after the other.
pub struct Events {
    random: Random,
    seq: u64,
    time: Timestamp,
    due: VecDeque<(u64, Pending)>,
}

enum Pending {
    Acknowledge(AuthorizationId, Seq, Side, u64),
    Renew(AuthorizationId, u64, u64),
    Close(AuthorizationId, Side),
}

impl Events {
    pub fn new(seed: u64) -> Self {
        let time = Timestamp::from_second(1_790_000_000).unwrap();
        Self { random: Random::new(seed), seq: 0, time, due: VecDeque::new() }
    }

    /// The next record's bytes.
    pub fn next(&mut self) -> Vec<u8> {
        self.time += SignedDuration::from_micros(self.random.below(40_000) as i64 + 1);
        let (event, actor, cause) = self.event();
        let id = CommandId::from_bytes(self.random.bytes());
        let digest = format!("{:016x}", self.random.next());
        let is_sealed = !matches!(event, Event::ConnectionClosed(_) | Event::KeyRotated(_));
        let mut record = Record {
            seq: Seq(self.seq),
            time: self.time,
            actor,
            command: CommandRef { id, digest },
            cause,
            salt: is_sealed.then(|| Salt::from_bytes(self.random.bytes())),
            event,
        };
        record.close(&Keys).unwrap();
        self.seq += 1;
        record.encode().unwrap().into_bytes()
    }

    pub fn batch(&mut self, count: usize) -> Vec<Vec<u8>> {
        (0..count).map(|_| self.next()).collect()
    }

    fn event(&mut self) -> (Event, Actor, Option<Seq>) {
        if let Some((_, pending)) = self.due.pop_front_if(|(due, _)| *due <= self.seq) {
            return self.follow(pending);
        }
        let (source, destination) = (self.random.below(NODES), NODES + self.random.below(SERVERS));
        match self.random.below(100) {
            0..8 => (self.denied(source, destination).into(), Actor::Agent, None),
            8..10 => (self.rotated(source).into(), Actor::Node(node(source)), None),
            _ => (self.authorized(source, destination, None).into(), Actor::Agent, None),
        }
    }

    fn follow(&mut self, pending: Pending) -> (Event, Actor, Option<Seq>) {
        let event = match pending {
            Pending::Acknowledge(authorization, record, side, of) => ConnectionAcknowledged {
                v: Version,
                authorization,
                record,
                side,
                action: AcknowledgedAction::Established,
                signature: self.signature(of),
            }
            .into(),
            Pending::Renew(renewed, source, destination) => {
                self.authorized(source, destination, Some(renewed)).into()
            }
            Pending::Close(authorization, side) => ConnectionClosed {
                v: Version,
                authorization,
                side,
                reason: if self.random.below(4) == 0 { CloseReason::Expired } else { CloseReason::Idle },
                bytes_sent: self.random.below(1 << 20),
                bytes_received: self.random.below(1 << 24),
                path: Some(if self.random.below(5) == 0 { PathKind::Relayed } else { PathKind::Direct }),
            }
            .into(),
        };
        (event, Actor::Agent, None)
    }

    fn authorized(
        &mut self,
        source: u64,
        destination: u64,
        renews: Option<AuthorizationId>,
    ) -> ConnectionAuthorized {
        let authorization = AuthorizationId::from_bytes(self.random.bytes());
        let seq = Seq(self.seq);
        for (side, of) in [(Side::Source, source), (Side::Destination, destination)] {
            let pending = Pending::Acknowledge(authorization.clone(), seq, side, of);
            self.later(6, pending);
        }
        if self.random.below(10) < 3 {
            self.later(200, Pending::Renew(authorization.clone(), source, destination));
        } else {
            for side in [Side::Source, Side::Destination] {
                self.later(300, Pending::Close(authorization.clone(), side));
            }
        }
        ConnectionAuthorized {
            v: ConnectionAuthorized::version(None),
            route: None,
            authorization,
            source: self.source(source),
            destination: node(destination),
            protocol: Protocol::Tcp,
            ports: PortRange::single([22, 443, 5432, 8080][self.random.below(4) as usize]),
            rule: format!("acls[{}]", self.random.below(12)),
            policy: PolicyVersion(17),
            sign_in: SignIn::EnrolmentKey,
            renews,
            expires_at: self.time + SignedDuration::from_mins(15),
        }
    }

    fn denied(&mut self, source: u64, destination: u64) -> ConnectionDenied {
        ConnectionDenied {
            v: Version,
            source: self.source(source),
            address: std::net::Ipv4Addr::from(0x6440_0000 + destination as u32).into(),
            destination: Some(node(destination)),
            protocol: Protocol::Tcp,
            port: 3389,
            reason: DenialReason::NoRule,
            rule: None,
            policy: Some(PolicyVersion(17)),
            count: 1,
        }
    }

    fn rotated(&mut self, of: u64) -> KeyRotated {
        KeyRotated {
            v: Version,
            node: node(of),
            generation: self.random.below(50) + 1,
            wireguard_key: WireGuardKey::from_bytes(self.random.bytes()),
            signature: Signature::from_bytes(self.random.bytes()),
        }
    }

    fn source(&self, number: u64) -> Sealed<Source> {
        let user = user(number);
        let source = Source { node: node(number), user: Some(user.clone()) };
        Sealed::new(Subject::User(user), self.retention(), source)
    }

    fn signature(&mut self, of: u64) -> Sealed<Signature> {
        let signature = Signature::from_bytes(self.random.bytes());
        Sealed::new(Subject::User(user(of)), self.retention(), signature)
    }

    fn retention(&self) -> Retention {
        Retention::Connections(Quarter::of(self.time))
    }

    fn later(&mut self, within: u64, pending: Pending) {
        let due = self.seq + 1 + self.random.below(within);
        let at = self.due.partition_point(|(other, _)| *other <= due);
        self.due.insert(at, (due, pending));
    }
}

fn node(number: u64) -> NodeId {
    NodeId::from_bytes(Random::new(number).bytes())
}

fn user(of: u64) -> UserId {
    UserId::from_bytes(Random::new(of / 2 + 10_000).bytes())
}
