//! `writ policy edit`: one change of a policy, in a file or of the one in force, with all else left as it is.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use writ_policy::{Edit, NameList, RuleRef, Section};

use super::{change, check};
use crate::failure::usage;
use crate::output::{Paint, printable};
use crate::{App, Verdict};

/// Change one thing of a policy and leave every other byte as it is
///
/// Comments, layout and order stay. With --file the file is changed, if it is still good afterwards; without, the policy in
/// force, as `writ policy set` does it: what changes is shown first.
#[derive(Args)]
#[command(after_help = "\
Examples:
  writ policy edit add-user group:oncall ada@example.com
  writ policy edit remove-rule acls[3]
  writ policy edit --file policy.hujson add-rule --src group:oncall --dst tag:database:5432 --proto tcp
  writ policy edit --file policy.hujson add-rule --rule '{\"src\": [\"group:oncall\"], \"dst\": [\"tag:database\"], \"ip\": [\"tcp:5432\"]}'")]
pub struct Arguments {
    /// The policy file to change; by default the policy in force is changed.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Do not ask before the policy in force is changed.
    #[arg(long, conflicts_with = "file")]
    yes: bool,
    #[command(subcommand)]
    change: Change,
}

#[derive(Subcommand)]
enum Change {
    /// Put a user into a group
    #[command(after_help = "Example:\n  writ policy edit add-user group:oncall ada@example.com")]
    AddUser {
        /// The group, such as `group:oncall`.
        group: String,
        /// The user's login.
        user: String,
        /// Make the group if it is not there.
        #[arg(long)]
        create: bool,
    },
    /// Take a user out of a group
    #[command(after_help = "Example:\n  writ policy edit remove-user group:oncall ada@example.com")]
    RemoveUser {
        /// The group.
        group: String,
        /// The user's login.
        user: String,
    },
    /// Let a user, a group or a tag own a tag
    #[command(after_help = "Example:\n  writ policy edit add-owner tag:database group:oncall")]
    AddOwner {
        /// The tag, such as `tag:database`.
        tag: String,
        /// The owner.
        owner: String,
        /// Define the tag if it is not defined.
        #[arg(long)]
        create: bool,
    },
    /// Let somebody own a tag no more
    #[command(after_help = "Example:\n  writ policy edit remove-owner tag:database group:oncall")]
    RemoveOwner {
        /// The tag.
        tag: String,
        /// The owner.
        owner: String,
    },
    /// Define a host, or give it another address
    #[command(after_help = "Example:\n  writ policy edit set-host printer 100.64.0.9")]
    SetHost {
        /// Its name.
        host: String,
        /// An address or a prefix.
        address: String,
    },
    /// Remove a host
    #[command(after_help = "Example:\n  writ policy edit remove-host printer")]
    RemoveHost {
        /// Its name.
        host: String,
    },
    /// Put a rule behind the others
    AddRule(NewRule),
    /// Remove a rule; those behind it move up by one
    #[command(after_help = "Example:\n  writ policy edit remove-rule acls[3]")]
    RemoveRule {
        /// The rule, such as `acls[3]`, counted from 0.
        rule: RuleRef,
    },
}

#[derive(Args)]
#[command(after_help = "\
Example:
  writ policy edit add-rule --src group:oncall --dst tag:database:5432 --proto tcp")]
struct NewRule {
    /// Who may, separated by commas.
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "NAME",
        required_unless_present = "rule",
        requires = "dst"
    )]
    src: Vec<String>,
    /// What they may reach, with ports: `tag:database:5432`. Give it once for each.
    #[arg(long, value_name = "NAME:PORTS", requires = "src")]
    dst: Vec<String>,
    /// By which protocol; by default TCP, UDP and ICMP.
    #[arg(long, value_name = "PROTOCOL", requires = "src")]
    proto: Option<String>,
    /// The whole rule as it is to stand in the file. One with an action goes to `acls`, any other to `grants`.
    #[arg(long, value_name = "OBJECT", conflicts_with_all = ["src", "dst", "proto"])]
    rule: Option<String>,
}

impl NewRule {
    fn edit(&self) -> Edit {
        if let Some(rule) = &self.rule {
            // Only looked at for where it goes; it is read when it stands there.
            let section = if rule.contains("\"action\"") { Section::Acls } else { Section::Grants };
            return Edit::AddRule { section, rule: rule.clone() };
        }
        let list = |names: &[String]| Value::from(names).to_string();
        let proto = self.proto.as_ref().map(|name| format!("\"proto\": {}, ", Value::from(name.as_str())));
        let (src, dst) = (list(&self.src), list(&self.dst));
        let rule = format!(
            "{{\"action\": \"accept\", {}\"src\": {src}, \"dst\": {dst}}}",
            proto.unwrap_or_default()
        );
        Edit::AddRule { section: Section::Acls, rule }
    }
}

