//! `writ policy import`: what a policy of another system would do here, offline.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};
use writ_policy::{Compiled, Inventory, Policy, PolicyError, Summary, logins_in_remarks};

use super::check;
use crate::output::{Paint, counted, printable};
use crate::{App, Verdict};

/// Say what a Headscale or Tailscale policy file would do here, and what is refused of it
///
/// Looks at the whole file and changes nothing. Whatever is refused has to be taken out before the file can be put in
/// force: a policy is refused rather than enforced in part.
#[derive(Args)]
#[command(after_help = "\
Example:
  writ policy import acl.hujson")]
pub struct Arguments {
    /// The policy file; `-` for standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Reports.
pub fn run(arguments: &Arguments, app: &App) -> Result<Verdict> {
    let text = check::read(&arguments.file)?;
    let name = arguments.file.display().to_string();
    let import = Import::of(&text);
    app.out.show(&import.text(&name, &text, app.out.paint()), &import.value(&name))?;
    Ok(if import.is_ready() { Verdict::Good } else { Verdict::Bad })
}

#[derive(Default)]
struct Import {
    /// What is enforced, if the file could be read at all.
    summary: Option<Summary>,
    refused: Vec<PolicyError>,
    failed_tests: Vec<String>,
    people: BTreeSet<String>,
    /// People named where names stay as they are.
    remarks: Vec<PolicyError>,
    is_silent: bool,
}

impl Import {
    fn of(text: &str) -> Self {
        let mut import = Self::default();
        let policy = match Policy::parse_full(text) {
            Ok(policy) => policy,
            Err(error) => {
                import.refused.push(error);
                return import;
            }
        };
        import.refused = policy.unsupported();
        import.is_silent = policy.allows_everything_by_silence();
        import.remarks = logins_in_remarks(text).unwrap_or_default();
        let users = check::people(text);
        import.people = users.iter().map(|user| user.login.clone()).collect();
        import.summary = Some(policy.summary());
        match Compiled::new(Arc::new(policy), &Inventory { users, nodes: Vec::new() }) {
            Ok(compiled) => {
                import.failed_tests = compiled.run_tests().iter().map(ToString::to_string).collect();
            }
            Err(error) => import.refused.push(error),
        }
        import
    }

    fn is_ready(&self) -> bool {
        self.refused.is_empty() && self.failed_tests.is_empty() && self.remarks.is_empty() && !self.is_silent
    }

    fn text(&self, name: &str, policy: &str, paint: Paint) -> String {
        let mut text = String::new();
        if let Some(summary) = &self.summary {
            text.push_str(&format!("{name}: what would be enforced\n"));
            for (count, thing) in counts(summary).into_iter().filter(|(count, _)| *count > 0) {
                text.push_str(&format!("  {}\n", counted(count as u64, thing)));
            }
            if !self.people.is_empty() {
                let people: Vec<&str> = self.people.iter().map(String::as_str).collect();
                text.push_str(&format!(
                    "\nPeople who have to be added first, with `writ users add`:\n  {}\n",
                    printable(&people.join(" "))
                ));
            }
        }
        if !self.refused.is_empty() {
            text.push_str("\nRefused, and to be taken out first:\n");
            self.refused.iter().for_each(|e| text.push_str(&check::pointed(name, policy, e, paint)));
        }
        if !self.remarks.is_empty() {
            text.push_str("\nPeople named in comments or keys, which would stay in the log in the clear:\n");
            self.remarks.iter().for_each(|e| text.push_str(&check::pointed(name, policy, e, paint)));
        }
        for failure in &self.failed_tests {
            text.push_str(&format!("{} {}\n", paint.red("test failed:"), printable(failure)));
        }
        if self.is_silent {
            text.push_str(
                "\nThe file has neither \"acls\" nor \"grants\". There as here that allows everything to everybody; here it is put \
                 in force only with `writ policy set --allow-everything`.\n",
            );
        }
        text.push_str(&match self.is_ready() {
            true => format!(
                "\n{} it can be put in force as it is: `writ policy diff {name}`\n",
                paint.green("ok:")
            ),
            false => format!("\n{} it cannot be put in force as it is\n", paint.red("refused:")),
        });
        text
    }

    fn value(&self, name: &str) -> Value {
        let errors =
            |errors: &[PolicyError]| -> Vec<Value> { errors.iter().map(check::error_value).collect() };
        let enforced = self.summary.as_ref().map(|summary| {
            let counts = counts(summary).into_iter();
            Value::Object(counts.map(|(count, thing)| (thing.replace(' ', "_"), json!(count))).collect())
        });
        json!({
            "ok": self.is_ready(), "file": name, "enforced": enforced, "people": self.people,
            "refused": errors(&self.refused), "people_in_remarks": errors(&self.remarks),
            "failed_tests": self.failed_tests, "allows_everything": self.is_silent,
        })
    }
}

fn counts(summary: &Summary) -> [(usize, &'static str); 7] {
    [
        (summary.rules, "rule"),
        (summary.conditional_rules, "rule with conditions"),
        (summary.groups, "group"),
        (summary.tags, "tag"),
        (summary.hosts, "host"),
        (summary.postures, "posture"),
        (summary.tests, "test"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADSCALE: &str = r#"{
  "groups": {"group:ops": ["ada@example.com"]},
  "tagOwners": {"tag:web": ["group:ops"]},
  "acls": [{"action": "accept", "src": ["group:ops"], "dst": ["tag:web:443"]}],
  "ssh": [{"action": "accept", "src": ["group:ops"], "dst": ["tag:web"], "users": ["root"]}],
  "derpMap": {"OmitDefaultRegions": true},
}"#;

    #[test]
    fn everything_that_is_refused_is_named_at_once() {
        let import = Import::of(HEADSCALE);
        let text = import.text("acl.hujson", HEADSCALE, Paint::for_stream(false));
        for part in [
            "1 rule\n",
            "1 group\n",
            "\"ssh\" is not supported",
            "\"derpMap\" is not supported",
            "ada@example.com",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert!(
            !import.is_ready() && import.value("x")["refused"].as_array().is_some_and(|list| list.len() == 2)
        );
        let plain = HEADSCALE.lines().filter(|line| !line.contains("ssh") && !line.contains("derp"));
        assert!(Import::of(&plain.collect::<String>()).is_ready());
    }

    #[test]
    fn silence_and_people_in_comments_stand_in_the_way() {
        let text = Import::of("{}").text("x", "{}", Paint::for_stream(false));
        assert!(text.contains("--allow-everything"), "{text}");
        assert!(!Import::of("{\"acls\": []} // ada@example.com").is_ready());
        assert!(!Import::of("{").is_ready());
    }
}
