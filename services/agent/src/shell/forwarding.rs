//! Carrying packets for what lies behind this host: the kernel forwards them, under this host's own address, so that those
//! who answer need to know nothing of the overlay.
//!
//! What may pass was decided before, by the engine's filter. The kernel's rules hold the rest: nobody behind this host begins
//! anything towards the overlay, and nothing leaves to where this node does not offer to lead. They stand in a table of their
//! own, which goes when the agent stops; after a crash the next start replaces or removes it.

use std::io::Write as _;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use writ_schema::internet::{INTERNET_V6, NOT_INTERNET_V4};
use writ_schema::net::Prefix;

use crate::state::StateDir;
use crate::trust::{Membership, OVERLAY_BITS_V4, OVERLAY_BITS_V6};

const V4_SWITCH: &str = "/proc/sys/net/ipv4/ip_forward";
const V6_SWITCH: &str = "/proc/sys/net/ipv6/conf/all/forwarding";

/// In the flags of the kernel's `ipv6_route`: learned from a router's advertisement (`RTF_ADDRCONF`).
const ADVERTISED: u32 = 0x0004_0000;

/// What an exit node offers to carry packets for: everything, of IPv6 only where this host has a way out itself. A host that has
/// learned its way from a router forgets it when it begins to forward (unless `accept_ra` is 2), so that such a one is to do that
/// itself before.
pub fn exit_routes() -> Vec<Prefix> {
    let [v4, v6] = [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())].map(Prefix::of);
    let routes = std::fs::read_to_string("/proc/self/net/ipv6_route").unwrap_or_default();
    let forwards = std::fs::read_to_string(V6_SWITCH).map_or(true, |now| now.trim() != "0");
    if carries_ipv6(&routes, forwards) { vec![v4, v6] } else { vec![v4] }
}

fn carries_ipv6(routes: &str, forwards: bool) -> bool {
    routes.lines().any(|line| match *line.split_whitespace().collect::<Vec<_>>() {
        [to, "00", _, _, _, _, _, _, flags, interface] if interface != "lo" => {
            let is_advertised = u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & ADVERTISED != 0);
            to.bytes().all(|digit| digit == b'0') && (forwards || !is_advertised)
        }
        _ => false,
    })
}

/// The kernel's part in carrying packets; it ends when this is dropped.
pub(super) struct Forwarding {
    table: String,
    state: Arc<StateDir>,
}

impl Forwarding {
    /// Has the kernel forward between the tunnel and these prefixes; nothing if there are none. What an agent that crashed
    /// has left behind is removed.
    pub fn set_up(
        tun: &str,
        membership: &Membership,
        offered: &[Prefix],
        state: &Arc<StateDir>,
    ) -> Result<Option<Self>> {
        let table = format!("inet writ_{}", tun.replace(|c: char| !c.is_ascii_alphanumeric(), "_"));
        if offered.is_empty() {
            if let Some(left) = state.forwarding_table()? {
                remove(&left);
                state.forget_forwarding_table()?;
            }
            return Ok(None);
        }
        for (is_v4, switch) in [(true, V4_SWITCH), (false, V6_SWITCH)] {
            if offered.iter().any(|route| route.first().is_ipv4() == is_v4) {
                switch_on(switch)?;
            }
        }
        state.store_forwarding_table(&table)?;
        nft(&rules(&table, tun, membership, offered))?;
        let names: Vec<String> = offered.iter().map(Prefix::to_string).collect();
        tracing::info!(routes = names.join(" "), "this host carries packets for what is approved of these");
        Ok(Some(Self { table, state: state.clone() }))
    }
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        remove(&self.table);
        if let Err(error) = self.state.forget_forwarding_table() {
            tracing::warn!("{error:#}");
        }
    }
}

/// Forwarding stays on when the agent stops: others on this host may rely on it by then.
fn switch_on(switch: &str) -> Result<()> {
    let how = switch.trim_start_matches("/proc/sys/").replace('/', ".");
    match std::fs::read_to_string(switch) {
        Ok(now) if now.trim() == "0" => {
            tracing::info!("{how} is switched on: this host forwards packets from now on")
        }
        Ok(_) => return Ok(()),
        // A hardened service does not see it.
        Err(_) => {
            tracing::warn!(
                "whether this host forwards packets cannot be seen from here: `sysctl {how}` must say 1"
            );
            return Ok(());
        }
    }
    std::fs::write(switch, "1").with_context(|| {
        format!("this host does not forward packets, and that cannot be changed from here: run `sysctl -w {how}=1`")
    })
}

fn rules(table: &str, tun: &str, membership: &Membership, offered: &[Prefix]) -> String {
    let in_overlay = |address: IpAddr| match address {
        IpAddr::V4(v4) => format!("ip saddr {v4}/{OVERLAY_BITS_V4}"),
        IpAddr::V6(v6) => format!("ip6 saddr {v6}/{OVERLAY_BITS_V6}"),
    };
    let masquerade = [IpAddr::from(membership.address_v4), membership.address_v6.into()]
        .map(|address| format!("{} oifname != \"{tun}\" masquerade;", in_overlay(address)));
    let leave: Vec<_> =
        offered.iter().map(|route| format!("iifname \"{tun}\" {} accept;", destination(*route))).collect();
    let leave = leave.join("\n");
    format!(
        "table {table} {{}}\ndelete table {table}\ntable {table} {{\n\
         chain forward {{ type filter hook forward priority filter - 1; policy accept;\n\
         oifname \"{tun}\" ct state established,related accept;\n oifname \"{tun}\" drop;\n\
         {leave}\n iifname \"{tun}\" ct state established,related accept;\n iifname \"{tun}\" drop;\n}}\n\
         chain postrouting {{ type nat hook postrouting priority srcnat; policy accept;\n{}\n}}\n{}}}\n",
        masquerade.join("\n"),
        own_services(tun, membership, offered),
    )
}

