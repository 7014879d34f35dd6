//! The log's key changes while people work.

use std::time::Duration;

use serde_json::Value;
use writ_tests::lab::wait_until;

use super::{BY_PORT, LIMIT, NO_ANSWER, OTHER_PORT, PORT, Site};
use crate::lab_test;

lab_test! {
    fn the_logs_key_changes_while_agents_talk_and_everybody_follows_it() {
        let mut site = Site::public("log-key");
        site.operator.set_policy(BY_PORT).unwrap();
        let [asking, asked] = ["asking", "asked"].map(|name| site.lab.host(name).unwrap());
        let ticket = site.ticket(2);
        let mut one = site.agent(&asking, "asking", &ticket);
        let two = site.agent(&asked, "asked", &ticket);
        let _servers = (asked.serve_echo(PORT).unwrap(), asked.serve_echo(OTHER_PORT).unwrap());
        let (open, later) = (two.at(PORT).unwrap(), two.at(OTHER_PORT).unwrap());
        let flow = asking.flow(open, Duration::from_millis(50), LIMIT).unwrap();
        wait_until(LIMIT, "they talk", || flow.report().echoed > 0).unwrap();
        let first = site.control.made().log_key.clone();

        let data = site.control.made().config.parent().unwrap().to_owned();
        let mut prepare = site.programs.command("writd").unwrap();
        prepare.args(["log", "next-key", "--data"]).arg(&data);
        let told = site.host.spawn(&prepare).unwrap().output(LIMIT).unwrap();
        let told = String::from_utf8(told.stdout).unwrap();
        let next = told.lines().nth(1).unwrap().trim().to_owned();
        let changed: Value =
            site.operator.json(&["log", "rotate-key", "--to", &next, "--yes"]).unwrap();
        assert_eq!((&changed["oldKey"], &changed["newKey"]), (&first.as_str().into(), &next.as_str().into()));

        // What is live goes on; what is new is believed, by both ends.
        let before = flow.report().echoed;
        wait_until(LIMIT, "the live connection goes on", || flow.report().echoed > before + 10).unwrap();
        wait_until(LIMIT, "a new connection is made", || asking.connect(later, NO_ANSWER).is_ok()).unwrap();
        let refusals = [&one, &two].map(|agent| agent.status().unwrap()["refusals"].clone());
        assert!(refusals.iter().all(|none| none.as_array().is_some_and(Vec::is_empty)), "{refusals:?}");

        // An agent that knew the old key only follows after a restart; so does the control plane's own next start.
        one.kill().unwrap();
        site.control.stop().unwrap();
        site.control.start().unwrap();
        one.start().unwrap();
        one.wait_connected(LIMIT).unwrap();

        // Auditors need no other key than the one that they have.
        let verdict: Value = site.operator.json(&["log", "verify"]).unwrap();
        assert_eq!(verdict["verified"], true, "{verdict:#}");
        let out = site.lab.directory().join("evidence.json");
        let out = out.to_str().unwrap();
        site.operator.run(&["bundle", "--record", "0", "--out", out]).unwrap();
        let verdict: Value = site.operator.json(&["verify", out, "--key", &first]).unwrap();
        assert_eq!(verdict["verified"], true, "{verdict:#}");
        site.assert_log_is_sound();
    }
}
