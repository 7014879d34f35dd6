//! The example in the published description of the format is one, and stays one.

use std::path::Path;

use writ_ledger::tree::{MemoryTree, root_at};
use writ_ledger::{Checkpoint, ConsistencyProof, SigningKey, SplitView, leaf_hash};

/// Three records, and five of which the third is another.
fn example(key: &SigningKey) -> SplitView {
    let signed = |tree: &MemoryTree| {
        let origin = key.verifier_key().name().to_owned();
        Checkpoint { origin, size: tree.size(), root: tree.root() }.sign(key).unwrap()
    };
    let tree = |records: &[&str]| {
        let mut tree = MemoryTree::new();
        records.iter().for_each(|record| tree.push(leaf_hash(record.as_bytes())));
        tree
    };
    let (older, newer) = (tree(&["a", "b", "c"]), tree(&["a", "b", "C", "d", "e"]));
    let proof = ConsistencyProof::build(&newer, 3, 5).unwrap().unwrap();
    SplitView::new(&signed(&older), &signed(&newer), Some((root_at(&newer, 3).unwrap(), &proof)))
}

#[test]
fn the_published_example_is_verified() {
    let key = SigningKey::from_seed("writ.example/log", [5; 32]).unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schema/split-view.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (head, _) = page.split_once("Key: `").unwrap();
    let json = example(&key).to_json();
    let fresh = format!("{head}Key: `{}`\n\n```json\n{json}\n```\n", key.verifier_key());
    if std::env::var_os("WRIT_UPDATE").is_some() {
        std::fs::write(&path, &fresh).unwrap();
    }
    let page = std::fs::read_to_string(&path).unwrap();
    assert!(page == fresh, "schema/split-view.md is stale: run `WRIT_UPDATE=1 cargo test -p writ-ledger`");
    let report = SplitView::parse(json.as_bytes()).unwrap().verify(&key.verifier_key()).unwrap();
    assert_eq!((report.older.size, report.newer.size), (3, 5));
}
