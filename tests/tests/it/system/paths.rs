//! Paths that die under a connection, and come back.

use std::time::Duration;

use writ_tests::lab::{Nat, Router, wait_until};
use writ_tests::parts::Agent;

use super::{LIMIT, Site};
use crate::lab_test;

const PORT: u16 = 7000;

/// The path is left after some four seconds; TCP, which waits twice as long each time, may look again only six or twelve
/// seconds after it was cut.
const NOTICEABLE: Duration = Duration::from_secs(16);

/// Rounds of probes are never further apart.
const PROBES: Duration = Duration::from_secs(45);

fn path(agent: &Agent, peer: &Agent) -> String {
    let peer = agent.peer(&peer.node().unwrap());
    peer.ok().and_then(|peer| Some(peer["path"]["kind"].as_str()?.to_owned())).unwrap_or_default()
}

/// Of what kind an agent takes the NAT in front of it to be.
fn mapping(agent: &Agent) -> String {
    let status = agent.status();
    status.ok().and_then(|status| Some(status["nat"]["mapping"].as_str()?.to_owned())).unwrap_or_default()
}

lab_test! {
    fn a_connection_outlives_its_path_over_the_relay_and_finds_a_new_one() {
        let site = Site::public("paths");
        let ticket = site.ticket(2);
        let homes: Vec<Router> =
            ["left", "right"].map(|name| site.lab.router(&format!("{name}-home"), Nat::PortRestricted).unwrap()).into();
        let hosts: Vec<_> = homes.iter().zip(["left", "right"]).map(|(home, name)| home.host(name).unwrap()).collect();
        let (left, right) = (site.agent(&hosts[0], "left", &ticket), site.agent(&hosts[1], "right", &ticket));
        let _server = hosts[1].serve_echo(PORT).unwrap();
        let flow = hosts[0].flow(right.at(PORT).unwrap(), Duration::from_millis(50), LIMIT).unwrap();
        wait_until(LIMIT, "direct", || path(&left, &right) == "direct").unwrap();
        assert_eq!((mapping(&left), mapping(&right)), ("endpoint_independent".into(), "endpoint_independent".into()));

        // Both NATs forget everything, as after a power cut in the street.
        for home in &homes {
            home.forget_mappings().unwrap();
        }
        let before = flow.report().echoed;
        wait_until(NOTICEABLE, "lines come back again", || flow.report().echoed > before + 5).unwrap();

        // Both become NATs that nobody crosses.
        for home in &homes {
            home.set_nat(Nat::Symmetric).unwrap();
        }
        let before = flow.report().echoed;
        wait_until(NOTICEABLE, "lines come back over the relay", || flow.report().echoed > before + 5).unwrap();
        wait_until(LIMIT, "it is known that they do", || path(&left, &right) == "relayed").unwrap();
        wait_until(LIMIT, "it is known why", || mapping(&left) == "destination_dependent").unwrap();

        for home in &homes {
            home.set_nat(Nat::PortRestricted).unwrap();
        }
        wait_until(PROBES, "direct again", || path(&left, &right) == "direct").unwrap();
        assert!(flow.report().ended.is_none(), "{:?}", flow.report());
    }
}

lab_test! {
    fn an_agent_that_slept_is_reached_again_at_once() {
        let site = Site::public("sleep");
        let ticket = site.ticket(2);
        let (near, far) = (site.lab.host("near").unwrap(), site.lab.host("far").unwrap());
        let (one, two) = (site.agent(&near, "near", &ticket), site.agent(&far, "far", &ticket));
        let _server = far.serve_echo(PORT).unwrap();
        let flow = near.flow(two.at(PORT).unwrap(), Duration::from_millis(50), LIMIT).unwrap();
        wait_until(LIMIT, "direct", || path(&one, &two) == "direct").unwrap();
        let process = two.process().unwrap();
        process.signal(nix::sys::signal::Signal::SIGSTOP);
        std::thread::sleep(Duration::from_secs(6));
        process.signal(nix::sys::signal::Signal::SIGCONT);
        let before = flow.report().echoed;
        wait_until(NOTICEABLE, "lines come back", || flow.report().echoed > before + 5).unwrap();
        wait_until(PROBES, "direct again", || path(&one, &two) == "direct").unwrap();
    }
}

