//! Golden records: what each version of Writ has written stays readable for ever, and means what it meant.
//!
//! `schema/golden/` holds histories, each a log as one version wrote it; see the README there. Files are added and never
//! edited.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use writ_schema::seal::{
    HeldKey, KeyRef, OpeningKey, OpeningKeys, Place, Retention, SealVisitor, Sealable, Sealed, Subject,
};
use writ_schema::{Event, Record, Seq};

use super::golden_scene;
use crate::core::{State, evolve};

/// The kinds that a history was made for are in it; the folder's name says when that was.
const MANIFEST: &str = "MANIFEST";

/// The files of a history that are no records.
const KEYS: &str = "keys.json";
const FOLDED: &str = "folded.json";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schema/golden")
}

/// A field's key, as the vault of that time gave it out.
#[derive(Serialize, Deserialize)]
struct GoldenKey {
    #[serde(flatten)]
    held: HeldKey,
    subject: Subject,
    retention: Retention,
}

struct GoldenKeys(Vec<GoldenKey>);

impl OpeningKeys for GoldenKeys {
    fn opening_key(&self, key_ref: KeyRef, _: Place) -> Option<OpeningKey> {
        let found = self.0.iter().find(|golden| golden.held.key_ref == key_ref)?;
        let of = (found.subject.clone(), found.retention.clone());
        Some(OpeningKey { key: found.held.key.clone(), of: Some(of) })
    }
}

/// What one record says, and what is known after it.
#[derive(Serialize, Deserialize)]
struct Folded {
    seq: Seq,
    /// The values of its sealed fields.
    opened: Map<String, Value>,
    /// Facts of the state. Later versions may know more.
    state: Value,
}

/// Collects the values of open fields.
#[derive(Default)]
struct Opened(Map<String, Value>);

impl SealVisitor for Opened {
    fn visit<T: Sealable>(&mut self, field: &'static str, sealed: &mut Sealed<T>) {
        let value = sealed.value().map(|value| serde_json::to_value(value).unwrap());
        self.0.insert(field.to_owned(), value.unwrap_or_default());
    }
}

fn opened(event: &Event) -> Map<String, Value> {
    let mut opened = Opened::default();
    event.clone().visit_sealed(&mut opened);
    opened.0
}

/// The facts of a state that decisions and answers stand on.
fn facts(state: &State) -> Value {
    let users = state.users().map(|user| {
        json!({ "user": user.id, "login": user.login, "display_name": user.display_name,
            "disabled": user.is_disabled, "erased": user.is_erased })
    });
    let admins = state.admins().map(|admin| {
        json!({ "admin": admin.id, "name": admin.name, "role": admin.role, "revoked": admin.is_revoked })
    });
    let keys = state.enrolment_keys().map(|key| {
        json!({ "key": key.id, "owner": key.owner, "uses": key.uses, "max_uses": key.max_uses, "revoked": key.is_revoked })
    });
    let nodes = state.nodes().map(|node| {
        json!({ "node": node.id, "name": node.name, "owner": node.owner, "wireguard_key": node.wireguard_key,
            "generation": node.generation, "address_v4": node.address_v4, "address_v6": node.address_v6,
            "connected": node.session.is_some(), "advertised": node.advertised, "approved": node.approved })
    });
    let live = state.live_authorizations(state.time()).map(|held| {
        json!({ "authorization": held.id, "source": held.source, "destination": held.destination,
            "route": held.route, "protocol": held.protocol, "ports": held.ports, "rule": held.rule, "policy": held.policy,
            "expires_at": held.expires_at, "record": held.record })
    });
    let policy =
        state.policy().map(|policy| json!({ "version": policy.version, "text": policy.text.as_deref() }));
    json!({
        "network": state.network().map(|network| network.created.network.clone()), "size": state.size(),
        "time": state.time(), "open": state.is_open(), "policy": policy, "users": list(users), "admins": list(admins),
        "enrolment_keys": list(keys), "nodes": list(nodes), "live": list(live),
    })
}

/// In one order, whatever the state keeps its parts in.
fn list(items: impl Iterator<Item = Value>) -> Vec<Value> {
    let mut items: Vec<Value> = items.collect();
    items.sort_by_key(|item| {
        let fields = item.as_object().map(|fields| fields.iter().collect::<BTreeMap<_, _>>());
        serde_json::to_string(&fields).unwrap_or_default()
    });
    items
}

