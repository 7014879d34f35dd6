//! A control plane that is killed at any moment: what it has said stays said.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use writ_schema::protocol::EnrolmentTicket;
use writ_schema::{Event, NodeId};
use writ_tests::lab::wait_until;
use writ_tests::load::{Joined, Node};

use super::{LIMIT, Site, run_in};
use crate::lab_test;

const ROUNDS: u64 = 10;
const LANES: usize = 8;

lab_test! {
    fn whoever_was_let_in_is_in_after_the_power_fails_at_any_moment() {
        let mut site = Site::on_loopback("power");
        let mut known: Vec<NodeId> = Vec::new();
        for round in 0..ROUNDS {
            let joining = Joining::start(&site, &site.ticket(1000), round);
            // Spread over the first commits, where every moment of one is as likely as any other.
            std::thread::sleep(Duration::from_micros(20_000 + (round * 7919 + 13) * 4_001 % 180_000));
            site.control.kill().unwrap();
            let answered = joining.stop();
            known.extend(answered);
            site.control.start().unwrap();
            let in_log = joined(&site);
            for node in &known {
                assert_eq!(in_log.get(node), Some(&1), "round {round}: {node} was let in and is not in the log once");
            }
        }
        assert!(known.len() as u64 > ROUNDS, "only {} joins in {ROUNDS} rounds: nothing was tested", known.len());
        site.assert_log_is_sound();
        site.control.stop().unwrap();
        site.assert_log_is_sound();
    }
}

/// How often each node joined, as the log's files say.
fn joined(site: &Site) -> BTreeMap<NodeId, usize> {
    let mut nodes = BTreeMap::new();
    for record in site.control.records().unwrap() {
        if let Event::NodeJoined(event) = record.event {
            *nodes.entry(event.node).or_default() += 1;
        }
    }
    nodes
}

/// Nodes that join one after the other on several lanes until they are told to stop.
struct Joining {
    stop: Arc<AtomicBool>,
    answered: Arc<Mutex<Vec<NodeId>>>,
    thread: std::thread::JoinHandle<()>,
}

impl Joining {
    fn start(site: &Site, ticket: &EnrolmentTicket, round: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(Mutex::new(Vec::new()));
        let (stopped, seen) = (Arc::clone(&stop), Arc::clone(&answered));
        let (host, ticket) = (site.host.clone(), ticket.clone());
        let thread = std::thread::spawn(move || {
            run_in(&host, move || async move {
                let http =
                    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build().unwrap();
                let lanes = (0..LANES).map(|lane| {
                    let (stop, answered) = (Arc::clone(&stopped), Arc::clone(&seen));
                    tokio::spawn(lane_of_joins(
                        http.clone(),
                        ticket.clone(),
                        format!("node-{round}-{lane}"),
                        stop,
                        answered,
                    ))
                });
                for lane in lanes.collect::<Vec<_>>() {
                    lane.await.unwrap();
                }
            });
        });
        wait_until(LIMIT, "joins are answered", || !answered.lock().unwrap().is_empty()).unwrap();
        Self { stop, answered, thread }
    }

    /// The nodes that got an answer.
    fn stop(self) -> Vec<NodeId> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().unwrap();
        std::mem::take(&mut self.answered.lock().unwrap())
    }
}

async fn lane_of_joins(
    http: reqwest::Client,
    ticket: EnrolmentTicket,
    name: String,
    stop: Arc<AtomicBool>,
    answered: Arc<Mutex<Vec<NodeId>>>,
) {
    for number in 0.. {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        // No answer is no promise.
        match Node::try_join(&http, &ticket, format!("{name}-{number}")).await {
            Ok(Joined::In(node)) => answered.lock().unwrap().push(node.id().clone()),
            Ok(Joined::Refused(status, error)) => assert_eq!(status.as_u16(), 503, "{error}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}
