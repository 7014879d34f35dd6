//! Somebody who types `writ` commands.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Output;

use anyhow::{Context, bail, ensure};
use serde::de::DeserializeOwned;
use serde_json::Value;
use writ_schema::protocol::EnrolmentTicket;

use super::{ControlPlane, Programs, START_LIMIT};
use crate::lab::Host;

/// An administrator at a terminal of a host.
#[derive(Debug, Clone)]
pub struct Operator {
    programs: Programs,
    host: Host,
    credentials: PathBuf,
}

/// Whose nodes an enrolment key makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner<'a> {
    /// A person's, by sign-in name.
    User(&'a str),
    /// A service's, by its tag.
    Tag(&'a str),
}

impl Operator {
    /// Signs the first administrator in, on the control plane's own host.
    ///
    /// # Errors
    /// When the sign-in fails.
    pub fn sign_in(control: &ControlPlane) -> anyhow::Result<Self> {
        let operator = Self {
            programs: control.programs().clone(),
            host: control.host().clone(),
            credentials: control.credentials().to_owned(),
        };
        let made = control.made();
        let mut command =
            operator.command(&["login", "--server", &control.base_url(), "--admin", made.admin.as_str()])?;
        if let Some(pin) = &made.pin {
            command.args(["--pin", pin]);
        }
        command.env("WRIT_SECRET", &made.secret);
        let output = operator.host.spawn(&command)?.output(START_LIMIT)?;
        ensure!(output.status.success(), "writ login: {}", error_text(&output));
        Ok(operator)
    }

    /// The file that holds their token.
    #[must_use]
    pub fn credentials(&self) -> &Path {
        &self.credentials
    }

    /// Types a command and returns what came of it, whatever that is.
    ///
    /// # Errors
    /// When it cannot be run, or does not end.
    pub fn try_run<S: AsRef<OsStr>>(&self, args: &[S]) -> anyhow::Result<Output> {
        Ok(self.host.spawn(&self.command(args)?)?.output(START_LIMIT)?)
    }

    /// Types a command that is to succeed, and returns what it printed.
    ///
    /// # Errors
    /// When it fails; the message has what it said.
    pub fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> anyhow::Result<String> {
        let output = self.try_run(args)?;
        if !output.status.success() {
            let typed: Vec<_> = args.iter().map(|arg| arg.as_ref().to_string_lossy()).collect();
            bail!("writ {}: {}", typed.join(" "), error_text(&output));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The same with `--json`, read.
    ///
    /// # Errors
    /// When it fails, or prints something else.
    pub fn json<T: DeserializeOwned>(&self, args: &[&str]) -> anyhow::Result<T> {
        let mut with_json = args.to_vec();
        with_json.push("--json");
        let text = self.run(&with_json)?;
        serde_json::from_str(&text).with_context(|| format!("writ {} printed: {text}", args.join(" ")))
    }

    /// Asks by GraphQL.
    ///
    /// # Errors
    /// When the question is refused.
    pub fn query(&self, query: &str, variables: &Value) -> anyhow::Result<Value> {
        self.json(&["query", query, "--variables", &variables.to_string()])
    }

    /// Adds a person.
    ///
    /// # Errors
    /// When that is refused.
    pub fn add_user(&self, login: &str, name: &str) -> anyhow::Result<Value> {
        self.json(&["users", "add", login, "--name", name])
    }

    /// Makes an enrolment key.
    ///
    /// # Errors
    /// When that is refused.
    pub fn enrolment_key(&self, owner: Owner<'_>, uses: u32) -> anyhow::Result<EnrolmentTicket> {
        let (option, value) = match owner {
            Owner::User(login) => ("--user", login),
            Owner::Tag(tag) => ("--tag", tag),
        };
        let made: Value = self.json(&["keys", "create", option, value, "--uses", &uses.to_string()])?;
        let text = made.get("ticket").and_then(Value::as_str).context("no ticket was printed")?;
        Ok(EnrolmentTicket::parse(text)?)
    }

    /// Puts a policy in force.
    ///
    /// # Errors
    /// When it is refused.
    pub fn set_policy(&self, text: &str) -> anyhow::Result<Value> {
        let file = self.credentials.with_file_name("policy.hujson");
        std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        let file = file.to_str().context("the folder's name is no text")?;
        self.json(&["policy", "set", file, "--yes"])
    }

    fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> anyhow::Result<std::process::Command> {
        let mut command = self.programs.command("writ")?;
        command.args(args).env("WRIT_CONFIG", &self.credentials);
        Ok(command)
    }
}

fn error_text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}
