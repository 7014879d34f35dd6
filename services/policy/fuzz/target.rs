//! What is done with a text that somebody made up: everything that the product does with a policy.
//!
//! `cargo test -p writ-policy` runs it on the committed corpus and on a bounded number of mutations of it, on stable. To look
//! for more, with cargo-fuzz installed, from `services/policy`:
//!
//! ```text
//! RUSTC_BOOTSTRAP=1 cargo fuzz run policy fuzz/corpus/policy -- -max_len=65536 -max_total_time=600
//! ```

use std::sync::Arc;

use writ_policy::{
    Compiled, Inventory, InventoryNode, InventoryUser, Owner, Policy, Protocol, Roles, difference,
    logins_in_remarks, replace_logins,
};
use writ_schema::{NodeId, UserId};

/// Reads, resolves, tests, decides and rewrites. Panics if two answers contradict each other.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = logins_in_remarks(text);
    if let Ok(same) = replace_logins(text, &mut |name| Some(name.to_owned())) {
        assert_eq!(
            Policy::parse_full(&same).is_ok(),
            Policy::parse_full(text).is_ok(),
            "rewriting changed the policy"
        );
    }
    let strict = Policy::parse(text);
    let full = Policy::parse_full(text);
    assert!(strict.is_err() || full.is_ok(), "what is enforced is understood");
    for policy in [strict, full].into_iter().flatten() {
        assert_eq!(policy.text(), text);
        let _ = (policy.unsupported(), policy.summary());
        let inventory = network();
        let Ok(compiled) = Compiled::with_roles(Arc::new(policy), &inventory, &Roles::new()) else {
            continue;
        };
        answers(&compiled, &inventory);
    }
}

fn answers(compiled: &Compiled, inventory: &Inventory) {
    let _ = (compiled.run_tests(), compiled.run_ssh_tests());
    assert!(difference(compiled, compiled).is_empty());
    for source in &inventory.nodes {
        let _ =
            (compiled.ssh(&source.id), compiled.capabilities(&source.id), compiled.attributes(&source.id));
        let _ = compiled.visible(&source.id);
        for destination in inventory.nodes.iter().filter(|node| node.id != source.id) {
            let _ = compiled.allowed_prefixes(&source.id, &destination.id);
            let filter = compiled.filter(&destination.id);
            for (protocol, port) in
                [(Protocol::Tcp, 22), (Protocol::Tcp, 443), (Protocol::Udp, 53), (Protocol::Icmp, 0)]
            {
                let admitted = source.addresses.iter().any(|from| {
                    destination
                        .addresses
                        .iter()
                        .any(|to| filter.iter().any(|rule| rule.admits(*from, *to, protocol, port)))
                });
                let permitted = compiled.permits(&source.id, &destination.id, protocol, port).is_some();
                assert_eq!(permitted, admitted, "{} -> {} {protocol} {port}", source.id, destination.id);
                let _ = compiled.explain(&source.id, &destination.id, protocol, port).to_string();
            }
        }
        if let Ok(outside) = "10.1.2.3".parse() {
            let _ = compiled.explain_address(&source.id, (outside, None), Protocol::Tcp, 443).to_string();
        }
    }
}

/// Two people with a machine each, two tagged nodes of which one is a router.
fn network() -> Inventory {
    let login = |number: u8| format!("{}@example.com", if number == 1 { "ada" } else { "bob" });
    let users =
        [1, 2].map(|number| InventoryUser { id: UserId::from_bytes([number; 16]), login: login(number) });
    let owners = [
        Owner::User(UserId::from_bytes([1; 16])),
        Owner::User(UserId::from_bytes([2; 16])),
        Owner::Tags(vec!["tag:web".to_owned()]),
        Owner::Tags(vec!["tag:router".to_owned(), "tag:web".to_owned()]),
    ];
    let nodes = (1u8..).zip(owners).map(|(number, owner)| {
        let addresses = [format!("100.64.0.{number}"), format!("fd7a:115c:a1e0::{number}")];
        let addresses = addresses.iter().filter_map(|address| address.parse().ok()).collect();
        let mut node = InventoryNode::new(NodeId::from_bytes([number; 16]), owner, addresses);
        if number == 4 {
            node.routes = ["10.0.0.0/8", "0.0.0.0/0"].iter().filter_map(|route| route.parse().ok()).collect();
        }
        node
    });
    Inventory { users: users.to_vec(), nodes: nodes.collect() }
}
