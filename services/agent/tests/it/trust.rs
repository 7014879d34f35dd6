//! What the control plane sends is believed only as it stands in the log: each single alteration is refused.

use writ_agent::trust::{Chain, JoiningKeys, PolicyRefusal, Refusal, Trust, Verified};
use writ_ledger::{Checkpoint, CheckpointError, Note, TrustPolicy};
use writ_schema::event::{NodeRemoval, NodeRemoved, RevocationReason, Side, Version};
use writ_schema::keys::IdentityKey;
use writ_schema::protocol::{AgentMessage, Authorized, ProvenRecord, ServerFrame, ServerMessage};
use writ_schema::{AuthorizationId, RequestId};

use super::control_plane::{ControlPlane, Node, Permit, public};

struct Scene {
    control: ControlPlane,
    source: Node,
    destination: Node,
}

impl Scene {
    fn new() -> Self {
        let mut control = ControlPlane::new();
        let source = control.join("laptop", 1);
        let destination = control.join("server", 2);
        Self { control, source, destination }
    }

    /// A frame with an authorization for the source, as it should be.
    fn authorized(&mut self) -> ServerFrame {
        let (_, seq) = self.control.authorize(&self.source, &self.destination, &Permit::tcp(80));
        let message = self.control.authorized(seq, Side::Source, &self.destination, Vec::new(), None);
        self.control.frame(self.source.trust.chain().size(), ServerMessage::Authorized(Box::new(message)))
    }

    fn verify(&mut self, frame: ServerFrame) -> Result<Verified, Refusal> {
        self.source.trust.verify(self.control.now, frame)
    }

    /// Verifies a changed copy, which must leave no trace: the unchanged frame must still verify.
    fn refused(&mut self, frame: &ServerFrame, change: impl FnOnce(&mut ServerFrame)) -> Refusal {
        let mut changed = frame.clone();
        change(&mut changed);
        let mut trust = self.source.trust.clone();
        let refusal = trust.verify(self.control.now, changed).expect_err("an altered frame was accepted");
        assert!(self.source.trust.clone().verify(self.control.now, frame.clone()).is_ok());
        refusal
    }
}

fn authorized_in(frame: &mut ServerFrame) -> &mut Authorized {
    match &mut frame.message {
        ServerMessage::Authorized(authorized) => authorized,
        other => panic!("not an authorization: {other:?}"),
    }
}

fn flip(text: &mut String, at: usize) {
    let mut bytes = text.clone().into_bytes();
    // Stays ASCII, so that the text stays a text.
    bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
    *text = String::from_utf8(bytes).unwrap();
}

#[test]
fn a_proven_authorization_is_believed_at_both_ends() {
    let mut scene = Scene::new();
    let frame = scene.authorized();
    let Verified::Authorized(verified) = scene.verify(frame).unwrap() else { panic!("not an authorization") };
    assert_eq!(verified.peer().node(), &scene.destination.id);
    assert_eq!(verified.peer().name(), Some("server"));
    assert_eq!(verified.peer().address_v4(), scene.destination.membership.address_v4);
    let (_, seq) = scene.control.authorize(&scene.source, &scene.destination, &Permit::tcp(80));
    let message = scene.control.authorized(seq, Side::Destination, &scene.source, Vec::new(), None);
    let held = scene.destination.trust.chain().size();
    let frame = scene.control.frame(held, ServerMessage::Authorized(Box::new(message)));
    assert!(scene.destination.trust.verify(scene.control.now, frame).is_ok());
}

#[test]
fn any_altered_byte_of_a_record_or_proof_is_refused() {
    type Field = fn(&mut Authorized) -> &mut ProvenRecord;
    let fields: [Field; 2] = [|a| &mut a.record, |a| &mut a.peer.join];
    let mut scene = Scene::new();
    let frame = scene.authorized();
    for field in fields {
        let length = field(authorized_in(&mut frame.clone())).record.len();
        for at in (0..length).step_by(3) {
            let refusal = scene.refused(&frame, |f| flip(&mut field(authorized_in(f)).record, at));
            assert!(matches!(refusal, Refusal::NotIncluded { .. }), "byte {at}: {refusal}");
        }
        let hashes = field(authorized_in(&mut frame.clone())).proof.len();
        for at in 0..hashes {
            for byte in [0, 20] {
                scene.refused(&frame, |f| flip(&mut field(authorized_in(f)).proof[at], byte));
            }
        }
        scene.refused(&frame, |f| drop(field(authorized_in(f)).proof.pop()));
        scene.refused(&frame, |f| field(authorized_in(f)).proof.push("A".repeat(43) + "="));
        scene.refused(&frame, |f| field(authorized_in(f)).seq.0 += 1);
        scene.refused(&frame, |f| field(authorized_in(f)).seq.0 = u64::MAX);
    }
}

