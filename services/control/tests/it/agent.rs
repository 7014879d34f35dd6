//! An agent that believes nothing: it checks every checkpoint, proof and record that it is sent.

use std::time::Duration;

use data_encoding::{BASE64, BASE64URL_NOPAD};
use ed25519_dalek::{Signer as _, SigningKey};
use futures_util::{SinkExt as _, StreamExt as _};
use jiff::Timestamp;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use writ_ledger::{ConsistencyProof, Hash, InclusionProof, LogKeys, Rotation, VerifierKey, leaf_hash};
use writ_schema::event::{AcknowledgedAction, Event};
use writ_schema::keys::{IdentityKey, SecretHash, Statement, WireGuardKey};
use writ_schema::protocol::{
    AgentFrame, AgentMessage, Authorized, CheckpointUpdate, JoinRequest, JoinResponse, ProvenRecord,
    ServerFrame, ServerMessage, SessionClaims,
};
use writ_schema::{AuthorizationId, CommandId, NetworkId, NodeId, Record, RequestId, Seq};

use crate::plane::{Plane, random};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(10);

/// A node's keys and what it has verified.
pub struct Agent {
    pub identity: SigningKey,
    pub wireguard_key: WireGuardKey,
    pub network: NetworkId,
    /// The key that it trusts, and the changes of it that it has followed.
    key: VerifierKey,
    rotations: Vec<Rotation>,
    pub size: u64,
    pub root: Hash,
    last_frame: Option<u64>,
}

pub type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

impl Agent {
    pub fn new(plane: &Plane) -> Self {
        Self {
            identity: SigningKey::from_bytes(&random()),
            wireguard_key: WireGuardKey::from_bytes(random()),
            network: plane.made.network.clone(),
            key: plane.log_key(),
            rotations: Vec::new(),
            size: 0,
            root: Hash([0; 32]),
            last_frame: None,
        }
    }

    /// An agent that has joined.
    pub async fn joined(plane: &Plane, secret: &str) -> (Self, JoinResponse) {
        let mut agent = Self::new(plane);
        let (status, body) = plane.post("/agent/v1/join", &agent.join_request(secret)).await;
        assert_eq!(status, 200, "{body}");
        let response: JoinResponse = serde_json::from_value(body).unwrap();
        agent.check_checkpoint(&response.checkpoint);
        assert!(matches!(agent.check(&response.genesis).event, Event::NetworkCreated(_)));
        let Event::NodeJoined(joined) = agent.check(&response.join).event else { panic!("not a join") };
        assert_eq!((joined.node, joined.address_v4), (agent.node(), response.address_v4));
        (agent, response)
    }

    pub fn node(&self) -> NodeId {
        NodeId::of_identity_key(IdentityKey::of(&self.identity).as_bytes())
    }

    /// The log's key, as far as its changes were followed.
    pub fn log_key(&self) -> VerifierKey {
        LogKeys::trace(self.key.clone(), &self.rotations).unwrap().current().clone()
    }

    pub fn join_request(&self, secret: &str) -> Value {
        let secret_hash = SecretHash::of(secret);
        let join = Statement::Join {
            network: &self.network,
            secret_hash: &secret_hash,
            wireguard_key: &self.wireguard_key,
        };
        let rotation =
            Statement::Rotation { network: &self.network, generation: 0, wireguard_key: &self.wireguard_key };
        let request = JoinRequest {
            command: CommandId::from_bytes(random()),
            secret: secret.to_owned(),
            identity_key: IdentityKey::of(&self.identity),
            wireguard_key: self.wireguard_key,
            join_signature: join.sign(&self.identity),
            key_signature: rotation.sign(&self.identity),
            name: format!("host-{}", data_encoding::HEXLOWER.encode(&random::<6>())),
        };
        serde_json::to_value(request).unwrap()
    }

    pub fn token(&self) -> String {
        let now = u64::try_from(Timestamp::now().as_second()).unwrap();
        self.token_of(now, now + 60)
    }

