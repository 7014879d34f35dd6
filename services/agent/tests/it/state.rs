//! What the agent keeps survives, and is nobody else's business.

use std::os::unix::fs::PermissionsExt;

use boringtun::x25519::StaticSecret;
use writ_agent::engine::NextKey;
use writ_agent::state::{Enrolment, PendingJoin, StateDir, StateError};
use writ_agent::trust::StoredTrust;
use writ_schema::CommandId;

use super::control_plane::ControlPlane;

#[test]
fn keys_are_made_once_and_kept_for_their_owner_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let (identity, wireguard) = {
        let state = StateDir::open(&path).unwrap();
        (state.identity().unwrap(), state.wireguard_keys(5).unwrap().secret)
    };
    let state = StateDir::open(&path).unwrap();
    assert_eq!(state.identity().unwrap().to_bytes(), identity.to_bytes());
    assert_eq!(state.wireguard_keys(6).unwrap().secret.to_bytes(), wireguard.to_bytes());
    assert_eq!(state.wireguard_keys(6).unwrap().since, 5);
    for entry in std::fs::read_dir(&path).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name() != "lock" {
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{entry:?}");
        }
    }
    std::fs::set_permissions(path.join("identity.key"), std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(state.identity().unwrap_err().to_string().contains("chmod 600"));
}

#[test]
fn a_folder_serves_one_agent() {
    let folder = tempfile::tempdir().unwrap();
    let _first = StateDir::open(folder.path()).unwrap();
    assert!(matches!(StateDir::open(folder.path()), Err(StateError::InUse(_))));
}

#[test]
fn a_rotation_a_join_and_what_was_verified_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut control = ControlPlane::new();
    let node = control.join("laptop", 1);
    let join = PendingJoin {
        command: CommandId::from_bytes([4; 16]),
        ticket: "ticket".to_owned(),
        name: "laptop".to_owned(),
    };
    let checkpoint = node.trust.chain().note().unwrap().to_owned();
    {
        let state = StateDir::open(folder.path()).unwrap();
        let mut keys = state.wireguard_keys(0).unwrap();
        let secret = StaticSecret::from([5; 32]);
        keys.next = Some(NextKey { command: CommandId::from_bytes([8; 16]), generation: 1, secret });
        state.store_wireguard_keys(&keys).unwrap();
        state.store_pending_join(&join).unwrap();
        state
            .store_enrolment(&Enrolment {
                server: "https://writ.example".to_owned(),
                certificate_sha256: None,
                log_key: control.log_key().to_string(),
                membership: node.membership.clone(),
                name: "laptop".to_owned(),
                removed: false,
            })
            .unwrap();
        let trust = StoredTrust { checkpoint: checkpoint.clone(), ..StoredTrust::default() };
        state.store_trust(&trust).unwrap();
    }
    let state = StateDir::open(folder.path()).unwrap();
    let next = state.wireguard_keys(0).unwrap().next.unwrap();
    assert_eq!((next.generation, next.secret.to_bytes()), (1, [5; 32]));
    assert_eq!(state.pending_join().unwrap().unwrap().command, join.command);
    assert_eq!(state.enrolment().unwrap().unwrap().membership, node.membership);
    assert_eq!(state.trust().unwrap().unwrap().checkpoint, checkpoint);
    state.remove_pending_join().unwrap();
    assert!(state.pending_join().unwrap().is_none());
}

#[test]
fn a_damaged_file_is_named_without_its_content() {
    let folder = tempfile::tempdir().unwrap();
    let state = StateDir::open(folder.path()).unwrap();
    state.wireguard_keys(0).unwrap();
    std::fs::write(folder.path().join("wireguard.json"), "{\"secret\": \"hunter2\", nonsense").unwrap();
    let Err(error) = state.wireguard_keys(0) else { panic!("a damaged file was read") };
    let error = error.to_string();
    assert!(error.contains("wireguard.json") && !error.contains("hunter2"), "{error}");
}