#[test]
fn any_altered_byte_of_a_checkpoint_is_refused() {
    let mut scene = Scene::new();
    let frame = scene.authorized();
    let length = frame.checkpoint.as_ref().unwrap().note.len();
    for at in 0..length {
        if !frame.checkpoint.as_ref().unwrap().note.is_char_boundary(at) {
            continue;
        }
        scene.refused(&frame, |f| {
            let note = &mut f.checkpoint.as_mut().unwrap().note;
            let character = note[at..].chars().next().unwrap();
            let other = if character == 'A' { "B" } else { "A" };
            note.replace_range(at..at + character.len_utf8(), other);
        });
    }
}

#[test]
fn a_log_that_shrank_forked_or_does_not_continue_is_refused() {
    let mut scene = Scene::new();
    let older = scene
        .control
        .frame(0, ServerMessage::Candidates { node: scene.source.id.clone(), candidates: vec![] });
    let frame = scene.authorized();
    scene.verify(frame).unwrap();
    assert!(matches!(scene.verify(older), Err(Refusal::Shrunk { .. })));

    let message = || ServerMessage::Candidates { node: scene.source.id.clone(), candidates: vec![] };
    // A log with the same key and another history, of the same size and longer.
    let mut fork = ControlPlane::new();
    fork.join("laptop", 1);
    fork.join("intruder", 3);
    let held = scene.source.trust.chain().size();
    while fork.size() < held {
        fork.revoke(&AuthorizationId::from_bytes([9; 16]));
    }
    let same_size = fork.frame(held, message());
    fork.revoke(&AuthorizationId::from_bytes([9; 16]));
    let longer = fork.frame(held, message());
    let unproven = fork.frame(0, message());
    let size = scene.source.trust.chain().size();
    assert!(matches!(scene.verify(same_size), Err(Refusal::Forked { .. })));
    assert!(matches!(scene.verify(longer), Err(Refusal::Inconsistent { .. })));
    assert!(matches!(scene.verify(unproven), Err(Refusal::OtherStart { .. })));
    assert_eq!(scene.source.trust.chain().size(), size, "a refused checkpoint must not be taken");
}

#[test]
fn a_log_with_another_key_is_refused() {
    let mut scene = Scene::new();
    let other = ControlPlane::with_key(8);
    let message = ServerMessage::Candidates { node: scene.source.id.clone(), candidates: vec![] };
    assert!(matches!(scene.verify(other.frame(0, message)), Err(Refusal::Checkpoint(_))));
}

#[test]
fn an_authorization_of_others_or_of_the_wrong_end_is_refused() {
    let mut scene = Scene::new();
    let third = scene.control.join("third", 3);
    let frame = scene.authorized();
    let refusal = scene.refused(&frame, |f| authorized_in(f).side = Side::Destination);
    assert!(matches!(refusal, Refusal::OtherNode { .. }), "{refusal}");

    let held = scene.source.trust.chain().size();
    let (_, others) = scene.control.authorize(&third, &scene.destination, &Permit::tcp(80));
    for (side, peer) in [(Side::Source, &scene.destination), (Side::Destination, &third)] {
        let message = scene.control.authorized(others, side, peer, Vec::new(), None);
        let frame = scene.control.frame(held, ServerMessage::Authorized(Box::new(message)));
        let refusal = scene.source.trust.clone().verify(scene.control.now, frame).unwrap_err();
        assert!(matches!(refusal, Refusal::OtherNode { .. }), "{refusal}");
    }
}

