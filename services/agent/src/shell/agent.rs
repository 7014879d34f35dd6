//! The running agent: one task that moves bytes between the engine and the world.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tun_rs::AsyncDevice;
use writ_schema::NodeId;
use writ_schema::protocol::{AgentFrame, AgentMessage, Netmap, NetmapDelta, ServerFrame, ServerMessage};

use super::local::{self, Call, Request, Response};
use super::net::{self, Family, Sockets};
use super::session::{self, Command, Event, Position, Session};
use super::status::{AgentStatus, RefusalStatus, SessionStatus};
use super::traces::Traces;
use crate::engine::{Engine, Now, Settings};
use crate::state::{Enrolment, StateDir, StoredTrust, WireGuardKeys, new_wireguard_key, random_secret};
use crate::trust::{Chain, Trust, Verified};

/// Longest packet or datagram that is read; longer ones are cut off and refused.
const BUFFER_BYTES: usize = 4096;
/// Packets taken in one go before the other inputs get their turn.
const BATCH: usize = 64;
/// How often this host's addresses are looked at.
const INTERFACES_INTERVAL: Duration = Duration::from_secs(2);
/// How often what was verified is written to disk, at most.
const SAVE_INTERVAL: Duration = Duration::from_millis(500);
/// How often the age of the WireGuard key is looked at.
const KEY_AGE_INTERVAL: Duration = Duration::from_secs(60);
/// How long a stopping agent waits for its last messages to go out.
const FAREWELL: Duration = Duration::from_secs(2);
/// Refusals that `status` shows.
const MAX_REFUSALS: usize = 32;
/// Callers that may wait for a rotation.
const MAX_ROTATIONS: usize = 16;

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
    /// Age at which the WireGuard key is replaced.
    pub key_lifetime: Duration,
}

/// Runs the agent until it is told to stop.
pub async fn up(options: Options) -> Result<()> {
    let state = StateDir::open(&options.state)?;
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
    let trust = resume_trust(&state, &enrolment, &identity)?;
    let position = Position { checkpoint_size: trust.chain().size(), last_frame: None };
    let settings = Settings {
        membership: membership.clone(),
        identity: identity.clone(),
        wireguard: keys.secret.clone(),
        generation: keys.generation,
        next_key: keys.next.clone(),
        seed: *random_secret()?,
    };
    let tun = net::open_tun(&options.tun_name, membership)?;
    let sockets = Sockets::bind(options.port)?;
    let calls = local::listen(&StateDir::socket_path(&options.state))?;
    let session = session::start(&enrolment, identity, position)?;
    let agent = Agent {
        engine: Engine::new(now(), settings),
        trust,
        keys,
        state,
        enrolment,
        session,
        tun,
        sockets,
        position,
        connection: Connection { is_up: false, since: Timestamp::now(), why: None },
        rotations: Vec::new(),
        netmap: None,
        refusals: VecDeque::new(),
        traces: Traces::default(),
        unsaved: false,
        is_ending: false,
        options,
    };
    let socket = StateDir::socket_path(agent.state.path());
    let outcome = agent.run(calls).await;
    let _ = std::fs::remove_file(socket);
    outcome
}

fn resume_trust(
    state: &StateDir,
    enrolment: &Enrolment,
    identity: &ed25519_dalek::SigningKey,
) -> Result<Trust> {
    let stored = state
        .trust()?
        .context("the verified checkpoint is missing; remove the state folder and join anew")?;
    let key = enrolment.log_key.parse().context("the stored log key is damaged")?;
    let chain = Chain::resume(key, &stored.checkpoint).context("the stored checkpoint does not verify")?;
    let identity = writ_schema::keys::IdentityKey::of(identity);
    Ok(Trust::resume(&enrolment.membership, identity, chain, stored.seen))
}

struct Agent {
    engine: Engine,
    trust: Trust,
    keys: WireGuardKeys,
    state: StateDir,
    enrolment: Enrolment,
    session: Session,
    tun: AsyncDevice,
    sockets: Sockets,
    position: Position,
    connection: Connection,
    /// Who waits for the new WireGuard key to be in use.
    rotations: Vec<oneshot::Sender<Response>>,
    netmap: Option<Netmap>,
    refusals: VecDeque<RefusalStatus>,
    traces: Traces,
    unsaved: bool,
    /// The session is being given up for a new one.
    is_ending: bool,
    options: Options,
}

/// The session with the control plane.
struct Connection {
    is_up: bool,
    since: Timestamp,
    why: Option<String>,
}

