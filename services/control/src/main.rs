//! `writd`: the control plane.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use writ_control::config::{Config, LogKeyConfig, Store, TlsConfig};
use writ_control::init::{Made, Wishes, init};
use writ_control::sequencer::bind_vault;
use writ_control::server::Running;
use writ_control::vault::Vault;
use writ_control::views::{self, LogSource};
use writ_control::{log_key, log_store};
use writ_ledger::verify_log;
use writ_schema::Event;
use writ_telemetry::LogFormat;

/// The control plane of a Writ network: its log, its decisions, its API and its relay, in one process.
#[derive(Parser)]
#[command(name = "writd", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Make a network: keys, log, vault, first administrator, configuration.
    Init(Box<InitArgs>),
    /// Run the control plane.
    Run(RunArgs),
    /// The history views, which can always be made anew from the log.
    #[command(subcommand)]
    Views(ViewsTask),
    /// The log.
    #[command(subcommand)]
    Log(LogTask),
    /// The vault, which holds the keys of personal data.
    #[command(subcommand)]
    Vault(VaultTask),
    /// A witness, which cosigns the checkpoints of other networks' logs.
    #[command(subcommand)]
    Witness(writ_control::witness::Task),
}

#[derive(Subcommand)]
enum ViewsTask {
    /// Drop the views and fold the whole log again. The control plane must not be running.
    Rebuild(Place),
}

#[derive(Subcommand)]
enum VaultTask {
    /// Go on with an empty vault, when the vault is lost and there is no backup of it.
    ///
    /// Names, addresses and who made which connection stay closed for ever in all records so far. The control plane must not be
    /// running.
    BeginAnew(BeginAnewArgs),
}

#[derive(Args)]
struct BeginAnewArgs {
    #[command(flatten)]
    place: Place,
    /// Do it. Without this the command says only what it would do.
    #[arg(long)]
    yes: bool,
}

#[derive(Subcommand)]
enum LogTask {
    /// Check every record, tile and the checkpoint.
    Verify(Place),
    /// Prepare the log's next signing key and print its public key. Nothing is changed to it yet.
    ///
    /// Tell the witnesses, then change to it: `writ log rotate-key`, while the control plane runs, or `writd log rotate-key`.
    NextKey(NextKeyArgs),
    /// Change the log's signing key while the control plane does not run; agents and auditors follow by themselves.
    ///
    /// The change is a record under the old key, which both keys sign. Without more, the key that `writd log next-key` has
    /// prepared, or a new one, takes the place of `log.key`, and the old one is destroyed. With --to-file or --to-ssh-agent, set
    /// `log_key` in the configuration to the same then. `writ log rotate-key` does it while the control plane runs.
    RotateKey(RotateKeyArgs),
    /// Move the log into the other store, its root unchanged. The control plane must not be running.
    Move(MoveArgs),
}

#[derive(Args)]
struct MoveArgs {
    #[command(flatten)]
    place: Place,
    /// Where to. The topic is the one of the configuration.
    #[arg(long, value_enum)]
    to: Store,
}

/// Where the configuration is.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct Place {
    /// The configuration file.
    #[arg(long, value_name = "FILE", env = "WRITD_CONFIG")]
    config: Option<PathBuf>,
    /// The data folder, with its `writ.toml`.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

#[derive(Args)]
struct NextKeyArgs {
    #[command(flatten)]
    place: Place,
    /// Take it from this key file, ours or PKCS#8 PEM, instead of making one.
    #[arg(long, value_name = "FILE")]
    from_file: Option<PathBuf>,
}

#[derive(Args)]
struct RotateKeyArgs {
    #[command(flatten)]
    place: Place,
    /// A key file to change to: ours, or PKCS#8 PEM.
    #[arg(long, value_name = "FILE", conflicts_with = "to_ssh_agent")]
    to_file: Option<PathBuf>,
    /// Socket of an ssh-agent that holds the key to change to.
    #[arg(long, value_name = "SOCKET", requires = "to_vkey")]
    to_ssh_agent: Option<PathBuf>,
    /// Public key to change to (name+hash+base64).
    #[arg(long, value_name = "VKEY")]
    to_vkey: Option<String>,
}

#[derive(Args)]
struct RunArgs {
    #[command(flatten)]
    place: Place,
    /// Only read the configuration, and say what is wrong with it.
    #[arg(long)]
    check: bool,
}

