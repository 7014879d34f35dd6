//! Leavers, erasure and administrators.

use jiff::{SignedDuration, Timestamp};
use writ_schema::event::{AcknowledgedAction, LoginFailure, Role};
use writ_schema::keys::SecretHash;
use writ_schema::protocol::AUTHORIZATION_SECONDS;
use writ_schema::seal::Quarter;
use writ_schema::{Actor, AdminId, Event, Seq, TokenId};

use super::world::{World, id};
use crate::core::refusals::RefusalFact;
use crate::core::{Command, Rejection, Secret};
use crate::fixtures::{self, bytes};
use crate::sequencer::open_record;

const OPEN: &str = r#"{"acls":[{"action":"accept","src":["*"],"dst":["*:*"]}]}"#;

fn leave(number: u64) -> Command {
    Command::ReceiveLeaver { user: fixtures::user(number), decided_at: None }
}

#[test]
fn whoever_leaves_loses_everything_in_one_decision() {
    let mut world = World::peopled(OPEN);
    let (out, into) = (world.connect(1, 3, 80).unwrap(), world.connect(3, 1, 22).unwrap());
    let other = world.connect(2, 3, 80).unwrap();
    let records = world.submit(leave(1)).unwrap();
    let kinds = World::kinds(&records);
    assert_eq!(&kinds[..2], ["user.leaver_received", "user.disabled"]);
    assert_eq!(kinds.iter().filter(|kind| **kind == "connection.revoked").count(), 2);
    let first = records[0].record.seq;
    assert!(records[1..].iter().all(|record| record.record.cause == Some(first)));
    assert!(world.state.node(&id(1)).is_none());
    for ended in [out, into] {
        assert!(!world.state.authorization(&ended).unwrap().is_live(world.now));
    }
    assert!(world.state.authorization(&other).unwrap().is_live(world.now));
    assert_eq!(world.state, world.refolded());
}

#[test]
fn an_erased_person_is_in_no_state_and_no_bytes() {
    let mut world = World::peopled(OPEN);
    let ended = world.connect(1, 3, 80).unwrap();
    let erase = Command::EraseUser { user: fixtures::user(1) };
    assert_eq!(world.submit(erase.clone()), Err(Rejection::UserActive(fixtures::user(1))));
    world.submit(leave(1)).unwrap();
    world.submit(erase.clone()).unwrap();
    assert_eq!(world.submit(erase), Err(Rejection::UserErased(fixtures::user(1))));
    assert_eq!(world.state, world.refolded());
    let user = world.state.user(&fixtures::user(1)).unwrap();
    assert_eq!((&user.login, &user.display_name), (&None, &None));
    assert_eq!(world.state.node_ever(&id(1)).unwrap().name, None);
    assert_eq!(world.state.authorization(&ended).unwrap().source, None);
    // The others are as they were, and the login can belong to somebody new.
    assert_eq!(world.state.node(&id(2)).unwrap().name.as_deref(), Some("node-2"));
    let Command::ProvisionUser { display_name, .. } = fixtures::provision(1) else { panic!() };
    let again = Command::ProvisionUser { user: fixtures::user(7), login: fixtures::login(1), display_name };
    world.submit(again).unwrap();
    for record in &world.log {
        assert!(!record.bytes.contains("person-") && !record.bytes.contains("node-1"), "{}", record.bytes);
    }
}

#[test]
fn what_is_still_recorded_of_an_erased_person_is_erased_from_the_start() {
    let mut world = World::peopled(OPEN);
    let ended = world.connect(3, 1, 22).unwrap();
    let revoked = world.submit(leave(1)).unwrap();
    let revoked = revoked.iter().find(|record| record.record.event.kind() == "connection.revoked").unwrap();
    world.submit(Command::EraseUser { user: fixtures::user(1) }).unwrap();
    let seq = revoked.record.seq;
    for (number, is_readable) in [(1, false), (3, true)] {
        let late = world.acknowledge(number, &ended, seq, AcknowledgedAction::Withdrawn).unwrap();
        let Event::ConnectionAcknowledged(body) = &late[0].record.event else { panic!("{late:?}") };
        assert_eq!((body.record, body.signature.value().is_some()), (seq, is_readable));
    }
    assert_eq!(world.state, world.refolded());
}

#[test]
fn a_login_belongs_to_one_active_person() {
    let mut world = World::peopled(OPEN);
    let taken = Command::ProvisionUser {
        user: fixtures::user(7),
        login: fixtures::login(1).to_uppercase(),
        display_name: "Somebody Else".to_owned(),
    };
    assert_eq!(world.submit(taken.clone()), Err(Rejection::LoginInUse(fixtures::user(1))));
    world.submit(leave(1)).unwrap();
    world.submit(taken).unwrap();
}