    pub fn token_of(&self, iat: u64, exp: u64) -> String {
        let jti = BASE64URL_NOPAD.encode(&random::<16>());
        let claims = SessionClaims { iss: self.node(), aud: self.network.clone(), iat, exp, jti };
        let part = |json: Vec<u8>| BASE64URL_NOPAD.encode(&json);
        let head = part(br#"{"alg":"EdDSA","typ":"JWT"}"#.to_vec());
        let message = format!("{head}.{}", part(serde_json::to_vec(&claims).unwrap()));
        format!("{message}.{}", part(self.identity.sign(message.as_bytes()).to_bytes().to_vec()))
    }

    /// Opens a session and takes the snapshot.
    pub async fn connected(&mut self, plane: &Plane) -> Session<'_> {
        let socket = dial(plane, &self.token()).await.unwrap();
        // As an agent that was started anew.
        self.last_frame = None;
        let mut session = Session { agent: self, socket };
        session.hello().await;
        let frame = session.next().await;
        assert!(matches!(frame.message, ServerMessage::Snapshot(_)), "{frame:?}");
        session
    }

    fn check_checkpoint(&mut self, update: &CheckpointUpdate) {
        for change in &update.rotations {
            let statement = Record::log_key_rotation(change.record.as_bytes()).unwrap();
            let rotation = Rotation { index: change.seq.0, statement };
            if !self.rotations.contains(&rotation) {
                self.rotations.push(rotation);
            }
        }
        let keys = LogKeys::trace(self.key.clone(), &self.rotations).unwrap();
        let checkpoint = keys.open(&update.note).unwrap().checkpoint().clone();
        assert_eq!(update.from_size, self.size);
        if self.size > 0 && self.size < checkpoint.size {
            let hashes = hashes(&update.consistency);
            let proof = ConsistencyProof { old_size: self.size, new_size: checkpoint.size, hashes };
            proof.verify(&self.root, &checkpoint.root).unwrap();
        }
        (self.size, self.root) = (checkpoint.size, checkpoint.root);
        update.rotations.iter().for_each(|change| drop(self.check(change)));
    }

    /// Checks a record against the last checkpoint and opens what it has keys for.
    pub fn check(&self, proven: &ProvenRecord) -> Record {
        let proof = InclusionProof { index: proven.seq.0, size: self.size, hashes: hashes(&proven.proof) };
        proof.verify(&leaf_hash(proven.record.as_bytes()), &self.root).unwrap();
        let mut record = Record::decode(proven.record.as_bytes()).unwrap();
        assert_eq!(record.seq, proven.seq);
        record.open(proven.keys.as_slice()).unwrap();
        record
    }

    /// What an agent says of a frame that does not verify.
    pub fn rejection(&self, frame: u64, reason: &str) -> AgentMessage {
        let statement = Statement::Rejection { network: &self.network, frame, reason };
        let signature = statement.sign(&self.identity);
        AgentMessage::Reject { frame, reason: reason.to_owned(), signature }
    }

    /// What a good agent says once it has carried out a record.
    pub fn acknowledgement(
        &self,
        authorization: &AuthorizationId,
        proven: &ProvenRecord,
        action: AcknowledgedAction,
    ) -> AgentMessage {
        let leaf = BASE64.encode(leaf_hash(proven.record.as_bytes()).as_bytes());
        let statement = Statement::Acknowledgement { network: &self.network, leaf: &leaf, action };
        AgentMessage::Acknowledge {
            authorization: authorization.clone(),
            record: proven.seq,
            action,
            signature: statement.sign(&self.identity),
        }
    }
}

fn hashes(texts: &[String]) -> Vec<Hash> {
    texts.iter().map(|text| Hash::from_slice(&BASE64.decode(text.as_bytes()).unwrap()).unwrap()).collect()
}

pub async fn dial(plane: &Plane, token: &str) -> Result<Socket, tungstenite::Error> {
    dial_at(plane, "/agent/v1/session", token).await
}

