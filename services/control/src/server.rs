//! The running control plane: every part started in order, and ended in the opposite one.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use actix_web::dev::ServerHandle;
use actix_web::web;
use anyhow::{Context as _, Result, anyhow, ensure};
use jiff::{SignedDuration, Timestamp};
use tokio::net::UdpSocket;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use writ_relay::{Limits, RelayHandle};
use writ_schema::seal::{KeyRef, OpeningKey, OpeningKeys, Place};
use writ_schema::{Actor, CommandId};
use zeroize::Zeroizing;

use crate::config::{Config, LogKeyConfig, Transport};
use crate::cosigners::Cosigners;
use crate::graphql::{Deps, Door};
use crate::http::{self, Listener, LiveSessions, RelayStreams, Services, Sources};
use crate::init::is_unfinished;
use crate::log_key::{self, Keys, LogKeyChanges};
use crate::log_store;
use crate::metrics::Metrics;
use crate::sequencer::{Options, Outcome, Sequencer, SequencerGuard, SequencerHandle};
use crate::session::{Parts, Sessions, TokenGate};
use crate::stun::StunSockets;
use crate::tls::Identity;
use crate::vault::Vault;
use crate::views::{LogSource, Projector, Waker};

/// How long agents are waited for when the server stops.
const GOODBYE_LIMIT: Duration = Duration::from_secs(5);

/// A control plane that runs until it is stopped.
pub struct Running {
    http: SocketAddr,
    relay: SocketAddr,
    sequencer: SequencerHandle,
    guard: SequencerGuard,
    projector: Projector,
    sessions: Sessions,
    hub: JoinHandle<()>,
    live_sessions: LiveSessions,
    server: ServerHandle,
    serving: tokio::task::JoinHandle<std::io::Result<()>>,
    stopping: CancellationToken,
}

impl Running {
    /// Opens everything and serves.
    pub async fn start(mut config: Config) -> Result<Self> {
        let data = config.data.display();
        ensure!(
            !is_unfinished(&config.data),
            "{data} was not finished by `writd init`: run `writd init` again, which cleans it up"
        );
        // Ports first: if they are taken, nothing else need be touched.
        let (listener, pin) = listener(&config)?;
        let http = listener.local_addr()?;
        let relay_socket = UdpSocket::bind(config.relay_listen)
            .await
            .with_context(|| format!("cannot serve the relay on {}", config.relay_listen))?;
        config.relay_listen = relay_socket.local_addr()?;
        let relay_address = config.relay_address()?;
        let stun = StunSockets::bind(&config.stun, config.relay_listen).await?;
        let stun_servers = stun.servers(&config.stun, relay_address)?;

        let (sequencer, guard) = start_sequencer(&config).await?;
        let log = sequencer.log().clone();
        let source = LogSource::new(log.clone(), VaultOf(sequencer.clone()));
        let (views, projector) = Projector::start(&config.views_file(), source)
            .with_context(|| format!("cannot follow the log into {}", config.views_file().display()))?;
        wake_on_commit(&sequencer, projector.waker());

        let stopping = CancellationToken::new();
        let cosigners = Cosigners::new(log.clone(), config.panel()?, config.cosigned_file());
        cosigners.run(&sequencer, stopping.clone());
        let secret = read_secret(&config.relay_secret_file())?;
        let relay = RelayHandle::new(*secret, Limits::default());
        tokio::spawn(writ_relay::serve(relay_socket, relay.clone(), stopping.clone().cancelled_owned()));
        stun.serve(&relay, || stopping.clone().cancelled_owned());

        let metrics = Arc::new(Metrics::new()?);
        metrics.observe(&sequencer, &relay, &views, &cosigners);
        let parts = Parts {
            sequencer: sequencer.clone(),
            log: log.clone(),
            relay,
            relay_secret: secret,
            relay_address,
            stun_servers,
            cosigners: cosigners.clone(),
            metrics: metrics.clone(),
        };
        let now = u64::try_from(Timestamp::now().as_second()).unwrap_or_default();
        let (sessions, hub) = Sessions::start(parts, TokenGate::new(now))?;
        let door = Door { url: config.url.clone(), certificate_sha256: pin };
        let deps = Deps {
            sequencer: sequencer.clone(),
            log: log.clone(),
            views: views.clone(),
            cosigners: cosigners.clone(),
            log_key: LogKeyChanges::new(config.clone(), sequencer.clone()),
            door,
        };
        let live_sessions = LiveSessions::default();
        let services = Services {
            sequencer: sequencer.clone(),
            log,
            cosigners,
            views,
            schema: crate::graphql::schema(deps),
            sessions: sessions.clone(),
            metrics,
            login_sources: Sources::new(Instant::now()),
            relay_streams: RelayStreams::to(config.relay_listen),
            stopping: stopping.clone(),
            live_sessions: live_sessions.clone(),
        };
        let server = http::serve(web::Data::new(services), listener).context("cannot serve HTTP")?;
        let handle = server.handle();
        let serving = tokio::spawn(server);
        let relay = config.relay_listen;
        Ok(Self {
            http,
            relay,
            sequencer,
            guard,
            projector,
            sessions,
            hub,
            live_sessions,
            server: handle,
            serving,
            stopping,
        })
    }

    /// Where HTTP is served.
    pub fn http_address(&self) -> SocketAddr {
        self.http
    }

