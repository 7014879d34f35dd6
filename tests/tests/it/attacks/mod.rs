//! Every attack on the log that the README lists: done to the real files or over the real network, and noticed by whom it says, in the words that it says.

mod files;
mod keys;
mod network;
mod scene;
mod time;
mod witness;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The attacks that a test here does, by their names in the README.
const TESTED: &[&str] = &[
    "Edit a record",
    "Delete a record",
    "Insert a record",
    "Reorder records",
    "Truncate the log",
    "Roll back to an older copy",
    "Roll back to the backup of yesterday",
    "Fork the log for two readers",
    "Back-date a record",
    "Back-date a record, witnesses",
    "Re-sign after stealing the storage",
    "Steal the signing key, no witness",
    "Steal the signing key, witnesses",
    "A clock that jumps ahead",
];

/// A row of the README's table of attacks.
struct Row {
    name: String,
    /// What somebody sees, each in its exact words; `…` stands for anything.
    seen: Vec<String>,
}

/// The table of attacks: name, how, who and by what, what they see.
fn rows() -> Vec<Row> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let text = fs::read_to_string(readme).unwrap();
    let section = text.split("\n## ").find(|section| section.starts_with("Attacks")).unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| ")).skip(1);
    rows.filter_map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, .., seen] = cells[..] else { return None };
        let seen = seen.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        Some(Row { name: name.to_owned(), seen })
    })
    .collect()
}

/// Everything that the README quotes of what is seen in this attack was printed.
fn assert_seen(attack: &str, printed: &str) {
    assert!(TESTED.contains(&attack), "{attack}");
    let row = rows().into_iter().find(|row| row.name == attack);
    let row = row.unwrap_or_else(|| panic!("the README has no attack {attack:?}"));
    assert!(!row.seen.is_empty(), "the README does not say what is seen of {attack:?}");
    for seen in row.seen {
        let mut rest = printed;
        for part in seen.split('…') {
            let at = rest.find(part);
            rest =
                &rest[at.unwrap_or_else(|| panic!("{attack}: {seen:?} is not in: {printed}")) + part.len()..];
        }
    }
}

#[test]
fn every_attack_that_the_readme_lists_has_its_test() {
    let listed: BTreeSet<String> = rows().into_iter().map(|row| row.name).collect();
    assert_eq!(listed, TESTED.iter().map(|name| (*name).to_owned()).collect());
}
