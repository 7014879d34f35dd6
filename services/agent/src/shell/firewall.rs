//! What of this host's own firewall drops the packets that it carries for others.
//!
//! Another's chain that drops whatever no rule of it lets pass (Docker sets one up) has the last word, whatever the agent's own
//! rules say. It is looked for in the kernel's rules, those of `iptables` included, as `nft` shows them.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use writ_schema::net::Prefix;

/// How often the rules are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);
/// How long `nft` may take.
const LIMIT: Duration = Duration::from_secs(5);

/// A chain that drops what this host carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DroppingChain {
    /// Family and table, such as `ip filter`.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// The commands that let pass what the agent has decided about.
    pub remedy: String,
}

/// What the firewall of a host that carries packets is looked at for.
#[derive(Debug, Clone)]
pub(super) struct Carried {
    tun: String,
    v4: bool,
    v6: bool,
}

/// Looks at the firewall now and then, until it is dropped.
pub(super) struct FirewallWatch {
    pub carried: Carried,
    found: watch::Receiver<Vec<DroppingChain>>,
    task: JoinHandle<()>,
}

impl FirewallWatch {
    /// Begins to look, for a node that carries packets for these prefixes.
    pub fn start(tun: &str, offered: &[Prefix]) -> Self {
        let carries = |is_v4| offered.iter().any(|route| route.first().is_ipv4() == is_v4);
        let carried = Carried { tun: tun.to_owned(), v4: carries(true), v6: carries(false) };
        let (sender, found) = watch::channel(Vec::new());
        let looks_for = carried.clone();
        let task = tokio::spawn(async move {
            loop {
                let found = looks_for.look().await;
                let is_new = sender.send_if_modified(|known| {
                    let is_other = *known != found;
                    known.clone_from(&found);
                    is_other
                });
                for DroppingChain { table, chain, remedy } in found.iter().filter(|_| is_new) {
                    tracing::warn!(
                        "the chain {chain} of {table} drops what this host carries for others: {remedy}"
                    );
                }
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        });
        Self { carried, found, task }
    }

    /// What was found when it was looked last.
    pub fn found(&self) -> Vec<DroppingChain> {
        self.found.borrow().clone()
    }
}

impl Drop for FirewallWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Carried {
    /// The chains that drop what is carried. None where the rules cannot be read.
    pub async fn look(&self) -> Vec<DroppingChain> {
        let mut command = Command::new("nft");
        command.args(["-j", "list", "ruleset"]).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let Ok(Ok(output)) = tokio::time::timeout(LIMIT, command.output()).await else { return Vec::new() };
        serde_json::from_slice(&output.stdout).map(|ruleset| self.dropping(&ruleset)).unwrap_or_default()
    }

    fn dropping(&self, ruleset: &Value) -> Vec<DroppingChain> {
        let entries = || ruleset["nftables"].as_array().into_iter().flatten();
        let passing: BTreeSet<(String, &str)> = entries()
            .map(|entry| &entry["rule"])
            .flat_map(|rule| {
                let names = ["iifname", "oifname"];
                names.into_iter().filter(|name| self.lets_pass(rule, name)).map(|name| (table(rule), name))
            })
            .collect();
        let is_docker = |of: &str| {
            entries().any(|entry| entry["chain"]["name"] == "DOCKER-USER" && table(&entry["chain"]) == of)
        };
        let chains = entries().map(|entry| &entry["chain"]).filter(|chain| self.may_drop(chain));
        let dropping = chains.filter_map(|chain| {
            let (table, name) = (table(chain), chain["name"].as_str()?);
            let is_let_pass = |direction| passing.contains(&(table.clone(), direction));
            if is_let_pass("iifname") && is_let_pass("oifname") {
                return None;
            }
            let into = if is_docker(&table) { "DOCKER-USER" } else { name };
            let command =
                |direction| format!("nft insert rule {table} {into} {direction} {} accept", self.tun);
            let remedy = format!("{}; {}", command("iifname"), command("oifname"));
            Some(DroppingChain { table, chain: name.to_owned(), remedy })
        });
        dropping.collect()
    }

    /// Whether a chain decides about forwarded packets of a family that is carried, and drops them for want of a rule.
    fn may_drop(&self, chain: &Value) -> bool {
        let is_carried = match chain["family"].as_str() {
            Some("ip") => self.v4,
            Some("ip6") => self.v6,
            Some("inet") => true,
            _ => false,
        };
        is_carried && chain["hook"] == "forward" && chain["policy"] == "drop"
    }

    /// Whether a rule lets packets pass that come from, or go to, the tunnel.
    fn lets_pass(&self, rule: &Value, direction: &str) -> bool {
        let expressions = || rule["expr"].as_array().into_iter().flatten();
        let names_tunnel = |expression: &Value| {
            let named = &expression["match"];
            named["left"]["meta"]["key"] == direction
                && named["op"] == "=="
                && named["right"] == self.tun.as_str()
        };
        expressions().any(names_tunnel) && expressions().any(|expression| expression.get("accept").is_some())
    }
}

/// Family and name of the table of a chain or rule.
fn table(of: &Value) -> String {
    format!("{} {}", of["family"].as_str().unwrap_or_default(), of["table"].as_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn carried() -> Carried {
        Carried { tun: "writ0".to_owned(), v4: true, v6: false }
    }

    fn chain(family: &str, table: &str, name: &str, hook: &str, policy: &str) -> Value {
        json!({ "chain": { "family": family, "table": table, "name": name, "hook": hook, "policy": policy, "prio": 0 } })
    }

    fn accept(direction: &str, interface: &str) -> Value {
        let named = json!({ "op": "==", "left": { "meta": { "key": direction } }, "right": interface });
        let rule = json!({ "family": "ip", "table": "filter", "chain": "FORWARD", "expr": [{ "match": named }, { "accept": null }] });
        json!({ "rule": rule })
    }

    fn found(entries: &[Value]) -> Vec<DroppingChain> {
        carried().dropping(&json!({ "nftables": entries }))
    }

    #[test]
    fn a_chain_that_drops_what_is_forwarded_is_found_with_what_to_do() {
        let docker = [
            chain("ip", "filter", "INPUT", "input", "drop"),
            chain("ip", "filter", "FORWARD", "forward", "drop"),
            chain("ip6", "filter", "FORWARD", "forward", "drop"),
            chain("inet", "writ_writ0", "forward", "forward", "accept"),
        ];
        let [forward] = &found(&docker)[..] else { panic!("{:?}", found(&docker)) };
        assert_eq!((forward.table.as_str(), forward.chain.as_str()), ("ip filter", "FORWARD"));
        assert_eq!(
            forward.remedy,
            "nft insert rule ip filter FORWARD iifname writ0 accept; nft insert rule ip filter FORWARD oifname writ0 accept"
        );
        let user = json!({ "chain": { "family": "ip", "table": "filter", "name": "DOCKER-USER" } });
        let with_user = [docker[1].clone(), user];
        assert!(found(&with_user)[0].remedy.contains("ip filter DOCKER-USER iifname writ0"));
    }

    #[test]
    fn a_chain_that_lets_the_tunnel_pass_both_ways_is_none() {
        let forward = chain("ip", "filter", "FORWARD", "forward", "drop");
        let (from, to) = (accept("iifname", "writ0"), accept("oifname", "writ0"));
        assert_eq!(found(&[forward.clone(), from.clone(), to]), []);
        assert_eq!(found(&[forward.clone(), from]).len(), 1);
        assert_eq!(found(&[forward, accept("iifname", "docker0"), accept("oifname", "docker0")]).len(), 1);
        assert_eq!(found(&[]), []);
    }
}
