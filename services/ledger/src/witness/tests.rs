use super::*;
use crate::key::SigningKey;
use crate::tree::{MemoryTree, leaf_hash};

const ORIGIN: &str = "writ.example/log";
const NOW: u64 = 1_800_000_000;

/// The state in memory, which can be made to fail.
#[derive(Debug, Default)]
struct Memory {
    notes: Mutex<BTreeMap<LogId, String>>,
    fails: std::sync::atomic::AtomicBool,
}

impl WitnessState for &Memory {
    fn newest(&self, log: &LogId) -> Result<Option<String>, StateError> {
        Ok(self.notes.lock().unwrap().get(log).cloned())
    }

    fn store(&self, log: &LogId, note: &str) -> Result<(), StateError> {
        if self.fails.load(std::sync::atomic::Ordering::Relaxed) {
            let source = std::io::ErrorKind::StorageFull.into();
            return Err(StateError::Io { path: "state".into(), source });
        }
        self.notes.lock().unwrap().insert(*log, note.to_owned());
        Ok(())
    }
}

fn log_key(byte: u8) -> SigningKey {
    SigningKey::from_seed(ORIGIN, [byte; 32]).unwrap()
}

fn witness(state: &Memory) -> Witness<&Memory> {
    let key = CosigningKey::from_seed("witness.example/w", [9; 32]).unwrap();
    Witness::open(key, [log_key(1).verifier_key()], state).unwrap()
}

/// A tree whose leaves from `fork` on are others than usual.
fn tree(size: u64, fork: u64) -> MemoryTree {
    let mut tree = MemoryTree::new();
    (0..size).for_each(|leaf| {
        tree.push(leaf_hash(format!("{}{leaf}", if leaf < fork { "" } else { "f" }).as_bytes()))
    });
    tree
}

struct Ask {
    old: u64,
    size: u64,
    fork: u64,
    proof_from: u64,
    signer: u8,
    origin: &'static str,
}

impl Ask {
    fn honest(old: u64, size: u64) -> Self {
        Self { old, size, fork: u64::MAX, proof_from: old, signer: 1, origin: ORIGIN }
    }

    fn body(&self) -> Vec<u8> {
        let tree = tree(self.size, self.fork);
        let checkpoint = Checkpoint { origin: self.origin.to_owned(), size: self.size, root: tree.root() };
        let signed = checkpoint.sign(&log_key(self.signer)).unwrap();
        let Ok(proof) = ConsistencyProof::build(&tree, self.proof_from, self.size);
        let proof = proof.map(|proof| proof.hashes).unwrap_or_default();
        AddCheckpoint::new(self.old, proof, signed.text()).unwrap().to_string().into_bytes()
    }
}

fn cosigned(answer: &Answer, size: u64) -> u64 {
    let Answer::Cosigned(lines) = answer else { panic!("{answer:?}") };
    let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size, root: tree(size, u64::MAX).root() };
    let note: Note = format!("{checkpoint}\n{lines}").parse().unwrap();
    let key = CosigningKey::from_seed("witness.example/w", [9; 32]).unwrap().cosigner_key();
    key.cosigned(&note).unwrap().unwrap()
}

#[test]
fn a_log_that_grows_is_cosigned_and_its_newest_checkpoint_shown() {
    let state = Memory::default();
    let witness = witness(&state);
    assert_eq!(witness.newest(&LogId::of(ORIGIN)), None);
    for (old, size) in [(0, 0), (0, 5), (5, 5), (5, 8), (8, 300)] {
        let answer = witness.add_checkpoint(&Ask::honest(old, size).body(), NOW + size);
        assert_eq!(cosigned(&answer, size), NOW + size);
    }
    let shown: Note = witness.newest(&LogId::of(ORIGIN)).unwrap().parse().unwrap();
    assert_eq!(Checkpoint::parse(shown.text()).unwrap().size, 300);
    assert_eq!(shown.verify(&[&log_key(1).verifier_key()]), Ok(1));
    assert_eq!(witness.key().cosigned(&shown), Ok(Some(NOW + 300)));
    assert_eq!(witness.sizes().collect::<Vec<_>>(), [(ORIGIN, Some(300))]);
}

