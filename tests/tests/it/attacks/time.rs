//! Times: what a record says of itself, what its neighbours say, and what the reader's own clock says.

use writ_ledger::store::COSIGNED;
use writ_ledger::{CosignedHistory, FileLog};

use super::assert_seen;
use super::scene::{SIZE, Scene, append, record_at, signer};
use super::witness::WitnessProcess;

/// The scene's log with one more record, so many seconds after ten o'clock.
fn with_record_at(seconds: i64) -> Scene {
    let scene = Scene::new();
    let mut log = FileLog::open(&scene.log(), Box::new(signer())).unwrap();
    append(&mut log, SIZE..SIZE + 1, |seq| record_at(seq, seconds, "honest"));
    scene
}

#[test]
fn a_record_that_is_dated_before_one_that_stands_before_it_is_found_though_it_is_signed() {
    let scene = with_record_at(-3600);
    assert_seen("Back-date a record", &scene.verify(&scene.log()));
}

#[test]
fn a_record_of_the_future_is_found_by_the_readers_clock() {
    let scene = with_record_at(100 * 365 * 24 * 3600);
    assert_seen("A clock that jumps ahead", &scene.verify(&scene.log()));
}

#[test]
fn a_record_that_is_dated_after_its_neighbour_but_before_its_time_is_found_by_what_witnesses_had_seen() {
    let scene = Scene::new();
    let witness = WitnessProcess::start(&scene.path("witness"));
    let mut log = FileLog::open(&scene.log(), Box::new(signer())).unwrap();
    // The witness has a clock of its own: today's, long after the scene's day.
    let before = witness.cosign(&log, 0).unwrap();
    let mut history = CosignedHistory::default();
    history.add(0, &before);
    history.store(&scene.log()).unwrap();
    append(&mut log, SIZE..SIZE + 1, |seq| record_at(seq, 90, "honest"));
    std::fs::write(scene.log().join(COSIGNED), witness.cosign(&log, SIZE).unwrap()).unwrap();
    drop(log);
    assert!(scene.verify(&scene.log()).starts_with("VERIFIED"), "its neighbours do not contradict it");
    let found = scene.verify_with_policy(&scene.log(), &witness.policy());
    assert_seen("Back-date a record, witnesses", &found);
    assert!(!found.contains("record 59 "), "those before it were there: {found}");
}
