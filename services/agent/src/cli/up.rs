//! `up`: runs the agent.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use writ_agent::shell::{HostDnsMode, Options, exit_routes, up};
use writ_schema::net::Prefix;
use writ_schema::protocol::MAX_ROUTES;
use writ_telemetry::{Config, LogFormat, RecentLines};

use super::Where;

#[derive(Debug, Args)]
pub(super) struct Up {
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
    /// Trust policy (c2sp.org/tlog-policy): no new connection is made unless its quorum of witnesses has cosigned the log in
    /// the last half hour. Give it at every start.
    #[arg(long, env = "WRIT_AGENT_POLICY", value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Name of the TUN device.
    #[arg(long, alias = "interface", default_value = "writ0")]
    tun_name: String,
    /// UDP port; any by default.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Whether this host's resolver is told of the network's names: `auto` tells systemd-resolved, or puts a marked block into
    /// /etc/resolv.conf, and takes it back at the end; `off` leaves the host's resolver alone.
    #[arg(long, env = "WRIT_HOST_DNS", value_enum, default_value = "auto")]
    host_dns: HostDnsMode,
    /// Age in seconds at which the WireGuard key is replaced.
    #[arg(long, default_value_t = 86_400, value_parser = clap::value_parser!(u64).range(60..))]
    key_lifetime: u64,
    /// Prefixes to carry packets for, as 10.20.0.0/16,fd01::/64. Nothing is carried that the policy or an administrator has not
    /// approved.
    #[arg(long, value_name = "PREFIX", value_delimiter = ',')]
    advertise_routes: Vec<Prefix>,
    /// Offer to carry packets to the Internet for others. Nothing is carried that the policy or an administrator has not approved.
    #[arg(long)]
    advertise_exit_node: bool,
    /// Send what goes to the Internet through this node, an exit node, from now on; `off` for none. Without this it is as it was
    /// chosen before.
    #[arg(long, value_name = "NODE|off", conflicts_with = "advertise_exit_node")]
    exit_node: Option<String>,
    /// Do not reach what lies behind other nodes: this host keeps its routes as they are.
    #[arg(long)]
    no_routes: bool,
    /// OTLP/HTTP collector for traces, as `http://127.0.0.1:4318`.
    #[arg(long, env = "WRIT_OTLP_ENDPOINT")]
    otlp_endpoint: Option<String>,
    /// For programs: the same as `--log-format json`.
    #[arg(long)]
    json: bool,
    /// How log lines look.
    #[arg(long, env = "WRIT_LOG_FORMAT", value_parser = ["text", "json"], default_value = "text")]
    log_format: String,
}

/// Runs the agent until it is told to stop.
pub(super) fn run(arguments: Up) -> Result<ExitCode> {
    let ticket = match (&arguments.key, &arguments.key_file) {
        (Some(key), _) => Some(key.clone()),
        (None, Some(file)) => Some(read_key(file)?),
        (None, None) => None,
    };
    let name = arguments.name.map_or_else(host_name, Ok)?;
    let recent = RecentLines::default();
    let options = Options {
        state: arguments.at.state,
        ticket,
        name,
        policy: arguments.policy,
        tun_name: arguments.tun_name,
        port: arguments.port,
        host_dns: arguments.host_dns,
        key_lifetime: Duration::from_secs(arguments.key_lifetime),
        advertised_routes: routes(arguments.advertise_routes, arguments.advertise_exit_node)?,
        exit_node: arguments.exit_node,
        accepts_routes: !arguments.no_routes,
        recent: recent.clone(),
    };
    let telemetry = Config {
        service_name: "writ-agent",
        service_version: env!("CARGO_PKG_VERSION"),
        otlp_endpoint: arguments.otlp_endpoint,
        log_format: if arguments.json || arguments.log_format == "json" {
            LogFormat::Json
        } else {
            LogFormat::Text
        },
        filter: std::env::var("RUST_LOG").unwrap_or_default(),
        recent: Some(recent),
    };
    // One thread, which waits for packets itself: with others each wake-up would have to be handed over between threads.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let telemetry = writ_telemetry::init(telemetry)?;
        let outcome = up(options).await;
        telemetry.shutdown().await;
        outcome
    })?;
    Ok(ExitCode::SUCCESS)
}

/// In order and without repeats.
fn routes(mut routes: Vec<Prefix>, leads_out: bool) -> Result<Vec<Prefix>> {
    if leads_out {
        routes.extend(exit_routes());
    }
    routes.sort_unstable();
    routes.dedup();
    ensure!(
        routes.len() <= MAX_ROUTES,
        "at most {MAX_ROUTES} prefixes can be advertised, not {}",
        routes.len()
    );
    Ok(routes)
}

fn read_key(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("the enrolment key in {}", file.display()))
}

fn host_name() -> Result<String> {
    let name = nix::unistd::gethostname().context("this machine has no name; give one with --name")?;
    let name = name.to_string_lossy().to_lowercase();
    Ok(name.split('.').next().unwrap_or_default().to_owned())
}
