//! Tessera's POSIX log on the same appends: a small Go program beside this one, built with the module proxy.

use std::path::Path;
use std::process::Command;

use crate::append::{BATCHES, Rates};
use crate::events::Events;
use crate::figure;

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/tessera");

pub fn run(folder: &Path, log: &Rates) {
    if Command::new("go").arg("version").output().is_err() {
        println!("tessera: skipped, there is no Go");
        return;
    }
    let binary = folder.join("tessera-bench");
    let built =
        Command::new("go").args(["build", "-o"]).arg(&binary).arg(".").current_dir(PROGRAM).status().unwrap();
    if !built.success() {
        println!("tessera: skipped, the program cannot be built");
        return;
    }
    for (batch, rate) in &log.0 {
        let records = folder.join("records");
        let most = BATCHES.iter().find(|(of, _)| of == batch).map_or(0, |(_, commits)| commits * batch);
        std::fs::write(&records, Events::new(*batch as u64).batch(most).join(&b'\n')).unwrap();
        let output = Command::new(&binary)
            .arg(folder.join(format!("tessera-{batch}")))
            .arg(batch.to_string())
            .arg(&records)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let numbers: Vec<f64> = text.split_whitespace().map(|number| number.parse().unwrap()).collect();
        let [per_second, p50, p99] = numbers[..] else { panic!("{text}") };
        let name = |what: &str| format!("append.{batch}.{what}");
        figure(&name("tessera.rate"), per_second, "records/s");
        figure(&name("tessera.p50"), p50, "us");
        figure(&name("tessera.p99"), p99, "us");
        figure(&name("rate_to_tessera"), rate / per_second, "x");
    }
}
