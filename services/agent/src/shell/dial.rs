//! WebSockets to the control plane, opened as this node.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use ed25519_dalek::SigningKey;
use jiff::Timestamp;
use rand::Rng as _;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config};

use super::{server, tls, token};
use crate::state::Enrolment;
use crate::trust::Membership;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
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
        match connect_async_tls_with_config(request, Some(config), true, Some(connector)).await {
            Ok((socket, _)) => Ok(socket),
            Err(WsError::Http(response)) => bail!("the control plane refuses it: HTTP {}", response.status()),
            Err(error) => Err(error).context("the control plane cannot be reached"),
        }
    }
}

/// How long to wait after so many failures in a row.
pub(super) fn backoff(failures: usize) -> Duration {
    let longest =
        BACKOFF_MILLISECONDS.get(failures).or(BACKOFF_MILLISECONDS.last()).copied().unwrap_or(8_000);
    Duration::from_millis(rand::rng().random_range(longest / 2..=longest))
}
