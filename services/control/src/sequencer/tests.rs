//! Tests of the sequencer on a real log in a folder.

use std::io;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use writ_ledger::disk::{Disk, DiskFile, OsDisk};
use writ_ledger::{FileLog, Log, SigningKey, store};
use writ_schema::event::{JoinRefusal, NodeOwner};
use writ_schema::record::DecodeError;
use writ_schema::seal::{OpeningKeys, Place, Retention, Salt, SealingKeys, Subject};

mod linkage;

use super::*;
use crate::core::{Command, Rejection, Submission};
use crate::fixtures::{self, Endpoint, submission, user};
use writ_schema::{Event, Seq};

/// A data directory, a clock that is set by hand, and a disk that can be full or slow.
struct Deployment {
    folder: tempfile::TempDir,
    clock: Arc<Mutex<Timestamp>>,
    is_full: Arc<AtomicBool>,
    gate: Arc<Mutex<()>>,
}

type Running = (SequencerHandle, SequencerGuard);

impl Deployment {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            clock: Arc::new(Mutex::new(fixtures::start())),
            is_full: Arc::default(),
            gate: Arc::default(),
        }
    }

    fn start(&self) -> Running {
        self.try_start(self.folder.path()).unwrap()
    }

    fn try_start(&self, folder: &Path) -> Result<Running, StartError> {
        let vault = Vault::open(&folder.join("vault.db")).unwrap();
        let clock = self.clock.clone();
        let options = Options { clock: Arc::new(move || *clock.lock().unwrap()), ..Options::default() };
        Sequencer::start(self.open_log(folder), vault, options)
    }

    fn open_log(&self, folder: &Path) -> Log {
        let disk = FaultyDisk { is_full: self.is_full.clone(), gate: self.gate.clone() };
        let options = store::Options { disk: Arc::new(disk), ..store::Options::default() };
        let key = SigningKey::from_seed("writ.example/log", [7; 32]).unwrap();
        let dir = folder.join("log");
        if dir.exists() {
            FileLog::open_with(&dir, Box::new(key), options).unwrap()
        } else {
            FileLog::create_with(&dir, Box::new(key), options).unwrap()
        }
    }

    fn pass(&self, seconds: i64) {
        *self.clock.lock().unwrap() += SignedDuration::from_secs(seconds);
    }

    /// What is on the disk at this moment, as after a power cut.
    fn copy(&self) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        copy_folder(self.folder.path(), copy.path());
        copy
    }
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[derive(Debug)]
struct FaultyDisk {
    is_full: Arc<AtomicBool>,
    gate: Arc<Mutex<()>>,
}

#[derive(Debug)]
struct FaultyFile {
    file: Box<dyn DiskFile>,
    is_full: Arc<AtomicBool>,
    gate: Arc<Mutex<()>>,
}

impl Disk for FaultyDisk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = OsDisk.open(path)?;
        Ok(Box::new(FaultyFile { file, is_full: self.is_full.clone(), gate: self.gate.clone() }))
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        OsDisk.create_folder(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        OsDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        OsDisk.remove(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        OsDisk.sync_folder(folder)
    }
}

impl DiskFile for FaultyFile {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        drop(self.gate.lock().unwrap());
        if self.is_full.load(std::sync::atomic::Ordering::SeqCst) {
            // Half of it still found room, as it happens.
            self.file.write_all_at(&bytes[..bytes.len() / 2], offset)?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }
}

async fn ok(handle: &SequencerHandle, number: u64, command: Command) -> Outcome {
    handle.submit(submission(number, command)).await.unwrap()
}

fn join(node: u8, number: u64, key: u64) -> Submission {
    submission(number, Command::Join { request: Endpoint::new(node).join_request(number, key) })
}

