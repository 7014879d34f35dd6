//! The session: one WebSocket to the control plane, opened again whenever it breaks.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message;
use writ_schema::protocol::{
    AgentFrame, AgentMessage, MAX_AGENT_FRAME_BYTES, MAX_SERVER_FRAME_BYTES, ServerFrame,
};

use super::dial::{Dialer, Socket, backoff};
use super::server;

const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the control plane may take to end a session too.
const PARTING: Duration = Duration::from_secs(2);
/// A ping goes out this often, and a session in which nothing came for three of them is dead.
const PING_INTERVAL: Duration = Duration::from_secs(15);
const SILENCE: Duration = Duration::from_secs(45);
/// How long a session may take to show that it stands, after the network under this host has changed.
const PROOF: Duration = Duration::from_secs(3);
/// A session that lasted this long was a good one.
const GOOD_AFTER: Duration = Duration::from_secs(30);
const QUEUE: usize = 1024;

/// What happened to the session.
#[derive(Debug)]
pub(super) enum Event {
    /// It stands, and `Hello` has been said.
    Up,
    /// The control plane said something.
    Frame(Box<ServerFrame>),
    /// It is gone.
    Down(String),
}

/// What the session is to do.
#[derive(Debug)]
pub(super) enum Command {
    Send(Box<AgentFrame>),
    /// Begin a new session: this one has gone wrong.
    Reconnect,
    /// Begin a new session, unless this one shows at once that it stands: the network under this host has changed.
    Prove,
    /// Say what is queued, and end.
    Close,
}

/// What the next `Hello` says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Position {
    pub checkpoint_size: u64,
    pub last_frame: Option<u64>,
}

/// The running session.
pub(super) struct Session {
    pub commands: mpsc::Sender<Command>,
    pub events: mpsc::Receiver<Event>,
    pub position: watch::Sender<Position>,
    pub task: tokio::task::JoinHandle<()>,
}

/// Opens the session and keeps it open until it is told to close.
pub(super) fn start(dialer: Arc<Dialer>, position: Position) -> Session {
    let (commands, commands_in) = mpsc::channel(QUEUE);
    let (events_out, events) = mpsc::channel(QUEUE);
    let (position, position_in) = watch::channel(position);
    let runner = Runner { dialer, commands: commands_in, events: events_out, position: position_in };
    let task = tokio::spawn(runner.run());
    Session { commands, events, position, task }
}

struct Runner {
    dialer: Arc<Dialer>,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Event>,
    position: watch::Receiver<Position>,
}

/// Why a session ended without an error.
#[derive(PartialEq, Eq)]
enum End {
    Reconnect,
    Closed,
}

impl Runner {
    async fn run(mut self) {
        let mut failures = 0_usize;
        loop {
            let began = Instant::now();
            let why = match self.session().await {
                Ok(End::Closed) => return,
                Ok(End::Reconnect) => "it is begun anew".to_owned(),
                Err(error) => format!("{error:#}"),
            };
            if began.elapsed() >= GOOD_AFTER {
                failures = 0;
            }
            tracing::info!("no session with the control plane: {why}");
            if self.events.send(Event::Down(why)).await.is_err() || self.wait(failures).await == End::Closed {
                return;
            }
            failures = failures.saturating_add(1);
        }
    }

    /// Waits before the next attempt, unless it is told to close.
    async fn wait(&mut self, failures: usize) -> End {
        let until = Instant::now() + backoff(failures);
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return End::Reconnect,
                command = self.commands.recv() => match command {
                    Some(Command::Close) | None => return End::Closed,
                    // The engine says again what matters when there is a session.
                    Some(Command::Send(_) | Command::Reconnect) => {}
                    Some(Command::Prove) => return End::Reconnect,
                },
            }
        }
    }

    async fn session(&mut self) -> Result<End> {
        let mut socket = self.dialer.dial(server::SESSION, MAX_SERVER_FRAME_BYTES).await?;
        let Position { checkpoint_size, last_frame } = *self.position.borrow();
        let agent = env!("CARGO_PKG_VERSION").to_owned();
        let hello = AgentMessage::Hello { agent, checkpoint_size, last_frame };
        send(&mut socket, &AgentFrame { trace: None, message: hello }).await?;
        self.emit(Event::Up).await?;
        let mut ping = tokio::time::interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
        let (mut heard, mut prove_by) = (Instant::now(), None);
        loop {
            tokio::select! {
                message = socket.next() => {
                    heard = Instant::now();
                    let message = message.context("the control plane hung up")??;
                    if message.is_pong() {
                        prove_by = None;
                    }
                    self.receive(message).await?;
                }
                command = self.commands.recv() => match command {
                    Some(Command::Send(frame)) => send(&mut socket, &frame).await?,
                    Some(Command::Reconnect) => {
                        part(&mut socket).await;
                        return Ok(End::Reconnect);
                    }
                    Some(Command::Prove) => {
                        prove_by = prove_by.or(Some(Instant::now() + PROOF));
                        write(&mut socket, Message::Ping(Default::default())).await?;
                    }
                    Some(Command::Close) | None => {
                        part(&mut socket).await;
                        return Ok(End::Closed);
                    }
                },
                () = tokio::time::sleep_until(prove_by.unwrap_or(heard)), if prove_by.is_some() => {
                    bail!("nothing was heard for {} s after the network changed", PROOF.as_secs());
                }
                _ = ping.tick() => {
                    if heard.elapsed() >= SILENCE {
                        bail!("nothing was heard for {} s", SILENCE.as_secs());
                    }
                    write(&mut socket, Message::Ping(Default::default())).await?;
                }
            }
        }
    }

    async fn receive(&self, message: Message) -> Result<()> {
        match message {
            Message::Text(text) => {
                let frame: ServerFrame = serde_json::from_str(text.as_str())
                    .context("a frame of the control plane cannot be read")?;
                self.emit(Event::Frame(Box::new(frame))).await
            }
            Message::Close(_) => bail!("the control plane closed it"),
            Message::Binary(_) => bail!("the control plane sent bytes where text is due"),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Ok(()),
        }
    }

    async fn emit(&self, event: Event) -> Result<()> {
        self.events.send(event).await.map_err(|_| anyhow!("the agent stops"))
    }
}

/// Ends a session so that what was said last arrives: a socket that is dropped with something unread in it resets the connection,
/// and the other end loses what it has not read yet.
async fn part(socket: &mut Socket) {
    let closed = async {
        socket.close(None).await?;
        while socket.next().await.transpose()?.is_some() {}
        Ok::<_, anyhow::Error>(())
    };
    let _ = timeout(PARTING, closed).await;
}

async fn send(socket: &mut Socket, frame: &AgentFrame) -> Result<()> {
    let text = serde_json::to_string(frame).context("a frame cannot be written")?;
    if text.len() > MAX_AGENT_FRAME_BYTES {
        tracing::warn!(bytes = text.len(), "a frame is longer than the control plane takes, and is not sent");
        return Ok(());
    }
    write(socket, Message::text(text)).await
}

async fn write(socket: &mut Socket, message: Message) -> Result<()> {
    timeout(WRITE_TIMEOUT, socket.send(message)).await.map_err(|_| anyhow!("nothing can be sent"))??;
    Ok(())
}
