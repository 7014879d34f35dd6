//! What agents are told.

use futures_util::SinkExt as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use writ_ledger::ConsistencyProof;
use writ_schema::RequestId;
use writ_schema::event::{
    AcknowledgedAction, CloseReason, DenialReason, Event, NodeOwner, RevocationReason, SessionEnd, Side,
};
use writ_schema::net::Protocol;
use writ_schema::protocol::{AgentFrame, AgentMessage, Destination, ServerMessage};

use crate::agent::{Agent, Session, dial};
use crate::plane::Plane;

const OPEN: &str = r#"{"tagOwners": {"tag:a": [], "tag:b": []},
    "acls": [{"action": "accept", "src": ["tag:a"], "dst": ["tag:b:80"]}]}"#;
const SHUT: &str = r#"{"tagOwners": {"tag:a": [], "tag:b": []}, "acls": []}"#;

fn ended(plane: &Plane, reason: SessionEnd) -> usize {
    plane.count(|event| matches!(event, Event::SessionTerminated(body) if body.reason == reason))
}

fn acknowledged(plane: &Plane, action: AcknowledgedAction) -> usize {
    plane.count(|event| matches!(event, Event::ConnectionAcknowledged(body) if body.action == action))
}

async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..200 {
        if is_so() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("never came about: {what}");
}

async fn pair(plane: &Plane) -> (Agent, Agent, std::net::IpAddr) {
    let (a, _) = Agent::joined(plane, &plane.tagged_key("tag:a", 1).await).await;
    let (b, joined) = Agent::joined(plane, &plane.tagged_key("tag:b", 1).await).await;
    (a, b, joined.address_v4.into())
}

/// Both ends verify and acknowledge a connection.
async fn establish(a: &mut Session<'_>, b: &mut Session<'_>, address: std::net::IpAddr) {
    let request = a.connect(address, 80).await;
    let (at_a, at_b) = (a.authorized().await, b.authorized().await);
    assert_eq!((at_a.request.clone(), at_a.side), (Some(request), Side::Source));
    assert_eq!((at_b.request.clone(), at_b.side), (None, Side::Destination));
    let (id, seq) = a.check_authorized(&at_a);
    assert_eq!((id.clone(), seq), b.check_authorized(&at_b));
    let acknowledgement = a.agent.acknowledgement(&id, &at_a.record, AcknowledgedAction::Established);
    a.say(acknowledgement).await;
    let acknowledgement = b.agent.acknowledgement(&id, &at_b.record, AcknowledgedAction::Established);
    b.say(acknowledgement).await;
}

