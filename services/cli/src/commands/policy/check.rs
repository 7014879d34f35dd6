//! `writ policy check`: reading a policy file and running its tests, offline.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use writ_policy::{Compiled, Inventory, InventoryUser, Policy, PolicyError, TestFailure, replace_logins};
use writ_schema::UserId;

use crate::failure::advised;
use crate::output::{Paint, counted, printable};
use crate::{App, Verdict};

/// Largest policy file that the server takes.
const MAX_POLICY_BYTES: u64 = 1024 * 1024;

/// Check a policy file without a server
///
/// Reads the file (HuJSON, the language of Tailscale's and Headscale's policy files) and runs the tests that it carries.
/// Errors are shown with their line, and what is not supported is named. Whether the people in it exist is seen only by the
/// server: use `writ policy diff`.
#[derive(Args)]
#[command(after_help = "\
Example:
  writ policy check policy.hujson")]
pub struct Arguments {
    /// The policy file; `-` for standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Reads a policy file whole.
pub fn read(path: &Path) -> Result<String> {
    let name = path.display();
    let mut bytes = Vec::new();
    let limit = MAX_POLICY_BYTES + 1;
    if path.as_os_str() == "-" {
        io::stdin().take(limit).read_to_end(&mut bytes).context("cannot read the policy")?;
    } else {
        let file = File::open(path).with_context(|| format!("cannot read {name}"))?;
        file.take(limit).read_to_end(&mut bytes).with_context(|| format!("cannot read {name}"))?;
    }
    if bytes.len() as u64 > MAX_POLICY_BYTES {
        return Err(advised(
            format!("{name} has more than {MAX_POLICY_BYTES} bytes"),
            "the server takes no larger policies: is this the right file?",
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        let before = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
        advised(format!("line {line} of {name} is not UTF-8"), "save the file as UTF-8 and try again")
    })
}

/// Checks and reports.
pub fn run(arguments: &Arguments, app: &App) -> Result<Verdict> {
    let text = read(&arguments.file)?;
    let name = arguments.file.display().to_string();
    let checked = Checked::of(&text);
    app.out.show(&checked.text(&name, &text, app.out.paint()), &checked.value(&name))?;
    Ok(if checked.is_good() { Verdict::Good } else { Verdict::Bad })
}

/// What is wrong with a changed file, if more is than was before.
pub fn new_problems(name: &str, before: &str, after: &str, paint: Paint) -> Option<String> {
    let (before, checked) = (Checked::of(before), Checked::of(after));
    (checked.problems() > before.problems()).then(|| checked.text(name, after, paint))
}

/// What is known of a policy without its network.
#[derive(Default)]
struct Checked {
    errors: Vec<PolicyError>,
    failures: Vec<TestFailure>,
    is_silent: bool,
    rules: usize,
    tests: usize,
    people: usize,
}

impl Checked {
    fn of(text: &str) -> Self {
        let mut checked = Self::default();
        let policy = match Policy::parse_full(text) {
            Ok(policy) => policy,
            Err(error) => {
                checked.errors.push(error);
                return checked;
            }
        };
        checked.errors = policy.unsupported();
        checked.is_silent = policy.allows_everything_by_silence();
        (checked.rules, checked.tests) = (policy.rule_count(), policy.test_count());
        let users = people(text);
        checked.people = users.len();
        // Tests speak of identities, not of machines: they can be run before the first node has joined.
        match Compiled::new(Arc::new(policy), &Inventory { users, nodes: Vec::new() }) {
            Ok(compiled) => checked.failures = compiled.run_tests(),
            Err(error) => checked.errors.push(error),
        }
        checked
    }

    fn is_good(&self) -> bool {
        self.problems() == 0
    }

    fn problems(&self) -> usize {
        self.errors.len() + self.failures.len() + usize::from(self.is_silent)
    }

    fn text(&self, name: &str, policy: &str, paint: Paint) -> String {
        let mut text = String::new();
        for error in &self.errors {
            text.push_str(&pointed(name, policy, error, paint));
        }
        for failure in &self.failures {
            text.push_str(&format!("{} {}\n", paint.red("test failed:"), printable(&failure.to_string())));
        }
        if self.is_silent {
            text.push_str(&format!(
                "{} {name} has neither \"acls\" nor \"grants\", which in this language allows everything\n  help: write \
                 \"acls\": [] to allow nothing\n",
                paint.red("error:")
            ));
        }
        if self.is_good() {
            text.push_str(&format!(
                "{} {name}: {}, {}, {} named; every test holds\n",
                paint.green("ok"),
                counted(self.rules as u64, "rule"),
                counted(self.tests as u64, "test"),
                if self.people == 1 { "1 person".to_owned() } else { format!("{} people", self.people) },
            ));
        }
        text
    }

    fn value(&self, name: &str) -> Value {
        let errors: Vec<Value> = self.errors.iter().map(error_value).collect();
        let failures: Vec<Value> = self
            .failures
            .iter()
            .map(|f| {
                json!({
                    "test": f.index, "source": f.source, "destination": f.destination, "protocol": f.protocol.map(|protocol| protocol.to_string()),
                    "expected": f.expected.to_string(), "actual": f.actual.to_string(),
                    "rule": f.rule.as_ref().map(ToString::to_string),
                })
            })
            .collect();
        json!({
            "ok": self.is_good(), "file": name, "rules": self.rules, "tests": self.tests, "people": self.people,
            "errors": errors, "failedTests": failures, "allowsEverythingBySilence": self.is_silent,
        })
    }
}

/// Everybody whom the file names, so that their names mean somebody while the tests run.
pub fn people(text: &str) -> Vec<InventoryUser> {
    let mut users: Vec<InventoryUser> = Vec::new();
    // Only the names are wanted; a file that cannot be read was refused before.
    let _ = replace_logins(text, &mut |login| {
        if !users.iter().any(|user| user.login == login) {
            let id = login.parse().unwrap_or_else(|_| stand_in(login));
            users.push(InventoryUser { id, login: login.to_owned() });
        }
        Some(login.to_owned())
    });
    users
}

fn stand_in(login: &str) -> UserId {
    let digest: [u8; 32] = Sha256::digest(login.as_bytes()).into();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    UserId::from_bytes(bytes)
}

/// An error for programs.
pub fn error_value(error: &PolicyError) -> Value {
    json!({
        "line": error.line(), "column": error.column(), "path": error.path(), "message": error.message(),
        "help": error.help(),
    })
}

/// An error with the line that it is about and a mark below the place.
pub fn pointed(name: &str, policy: &str, error: &PolicyError, paint: Paint) -> String {
    let (line, column) = (error.line(), error.column());
    let path = if error.path().is_empty() { String::new() } else { format!("{}: ", error.path()) };
    let mut text =
        format!("{} {name}:{line}:{column}: {path}{}\n", paint.red("error:"), printable(error.message()));
    if let Some(source) = policy.lines().nth(line.saturating_sub(1)) {
        let number = line.to_string();
        let margin = " ".repeat(number.len());
        // Tabs stay tabs, so that the mark stands below its place.
        let blank = |c: char| if c == '\t' { '\t' } else { ' ' };
        let indent: String = source.chars().take(column.saturating_sub(1)).map(blank).collect();
        text.push_str(&format!(
            "{margin} |\n{number} | {}\n{margin} | {indent}{}\n",
            printable(source),
            paint.red("^")
        ));
    }
    if let Some(help) = error.help() {
        text.push_str(&format!("  help: {}\n", printable(help)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{
  "groups": { "group:dev": ["ada@example.com"] },
  "tagOwners": { "tag:staging": ["group:dev"] },
  "acls": [{ "action": "accept", "src": ["group:dev"], "dst": ["tag:staging:443"] }],
  "tests": [{ "src": "ada@example.com", "accept": ["tag:staging:443"], "deny": ["tag:staging:22"] }]
}"#;

    fn plain() -> Paint {
        Paint::for_stream(false)
    }

    #[test]
    fn tests_are_run_before_anybody_has_joined() {
        let checked = Checked::of(GOOD);
        assert!(checked.is_good(), "{}", checked.text("p", GOOD, plain()));
        assert_eq!((checked.rules, checked.tests, checked.people), (1, 1, 1));
        let broken = GOOD.replace("\"deny\": [\"tag:staging:22\"]", "\"deny\": [\"tag:staging:443\"]");
        let checked = Checked::of(&broken);
        assert!(!checked.is_good() && checked.failures.len() == 1);
    }

    #[test]
    fn the_mark_stands_below_the_place() {
        let bad = GOOD.replace("[\"group:dev\"], \"dst\"", "[\"group:dve\"], \"dst\"");
        let text = Checked::of(&bad).text("p.hujson", &bad, plain());
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("error: p.hujson:4:"), "{text}");
        let mark = lines[3].find('^').unwrap();
        assert!(lines[2][mark..].starts_with("\"group:dve\""), "{text}");
        assert!(text.contains("did you mean \"group:dev\"?"), "{text}");
    }

    #[test]
    fn a_file_that_allows_everything_by_silence_is_refused() {
        assert!(!Checked::of("{}").is_good());
        assert!(Checked::of("{\"acls\": []}").is_good());
    }

    #[test]
    fn a_section_that_is_not_enforced_is_refused_by_name() {
        let text = "{\"acls\": [], \"ssh\": []}";
        let checked = Checked::of(text);
        assert!(checked.text("p", text, plain()).contains("\"ssh\""));
    }
}
