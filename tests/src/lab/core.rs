//! What a lab owns and must give back: namespaces, running programs, a folder.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::error::LabError;
use super::namespace::{self, Namespace};
use super::{command, names};

/// Every lab of this process, for the day a signal comes.
static LABS: Mutex<Vec<Weak<LabCore>>> = Mutex::new(Vec::new());

/// Programs get this long to end by themselves before they are killed.
const GRACE: Duration = Duration::from_millis(1500);

/// How many lines of each log are shown when a test fails.
const LOG_TAIL_LINES: usize = 40;

#[derive(Debug)]
pub(crate) struct LabCore {
    prefix: String,
    directory: PathBuf,
    owned: Mutex<Owned>,
}

#[derive(Debug, Default)]
struct Owned {
    closed: bool,
    namespaces: Vec<String>,
    programs: Vec<Pid>,
    logs: Vec<PathBuf>,
}

impl LabCore {
    pub fn create(name: &str) -> Result<Arc<Self>, LabError> {
        names::check(name)?;
        let prefix = names::unique_prefix()?;
        let directory = std::env::temp_dir().join(format!("{prefix}-{name}"));
        DirBuilder::new()
            .mode(0o700)
            .create(&directory)
            .map_err(LabError::io(format!("create {}", directory.display())))?;
        let core = Arc::new(Self { prefix, directory, owned: Mutex::default() });
        let mut labs = LABS.lock().unwrap_or_else(PoisonError::into_inner);
        labs.retain(|lab| lab.strong_count() > 0);
        labs.push(Arc::downgrade(&core));
        Ok(core)
    }

    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A new namespace for the named node, with its loopback up. The lock is held throughout, so that closing
    /// cannot miss a namespace that is just being made.
    pub fn namespace(&self, node: &str) -> Result<Arc<Namespace>, LabError> {
        names::check(node)?;
        let name = format!("{}-{node}", self.prefix);
        let mut owned = self.open()?;
        if owned.namespaces.contains(&name) {
            return Err(LabError::BadName { name: node.to_owned(), reason: "it is taken" });
        }
        let namespace = Namespace::create(&name)?;
        owned.namespaces.push(name);
        drop(owned);
        command::ip(&namespace, "link set lo up\n")?;
        Ok(Arc::new(namespace))
    }

    /// Runs `start` unless the lab is closing, and keeps the process number that it returns until
    /// [`LabCore::forget`].
    pub fn start<T>(
        &self,
        logs: [&Path; 2],
        start: impl FnOnce() -> Result<(Pid, T), LabError>,
    ) -> Result<T, LabError> {
        let mut owned = self.open()?;
        let (pid, value) = start()?;
        owned.programs.push(pid);
        owned.logs.extend(logs.map(Path::to_owned));
        Ok(value)
    }

    /// Reaps with `reap`, and when that says the program is gone, gives up its number. Under the lock, because a
    /// number that was reaped may already belong to somebody else.
    pub fn forget<T>(&self, pid: Pid, reap: impl FnOnce() -> Option<T>) -> Option<T> {
        let mut owned = self.lock();
        let gone = reap()?;
        owned.programs.retain(|known| *known != pid);
        Some(gone)
    }

    /// Ends every program, removes every namespace and the folder. Safe to call twice.
    pub fn close(&self) {
        let mut owned = self.lock();
        if std::mem::replace(&mut owned.closed, true) {
            return;
        }
        end_all(&owned.programs);
        for name in owned.namespaces.drain(..) {
            namespace::remove(&namespace::path(&name));
        }
        let _ = fs::remove_dir_all(&self.directory);
    }

    /// Shows the end of every program's output, for the reader of a failed test.
    #[expect(
        clippy::print_stderr,
        reason = "the logs are about to be deleted and the test's reader needs them"
    )]
    pub fn print_logs(&self) {
        for log in &self.lock().logs {
            let Ok(text) = fs::read(log) else { continue };
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<_> = text.lines().collect();
            if !lines.is_empty() {
                let tail = lines.iter().skip(lines.len().saturating_sub(LOG_TAIL_LINES));
                eprintln!("--- {}", log.display());
                tail.for_each(|line| eprintln!("{line}"));
            }
        }
    }

    fn open(&self) -> Result<MutexGuard<'_, Owned>, LabError> {
        let owned = self.lock();
        if owned.closed { Err(LabError::Closed) } else { Ok(owned) }
    }

    fn lock(&self) -> MutexGuard<'_, Owned> {
        self.owned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes every lab of this process.
pub(crate) fn close_all() {
    let labs: Vec<_> = {
        let mut labs = LABS.lock().unwrap_or_else(PoisonError::into_inner);
        labs.drain(..).filter_map(|lab| lab.upgrade()).collect()
    };
    for lab in labs {
        lab.close();
    }
}

/// Asks all programs to end, and kills those that do not. Their numbers are ours until they are reaped, which
/// [`LabCore::forget`] cannot do meanwhile.
fn end_all(programs: &[Pid]) {
    for pid in programs {
        let _ = killpg(*pid, Signal::SIGTERM);
    }
    let start = Instant::now();
    while start.elapsed() < GRACE && programs.iter().any(|pid| is_running(*pid)) {
        thread::sleep(Duration::from_millis(10));
    }
    for pid in programs {
        let _ = killpg(*pid, Signal::SIGKILL);
    }
}

fn is_running(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}
