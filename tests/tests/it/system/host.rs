//! What an agent does to its host, what it leaves alone, and what it leaves behind.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use writ_tests::lab::{Host, Nat, Process, wait_until};
use writ_tests::parts::Agent;

use super::{LIMIT, Site};
use crate::lab_test;

const PORT: u16 = 7000;

/// Everything that routes packets on a host.
pub(super) fn routing(host: &Host) -> String {
    let commands = [
        &["ip", "-brief", "link"][..],
        &["ip", "-brief", "address"],
        &["ip", "route", "show", "table", "all"],
        &["ip", "-6", "route", "show", "table", "all"],
        &["ip", "rule"],
        &["ip", "-6", "rule"],
    ];
    let told = commands.iter().map(|command| host.exec(*command).unwrap().stdout);
    let told: String = told.map(|stdout| String::from_utf8(stdout).unwrap()).collect();
    // Link-local addresses come and go with the kernel's search for duplicates.
    told.lines().filter(|line| !line.contains("local fe80::")).map(|line| format!("{line}\n")).collect()
}

/// The same without what is the agent's.
fn routing_of_others(host: &Host) -> Vec<String> {
    routing(host).lines().filter(|line| !line.contains("writ0")).map(str::to_owned).collect()
}

/// An address of an agent in the overlay, of either family.
fn at(agent: &Agent, index: usize) -> SocketAddr {
    let address: IpAddr = agent.status().unwrap()["addresses"][index].as_str().unwrap().parse().unwrap();
    SocketAddr::new(address, PORT)
}

lab_test! {
    fn nothing_of_an_agent_is_left_on_its_host_not_even_after_a_kill_and_both_families_pass() {
        let site = Site::public("host");
        let ticket = site.ticket(2);
        let (host, other_host) = (site.lab.host("here").unwrap(), site.lab.host("there").unwrap());
        let before = routing(&host);
        let mut agent = site.agent(&host, "here", &ticket);
        let other = site.agent(&other_host, "there", &ticket);
        let listener = other_host.inside(|| std::net::TcpListener::bind(("::", PORT))).unwrap().unwrap();
        let targets = [at(&other, 0), at(&other, 1)];
        assert!(targets[0].is_ipv4() && targets[1].is_ipv6());
        let during = routing(&host);
        assert!(during.contains("100.64.0.0/10 dev writ0") && during.contains("/48 dev writ0"), "{during}");
        let is_as_before = || routing(&host) == before;
        for kill in [true, false] {
            for target in targets {
                host.connect(target, LIMIT).unwrap();
            }
            if kill {
                agent.kill().unwrap();
            } else {
                agent.stop().unwrap();
            }
            wait_until(LIMIT, "the host is as it was", is_as_before).unwrap_or_else(|_| {
                panic!("kill {kill}: {before}\n---\n{}", routing(&host));
            });
            agent.start().unwrap();
            agent.wait_connected(LIMIT).unwrap();
        }
        drop(listener);
    }
}

