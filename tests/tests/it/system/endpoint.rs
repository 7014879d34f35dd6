//! What the person at an endpoint types, and what they are told.

use std::fs;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use serde_json::Value;
use writ_tests::lab::{Host, wait_until};
use writ_tests::parts::Agent;

use super::documents::commands;
use super::{LIMIT, NO_ANSWER, Site};
use crate::lab_test;

const WEB: u16 = 443;

const POLICY: &str = r#"{
    "tagOwners": { "tag:web": [] },
    "acls": [{ "action": "accept", "src": ["tag:web"], "dst": ["tag:web:443", "tag:web:1000-2000"] }],
}"#;

/// The same, and every node may lead to the Internet.
const LEADING_OUT: &str = r#"{
    "tagOwners": { "tag:web": [] },
    "acls": [{
        "action": "accept", "src": ["tag:web"],
        "dst": ["tag:web:443", "tag:web:1000-2000", "autogroup:internet:443"],
    }],
    "autoApprovers": { "exitNode": ["tag:web"] },
}"#;

struct Pair {
    site: Site,
    here: Agent,
    other: Agent,
    host: Host,
    other_host: Host,
}

fn pair(name: &str) -> Pair {
    let site = Site::public(name);
    site.operator.set_policy(POLICY).unwrap();
    let ticket = site.ticket(2);
    let (host, other_host) = (site.lab.host("here").unwrap(), site.lab.host("there").unwrap());
    let here = site.agent(&host, "here", &ticket);
    let other = site.agent(&other_host, "other", &ticket);
    Pair { site, here, other, host, other_host }
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

fn printed(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// What a command prints for programs, and its exit code.
fn json(agent: &Agent, args: &[&str]) -> (i32, Value) {
    let output = agent.try_run(&[args, &["--json"]].concat()).unwrap();
    let value = serde_json::from_slice(&output.stdout);
    (code(&output), value.unwrap_or_else(|error| panic!("{args:?}: {error}: {}", printed(&output))))
}

lab_test! {
    fn a_person_learns_who_is_there_and_why_and_why_not() {
        let Pair { site, here, other, host, other_host } = pair("person");
        let _web = other_host.serve_echo(WEB).unwrap();
        let size = |site: &Site| site.control.records().unwrap().len();

        // Before anything is connected.
        let knows_the_other = || json(&here, &["peers"]).1["reachable"].as_array().is_some_and(|it| !it.is_empty());
        wait_until(LIMIT, "the netmap names the other", knows_the_other).unwrap();
        let (exit, peers) = json(&here, &["peers"]);
        assert_eq!((exit, peers["peers"].as_array().unwrap().len()), (0, 0));
        assert_eq!(peers["reachable"][0]["node"]["name"], "other", "{peers:#}");
        let records = size(&site);
        let (exit, why) = json(&here, &["why", "other:443"]);
        let answer = &why["answers"][0];
        assert_eq!((exit, &answer["allowed"], &answer["rule"]), (0, &true.into(), &"acls[0]".into()));
        assert!(answer["explanation"].as_str().unwrap().contains("the source is named by tag:web"), "{why:#}");
        let (exit, why) = json(&here, &["why", "OTHER.person:22"]);
        assert_eq!((exit, &why["answers"][0]["denied"]), (5, &"no_rule".into()), "{why:#}");
        let lacks = why["answers"][0]["explanation"].as_str().unwrap();
        assert!(lacks.contains("acls[0]: it is for port 443 only"), "{lacks}");
        let (exit, why) = json(&here, &["why", "other"]);
        let services: Vec<_> = why["answers"].as_array().unwrap().iter().map(|answer| &answer["port"]).collect();
        assert!(exit == 0 && services.contains(&&443.into()) && services.contains(&&1000.into()), "{why:#}");
        let (exit, why) = json(&here, &["why", "nobody"]);
        assert_eq!((exit, &why["answers"][0]["denied"]), (5, &"unknown_destination".into()), "{why:#}");
        assert_eq!(size(&site), records, "a question was recorded");
        let (exit, trace) = json(&here, &["trace", "self", "other:443"]);
        assert_eq!((exit, &trace["verdict"]), (5, &"asked".into()), "{trace:#}");

        // And while it is in use.
        let flow = host.flow(other.at(WEB).unwrap(), Duration::from_millis(20), LIMIT).unwrap();
        let is_direct = || here.status().is_ok_and(|status| status["peers"][0]["path"]["kind"] == "direct");
        wait_until(LIMIT, "the path is direct", is_direct).unwrap();
        let (_, peers) = json(&here, &["peers"]);
        let peer = &peers["peers"][0];
        let held = &peer["authorizations"][0];
        for (what, there) in [
            ("record", held["record"].as_u64().is_some_and(|record| record > 0)),
            ("expiry", held["expires_at"].is_string()),
            ("latency", peer["path"]["rtt_ms"].is_number()),
            ("bytes", peer["bytes_received"].as_u64().is_some_and(|bytes| bytes > 0)),
            ("handshake", peer["last_handshake"].is_string()),
        ] {
            assert!(there, "{what}: {peer:#}");
        }
        let (exit, trace) = json(&here, &["trace", "self", "other:443"]);
        assert_eq!((exit, &trace["verdict"]), (0, &"admitted".into()), "{trace:#}");
        assert_eq!(trace["authorization"]["record"], held["record"]);
        let (exit, trace) = json(&other, &["trace", "here:50000", "self:443"]);
        assert_eq!((exit, &trace["direction"], &trace["verdict"]), (0, &"in".into(), &"admitted".into()));
        let (exit, trace) = json(&other, &["trace", "here:50000", "self:22"]);
        assert_eq!((exit, &trace["verdict"]), (5, &"refused".into()), "{trace:#}");
        assert!(trace["grants"][0]["lacks"].is_string(), "{trace:#}");
        let (_, why) = json(&here, &["why", "other:443"]);
        assert_eq!(why["answers"][0]["authorizations"][0]["record"], held["record"], "{why:#}");
        assert_eq!(why["answers"][0]["path"]["kind"], "direct", "{why:#}");
        drop(flow);
    }
}

lab_test! {
    fn a_path_that_is_relayed_says_why() {
        let Pair { site: _site, here, other, host, other_host } = pair("relayed");
        let _web = other_host.serve_echo(WEB).unwrap();
        // They reach the control plane and its relay, and not each other.
        let (a, b) = (host.address(), other_host.address());
        for (host, other) in [(&host, b), (&other_host, a)] {
            let rule = format!("add table ip cut; add chain ip cut in {{ type filter hook input priority 0; }}; add rule ip cut in ip saddr {other} drop");
            assert!(host.exec(["nft", &rule]).unwrap().status.success());
        }
        let _flow = host.flow(other.at(WEB).unwrap(), Duration::from_millis(50), LIMIT).unwrap();
        let (_, peers) = json(&here, &["peers"]);
        let why = peers["peers"][0]["path"]["why_relayed"].as_str().unwrap_or_default();
        assert!(why.contains("has answered a probe"), "{peers:#}");
        let (_, why) = json(&here, &["why", "other:443"]);
        assert!(why["answers"][0]["path"]["why_relayed"].is_string(), "{why:#}");
        let shown = printed(&here.try_run(&["status"]).unwrap());
        assert!(shown.contains("path: relayed via") && shown.contains("not direct because"), "{shown}");
    }
}

lab_test! {
    fn a_check_names_what_stands_in_the_way() {
        let mut pair = pair("check");
        let (exit, findings) = json(&pair.here, &["check"]);
        let health = |findings: &Value, check: &str| {
            let finding = findings.as_array().unwrap().iter().find(|finding| finding["check"] == check);
            finding.map(|finding| finding["health"].as_str().unwrap().to_owned()).unwrap_or_default()
        };
        assert_eq!(exit, 0, "{findings:#}");
        for check in ["clock", "session", "log", "udp", "nat", "relay", "mtu"] {
            assert_eq!(health(&findings, check), "ok", "{findings:#}");
        }
        pair.site.control.kill().unwrap();
        let is_down = || pair.here.status().is_ok_and(|status| status["session"] == "connecting");
        wait_until(LIMIT, "the session is gone", is_down).unwrap();
        let (exit, findings) = json(&pair.here, &["check"]);
        assert_eq!((exit, health(&findings, "session").as_str()), (5, "failed"), "{findings:#}");
        let output = pair.here.try_run(&["why", "other:443"]).unwrap();
        let told = printed(&output);
        assert!(code(&output) == 1 && told.contains("there is no session with it"), "{told}");
    }
}

lab_test! {
    fn an_agent_that_does_not_run_or_is_anothers_says_what_to_do() {
        let mut pair = pair("absent");
        // Somebody else: not even root may pass, so that root can test it.
        let folder = pair.here.state().to_owned();
        let as_nobody = |args: &str| {
            let program = writ_tests::programs::find(&writ_tests::programs::built().unwrap(), "writ-agent").unwrap();
            let command = format!("{} {args} --state {}", program.display(), folder.display());
            pair.host.exec(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", &command])
        };
        let refused = as_nobody("status").unwrap();
        if code(&refused) != 127 && code(&refused) != 126 {
            let told = printed(&refused);
            assert!(code(&refused) == 4 && told.contains("try it with sudo"), "{}: {told}", code(&refused));
        }

        let logs = printed(&pair.here.try_run(&["logs"]).unwrap());
        assert!(logs.contains("joined"), "{logs}");
        let ticket = fs::read_to_string(folder.join("enrolment-key")).unwrap_or_default();
        assert!(!ticket.is_empty() && !logs.contains(ticket.trim()), "a secret is in the log lines");
        let (exit, last) = json(&pair.here, &["logs", "--lines", "1"]);
        assert!(exit == 0 && last["text"].is_string(), "{last:#}");

        let stopped = pair.here.try_run(&["down"]).unwrap();
        assert_eq!(code(&stopped), 0, "{}", printed(&stopped));
        // It is gone when the command has ended.
        for args in [vec!["status"], vec!["why", "other:443"], vec!["check"], vec!["logs", "--follow"], vec!["down"]] {
            let output = pair.here.try_run(&args).unwrap();
            let told = printed(&output);
            assert!(code(&output) == 3 && told.contains("writ-agent up"), "{args:?}: {told}");
            let (exit, told) = json(&pair.here, &args);
            assert_eq!((exit, &told["error"]), (3, &"not_running".into()), "{told:#}");
        }
        assert!(pair.here.host().exec(["ip", "link", "show", "writ0"]).is_ok_and(|output| !output.status.success()));
        pair.here.stop().unwrap();
    }
}

lab_test! {
    fn every_command_of_the_agents_page_does_what_it_says() {
        let mut pair = pair("page");
        pair.site.operator.set_policy(LEADING_OUT).unwrap();
        pair.other.stop().unwrap();
        pair.other.set_arguments(&["--advertise-exit-node"]);
        pair.other.start().unwrap();
        let may_lead_out = || pair.here.status().is_ok_and(|status| status["netmap"]["exits"][0].is_object());
        wait_until(LIMIT, "the other is an exit node", may_lead_out).unwrap();
        let _web = pair.other_host.serve_echo(WEB).unwrap();
        let _flow = pair.host.flow(pair.other.at(WEB).unwrap(), Duration::from_millis(50), LIMIT).unwrap();
        assert!(pair.host.connect(pair.other.at(22).unwrap(), NO_ANSWER).is_err());
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("services/agent/README.md");
        let mut ran = 0;
        for command in commands(&fs::read_to_string(page).unwrap()) {
            let words: Vec<_> = command.split_whitespace().collect();
            let ["writ-agent", args @ ..] = &words[..] else { panic!("{command}") };
            // The agents of this test were brought up by it.
            if args[0] == "up" {
                continue;
            }
            let output = pair.here.try_run(args).unwrap();
            let told = printed(&output);
            assert!(matches!(code(&output), 0 | 5) && !told.is_empty(), "{command}: {}: {told}", code(&output));
            ran += 1;
        }
        assert!(ran >= 10, "{ran}");
        pair.here.stop().unwrap();
    }
}

lab_test! {
    fn nodes_are_found_by_name_and_nothing_else_is_answered() {
        let Pair { site, here, other, host, .. } = pair("corp");
        let server = format!("@{}", here.address().unwrap());
        let dig = |args: &[&str]| {
            let command = [&["dig", server.as_str(), "+time=2", "+tries=2"], args].concat();
            String::from_utf8(host.exec(command).unwrap().stdout).unwrap()
        };
        let addresses: Vec<_> = (0..2).map(|at| other.status().unwrap()["addresses"][at].as_str().unwrap().to_owned()).collect();
        wait_until(LIMIT, "the name is known", || dig(&["+short", "other.corp", "A"]).trim() == addresses[0]).unwrap();
        assert_eq!(dig(&["+short", "other.corp", "AAAA"]).trim(), addresses[1]);
        for address in &addresses {
            assert_eq!(dig(&["+short", "-x", address]).trim(), "other.corp.");
        }
        assert!(dig(&["nobody.corp", "A"]).contains("status: NXDOMAIN"));
        assert!(dig(&["www.example.org", "A"]).contains("status: REFUSED"));

        // By the C library, on a host that was told as the page says.
        let folder = site.lab.directory().join("etc");
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("resolv.conf");
        fs::write(&file, format!("nameserver {}\n", here.address().unwrap())).unwrap();
        let command = format!("mount --bind {} /etc/resolv.conf && getent ahostsv4 other.corp", file.display());
        let found = printed(&host.exec(["unshare", "--mount", "sh", "-c", &command]).unwrap());
        assert!(found.starts_with(&addresses[0]), "{found}");

        // A name goes with the permission to reach its node.
        site.operator.set_policy(r#"{"tagOwners": {"tag:web": []}, "acls": []}"#).unwrap();
        wait_until(LIMIT, "the name is gone", || dig(&["other.corp", "A"]).contains("status: NXDOMAIN")).unwrap();
    }
}
