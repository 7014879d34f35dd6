//! Metrics: what happened in this process, as Prometheus reads it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter, MeterProvider as _};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Registry, TextEncoder};
use writ_relay::RelayHandle;
use writ_schema::event::Event;

use crate::cosigners::Cosigners;
use crate::sequencer::{Commit, SequencerHandle};
use crate::views::Views;

/// Metrics could not be set up or written.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The exporter could not be made.
    #[error("the metrics exporter could not be made")]
    Exporter(#[source] opentelemetry_sdk::error::OTelSdkError),
    /// The text could not be written.
    #[error("the metrics could not be written")]
    Encode(#[source] prometheus::Error),
}

/// The metrics of this process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    provider: SdkMeterProvider,
    events: Counter<u64>,
    append_seconds: Histogram<f64>,
    batch_records: Histogram<u64>,
    http_requests: Counter<u64>,
    rejected_frames: Counter<u64>,
    sessions: Arc<AtomicU64>,
    hub_position: Arc<AtomicU64>,
}

impl Metrics {
    /// Sets up metrics that count from zero.
    pub fn new() -> Result<Self, MetricsError> {
        let registry = Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .without_target_info()
            .build()
            .map_err(MetricsError::Exporter)?;
        let provider = SdkMeterProvider::builder().with_reader(exporter).build();
        let meter = provider.meter("writ");
        let counter =
            |name: &'static str, what: &'static str| meter.u64_counter(name).with_description(what).build();
        Ok(Self {
            events: counter("writ_events", "Events appended to the log, by kind"),
            http_requests: counter("writ_http_requests", "HTTP requests, by route and status"),
            rejected_frames: counter("writ_rejected_frames", "Frames that an agent could not verify"),
            append_seconds: meter
                .f64_histogram("writ_append_seconds")
                .with_description("Time of one durable commit")
                .with_boundaries(vec![0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0])
                .build(),
            batch_records: meter
                .u64_histogram("writ_batch_records")
                .with_description("Records in one commit")
                .with_boundaries(vec![1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 1024.0])
                .build(),
            sessions: Arc::default(),
            hub_position: Arc::default(),
            registry,
            provider,
        })
    }

    /// Begins to observe the parts of the control plane.
    pub fn observe(
        &self,
        sequencer: &SequencerHandle,
        relay: &RelayHandle,
        views: &Views,
        cosigners: &Cosigners,
    ) {
        let meter = self.provider.meter("writ");
        let (sessions, hub) = (self.sessions.clone(), self.hub_position.clone());
        gauge(&meter, "writ_sessions", "Agents connected", move || sessions.load(Ordering::Relaxed));
        gauge(&meter, "writ_hub_position", "Records that sessions were told of", move || {
            hub.load(Ordering::Relaxed)
        });
        let handle = sequencer.clone();
        gauge(&meter, "writ_log_records", "Records in the log", move || handle.state().size());
        let handle = sequencer.clone();
        gauge(&meter, "writ_queue_commands", "Commands waiting for the sequencer", move || {
            handle.metrics().queued.load(Ordering::Relaxed)
        });
        let handle = sequencer.clone();
        let ignored = "Entries of the log's topic that are no part of the log";
        gauge(&meter, "writ_log_ignored_entries", ignored, move || {
            handle.metrics().ignored_entries.load(Ordering::Relaxed)
        });
        let handle = sequencer.clone();
        let upkeep = "1 while full segments of the log cannot be compressed";
        gauge(&meter, "writ_log_upkeep_failing", upkeep, move || {
            handle.metrics().upkeep_fails.load(Ordering::Relaxed)
        });
        let handle = views.clone();
        gauge(&meter, "writ_view_lag_records", "Records that the views have not folded", move || {
            handle.progress().lag()
        });
        observe_commands(&meter, sequencer);
        observe_relay(&meter, relay);
        observe_cosigners(&meter, cosigners);
    }

    /// Counts a commit and what it holds.
    pub fn commit(&self, commit: &Commit) {
        self.append_seconds.record(commit.append_time.as_secs_f64(), &[]);
        self.batch_records.record(commit.records.len() as u64, &[]);
        for record in &commit.records {
            self.events
                .add(weight(&record.record.event), &[KeyValue::new("kind", record.record.event.kind())]);
        }
        self.hub_position.store(commit.size, Ordering::Relaxed);
    }

    /// Counts an answered HTTP request.
    pub fn http_request(&self, route: &str, status: u16) {
        let route = KeyValue::new("route", route.to_owned());
        self.http_requests.add(1, &[route, KeyValue::new("status", i64::from(status))]);
    }

