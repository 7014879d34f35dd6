//! An office behind two gateways: servers that run no agent are reached through them, by those whom the policy lets.

use std::time::Duration;

use writ_tests::lab::{Host, Nat, wait_until};
use writ_tests::parts::Agent;

use super::{LIMIT, NO_ANSWER, Site};
use crate::lab_test;

const WEB: u16 = 80;
const ECHO: u16 = 7000;
const SECRET: u16 = 5432;
/// Offered too, and approved by no policy.
const UNASKED: &str = "10.99.0.0/24";

/// Laptops reach the office's web and echo servers. Gateways may lead to it.
fn policy(office: &str, ports: &str) -> String {
    format!(
        r#"{{ "tagOwners": {{ "tag:laptop": [], "tag:gateway": [] }},
              "hosts": {{ "office": "{office}" }},
              "acls": [{{ "action": "accept", "src": ["tag:laptop"], "dst": ["office:{ports}"] }}],
              "autoApprovers": {{ "routes": {{ "{office}": ["tag:gateway"] }} }} }}"#
    )
}

fn tables(host: &Host) -> String {
    let output = host.exec(["nft", "list", "tables"]).unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn is_carried(agent: &Agent, prefix: &str) -> bool {
    let status = agent.status().unwrap_or_default();
    let routes = status["advertised_routes"].as_array().cloned().unwrap_or_default();
    routes.iter().any(|route| route["prefix"] == prefix && route["approved"] == true)
}

lab_test! {
    fn a_server_without_an_agent_is_reached_through_a_gateway_and_through_another_when_that_dies() {
        let mut site = Site::public("office");
        let office = site.lab.router("office", Nat::PortRestricted).unwrap();
        let home = site.lab.router("home", Nat::PortRestricted).unwrap();
        let server = office.host("server").unwrap();
        let [a, b, c, _] = server.address().octets();
        let prefix = format!("{a}.{b}.{c}.0/24");
        site.operator.set_policy(&policy(&prefix, "80,7000")).unwrap();
        let (web, _echo) = (server.serve_http(WEB, "intranet").unwrap(), server.serve_echo(ECHO).unwrap());
        let _secret = server.serve_http(SECRET, "database").unwrap();
        let gates: Vec<Host> = ["one", "two"].map(|name| office.host(&format!("gate-{name}")).unwrap()).into();
        let offered = format!("{prefix},{UNASKED}");
        let advertise = ["--advertise-routes", offered.as_str()];
        let mut gateways: Vec<Agent> = gates
            .iter()
            .zip(["one", "two"])
            .map(|(host, name)| site.tagged_agent(host, &format!("gateway-{name}"), "tag:gateway", &advertise))
            .collect();
        let laptop_host = home.host("laptop").unwrap();
        let mut laptop = site.tagged_agent(&laptop_host, "laptop", "tag:laptop", &[]);
        for gateway in &gateways {
            wait_until(LIMIT, "the policy approves", || is_carried(gateway, &prefix)).unwrap();
        }
        let reached = || laptop.status().is_ok_and(|status| status["reached_routes"][0] == prefix);
        wait_until(LIMIT, "the laptop has the route", reached).unwrap();

        // What no policy approves waits for an administrator.
        assert!(!is_carried(&gateways[0], UNASKED));
        for (act, carried) in [("approve", true), ("disapprove", false)] {
            let _: serde_json::Value = site.operator.json(&["nodes", act, "gateway-one", UNASKED]).unwrap();
            wait_until(LIMIT, act, || is_carried(&gateways[0], UNASKED) == carried).unwrap();
        }

        let answer = laptop_host.http_get(server.at(WEB), "/", LIMIT).unwrap();
        assert_eq!(answer.body, "intranet\n");
        let visitor = web.visitors().pop().unwrap();
        assert!(gates.iter().any(|gate| visitor == gate.address()), "{visitor} is no gateway");
        laptop_host.http_get(server.at(SECRET), "/", NO_ANSWER).unwrap_err();
        // Nor does a neighbour of the gateway get anywhere by it.
        let gate = gates.iter().find(|gate| visitor == gate.address()).unwrap();
        let via = gate.address().to_string();
        server.exec(["ip", "route", "add", "100.64.0.0/10", "via", &via]).unwrap();
        let _local = laptop_host.serve_http(WEB, "a laptop").unwrap();
        server.http_get(laptop.at(WEB).unwrap(), "/", NO_ANSWER).unwrap_err();

        // The gateway that is in use is cut off, and cannot say so. The next connection goes through the other.
        let (dead, other) = if visitor == gates[0].address() { (0, 1) } else { (1, 0) };
        gates[dead].set_connected(false).unwrap();
        let answers = || laptop_host.http_get(server.at(WEB), "/", Duration::from_secs(1)).is_ok();
        wait_until(LIMIT, "the other gateway takes over", answers).unwrap();
        assert_eq!(web.visitors().pop().unwrap(), gates[other].address());

        // Without a control plane, what is authorized goes on, after a restart of the agent too.
        site.control.stop().unwrap();
        laptop.kill().unwrap();
        laptop.start().unwrap();
        wait_until(LIMIT, "the laptop goes on alone", answers).unwrap();
        site.control.start().unwrap();
        laptop.wait_connected(LIMIT).unwrap();
        gateways[other].wait_connected(LIMIT).unwrap();

        // A flow through a gateway is cut with the rule that let it.
        let flow = laptop_host.flow(server.at(ECHO), Duration::from_millis(20), LIMIT).unwrap();
        wait_until(LIMIT, "lines come back", || flow.report().echoed > 5).unwrap();
        site.operator.set_policy(&policy(&prefix, "80")).unwrap();
        std::thread::sleep(Duration::from_secs(1));
        let echoed = flow.report().echoed;
        std::thread::sleep(NO_ANSWER);
        assert_eq!(flow.report().echoed, echoed, "a flow outlived its permission by a second");
        assert!(answers(), "what is still allowed goes on");

        // Nothing is left behind: at the end, nor after a crash once the agent runs again.
        gateways[other].stop().unwrap();
        assert!(!tables(&gates[other]).contains("writ"), "{}", tables(&gates[other]));
        gateways[dead].kill().unwrap();
        gates[dead].set_connected(true).unwrap();
        assert!(tables(&gates[dead]).contains("writ"), "a crash leaves the rules, for the next start to mend");
        gateways[dead].set_arguments(&[]);
        gateways[dead].start().unwrap();
        gateways[dead].wait_connected(LIMIT).unwrap();
        assert!(!tables(&gates[dead]).contains("writ"), "{}", tables(&gates[dead]));
        site.assert_log_is_sound();
    }
}
