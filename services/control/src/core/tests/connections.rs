//! Connection requests, acknowledgements and ends.

use writ_schema::event::{AcknowledgedAction, CloseReason, DenialReason, SessionEnd, Side};
use writ_schema::keys::{Signature, Statement};
use writ_schema::net::Protocol;
use writ_schema::protocol::{AUTHORIZATION_SECONDS, Destination};
use writ_schema::seal::{DestroyedKeys, Subject};
use writ_schema::{Actor, Event, Seq};

use super::world::{World, id, request};
use crate::core::refusals::{Noted, RefusalFact, Refusals, WINDOW};
use crate::core::{Command, Question, Rejection};
use crate::fixtures::{self, Endpoint, user};

fn policy() -> String {
    let person = user(1);
    format!(
        r#"{{"acls":[{{"action":"accept","src":["{person}"],"dst":["tag:web:80"]}}],"tagOwners":{{"tag:web":[]}}}}"#
    )
}

fn denial(result: &Result<writ_schema::AuthorizationId, Rejection>) -> (DenialReason, String) {
    match result {
        Err(Rejection::Connection { reason, explanation }) => (*reason, explanation.clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_authorization_names_rule_policy_and_end_and_hides_its_source() {
    let mut world = World::peopled(&policy());
    let authorization = world.connect(1, 3, 80).unwrap();
    let record = world.log.last().unwrap();
    assert_eq!(record.record.actor, Actor::Agent);
    assert!(!record.bytes.contains(id(1).as_str()), "{}", record.bytes);
    let held = world.state.authorization(&authorization).unwrap();
    assert_eq!((held.rule.as_str(), held.policy.0, held.record), ("acls[0]", 1, record.record.seq));
    assert_eq!(held.source.as_ref().unwrap().user, Some(user(1)));
    assert_eq!(held.sealed_for.as_ref().unwrap().0, Subject::User(user(1)));
    assert_eq!((held.side_of(&id(1)), held.side_of(&id(3))), (Some(Side::Source), Some(Side::Destination)));
    for number in [1, 3] {
        assert_eq!(world.state.live_authorizations_of(&id(number), world.now).count(), 1);
    }
    world.pass(AUTHORIZATION_SECONDS);
    assert_eq!(world.state.live_authorizations(world.now).count(), 0);
}

#[test]
fn a_refusal_says_why() {
    let mut world = World::peopled(&policy());
    let (reason, explanation) = denial(&world.connect(1, 3, 22));
    assert_eq!(reason, DenialReason::NoRule);
    assert!(explanation.contains("tcp port 22") && explanation.contains("acls[0]"), "{explanation}");
    assert_eq!(denial(&world.connect(2, 3, 80)).0, DenialReason::NoRule);
    assert_eq!(denial(&world.connect(1, 1, 80)).0, DenialReason::NoRule);
    let nowhere = world.submit(request(1, "100.64.9.9".parse().unwrap(), 80, None));
    assert!(matches!(nowhere, Err(Rejection::Connection { reason: DenialReason::UnknownDestination, .. })));
    world.submit(Command::EndSession { node: id(3), reason: SessionEnd::TimedOut }).unwrap();
    assert_eq!(denial(&world.connect(1, 3, 80)).0, DenialReason::DestinationOffline);
    match &world.last_refusal {
        Some(RefusalFact::Connection { source, denied }) => {
            assert_eq!((source, denied.destination.as_ref()), (&id(1), Some(&id(3))));
        }
        other => panic!("{other:?}"),
    }
    let stranger = world.submit(request(9, world.address(3), 80, None));
    assert_eq!(stranger, Err(Rejection::UnknownNode(id(9))));
}

#[test]
fn a_question_is_answered_as_a_request_would_be_decided_and_changes_nothing() {
    let mut world = World::peopled(&policy());
    let (now, size) = (world.now, world.log.len());
    let ask = |world: &World, source, destination, port| {
        let request = writ_schema::RequestId::from_bytes([1; 16]);
        let question = Question { request, destination, exit: None, protocol: Protocol::Tcp, port };
        world.state.explain_connection(&id(source), now, question)
    };
    let name = world.state.node(&id(3)).unwrap().name.clone().unwrap();
    let address = Destination::Address(world.address(3));
    for destination in [address.clone(), Destination::Name(name.to_uppercase())] {
        let allowed = ask(&world, 1, destination.clone(), 80).unwrap();
        assert_eq!((allowed.denied, allowed.rule.as_deref()), (None, Some("acls[0]")));
        let (text, policy) = (&allowed.explanation, allowed.policy.unwrap());
        assert!(text.contains("acls[0] of policy version 1") && text.contains("tag:web"), "{text}");
        assert_eq!((policy.0, allowed.destination.unwrap().node), (1, id(3)));

        let denied = ask(&world, 1, destination.clone(), 22).unwrap();
        assert_eq!((denied.denied, denied.rule), (Some(DenialReason::NoRule), None));
        assert!(denied.explanation.contains("acls[0]: it is for port 80 only"), "{}", denied.explanation);
        let by_request = denial(&world.connect(1, 3, 22));
        assert_eq!(by_request, (DenialReason::NoRule, denied.explanation));
    }
    let stranger = ask(&world, 1, Destination::Name("nobody".to_owned()), 80).unwrap();
    assert_eq!((stranger.denied, stranger.destination), (Some(DenialReason::UnknownDestination), None));
    assert_eq!(ask(&world, 9, address, 80), Err(Rejection::UnknownNode(id(9))));
    assert_eq!(world.log.len(), size, "a question is no connection, nor one that was denied");
}

#[test]
fn without_a_policy_nothing_is_allowed() {
    let mut world = World::new();
    for number in [1, 2] {
        let key = fixtures::enrolment_key(number.into(), fixtures::tags(&["tag:web"]), 1, world.now);
        world.submit(key).unwrap();
        world.join(number, number.into()).unwrap();
    }
    assert_eq!(denial(&world.connect(1, 2, 80)).0, DenialReason::NoPolicy);
}

#[test]
fn one_node_holds_a_bounded_number_of_authorizations() {
    let mut world = World::peopled(&policy());
    for _ in 0..super::super::MAX_LIVE_PER_SOURCE {
        world.connect(1, 3, 80).unwrap();
    }
    assert_eq!(denial(&world.connect(1, 3, 80)).0, DenialReason::TooManyAuthorizations);
    world.pass(AUTHORIZATION_SECONDS);
    world.connect(1, 3, 80).unwrap();
}

#[test]
fn a_renewal_continues_only_its_own() {
    let mut world = World::peopled(&policy());
    let (first, address) = (world.connect(1, 3, 80).unwrap(), world.address(3));
    let renews = |records: &[std::sync::Arc<crate::sequencer::OpenRecord>]| match &records[0].record.event {
        Event::ConnectionAuthorized(body) => body.renews.clone(),
        other => panic!("{other}"),
    };
    let renewed = world.submit(request(1, address, 80, Some(first.clone()))).unwrap();
    assert_eq!(renews(&renewed), Some(first.clone()));
    world.pass(AUTHORIZATION_SECONDS);
    let late = world.submit(request(1, address, 80, Some(first))).unwrap();
    assert_eq!(renews(&late), None);
}

#[test]
fn acknowledgements_are_signed_by_an_end_and_given_once() {
    let mut world = World::peopled(&policy());
    let held = world.connect(1, 3, 80).unwrap();
    let record = world.state.authorization(&held).unwrap().record;
    let established = AcknowledgedAction::Established;
    world.acknowledge(1, &held, record, established).unwrap();
    assert_eq!(world.log.last().unwrap().record.actor, Actor::Agent);
    assert_eq!(world.acknowledge(1, &held, record, established), Err(Rejection::AlreadyReported));
    assert_eq!(
        world.acknowledge(2, &held, record, established),
        Err(Rejection::UnknownAuthorization(held.clone()))
    );
    let early = world.acknowledge(3, &held, record, AcknowledgedAction::Withdrawn);
    assert_eq!(early, Err(Rejection::WrongRecord(record)));
    let forged = Command::Acknowledge {
        node: id(3),
        authorization: held.clone(),
        record,
        leaf: "AAAA".to_owned(),
        action: established,
        signature: Signature::from_bytes([0; 64]),
    };
    assert_eq!(world.submit(forged), Err(Rejection::BadSignature(id(3))));
    world.acknowledge(3, &held, record, established).unwrap();
    let removal = world.submit(Command::RemoveNode { node: id(1) }).unwrap();
    assert_eq!(World::kinds(&removal), ["node.removed", "session.terminated", "connection.revoked"]);
    let revoked: Seq = removal[2].record.seq;
    assert_eq!(removal[2].record.cause, Some(removal[0].record.seq));
    // The agent of a removed node still says that it has stopped.
    world.acknowledge(1, &held, revoked, AcknowledgedAction::Withdrawn).unwrap();
    assert!(
        world
            .state
            .authorization(&held)
            .unwrap()
            .is_acknowledged(Side::Source, AcknowledgedAction::Withdrawn)
    );
    assert_eq!(world.state, world.refolded());
}

#[test]
fn an_end_is_reported_once_by_each_side() {
    let mut world = World::peopled(&policy());
    let held = world.connect(1, 3, 80).unwrap();
    let closed = |number: u8| Command::ReportClosed {
        node: id(number),
        authorization: held.clone(),
        reason: CloseReason::Idle,
        bytes_sent: 1,
        bytes_received: 2,
        path: None,
    };
    for number in [1, 3] {
        world.submit(closed(number)).unwrap();
        assert_eq!(world.submit(closed(number)), Err(Rejection::AlreadyReported));
    }
    world.pass(AUTHORIZATION_SECONDS + 3600);
    world.submit(fixtures::provision(5)).unwrap();
    assert_eq!(world.submit(closed(1)), Err(Rejection::UnknownAuthorization(held.clone())));
    assert_eq!(world.state, world.refolded());
}

#[test]
fn ping_is_one_protocol_over_both_families() {
    let text = r#"{"acls":[{"action":"accept","proto":"icmp","src":["*"],"dst":["*:*"]}]}"#;
    let mut world = World::peopled(text);
    for address in world.state.node(&id(3)).unwrap().addresses() {
        let ping = Command::RequestConnection {
            node: id(1),
            address,
            exit: None,
            protocol: Protocol::Icmp,
            port: 7,
            renews: None,
        };
        let records = world.submit(ping).unwrap();
        match &records[0].record.event {
            Event::ConnectionAuthorized(body) => assert_eq!(body.ports.to_string(), "0"),
            other => panic!("{other}"),
        }
    }
    world.submit(fixtures::set_policy(5, text, None)).unwrap();
    assert_eq!(world.state.live_authorizations(world.now).count(), 2);
}

#[test]
fn repeated_refusals_become_one_record_with_a_count() {
    let mut world = World::peopled(&policy());
    let mut refusals = Refusals::default();
    let mut fact = |port| {
        let _ = world.connect(1, 3, port);
        world.last_refusal.clone().unwrap()
    };
    let (one, other) = (fact(22), fact(23));
    let now = fixtures::start();
    assert!(matches!(refusals.note(one.clone(), now, Seq(5)), Noted::Record(..)));
    assert_eq!(refusals.note(one.clone(), now, Seq(6)), Noted::Repeat(Seq(5)));
    assert_eq!(refusals.note(one.clone(), now, Seq(6)), Noted::Repeat(Seq(5)));
    assert!(matches!(refusals.note(other, now, Seq(6)), Noted::Record(..)));
    assert!(refusals.end_due(now).is_empty());
    let counted = refusals.end_due(now + WINDOW);
    match counted.as_slice() {
        [(Event::ConnectionDenied(body), Actor::Agent)] => assert_eq!((body.port, body.count), (22, 2)),
        other => panic!("{other:?}"),
    }
    // That record did not come about: the count is still there.
    refusals.roll_back(Seq(9));
    assert_eq!(refusals.end_due(now + WINDOW).len(), 1);
    refusals.commit();
    assert!(!refusals.is_counting());
    // Nor did this one: the next is the first again.
    assert!(matches!(refusals.note(one.clone(), now, Seq(9)), Noted::Record(..)));
    refusals.roll_back(Seq(9));
    assert!(matches!(refusals.note(one, now, Seq(9)), Noted::Record(..)));
}

#[test]
fn a_scan_of_all_ports_is_turned_away() {
    let mut world = World::peopled(&policy());
    let mut refusals = Refusals::default();
    let mut recorded = 0;
    for port in 1000..1400 {
        let _ = world.connect(1, 3, port);
        let noted = refusals.note(world.last_refusal.clone().unwrap(), world.now, Seq(port.into()));
        recorded += u32::from(noted != Noted::Full);
    }
    assert_eq!(recorded, 256);
    // Others are not held up by it.
    let _ = world.connect(2, 3, 22);
    let noted = refusals.note(world.last_refusal.clone().unwrap(), world.now, Seq(1));
    assert!(matches!(noted, Noted::Record(..)));
    refusals.forget(&DestroyedKeys::OfSubject(Subject::User(user(1))));
    assert_eq!(refusals.end_all().len(), 0);
}

fn asking(conditions: &str) -> String {
    policy().replace("\"action\"", &format!("/* writ: {{{conditions}}} */ \"action\""))
}

#[test]
fn a_condition_that_is_not_met_is_named_with_its_rule() {
    for (conditions, expected, part) in [
        (r#""mfa": true"#, DenialReason::MfaRequired, "asks for a sign-in with a second factor"),
        (r#""maxSignInAge": "8h""#, DenialReason::SignInTooOld, "known by its enrolment key only"),
        (r#""until": "2020-01-01""#, DenialReason::OutsideValidity, "it held until 2020-01-02T00:00:00Z"),
    ] {
        let mut world = World::peopled(&asking(conditions));
        let (reason, explanation) = denial(&world.connect(1, 3, 80));
        assert_eq!(reason, expected);
        assert!(
            explanation.starts_with("acls[0] would allow it, but ") && explanation.contains(part),
            "{explanation}"
        );
        match &world.last_refusal {
            Some(RefusalFact::Connection { denied, .. }) => {
                assert_eq!((denied.reason, denied.rule.as_deref()), (expected, Some("acls[0]")));
            }
            other => panic!("{other:?}"),
        }
    }
    let posture = policy().replace("\"dst\"", "\"srcPosture\":[\"posture:new\"],\"dst\"").replace(
        "\"tagOwners\"",
        "\"postures\":{\"posture:new\":[\"node:agentVersion >= '999'\"]},\"tagOwners\"",
    );
    let mut world = World::peopled(&posture);
    let (reason, explanation) = denial(&world.connect(1, 3, 80));
    assert_eq!(reason, DenialReason::PostureNotMet);
    assert!(explanation.contains("posture:new: node:agentVersion >= '999', and it is "), "{explanation}");
    let mut world = World::peopled(&posture.replace(">= '999'", "IS SET"));
    assert!(world.connect(1, 3, 80).is_ok());
}

#[test]
fn an_authorization_ends_no_later_than_its_rule() {
    let mut world = World::peopled(&policy());
    let until = world.now + jiff::SignedDuration::from_secs(60);
    let text = asking(&format!(r#""until": "{until}""#));
    let held = world.connect(1, 3, 80).unwrap();
    let records = world.submit(fixtures::set_policy(2, &text, None)).unwrap();
    assert_eq!(World::kinds(&records).last(), Some(&"connection.revoked"), "it would outlive its rule");
    assert!(!world.state.authorization(&held).unwrap().is_live(world.now));
    let held = world.connect(1, 3, 80).unwrap();
    assert_eq!(world.state.authorization(&held).unwrap().expires_at, until);
    world.pass(60);
    assert_eq!(denial(&world.connect(1, 3, 80)).0, DenialReason::OutsideValidity);
}

#[test]
fn what_an_agent_does_not_accept_is_recorded_and_hides_whose_it_is() {
    let mut world = World::peopled(&policy());
    let reason = format!("the key of {} is not proven", id(3));
    let answer = world.submit_as(Actor::Agent, Endpoint::new(1).reject(7, &reason));
    assert_eq!(answer, Err(Rejection::FrameRejected(id(1))));
    let records = world.record_refusal();
    let [record] = records.as_slice() else { panic!("{records:?}") };
    assert!([id(1), id(3)].iter().all(|node| !record.bytes.contains(node.as_str())), "{}", record.bytes);
    let Event::SessionFrameRejected(body) = &record.record.event else { panic!("{record:?}") };
    assert_eq!(body.source.value().unwrap().node, id(1));
    let rejection = body.rejection.value().unwrap();
    assert_eq!((rejection.frame, &rejection.reason), (7, &reason));
    let key = world.state.node(&id(1)).unwrap().identity_key;
    let statement = Statement::Rejection { network: &fixtures::network(), frame: 7, reason: &reason };
    assert_eq!(key.verify(&statement, &rejection.signature), Ok(()));
}

#[test]
fn a_rejection_of_a_frame_that_its_node_has_not_signed_is_not_recorded() {
    let mut world = World::peopled(&policy());
    let Command::RecordFrameRejected { frame, reason, signature, .. } =
        Endpoint::new(2).reject(7, "no proof")
    else {
        unreachable!()
    };
    let forged = Command::RecordFrameRejected { node: id(1), frame, reason, signature };
    assert_eq!(world.submit_as(Actor::Agent, forged), Err(Rejection::BadSignature(id(1))));
    assert_eq!(world.last_refusal, None);
    for reason in ["", "two\nlines", &"a".repeat(201)] {
        let refused = world.submit_as(Actor::Agent, Endpoint::new(1).reject(7, reason));
        assert!(matches!(refused, Err(Rejection::Invalid { field: "reason", .. })), "{refused:?}");
    }
}

#[test]
fn rejections_of_one_node_for_one_reason_are_counted() {
    let mut world = World::peopled(&policy());
    let mut refusals = Refusals::default();
    let mut fact = |frame, reason: &str| {
        let _ = world.submit_as(Actor::Agent, Endpoint::new(1).reject(frame, reason));
        world.last_refusal.clone().unwrap()
    };
    let now = fixtures::start();
    assert!(matches!(refusals.note(fact(7, "no proof"), now, Seq(5)), Noted::Record(..)));
    assert_eq!(refusals.note(fact(8, "no proof"), now, Seq(6)), Noted::Repeat(Seq(5)));
    assert!(matches!(refusals.note(fact(8, "a fork"), now, Seq(6)), Noted::Record(..)));
    let counted = refusals.end_due(now + WINDOW);
    assert!(
        matches!(counted.as_slice(), [(Event::SessionFrameRejected(body), Actor::Agent)] if body.count == 1)
    );
}
