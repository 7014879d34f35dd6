//! The local socket: `status`, `down` and `rotate` talk to the running agent. One JSON line each way.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

/// Longest line that is read, either way.
const MAX_LINE_BYTES: u64 = 8 * 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(10);

/// What the agent is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
}

/// What the agent answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// The status, as JSON.
    Status(Box<serde_json::Value>),
    /// It is done, or under way.
    Done(String),
    /// It cannot be done.
    Failed(String),
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
            answered.await.context("the agent stops")?
        }
        Err(_) => Response::Failed("this is not a request that this agent knows".to_owned()),
    };
    let mut text = serde_json::to_string(&response)?;
    text.push('\n');
    write.write_all(text.as_bytes()).await?;
    Ok(())
}

/// Asks the agent that runs on a state folder.
pub fn call(path: &Path, request: Request) -> Result<Response> {
    let mut stream = match std::os::unix::net::UnixStream::connect(path) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            bail!("no agent runs here; start it with `writ-agent up` (or name its folder with --state)")
        }
        Err(error) => return Err(error).with_context(|| format!("the agent's socket {}", path.display())),
    };
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_string(&request)?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    let mut answer = String::new();
    io::Read::take(BufReader::new(stream), MAX_LINE_BYTES)
        .read_line(&mut answer)
        .context("the agent's answer")?;
    serde_json::from_str(&answer).context("the agent's answer cannot be read; is it of another version?")
}
