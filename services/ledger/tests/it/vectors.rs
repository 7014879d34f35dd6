//! The examples and test vectors of the specifications, by their values.

use data_encoding::HEXLOWER;
use writ_ledger::tile::{TileKind, TilePath};
use writ_ledger::tree::{MemoryTree, empty_root, root_at};
use writ_ledger::{ConsistencyProof, Hash, InclusionProof, Note, ProofFile, VerifierKey, leaf_hash};

/// The eight leaves of the test tree of Certificate Transparency.
const LEAVES: [&[u8]; 8] = [
    b"",
    b"\x00",
    b"\x10",
    b"\x20\x21",
    b"\x30\x31",
    b"\x40\x41\x42\x43",
    b"\x50\x51\x52\x53\x54\x55\x56\x57",
    b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
];

const LEAF_0: &str = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d";
const LEAF_1: &str = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7";
const LEAF_4: &str = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b";
const NODE_0_TO_2: &str = "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125";
const NODE_2_TO_4: &str = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e";
const NODE_0_TO_4: &str = "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7";
const NODE_4_TO_6: &str = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a";
const NODE_6_TO_8: &str = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0";
const NODE_4_TO_8: &str = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4";

fn tree() -> MemoryTree {
    let mut tree = MemoryTree::new();
    LEAVES.iter().for_each(|leaf| tree.push(leaf_hash(leaf)));
    tree
}

fn hashes(hex: &[&str]) -> Vec<Hash> {
    hex.iter().map(|hex| Hash::from_slice(&HEXLOWER.decode(hex.as_bytes()).unwrap()).unwrap()).collect()
}

#[test]
fn inclusion_proofs_are_those_of_certificate_transparency() {
    let tree = tree();
    for (index, size, expected) in [
        (0, 1, &[][..]),
        (0, 8, &[LEAF_1, NODE_2_TO_4, NODE_4_TO_8]),
        (5, 8, &[LEAF_4, NODE_6_TO_8, NODE_0_TO_4]),
        (2, 3, &[NODE_0_TO_2]),
        (1, 5, &[LEAF_0, NODE_2_TO_4, LEAF_4]),
    ] {
        let proof = InclusionProof::build(&tree, index, size).unwrap().unwrap();
        assert_eq!(proof.hashes, hashes(expected), "leaf {index} of {size}");
        let leaf = leaf_hash(LEAVES[usize::try_from(index).unwrap()]);
        assert_eq!(proof.verify(&leaf, &root_at(&tree, size).unwrap()), Ok(()));
    }
}

#[test]
fn consistency_proofs_are_those_of_certificate_transparency() {
    let tree = tree();
    for (old, new, expected) in [
        (1, 1, &[][..]),
        (1, 8, &[LEAF_1, NODE_2_TO_4, NODE_4_TO_8]),
        (6, 8, &[NODE_4_TO_6, NODE_6_TO_8, NODE_0_TO_4]),
        (2, 5, &[NODE_2_TO_4, LEAF_4]),
    ] {
        let proof = ConsistencyProof::build(&tree, old, new).unwrap().unwrap();
        assert_eq!(proof.hashes, hashes(expected), "{old} to {new}");
        let root = |size| root_at(&tree, size).unwrap();
        assert_eq!(proof.verify(&root(old), &root(new)), Ok(()));
    }
}

#[test]
fn the_example_of_signed_note_verifies() {
    let key: VerifierKey =
        "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k".parse().unwrap();
    let text = "This is an example message.\n\n— example.com/foo \
        Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";
    let note: Note = text.parse().unwrap();
    assert_eq!(note.verify(&[&key]), Ok(1));
    let other: Note = text.replace("example message", "Example message").parse().unwrap();
    assert!(other.verify(&[&key]).is_err());
}

#[test]
fn the_examples_of_tlog_tiles_are_its_tiles() {
    let tile = TilePath::new(TileKind::Hashes { level: 0 }, 1_234_067, 256).unwrap();
    assert_eq!(tile.to_string(), "tile/0/x001/x234/067");
    let levels = |size| {
        let hash_tiles = TilePath::all(size).filter(|tile| tile.kind() != TileKind::Entries);
        let mut widths: Vec<(String, u16)> =
            hash_tiles.map(|tile| (tile.to_string(), tile.width())).collect();
        widths.retain(|(path, _)| path.contains(".p/") || size == 256);
        widths
    };
    let partial = |path: &str, width| (path.to_owned(), width);
    assert_eq!(
        levels(70_000),
        [partial("tile/0/273.p/112", 112), partial("tile/1/001.p/17", 17), partial("tile/2/000.p/1", 1)]
    );
    assert_eq!(levels(256), [partial("tile/0/000", 256), partial("tile/1/000.p/1", 1)]);
}

#[test]
fn a_tlog_proof_is_read_only_in_the_form_of_the_specification() {
    let hash = empty_root();
    let checkpoint = "o\n1\nx\n\n— o AAAAAAA=\n";
    for (head, reads) in [
        ("c2sp.org/tlog-proof@v1\nindex 0".to_owned(), true),
        (format!("c2sp.org/tlog-proof@v1\nextra AAA=\nindex 7\n{hash}\n{hash}"), true),
        ("c2sp.org/tlog-proof@v2\nindex 0".to_owned(), false),
        ("c2sp.org/tlog-proof@v1\nindex 00".to_owned(), false),
        ("c2sp.org/tlog-proof@v1\nindex 01".to_owned(), false),
        ("c2sp.org/tlog-proof@v1\nindex -1".to_owned(), false),
        ("c2sp.org/tlog-proof@v1\nindex 1\nextra AAA=".to_owned(), false),
        (format!("c2sp.org/tlog-proof@v1\nindex 1\n{hash} "), false),
        (format!("c2sp.org/tlog-proof@v1\nindex 1\r\n{hash}"), false),
    ] {
        assert_eq!(format!("{head}\n\n{checkpoint}").parse::<ProofFile>().is_ok(), reads, "{head:?}");
    }
}

#[test]
fn a_note_with_sixteen_of_the_largest_signatures_is_read() {
    // C2SP signed-note: verifiers must accept sixteen, and a post-quantum one has nearly five thousand bytes.
    let signature = data_encoding::BASE64.encode(&[7; 4 + 4627]);
    let lines: String = (0..16).map(|number| format!("— signer{number} {signature}\n")).collect();
    let note: Note = format!("text\n\n{lines}").parse().unwrap();
    assert_eq!(note.signatures().len(), 16);
}
