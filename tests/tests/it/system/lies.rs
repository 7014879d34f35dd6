//! An agent that is lied to: whatever is altered between the log and the agent, it refuses, and says what.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::oneshot;
use writ_ledger::{FileLog, SignedCheckpoint};
use writ_schema::protocol::EnrolmentTicket;
use writ_schema::{Event, NodeId, Record};
use writ_tests::lab::{Host, wait_for, wait_until};
use writ_tests::load::{Node, Session};
use writ_tests::parts::{Agent, Settings};

use super::liar::{Liar, Lie};
use super::{LIMIT, Site, run_in};
use crate::lab_test;

const LIAR_PORT: u16 = 9443;

/// Agents are told the address of the liar.
fn site(name: &str) -> (Site, Liar) {
    let site = Site::with(name, |_| Settings {
        url: Some(format!("http://127.0.0.1:{LIAR_PORT}")),
        ..Settings::at(name, Ipv4Addr::LOCALHOST)
    });
    let liar = Liar::start(&site.host, LIAR_PORT, site.control.listen());
    (site, liar)
}

/// A node that is connected and answers nothing.
struct Presence {
    node: NodeId,
    address: Ipv4Addr,
    _stop: oneshot::Sender<()>,
}

impl Presence {
    fn start(host: &Host, ticket: &EnrolmentTicket, name: String) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (ready, known) = std::sync::mpsc::channel();
        let (inside, ticket) = (host.clone(), ticket.clone());
        std::thread::spawn(move || {
            run_in(&inside, move || async move {
                let http = reqwest::Client::builder().no_proxy().build().unwrap();
                let node = Node::join(&http, &ticket, name).await.unwrap();
                let mut session = Session::open(node).await.unwrap();
                ready.send((session.node().id().clone(), session.node().address())).unwrap();
                let serve = async {
                    // A session may be silent for longer than its owner cares to wait.
                    loop {
                        let _ = session.step().await;
                    }
                };
                tokio::select! {
                    _ = stopped => {}
                    () = serve => {}
                }
            });
        });
        let (node, address) = known.recv_timeout(LIMIT).unwrap();
        Self { node, address, _stop: stop }
    }
}

/// Changes one character of the text at this place to another of its kind.
fn flip(value: &mut Value, pointer: &str, position: impl Fn(usize) -> usize) -> bool {
    let Some(Value::String(text)) = value.pointer_mut(pointer) else { return false };
    let mut bytes = std::mem::take(text).into_bytes();
    let start = position(bytes.len());
    let place =
        (start..bytes.len()).chain(0..start).find(|place| bytes[*place].is_ascii_alphanumeric()).unwrap();
    bytes[place] = match bytes[place] {
        b'0'..=b'8' | b'a'..=b'y' | b'A'..=b'Y' => bytes[place] + 1,
        b'9' => b'0',
        b'z' => b'a',
        _ => b'A',
    };
    *text = String::from_utf8(bytes).unwrap();
    true
}

fn flip_at(pointer: &'static str, percent: usize) -> Lie {
    Arc::new(move |value| flip(value, pointer, |length| length * percent / 100))
}

fn number(pointer: &'static str, by: i64) -> Lie {
    Arc::new(move |value| match value.pointer_mut(pointer) {
        Some(place) => {
            *place = Value::from(place.as_i64().unwrap_or_default() + by);
            true
        }
        None => false,
    })
}

fn drop_one(pointer: &'static str) -> Lie {
    Arc::new(move |value| {
        value.pointer_mut(pointer).and_then(Value::as_array_mut).and_then(Vec::pop).is_some()
    })
}

/// The first node's name for that of the peer.
fn name_of_another(site: &Site) -> Lie {
    let joins = site.control.records().unwrap().into_iter().filter_map(|record| match record.event {
        Event::NodeJoined(event) => Some(event.node),
        _ => None,
    });
    let first = joins.into_iter().next().unwrap();
    Arc::new(move |value| {
        let place = value.pointer_mut("/message/authorized/peer/node");
        place.map(|name| *name = Value::from(first.as_str())).is_some()
    })
}

/// The join of the first node, with its true proof, for that of the peer: every part holds, but not together.
fn join_of_another(site: &Site) -> Lie {
    let (folder, key) = (site.control.log_directory(), site.control.log_key().unwrap());
    Arc::new(move |value| {
        if value.pointer("/message/authorized").is_none() {
            return false;
        }
        let note = value.pointer("/checkpoint/note").and_then(Value::as_str).unwrap();
        let size = SignedCheckpoint::open(note, &key).unwrap().checkpoint().size;
        let log = FileLog::open_read_only(&folder, &key).unwrap();
        let is_join = |bytes: &[u8]| matches!(Record::decode(bytes).unwrap().event, Event::NodeJoined(_));
        let found = log.read_range(0..size).map(Result::unwrap).find(|(_, bytes)| is_join(bytes));
        let (index, bytes) = found.unwrap();
        let proof = log.inclusion(index, size).unwrap();
        let join = value.pointer_mut("/message/authorized/peer/join").unwrap();
        join["seq"] = Value::from(index);
        join["record"] = Value::from(String::from_utf8(bytes).unwrap());
        join["proof"] = proof.hashes.iter().map(|hash| Value::from(hash.to_string())).collect();
        true
    })
}