/// Where a frame stands among those that came before.
enum Place {
    Next,
    Seen,
    Beyond(&'static str),
}

/// What the agent was woken by.
enum Wake {
    Tun(std::io::Result<usize>),
    Udp(std::io::Result<(Family, usize, SocketAddr)>),
    Session(Option<Event>),
    Call(Option<Call>),
    Timeout,
    Interfaces,
    Save,
    KeyAge,
    Stop,
}

struct Buffers {
    tun: Vec<u8>,
    v4: Vec<u8>,
    v6: Vec<u8>,
}

impl Agent {
    async fn run(mut self, mut calls: mpsc::Receiver<Call>) -> Result<()> {
        let mut buffers =
            Buffers { tun: vec![0; BUFFER_BYTES], v4: vec![0; BUFFER_BYTES], v6: vec![0; BUFFER_BYTES] };
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut interfaces = tokio::time::interval(INTERFACES_INTERVAL);
        let mut save = tokio::time::interval(SAVE_INTERVAL);
        let mut key_age = tokio::time::interval(KEY_AGE_INTERVAL);
        loop {
            let deadline = self.engine.poll_timeout().map_or_else(far_off, |(at, _)| at);
            let wake = tokio::select! {
                received = self.tun.recv(&mut buffers.tun) => Wake::Tun(received),
                received = self.sockets.receive(&mut buffers.v4, &mut buffers.v6) => Wake::Udp(received),
                event = self.session.events.recv() => Wake::Session(event),
                call = calls.recv() => Wake::Call(call),
                () = tokio::time::sleep_until(deadline.into()) => Wake::Timeout,
                _ = interfaces.tick() => Wake::Interfaces,
                _ = save.tick(), if self.unsaved => Wake::Save,
                _ = key_age.tick() => Wake::KeyAge,
                _ = terminate.recv() => Wake::Stop,
                _ = interrupt.recv() => Wake::Stop,
            };
            let goes_on = self.handle(wake, &mut buffers)?;
            self.flush();
            if !goes_on {
                return self.stop().await;
            }
        }
    }