#[test]
fn a_peer_that_is_not_the_one_in_the_record_is_refused() {
    let mut scene = Scene::new();
    let third = scene.control.join("third", 3);
    let held = scene.source.trust.chain().size();
    let (_, seq) = scene.control.authorize(&scene.source, &scene.destination, &Permit::tcp(80));
    // Another node's join under the right name, and another node altogether.
    let mut swapped = scene.control.authorized(seq, Side::Source, &scene.destination, Vec::new(), None);
    swapped.peer.join = scene.control.proven(third.join);
    let other = scene.control.authorized(seq, Side::Source, &third, Vec::new(), None);
    for message in [swapped, other] {
        let frame = scene.control.frame(held, ServerMessage::Authorized(Box::new(message)));
        let refusal = scene.source.trust.clone().verify(scene.control.now, frame).unwrap_err();
        assert!(matches!(refusal, Refusal::OtherNode { .. }), "{refusal}");
    }
}

#[test]
fn a_record_of_another_kind_is_refused() {
    let mut scene = Scene::new();
    let join = scene.control.proven(scene.destination.join);
    let held = scene.source.trust.chain().size();
    let mut frame = scene.control.frame(held, ServerMessage::Removed { record: join.clone() });
    frame.checkpoint = Some(scene.control.checkpoint(held));
    assert!(matches!(scene.verify(frame), Err(Refusal::OtherKind { .. })));
}

#[test]
fn a_sealed_source_without_its_key_is_refused() {
    let mut scene = Scene::new();
    let frame = scene.authorized();
    let refusal = scene.refused(&frame, |f| authorized_in(f).record.keys.clear());
    assert!(matches!(refusal, Refusal::SourceSealed(_)), "{refusal}");
}

#[test]
fn an_expired_authorization_is_refused() {
    let mut scene = Scene::new();
    let frame = scene.authorized();
    scene.control.pass(super::control_plane::LIFE);
    assert!(matches!(scene.verify(frame), Err(Refusal::Expired(_))));
}

#[test]
fn an_authorization_to_reach_itself_is_refused() {
    let mut scene = Scene::new();
    let (_, seq) = scene.control.authorize(&scene.source, &scene.source, &Permit::tcp(80));
    let message = scene.control.authorized(seq, Side::Source, &scene.source, Vec::new(), None);
    let held = scene.source.trust.chain().size();
    let frame = scene.control.frame(held, ServerMessage::Authorized(Box::new(message)));
    assert!(matches!(scene.verify(frame), Err(Refusal::Itself(_))));
}

