//! Policy changes and their consequences.

use writ_schema::event::RevocationReason;
use writ_schema::{Event, PolicyVersion, ProposalId};

use super::world::World;
use crate::core::{Command, Rejection};
use crate::fixtures::{self, bytes, set_policy, user};

fn allowing(source: u64, ports: &str) -> String {
    let source = user(source);
    format!(
        r#"{{"tagOwners":{{"tag:web":[]}},
            "acls":[{{"action":"accept","src":["{source}"],"dst":["tag:web:{ports}"]}}]}}"#
    )
}

fn message(result: Result<Vec<std::sync::Arc<crate::sequencer::OpenRecord>>, Rejection>) -> String {
    match result {
        Err(Rejection::Policy(message)) => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_change_cuts_what_it_no_longer_allows_in_the_same_commit() {
    let mut world = World::peopled(&allowing(1, "80,443"));
    let (web, tls) = (world.connect(1, 3, 80).unwrap(), world.connect(1, 3, 443).unwrap());
    let records = world.submit(set_policy(2, &allowing(1, "443"), Some(PolicyVersion(1)))).unwrap();
    let kinds = World::kinds(&records);
    assert_eq!(kinds, ["policy.change_proposed", "policy.activated", "connection.revoked"]);
    match (&records[0].record.event, &records[2].record.event) {
        (Event::PolicyChangeProposed(proposed), Event::ConnectionRevoked(revoked)) => {
            let effect = proposed.effect;
            // A rule without a protocol is about TCP and UDP.
            assert_eq!((effect.gained, effect.lost, effect.connections_cut), (0, 2, 1));
            assert_eq!((&revoked.authorization, revoked.reason), (&web, RevocationReason::PolicyChanged));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(records[2].record.cause, Some(records[1].record.seq));
    assert!(!world.state.authorization(&web).unwrap().is_live(world.now));
    assert!(world.state.authorization(&tls).unwrap().is_live(world.now));
    assert_eq!(world.state, world.refolded());
}

#[test]
fn an_authorization_for_a_range_needs_all_of_it() {
    let mut world = World::peopled(&allowing(1, "8000-8100"));
    let held = world.connect(1, 3, 8050).unwrap();
    assert_eq!(world.state.authorization(&held).unwrap().ports.to_string(), "8000-8100");
    let text = allowing(1, "8000-8040,8041-8100");
    world.submit(set_policy(2, &text, None)).unwrap();
    assert!(world.state.authorization(&held).unwrap().is_live(world.now));
    world.submit(set_policy(3, &allowing(1, "8000-8060"), None)).unwrap();
    assert!(!world.state.authorization(&held).unwrap().is_live(world.now));
}

#[test]
fn a_change_on_top_of_a_stale_version_is_refused() {
    let mut world = World::peopled(&allowing(1, "80"));
    world.submit(set_policy(2, &allowing(1, "81"), Some(PolicyVersion(1)))).unwrap();
    let stale = world.submit(set_policy(3, &allowing(1, "82"), Some(PolicyVersion(1))));
    assert_eq!(stale, Err(Rejection::PolicyChanged { current: PolicyVersion(2) }));
}

#[test]
fn an_undo_is_a_new_version_with_the_old_text() {
    let mut world = World::peopled(&allowing(1, "80"));
    let undo = |number: u64, to: Option<u64>| Command::UndoPolicy {
        to: to.map(PolicyVersion),
        proposal: ProposalId::from_bytes(bytes(number)),
    };
    assert_eq!(world.submit(undo(2, None)), Err(Rejection::NoPolicyToRestore));
    world.submit(set_policy(3, &allowing(2, "80"), None)).unwrap();
    let held = world.connect(2, 3, 80).unwrap();
    world.submit(undo(4, None)).unwrap();
    let active = world.state.policy().unwrap();
    assert_eq!((active.version, active.restores), (PolicyVersion(3), Some(PolicyVersion(1))));
    assert_eq!(active.text.as_deref(), Some(allowing(1, "80").as_str()));
    assert!(!world.state.authorization(&held).unwrap().is_live(world.now));
    world.submit(undo(5, Some(2))).unwrap();
    assert_eq!(world.state.policy().unwrap().restores, Some(PolicyVersion(2)));
    assert_eq!(world.submit(undo(6, Some(9))), Err(Rejection::NoPolicyToRestore));
    assert_eq!(world.state, world.refolded());
}

#[test]
fn a_policy_that_breaks_its_own_promises_is_refused_by_name() {
    let mut world = World::peopled(&allowing(1, "80"));
    let text = format!(
        r#"{{"acls":[{{"action":"accept","src":["{0}"],"dst":["{1}:*"]}}],
            "tests":[{{"src":"{0}","deny":["{1}:22"]}}]}}"#,
        user(1),
        user(2),
    );
    let message = message(world.submit(set_policy(2, &text, None)));
    assert!(message.contains("tests[0]") && message.contains("should be denied"), "{message}");
    assert_eq!(world.state.policy().unwrap().version, PolicyVersion(1));
}

#[test]
fn silence_unknown_names_and_unknown_keys_are_refused() {
    let mut world = World::peopled(&allowing(1, "80"));
    for (text, part) in [
        (r#"{"groups":{}}"#.to_owned(), "neither `acls` nor `grants`"),
        (allowing(99, "80"), user(99).as_str()),
        (allowing(1, "99999"), "65535"),
        (r#"{"acls":[],"alcs":[]}"#.to_owned(), "alcs"),
        (r#"{"acls":[{"action":"accept","src":["group:x"],"dst":["*:*"]}]}"#.to_owned(), "group:x"),
        (format!(r#"{{"acls":[]}} // {}"#, "x".repeat(50_000)), "bytes"),
    ] {
        let message = message(world.submit(set_policy(2, &text, None)));
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn the_longest_policy_that_is_taken_fits_into_a_record() {
    let mut world = World::peopled(&allowing(1, "80"));
    let text = |padding: usize| format!(r"{{'acls':[]}} // {}", "x".repeat(padding)).replace('\'', "\"");
    let overhead = serde_json::to_string(&text(0)).unwrap().len();
    let longest = text(47_000 - overhead);
    let records = world.submit(set_policy(2, &longest, None)).unwrap();
    assert!(records[0].bytes.len() > 60_000);
    let longer = text(47_001 - overhead);
    assert!(message(world.submit(set_policy(3, &longer, None))).contains("47001 bytes"));
}

#[test]
fn who_comes_later_is_covered_by_the_policy_in_force() {
    let mut world = World::peopled(&allowing(1, "80"));
    let key = fixtures::enrolment_key(4, fixtures::tags(&["tag:web"]), 1, world.now);
    world.submit(key).unwrap();
    world.join(4, 4).unwrap();
    world.submit(fixtures::Endpoint::new(4).start_session()).unwrap();
    world.connect(1, 4, 80).unwrap();
    let reach = world.state.reachable_from(&super::world::id(1));
    assert_eq!(reach.len(), 2);
    assert_eq!(reach[0].1[0].ports.to_string(), "80");
    assert_eq!(world.state.who_can_reach(&super::world::id(4)).len(), 1);
}

#[test]
fn a_file_that_says_nothing_of_access_comes_into_force_only_if_that_is_meant() {
    let mut world = World::new();
    let refused = message(world.submit(set_policy(1, "{}", None)));
    assert!(
        refused.contains("neither `acls` nor `grants`") && refused.contains("--allow-everything"),
        "{refused}"
    );
    let proposal = ProposalId::from_bytes(bytes(2));
    let meant = Command::SetPolicy { text: "{}".to_owned(), proposal, base: None, allow_everything: true };
    world.submit(meant).unwrap();
    assert!(world.state.compiled_policy().unwrap().policy().allows_everything_by_silence());
    world.submit(set_policy(3, r#"{"acls": []}"#, None)).unwrap();
    let undo = Command::UndoPolicy { to: None, proposal: ProposalId::from_bytes(bytes(4)) };
    assert!(world.submit(undo).is_ok(), "it was meant the first time");
}
