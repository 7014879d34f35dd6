//! Spans to a collector.
//!
//! The exporter needs a tokio runtime, and flushing blocks until the exporter is done. If it ran on the runtime of the
//! caller, a flush from a single-threaded runtime (as every actix worker is) would wait for a task that only the waiting thread
//! could run, for ever. So it has a thread and a runtime of its own, and the waiting is done on another thread again.

use std::thread;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::runtime::TokioCurrentThread;
use opentelemetry_sdk::trace::span_processor_with_async_runtime::BatchSpanProcessor;
use opentelemetry_sdk::trace::{BatchConfigBuilder, SdkTracerProvider};
use tokio::sync::oneshot;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;

use crate::{Config, InitError};

/// Longest wait for the collector, per batch.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for the last batch when the process ends: one export and a little.
pub(crate) const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(6);
/// How long a span waits for others before it is sent.
const BATCH_DELAY: Duration = Duration::from_secs(2);
/// Spans that wait; more are dropped, and counted in a log line. About a kilobyte each.
const QUEUE_SPANS: usize = 4096;
const TRACES_PATH: &str = "/v1/traces";

/// The provider that exports spans, if an endpoint is configured.
pub(crate) fn provider(config: &Config) -> Result<Option<SdkTracerProvider>, InitError> {
    let Some(endpoint) = config.otlp_endpoint.as_deref().map(str::trim).filter(|e| !e.is_empty()) else {
        return Ok(None);
    };
    let client = reqwest::Client::builder()
        .timeout(EXPORT_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(InitError::Client)?;
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(traces_endpoint(endpoint)?)
        .with_timeout(EXPORT_TIMEOUT)
        .with_http_client(client)
        .build()
        .map_err(InitError::Exporter)?;
    let batches = BatchConfigBuilder::default()
        .with_scheduled_delay(BATCH_DELAY)
        .with_max_export_timeout(EXPORT_TIMEOUT)
        .with_max_queue_size(QUEUE_SPANS)
        .build();
    let processor =
        BatchSpanProcessor::builder(exporter, TokioCurrentThread).with_batch_config(batches).build();
    let resource = Resource::builder()
        .with_service_name(config.service_name)
        .with_attribute(KeyValue::new("service.version", config.service_version))
        .build();
    Ok(Some(SdkTracerProvider::builder().with_resource(resource).with_span_processor(processor).build()))
}

/// Which spans are exported. What the exporter itself does is not, or every export would cause the next.
pub(crate) fn filter() -> Targets {
    ["h2", "hyper", "hyper_util", "reqwest", "rustls", "tower", "opentelemetry", "boringtun::noise::timers"]
        .into_iter()
        .fold(Targets::new().with_default(LevelFilter::INFO), |targets, quiet| {
            targets.with_target(quiet, LevelFilter::OFF)
        })
}

/// Sends what is left, and gives up after the timeout.
pub(crate) async fn shutdown(provider: SdkTracerProvider, timeout: Duration) {
    let (done, finished) = oneshot::channel();
    // Not the runtime's blocking pool: a runtime waits for that when it ends, as long as it takes.
    let waiting = thread::Builder::new().name("otlp-shutdown".into()).spawn(move || {
        // The receiver may have given up; then nobody wants to know.
        let _ = done.send(provider.shutdown_with_timeout(timeout));
    });
    let outcome = match waiting {
        Ok(_) => tokio::time::timeout(timeout, finished).await,
        Err(error) => return tracing::warn!(%error, "the last spans are lost: no thread could be started"),
    };
    match outcome {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(error))) => tracing::warn!(%error, "the last spans did not reach the collector"),
        Ok(Err(_)) => tracing::warn!("the last spans are lost: the export ended early"),
        Err(_) => tracing::warn!(?timeout, "the last spans are lost: the collector did not answer in time"),
    }
}

/// The address to post spans to: the path is added unless it is there.
fn traces_endpoint(endpoint: &str) -> Result<String, InitError> {
    let mut url = reqwest::Url::parse(endpoint).map_err(|_| InitError::Endpoint)?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(InitError::Endpoint);
    }
    let path = url.path().trim_end_matches('/');
    if !path.ends_with(TRACES_PATH) {
        let path = format!("{path}{TRACES_PATH}");
        url.set_path(&path);
    }
    Ok(url.into())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Instant;

    use opentelemetry::trace::{Tracer as _, TracerProvider as _};

    use super::*;
    use crate::LogFormat;

    #[test]
    fn the_path_is_added_once() {
        for (given, posted) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("http://127.0.0.1:4318/", "http://127.0.0.1:4318/v1/traces"),
            ("http://127.0.0.1:4318/v1/traces", "http://127.0.0.1:4318/v1/traces"),
            ("https://collector.example/otlp/", "https://collector.example/otlp/v1/traces"),
        ] {
            assert_eq!(traces_endpoint(given).unwrap(), posted);
        }
    }

    #[test]
    fn an_endpoint_that_is_none_is_refused_without_repeating_it() {
        for bad in ["127.0.0.1:4318", "collector", "ftp://collector", "http://user:secret@:99999"] {
            let error = traces_endpoint(bad).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn without_an_endpoint_there_is_no_exporter() {
        for endpoint in [None, Some(" ".to_owned())] {
            assert!(provider(&config(endpoint)).unwrap().is_none());
        }
    }

    #[tokio::test]
    async fn a_collector_that_never_answers_does_not_hold_up_the_end() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", silent.local_addr().unwrap());
        let provider = provider(&config(Some(endpoint))).unwrap().unwrap();
        provider.tracer("test").in_span("a span", |_| {});
        let start = Instant::now();
        shutdown(provider, Duration::from_millis(300)).await;
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    }

    fn config(otlp_endpoint: Option<String>) -> Config {
        Config {
            service_name: "test",
            service_version: "0",
            otlp_endpoint,
            log_format: LogFormat::Text,
            filter: String::new(),
            recent: None,
        }
    }
}
