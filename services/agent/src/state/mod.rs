//! What the agent keeps on disk: its private keys, where its control plane is, and what it has verified.
//!
//! One folder, every file readable by its owner only and replaced as a whole. A join that was cut off is found again and
//! repeated with the same command, so that it counts once.

mod files;

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use boringtun::x25519::StaticSecret;
use data_encoding::BASE64;
use ed25519_dalek::SigningKey;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use writ_schema::{CommandId, NodeId};
use zeroize::Zeroizing;

use crate::engine::NextKey;
use crate::trust::{Membership, StoredLive, StoredTrust};

/// Why the state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{path} is damaged ({reason}); restore it, or remove the folder and join anew")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong; never the content.
        reason: String,
    },
    /// Another agent runs on it.
    #[error("another writ-agent uses {0}; stop it with `writ-agent down` first")]
    InUse(PathBuf),
    /// The system gave no random bytes.
    #[error("the system gave no random bytes for a new key")]
    NoRandomness,
}

/// Where this node's network is, from the enrolment key, and who it is there.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrolment {
    /// Base URL of the control plane.
    pub server: String,
    /// SHA-256 of the server certificate's DER, base64url, where no public authority vouches for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_sha256: Option<String>,
    /// Verifier key of the log.
    pub log_key: String,
    /// Who this node is.
    pub membership: Membership,
    /// Its name.
    pub name: String,
    /// The control plane has removed it.
    #[serde(default)]
    pub removed: bool,
}

/// A join that is not answered yet.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PendingJoin {
    /// The command, kept so that a repeat counts once.
    pub command: CommandId,
    /// The enrolment key as it was given.
    pub ticket: String,
    /// The name asked for.
    pub name: String,
}

/// An exit node that somebody has chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChosenExit {
    /// As it was called: by name or identifier.
    pub name: String,
    /// The node, once it is known which was meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
}