    /// Where the relay is served.
    pub fn relay_address(&self) -> SocketAddr {
        self.relay
    }

    /// The one writer.
    pub fn sequencer(&self) -> &SequencerHandle {
        &self.sequencer
    }

    /// Resolves if the server ends by itself, which it should not.
    pub async fn ended(&mut self) -> anyhow::Error {
        match (&mut self.serving).await {
            Ok(Ok(())) => anyhow!("the HTTP server ended by itself"),
            Ok(Err(error)) => anyhow::Error::new(error).context("the HTTP server failed"),
            Err(error) => anyhow::Error::new(error).context("the HTTP server failed"),
        }
    }

    /// Stops in order: agents are told, running requests answered, the log closed.
    pub async fn stop(self) {
        self.stopping.cancel();
        self.sessions.stop().await;
        if tokio::time::timeout(GOODBYE_LIMIT, self.live_sessions.gone()).await.is_err() {
            tracing::warn!("some agents did not take leave in time");
        }
        self.server.stop(true).await;
        if !self.serving.is_finished() {
            // Its end was asked for; how it ended changes nothing any more.
            let _ = self.serving.await;
        }
        let Self { hub, guard, projector, .. } = self;
        let ended = tokio::task::spawn_blocking(move || {
            if hub.join().is_err() {
                tracing::error!("the hub's thread ended by a panic");
            }
            guard.stop();
            drop(projector);
        });
        if ended.await.is_err() {
            tracing::error!("the control plane did not end in order");
        }
    }
}

fn listener(config: &Config) -> Result<(Listener, Option<String>)> {
    let bound = TcpListener::bind(config.listen)
        .with_context(|| format!("cannot serve HTTP on {}", config.listen))?;
    bound.set_nonblocking(true)?;
    let (identity, pin) = match config.transport() {
        Transport::Plain => return Ok((Listener::Plain(bound), None)),
        Transport::GivenCertificate { certificate, key } => (Identity::load(&certificate, &key)?, None),
        Transport::SelfMade => {
            let identity = Identity::self_made(&config.data, config.host())?;
            let pin = identity.pin();
            (identity, Some(pin))
        }
    };
    Ok((Listener::Tls(bound, Box::new(identity.server_config()?)), pin))
}

async fn start_sequencer(config: &Config) -> Result<(SequencerHandle, SequencerGuard)> {
    let vault_file = config.vault_file();
    let config = config.clone();
    // Folding a long log takes a while and blocks.
    tokio::task::spawn_blocking(move || {
        let Keys { present, next } = log_key::find(&config)?;
        let options = Options {
            authorization_life: SignedDuration::from_secs(config.authorization_seconds.into()),
            next_key: next,
            ..Options::default()
        };
        let log = log_store::open(&config, present)?;
        let recovery = log.recovery();
        if recovery.unfinished_bytes > 0 || recovery.newly_signed > 0 {
            tracing::warn!(
                unfinished_bytes = recovery.unfinished_bytes,
                newly_signed = recovery.newly_signed,
                "the control plane was stopped by force before; the log was brought in order"
            );
        }
        let vault = Vault::open(&vault_file)
            .with_context(|| format!("cannot open the vault {}", vault_file.display()))?;
        let (sequencer, guard) = Sequencer::start(log, vault, options)?;
        ensure!(
            sequencer.state().network().is_some(),
            "there is no network in {}; make one with `writd init`",
            config.log_dir().display()
        );
        if config.next_log_key_file().exists() && sequencer.has_changed_key() {
            log_key::promote(&config)?;
        }
        Ok((sequencer, guard))
    })
    .await?
}

/// Changes the log's key to the one that is wanted, or to a new one, and stops. The control plane must not be running.
pub fn rotate_key(config: &Config, wanted: &LogKeyConfig) -> Result<Outcome> {
    wanted.check()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (sequencer, guard) = start_sequencer(config).await?;
        let outcome = match random_command() {
            Ok(id) => log_key::change(config, wanted, None, &sequencer, (id, Actor::System)).await,
            Err(error) => Err(error),
        };
        tokio::task::spawn_blocking(move || guard.stop()).await?;
        outcome
    })
}

fn random_command() -> Result<CommandId> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).context("the system gave no random bytes")?;
    Ok(CommandId::from_bytes(bytes))
}

/// The views follow every commit at once rather than when they next look.
fn wake_on_commit(sequencer: &SequencerHandle, waker: Waker) {
    let mut commits = sequencer.subscribe();
    tokio::spawn(async move {
        while !matches!(commits.recv().await, Err(RecvError::Closed)) {
            waker.wake();
        }
    });
}

/// The keys in the sequencer's vault.
struct VaultOf(SequencerHandle);

impl OpeningKeys for VaultOf {
    fn opening_key(&self, key_ref: KeyRef, place: Place) -> Option<OpeningKey> {
        self.0.vault().opening_key(key_ref, place)
    }
}

fn read_secret(path: &Path) -> Result<Zeroizing<[u8; 32]>> {
    let bytes = Zeroizing::new(
        std::fs::read(path).with_context(|| format!("cannot read the relay's secret {}", path.display()))?,
    );
    let secret = <[u8; 32]>::try_from(bytes.as_slice());
    let secret =
        secret.map_err(|_| anyhow!("{} does not hold 32 bytes: restore it from a copy", path.display()))?;
    Ok(Zeroizing::new(secret))
}