async fn acknowledge_withdrawal(session: &mut Session<'_>) -> RevocationReason {
    let (id, proven) = session.revoked().await;
    let record = session.agent.check(&proven);
    let Event::ConnectionRevoked(body) = record.event else { panic!("not a revocation") };
    let acknowledgement = session.agent.acknowledgement(&id, &proven, AcknowledgedAction::Withdrawn);
    session.say(acknowledgement).await;
    body.reason
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_rejects_is_recorded_once_however_often_it_says_so() {
    let plane = Plane::start().await;
    let (mut a, _) = Agent::joined(&plane, &plane.tagged_key("tag:a", 1).await).await;
    let mut a = a.connected(&plane).await;
    let rejected = || plane.count(|event| matches!(event, Event::SessionFrameRejected(_)));
    for frame in [1, 1, 2] {
        a.say(a.agent.rejection(frame, "the checkpoint is older than one before")).await;
    }
    eventually("the rejection is recorded", || rejected() == 1).await;
    // The answer to a signature that does not fit comes after everything before it was handled.
    let AgentMessage::Reject { reason, signature, .. } = a.agent.rejection(3, "no proof") else {
        unreachable!()
    };
    a.say(AgentMessage::Reject { frame: 4, reason, signature }).await;
    let refused = a.until(|message| match message {
        ServerMessage::Refused { error, .. } => Some(error),
        _ => None,
    });
    assert_eq!(refused.await, "bad_signature");
    assert_eq!(rejected(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_lives_as_long_as_the_policy_allows_it_and_both_ends_prove_its_end() {
    let plane = Plane::start().await;
    plane.policy(OPEN).await;
    let (mut a, mut b, address) = pair(&plane).await;
    let (mut a, mut b) = (a.connected(&plane).await, b.connected(&plane).await);
    establish(&mut a, &mut b, address).await;
    eventually("both ends are established", || acknowledged(&plane, AcknowledgedAction::Established) == 2)
        .await;
    plane.policy(SHUT).await;
    assert_eq!(acknowledge_withdrawal(&mut a).await, RevocationReason::PolicyChanged);
    assert_eq!(acknowledge_withdrawal(&mut b).await, RevocationReason::PolicyChanged);
    eventually("both ends have withdrawn", || acknowledged(&plane, AcknowledgedAction::Withdrawn) == 2).await;
    let request = a.connect(address, 80).await;
    let denied = a.until(|message| match message {
        ServerMessage::Denied { request, .. } => Some(request),
        _ => None,
    });
    assert_eq!(denied.await, request);
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leavers_connections_end_and_so_does_their_node() {
    let plane = Plane::start().await;
    let user = plane.user().await;
    let policy = format!(
        r#"{{"tagOwners": {{"tag:b": []}}, "acls": [{{"action": "accept", "src": ["{user}"], "dst": ["tag:b:80"]}}]}}"#
    );
    let life = jiff::SignedDuration::from_hours(1);
    let secret = plane.enrolment_key(NodeOwner::User(user.clone()), 1, life).await;
    let (mut a, _) = Agent::joined(&plane, &secret).await;
    let (mut b, joined) = Agent::joined(&plane, &plane.tagged_key("tag:b", 1).await).await;
    plane.policy(&policy).await;
    let (mut a, mut b) = (a.connected(&plane).await, b.connected(&plane).await);
    establish(&mut a, &mut b, joined.address_v4.into()).await;
    plane.submit(writ_control::core::Command::ReceiveLeaver { user, decided_at: None }).await.unwrap();
    let reasons = [acknowledge_withdrawal(&mut a).await, acknowledge_withdrawal(&mut b).await];
    assert_eq!(reasons, [RevocationReason::UserDisabled; 2]);
    let removed = a.until(|message| match message {
        ServerMessage::Removed { record } => Some(record),
        _ => None,
    });
    let removed = removed.await;
    assert!(matches!(a.agent.check(&removed).event, Event::NodeRemoved(_)));
    eventually("both ends have withdrawn", || acknowledged(&plane, AcknowledgedAction::Withdrawn) == 2).await;
    while a.receive().await.is_some() {}
    let refused = dial(&plane, &a.agent.token()).await.unwrap_err();
    assert!(matches!(refused, Error::Http(answer) if answer.status() == 401));
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_says_right_before_it_goes_is_still_taken() {
    let plane = Plane::start().await;
    let (mut a, _) = Agent::joined(&plane, &plane.tagged_key("tag:a", 1).await).await;
    for number in 0..12 {
        let mut session = a.connected(&plane).await;
        let routes = vec![format!("10.{number}.0.0/16").parse().unwrap()];
        let last =
            serde_json::to_string(&AgentFrame { trace: None, message: AgentMessage::Routes { routes } });
        // In one piece, as from an agent that stops.
        session.socket.feed(Message::text(last.unwrap())).await.unwrap();
        session.socket.close(None).await.unwrap();
        while session.receive().await.is_some() {}
        let taken = plane.count(|event| matches!(event, Event::NodeRoutesAdvertised(_)));
        assert_eq!(taken, number + 1, "the last word was lost");
    }
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_opens_one_session_and_an_expired_one_none() {
    let plane = Plane::start().await;
    let (agent, _) = Agent::joined(&plane, &plane.tagged_key("tag:a", 1).await).await;
    let token = agent.token();
    let first = dial(&plane, &token).await;
    assert!(first.is_ok());
    let now = u64::try_from(jiff::Timestamp::now().as_second()).unwrap();
    let stranger = Agent::new(&plane);
    for (token, word) in [
        (token, "replayed_token"),
        (agent.token_of(now - 90, now - 30), "expired_token"),
        (agent.token_of(now, now + 600), "token_too_long"),
        (stranger.token(), "unknown_node"),
    ] {
        let Error::Http(answer) = dial(&plane, &token).await.unwrap_err() else { panic!("not an answer") };
        let body = String::from_utf8(answer.body().clone().unwrap_or_default()).unwrap();
        assert!(answer.status() == 401 && body.contains(word), "{body}");
    }
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_frame_is_refused_and_ends_the_session() {
    let plane = Plane::start().await;
    let (mut agent, _) = Agent::joined(&plane, &plane.tagged_key("tag:a", 1).await).await;
    let mut session = agent.connected(&plane).await;
    session.socket.send(Message::text("{\"message\": \"sing\"}")).await.unwrap();
    let word = session.until(|message| match message {
        ServerMessage::Refused { error, .. } => Some(error),
        _ => None,
    });
    assert_eq!(word.await, "malformed_frame");
    while session.receive().await.is_some() {}
    eventually("the end is recorded", || ended(&plane, SessionEnd::ProtocolViolation) == 1).await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oversized_or_binary_frame_ends_the_session() {
    let plane = Plane::start().await;
    let (mut agent, _) = Agent::joined(&plane, &plane.tagged_key("tag:a", 1).await).await;
    for frame in [Message::text("x".repeat(70_000)), Message::binary(vec![1, 2, 3])] {
        let mut session = agent.connected(&plane).await;
        session.socket.send(frame).await.unwrap();
        while session.receive().await.is_some() {}
    }
    eventually("both ends are recorded", || ended(&plane, SessionEnd::ProtocolViolation) == 2).await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_session_takes_the_place_of_the_older() {
    let plane = Plane::start().await;
    let (mut agent, _) = Agent::joined(&plane, &plane.tagged_key("tag:a", 1).await).await;
    let older = agent.connected(&plane).await.socket;
    let newer = agent.connected(&plane).await.socket;
    eventually("the older one has ended", || ended(&plane, SessionEnd::Replaced) == 1).await;
    drop(older);
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert!(plane.running.sequencer().state().nodes().all(|node| node.session.is_some()));
    drop(newer);
    eventually("the newer one has ended", || ended(&plane, SessionEnd::Closed) == 1).await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_comes_back_gets_what_it_missed() {
    let plane = Plane::start().await;
    plane.policy(OPEN).await;
    let (mut a, mut b, address) = pair(&plane).await;
    let mut a = a.connected(&plane).await;
    let mut at_b = b.connected(&plane).await;
    establish(&mut a, &mut at_b, address).await;
    drop(at_b.socket);
    eventually("the session has ended", || ended(&plane, SessionEnd::Closed) == 1).await;
    plane.policy(SHUT).await;
    acknowledge_withdrawal(&mut a).await;
    let socket = dial(&plane, &b.token()).await.unwrap();
    let mut at_b = Session { agent: &mut b, socket };
    at_b.hello().await;
    // The first frame is the missed withdrawal: nothing was told anew.
    let frame = at_b.next().await;
    assert!(matches!(frame.message, ServerMessage::Revoked { .. }), "{frame:?}");
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_that_was_started_anew_tells_everything_anew() {
    let plane = Plane::start().await;
    plane.policy(OPEN).await;
    let (mut a, mut b, address) = pair(&plane).await;
    {
        let mut at_a = a.connected(&plane).await;
        let mut at_b = b.connected(&plane).await;
        establish(&mut at_a, &mut at_b, address).await;
    }
    let plane = plane.again().await;
    // Committed before the agent is back, and told to nobody.
    plane.policy(SHUT).await;
    let socket = dial(&plane, &a.token()).await.unwrap();
    let mut at_a = Session { agent: &mut a, socket };
    at_a.hello().await;
    let frame = at_a.next().await;
    let ServerMessage::Snapshot(snapshot) = frame.message else { panic!("not a snapshot: {frame:?}") };
    assert!(snapshot.authorizations.is_empty() && snapshot.netmap.reachable.is_empty(), "{snapshot:?}");
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_netmap_changes_with_the_policy_and_without_reconnecting() {
    let plane = Plane::start().await;
    plane.policy(SHUT).await;
    let (mut a, b, _) = pair(&plane).await;
    let mut a = a.connected(&plane).await;
    plane.policy(OPEN).await;
    let delta = a.until(|message| match message {
        ServerMessage::NetmapChanged(delta) => Some(delta),
        _ => None,
    });
    let delta = delta.await;
    assert_eq!((delta.upsert.len(), delta.remove.len()), (1, 0));
    assert_eq!(delta.upsert[0].node.node, b.node());
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_are_told_when_the_control_plane_stops() {
    let plane = Plane::start().await;
    let (mut agent, _) = Agent::joined(&plane, &plane.tagged_key("tag:a", 1).await).await;
    let mut session = agent.connected(&plane).await;
    let log = plane.running.sequencer().log().clone();
    let stop = tokio::spawn(plane.running.stop());
    while session.receive().await.is_some() {}
    stop.await.unwrap();
    let last = writ_schema::Record::decode(&log.read(log.size() - 1).unwrap()).unwrap();
    assert!(matches!(last.event, Event::LogClosed(_)));
    let before = writ_schema::Record::decode(&log.read(log.size() - 2).unwrap()).unwrap();
    assert!(
        matches!(before.event, Event::SessionTerminated(body) if body.reason == SessionEnd::ControlPlaneStopped)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_of_a_peer_is_proven_if_the_log_begins_with_it() {
    let plane = Plane::start().await;
    plane.policy(OPEN).await;
    let (mut a, _, _) = pair(&plane).await;
    let mut a = a.connected(&plane).await;
    for size in [1, 2, 3, a.agent.size] {
        let request = RequestId::from_bytes([u8::try_from(size).unwrap(); 16]);
        a.say(AgentMessage::Consistency { request: request.clone(), size }).await;
        let answer = a.until(|message| match message {
            ServerMessage::Consistency { request, size, root, proof } => Some((request, size, root, proof)),
            _ => None,
        });
        let (answered, of, root, proof) = answer.await;
        assert_eq!((answered, of), (request, size));
        let hashes = proof.iter().map(|hash| hash.parse().unwrap()).collect();
        let proof = ConsistencyProof { old_size: size, new_size: a.agent.size, hashes };
        proof.verify(&root.parse().unwrap(), &a.agent.root).unwrap();
    }
    // One of a longer log: rolled back, or shown to somebody else.
    let request = RequestId::from_bytes([200; 16]);
    a.say(AgentMessage::Consistency { request: request.clone(), size: 1_000_000 }).await;
    let refused = a.until(|message| match message {
        ServerMessage::Refused { request, error, .. } => Some((request, error)),
        _ => None,
    });
    assert_eq!(refused.await, (Some(request), "beyond_log".to_owned()));
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_learns_how_it_would_be_decided_about_nothing_is_recorded_and_not_too_often() {
    let plane = Plane::start().await;
    plane.policy(SHUT).await;
    let (mut a, _, address) = pair(&plane).await;
    let mut a = a.connected(&plane).await;
    let size = plane.running.sequencer().log().size();
    let mut answered = 0;
    loop {
        let request = RequestId::from_bytes([answered; 16]);
        let (destination, protocol) = (Destination::Address(address), Protocol::Tcp);
        a.say(AgentMessage::Explain {
            request: request.clone(),
            destination,
            exit: None,
            protocol,
            port: 80,
        })
        .await;
        let answer = a.until(|message| match message {
            ServerMessage::Explained(explained) => Some(Ok(explained)),
            ServerMessage::Refused { error, retry_after_ms, .. } => Some(Err((error, retry_after_ms))),
            _ => None,
        });
        match answer.await {
            Ok(explained) => {
                assert_eq!((explained.request, explained.denied), (request, Some(DenialReason::NoRule)));
                assert_eq!(explained.destination.unwrap().addresses[0], address);
            }
            Err((error, after)) => {
                assert_eq!(error, "busy");
                assert!(after.is_some_and(|after| after > 0));
                break;
            }
        }
        answered += 1;
        assert!(answered < 100, "the policy can be read unseen");
    }
    assert!(answered >= 8, "{answered}");
    assert_eq!(plane.running.sequencer().log().size(), size, "a question was recorded");
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawal_that_was_not_acknowledged_is_told_again_by_a_control_plane_that_was_started_anew() {
    let plane = Plane::start().await;
    plane.policy(OPEN).await;
    let (mut a, mut b, address) = pair(&plane).await;
    {
        let mut at_a = a.connected(&plane).await;
        let mut at_b = b.connected(&plane).await;
        establish(&mut at_a, &mut at_b, address).await;
        plane.policy(SHUT).await;
        acknowledge_withdrawal(&mut at_a).await;
        // The other end is told, and goes without a word.
        at_b.revoked().await;
        eventually("one end has withdrawn", || acknowledged(&plane, AcknowledgedAction::Withdrawn) == 1)
            .await;
    }
    let plane = plane.again().await;
    {
        let mut at_b = b.connected(&plane).await;
        assert_eq!(acknowledge_withdrawal(&mut at_b).await, RevocationReason::PolicyChanged);
        eventually("both ends have", || acknowledged(&plane, AcknowledgedAction::Withdrawn) == 2).await;
    }
    let plane = plane.again().await;
    for agent in [&mut a, &mut b] {
        let mut session = agent.connected(&plane).await;
        session.connect(address, 80).await;
        let first = session.next().await;
        assert!(matches!(first.message, ServerMessage::Denied { .. }), "told once more: {first:?}");
    }
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_relay_forwards_for_a_pair_until_one_end_says_that_its_last_connection_is_closed() {
    let plane = Plane::start().await;
    plane.policy(&OPEN.replace("80", "80,81")).await;
    let (mut a, mut b, address) = pair(&plane).await;
    let (mut a, mut b) = (a.connected(&plane).await, b.connected(&plane).await);
    let mut held = Vec::new();
    for port in [80, 81] {
        a.connect(address, port).await;
        let at_a = a.authorized().await;
        b.authorized().await;
        held.push(a.check_authorized(&at_a).0);
    }
    let closed = |authorization: &writ_schema::AuthorizationId| AgentMessage::Closed {
        authorization: authorization.clone(),
        reason: CloseReason::Idle,
        bytes_sent: 1,
        bytes_received: 1,
        path: None,
    };
    let recorded = || plane.count(|event| matches!(event, Event::ConnectionClosed(_)));
    assert_eq!(permits(&plane).await, 1);
    a.say(closed(&held[0])).await;
    eventually("the first is closed", || recorded() == 1).await;
    assert_eq!(permits(&plane).await, 1, "the other connection goes on");
    b.say(closed(&held[1])).await;
    eventually("the second is closed", || recorded() == 2).await;
    // The hub follows the log a moment later.
    for _ in 0..200 {
        if permits(&plane).await == 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    assert_eq!(permits(&plane).await, 0);
    let plane = plane.again().await;
    assert_eq!(permits(&plane).await, 0, "nor does it after a restart");
    plane.stop().await;
}

/// Pairs that the relay forwards between, as the metrics tell.
async fn permits(plane: &Plane) -> u64 {
    let text = plane.http.get(plane.url("/metrics")).send().await.unwrap().text().await.unwrap();
    let line = text.lines().find(|line| line.starts_with("writ_relay_permits")).expect("the gauge is there");
    line.rsplit(' ').next().unwrap().parse().unwrap()
}
