//! The command line.
//!
//! Exit codes: 0 done, or yes; 1 it failed; 2 the command is not understood; 3 no agent runs; 4 this user may not ask it;
//! 5 the answer is no (`why`, `trace`: it does not pass; `check`: something does not work).

mod check;
mod exit_node;
mod logs;
mod output;
mod status;
mod trace;
mod up;
mod why;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand};
use serde_json::{Value, json};
use writ_agent::shell::local::{CallError, Request, Response, call, wait_gone};

use output::Output;

const DEFAULT_STATE: &str = "/var/lib/writ-agent";

/// No agent runs.
const NOT_RUNNING: u8 = 3;
/// This user may not ask the agent.
const NOT_ALLOWED: u8 = 4;
/// The answer is no.
const NO: u8 = 5;

/// Joins this machine to its network, and reaches what the policy allows.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent; join first if this machine has not.
    Up(up::Up),
    /// Stop the running agent, and wait until it has.
    Down(Asking),
    /// Show the running agent: session, peers, denials.
    Status(Asking),
    /// Show the peers: what is authorized, until when and by which record, and how packets go.
    Peers(Asking),
    /// Say which rule lets this node reach a host, or which nearly does and what it lacks.
    Why(why::Why),
    /// Trace a packet through the filter: which authorization or flow lets it pass, or why nothing does.
    Trace(trace::Trace),
    /// Send what goes to the Internet through an exit node, or `off`; without a name, show which there are.
    ExitNode(exit_node::ExitNode),
    /// Find out what of this host's network stands in the way, and what to do about it.
    Check(Asking),
    /// Show the agent's newest log lines.
    Logs(logs::Logs),
    /// Take a new WireGuard key; connections go on.
    Rotate(Asking),
    /// What this node believes of the log.
    #[command(subcommand)]
    Trust(TrustCommand),
}

#[derive(Debug, Subcommand)]
enum TrustCommand {
    /// Believe the control plane again after a split view
    ///
    /// When the log has shown two histories, this node refuses new connections until somebody has found out why and decided.
    /// This is that decision. It forgives; it does not repair: as long as a peer holds the other history it will be found again.
    Reset {
        #[command(flatten)]
        at: Asking,
        /// The history that this node holds is the wrong one (or the control plane was restored from an older copy): forget it, and
        /// take the next checkpoint that the control plane shows, with nothing but its signature.
        #[arg(long)]
        forget_checkpoint: bool,
        /// Do it. Without this the command says only what it would do.
        #[arg(long)]
        yes: bool,
    },
}

/// Which agent.
#[derive(Debug, Args)]
struct Where {
    /// The agent's folder.
    #[arg(long, env = "WRIT_AGENT_STATE", default_value = DEFAULT_STATE)]
    state: PathBuf,
}

/// Which agent is asked, and for whom.
#[derive(Debug, Args)]
struct Asking {
    #[command(flatten)]
    at: Where,
    /// For programs: one JSON document, errors included.
    #[arg(long)]
    json: bool,
}

impl Cli {
    fn is_json(&self) -> bool {
        match &self.command {
            Command::Up(_) => false,
            Command::Down(asking)
            | Command::Status(asking)
            | Command::Peers(asking)
            | Command::Check(asking)
            | Command::Rotate(asking)
            | Command::Trust(TrustCommand::Reset { at: asking, .. }) => asking.json,
            Command::Why(why) => why.asking.json,
            Command::Trace(trace) => trace.asking.json,
            Command::Logs(logs) => logs.asking.json,
            Command::ExitNode(exit) => exit.asking.json,
        }
    }
}

/// Does what the command line says, and says what went wrong.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let is_json = cli.is_json();
    match carry_out(cli.command) {
        Ok(code) => code,
        Err(error) => {
            let (word, code) = match error.downcast_ref::<CallError>() {
                Some(CallError::NotRunning(_)) => ("not_running", ExitCode::from(NOT_RUNNING)),
                Some(CallError::NotAllowed(_)) => ("not_allowed", ExitCode::from(NOT_ALLOWED)),
                Some(CallError::Silent(_) | CallError::Unreadable(_)) => ("no_answer", ExitCode::FAILURE),
                None => ("failed", ExitCode::FAILURE),
            };
            if is_json {
                println!("{}", json!({ "error": word, "message": format!("{error:#}") }));
            } else {
                eprintln!("writ-agent: {error:#}");
            }
            code
        }
    }
}

fn carry_out(command: Command) -> Result<ExitCode> {
    match command {
        Command::Up(arguments) => up::run(arguments),
        Command::Down(asking) => down(&asking),
        Command::Rotate(asking) => done(&asking, Request::Rotate),
        Command::Status(asking) => show(&asking, Request::Status, status::print),
        Command::Peers(asking) => status::peers(&asking),
        Command::Check(asking) => check::run(&asking),
        Command::Why(why) => why::run(&why),
        Command::Trace(trace) => trace::run(&trace),
        Command::Logs(logs) => logs::run(&logs),
        Command::ExitNode(exit) => exit_node::run(&exit),
        Command::Trust(TrustCommand::Reset { at, forget_checkpoint, yes }) => {
            if !yes {
                bail!("{}", reset_warning(forget_checkpoint));
            }
            done(&at, Request::TrustReset { forget_checkpoint })
        }
    }
}

fn reset_warning(forget_checkpoint: bool) -> String {
    let forgets = if forget_checkpoint {
        "\nIt also forgets the newest checkpoint that this node has verified: whatever history the control plane shows next is \
         taken, a shortened or rewritten one too."
    } else {
        ""
    };
    format!(
        "this makes the node believe a control plane again whose log may have shown two histories.{forgets}\nFirst check the \
         evidence (`writ verify split-view.json`, in the state folder), find out which history is the true one, and whether the \
         log's key was stolen.\nNothing was changed. If it is decided, run the command again with --yes"
    )
}

/// Asks for something that is to be done.
fn done(asking: &Asking, request: Request) -> Result<ExitCode> {
    match call(&asking.at.state, &request)? {
        Response::Done(what) if asking.json => println!("{}", json!({ "done": what })),
        Response::Done(what) => println!("{what}"),
        Response::Failed(why) => bail!("{why}"),
        Response::Answer(_) => bail!("the agent answered something else"),
    }
    Ok(ExitCode::SUCCESS)
}

fn down(asking: &Asking) -> Result<ExitCode> {
    let code = done(asking, Request::Down)?;
    if !wait_gone(&asking.at.state) {
        bail!("the agent was asked to stop, and still runs; see `writ-agent logs`");
    }
    Ok(code)
}

/// Asks for an answer.
fn ask(at: &Where, request: &Request) -> Result<Value> {
    match call(&at.state, request)? {
        Response::Answer(answer) => Ok(*answer),
        Response::Failed(why) => bail!("{why}"),
        Response::Done(_) => bail!("the agent answered something else"),
    }
}

/// Shows an answer, for people or for programs.
fn show(asking: &Asking, request: Request, print: impl Fn(&Value, &mut Output)) -> Result<ExitCode> {
    show_answer(asking, &ask(&asking.at, &request)?, print)
}

fn show_answer(asking: &Asking, answer: &Value, print: impl Fn(&Value, &mut Output)) -> Result<ExitCode> {
    if asking.json {
        println!("{}", serde_json::to_string_pretty(answer)?);
    } else {
        let mut output = Output::default();
        print(answer, &mut output);
        print!("{output}");
    }
    Ok(ExitCode::SUCCESS)
}
