//! The store in Kafka, against a real broker.

mod broker;
mod faults;
mod races;
mod replicas;
mod topic;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use writ_ledger::store::kafka::{KafkaLog, KafkaOptions};
use writ_ledger::{Log, OpenError, Signer};
use writ_test_kafka::Broker;

use super::suite::{Place, suite};

/// A topic of its own, and a folder.
struct Topic {
    dir: tempfile::TempDir,
    options: KafkaOptions,
}

impl Topic {
    fn new() -> Self {
        Self::at(&shared().address())
    }

    fn at(address: &str) -> Self {
        Self::across(vec![address.to_owned()])
    }

    fn across(brokers: Vec<String>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // The folder's name is unique, and so is the topic's.
        let name = dir.path().file_name().unwrap().to_str().unwrap().trim_start_matches('.').to_owned();
        Self { options: KafkaOptions { brokers, ..options("", &name) }, dir }
    }

    /// A folder for another process beside this one.
    fn other(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

fn options(address: &str, topic: &str) -> KafkaOptions {
    let name = "a test".to_owned();
    KafkaOptions {
        name,
        patience: Duration::from_secs(20),
        ..KafkaOptions::new(vec![address.to_owned()], topic)
    }
}

impl Place for Topic {
    fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn create_with(&self, signer: Box<dyn Signer>) -> Result<Log, OpenError> {
        KafkaLog::create(self.dir(), signer, &self.options)
    }

    fn open_with(&self, signer: Box<dyn Signer>) -> Result<Log, OpenError> {
        KafkaLog::open(self.dir(), signer, &self.options)
    }
}

suite!(Topic::new());

/// The broker of all tests that leave it in peace. It ends with this process.
fn shared() -> &'static Broker {
    static BROKER: OnceLock<Broker> = OnceLock::new();
    BROKER.get_or_init(|| Broker::start().unwrap())
}
