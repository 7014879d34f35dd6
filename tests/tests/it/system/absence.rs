//! Agents while the control plane is away, and after they were away themselves.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use serde_json::Value;
use writ_schema::Event;
use writ_schema::event::AcknowledgedAction;
use writ_tests::lab::{Host, wait_until};
use writ_tests::parts::{Agent, Settings};

use super::{BY_PORT, LIMIT, NO_ANSWER, OTHER_PORT, PORT, Site};
use crate::lab_test;

/// The shortest life that a control plane gives an authorization.
const AUTHORIZATION_SECONDS: u32 = 10;

/// Long enough to kill and start everything, short enough to wait for.
const LONGER_AUTHORIZATION_SECONDS: u32 = 20;

fn target(agent: &Agent, port: u16) -> SocketAddr {
    agent.at(port).unwrap()
}

fn two_agents(site: &Site) -> (Agent, Agent, Host, Host) {
    let ticket = site.ticket(2);
    let (asking, asked) = (site.lab.host("asking").unwrap(), site.lab.host("asked").unwrap());
    (site.agent(&asking, "asking", &ticket), site.agent(&asked, "asked", &ticket), asking, asked)
}

lab_test! {
    fn a_node_that_is_removed_still_says_that_it_has_cut_its_connections() {
        let site = Site::public("removed");
        let asked = site.lab.host("asked").unwrap();
        let ticket = site.ticket(5);
        let two = site.agent(&asked, "asked", &ticket);
        let _server = asked.serve_echo(PORT).unwrap();
        let withdrawn = || {
            let records = site.control.records().unwrap();
            let is_withdrawal = |event: &Event| {
                matches!(event, Event::ConnectionAcknowledged(body) if body.action == AcknowledgedAction::Withdrawn)
            };
            records.iter().filter(|record| is_withdrawal(&record.event)).count()
        };
        for number in 1..=4 {
            let name = format!("asking-{number}");
            let asking = site.lab.host(&name).unwrap();
            let _one = site.agent(&asking, &name, &ticket);
            let flow = asking.flow(target(&two, PORT), Duration::from_millis(20), LIMIT).unwrap();
            wait_until(LIMIT, "lines come back", || flow.report().echoed > 3).unwrap();
            let _: Value = site.operator.json(&["nodes", "remove", &name, "--yes"]).unwrap();
            wait_until(LIMIT, "both ends have said so", || withdrawn() == 2 * number).unwrap();
        }
    }
}

lab_test! {
    fn without_a_control_plane_what_is_authorized_goes_on_to_its_end_and_nothing_new_begins() {
        let mut site = Site::with("absence", |host| Settings {
            authorization_seconds: Some(AUTHORIZATION_SECONDS),
            ..Settings::at("absence", host.address())
        });
        site.operator.set_policy(BY_PORT).unwrap();
        let (one, two, asking, asked) = two_agents(&site);
        let _servers = (asked.serve_echo(PORT).unwrap(), asked.serve_echo(OTHER_PORT).unwrap());
        let (open, other) = (target(&two, PORT), target(&two, OTHER_PORT));
        let flow = asking.flow(open, Duration::from_millis(50), LIMIT).unwrap();
        wait_until(LIMIT, "lines come back", || flow.report().echoed > 3).unwrap();

        site.control.kill().unwrap();
        let before = flow.report().echoed;
        std::thread::sleep(Duration::from_secs(2));
        let report = flow.report();
        assert!(report.echoed > before + 10 && report.ended.is_none(), "{report:?}");
        assert!(asking.connect(other, NO_ANSWER).is_err(), "a new connection was made with nobody to authorize it");

        let life = Duration::from_secs(u64::from(AUTHORIZATION_SECONDS) + 5);
        let silent = || flow.report().ended.is_some() || flow.report().silent_for > Duration::from_secs(1);
        wait_until(life, "the authorization expires", silent).unwrap();
        let report = flow.report();
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(flow.report().echoed, report.echoed, "it went on after its authorization expired");

        site.control.start().unwrap();
        one.wait_connected(LIMIT).unwrap();
        two.wait_connected(LIMIT).unwrap();
        asking.connect(other, LIMIT).unwrap();
    }
}

/// What a file of an agent's state holds.
fn kept(agent: &Agent, file: &str) -> String {
    fs::read_to_string(agent.state().join(file)).unwrap_or_default()
}

