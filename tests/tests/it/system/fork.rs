//! A control plane that shows two histories: the agents find it through their tunnel, and can prove it.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use writ_schema::Event;
use writ_tests::lab::{Host, wait_until};
use writ_tests::parts::{Agent, ControlPlane, Settings};

use super::{BY_PORT, LIMIT, NO_ANSWER, OTHER_PORT, PORT, Site, run_in};
use crate::lab_test;

const DOOR_PORT: u16 = 9443;

/// Agents compare their checkpoints within fifteen seconds of a new one.
const FOUND_LIMIT: Duration = Duration::from_secs(60);

/// The way from a host to its control plane, which can be made to lead to another.
struct Door {
    target: watch::Sender<SocketAddr>,
}

impl Door {
    fn open(host: &Host, target: SocketAddr) -> Self {
        let listener = host.listen(DOOR_PORT).unwrap();
        let (sender, receiver) = watch::channel(target);
        let inside = host.clone();
        std::thread::spawn(move || run_in(&inside, move || serve(listener, receiver)));
        Self { target: sender }
    }

    /// Breaks every connection; new ones go there.
    fn lead_to(&self, control: &ControlPlane) {
        self.target.send_replace(control.listen());
    }
}

/// Until the door is gone.
async fn serve(listener: std::net::TcpListener, target: watch::Receiver<SocketAddr>) {
    listener.set_nonblocking(true).unwrap();
    let listener = TcpListener::from_std(listener).unwrap();
    let mut gone = target.clone();
    loop {
        tokio::select! {
            accepted = listener.accept() => drop(tokio::spawn(carry(accepted.unwrap().0, target.clone()))),
            changed = gone.changed() => if changed.is_err() { return },
        }
    }
}

async fn carry(mut agent: TcpStream, mut target: watch::Receiver<SocketAddr>) {
    let to = *target.borrow_and_update();
    let Ok(mut control) = TcpStream::connect(to).await else { return };
    tokio::select! {
        _ = copy_bidirectional(&mut agent, &mut control) => {}
        _ = target.changed() => {}
    }
}

fn split_view(agent: &Agent) -> Option<Value> {
    agent.status().unwrap().get("split_view").cloned()
}

fn says(agent: &Agent, args: &[&str]) -> (bool, String) {
    let output = agent.try_run(args).unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

/// Authorizations in the log for a port.
fn authorized(control: &ControlPlane, port: u16) -> usize {
    let is_it =
        |event: &Event| matches!(event, Event::ConnectionAuthorized(body) if body.ports.contains(port));
    control.records().unwrap().iter().filter(|record| is_it(&record.event)).count()
}

lab_test! {
    fn two_histories_are_found_by_both_agents_and_proven_while_live_connections_go_on() {
        let mut site = Site::with("fork", |host| Settings {
            url: Some(format!("https://127.0.0.1:{DOOR_PORT}")),
            ..Settings::at("fork", host.address())
        });
        site.operator.set_policy(BY_PORT).unwrap();
        let [asking, asked, third] = ["asking", "asked", "third"].map(|name| site.lab.host(name).unwrap());
        let doors = [&asking, &asked, &third].map(|host| Door::open(host, site.control.listen()));
        let ticket = site.ticket(3);
        let mut one = site.agent(&asking, "asking", &ticket);
        let (two, other) = (site.agent(&asked, "asked", &ticket), site.agent(&third, "third", &ticket));
        let _servers = (asked.serve_echo(PORT).unwrap(), third.serve_echo(OTHER_PORT).unwrap());
        let (open, beyond) = (two.at(PORT).unwrap(), other.at(OTHER_PORT).unwrap());
        let flow = asking.flow(open, Duration::from_millis(50), LIMIT).unwrap();
        let node = two.node().unwrap();
        let is_direct = || one.peer(&node).is_ok_and(|peer| peer["path"]["kind"] == "direct");
        wait_until(LIMIT, "the path is direct", is_direct).unwrap();

        // From here on there are two control planes with one key, and each agent sees another.
        site.control.stop().unwrap();
        let elsewhere = site.lab.host("elsewhere").unwrap();
        let mut fork = site.control.copy(&elsewhere, &site.lab.directory().join("fork")).unwrap();
        doors[1].lead_to(&fork);
        assert!(split_view(&one).is_none() && split_view(&two).is_none());
        site.control.start().unwrap();
        fork.start().unwrap();
        let both = || [&one, &two].iter().all(|agent| split_view(agent).is_some());
        wait_until(FOUND_LIMIT, "both agents find it", both).unwrap();

        // The control plane authorizes more, to a node that it shows the same history: it is not believed.
        wait_until(LIMIT, "a new connection is authorized", || {
            assert!(asking.connect(beyond, NO_ANSWER).is_err(), "a new connection was believed");
            authorized(&site.control, OTHER_PORT) > 0
        })
        .unwrap();
        let refused = || one.status().unwrap()["refusals"].to_string().contains("the log was split");
        wait_until(LIMIT, "it is refused", refused).unwrap();
        let before = flow.report().echoed;
        wait_until(LIMIT, "the live connection goes on", || flow.report().echoed > before + 10).unwrap();

        let key = site.control.made().log_key.clone();
        for agent in [&one, &two] {
            let found = split_view(agent).unwrap();
            assert_eq!(found["is_proven"], true, "{found:#}");
            let file = found["evidence"].as_str().unwrap();
            let verdict: Value = site.operator.json(&["verify", file, "--key", &key]).unwrap();
            assert_eq!(verdict["verified"], true, "{verdict:#}");
            assert!(verdict["proves"].as_str().unwrap().contains("two different histories"), "{verdict:#}");
            let (_, text) = says(agent, &["status"]);
            assert!(text.contains("SPLIT VIEW") && text.contains("writ verify"), "{text}");
        }

        // It is not forgotten by a restart, nor by a command that was not meant.
        one.kill().unwrap();
        one.start().unwrap();
        one.wait_connected(LIMIT).unwrap();
        assert!(split_view(&one).is_some());
        let (done, text) = says(&one, &["trust", "reset"]);
        assert!(!done && text.contains("--yes") && split_view(&one).is_some(), "{text}");

        // The administrator decides that the first history counts.
        doors[1].lead_to(&site.control);
        fork.stop().unwrap();
        for (agent, args) in [
            (&two, &["trust", "reset", "--forget-checkpoint", "--yes"][..]),
            (&one, &["trust", "reset", "--yes"][..]),
        ] {
            let (done, text) = says(agent, args);
            assert!(done && text.contains("the evidence stays in"), "{text}");
        }
        wait_until(LIMIT, "new connections are made", || asking.connect(beyond, NO_ANSWER).is_ok()).unwrap();
        two.wait_connected(LIMIT).unwrap();
        assert!(split_view(&one).is_none() && split_view(&two).is_none());
    }
}
