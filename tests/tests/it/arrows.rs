//! Who may import whom. The table is the one place where that is written down in code.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Every crate of the workspace, with those of ours that it may import. Libraries only: tests may use anything.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("writ-schema", &[]),
    ("writ-ledger", &[]),
    ("writ-telemetry", &[]),
    ("writ-tls", &[]),
    ("writ-policy", &["writ-schema"]),
    ("writ-relay", &["writ-schema"]),
    ("writ-agent", &["writ-schema", "writ-ledger", "writ-relay", "writ-telemetry", "writ-tls"]),
    (
        "writ-control",
        &["writ-schema", "writ-ledger", "writ-policy", "writ-relay", "writ-telemetry", "writ-tls"],
    ),
    ("writ-cli", &["writ-schema", "writ-ledger", "writ-policy", "writ-tls"]),
    ("writ-compliance", &["writ-schema", "writ-ledger", "writ-tls"]),
    ("writ-test-kafka", &[]),
    ("writ-tests", &["writ-schema", "writ-ledger", "writ-policy", "writ-relay", "writ-telemetry"]),
];

/// Crates of others that would bring into a room what does not belong there.
const MUST_NOT_IMPORT: &[(&str, &[&str])] = &[
    ("writ-compliance", &["rusqlite", "postgres", "tokio-postgres", "rdkafka"]),
    ("writ-policy", &["tokio", "actix-web", "reqwest", "rusqlite", "rdkafka", "getrandom"]),
    ("writ-schema", &["tokio", "actix-web", "reqwest", "rusqlite", "rdkafka"]),
    ("writ-agent", &["actix-web", "async-graphql", "rusqlite", "rdkafka"]),
];

/// What the pure core of the control plane must not name: runtimes, stores, files, clocks.
const IMPURE: &[&str] = &[
    "actix_web",
    "actix_ws",
    "actix_rt",
    "tokio",
    "tokio_util",
    "rusqlite",
    "rdkafka",
    "reqwest",
    "getrandom",
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
    "SystemTime",
    "Instant::now",
    "Timestamp::now",
    "Zoned::now",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Each workspace crate's normal and build dependencies, as its manifest has them.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline", "--no-deps"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap().iter().map(|package| {
        let imported = package["dependencies"].as_array().unwrap().iter();
        let imported = imported.filter(|dependency| dependency["kind"] != "dev");
        (name(package), imported.map(name).collect())
    });
    packages.collect()
}

fn name(item: &serde_json::Value) -> String {
    item["name"].as_str().unwrap().to_owned()
}

/// The imports that the table does not allow, as sentences.
fn violations(crates: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let allowed: BTreeMap<_, _> = MAY_IMPORT.iter().copied().collect();
    let forbidden: BTreeMap<_, _> = MUST_NOT_IMPORT.iter().copied().collect();
    let mut found = Vec::new();
    for (name, imports) in crates {
        let Some(allowed) = allowed.get(name.as_str()) else {
            found.push(format!("{name} is not in the table of this test: say what it may import"));
            continue;
        };
        for import in imports {
            let ours = crates.contains_key(import) && !allowed.contains(&import.as_str());
            let others = forbidden.get(name.as_str()).is_some_and(|list| list.contains(&import.as_str()));
            if ours || others {
                found.push(format!("{name} must not import {import}"));
            }
        }
    }
    found
}

/// Files and lines of a folder that name something impure outside comments.
fn impurities(directory: &Path) -> (usize, Vec<String>) {
    let (mut files, mut found) = (0, Vec::new());
    for entry in fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display())) {
        let path = entry.unwrap().path();
        if path.ends_with("core/tests") {
            // Its tests read golden records from files.
        } else if path.is_dir() {
            let (count, below) = impurities(&path);
            files += count;
            found.extend(below);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files += 1;
            let text = fs::read_to_string(&path).unwrap();
            found.extend(impure_lines(&text).map(|line| format!("{}:{line}", path.display())));
        }
    }
    (files, found)
}

fn impure_lines(text: &str) -> impl Iterator<Item = String> {
    (1..).zip(text.lines()).filter_map(|(number, line)| {
        let code = line.split("//").next().unwrap_or_default();
        let word = IMPURE.iter().find(|word| names(code, word))?;
        Some(format!("{number}: {word}"))
    })
}

/// The path occurs in the code, and not only as the end of another word or the beginning of another crate's name.
fn names(code: &str, path: &str) -> bool {
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(path).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + path.len()..].chars().next();
        let is_crate = path.chars().all(|c| c.is_lowercase() || c == '_');
        !(before.is_some_and(in_word) || is_crate && after.is_some_and(in_word))
    })
}

#[test]
fn crates_import_along_the_arrows() {
    let crates = dependencies();
    assert_eq!(violations(&crates), Vec::<String>::new());
    for (name, _) in MAY_IMPORT {
        assert!(crates.contains_key(*name), "{name} is in the table of this test but not in the workspace");
    }
}

#[test]
fn an_import_against_the_arrows_is_found() {
    let mut crates = dependencies();
    crates.get_mut("writ-agent").unwrap().insert("writ-control".into());
    crates.get_mut("writ-compliance").unwrap().insert("rusqlite".into());
    crates.insert("writ-new".into(), BTreeSet::new());
    let found = violations(&crates);
    assert_eq!(found.len(), 3, "{found:?}");
}

#[test]
fn the_core_of_the_control_plane_is_pure() {
    let (files, found) = impurities(&root().join("services/control/src/core"));
    assert!(files > 0, "the core has no files");
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn impurity_is_found_in_code_and_not_in_comments() {
    let impure = |text: &str| impure_lines(text).count();
    assert_eq!(impure("use tokio::sync::mpsc;"), 1);
    assert_eq!(impure("let now = std::time::Instant::now();"), 1);
    assert_eq!(impure("fn f() { std::fs::read(p) }"), 1);
    assert_eq!(impure("// unlike tokio, this waits for nobody\nlet tokio_like = 1;"), 0);
}
