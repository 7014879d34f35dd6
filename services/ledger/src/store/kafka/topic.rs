//! The topic: its settings, its making, and reading it in order.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use super::client::{Complaints, words};
use super::options::KafkaOptions;
use crate::store::StoreError;
use crate::store::entry::MAX_ENTRY_BYTES;

/// What Kafka adds to a message in a batch of one, at most.
const MESSAGE_OVERHEAD: usize = 512;

/// Kafka's own default of `max.message.bytes`, for brokers that do not tell.
const DEFAULT_MAX_MESSAGE_BYTES: usize = 1_048_588;

/// How long a broker may take to say where the topic ends. Shorter than a commit may take, so that a server whose broker
/// is away answers soon that it is.
const PROBE_PATIENCE: Duration = Duration::from_secs(5);

/// Most complaints of a client that are read after it has failed.
const MAX_COMPLAINTS: usize = 16;

/// How long the next one may take to come: its log lines come between.
const COMPLAINT_PATIENCE: Duration = Duration::from_millis(100);

/// What a topic must have to hold a log, and what it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSettings {
    /// The most bytes of one message.
    pub max_message_bytes: usize,
    /// Replicas of the partition.
    pub replicas: usize,
    /// Replicas that must have a message before it counts; `None` if the broker does not tell.
    pub min_in_sync: Option<usize>,
}

impl TopicSettings {
    /// What this topic does not promise, for the operator.
    #[must_use]
    pub fn cautions(&self) -> Vec<String> {
        let mut cautions = Vec::new();
        if self.replicas < 3 {
            cautions.push(format!(
                "the topic has {} of 3 replicas: a broker that loses its disk, or its power before it has written, loses \
                 acknowledged records",
                self.replicas
            ));
        }
        if self.min_in_sync.is_some_and(|min| min < 2) {
            cautions.push(
                "min.insync.replicas is 1: a commit is acknowledged with one copy; set it to 2".to_owned(),
            );
        }
        cautions
    }

    pub(super) fn max_entry_bytes(&self) -> usize {
        self.max_message_bytes.saturating_sub(MESSAGE_OVERHEAD).min(MAX_ENTRY_BYTES)
    }
}

/// Makes the topic, if it is not there, with what a log needs.
pub(super) fn make(options: &KafkaOptions) -> Result<(), StoreError> {
    let admin = admin(options)?;
    let timeout = Some(options.patience);
    let brokers = brokers(options)?;
    let replicas = options.replication.unwrap_or_else(|| i32::try_from(brokers.min(3)).unwrap_or(1));
    let max_message = (MAX_ENTRY_BYTES + MESSAGE_OVERHEAD).to_string();
    let min_in_sync = if replicas >= 3 { "2" } else { "1" };
    let topic = NewTopic::new(&options.topic, 1, TopicReplication::Fixed(replicas))
        .set("cleanup.policy", "delete")
        .set("retention.ms", "-1")
        .set("retention.bytes", "-1")
        .set("min.insync.replicas", min_in_sync)
        .set("unclean.leader.election.enable", "false")
        .set("max.message.bytes", &max_message);
    let asked = AdminOptions::new().request_timeout(timeout).operation_timeout(timeout);
    let made = wait_for(admin.create_topics([&topic], &asked));
    let made = made.map_err(|error| options.unavailable(words(&error)))?;
    match made.into_iter().next() {
        Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(()),
        Some(Err((_, code))) => {
            Err(options
                .unavailable(format!("the topic cannot be made: {code}; make it as deploy/kafka says")))
        }
        Some(Ok(_)) | None => Ok(()),
    }
}

/// Asks what the topic is like, and refuses one that would lose records or mix them up.
pub(super) fn settings(options: &KafkaOptions) -> Result<TopicSettings, StoreError> {
    let replicas = partition_replicas(options)?;
    let admin = admin(options)?;
    let asked = AdminOptions::new().request_timeout(Some(options.patience));
    let resource = ResourceSpecifier::Topic(&options.topic);
    let told = wait_for(admin.describe_configs([&resource], &asked));
    // Who may write to a topic need not be allowed to see its settings.
    let told = told.ok().and_then(|resources| resources.into_iter().next()?.ok());
    let value = |name: &str| {
        let entries = &told.as_ref()?.entries;
        entries.iter().find(|entry| entry.name == name)?.value.clone()
    };
    if let Some(policy) = value("cleanup.policy").filter(|policy| policy != "delete") {
        return Err(options.foreign(format!(
            "cleanup.policy is {policy}: the broker would remove records of the log; set cleanup.policy=delete"
        )));
    }
    for name in ["retention.ms", "retention.bytes"] {
        if let Some(limit) = value(name).filter(|limit| limit != "-1") {
            return Err(options.foreign(format!(
                "{name} is {limit}: the broker would remove records of the log; set {name}=-1"
            )));
        }
    }
    let max_message_bytes = value("max.message.bytes").and_then(|bytes| bytes.parse().ok());
    let max_message_bytes = max_message_bytes.unwrap_or(DEFAULT_MAX_MESSAGE_BYTES);
    let min_in_sync = value("min.insync.replicas").and_then(|min| min.parse().ok());
    Ok(TopicSettings { max_message_bytes, replicas, min_in_sync })
}

fn admin(options: &KafkaOptions) -> Result<AdminClient<Complaints>, StoreError> {
    let admin = AdminClient::from_config_and_context(&options.admin(), Complaints::default());
    admin.map_err(|error| options.unavailable(words(&error)))
}

