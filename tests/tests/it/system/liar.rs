//! Somebody between an agent and its control plane, who alters one thing that the control plane says.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use writ_tests::lab::Host;

use super::run_in;

/// Alters an answer or a frame, and says whether it did.
pub(crate) type Lie = Arc<dyn Fn(&mut Value) -> bool + Send + Sync>;

const HEAD_LIMIT_BYTES: usize = 16 << 10;

/// Carries everything between agents and a control plane that speaks plain HTTP; honest until told a lie.
pub(crate) struct Liar {
    shared: Arc<Shared>,
    /// Dropping it ends the carrying.
    _stop: oneshot::Sender<()>,
}

struct Shared {
    upstream: SocketAddr,
    lie: Mutex<Option<Lie>>,
    told: AtomicUsize,
}

impl Shared {
    fn pass(&self, text: &str) -> String {
        let lie = self.lie.lock().unwrap().clone();
        let Some((lie, mut value)) = lie.zip(serde_json::from_str::<Value>(text).ok()) else {
            return text.to_owned();
        };
        if !lie(&mut value) {
            return text.to_owned();
        }
        self.told.fetch_add(1, Ordering::SeqCst);
        value.to_string()
    }
}

impl Liar {
    /// Stands at a port of the host's loopback before a server on the same.
    pub fn start(host: &Host, port: u16, upstream: SocketAddr) -> Self {
        let listener = host.listen(port).unwrap();
        let shared = Arc::new(Shared { upstream, lie: Mutex::new(None), told: AtomicUsize::new(0) });
        let (stop, stopped) = oneshot::channel::<()>();
        let (serving, inside) = (Arc::clone(&shared), host.clone());
        std::thread::spawn(move || {
            run_in(&inside, move || async move {
                listener.set_nonblocking(true).unwrap();
                let listener = TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    _ = stopped => {}
                    () = accept(listener, serving) => {}
                }
            });
        });
        Self { shared, _stop: stop }
    }

    /// Lies from now on.
    pub fn tell(&self, lie: Lie) {
        *self.shared.lie.lock().unwrap() = Some(lie);
    }

    /// Is honest from now on.
    pub fn stop_lying(&self) {
        *self.shared.lie.lock().unwrap() = None;
    }

    /// How many lies were told.
    pub fn told(&self) -> usize {
        self.shared.told.load(Ordering::SeqCst)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let shared = Arc::clone(&shared);
        // Connections break when agents and control planes end.
        tokio::spawn(async move { carry(stream, &shared).await.ok() });
    }
}

async fn carry(stream: TcpStream, shared: &Shared) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut start = [0; 32];
    while stream.peek(&mut start).await? < start.len() {}
    if start.starts_with(b"GET /agent/v1/session") {
        carry_session(stream, shared).await
    } else {
        carry_request(stream, shared).await
    }
}

#[expect(clippy::result_large_err, reason = "the library's callback has this form")]
async fn carry_session(
    stream: TcpStream,
    shared: &Shared,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut authorization = None::<HeaderValue>;
    let note = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        authorization = request.headers().get("authorization").cloned();
        Ok(response)
    };
    let agent = tokio_tungstenite::accept_hdr_async(stream, note).await?;
    let mut request = format!("ws://{}/agent/v1/session", shared.upstream).into_client_request()?;
    request.headers_mut().insert("authorization", authorization.ok_or("a session without a token")?);
    let upstream = TcpStream::connect(shared.upstream).await?;
    let (server, _) = tokio_tungstenite::client_async(request, upstream).await?;
    let ((mut to_agent, mut from_agent), (mut to_server, mut from_server)) = (agent.split(), server.split());
    loop {
        tokio::select! {
            Some(message) = from_agent.next() => to_server.send(message?).await?,
            Some(message) = from_server.next() => {
                let message = match message? {
                    Message::Text(text) => Message::text(shared.pass(&text)),
                    other => other,
                };
                to_agent.send(message).await?;
            }
            else => return Ok(()),
        }
    }
}

async fn carry_request(
    mut stream: TcpStream,
    shared: &Shared,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let (head, body) = read_message(&mut stream).await?;
    let mut server = TcpStream::connect(shared.upstream).await?;
    let mut lines = head.lines();
    let mut forwarded = format!("{}\r\n", lines.next().unwrap_or_default());
    for line in lines.filter(|line| !line.to_ascii_lowercase().starts_with("connection:")) {
        forwarded.push_str(line);
        forwarded.push_str("\r\n");
    }
    forwarded.push_str("connection: close\r\n\r\n");
    server.write_all(forwarded.as_bytes()).await?;
    server.write_all(&body).await?;
    let (head, body) = read_message(&mut server).await?;
    let body = shared.pass(&String::from_utf8(body)?);
    let status = head.lines().next().unwrap_or_default();
    let answer = format!(
        "{status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    Ok(stream.shutdown().await?)
}

/// Head and body of a message that tells its length.
async fn read_message(
    stream: &mut TcpStream,
) -> Result<(String, Vec<u8>), Box<dyn std::error::Error + Send + Sync>> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if bytes.len() > HEAD_LIMIT_BYTES || stream.read_buf(&mut bytes).await? == 0 {
            return Err("no message".into());
        }
    };
    let mut body = bytes.split_off(end + 4);
    let head = String::from_utf8(bytes)?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok()).flatten()
    });
    while body.len() < length.unwrap_or_default() {
        if stream.read_buf(&mut body).await? == 0 {
            return Err("the body ended early".into());
        }
    }
    Ok((head.trim_end().to_owned(), body))
}
