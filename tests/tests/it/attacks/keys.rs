//! Whoever has the log's own key: what they sign is sound by itself, and only what others have seen before contradicts it.

use writ_ledger::key::CosigningKey;
use writ_ledger::witness::{AddCheckpoint, Answer, FolderState, Witness};
use writ_ledger::{Log, TrustPolicy};

use super::assert_seen;
use super::scene::{SIZE, Scene, append, record, record_at, signer};

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
    let key = CosigningKey::from_seed("witness.example", [3; 32]).unwrap();
    let policy = format!(
        "log {}\nwitness security-team {}\nquorum security-team\n",
        signer().verifier_key(),
        key.cosigner_key()
    );
    let policy = TrustPolicy::parse(policy.as_bytes()).unwrap();
    let state = FolderState::open(&scene.path("witness")).unwrap();
    let witness = Witness::open(key, [signer().verifier_key()], state).unwrap();
    let ask = |log: &Log, old: u64| {
        let proof = log.reader().consistency(old, log.size()).unwrap().hashes;
        let note = log.reader().checkpoint().text().to_owned();
        let request = AddCheckpoint::new(old, proof, &note).unwrap().to_string();
        witness.add_checkpoint(request.as_bytes(), 1_773_482_400)
    };
    let Answer::Cosigned(line) = ask(&honest, 0) else { panic!("the honest log is cosigned") };
    let cosigned = honest.reader().checkpoint().text().to_owned() + &line;
    assert_eq!(policy.check(&cosigned).unwrap().cosigned.len(), 1);

    let forged = rewritten(&scene, "rewritten", SIZE + 6);
    let refused = ask(&forged, SIZE);
    assert_eq!(refused.status(), 422);
    let without = policy.check(forged.reader().checkpoint().text()).unwrap_err();
    assert_seen("Steal the signing key, witnesses", &format!("{}{without}", refused.body()));
}
