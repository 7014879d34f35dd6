//! Whoever can write to the log's files, but not sign.

use std::fs;

use writ_ledger::SigningKey;

use super::assert_seen;
use super::scene::{ORIGIN, SIZE, Scene, append, line_of, record, record_at, signer};

#[test]
fn an_edited_record_is_named() {
    let scene = Scene::new();
    scene.rewrite(|lines| {
        let line = line_of(lines, 17);
        lines[line] = lines[line].replace("honest", "forged");
    });
    let seen = scene.verify(&scene.log()) + &scene.refusal_to_start();
    assert_seen("Edit a record", &seen);
}

#[test]
fn a_deleted_record_is_missed() {
    let scene = Scene::new();
    scene.rewrite(|lines| {
        lines.remove(line_of(lines, 17));
    });
    assert_seen("Delete a record", &(scene.verify(&scene.log()) + &scene.refusal_to_start()));
}

#[test]
fn an_inserted_record_is_found() {
    let scene = Scene::new();
    scene.rewrite(|lines| lines.insert(line_of(lines, 18), record_at(17, 17, "forged")));
    assert_seen("Insert a record", &(scene.verify(&scene.log()) + &scene.refusal_to_start()));
}

#[test]
fn reordered_records_are_found() {
    let scene = Scene::new();
    scene.rewrite(|lines| {
        let (one, other) = (line_of(lines, 19), line_of(lines, 20));
        lines.swap(one, other);
    });
    assert_seen("Reorder records", &(scene.verify(&scene.log()) + &scene.refusal_to_start()));
}

#[test]
fn a_truncated_log_is_missed_by_its_own_checkpoint() {
    let scene = Scene::new();
    scene.rewrite(|lines| lines.truncate(line_of(lines, 54)));
    assert_seen("Truncate the log", &(scene.verify(&scene.log()) + &scene.refusal_to_start()));
}

#[test]
fn an_older_copy_is_sound_by_itself_and_found_by_who_kept_a_checkpoint() {
    let scene = Scene::new();
    let mut older = scene.make("older", signer());
    append(&mut older, 0..SIZE - 20, record);
    drop(older);
    fs::remove_dir_all(scene.log()).unwrap();
    fs::rename(scene.path("older"), scene.log()).unwrap();
    assert!(scene.verify(&scene.log()).starts_with("VERIFIED"), "it is what the log was once");
    assert_seen("Roll back to the backup of yesterday", &scene.verify_with_kept(&scene.log()));
}

#[test]
fn a_stolen_storage_cannot_be_signed_anew() {
    let scene = Scene::new();
    let thief = SigningKey::from_seed(ORIGIN, [9; 32]).unwrap();
    let mut forged = scene.make("forged", thief);
    append(&mut forged, 0..SIZE, |seq| {
        record_at(seq, seq as i64, if seq == 17 { "forged" } else { "honest" })
    });
    drop(forged);
    // With the thief's own signature, and with the log's old one.
    let own = scene.verify(&scene.path("forged"));
    fs::copy(scene.log().join("checkpoint"), scene.path("forged").join("checkpoint")).unwrap();
    let old = scene.verify(&scene.path("forged"));
    assert_seen("Re-sign after stealing the storage", &(own + &old));
}
