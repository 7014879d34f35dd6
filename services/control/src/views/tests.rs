//! The views against a small story: a network, a leaver, a connection, an erasure.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use writ_schema::event::{Source as ConnectionSource, *};
use writ_schema::keys::{IdentityKey, SecretHash, Signature, WireGuardKey};
use writ_schema::net::{PortRange, Protocol};
use writ_schema::seal::{
    HeldKey, KeyRef, OpeningKey, OpeningKeys, Place, Retention, Salt, Sealed, SealingKeys, Subject,
};
use writ_schema::*;

use super::Source as _;
use super::connections::ConnectionFilter;
use super::nodes::NodeFilter;
use super::records::RecordFilter;
use super::users::UserStatus;
use super::*;
use crate::vault::Vault;

/// A vault that a story and its copies share.
#[derive(Clone)]
struct Keys(Arc<Vault>);

impl Default for Keys {
    fn default() -> Self {
        Self(Arc::new(Vault::in_memory().unwrap()))
    }
}

impl SealingKeys for Keys {
    fn sealing_key(&self, of: &(Subject, Retention), place: Place) -> Option<HeldKey> {
        self.0.prepare(of).unwrap();
        self.0.sealing_key(of, place)
    }
}

impl OpeningKeys for Keys {
    fn opening_key(&self, key_ref: KeyRef, place: Place) -> Option<OpeningKey> {
        self.0.opening_key(key_ref, place)
    }
}

/// A log in memory.
#[derive(Clone, Default)]
struct Story {
    keys: Keys,
    lines: Arc<Mutex<Vec<String>>>,
}

impl super::Source for Story {
    fn size(&self) -> u64 {
        self.lines.lock().unwrap().len() as u64
    }

    fn read(&self, from: Seq, limit: usize) -> Result<Vec<SourceRecord>, SourceError> {
        let lines = self.lines.lock().unwrap();
        let wanted = lines.iter().skip(usize::try_from(from.0).unwrap()).take(limit);
        wanted
            .map(|bytes| {
                let mut record = Record::decode(bytes.as_bytes())?;
                record.open(&self.keys).unwrap();
                Ok(SourceRecord { record, bytes: bytes.clone() })
            })
            .collect()
    }
}

fn second(number: u64) -> Timestamp {
    "2026-03-14T10:00:00Z".parse::<Timestamp>().unwrap()
        + SignedDuration::from_secs(i64::try_from(number).unwrap())
}

impl Story {
    /// Record `n` happens `n` seconds after ten.
    fn tell(&self, event: impl Into<Event>) -> Seq {
        self.tell_because(event, None)
    }

    fn tell_because(&self, event: impl Into<Event>, cause: Option<Seq>) -> Seq {
        let seq = Seq(self.size());
        let mut record = Record {
            seq,
            time: second(seq.0),
            actor: Actor::System,
            command: CommandRef { id: CommandId::from_bytes([9; 16]), digest: "0".repeat(16) },
            cause,
            salt: Some(Salt::from_bytes([u8::try_from(seq.0).unwrap(); Salt::BYTES])),
            event: event.into(),
        };
        record.close(&self.keys).unwrap();
        self.lines.lock().unwrap().push(record.encode().unwrap());
        seq
    }

    fn user(&self, number: u8, login: &str) -> UserId {
        let user = UserId::from_bytes([number; 16]);
        let sealed =
            |text: &str| Sealed::new(Subject::User(user.clone()), Retention::Identity, text.to_owned());
        self.tell(UserProvisioned {
            v: Version,
            user: user.clone(),
            login: sealed(login),
            display_name: sealed("Somebody"),
            source: UserSource::Manual,
        });
        user
    }

