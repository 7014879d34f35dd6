//! A program that runs in a host's namespace.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::core::LabCore;
use super::error::LabError;
use super::namespace::Namespace;
use super::{command, wait};

static STARTED: AtomicU32 = AtomicU32::new(0);

/// Between being asked to end and being killed.
const GRACE: Duration = Duration::from_secs(3);

/// A running program. Dropping it ends it: it is asked first, and killed if it does not listen.
///
/// The program leads a process group of its own, so a Ctrl-C at the terminal reaches only us and what it started
/// goes with it; and the kernel kills it when we are killed ourselves.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: Pid,
    child: Mutex<Child>,
    exit: Mutex<Option<ExitStatus>>,
    stdout: PathBuf,
    stderr: PathBuf,
    core: Arc<LabCore>,
    /// Its thread is the program's parent, and must outlive it.
    _namespace: Arc<Namespace>,
}

impl Process {
    pub(crate) fn spawn(
        core: &Arc<LabCore>,
        namespace: &Arc<Namespace>,
        wanted: &Command,
    ) -> Result<Self, LabError> {
        let program = Path::new(wanted.get_program());
        if program.components().count() > 1 && !program.is_file() {
            let missing = std::io::ErrorKind::NotFound.into();
            return Err(LabError::io(format!("run {}", program.display()))(missing));
        }
        let label = program.file_name().map_or_else(|| "program".into(), |name| name.to_string_lossy());
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let node = namespace.name().strip_prefix(core.prefix()).unwrap_or_default();
        let log = |kind| core.directory().join(format!("{number}{node}-{label}.{kind}"));
        let (stdout, stderr) = (log("out"), log("err"));
        let create =
            |path: &Path| File::create(path).map_err(LabError::io(format!("create {}", path.display())));
        let mut command = wrap(wanted);
        command.stdout(create(&stdout)?).stderr(create(&stderr)?);
        let child = core.start([&stdout, &stderr], || {
            let child = namespace
                .run(move || command.spawn())?
                .map_err(LabError::io(format!("run {}", program.display())))?;
            Ok((pid_of(&child), child))
        })?;
        Ok(Self {
            name: label.into_owned(),
            pid: pid_of(&child),
            child: Mutex::new(child),
            exit: Mutex::new(None),
            stdout,
            stderr,
            core: Arc::clone(core),
            _namespace: Arc::clone(namespace),
        })
    }

    /// Its process number.
    #[must_use]
    pub fn id(&self) -> i32 {
        self.pid.as_raw()
    }

    /// What it has written to its standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        read(&self.stdout)
    }

    /// What it has written to its standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        read(&self.stderr)
    }

    /// How it ended, if it has.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        let mut exit = self.exit.lock().unwrap_or_else(PoisonError::into_inner);
        if exit.is_none() {
            let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
            *exit = self.core.forget(self.pid, || child.try_wait().ok().flatten());
        }
        *exit
    }

    /// Sends it (and what it started) a signal. Nothing happens when it has ended.
    pub fn signal(&self, signal: Signal) {
        if self.exit_status().is_none() {
            let _ = killpg(self.pid, signal);
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it is still running after `limit`; it then goes on running.
    pub fn wait(&self, limit: Duration) -> Result<ExitStatus, LabError> {
        let what = format!("{} (process {}) ends", self.name, self.pid);
        let look = || self.exit_status().ok_or("it is running");
        Ok(wait::wait_for(limit, &what, look)?)
    }

    /// Waits for its end and returns all that it printed.
    ///
    /// # Errors
    /// When it is still running after `limit`; it then goes on running.
    pub fn output(&self, limit: Duration) -> Result<Output, LabError> {
        let status = self.wait(limit)?;
        let bytes = |path: &Path| fs::read(path).unwrap_or_default();
        Ok(Output { status, stdout: bytes(&self.stdout), stderr: bytes(&self.stderr) })
    }

    /// Asks it to end, and kills it if it does not within a few seconds. Returns how it ended.
    ///
    /// # Errors
    /// When even killing did not end it.
    pub fn stop(&self) -> Result<ExitStatus, LabError> {
        self.signal(Signal::SIGTERM);
        self.wait(GRACE).or_else(|_| self.kill())
    }

    /// Kills it, as a power cut would.
    ///
    /// # Errors
    /// When that did not end it.
    pub fn kill(&self) -> Result<ExitStatus, LabError> {
        self.signal(Signal::SIGKILL);
        self.wait(GRACE)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

/// The wanted program with a clean environment, a process group of its own and a parent-death signal. The latter
/// is set by `setpriv`, which then becomes the program: setting it from here would need unsafe code.
fn wrap(wanted: &Command) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(wanted.get_program()).args(wanted.get_args());
    command.env_clear().env("PATH", command::search_path()).env("LANG", "C.UTF-8");
    // All hosts of a lab share the machine's /etc, whose resolver no agent of a lab may touch.
    command.env("WRIT_HOST_DNS", "off");
    for kept in ["HOME", "RUST_BACKTRACE", "TMPDIR"] {
        if let Some(value) = std::env::var_os(kept) {
            command.env(kept, value);
        }
    }
    for (name, value) in wanted.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    if let Some(directory) = wanted.get_current_dir() {
        command.current_dir(directory);
    }
    command.process_group(0).stdin(Stdio::null());
    command
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}
