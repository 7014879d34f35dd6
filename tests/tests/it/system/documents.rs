//! What a reader is told to type exists, and the files that we hand out are taken.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use writ_tests::programs;

/// Programs whose commands the README may show.
const PROGRAMS: &[&str] = &["writ", "writd", "writ-agent", "writ-report", "writ-figures"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The lines of fenced `sh` blocks, without comments and prompts.
pub(super) fn commands(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        match line.trim_start().strip_prefix("```") {
            Some(kind) => inside = !inside && matches!(kind.trim(), "sh" | "bash" | "console"),
            None if inside => {
                let line = line.split(" #").next().unwrap_or_default().trim().trim_start_matches("$ ");
                if !line.is_empty() && !line.starts_with('#') {
                    found.push(line.to_owned());
                }
            }
            None => {}
        }
    }
    found
}

/// The words that name a command: those before the first that is an option, a value or a place for one.
fn named(words: &[&str]) -> usize {
    let is_name = |word: &&str| {
        word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-') && !word.starts_with('-')
    };
    words.iter().take_while(|word| is_name(word)).count()
}

fn check(command: &str) -> Result<(), String> {
    let words: Vec<_> =
        command.split_whitespace().skip_while(|word| *word == "sudo" || word.contains('=')).collect();
    let Some((program, rest)) = words.split_first() else { return Ok(()) };
    if program.contains('/') {
        let path = root().join(program);
        return if path.is_file() { Ok(()) } else { Err(format!("{} does not exist", path.display())) };
    }
    if !PROGRAMS.contains(program) {
        return Ok(());
    }
    let file = programs::find(&programs::built().unwrap(), program).unwrap();
    let options = rest.iter().copied().filter_map(|word| word.strip_prefix("--"));
    let options: Vec<_> = options.map(|option| option.split('=').next().unwrap_or_default()).collect();
    // A word that is no subcommand is a value of the one before, if that one takes values.
    for count in (0..=named(rest)).rev() {
        let output = Command::new(&file).args(&rest[..count]).arg("--help").output().unwrap();
        let help = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() && (count > 0 || rest.is_empty() || rest[0].starts_with('-')) {
            let unknown = options.iter().find(|option| !help.contains(&format!("--{option}")));
            return unknown
                .map_or(Ok(()), |option| Err(format!("`{program}` has no option --{option}: {help}")));
        }
    }
    Err(format!("`{program}` has no command {}", rest.first().unwrap_or(&"")))
}

#[test]
fn every_command_in_the_documents_exists() {
    for document in ["README.md", "deploy/README.md", "services/agent/README.md"] {
        let text = fs::read_to_string(root().join(document)).unwrap();
        for command in commands(&text) {
            assert_eq!(check(&command), Ok(()), "{document}: {command}");
        }
    }
}

#[test]
fn a_command_that_does_not_exist_is_found() {
    for command in ["writ frobnicate", "deploy/nothing", "writ nodes --frobnicate", "writd serve"] {
        assert!(check(command).is_err(), "{command}");
    }
    assert_eq!(commands("text\n```sh\nwrit a # b\n# c\n```\nwrit d\n```\nwrit e\n```\n"), ["writ a"]);
}

#[test]
fn the_example_configuration_is_taken_with_every_value_that_it_shows() {
    let text = fs::read_to_string(root().join("deploy/writ.toml")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    // What is only shown is set too, except what excludes something else.
    let shown: String = text
        .lines()
        .map(|line| {
            let bare = line.strip_prefix("# ").unwrap_or(line);
            let is_setting = bare.starts_with('[')
                || bare.split_once(" = ").is_some_and(|(key, _)| {
                    key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
                });
            format!("{}\n", if is_setting { bare } else { "" })
        })
        .collect();
    for (name, text) in [("as-it-is.toml", &text), ("with-all.toml", &shown)] {
        let file = folder.path().join(name);
        fs::write(&file, text).unwrap();
        let program = programs::find(&programs::built().unwrap(), "writd").unwrap();
        let output = Command::new(program).args(["run", "--check", "--config"]).arg(&file).output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn the_policies_of_the_demonstration_hold_their_own_tests() {
    for file in ["policy.hujson", "nobody-on-call.hujson"] {
        let path = root().join("deploy/demo.d").join(file);
        let program = programs::find(&programs::built().unwrap(), "writ").unwrap();
        let output = Command::new(program).args(["policy", "check"]).arg(&path).output().unwrap();
        let printed = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{file}: {}", String::from_utf8_lossy(&printed));
    }
}

/// Where systemd is, which judges it by all that a unit can be denied: 0 is nothing allowed, 100 everything.
#[test]
fn the_units_are_hardened() {
    for (unit, most, capabilities) in
        [("writ-agent.service", "21", "CAP_NET_ADMIN CAP_NET_BIND_SERVICE"), ("writd.service", "21", "")]
    {
        let path = root().join("deploy").join(unit);
        let text = fs::read_to_string(&path).unwrap();
        let bounding = text.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
        assert_eq!(bounding, Some(capabilities), "{unit}");
        let mut command = Command::new("systemd-analyze");
        command.args(["security", "--offline=true", "--threshold", most]).arg(&path);
        match command.output() {
            Ok(output) => {
                let told = String::from_utf8_lossy(&output.stdout).into_owned();
                assert!(output.status.success(), "{unit}: {told}");
            }
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{unit}"),
        }
    }
}