#[test]
fn every_refusal_has_the_status_of_the_specification_and_changes_nothing() {
    let state = Memory::default();
    let witness = witness(&state);
    assert_eq!(witness.add_checkpoint(&Ask::honest(0, 8).body(), NOW).status(), 200);
    let before = witness.newest(&LogId::of(ORIGIN));
    let ask = Ask::honest;
    for (what, request, status) in [
        ("an old size beyond the checkpoint", ask(9, 8), 400),
        ("an unknown log", Ask { origin: "other.example/log", ..ask(8, 9) }, 404),
        ("another key", Ask { signer: 2, ..ask(8, 9) }, 403),
        ("a replay", ask(0, 8), 409),
        ("an older checkpoint", ask(0, 4), 409),
        ("a gap", ask(9, 12), 409),
        ("a fork", Ask { fork: 3, ..ask(8, 12) }, 422),
        ("a fork of the same size", Ask { fork: 3, ..ask(8, 8) }, 422),
        ("a proof from elsewhere", Ask { proof_from: 7, ..ask(8, 12) }, 422),
    ] {
        let answer = witness.add_checkpoint(&request.body(), NOW);
        assert_eq!(answer.status(), status, "{what}: {answer:?}");
        assert_eq!(witness.newest(&LogId::of(ORIGIN)), before, "{what}");
    }
    let conflict = witness.add_checkpoint(&ask(0, 12).body(), NOW);
    assert_eq!((conflict.body().as_str(), conflict.content_type()), ("8\n", "text/x.tlog.size"));
}

#[test]
fn a_wrong_signature_in_the_logs_name_is_refused_even_beside_a_right_one() {
    let (state, request) = (Memory::default(), Ask::honest(0, 5));
    let mut bytes = AddCheckpoint::parse(&request.body()).unwrap();
    let mut wrong = bytes.note.signatures()[0].clone();
    wrong.bytes[9] ^= 1;
    bytes.note.add(wrong);
    assert_eq!(witness(&state).add_checkpoint(bytes.to_string().as_bytes(), NOW).status(), 403);
}

#[test]
fn signatures_of_strangers_are_neither_needed_nor_kept() {
    let state = Memory::default();
    let witness = witness(&state);
    let mut request = AddCheckpoint::parse(&Ask::honest(0, 5).body()).unwrap();
    request.note.sign(&SigningKey::from_seed("stranger.example", [7; 32]).unwrap()).unwrap();
    assert_eq!(witness.add_checkpoint(request.to_string().as_bytes(), NOW).status(), 200);
    let kept: Note = witness.newest(&LogId::of(ORIGIN)).unwrap().parse().unwrap();
    assert_eq!(kept.signatures().len(), 2);
}

#[test]
fn an_empty_log_has_the_root_of_the_empty_tree_and_the_first_proof_is_empty() {
    let state = Memory::default();
    let witness = witness(&state);
    let lie = Checkpoint { origin: ORIGIN.to_owned(), size: 0, root: leaf_hash(b"x") };
    let lie = AddCheckpoint::new(0, Vec::new(), lie.sign(&log_key(1)).unwrap().text()).unwrap();
    assert_eq!(witness.add_checkpoint(lie.to_string().as_bytes(), NOW).status(), 422);
    let mut proven = AddCheckpoint::parse(&Ask::honest(0, 5).body()).unwrap();
    proven.proof.push(leaf_hash(b"x"));
    assert_eq!(witness.add_checkpoint(proven.to_string().as_bytes(), NOW).status(), 422);
}

