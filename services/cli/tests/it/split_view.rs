use std::fs;
use std::path::Path;

use serde_json::Value;
use writ_ledger::tree::{MemoryTree, root_at};
use writ_ledger::{Checkpoint, ConsistencyProof, SignedCheckpoint, SplitView, leaf_hash};

use super::{signer, vkey, writ};

fn tree(last: u8, size: u8) -> MemoryTree {
    let mut tree = MemoryTree::new();
    (1..size).chain([last]).for_each(|record| tree.push(leaf_hash(&[record])));
    tree
}

fn signed(tree: &MemoryTree) -> SignedCheckpoint {
    let key = signer();
    let origin = key.verifier_key().name().to_owned();
    Checkpoint { origin, size: tree.size(), root: tree.root() }.sign(&key).unwrap()
}

fn written(folder: &Path, split: &SplitView) -> String {
    let file = folder.join("split-view.json");
    fs::write(&file, split.to_json()).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn the_proof_of_a_split_view_is_recognised_and_said_in_plain_words() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (tree(200, 7), tree(201, 12));
    let proof = ConsistencyProof::build(&theirs, 7, 12).unwrap().unwrap();
    let begins_with = Some((root_at(&theirs, 7).unwrap(), &proof));
    for split in [
        SplitView::new(&signed(&ours), &signed(&tree(202, 7)), None),
        SplitView::new(&signed(&theirs), &signed(&ours), begins_with),
    ] {
        let file = written(folder.path(), &split);
        let ran = writ(folder.path(), ["verify", &file, "--key", &vkey()]);
        assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
        assert!(
            ran.stdout.starts_with("VERIFIED") && ran.stdout.contains("signed two different histories"),
            "{}",
            ran.stdout
        );
        let value = writ(folder.path(), ["verify", &file, "--key", &vkey(), "--json"]).json();
        assert_eq!((&value["verified"], &value["older"]["size"]), (&true.into(), &7.into()));
    }
}

#[test]
fn what_does_not_prove_a_split_view_is_refused_and_a_file_cannot_vouch_for_its_own_key() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (tree(200, 7), tree(201, 7));
    let split = SplitView::new(&signed(&ours), &signed(&theirs), None);
    let file = written(folder.path(), &split);
    let ran = writ(folder.path(), ["verify", &file]);
    assert!(ran.code == 1 && ran.stderr.contains(&vkey()) && ran.stderr.contains("--key"), "{}", ran.stderr);

    let text = split.to_json().replace(&theirs.root().to_string(), &ours.root().to_string());
    fs::write(&file, &text).unwrap();
    let unproven = SplitView::new(&signed(&ours), &signed(&tree(200, 9)), None);
    for text in [text, unproven.to_json(), SplitView::new(&signed(&ours), &signed(&ours), None).to_json()] {
        fs::write(&file, text).unwrap();
        let ran = writ(folder.path(), ["verify", &file, "--key", &vkey()]);
        assert!(ran.code == 1 && ran.stdout.starts_with("NOT VERIFIED"), "{}", ran.stdout);
        let value = writ(folder.path(), ["verify", &file, "--key", &vkey(), "--json"]).json();
        assert_eq!(value["verified"], Value::Bool(false));
    }
}
