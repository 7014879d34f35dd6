//! This host's way to the Internet through an exit node, as far as the kernel has a part in it.
//!
//! While one is chosen, everything that this host's own routes do not lead elsewhere goes into the tunnel, of both families: what
//! the exit node does not carry is refused there and leaves by no other way. The host's own networks stay as they are, and so
//! do routes of another VPN, whose rules go first. Should the agent die, its table leads nowhere until it is started again.

mod rules;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result, ensure};
use route_manager::{Route, RouteKind, RouteManager};

use crate::trust::Membership;
use rules::{FAMILIES, TABLE};

/// Behind everything else in the table.
const LAST: u32 = u32::MAX;

/// Rules and routes; they go when this is dropped.
pub(super) struct HostExit {
    tun: String,
    own: [IpAddr; 2],
    /// The interfaces with a way out that the rules know, while there are rules.
    uplinks: Option<BTreeSet<String>>,
}

impl HostExit {
    /// Without any yet. What an agent that crashed has left stays until [`Self::open`] replaces it or [`Self::close`] removes it.
    pub fn new(tun: &str, membership: &Membership) -> Self {
        let own = [membership.address_v4.into(), membership.address_v6.into()];
        Self { tun: tun.to_owned(), own, uplinks: None }
    }

    /// Leads everything into the tunnel. The uplinks are the interfaces with a way out of this host.
    pub fn open(&mut self, uplinks: &BTreeSet<String>) -> Result<()> {
        if self.uplinks.as_ref() == Some(uplinks) {
            return Ok(());
        }
        refuse_strict(uplinks)?;
        let mut kernel = RouteManager::new().context("this host's routes cannot be changed")?;
        for route in self.routes() {
            if let Err(error) = kernel.add(&route)
                && error.kind() != std::io::ErrorKind::AlreadyExists
            {
                // A host without a family has nothing to lead there.
                tracing::debug!(%error, "the way to the Internet has no route of this family");
            }
        }
        for family in FAMILIES {
            match rules::replace(family, uplinks) {
                Err(error) if family == FAMILIES[1] && !has_ipv6() => {
                    tracing::debug!(%error, "this host has no IPv6, and none to lead into the tunnel");
                }
                replaced => replaced.context("the rules that lead to the exit node cannot be set up")?,
            }
        }
        self.uplinks = Some(uplinks.clone());
        Ok(())
    }

    /// The tunnel's device was made anew: the kernel has forgotten what led into it, so that nothing gets out until
    /// [`Self::open`] is called again.
    pub fn forget(&mut self) {
        self.uplinks = None;
    }

    /// Leaves the host's way to the Internet as it is without the agent.
    pub fn close(&mut self) {
        self.uplinks = None;
        for family in FAMILIES {
            if let Err(error) = rules::remove(family) {
                tracing::debug!(%error, "there are no rules of this family to remove");
            }
        }
        let Ok(mut kernel) = RouteManager::new() else { return };
        for route in self.routes() {
            // Gone already, or never there.
            let _ = kernel.delete(&route);
        }
    }

    fn routes(&self) -> impl Iterator<Item = Route> {
        self.own.iter().flat_map(|own| {
            let everything: IpAddr =
                if own.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            let route = Route::new(everything, 0).with_table(TABLE);
            let tunnel = route.clone().with_if_name(self.tun.clone()).with_pref_source(*own);
            [tunnel, route.with_kind(RouteKind::Unreachable).with_metric(LAST)]
        })
    }
}

impl Drop for HostExit {
    fn drop(&mut self) {
        self.close();
    }
}

fn has_ipv6() -> bool {
    std::fs::read_to_string("/proc/self/net/if_inet6").is_ok_and(|interfaces| !interfaces.trim().is_empty())
}

/// Where the kernel demands that every packet comes from where its answer would go, nothing of what peers send would be let in:
/// the answer's way is the tunnel. A hardened service does not see the setting.
fn refuse_strict(uplinks: &BTreeSet<String>) -> Result<()> {
    let setting = |interface: &str| {
        let path = format!("/proc/sys/net/ipv4/conf/{interface}/rp_filter");
        std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u8>().ok()).unwrap_or(0)
    };
    let all = setting("all");
    for uplink in uplinks {
        ensure!(
            all.max(setting(uplink)) != 1,
            "this host drops what comes in from where it would not send to (net.ipv4.conf.{uplink}.rp_filter = 1, or of \
             `all`): set it to 2 (`sysctl -w net.ipv4.conf.{uplink}.rp_filter=2`), and choose the exit node again"
        );
    }
    Ok(())
}