#[test]
fn a_key_counts_only_if_the_nodes_identity_key_signed_it() {
    let mut scene = Scene::new();
    let frame = scene.authorized();
    scene.verify(frame).unwrap();
    let theirs = public(&boringtun::x25519::StaticSecret::from([77; 32]));
    // The control plane puts in a key that some other node signed.
    let impostor = Node { id: scene.destination.id.clone(), ..scene.control.join("impostor", 4) };
    let forged = scene.control.rotate(&impostor, 1, theirs);
    let genuine = scene.control.rotate(&scene.destination, 1, theirs);
    for (seq, is_good) in [(forged, false), (genuine, true)] {
        let message =
            ServerMessage::PeerKey { node: scene.destination.id.clone(), record: scene.control.proven(seq) };
        let frame = scene.control.frame(scene.source.trust.chain().size(), message);
        match scene.verify(frame) {
            Ok(Verified::Key(key)) => assert!(is_good && key.generation() == 1 && *key.key() == theirs),
            Err(refusal) => assert!(!is_good && matches!(refusal, Refusal::UnsignedKey(_)), "{refusal}"),
            Ok(other) => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_older_key_than_one_seen_before_is_refused() {
    let mut scene = Scene::new();
    let theirs = public(&boringtun::x25519::StaticSecret::from([77; 32]));
    scene.destination.rotation = Some(scene.control.rotate(&scene.destination, 1, theirs));
    let frame = scene.authorized();
    scene.verify(frame).unwrap();
    scene.destination.rotation = None;
    let frame = scene.authorized();
    assert!(matches!(scene.verify(frame), Err(Refusal::OldGeneration { generation: 0, seen: 1, .. })));
    let second = public(&boringtun::x25519::StaticSecret::from([78; 32]));
    scene.destination.rotation = Some(scene.control.rotate(&scene.destination, 1, second));
    let frame = scene.authorized();
    assert!(matches!(scene.verify(frame), Err(Refusal::SecondKey { generation: 1, .. })));
}

#[test]
fn a_key_of_a_node_that_was_never_shown_is_refused() {
    let mut scene = Scene::new();
    let theirs = public(&boringtun::x25519::StaticSecret::from([77; 32]));
    let seq = scene.control.rotate(&scene.destination, 1, theirs);
    let message =
        ServerMessage::PeerKey { node: scene.destination.id.clone(), record: scene.control.proven(seq) };
    let frame = scene.control.frame(scene.source.trust.chain().size(), message);
    assert!(matches!(scene.verify(frame), Err(Refusal::UnknownNode(_))));
}

#[test]
fn a_revocation_or_removal_of_something_else_is_refused() {
    let mut scene = Scene::new();
    let (id, _) = scene.control.authorize(&scene.source, &scene.destination, &Permit::tcp(80));
    let seq = scene.control.revoke(&id);
    let revoked = |scene: &Scene, authorization: &AuthorizationId| ServerMessage::Revoked {
        authorization: authorization.clone(),
        reason: RevocationReason::PolicyChanged,
        record: scene.control.proven(seq),
    };
    let held = scene.source.trust.chain().size();
    let wrong = scene.control.frame(held, revoked(&scene, &AuthorizationId::from_bytes([200; 16])));
    assert!(matches!(
        scene.source.trust.clone().verify(scene.control.now, wrong),
        Err(Refusal::OtherAuthorization(_))
    ));
    let right = scene.control.frame(held, revoked(&scene, &id));
    assert!(matches!(scene.verify(right), Ok(Verified::Revoked(_))));

    let node = scene.destination.id.clone();
    let others = scene.control.append(NodeRemoved { v: Version, node, reason: NodeRemoval::Removed });
    let message = ServerMessage::Removed { record: scene.control.proven(others) };
    let frame = scene.control.frame(scene.source.trust.chain().size(), message);
    assert!(matches!(scene.verify(frame), Err(Refusal::OtherNode { .. })));
}

#[test]
fn a_join_is_believed_only_as_it_was_asked_for_and_recorded() {
    let mut control = ControlPlane::new();
    let (response, identity, secret) = control.join_response("laptop", 1);
    let ours = JoiningKeys { identity: IdentityKey::of(&identity), wireguard: public(&secret) };
    let network = control.network.clone();
    let join = |response| {
        Trust::join(&network, control.log_key(), ours, &response).map(|(_, membership)| membership)
    };
    assert_eq!(join(response.clone()).unwrap().address_v4, response.address_v4);

    let altered = |change: fn(&mut writ_schema::protocol::JoinResponse)| {
        let mut altered = response.clone();
        change(&mut altered);
        join(altered).unwrap_err()
    };
    assert!(matches!(altered(|r| r.address_v4 = [100, 64, 9, 9].into()), Refusal::OtherJoin("IPv4 address")));
    assert!(matches!(altered(|r| r.address_v6 = [9; 16].into()), Refusal::OtherJoin("IPv6 address")));
    assert!(matches!(altered(|r| r.network_name = "other".to_owned()), Refusal::OtherJoin("network name")));
    assert!(matches!(altered(|r| r.genesis = r.join.clone()), Refusal::OtherKind { .. }));
    assert!(matches!(altered(|r| flip(&mut r.join.record, 40)), Refusal::NotIncluded { .. }));

    let stranger = ed25519_dalek::SigningKey::from_bytes(&[99; 32]);
    let theirs = JoiningKeys { identity: IdentityKey::of(&stranger), ..ours };
    assert!(Trust::join(&network, control.log_key(), theirs, &response).is_err());
    let other_network = writ_schema::NetworkId::from_bytes([2; 16]);
    let refusal = Trust::join(&other_network, control.log_key(), ours, &response).unwrap_err();
    assert!(matches!(refusal, Refusal::OtherNetwork("network")), "{refusal}");
    let other_key = ControlPlane::with_key(8).log_key();
    assert!(matches!(Trust::join(&network, other_key, ours, &response), Err(Refusal::Checkpoint(_))));
}

#[test]
fn a_kept_checkpoint_is_verified_again() {
    let scene = Scene::new();
    let note = scene.source.trust.chain().note().unwrap();
    assert_eq!(
        Chain::resume(scene.control.log_key(), &[], note).unwrap().size(),
        scene.source.trust.chain().size()
    );
    let mut altered = note.to_owned();
    flip(&mut altered, 18);
    assert!(Chain::resume(scene.control.log_key(), &[], &altered).is_err());
}

#[test]
fn a_log_whose_key_changes_is_followed_and_the_old_key_is_refused_from_there_on() {
    let mut scene = Scene::new();
    let first = scene.control.log_key();
    let note_before = scene.control.checkpoint(0).note;
    scene.control.rotate_log_key(20);
    let frame = scene.authorized();
    assert!(scene.verify(frame).is_ok());
    // Twice while the node is away.
    scene.control.rotate_log_key(21);
    scene.control.rotate_log_key(22);
    let frame = scene.authorized();
    assert!(scene.verify(frame).is_ok());
    let chain = scene.source.trust.chain();
    assert_eq!((chain.key(), chain.rotations().len()), (&first, 3));

    // What was followed outlives the process.
    let stored = scene.source.trust.stored();
    assert!(Chain::resume(first.clone(), &stored.rotations, &stored.checkpoint).is_ok());
    assert!(Chain::resume(first.clone(), &[], &stored.checkpoint).is_err());
    assert!(Chain::resume(first.clone(), &stored.rotations, &note_before).is_ok());

    // Whoever joins now trusts the newest key, and later changes.
    scene.control.join("late", 9);

    // The first key signs nothing any more, however right the rest is.
    let thief = writ_ledger::SigningKey::from_seed(super::control_plane::ORIGIN, [7; 32]).unwrap();
    let frame = scene.authorized();
    let refusal = scene.refused(&frame, |frame| {
        let update = frame.checkpoint.as_mut().unwrap();
        let note: Note = update.note.parse().unwrap();
        let checkpoint = Checkpoint::parse(note.text()).unwrap();
        update.note = checkpoint.sign(&thief).unwrap().text().to_owned();
    });
    assert!(matches!(refusal, Refusal::Checkpoint(CheckpointError::FormerKey { .. })), "{refusal}");
}

#[test]
fn a_change_of_the_logs_key_that_the_old_key_did_not_sign_is_refused() {
    let mut scene = Scene::new();
    let key =
        |seed: u8| writ_ledger::SigningKey::from_seed(super::control_plane::ORIGIN, [seed; 32]).unwrap();
    let root = writ_ledger::leaf_hash(b"");
    let forged = writ_ledger::Rotation::sign(&key(30), &key(31), scene.control.size(), &root).unwrap();
    scene.control.rotate_log_key_by(forged.statement, key(31));
    let frame = scene.authorized();
    assert!(matches!(scene.verify(frame), Err(Refusal::Rotation(_))));

    let mut scene = Scene::new();
    scene.control.rotate_log_key(20);
    let frame = scene.authorized();
    let refusal = scene.refused(&frame, |frame| frame.checkpoint.as_mut().unwrap().rotations.clear());
    assert!(matches!(refusal, Refusal::Checkpoint(_)), "{refusal}");
    let refusal = scene.refused(&frame, |frame| {
        let proof = &mut frame.checkpoint.as_mut().unwrap().rotations[0].proof[0];
        flip(proof, 3);
    });
    assert!(matches!(refusal, Refusal::NotIncluded { .. }), "{refusal}");
}

fn policy(text: &str) -> TrustPolicy {
    let witness = ControlPlane::witness().cosigner_key();
    TrustPolicy::parse(format!("witness ada {witness}\n{text}").as_bytes()).unwrap()
}

/// The source asks what witnesses have cosigned, and is answered.
fn hear_witnesses(scene: &mut Scene) -> Verified {
    let now = scene.control.now;
    let asked = scene.source.trust.ask(now, || RequestId::from_bytes([1; 16]));
    let Some(AgentMessage::Cosigned { request }) = asked else { panic!("nothing was asked: {asked:?}") };
    let answer = scene.control.cosigned(request);
    let frame = scene.control.frame(scene.source.trust.chain().size(), answer);
    scene.verify(frame).unwrap()
}

#[test]
fn a_nodes_own_policy_lets_nothing_new_be_believed_that_no_quorum_has_witnessed_lately() {
    let mut scene = Scene::new();
    let minutes = |minutes: u64| std::time::Duration::from_secs(60 * minutes);
    scene.source.trust.demand(policy("quorum ada\n")).unwrap();
    let is_met = |scene: &Scene| scene.source.trust.quorum(scene.control.now).unwrap().is_met;
    let frame = scene.authorized();
    let refusal = scene.verify(frame.clone()).unwrap_err();
    assert!(
        matches!(&refusal, Refusal::Unwitnessed { why, .. } if why.contains("has come yet")),
        "{refusal}"
    );
    assert!(matches!(hear_witnesses(&mut scene), Verified::Refused { .. }));
    let status = scene.source.trust.quorum(scene.control.now).unwrap();
    assert!(status.why_not.unwrap().contains("there are no witnesses"));
    assert_eq!(status.absent, ["ada"]);

    scene.control.pass(minutes(1));
    scene.control.be_cosigned();
    assert!(matches!(hear_witnesses(&mut scene), Verified::Cosigned { frees: true }));
    assert!(is_met(&scene) && scene.verify(frame.clone()).is_ok());
    assert!(scene.source.trust.ask(scene.control.now, || RequestId::from_bytes([2; 16])).is_none());

    // The log goes on without its witnesses; what is live stays, and for half an hour what is new is believed.
    scene.control.pass(minutes(8));
    let within = scene.authorized();
    assert!(scene.verify(within.clone()).is_ok() && is_met(&scene));
    assert!(matches!(hear_witnesses(&mut scene), Verified::Cosigned { frees: false }));
    scene.control.pass(minutes(21));
    let kept = Permit { life: minutes(60), ..Permit::tcp(80) };
    let (_, seq) = scene.control.authorize(&scene.source, &scene.destination, &kept);
    let message = scene.control.authorized(seq, Side::Source, &scene.destination, Vec::new(), None);
    let told = |scene: &Scene| {
        let held = scene.source.trust.chain().size();
        scene.control.frame(held, ServerMessage::Authorized(Box::new(message.clone())))
    };
    let live = told(&scene);
    assert!(scene.verify(live).is_ok());
    scene.control.pass(minutes(2));
    let late = scene.authorized();
    let refusal = scene.verify(late).unwrap_err();
    assert!(
        matches!(&refusal, Refusal::Unwitnessed { why, .. } if why.contains("30 minutes ago")),
        "{refusal}"
    );
    let stored = scene.source.trust.stored();
    assert!(stored.cosigned.is_some());

    // Cosigned again, it is remembered by the next process.
    scene.control.be_cosigned();
    assert!(matches!(hear_witnesses(&mut scene), Verified::Cosigned { frees: true }));
    let stored = scene.source.trust.stored();
    let identity = IdentityKey::of(&scene.source.identity);
    let key = scene.control.log_key();
    let mut next = Trust::resume(&scene.source.membership, identity, key, stored).unwrap();
    assert!(next.quorum(scene.control.now).is_none());
    next.demand(policy("quorum ada\n")).unwrap();
    assert!(next.quorum(scene.control.now).unwrap().is_met);
}

#[test]
fn what_witnesses_have_cosigned_of_another_history_does_not_count() {
    let mut scene = Scene::new();
    scene.source.trust.demand(policy("quorum ada\n")).unwrap();
    let mut honest = scene.control.fork();
    let _ = honest.join("honest", 70);
    honest.be_cosigned();
    // This node is shown the other history, and the witnesses' word about the honest one.
    let _ = scene.control.join("forged", 71);
    let _ = scene.control.join("more", 72);
    scene.control.boast_of(&honest);
    assert!(matches!(hear_witnesses(&mut scene), Verified::Cosigned { frees: false }));
    let status = scene.source.trust.quorum(scene.control.now).unwrap();
    assert!(!status.is_met && status.why_not.unwrap().contains("it was shown another history"));
    let frame = scene.authorized();
    assert!(matches!(scene.verify(frame), Err(Refusal::Unwitnessed { .. })));
}

#[test]
fn a_policy_that_cannot_be_followed_is_refused_by_name() {
    let mut scene = Scene::new();
    let other = ControlPlane::with_key(8).log_key();
    let other = scene.source.trust.demand(policy(&format!("log {other}\nquorum ada\n")));
    assert!(matches!(other, Err(PolicyRefusal::OtherLog(_))), "{other:?}");
    assert_eq!(scene.source.trust.demand(policy("quorum none\n")), Err(PolicyRefusal::NoQuorum));
    let own = format!("log {}\nquorum ada\n", scene.control.log_key());
    assert_eq!(scene.source.trust.demand(policy(&own)), Ok(()));
}
