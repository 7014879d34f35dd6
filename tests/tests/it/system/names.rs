//! A host's programs find the network's names through its own resolver, and everybody else's names as before.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use writ_tests::lab::{Host, Process, wait_until};
use writ_tests::parts::Agent;

use super::{LIMIT, Site};
use crate::lab_test;

/// What the name server of others answers to every question.
const OTHERS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 80);
const DNS: u16 = 53;

/// A network with two nodes, of which the first has not been started, and a name server of others.
struct Scene {
    site: Site,
    host: Host,
    agent: Agent,
    other: Agent,
    upstream: SocketAddr,
}

fn scene(name: &str) -> Scene {
    let site = Site::public(name);
    let servers = site.lab.host("servers").unwrap();
    serve_others(&servers);
    let (host, there) = (site.lab.host("here").unwrap(), site.lab.host("there").unwrap());
    let other = site.agent(&there, "other", &site.ticket(1));
    let agent = Agent::new(&site.programs, &host, &site.lab.directory().join("here"));
    Scene { upstream: servers.at(DNS), site, host, agent, other }
}

impl Scene {
    fn join(&mut self) {
        self.agent.begin_join("here", &self.site.ticket(1)).unwrap();
        self.agent.wait_connected(LIMIT).unwrap();
    }

    fn wait_state(&self, state: &str) -> Value {
        let is_so = || self.agent.status().is_ok_and(|status| status["host_dns"]["state"] == state);
        let said = || self.agent.status().map(|status| status["host_dns"].clone());
        wait_until(LIMIT, state, is_so).unwrap_or_else(|error| panic!("{error}: {:?}", said()));
        said().unwrap()
    }

