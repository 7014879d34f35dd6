//! `ip` and `nft`, run inside a namespace.

use std::ffi::OsString;
use std::io::Write;
use std::process::{Command, Stdio};

use super::error::LabError;
use super::namespace::Namespace;

/// Where Debian keeps administrators' tools. A person's own PATH often leaves it out.
const ADMIN_PATHS: &str = "/usr/local/sbin:/usr/sbin:/sbin";

/// The PATH that programs of the lab get.
pub(crate) fn search_path() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    path.push(":");
    path.push(ADMIN_PATHS);
    path
}

/// The program is somewhere on [`search_path`].
pub(crate) fn is_installed(program: &str) -> bool {
    std::env::split_paths(&search_path()).any(|directory| directory.join(program).is_file())
}

/// Runs a batch of `ip` commands, one a line.
pub(crate) fn ip(namespace: &Namespace, batch: &str) -> Result<(), LabError> {
    run(namespace, "ip", &["-batch", "-"], batch).map(drop)
}

/// Loads an nftables script.
pub(crate) fn nft(namespace: &Namespace, script: &str) -> Result<(), LabError> {
    run(namespace, "nft", &["-f", "-"], script).map(drop)
}

/// Runs a tool to its end with the given input and returns what it printed.
pub(crate) fn run(
    namespace: &Namespace,
    program: &'static str,
    args: &[&str],
    input: &str,
) -> Result<String, LabError> {
    let mut command = Command::new(program);
    command.args(args).env("PATH", search_path()).env("LC_ALL", "C");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let text = input.to_owned();
    let output = namespace
        .run(move || {
            let mut child = command.spawn()?;
            if let Some(mut stdin) = child.stdin.take() {
                stdin.write_all(text.as_bytes())?;
            }
            child.wait_with_output()
        })?
        .map_err(LabError::io(format!("run `{program}`")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(LabError::Command {
        command: format!("{program} {}", args.join(" ")),
        place: namespace.name().to_owned(),
        message: format!("{}; its input was:\n{input}", String::from_utf8_lossy(&output.stderr).trim()),
    })
}