    fn node(&self, number: u8, owner: &NodeOwner, name: &str) -> NodeId {
        let key = EnrolmentKeyId::from_bytes([number; 16]);
        self.tell(EnrolKeyCreated {
            v: Version,
            key: key.clone(),
            secret_hash: SecretHash::from_bytes([0; 32]),
            owner: owner.clone(),
            max_uses: 1,
            expires_at: second(3600),
        });
        let identity = [number; 32];
        let node = NodeId::of_identity_key(&identity);
        let subject = match owner {
            NodeOwner::User(user) => Subject::User(user.clone()),
            NodeOwner::Tags(_) => Subject::Node(node.clone()),
        };
        self.tell(NodeJoined {
            v: Version,
            node: node.clone(),
            identity_key: IdentityKey::from_bytes(identity),
            wireguard_key: WireGuardKey::from_bytes([number; 32]),
            key_signature: Signature::from_bytes([0; 64]),
            owner: owner.clone(),
            name: Sealed::new(subject, Retention::Identity, name.to_owned()),
            address_v4: [100, 64, 0, number].into(),
            address_v6: [0xfd00, 0, 0, 0, 0, 0, 0, u16::from(number)].into(),
            enrolment_key: key,
        });
        node
    }

    fn authorize(&self, number: u8, user: &UserId, from: &NodeId, to: &NodeId) -> AuthorizationId {
        let authorization = AuthorizationId::from_bytes([number; 16]);
        let source = ConnectionSource { node: from.clone(), user: Some(user.clone()) };
        self.tell(ConnectionAuthorized {
            v: ConnectionAuthorized::version(None),
            route: None,
            authorization: authorization.clone(),
            source: Sealed::new(
                Subject::User(user.clone()),
                Retention::Connections(seal::Quarter::of(second(0))),
                source,
            ),
            destination: to.clone(),
            protocol: Protocol::Tcp,
            ports: PortRange::single(5432),
            rule: "acls[0]".to_owned(),
            policy: PolicyVersion(1),
            sign_in: SignIn::EnrolmentKey,
            renews: None,
            expires_at: second(600),
        });
        authorization
    }
}

struct Folded {
    _folder: tempfile::TempDir,
    connection: rusqlite::Connection,
}

/// Folds a story from nothing.
fn fold(story: &Story) -> Folded {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("views.db");
    rebuild(&path, story.clone()).unwrap();
    let connection = store::open_for_reading(&path).unwrap();
    Folded { _folder: folder, connection }
}

fn at(connection: &rusqlite::Connection, as_of: AsOf) -> Moment {
    Moment::resolve(connection, as_of, second(100)).unwrap()
}

fn all<K>() -> Slice<K> {
    Slice::new(MAX_PAGE, None).unwrap()
}

/// Dana connects to the database and leaves; both ends acknowledge.
fn dana_leaves() -> (Story, UserId, AuthorizationId) {
    let story = Story::default();
    let user = story.user(1, "dana@example.com");
    let laptop = story.node(2, &NodeOwner::User(user.clone()), "dana-laptop");
    let database = story.node(3, &NodeOwner::Tags(vec!["tag:db".parse().unwrap()]), "production-database");
    let authorization = story.authorize(4, &user, &laptop, &database);
    let leaver = story.tell(UserLeaverReceived {
        v: Version,
        user: user.clone(),
        source: UserSource::Manual,
        decided_at: None,
    });
    story.tell_because(UserDisabled { v: Version, user: user.clone() }, Some(leaver));
    story.tell_because(
        NodeRemoved { v: Version, node: laptop, reason: NodeRemoval::OwnerDisabled },
        Some(leaver),
    );
    let revoked = story.tell_because(
        ConnectionRevoked::new(authorization.clone(), RevocationReason::UserDisabled),
        Some(leaver),
    );
    for side in [Side::Source, Side::Destination] {
        story.tell(ConnectionAcknowledged {
            v: Version,
            authorization: authorization.clone(),
            record: revoked,
            side,
            action: AcknowledgedAction::Withdrawn,
            signature: Sealed::new(
                Subject::User(user.clone()),
                Retention::Connections(seal::Quarter::of(second(0))),
                Signature::from_bytes([0; 64]),
            ),
        });
    }
    (story, user, authorization)
}