    /// What the C library finds, on a host that sees these files.
    fn find(&self, script: &str, what: &str) -> String {
        let command = format!("{script}\ngetent ahosts {what} || getent hosts {what}");
        let output = self.host.exec(["unshare", "--mount", "sh", "-c", &command]).unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    fn assert_all_names_are_found(&self, script: &str) {
        let other = self.other.status().unwrap();
        for address in 0..2 {
            let address = other["addresses"][address].as_str().unwrap();
            // The netmap comes after the session.
            let is_found = || self.find(script, "other.corp").contains(address);
            wait_until(LIMIT, "the name is found", is_found).unwrap();
            let command = format!("{script}\ngetent hosts {address}");
            let output = self.host.exec(["unshare", "--mount", "sh", "-c", &command]).unwrap();
            let found = String::from_utf8(output.stdout).unwrap();
            assert!(found.contains("other.corp"), "{found}");
        }
        self.assert_others_are_found(script);
    }

    fn assert_others_are_found(&self, script: &str) {
        for name in ["www.example.org", "long.example.org"] {
            let found = self.find(script, name);
            assert!(found.contains(&OTHERS.to_string()), "{name}: {found}");
        }
    }

    /// What `check` says of names, and whether the check as a whole is well.
    fn check(&self) -> (Option<i32>, Value) {
        let output = self.agent.try_run(&["check", "--json"]).unwrap();
        let findings: Value = serde_json::from_slice(&output.stdout).unwrap();
        let finding = findings.as_array().unwrap().iter().find(|finding| finding["check"] == "names");
        (output.status.code(), finding.unwrap().clone())
    }

    /// A folder to be seen as `/etc`, with what name look-ups need.
    fn etc(&self, name: &str) -> PathBuf {
        let etc = self.site.lab.directory().join(name);
        fs::create_dir_all(&etc).unwrap();
        for (file, text) in [
            ("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
            ("hosts", "127.0.0.1 localhost\n"),
            ("passwd", "root:x:0:0::/root:/bin/sh\nsystemd-resolve:x:0:0::/:/bin/false\n"),
            ("group", "root:x:0:\nsystemd-resolve:x:0:\n"),
        ] {
            fs::write(etc.join(file), text).unwrap();
        }
        etc
    }
}

/// A name server that knows one address for every name. Of names that begin with `long` it says over UDP that the answer is too
/// long for it.
fn serve_others(host: &Host) {
    let udp = host.udp(DNS).unwrap();
    let tcp = host.listen(DNS).unwrap();
    host.thread("udp", move || {
        let mut query = [0; 1_500];
        while let Ok((length, from)) = udp.recv_from(&mut query) {
            let is_long = query[12..].starts_with(b"\x04long");
            let _ = udp.send_to(&others_answer(&query[..length], is_long), from);
        }
    })
    .unwrap();
    host.thread("tcp", move || {
        for mut stream in tcp.incoming().flatten() {
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut query).unwrap();
            let answer = others_answer(&query, false);
            let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
            stream.write_all(&[&length[..], &answer].concat()).unwrap();
        }
    })
    .unwrap();
}

fn others_answer(query: &[u8], is_truncated: bool) -> Vec<u8> {
    let name = query[12..].iter().position(|byte| *byte == 0).unwrap();
    let question = &query[12..12 + name + 5];
    let is_address = question[name + 1..name + 3] == [0, 1] && !is_truncated;
    let flags = [0x81 | if is_truncated { 2 } else { 0 }, 0x80];
    let mut answer = [&query[..2], &flags, &[0, 1, 0, u8::from(is_address), 0, 0, 0, 0], question].concat();
    if is_address {
        answer.extend([&[0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4][..], &OTHERS.octets()].concat());
    }
    answer
}

lab_test! {
    fn a_plain_resolv_conf_leads_to_the_agent_while_it_runs_and_keeps_what_others_write() {
        let mut scene = scene("corp");
        let etc = scene.etc("etc");
        let (file, script) = (etc.join("resolv.conf"), format!("mount --bind {} /etc", etc.display()));
        let text = || fs::read_to_string(&file).unwrap();
        let theirs = format!("# by hand\nnameserver {}\noptions timeout:1\n", scene.upstream.ip());
        fs::write(&file, &theirs).unwrap();
        scene.agent.see(&script, "auto");
        scene.join();
        let told = scene.wait_state("set_up");
        assert_eq!((&told["by"], &told["upstreams"][0]), (&"resolv_conf".into(), &scene.upstream.to_string().into()));
        let with_block = text();
        assert!(with_block.ends_with(&theirs) && with_block.contains("nameserver 127."), "{with_block}");
        scene.assert_all_names_are_found(&script);
        let (code, finding) = scene.check();
        assert_eq!((code, &finding["health"]), (Some(0), &"ok".into()), "{finding:#}");
        let shown = scene.agent.try_run(&["status"]).unwrap();
        assert!(String::from_utf8_lossy(&shown.stdout).contains("names: /etc/resolv.conf leads to 127."));

        // A kill leaves the lines there, which do no harm; what somebody else then writes stays.
        scene.agent.kill().unwrap();
        assert_eq!(text(), with_block);
        scene.assert_others_are_found(&script);
        let changed = format!("{theirs}search example.net\n");
        fs::write(&file, format!("{with_block}search example.net\n")).unwrap();
        scene.agent.start().unwrap();
        scene.agent.wait_connected(LIMIT).unwrap();
        scene.wait_state("set_up");
        assert_eq!((text().matches("nameserver 127.").count(), text().ends_with(&changed)), (1, true));
        scene.assert_all_names_are_found(&script);
        scene.agent.stop().unwrap();
        assert_eq!(text(), changed);
        scene.assert_others_are_found(&script);

        // Somebody puts a file of his own in its place, as programs that get an address do.
        scene.agent.start().unwrap();
        scene.agent.wait_connected(LIMIT).unwrap();
        scene.wait_state("set_up");
        let beside = etc.join("resolv.conf.new");
        fs::write(&beside, &theirs).unwrap();
        fs::rename(&beside, &file).unwrap();
        wait_until(LIMIT, "the lines are put back", || text() == with_block).unwrap();
        scene.assert_all_names_are_found(&script);
        // But whoever insists is not fought.
        fs::write(&file, &theirs).unwrap();
        let told = scene.wait_state("not_set_up");
        assert!(told["why"].as_str().unwrap().contains("somebody else"), "{told}");
        assert_eq!(text(), theirs);
        assert_eq!(scene.agent.try_run(&["down"]).unwrap().status.code(), Some(0));
        assert_eq!(text(), theirs);

        // After a kill, one that is to leave the host's resolver alone mends as well.
        scene.agent.start().unwrap();
        scene.agent.wait_connected(LIMIT).unwrap();
        scene.wait_state("set_up");
        scene.agent.kill().unwrap();
        assert_eq!(text(), with_block);
        scene.agent.see(&script, "off");
        scene.agent.start().unwrap();
        scene.agent.wait_connected(LIMIT).unwrap();
        assert_eq!(scene.wait_state("off"), serde_json::json!({ "state": "off" }));
        assert_eq!(text(), theirs);
    }
}

lab_test! {
    fn a_resolv_conf_that_is_mounted_by_itself_is_written_in_place() {
        let mut scene = scene("corp");
        let etc = scene.etc("etc");
        let file = etc.join("resolv.conf");
        let theirs = format!("nameserver {}\n", scene.upstream.ip());
        fs::write(&file, &theirs).unwrap();
        let inode = fs::metadata(&file).unwrap().ino();
        // As systemd's ProtectSystem and ReadWritePaths do: the folder cannot be written, the file can.
        let script = format!(
            "mount --bind {etc} /etc && mount -o remount,bind,ro /etc && mount --bind {file} /etc/resolv.conf",
            etc = etc.display(),
            file = file.display(),
        );
        scene.agent.see(&script, "auto");
        scene.join();
        scene.wait_state("set_up");
        scene.assert_all_names_are_found(&script);
        scene.agent.kill().unwrap();
        assert_ne!(fs::read_to_string(&file).unwrap(), theirs);
        scene.agent.start().unwrap();
        scene.agent.wait_connected(LIMIT).unwrap();
        scene.wait_state("set_up");
        scene.agent.stop().unwrap();
        assert_eq!((fs::read_to_string(&file).unwrap(), fs::metadata(&file).unwrap().ino()), (theirs, inode));
    }
}

lab_test! {
    fn where_another_program_writes_resolv_conf_or_it_cannot_be_written_that_is_said_with_what_to_do() {
        let mut scene = scene("corp");
        let etc = scene.etc("etc");
        symlink("/run/NetworkManager/resolv.conf", etc.join("resolv.conf")).unwrap();
        let script = |etc: &Path| format!("mount --bind {} /etc && mount -o remount,bind,ro /etc", etc.display());
        scene.agent.see(&script(&etc), "auto");
        scene.join();
        let told = scene.wait_state("not_set_up");
        assert!(told["why"].as_str().unwrap().contains("NetworkManager"), "{told}");
        let (code, finding) = scene.check();
        assert_eq!((code, &finding["health"]), (Some(0), &"attention".into()), "{finding:#}");
        assert!(finding["remedy"].as_str().unwrap().contains("systemd-resolved"), "{finding:#}");
        let shown = String::from_utf8(scene.agent.try_run(&["status"]).unwrap().stdout).unwrap();
        assert!(shown.contains("do not find them") && shown.contains("nmcli"), "{shown}");
        scene.agent.stop().unwrap();

        let etc = scene.etc("etc.plain");
        let theirs = format!("nameserver {}\n", scene.upstream.ip());
        fs::write(etc.join("resolv.conf"), &theirs).unwrap();
        scene.agent.see(&script(&etc), "auto");
        scene.agent.start().unwrap();
        scene.agent.wait_connected(Duration::from_secs(20)).unwrap();
        let told = scene.wait_state("not_set_up");
        assert!(told["why"].as_str().unwrap().contains("cannot be written"), "{told}");
        assert_eq!(fs::read_to_string(etc.join("resolv.conf")).unwrap(), theirs);
    }
}

/// A systemd-resolved on a host, with a message bus of its own. Both go by the folders that are seen as `/etc` and `/run`.
struct Resolved {
    script: String,
    host: Host,
    process: Process,
    _bus: Process,
}

/// Lets everybody do everything: who may set a link's servers is not what is tested.
const BUS: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
    "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
    <type>system</type>
    <listen>unix:path=/run/dbus/system_bus_socket</listen>
    <auth>EXTERNAL</auth>
    <policy context="default">
        <allow user="*"/> <allow own="*"/> <allow send_destination="*"/> <allow receive_sender="*"/>
        <allow send_type="method_call"/>
    </policy>
</busconfig>"#;

impl Resolved {
    fn start(scene: &Scene) -> Self {
        let (etc, run) = (scene.etc("etc"), scene.site.lab.directory().join("run"));
        for folder in [run.join("dbus"), run.join("systemd/resolve"), etc.join("systemd")] {
            fs::create_dir_all(folder).unwrap();
        }
        symlink("/run/systemd/resolve/stub-resolv.conf", etc.join("resolv.conf")).unwrap();
        let settings =
            format!("[Resolve]\nDNS={}\nDNSSEC=no\nLLMNR=no\nMulticastDNS=no\n", scene.upstream.ip());
        fs::write(etc.join("systemd/resolved.conf"), settings).unwrap();
        fs::write(etc.join("bus.conf"), BUS).unwrap();
        let root = resolved_root();
        let script = format!(
            "set -e; export PATH={root}/usr/bin:$PATH LD_LIBRARY_PATH=$(echo {root}/usr/lib/*/systemd | tr ' ' :)\n\
             mount --bind {etc} /etc; mount --bind {run} /run; set +e",
            root = root.display(),
            etc = etc.display(),
            run = run.display(),
        );
        let host = scene.host.clone();
        let bus = start(&host, &script, "dbus-daemon --config-file=/etc/bus.conf --nofork --nopidfile");
        wait_until(LIMIT, "the bus listens", || run.join("dbus/system_bus_socket").exists()).unwrap();
        let process = Self::spawn(&host, &script);
        Self { script, host, process, _bus: bus }
    }

