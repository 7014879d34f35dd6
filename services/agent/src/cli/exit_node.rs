//! `exit-node`: chooses the way to the Internet, or shows which ways there are.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};
use writ_agent::shell::local::Request;

use super::output::{Output, items, text};
use super::{Asking, ask, done, show_answer};

#[derive(Debug, Args)]
pub(super) struct ExitNode {
    /// The exit node, by name or identifier; `off` for none.
    #[arg(value_name = "NODE|off")]
    name: Option<String>,
    #[command(flatten)]
    pub asking: Asking,
}

pub(super) fn run(exit: &ExitNode) -> Result<ExitCode> {
    if let Some(name) = &exit.name {
        return done(&exit.asking, Request::ExitNode { name: name.clone() });
    }
    let status = ask(&exit.asking.at, &Request::Status)?;
    let answer = json!({ "exit_node": status["exit_node"], "exits": status["netmap"]["exits"] });
    show_answer(&exit.asking, &answer, print)
}

fn print(answer: &Value, out: &mut Output) {
    print_chosen(&answer["exit_node"], out);
    for exit in items(&answer["exits"]) {
        let routes: Vec<_> = items(&exit["routes"]).map(text).collect();
        out.line(format!("{}  carries {}", text(&exit["node"]["name"]), routes.join(" and ")));
    }
    if items(&answer["exits"]).next().is_none() {
        out.line("there is no exit node that this node may use");
    }
}

/// What becomes of packets to the Internet, if an exit node is chosen.
pub(super) fn print_chosen(chosen: &Value, out: &mut Output) {
    let Some(name) = chosen["name"].as_str() else { return };
    let closed = "blocked until another is chosen, or `writ-agent exit-node off`";
    if chosen["state"] == "closed" {
        return out.line(format!("EXIT NODE {name} IS NOT THERE: what goes to the Internet is {closed}"));
    }
    out.line(format!("exit node: what goes to the Internet goes through {name}"));
    for (family, carries) in [("IPv4", &chosen["v4"]), ("IPv6", &chosen["v6"])] {
        if *carries != true {
            out.line(format!("  {family} to the Internet is blocked: {name} does not carry it"));
        }
    }
}