#[test]
fn a_question_about_the_past_gets_the_answer_of_that_time() {
    let (story, user, authorization) = dana_leaves();
    let folded = fold(&story);
    let db = &folded.connection;
    let before = at(db, AsOf::Time(second(5) + SignedDuration::from_millis(500)));
    assert_eq!(before.size, 6);
    let now = at(db, AsOf::Present);
    let status = |moment| users::get(db, moment, &user).unwrap().unwrap().status;
    assert_eq!((status(&before), status(&now)), (UserStatus::Active, UserStatus::Disabled));
    let members = |moment| nodes::list(db, moment, &NodeFilter::default(), &all()).unwrap().rows.len();
    assert_eq!((members(&before), members(&now)), (2, 1));
    let live = |moment: &Moment| {
        connections::get(db, moment, &authorization).unwrap().is_some_and(|found| found.is_live(moment))
    };
    assert!(live(&before) && !live(&now));
    assert!(live(&at(db, AsOf::Record(Seq(8)))), "disabled, but the revocation is one record later");
}

#[test]
fn a_moment_before_the_first_record_knows_nothing_and_one_in_the_future_is_refused() {
    let (story, user, _) = dana_leaves();
    let folded = fold(&story);
    let db = &folded.connection;
    let start = at(db, AsOf::Time(second(0) - SignedDuration::from_secs(1)));
    assert_eq!((start.size, users::get(db, &start, &user).unwrap()), (0, None));
    let later = Moment::resolve(db, AsOf::Record(Seq(999)), second(100));
    assert!(matches!(later, Err(ViewError::NotYet { asked: Seq(999), .. })));
}

#[test]
fn a_withdrawal_ends_with_the_last_acknowledgement_and_names_what_is_missing() {
    let (story, _, authorization) = dana_leaves();
    let folded = fold(&story);
    let db = &folded.connection;
    let found = |moment: &Moment| withdrawals::list(db, moment, None, None, &all()).unwrap().rows.remove(0);
    let done = found(&at(db, AsOf::Present));
    assert_eq!((done.cause, done.kind.as_str()), (Seq(6), "user.leaver_received"));
    assert_eq!((done.revoked, done.ends_acknowledged, done.last), (1, 2, Some(Seq(11))));
    assert_eq!((done.last_time, done.open_until), (Some(second(11)), None));
    let half = found(&at(db, AsOf::Record(Seq(10))));
    assert_eq!((half.ends_acknowledged, half.open_until), (1, Some(second(600))));
    let rows = withdrawals::revocations(db, &at(db, AsOf::Record(Seq(10))), Seq(6)).unwrap();
    assert_eq!(rows[0].authorization, authorization);
    assert_eq!((rows[0].source, rows[0].destination), (Some(Seq(10)), None));
}

#[test]
fn an_erasure_takes_personal_values_and_a_rebuild_agrees() {
    let (story, user, authorization) = dana_leaves();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("views.db");
    let mut live = open_for_folding(&path, &projections()).unwrap();
    let catch_up = |live: &mut rusqlite::Connection| {
        let from = store::position(live, "users").unwrap();
        let records = story.read(from, 1000).unwrap();
        let batch: Vec<_> = records.iter().map(|r| Entry { record: &r.record, bytes: &r.bytes }).collect();
        fold_batch(live, &projections(), &batch).unwrap();
    };
    catch_up(&mut live);
    let login = |db: &rusqlite::Connection| {
        personal::persons(db, &at(db, AsOf::Present), std::slice::from_ref(&user)).unwrap().remove(0).login
    };
    assert_eq!(login(&live).as_deref(), Some("dana@example.com"));
    let holds_login = |live: &rusqlite::Connection| {
        live.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        std::fs::read(&path).unwrap().windows(16).any(|bytes| bytes == b"dana@example.com")
    };
    assert!(holds_login(&live));
    story.tell(KeyShredded { v: Version, subject: Subject::User(user.clone()) });
    story.keys.0.destroy(&seal::DestroyedKeys::OfSubject(Subject::User(user.clone()))).unwrap();
    catch_up(&mut live);
    assert_eq!(login(&live), None);
    let moment = at(&live, AsOf::Present);
    let found = connections::get(&live, &moment, &authorization).unwrap().unwrap();
    assert_eq!((found.source_node, found.source_user), (None, None));
    assert_eq!(fingerprint(&live).unwrap(), fingerprint(&fold(&story).connection).unwrap());
    assert!(!holds_login(&live), "the file itself must forget");
}

