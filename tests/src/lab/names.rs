//! Names that say whose they are, so that what a dead process left can be told from what is in use.
//!
//! `writ-<pid>-<start>-<number>` is unique to one lab: a process is its number together with the moment it
//! started, since numbers come back.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::error::LabError;
use super::namespace;

/// Where named network namespaces are mounted.
pub(crate) const NETNS_DIRECTORY: &str = "/run/netns";

const PREFIX: &str = "writ-";

static LABS: AtomicU32 = AtomicU32::new(0);

/// A prefix that no other lab has, on this machine and in this process.
pub(crate) fn unique_prefix() -> Result<String, LabError> {
    let pid = std::process::id();
    let start = start_time(pid).ok_or_else(|| LabError::Unavailable {
        reason: "/proc does not tell when this process started".into(),
        remedy: "mount /proc".into(),
    })?;
    let number = LABS.fetch_add(1, Ordering::Relaxed);
    Ok(format!("{PREFIX}{pid}-{start}-{number}"))
}

/// Removes namespaces and folders of labs whose process is gone. What cannot be removed is left: the next lab
/// tries again.
pub(crate) fn remove_stale() {
    for path in stale(Path::new(NETNS_DIRECTORY)) {
        namespace::remove(&path);
    }
    for path in stale(&std::env::temp_dir()) {
        let _ = fs::remove_dir_all(path);
    }
}

/// The name is fit for a file, an interface's host and a log line.
pub(crate) fn check(name: &str) -> Result<(), LabError> {
    let bad = |reason| Err(LabError::BadName { name: name.to_owned(), reason });
    if name.is_empty() || name.len() > 40 {
        return bad("it must have 1 to 40 characters");
    }
    if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        return bad("only a-z, 0-9 and `-` are allowed");
    }
    Ok(())
}

fn stale(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| entry.file_name().to_str().and_then(owner).is_some_and(|owner| !alive(owner)))
        .map(|entry| entry.path())
        .collect()
}

/// Process number and start time of the lab that made this name.
fn owner(name: &str) -> Option<(u32, u64)> {
    let mut parts = name.strip_prefix(PREFIX)?.split('-');
    let owner = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next()?.parse::<u32>().ok()?;
    Some(owner)
}

fn alive((pid, start): (u32, u64)) -> bool {
    start_time(pid) == Some(start)
}

/// Field 22 of `/proc/<pid>/stat`. The second field, the program's name, may hold blanks and parentheses, so
/// counting begins after the last `)`.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_differ_and_name_a_living_owner() {
        let (one, two) = (unique_prefix().unwrap(), unique_prefix().unwrap());
        assert_ne!(one, two);
        assert!(alive(owner(&one).unwrap()));
    }

    #[test]
    fn a_reused_process_number_is_not_the_owner() {
        let (pid, start) = owner(&unique_prefix().unwrap()).unwrap();
        assert!(!alive((pid, start + 1)));
    }

    #[test]
    fn only_our_own_names_have_an_owner() {
        for foreign in ["writ", "writ-", "writ-1", "writ-1-2", "writ-1-2-x", "writ-demo-1-2", "docker-1-2-3"]
        {
            assert_eq!(owner(foreign), None, "{foreign}");
        }
        assert_eq!(owner("writ-12-345-6-staging-cluster"), Some((12, 345)));
    }

    #[test]
    fn names_that_could_leave_the_folder_are_refused() {
        for name in ["", "../x", "a/b", "A", "a b", &"x".repeat(41)] {
            assert!(check(name).is_err(), "{name}");
        }
        assert!(check("production-database").is_ok());
    }
}
