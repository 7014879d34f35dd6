//! What carries packets from one host to another.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::rank;
use super::wireguard::End;
use crate::lab::{Host, Lab, Process, wait_for};
use crate::parts::{Agent, ControlPlane, Operator, Owner, Programs, Settings};

const LIMIT: Duration = Duration::from_secs(10);
const POLICY: &str = r#"{
    "tagOwners": { "tag:lab": [] },
    "acls": [{ "action": "accept", "src": ["tag:lab"], "dst": ["tag:lab:*"] }],
}"#;

/// What can carry packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Two agents of this build, with a control plane.
    Writ,
    /// wireguard-go, in a version of its own module proxy.
    WireguardGo,
    /// Mullvad's fork of boringtun.
    Gotatun,
    /// The link itself.
    Raw,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Writ => "writ",
            Self::WireguardGo => "wireguard_go",
            Self::Gotatun => "gotatun",
            Self::Raw => "veth",
        })
    }
}

/// Two hosts and what is between them.
pub enum Carrier {
    /// Agents, and the control plane that they need.
    Writ { agents: Box<[Agent; 2]>, _control: Box<ControlPlane> },
    /// WireGuard programs of others.
    WireGuard { ends: Box<[End; 2]>, processes: Option<[Process; 2]> },
    /// Nothing.
    Raw([Host; 2]),
}

impl Carrier {
    /// Sets agents up.
    pub fn writ(programs: &Programs, lab: &Lab) -> anyhow::Result<Self> {
        let (host, left, right) = (lab.host("control")?, lab.host("writ-a")?, lab.host("writ-b")?);
        let data = lab.directory().join("data");
        let settings = Settings::at("throughput", host.address());
        let control = ControlPlane::create(programs, &host, &data, settings)?;
        let operator = Operator::sign_in(&control)?;
        operator.set_policy(POLICY)?;
        let ticket = operator.enrolment_key(Owner::Tag("tag:lab"), 2)?;
        let join = |host, name| Agent::join(programs, host, &lab.directory().join(name), name, &ticket);
        let agents = [join(&left, "a")?, join(&right, "b")?];
        Ok(Self::Writ { agents: Box::new(agents), _control: Box::new(control) })
    }

    /// Sets a WireGuard program of others up. `number` tells its network and its interfaces from those beside it.
    pub fn wireguard(lab: &Lab, kind: Kind, program: &Path, number: u8, mtu: u16) -> anyhow::Result<Self> {
        let end = |name: &str, last| {
            let host = lab.host(&format!("{}-{name}", kind.to_string().replace('_', "-")))?;
            let address = Ipv4Addr::new(10, 99, number, last);
            End::new(&host, program, &format!("wgt{number}{name}"), address, mtu)
        };
        Ok(Self::WireGuard { ends: Box::new([end("a", 1)?, end("b", 2)?]), processes: None })
    }

    /// Two hosts on the bare link.
    pub fn raw(lab: &Lab) -> anyhow::Result<Self> {
        Ok(Self::Raw([lab.host("raw-a")?, lab.host("raw-b")?]))
    }

    /// Starts everything anew and tells how long the first connection takes from then on, handshakes included.
    pub fn first_connection(&mut self, port: u16) -> anyhow::Result<Duration> {
        self.restart()?;
        let (_, server) = self.hosts();
        let _echo = server.serve_echo(port)?;
        let (client, target) = (self.hosts().0, self.address()?);
        let start = Instant::now();
        drop(client.connect((target, port).into(), LIMIT)?);
        Ok(start.elapsed())
    }

    fn restart(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Writ { agents, .. } => {
                for agent in agents.iter_mut() {
                    agent.stop()?;
                }
                for agent in agents.iter_mut() {
                    agent.start()?;
                    agent.wait_connected(LIMIT)?;
                }
            }
            Self::WireGuard { ends, processes } => {
                let [left, right] = ends.as_ref();
                *processes = None;
                *processes = Some([left.start(right)?, right.start(left)?]);
            }
            Self::Raw(_) => {}
        }
        self.processes()?.into_iter().for_each(rank::raise);
        Ok(())
    }

    /// Waits until packets go directly, where there is a choice.
    pub fn settle(&self) -> anyhow::Result<()> {
        self.wait_path("direct", LIMIT)
    }

    /// Waits until packets go this way (`direct`, `relayed`), where there is a choice.
    pub fn wait_path(&self, wanted: &str, limit: Duration) -> anyhow::Result<()> {
        let Self::Writ { agents, .. } = self else { return Ok(()) };
        let [left, right] = agents.as_ref();
        let node = right.node()?;
        wait_for(limit, &format!("the path is {wanted}"), || match left.peer(&node) {
            Ok(peer) if peer["path"]["kind"] == wanted => Ok(()),
            Ok(peer) => Err(peer["path"]["kind"].to_string()),
            Err(error) => Err(error.to_string()),
        })?;
        Ok(())
    }

    /// The one that connects, and the one that is connected to.
    pub fn hosts(&self) -> (Host, Host) {
        let (left, right) = match self {
            Self::Writ { agents, .. } => (agents[0].host(), agents[1].host()),
            Self::WireGuard { ends, .. } => (ends[0].host(), ends[1].host()),
            Self::Raw([left, right]) => (left, right),
        };
        (left.clone(), right.clone())
    }

    /// The address that is connected to.
    pub fn address(&self) -> anyhow::Result<IpAddr> {
        match self {
            Self::Writ { agents, .. } => agents[1].address(),
            Self::WireGuard { ends, .. } => Ok(ends[1].address()),
            Self::Raw([_, right]) => Ok(right.address().into()),
        }
    }

    /// The programs that carry packets.
    pub fn processes(&self) -> anyhow::Result<Vec<&Process>> {
        match self {
            Self::Writ { agents, .. } => agents.iter().map(Agent::process).collect(),
            Self::WireGuard { processes, .. } => {
                Ok(processes.as_ref().context("nothing runs")?.iter().collect())
            }
            Self::Raw(_) => Ok(Vec::new()),
        }
    }
}
