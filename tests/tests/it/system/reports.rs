//! Reports on a living control plane, by somebody who has done no more than sign in.

use std::path::Path;
use std::process::Output;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{LIMIT, Site};

/// The controls that judge the log itself: these records are all there, and proven.
const OF_THE_LOG: [(&str, &str); 2] = [("nis2", "nis2.3.2.5"), ("dora", "dora.rts.12.2.d")];

fn writ(site: &Site, credentials: &Path, args: &[&str]) -> Output {
    let mut command = site.programs.command("writ").unwrap();
    command.args(args).arg("--json").env("WRIT_CONFIG", credentials);
    command.env("WRIT_SECRET", &site.control.made().secret);
    site.host.spawn(&command).unwrap().output(LIMIT).unwrap()
}

fn json(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"))
}

fn status(report: &Value, control: &str) -> String {
    let chapters = report["chapters"].as_array().unwrap().iter();
    let mut controls = chapters.flat_map(|chapter| chapter["controls"].as_array().unwrap());
    controls.find(|found| found["id"] == control).unwrap()["status"].as_str().unwrap().to_owned()
}

#[test]
fn after_a_bare_sign_in_reports_judge_the_log_as_whole_and_their_bundles_are_one_log() {
    let site = Site::public("reports");
    for login in ["a@example.com", "b@example.com", "c@example.com"] {
        site.operator.add_user(login, login).unwrap();
        site.ticket(1);
    }
    let credentials = site.lab.directory().join("auditor.toml");
    let made = site.control.made();
    let (url, pin) = (site.control.base_url(), made.pin.clone().unwrap());
    let login = ["login", "--server", &url, "--admin", made.admin.as_str(), "--pin", &pin];
    assert_eq!(json(&writ(&site, &credentials, &login))["logKey"], made.log_key.as_str());

    let out = site.lab.directory().join("reports");
    let now = Timestamp::now();
    let (from, to) = (now - SignedDuration::from_hours(1), now + SignedDuration::from_hours(1));
    let (from, to) = (from.to_string(), to.to_string());
    for (framework, control) in OF_THE_LOG {
        let args = ["report", "--framework", framework, "--from", &from, "--to", &to, "--bundle", "--out"];
        let args = [&args[..], &[out.to_str().unwrap(), "--", "--bundle-records", "4"]].concat();
        // `--json` has to stand before what is passed on.
        let args = [&["--json"], &args[..]].concat();
        let mut command = site.programs.command("writ").unwrap();
        command.args(args).env("WRIT_CONFIG", &credentials);
        let files = json(&site.host.spawn(&command).unwrap().output(LIMIT).unwrap());
        let files: Vec<&str> = files["files"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        let report = files.iter().find(|file| file.ends_with("-en.json")).unwrap();
        let report: Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
        assert_ne!(status(&report, control), "CONTRADICTED", "{control} on a log that is whole");
        let bundles: Vec<_> = files.iter().filter(|file| file.contains("-bundle")).collect();
        assert!(bundles.len() > 2, "{files:?}");
        for bundle in bundles {
            let verdict = json(&writ(&site, &credentials, &["verify", bundle]));
            assert_eq!((&verdict["verified"], &verdict["sealed"]), (&true.into(), &true.into()), "{verdict}");
        }
    }
    site.assert_log_is_sound();
}

#[test]
fn a_report_counts_the_witnesses_that_have_cosigned_its_evidence() {
    let mut site = Site::public("witnessed");
    let (data, log_key) = (site.lab.directory().join("witness"), site.control.made().log_key.clone());
    let mut make = site.programs.command("writd").unwrap();
    make.args([
        "witness",
        "init",
        "--name",
        "witness.example",
        "--listen",
        "127.0.0.1:8555",
        "--log",
        &log_key,
    ]);
    make.arg("--data").arg(&data);
    let told = site.host.spawn(&make).unwrap().output(LIMIT).unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    let vkey = told.lines().find_map(|line| line.trim().strip_prefix("public key  ")).unwrap().to_owned();
    let mut run = site.programs.command("writd").unwrap();
    run.args(["witness", "run", "--data"]).arg(&data);
    let _witness = site.host.spawn(&run).unwrap();
    site.control.stop().unwrap();
    let config = site.control.made().config.clone();
    let text = std::fs::read_to_string(&config).unwrap();
    let entry = format!("\n[[witness]]\nvkey = \"{vkey}\"\nurl = \"http://127.0.0.1:8555\"\n");
    std::fs::write(&config, text + &entry).unwrap();
    site.control.start().unwrap();

    let witnesses = site.operator.run(&["log", "witnesses"]).unwrap();
    assert!(witnesses.contains("witness.example"), "{witnesses}");
    let policy = site.lab.directory().join("trust.policy");
    let now = Timestamp::now();
    let (from, to) = (now - SignedDuration::from_hours(1), now + SignedDuration::from_hours(1));
    let (from, to) = (from.to_string(), to.to_string());
    let report = |policy_text: &str, out: &Path| {
        std::fs::write(&policy, policy_text).unwrap();
        let (out, policy) = (out.to_str().unwrap(), policy.to_str().unwrap());
        let args = ["report", "--framework", "nis2", "--from", &from, "--to", &to, "--out", out];
        site.operator.try_run(&[&args[..], &["--", "--policy", policy]].concat()).unwrap()
    };
    let out = site.lab.directory().join("report");
    let made = report(&format!("witness ada {vkey}\nquorum ada\n"), &out);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let files = std::fs::read_dir(&out).unwrap().map(|file| file.unwrap().path());
    let json = files.into_iter().find(|file| file.to_string_lossy().ends_with("-en.json")).unwrap();
    let text = std::fs::read_to_string(json).unwrap();
    assert!(text.contains("1 valid cosignature of a witness"), "{text}");
    // A quorum that has not cosigned makes no report.
    let other = writ_ledger::CosigningKey::from_seed("other.example", [6; 32]).unwrap().cosigner_key();
    let refused = report(&format!("witness bob {other}\nquorum bob\n"), &site.lab.directory().join("none"));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("lacks the quorum"), "{said}");
}
