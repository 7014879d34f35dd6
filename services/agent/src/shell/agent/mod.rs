//! The running agent: one task that moves bytes between the engine and the world.

mod calls;
mod device;
mod exit;
mod frames;
mod relayed;
mod start;
mod why;
mod witness;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use writ_schema::net::Prefix;
use writ_schema::protocol::{AgentFrame, Netmap, RelayAccess};
use writ_telemetry::RecentLines;

use super::changes::{Changes as NetworkChanges, Network, Sleep};
use super::dial::Dialer;
use super::exit::HostExit;
use super::firewall::FirewallWatch;
use super::forwarding::Forwarding;
use super::host_dns::{self, HostDns, HostDnsMode};
use super::keeper::Keeper;
use super::local::{self, Call, Response};
use super::relay::{self, RelayStream};
use super::resolver::Resolver;
use super::routes::HostRoutes;
use super::session::{self, Command, Event, Position, Session};
use super::sockets::{Family, Sockets};
use super::status::RefusalStatus;
use super::traces::Traces;
use super::tun::Tun;
use crate::engine::{Engine, Now, Settings};
use crate::state::{ChosenExit, Enrolment, StateDir, WireGuardKeys, random_secret};
use crate::trust::{Changes, Trust};
use device::Remade;
use frames::{Connection, Waiting};
use start::{answer_for_names, bind, chosen_exit, resume_trust, take_up};
use why::Questions;

/// Packets that are taken in one go, and system calls that they may need, before what came of them is sent and the other inputs
/// get their turn. A system call takes a whole segment of TCP at best, but one datagram of UDP, and as many as can be sent
/// together are worth waiting for.
const BATCH: usize = 64;
const READS: usize = 64;
const MIN_READS: usize = 4;
/// How often the age of the WireGuard key is looked at.
const KEY_AGE_INTERVAL: Duration = Duration::from_secs(60);
/// How long a stopping agent waits for its last messages to go out.
const FAREWELL: Duration = Duration::from_secs(2);

/// How the agent is to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The state folder.
    pub state: PathBuf,
    /// The enrolment key, if this node may have to join.
    pub ticket: Option<String>,
    /// The name to join with.
    pub name: String,
    /// Name of the TUN device.
    pub tun_name: String,
    /// UDP port; 0 for any.
    pub port: u16,
    /// The trust policy that this node holds the log to.
    pub policy: Option<PathBuf>,
    /// Whether this host's resolver is told of the network's names.
    pub host_dns: HostDnsMode,
    /// Age at which the WireGuard key is replaced.
    pub key_lifetime: Duration,
    /// What this node offers to carry packets for.
    pub advertised_routes: Vec<Prefix>,
    /// The exit node to use from now on, or `off`; as it was chosen before if nothing is said.
    pub exit_node: Option<String>,
    /// Whether what may be reached behind other nodes is reached through them.
    pub accepts_routes: bool,
    /// The process's newest log lines.
    pub recent: RecentLines,
}

