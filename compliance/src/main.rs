//! `writ-report`: writes what the log says of a framework's controls as HTML, PDF and JSON.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use writ_compliance::catalogue;
use writ_compliance::evidence::{Evidence, Period, gather};
use writ_compliance::framework::Framework;
use writ_compliance::memory::Records;
use writ_compliance::render::{html, pdf};
use writ_compliance::report::{Report, build};
use writ_compliance::server::Server;
use writ_compliance::text::Lang;
use writ_compliance::wording::Wording;
use writ_ledger::TrustPolicy;

/// Largest file of records that is read.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// Writes an evidence report for NIS-2 or DORA from the log of a network.
#[derive(Parser)]
#[command(name = "writ-report", version)]
struct Arguments {
    /// The control plane to ask, `https://HOST[:PORT]`.
    #[arg(long, value_name = "URL", required_unless_present = "from_json", requires = "log_key")]
    server: Option<String>,
    /// SHA-256 of the server's certificate, base64url, where no public authority vouches for it.
    #[arg(long, value_name = "PIN", requires = "server")]
    pin: Option<String>,
    /// The log's verifier key: every record is proven under it.
    #[arg(long, value_name = "VKEY")]
    log_key: Option<String>,
    /// Trust policy (c2sp.org/tlog-policy): its quorum of witnesses has to have cosigned the evidence. Without it, the witnesses
    /// that the server names are counted.
    #[arg(long, value_name = "FILE", requires = "server")]
    policy: Option<PathBuf>,
    /// File with the access token; otherwise it is taken from WRIT_TOKEN.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Write the evidence bundle that the report stands on as well.
    #[arg(long, requires = "server")]
    bundle: bool,
    /// Most records of one bundle; as many as the server allows if left out.
    #[arg(long, value_name = "N", requires = "server", value_parser = clap::value_parser!(u32).range(1..))]
    bundle_records: Option<u32>,
    /// Records from a JSON file instead of a server; nothing of them is verified.
    #[arg(long, value_name = "FILE", conflicts_with = "server")]
    from_json: Option<PathBuf>,
    /// The framework: nis2 or dora.
    #[arg(long, value_name = "NAME")]
    framework: String,
    /// First day of the period (2026-10-01), or its first moment (2026-10-01T00:00:00Z).
    #[arg(long, value_name = "DATE", value_parser = moment)]
    from: Timestamp,
    /// First day after the period, or the first moment after it.
    #[arg(long, value_name = "DATE", value_parser = moment)]
    to: Timestamp,
    /// Directory for the files; made if it is not there.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Language: en or de.
    #[arg(long, default_value = "en")]
    lang: Lang,
}

fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(date) = text.parse::<Date>() {
        let midnight = date.to_zoned(TimeZone::UTC).map_err(|error| error.to_string())?;
        return Ok(midnight.timestamp());
    }
    text.parse()
        .map_err(|_| format!("`{text}` is neither a date (2026-10-01) nor a moment (2026-10-01T00:00:00Z)"))
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let framework = catalogue::named(&arguments.framework)?;
    let words = Wording::load(arguments.lang)?;
    let period = Period { from: arguments.from, to: arguments.to };
    if period.to <= period.from {
        bail!("the period ends before it begins: --to has to be later than --from");
    }
    let written = match (&arguments.from_json, &arguments.server) {
        (Some(file), _) => report(&read(file, period)?, &framework, &words, &arguments.out)?,
        (None, Some(url)) => from_server(&arguments, url, period, &framework, &words)?,
        (None, None) => bail!("say where the records are: --server URL or --from-json FILE"),
    };
    let mut out = String::new();
    for path in written {
        out.push_str(&format!("{}\n", path.display()));
    }
    std::io::Write::write_all(&mut std::io::stdout(), out.as_bytes())
        .context("cannot print the names of the files")
}

/// Fetches, judges and writes, and has the network record that it was done.
fn from_server(
    arguments: &Arguments,
    url: &str,
    period: Period,
    framework: &Framework,
    words: &Wording,
) -> Result<Vec<PathBuf>> {
    let log_key =
        arguments.log_key.as_deref().context("--log-key is needed: without it nothing can be verified")?;
    let mut server = Server::new(url, arguments.pin.as_deref(), &token(arguments)?, log_key)?;
    if let Some(records) = arguments.bundle_records {
        server = server.with_bundles_of(records);
    }
    if let Some(path) = &arguments.policy {
        server = server.with_policy(TrustPolicy::load(path)?);
    }
    let fetched = server.fetch(framework, period)?;
    let mut written = report(&fetched.records, framework, words, &arguments.out)?;
    if arguments.bundle {
        for (number, bundle) in fetched.bundles.iter().enumerate() {
            let number = if fetched.bundles.len() == 1 { String::new() } else { format!("-{}", number + 1) };
            let path = arguments.out.join(format!("{}-bundle{number}.json", framework.id));
            fs::write(&path, bundle).with_context(|| format!("cannot write {}", path.display()))?;
            written.push(path);
        }
    }
    server.record_report(&format!("{}/{}", framework.id, framework.version), &fetched)?;
    Ok(written)
}

fn token(arguments: &Arguments) -> Result<String> {
    match &arguments.token_file {
        Some(path) => fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display())),
        None => {
            std::env::var("WRIT_TOKEN").context("no access token: give --token-file FILE, or set WRIT_TOKEN")
        }
    }
}

fn report(source: &dyn Evidence, framework: &Framework, words: &Wording, out: &Path) -> Result<Vec<PathBuf>> {
    let snapshot = gather(source, framework)?;
    write(&build(framework, &snapshot, words), out)
}

fn read(path: &Path, period: Period) -> Result<Records> {
    let size = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?.len();
    ensure!(size <= MAX_FILE_BYTES, "{} is larger than {MAX_FILE_BYTES} bytes", path.display());
    let json = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Records::from_json(&json, period)?)
}

/// Writes the files beside each other, named after what they are.
fn write(report: &Report, dir: &Path) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make the directory {}", dir.display()))?;
    let name = format!("{}-{}", report.framework, report.lang);
    let files = [
        (format!("{name}.html"), html(report).into_bytes()),
        (format!("{name}.pdf"), pdf(report)?),
        (format!("{name}.json"), report.to_json()?),
    ];
    let mut written = Vec::new();
    for (name, content) in files {
        let path = dir.join(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        written.push(path);
    }
    Ok(written)
}
