//! One network namespace: a name under `/run/netns` and a thread that lives inside.
//!
//! The thread makes the namespace (`unshare`) and then works for it. What it starts, thread or program, is born
//! inside. `ip netns add` would do for root, but in a user namespace it cannot find back to the machine's own
//! network and fails.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use super::error::LabError;
use super::names::NETNS_DIRECTORY;

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace that can be worked in.
#[derive(Debug)]
pub(crate) struct Namespace {
    name: String,
    jobs: mpsc::Sender<Job>,
}

impl Namespace {
    /// Makes the namespace and gives it a name, with the loopback interface still down.
    pub fn create(name: &str) -> Result<Self, LabError> {
        let path = path(name);
        fs::create_dir_all(NETNS_DIRECTORY).map_err(LabError::io(format!("create {NETNS_DIRECTORY}")))?;
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o444)
            .open(&path)
            .map_err(LabError::io(format!("create {}", path.display())))?;
        let (jobs, queue) = mpsc::channel::<Job>();
        let (ready, made) = mpsc::channel();
        let target = path.clone();
        thread::Builder::new()
            .name(format!("in {name}"))
            .spawn(move || {
                let result = enter_new(&target);
                let stop = result.is_err();
                let _ = ready.send(result);
                if stop {
                    return;
                }
                for job in queue {
                    job();
                }
            })
            .map_err(LabError::io("start a thread"))?;
        match made.recv() {
            Ok(Ok(())) => Ok(Self { name: name.to_owned(), jobs }),
            Ok(Err(error)) => {
                remove(&path);
                Err(error)
            }
            Err(_) => {
                remove(&path);
                Err(LabError::Closed)
            }
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs a short job on the namespace's own thread. Programs that it starts live at most as long as that
    /// thread when they ask for a signal at their parent's death.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T, LabError> {
        let (done, result) = mpsc::channel();
        let job = Box::new(move || {
            let _ = done.send(job());
        });
        self.jobs.send(job).map_err(|_| LabError::Closed)?;
        result.recv().map_err(|_| LabError::Closed)
    }

    /// Starts a thread inside the namespace.
    pub fn thread<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JoinHandle<T>, LabError> {
        let builder = thread::Builder::new().name(format!("{name} in {}", self.name));
        self.run(move || builder.spawn(work))?.map_err(LabError::io("start a thread"))
    }
}

/// Takes the name away. The kernel frees the namespace when the last process and socket in it are gone.
pub(crate) fn remove(path: &Path) {
    let _ = umount2(path, MntFlags::MNT_DETACH);
    let _ = fs::remove_file(path);
}

pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(NETNS_DIRECTORY).join(name)
}

fn enter_new(path: &Path) -> Result<(), LabError> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| LabError::Unavailable {
        reason: format!("the kernel refuses a new network namespace ({})", io::Error::from(errno)),
        remedy: "run as root, or raise user.max_net_namespaces if it is exhausted".into(),
    })?;
    mount(Some("/proc/thread-self/ns/net"), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .map_err(LabError::errno(format!("mount the namespace at {}", path.display())))
}