    /// Tells whether the agent is to go on.
    fn handle(&mut self, wake: Wake, buffers: &mut Buffers) -> Result<bool> {
        match wake {
            Wake::Tun(received) => self.take_packets(received.context("the TUN device is gone")?, buffers),
            Wake::Udp(Ok((family, length, from))) => self.take_datagrams(family, length, from, buffers),
            // What the kernel tells about an earlier datagram of ours.
            Wake::Udp(Err(error)) => tracing::trace!(%error, "a socket's error"),
            Wake::Session(Some(event)) => self.take_event(event)?,
            Wake::Session(None) => bail!("the session's task has ended"),
            Wake::Call(Some((Request::Down, answer))) => {
                let _ = answer.send(Response::Done("the agent stops".to_owned()));
                return Ok(false);
            }
            Wake::Call(Some((Request::Rotate, answer))) => self.answer_rotate(answer),
            Wake::Call(Some((Request::Status, answer))) => {
                let _ = answer.send(self.answer_status());
            }
            Wake::Call(None) => bail!("the local socket has ended"),
            Wake::Timeout => self.engine.handle_timeout(now()),
            Wake::Interfaces => {
                let addresses = net::host_addresses(&self.options.tun_name, self.sockets.port()?);
                self.engine.set_host_addresses(now(), addresses);
            }
            Wake::Save => self.save(),
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

    fn take_packets(&mut self, first: usize, buffers: &mut Buffers) {
        let mut length = first;
        for _ in 0..BATCH {
            if let Some(packet) = buffers.tun.get(..length) {
                self.engine.handle_tun_packet(now(), packet);
            }
            match self.tun.try_recv(&mut buffers.tun) {
                Ok(next) => length = next,
                Err(_) => return,
            }
        }
        // The last one read belongs to the batch too.
        if let Some(packet) = buffers.tun.get(..length) {
            self.engine.handle_tun_packet(now(), packet);
        }
    }

    fn take_datagrams(&mut self, family: Family, first: usize, from: SocketAddr, buffers: &mut Buffers) {
        let buffer = match family {
            Family::V4 => &mut buffers.v4,
            Family::V6 => &mut buffers.v6,
        };
        let (mut length, mut from) = (first, from);
        for _ in 0..BATCH {
            if let Some(datagram) = buffer.get(..length) {
                self.engine.handle_datagram(now(), from, datagram);
            }
            match self.sockets.try_receive(family, buffer) {
                Some(next) => (length, from) = next,
                None => return,
            }
        }
        if let Some(datagram) = buffer.get(..length) {
            self.engine.handle_datagram(now(), from, datagram);
        }
    }

    fn take_event(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Up => {
                self.connection = Connection { is_up: true, since: Timestamp::now(), why: None };
                self.engine.handle_session_up(now());
            }
            Event::Down(why) => {
                self.is_ending = false;
                if self.connection.is_up {
                    self.connection.since = Timestamp::now();
                }
                self.connection.is_up = false;
                self.connection.why = Some(why);
                self.engine.handle_session_down();
                self.traces.forget_requests();
            }
            Event::Frame(frame) => self.take_frame(*frame)?,
        }
        Ok(())
    }

    fn take_frame(&mut self, frame: ServerFrame) -> Result<()> {
        let number = frame.frame;
        let is_snapshot = matches!(frame.message, ServerMessage::Snapshot(_));
        match self.place_of(number, is_snapshot) {
            Place::Next => {}
            Place::Seen => return Ok(()),
            Place::Beyond(why) => {
                self.begin_anew(why);
                return Ok(());
            }
        }
        let span = self.traces.incoming(&frame.message, frame.trace.as_deref());
        let _entered = span.enter();
        // What is taken away is taken away first; whether it was rightly said is looked at afterwards.
        if let ServerMessage::Revoked { authorization, .. } = &frame.message {
            self.engine.cut(now(), authorization);
        }
        match self.trust.verify(now().wall, frame) {
            Ok(verified) => self.take_verified(number, verified)?,
            Err(refusal) => {
                self.refuse(number, refusal.to_string());
                if refusal.is_of_checkpoint() {
                    // The control plane takes this node to hold what it has refused: no later proof would fit.
                    self.begin_anew("a checkpoint was refused");
                    return Ok(());
                }
            }
        }
        self.unsaved = true;
        self.set_position(Some(number));
        // Messages are drained here, while their trace is the current one.
        self.flush_messages();
        Ok(())
    }

    fn place_of(&self, number: u64, is_snapshot: bool) -> Place {
        match self.position.last_frame {
            // What the old session still says does not matter any more.
            _ if self.is_ending => Place::Seen,
            _ if is_snapshot => Place::Next,
            None => Place::Beyond("it did not begin with a snapshot"),
            Some(last) if number <= last => Place::Seen,
            Some(last) if last.checked_add(1) == Some(number) => Place::Next,
            Some(_) => Place::Beyond("a frame is missing"),
        }
    }

    fn take_verified(&mut self, number: u64, verified: Verified) -> Result<()> {
        match &verified {
            Verified::Snapshot(snapshot) => {
                self.netmap = Some(snapshot.netmap.clone());
                for refusal in &snapshot.refused {
                    self.refuse(number, refusal.to_string());
                }
            }
            Verified::NetmapChanged(delta) => self.change_netmap(delta),
            Verified::Refused { request: None, error, message, .. } => {
                tracing::warn!(error, "the control plane refuses: {message}");
            }
            _ => {}
        }
        self.engine.handle_message(now(), verified);
        self.keep_keys()
    }

    fn change_netmap(&mut self, delta: &NetmapDelta) {
        let Some(netmap) = self.netmap.as_mut().filter(|netmap| netmap.hash == delta.from) else {
            return self.begin_anew("the netmap is another than the control plane thinks");
        };
        let gone = |node: &NodeId| {
            delta.remove.contains(node) || delta.upsert.iter().any(|changed| changed.node.node == *node)
        };
        netmap.reachable.retain(|reachable| !gone(&reachable.node.node));
        netmap.reachable.extend(delta.upsert.iter().cloned());
        netmap.reachable.sort_by(|a, b| a.node.node.cmp(&b.node.node));
        netmap.hash.clone_from(&delta.to);
    }

    fn begin_anew(&mut self, why: &str) {
        tracing::warn!("the session is begun anew: {why}");
        self.set_position(None);
        self.is_ending = true;
        let _ = self.session.commands.try_send(Command::Reconnect);
    }

    fn set_position(&mut self, last_frame: Option<u64>) {
        self.position = Position { checkpoint_size: self.trust.chain().size(), last_frame };
        self.session.position.send_replace(self.position);
    }

    fn refuse(&mut self, frame: u64, reason: String) {
        tracing::warn!(frame, "refused what the control plane sent: {reason}");
        if self.refusals.len() >= MAX_REFUSALS {
            self.refusals.pop_front();
        }
        self.refusals.push_back(RefusalStatus { time: Timestamp::now(), frame, reason: reason.clone() });
        self.send(AgentFrame { trace: None, message: AgentMessage::Reject { frame, reason } });
    }

    /// Stores the WireGuard keys if the engine has taken up, or given up, the next one.
    fn keep_keys(&mut self) -> Result<()> {
        let (generation, next) = self.engine.key_generations();
        let Some(stored) = self.keys.next.take_if(|stored| next != Some(stored.generation)) else {
            return Ok(());
        };
        let is_adopted = stored.generation == generation;
        if is_adopted {
            tracing::info!(generation, "the new WireGuard key is in use");
            self.keys.generation = generation;
            self.keys.secret = stored.secret;
            self.keys.since = Timestamp::now().as_second();
        }
        self.state.store_wireguard_keys(&self.keys).context("the new WireGuard key cannot be stored")?;
        for waiting in self.rotations.drain(..) {
            let _ = waiting.send(if is_adopted {
                Response::Done(format!("generation {generation}"))
            } else {
                Response::Failed("the control plane refused the new key".to_owned())
            });
        }
        Ok(())
    }

    fn rotate(&mut self) -> Result<bool> {
        let Some(next) = self.engine.rotate(new_wireguard_key()?) else { return Ok(false) };
        self.keys.next = Some(next);
        self.state.store_wireguard_keys(&self.keys)?;
        Ok(true)
    }

    fn rotate_if_old(&mut self) {
        let age = Timestamp::now().as_second().saturating_sub(self.keys.since);
        let lifetime = i64::try_from(self.options.key_lifetime.as_secs()).unwrap_or(i64::MAX);
        if age >= lifetime
            && let Err(error) = self.rotate()
        {
            tracing::warn!("the WireGuard key cannot be replaced: {error:#}");
        }
    }

    fn answer_status(&self) -> Response {
        match serde_json::to_value(self.status()) {
            Ok(status) => Response::Status(Box::new(status)),
            Err(error) => Response::Failed(error.to_string()),
        }
    }

    /// Answers when the key is in use, or was refused.
    fn answer_rotate(&mut self, answer: oneshot::Sender<Response>) {
        self.rotations.retain(|waiting| !waiting.is_closed());
        match self.rotate() {
            // One that is under way already is waited for as well.
            Ok(_) if self.rotations.len() < MAX_ROTATIONS => self.rotations.push(answer),
            Ok(_) => drop(answer.send(Response::Failed("too many wait for a new key already".to_owned()))),
            Err(error) => drop(answer.send(Response::Failed(format!("{error:#}")))),
        }
    }

    fn status(&self) -> AgentStatus {
        let membership = &self.enrolment.membership;
        let mut engine = self.engine.status(now());
        for peer in engine.peers.iter_mut().filter(|peer| peer.name.is_none()) {
            let reachable = self.netmap.iter().flat_map(|netmap| &netmap.reachable);
            let named = reachable.map(|reachable| &reachable.node).find(|node| node.node == peer.node);
            peer.name = named.map(|node| node.name.clone());
        }
        AgentStatus {
            version: env!("CARGO_PKG_VERSION"),
            node: membership.node.clone(),
            name: self.enrolment.name.clone(),
            network: membership.network.clone(),
            network_name: membership.network_name.clone(),
            addresses: [IpAddr::from(membership.address_v4), membership.address_v6.into()],
            session: if self.connection.is_up { SessionStatus::Connected } else { SessionStatus::Connecting },
            session_since: self.connection.since,
            session_why: self.connection.why.clone(),
            checkpoint_size: self.trust.chain().size(),
            netmap: self.netmap.clone(),
            candidates: self.engine.announced_candidates().to_vec(),
            engine,
            refusals: self.refusals.iter().cloned().collect(),
        }
    }

    /// Moves out what the engine has to say.
    fn flush(&mut self) {
        while let Some(transmit) = self.engine.poll_transmit() {
            self.sockets.send(transmit.to, &transmit.bytes);
        }
        while let Some(packet) = self.engine.poll_packet() {
            if let Err(error) = self.tun.try_send(&packet) {
                tracing::trace!(%error, "a packet did not fit into the TUN device");
            }
        }
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

    fn save(&mut self) {
        self.unsaved = false;
        let Some(checkpoint) = self.trust.chain().note() else { return };
        let stored = StoredTrust { checkpoint: checkpoint.to_owned(), seen: self.trust.seen().clone() };
        if let Err(error) = self.state.store_trust(&stored) {
            // The agent goes on: what it holds is verified; it will only have to verify more after a restart.
            tracing::error!("what was verified cannot be stored: {error}");
        }
    }

    async fn stop(mut self) -> Result<()> {
        self.engine.stop(now());
        self.flush();
        self.save();
        if self.session.commands.send(Command::Close).await.is_ok() {
            let _ = tokio::time::timeout(FAREWELL, self.session.task).await;
        }
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
