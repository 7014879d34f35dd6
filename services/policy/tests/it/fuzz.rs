//! Texts that nobody would write: the fuzz target on its corpus, and on mutations of it.

#[path = "../../fuzz/target.rs"]
mod target;

use std::path::Path;

/// Numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end.max(1)
    }
}

/// Mutations of each file.
const MUTATIONS: usize = 300;

/// What is put into a text: signs that the language gives a meaning, and edges of numbers.
const PIECES: [&str; 22] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    ":",
    ",",
    "//",
    "/*",
    "*/",
    "\\u0000",
    "\n",
    "*",
    "-",
    "65536",
    "99999999999999999999",
    "::ffff:1.2.3.4",
    "/0",
    "tag:web",
    "writ:",
    "null",
    "é",
];

fn corpus() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/policy");
    let mut paths: Vec<_> =
        std::fs::read_dir(folder).expect("the corpus").map(|f| f.expect("a file").path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("readable")).collect()
}

fn mutated(corpus: &[Vec<u8>], file: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut text = file.to_vec();
    for _ in 0..=numbers.below(3) {
        let at = numbers.below(text.len() + 1);
        let end = (at + numbers.below(24)).min(text.len());
        match numbers.below(5) {
            0 => drop(text.drain(at..end)),
            1 => drop(text.splice(at..at, PIECES[numbers.below(PIECES.len())].bytes())),
            2 => drop(text.splice(at..end, PIECES[numbers.below(PIECES.len())].bytes())),
            3 => {
                let piece = text[at..end].to_vec();
                let to = numbers.below(text.len() + 1);
                drop(text.splice(to..to, piece));
            }
            _ => {
                let other = &corpus[numbers.below(corpus.len())];
                let from = numbers.below(other.len() + 1);
                let to = (from + numbers.below(200)).min(other.len());
                drop(text.splice(at..end, other[from..to].iter().copied()));
            }
        }
    }
    text
}

#[test]
fn no_text_of_the_corpus_nor_any_mutation_of_it_makes_the_engine_panic_or_contradict_itself() {
    let corpus = corpus();
    let mut numbers = Numbers(3);
    for file in &corpus {
        target::run(file);
        for _ in 0..MUTATIONS {
            let text = mutated(&corpus, file, &mut numbers);
            let outcome = std::panic::catch_unwind(|| target::run(&text));
            assert!(outcome.is_ok(), "{}", String::from_utf8_lossy(&text));
        }
    }
}
