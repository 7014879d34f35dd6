//! The newest cosigned checkpoint on disk, so that a restart does not publish one without cosignatures.

use std::fs;
use std::io;
use std::path::Path;

use writ_ledger::store::Reader;
use writ_ledger::{Note, SignedCheckpoint};

use super::Panel;

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

pub(super) fn write(file: &Path, text: &str) -> io::Result<()> {
    let new = file.with_extension("new");
    fs::write(&new, text)?;
    fs::rename(new, file)
}
