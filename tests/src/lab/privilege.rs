//! The right to make networks: had as root, or got in a user namespace.
//!
//! Without the right, a process is started anew by `unshare` as root of a user namespace of its own, with a
//! mount namespace in which `/run` is empty and ours. It stays in the machine's network, so that its loopback is the
//! one a browser sees.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use super::command::{is_installed, search_path};
use super::error::LabError;
use super::names::NETNS_DIRECTORY;

/// Set in the process that was started anew, so that it does not try again.
const MARK: &str = "WRIT_LAB_IN_USER_NAMESPACE";

/// Bits of the capability sets, from capabilities(7).
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;

const TOOLS: [(&str, &str); 4] =
    [("ip", "iproute2"), ("nft", "nftables"), ("setpriv", "util-linux"), ("unshare", "util-linux")];

/// The process can make a lab as it is.
///
/// # Errors
/// When it cannot; the message says what to do.
pub fn require() -> Result<(), LabError> {
    if let Some((tool, package)) = TOOLS.iter().find(|(tool, _)| !is_installed(tool)) {
        return Err(LabError::Unavailable {
            reason: format!("`{tool}` is not installed"),
            remedy: format!("install the package {package}"),
        });
    }
    if is_privileged() {
        return Ok(());
    }
    Err(LabError::Unavailable {
        reason: "this process may not make network namespaces".into(),
        remedy: "run it as root, or start it in a user namespace: `unshare --user --map-root-user --mount`, \
                 with a tmpfs on /run"
            .into(),
    })
}

/// Agents can make TUN devices here.
///
/// # Errors
/// When they cannot; the message says what to do.
pub fn require_tun() -> Result<(), LabError> {
    let device = Path::new("/dev/net/tun");
    let remedy = match fs::OpenOptions::new().read(true).write(true).open(device) {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            "run as root, or let everybody open it, as most systems do: `chmod 666 /dev/net/tun` \
             (what it can do is still bound to the network namespace)"
        }
        Err(_) => {
            "load the module with `modprobe tun`; in a container, pass the device in with `--device /dev/net/tun`"
        }
    };
    Err(LabError::Unavailable { reason: "/dev/net/tun cannot be opened".into(), remedy: remedy.into() })
}

/// For the start of `main`: returns when the process can make a lab, if need be as a new process that began
/// again in a user namespace.
///
/// # Errors
/// When neither can be had; the message says what forbids it and what to do.
pub fn obtain() -> Result<(), LabError> {
    if is_privileged() || std::env::var_os(MARK).is_some() {
        return require();
    }
    probe()?;
    let mut command = in_user_namespace(&own_program()?);
    command.args(std::env::args_os().skip(1));
    // Only returns when it failed.
    Err(LabError::io("start anew in a user namespace")(command.exec()))
}

/// For tests, which cannot begin `main` again: runs `test` here when that is possible, otherwise starts this
/// test program anew for the one test of that name in a user namespace.
///
/// # Errors
/// When neither can be had, or the test failed there; the message then holds its output.
pub fn run_test(name: &str, test: impl FnOnce()) -> Result<(), LabError> {
    if is_privileged() || std::env::var_os(MARK).is_some() {
        test();
        return Ok(());
    }
    probe()?;
    let mut command = in_user_namespace(&own_program()?);
    command.args([name, "--exact", "--nocapture", "--test-threads=1"]);
    let output = command.output().map_err(LabError::io("start anew in a user namespace"))?;
    let text = printed(&output);
    // A name that is no test would pass without having run.
    if output.status.success() && text.contains("1 passed") {
        return Ok(());
    }
    Err(LabError::Command {
        command: format!("test {name}"),
        place: "a user namespace".into(),
        message: text,
    })
}

/// Tries whether the kernel gives us a user namespace with a network in it.
///
/// # Errors
/// When it does not; the message names the setting that forbids it.
pub fn probe() -> Result<(), LabError> {
    let script = "mount -t tmpfs tmpfs /run && mkdir /run/netns && unshare --net true";
    let output = unshare()
        .args(["sh", "-c", script])
        .output()
        .map_err(LabError::io("run `unshare` (package util-linux)"))?;
    if output.status.success() {
        return Ok(());
    }
    let (reason, remedy) = forbidding_setting();
    let reason = format!("{reason} (`unshare` says: {})", printed(&output).trim());
    Err(LabError::Unavailable { reason, remedy: remedy.into() })
}

/// What a person types before a command to run it in the given namespace from another terminal.
pub(crate) fn shell_prefix(namespace: &str) -> String {
    if std::env::var_os(MARK).is_some() {
        let pid = std::process::id();
        return format!(
            "nsenter --preserve-credentials --user --mount --target {pid} \
             nsenter --net={NETNS_DIRECTORY}/{namespace}"
        );
    }
    format!("ip netns exec {namespace}")
}

fn is_privileged() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    has_capabilities(&status) && fs::create_dir_all(NETNS_DIRECTORY).is_ok()
}

fn has_capabilities(status: &str) -> bool {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or_default();
    [CAP_NET_ADMIN, CAP_SYS_ADMIN].iter().all(|bit| (effective >> bit) & 1 == 1)
}

fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "--"]).env("PATH", search_path());
    command
}

fn in_user_namespace(program: &OsString) -> Command {
    let mut command = unshare();
    command.args(["sh", "-c", r#"mount -t tmpfs -o mode=755 tmpfs /run && exec "$0" "$@""#]);
    command.arg(program).env(MARK, "1");
    command
}

fn own_program() -> Result<OsString, LabError> {
    Ok(std::env::current_exe().map_err(LabError::io("find this program's own file"))?.into_os_string())
}

/// Which of the known settings stands in the way, and what to do about it.
fn forbidding_setting() -> (&'static str, &'static str) {
    let is = |file: &str, value: &str| fs::read_to_string(file).is_ok_and(|text| text.trim() == value);
    if is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
        return (
            "kernel.apparmor_restrict_unprivileged_userns = 1 forbids user namespaces to unprivileged programs, \
             the default since Ubuntu 24.04",
            "run it as root (sudo), or allow them until the next boot: \
             `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0`",
        );
    }
    if is("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        return (
            "kernel.unprivileged_userns_clone = 0 forbids user namespaces to unprivileged programs",
            "run it as root (sudo), or allow them: `sudo sysctl kernel.unprivileged_userns_clone=1`",
        );
    }
    if is("/proc/sys/user/max_user_namespaces", "0") {
        return (
            "user.max_user_namespaces = 0 forbids user namespaces",
            "run it as root (sudo), or allow some: `sudo sysctl user.max_user_namespaces=10000`",
        );
    }
    (
        "neither this process nor a user namespace of its own may make networks; a chroot forbids it, and a \
         container's seccomp profile or missing capabilities",
        "run it as root on the machine itself, or start the container with \
         `--privileged` (or `--cap-add SYS_ADMIN --cap-add NET_ADMIN --security-opt seccomp=unconfined \
         --security-opt systempaths=unconfined --device /dev/net/tun`)",
    )
}

fn printed(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_capabilities_are_needed() {
        let status = |mask: u64| format!("Name:\tx\nCapPrm:\t{:016x}\nCapEff:\t{mask:016x}\n", u64::MAX);
        assert!(has_capabilities(&status(1 << 12 | 1 << 21)));
        assert!(!has_capabilities(&status(1 << 12)));
        assert!(!has_capabilities(&status(1 << 21)));
        assert!(!has_capabilities("Name:\tx\n"));
    }
}
