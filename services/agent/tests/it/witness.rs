//! Nodes compare what they were told of the log: a split view is found, and nothing else is taken for one.

use std::time::Duration;

use writ_agent::engine::Testimony;
use writ_agent::trust::Refusal;
use writ_ledger::{SplitView, SplitViewError};

use super::control_plane::{ControlPlane, Permit};
use super::simulation::{Answers, Nat, Said, World};
use super::tunnels::{addresses, exchange, open, tcp};

const SECOND: Duration = Duration::from_secs(1);
const SYN: u8 = 0x02;

/// Two hosts with an open connection; from now on host 1 is told another history.
fn forked(seed: u64, loss: f64) -> World {
    let mut world = World::new(seed, &[Nat::None, Nat::None]);
    open(&mut world);
    world.run_for(20 * SECOND);
    world = world.with_loss(loss);
    world.fork = Some(world.control.fork());
    world.on_fork.insert(1);
    world
}

/// Records that concern nobody here, and a word to each host, so that it verifies the newest checkpoint.
fn grow(world: &mut World, control: usize, fork: usize) {
    let add = |control: &mut ControlPlane, count: usize, number: u8| {
        for _ in 0..count {
            let host = control.join(&format!("other{number}"), number);
            let _ = control.authorize(&host, &host, &Permit::tcp(1));
        }
    };
    add(&mut world.control, control, 101);
    if let Some(other) = &mut world.fork {
        add(other, fork, 102);
    }
    for host in 0..2 {
        world.tell_candidates(host);
    }
}

fn found(world: &World, host: usize) -> bool {
    world.hosts[host].node.trust.split_view().is_some()
}

fn evidence(world: &World, host: usize) -> Result<String, SplitViewError> {
    let found = world.hosts[host].node.trust.split_view().expect("no split view was found");
    // By the key that every node has known since it joined.
    let key = world.hosts[host].node.trust.chain().key().clone();
    let report = SplitView::parse(found.evidence.as_bytes())?.verify(&key)?;
    assert!(found.is_proven);
    Ok(report.to_string())
}

/// A connection to a port that nothing was authorized for yet.
fn new_connection_passes(world: &mut World, port: u16) -> bool {
    let (a, b) = addresses(world);
    world.allowed.insert(port);
    world.hosts[1].received.clear();
    world.send(0, &tcp(a, b, (4009, port), SYN, b""));
    world.run_for(2 * SECOND);
    world.hosts[1].received.drain(..).count() > 0
}

#[test]
fn two_histories_are_found_by_both_ends_whatever_their_lengths_and_proven_to_anybody() {
    for (seed, (control, fork)) in (1..).zip([(1, 1), (1, 2), (2, 1), (1, 7), (9, 3), (20, 20)]) {
        for loss in [0.0, 0.3] {
            let mut world = forked(seed, loss);
            grow(&mut world, control, fork);
            let both = |world: &mut World| found(world, 0) && found(world, 1);
            world.run_until(200 * SECOND, &format!("both find it, {control}:{fork}, loss {loss}"), both);
            for host in 0..2 {
                assert!(evidence(&world, host).unwrap().contains("two different histories"));
            }
        }
    }
}

#[test]
fn a_change_of_the_logs_key_hides_no_other_history_and_is_none() {
    // Nobody is split: one host has verified nothing since the change.
    let mut world = World::new(1, &[Nat::None, Nat::None]);
    open(&mut world);
    world.control.rotate_log_key(20);
    world.tell_candidates(0);
    let heard = world.hosts[0].heard;
    world.run_until(100 * SECOND, "it is heard", |world| world.hosts[0].heard > heard + 1);
    assert!(!found(&world, 0) && !found(&world, 1));
    // Another history up to the change, under the former key: whoever has seen the change finds it.
    for (control, fork) in [(3, 1), (3, 2), (3, 3)] {
        let mut world = forked(1, 0.0);
        grow_apart(&mut world, control, fork);
        world.run_until(200 * SECOND, "host 0 finds it", |world| found(world, 0));
        assert!(evidence(&world, 0).unwrap().contains("two different histories"), "{control}:{fork}");
        // What it tells host 1, that one can check by the key it knows.
        world.run_until(200 * SECOND, "host 1 finds it", |world| found(world, 1));
        assert!(evidence(&world, 1).is_ok(), "{control}:{fork}");
    }
    // Beyond the change the former key, which may have been stolen, stops nobody.
    let mut world = forked(1, 0.0);
    grow_apart(&mut world, 1, 9);
    let heard = world.hosts[0].heard;
    world.run_until(100 * SECOND, "it is heard", |world| world.hosts[0].heard > heard + 1);
    assert!(!found(&world, 0));
}

/// The control plane's log grows and then changes its key, of which the other history knows nothing.
fn grow_apart(world: &mut World, control: usize, fork: usize) {
    grow(world, control, 0);
    world.control.rotate_log_key(20);
    grow(world, 0, fork);
}

