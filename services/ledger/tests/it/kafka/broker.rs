//! What the tests do to a topic behind the store's back.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use writ_ledger::store::kafka::KafkaOptions;

const LIMIT: Duration = Duration::from_secs(20);

fn client(options: &KafkaOptions) -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", options.brokers.join(","));
    client
}

/// Reads a topic from an offset to its end, as it is or as transactions would have it.
pub fn messages(options: &KafkaOptions, from: i64, isolation: &str) -> BTreeMap<i64, Vec<u8>> {
    let mut client = client(options);
    client
        .set("group.id", "behind the back")
        .set("enable.partition.eof", "true")
        .set("isolation.level", isolation)
        .set("auto.offset.reset", "error");
    let consumer: BaseConsumer = client.create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&options.topic, 0, Offset::Offset(from)).unwrap();
    consumer.assign(&list).unwrap();
    let (mut found, deadline) = (BTreeMap::new(), Instant::now() + LIMIT);
    loop {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => drop(found.insert(message.offset(), message.payload().unwrap().to_vec())),
            Some(Err(KafkaError::PartitionEOF(_))) => return found,
            Some(Err(error)) => panic!("{error}"),
            None => assert!(Instant::now() < deadline, "the topic has no end"),
        }
    }
}

/// Everything that is in a topic, in order.
pub fn all(options: &KafkaOptions) -> Vec<Vec<u8>> {
    messages(options, 0, "read_uncommitted").into_values().collect()
}

/// Writes to a topic as anybody may, without any fence.
pub struct Stranger {
    topic: String,
    producer: BaseProducer,
}

impl Stranger {
    pub fn new(options: &KafkaOptions) -> Self {
        Self { topic: options.topic.clone(), producer: client(options).create().unwrap() }
    }

    pub fn write(&self, payload: &[u8]) {
        let record = BaseRecord::<(), [u8]>::to(&self.topic).partition(0).payload(payload);
        self.producer.send(record).map_err(|(error, _)| error).unwrap();
        self.producer.flush(LIMIT).unwrap();
    }
}

/// Writes in a transaction that is aborted.
pub fn write_and_abort(options: &KafkaOptions, payload: &[u8]) {
    let producer: BaseProducer = client(options).set("transactional.id", "a stranger's").create().unwrap();
    producer.init_transactions(LIMIT).unwrap();
    producer.begin_transaction().unwrap();
    let record = BaseRecord::<(), [u8]>::to(&options.topic).partition(0).payload(payload);
    producer.send(record).map_err(|(error, _)| error).unwrap();
    producer.flush(LIMIT).unwrap();
    producer.abort_transaction(LIMIT).unwrap();
}

/// Asks the broker's administration something, and waits for it.
fn admin<T>(
    options: &KafkaOptions,
    ask: impl AsyncFnOnce(&AdminClient<rdkafka::client::DefaultClientContext>, &AdminOptions) -> T,
) -> T {
    let admin = client(options).create().unwrap();
    let asked = AdminOptions::new().operation_timeout(Some(LIMIT));
    wait_for(ask(&admin, &asked))
}

pub fn make_topic(options: &KafkaOptions, partitions: i32, settings: &[(&str, &str)]) {
    let mut topic = NewTopic::new(&options.topic, partitions, TopicReplication::Fixed(1));
    for (name, value) in settings {
        topic = topic.set(name, value);
    }
    admin(options, async |admin, asked| admin.create_topics([&topic], asked).await.unwrap()[0].clone())
        .unwrap();
}

/// Which broker leads the topic now, by its number; none while there is no leader.
pub fn leader(options: &KafkaOptions) -> Option<usize> {
    let consumer: BaseConsumer = client(options).create().unwrap();
    let metadata = consumer.fetch_metadata(Some(&options.topic), LIMIT).ok()?;
    let partition = metadata.topics().first()?.partitions().first()?;
    usize::try_from(partition.leader()).ok()
}

pub fn delete_topic(options: &KafkaOptions) {
    admin(options, async |admin, asked| {
        admin.delete_topics(&[&options.topic], asked).await.unwrap()[0].clone()
    })
    .unwrap();
}

/// Removes what is before an offset, as retention does.
pub fn delete_before(options: &KafkaOptions, offset: i64) {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&options.topic, 0, Offset::Offset(offset)).unwrap();
    admin(options, async |admin, asked| admin.delete_records(&list, asked).await.map(|_| ())).unwrap();
}

fn wait_for<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    loop {
        if let std::task::Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
