//! The session of a node without an agent: it asks, is told, and acknowledges, but carries no packets.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::header::{AUTHORIZATION, HeaderValue};
use writ_ledger::leaf_hash;
use writ_schema::event::{AcknowledgedAction, DenialReason};
use writ_schema::net::Protocol;
use writ_schema::protocol::{AgentFrame, AgentMessage, Authorized, ProvenRecord, ServerFrame, ServerMessage};
use writ_schema::{AuthorizationId, RequestId, Seq};

use super::node::{Node, random};

/// Nothing that is waited for here takes longer, except when it will never come.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// An open session.
#[derive(Debug)]
pub struct Session {
    node: Node,
    socket: WebSocketStream<TcpStream>,
}

/// What the control plane decided on a request.
#[derive(Debug)]
pub enum Answer {
    /// The connection may be made.
    Authorized(Box<Authorized>),
    /// It may not.
    Denied(DenialReason, Seq),
}

impl Session {
    /// Opens a session with a new token and waits for the netmap.
    ///
    /// # Errors
    /// When the control plane does not answer as agreed.
    pub async fn open(node: Node) -> anyhow::Result<Self> {
        let authority = node.authority()?;
        let mut request = format!("ws://{authority}/agent/v1/session").into_client_request()?;
        let bearer = HeaderValue::from_str(&format!("Bearer {}", node.token()?))?;
        request.headers_mut().insert(AUTHORIZATION, bearer);
        let stream = TcpStream::connect(authority).await.context("the control plane does not answer")?;
        stream.set_nodelay(true)?;
        let (socket, _) = tokio_tungstenite::client_async(request, stream).await.context("no session")?;
        let mut session = Self { node, socket };
        let agent = concat!("simulated/", env!("CARGO_PKG_VERSION")).to_owned();
        session.send(AgentMessage::Hello { agent, checkpoint_size: 0, last_frame: None }).await?;
        match session.next().await? {
            ServerMessage::Snapshot(_) => Ok(session),
            other => bail!("a session began with {other:?}, not with a snapshot"),
        }
    }

    /// Whose session it is.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Asks for a connection and waits for the answer. What else comes meanwhile is carried out.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn ask(&mut self, address: IpAddr, protocol: Protocol, port: u16) -> anyhow::Result<Answer> {
        let request = self.request(address, protocol, port).await?;
        loop {
            match self.next().await? {
                ServerMessage::Authorized(authorized) if authorized.request.as_ref() == Some(&request) => {
                    self.establish(&authorized).await?;
                    return Ok(Answer::Authorized(authorized));
                }
                ServerMessage::Denied { request: answered, reason, record, .. } if answered == request => {
                    return Ok(Answer::Denied(reason, record));
                }
                ServerMessage::Refused { error, message, .. } => bail!("refused: {error}: {message}"),
                other => drop(self.carry_out(&other).await?),
            }
        }
    }

    /// Asks for a connection without waiting.
    ///
    /// # Errors
    /// When the session has ended.
    pub async fn request(
        &mut self,
        address: IpAddr,
        protocol: Protocol,
        port: u16,
    ) -> anyhow::Result<RequestId> {
        let request = RequestId::from_bytes(random()?);
        let message = AgentMessage::Connect {
            request: request.clone(),
            address,
            exit: None,
            protocol,
            port,
            renews: None,
        };
        self.send(message).await?;
        Ok(request)
    }

    /// Waits for the next message and carries it out: what is authorized and revoked is acknowledged.
    ///
    /// # Errors
    /// When the session ends or nothing comes.
    pub async fn step(&mut self) -> anyhow::Result<(ServerMessage, Carried)> {
        let message = self.next().await?;
        let carried = self.carry_out(&message).await?;
        Ok((message, carried))
    }

    /// Acknowledges what a message authorizes or revokes.
    pub(super) async fn carry_out(&mut self, message: &ServerMessage) -> anyhow::Result<Carried> {
        match message {
            ServerMessage::Authorized(authorized) => {
                self.establish(authorized).await?;
                Ok(Carried::Established)
            }
            ServerMessage::Revoked { authorization, record, .. } => {
                self.acknowledge(authorization.clone(), record, AcknowledgedAction::Withdrawn).await?;
                Ok(Carried::Withdrawn)
            }
            _ => Ok(Carried::Nothing),
        }
    }

    async fn establish(&mut self, authorized: &Authorized) -> anyhow::Result<()> {
        let record = writ_schema::Record::decode(authorized.record.record.as_bytes())?;
        let writ_schema::Event::ConnectionAuthorized(event) = record.event else {
            bail!("an authorization came with the record of something else");
        };
        self.acknowledge(event.authorization, &authorized.record, AcknowledgedAction::Established).await
    }

    async fn acknowledge(
        &mut self,
        authorization: AuthorizationId,
        record: &ProvenRecord,
        action: AcknowledgedAction,
    ) -> anyhow::Result<()> {
        let leaf = leaf_hash(record.record.as_bytes()).to_string();
        let signature = self.node.acknowledge(&leaf, action);
        self.send(AgentMessage::Acknowledge { authorization, record: record.seq, action, signature }).await
    }

    async fn send(&mut self, message: AgentMessage) -> anyhow::Result<()> {
        let text = serde_json::to_string(&AgentFrame { trace: None, message })?;
        self.socket.send(Message::text(text)).await.context("the session has ended")
    }

    /// Waits for the next message. Nothing is lost when that is given up.
    pub(super) async fn next(&mut self) -> anyhow::Result<ServerMessage> {
        loop {
            let message = tokio::time::timeout(ANSWER_LIMIT, self.socket.next()).await;
            let message =
                message.context("nothing came over the session")?.context("the session has ended")?;
            match message.context("the session broke")? {
                Message::Text(text) => {
                    let frame: ServerFrame =
                        serde_json::from_str(&text).context("a frame is not as agreed")?;
                    return Ok(frame.message);
                }
                Message::Close(reason) => bail!("the control plane ended the session: {reason:?}"),
                Message::Binary(_) => ensure!(false, "frames are text, but this one is not"),
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }
}

/// What was done about a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carried {
    /// An authorization was acknowledged as established.
    Established,
    /// A revocation was acknowledged as withdrawn.
    Withdrawn,
    /// There was nothing to acknowledge.
    Nothing,
}
