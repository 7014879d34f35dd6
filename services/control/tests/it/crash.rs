//! What was acknowledged outlives the process.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use writ_ledger::{SigningKey, verify_log};
use writ_schema::event::Event;
use writ_schema::{NodeId, Record};

use crate::agent::Agent;
use crate::plane::Plane;

/// A real `writd`, killed when it goes out of scope.
struct Process {
    child: Child,
    http: SocketAddr,
}

impl Process {
    fn start(config: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_writd"))
            .args(["run", "--config"])
            .arg(config)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let (_, rest) = line.split_once(" on ").unwrap_or_else(|| panic!("not ready: {line}"));
        let http = rest.split(',').next().unwrap().parse().unwrap();
        Self { child, http }
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_join_survives_sigkill() {
    // A control plane in this process prepares the folder and is stopped in order.
    let plane = Plane::start().await;
    let secret = plane.tagged_key("tag:a", 1000).await;
    let requests: Vec<_> = (0..400)
        .map(|_| {
            let agent = Agent::new(&plane);
            (agent.node(), agent.join_request(&secret))
        })
        .collect();
    let (data, config, http) = (plane.made.data.clone(), plane.made.config.clone(), plane.http.clone());
    let keep = plane.stop().await;

    let mut process = Process::start(&config);
    let url = format!("http://{}/agent/v1/join", process.http);
    let acknowledged: Arc<std::sync::Mutex<Vec<NodeId>>> = Arc::default();
    let mut lanes = Vec::new();
    for lane in requests.chunks(50).map(<[_]>::to_vec) {
        let (http, url, acknowledged) = (http.clone(), url.clone(), acknowledged.clone());
        lanes.push(tokio::spawn(async move {
            for (node, body) in lane {
                let Ok(answer) = http.post(&url).json(&body).send().await else { return };
                let is_success = answer.status().is_success();
                if !is_success || answer.bytes().await.is_err() {
                    return;
                }
                acknowledged.lock().unwrap().push(node);
            }
        }));
    }
    for _ in 0..1000 {
        if acknowledged.lock().unwrap().len() >= 40 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    process.kill();
    for lane in lanes {
        lane.await.unwrap();
    }
    let acknowledged = acknowledged.lock().unwrap().clone();
    assert!(acknowledged.len() >= 40, "the load came to nothing");

    let restarted = Process::start(&config);
    let alive = http.get(format!("http://{}/readyz", restarted.http)).send().await.unwrap();
    assert_eq!(alive.status(), 200);
    drop(restarted);
    let key = SigningKey::load(&data.join("log.key")).unwrap().verifier_key();
    let report = verify_log(&data.join("log"), &key).unwrap();
    assert!(report.is_sound(), "{:?}", report.findings);
    let log = writ_ledger::FileLog::open_read_only(&data.join("log"), &key).unwrap();
    let joined: std::collections::BTreeSet<NodeId> = log
        .read_range(0..log.size())
        .filter_map(|read| match Record::decode(&read.unwrap().1).unwrap().event {
            Event::NodeJoined(body) => Some(body.node),
            _ => None,
        })
        .collect();
    let lost: Vec<_> = acknowledged.iter().filter(|node| !joined.contains(*node)).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    drop(keep);
}