/// The WireGuard keys on disk.
pub struct WireGuardKeys {
    /// Number of the key in use.
    pub generation: u64,
    /// The key in use.
    pub secret: StaticSecret,
    /// The key that was asked for and is not in the log yet.
    pub next: Option<NextKey>,
    /// When the key in use was made, Unix seconds.
    pub since: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredKeys {
    generation: u64,
    secret: Zeroizing<String>,
    since: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next: Option<StoredNextKey>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredNextKey {
    command: CommandId,
    generation: u64,
    secret: Zeroizing<String>,
}

/// The folder.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    /// Held as long as the agent runs.
    _lock: Option<File>,
}

impl StateDir {
    /// Opens the folder, making it if need be, and keeps other agents out of it.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let failed = |source| StateError::File { path: path.to_owned(), source };
        files::create_private_dir(path).map_err(failed)?;
        let lock = File::create(path.join("lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: Some(lock) }),
            Err(std::fs::TryLockError::WouldBlock) => Err(StateError::InUse(path.to_owned())),
            Err(std::fs::TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// Where the local socket of an agent on this folder is.
    pub fn socket_path(path: &Path) -> PathBuf {
        path.join("agent.sock")
    }

    /// The folder's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The identity key; made on first use.
    pub fn identity(&self) -> Result<SigningKey, StateError> {
        let path = self.path.join("identity.key");
        if let Some(text) = files::read(&path).map_err(file_error(&path))? {
            return Ok(SigningKey::from_bytes(&*decode_secret(&path, text.trim())?));
        }
        let seed = random_secret()?;
        self.write(&path, &BASE64.encode(&*seed))?;
        Ok(SigningKey::from_bytes(&seed))
    }

    /// The WireGuard keys; the first is made on first use, at `now` (Unix seconds).
    pub fn wireguard_keys(&self, now: i64) -> Result<WireGuardKeys, StateError> {
        let path = self.path.join("wireguard.json");
        if let Some(stored) = self.read_json::<StoredKeys>(&path)? {
            let next = stored.next.map(|next| {
                let secret = StaticSecret::from(*decode_secret(&path, &next.secret)?);
                Ok(NextKey { command: next.command, generation: next.generation, secret })
            });
            return Ok(WireGuardKeys {
                generation: stored.generation,
                secret: StaticSecret::from(*decode_secret(&path, &stored.secret)?),
                next: next.transpose()?,
                since: stored.since,
            });
        }
        let keys = WireGuardKeys { generation: 0, secret: new_wireguard_key()?, next: None, since: now };
        self.store_wireguard_keys(&keys)?;
        Ok(keys)
    }

    /// Stores the WireGuard keys.
    pub fn store_wireguard_keys(&self, keys: &WireGuardKeys) -> Result<(), StateError> {
        let encode = |secret: &StaticSecret| Zeroizing::new(BASE64.encode(secret.as_bytes()));
        let next = keys.next.as_ref().map(|next| StoredNextKey {
            command: next.command.clone(),
            generation: next.generation,
            secret: encode(&next.secret),
        });
        let stored =
            StoredKeys { generation: keys.generation, secret: encode(&keys.secret), since: keys.since, next };
        self.write_json(&self.path.join("wireguard.json"), &stored)
    }

    /// Who this node is; `None` before it has joined.
    pub fn enrolment(&self) -> Result<Option<Enrolment>, StateError> {
        self.read_json(&self.path.join("node.json"))
    }

    /// Stores who this node is, and what the join verified.
    pub fn store_enrolment(&self, enrolment: &Enrolment) -> Result<(), StateError> {
        self.write_json(&self.path.join("node.json"), enrolment)
    }

    /// A join that was cut off.
    pub fn pending_join(&self) -> Result<Option<PendingJoin>, StateError> {
        self.read_json(&self.path.join("join.json"))
    }

    /// Remembers a join before it is sent.
    pub fn store_pending_join(&self, join: &PendingJoin) -> Result<(), StateError> {
        self.write_json(&self.path.join("join.json"), join)
    }

    /// Forgets the join: it was answered.
    pub fn remove_pending_join(&self) -> Result<(), StateError> {
        let path = self.path.join("join.json");
        files::remove(&path).map_err(file_error(&path))
    }

    /// What was verified before: the newest checkpoint, and what ended before its time.
    pub fn trust(&self) -> Result<Option<StoredTrust>, StateError> {
        self.read_json(&self.path.join("trust.json"))
    }

    /// Stores what was verified.
    pub fn store_trust(&self, trust: &StoredTrust) -> Result<(), StateError> {
        self.write_json(&self.path.join("trust.json"), trust)
    }

    /// What was live before.
    pub fn live(&self) -> Result<Option<StoredLive>, StateError> {
        self.read_json(&self.path.join("live.json"))
    }

    /// Stores what is live.
    pub fn store_live(&self, live: &StoredLive) -> Result<(), StateError> {
        self.write_json(&self.path.join("live.json"), live)
    }

    /// The file with the evidence of a split view.
    pub fn split_view_path(path: &Path) -> PathBuf {
        path.join("split-view.json")
    }

    /// Stores the evidence of a split view.
    pub fn store_split_view(&self, evidence: &str) -> Result<(), StateError> {
        self.write(&Self::split_view_path(&self.path), evidence)
    }

    /// Gives the evidence another name, by the time at which it was decided about (Unix seconds). Gives that name, if there
    /// was any.
    pub fn set_split_view_aside(&self, at: i64) -> Result<Option<PathBuf>, StateError> {
        let path = Self::split_view_path(&self.path);
        let aside = self.path.join(format!("split-view-{at}.json"));
        let moved = files::rename(&path, &aside).map_err(file_error(&path))?;
        Ok(moved.then_some(aside))
    }

    /// The table of forwarding rules that an agent has set up and not removed again.
    pub fn forwarding_table(&self) -> Result<Option<String>, StateError> {
        self.read_json(&self.path.join("forwarding.json"))
    }

    /// Remembers a table of forwarding rules before it is set up.
    pub fn store_forwarding_table(&self, table: &str) -> Result<(), StateError> {
        self.write_json(&self.path.join("forwarding.json"), &table)
    }

    /// The table of forwarding rules is gone.
    pub fn forget_forwarding_table(&self) -> Result<(), StateError> {
        let path = self.path.join("forwarding.json");
        files::remove(&path).map_err(file_error(&path))
    }

    /// The exit node that was chosen.
    pub fn exit_node(&self) -> Result<Option<ChosenExit>, StateError> {
        self.read_json(&self.path.join("exit-node.json"))
    }

    /// Remembers the choice of an exit node.
    pub fn store_exit_node(&self, exit: &ChosenExit) -> Result<(), StateError> {
        self.write_json(&self.path.join("exit-node.json"), exit)
    }

    /// No exit node is chosen any more.
    pub fn forget_exit_node(&self) -> Result<(), StateError> {
        let path = self.path.join("exit-node.json");
        files::remove(&path).map_err(file_error(&path))
    }

    fn read_json<T: DeserializeOwned>(&self, path: &Path) -> Result<Option<T>, StateError> {
        let Some(text) = files::read(path).map_err(file_error(path))? else { return Ok(None) };
        // serde_json's own message could repeat a secret.
        let place = |error: serde_json::Error| StateError::Damaged {
            path: path.to_owned(),
            reason: format!("line {} column {}", error.line(), error.column()),
        };
        serde_json::from_str(&text).map(Some).map_err(place)
    }

    fn write_json<T: Serialize>(&self, path: &Path, value: &T) -> Result<(), StateError> {
        let write =
            |file: &mut files::Writer| serde_json::to_writer_pretty(file, value).map_err(io::Error::from);
        files::replace(path, write).map_err(file_error(path))
    }

    fn write(&self, path: &Path, text: &str) -> Result<(), StateError> {
        files::replace(path, |file| file.write_all(text.as_bytes())).map_err(file_error(path))
    }
}

/// A new WireGuard key.
pub fn new_wireguard_key() -> Result<StaticSecret, StateError> {
    Ok(StaticSecret::from(*random_secret()?))
}

/// 32 random bytes.
pub fn random_secret() -> Result<Zeroizing<[u8; 32]>, StateError> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut_slice()).map_err(|_| StateError::NoRandomness)?;
    Ok(bytes)
}

fn decode_secret(path: &Path, text: &str) -> Result<Zeroizing<[u8; 32]>, StateError> {
    let bytes = BASE64.decode(text.as_bytes()).ok().map(Zeroizing::new);
    let bytes = bytes.and_then(|bytes| bytes.as_slice().try_into().ok());
    bytes.map(Zeroizing::new).ok_or_else(|| StateError::Damaged {
        path: path.to_owned(),
        reason: "expected base64 of 32 bytes".to_owned(),
    })
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_owned();
    move |source| StateError::File { path, source }
}
