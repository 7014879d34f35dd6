//! Writing to the topic, behind the broker's own fence.
//!
//! A transactional producer shuts out every earlier one of its `transactional.id`: the broker refuses what they send. That
//! is all that transactions are used for here. What counts is decided by the fold, so a batch is acknowledged when it was
//! read back and needs no commit of its own; measured on one broker, a commit for each batch costs three quarters to nine
//! tenths of the batches that are taken in a second. A transaction is committed about once a second.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::statistics::Statistics;

use super::client::{Complaints, words};
use super::options::KafkaOptions;
use crate::store::StoreError;

/// How old a transaction gets before it is committed.
const TRANSACTION_LIFE: Duration = Duration::from_secs(1);

/// How long a producer that ends waits for its last commit.
const LAST_COMMIT: Duration = Duration::from_secs(2);

/// Why an entry was not delivered.
#[derive(Debug)]
pub(super) enum SendFailure {
    /// It never left.
    NotSent(String),
    /// It may be in the topic.
    Unknown(String),
}

struct Deliveries {
    complaints: Complaints,
    results: Sender<Result<i64, String>>,
}

impl ClientContext for Deliveries {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn stats(&self, _: Statistics) {}

    fn error(&self, error: KafkaError, reason: &str) {
        self.complaints.error(error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let told = match result {
            Ok(message) => Ok(message.offset()),
            Err((error, _)) => Err(self.complaints.with(&words(error))),
        };
        // Nobody listens any more once the outcome was called unknown.
        let _ = self.results.send(told);
    }
}

/// A transaction that is open since some time, or none.
type Transaction = Arc<Mutex<Option<Instant>>>;

/// The one writer's producer.
pub(super) struct FencedProducer {
    topic: String,
    producer: Arc<ThreadedProducer<Deliveries>>,
    results: Receiver<Result<i64, String>>,
    complaints: Complaints,
    transaction: Transaction,
    /// Ends the thread that commits when it is dropped.
    _committing: Sender<()>,
}

impl FencedProducer {
    /// Shuts out every producer before it.
    pub fn start(options: &KafkaOptions, max_message_bytes: usize) -> Result<Self, StoreError> {
        let complaints = Complaints::default();
        let (sender, results) = mpsc::channel();
        let context = Deliveries { complaints: complaints.clone(), results: sender };
        let producer =
            ThreadedProducer::from_config_and_context(&options.producer(max_message_bytes), context);
        let producer = Arc::new(producer.map_err(|error| options.unavailable(words(&error)))?);
        let fenced = producer.init_transactions(options.patience);
        fenced.map_err(|error| options.unavailable(complaints.with(&words(&error))))?;
        let transaction = Transaction::default();
        let committing = commit_in_time(producer.clone(), transaction.clone(), options.patience)
            .map_err(|error| options.unavailable(format!("no thread can be started: {error}")))?;
        let topic = options.topic.clone();
        Ok(Self { topic, producer, results, complaints, transaction, _committing: committing })
    }

    /// Writes an entry and waits until all replicas that must have it have it. Returns its offset.
    pub fn send(&self, entry: &[u8], patience: Duration) -> Result<i64, SendFailure> {
        {
            let mut open = self.transaction.lock().unwrap_or_else(PoisonError::into_inner);
            if open.is_none() {
                self.producer.begin_transaction().map_err(|error| SendFailure::NotSent(words(&error)))?;
                *open = Some(Instant::now());
            }
            let record = BaseRecord::<(), [u8]>::to(&self.topic).partition(0).payload(entry);
            self.producer.send(record).map_err(|(error, _)| SendFailure::NotSent(words(&error)))?;
        }
        match self.results.recv_timeout(patience) {
            Ok(Ok(offset)) => Ok(offset),
            Ok(Err(why)) => Err(SendFailure::Unknown(why)),
            Err(RecvTimeoutError::Timeout) => {
                Err(SendFailure::Unknown(self.complaints.with("no answer in time")))
            }
            Err(RecvTimeoutError::Disconnected) => {
                Err(SendFailure::Unknown("the client has ended".to_owned()))
            }
        }
    }
}

impl Drop for FencedProducer {
    fn drop(&mut self) {
        let mut open = self.transaction.lock().unwrap_or_else(PoisonError::into_inner);
        if open.take().is_some() && self.producer.client().fatal_error().is_none() {
            // Without it the broker ends the transaction after a minute; nothing hangs on which.
            let _ = self.producer.commit_transaction(LAST_COMMIT);
        }
    }
}

/// Commits a transaction that has been open for a while, in a thread of its own.
fn commit_in_time(
    producer: Arc<ThreadedProducer<Deliveries>>,
    transaction: Transaction,
    patience: Duration,
) -> std::io::Result<Sender<()>> {
    let (sender, ended) = mpsc::channel::<()>();
    let run = move || {
        while ended.recv_timeout(TRANSACTION_LIFE / 4) == Err(RecvTimeoutError::Timeout) {
            let mut open = transaction.lock().unwrap_or_else(PoisonError::into_inner);
            if open.is_some_and(|since| since.elapsed() >= TRANSACTION_LIFE) {
                // If it fails, so does the next entry, and the store takes the log up anew.
                if producer.commit_transaction(patience).is_ok() {
                    *open = None;
                }
            }
        }
    };
    std::thread::Builder::new().name("kafka-commit".to_owned()).spawn(run)?;
    Ok(sender)
}
