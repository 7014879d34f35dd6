//! The host's own resolver, told of the network's names, so that every program on the host finds them.
//!
//! - systemd-resolved is told by `resolvectl` which domains to ask the agent about, on the agent's own link; it forgets them with
//!   the link.
//! - Where `/etc/resolv.conf` is a file of its own, a marked block in it names the agent's resolver first, which asks the name
//!   servers below it for everything else. Nothing else in the file is touched, so that taking the block out gives what was
//!   there, with all that somebody else has changed meanwhile. The address is one of loopback: if the agent is killed, the
//!   kernel refuses at once what is sent there, and the C library goes on to the host's own servers.
//! - Anywhere else nothing is done, and `status` says why and what to do by hand.
//!
//! A thread of its own looks after it, as commands and disks may be slow, and takes back what it did when it ends.

mod resolv_conf;
mod resolvectl;
mod tender;
mod way;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;

use clap::ValueEnum;
use serde::Serialize;
use tokio::sync::watch;

use super::resolver::Resolver;
use crate::trust::Membership;
use resolv_conf::ResolvConf;
use tender::Tender;
pub use way::Way;

/// Where the C library looks for its name servers.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Whether the host's resolver is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum HostDnsMode {
    /// As this host allows.
    #[default]
    Auto,
    /// Not at all.
    Off,
}

/// How the host's programs find the network's names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum HostDnsStatus {
    /// The agent was told to leave the host's resolver alone.
    Off,
    /// It is being set up.
    Pending,
    /// They ask this host's resolver, which asks the agent.
    SetUp {
        /// What was told.
        by: Way,
        /// Where the agent answers it.
        server: IpAddr,
        /// The domains that it asks the agent about; none where it asks for everything.
        domains: Vec<String>,
        /// Whom the agent asks for everything else.
        upstreams: Vec<SocketAddr>,
    },
    /// They do not.
    NotSetUp {
        /// Why.
        why: String,
        /// What to do about it.
        remedy: String,
    },
}

/// Why the host's resolver cannot be told, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Obstacle {
    why: String,
    remedy: String,
}

impl Obstacle {
    fn new(why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { why: why.into(), remedy: remedy.into() }
    }
}

/// What was done to the host's resolver. It is taken back when this is dropped.
pub(super) struct HostDns {
    status: watch::Receiver<HostDnsStatus>,
    /// The domains, whenever they change.
    wanted: Option<mpsc::Sender<Vec<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl HostDns {
    /// Tells the host's resolver of the agent's, if it is to be told and there is a way.
    pub async fn start(
        mode: HostDnsMode,
        link: &str,
        membership: &Membership,
        resolver: Option<&mut Resolver>,
    ) -> Self {
        let resolver = match (mode, resolver) {
            (HostDnsMode::Off, _) => return Self::idle(HostDnsStatus::Off),
            (HostDnsMode::Auto, Some(resolver)) => resolver,
            (HostDnsMode::Auto, None) => return Self::stopped_by(no_resolver(membership)),
        };
        match Self::begin(link, membership, resolver).await {
            Ok(running) => running,
            Err(obstacle) => Self::stopped_by(obstacle),
        }
    }

    async fn begin(link: &str, membership: &Membership, resolver: &mut Resolver) -> Result<Self, Obstacle> {
        let path = Path::new(RESOLV_CONF);
        let way = way::choose(&ResolvConf::read(path)?)?;
        let (upstreams, asked) = watch::channel(Vec::new());
        let server = match way {
            Way::SystemdResolved => IpAddr::from(membership.address_v4),
            Way::ResolvConf => {
                let server = loopback(membership.address_v4).into();
                resolver.serve_host(server, asked).await.map_err(|error| {
                    let remedy = "see who uses port 53 (`ss -lnp 'sport = :53'`), and have it ask the agent";
                    Obstacle::new(format!("{error:#}"), remedy)
                })?;
                server
            }
        };
        let (told, status) = watch::channel(HostDnsStatus::Pending);
        let (wanted, changes) = mpsc::channel();
        let tender = Tender::new(way, link, server, resolver.domains(), told, upstreams);
        let thread =
            std::thread::Builder::new().name("host-dns".to_owned()).spawn(move || tender.run(&changes));
        let thread = thread.map_err(|error| Obstacle::new(error.to_string(), "start the agent again"))?;
        Ok(Self { status, wanted: Some(wanted), thread: Some(thread) })
    }

    fn stopped_by(Obstacle { why, remedy }: Obstacle) -> Self {
        tracing::warn!("this host's programs do not find the network's names: {why}; {remedy}");
        Self::idle(HostDnsStatus::NotSetUp { why, remedy })
    }

    fn idle(status: HostDnsStatus) -> Self {
        Self { status: watch::channel(status).1, wanted: None, thread: None }
    }

    /// How it stands.
    pub fn status(&self) -> HostDnsStatus {
        self.status.borrow().clone()
    }

    /// Has the host's resolver ask about these domains.
    pub fn set_domains(&self, domains: Vec<String>) {
        if let Some(wanted) = &self.wanted {
            let _ = wanted.send(domains);
        }
    }
}

impl Drop for HostDns {
    fn drop(&mut self) {
        self.wanted = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that looks after the host's resolver has failed");
        }
    }
}

/// Takes back what an agent with this link has left behind when it was killed.
pub(super) fn mend(link: &str) {
    let path = Path::new(RESOLV_CONF);
    let Ok(ResolvConf::File(text)) = ResolvConf::read(path) else { return };
    let without = resolv_conf::without_block(&text, link);
    if without == text {
        return;
    }
    match resolv_conf::replace(path, &text, &without) {
        Ok(()) => tracing::info!("{RESOLV_CONF} is as it was before an agent that was killed"),
        Err(error) => {
            tracing::warn!("{RESOLV_CONF} still has the lines of an agent that was killed: {error}")
        }
    }
}

/// One of this host's loopback addresses that tells agents of different networks apart: 127 and the rest of the overlay's.
fn loopback(overlay: Ipv4Addr) -> Ipv4Addr {
    let [_, second, third, last] = overlay.octets();
    Ipv4Addr::new(127, second, third, last)
}

fn no_resolver(membership: &Membership) -> Obstacle {
    Obstacle::new(
        "the agent does not answer for names",
        format!(
            "see its log: port 53 of {} is taken, or the network's name is no DNS name",
            membership.address_v4
        ),
    )
}