#[test]
fn a_record_is_folded_once_and_a_missing_one_is_an_error() {
    let (story, _, _) = dana_leaves();
    let folder = tempfile::tempdir().unwrap();
    let mut db = open_for_folding(&folder.path().join("views.db"), &projections()).unwrap();
    let records = story.read(Seq(0), 1000).unwrap();
    let entries: Vec<_> = records.iter().map(|r| Entry { record: &r.record, bytes: &r.bytes }).collect();
    fold_batch(&mut db, &projections(), &entries[..5]).unwrap();
    let before = fingerprint(&db).unwrap();
    fold_batch(&mut db, &projections(), &entries[..5]).unwrap();
    assert_eq!(fingerprint(&db).unwrap(), before, "a repeated batch changes nothing");
    let gap = fold_batch(&mut db, &projections(), &entries[6..]);
    assert!(matches!(gap, Err(FoldError::Gap { expected: Seq(5), found: Seq(6), .. })), "{gap:?}");
    assert_eq!(fingerprint(&db).unwrap(), before, "nothing of a refused batch stays");
    fold_batch(&mut db, &projections(), &entries[3..]).unwrap();
    assert_eq!(fingerprint(&db).unwrap(), fingerprint(&fold(&story).connection).unwrap());
}

#[test]
fn an_unknown_kind_stops_the_projector_by_name() {
    let (story, ..) = dana_leaves();
    let line = story.lines.lock().unwrap()[0].replace("user.provisioned", "user.teleported");
    story.lines.lock().unwrap().push(line);
    let folder = tempfile::tempdir().unwrap();
    let (views, projector) = Projector::start(&folder.path().join("views.db"), story).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let progress = runtime.block_on(views.caught_up(1000, Duration::from_secs(10)));
    assert!(progress.fault.is_some_and(|fault| fault.contains("user.teleported")));
    drop(projector);
}

#[test]
fn the_projector_follows_and_notices_another_log() {
    let (story, ..) = dana_leaves();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("views.db");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (views, projector) = Projector::start(&path, story.clone()).unwrap();
    story.user(50, "eve@example.com");
    projector.waker().wake();
    let progress = runtime.block_on(views.caught_up(story.size(), Duration::from_secs(10)));
    assert_eq!((progress.folded, progress.lag()), (13, 0));
    drop(projector);
    let other = Story::default();
    for number in 1..14 {
        other.user(number, "x@example.com");
    }
    assert!(matches!(Projector::start(&path, other), Err(ProjectorError::OtherLog)));
    assert!(Projector::start(&path, story).is_ok());
}

#[test]
fn records_are_found_by_kind_subject_cause_and_page() {
    let (story, user, _) = dana_leaves();
    let folded = fold(&story);
    let db = &folded.connection;
    let now = at(db, AsOf::Present);
    let find = |filter: RecordFilter, slice: Slice<Seq>| {
        let page = records::list(db, &now, &filter, &slice).unwrap();
        (page.rows.iter().map(|row| row.seq.0).collect::<Vec<_>>(), page.has_next)
    };
    let kinds = vec!["user.disabled".to_owned(), "node.removed".to_owned()];
    assert_eq!(find(RecordFilter { kinds, ..Default::default() }, all()), (vec![7, 8], false));
    let because = RecordFilter { cause: Some(Seq(6)), ..Default::default() };
    assert_eq!(find(because, all().newest_first(true)), (vec![9, 8, 7], false));
    let about = RecordFilter { subject: Some(user.to_string()), ..Default::default() };
    assert_eq!(find(about, Slice::new(2, Some(Seq(0))).unwrap()), (vec![1, 2], true));
    assert!(matches!(Slice::<Seq>::new(201, None), Err(ViewError::PageTooLarge { asked: 201 })));
}

#[test]
fn connections_are_found_by_their_sealed_source() {
    let (story, user, authorization) = dana_leaves();
    let folded = fold(&story);
    let db = &folded.connection;
    let now = at(db, AsOf::Present);
    let of = |user: UserId| {
        let filter = ConnectionFilter { user: Some(user), ..Default::default() };
        connections::list(db, &now, &filter, &all()).unwrap().rows
    };
    assert_eq!(of(user)[0].authorization, authorization);
    assert!(of(UserId::from_bytes([77; 16])).is_empty());
}
