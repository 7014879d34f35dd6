//! Times: what a record says of itself, what its neighbours say, and what the reader's own clock says.

use super::assert_seen;
use super::scene::{SIZE, Scene, append, record_at, signer};

/// The scene's log with one more record, so many seconds after ten o'clock.
fn with_record_at(seconds: i64) -> Scene {
    let scene = Scene::new();
    let mut log = writ_ledger::FileLog::open(&scene.log(), Box::new(signer())).unwrap();
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
