//! Who decides on this host where names are looked up, and how it is told. Pure.

use std::path::Path;

use serde::Serialize;

use super::Obstacle;
use super::resolv_conf::{ResolvConf, name_servers};

/// Where systemd-resolved answers.
const RESOLVED_STUBS: [&str; 2] = ["127.0.0.53", "127.0.0.54"];

/// How the host's resolver is told of the agent's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// systemd-resolved, by `resolvectl`.
    SystemdResolved,
    /// A marked block in `/etc/resolv.conf`.
    ResolvConf,
}

/// The way of a host with this `/etc/resolv.conf`.
pub(super) fn choose(conf: &ResolvConf) -> Result<Way, Obstacle> {
    match conf {
        ResolvConf::Missing => Err(Obstacle::new(
            "there is no /etc/resolv.conf",
            "make one that names this host's name servers, and start the agent again",
        )),
        ResolvConf::File(text) => {
            let servers = name_servers(text);
            let is_resolved = |server: &String| RESOLVED_STUBS.contains(&server.as_str());
            if !servers.is_empty() && servers.iter().all(is_resolved) {
                return Ok(Way::SystemdResolved);
            }
            Ok(Way::ResolvConf)
        }
        ResolvConf::Link { target } if is_resolveds(target) => Ok(Way::SystemdResolved),
        ResolvConf::Link { target } => Err(managed(target)),
    }
}

fn is_resolveds(target: &Path) -> bool {
    target.starts_with("/run/systemd/resolve") || target.ends_with("lib/systemd/resolv.conf")
}

fn managed(target: &Path) -> Obstacle {
    let why = |by: &str| format!("/etc/resolv.conf is a link to {}, which {by} writes", target.display());
    if target.starts_with("/run/NetworkManager") {
        return Obstacle::new(
            why("NetworkManager"),
            "install systemd-resolved, which NetworkManager then uses, and start the agent again; or name the agent's address as \
             the first DNS server of the connection that is in use (`nmcli connection modify NAME +ipv4.dns ADDRESS`)",
        );
    }
    if target.starts_with("/run/resolvconf") {
        return Obstacle::new(
            why("resolvconf"),
            "give it the agent's address (`echo nameserver ADDRESS | resolvconf -a tun.writ0`)",
        );
    }
    Obstacle::new(
        why("another program"),
        "have that program name the agent's address as the first name server, or replace the link by a file and start the agent again",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_decides_is_told_by_what_resolv_conf_is() {
        let file = |text: &str| ResolvConf::File(text.to_owned());
        let link = |target: &str| ResolvConf::Link { target: target.into() };
        for (conf, way) in [
            (link("/run/systemd/resolve/stub-resolv.conf"), Some(Way::SystemdResolved)),
            (link("/run/systemd/resolve/resolv.conf"), Some(Way::SystemdResolved)),
            (link("/usr/lib/systemd/resolv.conf"), Some(Way::SystemdResolved)),
            (file("nameserver 127.0.0.53\noptions edns0 trust-ad\n"), Some(Way::SystemdResolved)),
            (file("nameserver 127.0.0.53\nnameserver 192.0.2.1\n"), Some(Way::ResolvConf)),
            (file("nameserver 192.0.2.1\n"), Some(Way::ResolvConf)),
            (file(""), Some(Way::ResolvConf)),
            (link("/run/NetworkManager/resolv.conf"), None),
            (link("/run/resolvconf/resolv.conf"), None),
            (link("/mnt/wsl/resolv.conf"), None),
            (ResolvConf::Missing, None),
        ] {
            assert_eq!(choose(&conf).ok(), way, "{conf:?}");
        }
    }
}
