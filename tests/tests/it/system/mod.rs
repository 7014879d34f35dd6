//! Writ's programs together: lies, forks, power cuts, full disks, absence, traces.

mod absence;
mod collector;
mod disk;
mod documents;
mod endpoint;
mod exit;
mod firewall;
mod fork;
mod host;
mod liar;
mod lies;
mod log_key;
mod names;
mod paths;
mod power;
mod reports;
mod routes;
mod traces;

use std::future::Future;
use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::Value;
use writ_schema::protocol::EnrolmentTicket;
use writ_tests::lab::{Host, Lab};
use writ_tests::parts::{Agent, ControlPlane, Operator, Owner, Programs, Settings};

/// Nothing that is waited for takes longer, on a busy machine too.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Long enough for what could get through, short enough to wait for what cannot.
pub(crate) const NO_ANSWER: Duration = Duration::from_millis(700);

/// Everybody with the tag reaches everybody with the tag.
pub(crate) const OPEN: &str = r#"{
    "tagOwners": { "tag:web": [] },
    "acls": [{ "action": "accept", "src": ["tag:web"], "dst": ["tag:web:*"] }],
}"#;

/// Ports with a rule each.
pub(crate) const PORT: u16 = 7000;
pub(crate) const OTHER_PORT: u16 = 7001;

/// A rule for each port, so that each needs an authorization of its own.
pub(crate) const BY_PORT: &str = r#"{
    "tagOwners": { "tag:web": [] },
    "acls": [
        { "action": "accept", "src": ["tag:web"], "dst": ["tag:web:7000"] },
        { "action": "accept", "src": ["tag:web"], "dst": ["tag:web:7001"] },
    ],
}"#;

/// A control plane on a host of its own, and somebody who operates it.
pub(crate) struct Site {
    pub operator: Operator,
    pub control: ControlPlane,
    pub host: Host,
    pub programs: Programs,
    pub lab: Lab,
}

impl Site {
    /// Served without TLS on the host's loopback, for nodes without agents and for lies.
    pub fn on_loopback(name: &str) -> Self {
        Self::with(name, |_| Settings::at(name, Ipv4Addr::LOCALHOST))
    }

    /// Served by TLS at the host's public address.
    pub fn public(name: &str) -> Self {
        Self::with(name, |host| Settings::at(name, host.address()))
    }

    pub fn with(name: &str, settings: impl FnOnce(&Host) -> Settings) -> Self {
        let lab = Lab::new(name).unwrap();
        let host = lab.host("control").unwrap();
        let programs = Programs::built().unwrap();
        let data = lab.directory().join("data");
        let control = ControlPlane::create(&programs, &host, &data, settings(&host)).unwrap();
        let operator = Operator::sign_in(&control).unwrap();
        operator.set_policy(OPEN).unwrap();
        Self { operator, control, host, programs, lab }
    }

    pub fn ticket(&self, uses: u32) -> EnrolmentTicket {
        self.operator.enrolment_key(Owner::Tag("tag:web"), uses).unwrap()
    }

    pub fn agent(&self, host: &Host, name: &str, ticket: &EnrolmentTicket) -> Agent {
        Agent::join(&self.programs, host, &self.lab.directory().join(name), name, ticket).unwrap()
    }

    /// An agent with this tag that runs with these arguments.
    pub fn tagged_agent(&self, host: &Host, name: &str, tag: &'static str, arguments: &[&str]) -> Agent {
        let ticket = self.operator.enrolment_key(Owner::Tag(tag), 1).unwrap();
        let mut agent = Agent::new(&self.programs, host, &self.lab.directory().join(name));
        agent.set_arguments(arguments);
        agent.begin_join(name, &ticket).unwrap();
        agent.wait_connected(LIMIT).unwrap();
        agent
    }

    /// The log's files hold, as `writ log verify` judges.
    pub fn assert_log_is_sound(&self) {
        let folder = self.control.log_directory();
        let key = self.control.made().log_key.clone();
        let verdict: Value =
            self.operator.json(&["log", "verify", folder.to_str().unwrap(), "--key", &key]).unwrap();
        assert_eq!(verdict["verified"], true, "{verdict:#}");
    }
}

/// Runs a task to its end on a runtime of its own inside a host's network.
pub(crate) fn run_in<T, F>(host: &Host, task: impl FnOnce() -> F + Send + 'static) -> T
where
    T: Send + 'static,
    F: Future<Output = T>,
{
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(task())
    };
    host.inside(work).unwrap()
}
