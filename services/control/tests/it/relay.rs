//! The relay over TLS, for agents without UDP.

use std::time::Duration;

use data_encoding::BASE64;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::tungstenite::{Error, Message};
use writ_relay::RelayKey;
use writ_relay::wire::{self, Hello, NodeBytes};
use writ_schema::protocol::{RelayAccess, ServerMessage};

use crate::agent::{Agent, Session, Socket, dial, dial_at};
use crate::plane::Plane;

const PATIENCE: Duration = Duration::from_secs(10);

async fn access(plane: &Plane, agent: &mut Agent) -> RelayAccess {
    let socket = dial(plane, &agent.token()).await.unwrap();
    let mut session = Session { agent, socket };
    session.hello().await;
    let ServerMessage::Snapshot(snapshot) = session.next().await.message else { panic!("no snapshot") };
    snapshot.relay
}

async fn stream(plane: &Plane, agent: &Agent) -> Socket {
    dial_at(plane, "/agent/v1/relay", &agent.token()).await.unwrap()
}

fn hello(agent: &Agent, access: &RelayAccess, counter: u64) -> Message {
    let key = BASE64.decode(access.key.as_bytes()).unwrap().try_into().unwrap();
    let hello = Hello::new(NodeBytes::from(&agent.node()), counter, &RelayKey::from_bytes(key));
    Message::binary(hello.encode().to_vec())
}

/// The next datagram, or nothing when the stream ends.
async fn datagram(stream: &mut Socket) -> Option<Vec<u8>> {
    loop {
        match tokio::time::timeout(PATIENCE, stream.next()).await.expect("nothing came")? {
            Ok(Message::Binary(bytes)) => return Some(bytes.to_vec()),
            Ok(Message::Close(_)) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

#[actix_web::test]
async fn an_agent_without_udp_says_hello_to_the_relay_over_a_websocket() {
    let plane = Plane::start().await;
    let (mut agent, _) = Agent::joined(&plane, &plane.tagged_key("tag:a", 1).await).await;
    let access = access(&plane, &mut agent).await;
    let mut first = stream(&plane, &agent).await;
    first.send(hello(&agent, &access, 1)).await.unwrap();
    let answer = datagram(&mut first).await.unwrap();
    assert!(matches!(wire::decode(&answer).unwrap(), wire::Message::HelloAck(ack) if ack.counter == 1));

    // A newer stream takes the place of the older.
    let mut second = stream(&plane, &agent).await;
    assert_eq!(datagram(&mut first).await, None);
    second.send(hello(&agent, &access, 2)).await.unwrap();
    assert!(datagram(&mut second).await.is_some());
    plane.stop().await;
    assert_eq!(datagram(&mut second).await, None, "a stop ends the streams");
}

#[actix_web::test]
async fn a_stream_to_the_relay_takes_a_fresh_token_and_nothing_but_datagrams() {
    let plane = Plane::start().await;
    let (agent, _) = Agent::joined(&plane, &plane.tagged_key("tag:a", 1).await).await;
    let token = agent.token();
    let mut open = dial_at(&plane, "/agent/v1/relay", &token).await.unwrap();
    for refused in [token.as_str(), "", "x.y.z"] {
        let error = dial_at(&plane, "/agent/v1/relay", refused).await.unwrap_err();
        assert!(matches!(&error, Error::Http(response) if response.status() == 401), "{error}");
    }
    open.send(Message::text("{}")).await.unwrap();
    assert_eq!(datagram(&mut open).await, None, "text is no datagram");

    let mut open = stream(&plane, &agent).await;
    open.send(Message::binary(vec![0; wire::MAX_DATAGRAM_BYTES + 1])).await.unwrap();
    assert_eq!(datagram(&mut open).await, None, "too long for a datagram");
    plane.stop().await;
}
