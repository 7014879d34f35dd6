//! Whoever has the log's own key: what they sign is sound by itself, and only what others have seen before contradicts it.

use writ_ledger::{Log, TrustPolicy};

use super::assert_seen;
use super::scene::{SIZE, Scene, append, record, record_at, signer};
use super::witness::WitnessProcess;

/// A history in which record 17 is another, under the log's own key.
fn rewritten(scene: &Scene, name: &str, size: u64) -> Log {
    let mut log = scene.make(name, signer());
    append(&mut log, 0..size, |seq| if seq == 17 { record_at(17, 17, "forged") } else { record(seq) });
    log
}

#[test]
fn a_fork_is_found_when_two_readers_compare_their_checkpoints() {
    let scene = Scene::new();
    drop(rewritten(&scene, "for-the-other", SIZE + 6));
    for shown in [scene.log(), scene.path("for-the-other")] {
        assert!(scene.verify(&shown).starts_with("VERIFIED"), "each reader alone sees nothing");
    }
    assert_seen("Fork the log for two readers", &scene.verify_with_kept(&scene.path("for-the-other")));
}

#[test]
fn a_stolen_key_rewrites_history_for_those_who_have_kept_nothing() {
    let scene = Scene::new();
    drop(rewritten(&scene, "rewritten", SIZE));
    let fresh = scene.verify(&scene.path("rewritten"));
    assert!(fresh.starts_with("VERIFIED"), "nobody can tell from the log alone: {fresh}");
    assert_seen("Steal the signing key, no witness", &scene.verify_with_kept(&scene.path("rewritten")));
}

#[test]
fn witnesses_do_not_cosign_a_second_history_and_readers_demand_their_cosignature() {
    let scene = Scene::new();
    let honest = writ_ledger::FileLog::open(&scene.log(), Box::new(signer())).unwrap();
    let witness = WitnessProcess::start(&scene.path("witness"));
    let policy = TrustPolicy::parse(witness.policy().as_bytes()).unwrap();
    let cosigned = witness.cosign(&honest, 0).unwrap();
    assert_eq!(policy.check(&cosigned).unwrap().cosigned.len(), 1);

    let forged = rewritten(&scene, "rewritten", SIZE + 6);
    let (status, refused) = witness.cosign(&forged, SIZE).unwrap_err();
    assert_eq!(status, 422);
    // Nor is it forgotten, whatever the witness is told of its own past.
    let (status, _) = witness.cosign(&forged, 0).unwrap_err();
    assert_eq!(status, 409);
    let without = policy.check(forged.reader().checkpoint().text()).unwrap_err();
    assert_seen("Steal the signing key, witnesses", &format!("{refused}{without}"));
}
