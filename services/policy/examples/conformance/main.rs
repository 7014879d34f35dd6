//! Runs captures of Tailscale's own answers against the engine: `conformance DIR` reads every `*.jsonl.gz` in
//! DIR.

mod capture;
mod harness;
mod meaning;
mod oracles;

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: conformance DIR, where DIR holds *.jsonl.gz");
        return ExitCode::from(2);
    };
    let cases = match capture::read_folder(&folder) {
        Ok(cases) => cases,
        Err(error) => {
            eprintln!("cannot read {}: {error}", folder.display());
            return ExitCode::from(2);
        }
    };
    if cases.is_empty() {
        eprintln!("no captures at {}: nothing was shown", folder.display());
        return ExitCode::from(2);
    }
    let report = harness::run(&cases);
    print!("{report}");
    if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
