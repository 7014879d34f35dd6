//! How a record names the command that it answers, without showing who gave it.
//!
//! The digest, by which a repeated command is told from another one with the same id, stands in every record for everybody to read, so a plain hash would let anyone find out by guessing what a sealed
//! field holds: who asked for a connection, say. It is a keyed code instead, under the key of whom the command is about;
//! when that key is destroyed, nothing can be found out any more. It covers the id, so that two commands which wish the
//! same have nothing in common.

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use writ_schema::seal::{Retention, Subject};
use writ_schema::{CommandId, NetworkId, NodeId};

use crate::core::{Command, State};
use crate::vault::{Vault, VaultError};

/// Bytes of a digest: enough to tell a mistake, which is all it is for.
const DIGEST_BYTES: usize = 8;

/// What the code is for.
const PURPOSE: &str = "writ/command/v1";

/// The same for ids.
const ID_PURPOSE: &str = "writ/command-id/v1";

/// The digest of a command that is, or was, decided at this time.
pub(super) fn digest(
    vault: &Vault,
    state: &State,
    id: &CommandId,
    command: &Command,
    time: Timestamp,
) -> Result<String, VaultError> {
    // Commands are plain data, which always serializes; its only secret with a fixed form is written as its hash.
    let bytes = zeroize::Zeroizing::new(serde_json::to_vec(&(id, command)).unwrap_or_default());
    let code = match vault.code(&about(state, command, time), PURPOSE, &bytes) {
        // About somebody who was erased: then it is no repeat of anything that can still be compared.
        Err(VaultError::Destroyed { .. }) => {
            vault.code(&(network(state, command), Retention::Identity), PURPOSE, &bytes)?
        }
        other => other?,
    };
    Ok(HEXLOWER.encode(code.get(..DIGEST_BYTES).unwrap_or(&code)))
}

/// The id of what an agent wishes and has no name for, or one of its own choice: the same for a repeat. Whose wish it is
/// must not show, and nodes and authorizations are few enough to try them all.
pub(super) fn confidential_id(
    vault: &Vault,
    state: &State,
    node: &NodeId,
    wish: &[&str],
) -> Result<CommandId, VaultError> {
    let bytes = [&[node.as_str()], wish].concat().join("\n");
    let of = (state.subject_of(node), State::connection_retention(state.time()));
    let code = match vault.code(&of, ID_PURPOSE, bytes.as_bytes()) {
        // Of somebody who was erased. Nothing of theirs is carried out, so nothing is recorded under the id.
        Err(VaultError::Destroyed { .. }) => {
            let of = (network_of(state), Retention::Identity);
            vault.code(&of, ID_PURPOSE, bytes.as_bytes())?
        }
        other => other?,
    };
    let mut head = [0; 16];
    head.copy_from_slice(&code[..16]);
    Ok(CommandId::from_bytes(head))
}

/// Whom a command is about, where that is to stay confidential.
fn about(state: &State, command: &Command, time: Timestamp) -> (Subject, Retention) {
    if let Some(node) = command.confidential_node().filter(|node| state.node_ever(node).is_some()) {
        return (state.subject_of(node), State::connection_retention(time));
    }
    let subject = match command {
        Command::ProvisionUser { user, .. } => Subject::User(user.clone()),
        Command::GrantRole { admin, .. } => Subject::Admin(admin.clone()),
        _ => network(state, command),
    };
    (subject, Retention::Identity)
}

fn network(state: &State, command: &Command) -> Subject {
    match command {
        Command::CreateNetwork { network, .. } => Subject::Network(network.clone()),
        _ => network_of(state),
    }
}

fn network_of(state: &State) -> Subject {
    let id = state.network().map(|network| network.created.network.clone());
    Subject::Network(id.unwrap_or_else(|| NetworkId::from_bytes([0; 16])))
}
