//! Logs and traces, the same for every process of Writ.
//!
//! Logs go to standard error, as text or JSON. Traces go to an OpenTelemetry collector over OTLP/HTTP (protobuf) when an
//! endpoint is configured: every span of level `INFO` or above. A trace crosses processes as a W3C `traceparent`, which
//! the messages between agent and control plane carry: [`current_traceparent`] gives it, [`span_with_parent`] takes it.

mod export;
mod logs;
mod recent;
mod traceparent;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{Layer as _, Registry};

pub use logs::LogFormat;
pub use recent::{Line, RecentLines};
pub use traceparent::{InvalidTraceparent, current_traceparent, span_with_parent};

/// What a process tells about itself, and where to.
#[derive(Debug, Clone)]
pub struct Config {
    /// The process in traces: `writd`, `writ-agent`.
    pub service_name: &'static str,
    /// Its version in traces.
    pub service_version: &'static str,
    /// Base address of an OTLP/HTTP collector, as `http://127.0.0.1:4318`. Without one there are no traces.
    pub otlp_endpoint: Option<String>,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Which log lines there are, in the language of `RUST_LOG`; empty means `info`. It does not change the traces.
    pub filter: String,
    /// Where the newest log lines are kept as well.
    pub recent: Option<RecentLines>,
}

/// Why logs and traces could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InitError {
    /// The filter is not one.
    #[error("log filter `{filter}` is not understood; write it as in `info,writ_control=debug`")]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// The endpoint is no address. It is not repeated here, as it may hold a password.
    #[error("the OTLP endpoint is not an address; write it as in `http://127.0.0.1:4318`")]
    Endpoint,
    /// The exporter could not be made.
    #[error("the OTLP exporter could not be made")]
    Exporter(#[source] opentelemetry_otlp::ExporterBuildError),
    /// The exporter's HTTP client could not be made.
    #[error("the HTTP client of the OTLP exporter could not be made")]
    Client(#[source] reqwest::Error),
    /// This process has logs already.
    #[error("logs are set up already in this process; do it once, at its start")]
    AlreadySet(#[source] TryInitError),
}

/// Logs and traces of this process, until [`shutdown`](Self::shutdown).
#[derive(Debug)]
#[must_use = "call `shutdown` before the process ends, or its last spans are lost"]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

/// Sets up logs and traces for the whole process. Call it once, at the start; it needs no async runtime.
pub fn init(config: Config) -> Result<Telemetry, InitError> {
    let logs = logs::layer(config.log_format, &config.filter)?;
    let recent = config.recent.as_ref().map(|recent| recent.layer(&config.filter)).transpose()?;
    let provider = export::provider(&config)?;
    let traces = provider.as_ref().map(|provider| {
        tracing_opentelemetry::layer().with_tracer(provider.tracer("writ")).with_filter(export::filter())
    });
    Registry::default().with(logs).with(recent).with(traces).try_init().map_err(InitError::AlreadySet)?;
    Ok(Telemetry { provider })
}

impl Telemetry {
    /// Sends the last spans and ends the export. It takes a few seconds at most, whatever the collector does, and does not
    /// block the thread it is awaited on. It must be awaited on a tokio runtime (actix has one).
    pub async fn shutdown(self) {
        if let Some(provider) = self.provider {
            export::shutdown(provider, export::SHUTDOWN_TIMEOUT).await;
        }
    }
}
