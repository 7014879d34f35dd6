//! The fuzz targets on their corpora, and on a bounded number of mutations of them, the same in every run. To look for more, with
//! cargo-fuzz installed, from `services/agent` (`coalesce`, `datagrams`, `frames`, `names` or `packets`):
//!
//! ```text
//! RUSTC_BOOTSTRAP=1 cargo fuzz run packets fuzz/corpus/packets -- -max_len=8192 -max_total_time=600
//! ```

#[path = "../../fuzz/targets/acts.rs"]
mod acts;
#[path = "../../fuzz/targets/coalesce.rs"]
mod coalesce;
#[path = "../../fuzz/targets/datagrams.rs"]
mod datagrams;
#[path = "../../fuzz/targets/frames.rs"]
mod frames;
#[path = "../../fuzz/targets/names.rs"]
mod names;
#[path = "../../fuzz/targets/packets.rs"]
mod packets;

use std::panic::catch_unwind;
use std::path::Path;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

/// Bytes that are edges of something.
const EDGES: [&[u8]; 12] = [
    &[0],
    &[0xFF],
    &[0x7F],
    &[0x80],
    &[0xFF, 0xFF],
    &[0, 0, 0, 0],
    &[0xFF, 0xFF, 0xFF, 0xFF],
    &[0x45],
    &[0x60],
    &[0xC0, 0x0C],
    b"\"",
    b"}",
];

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut paths: Vec<_> =
        std::fs::read_dir(folder).expect("the corpus").map(|it| it.expect("a file").path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("readable")).collect()
}

fn mutated(corpus: &[Vec<u8>], seed: &[u8], random: &mut StdRng) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..random.random_range(1..4) {
        let at = random.random_range(0..=bytes.len());
        let end = (at + random.random_range(0..16)).min(bytes.len());
        let edge = EDGES.choose(random).copied().unwrap_or_default();
        match random.random_range(0..6) {
            0 => drop(bytes.drain(at..end)),
            1 => drop(bytes.splice(at..at, edge.iter().copied())),
            2 => drop(bytes.splice(at..(at + edge.len()).min(bytes.len()), edge.iter().copied())),
            3 => bytes[at..end].iter_mut().for_each(|byte| *byte ^= 1 << random.random_range(0..8)),
            4 => {
                let piece = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, piece));
            }
            _ => {
                let other = corpus.choose(random).map_or(&[][..], Vec::as_slice);
                let from = random.random_range(0..=other.len());
                let to = (from + random.random_range(0..64)).min(other.len());
                drop(bytes.splice(at..end, other[from..to].iter().copied()));
            }
        }
    }
    bytes
}

/// The corpus, and so many mutations of each file in it.
fn replay(target: &str, mutations: usize, run: fn(&[u8])) {
    let (corpus, mut random) = (corpus(target), StdRng::seed_from_u64(3));
    assert!(!corpus.is_empty());
    for seed in &corpus {
        run(seed);
        for _ in 0..mutations {
            let bytes = mutated(&corpus, seed, &mut random);
            assert!(catch_unwind(|| run(&bytes)).is_ok(), "{}", bytes.escape_ascii());
        }
    }
}

#[test]
fn no_datagram_gets_in_or_harms_the_tunnel_that_stands() {
    replay("datagrams", 40, datagrams::run);
}

#[test]
fn no_packet_of_a_peer_gets_in_but_what_was_granted() {
    replay("packets", 40, packets::run);
}

#[test]
fn no_frame_lets_in_what_the_log_does_not_hold() {
    replay("frames", 40, frames::run);
}

#[test]
fn every_query_gets_an_answer_that_fits_or_none() {
    replay("names", 2_000, names::run);
}

#[test]
fn packets_that_are_put_together_come_apart_as_they_were() {
    replay("coalesce", 300, coalesce::run);
}
