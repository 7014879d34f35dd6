//! This host's routes to what lies behind other nodes.
//!
//! They have a high metric, so that they never take the place of a network that this host is in itself, or that another VPN
//! has a route for. The kernel forgets them together with the TUN device.

use std::collections::BTreeSet;
use std::net::IpAddr;

use route_manager::{Route, RouteManager};
use writ_schema::net::Prefix;

/// Behind every route that a host has by itself.
const METRIC: u32 = 5_000;

/// The routes that lead into the tunnel, beside that of the overlay.
pub(super) struct HostRoutes {
    tun: String,
    installed: BTreeSet<Prefix>,
}

impl HostRoutes {
    /// None yet.
    pub fn new(tun: &str) -> Self {
        Self { tun: tun.to_owned(), installed: BTreeSet::new() }
    }

    /// Adds and removes what is needed for these prefixes. What would lead to one of the servers is left out: the tunnel must
    /// not run through itself. Gives those that are there.
    pub fn set(&mut self, wanted: &[Prefix], servers: &[IpAddr]) -> Vec<Prefix> {
        let is_fit =
            |route: &&Prefix| !route.is_everything() && !servers.iter().any(|server| route.contains(*server));
        let wanted: BTreeSet<Prefix> = wanted.iter().filter(is_fit).copied().collect();
        if wanted != self.installed {
            match RouteManager::new() {
                Ok(mut kernel) => self.change(&mut kernel, &wanted),
                Err(error) => tracing::warn!(%error, "this host's routes cannot be changed"),
            }
        }
        self.installed()
    }

    /// Those that are there.
    pub fn installed(&self) -> Vec<Prefix> {
        self.installed.iter().copied().collect()
    }

    fn change(&mut self, kernel: &mut RouteManager, wanted: &BTreeSet<Prefix>) {
        for route in self.installed.clone().difference(wanted) {
            if let Err(error) = kernel.delete(&self.route(*route)) {
                tracing::debug!(%route, %error, "a route was gone already");
            }
            self.installed.remove(route);
        }
        for route in wanted {
            if self.installed.contains(route) {
                continue;
            }
            match kernel.add(&self.route(*route)) {
                Ok(()) => drop(self.installed.insert(*route)),
                Err(error) => tracing::warn!(%route, %error, "this host takes no route there"),
            }
        }
    }

    fn route(&self, prefix: Prefix) -> Route {
        let net = prefix.net();
        Route::new(net.network(), net.prefix_len()).with_if_name(self.tun.clone()).with_metric(METRIC)
    }
}