    fn spawn(host: &Host, script: &str) -> Process {
        let process =
            start(host, script, &format!("{}/usr/lib/systemd/systemd-resolved", resolved_root().display()));
        let command = format!("{script}\nresolvectl status");
        let answers = || {
            host.exec(["unshare", "--mount", "sh", "-c", &command]).is_ok_and(|told| told.status.success())
        };
        wait_until(LIMIT, "systemd-resolved answers", answers)
            .unwrap_or_else(|error| panic!("{error}: {}", process.stderr()));
        process
    }

    fn restart(&mut self) {
        self.process.kill().unwrap();
        self.process = Self::spawn(&self.host, &self.script);
    }

    fn told(&self, what: &str) -> String {
        let command = format!("{}\nresolvectl {what} writ0", self.script);
        let output = self.host.exec(["unshare", "--mount", "sh", "-c", &command]).unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

fn start(host: &Host, script: &str, program: &str) -> Process {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &format!("{script}\nexec {program}")]);
    host.spawn(&command).unwrap()
}

/// Where systemd-resolved is: on this machine, or unpacked by `tests/run`.
fn resolved_root() -> PathBuf {
    let program = "usr/lib/systemd/systemd-resolved";
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    let unpacked = cache.unwrap_or_default().join("writ/systemd-resolved");
    let root = [PathBuf::from("/"), unpacked].into_iter().find(|root| root.join(program).is_file());
    root.unwrap_or_else(|| {
        panic!("there is no systemd-resolved: tests/run unpacks it, see deploy/lib/prerequisites.sh")
    })
}

lab_test! {
    fn systemd_resolved_asks_the_agent_about_the_network_and_forgets_it_with_the_interface() {
        let mut scene = scene("corp");
        let mut resolved = Resolved::start(&scene);
        scene.agent.see(&resolved.script, "auto");
        scene.join();
        let told = scene.wait_state("set_up");
        assert_eq!(told["by"], "systemd_resolved", "{told}");
        scene.assert_all_names_are_found(&resolved.script);
        let domains = resolved.told("domain");
        assert!(domains.contains("~corp ~64.100.in-addr.arpa ~"), "{domains}");
        assert!(resolved.told("default-route").trim().ends_with("no"));
        let (code, finding) = scene.check();
        assert_eq!((code, &finding["health"]), (Some(0), &"ok".into()), "{finding:#}");

        // It remembers over a restart of its own; the agent tells it anew after one.
        resolved.restart();
        scene.assert_all_names_are_found(&resolved.script);
        scene.agent.kill().unwrap();
        assert!(!resolved.told("domain").contains("corp"));
        scene.assert_others_are_found(&resolved.script);
        scene.agent.start().unwrap();
        scene.agent.wait_connected(LIMIT).unwrap();
        scene.wait_state("set_up");
        scene.assert_all_names_are_found(&resolved.script);
        scene.agent.stop().unwrap();
        assert!(!resolved.told("domain").contains("corp"));
        scene.assert_others_are_found(&resolved.script);
    }
}
