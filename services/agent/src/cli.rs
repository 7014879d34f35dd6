//! The command line.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Parser, Subcommand};
use serde_json::Value;
use writ_agent::shell::local::{Request, Response, call};
use writ_agent::shell::{Options, up};
use writ_agent::state::StateDir;
use writ_telemetry::{Config, LogFormat};

const DEFAULT_STATE: &str = "/var/lib/writ-agent";

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
    Up(Up),
    /// Stop the running agent.
    Down(Where),
    /// Show the running agent: session, peers, paths, denials.
    Status {
        #[command(flatten)]
        at: Where,
        /// For programs.
        #[arg(long)]
        json: bool,
    },
    /// Take a new WireGuard key; connections go on.
    Rotate(Where),
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
        at: Where,
        /// The history that this node holds is the wrong one (or the control plane was restored from an older copy): forget it, and
        /// take the next checkpoint that the control plane shows, with nothing but its signature.
        #[arg(long)]
        forget_checkpoint: bool,
        /// Do it. Without this the command says only what it would do.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
struct Where {
    /// The agent's folder.
    #[arg(long, env = "WRIT_AGENT_STATE", default_value = DEFAULT_STATE)]
    state: PathBuf,
}

#[derive(Debug, Args)]
struct Up {
    /// Enrolment key, as `writ keys create` printed it. Other users of this machine can see it while the agent runs:
    /// prefer --key-file.
    #[arg(long, env = "WRIT_ENROLMENT_KEY", hide_env_values = true, conflicts_with = "key_file")]
    key: Option<String>,
    /// File that holds the enrolment key.
    #[arg(long)]
    key_file: Option<PathBuf>,
    #[command(flatten)]
    at: Where,
    /// Name to join with, a DNS label; this machine's host name by default.
    #[arg(long)]
    name: Option<String>,
    /// Stay in the foreground. This is the default and only way: a service manager keeps it running.
    #[arg(long)]
    foreground: bool,
    /// Name of the TUN device.
    #[arg(long, alias = "interface", default_value = "writ0")]
    tun_name: String,
    /// UDP port; any by default.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Age in seconds at which the WireGuard key is replaced.
    #[arg(long, default_value_t = 86_400, value_parser = clap::value_parser!(u64).range(60..))]
    key_lifetime: u64,
    /// OTLP/HTTP collector for traces, as `http://127.0.0.1:4318`.
    #[arg(long, env = "WRIT_OTLP_ENDPOINT")]
    otlp_endpoint: Option<String>,
    /// How log lines look.
    #[arg(long, env = "WRIT_LOG_FORMAT", value_parser = ["text", "json"], default_value = "text")]
    log_format: String,
}

