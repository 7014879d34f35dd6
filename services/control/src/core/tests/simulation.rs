//! Random commands, and what must hold whatever they are.

use std::collections::BTreeMap;

use proptest::prelude::*;
use writ_schema::event::{AcknowledgedAction, CloseReason, NodeOwner, SessionEnd};
use writ_schema::{AuthorizationId, Event, ProposalId};

use super::world::{World, id, request};
use crate::core::Command;
use crate::core::policy::still_allows;
use crate::fixtures::{self, Endpoint, bytes, user};

const USERS: u64 = 3;
const NODES: u8 = 6;
const KEYS: u64 = 5;

#[derive(Debug, Clone)]
enum Step {
    Provision(u64),
    Leave(u64),
    Erase(u64),
    CreateKey { key: u64, owner: u64, max_uses: u32 },
    Join { node: u8, key: u64 },
    Remove(u8),
    Rotate { node: u8, generation: u64 },
    StartSession(u8),
    EndSession(u8),
    SetPolicy(u8),
    Undo,
    Connect { from: u8, to: u8, port: u16, renews: bool },
    Acknowledge { by: u8, action: AcknowledgedAction },
    Close(u8),
    Pass(i64),
}

fn step() -> impl Strategy<Value = Step> {
    let (node, user, key) = (0..NODES, 0..USERS, 0..KEYS);
    let action = prop_oneof![Just(AcknowledgedAction::Established), Just(AcknowledgedAction::Withdrawn)];
    prop_oneof![
        2 => user.clone().prop_map(Step::Provision),
        1 => user.clone().prop_map(Step::Leave),
        1 => user.prop_map(Step::Erase),
        4 => (key.clone(), 0..USERS + 2, 1..3_u32)
            .prop_map(|(key, owner, max_uses)| Step::CreateKey { key, owner, max_uses }),
        6 => (node.clone(), key).prop_map(|(node, key)| Step::Join { node, key }),
        1 => node.clone().prop_map(Step::Remove),
        1 => (node.clone(), 1..3_u64).prop_map(|(node, generation)| Step::Rotate { node, generation }),
        6 => node.clone().prop_map(Step::StartSession),
        1 => node.clone().prop_map(Step::EndSession),
        3 => (0..4_u8).prop_map(Step::SetPolicy),
        1 => Just(Step::Undo),
        12 => (node.clone(), node.clone(), 79..83_u16, any::<bool>())
            .prop_map(|(from, to, port, renews)| Step::Connect { from, to, port, renews }),
        4 => (node.clone(), action).prop_map(|(by, action)| Step::Acknowledge { by, action }),
        2 => node.prop_map(Step::Close),
        2 => (1..500_i64).prop_map(Step::Pass),
    ]
}

/// A world in which much is possible already, so that random steps reach far.
fn furnished() -> World {
    let mut world = World::new();
    for number in 0..2 {
        world.submit(fixtures::provision(number)).unwrap();
    }
    for number in 0..4 {
        world.submit(key(u64::from(number) + 100, u64::from(number), 1, &world)).unwrap();
        world.join(number, u64::from(number) + 100).unwrap();
        world.submit(Endpoint::new(number).start_session()).unwrap();
    }
    world.submit(fixtures::set_policy(0, &policy(1), None)).unwrap();
    world
}

fn key(key: u64, owner: u64, max_uses: u32, world: &World) -> Command {
    let owner = match owner {
        owner if owner < 2 => NodeOwner::User(user(owner)),
        2 => fixtures::tags(&["tag:web"]),
        _ => fixtures::tags(&["tag:db", "tag:web"]),
    };
    fixtures::enrolment_key(key, owner, max_uses, world.now)
}

