//! WebSockets to the control plane, opened as this node.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use ed25519_dalek::SigningKey;
use jiff::Timestamp;
use rand::Rng as _;
use rustls::ClientConfig;
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, client_async_tls_with_config};

use super::{mark, server, tls, token};
use crate::state::Enrolment;
use crate::trust::Membership;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the name of the control plane may take.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(4);
/// Waits between attempts; each is shortened at random, so that a thousand agents do not come back at once.
const BACKOFF_MILLISECONDS: [u64; 6] = [250, 500, 1_000, 2_000, 4_000, 8_000];

/// A WebSocket to the control plane.
pub(super) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Opens WebSockets with a token that the node signs for each.
pub(super) struct Dialer {
    server: String,
    tls: Arc<ClientConfig>,
    membership: Membership,
    identity: SigningKey,
    /// Where the control plane was when its name was last resolved.
    known: Mutex<Vec<SocketAddr>>,
}

impl Dialer {
    /// To the control plane of an enrolment.
    pub fn new(enrolment: &Enrolment, identity: SigningKey) -> Result<Self> {
        // What is wrong with the address is said at start, not at every attempt.
        server::websocket_url(&enrolment.server, server::SESSION)?;
        Ok(Self {
            server: enrolment.server.clone(),
            tls: tls::client_config(enrolment.certificate_sha256.as_deref())?,
            membership: enrolment.membership.clone(),
            identity,
            known: Mutex::default(),
        })
    }

    /// Opens one at a path of the control plane, for messages of so many bytes.
    pub async fn dial(&self, path: &str, max_message_bytes: usize) -> Result<Socket> {
        timeout(CONNECT_TIMEOUT, self.connect(path, max_message_bytes))
            .await
            .map_err(|_| anyhow!("no answer"))?
    }

    async fn connect(&self, path: &str, max_message_bytes: usize) -> Result<Socket> {
        let token = token::session_token(&self.membership, &self.identity, Timestamp::now())?;
        let mut request = server::websocket_url(&self.server, path)?.into_client_request()?;
        let mut header = HeaderValue::try_from(format!("Bearer {token}"))?;
        header.set_sensitive(true);
        request.headers_mut().insert("authorization", header);
        let config = WebSocketConfig::default()
            .max_message_size(Some(max_message_bytes))
            .max_frame_size(Some(max_message_bytes));
        let connector = Connector::Rustls(self.tls.clone());
        let stream = self.reach().await.context("the control plane cannot be reached")?;
        match client_async_tls_with_config(request, stream, Some(config), Some(connector)).await {
            Ok((socket, _)) => Ok(socket),
            Err(WsError::Http(response)) => bail!("the control plane refuses it: HTTP {}", response.status()),
            Err(error) => Err(error).context("the control plane cannot be reached"),
        }
    }

    /// A connection that no exit node carries.
    async fn reach(&self) -> Result<TcpStream> {
        let mut failure = None;
        for address in self.addresses().await? {
            match connect_marked(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = Some(anyhow!(error).context(address.to_string())),
            }
        }
        Err(failure.unwrap_or_else(|| anyhow!("its name has no address")))
    }

    /// Where the control plane is; where it was before, while its name cannot be resolved: this host's DNS may lead through an exit
    /// node, which needs the control plane.
    async fn addresses(&self) -> Result<Vec<SocketAddr>> {
        let (host, port) = server::host_and_port(&self.server)?;
        let found = timeout(RESOLVE_TIMEOUT, lookup_host((host.as_str(), port))).await;
        let found: Result<Vec<SocketAddr>> = match found {
            Ok(Ok(found)) => Ok(found.collect()),
            Ok(Err(error)) => Err(anyhow!(error).context(format!("{host} cannot be resolved"))),
            Err(_) => Err(anyhow!("{host} cannot be resolved: no answer")),
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match found {
            Ok(found) => {
                known.clone_from(&found);
                Ok(found)
            }
            Err(error) if known.is_empty() => Err(error),
            Err(_) => Ok(known.clone()),
        }
    }
}

async fn connect_marked(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    mark::mark(&socket)?;
    socket.set_nodelay(true)?;
    socket.connect(address).await
}

/// How long to wait after so many failures in a row.
pub(super) fn backoff(failures: usize) -> Duration {
    let longest =
        BACKOFF_MILLISECONDS.get(failures).or(BACKOFF_MILLISECONDS.last()).copied().unwrap_or(8_000);
    Duration::from_millis(rand::rng().random_range(longest / 2..=longest))
}