#[test]
fn a_second_history_is_evidence_and_an_ordinary_conflict_is_not() {
    let state = Memory::default();
    let witness = witness(&state);
    witness.add_checkpoint(&Ask::honest(0, 8).body(), NOW);
    for (request, evidence) in [
        (Ask { fork: 3, ..Ask::honest(8, 12) }, Some(Evidence::Unproven)),
        (Ask { fork: 3, ..Ask::honest(8, 8) }, Some(Evidence::Fork)),
        (Ask { fork: 3, ..Ask::honest(0, 8) }, Some(Evidence::Fork)),
        (Ask::honest(0, 8), None),
        (Ask { fork: 3, signer: 2, ..Ask::honest(8, 8) }, None),
    ] {
        assert_eq!(witness.add_checkpoint(&request.body(), NOW).evidence(), evidence);
    }
}

#[test]
fn a_malformed_request_is_refused_whatever_its_bytes() {
    let state = Memory::default();
    let witness = witness(&state);
    let good = String::from_utf8(Ask::honest(0, 5).body()).unwrap();
    let hash = format!("{}\n", leaf_hash(b"x"));
    for bad in [
        String::new(),
        "old 0".to_owned(),
        good.replacen("old 0", "old 00", 1),
        good.replacen("old 0", "old -1", 1),
        good.replacen("old 0", "Old 0", 1),
        good.replacen("old 0\n", "old 0\nnot a hash\n", 1),
        good.replacen("old 0\n", &format!("old 0\n{}", hash.repeat(64)), 1),
        good.replacen("old 0\n", "old 0\r\n", 1),
        good.trim_end().to_owned(),
        format!("{good}{}", "x".repeat(MAX_REQUEST_BYTES)),
        good.replacen("\n5\n", "\n05\n", 1),
    ] {
        assert_eq!(witness.add_checkpoint(bad.as_bytes(), NOW).status(), 400, "{bad}");
    }
    for at in 0..good.len() {
        let mut bytes = good.clone().into_bytes();
        bytes[at] ^= 0x81;
        assert_ne!(witness.add_checkpoint(&bytes, NOW).status(), 200, "byte {at}");
    }
}

