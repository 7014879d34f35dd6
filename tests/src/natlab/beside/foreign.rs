//! How programs of others are run in the lab: without a way to touch the machine's own files or services.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::lab::{Host, Lab};

/// They start, and answer, well within this on a busy machine too.
pub(super) const LIMIT: Duration = Duration::from_secs(40);

/// What the program finds read-only (the settings of the machine, its resolver among them) and what it finds empty (the sockets of the
/// machine's services, and what others of its kind would keep).
const CONFINE: &str = "mount --make-rprivate / && mount --bind /etc /etc && mount -o remount,bind,ro /etc && \
     mount -t tmpfs none /run && mount -t tmpfs none /var/lib && mount -t tmpfs none /var/log && exec \"$@\"";

/// A program that sees files of its own there.
pub(super) fn command(program: &Path, home: &Path) -> anyhow::Result<Command> {
    ensure!(program.is_file(), "{} is missing: tests/natlab builds it", program.display());
    std::fs::create_dir_all(home).with_context(|| format!("cannot create {}", home.display()))?;
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", CONFINE, "sh"]).arg(program);
    command.env("HOME", home);
    Ok(command)
}

/// Runs one to its end and returns what it printed. `what` is how errors name it: its arguments may hold a secret.
pub(super) fn run(host: &Host, what: &str, command: &Command) -> anyhow::Result<String> {
    let output = host.spawn(command)?.output(LIMIT).with_context(|| what.to_owned())?;
    ensure!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A self-made certificate for the address of a host, and its key.
pub(super) struct Certificate {
    pub(super) chain: PathBuf,
    pub(super) key: PathBuf,
}

impl Certificate {
    pub(super) fn make(lab: &Lab, host: &Host) -> anyhow::Result<Self> {
        let made = Self {
            chain: lab.directory().join("certificate.pem"),
            key: lab.directory().join("certificate-key.pem"),
        };
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
        command.args(["-days", "1", "-subj", "/CN=lab"]);
        command.args(["-addext", &format!("subjectAltName=IP:{}", host.address())]);
        command.arg("-keyout").arg(&made.key).arg("-out").arg(&made.chain);
        run(host, "openssl req", &command)?;
        Ok(made)
    }

    /// Makes a program of Go's trust it.
    pub(super) fn let_trust(&self, command: &mut Command) {
        command.env("SSL_CERT_FILE", &self.chain);
    }
}