fn policy(number: u8) -> String {
    let rules = match number {
        0 => String::new(),
        1 => r#"{"action":"accept","src":["*"],"dst":["*:*"]}"#.to_owned(),
        2 => r#"{"action":"accept","src":["autogroup:member"],"dst":["tag:web:80-81"]}"#.to_owned(),
        _ => format!(
            r#"{{"action":"accept","src":["{}","tag:web"],"dst":["tag:db:80","tag:web:81-82"]}}"#,
            user(0)
        ),
    };
    format!(r#"{{"tagOwners":{{"tag:web":[],"tag:db":[]}},"acls":[{rules}]}}"#)
}

/// Takes a step; what it asks for may well be refused.
fn take(world: &mut World, number: u64, step: &Step) {
    let command = match *step {
        Step::Provision(number) => fixtures::provision(number),
        Step::Leave(number) => Command::ReceiveLeaver { user: user(number), decided_at: None },
        Step::Erase(number) => Command::EraseUser { user: user(number) },
        Step::CreateKey { key: name, owner, max_uses } => key(name, owner, max_uses, world),
        Step::Join { node, key } => {
            let _ = world.join(node, key);
            return;
        }
        Step::Remove(node) => Command::RemoveNode { node: id(node) },
        Step::Rotate { node, generation } => Endpoint::new(node).rotate(generation),
        Step::StartSession(node) => Endpoint::new(node).start_session(),
        Step::EndSession(node) => Command::EndSession { node: id(node), reason: SessionEnd::Closed },
        Step::SetPolicy(policy_number) => fixtures::set_policy(number + 1000, &policy(policy_number), None),
        Step::Undo => {
            Command::UndoPolicy { to: None, proposal: ProposalId::from_bytes(bytes(number + 1000)) }
        }
        Step::Connect { from, to, port, renews } => {
            if world.state.node_ever(&id(to)).is_none() {
                return;
            }
            let renews = renews.then(|| newest(world)).flatten();
            request(from, world.address(to), port, renews)
        }
        Step::Acknowledge { by, action } => {
            let Some(newest) = newest(world) else { return };
            let Some(found) = world.state.authorization(&newest) else { return };
            let record = found.revoked.map_or(found.record, |end| end.record);
            let _ = world.acknowledge(by, &newest, record, action);
            return;
        }
        Step::Close(by) => {
            let Some(authorization) = newest(world) else { return };
            Command::ReportClosed {
                node: id(by),
                authorization,
                reason: CloseReason::Idle,
                bytes_sent: 1,
                bytes_received: 1,
                path: None,
            }
        }
        Step::Pass(seconds) => return world.pass(seconds),
    };
    let _ = world.submit(command);
}

fn newest(world: &World) -> Option<AuthorizationId> {
    world.log.iter().rev().find_map(|record| match &record.record.event {
        Event::ConnectionAuthorized(body) => Some(body.authorization.clone()),
        _ => None,
    })
}

/// Nothing is in force that is not in the log, and nothing that the policy or the people do not allow.
fn check(world: &World) {
    let state = &world.state;
    let event = |seq: writ_schema::Seq| &world.log[usize::try_from(seq.0).unwrap()].record.event;
    for node in state.nodes() {
        assert!(matches!(event(node.joined), Event::NodeJoined(body) if body.node == node.id));
        if let Some(rotated) = node.rotated {
            assert!(
                matches!(event(rotated), Event::KeyRotated(body) if body.wireguard_key == node.wireguard_key)
            );
        }
        assert!(node.user().is_none_or(|user| state.user(user).is_some_and(|user| !user.is_disabled)));
    }
    for held in state.live_authorizations(world.now) {
        let source = held.source.as_ref().unwrap();
        let recorded = matches!(
            event(held.record),
            Event::ConnectionAuthorized(body) if body.authorization == held.id && body.source.value() == Some(source)
        );
        assert!(recorded);
        assert!(state.node(&source.node).is_some() && state.node(&held.destination).is_some());
        assert!(still_allows(state, state.compiled_policy().unwrap(), held, world.now), "{held:?}");
    }
    if let Some(compiled) = state.compiled_policy() {
        // What was changed node by node is what is compiled from nothing.
        let scratch = writ_policy::Compiled::new(compiled.policy().clone(), &state.inventory()).unwrap();
        assert!(writ_policy::difference(compiled, &scratch).is_empty());
        assert!(compiled.nodes().eq(scratch.nodes()));
    }
    let mut uses: BTreeMap<_, u32> = BTreeMap::new();
    for record in &world.log {
        if let Event::NodeJoined(body) = &record.record.event {
            *uses.entry(&body.enrolment_key).or_default() += 1;
        }
    }
    for key in state.enrolment_keys() {
        assert!(key.uses <= key.max_uses);
        assert_eq!(key.uses, uses.get(&key.id).copied().unwrap_or(0));
    }
    assert!(world.log.is_sorted_by_key(|record| record.record.time));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_asked_the_state_is_what_the_log_says(
        steps in proptest::collection::vec(step(), 1..90),
    ) {
        let mut world = furnished();
        for (number, step) in steps.iter().enumerate() {
            take(&mut world, number as u64, step);
            check(&world);
        }
        prop_assert_eq!(&world.state, &world.refolded());
        for record in &world.log {
            prop_assert!(!record.bytes.contains("person-"), "{}", record.bytes);
        }
    }
}