/// Does what the command line says.
pub fn run() -> Result<()> {
    match Cli::parse().command {
        Command::Up(arguments) => run_up(arguments),
        Command::Down(at) => done(&at, Request::Down),
        Command::Rotate(at) => done(&at, Request::Rotate),
        Command::Status { at, json } => status(&at, json),
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

fn run_up(arguments: Up) -> Result<()> {
    let ticket = match (&arguments.key, &arguments.key_file) {
        (Some(key), _) => Some(key.clone()),
        (None, Some(file)) => Some(read_key(file)?),
        (None, None) => None,
    };
    let name = arguments.name.map_or_else(host_name, Ok)?;
    let options = Options {
        state: arguments.at.state,
        ticket,
        name,
        tun_name: arguments.tun_name,
        port: arguments.port,
        key_lifetime: Duration::from_secs(arguments.key_lifetime),
    };
    let telemetry = Config {
        service_name: "writ-agent",
        service_version: env!("CARGO_PKG_VERSION"),
        otlp_endpoint: arguments.otlp_endpoint,
        log_format: if arguments.log_format == "json" { LogFormat::Json } else { LogFormat::Text },
        filter: std::env::var("RUST_LOG").unwrap_or_default(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let telemetry = writ_telemetry::init(telemetry)?;
        let outcome = up(options).await;
        telemetry.shutdown().await;
        outcome
    })
}

fn read_key(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("the enrolment key in {}", file.display()))
}

fn host_name() -> Result<String> {
    let name = nix::unistd::gethostname().context("this machine has no name; give one with --name")?;
    let name = name.to_string_lossy().to_lowercase();
    Ok(name.split('.').next().unwrap_or_default().to_owned())
}

fn ask(at: &Where, request: Request) -> Result<Response> {
    call(&StateDir::socket_path(&at.state), request)
}

fn done(at: &Where, request: Request) -> Result<()> {
    match ask(at, request)? {
        Response::Done(what) => println!("{what}"),
        Response::Failed(why) => bail!("{why}"),
        Response::Status(_) => bail!("the agent answered something else"),
    }
    Ok(())
}

fn status(at: &Where, json: bool) -> Result<()> {
    let status = match ask(at, Request::Status)? {
        Response::Status(status) => status,
        Response::Failed(why) => bail!("{why}"),
        Response::Done(_) => bail!("the agent answered something else"),
    };
    if json {
        println!("{}", serde_json::to_string_pretty(&status)?);
    } else {
        print_status(&status);
    }
    Ok(())
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// What is wrong with the log, as this node and its peers see it.
fn print_log_trouble(status: &Value) {
    if let Some(found) = status.get("split_view") {
        println!("\nSPLIT VIEW, found {}: {}", text(&found["at"]), text(&found["what"]));
        println!("  New connections are refused; live ones go on until they expire.");
        if found["is_proven"] == true {
            println!("  Anyone can check the evidence: writ verify {}", text(&found["evidence"]));
        } else {
            println!(
                "  Both checkpoints are in {}; they do not prove it by themselves.",
                text(&found["evidence"])
            );
        }
        println!("  Tell the network's administrator. Once it is decided: writ-agent trust reset");
    }
    for unproven in status["unproven_checkpoints"].as_array().into_iter().flatten() {
        if unproven["is_suspicious"] == true {
            println!(
                "\nsuspicious: {} holds a checkpoint of {} records, signed by the log, that the control plane has not proven since {}: {}",
                text(&unproven["peer"]),
                unproven["size"],
                text(&unproven["since"]),
                unproven["refusal"].as_str().unwrap_or("it does not answer"),
            );
        }
    }
}

fn print_status(status: &Value) {
    let connected = status["session"] == "connected";
    println!(
        "{}.{}  {}",
        text(&status["name"]),
        text(&status["network_name"]),
        text(&status["addresses"][0])
    );
    let since = text(&status["session_since"]);
    match connected {
        true => println!("connected since {since}; log verified up to record {}", status["checkpoint_size"]),
        false => println!("not connected since {since}: {}", text(&status["session_why"])),
    }
    if let Some(why) = status["storage_failure"].as_str() {
        println!("NOTHING NEW IS TAKEN: what is verified cannot be stored: {why}");
    }
    print_log_trouble(status);
    for peer in status["peers"].as_array().into_iter().flatten() {
        let path = &peer["path"];
        let name = if peer["name"].is_null() { text(&peer["node"]) } else { text(&peer["name"]) };
        println!(
            "\n{name}  {}  {} via {}",
            text(&peer["addresses"][0]),
            text(&path["kind"]),
            text(&path["address"])
        );
        for authorization in peer["authorizations"].as_array().into_iter().flatten() {
            println!(
                "  {} {} {}  rule {}  record {}  until {}",
                text(&authorization["side"]),
                text(&authorization["protocol"]),
                text(&authorization["ports"]),
                text(&authorization["rule"]),
                authorization["record"],
                text(&authorization["expires_at"]),
            );
        }
    }
    for denial in status["denials"].as_array().into_iter().flatten() {
        println!(
            "\ndenied {}  {} {} port {}: {}",
            text(&denial["at"]),
            text(&denial["address"]),
            text(&denial["protocol"]),
            denial["port"],
            text(&denial["explanation"]),
        );
    }
    for refusal in status["refusals"].as_array().into_iter().flatten() {
        println!("\nnot believed {}: {}", text(&refusal["time"]), text(&refusal["reason"]));
    }
}
