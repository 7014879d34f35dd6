//! A running `writd`: their verifiers over HTTP, and the directory that is exported from it.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use writ_tests::parts::START_LIMIT;

use super::super::system::{Site, run_in};
use super::{THEIRS, Verdict, flip, interop, ours, text, theirs, verdict};
use crate::lab_test;

const CREATE_USER: &str =
    "mutation U($login: String!) { createUser(login: $login, displayName: \"N\") { done { recordCount } } }";

/// The token that `writ login` keeps.
fn token(site: &Site) -> String {
    let kept = fs::read_to_string(site.operator.credentials()).unwrap();
    let line = kept.lines().find_map(|line| line.strip_prefix("token = \"")).unwrap();
    line.trim_end_matches('"').to_owned()
}

/// Makes records over the API, as anybody's work would.
fn grow(site: &Site, from: usize, count: usize) {
    let (url, token) = (format!("{}/graphql", site.control.base_url()), token(site));
    run_in(&site.host, move || async move {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        for number in from..from + count {
            let variables = json!({ "login": format!("user-{number}@example.com") });
            let body = json!({ "query": CREATE_USER, "variables": variables });
            let answer = http.post(&url).bearer_auth(&token).json(&body).send().await.unwrap();
            let answer: Value = answer.json().await.unwrap();
            assert_eq!(answer["data"]["createUser"]["done"]["recordCount"], 1, "{answer}");
        }
    });
}

/// One of their verifiers over HTTP.
fn over_http(site: &Site, verifier: &str, old: Option<&Path>) -> Verdict {
    let folder = site.lab.directory();
    let (key, bearer) = (folder.join("vkey"), folder.join("token"));
    fs::write(&key, &site.control.made().log_key).unwrap();
    fs::write(&bearer, token(site)).unwrap();
    let mut command = Command::new(interop());
    command.args([verifier, "-log", &format!("{}/log", site.control.base_url())]);
    command.args(["-key", text(&key), "-bearer", text(&bearer)]);
    if let Some(old) = old {
        command.args(["-old", text(old)]);
    }
    verdict(&site.host.spawn(&command).unwrap().output(START_LIMIT).unwrap())
}

lab_test! {
    fn a_running_log_is_checked_over_http_and_as_the_directory_that_is_exported_from_it() {
        let site = Site::on_loopback("interop");
        grow(&site, 0, 200);
        let old = site.lab.directory().join("old");
        fs::write(&old, site.control.web().unwrap().get("/log/checkpoint").unwrap().body).unwrap();
        let dir = site.lab.directory().join("out");
        let first: Value = site.operator.json(&["log", "export", text(&dir)]).unwrap();
        grow(&site, 200, 200);
        let again: Value = site.operator.json(&["log", "export", text(&dir)]).unwrap();
        assert_eq!(again["before"], first["size"]);
        for verifier in THEIRS {
            let report = over_http(&site, verifier, Some(&old)).unwrap();
            assert_eq!((&report["size"], &report["oldSize"]), (&again["size"], &first["size"]), "{verifier}");
            assert_eq!(theirs(verifier, &dir, Some(&old)).unwrap()["size"], again["size"]);
        }
        let found = ours(&dir, Some(&old)).unwrap();
        assert_eq!((&found["records"], &found["opaque"]), (&again["size"], &false.into()));
    }
}

lab_test! {
    fn a_record_that_is_altered_under_a_running_server_is_never_served_and_whoever_asks_is_told() {
        let site = Site::on_loopback("interop-altered");
        grow(&site, 0, 20);
        let segment = site.control.log_directory().join("segments/00000000000000000000.jsonl");
        let bytes = fs::read(&segment).unwrap();
        let needle = b"\"seq\":17,";
        let record = bytes.windows(needle.len()).position(|window| window == needle).unwrap();
        let letter = bytes[record..].windows(4).position(|window| window == b"user").unwrap();
        flip(&segment, record + letter);
        for verifier in THEIRS {
            let refused = over_http(&site, verifier, None).unwrap_err();
            assert!(refused.contains("tile/entries/000.p/") && refused.contains("500"), "{verifier}: {refused}");
        }
        let ours = site.operator.try_run(&["log", "verify"]).unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&ours.stdout), String::from_utf8_lossy(&ours.stderr));
        assert!(!ours.status.success() && said.contains("record 17 is not the one that is in the tree"), "{said}");
    }
}
