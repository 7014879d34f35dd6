//! What the Kafka client tells, made fit for people: no secrets, and the last trouble in words.

use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;

/// The last thing that the client complained of. Its own log lines are not shown: they may name what is in its settings.
#[derive(Clone, Default)]
pub(super) struct Complaints(Arc<Mutex<Option<String>>>);

impl Complaints {
    pub fn last(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is wrong, in words, with what the client complained of last.
    pub fn with(&self, what: &str) -> String {
        match self.last() {
            Some(last) => format!("{what} ({last})"),
            None => what.to_owned(),
        }
    }

    fn note(&self, what: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(what);
    }
}

impl ClientContext for Complaints {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn stats(&self, _: Statistics) {}

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::PartitionEOF) {
            return;
        }
        // It says less than what made the last of them one.
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) && self.last().is_some() {
            return;
        }
        let code = error.rdkafka_error_code().map_or_else(String::new, |code| format!("{code}: "));
        self.note(format!("{code}{reason}"));
    }
}

impl ConsumerContext for Complaints {}

/// What a client error says, without the values of settings.
pub(super) fn words(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, _, name, _) => {
            format!("the Kafka client does not take the setting `{name}`: see librdkafka's CONFIGURATION")
        }
        KafkaError::ClientCreation(_) => {
            "the Kafka client cannot be made with these settings: check security.protocol, sasl.* and ssl.*, and that the \
             files they name can be read"
                .to_owned()
        }
        KafkaError::Transaction(error) => error.to_string(),
        other => other.rdkafka_error_code().map_or_else(|| other.to_string(), |code| code.to_string()),
    }
}