fn session_lies(site: &Site) -> Vec<(&'static str, Lie)> {
    vec![
        ("the record, at its beginning", flip_at("/message/authorized/record/record", 2)),
        ("the record, in its middle", flip_at("/message/authorized/record/record", 50)),
        ("the record, near its end", flip_at("/message/authorized/record/record", 97)),
        ("the record's number", number("/message/authorized/record/seq", -1)),
        ("the record's proof", flip_at("/message/authorized/record/proof/0", 30)),
        ("the last hash of the record's proof", drop_one("/message/authorized/record/proof")),
        ("the key of the record's source", flip_at("/message/authorized/record/keys/0/key", 40)),
        ("the peer's name", name_of_another(site)),
        ("the peer's join", flip_at("/message/authorized/peer/join/record", 60)),
        ("the proof of the peer's join", flip_at("/message/authorized/peer/join/proof/0", 50)),
        ("the number of the peer's join", number("/message/authorized/peer/join/seq", 1)),
        ("somebody else's join in the place of the peer's", join_of_another(site)),
        ("the root in the checkpoint", flip_at("/checkpoint/note", 45)),
        ("the signature of the checkpoint", flip_at("/checkpoint/note", 92)),
        ("the checkpoint's consistency", flip_at("/checkpoint/consistency/0", 50)),
    ]
}

/// How many rejections of the agent are in the log.
fn recorded(site: &Site) -> usize {
    let records = site.control.records().unwrap();
    records.iter().filter(|record| matches!(record.event, Event::SessionFrameRejected(_))).count()
}

fn refusals(agent: &Agent) -> usize {
    agent.status().unwrap()["refusals"].as_array().map_or(0, Vec::len)
}

lab_test! {
    fn an_authorization_that_was_altered_anywhere_is_refused_and_named() {
        let (site, liar) = site("lies");
        let ticket = site.ticket(100);
        let _first = Presence::start(&site.host, &ticket, "first".to_owned());
        let agent = site.agent(&site.host, "agent", &ticket);
        let packets = site.host.udp(0).unwrap();
        for (number, (what, lie)) in session_lies(&site).into_iter().enumerate() {
            // What was refused of one peer may be taken from an honest snapshot later, so each lie is about another.
            let peer = Presence::start(&site.host, &ticket, format!("peer-{number}"));
            let ask = || {
                packets.send_to(b"let me in", (peer.address, 20_000)).unwrap();
                std::thread::sleep(Duration::from_millis(50));
                true
            };
            let is_peer = || agent.peer(peer.node.as_str()).is_ok();
            let (told, refused) = (liar.told(), refusals(&agent));
            liar.tell(lie);
            // What is asked while the session is begun anew is not answered.
            wait_until(LIMIT, &format!("a lie is told about {what}"), || ask() && liar.told() > told).unwrap();
            wait_until(LIMIT, &format!("{what} is refused"), || refusals(&agent) > refused).unwrap();
            assert!(!is_peer(), "altered {what}: {:#}", agent.status().unwrap());
            liar.stop_lying();
        }
        // The honest control plane behind the liar has it in the log.
        wait_until(LIMIT, "what was rejected is recorded", || recorded(&site) > 0).unwrap();
        let peer = Presence::start(&site.host, &ticket, "last".to_owned());
        wait_until(LIMIT, "honest word is taken after all", || {
            packets.send_to(b"let me in", (peer.address, 20_000)).unwrap();
            agent.peer(peer.node.as_str()).is_ok()
        })
        .unwrap();
    }
}

lab_test! {
    fn a_join_whose_answer_was_altered_anywhere_is_refused_and_can_be_tried_again() {
        let (site, liar) = site("join-lies");
        let lies: Vec<(&str, Lie)> = vec![
            ("the first record", flip_at("/genesis/record", 50)),
            ("the proof of the first record", flip_at("/genesis/proof/0", 50)),
            ("the join", flip_at("/join/record", 40)),
            ("the proof of the join", flip_at("/join/proof/0", 50)),
            ("the checkpoint", flip_at("/checkpoint/note", 50)),
            ("the checkpoint's signature", flip_at("/checkpoint/note", 92)),
            ("the address", Arc::new(|value| {
                let place = value.get_mut("address_v4");
                place.map(|address| *address = Value::from("100.64.9.9")).is_some()
            })),
        ];
        for (number, (what, lie)) in lies.into_iter().enumerate() {
            let ticket = site.ticket(1);
            let told = liar.told();
            liar.tell(lie);
            let name = format!("agent-{number}");
            let mut agent = Agent::new(&site.programs, &site.host, &site.lab.directory().join(&name));
            agent.begin_join(&name, &ticket).unwrap();
            wait_until(LIMIT, &format!("a lie is told about {what}"), || liar.told() > told).unwrap();
            // It either gives up and says so, or says so and tries again.
            let said = |text: &str| text.contains("refused") || text.contains("verif");
            wait_for(LIMIT, &format!("{what} is refused"), || {
                let process = agent.process().unwrap();
                let text = process.stderr();
                if said(&text) { Ok(()) } else { Err(text) }
            }).unwrap();
            assert_ne!(agent.status().map(|status| status["session"].clone()).ok(), Some("connected".into()));
            liar.stop_lying();
            agent.stop().unwrap();
            agent.begin_join(&name, &ticket).unwrap();
            agent.wait_connected(LIMIT).unwrap();
            agent.stop().unwrap();
        }
    }
}
