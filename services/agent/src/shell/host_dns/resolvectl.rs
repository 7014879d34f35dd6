//! Tells systemd-resolved by its own command, which is there wherever it is (since systemd 239), and needs no D-Bus library.

use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = "resolvectl";
/// How long a command may take: it waits for systemd-resolved, which may be starting.
const LIMIT: Duration = Duration::from_secs(5);
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Sets what is asked on a link. In this order it is never asked for more than it is told.
pub(super) fn set_link(link: &str, server: IpAddr, domains: &[String]) -> Result<(), String> {
    // It would be tried, and would fail: the names are not signed, and nobody on the link speaks the other protocols. Where
    // they are not known they are not tried either.
    for protocol in ["dnssec", "dnsovertls", "llmnr", "mdns"] {
        if let Err(error) = run(&[protocol, link, "no"]) {
            tracing::debug!("{error}");
        }
    }
    run(&["default-route", link, "no"])?;
    // A domain that is not searched, but whose names are asked for on this link only.
    let routed = domains.iter().map(|domain| format!("~{domain}"));
    let arguments: Vec<_> = ["domain".to_owned(), link.to_owned()].into_iter().chain(routed).collect();
    run(&arguments.iter().map(String::as_str).collect::<Vec<_>>())?;
    run(&["dns", link, &server.to_string()])
}

fn run(arguments: &[&str]) -> Result<(), String> {
    let shown = || format!("`{PROGRAM} {}`", arguments.join(" "));
    let mut command = Command::new(PROGRAM);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let child = command.spawn().map_err(|error| format!("{} cannot be run: {error}", shown()))?;
    let output = finish(child).map_err(|error| format!("{}: {error}", shown()))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{}: {}", shown(), String::from_utf8_lossy(&output.stderr).trim())),
    }
}

/// Waits for the end, and ends it when that does not come. What it says is short: it fits into the pipe.
fn finish(mut child: Child) -> Result<std::process::Output, String> {
    let deadline = Instant::now() + LIMIT;
    while child.try_wait().map_err(|error| error.to_string())?.is_none() {
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("not done after {} s", LIMIT.as_secs()));
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
    child.wait_with_output().map_err(|error| error.to_string())
}
