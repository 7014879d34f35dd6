//! `writ`: what an operator or auditor types.

use std::process::ExitCode;

fn main() -> ExitCode {
    writ_cli::run()
}
