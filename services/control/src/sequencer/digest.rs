//! The digest by which a repeated command is told from another one with the same id.
//!
//! It stands in every record for everybody to read, so a plain hash would let anyone find out by guessing what a sealed
//! field holds: who asked for a connection, say. It is a keyed code instead, under the key of whom the command is about;
//! when that key is destroyed, nothing can be found out any more.

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use writ_schema::seal::{Retention, Subject};

use crate::core::{Command, State};
use crate::vault::{Vault, VaultError};

/// Bytes of a digest: enough to tell a mistake, which is all it is for.
const DIGEST_BYTES: usize = 8;

/// The digest of a command that is, or was, decided at this time.
pub(super) fn digest(
    vault: &Vault,
    state: &State,
    command: &Command,
    time: Timestamp,
) -> Result<String, VaultError> {
    // Commands are plain data, which always serializes; its only secret with a fixed form is written as its hash.
    let bytes = zeroize::Zeroizing::new(serde_json::to_vec(command).unwrap_or_default());
    let (subject, retention) = about(state, command, time);
    let code = match vault.code(&subject, &retention, &bytes) {
        // About somebody who was erased: then it is no repeat of anything that can still be compared.
        Err(VaultError::Destroyed { .. }) => {
            vault.code(&network(state, command), &Retention::Identity, &bytes)?
        }
        other => other?,
    };
    Ok(HEXLOWER.encode(code.get(..DIGEST_BYTES).unwrap_or(&code)))
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
    let id = match (command, state.network()) {
        (Command::CreateNetwork { network, .. }, _) => network.clone(),
        (_, Some(network)) => network.created.network.clone(),
        (_, None) => writ_schema::NetworkId::from_bytes([0; 16]),
    };
    Subject::Network(id)
}