/// Whether everything golden still holds; more may be known now.
fn assert_holds(golden: &Value, now: &Value, place: &str) {
    match (golden, now) {
        (Value::Object(golden), Value::Object(now)) => {
            for (name, value) in golden {
                assert_holds(value, now.get(name).unwrap_or(&Value::Null), &format!("{place}.{name}"));
            }
        }
        (Value::Array(golden), Value::Array(now)) if golden.len() == now.len() => {
            for (index, (golden, now)) in golden.iter().zip(now).enumerate() {
                assert_holds(golden, now, &format!("{place}[{index}]"));
            }
        }
        _ => assert_eq!(golden, now, "{place}"),
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.collect();
    names.sort();
    names
}

fn histories() -> Vec<PathBuf> {
    let folders = names(&folder()).into_iter().map(|name| folder().join(name));
    folders.filter(|path| path.is_dir()).collect()
}

/// Kind and version that the name of a file promises: `0013.connection.authorized.v1.json`.
fn promised(name: &str) -> Option<(u64, String, u64)> {
    let (seq, rest) = name.strip_suffix(".json")?.split_once('.')?;
    let (kind, version) = rest.rsplit_once(".v")?;
    Some((seq.parse().ok()?, kind.to_owned(), version.parse().ok()?))
}

fn version_of(bytes: &[u8], kind: &str) -> u64 {
    let record: Value = serde_json::from_slice(bytes).unwrap();
    record["event"][kind]["v"].as_u64().unwrap()
}

/// The records of a history, in order.
fn records(history: &Path) -> Vec<(String, Vec<u8>)> {
    let records = names(history).into_iter().filter(|name| name != KEYS && name != FOLDED);
    records.map(|name| (name.clone(), fs::read(history.join(name)).unwrap())).collect()
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> T {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn golden_files_are_never_edited_nor_removed() {
    let manifest = fs::read_to_string(folder().join(MANIFEST)).unwrap();
    let listed: BTreeMap<&str, &str> = manifest
        .lines()
        .map(|line| line.split_once("  ").map(|(digest, path)| (path, digest)).unwrap())
        .collect();
    for (path, digest) in &listed {
        let bytes = fs::read(folder().join(path));
        let bytes = bytes.unwrap_or_else(|error| panic!("{path} was removed: {error}"));
        assert_eq!(&HEXLOWER.encode(&Sha256::digest(&bytes)), digest, "{path} was edited");
    }
    for history in histories() {
        for name in names(&history) {
            let path = format!("{}/{name}", history.file_name().unwrap().to_str().unwrap());
            assert!(listed.contains_key(path.as_str()), "{path} is new: add it to the manifest");
        }
    }
}

#[test]
fn every_kind_and_version_of_the_catalogue_has_a_golden_record() {
    let kept: BTreeSet<(String, u64)> = histories()
        .iter()
        .flat_map(|history| records(history))
        .filter_map(|(name, _)| promised(&name).map(|(_, kind, version)| (kind, version)))
        .collect();
    for (kind, version) in Event::CATALOGUE {
        assert!(
            kept.contains(&((*kind).to_owned(), *version)),
            "{kind} version {version} has no golden record: see schema/golden/README.md"
        );
    }
}

#[test]
fn golden_records_fold_to_what_they_always_did() {
    for history in histories() {
        let keys = GoldenKeys(read_json(&history.join(KEYS)));
        let folded: Vec<Folded> = read_json(&history.join(FOLDED));
        let records = records(&history);
        assert_eq!(records.len(), folded.len());
        let mut state = State::default();
        for ((name, bytes), folded) in records.iter().zip(&folded) {
            let (seq, kind, version) =
                promised(name).unwrap_or_else(|| panic!("{name} is no name of a record"));
            let mut record = Record::decode(bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!((record.seq, folded.seq), (Seq(seq), Seq(seq)), "{name}");
            assert_eq!((record.event.kind(), version_of(bytes, &kind)), (kind.as_str(), version), "{name}");
            record.open(&keys).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_holds(&Value::Object(folded.opened.clone()), &Value::Object(opened(&record.event)), name);
            evolve(&mut state, &record);
            assert_holds(&folded.state, &facts(&state), name);
        }
    }
}

#[test]
fn the_scene_of_new_golden_records_has_every_kind() {
    let world = golden_scene::play();
    let kinds: BTreeSet<&str> = world.log.iter().map(|record| record.record.event.kind()).collect();
    let all: BTreeSet<&str> = Event::CATALOGUE.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, all);
    if let Some(name) = std::env::var_os("WRIT_GOLDEN") {
        write(&folder().join(name), &world);
    }
}

/// Writes a new history. One that is there already is left alone.
fn write(history: &Path, world: &golden_scene::Played) {
    fs::create_dir(history).expect("a new history has a new name");
    let mut state = State::default();
    let (mut folded, mut manifest) = (Vec::new(), String::new());
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    for record in &world.log {
        let (seq, event) = (record.record.seq, &record.record.event);
        let version = version_of(record.bytes.as_bytes(), event.kind());
        let name = format!("{:04}.{}.v{version}.json", seq.0, event.kind());
        files.push((name, record.bytes.as_bytes().to_vec()));
        evolve(&mut state, &record.record);
        folded.push(Folded { seq, opened: opened(event), state: facts(&state) });
    }
    let keys: Vec<GoldenKey> = world.keys.iter().map(golden_key).collect();
    files.push((KEYS.to_owned(), serde_json::to_vec_pretty(&keys).unwrap()));
    files.push((FOLDED.to_owned(), serde_json::to_vec_pretty(&folded).unwrap()));
    for (name, bytes) in files {
        fs::write(history.join(&name), &bytes).unwrap();
        let path = format!("{}/{name}", history.file_name().unwrap().to_str().unwrap());
        manifest.push_str(&format!("{}  {path}\n", HEXLOWER.encode(&Sha256::digest(&bytes))));
    }
    let path = folder().join(MANIFEST);
    let before = fs::read_to_string(&path).unwrap_or_default();
    fs::write(path, before + &manifest).unwrap();
}

fn golden_key((held, (subject, retention)): &(HeldKey, (Subject, Retention))) -> GoldenKey {
    GoldenKey { held: held.clone(), subject: subject.clone(), retention: retention.clone() }
}
