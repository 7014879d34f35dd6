//! What anybody who reaches the resolver can ask it.
//!
//! An answer is a message of the query's number that fits, and nobody could be made to answer it again.

use std::sync::OnceLock;

use writ_agent::names::{Query, Transport, Unanswerable, Zone};

use crate::control_plane::ControlPlane;

fn zone() -> &'static Zone {
    static ZONE: OnceLock<Zone> = OnceLock::new();
    ZONE.get_or_init(|| {
        let mut control = ControlPlane::new();
        let node = control.join("host", 1);
        Zone::of(&node.membership).expect("a zone").with(&control.netmap(&node))
    })
}

/// Answers the bytes, over both transports.
pub fn run(data: &[u8]) {
    let query = match Query::read(data) {
        Ok(query) => query,
        Err(Unanswerable::Malformed(answer)) => return check(data, &answer),
        Err(Unanswerable::Silence) => return,
    };
    let _ = zone().is_asked(&query);
    for transport in [Transport::Udp, Transport::Tcp] {
        for answer in [zone().answer(&query, transport), query.failure(transport)] {
            assert!(answer.len() <= query.limit(transport), "longer than was asked for");
            check(data, &answer);
            let id = u16::from_be_bytes([data[0], data[1]]);
            assert!(
                query.question().is_none() || query.is_answered_by(id, &answer),
                "it answers something else"
            );
        }
    }
}

fn check(query: &[u8], answer: &[u8]) {
    assert_eq!(answer.get(..2), query.get(..2), "another number");
    assert!(matches!(Query::read(answer), Err(Unanswerable::Silence)), "an answer that could be answered");
}
