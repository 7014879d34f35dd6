//! Without root, the lab stands in a user namespace.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};
use std::time::Duration;

use writ_tests::lab::wait_for;

/// The user that owns nothing.
const NOBODY: u32 = 65534;

/// This test program, run by somebody without any right for one of its tests.
fn as_nobody(test: &str) -> Output {
    // Its own folder may be closed to others, so a copy goes where anybody can read.
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = directory.path().join("it");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let mut command = Command::new(&program);
    command
        .args([test, "--exact", "--include-ignored", "--nocapture", "--test-threads=1"])
        .env_remove("TMPDIR")
        .current_dir("/")
        .uid(NOBODY)
        .gid(NOBODY);
    // A program that another test starts at this moment may still hold the copy open for writing, until it is one itself.
    wait_for(Duration::from_secs(10), "the copy can be run", || command.output()).unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Not a test by itself: says whether the kernel allows it to whoever runs it.
#[test]
#[ignore = "an answer for the test below"]
fn user_namespaces_can_be_had() {
    if let Err(error) = writ_tests::lab::privilege::probe() {
        panic!("{error}");
    }
}

#[test]
fn the_lab_stands_without_root_where_the_kernel_allows() {
    if !nix::unistd::geteuid().is_root() {
        // Then every test of the lab shows it.
        return;
    }
    let probe = as_nobody("lab::rootless::user_namespaces_can_be_had");
    if !probe.status.success() {
        let said = text(&probe);
        assert!(said.contains("the network lab cannot run here") && said.contains("as root"), "{said}");
        println!("skipped: {said}");
        return;
    }
    let output =
        as_nobody("lab::hosts::hosts_in_one_lan_reach_each_other_and_the_internet_but_nobody_reaches_in");
    assert!(output.status.success() && text(&output).contains("1 passed"), "{}", text(&output));
}
