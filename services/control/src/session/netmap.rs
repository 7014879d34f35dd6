//! Netmaps: what a node may reach, named by the hash of its content, and the difference between two of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;
use sha2::{Digest, Sha256};
use writ_schema::NodeId;
use writ_schema::net::Prefix;
use writ_schema::protocol::{ExitNode, Netmap, NetmapDelta, NetmapNode, Reachable};

/// The prefixes of a netmap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routes {
    /// What the node may reach behind others.
    pub reached: Vec<Prefix>,
    /// The exit nodes that it may use.
    pub exits: Vec<ExitNode>,
    /// What of its own offer is approved.
    pub approved: Vec<Prefix>,
}

/// A netmap of these parts, with its hash. What may be reached comes in order of the nodes.
pub fn netmap(network_name: String, node: NetmapNode, reachable: Vec<Reachable>, routes: Routes) -> Netmap {
    let Routes { reached: routes, exits, approved } = routes;
    let unnamed = String::new();
    let mut netmap = Netmap { hash: unnamed, node, network_name, reachable, routes, exits, approved };
    netmap.hash = hash(&netmap);
    netmap
}

/// SHA-256, hex, over the canonical JSON of everything but the hash: no white space, members of every object in
/// order of their names.
pub fn hash(netmap: &Netmap) -> String {
    let mut text = String::new();
    // A netmap is plain data with text keys, which always becomes a value.
    if let Ok(Value::Object(mut members)) = serde_json::to_value(netmap) {
        members.remove("hash");
        write_canonical(&Value::Object(members), &mut text);
    }
    data_encoding::HEXLOWER.encode(&Sha256::digest(text.as_bytes()))
}

/// What changes an agent's netmap into the new one; nothing if they are the same.
///
/// A change of the node itself, of routes or of the network's name is in no delta: then `None` in the outer option says that
/// the netmap must be told anew.
pub fn difference(old: &Netmap, new: &Netmap) -> Option<Option<NetmapDelta>> {
    if old.hash == new.hash {
        return Some(None);
    }
    let Netmap { node, network_name, routes, exits, approved, .. } = new;
    let before = (&old.node, &old.network_name, &old.routes, &old.exits, &old.approved);
    if before != (node, network_name, routes, exits, approved) {
        return None;
    }
    let before: BTreeMap<&NodeId, &Reachable> = by_node(old);
    let after: BTreeMap<&NodeId, &Reachable> = by_node(new);
    let changed = after.iter().filter(|(node, reach)| before.get(*node) != Some(reach));
    let gone = before.keys().filter(|node| !after.contains_key(*node));
    Some(Some(NetmapDelta {
        from: old.hash.clone(),
        to: new.hash.clone(),
        upsert: changed.map(|(_, reach)| (*reach).clone()).collect(),
        remove: gone.map(|node| (*node).clone()).collect(),
    }))
}

fn by_node(netmap: &Netmap) -> BTreeMap<&NodeId, &Reachable> {
    netmap.reachable.iter().map(|reach| (&reach.node.node, reach)).collect()
}

fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(members) => {
            let sorted: BTreeMap<&String, &Value> = members.iter().collect();
            out.push('{');
            for (position, (name, member)) in sorted.into_iter().enumerate() {
                if position > 0 {
                    out.push(',');
                }
                write_scalar(&Value::String(name.clone()), out);
                out.push(':');
                write_canonical(member, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (position, item) in items.iter().enumerate() {
                if position > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        scalar => write_scalar(scalar, out),
    }
}

fn write_scalar(value: &Value, out: &mut String) {
    // Writing to a string does not fail.
    let _ = write!(out, "{value}");
}

#[cfg(test)]
mod tests {
    use writ_schema::net::{PortRange, Protocol};
    use writ_schema::protocol::Service;

    use super::*;

    fn node(n: u8) -> NetmapNode {
        NetmapNode {
            node: NodeId::from_bytes([n; 16]),
            name: format!("host-{n}"),
            addresses: vec![format!("100.64.0.{n}").parse().unwrap()],
        }
    }

    fn reach(n: u8, port: u16) -> Reachable {
        let service = Service { protocol: Protocol::Tcp, ports: PortRange::single(port) };
        Reachable { node: node(n), services: vec![service] }
    }

    fn map(reachable: Vec<Reachable>) -> Netmap {
        netmap("corp".to_owned(), node(1), reachable, Routes::default())
    }

    /// What an agent does with a delta.
    fn apply(mut netmap: Netmap, delta: NetmapDelta) -> Netmap {
        assert_eq!(netmap.hash, delta.from);
        let gone = |n: &NodeId| delta.remove.contains(n) || delta.upsert.iter().any(|u| u.node.node == *n);
        netmap.reachable.retain(|reach| !gone(&reach.node.node));
        netmap.reachable.extend(delta.upsert.clone());
        netmap.reachable.sort_by(|a, b| a.node.node.cmp(&b.node.node));
        netmap
    }

    #[test]
    fn a_delta_leads_to_the_netmap_with_its_hash() {
        let old = map(vec![reach(2, 80), reach(3, 80), reach(4, 80)]);
        let new = map(vec![reach(2, 80), reach(3, 443), reach(5, 80)]);
        let delta = difference(&old, &new).unwrap().unwrap();
        assert_eq!((delta.upsert.len(), delta.remove.len()), (2, 1));
        let applied = apply(old, delta);
        assert_eq!((hash(&applied), applied.reachable), (new.hash, new.reachable));
    }

    #[test]
    fn nothing_changed_is_no_delta_and_a_new_self_is_told_anew() {
        let old = map(vec![reach(2, 80)]);
        assert!(difference(&old, &old.clone()).unwrap().is_none());
        let renamed = netmap("corp".to_owned(), node(9), vec![reach(2, 80)], Routes::default());
        assert!(difference(&old, &renamed).is_none());
        let routes = Routes { reached: vec!["10.0.0.0/8".parse().unwrap()], ..Routes::default() };
        let routed = netmap("corp".to_owned(), node(1), vec![reach(2, 80)], routes);
        assert!(difference(&old, &routed).is_none() && routed.hash != old.hash);
    }

    #[test]
    fn the_hash_is_over_sorted_json_without_white_space() {
        let text = r#"{"network_name":"corp","node":{"addresses":["100.64.0.1"],"name":"host-1","node":"NODE"},"reachable":[]}"#;
        let text = text.replace("NODE", node(1).node.as_str());
        assert_eq!(map(vec![]).hash, data_encoding::HEXLOWER.encode(&Sha256::digest(text)));
    }
}