lab_test! {
    fn packets_are_as_long_as_a_narrow_path_carries() {
        let site = Site::public("narrow");
        let ticket = site.ticket(3);
        let wide = site.lab.host("wide").unwrap();
        let server = site.agent(&wide, "wide", &ticket);
        let _web = wide.serve_http(PORT, "here").unwrap();
        for (name, carries, mtu) in [("narrow", 1400, 1328), ("narrower", 1300, 1232)] {
            // Between two routers, so that neither end knows of it.
            let street = site.lab.router(&format!("{name}-street"), Nat::PortRestricted).unwrap();
            let lan = std::net::Ipv4Addr::new(192, 168, 77, 0);
            let home = street.router(&format!("{name}-home"), Nat::PortRestricted, lan).unwrap();
            street.set_lan_mtu(carries).unwrap();
            home.set_wan_mtu(carries).unwrap();
            let host = home.host(name).unwrap();
            let client = site.agent(&host, name, &ticket);
            let whole = 3_000_000;
            let get = || {
                let response = host.http_get(server.at(PORT).unwrap(), &format!("/bytes/{whole}"), LIMIT).unwrap();
                assert_eq!(response.body.len(), whole);
            };
            get();
            let found = |at: &Agent, peer: &Agent| at.peer(&peer.node().unwrap()).map(|peer| peer["path"].clone());
            for (at, peer) in [(&client, &server), (&server, &client)] {
                let is_found = || {
                    // What is idle is not looked at.
                    get();
                    found(at, peer).is_ok_and(|path| path["kind"] == "direct" && path["mtu"] == mtu)
                };
                wait_until(LIMIT, "the length is found", is_found)
                    .unwrap_or_else(|error| panic!("{error}: {name} {:?}", found(at, peer)));
            }
            // The one who sends much was told, and makes packets so long.
            get();
            let to = client.address().unwrap().to_string();
            let route = String::from_utf8(wide.exec(["ip", "route", "get", &to]).unwrap().stdout).unwrap();
            assert!(route.contains(&format!("mtu {mtu}")), "{route}");
        }
    }
}

lab_test! {
    fn a_path_that_nats_have_forgotten_in_silence_is_found_again_by_the_first_packets() {
        let site = Site::public("forget");
        let ticket = site.ticket(2);
        let homes = ["left", "right"].map(|name| {
            site.lab.router(&format!("{name}-home"), Nat::PortRestricted).unwrap()
        });
        let hosts = [0, 1].map(|it: usize| homes[it].host(["left", "right"][it]).unwrap());
        let (left, right) = (site.agent(&hosts[0], "left", &ticket), site.agent(&hosts[1], "right", &ticket));
        let _server = hosts[1].serve_http(PORT, "here").unwrap();
        let get = |limit| hosts[0].http_get(right.at(PORT).unwrap(), "/", limit);
        get(LIMIT).unwrap();
        wait_until(LIMIT, "direct", || path(&left, &right) == "direct").unwrap();
        // Shorter than the pauses between the checks of an idle path.
        for home in &homes {
            home.set_udp_timeout(Duration::from_secs(4)).unwrap();
        }
        std::thread::sleep(Duration::from_secs(24));
        // TCP asks again after one second, and after three.
        get(Duration::from_secs(8)).unwrap();
        for home in &homes {
            home.set_udp_timeout(Duration::from_secs(120)).unwrap();
        }
        wait_until(LIMIT, "direct again", || get(LIMIT).is_ok() && path(&left, &right) == "direct").unwrap();
    }
}