lab_test! {
    fn a_tun_device_that_is_removed_is_made_anew_and_connections_go_on_and_one_that_vanishes_for_ever_ends_the_agent() {
        let site = Site::public("vanish");
        let ticket = site.ticket(2);
        let (host, other_host) = (site.lab.host("here").unwrap(), site.lab.host("there").unwrap());
        let (mut agent, other) = (site.agent(&host, "here", &ticket), site.agent(&other_host, "there", &ticket));
        let _echo = other_host.serve_echo(PORT).unwrap();
        let flow = host.flow(at(&other, 0), Duration::from_millis(20), LIMIT).unwrap();
        let node = other.node().unwrap();
        // It is told as an age, so the moment is not the same to the microsecond.
        let handshake = |agent: &Agent| {
            let peer = agent.peer(&node).unwrap();
            peer["last_handshake"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap()
        };
        let first = handshake(&agent);
        let remove = || assert!(host.exec(["ip", "link", "delete", "writ0"]).unwrap().status.success());
        let is_there = || {
            let told = routing(&host);
            told.contains("100.64.0.0/10 dev writ0") && told.contains("/48 dev writ0")
        };
        for _ in 0..3 {
            remove();
            wait_until(LIMIT, "the device is there again", is_there)
                .unwrap_or_else(|_| panic!("{}", routing(&host)));
        }
        let echoed = flow.report().echoed;
        wait_until(LIMIT, "the connection goes on", || flow.report().echoed > echoed + 10).unwrap();
        let moved = handshake(&agent).duration_since(first).abs();
        assert!(moved < jiff::SignedDuration::from_millis(50), "the tunnel was made anew: {moved}");
        assert!(agent.process().unwrap().stderr().contains("has vanished"));

        remove();
        wait_until(LIMIT, "the agent gives up", || agent.process().unwrap().exit_status().is_some()).unwrap();
        let process = agent.process().unwrap();
        let told = process.stderr();
        assert!(told.contains("vanishes again and again") && told.contains("--tun-name"), "{told}");
        assert_ne!(process.exit_status().unwrap().code(), Some(0), "systemd starts it again after a failure only");
        // And that does it.
        agent.start().unwrap();
        agent.wait_connected(LIMIT).unwrap();
        let echoed = flow.report().echoed;
        wait_until(LIMIT, "the connection goes on after all", || flow.report().echoed > echoed).unwrap();
    }
}

/// An OpenVPN between two hosts, without keys, as what it is beside matters and not what it protects.
fn openvpn(
    host: &Host,
    remote: Ipv4Addr,
    ends: (&str, &str),
    arguments: &[&str],
    routes: &[&str],
) -> Process {
    let mut command = Command::new("openvpn");
    command.args([
        "--dev",
        "vpn0",
        "--dev-type",
        "tun",
        "--proto",
        "udp",
        "--port",
        "1194",
        "--cipher",
        "none",
    ]);
    command
        .args(["--remote", &remote.to_string(), "--ifconfig", ends.0, ends.1, "--ping", "1"])
        .args(arguments);
    for route in routes {
        command.arg("--route").args(route.split(' '));
    }
    host.spawn(&command).unwrap()
}

lab_test! {
    fn another_vpn_keeps_its_routes_whichever_comes_first() {
        let site = Site::public("beside");
        let ticket = site.ticket(2);
        let (host, other_host) = (site.lab.host("here").unwrap(), site.lab.host("there").unwrap());
        let there = "10.9.0.2";
        let _echo = other_host.serve_echo(PORT).unwrap();
        // It takes everything that no nearer route has, as VPNs of companies do.
        let all = ["0.0.0.0 128.0.0.0", "128.0.0.0 128.0.0.0"];
        let _far = openvpn(&other_host, host.address(), ("10.9.0.2", "10.9.0.1"), &[], &[]);
        let mut near = openvpn(&host, other_host.address(), ("10.9.0.1", "10.9.0.2"), &[], &all);
        let through_vpn = SocketAddr::new(there.parse().unwrap(), PORT);
        let passes = |target: SocketAddr| host.connect(target, Duration::from_millis(500)).is_ok();
        wait_until(LIMIT, "the VPN stands", || passes(through_vpn)).unwrap_or_else(|_| panic!("{}{}", near.stdout(), near.stderr()));
        let before = routing_of_others(&host);
        assert!(before.iter().any(|line| line.starts_with("128.0.0.0/1")), "{before:?}");

        let mut agent = site.agent(&host, "here", &ticket);
        let other = site.agent(&other_host, "there", &ticket);
        let through_writ = at(&other, 0);
        host.connect(through_writ, LIMIT).unwrap();
        assert!(passes(through_vpn));
        assert_eq!(routing_of_others(&host), before);
        let to_nowhere = String::from_utf8(host.exec(["ip", "route", "get", "198.51.100.1"]).unwrap().stdout).unwrap();
        assert!(to_nowhere.contains("dev vpn0"), "{to_nowhere}");
        agent.stop().unwrap();
        assert!(passes(through_vpn));
        assert_eq!(routing_of_others(&host), before);

        // The other way round: it comes and goes while the agent runs.
        near.stop().unwrap();
        agent.start().unwrap();
        agent.wait_connected(LIMIT).unwrap();
        near = openvpn(&host, other_host.address(), ("10.9.0.1", "10.9.0.2"), &[], &all);
        wait_until(LIMIT, "the VPN stands again", || passes(through_vpn)).unwrap();
        host.connect(through_writ, LIMIT).unwrap();
        near.stop().unwrap();
        host.connect(through_writ, LIMIT).unwrap();
    }
}

/// The rules of `wg-quick`: everything that does not bear the VPN's mark goes by its table.
const VPN_RULES: &str = "ip route add default dev vpn0 table 51820
    ip rule add not fwmark 51820 table 51820
    ip rule add table main suppress_prefixlength 0";
const NO_VPN_RULES: &str = "ip rule del not fwmark 51820 table 51820
    ip rule del table main suppress_prefixlength 0";

const LEADING_OUT: &str = r#"{
    "tagOwners": { "tag:web": [] },
    "acls": [{ "action": "accept", "src": ["tag:web"], "dst": ["tag:web:*", "autogroup:internet:*"] }],
    "autoApprovers": { "exitNode": ["tag:web"] },
}"#;

