//! Hosts: they reach whom they should, count what reaches them, and run programs inside.

use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use writ_tests::lab::{Lab, Nat, Transport, scene, wait_for, wait_until};

use crate::lab_test;

const LIMIT: Duration = Duration::from_secs(5);
const NO_ANSWER: Duration = Duration::from_millis(300);

lab_test! {
    fn hosts_in_one_lan_reach_each_other_and_the_internet_but_nobody_reaches_in() {
        let lab = Lab::new("hosts").unwrap();
        let public = lab.host("public").unwrap();
        let router = lab.router("office", Nat::PortRestricted).unwrap();
        let (one, two) = (router.host("one").unwrap(), router.host("two").unwrap());
        let inside = two.serve_http(80, "inside").unwrap();
        let outside = public.serve_http(80, "outside").unwrap();

        assert_eq!(one.http_get(two.at(80), "/", LIMIT).unwrap().body, "inside\n");
        assert_eq!(one.http_get(public.at(80), "/", LIMIT).unwrap().body, "outside\n");
        assert_eq!(inside.visitors(), [one.address()]);
        assert_eq!(outside.visitors(), [router.address()], "the NAT hides the host");

        assert!(public.connect(two.at(80), NO_ANSWER).is_err());
        assert!(public.connect((router.address(), 80).into(), NO_ANSWER).is_err());
        assert_eq!(inside.visitors().len(), 1);
    }
}

lab_test! {
    fn a_counter_counts_its_port_and_no_other() {
        let lab = Lab::new("count").unwrap();
        let (client, server) = (lab.host("client").unwrap(), lab.host("server").unwrap());
        let counter = server.count(Transport::Tcp, 5432).unwrap();
        let _echo = (server.serve_echo(5432).unwrap(), server.serve_echo(5433).unwrap());
        drop(client.connect(server.at(5433), LIMIT).unwrap());
        assert_eq!(counter.read().unwrap().packets, 0);
        drop(client.connect(server.at(5432), LIMIT).unwrap());
        assert!(counter.read().unwrap().packets >= 2, "a SYN and an ACK at least");
    }
}

lab_test! {
    fn a_counter_also_sees_what_nobody_listens_for() {
        let lab = Lab::new("refused").unwrap();
        let (client, server) = (lab.host("client").unwrap(), lab.host("server").unwrap());
        let counter = server.count(Transport::Tcp, 5432).unwrap();
        assert!(client.connect(server.at(5432), LIMIT).is_err());
        assert_eq!(counter.read().unwrap().packets, 1);
    }
}

lab_test! {
    fn a_program_runs_inside_and_ends_when_asked() {
        let lab = Lab::new("program").unwrap();
        let host = lab.host("host").unwrap();
        let mut sleeper = Command::new("sh");
        sleeper.args(["-c", "echo \"$GREETING\"; ip -brief address show eth0; exec sleep 1000"]);
        let program = host.spawn(sleeper.env("GREETING", "hello")).unwrap();
        wait_until(LIMIT, "the program prints", || program.stdout().lines().count() == 2).unwrap();
        let text = program.stdout();
        assert!(text.starts_with("hello\n") && text.contains(&host.address().to_string()), "{text}");
        assert_eq!(program.exit_status(), None);
        assert!(!program.stop().unwrap().success());

        let output = host.exec(["sh", "-c", "echo failed >&2; exit 3"]).unwrap();
        assert_eq!((output.status.code(), output.stderr), (Some(3), b"failed\n".to_vec()));
        assert!(host.exec(["/nowhere/program"]).unwrap_err().to_string().contains("/nowhere/program"));
    }
}

lab_test! {
    fn what_a_program_started_ends_with_it() {
        let lab = Lab::new("group").unwrap();
        let host = lab.host("host").unwrap();
        let mut parent = Command::new("sh");
        parent.args(["-c", "trap '' TERM; sleep 1000 & echo $!; wait"]);
        let program = host.spawn(&parent).unwrap();
        let child = wait_for(LIMIT, "the child starts", || program.stdout().trim().parse::<i32>()).unwrap();
        program.signal(Signal::SIGKILL);
        program.wait(LIMIT).unwrap();
        let stat = || std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        wait_until(LIMIT, "the child is gone", || !stat().contains(") S ")).unwrap();
    }
}

lab_test! {
    fn a_host_off_its_cable_is_reached_by_nobody_until_it_is_back() {
        let lab = Lab::new("cable").unwrap();
        let (client, server) = (lab.host("client").unwrap(), lab.host("server").unwrap());
        let _echo = server.serve_echo(7).unwrap();
        server.set_connected(false).unwrap();
        assert!(client.connect(server.at(7), NO_ANSWER).is_err());
        server.set_connected(true).unwrap();
        client.connect(server.at(7), LIMIT).unwrap();
    }
}

lab_test! {
    fn a_forwarder_carries_the_loopback_into_the_lab() {
        let lab = Lab::new("forward").unwrap();
        let host = lab.host("host").unwrap();
        let _web = host.serve_http(80, "from within").unwrap();
        let target = "127.0.0.1:80".parse().unwrap();
        let forward = lab.forward("127.0.0.1:0".parse().unwrap(), &host, target).unwrap();
        let url = format!("http://{}/bytes/300000", forward.address());
        let output = Command::new("curl").args(["--silent", "--noproxy", "*", &url]).output().unwrap();
        assert_eq!(output.stdout.len(), 300_000);
        let refused = lab.forward("0.0.0.0:0".parse().unwrap(), &host, target).unwrap_err().to_string();
        assert!(refused.contains("not on the loopback"), "{refused}");
    }
}

lab_test! {
    fn a_flow_notices_silence() {
        let scene = scene().unwrap();
        let server = scene.production.at(scene.database.port());
        let flow = scene.staging.flow(server, Duration::from_millis(5), LIMIT).unwrap();
        wait_until(LIMIT, "lines come back", || flow.report().echoed > 5).unwrap();
        let cut = format!("add table ip cut; add chain ip cut in {{ type filter hook input priority 0; }};
            add rule ip cut in tcp dport {} drop", scene.database.port());
        assert!(scene.production.exec(["nft", &cut]).unwrap().status.success());
        let silent = || flow.report().silent_for > Duration::from_millis(400);
        wait_until(LIMIT, "the flow is silent", silent).unwrap();
        let before = flow.report();
        assert!(scene.production.exec(["nft", "delete table ip cut"]).unwrap().status.success());
        wait_until(LIMIT, "it goes on", || flow.report().echoed > before.echoed).unwrap();
        let after = flow.report();
        assert!(after.ended.is_none() && after.longest_silence >= before.silent_for, "{after:?}");
        assert!(scene.database_packets.read().unwrap().packets > 5);
    }
}
