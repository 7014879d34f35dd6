//! A captured case as it stands in the files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::IpAddr;
use std::path::Path;

use flate2::read::GzDecoder;
use ipnet::IpNet;
use serde::Deserialize;
use writ_policy::{Inventory, InventoryNode, InventoryUser, Owner, Role, Roles};
use writ_schema::{NodeId, UserId};

/// One policy and what Tailscale made of it.
#[derive(Debug, Clone, Deserialize)]
pub struct Case {
    pub id: String,
    pub policy: serde_json::Value,
    pub http: u16,
    pub error: Option<String>,
    pub users: Vec<User>,
    pub nodes: BTreeMap<String, Machine>,
    pub expect: BTreeMap<String, Expected>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct User {
    pub id: u8,
    pub name: String,
    pub email: String,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Machine {
    #[serde(default)]
    pub tags: Option<Vec<String>>,
    pub user: Option<String>,
    pub ipv4: IpAddr,
    pub ipv6: IpAddr,
    #[serde(default)]
    pub routable_ips: Option<Vec<IpNet>>,
    #[serde(default)]
    pub approved_routes: Option<Vec<IpNet>>,
}

/// Capabilities by name, each with its values; one that only marks has none.
pub type Capabilities = BTreeMap<String, Option<Vec<serde_json::Value>>>;

/// What one node was told.
#[derive(Debug, Clone, Deserialize)]
pub struct Expected {
    #[serde(default)]
    pub packet_filter: Option<Vec<WireRule>>,
    #[serde(rename = "self")]
    pub own: Own,
    #[serde(default)]
    pub peers: Option<Vec<Peer>>,
    pub whois_cap_map: Option<BTreeMap<IpAddr, Capabilities>>,
    pub ssh_rules: Option<Vec<WireSsh>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WireSsh {
    #[serde(default)]
    pub principals: Vec<WirePrincipal>,
    #[serde(default)]
    pub ssh_users: BTreeMap<String, String>,
    #[serde(default)]
    pub action: WireAction,
    #[serde(default)]
    pub accept_env: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct WirePrincipal {
    #[serde(rename = "nodeIP")]
    pub address: IpAddr,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub struct WireAction {
    #[serde(default)]
    pub accept: bool,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Own {
    pub allowed_ips: Option<Vec<IpNet>>,
    pub primary_routes: Option<Vec<IpNet>>,
    pub cap_map: Option<Capabilities>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Peer {
    pub allowed_ips: Option<Vec<IpNet>>,
    pub cap_map: Option<Capabilities>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct WireRule {
    #[serde(rename = "SrcIPs", default)]
    pub src: Option<Vec<String>>,
    #[serde(default)]
    pub dst_ports: Option<Vec<WireDestination>>,
    #[serde(rename = "IPProto", default)]
    pub protocols: Option<Vec<u8>>,
    #[serde(default)]
    pub cap_grant: Option<Vec<WireGrant>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct WireDestination {
    #[serde(rename = "IP")]
    pub ip: String,
    pub ports: WirePorts,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct WirePorts {
    pub first: u16,
    pub last: u16,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct WireGrant {
    pub dsts: Vec<String>,
    pub cap_map: Capabilities,
}

impl Case {
    /// The policy as a text.
    pub fn policy_text(&self) -> String {
        match &self.policy {
            serde_json::Value::String(text) => text.clone(),
            object => object.to_string(),
        }
    }

    /// The network that was captured.
    pub fn inventory(&self) -> Inventory {
        let user_id = |number: u8| UserId::from_bytes([number; 16]);
        let users =
            self.users.iter().map(|user| InventoryUser { id: user_id(user.id), login: user.email.clone() });
        let mut nodes: Vec<(&String, InventoryNode)> = Vec::new();
        for (name, machine) in &self.nodes {
            let user =
                machine.user.as_ref().and_then(|name| self.users.iter().find(|user| user.name == *name));
            let owner = match (machine.tags.as_deref(), user) {
                (Some([]) | None, Some(user)) => Owner::User(user_id(user.id)),
                (tags, _) => Owner::Tags(tags.unwrap_or_default().to_vec()),
            };
            let mut node = InventoryNode::new(self.node_id(name), owner, vec![machine.ipv4, machine.ipv6]);
            node.routes = self.routes(name, machine);
            nodes.push((name, node));
        }
        nodes.sort_by_key(|(name, _)| self.stands_by(name));
        Inventory { users: users.collect(), nodes: nodes.into_iter().map(|(_, node)| node).collect() }
    }

    /// The users with roles in the captured network, as what their nodes were told shows.
    pub fn roles(&self) -> Roles {
        let marks = [
            (Role::Owner, "https://tailscale.com/cap/is-owner"),
            (Role::Admin, "https://tailscale.com/cap/is-admin"),
        ];
        let mut roles = Roles::new();
        for (name, machine) in &self.nodes {
            let told = self.expect.get(name).and_then(|expected| expected.own.cap_map.as_ref());
            let user = self.users.iter().find(|user| machine.user.as_deref() == Some(user.name.as_str()));
            let (Some(told), Some(user)) = (told, user) else { continue };
            for (role, mark) in marks {
                if told.contains_key(mark) {
                    roles.entry(role).or_default().push(UserId::from_bytes([user.id; 16]));
                }
            }
        }
        roles
    }

    pub fn node_id(&self, name: &str) -> NodeId {
        let number = self.nodes.keys().position(|known| known == name).unwrap_or(usize::MAX);
        NodeId::from_bytes((number as u128).to_be_bytes())
    }

    pub fn name_of(&self, id: &NodeId) -> &str {
        self.nodes.keys().find(|name| self.node_id(name) == *id).map_or("unknown", String::as_str)
    }

    /// The node that holds an address.
    pub fn node_at(&self, address: IpAddr) -> Option<&String> {
        self.nodes.iter().find(|(_, m)| m.ipv4 == address || m.ipv6 == address).map(|(name, _)| name)
    }

    /// Whether the node stands by for another: of several routers for one prefix, the one that came first carries it,
    /// and the captures do not say when nodes came. A node was late if a prefix of its is carried by a node whose name
    /// comes after its own.
    fn stands_by(&self, name: &str) -> bool {
        let Some(machine) = self.nodes.get(name) else { return false };
        let carries = |node: &str, route: &IpNet| {
            let told = self.expect.get(node).and_then(|expected| expected.own.primary_routes.as_ref());
            told.is_some_and(|routes| routes.contains(route))
        };
        let routes = self.routes(name, machine);
        let later = self.nodes.keys().filter(|other| other.as_str() > name);
        let mut later = later.filter(|other| routes.iter().any(|route| carries(other, route)));
        routes.iter().all(|route| !carries(name, route)) && later.next().is_some()
    }

    /// Addresses of the network that the policy names and no node has. Captures had their addresses replaced, and this
    /// went past some policies.
    pub fn stray_addresses(&self) -> Vec<IpAddr> {
        let text = self.policy_text();
        let words = text.split(|c: char| !(c.is_ascii_hexdigit() || c == '.' || c == ':'));
        // Of an address with a port behind it, what stands before the last colon is the address.
        let candidates = words.flat_map(|word| [Some(word), word.rsplit_once(':').map(|(name, _)| name)]);
        let mut found: Vec<IpAddr> = candidates.flatten().filter_map(|word| word.parse().ok()).collect();
        found.retain(|address| self.node_at(*address).is_none());
        found.sort();
        found.dedup();
        found
    }

    /// The same case with an address of its policy replaced by another.
    pub fn with_address(&self, address: IpAddr, by: IpAddr) -> Self {
        let policy = self.policy_text().replace(&address.to_string(), &by.to_string());
        Self { policy: serde_json::Value::String(policy), ..self.clone() }
    }

    /// Whether a node offers a prefix, and has not been told that it may.
    pub fn is_unknown_to_router(&self, name: &str, prefix: &IpNet) -> bool {
        let offers = |machine: &Machine| machine.routable_ips.iter().flatten().any(|own| own == prefix);
        let told = self.expect.get(name).and_then(|expected| expected.own.allowed_ips.as_ref());
        self.nodes.get(name).is_some_and(offers) && told.is_some_and(|told| !told.contains(prefix))
    }

    /// The routes that a node offers and that are approved. Two captures were taken before the approval was
    /// noted; what the node itself was told then stands for it.
    fn routes(&self, name: &str, machine: &Machine) -> Vec<IpNet> {
        let offered = machine.routable_ips.as_deref().unwrap_or_default();
        let approved = machine.approved_routes.as_deref().unwrap_or_default();
        let told = self
            .expect
            .get(name)
            .and_then(|expected| expected.own.allowed_ips.as_deref())
            .unwrap_or_default();
        let is_told = |route: &IpNet| self.http == 200 && told.contains(route);
        offered.iter().filter(|route| approved.contains(route) || is_told(route)).copied().collect()
    }
}

/// Reads every `*.jsonl.gz` of a folder, in order of names.
pub fn read_folder(folder: &Path) -> io::Result<Vec<Case>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(".jsonl.gz") {
            paths.push(path);
        }
    }
    paths.sort();
    let mut cases = Vec::new();
    for path in paths {
        for line in BufReader::new(GzDecoder::new(File::open(&path)?)).lines() {
            let case = serde_json::from_str(&line?).map_err(|error| {
                io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()))
            })?;
            cases.push(case);
        }
    }
    Ok(cases)
}
