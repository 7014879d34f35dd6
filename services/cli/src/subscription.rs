//! Live answers: GraphQL over a WebSocket (`graphql-transport-ws`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use futures_util::{SinkExt, StreamExt};
use rustls::ClientConfig;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config};

use crate::failure::advised;

/// Longest message that is taken.
const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// How long the server may take to open the connection and to accept the token.
const OPENING_TIMEOUT: Duration = Duration::from_secs(10);

/// How often the server is told that somebody still listens; it hangs up after a minute of silence.
const PING_EVERY: Duration = Duration::from_secs(15);

/// After so much silence the server is taken to be gone.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// What the server sends.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum FromServer {
    ConnectionAck,
    Ping,
    Pong,
    Next { payload: Payload },
    Error { payload: Vec<Refusal> },
    Complete,
}

#[derive(Deserialize)]
struct Payload {
    data: Option<Value>,
    #[serde(default)]
    errors: Vec<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    message: String,
}

/// A subscription that runs.
pub struct Subscription {
    url: String,
    socket: Socket,
    heard: Instant,
    spoke: Instant,
}

impl Subscription {
    /// Opens a connection and subscribes.
    pub async fn begin(url: &str, tls: &ClientConfig, token: &str, request: &Value) -> Result<Self> {
        let mut socket = timeout(OPENING_TIMEOUT, open(url, tls, token))
            .await
            .map_err(|_| anyhow!("{url} did not open the live connection in time"))??;
        send(&mut socket, &json!({ "id": "1", "type": "subscribe", "payload": request })).await?;
        Ok(Self { url: url.to_owned(), socket, heard: Instant::now(), spoke: Instant::now() })
    }

    /// The next thing that happens. Waits for as long as the server is there.
    pub async fn next(&mut self) -> Result<Value> {
        loop {
            if self.spoke.elapsed() >= PING_EVERY {
                self.say(&json!({ "type": "ping" })).await?;
            }
            let message = match timeout(PING_EVERY, next(&mut self.socket)).await {
                Ok(message) => message?,
                Err(_) if self.heard.elapsed() < SILENCE_LIMIT => continue,
                Err(_) => None,
            };
            self.heard = Instant::now();
            match message {
                Some(FromServer::Ping) => self.say(&json!({ "type": "pong" })).await?,
                Some(FromServer::Next { payload: Payload { data, errors } }) if errors.is_empty() => {
                    return Ok(data.unwrap_or_default());
                }
                Some(FromServer::Next { payload: Payload { errors: refusals, .. } })
                | Some(FromServer::Error { payload: refusals }) => return Err(refused(&refusals)),
                Some(FromServer::ConnectionAck | FromServer::Pong) => {}
                Some(FromServer::Complete) | None => {
                    return Err(advised(
                        format!("{} ended the live connection", self.url),
                        "run the command again; nothing is lost, the records are in the log",
                    ));
                }
            }
        }
    }

    async fn say(&mut self, message: &Value) -> Result<()> {
        self.spoke = Instant::now();
        send(&mut self.socket, message).await
    }
}

async fn open(url: &str, tls: &ClientConfig, token: &str) -> Result<Socket> {
    let address = match url.strip_prefix("https://") {
        Some(rest) => format!("wss://{rest}/graphql"),
        None => format!("ws://{}/graphql", url.trim_start_matches("http://")),
    };
    let mut request = address.into_client_request().with_context(|| format!("`{url}` is not a URL"))?;
    let protocol = HeaderValue::from_static("graphql-transport-ws");
    request.headers_mut().insert("sec-websocket-protocol", protocol);
    let limits = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES));
    let mut tls = tls.clone();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let connector = Connector::Rustls(Arc::new(tls));
    let (mut socket, _) = connect_async_tls_with_config(request, Some(limits), false, Some(connector))
        .await
        .with_context(|| format!("cannot open a live connection to {url}"))?;
    let payload = json!({ "authorization": format!("Bearer {token}") });
    send(&mut socket, &json!({ "type": "connection_init", "payload": payload })).await?;
    loop {
        match next(&mut socket).await? {
            Some(FromServer::ConnectionAck) => return Ok(socket),
            Some(FromServer::Ping) => send(&mut socket, &json!({ "type": "pong" })).await?,
            Some(FromServer::Pong) => {}
            Some(_) => bail!("{url} does not speak graphql-transport-ws"),
            None => {
                return Err(advised(
                    format!("{url} does not accept the sign-in"),
                    "sign in with `writ login`",
                ));
            }
        }
    }
}

async fn send(socket: &mut Socket, message: &Value) -> Result<()> {
    socket.send(Message::text(message.to_string())).await.context("the live connection broke")
}

/// The next message; `None` when the server has closed.
async fn next(socket: &mut Socket) -> Result<Option<FromServer>> {
    loop {
        match socket.next().await {
            None | Some(Ok(Message::Close(_)) | Err(Error::ConnectionClosed | Error::AlreadyClosed)) => {
                return Ok(None);
            }
            Some(Ok(Message::Text(text))) => {
                let message = serde_json::from_str(&text);
                return message.map(Some).context("the server sent something that is no GraphQL message");
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error).context("the live connection broke"),
        }
    }
}

fn refused(refusals: &[Refusal]) -> anyhow::Error {
    let message = refusals.iter().map(|refusal| refusal.message.as_str()).collect::<Vec<_>>().join("; ");
    advised(
        format!("the server refused: {message}"),
        "run the command again, or ask for the role that it needs",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_the_server_are_understood() {
        let read = |text: &str| serde_json::from_str::<FromServer>(text).unwrap();
        assert!(matches!(read(r#"{"type":"connection_ack"}"#), FromServer::ConnectionAck));
        assert!(matches!(read(r#"{"type":"ping","payload":{}}"#), FromServer::Ping));
        let FromServer::Next { payload } = read(r#"{"type":"next","id":"1","payload":{"data":{"a":1}}}"#)
        else {
            panic!("not a next")
        };
        assert_eq!((payload.data, payload.errors.len()), (Some(json!({ "a": 1 })), 0));
        let FromServer::Error { payload } = read(r#"{"type":"error","id":"1","payload":[{"message":"no"}]}"#)
        else {
            panic!("not an error")
        };
        assert!(refused(&payload).to_string().contains("no"));
    }
}