#[derive(Args)]
struct InitArgs {
    /// Folder for everything that lasts. It must be empty or new.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Name of the network, a DNS label: nodes are found as `<node>.<name>`.
    #[arg(long)]
    name: String,
    /// URL under which agents and people reach this server.
    #[arg(long)]
    url: String,
    /// Where to write the configuration [default: DIR/writ.toml].
    #[arg(long, value_name = "FILE")]
    config_out: Option<PathBuf>,
    /// Where to serve HTTP [default: the URL's port on every address].
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Where to serve relay and STUN (UDP) [default: 0.0.0.0:3478].
    #[arg(long, value_name = "ADDRESS:PORT")]
    relay_listen: Option<SocketAddr>,
    /// The relay's address as agents see it [default: the URL's host, if that is an address].
    #[arg(long, value_name = "ADDRESS:PORT")]
    relay_address: Option<SocketAddr>,
    /// PEM file with a certificate chain, instead of a self-made certificate.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// PEM file with the certificate's private key.
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// Serve plain HTTP on an address that others can reach: only behind a proxy that adds TLS.
    #[arg(long)]
    insecure_http: bool,
    /// Prefix of the nodes' IPv4 addresses, inside 100.64.0.0/10.
    #[arg(long, value_name = "PREFIX", default_value = "100.64.0.0/10")]
    prefix_v4: String,
    /// Life of an authorization in seconds [default: 600].
    #[arg(long, value_name = "SECONDS")]
    authorization_seconds: Option<u32>,
    /// Name of the first administrator.
    #[arg(long, value_name = "NAME", default_value = "owner")]
    admin_name: String,
    /// Print what was made as JSON.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    match act(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("writd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act(task: Task) -> Result<ExitCode> {
    match task {
        Task::Init(args) => make(*args),
        Task::Run(RunArgs { place, check: true }) => check(&place.load()?),
        Task::Run(RunArgs { place, check: false }) => run(place.load()?),
        Task::Views(ViewsTask::Rebuild(place)) => rebuild(&place.load()?),
        Task::Log(LogTask::Verify(place)) => verify(&place.load()?),
        Task::Log(LogTask::NextKey(args)) => next_key(&args),
        Task::Log(LogTask::RotateKey(args)) => rotate_key(&args),
        Task::Vault(VaultTask::BeginAnew(args)) => begin_vault_anew(&args),
        Task::Witness(task) => task.act().map(|()| ExitCode::SUCCESS),
        Task::Log(LogTask::Move(MoveArgs { place, to })) => move_log(&place.load()?, to),
    }
}

impl Place {
    fn load(&self) -> Result<Config> {
        let file = match (&self.config, &self.data) {
            (Some(file), _) => file.clone(),
            (None, Some(data)) => data.join("writ.toml"),
            (None, None) => bail!("give --config FILE or --data DIR"),
        };
        Ok(Config::load(&file)?)
    }
}

fn make(args: InitArgs) -> Result<ExitCode> {
    let wishes = Wishes {
        data: args.data,
        name: args.name,
        url: args.url,
        config_out: args.config_out,
        listen: args.listen,
        relay_listen: args.relay_listen,
        relay_address: args.relay_address,
        tls: TlsConfig {
            certificate: args.tls_certificate,
            key: args.tls_key,
            insecure_http: args.insecure_http,
        },
        prefix_v4: args.prefix_v4,
        authorization_seconds: args.authorization_seconds,
        admin_name: args.admin_name,
    };
    let made = init(&wishes)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&made)?)
    } else {
        tell(&made)
    }
    Ok(ExitCode::SUCCESS)
}

fn tell(made: &Made) {
    println!("The network `{}` is made in {}.\n", made.name, made.data.display());
    println!("  log key       {}", made.log_key);
    if let Some(pin) = &made.certificate_sha256 {
        println!("  certificate   self-made, sha256 {pin}");
    }
    println!("  administrator {}", made.admin);
    println!("  secret        {}   (shown this once: keep it)\n", made.secret);
    println!(
        "Keep a copy of the log key elsewhere: with it, anyone can check the log without trusting this server."
    );
    println!("Next: writd run --config {}", made.config.display());
}

/// What can be found wrong with a configuration without starting anything.
fn check(config: &Config) -> Result<ExitCode> {
    let relay = config.relay_address()?;
    println!(
        "The configuration can be used: {} on {}, relay at udp {relay}, data in {}.",
        config.url,
        config.listen,
        config.data.display()
    );
    Ok(ExitCode::SUCCESS)
}

fn run(config: Config) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let telemetry = writ_telemetry::init(writ_telemetry::Config {
            service_name: "writd",
            service_version: env!("CARGO_PKG_VERSION"),
            otlp_endpoint: config.otlp_endpoint.clone(),
            log_format: if config.log_json { LogFormat::Json } else { LogFormat::Text },
            filter: std::env::var("RUST_LOG").unwrap_or_default(),
            recent: None,
        })?;
        let served = serve(config).await;
        telemetry.shutdown().await;
        served
    })
}

