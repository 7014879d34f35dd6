//! Real-time scheduling (`chrt -r`), so that what else runs on the machine is measured as little as possible.

use std::process::{Command, Stdio};

use crate::lab::Process;

const PRIORITY: &str = "5";

/// Lets a program run before others, where that is permitted.
pub fn raise(program: &Process) {
    raise_pid(&program.id().to_string());
}

/// Lets this program run before others, too.
pub fn raise_self() {
    raise_pid(&std::process::id().to_string());
}

fn raise_pid(pid: &str) {
    let _ = chrt(&["--all-tasks", "--rr", "--pid", PRIORITY, pid]);
}

/// Whether that is permitted.
#[must_use]
pub fn is_permitted() -> bool {
    chrt(&["--rr", PRIORITY, "true"])
}

fn chrt(arguments: &[&str]) -> bool {
    let mut command = Command::new("chrt");
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
