//! What the engine costs: `cargo bench -p writ-policy`.
//!
//! The network is made up by a fixed rule, so that figures compare from run to run: half of the nodes belong
//! to users, two to each; the other half carry one tag. There are a tenth as many groups as rules, each of a
//! fiftieth of the users but of twenty at most, and a fifth as many tags as rules. Nine rules in ten let a
//! group reach a tag on one or two ports; the tenth names a host by address. The last rule lets everyone
//! reach their own nodes over SSH.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use writ_policy::{Compiled, Inventory, InventoryNode, InventoryUser, Owner, Policy, Protocol, difference};
use writ_schema::{NodeId, UserId};

/// Nodes and rules of each network.
const SIZES: [(usize, usize); 5] = [(100, 50), (1_000, 50), (1_000, 500), (10_000, 500), (100_000, 5_000)];

/// Numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end.max(1)
    }
}

fn main() {
    println!("nodes rules | parse compile | decide allowed, denied | filter | difference | one node");
    for (nodes, rules) in SIZES {
        run(nodes, rules);
    }
}

fn run(nodes: usize, rules: usize) {
    let inventory = inventory(nodes, rules);
    let text = policy_text(inventory.users.len(), rules, None);
    let (policy, parse) = timed(|| Policy::parse(&text));
    let policy = match policy {
        Ok(policy) => Arc::new(policy),
        Err(error) => return println!("{nodes} {rules}: {error}"),
    };
    let (compiled, compile) = timed(|| Compiled::new(policy, &inventory));
    let changed = Policy::parse(&policy_text(inventory.users.len(), rules, Some(rules / 2)));
    let changed = changed.and_then(|policy| Compiled::new(Arc::new(policy), &inventory));
    let (Ok(mut compiled), Ok(changed)) = (compiled, changed) else {
        return println!("{nodes} {rules}: refused");
    };
    let (allowed, denied) = decisions(&compiled, &inventory);
    let (_, filter) = timed(|| black_box(compiled.filter(&inventory.nodes[nodes - 1].id)));
    let (change, compared) = timed(|| difference(&compiled, &changed));
    let (_, one) = timed(|| compiled.insert_node(&inventory.nodes[nodes / 2]));
    println!(
        "{nodes:>6} {rules:>5} | {parse:.1?} {compile:.1?} | {allowed:.0?}, {denied:.0?} | {filter:.1?} | {compared:.1?} \
         ({} changes) | {one:.1?}",
        change.gained.len() + change.lost.len()
    );
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}

/// The time of an allowed and of a denied decision, over many pairs.
fn decisions(compiled: &Compiled, inventory: &Inventory) -> (Duration, Duration) {
    let mut numbers = Numbers(7);
    let (mut allowed, mut denied): (Vec<_>, Vec<_>) = (Vec::new(), Vec::new());
    for _ in 0..20_000 {
        let src = &inventory.nodes[numbers.below(inventory.nodes.len())].id;
        let dst = &inventory.nodes[numbers.below(inventory.nodes.len())].id;
        let port = [22, 80, 443, 5432][numbers.below(4)];
        let is_allowed = compiled.permits(src, dst, Protocol::Tcp, port).is_some();
        (if is_allowed { &mut allowed } else { &mut denied }).push((src, dst, port));
    }
    (mean(compiled, &allowed), mean(compiled, &denied))
}

/// The mean of the quickest of several rounds: what else runs on the machine only ever adds.
fn mean(compiled: &Compiled, requests: &[(&NodeId, &NodeId, u16)]) -> Duration {
    const ROUNDS: usize = 20;
    let round = || {
        let (_, took) = timed(|| {
            for (src, dst, port) in requests {
                black_box(compiled.permits(src, dst, Protocol::Tcp, *port));
            }
        });
        took
    };
    let best = (0..ROUNDS).map(|_| round()).min().unwrap_or_default();
    best / u32::try_from(requests.len()).unwrap_or(u32::MAX).max(1)
}

fn inventory(nodes: usize, rules: usize) -> Inventory {
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

/// The policy; `without` names a rule to leave out.
fn policy_text(users: usize, rules: usize, without: Option<usize>) -> String {
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
        if without != Some(number) {
            acls.push(serde_json::json!({"action": "accept", "src": [src], "dst": [dst]}));
        }
    }
    acls.push(
        serde_json::json!({"action": "accept", "src": ["autogroup:member"], "dst": ["autogroup:self:22"]}),
    );
    serde_json::json!({"groups": groups, "tagOwners": owners, "acls": acls}).to_string()
}
