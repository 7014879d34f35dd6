//! The thread that looks after what was told, and takes it back.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use nix::net::if_::if_nametoindex;
use tokio::sync::watch;

use super::resolv_conf::{self, ResolvConf};
use super::way::{Way, choose};
use super::{HostDnsStatus, Obstacle, RESOLV_CONF, resolvectl};

/// How often it is looked whether somebody else has changed what was told, or whether what failed succeeds now.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// How often the block is put back that somebody else takes out: whoever insists is not fought.
const REPAIR_INTERVAL: Duration = Duration::from_secs(60);

pub(super) struct Tender {
    way: Way,
    link: String,
    server: IpAddr,
    domains: Vec<String>,
    status: watch::Sender<HostDnsStatus>,
    upstreams: watch::Sender<Vec<SocketAddr>>,
    /// What systemd-resolved knows, and of which interface: it forgets it with that.
    told: Option<(u32, Vec<String>)>,
    /// The block was written.
    is_written: bool,
    /// When it was put back last.
    repaired: Option<Instant>,
}

impl Tender {
    pub fn new(
        way: Way,
        link: &str,
        server: IpAddr,
        domains: Vec<String>,
        status: watch::Sender<HostDnsStatus>,
        upstreams: watch::Sender<Vec<SocketAddr>>,
    ) -> Self {
        let link = link.to_owned();
        Self { way, link, server, domains, status, upstreams, told: None, is_written: false, repaired: None }
    }

    /// Looks after it until the sender of the domains is gone.
    pub fn run(mut self, changes: &Receiver<Vec<String>>) {
        loop {
            let outcome = match self.way {
                Way::SystemdResolved => self.tell_resolved(),
                Way::ResolvConf => self.keep_block(),
            };
            self.report(outcome);
            match changes.recv_timeout(LOOK_INTERVAL) {
                Ok(domains) => self.domains = domains,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        match self.way {
            // It forgets with the link.
            Way::SystemdResolved => {}
            Way::ResolvConf => self.remove_block(),
        }
    }

    fn report(&self, outcome: Result<(), Obstacle>) {
        let status = match outcome {
            Ok(()) => HostDnsStatus::SetUp {
                by: self.way,
                server: self.server,
                domains: if self.way == Way::SystemdResolved { self.domains.clone() } else { Vec::new() },
                upstreams: self.upstreams.borrow().clone(),
            },
            Err(Obstacle { why, remedy }) => HostDnsStatus::NotSetUp { why, remedy },
        };
        if *self.status.borrow() == status {
            return;
        }
        match &status {
            HostDnsStatus::NotSetUp { why, remedy } => {
                tracing::warn!("this host's programs do not find the network's names: {why}; {remedy}");
            }
            _ => {
                tracing::info!(by = ?self.way, server = %self.server, "this host's programs find the network's names")
            }
        }
        self.status.send_replace(status);
    }

    fn tell_resolved(&mut self) -> Result<(), Obstacle> {
        let interface = if_nametoindex(self.link.as_str()).unwrap_or_default();
        if self.told.as_ref().is_some_and(|(of, domains)| *of == interface && *domains == self.domains) {
            return Ok(());
        }
        resolvectl::set_link(&self.link, self.server, &self.domains).map_err(|error| {
            let remedy =
                "see that systemd-resolved runs (`systemctl status systemd-resolved`); it is tried again";
            Obstacle::new(error, remedy)
        })?;
        self.told = Some((interface, self.domains.clone()));
        Ok(())
    }

    /// Puts the block where it is not, and takes the name servers below it for upstreams.
    fn keep_block(&mut self) -> Result<(), Obstacle> {
        let path = Path::new(RESOLV_CONF);
        let conf = ResolvConf::read(path)?;
        let text = match conf {
            ResolvConf::File(text) if choose(&ResolvConf::File(text.clone())) == Ok(self.way) => text,
            _ => {
                let why = format!("{RESOLV_CONF} is another program's since the agent was started");
                return Err(Obstacle::new(why, "start the agent again"));
            }
        };
        let upstreams = resolv_conf::upstreams(&text);
        if *self.upstreams.borrow() != upstreams {
            self.upstreams.send_replace(upstreams);
        }
        let wanted = resolv_conf::with_block(&text, &self.link, self.server);
        if text == wanted {
            return Ok(());
        }
        if self.repaired.is_some_and(|repaired| repaired.elapsed() < REPAIR_INTERVAL) {
            let why = format!("somebody else has written {RESOLV_CONF}");
            let remedy = "wait a minute: the agent's lines are put back, once a minute at most";
            return Err(Obstacle::new(why, remedy));
        }
        if self.is_written {
            self.repaired = Some(Instant::now());
        }
        resolv_conf::replace(path, &text, &wanted).map_err(|error| {
            let why = format!("{RESOLV_CONF} cannot be written: {error}");
            let server = self.server;
            let remedy =
                format!("write `nameserver {server}` above its name servers, or let the agent write it");
            Obstacle::new(why, remedy)
        })?;
        self.is_written = true;
        Ok(())
    }

    fn remove_block(&self) {
        let path = Path::new(RESOLV_CONF);
        let Ok(ResolvConf::File(text)) = ResolvConf::read(path) else { return };
        let without = resolv_conf::without_block(&text, &self.link);
        if without != text
            && let Err(error) = resolv_conf::replace(path, &text, &without)
        {
            tracing::warn!("the agent's lines are still in {RESOLV_CONF}: {error}");
        }
    }
}