lab_test! {
    fn beside_a_vpn_that_takes_everything_by_marks_an_exit_node_stands_back_and_neither_carries_the_other() {
        let site = Site::public("marks");
        site.operator.set_policy(LEADING_OUT).unwrap();
        let ticket = site.ticket(1);
        let home = site.lab.router("home", Nat::PortRestricted).unwrap();
        let (host, exit_host) = (home.host("here").unwrap(), site.lab.host("exit").unwrap());
        let far_host = site.lab.host("far").unwrap();
        let _echo = far_host.serve_echo(PORT).unwrap();
        let run = |script: &str| {
            let output = host.exec(["sh", "-ec", script]).unwrap();
            assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        let way = |mark: &str| run(&format!("ip route get 198.51.100.1 {mark}"));
        // The VPN leads on to everywhere.
        let leads_on = "echo 1 > /proc/sys/net/ipv4/ip_forward
            nft 'table ip nat { chain out { type nat hook postrouting priority srcnat; oifname eth0 masquerade; }; }'";
        assert!(far_host.exec(["sh", "-ec", leads_on]).unwrap().status.success());
        let _far = openvpn(&far_host, home.address(), ("10.9.0.2", "10.9.0.1"), &["--float"], &[]);
        let near = || openvpn(&host, far_host.address(), ("10.9.0.1", "10.9.0.2"), &["--mark", "51820"], &[]);
        let through_vpn = SocketAddr::new("10.9.0.2".parse().unwrap(), PORT);
        let passes = |target: SocketAddr| host.connect(target, Duration::from_millis(500)).is_ok();

        let exit = site.tagged_agent(&exit_host, "exit", "tag:web", &["--advertise-exit-node"]);
        let mut agent = site.agent(&host, "here", &ticket);
        let exit_echo = exit_host.serve_echo(PORT).unwrap();
        let through_writ = at(&exit, 0);
        let may_lead_out = || agent.status().is_ok_and(|status| status["netmap"]["exits"][0].is_object());
        wait_until(LIMIT, "the exit node may be used", may_lead_out).unwrap();

        // It comes after the agent, and goes again.
        let chosen = agent.try_run(&["exit-node", "exit"]).unwrap();
        assert!(chosen.status.success(), "{}", String::from_utf8_lossy(&chosen.stderr));
        assert!(way("").contains("dev writ0 table 87"), "{}", way(""));
        assert!(way("mark 0x1752").contains("dev eth0"), "the agent's own packets stay outside: {}", way("mark 0x1752"));
        let alone = run("ip rule");
        let vpn = near();
        wait_until(LIMIT, "the VPN stands", || passes(through_vpn)).unwrap();
        run(VPN_RULES);
        let both = run("ip rule");
        for _ in 0..2 {
            assert!(way("").contains("dev vpn0"), "it has what it took: {}", way(""));
            assert!(way("mark 51820").contains("dev eth0"), "what it sends is carried by nobody: {}", way("mark 51820"));
            assert!(passes(through_vpn));
            host.connect(through_writ, LIMIT).unwrap();
            assert_eq!(run("ip rule"), both);
            // And the other way round: it is there when the agent comes.
            agent.stop().unwrap();
            assert!(passes(through_vpn));
            agent.start().unwrap();
            agent.wait_connected(LIMIT).unwrap();
        }
        run(NO_VPN_RULES);
        vpn.stop().unwrap();
        assert_eq!(run("ip rule"), alone);
        assert!(way("").contains("dev writ0 table 87"), "{}", way(""));
        let seen_before = exit_echo.visitors().len();
        host.connect(through_writ, LIMIT).unwrap();
        wait_until(LIMIT, "the exit node is reached", || exit_echo.visitors().len() > seen_before).unwrap();
    }
}
