//! A small network for tests: the company of the README.

use std::net::IpAddr;
use std::sync::Arc;

use writ_policy::{Compiled, Inventory, InventoryNode, InventoryUser, Owner, Policy};
use writ_schema::{NodeId, UserId};

pub fn user(number: u8) -> UserId {
    UserId::from_bytes([number; 16])
}

pub fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 16])
}

pub fn addresses(number: u8) -> Vec<IpAddr> {
    vec![
        format!("100.64.0.{number}").parse().expect("address"),
        format!("fd7a:115c:a1e0::{number:x}").parse().expect("address"),
    ]
}

pub fn person(number: u8, login: &str) -> InventoryUser {
    InventoryUser { id: user(number), login: login.to_owned() }
}

pub fn machine(number: u8, owner: Owner) -> InventoryNode {
    InventoryNode::new(node(number), owner, addresses(number))
}

pub fn tagged(tags: &[&str]) -> Owner {
    Owner::Tags(tags.iter().map(|tag| tag.to_string()).collect())
}

pub const DEV: u8 = 1;
pub const DEV_PHONE: u8 = 2;
pub const ONCALL: u8 = 3;
pub const STAGING: u8 = 4;
pub const DATABASE: u8 = 5;

/// A developer with two machines, an on-call engineer, a staging cluster and a database.
pub fn company() -> Inventory {
    Inventory {
        users: vec![person(1, "dev@example.com"), person(2, "oncall@example.com")],
        nodes: vec![
            machine(DEV, Owner::User(user(1))),
            machine(DEV_PHONE, Owner::User(user(1))),
            machine(ONCALL, Owner::User(user(2))),
            machine(STAGING, tagged(&["tag:staging"])),
            machine(DATABASE, tagged(&["tag:database"])),
        ],
    }
}

pub const COMPANY_POLICY: &str = r#"{
  // Who is who.
  "groups": {
    "group:developers": ["dev@example.com"],
    "group:oncall": ["oncall@example.com"],
  },
  "tagOwners": {"tag:staging": ["group:oncall"], "tag:database": ["group:oncall"]},
  "hosts": {"db": "100.64.0.5"},
  "acls": [
    {"action": "accept", "src": ["group:developers"], "dst": ["tag:staging:80,443,444"]},
    {"action": "accept", "proto": "tcp", "src": ["group:oncall"], "dst": ["db:5432"]},
    {"action": "accept", "src": ["autogroup:member"], "dst": ["autogroup:self:22"]},
  ],
  "grants": [{"src": ["group:oncall"], "dst": ["tag:staging"], "ip": ["tcp:22", "udp:53-60", "icmp:*"]}],
  "tests": [
    {"src": "dev@example.com", "accept": ["tag:staging:443"], "deny": ["db:5432", "tag:database:22"]},
    {"src": "group:oncall", "accept": ["db:5432"]},
  ],
}"#;

pub fn compile(text: &str, inventory: &Inventory) -> Compiled {
    let policy = Policy::parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    Compiled::new(Arc::new(policy), inventory).unwrap_or_else(|error| panic!("{error}\n{text}"))
}