fn kinds(handle: &SequencerHandle) -> Vec<&'static str> {
    let log = handle.log().read_range(0..u64::MAX);
    let records = log.map(|entry| entry.unwrap());
    records
        .map(|(seq, bytes)| open_record(seq, &bytes, handle.vault()).unwrap().record.event.kind())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_is_there_after_a_restart() {
    let deployment = Deployment::new();
    let (handle, guard) = deployment.start();
    ok(&handle, 1, fixtures::create_network()).await;
    let outcome = ok(&handle, 2, fixtures::provision(1)).await;
    assert_eq!((outcome.first, outcome.records.len(), outcome.repeated), (Seq(2), 1, false));
    let crashed = deployment.copy();
    guard.stop();
    assert_eq!(kinds(&handle), ["network.created", "log.opened", "user.provisioned", "log.closed"]);
    let late = handle.submit(submission(3, fixtures::provision(2))).await;
    assert!(matches!(late, Err(SubmitError::Unavailable { .. })));
    let (before, login) = (handle.state().clone(), fixtures::login(1));
    drop(handle);

    let (handle, guard) = deployment.start();
    assert_eq!(handle.state().size(), before.size() + 1);
    assert_eq!(handle.state().user_by_login(&login).unwrap().id, user(1));
    let opened = |handle: &SequencerHandle| match &handle.log().read(handle.state().size() - 1) {
        Ok(bytes) => {
            match open_record(handle.state().size() - 1, bytes, handle.vault()).unwrap().record.event {
                Event::LogOpened(body) => body.clean,
                other => panic!("{other}"),
            }
        }
        Err(error) => panic!("{error}"),
    };
    assert!(opened(&handle));
    guard.stop();

    let (handle, guard) = deployment.try_start(crashed.path()).unwrap();
    assert!(!opened(&handle));
    assert_eq!(handle.state().user_by_login(&login).unwrap().id, user(1));
    guard.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_command_gets_the_first_answer_and_another_one_a_conflict() {
    let deployment = Deployment::new();
    let (handle, guard) = deployment.start();
    ok(&handle, 1, fixtures::create_network()).await;
    let first = ok(&handle, 2, fixtures::provision(1)).await;
    let again = ok(&handle, 2, fixtures::provision(1)).await;
    assert!(again.repeated);
    assert_eq!((again.first, &again.records), (first.first, &first.records));
    let conflict = handle.submit(submission(2, fixtures::provision(2))).await.unwrap_err();
    assert_eq!(conflict, SubmitError::ConflictingCommand(submission(2, Command::CloseLog).id));
    guard.stop();
    drop(handle);
    let (handle, guard) = deployment.start();
    let size = handle.state().size();
    let again = ok(&handle, 2, fixtures::provision(1)).await;
    assert_eq!((again.repeated, &again.records), (true, &first.records));
    assert!(handle.submit(submission(2, fixtures::provision(2))).await.is_err());
    assert_eq!(handle.state().size(), size);
    guard.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_joins_that_race_for_a_single_use_key_one_wins() {
    let deployment = Deployment::new();
    let (handle, guard) = deployment.start();
    ok(&handle, 1, fixtures::create_network()).await;
    ok(&handle, 2, fixtures::enrolment_key(9, fixtures::tags(&["tag:web"]), 1, fixtures::start())).await;
    let (one, two) = tokio::join!(handle.submit(join(1, 3, 9)), handle.submit(join(2, 4, 9)));
    let (won, lost) = if one.is_ok() { (one, two) } else { (two, one) };
    assert_eq!(won.unwrap().records.len(), 1);
    match lost.unwrap_err() {
        SubmitError::Rejected { reason: Rejection::Join(JoinRefusal::UsedKey), record: Some(record) } => {
            let bytes = handle.log().read(record.0).unwrap();
            let read = open_record(record.0, &bytes, handle.vault()).unwrap().record;
            assert!(
                matches!(read.event, Event::NodeJoinRefused(body) if body.reason == JoinRefusal::UsedKey)
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(handle.state().nodes().count(), 1);
    guard.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_takes_nothing_and_loses_nothing() {
    let deployment = Deployment::new();
    let (handle, guard) = deployment.start();
    ok(&handle, 1, fixtures::create_network()).await;
    ok(&handle, 2, fixtures::provision(1)).await;
    let before = handle.state().clone();
    let mut commits = handle.subscribe();
    deployment.is_full.store(true, std::sync::atomic::Ordering::SeqCst);
    match handle.submit(submission(3, fixtures::provision(2))).await.unwrap_err() {
        SubmitError::Unavailable { why } => assert!(why.contains("the disk is full: free space"), "{why}"),
        other => panic!("{other:?}"),
    }
    // Reads and repeats still work, and nobody was told of what did not happen.
    assert_eq!(*handle.state(), before);
    assert!(ok(&handle, 2, fixtures::provision(1)).await.repeated);
    assert!(!handle.is_writable());
    assert!(commits.try_recv().is_err());
    deployment.is_full.store(false, std::sync::atomic::Ordering::SeqCst);
    let outcome = ok(&handle, 3, fixtures::provision(2)).await;
    assert_eq!((outcome.first.0, outcome.repeated), (before.size(), false));
    assert!(handle.is_writable());
    assert_eq!(commits.recv().await.unwrap().size, before.size() + 1);
    guard.stop();
    let live = handle.state().clone();
    let log = handle.log().clone();
    assert_eq!(replay::replay(&log, handle.vault()).unwrap(), live);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_turns_away_and_what_waited_shares_commits() {
    let deployment = Deployment::new();
    let (handle, guard) = deployment.start();
    ok(&handle, 1, fixtures::create_network()).await;
    let commits_before = handle.metrics().commits.load(std::sync::atomic::Ordering::Relaxed);
    let slow = deployment.gate.lock().unwrap();
    let count = QUEUE as u64 + 400;
    let submissions = (0..count).map(|number| {
        let handle = handle.clone();
        async move { handle.submit(submission(number + 10, fixtures::provision(number))).await }
    });
    let all = futures_util::future::join_all(submissions);
    let release = async {
        // By now every command is in the queue or turned away.
        drop(slow);
    };
    let (answers, ()) = futures_util::future::join(all, release).await;
    let busy = answers.iter().filter(|answer| matches!(answer, Err(SubmitError::Busy { .. }))).count();
    let done = answers.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!(busy + done, answers.len());
    assert!(busy > 0 && done >= QUEUE, "{busy} busy, {done} done");
    let commits = handle.metrics().commits.load(std::sync::atomic::Ordering::Relaxed) - commits_before;
    assert!(commits < 20, "{commits} commits for {done} commands");
    assert_eq!(handle.metrics().queued.load(std::sync::atomic::Ordering::Relaxed), 0);
    guard.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erasure_that_was_cut_short_is_finished_at_the_next_start() {
    let deployment = Deployment::new();
    let (handle, guard) = deployment.start();
    ok(&handle, 1, fixtures::create_network()).await;
    ok(&handle, 2, fixtures::provision(1)).await;
    ok(&handle, 3, Command::ReceiveLeaver { user: user(1), decided_at: None }).await;
    let keys = deployment.folder.path().join("vault.db");
    let with_keys = std::fs::read(&keys).unwrap();
    ok(&handle, 4, Command::EraseUser { user: user(1) }).await;
    let key = |handle: &SequencerHandle| {
        let place = Place { salt: Salt::from_bytes([0; Salt::BYTES]), field: "login" };
        let sealed = handle.vault().sealing_key(&(Subject::User(user(1)), Retention::Identity), place)?;
        handle.vault().opening_key(sealed.key_ref, place)
    };
    assert!(key(&handle).is_none());
    guard.stop();
    let erased = handle.state().clone();
    drop(handle);
    std::fs::write(&keys, with_keys).unwrap();
    let (handle, guard) = deployment.start();
    assert!(key(&handle).is_none());
    assert_eq!(handle.state().user(&user(1)), erased.user(&user(1)));
    assert_eq!(handle.state().user(&user(1)).unwrap().login, None);
    guard.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_are_counted_and_the_clock_never_goes_back() {
    let deployment = Deployment::new();
    let (handle, guard) = deployment.start();
    ok(&handle, 1, fixtures::create_network()).await;
    let mut records = Vec::new();
    for number in 0..5 {
        match handle.submit(join(1, 10 + number, 9)).await.unwrap_err() {
            SubmitError::Rejected { record, .. } => records.push(record),
            other => panic!("{other:?}"),
        }
    }
    assert!(records.iter().all(|record| *record == Some(Seq(2))), "{records:?}");
    deployment.pass(61);
    ok(&handle, 20, fixtures::provision(1)).await;
    deployment.pass(-3600);
    ok(&handle, 21, fixtures::provision(2)).await;
    guard.stop();
    let read = |seq| open_record(seq, &handle.log().read(seq).unwrap(), handle.vault()).unwrap().record;
    assert!(matches!(read(2).event, Event::NodeJoinRefused(body) if body.count == 1));
    assert!(matches!(read(3).event, Event::NodeJoinRefused(body) if body.count == 4));
    let times: Vec<Timestamp> = (0..handle.log().size()).map(|seq| read(seq).time).collect();
    assert!(times.is_sorted());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn digests_of_confidential_commands_cannot_be_guessed() {
    let digests = [Deployment::new(), Deployment::new()].map(|deployment| async move {
        let (handle, guard) = deployment.start();
        ok(&handle, 1, fixtures::create_network()).await;
        ok(&handle, 2, fixtures::provision(1)).await;
        let owner = NodeOwner::User(user(1));
        ok(&handle, 3, fixtures::enrolment_key(9, owner, 1, fixtures::start())).await;
        let digest = ok(&handle, 2, fixtures::provision(1)).await.records[0].record.command.digest.clone();
        guard.stop();
        digest
    });
    let [one, two] = digests;
    assert_ne!(one.await, two.await);
}

#[test]
fn a_record_of_a_later_version_stops_everything_and_is_named() {
    let deployment = Deployment::new();
    let mut log = deployment.open_log(deployment.folder.path());
    log.append(&[br#"{"seq":0,"event":{"node.teleported":{"v":3}}}"#]).unwrap();
    drop(log);
    match deployment.try_start(deployment.folder.path()) {
        Err(StartError::Replay(ReplayError::Decode(error @ DecodeError::UnknownKind { version: 3, .. }))) => {
            assert!(error.to_string().contains("node.teleported"));
        }
        other => panic!("{:?}", other.map(|_| ())),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_writ_that_wrote_a_later_record_is_named() {
    let deployment = Deployment::new();
    let (handle, guard) = deployment.start();
    ok(&handle, 1, fixtures::create_network()).await;
    guard.stop();
    drop(handle);
    let mut log = deployment.open_log(deployment.folder.path());
    let seq = log.size();
    log.append(&[format!(r#"{{"seq":{seq},"event":{{"node.joined":{{"v":9}}}}}}"#)]).unwrap();
    drop(log);
    let Err(error) = deployment.try_start(deployment.folder.path()) else { panic!("it decided past it") };
    let told = error.to_string();
    for part in [&format!("record {seq} is `node.joined` version 9"), "written by Writ", "install the Writ"] {
        assert!(told.contains(part), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vault_that_is_lost_or_anothers_is_told_apart_from_erasure() {
    let (deployment, other) = (Deployment::new(), Deployment::new());
    other.pass(60);
    for deployment in [&deployment, &other] {
        let (handle, guard) = deployment.start();
        ok(&handle, 1, fixtures::create_network()).await;
        ok(&handle, 2, fixtures::provision(1)).await;
        guard.stop();
        // From its first start beside a log on, the vault is that log's.
        deployment.start().1.stop();
    }

    let vault = deployment.folder.path().join("vault.db");
    let own = std::fs::read(&vault).unwrap();
    std::fs::copy(other.folder.path().join("vault.db"), &vault).unwrap();
    let refused = deployment.try_start(deployment.folder.path()).unwrap_err().to_string();
    assert!(refused.contains("belongs to another log"), "{refused}");
    std::fs::remove_file(&vault).unwrap();
    let refused = deployment.try_start(deployment.folder.path()).unwrap_err().to_string();
    assert!(refused.contains("put vault.db back"), "{refused}");
    // Put back, it is as it was.
    std::fs::write(&vault, &own).unwrap();
    let (handle, guard) = deployment.start();
    let log = handle.log().clone();
    assert!(matches!(handle.vault().begin_anew(&log), Err(crate::vault::VaultError::NotLost)));
    guard.stop();
    drop(handle);
    // If there is nothing to put back, an operator may go on without.
    std::fs::remove_file(&vault).unwrap();
    Vault::open(&vault).unwrap().begin_anew(&log).unwrap();
    let (handle, guard) = deployment.start();
    ok(&handle, 3, fixtures::provision(2)).await;
    guard.stop();
}
