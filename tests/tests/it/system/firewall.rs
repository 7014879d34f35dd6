//! Hosts whose own firewall has its say in what is forwarded, and containers on them.

use std::time::Duration;

use serde_json::Value;
use writ_tests::lab::{Host, Nat, wait_until};
use writ_tests::parts::Agent;

use super::{LIMIT, NO_ANSWER, Site};
use crate::lab_test;

const WEB: u16 = 80;
const ECHO: u16 = 7000;

/// What Docker sets up, beside chains of its own: whatever no rule lets pass is dropped.
const DOCKER: &str = "table ip filter {
    chain FORWARD { type filter hook forward priority filter; policy drop;
        iifname \"docker0\" accept;
        oifname \"docker0\" ct state established,related accept; }
}
table ip nat {
    chain POSTROUTING { type nat hook postrouting priority srcnat;
        ip saddr 172.17.0.0/16 oifname != \"docker0\" masquerade; }
}
";

fn run(host: &Host, script: &str) {
    let output = host.exec(["sh", "-ec", script]).unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

fn docker(host: &Host) {
    run(host, &format!("echo '{DOCKER}' | nft -f -"));
}

/// Puts somebody into a network behind a bridge on a host, as Docker does with a container.
fn contain(host: &Host, container: &Host) {
    let inside = container.namespace();
    container.set_connected(false).unwrap();
    run(container, "ip address flush dev eth0");
    run(
        host,
        &format!(
            "ip link add docker0 type bridge && ip address add 172.17.0.1/16 dev docker0 && ip link set docker0 up
             ip link add veth0 type veth peer name inside netns {inside}
             ip link set veth0 master docker0 up && echo 1 > /proc/sys/net/ipv4/ip_forward"
        ),
    );
    run(
        container,
        "ip address add 172.17.0.2/16 dev inside && ip link set inside up && ip route add default via 172.17.0.1",
    );
}

fn policy(office: &str, ports: &str) -> String {
    format!(
        r#"{{ "tagOwners": {{ "tag:laptop": [], "tag:gateway": [] }},
              "hosts": {{ "office": "{office}" }},
              "acls": [{{ "action": "accept", "src": ["tag:laptop"], "dst": ["office:{ports}", "tag:gateway:{ports}"] }}],
              "autoApprovers": {{ "routes": {{ "{office}": ["tag:gateway"] }} }} }}"#
    )
}

fn finding(agent: &Agent) -> Value {
    let checked = agent.try_run(&["check", "--json"]).unwrap();
    let findings: Value = serde_json::from_slice(&checked.stdout).unwrap();
    let mut findings = findings.as_array().unwrap().iter();
    findings.find(|finding| finding["check"] == "forward").cloned().unwrap_or_default()
}

lab_test! {
    fn a_firewall_that_drops_what_is_forwarded_is_named_with_what_to_do_and_that_helps() {
        let site = Site::public("firewall");
        let office = site.lab.router("office", Nat::PortRestricted).unwrap();
        let (server, gate) = (office.host("server").unwrap(), office.host("gate").unwrap());
        let [a, b, c, _] = server.address().octets();
        let prefix = format!("{a}.{b}.{c}.0/24");
        site.operator.set_policy(&policy(&prefix, "80,7000")).unwrap();
        let _web = server.serve_http(WEB, "intranet").unwrap();
        docker(&gate);
        let gateway = site.tagged_agent(&gate, "gateway", "tag:gateway", &["--advertise-routes", &prefix]);
        let laptop_host = site.lab.host("laptop").unwrap();
        let laptop = site.tagged_agent(&laptop_host, "laptop", "tag:laptop", &[]);
        assert_eq!(finding(&laptop), Value::Null, "it carries nothing");
        let reached = || laptop.status().is_ok_and(|status| status["reached_routes"][0] == prefix);
        wait_until(LIMIT, "the laptop has the route", reached).unwrap();
        laptop_host.http_get(server.at(WEB), "/", NO_ANSWER).unwrap_err();

        let told = finding(&gateway);
        assert_eq!(told["health"], "failed", "{told}");
        assert!(told["found"].as_str().unwrap().contains("FORWARD of ip filter"), "{told}");
        let status = gateway.status().unwrap();
        assert_eq!(status["dropping_chains"][0]["chain"], "FORWARD", "{status:#}");
        let told = String::from_utf8(gateway.try_run(&["status"]).unwrap().stdout).unwrap();
        let remedy = told.lines().find_map(|line| line.trim().strip_prefix("to let it pass: ")).unwrap();
        run(&gate, remedy);
        assert_eq!(laptop_host.http_get(server.at(WEB), "/", LIMIT).unwrap().body, "intranet\n");
        assert_eq!(finding(&gateway)["health"], "ok");
    }
}

lab_test! {
    fn a_withdrawal_cuts_what_a_container_has_under_way_to_a_node_and_behind_one() {
        let site = Site::public("container");
        let office = site.lab.router("office", Nat::PortRestricted).unwrap();
        let (server, gate) = (office.host("server").unwrap(), office.host("gate").unwrap());
        let [a, b, c, _] = server.address().octets();
        let prefix = format!("{a}.{b}.{c}.0/24");
        site.operator.set_policy(&policy(&prefix, "7000")).unwrap();
        let (_there, _at_gate) = (server.serve_echo(ECHO).unwrap(), gate.serve_echo(ECHO).unwrap());
        let gateway = site.tagged_agent(&gate, "gateway", "tag:gateway", &["--advertise-routes", &prefix]);
        let (laptop_host, container) = (site.lab.host("laptop").unwrap(), site.lab.host("container").unwrap());
        docker(&laptop_host);
        contain(&laptop_host, &container);
        let laptop = site.tagged_agent(&laptop_host, "laptop", "tag:laptop", &[]);
        let reached = || laptop.status().is_ok_and(|status| status["reached_routes"][0] == prefix);
        wait_until(LIMIT, "the laptop has the route", reached).unwrap();

        let targets = [gateway.at(ECHO).unwrap(), server.at(ECHO)];
        let flows = targets.map(|target| container.flow(target, Duration::from_millis(20), LIMIT).unwrap());
        for flow in &flows {
            wait_until(LIMIT, "lines come back", || flow.report().echoed > 5).unwrap();
        }
        site.operator.set_policy(&policy(&prefix, "443")).unwrap();
        std::thread::sleep(Duration::from_secs(1));
        let echoed = flows.each_ref().map(|flow| flow.report().echoed);
        std::thread::sleep(NO_ANSWER);
        assert_eq!(flows.map(|flow| flow.report().echoed), echoed, "a flow outlived its permission by a second");
        for target in targets {
            container.connect(target, NO_ANSWER).unwrap_err();
        }
        site.assert_log_is_sound();
    }
}