impl Change {
    fn edit(self) -> Edit {
        match self {
            Change::AddUser { group, user, create } => {
                Edit::AddName { list: NameList::Group(group), name: user, create }
            }
            Change::RemoveUser { group, user } => {
                Edit::RemoveName { list: NameList::Group(group), name: user }
            }
            Change::AddOwner { tag, owner, create } => {
                Edit::AddName { list: NameList::TagOwners(tag), name: owner, create }
            }
            Change::RemoveOwner { tag, owner } => {
                Edit::RemoveName { list: NameList::TagOwners(tag), name: owner }
            }
            Change::SetHost { host, address } => Edit::SetHost { host, address },
            Change::RemoveHost { host } => Edit::RemoveHost { host },
            Change::AddRule(rule) => rule.edit(),
            Change::RemoveRule { rule } => Edit::RemoveRule { rule },
        }
    }
}

/// Changes a file, or the policy in force.
pub fn run(arguments: Arguments, app: &App) -> Result<Verdict> {
    let edit = arguments.change.edit();
    let Some(file) = arguments.file else {
        return change::rewrite(app, arguments.yes, |name, text| edited(app, name, text, &edit));
    };
    if file.as_os_str() == "-" {
        return Err(usage("standard input cannot be changed", "name a file"));
    }
    let before = check::read(&file)?;
    let name = file.display().to_string();
    let Some(after) = edited(app, &name, &before, &edit)? else { return Ok(Verdict::Bad) };
    if let Some(problems) = check::new_problems(&name, &before, &after, app.out.paint()) {
        let value = json!({ "changed": false, "file": name, "problems": problems });
        let text = format!("{problems}\nNothing was written: afterwards {name} would not be good any more.");
        app.out.show(&text, &value)?;
        return Ok(Verdict::Bad);
    }
    replace(&file, &after)?;
    let (gone, come) = lines(&before, &after);
    let value = json!({ "changed": true, "file": name, "removed": gone, "added": come });
    app.out.show(&shown(&gone, &come, app.out.paint()), &value)?;
    Ok(Verdict::Good)
}

/// The changed text; nothing, and the refusal is shown, if the edit does not fit it.
fn edited(app: &App, name: &str, text: &str, edit: &Edit) -> Result<Option<String>> {
    match writ_policy::edit(text, edit) {
        Ok(after) => Ok(Some(after)),
        Err(error) => {
            let mut value = Map::new();
            value.insert("changed".to_owned(), false.into());
            value.insert("errors".to_owned(), json!([check::error_value(&error)]));
            app.out.show(&check::pointed(name, text, &error, app.out.paint()), &value)?;
            Ok(None)
        }
    }
}

/// Puts the new text in the place of the file in one step, with the rights that the file has.
fn replace(file: &Path, text: &str) -> Result<()> {
    let name = file.display();
    // Of a link, the file that it leads to is replaced and not the link.
    let target = fs::canonicalize(file).with_context(|| format!("cannot find {name}"))?;
    let mut draft = target.clone().into_os_string();
    draft.push(format!(".{}.new", std::process::id()));
    let written = write_draft(&target, Path::new(&draft), text).and_then(|()| fs::rename(&draft, &target));
    if written.is_err() {
        // Whatever is left of the draft is of no use; that it cannot be removed is no other failure.
        let _ = fs::remove_file(&draft);
    }
    written.with_context(|| format!("cannot write {name}"))
}

fn write_draft(target: &Path, draft: &Path, text: &str) -> std::io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).open(draft)?;
    file.set_permissions(fs::metadata(target)?.permissions())?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// The lines that went and those that came, between what both texts have in common.
fn lines<'a>(before: &'a str, after: &'a str) -> (Vec<&'a str>, Vec<&'a str>) {
    let (mut gone, mut come): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let same = gone.iter().zip(&come).take_while(|(one, other)| one == other).count();
    gone.drain(..same);
    come.drain(..same);
    let same = gone.iter().rev().zip(come.iter().rev()).take_while(|(one, other)| one == other).count();
    gone.truncate(gone.len() - same);
    come.truncate(come.len() - same);
    (gone, come)
}

fn shown(gone: &[&str], come: &[&str], paint: Paint) -> String {
    let gone = gone.iter().map(|line| paint.red(&format!("- {}", printable(line))));
    let come = come.iter().map(|line| paint.green(&format!("+ {}", printable(line))));
    gone.chain(come).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_between_are_shown() {
        assert_eq!(lines("a\nb\nc", "a\nc"), (vec!["b"], vec![]));
        assert_eq!(lines("a\nb\nb", "a\nb\nb\nb"), (vec![], vec!["b"]));
        assert_eq!(lines("a", "a"), (vec![], vec![]));
        assert_eq!(lines("", "x"), (vec![], vec!["x"]));
    }

    #[test]
    fn a_rule_is_written_from_its_parts() {
        let rule = NewRule {
            src: vec!["group:ops".to_owned()],
            dst: vec!["tag:web:80,443".to_owned()],
            proto: Some("tcp".to_owned()),
            rule: None,
        };
        let after = writ_policy::edit("{\"acls\": []}", &rule.edit());
        let wanted = "{\"acls\": [{\"action\": \"accept\", \"proto\": \"tcp\", \"src\": [\"group:ops\"], \"dst\": [\"tag:web:80,443\"]}]}";
        assert_eq!(after.as_deref(), Ok(wanted));
    }
}