/// Keys and tokens stand in the file that is theirs and nowhere else, and every file is its owner's only.
fn assert_secrets_are_in_their_places(agent: &Agent) {
    let wireguard: Value = serde_json::from_str(&kept(agent, "wireguard.json")).unwrap();
    let wireguard = wireguard["secret"].as_str().unwrap().to_owned();
    let secrets =
        [("identity.key", kept(agent, "identity.key").trim().to_owned()), ("wireguard.json", wireguard)];
    for entry in fs::read_dir(agent.state()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if !entry.file_type().unwrap().is_file() || matches!(name.as_str(), "lock" | "enrolment-key") {
            continue;
        }
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{name}");
        for (place, secret) in &secrets {
            assert!(secret.len() > 40);
            assert_eq!(kept(agent, &name).contains(secret), name == *place, "{place} and {name}");
        }
    }
}

lab_test! {
    fn agents_that_were_killed_go_on_without_a_control_plane_until_their_authorization_expires() {
        let mut site = Site::with("crash", |host| Settings {
            authorization_seconds: Some(LONGER_AUTHORIZATION_SECONDS),
            ..Settings::at("crash", host.address())
        });
        let (mut one, mut two, asking, asked) = two_agents(&site);
        let _server = asked.serve_echo(PORT).unwrap();
        let open = target(&two, PORT);
        let granted = Instant::now();
        asking.connect(open, LIMIT).unwrap();
        let is_kept = |agent| kept(agent, "live.json").contains("connection.authorized");
        wait_until(LIMIT, "what is live is kept", || is_kept(&one) && is_kept(&two)).unwrap();

        site.control.kill().unwrap();
        for agent in [&mut one, &mut two] {
            agent.kill().unwrap();
            assert_secrets_are_in_their_places(agent);
            agent.start().unwrap();
        }
        let life = Duration::from_secs(u64::from(LONGER_AUTHORIZATION_SECONDS));
        wait_until(life, "traffic flows again", || asking.connect(open, NO_ANSWER).is_ok()).unwrap();
        assert!(granted.elapsed() < life, "it is tested too late: {:?}", granted.elapsed());
        assert_eq!(one.peer(&two.node().unwrap()).unwrap()["authorizations"].as_array().unwrap().len(), 1);

        std::thread::sleep(life.saturating_sub(granted.elapsed()) + Duration::from_secs(2));
        assert!(asking.connect(open, NO_ANSWER).is_err(), "it went on after its authorization expired");
        for agent in [&mut one, &mut two] {
            agent.kill().unwrap();
            agent.start().unwrap();
        }
        assert!(asking.connect(open, 2 * NO_ANSWER).is_err(), "a restart brought it back");

        site.control.start().unwrap();
        one.wait_connected(LIMIT).unwrap();
        two.wait_connected(LIMIT).unwrap();
        // What was asked for before may have been denied while the other was not there yet, and a denial is remembered.
        wait_until(LIMIT, "a new one is made", || asking.connect(open, NO_ANSWER).is_ok()).unwrap();
    }
}

lab_test! {
    fn an_agent_that_was_stopped_comes_back_as_the_same_node() {
        let site = Site::public("restart");
        let (mut one, two, asking, asked) = two_agents(&site);
        let _server = asked.serve_echo(PORT).unwrap();
        let (node, address) = (one.node().unwrap(), one.address().unwrap());
        asking.connect(target(&two, PORT), LIMIT).unwrap();

        one.stop().unwrap();
        one.start().unwrap();
        one.wait_connected(LIMIT).unwrap();
        assert_eq!((one.node().unwrap(), one.address().unwrap()), (node.clone(), address));
        asking.connect(target(&two, PORT), LIMIT).unwrap();

        let records = site.control.records().unwrap();
        let joins = records.iter().filter(|record| {
            matches!(&record.event, Event::NodeJoined(event) if event.node.as_str() == node)
        });
        assert_eq!(joins.count(), 1);
    }
}

lab_test! {
    fn an_agent_waits_for_a_control_plane_that_comes_later() {
        let mut site = Site::public("later");
        let (mut one, two, asking, asked) = two_agents(&site);
        let _server = asked.serve_echo(PORT).unwrap();
        site.control.stop().unwrap();
        one.stop().unwrap();
        one.start().unwrap();
        std::thread::sleep(Duration::from_millis(500));
        assert_ne!(one.status().unwrap()["session"], "connected");
        site.control.start().unwrap();
        one.wait_connected(LIMIT).unwrap();
        two.wait_connected(LIMIT).unwrap();
        asking.connect(target(&two, PORT), LIMIT).unwrap();
    }
}
