//! The relay on real sockets, on loopback.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use bytecodec::{DecodeExt as _, EncodeExt as _};
use stun_codec::rfc5389::attributes::XorMappedAddress;
use stun_codec::rfc5389::{Attribute, methods::BINDING};
use stun_codec::{Message as Stun, MessageClass, MessageDecoder, MessageEncoder, TransactionId};
use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use writ_relay::wire::{self, Hello, Message, RefusedReason, WireError};
use writ_relay::{Limits, Refusal, RelayHandle, relay_key, serve, serve_stun};

use crate::bench::{SECRET, node, node_bytes};

const PATIENCE: Duration = Duration::from_secs(5);

struct Served {
    handle: RelayHandle,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Served {
    async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let handle = RelayHandle::new(SECRET, Limits::default());
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(serve(socket, handle.clone(), async move { drop(stopped.await) }));
        Self { handle, address, stop, task }
    }

    /// A node's socket, not yet bound at the relay.
    async fn client(&self) -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(self.address).await.unwrap();
        socket
    }

    /// The socket of a node that said hello.
    async fn node(&self, n: u8) -> UdpSocket {
        let socket = self.client().await;
        let key = relay_key(&SECRET, &node(n));
        socket.send(&Hello::new(node_bytes(n), 7, &key).encode()).await.unwrap();
        let answer = receive(&socket).await;
        let Ok(Message::HelloAck(ack)) = wire::decode(&answer) else { panic!("{answer:?}") };
        assert_eq!((ack.counter, ack.observed), (7, socket.local_addr().unwrap()));
        assert_eq!(ack.verify(&key), Ok::<(), WireError>(()));
        socket
    }

    fn permit(&self, a: u8, b: u8, lifetime: Duration) {
        self.handle.permit(&node(a), &node(b), SystemTime::now() + lifetime).unwrap();
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        timeout(PATIENCE, self.task).await.expect("the task ends").unwrap();
    }
}

async fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = [0; 2048];
    let length = timeout(PATIENCE, socket.recv(&mut buffer)).await.expect("a datagram comes").unwrap();
    buffer[..length].to_vec()
}

async fn send(socket: &UdpSocket, to: u8, payload: &[u8]) {
    let mut bytes = Vec::new();
    wire::encode_data(node_bytes(to), payload, &mut bytes).unwrap();
    socket.send(&bytes).await.unwrap();
}

#[tokio::test]
async fn two_nodes_talk_until_their_permit_is_revoked_from_another_thread() {
    let served = Served::start().await;
    let (a, b) = (served.node(1).await, served.node(2).await);
    served.permit(1, 2, Duration::from_secs(60));

    for n in 0..200_u8 {
        send(&a, 2, &[n; 1400]).await;
        let arrived = receive(&b).await;
        assert_eq!(wire::decode(&arrived), Ok(Message::Data { peer: node_bytes(1), payload: &[n; 1400] }));
    }
    send(&b, 1, b"back").await;
    assert_eq!(wire::decode(&receive(&a).await), Ok(Message::Data { peer: node_bytes(2), payload: b"back" }));

    let handle = served.handle.clone();
    std::thread::spawn(move || handle.revoke(&node(1), &node(2))).join().unwrap();
    send(&a, 2, b"late").await;
    let refusal = Message::Refused { reason: RefusedReason::NoPermit, peer: node_bytes(2) };
    assert_eq!(wire::decode(&receive(&a).await), Ok(refusal));

    let counters = served.handle.counters();
    assert_eq!((counters.forwarded_packets, counters.forwarded_bytes), (201, 200 * 1400 + 4));
    assert_eq!((counters.hellos_accepted, counters.refused(Refusal::NoPermit)), (2, 1));
    assert_eq!(served.handle.sizes().bound_nodes, 2);
    served.stop().await;
}

#[tokio::test]
async fn a_permit_in_calendar_time_ends_on_the_steady_clock() {
    let served = Served::start().await;
    let (a, _b) = (served.node(1).await, served.node(2).await);
    served.permit(1, 2, Duration::ZERO);
    send(&a, 2, b"late").await;
    let refusal = Message::Refused { reason: RefusedReason::NoPermit, peer: node_bytes(2) };
    assert_eq!(wire::decode(&receive(&a).await), Ok(refusal));
    served.stop().await;
}

#[tokio::test]
async fn a_stun_client_learns_its_address_on_the_same_socket() {
    let served = Served::start().await;
    let client = served.client().await;
    assert_eq!(observed(&client).await, client.local_addr().unwrap());
    served.stop().await;
}

#[tokio::test]
async fn another_port_answers_stun_within_the_same_limits_and_nothing_else() {
    let served = Served::start().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(serve_stun(socket, served.handle.clone(), async move { drop(stopped.await) }));
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(address).await.unwrap();
    let hello = Hello::new(node_bytes(1), 7, &relay_key(&SECRET, &node(1)));
    client.send(&hello.encode()).await.unwrap();
    assert_eq!(observed(&client).await, client.local_addr().unwrap());
    let counters = served.handle.counters();
    assert_eq!((counters.hellos_accepted, counters.stun_answered), (0, 1));
    stop.send(()).unwrap();
    timeout(PATIENCE, task).await.expect("the task ends").unwrap();
    served.stop().await;
}

/// The client's address as a STUN server sees it.
async fn observed(client: &UdpSocket) -> SocketAddr {
    let id = TransactionId::new([3; 12]);
    let request = Stun::<Attribute>::new(MessageClass::Request, BINDING, id);
    client.send(&MessageEncoder::new().encode_into_bytes(request).unwrap()).await.unwrap();
    let answer = receive(client).await;
    assert_eq!(wire::classify(&answer), wire::Kind::Stun);
    let answer = MessageDecoder::<Attribute>::new().decode_from_bytes(&answer).unwrap().unwrap();
    assert_eq!((answer.class(), answer.transaction_id()), (MessageClass::SuccessResponse, id));
    answer.get_attribute::<XorMappedAddress>().unwrap().address()
}

#[tokio::test]
async fn a_datagram_longer_than_any_message_is_counted_as_oversize() {
    let served = Served::start().await;
    let a = served.node(1).await;
    let mut bytes = wire::data_header(node_bytes(2)).to_vec();
    bytes.resize(9000, 1);
    a.send(&bytes).await.unwrap();
    // The answer to what comes after it shows that it was handled.
    send(&a, 2, b"next").await;
    receive(&a).await;
    assert_eq!(served.handle.counters().refused(Refusal::Oversize), 1);
    served.stop().await;
}
