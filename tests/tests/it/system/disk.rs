//! A disk that is full: said clearly, nothing half written, and on it goes when there is room.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use writ_ledger::{VerifierKey, verify_log};
use writ_schema::protocol::EnrolmentTicket;
use writ_tests::lab::{Host, Lab, Process, wait_for, wait_until};
use writ_tests::load::{Joined, Node};
use writ_tests::parts::{ControlPlane, Operator, Owner, Programs, Settings, Web};
use writ_tests::programs::{built, find};

use super::{BY_PORT, LIMIT, NO_ANSWER, OPEN, OTHER_PORT, PORT, Site, run_in};
use crate::lab_test;

lab_test! {
    fn a_full_disk_refuses_clearly_and_goes_on_when_there_is_room() {
        let lab = Lab::new("disk").unwrap();
        let host = lab.host("control").unwrap();
        let data = lab.directory().join("data");
        let settings = Settings::at("disk", std::net::Ipv4Addr::LOCALHOST);
        let mut control = ControlPlane::create(&Programs::built().unwrap(), &host, &data, settings).unwrap();
        let operator = Operator::sign_in(&control).unwrap();
        operator.set_policy(OPEN).unwrap();
        let ticket = operator.enrolment_key(Owner::Tag("tag:web"), 1000).unwrap();
        let key = control.log_key().unwrap();
        control.stop().unwrap();

        let small = SmallDisk::start(&control, &data);
        let web = control.web().unwrap();
        small.wait_ready(&web);
        assert_eq!(join(&host, &ticket, "before"), Ok(()));

        fill(&small.data);
        let refused = (0..50).map(|number| join(&host, &ticket, &format!("full-{number}"))).find(Result::is_err);
        let (status, error) = refused.expect("joins went on with no room on the disk").unwrap_err();
        assert_eq!(status, 503, "{error}");
        let ready = web.get("/readyz").unwrap();
        assert_eq!(ready.status, 503, "it calls itself ready: {}", ready.body);
        assert_eq!(web.get("/healthz").unwrap().status, 200);
        small.assert_log_is_sound(&key);

        empty(&small.data);
        wait_for(LIMIT, "joins go on", || join(&host, &ticket, "after")
            .map_err(|(status, error)| format!("{status} {error}"))).unwrap();
        small.wait_ready(&web);
        small.process.stop().unwrap();
    }
}

lab_test! {
    fn an_agent_whose_disk_is_full_keeps_what_is_live_takes_nothing_new_says_so_and_goes_on_when_there_is_room() {
        let site = Site::public("agent-disk");
        site.operator.set_policy(BY_PORT).unwrap();
        let ticket = site.ticket(2);
        let (host, other_host) = (site.lab.host("here").unwrap(), site.lab.host("there").unwrap());
        let (mut agent, other) = (site.agent(&host, "here", &ticket), site.agent(&other_host, "there", &ticket));
        let _servers = [PORT, OTHER_PORT].map(|port| other_host.serve_echo(port).unwrap());
        let (open, beyond) = (other.at(PORT).unwrap(), other.at(OTHER_PORT).unwrap());
        agent.stop().unwrap();
        let folder = agent.state().display().to_string();
        agent.see(
            &format!(
                "set -e; mkdir '{folder}.small'; mount -t tmpfs -o size=512k,mode=700 tmpfs '{folder}.small'
                cp -a '{folder}/.' '{folder}.small/'; mount --move '{folder}.small' '{folder}'"
            ),
            "off",
        );
        agent.start().unwrap();
        let disk = inside(agent.process().unwrap(), agent.state());
        let program = find(&built().unwrap(), "writ-agent").unwrap();
        let status = || -> Value {
            let command = ["status", "--json", "--state", disk.to_str().unwrap()];
            let output = host.exec([program.to_str().unwrap()].iter().chain(&command)).unwrap();
            serde_json::from_slice(&output.stdout).unwrap_or_default()
        };
        wait_until(LIMIT, "the agent is connected", || status()["session"] == "connected")
            .unwrap_or_else(|_| panic!("{}", agent.process().unwrap().stderr()));
        let flow = host.flow(open, Duration::from_millis(20), LIMIT).unwrap();
        wait_until(LIMIT, "it stands", || flow.report().echoed > 10).unwrap();

        fill(&disk);
        let is_refused = || host.connect(beyond, NO_ANSWER).is_err() && !status()["storage_failure"].is_null();
        wait_until(LIMIT, "nothing new is taken, and it says so", is_refused).unwrap();
        let before = flow.report().echoed;
        wait_until(LIMIT, "the live connection goes on", || flow.report().echoed > before + 10).unwrap();
        assert!(agent.process().unwrap().stderr().contains("cannot be stored"));

        empty(&disk);
        wait_until(LIMIT, "new connections are made", || host.connect(beyond, NO_ANSWER).is_ok()).unwrap();
        wait_until(LIMIT, "it says so", || status()["storage_failure"].is_null()).unwrap();
    }
}

/// Where a process sees a folder, whatever it has mounted there.
fn inside(process: &Process, folder: &Path) -> PathBuf {
    Path::new("/proc").join(process.id().to_string()).join("root").join(folder.strip_prefix("/").unwrap())
}

fn fill(disk: &Path) {
    let mut file = fs::File::create(disk.join("filling")).unwrap();
    let blocks = [0_u8; 4096];
    while file.write_all(&blocks).is_ok() {}
}

fn empty(disk: &Path) {
    fs::remove_file(disk.join("filling")).unwrap();
}

/// `Err` is what the control plane said instead of yes.
fn join(host: &Host, ticket: &EnrolmentTicket, name: &str) -> Result<(), (u16, String)> {
    let (ticket, name) = (ticket.clone(), name.to_owned());
    let joined = run_in(host, move || async move {
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(15)).build().unwrap();
        Node::try_join(&http, &ticket, name).await
    });
    match joined.map_err(|error| (0, format!("{error:#}")))? {
        Joined::In(_) => Ok(()),
        Joined::Refused(status, error) => Err((status.as_u16(), error)),
    }
}

/// A control plane whose data is on a small disk of its own, seen by it alone.
struct SmallDisk {
    process: Process,
    data: PathBuf,
}

impl SmallDisk {
    /// Two megabytes more than it needs to start.
    fn start(control: &ControlPlane, data: &Path) -> Self {
        let run = control.command().unwrap();
        let script = r#"set -e
            size=$(( $(du -sk "$1" | cut -f1) + 2048 ))
            mkdir "$1.small" && mount -t tmpfs -o "size=${size}k,mode=700" tmpfs "$1.small"
            cp -a "$1/." "$1.small/" && mount --move "$1.small" "$1"
            shift && exec "$@""#;
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "--", "sh", "-c", script, "sh"]).arg(data);
        command.arg(run.get_program()).args(run.get_args());
        let process = control.host().spawn(&command).unwrap();
        let data = inside(&process, data);
        Self { process, data }
    }

    fn wait_ready(&self, web: &Web) {
        let ready = || web.get("/readyz").is_ok_and(|page| page.status == 200);
        let waited = wait_until(LIMIT, "writd is ready", ready);
        assert!(waited.is_ok(), "{waited:?}: {}", self.process.stderr());
    }

    fn assert_log_is_sound(&self, key: &VerifierKey) {
        let report = verify_log(&self.data.join("log"), key).unwrap();
        assert!(report.is_sound(), "{:?}", report.findings);
    }
}