#[test]
fn what_could_not_be_stored_is_not_cosigned() {
    let state = Memory::default();
    let witness = witness(&state);
    witness.add_checkpoint(&Ask::honest(0, 5).body(), NOW);
    state.fails.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(witness.add_checkpoint(&Ask::honest(5, 8).body(), NOW).status(), 503);
    state.fails.store(false, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(witness.add_checkpoint(&Ask::honest(5, 8).body(), NOW).status(), 200);
}

#[test]
fn asking_again_in_the_same_second_writes_nothing() {
    let state = Memory::default();
    let witness = witness(&state);
    let first = witness.add_checkpoint(&Ask::honest(0, 5).body(), NOW);
    state.fails.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(witness.add_checkpoint(&Ask::honest(5, 5).body(), NOW), first);
    assert_eq!(witness.add_checkpoint(&Ask::honest(5, 5).body(), NOW + 1).status(), 503);
}

#[test]
fn a_clock_that_went_back_cosigns_nothing() {
    let state = Memory::default();
    let witness = witness(&state);
    witness.add_checkpoint(&Ask::honest(0, 5).body(), NOW);
    assert_eq!(witness.add_checkpoint(&Ask::honest(5, 8).body(), NOW - 1).status(), 503);
    assert_eq!(witness.add_checkpoint(&Ask::honest(5, 8).body(), NOW).status(), 200);
}

#[test]
fn while_a_log_changes_its_key_either_key_will_do() {
    let state = Memory::default();
    let key = CosigningKey::from_seed("witness.example/w", [9; 32]).unwrap();
    let witness = Witness::open(key, [1, 2].map(|byte| log_key(byte).verifier_key()), &state).unwrap();
    assert_eq!(witness.add_checkpoint(&Ask::honest(0, 5).body(), NOW).status(), 200);
    assert_eq!(witness.add_checkpoint(&Ask { signer: 2, ..Ask::honest(5, 8) }.body(), NOW).status(), 200);
    assert_eq!(witness.add_checkpoint(&Ask { signer: 3, ..Ask::honest(8, 9) }.body(), NOW).status(), 403);
}

#[test]
fn a_witness_goes_on_from_its_state_and_refuses_one_that_is_not_its_own() {
    let state = Memory::default();
    witness(&state).add_checkpoint(&Ask::honest(0, 5).body(), NOW);
    assert_eq!(witness(&state).add_checkpoint(&Ask::honest(0, 8).body(), NOW).body(), "5\n");
    assert_eq!(witness(&state).add_checkpoint(&Ask::honest(5, 8).body(), NOW).status(), 200);
    let other = CosigningKey::from_seed("witness.example/w", [8; 32]).unwrap();
    let refused = Witness::open(other, [log_key(1).verifier_key()], &state).unwrap_err();
    assert!(refused.to_string().contains("make a new witness with a new key"), "{refused}");
    let stored = state.notes.lock().unwrap().get(&LogId::of(ORIGIN)).cloned().unwrap();
    state.notes.lock().unwrap().insert(LogId::of(ORIGIN), stored.replacen("\n8\n", "\n5\n", 1));
    let key = CosigningKey::from_seed("witness.example/w", [9; 32]).unwrap();
    assert!(matches!(
        Witness::open(key, [log_key(1).verifier_key()], &state),
        Err(WitnessError::NotOurs { .. })
    ));
}

#[test]
fn racing_requests_never_get_two_histories_cosigned() {
    for _ in 0..50 {
        let state = Memory::default();
        let witness = witness(&state);
        assert_eq!(witness.add_checkpoint(&Ask::honest(0, 8).body(), NOW).status(), 200);
        // Either branch continues what was cosigned; both together are a fork.
        let branches: Vec<Vec<u8>> = (0..4)
            .map(|branch| Ask { fork: 8 + branch / 2, ..Ask::honest(8, 12 + branch % 2) }.body())
            .collect();
        let answers: Vec<Answer> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                branches.iter().map(|body| scope.spawn(|| witness.add_checkpoint(body, NOW))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let won: Vec<usize> = (0..4).filter(|at| answers[*at].status() == 200).collect();
        assert_eq!(won.len(), 1, "{answers:?}");
        assert!(answers.iter().filter(|answer| answer.status() == 409).count() == 3, "{answers:?}");
        let shown = witness.newest(&LogId::of(ORIGIN)).unwrap();
        let winner = AddCheckpoint::parse(&branches[won[0]]).unwrap();
        assert!(shown.starts_with(winner.note.text()));
    }
}

#[test]
fn a_folder_keeps_the_newest_checkpoint_and_bounded_evidence() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("witness");
    let (one, other) = (LogId::of("a"), LogId::of("b"));
    let state = FolderState::open(&folder).unwrap();
    assert!(matches!(FolderState::open(&folder), Err(StateError::Locked(_))));
    assert_eq!(state.newest(&one).unwrap(), None);
    state.store(&one, "first").unwrap();
    state.store(&one, "second").unwrap();
    state.store(&other, "third").unwrap();
    drop(state);
    let state = FolderState::open(&folder).unwrap();
    assert_eq!(state.newest(&one).unwrap().as_deref(), Some("second"));
    assert_eq!(state.newest(&other).unwrap().as_deref(), Some("third"));
    let keep = |log, request: &[u8]| state.keep_evidence(log, Evidence::Fork, request).unwrap();
    assert_eq!((0..40_u8).filter_map(|request| keep(&one, &[request])).count(), 16);
    assert_eq!(keep(&other, b"x").map(|path| std::fs::read(path).unwrap()), Some(b"x".to_vec()));
    assert_eq!(keep(&other, b"x"), None);
}
