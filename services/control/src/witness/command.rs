//! What an operator types.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use writ_ledger::CosigningKey;
use writ_telemetry::LogFormat;

use super::{WitnessConfig, WitnessServer};

/// The acts of a witness.
#[derive(Subcommand)]
pub enum Task {
    /// Make a witness: its key, and a configuration to add logs to.
    Init(Init),
    /// Run it.
    Run(Place),
    /// Show its public key, and how far it has cosigned each log.
    Status(Place),
}

/// What a new witness is.
#[derive(Args)]
pub struct Init {
    /// Folder for everything that lasts. It must hold no witness yet.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Its name, which stands in its cosignatures for ever: a URL without scheme, such as `witness.example.org/w1`.
    #[arg(long)]
    name: String,
    /// Public key of a log to witness, as the log's operator publishes it; may be given several times.
    #[arg(long = "log", value_name = "VKEY")]
    logs: Vec<String>,
    /// Where to serve HTTP [default: 0.0.0.0:8444].
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
}

/// Where the witness is.
#[derive(Args)]
pub struct Place {
    /// Its folder.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
}

impl Task {
    /// Does it.
    pub fn act(self) -> Result<()> {
        match self {
            Self::Init(wishes) => init(wishes),
            Self::Run(place) => run(&place.data),
            Self::Status(place) => status(&place.data),
        }
    }
}

fn init(wishes: Init) -> Result<()> {
    let Init { data, name, logs, listen } = wishes;
    let mut config = WitnessConfig { logs, ..WitnessConfig::default() };
    config.listen = listen.unwrap_or(config.listen);
    config.log_keys()?;
    let file = WitnessConfig::file(&data);
    ensure!(!file.exists(), "{} is there already: this folder has a witness", file.display());
    std::fs::create_dir_all(&data).with_context(|| format!("cannot make {}", data.display()))?;
    // The key comes first and is never replaced: with a second one, the folder's history would be somebody else's.
    let key = CosigningKey::create(&WitnessConfig::key_file(&data), &name)?;
    let text = toml::to_string(&config).context("cannot write the configuration")?;
    std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "The witness `{name}` is made in {}.\n", data.display())?;
    writeln!(out, "  public key  {}\n", key.cosigner_key())?;
    writeln!(
        out,
        "Give this key and its address to those whose logs it is to witness, and to their auditors."
    )?;
    writeln!(
        out,
        "Its folder holds what it has cosigned: never run it from an older copy, nor from two at once."
    )?;
    writeln!(out, "Next: writd witness run --data {}", data.display())?;
    Ok(())
}

fn status(data: &Path) -> Result<()> {
    let key = CosigningKey::load(&WitnessConfig::key_file(data))?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "public key  {}", key.cosigner_key())?;
    for (origin, size) in super::http::cosigned(data, &WitnessConfig::load(data)?)? {
        match size {
            Some(size) => writeln!(out, "{origin}  cosigned up to size {size}")?,
            None => writeln!(out, "{origin}  not cosigned yet")?,
        }
    }
    Ok(())
}

fn run(data: &Path) -> Result<()> {
    let config = WitnessConfig::load(data)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let telemetry = writ_telemetry::init(writ_telemetry::Config {
            service_name: "writd-witness",
            service_version: env!("CARGO_PKG_VERSION"),
            otlp_endpoint: None,
            log_format: if config.log_json { LogFormat::Json } else { LogFormat::Text },
            filter: std::env::var("RUST_LOG").unwrap_or_default(),
            recent: None,
        })?;
        let served = serve(data, &config).await;
        telemetry.shutdown().await;
        served
    })
}

async fn serve(data: &Path, config: &WitnessConfig) -> Result<()> {
    // Before anything is started, so that no signal is missed.
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
    let server = WitnessServer::start(data, config)?;
    writeln!(
        std::io::stdout(),
        "writd witness: ready: {} on {}, {} logs",
        server.key(),
        server.address(),
        config.logs.len()
    )?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    server.stop().await;
    Ok(())
}