#[test]
fn a_role_is_checked_and_what_it_forbids_is_a_fact() {
    let mut world = World::new();
    let (owner, viewer) = (AdminId::from_bytes(bytes(1)), AdminId::from_bytes(bytes(2)));
    world.submit(fixtures::grant(&owner, Role::Owner, "owner-secret")).unwrap();
    world.submit_as(Actor::Admin(owner.clone()), fixtures::grant(&viewer, Role::Viewer, "v")).unwrap();
    let denied = world.submit_as(Actor::Admin(viewer.clone()), fixtures::provision(1));
    assert_eq!(denied, Err(Rejection::NotAllowed { needs: Role::Admin }));
    match &world.last_refusal {
        Some(RefusalFact::Act(act)) => {
            assert_eq!(
                (&act.admin, act.operation.as_str(), act.needs),
                (&viewer, "provision_user", Role::Admin)
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(world.submit_as(Actor::Anonymous, fixtures::provision(1)), Err(Rejection::NotAnAdmin));
    world.submit_as(Actor::Admin(owner.clone()), fixtures::provision(1)).unwrap();
    // Nobody can lock everybody out.
    let own = Command::RevokeRole { admin: owner.clone() };
    assert_eq!(world.submit_as(Actor::Admin(owner.clone()), own), Err(Rejection::LastOwner(owner.clone())));
    let own = fixtures::grant(&owner, Role::Viewer, "x");
    assert_eq!(world.submit_as(Actor::Admin(owner.clone()), own), Err(Rejection::LastOwner(owner)));
}

#[test]
fn a_token_lasts_until_it_expires_or_the_role_ends() {
    let mut world = World::new();
    let (owner, admin) = (AdminId::from_bytes(bytes(1)), AdminId::from_bytes(bytes(2)));
    world.submit(fixtures::grant(&owner, Role::Owner, "owner-secret")).unwrap();
    world.submit(fixtures::grant(&admin, Role::Admin, "right")).unwrap();
    let log_in = |secret: &str, token: u64| Command::LogIn {
        admin: admin.clone(),
        secret: Secret::new(secret.to_owned()),
        token: TokenId::from_bytes(bytes(token)),
        token_hash: SecretHash::of("token-secret"),
    };
    let wrong = world.submit_as(Actor::Anonymous, log_in("wrong", 1));
    assert_eq!(wrong, Err(Rejection::LogIn(LoginFailure::WrongSecret)));
    let records = world.submit_as(Actor::Anonymous, log_in("right", 1)).unwrap();
    assert!(matches!(records[0].record.event, Event::LoginSucceeded(_)));
    let token = TokenId::from_bytes(bytes(1));
    let holder =
        |world: &World, secret| world.state.admin_by_token(&token, secret, world.now).map(|a| a.id.clone());
    assert_eq!(holder(&world, "token-secret"), Some(admin.clone()));
    assert_eq!(holder(&world, "guessed"), None);
    world.pass(12 * 3600);
    assert_eq!(holder(&world, "token-secret"), None);
    world.submit_as(Actor::Anonymous, log_in("right", 2)).unwrap();
    world.submit(Command::RevokeRole { admin: admin.clone() }).unwrap();
    assert_eq!(world.state.token(&TokenId::from_bytes(bytes(2))), None);
    let revoked = world.submit_as(Actor::Anonymous, log_in("right", 3));
    assert_eq!(revoked, Err(Rejection::LogIn(LoginFailure::Revoked)));
}

#[test]
fn opening_ends_sessions_that_a_crash_left() {
    let mut world = World::peopled(OPEN);
    let open = || Command::OpenLog { program: "0.1.0".to_owned() };
    world.submit(open()).unwrap();
    assert!(world.state.nodes().all(|node| node.session.is_none()));
    world.submit(fixtures::Endpoint::new(1).start_session()).unwrap();
    let closed = world.submit(Command::CloseLog).unwrap();
    assert_eq!(World::kinds(&closed), ["session.terminated", "log.closed"]);
    let clean = |world: &World, seq: Seq| match &world.log[usize::try_from(seq.0).unwrap()].record.event {
        Event::LogOpened(body) => body.clean,
        other => panic!("{other}"),
    };
    let reopened = world.submit(open()).unwrap()[0].record.seq;
    assert!(clean(&world, reopened));
    let crashed = world.submit(open()).unwrap()[0].record.seq;
    assert!(!clean(&world, crashed));
}

#[test]
fn a_quarter_lapses_for_everybody_once_it_is_over() {
    let mut world = World::peopled(OPEN);
    let quarter = |text: &str| Quarter::try_from(text.to_owned()).unwrap();
    let lapse = |text: &str| Command::LapseRetention { quarter: quarter(text) };
    let held = world.connect(1, 3, 80).unwrap();
    let before = world.log.len();
    assert_eq!(world.submit(lapse("2026q4")), Err(Rejection::QuarterNotOver(quarter("2026q4"))));
    let new_year: Timestamp = "2027-01-01T00:00:00Z".parse().unwrap();
    world.now = new_year - SignedDuration::from_secs(1);
    let last = world.connect(2, 3, 80).unwrap();
    world.now = new_year;
    let next = world.connect(2, 3, 80).unwrap();
    assert_eq!(world.submit(lapse("2026q4")), Err(Rejection::QuarterInUse(quarter("2026q4"))));
    world.now = new_year + SignedDuration::from_secs(AUTHORIZATION_SECONDS);
    let records = world.submit(lapse("2026q4")).unwrap();
    assert_eq!(World::kinds(&records), ["retention.lapsed"]);
    assert_eq!(world.submit(lapse("2026q4")), Err(Rejection::QuarterLapsed(quarter("2026q4"))));
    let source = |world: &World, id| world.state.authorization(id).and_then(|held| held.source.clone());
    assert_eq!((source(&world, &held), source(&world, &last)), (None, None));
    assert!(source(&world, &next).is_some());
    assert_eq!(world.state, world.refolded());
    assert_eq!(world.state.user(&fixtures::user(1)).unwrap().login, Some(fixtures::login(1)));
    let bytes = world.log[before - 1].bytes.clone();
    let read = open_record(before as u64 - 1, bytes.as_bytes(), &world.vault).unwrap();
    assert!(matches!(read.record.event, Event::ConnectionAuthorized(body) if body.source.value().is_none()));
}
