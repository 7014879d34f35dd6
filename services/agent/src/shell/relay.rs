//! The relay over TLS, for networks that let no UDP out: one WebSocket, a binary message for each datagram.
//!
//! It lives as long as the engine wants it and is opened again whenever it breaks. What does not fit into its queue is
//! lost, as datagrams are.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message;
use writ_relay::wire::MAX_DATAGRAM_BYTES;

use super::dial::{Dialer, Socket, backoff};
use super::server;

const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// A ping goes out this often, and a stream on which nothing came for three of them is dead.
const PING_INTERVAL: Duration = Duration::from_secs(15);
const SILENCE: Duration = Duration::from_secs(45);
/// A stream that lasted this long was a good one.
const GOOD_AFTER: Duration = Duration::from_secs(30);
/// Datagrams that wait, each way: some 350 KB.
const QUEUE: usize = 256;

/// What happened to the stream.
#[derive(Debug)]
pub(super) enum Event {
    /// It stands.
    Open,
    /// The relay sent something.
    Datagram(Vec<u8>),
    /// It is gone, and will be opened again.
    Closed,
}

/// A stream to the relay. It ends when it is dropped.
pub(super) struct RelayStream {
    datagrams: mpsc::Sender<Vec<u8>>,
    events: mpsc::Receiver<Event>,
    task: tokio::task::JoinHandle<()>,
    is_open: bool,
}

impl RelayStream {
    /// Begins to open a stream.
    pub fn start(dialer: Arc<Dialer>) -> Self {
        let (datagrams, datagrams_in) = mpsc::channel(QUEUE);
        let (events_out, events) = mpsc::channel(QUEUE);
        let runner = Runner { dialer, datagrams: datagrams_in, events: events_out };
        Self { datagrams, events, task: tokio::spawn(runner.run()), is_open: false }
    }

    /// What happens next. Never ends.
    pub async fn next(&mut self) -> Event {
        let Some(event) = self.events.recv().await else { return std::future::pending().await };
        self.is_open = !matches!(event, Event::Closed);
        event
    }

    /// Whether it stands.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// Sends a datagram, if there is room for it.
    pub fn send(&self, datagram: Vec<u8>) {
        if self.datagrams.try_send(datagram).is_err() {
            tracing::trace!("a datagram did not fit into the stream to the relay");
        }
    }
}

impl Drop for RelayStream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Runner {
    dialer: Arc<Dialer>,
    datagrams: mpsc::Receiver<Vec<u8>>,
    events: mpsc::Sender<Event>,
}

impl Runner {
    async fn run(mut self) {
        let mut failures = 0_usize;
        loop {
            let began = Instant::now();
            let Err(why) = self.stream().await;
            if began.elapsed() >= GOOD_AFTER {
                failures = 0;
            }
            tracing::info!("no stream to the relay: {why:#}");
            if self.events.send(Event::Closed).await.is_err() {
                return;
            }
            tokio::time::sleep(backoff(failures)).await;
            failures = failures.saturating_add(1);
        }
    }

    async fn stream(&mut self) -> Result<std::convert::Infallible> {
        let mut socket = self.dialer.dial(server::RELAY, MAX_DATAGRAM_BYTES).await?;
        self.emit(Event::Open).await?;
        let mut ping = tokio::time::interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
        let mut heard = Instant::now();
        loop {
            tokio::select! {
                message = socket.next() => {
                    heard = Instant::now();
                    match message.context("the control plane hung up")?? {
                        Message::Binary(datagram) => self.emit(Event::Datagram(datagram.into())).await?,
                        Message::Text(_) => bail!("the control plane sent text where datagrams are due"),
                        Message::Close(_) => bail!("the control plane closed it"),
                        Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
                    }
                }
                datagram = self.datagrams.recv() => {
                    write(&mut socket, Message::binary(datagram.context("it is not wanted any more")?)).await?;
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

    async fn emit(&self, event: Event) -> Result<()> {
        self.events.send(event).await.map_err(|_| anyhow!("it is not wanted any more"))
    }
}

async fn write(socket: &mut Socket, message: Message) -> Result<()> {
    timeout(WRITE_TIMEOUT, socket.send(message)).await.map_err(|_| anyhow!("nothing can be sent"))??;
    Ok(())
}