#[test]
fn after_a_split_view_nothing_new_is_believed_and_what_is_live_goes_on_to_its_end() {
    let mut world = World::new(1, &[Nat::None, Nat::None]);
    open(&mut world);
    assert!(new_connection_passes(&mut world, 81), "before anybody is told anything else");
    world.fork = Some(world.control.fork());
    world.on_fork.insert(1);
    grow(&mut world, 1, 2);
    world.run_until(100 * SECOND, "found", |world| found(world, 0) && found(world, 1));
    exchange(&mut world);
    assert!(!new_connection_passes(&mut world, 82));
    assert!(world.hosts[0].refused.iter().any(|it| matches!(it, Refusal::SplitView(_))));
    exchange(&mut world);
    // Nor after a restart.
    let stored = world.stored(0);
    assert_eq!(world.restart(0, stored), []);
    assert!(found(&world, 0));
    world.connect_session(0);
    world.run_for(5 * SECOND);
    exchange(&mut world);
    assert!(!new_connection_passes(&mut world, 83));
    let life = world.life;
    world.run_for(life);
    assert!(world.status(0).peers.is_empty(), "it was renewed");
}

#[test]
fn an_administrators_decision_ends_it() {
    let mut world = forked(1, 0.0);
    grow(&mut world, 1, 2);
    world.run_until(100 * SECOND, "found", |world| found(world, 0) && found(world, 1));
    let proof = world.hosts[1].node.trust.split_view().unwrap().evidence.clone();
    // The control plane's history is the true one: the other node forgets what it was told.
    (world.fork, world.on_fork) = (None, Default::default());
    world.hosts[0].node.trust.reset(false);
    world.hosts[1].node.trust.reset(true);
    for host in 0..2 {
        world.hosts[host].refused.clear();
        world.connect_session(host);
    }
    world.run_for(5 * SECOND);
    assert!(new_connection_passes(&mut world, 84), "{:?}", world.hosts[1].refused);
    world.run_for(100 * SECOND);
    assert!(!found(&world, 0) && !found(&world, 1));
    // Old proof is no news, not even after a restart.
    let stored = world.stored(0);
    world.restart(0, stored);
    world.connect_session(0);
    let heard = world.hosts[0].heard;
    world.hosts[1].testimony = Some(Testimony::SplitView(proof));
    world.run_until(100 * SECOND, "it is heard", |world| world.hosts[0].heard > heard + 1);
    assert!(!found(&world, 0));
}

#[test]
fn honest_peers_with_older_and_newer_checkpoints_agree() {
    for seed in 0..4 {
        let mut world = World::new(seed, &[Nat::PortRestricted, Nat::None]).with_loss(0.1);
        let (a, b) = addresses(&world);
        world.run_for(2 * SECOND);
        for round in 0..10 {
            world.send(0, &tcp(a, b, (4000, 80), SYN, b""));
            // Only one of them hears of it.
            let _ = world.control.join("other", 50);
            world.tell_candidates(round % 2);
            world.run_for(30 * SECOND);
        }
        assert!(world.hosts.iter().all(|host| host.heard > 5));
        assert!(world.said.iter().any(|said| matches!(said, Said::Asked { .. })), "seed {seed}");
        for host in 0..2 {
            assert!(!found(&world, host));
            let trust = &world.hosts[host].node.trust;
            assert!(trust.unproven_checkpoints(world.now().wall).iter().all(|it| !it.is_suspicious));
        }
    }
}

#[test]
fn a_control_plane_that_does_not_prove_is_suspicious_and_one_that_proves_falsely_is_found_out() {
    let mut world = World::new(1, &[Nat::None, Nat::None]);
    open(&mut world);
    world.answers = Answers::Never;
    let _ = world.control.join("other", 50);
    world.tell_candidates(1);
    world.run_for(200 * SECOND);
    let unproven = |world: &World| world.hosts[0].node.trust.unproven_checkpoints(world.now().wall);
    assert!(
        matches!(&unproven(&world)[..], [one] if one.is_suspicious && one.peer == world.hosts[1].node.id)
    );
    assert!(!found(&world, 0), "nothing is proven");
    // While nobody can be asked, nobody is suspicious for not answering.
    world.lose_session(0);
    world.hosts[0].node.trust.session_changed(world.control.now, false);
    assert!(unproven(&world).iter().all(|it| !it.is_suspicious));
    world.hosts[0].node.trust.session_changed(world.control.now, true);
    world.answers = Answers::Truly;
    world.connect_session(0);
    world.run_for(30 * SECOND);
    assert!(unproven(&world).is_empty() && !found(&world, 0));

    world.answers = Answers::WithRubbish;
    let _ = world.control.join("other", 51);
    world.tell_candidates(1);
    let _ = world.control.join("other", 52);
    world.run_for(100 * SECOND);
    let shown = world.hosts[0].node.trust.split_view().unwrap();
    assert!(!shown.is_proven && shown.what.contains("does not hold"), "{}", shown.what);
    let evidence = SplitView::parse(shown.evidence.as_bytes()).unwrap();
    assert!(matches!(evidence.verify(&world.control.log_key()), Err(SplitViewError::Unproven { .. })));
}

