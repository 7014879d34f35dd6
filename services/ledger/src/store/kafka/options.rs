//! Where a log's topic is, and how it is reached.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use rdkafka::ClientConfig;
use zeroize::Zeroizing;

use crate::store::StoreError;

/// Settings of the client that are this store's own: another value would break what the store promises.
const RESERVED: [&str; 17] = [
    "acks",
    "auto.offset.reset",
    "bootstrap.servers",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "enable.partition.eof",
    "group.instance.id",
    "isolation.level",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "message.max.bytes",
    "message.timeout.ms",
    "partitioner",
    "request.required.acks",
    "transaction.timeout.ms",
    "transactional.id",
];

/// How long the broker keeps a transaction open that nobody goes on with. It must outlast [`KafkaOptions::patience`].
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);

/// A topic, and how its brokers are reached.
#[derive(Clone)]
pub struct KafkaOptions {
    /// Brokers to ask first, each `HOST:PORT`.
    pub brokers: Vec<String>,
    /// The topic. One log, one topic of one partition.
    pub topic: String,
    /// What this process is called in the topic: a host's name, say.
    pub name: String,
    /// Replicas of the topic, where it has to be made; `None` for three, or for as many as there are brokers.
    pub replication: Option<i32>,
    /// How long to wait for the brokers before a commit's outcome is called unknown, or a start is given up.
    pub patience: Duration,
    /// Settings of librdkafka, as its documentation names them: TLS, SASL, buffers.
    pub properties: BTreeMap<String, String>,
    /// More of them, whose values are secrets. They are never shown.
    pub secrets: BTreeMap<String, Zeroizing<String>>,
}

impl fmt::Debug for KafkaOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaOptions").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl KafkaOptions {
    /// A topic at these brokers, without TLS.
    #[must_use]
    pub fn new(brokers: Vec<String>, topic: &str) -> Self {
        Self {
            brokers,
            topic: topic.to_owned(),
            name: String::new(),
            replication: None,
            patience: Duration::from_secs(10),
            properties: BTreeMap::new(),
            secrets: BTreeMap::new(),
        }
    }

    /// What errors call the store.
    pub(super) fn place(&self) -> String {
        format!("topic {} at {}", self.topic, self.brokers.join(", "))
    }

    pub(super) fn unavailable(&self, problem: impl Into<String>) -> StoreError {
        StoreError::Unavailable { place: self.place(), problem: problem.into() }
    }

    pub(super) fn foreign(&self, problem: impl Into<String>) -> StoreError {
        StoreError::Foreign { place: self.place(), problem: problem.into() }
    }

    /// Refuses settings that are this store's own.
    ///
    /// # Errors
    /// Which setting it is.
    pub fn check(&self) -> Result<(), String> {
        if self.brokers.iter().all(|broker| broker.trim().is_empty()) {
            return Err("name at least one broker, as HOST:PORT".to_owned());
        }
        if self.topic.is_empty() {
            return Err("name the topic".to_owned());
        }
        let given = self.properties.keys().chain(self.secrets.keys());
        match given.into_iter().find(|name| RESERVED.contains(&name.as_str())) {
            Some(name) => Err(format!("`{name}` is set by the store itself: leave it out")),
            None => Ok(()),
        }
    }

    fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", self.brokers.join(","));
        client.set("client.id", "writd");
        // A broker that comes back is noticed within a second.
        client.set("reconnect.backoff.max.ms", "1000");
        client.set("socket.connection.setup.timeout.ms", "5000");
        for (name, value) in &self.properties {
            client.set(name, value);
        }
        for (name, value) in &self.secrets {
            client.set(name, value.as_str());
        }
        client
    }

    pub(super) fn admin(&self) -> ClientConfig {
        self.client()
    }

    pub(super) fn consumer(&self) -> ClientConfig {
        let mut client = self.client();
        client
            .set("group.id", format!("writ-{}", self.topic))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            // Everything in the topic is judged by the fold, whatever became of the transaction around it.
            .set("isolation.level", "read_uncommitted")
            // An offset that is not there is an error: never go on at some other place.
            .set("auto.offset.reset", "error")
            .set("fetch.error.backoff.ms", "50")
            // New messages are sent at once; this is how long the end of the topic takes to be told.
            .set("fetch.wait.max.ms", "100")
            // One batch may be as large as one commit.
            .set("receive.message.max.bytes", "250000000");
        client
    }

    pub(super) fn producer(&self, max_message_bytes: usize) -> ClientConfig {
        let mut client = self.client();
        client
            .set("transactional.id", format!("writ-{}", self.topic))
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("linger.ms", "0")
            .set("message.max.bytes", max_message_bytes.to_string())
            .set("message.timeout.ms", self.patience.as_millis().to_string())
            .set(
                "transaction.timeout.ms",
                TRANSACTION_TIMEOUT.max(self.patience * 2).as_millis().to_string(),
            );
        client
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_store_depends_on_cannot_be_set_and_secrets_are_not_shown() {
        let mut options = KafkaOptions::new(vec!["127.0.0.1:9092".to_owned()], "writ");
        options.properties.insert("security.protocol".to_owned(), "SASL_SSL".to_owned());
        options.secrets.insert("sasl.password".to_owned(), Zeroizing::new("hunter2".to_owned()));
        assert_eq!(options.check(), Ok(()));
        assert!(!format!("{options:?}").contains("hunter2"));
        options.properties.insert("acks".to_owned(), "1".to_owned());
        assert!(options.check().unwrap_err().contains("`acks`"));
    }
}