    /// Notes how many agents are connected.
    pub fn sessions(&self, count: u64) {
        self.sessions.store(count, Ordering::Relaxed);
    }

    /// Counts a frame that an agent did not accept.
    pub fn frame_rejected(&self) {
        self.rejected_frames.add(1, &[]);
    }

    /// Everything in Prometheus' text format.
    pub fn text(&self) -> Result<String, MetricsError> {
        TextEncoder::new().encode_to_string(&self.registry.gather()).map_err(MetricsError::Encode)
    }
}

/// How many happenings one record stands for: repeats of a refusal within a window are one record.
fn weight(event: &Event) -> u64 {
    match event {
        Event::ConnectionDenied(body) => body.count.into(),
        Event::NodeJoinRefused(body) => body.count.into(),
        Event::SessionFrameRejected(body) => body.count.into(),
        Event::LoginFailed(body) => body.count.into(),
        Event::AdminActDenied(body) => body.count.into(),
        _ => 1,
    }
}

fn gauge(
    meter: &Meter,
    name: &'static str,
    what: &'static str,
    value: impl Fn() -> u64 + Send + Sync + 'static,
) {
    // Held by the meter.
    let _gauge = meter
        .u64_observable_gauge(name)
        .with_description(what)
        .with_callback(move |observer| observer.observe(value(), &[]))
        .build();
}

fn observe_commands(meter: &Meter, sequencer: &SequencerHandle) {
    let sequencer = sequencer.clone();
    let _counter = meter
        .u64_observable_counter("writ_commands")
        .with_description("Commands answered, by answer")
        .with_callback(move |observer| {
            let metrics = sequencer.metrics();
            for (answer, count) in [
                ("accepted", &metrics.accepted),
                ("rejected", &metrics.rejected),
                ("repeated", &metrics.repeated),
                ("busy", &metrics.turned_away),
            ] {
                observer.observe(count.load(Ordering::Relaxed), &[KeyValue::new("answer", answer)]);
            }
        })
        .build();
}

fn observe_cosigners(meter: &Meter, cosigners: &Cosigners) {
    let handle = cosigners.clone();
    gauge(meter, "writ_cosigned_records", "Records that a quorum of witnesses has cosigned", move || {
        handle.cosigned().map_or(0, |signed| signed.checkpoint().size)
    });
    let handle = cosigners.clone();
    let _gauge = meter
        .u64_observable_gauge("writ_witness_cosigned_records")
        .with_description("Records that a witness has cosigned")
        .with_callback(move |observer| {
            for status in handle.statuses() {
                let witness = KeyValue::new("witness", status.witness.key.name().to_owned());
                observer.observe(status.cosigned_size.unwrap_or_default(), &[witness]);
            }
        })
        .build();
    let handle = cosigners.clone();
    let _counter = meter
        .u64_observable_counter("writ_witness_failures")
        .with_description("Requests that a witness did not answer with a cosignature")
        .with_callback(move |observer| {
            for status in handle.statuses() {
                let witness = KeyValue::new("witness", status.witness.key.name().to_owned());
                observer.observe(status.failures, &[witness]);
            }
        })
        .build();
}

fn observe_relay(meter: &Meter, relay: &RelayHandle) {
    let handle = relay.clone();
    gauge(meter, "writ_relay_permits", "Pairs of nodes that the relay forwards between", move || {
        handle.sizes().permits as u64
    });
    let handle = relay.clone();
    gauge(meter, "writ_relay_nodes", "Nodes bound to the relay", move || handle.sizes().bound_nodes as u64);
    let handle = relay.clone();
    let _counter = meter
        .u64_observable_counter("writ_relay_datagrams")
        .with_description("What the relay did with datagrams")
        .with_callback(move |observer| {
            let counters = handle.counters();
            let one = |what: &'static str| [KeyValue::new("what", what)];
            observer.observe(counters.forwarded_packets, &one("forwarded"));
            observer.observe(counters.hellos_accepted, &one("hello"));
            observer.observe(counters.stun_answered, &one("stun"));
            for (refusal, count) in counters.refusals() {
                observer.observe(count, &one(refusal.label()));
            }
        })
        .build();
    let handle = relay.clone();
    let _counter = meter
        .u64_observable_counter("writ_relay_bytes")
        .with_description("Bytes that the relay forwarded")
        .with_callback(move |observer| observer.observe(handle.counters().forwarded_bytes, &[]))
        .build();
}
