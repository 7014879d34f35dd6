//! Our tree, proofs and notes against an implementation that is not ours.

use proptest::prelude::*;
use tlog_tiles::{HashReader, check_record, check_tree, prove_record, prove_tree, stored_hashes, tree_hash};
use writ_ledger::tree::{MemoryTree, leaf_hash, root_at};
use writ_ledger::{ConsistencyProof, Hash, InclusionProof};

use super::{key, signer};

struct Theirs(Vec<tlog_tiles::Hash>);

impl HashReader for Theirs {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog_tiles::Hash>, tlog_tiles::Error> {
        Ok(indexes.iter().map(|index| self.0[*index as usize]).collect())
    }
}

fn trees(size: u64) -> (MemoryTree, Theirs) {
    let (mut ours, mut theirs) = (MemoryTree::new(), Theirs(Vec::new()));
    for n in 0..size {
        let data = n.to_be_bytes();
        ours.push(leaf_hash(&data));
        let hashes = stored_hashes(n, &data, &theirs).unwrap();
        theirs.0.extend(hashes);
    }
    (ours, theirs)
}

fn theirs(hash: &Hash) -> tlog_tiles::Hash {
    tlog_tiles::Hash(hash.0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn roots_and_proofs_are_the_same_as_theirs(size in 1_u64..1200, a in any::<u64>(), b in any::<u64>()) {
        let (ours, other) = trees(size);
        let (index, old) = (a % size, b % size + 1);
        let root = ours.root();
        prop_assert_eq!(root.0, tree_hash(size, &other).unwrap().0);
        let inclusion = InclusionProof::build(&ours, index, size).unwrap().unwrap();
        prop_assert_eq!(
            inclusion.hashes.iter().map(theirs).collect::<Vec<_>>(),
            prove_record(size, index, &other).unwrap()
        );
        let leaf = leaf_hash(&index.to_be_bytes());
        prop_assert!(check_record(&inclusion.hashes.iter().map(theirs).collect(), size, theirs(&root), index, theirs(&leaf)).is_ok());
        let consistency = ConsistencyProof::build(&ours, old, size).unwrap().unwrap();
        let old_root = root_at(&ours, old).unwrap();
        let hashes: Vec<_> = consistency.hashes.iter().map(theirs).collect();
        prop_assert_eq!(&hashes, &prove_tree(size, old, &other).unwrap());
        prop_assert!(check_tree(&hashes, size, theirs(&root), old, theirs(&old_root)).is_ok());
        prop_assert_eq!(consistency.verify(&old_root, &root), Ok(()));
    }
}

#[test]
fn their_verifier_accepts_our_checkpoint() {
    let checkpoint = writ_ledger::Checkpoint { origin: super::ORIGIN.into(), size: 9, root: leaf_hash(b"r") };
    let signed = checkpoint.sign(signer().as_ref()).unwrap();
    let verifier = signed_note::StandardVerifier::new(&key().to_string()).unwrap();
    let note = signed_note::Note::from_bytes(signed.text().as_bytes()).unwrap();
    let (verified, unverified) =
        note.verify(&signed_note::VerifierList::new(vec![Box::new(verifier)])).unwrap();
    assert_eq!((verified.len(), unverified.len()), (1, 0));
    let read = tlog_tiles::Checkpoint::from_bytes(note.text()).unwrap();
    assert_eq!((read.size(), read.hash().0), (9, checkpoint.root.0));
}
