//! The Internet through an exit node: for whom the policy lets, through the one that was chosen, and by no other way.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;
use writ_schema::Event;
use writ_tests::lab::{Host, HttpServer, Nat, wait_until};
use writ_tests::parts::Agent;

use super::host::routing;
use super::{LIMIT, NO_ANSWER, Site};
use crate::lab_test;

const WEB: u16 = 80;
const ECHO: u16 = 7000;
const SECRET: u16 = 5432;

/// Laptops reach these ports of the Internet, and exit nodes of the first kind need no approval.
fn policy(ports: &str) -> String {
    format!(
        r#"{{ "tagOwners": {{ "tag:laptop": [], "tag:exit": [], "tag:other": [] }},
              "acls": [{{ "action": "accept", "src": ["tag:laptop"], "dst": ["autogroup:internet:{ports}"] }}],
              "autoApprovers": {{ "exitNode": ["tag:exit"] }} }}"#
    )
}

/// An agent that runs with these arguments the first time only.
fn join(site: &Site, host: &Host, name: &str, tag: &'static str, arguments: &[&str]) -> Agent {
    let mut agent = site.tagged_agent(host, name, tag, arguments);
    agent.set_arguments(&[]);
    agent
}

/// Chooses an exit node, and what was said.
fn choose(agent: &Agent, exit: &str) -> String {
    let output = agent.try_run(&["exit-node", exit]).unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

fn state(agent: &Agent) -> Value {
    agent.status().unwrap()["exit_node"]["state"].clone()
}

fn wait_for_exit(agent: &Agent, name: &str) {
    let knows = || {
        let exits = agent.status().unwrap_or_default()["netmap"]["exits"].clone();
        exits.as_array().is_some_and(|exits| exits.iter().any(|exit| exit["node"]["name"] == name))
    };
    wait_until(LIMIT, "the exit node may be used", knows).unwrap();
}

/// As whom somebody is seen who gets a page; none if the page is not to be had.
fn seen_as(host: &Host, web: &HttpServer, at: SocketAddr) -> Option<String> {
    let before = web.visitors().len();
    let got = host.http_get(at, "/", NO_ANSWER).is_ok();
    let visitors = web.visitors();
    assert_eq!(got, visitors.len() > before, "{visitors:?}");
    visitors.into_iter().skip(before).map(|visitor| visitor.to_string()).next()
}

/// What chooses the way to the Internet on a host.
fn rules(host: &Host) -> String {
    let commands = ["ip rule", "ip -6 rule", "ip route show table 87", "ip -6 route show table 87"];
    let told = commands.iter().map(|command| host.exec(command.split(' ')).unwrap().stdout);
    told.map(|stdout| String::from_utf8(stdout).unwrap()).collect()
}

fn authorized_everywhere(site: &Site) -> usize {
    let is_everywhere = |event: &Event| match event {
        Event::ConnectionAuthorized(body) => body.route.is_some_and(|route| route.is_everything()),
        _ => false,
    };
    site.control.records().unwrap().iter().filter(|record| is_everywhere(&record.event)).count()
}

/// An IPv6 Internet that the laptop reaches by way of a neighbour.
fn give_ipv6(laptop: &Host, neighbour: &Host) -> SocketAddr {
    let run = |host: &Host, words: &str| {
        let output = host.exec(words.split(' ')).unwrap();
        assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
    };
    run(laptop, "ip -6 address add 2001:db8:1::2/64 dev eth0 nodad");
    run(neighbour, "ip -6 address add 2001:db8:1::1/64 dev eth0 nodad");
    run(neighbour, "ip -6 address add 2001:db8:2::1/128 dev lo");
    run(laptop, "ip -6 route add default via 2001:db8:1::1");
    "[2001:db8:2::1]:7000".parse().unwrap()
}

lab_test! {
    fn the_internet_is_reached_through_the_exit_node_that_was_chosen_or_not_at_all() {
        let site = Site::public("exit");
        site.operator.set_policy(&policy("80,7000")).unwrap();
        let home = site.lab.router("home", Nat::PortRestricted).unwrap();
        let (laptop_host, printer) = (home.host("laptop").unwrap(), home.host("printer").unwrap());
        let (server, other_server) = (site.lab.host("server").unwrap(), site.lab.host("other").unwrap());
        let (one, two) = (site.lab.host("one").unwrap(), site.lab.host("two").unwrap());
        let web = server.serve_http(WEB, "the internet").unwrap();
        let other_web = other_server.serve_http(WEB, "more of it").unwrap();
        let secret = server.serve_http(SECRET, "database").unwrap();
        let (_echo, own) = (server.serve_echo(ECHO).unwrap(), one.serve_http(WEB, "the exit node's own").unwrap());
        let _paper = printer.serve_http(WEB, "paper").unwrap();
        let v6 = give_ipv6(&laptop_host, &printer);
        let v6_listener = printer.inside(move || std::net::TcpListener::bind(("::", v6.port()))).unwrap().unwrap();
        let [at_home, at_one, at_two] = [home.address(), one.address(), two.address()].map(|it| Some(it.to_string()));
        let seen = || seen_as(&laptop_host, &web, server.at(WEB));

        let before = routing(&laptop_host);
        let _one = join(&site, &one, "exit-one", "tag:exit", &["--advertise-exit-node"]);
        let _two = join(&site, &two, "exit-two", "tag:other", &["--advertise-exit-node"]);
        let mut laptop = join(&site, &laptop_host, "laptop", "tag:laptop", &[]);
        wait_for_exit(&laptop, "exit-one");
        let without = rules(&laptop_host);
        assert_eq!(seen(), at_home, "nobody has chosen an exit node");
        let said = choose(&laptop, "exit-two");
        assert!(said.contains("no exit node") && said.contains("exit-one"), "{said}");
        laptop_host.connect(v6, LIMIT).unwrap();

        let said = choose(&laptop, "exit-one");
        assert!(said.contains("exit-one is the way"), "{said}");
        wait_until(LIMIT, "the way is open", || seen() == at_one).unwrap();
        assert_eq!(seen_as(&laptop_host, &other_web, other_server.at(WEB)), at_one);
        let count = authorized_everywhere(&site);
        assert_eq!(count, 1, "one authorization for all of the Internet");
        let during = rules(&laptop_host);
        assert!(during.contains("proto 119") && during != without, "{during}");
        // The networks that the host is in stay as they are; nothing else passes that no rule allows, nor the family that the
        // exit node does not carry, nor what is private, nor the exit node itself by its address on the Internet.
        laptop_host.http_get(printer.at(WEB), "/", LIMIT).unwrap();
        assert_eq!(seen_as(&laptop_host, &secret, server.at(SECRET)), None);
        let began = Instant::now();
        laptop_host.connect(v6, LIMIT).unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(5), "whoever tries it is told");
        laptop_host.connect("10.1.2.3:80".parse().unwrap(), LIMIT).unwrap_err();
        assert_eq!(seen_as(&laptop_host, &own, one.at(WEB)), None);

        // A crash leaves the way closed, and the next start opens it again as it was.
        laptop.kill().unwrap();
        assert_eq!(seen(), None, "nothing leaks while the agent is dead");
        laptop_host.http_get(printer.at(WEB), "/", LIMIT).unwrap();
        laptop.start().unwrap();
        laptop.wait_connected(LIMIT).unwrap();
        wait_until(LIMIT, "the way is open again", || seen() == at_one).unwrap();
        assert_eq!(rules(&laptop_host), during);

        // A withdrawal cuts what is under way, and opens no other way.
        let flow = laptop_host.flow(server.at(ECHO), Duration::from_millis(20), LIMIT).unwrap();
        wait_until(LIMIT, "lines come back", || flow.report().echoed > 5).unwrap();
        site.operator.set_policy(&policy("443")).unwrap();
        std::thread::sleep(Duration::from_secs(1));
        let echoed = flow.report().echoed;
        std::thread::sleep(NO_ANSWER);
        assert_eq!(flow.report().echoed, echoed, "a flow outlived its permission by a second");
        assert_eq!(seen(), None);
        site.operator.set_policy(&policy("80,7000")).unwrap();

        // Another, approved by hand; then not any more.
        let _: Value = site.operator.json(&["nodes", "approve", "exit-two", "0.0.0.0/0,::/0"]).unwrap();
        wait_for_exit(&laptop, "exit-two");
        choose(&laptop, "exit-two");
        wait_until(LIMIT, "the other way is open", || seen() == at_two).unwrap();
        let _: Value = site.operator.json(&["nodes", "disapprove", "exit-two", "0.0.0.0/0"]).unwrap();
        wait_until(LIMIT, "the exit node is closed", || state(&laptop) == "closed").unwrap();
        assert_eq!(seen(), None);
        let told = String::from_utf8(laptop.try_run(&["status"]).unwrap().stdout).unwrap();
        assert!(told.contains("EXIT NODE exit-two IS NOT THERE"), "{told}");

        choose(&laptop, "off");
        assert_eq!(seen(), at_home);
        laptop_host.connect(v6, LIMIT).unwrap();
        assert_eq!(rules(&laptop_host), without);
        choose(&laptop, "exit-one");
        wait_until(LIMIT, "the first way is open", || seen() == at_one).unwrap();
        laptop.stop().unwrap();
        assert_eq!(routing(&laptop_host), before);
        assert_eq!(seen(), at_home);
        drop(v6_listener);
        site.assert_log_is_sound();
    }
}
