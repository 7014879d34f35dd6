//! Cosigned checkpoints on disk: the newest, so that a restart does not publish one without cosignatures, and some of those before.

use std::fs;
use std::io;
use std::path::Path;

use writ_ledger::store::Reader;
use writ_ledger::{CosignedHistory, Note, SignedCheckpoint};

use crate::config::Panel;

/// What was kept, if it is of this log and still has its quorum. It is only a convenience: the witnesses can be asked again.
pub(super) fn read(file: &Path, log: &Reader, panel: &Panel) -> Option<SignedCheckpoint> {
    let text = fs::read_to_string(file).ok()?;
    let note: Note = text.parse().ok()?;
    let has_cosigned = |witness: &&super::Witness| matches!(witness.key.cosigned(&note), Ok(Some(_)));
    let enough = panel.quorum > 0 && panel.witnesses.iter().filter(has_cosigned).count() >= panel.quorum;
    let signed = SignedCheckpoint::open(&text, log.checkpoint().key()).ok().filter(|_| enough)?;
    let checkpoint = signed.checkpoint();
    match log.root(checkpoint.size) {
        Ok(root) if root == checkpoint.root => Some(signed),
        _ => {
            tracing::error!(
                size = checkpoint.size,
                log = log.size(),
                "witnesses have cosigned a checkpoint that this log does not continue: it was rolled back or replaced; bring \
                 the newest copy of it back before anybody relies on it"
            );
            None
        }
    }
}

/// The history beside it. One that cannot be read is begun anew, and the old one is left until then.
pub(super) fn read_history(file: &Path) -> CosignedHistory {
    let dir = file.parent().unwrap_or(Path::new("."));
    CosignedHistory::load(dir).unwrap_or_else(|error| {
        tracing::warn!(%error, dir = %dir.display(), "the history of cosigned checkpoints cannot be read; it is begun anew");
        CosignedHistory::default()
    })
}

pub(super) fn write_history(file: &Path, history: &CosignedHistory) -> io::Result<()> {
    history.store(file.parent().unwrap_or(Path::new(".")))
}

pub(super) fn write(file: &Path, text: &str) -> io::Result<()> {
    let new = file.with_extension("new");
    fs::write(&new, text)?;
    fs::rename(new, file)
}
