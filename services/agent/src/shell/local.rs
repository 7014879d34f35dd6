//! The local socket: what people type talks to the running agent. One JSON line each way.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use writ_schema::net::Protocol;
use writ_schema::protocol::Destination;

use crate::engine::FiveTuple;
use crate::state::StateDir;

/// Longest line that is read, either way.
const MAX_LINE_BYTES: u64 = 8 * 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the agent has for an answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(8);

/// What the agent is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Tell about yourself.
    Status,
    /// Stop.
    Down,
    /// Take a new WireGuard key.
    Rotate,
    /// Believe the control plane again after a split view.
    TrustReset {
        /// Go on from the checkpoint that it shows next, not from the one that is held.
        forget_checkpoint: bool,
    },
    /// Send what goes to the Internet through an exit node.
    ExitNode {
        /// Its name or identifier; `off` for none.
        name: String,
    },
    /// How would a connection of this node be decided, and how would its packets go?
    Why(WhyQuestion),
    /// What would the filter do with this packet?
    Trace(FiveTuple),
    /// What is wrong with this host's network?
    Check,
    /// The log lines after this one.
    Logs {
        /// Its number; 0 for all that are kept.
        after: u64,
    },
}

/// Whom this node wants to reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyQuestion {
    /// Whom.
    pub destination: Destination,
    /// By which protocol.
    pub protocol: Protocol,
    /// On which port; 0 where the protocol has none.
    pub port: u16,
}

/// What the agent answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// What was asked for, as JSON.
    Answer(Box<serde_json::Value>),
    /// It is done, or under way.
    Done(String),
    /// It cannot be done.
    Failed(String),
}

impl Response {
    /// An answer.
    pub(super) fn of(answer: &impl Serialize) -> Self {
        match serde_json::to_value(answer) {
            Ok(answer) => Self::Answer(Box::new(answer)),
            Err(error) => Self::Failed(error.to_string()),
        }
    }
}

/// Why the agent cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// There is none.
    #[error(
        "no agent runs on {0}: start it with `writ-agent up`, or name the folder of the one that runs with --state"
    )]
    NotRunning(PathBuf),
    /// It is another user's.
    #[error("only the user that the agent runs as may ask it, and {0} is not this user's: try it with sudo")]
    NotAllowed(PathBuf),
    /// It does not answer.
    #[error("the agent does not answer")]
    Silent(#[source] io::Error),
    /// Its answer is none.
    #[error("the agent's answer cannot be read; is it of another version than this command?")]
    Unreadable(#[source] serde_json::Error),
}

/// A request with the way to answer it.
pub(super) type Call = (Request, oneshot::Sender<Response>);

/// Listens until the receiver is dropped. Only this user can connect.
pub(super) fn listen(path: &Path) -> Result<mpsc::Receiver<Call>> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).context("the old local socket");
        }
        Ok(()) | Err(_) => {}
    }
    let listener =
        UnixListener::bind(path).with_context(|| format!("the local socket {}", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    let (calls, receiver) = mpsc::channel(16);
    tokio::spawn(async move {
        while !calls.is_closed() {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let calls = calls.clone();
            tokio::spawn(async move {
                if let Ok(Err(error)) = tokio::time::timeout(PATIENCE, serve(stream, calls)).await {
                    tracing::debug!("a call on the local socket failed: {error:#}");
                }
            });
        }
    });
    Ok(receiver)
}

async fn serve(stream: UnixStream, calls: mpsc::Sender<Call>) -> Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    tokio::io::BufReader::new(read.take(MAX_LINE_BYTES)).read_line(&mut line).await?;
    let response = match serde_json::from_str(&line) {
        Ok(request) => {
            let (answer, answered) = oneshot::channel();
            calls.send((request, answer)).await.context("the agent stops")?;
            match tokio::time::timeout(ANSWER_LIMIT, answered).await {
                Ok(answered) => answered.context("the agent stops")?,
                Err(_) => Response::Failed(format!("there is no answer after {} s", ANSWER_LIMIT.as_secs())),
            }
        }
        Err(_) => Response::Failed("this is not a request that this agent knows".to_owned()),
    };
    let mut text = serde_json::to_string(&response)?;
    text.push('\n');
    write.write_all(text.as_bytes()).await?;
    Ok(())
}

/// Asks the agent that runs on a state folder.
pub fn call(state: &Path, request: &Request) -> Result<Response, CallError> {
    let mut stream = connect(state)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(CallError::Silent)?;
    let mut line = serde_json::to_string(request).map_err(CallError::Unreadable)?;
    line.push('\n');
    stream.write_all(line.as_bytes()).map_err(CallError::Silent)?;
    let mut answer = String::new();
    io::Read::take(BufReader::new(stream), MAX_LINE_BYTES)
        .read_line(&mut answer)
        .map_err(CallError::Silent)?;
    serde_json::from_str(&answer).map_err(CallError::Unreadable)
}

fn connect(state: &Path) -> Result<std::os::unix::net::UnixStream, CallError> {
    std::os::unix::net::UnixStream::connect(StateDir::socket_path(state)).map_err(|error| {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                CallError::NotRunning(state.to_owned())
            }
            io::ErrorKind::PermissionDenied => CallError::NotAllowed(state.to_owned()),
            _ => CallError::Silent(error),
        }
    })
}

/// Waits until no agent runs on a state folder any more. Tells whether that came about in time.
pub fn wait_gone(state: &Path) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if matches!(connect(state), Err(CallError::NotRunning(_))) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    false
}