pub async fn dial_at(plane: &Plane, path: &str, token: &str) -> Result<Socket, tungstenite::Error> {
    let url = plane.url(path).replacen("http", "ws", 1);
    let mut request = url.into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    tokio_tungstenite::connect_async(request).await.map(|(socket, _)| socket)
}

/// An open session.
pub struct Session<'a> {
    pub agent: &'a mut Agent,
    pub socket: Socket,
}

impl Session<'_> {
    pub async fn hello(&mut self) {
        let (checkpoint_size, last_frame) = (self.agent.size, self.agent.last_frame);
        self.say(AgentMessage::Hello { agent: "test".to_owned(), checkpoint_size, last_frame }).await;
    }

    pub async fn say(&mut self, message: AgentMessage) {
        let text = serde_json::to_string(&AgentFrame { trace: None, message }).unwrap();
        self.socket.send(Message::text(text)).await.unwrap();
    }

    pub async fn connect(&mut self, address: std::net::IpAddr, port: u16) -> RequestId {
        let request = RequestId::from_bytes(random());
        let protocol = writ_schema::net::Protocol::Tcp;
        self.say(AgentMessage::Connect {
            request: request.clone(),
            address,
            exit: None,
            protocol,
            port,
            renews: None,
        })
        .await;
        request
    }

    /// The next frame, checked.
    pub async fn next(&mut self) -> ServerFrame {
        match self.receive().await {
            Some(frame) => frame,
            None => panic!("the session has ended"),
        }
    }

    /// The next frame, checked, or nothing when the session ends.
    pub async fn receive(&mut self) -> Option<ServerFrame> {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("no frame in time");
            match message? {
                Ok(Message::Text(text)) => return Some(self.take(&text)),
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    fn take(&mut self, text: &str) -> ServerFrame {
        let frame: ServerFrame = serde_json::from_str(text).unwrap();
        if let Some(last) = self.agent.last_frame {
            assert_eq!(frame.frame, last + 1, "frames are numbered without gaps");
        }
        self.agent.last_frame = Some(frame.frame);
        if let Some(update) = &frame.checkpoint {
            self.agent.check_checkpoint(update);
        }
        frame
    }

    /// Waits for a message of one kind; netmaps and candidates may come between.
    pub async fn until<T>(&mut self, mut pick: impl FnMut(ServerMessage) -> Option<T>) -> T {
        loop {
            if let Some(found) = pick(self.next().await.message) {
                return found;
            }
        }
    }

    pub async fn authorized(&mut self) -> Authorized {
        let found = self.until(|message| match message {
            ServerMessage::Authorized(authorized) => Some(*authorized),
            ServerMessage::Denied { explanation, .. } => panic!("denied: {explanation}"),
            ServerMessage::Refused { message, .. } => panic!("refused: {message}"),
            _ => None,
        });
        found.await
    }

    pub async fn revoked(&mut self) -> (AuthorizationId, ProvenRecord) {
        self.until(|message| match message {
            ServerMessage::Revoked { authorization, record, .. } => Some((authorization, record)),
            _ => None,
        })
        .await
    }

    /// Checks an authorization as the design asks, and answers its name.
    pub fn check_authorized(&self, authorized: &Authorized) -> (AuthorizationId, Seq) {
        let record = self.agent.check(&authorized.record);
        let Event::ConnectionAuthorized(body) = &record.event else { panic!("not an authorization") };
        let source = body.source.value().expect("both ends hold the key to the source");
        let join = self.agent.check(&authorized.peer.join);
        let Event::NodeJoined(peer) = &join.event else { panic!("not a join") };
        assert_eq!(peer.node, authorized.peer.node);
        let ends = [&source.node, &body.destination];
        assert!(ends.contains(&&self.agent.node()) && ends.contains(&&peer.node));
        let rotation = Statement::Rotation {
            network: &self.agent.network,
            generation: 0,
            wireguard_key: &peer.wireguard_key,
        };
        peer.identity_key.verify(&rotation, &peer.key_signature).unwrap();
        (body.authorization.clone(), record.seq)
    }
}
