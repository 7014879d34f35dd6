//! How far the topic is known to a folder: which log it is, and where to read on.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::store::entry::{Epoch, LogId, WriterId};
use crate::store::fold::{CurrentWriter, Fold};
use crate::tree::Hash;

/// The version of the file.
const VERSION: u32 = 1;

/// What a folder knows of its topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Position {
    v: u32,
    pub topic: String,
    pub log: LogId,
    pub origin: String,
    /// The offset of the first entry that is not taken in.
    pub offset: i64,
    pub epoch: Epoch,
    pub writer: WriterId,
    pub name: String,
    /// The log's size and root before that entry.
    pub size: u64,
    pub root: Hash,
}

impl Position {
    /// Where a fold stands; `None` before the log's first entry.
    pub fn of(topic: &str, offset: i64, fold: &Fold) -> Option<Self> {
        let CurrentWriter { log, origin, epoch, writer, name } = fold.current()?.clone();
        let (topic, size, root) = (topic.to_owned(), fold.frontier().size(), fold.frontier().root());
        Some(Self { v: VERSION, topic, log, origin, offset, epoch, writer, name, size, root })
    }

    pub fn current(&self) -> CurrentWriter {
        let Self { log, origin, epoch, writer, name, .. } = self.clone();
        CurrentWriter { log, origin, epoch, writer, name }
    }

    /// Reads the file; `None` if there is none, or none that can be used: then the topic is read from its beginning.
    pub fn load(dir: &Path) -> io::Result<Option<Self>> {
        match std::fs::read(file(dir)) {
            Ok(bytes) => {
                Ok(serde_json::from_slice(&bytes).ok().filter(|position: &Self| position.v == VERSION))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub fn save(&self, dir: &Path) -> io::Result<()> {
        let new = dir.join("topic.new");
        std::fs::write(&new, serde_json::to_vec(self)?)?;
        std::fs::rename(new, file(dir))
    }
}

pub(super) fn file(dir: &Path) -> PathBuf {
    dir.join("topic.json")
}
