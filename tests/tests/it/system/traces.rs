//! What an operator sees: one trace of one connection, health, readiness, metrics.

use std::collections::BTreeSet;

use writ_tests::lab::wait_for;
use writ_tests::parts::{Agent, Settings};

use super::collector::{Collector, Span};
use super::{LIMIT, Site};
use crate::lab_test;

const COLLECTOR_PORT: u16 = 4318;
const PORT: u16 = 7000;

/// The spans of one connection, from the question to what both ends say, once all of them have come.
fn whole_trace(spans: &[Span]) -> Result<Vec<Span>, String> {
    let traces: BTreeSet<_> = spans.iter().map(|span| &span.trace).collect();
    let mut nearest = "no spans".to_owned();
    for trace in traces {
        let own: Vec<_> = spans.iter().filter(|span| span.trace == *trace).cloned().collect();
        let count = |name: &str| own.iter().filter(|span| span.name == name).count();
        let steps = ["connection.request", "decide", "append"].iter().all(|name| count(name) > 0);
        let beginnings = beginnings(&own);
        if steps && count("acknowledge") >= 2 && beginnings == 1 {
            return Ok(own);
        }
        let names: Vec<_> = own.iter().map(|span| format!("{} {}", span.service, span.name)).collect();
        let seen = format!("{beginnings} beginnings in {}", names.join(", "));
        nearest = if seen.len() > nearest.len() { seen } else { nearest };
    }
    Err(nearest)
}

/// Spans whose parent is not there.
fn beginnings(spans: &[Span]) -> usize {
    let ids: BTreeSet<_> = spans.iter().map(|span| &span.id).collect();
    spans.iter().filter(|span| !ids.contains(&span.parent)).count()
}

lab_test! {
    fn one_trace_leads_from_the_request_through_the_log_to_both_acknowledgements() {
        let mut collector = None;
        let site = Site::with("traces", |host| {
            collector = Some(Collector::start(host, COLLECTOR_PORT));
            Settings {
                otlp_endpoint: Some(format!("http://{}", host.at(COLLECTOR_PORT))),
                ..Settings::at("traces", host.address())
            }
        });
        let collector = collector.unwrap();
        let ticket = site.ticket(2);
        let hosts = [site.lab.host("one").unwrap(), site.lab.host("two").unwrap()];
        let agents = [(&hosts[0], "one"), (&hosts[1], "two")].map(|(host, name)| {
            let mut agent = Agent::new(&site.programs, host, &site.lab.directory().join(name));
            agent.trace_to(&format!("http://{}", site.host.at(COLLECTOR_PORT)));
            agent.begin_join(name, &ticket).unwrap();
            agent.wait_connected(LIMIT).unwrap();
            agent
        });
        let _server = hosts[1].serve_echo(PORT).unwrap();
        hosts[0].connect(agents[1].at(PORT).unwrap(), LIMIT).unwrap();
        let trace = wait_for(LIMIT, "the trace is whole", || whole_trace(&collector.spans())).unwrap();
        let services: BTreeSet<_> = trace.iter().map(|span| span.service.as_str()).collect();
        assert!(services.len() >= 2, "agents and the control plane share it: {services:?}");
    }
}

lab_test! {
    fn health_readiness_and_metrics_answer() {
        let site = Site::public("metrics");
        let web = site.control.web().unwrap();
        assert_eq!(web.get("/healthz").unwrap().status, 200);
        assert_eq!(web.get("/readyz").unwrap().status, 200);
        let metrics = web.get("/metrics").unwrap();
        assert_eq!(metrics.status, 200);
        let samples = metrics.body.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        let named = samples.filter(|line| line.starts_with("writ_")).count();
        assert!(named > 5, "{}", metrics.body);
        for line in metrics.body.lines().filter(|line| !line.starts_with('#')) {
            let value = line.rsplit(' ').next().unwrap_or_default();
            assert!(line.is_empty() || value.parse::<f64>().is_ok(), "not a sample: {line}");
        }
        assert_eq!(web.get("/no/such/page").unwrap().status, 404);
    }
}