async fn serve(config: Config) -> Result<ExitCode> {
    // Before anything is started, so that no signal is missed.
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
    let url = config.url.clone();
    let mut running = Running::start(config).await?;
    let (records, name) = {
        let state = running.sequencer().state();
        (state.size(), state.network().map(|network| network.created.name.clone()).unwrap_or_default())
    };
    println!(
        "writd: ready: network {name}, {records} records; {url} on {}, relay on udp {}",
        running.http_address(),
        running.relay_address()
    );
    let failed = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        error = running.ended() => Some(error),
    };
    tracing::info!("stopping; a second signal forces it");
    tokio::select! {
        () = running.stop() => {}
        _ = terminate.recv() => std::process::exit(1),
        _ = interrupt.recv() => std::process::exit(1),
    }
    match failed {
        Some(error) => Err(error),
        None => Ok(ExitCode::SUCCESS),
    }
}

fn rebuild(config: &Config) -> Result<ExitCode> {
    // Opened for writing, which fails while a control plane uses it.
    let log = log_store::open_to_read(config, log_key::find(config)?.present)?;
    let vault = Vault::open(&config.vault_file())?;
    bind_vault(log.reader(), &vault)?;
    let folded = views::rebuild(&config.views_file(), LogSource::new(log.reader().clone(), vault))?;
    println!("views: {folded} records folded into {}", config.views_file().display());
    Ok(ExitCode::SUCCESS)
}

fn begin_vault_anew(args: &BeginAnewArgs) -> Result<ExitCode> {
    let config = args.place.load()?;
    ensure!(
        args.yes,
        "all that is sealed in {} would stay closed for ever: look for a backup of {} first. Nothing was changed. If there is \
         none, run the command again with --yes",
        config.log_dir().display(),
        config.vault_file().display()
    );
    // Opened for writing, which fails while a control plane uses it.
    let log = log_store::open_to_read(&config, log_key::find(&config)?.present)?;
    let vault = Vault::open(&config.vault_file())?;
    vault.begin_anew(log.reader())?;
    println!("{} is begun anew; what was sealed before stays closed", config.vault_file().display());
    Ok(ExitCode::SUCCESS)
}

fn next_key(args: &NextKeyArgs) -> Result<ExitCode> {
    let config = args.place.load()?;
    let key = log_key::prepare(&config, args.from_file.as_deref())?;
    println!("The log's next key is prepared in {}:", config.next_log_key_file().display());
    println!("  {key}");
    println!(
        "Have the witnesses add it beside the present one, then change to it: writ log rotate-key --to '{key}'"
    );
    Ok(ExitCode::SUCCESS)
}

fn rotate_key(args: &RotateKeyArgs) -> Result<ExitCode> {
    let config = args.place.load()?;
    let wanted = LogKeyConfig {
        file: args.to_file.clone(),
        ssh_agent: args.to_ssh_agent.clone(),
        vkey: args.to_vkey.clone(),
    };
    let outcome = writ_control::server::rotate_key(&config, &wanted)?;
    let recorded = outcome.records.first().map(|open| (&open.record.event, open.record.seq));
    let Some((Event::LogKeyRotated(rotated), seq)) = recorded else { bail!("no change was recorded") };
    println!("The log's key is changed, in record {seq}:");
    println!("  until then {}", rotated.old_key);
    println!("  from then  {}", rotated.new_key);
    if wanted != LogKeyConfig::default() {
        println!("Set `log_key` in the configuration to the new key before the next start.");
    }
    println!(
        "Publish the new key. Whoever trusts the old one follows by the record; witnesses need to be told."
    );
    Ok(ExitCode::SUCCESS)
}

fn verify(config: &Config) -> Result<ExitCode> {
    let key = log_key::find(config)?.present.verifier_key();
    let report = verify_log(&config.log_dir(), &key)?;
    println!("{} records in {} segments", report.records, report.segments);
    for finding in &report.findings {
        println!("{finding}");
    }
    if report.findings_omitted > 0 {
        println!("and {} more", report.findings_omitted);
    }
    if let Some(checkpoint) = report.checkpoint.as_ref().filter(|_| report.is_sound()) {
        println!("sound: the signed checkpoint covers {} records", checkpoint.size);
    }
    Ok(if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn move_log(config: &Config, to: Store) -> Result<ExitCode> {
    let moved = log_store::move_to(config, to)?;
    let store = match to {
        Store::Files => "files",
        Store::Kafka => "kafka",
    };
    println!("moved {} records; the root is unchanged: {}", moved.copied.size, moved.copied.root);
    println!("set store = \"{store}\" under [log] in the configuration before you start writd again");
    println!("{} has the log as it was; remove it when you no longer want it", moved.left.display());
    Ok(ExitCode::SUCCESS)
}
