//! A lab leaves nothing behind, however it ends.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use writ_tests::lab::{Lab, Nat, wait_for, wait_until};

use crate::lab_test;

const LIMIT: Duration = Duration::from_secs(10);

/// Namespaces and folders whose names begin so.
fn left_over(prefix: &str) -> Vec<PathBuf> {
    ["/run/netns".into(), std::env::temp_dir()]
        .iter()
        .filter_map(|directory: &PathBuf| fs::read_dir(directory).ok())
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
        .collect()
}

fn is_running(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

/// A lab with a program, a server, a socket and a folder.
fn busy(name: &str) -> (Lab, i32, impl Sized) {
    let lab = Lab::new(name).unwrap();
    let host = lab.router("router", Nat::PortRestricted).unwrap().host("host").unwrap();
    let program = host.spawn(Command::new("sleep").arg("1000")).unwrap();
    let pid = program.id();
    // Until then it has not asked for a signal at its parent's death.
    let name = || fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "sleep");
    wait_until(LIMIT, "the program runs", name).unwrap();
    let rest = (host.serve_http(80, "").unwrap(), host.udp(0).unwrap(), program);
    (lab, pid, rest)
}

lab_test! {
    fn a_dropped_lab_leaves_nothing() {
        let (lab, pid, rest) = busy("dropped");
        let prefix = lab.prefix().to_owned();
        assert_eq!(left_over(&format!("{prefix}-")).len(), 4, "internet, router, host and the folder");
        assert!(is_running(pid));
        drop(lab);
        assert_eq!(left_over(&format!("{prefix}-")), Vec::<PathBuf>::new());
        assert!(!is_running(pid));
        drop(rest);
    }
}

lab_test! {
    fn a_panic_leaves_nothing() {
        let thread = std::thread::spawn(|| {
            let (lab, pid, _rest) = busy("panicked");
            std::panic::resume_unwind(Box::new((format!("{}-", lab.prefix()), pid)));
        });
        let found = thread.join().unwrap_err().downcast::<(String, i32)>().unwrap();
        assert_eq!(left_over(&found.0), Vec::<PathBuf>::new());
        assert!(!is_running(found.1));
    }
}

lab_test! {
    fn a_closed_lab_starts_nothing_more() {
        let lab = Lab::new("closed").unwrap();
        let host = lab.host("host").unwrap();
        drop(lab);
        assert!(host.spawn(Command::new("sleep").arg("1000")).unwrap_err().to_string().contains("closed"));
    }
}

/// Not a test by itself: what the tests below start as a process of its own, to hit it by a signal.
#[test]
#[ignore = "waits for a signal that another test sends"]
fn stands_until_a_signal_comes() {
    let (_lab, pid, _rest) = busy("victim");
    println!("\nprogram {pid}");
    std::thread::sleep(Duration::from_secs(60));
}

/// A process with a lab in it, and the number of the program that runs in that lab.
fn victim() -> (Child, i32) {
    let name = "lab::lifetime::stands_until_a_signal_comes";
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let program = lines.find_map(|line| line.unwrap().strip_prefix("program ")?.parse().ok()).unwrap();
    (child, program)
}

fn hit(child: &mut Child, signal: Signal) -> ExitStatus {
    kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
    wait_for(LIMIT, "the process ends", || child.try_wait().unwrap().ok_or("it runs")).unwrap()
}

lab_test! {
    fn signals_that_end_a_process_leave_nothing() {
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            let (mut child, program) = victim();
            let prefix = format!("writ-{}-", child.id());
            assert_eq!(left_over(&prefix).len(), 4);
            let status = hit(&mut child, signal);
            assert_eq!(status.code(), Some(128 + signal as i32));
            assert_eq!(left_over(&prefix), Vec::<PathBuf>::new(), "{signal}");
            assert!(!is_running(program), "{signal}");
        }
    }
}

lab_test! {
    fn what_a_killed_process_left_is_removed_by_the_next_lab() {
        let (mut child, program) = victim();
        let prefix = format!("writ-{}-", child.id());
        assert_eq!(left_over(&prefix).len(), 4);
        assert_eq!(hit(&mut child, Signal::SIGKILL).code(), None);
        wait_until(LIMIT, "the kernel ends its program", || !is_running(program)).unwrap();
        let _lab = Lab::new("next").unwrap();
        assert_eq!(left_over(&prefix), Vec::<PathBuf>::new());
    }
}
