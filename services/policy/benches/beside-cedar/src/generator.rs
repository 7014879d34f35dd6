//! The networks that are measured, made up by a fixed rule, so that figures compare from run to run.
//!
//! Half of the nodes belong to users, two to each; the other half carry one tag. There are a tenth as many groups as rules,
//! each of a fiftieth of the users but of twenty at most, and a fifth as many tags as rules. Nine rules in ten let a group
//! reach a tag on one or two ports; the tenth names a host by address. The last rule lets everyone reach their own nodes
//! over SSH.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use writ_policy::{Inventory, InventoryNode, InventoryUser, Owner};
use writ_schema::{NodeId, UserId};

/// Numbers that look random and are the same in every run.
pub struct Numbers(pub u64);

impl Numbers {
    /// The next, below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end.max(1)
    }
}

/// The users and nodes.
pub fn inventory(nodes: usize, rules: usize) -> Inventory {
    let users = (nodes / 4).max(1);
    let user_id = |number: usize| UserId::from_bytes((number as u128).to_be_bytes());
    let owner = |number: usize| match number % 2 {
        0 => Owner::User(user_id(number / 4 % users)),
        _ => Owner::Tags(vec![format!("tag:t{}", number / 2 % tags(rules))]),
    };
    Inventory {
        users: (0..users).map(|n| InventoryUser { id: user_id(n), login: user_id(n).to_string() }).collect(),
        nodes: (0..nodes).map(|n| InventoryNode::new(node_id(n), owner(n), addresses(n))).collect(),
    }
}

fn node_id(number: usize) -> NodeId {
    // Spread, as hashes of keys are.
    let spread = (number as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    NodeId::from_bytes(spread.to_be_bytes())
}

fn addresses(number: usize) -> Vec<IpAddr> {
    let host = u32::try_from(number).unwrap_or(u32::MAX);
    let v4 = Ipv4Addr::from(u32::from(Ipv4Addr::new(100, 64, 0, 1)) + host);
    let v6 = u128::from(Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 1)) + u128::from(host);
    vec![v4.into(), Ipv6Addr::from(v6).into()]
}

fn tags(rules: usize) -> usize {
    (rules / 5).max(1)
}

/// The policy.
pub fn policy(users: usize, rules: usize) -> serde_json::Value {
    let mut numbers = Numbers(1);
    let user_id = |number: usize| UserId::from_bytes((number as u128).to_be_bytes()).to_string();
    let groups: serde_json::Map<String, serde_json::Value> = (0..(rules / 10).max(1))
        .map(|group| {
            let members: Vec<String> =
                (0..users.div_ceil(50).min(20)).map(|_| user_id(numbers.below(users))).collect();
            (format!("group:g{group}"), members.into())
        })
        .collect();
    let owners: serde_json::Map<String, serde_json::Value> =
        (0..tags(rules)).map(|tag| (format!("tag:t{tag}"), serde_json::json!([]))).collect();
    let mut acls = Vec::new();
    for number in 0..rules - 1 {
        let src = format!("group:g{}", numbers.below(groups.len()));
        let ports = ["22", "80,443", "443", "5432"][numbers.below(4)];
        let dst = match number % 10 {
            9 => format!("100.64.{}.{}:{ports}", numbers.below(4), numbers.below(256)),
            _ => format!("tag:t{}:{ports}", numbers.below(owners.len())),
        };
        acls.push(serde_json::json!({"action": "accept", "src": [src], "dst": [dst]}));
    }
    acls.push(
        serde_json::json!({"action": "accept", "src": ["autogroup:member"], "dst": ["autogroup:self:22"]}),
    );
    serde_json::json!({"groups": groups, "tagOwners": owners, "acls": acls})
}