/// The addresses that a route leads to, as nft matches them.
fn destination(route: Prefix) -> String {
    match (route.first(), route.is_everything()) {
        (IpAddr::V4(_), false) => format!("ip daddr {route}"),
        (IpAddr::V6(_), false) => format!("ip6 daddr {route}"),
        (IpAddr::V4(_), true) => {
            let not: Vec<_> = NOT_INTERNET_V4.iter().map(ToString::to_string).collect();
            format!("ip daddr != {{ {} }}", not.join(", "))
        }
        (IpAddr::V6(_), true) => format!("ip6 daddr {INTERNET_V6}"),
    }
}

/// Who may reach the Internet through an exit node may not reach the node itself by its address there.
fn own_services(tun: &str, membership: &Membership, offered: &[Prefix]) -> String {
    if !offered.iter().any(|route| route.is_everything()) {
        return String::new();
    }
    let own = [IpAddr::from(membership.address_v4), membership.address_v6.into()].map(Prefix::single);
    let subnets = offered.iter().filter(|route| !route.is_everything());
    let reached: Vec<_> = own
        .iter()
        .chain(subnets)
        .map(|route| format!("iifname \"{tun}\" {} accept;", destination(*route)))
        .collect();
    format!(
        "chain input {{ type filter hook input priority filter - 1; policy accept;\n{}\n iifname \"{tun}\" drop;\n}}\n",
        reached.join("\n")
    )
}

fn remove(table: &str) {
    if let Err(error) = nft(&format!("table {table} {{}}\ndelete table {table}\n")) {
        tracing::warn!("the forwarding rules of this host stay behind: {error:#}");
    }
}

fn nft(script: &str) -> Result<()> {
    let command = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = match command {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            bail!("carrying packets for others needs the command `nft`: install the package `nftables`")
        }
        command => command.context("nft")?,
    };
    if let Some(mut input) = child.stdin.take() {
        input.write_all(script.as_bytes()).context("nft")?;
    }
    let output = child.wait_with_output().context("nft")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "nft does not take the forwarding rules: {}", said.trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules_for(offered: &[&str]) -> String {
        let membership = Membership {
            node: writ_schema::NodeId::from_bytes([1; 16]),
            network: writ_schema::NetworkId::from_bytes([1; 16]),
            network_name: "corp".to_owned(),
            address_v4: "100.64.0.1".parse().unwrap(),
            address_v6: "fd00::1".parse().unwrap(),
        };
        let offered: Vec<Prefix> = offered.iter().map(|route| route.parse().unwrap()).collect();
        rules("inet writ_writ0", "writ0", &membership, &offered)
    }

    #[test]
    fn the_rules_of_an_exit_node_let_out_to_the_internet_and_nowhere_else() {
        let rules = rules_for(&["0.0.0.0/0", "::/0", "10.20.0.0/16"]);
        for line in [
            "iifname \"writ0\" ip daddr != { 0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 169.254.0.0/16, \
             172.16.0.0/12, 192.168.0.0/16, 224.0.0.0/3 } accept;",
            "iifname \"writ0\" ip6 daddr 2000::/3 accept;",
            "iifname \"writ0\" ip daddr 100.64.0.1/32 accept;",
            "hook input priority filter - 1;",
        ] {
            assert!(rules.contains(line), "{line} in {rules}");
        }
        assert!(!rules_for(&["10.20.0.0/16"]).contains("hook input"));
    }

    #[test]
    fn ipv6_is_offered_where_it_leads_out_and_would_go_on_to() {
        let route = |to: &str, length: &str, flags: &str, interface: &str| {
            let (none, number) = ("0".repeat(32), "00000400 00000001 00000000");
            format!("{to} {length} {none} 00 {none} {number} {flags} {interface}\n")
        };
        let everything = "0".repeat(32);
        let by_hand = route(&everything, "00", "00000003", "eth0");
        let advertised = route(&everything, "00", "00450003", "eth0");
        let unreachable = route(&everything, "00", "00200200", "lo");
        let near = route("20010db8000000000000000000000000", "40", "00000001", "eth0");
        for (routes, forwards, carries) in [
            (&by_hand, false, true),
            (&advertised, true, true),
            (&advertised, false, false),
            (&unreachable, true, false),
            (&near, true, false),
        ] {
            assert_eq!(carries_ipv6(&format!("{near}{routes}"), forwards), carries, "{routes}");
        }
    }

    #[test]
    fn the_rules_let_out_what_is_offered_and_nothing_in_that_is_no_answer() {
        let rules = rules_for(&["10.20.0.0/16", "fd01::/64"]);
        for line in [
            "iifname \"writ0\" ip daddr 10.20.0.0/16 accept;",
            "iifname \"writ0\" ip6 daddr fd01::/64 accept;",
            "oifname \"writ0\" drop;",
            "iifname \"writ0\" drop;",
            "ip saddr 100.64.0.1/10 oifname != \"writ0\" masquerade;",
        ] {
            assert!(rules.contains(line), "{line} in {rules}");
        }
    }
}