/// Runs the agent until it is told to stop.
pub async fn up(options: Options) -> Result<()> {
    let state = Arc::new(StateDir::open(&options.state)?);
    host_dns::mend(&options.tun_name);
    let identity = state.identity()?;
    let keys = state.wireguard_keys(Timestamp::now().as_second())?;
    let enrolment = match state.enrolment()? {
        Some(enrolment) => enrolment,
        None => super::join::join(&state, &identity, &keys, options.ticket.as_deref(), &options.name).await?,
    };
    if enrolment.removed {
        bail!(
            "this node was removed from the network; to join again as a new node, remove {} and use a new enrolment key",
            state.path().display()
        );
    }
    let membership = &enrolment.membership;
    tracing::info!(node = %membership.node, name = enrolment.name, address = %membership.address_v4, "joined");
    let (mut trust, kept) = resume_trust(&state, &enrolment, &identity, options.policy.as_deref())?;
    let position = Position { checkpoint_size: trust.chain().size(), last_frame: None };
    let settings = Settings {
        membership: membership.clone(),
        identity: identity.clone(),
        wireguard: keys.secret.clone(),
        generation: keys.generation,
        next_key: keys.next.clone(),
        seed: *random_secret()?,
    };
    let tun = Tun::open(&options.tun_name, membership)?;
    let exit = chosen_exit(&state, options.exit_node.as_deref())?;
    let network = Network::look(&options.tun_name, 0);
    let host_exit = HostExit::new(&options.tun_name, membership);
    let forwarding = Forwarding::set_up(&options.tun_name, membership, &options.advertised_routes, &state)?;
    let firewall =
        forwarding.is_some().then(|| FirewallWatch::start(&options.tun_name, &options.advertised_routes));
    let mut resolver = answer_for_names(membership).await;
    let host_dns = HostDns::start(options.host_dns, &options.tun_name, membership, resolver.as_mut()).await;
    let sockets = bind(options.port, kept.as_ref().map_or(0, |kept| kept.port))?;
    let calls = local::listen(&StateDir::socket_path(&options.state))?;
    let dialer = Arc::new(Dialer::new(&enrolment, identity)?);
    let session = session::start(dialer.clone(), position);
    let mut engine = Engine::new(now(), settings);
    engine.set_offered_routes(options.advertised_routes.clone());
    let relay = kept.as_ref().and_then(|kept| kept.relay.clone());
    let refusals = take_up(&mut engine, &mut trust, kept);
    let agent = Agent {
        engine,
        trust,
        keys,
        keeper: Keeper::start(state.clone())?,
        // What was taken up may be less than what is on disk.
        asked: Changes::default(),
        waiting: VecDeque::new(),
        relay,
        state,
        enrolment,
        dialer,
        session,
        relay_stream: None,
        host_dns,
        tun,
        remade: Remade::default(),
        routes: HostRoutes::new(&options.tun_name),
        host_exit,
        exit,
        forwarding,
        firewall,
        resolver,
        sockets,
        position,
        connection: Connection { is_up: false, since: Timestamp::now(), why: None },
        rotations: Vec::new(),
        netmap: None,
        refusals,
        told_split_view: None,
        told_flood: None,
        traces: Traces::default(),
        questions: Questions::default(),
        network,
        sleep: Sleep::watch(),
        is_ending: false,
        options,
    };
    let socket = StateDir::socket_path(&agent.options.state);
    let outcome = agent.run(calls).await;
    let _ = std::fs::remove_file(socket);
    outcome
}

struct Agent {
    engine: Engine,
    trust: Trust,
    keys: WireGuardKeys,
    state: Arc<StateDir>,
    keeper: Keeper,
    /// What the keeper was asked to write.
    asked: Changes,
    /// What is verified and waits for its checkpoint to be on disk, with the change that it waits for.
    waiting: VecDeque<(u64, Waiting)>,
    relay: Option<RelayAccess>,
    enrolment: Enrolment,
    dialer: Arc<Dialer>,
    session: Session,
    /// Where nothing answers over UDP.
    relay_stream: Option<RelayStream>,
    /// Before the resolver and the TUN device, which it leads to: it is dropped first.
    host_dns: HostDns,
    tun: Tun,
    remade: Remade,
    routes: HostRoutes,
    host_exit: HostExit,
    /// The exit node that is chosen.
    exit: Option<ChosenExit>,
    /// While this host carries packets for others.
    forwarding: Option<Forwarding>,
    /// While it does, what of its own firewall drops them.
    firewall: Option<FirewallWatch>,
    /// Answers for the network's names.
    resolver: Option<Resolver>,
    sockets: Sockets,
    position: Position,
    connection: Connection,
    /// Who waits for the new WireGuard key to be in use.
    rotations: Vec<oneshot::Sender<Response>>,
    netmap: Option<Netmap>,
    refusals: VecDeque<RefusalStatus>,
    /// When the split view was found that was told and stored already.
    told_split_view: Option<Timestamp>,
    /// When the flood of handshakes began that was told already.
    told_flood: Option<Timestamp>,
    traces: Traces,
    /// Who waits for what the control plane says about the policy.
    questions: Questions,
    /// The network under this host, when it was looked at last.
    network: Network,
    sleep: Sleep,
    /// The session is being given up for a new one.
    is_ending: bool,
    options: Options,
}

