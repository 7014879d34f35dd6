//! What the engine costs, beside the `cedar-policy` crate: `cargo bench -p writ-policy`.
//!
//! The measuring program is `beside-cedar`, a workspace of its own (its `Cargo.toml` says why). This builds it, optimized, and
//! hands it the arguments: `cargo bench -p writ-policy -- 10000x500` measures one size only.

use std::env;
use std::path::Path;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/beside-cedar/Cargo.toml");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["run", "--release", "--locked", "--manifest-path"]).arg(manifest).arg("--");
    // Cargo passes --bench to every benchmark.
    cargo.args(env::args_os().skip(1).filter(|argument| argument != "--bench"));
    match cargo.status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cargo cannot be run: {error}");
            ExitCode::FAILURE
        }
    }
}