#[test]
fn a_hostile_peer_without_the_logs_key_changes_nothing() {
    let foreign = ControlPlane::with_key(8);
    let note: std::sync::Arc<str> = foreign.checkpoint(0).note.into();
    let mut world = World::new(1, &[Nat::None, Nat::None]);
    open(&mut world);
    let own = world.hosts[0].node.trust.chain().note().unwrap().to_owned();
    let (text, signature) = own.split_once("\n\n").unwrap();
    let altered: String = format!("{}9\n\n{signature}", &text[..text.len() - 1]);
    let key = world.control.log_key();
    let contradiction = |a: &str, b: &str| {
        let json = serde_json::json!({ "format": "writ-split-view/v1", "vkey": key.to_string(), "older": a, "newer": b });
        Testimony::SplitView(json.to_string().into())
    };
    for lie in [
        Testimony::Checkpoint(note.clone()),
        Testimony::Checkpoint(altered.clone().into()),
        Testimony::Checkpoint("rubbish".into()),
        Testimony::Checkpoint("x".repeat(16_000).into()),
        contradiction(&own, &note),
        contradiction(&own, &own),
        contradiction(&own, &altered),
        Testimony::SplitView("[1, 2".into()),
        Testimony::SplitView("{}".repeat(8_000).into()),
    ] {
        let heard = world.hosts[0].heard;
        world.hosts[1].testimony = Some(lie.clone());
        world.run_until(70 * SECOND, "it is heard", |world| world.hosts[0].heard > heard);
        assert!(!found(&world, 0), "{lie:?}");
        assert!(world.hosts[0].node.trust.unproven_checkpoints(world.control.now).is_empty(), "{lie:?}");
    }
    exchange(&mut world);
    assert!(new_connection_passes(&mut world, 85));
}

#[test]
fn old_checkpoints_that_are_told_again_cost_little_and_mean_nothing() {
    let mut world = World::new(1, &[Nat::None, Nat::None]);
    let mut old = Vec::new();
    for number in 0..40 {
        let _ = world.control.join("other", 50 + number);
        old.push(Testimony::Checkpoint(world.control.checkpoint(0).note.into()));
    }
    open(&mut world);
    world.run_for(SECOND);
    world.said.clear();
    for testimony in old.iter().cycle().take(400) {
        world.hosts[1].testimony = Some(testimony.clone());
        world.run_for(SECOND / 2);
    }
    let asked = world.said.iter().filter(|said| matches!(said, Said::Asked { host: 0, .. })).count();
    assert!((1..60).contains(&asked), "{asked} questions in 200 seconds");
    assert!(!found(&world, 0));
    exchange(&mut world);
}

#[test]
fn the_control_planes_own_contradiction_is_evidence_too() {
    for (kept, grown) in [(0, 0), (3, 5), (2, 9)] {
        let mut world = World::new(1, &[Nat::None]);
        let fork = world.control.fork();
        for number in 0..3 + kept {
            let _ = world.control.join("other", 50 + number);
        }
        world.tell_candidates(0);
        let held = world.hosts[0].node.trust.chain().size();
        // It was restored from a copy, and has grown again.
        let control = std::mem::replace(&mut world.control, fork);
        while world.control.size() < held + grown {
            let _ = world.control.join("else", 90);
        }
        world.tell_candidates(0);
        let is_forced = held.is_power_of_two() && grown > 0;
        assert_eq!(found(&world, 0), !is_forced, "{held} and {grown} more");
        if found(&world, 0) {
            evidence(&world, 0).unwrap();
            assert!(world.hosts[0].node.trust.split_view().unwrap().peer.is_none());
        }
        drop(control);
    }
}

#[test]
fn a_peer_that_has_not_heard_of_a_new_log_key_yet_is_compared_with_all_the_same() {
    for is_forked in [false, true] {
        let mut world = World::new(1, &[Nat::None, Nat::None]);
        open(&mut world);
        world.run_for(20 * SECOND);
        // Host 1 is told nothing any more; what it holds is signed by the former key.
        if is_forked {
            world.fork = Some(world.control.fork());
            world.on_fork.insert(1);
            grow(&mut world, 1, 2);
        }
        let (former, heard) = (world.hosts[1].node.trust.chain().size(), world.hosts[0].heard);
        world.lose_session(1);
        while world.control.size() < former {
            let _ = world.control.join("other", 60);
        }
        world.control.rotate_log_key(9);
        world.tell_candidates(0);
        assert!(
            world.hosts[0].node.trust.chain().signing_key()
                != world.hosts[1].node.trust.chain().signing_key()
        );
        world.run_until(120 * SECOND, "host 1 is heard", |world| world.hosts[0].heard > heard + 1);
        world.run_for(20 * SECOND);
        assert_eq!(found(&world, 0), is_forked);
        assert!(world.hosts[0].node.trust.unproven_checkpoints(world.control.now).is_empty());
    }
}