/// What the agent was woken by.
enum Wake {
    Tun(std::io::Result<()>),
    Udp(std::io::Result<Family>),
    Session(Option<Event>),
    Relay(relay::Event),
    Call(Option<Call>),
    Timeout,
    Network { was_cut: bool },
    Written,
    KeyAge,
    Stop,
}

impl Agent {
    async fn run(mut self, mut calls: mpsc::Receiver<Call>) -> Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut network = NetworkChanges::listen();
        let mut key_age = tokio::time::interval(KEY_AGE_INTERVAL);
        self.take_routes();
        self.take_exit()?;
        loop {
            let deadline = self.engine.poll_timeout().map_or_else(far_off, |(at, _)| at);
            let wake = tokio::select! {
                received = self.tun.receive() => Wake::Tun(received),
                received = self.sockets.receive() => Wake::Udp(received),
                event = self.session.events.recv() => Wake::Session(event),
                event = relayed::next(&mut self.relay_stream) => Wake::Relay(event),
                call = calls.recv() => Wake::Call(call),
                () = tokio::time::sleep_until(deadline.into()) => Wake::Timeout,
                was_cut = network.next() => Wake::Network { was_cut },
                Ok(()) = self.keeper.written.changed() => Wake::Written,
                _ = key_age.tick() => Wake::KeyAge,
                _ = terminate.recv() => Wake::Stop,
                _ = interrupt.recv() => Wake::Stop,
            };
            let goes_on = self.handle(wake)?;
            self.hear_peers();
            self.keep();
            self.testify();
            self.tend_relay_stream();
            self.flush().await;
            if !goes_on {
                return self.stop().await;
            }
            // Everything else on this thread gets its turn, and what is readable is looked at anew, however many packets come.
            tokio::task::yield_now().await;
        }
    }

    /// Tells whether the agent is to go on.
    fn handle(&mut self, wake: Wake) -> Result<bool> {
        match wake {
            Wake::Tun(Ok(())) => self.take_packets(),
            Wake::Tun(Err(error)) => self.remake_tun(&error)?,
            Wake::Udp(Ok(family)) => self.take_datagrams(family),
            // What the kernel tells about an earlier datagram of ours.
            Wake::Udp(Err(error)) => tracing::trace!(%error, "a socket's error"),
            Wake::Session(Some(event)) => self.take_event(event)?,
            Wake::Relay(event) => self.take_relayed(event),
            Wake::Session(None) => bail!("the session's task has ended"),
            Wake::Call(Some(call)) => {
                if !self.take_call(call) {
                    return Ok(false);
                }
            }
            Wake::Call(None) => bail!("the local socket has ended"),
            Wake::Timeout => {
                self.notice_sleep();
                self.engine.handle_timeout(now());
                self.tell_flood();
            }
            Wake::Network { was_cut } => {
                self.notice_sleep();
                self.look_at_network(was_cut)?;
            }
            Wake::Written => self.take_written()?,
            Wake::KeyAge => self.rotate_if_old(),
            Wake::Stop => return Ok(false),
        }
        if self.engine.is_removed() {
            tracing::warn!("this node was removed from the network: everything stops");
            self.enrolment.removed = true;
            self.state.store_enrolment(&self.enrolment)?;
            return Ok(false);
        }
        Ok(true)
    }

    fn look_at_network(&mut self, was_cut: bool) -> Result<()> {
        let network = Network::look(&self.options.tun_name, self.sockets.port()?);
        let before = std::mem::replace(&mut self.network, network);
        self.engine.set_host_addresses(now(), self.network.addresses.clone());
        if was_cut || before != self.network {
            tracing::debug!("the network under this host has changed: paths are tried anew");
            self.engine.handle_network_change(now());
            self.prove_session();
            self.take_exit()?;
        }
        Ok(())
    }

    fn notice_sleep(&mut self) {
        if let Some(slept) = self.sleep.since_last_look() {
            tracing::info!(seconds = slept.as_secs(), "this host has slept: paths are tried anew");
            self.engine.handle_resume(now());
            self.prove_session();
        }
    }

    /// What the session's socket is bound to may be gone, and TCP would take minutes to notice.
    fn prove_session(&self) {
        let _ = self.session.commands.try_send(Command::Prove);
    }

    /// Says when a flood of handshakes begins, and when it is over.
    fn tell_flood(&mut self) {
        let since = self.engine.flood_since();
        if std::mem::replace(&mut self.told_flood, since) == since {
            return;
        }
        match since {
            Some(_) => tracing::warn!(
                "more handshakes of strangers come than are looked at; peers are not affected, who is none yet may wait"
            ),
            None => tracing::info!("no flood of handshakes any more"),
        }
    }

    fn take_packets(&mut self) {
        let mut taken = 0;
        for read in 0..READS {
            if read >= MIN_READS && taken >= BATCH || read > 0 && !self.tun.try_receive() {
                return;
            }
            let now = now();
            for packet in self.tun.received() {
                self.engine.handle_tun_packet(now, packet);
                taken += 1;
            }
        }
    }

    fn take_datagrams(&mut self, family: Family) {
        let now = now();
        for (from, datagram) in self.sockets.received(family) {
            self.engine.handle_datagram(now, from, datagram);
        }
    }

    /// Moves out what the engine has to say.
    async fn flush(&mut self) {
        while let Some(transmit) = self.engine.poll_transmit() {
            self.transmit(&transmit).await;
            self.engine.reuse(transmit);
        }
        self.engine.take_packets(|packets| self.tun.send(packets));
        self.flush_messages();
    }

    fn flush_messages(&mut self) {
        // A full queue means a session that does not move; the messages stay in the engine, where they are bounded.
        while self.session.commands.capacity() > 1 {
            let Some(message) = self.engine.poll_message() else { return };
            let trace = self.traces.outgoing(&message);
            self.send(AgentFrame { trace, message });
        }
    }

    fn send(&mut self, frame: AgentFrame) {
        let _ = self.session.commands.try_send(Command::Send(Box::new(frame)));
    }

    /// Has everything written that has changed.
    fn keep(&mut self) {
        let now = now().wall;
        while let Some(ended) = self.engine.poll_ended() {
            self.trust.end(now, &ended);
        }
        let changes = self.trust.changes();
        if changes.trust != self.asked.trust {
            self.keeper.keep_trust(changes.trust, self.trust.stored());
        }
        if changes.live != self.asked.live {
            let port = self.sockets.port().unwrap_or_default();
            self.keeper.keep_live(self.trust.stored_live(now, self.relay.clone(), port));
        }
        self.asked = changes;
    }

    async fn stop(mut self) -> Result<()> {
        self.forwarding = None;
        self.host_exit.close();
        self.engine.stop(now());
        self.keep();
        self.flush().await;
        if self.session.commands.send(Command::Close).await.is_ok() {
            let _ = tokio::time::timeout(FAREWELL, self.session.task).await;
        }
        self.keeper.finish();
        Ok(())
    }
}

/// The time, read here and handed to everything inside.
fn now() -> Now {
    Now { instant: Instant::now(), wall: Timestamp::now() }
}

fn far_off() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}