fn probe(options: &KafkaOptions) -> Result<(BaseConsumer<Complaints>, Complaints), StoreError> {
    let complaints = Complaints::default();
    let probe = BaseConsumer::from_config_and_context(&options.consumer(), complaints.clone());
    probe.map(|probe| (probe, complaints)).map_err(|error| options.unavailable(words(&error)))
}

fn brokers(options: &KafkaOptions) -> Result<usize, StoreError> {
    let (probe, complaints) = probe(options)?;
    let metadata = probe.fetch_metadata(None, options.patience);
    metadata
        .map(|metadata| metadata.brokers().len())
        .map_err(|error| unanswered(options, &probe, &complaints, &error))
}

/// Why a probe got no answer. What its client complains of, a refused password for instance, it tells only when it is polled.
fn unanswered(
    options: &KafkaOptions,
    probe: &BaseConsumer<Complaints>,
    complaints: &Complaints,
    error: &KafkaError,
) -> StoreError {
    for _ in 0..MAX_COMPLAINTS {
        if probe.poll(COMPLAINT_PATIENCE).is_none() {
            break;
        }
    }
    options.unavailable(complaints.with(&words(error)))
}

fn partition_replicas(options: &KafkaOptions) -> Result<usize, StoreError> {
    let (probe, complaints) = probe(options)?;
    let deadline = Instant::now() + options.patience;
    loop {
        let metadata = probe
            .fetch_metadata(Some(&options.topic), options.patience)
            .map_err(|error| unanswered(options, &probe, &complaints, &error))?;
        let topic = metadata.topics().iter().find(|topic| topic.name() == options.topic);
        let partitions = topic.filter(|topic| topic.error().is_none()).map(|topic| topic.partitions());
        match partitions {
            Some([partition]) => return Ok(partition.replicas().len()),
            Some([]) | None if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(100)),
            Some([]) | None => {
                return Err(options.unavailable(
                    "there is no such topic, or it may not be seen: check its name and the ACLs",
                ));
            }
            Some(many) => {
                return Err(options.foreign(format!(
                    "it has {} partitions: a log needs a topic with exactly one, which keeps one order",
                    many.len()
                )));
            }
        }
    }
}

/// A message of the topic.
pub(super) struct TopicMessage {
    pub offset: i64,
    pub payload: Vec<u8>,
}

/// Reads the topic in order.
pub(super) struct TopicReader {
    options: KafkaOptions,
    consumer: BaseConsumer<Complaints>,
    complaints: Complaints,
    /// The offset of the next message, or of a marker before it.
    next: i64,
}

impl TopicReader {
    /// Begins to read at an offset.
    pub fn start(options: &KafkaOptions, next: i64) -> Result<Self, StoreError> {
        let (consumer, complaints) = probe(options)?;
        let reader = Self { options: options.clone(), consumer, complaints, next };
        reader.assign()?;
        Ok(reader)
    }

    /// The offset of the next message.
    pub fn next_offset(&self) -> i64 {
        self.next
    }

    /// The offsets of the first message and after the last one, asked of the broker.
    pub fn bounds(&self) -> Result<(i64, i64), StoreError> {
        let patience = self.options.patience.min(PROBE_PATIENCE);
        let bounds = self.consumer.fetch_watermarks(&self.options.topic, 0, patience);
        bounds.map_err(|error| self.away(&words(&error)))
    }

    /// Asks for what follows anew: an end that is told from now on is not an old one.
    pub fn begin_anew(&self) -> Result<(), StoreError> {
        self.assign()
    }

    /// Goes back to a message that could not be taken in.
    pub fn read_again(&mut self, offset: i64) -> Result<(), StoreError> {
        self.next = offset;
        self.assign()
    }

    /// Goes on after an offset up to which nothing but markers of transactions is left.
    pub fn skip_to(&mut self, next: i64) {
        self.next = self.next.max(next);
    }

    /// The next message; `None` at the end of the topic, which may be one that has passed meanwhile.
    pub fn next(&mut self) -> Result<Option<TopicMessage>, StoreError> {
        let deadline = Instant::now() + self.options.patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.consumer.poll(left) {
                Some(Ok(message)) => {
                    let (offset, payload) =
                        (message.offset(), message.payload().unwrap_or_default().to_vec());
                    self.next = offset + 1;
                    return Ok(Some(TopicMessage { offset, payload }));
                }
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(None),
                Some(Err(error)) => match error.rdkafka_error_code() {
                    Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                        return Err(self.options.foreign(format!(
                            "offset {} is not there any more: the topic was made anew, or cut by retention or by hand",
                            self.next
                        )));
                    }
                    _ if left.is_zero() => return Err(self.away(&words(&error))),
                    // The client goes on trying by itself.
                    _ => {}
                },
                None if left.is_zero() => return Err(self.away("no answer in time")),
                None => {}
            }
        }
    }

    fn assign(&self) -> Result<(), StoreError> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.options.topic, 0, Offset::Offset(self.next))
            .and_then(|()| self.consumer.assign(&list))
            .map_err(|error| self.away(&words(&error)))
    }

    fn away(&self, what: &str) -> StoreError {
        self.options.unavailable(self.complaints.with(what))
    }
}

/// Waits for an answer of the client's own threads.
fn wait_for<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}
